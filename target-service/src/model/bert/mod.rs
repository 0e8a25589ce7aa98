//! Encoders of the BERT family: post-norm layers, learned absolute positions, as classifier or as
//! embedder.
//!
//! Weights and sizes are read in the Hugging Face layout ([`layout`]). The forward pass is our own, on
//! packed weights and without padding ([`forward`], [`kernels`]): it takes 0.7 to 0.9 of ONNX Runtime's
//! time, where candle's operators took two to three times (`models/README.md`).

mod attend;
mod forward;
mod kernels;
mod layout;
mod threads;
mod tokenize;

use std::sync::Arc;

use super::source::{Config, Source, Weights};
use super::{Infer, ModelError, Prediction};
use attend::Heads;
use kernels::gemm::Packed;
pub(super) use layout::MODEL_TYPES;
use layout::{Activation, Family, Pooling, Sizes};
pub(super) use tokenize::Pieces;

/// The loaded model.
pub(super) struct Bert {
    pub(super) pieces: Arc<Pieces>,
    network: Arc<Network>,
}

/// What [`Bert::read`] finds beside the network.
pub(super) struct Facts {
    /// Empty for an embedder.
    pub(super) labels: Vec<String>,
    /// Width of an embedding.
    pub(super) dimensions: usize,
    pub(super) revision: String,
}

/// Scale and shift of a layer norm.
struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

struct Layer {
    /// Query, key and value in one multiplication.
    qkv: Packed,
    attended: Packed,
    attended_norm: Norm,
    widen: Packed,
    narrow: Packed,
    narrow_norm: Norm,
}

/// A small linear map, for one row at a time.
struct Linear {
    /// Row-major, outputs × inputs.
    matrix: Vec<f32>,
    bias: Vec<f32>,
}

/// From a pooled row to logits.
struct Head {
    dense: Option<(Linear, Activation)>,
    labels: Linear,
}

/// The weights, shared by all engines.
struct Network {
    sizes: Sizes,
    activation: Activation,
    pooling: Pooling,
    /// Row-major, vocabulary × hidden.
    words: Vec<f32>,
    /// Row-major, positions × hidden, the embedding of text type 0 already added.
    positions: Vec<f32>,
    embedded_norm: Norm,
    layers: Vec<Layer>,
    /// Absent for an embedder.
    head: Option<Head>,
}

impl Bert {
    /// The model and what it is.
    pub(super) fn read(source: &Source<'_>, config: &Config) -> Result<(Self, Facts), ModelError> {
        let family = Family::of(config)?;
        let sizes = Sizes::read(config, family)?;
        let activation = layout::activation(config, family)?;
        let classifies = config.classifies();
        let labels = if classifies {
            config.labels()?
        } else {
            Vec::new()
        };
        let (pooling, dense) = if classifies {
            layout::classifier_pooling(config)?
        } else {
            (layout::embedder_pooling(source)?, false)
        };
        let most = layout::max_tokens(source, sizes.positions)?;
        let pieces = Pieces::read(source, sizes.vocabulary, most)?;
        let weights = Weights::read(source)?;
        let epsilon = config.number_or("layer_norm_eps", 1e-12)? as f32;
        if !(0.0..=1.0).contains(&epsilon) {
            return Err(config.invalid("needs \"layer_norm_eps\" from 0 to 1"));
        }
        let reader = Reader {
            weights: &weights,
            prefix: family.prefix_in(&weights),
            family,
            sizes,
            epsilon,
        };
        let head = (!labels.is_empty())
            .then(|| reader.head(labels.len(), dense))
            .transpose()?;
        let network = Network {
            words: reader.table("word", sizes.vocabulary)?,
            positions: reader.positions()?,
            embedded_norm: reader.norm("embeddings.LayerNorm")?,
            layers: (0..sizes.layers)
                .map(|at| reader.layer(at))
                .collect::<Result<_, _>>()?,
            head,
            sizes,
            activation,
            pooling,
        };
        let model = Self {
            pieces: Arc::new(pieces),
            network: Arc::new(network),
        };
        let facts = Facts {
            labels,
            dimensions: sizes.hidden,
            revision: weights.revision,
        };
        Ok((model, facts))
    }

    /// An engine that computes each batch on `threads` threads.
    pub(super) fn engine(&self, threads: usize) -> impl Infer + use<> {
        forward::Engine::new(Arc::clone(&self.network), threads)
    }
}

/// Reads tensors by the family's names.
struct Reader<'a> {
    weights: &'a Weights,
    prefix: &'static str,
    family: Family,
    sizes: Sizes,
    epsilon: f32,
}

impl Reader<'_> {
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.weights.f32(&format!("{}{name}", self.prefix), shape)
    }

    fn table(&self, kind: &str, rows: usize) -> Result<Vec<f32>, ModelError> {
        let name = format!("embeddings.{kind}_embeddings.weight");
        self.tensor(&name, &[rows, self.sizes.hidden])
    }

    fn positions(&self) -> Result<Vec<f32>, ModelError> {
        let Sizes {
            hidden,
            positions,
            first_position,
            types,
            ..
        } = self.sizes;
        let mut table = self.table("position", positions + first_position)?;
        table.drain(..first_position * hidden);
        if types > 0 {
            let types = self.table("token_type", types)?;
            for row in table.chunks_exact_mut(hidden) {
                kernels::rows::add(row, &types[..hidden]);
            }
        }
        Ok(table)
    }

    /// Checkpoints that came from TensorFlow call scale and shift gamma and beta.
    fn norm(&self, name: &str) -> Result<Norm, ModelError> {
        let old = self.weights.has(&format!("{}{name}.gamma", self.prefix));
        let (scale, shift) = if old {
            ("gamma", "beta")
        } else {
            ("weight", "bias")
        };
        Ok(Norm {
            scale: self.tensor(&format!("{name}.{scale}"), &[self.sizes.hidden])?,
            shift: self.tensor(&format!("{name}.{shift}"), &[self.sizes.hidden])?,
            epsilon: self.epsilon,
        })
    }

    /// Linear maps of the same input, side by side in one matrix.
    fn packed(&self, names: &[String], from: usize, to: usize) -> Result<Packed, ModelError> {
        let (mut rows, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            rows.extend(self.tensor(&format!("{name}.weight"), &[to, from])?);
            bias.extend(self.tensor(&format!("{name}.bias"), &[to])?);
        }
        Ok(Packed::new(&rows, &bias))
    }

    fn layer(&self, at: usize) -> Result<Layer, ModelError> {
        let names = self.family.layer(at);
        let (hidden, wide) = (self.sizes.hidden, self.sizes.feed_forward);
        Ok(Layer {
            qkv: self.packed(&names.qkv, hidden, hidden)?,
            attended: self.packed(&[names.attended], hidden, hidden)?,
            attended_norm: self.norm(&names.attended_norm)?,
            widen: self.packed(&[names.widen], hidden, wide)?,
            narrow: self.packed(&[names.narrow], wide, hidden)?,
            narrow_norm: self.norm(&names.narrow_norm)?,
        })
    }

    fn head(&self, labels: usize, with_dense: bool) -> Result<Head, ModelError> {
        let names = self.family.head();
        let hidden = self.sizes.hidden;
        let linear = |name: &str, outputs: usize| -> Result<Linear, ModelError> {
            Ok(Linear {
                matrix: self
                    .weights
                    .f32(&format!("{name}.weight"), &[outputs, hidden])?,
                bias: self.weights.f32(&format!("{name}.bias"), &[outputs])?,
            })
        };
        let dense = if names.in_encoder {
            format!("{}{}", self.prefix, names.dense)
        } else {
            names.dense.to_owned()
        };
        Ok(Head {
            dense: with_dense
                .then(|| linear(&dense, hidden).map(|map| (map, names.activation)))
                .transpose()?,
            labels: linear(names.labels, labels)?,
        })
    }
}

impl Linear {
    fn apply(&self, row: &[f32]) -> Vec<f32> {
        let dot = |weights: &[f32]| weights.iter().zip(row).map(|(w, v)| w * v).sum::<f32>();
        let rows = self.matrix.chunks_exact(row.len());
        rows.zip(&self.bias)
            .map(|(row, bias)| dot(row) + bias)
            .collect()
    }
}

impl Network {
    fn heads(&self) -> Heads {
        Heads {
            count: self.sizes.heads,
            width: self.sizes.hidden / self.sizes.heads,
        }
    }

    /// Scores and embedding of a pooled row.
    fn judge(&self, pooled: Vec<f32>) -> Result<Prediction, ModelError> {
        let mut prediction = match &self.head {
            None => Prediction::default(),
            Some(head) => {
                let logits = match &head.dense {
                    None => head.labels.apply(&pooled),
                    Some((dense, activation)) => {
                        let mut row = dense.apply(&pooled);
                        activation.apply(kernels::Level::Portable, &mut row);
                        head.labels.apply(&row)
                    }
                };
                Prediction::from_logits(&logits)?
            }
        };
        prediction.embedding = pooled;
        prediction.normalise_embedding()?;
        Ok(prediction)
    }
}

#[cfg(test)]
mod tests;
