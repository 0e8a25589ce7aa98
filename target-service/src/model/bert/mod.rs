//! Encoders of the BERT family: post-norm layers, learned absolute positions, as classifier or as
//! embedder.
//!
//! Weights and sizes are read in the Hugging Face layout ([`layout`]). The forward pass on a processor is
//! our own, on packed weights and without padding ([`forward`], [`kernels`]): candle's operators took two
//! to three times ONNX Runtime's time there (`docs/INFERENCE.md`). On other devices it is made of those
//! ([`operators`]).

mod attend;
mod forward;
mod kernels;
mod layout;
mod operators;
mod threads;
mod tokenize;

use std::ops::Range;
use std::sync::Arc;

use super::error::plain;
use super::source::{Config, Source, Weights, digest, hex};
use super::{Device, Encoded, Infer, ModelError, Prediction};
use attend::Heads;
use kernels::gemm::Packed;
pub(super) use layout::MODEL_TYPES;
use layout::{Activation, Family, Pooling, Sizes};
pub(super) use tokenize::Pieces;

/// The loaded model.
pub(super) struct Bert {
    pub(super) pieces: Arc<Pieces>,
    network: Placed,
}

/// The network, where it computes.
enum Placed {
    Processor(Arc<Network>),
    Device(Arc<Network<operators::OnDevice>>),
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

/// How weights are kept for those who compute with them.
trait Keep {
    /// Embeddings.
    type Table;
    /// A linear map.
    type Map;
    type Norm;

    /// Keeps rows of `width`.
    fn table(&self, rows: Vec<f32>, width: usize) -> Result<Self::Table, ModelError>;
    fn map(&self, map: Linear) -> Result<Self::Map, ModelError>;
    fn norm(&self, norm: Norm) -> Result<Self::Norm, ModelError>;
}

/// For our own kernels.
struct Packing;

impl Keep for Packing {
    type Table = Vec<f32>;
    type Map = Packed;
    type Norm = Norm;

    fn table(&self, rows: Vec<f32>, _: usize) -> Result<Vec<f32>, ModelError> {
        Ok(rows)
    }

    fn map(&self, map: Linear) -> Result<Packed, ModelError> {
        Ok(Packed::new(&map.matrix, &map.bias))
    }

    fn norm(&self, norm: Norm) -> Result<Norm, ModelError> {
        Ok(norm)
    }
}

struct Layer<K: Keep = Packing> {
    /// Query, key and value in one multiplication.
    qkv: K::Map,
    attended: K::Map,
    attended_norm: K::Norm,
    widen: K::Map,
    narrow: K::Map,
    narrow_norm: K::Norm,
}

/// A linear map as it is stored.
struct Linear {
    /// Row-major, outputs × inputs.
    matrix: Vec<f32>,
    bias: Vec<f32>,
}

/// A classifier over an embedder may have its head in a file of its own, all of it, so that the embedder's stays as
/// it was published.
const HEAD: &str = "head.safetensors";

/// From a pooled row to logits.
struct Head {
    /// Whether it judges the embedding, of length 1, and not the pooled row.
    normalised: bool,
    dense: Option<(Linear, Activation)>,
    labels: Linear,
}

/// The weights, shared by all engines.
struct Network<K: Keep = Packing> {
    sizes: Sizes,
    activation: Activation,
    pooling: Pooling,
    /// Vocabulary × hidden.
    words: K::Table,
    /// Positions × hidden, the embedding of text type 0 already added.
    positions: K::Table,
    embedded_norm: K::Norm,
    layers: Vec<Layer<K>>,
    /// Absent for an embedder.
    head: Option<Head>,
}

impl Bert {
    /// The model and what it is.
    pub(super) fn read(
        source: &Source<'_>,
        config: &Config,
        device: &Device,
    ) -> Result<(Self, Facts), ModelError> {
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
        let own = match classifies {
            true => Weights::maybe_read(source, HEAD)?,
            false => None,
        };
        let head = (!labels.is_empty())
            .then(|| {
                let weights = own.as_ref().unwrap_or(&weights);
                reader.head(weights, labels.len(), dense, layout::normalised(config)?)
            })
            .transpose()?;
        let shape = Shape {
            activation,
            pooling,
            head,
        };
        let network = match device {
            Device::Cpu => Placed::Processor(Arc::new(reader.network(&Packing, shape)?)),
            Device::Candle(device) => {
                let keep = operators::OnDevice(device.clone());
                Placed::Device(Arc::new(reader.network(&keep, shape)?))
            }
        };
        let model = Self {
            pieces: Arc::new(pieces),
            network,
        };
        let facts = Facts {
            labels,
            dimensions: sizes.hidden,
            revision: match own {
                None => weights.revision,
                Some(head) => {
                    let both = weights.revision + &head.revision;
                    hex(&digest(both.as_bytes())[..6])
                }
            },
        };
        Ok((model, facts))
    }

    /// An engine that computes each batch on `threads` threads of a processor.
    pub(super) fn engine(&self, threads: usize) -> Box<dyn Infer> {
        match &self.network {
            Placed::Processor(network) => {
                Box::new(forward::Engine::new(Arc::clone(network), threads))
            }
            Placed::Device(network) => Box::new(operators::Engine::new(Arc::clone(network))),
        }
    }
}

/// What a network is beside its encoder's weights.
struct Shape {
    activation: Activation,
    pooling: Pooling,
    head: Option<Head>,
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
    fn linear(&self, names: &[String], from: usize, to: usize) -> Result<Linear, ModelError> {
        let (mut matrix, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            matrix.extend(self.tensor(&format!("{name}.weight"), &[to, from])?);
            bias.extend(self.tensor(&format!("{name}.bias"), &[to])?);
        }
        Ok(Linear { matrix, bias })
    }

    fn layer<K: Keep>(&self, keep: &K, at: usize) -> Result<Layer<K>, ModelError> {
        let names = self.family.layer(at);
        let (hidden, wide) = (self.sizes.hidden, self.sizes.feed_forward);
        let map = |names: &[String], from, to| keep.map(self.linear(names, from, to)?);
        let norm = |name: &str| keep.norm(self.norm(name)?);
        Ok(Layer {
            qkv: map(&names.qkv, hidden, hidden)?,
            attended: map(&[names.attended], hidden, hidden)?,
            attended_norm: norm(&names.attended_norm)?,
            widen: map(&[names.widen], hidden, wide)?,
            narrow: map(&[names.narrow], wide, hidden)?,
            narrow_norm: norm(&names.narrow_norm)?,
        })
    }

    fn network<K: Keep>(&self, keep: &K, shape: Shape) -> Result<Network<K>, ModelError> {
        let sizes = self.sizes;
        Ok(Network {
            words: keep.table(self.table("word", sizes.vocabulary)?, sizes.hidden)?,
            positions: keep.table(self.positions()?, sizes.hidden)?,
            embedded_norm: keep.norm(self.norm("embeddings.LayerNorm")?)?,
            layers: (0..sizes.layers)
                .map(|at| self.layer(keep, at))
                .collect::<Result<_, _>>()?,
            head: shape.head,
            sizes,
            activation: shape.activation,
            pooling: shape.pooling,
        })
    }

    fn head(
        &self,
        weights: &Weights,
        labels: usize,
        with_dense: bool,
        normalised: bool,
    ) -> Result<Head, ModelError> {
        let names = self.family.head();
        let hidden = self.sizes.hidden;
        let linear = |name: &str, outputs: usize| -> Result<Linear, ModelError> {
            Ok(Linear {
                matrix: weights.f32(&format!("{name}.weight"), &[outputs, hidden])?,
                bias: weights.f32(&format!("{name}.bias"), &[outputs])?,
            })
        };
        let dense = if names.in_encoder {
            format!("{}{}", self.prefix, names.dense)
        } else {
            names.dense.to_owned()
        };
        Ok(Head {
            normalised,
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

impl<K: Keep> Network<K> {
    fn heads(&self) -> Heads {
        Heads {
            count: self.sizes.heads,
            width: self.sizes.hidden / self.sizes.heads,
        }
    }

    /// Whether a document can be read.
    fn check(&self, document: &Encoded) -> Result<(), ModelError> {
        let sizes = &self.sizes;
        let mismatch = |what: String| Err(ModelError::Mismatch(what));
        if !document.weights.is_empty() {
            return mismatch("it has weights, which this model does not read".to_owned());
        }
        if document.ids.is_empty() || document.ids.len() > sizes.positions {
            return mismatch(format!(
                "{} tokens, where 1 to {} can be read",
                document.ids.len(),
                sizes.positions
            ));
        }
        match document
            .ids
            .iter()
            .find(|id| **id as usize >= sizes.vocabulary)
        {
            Some(id) => mismatch(format!("token {id} is outside the vocabulary")),
            None => Ok(()),
        }
    }

    /// The answers to a batch, whose sound documents go through `pooled` (their pooled last layers) in
    /// groups that `fit`.
    fn answer(
        &self,
        batch: &[&Encoded],
        fit: impl Fn(Group) -> bool,
        mut pooled: impl FnMut(&[&Encoded]) -> Result<Vec<Vec<f32>>, ModelError>,
    ) -> Vec<Result<Prediction, ModelError>> {
        let mut answers: Vec<Result<Prediction, ModelError>> = batch
            .iter()
            .map(|document| self.check(document).map(|()| Prediction::default()))
            .collect();
        let sound: Vec<usize> = (0..batch.len()).filter(|at| answers[*at].is_ok()).collect();
        let documents: Vec<&Encoded> = sound.iter().map(|at| batch[*at]).collect();
        for group in groups(&documents, fit) {
            let members = &sound[group.clone()];
            match pooled(&documents[group]) {
                Ok(vectors) => {
                    for (at, vector) in members.iter().zip(vectors) {
                        answers[*at] = self.judge(vector);
                    }
                }
                Err(error) => {
                    let what = match error {
                        ModelError::Compute(error) => plain(&error),
                        other => other.to_string(),
                    };
                    for at in members {
                        answers[*at] = Err(ModelError::Device(what.clone()));
                    }
                }
            }
        }
        answers
    }

    /// Scores and embedding of a pooled row.
    fn judge(&self, pooled: Vec<f32>) -> Result<Prediction, ModelError> {
        let mut embedded = Prediction {
            embedding: pooled,
            ..Prediction::default()
        };
        if self.head.as_ref().is_some_and(|head| head.normalised) {
            embedded.normalise_embedding()?;
        }
        let pooled = embedded.embedding;
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

/// The size of some documents.
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    documents: usize,
    /// Of all of them.
    tokens: usize,
    /// Tokens of the longest.
    longest: usize,
}

/// Neighbouring documents, as many as `fit`, or a single one that does not.
fn groups(batch: &[&Encoded], fit: impl Fn(Group) -> bool) -> Vec<Range<usize>> {
    let with = |group: Group, document: &Encoded| Group {
        documents: group.documents + 1,
        tokens: group.tokens + document.ids.len(),
        longest: group.longest.max(document.ids.len()),
    };
    let (mut groups, mut start, mut group) = (Vec::new(), 0, Group::default());
    for (at, document) in batch.iter().enumerate() {
        if at > start && !fit(with(group, document)) {
            groups.push(start..at);
            (start, group) = (at, Group::default());
        }
        group = with(group, document);
    }
    if start < batch.len() {
        groups.push(start..batch.len());
    }
    groups
}

#[cfg(test)]
mod tests;
