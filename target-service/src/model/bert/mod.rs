//! A small encoder of the BERT family with mean pooling and a linear head, in the Hugging Face layout
//! of `BertForSequenceClassification`: post-norm layers, learned absolute positions, erf GELU.
//!
//! What differs from that class is the pooling: the mean of the last layer over all tokens instead
//! of the first token through a dense layer; `config.json` says so with `"classifier_pooling":
//! "mean"`, and a configuration that says anything else is refused.

mod forward;
mod kernels;
mod tokenize;

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::source::{Config, Source, Weights};
use super::{Infer, ModelError};
pub(super) use tokenize::Pieces;

/// The loaded model.
pub(super) struct Bert {
    pub(super) pieces: Arc<Pieces>,
    network: Arc<Network>,
}

/// The sizes that `config.json` gives.
#[derive(Clone, Copy)]
struct Sizes {
    vocabulary: usize,
    hidden: usize,
    layers: usize,
    heads: usize,
    feed_forward: usize,
    positions: usize,
    types: usize,
}

impl Sizes {
    fn read(config: &Config) -> Result<Self, ModelError> {
        let sizes = Self {
            vocabulary: config.size("vocab_size", 1_000_000)?,
            hidden: config.size("hidden_size", 8192)?,
            layers: config.size("num_hidden_layers", 128)?,
            heads: config.size("num_attention_heads", 128)?,
            feed_forward: config.size("intermediate_size", 65_536)?,
            positions: config.size("max_position_embeddings", 65_536)?,
            types: config.size("type_vocab_size", 16)?,
        };
        if !sizes.hidden.is_multiple_of(sizes.heads) {
            return Err(config.invalid(format!(
                "\"hidden_size\" {} is not divisible by \"num_attention_heads\" {}",
                sizes.hidden, sizes.heads
            )));
        }
        for (key, known) in [
            ("hidden_act", "gelu"),
            ("position_embedding_type", "absolute"),
            ("classifier_pooling", "mean"),
        ] {
            let value = config.text(key)?;
            if value != known {
                return Err(config.invalid(format!("{key:?} is {value:?}; built is {known:?}")));
            }
        }
        Ok(sizes)
    }
}

/// Scale and shift of a layer norm.
struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

/// A linear map, its matrix stored transposed (inputs × outputs) and contiguous, so that it is not
/// packed anew on each call.
struct Linear {
    matrix: Tensor,
    bias: Vec<f32>,
}

struct Layer {
    /// Query, key and value in one multiplication.
    qkv: Linear,
    attended: Linear,
    attended_norm: Norm,
    widen: Linear,
    narrow: Linear,
    narrow_norm: Norm,
}

/// The weights, shared by all engines.
struct Network {
    sizes: Sizes,
    /// Row-major, vocabulary × hidden.
    words: Vec<f32>,
    /// Row-major, positions × hidden, the embedding of text type 0 already added.
    positions: Vec<f32>,
    embedded_norm: Norm,
    layers: Vec<Layer>,
    /// Row-major, labels × hidden.
    head: Vec<f32>,
    head_bias: Vec<f32>,
}

impl Bert {
    /// The model, its labels and its revision.
    pub(super) fn read(
        source: &Source<'_>,
        config: &Config,
    ) -> Result<(Self, Vec<String>, String), ModelError> {
        let labels = config.labels()?;
        let sizes = Sizes::read(config)?;
        let pieces = Pieces::read(source, sizes.vocabulary, sizes.positions)?;
        let weights = Weights::read(source)?;
        let epsilon = config.number_or("layer_norm_eps", 1e-12)? as f32;
        if !(0.0..=1.0).contains(&epsilon) {
            return Err(config.invalid("needs \"layer_norm_eps\" from 0 to 1"));
        }
        let network = Network::read(&weights, sizes, labels.len(), epsilon)?;
        let model = Self {
            pieces: Arc::new(pieces),
            network: Arc::new(network),
        };
        Ok((model, labels, weights.revision))
    }

    pub(super) fn engine(&self) -> impl Infer + use<> {
        forward::Engine::new(Arc::clone(&self.network))
    }
}

impl Network {
    fn read(
        weights: &Weights,
        sizes: Sizes,
        labels: usize,
        epsilon: f32,
    ) -> Result<Self, ModelError> {
        let h = sizes.hidden;
        let table = |kind: &str, rows: usize| {
            weights.f32(
                &format!("bert.embeddings.{kind}_embeddings.weight"),
                &[rows, h],
            )
        };
        let norm = |at: &str| -> Result<Norm, ModelError> {
            Ok(Norm {
                scale: weights.f32(&format!("{at}.LayerNorm.weight"), &[h])?,
                shift: weights.f32(&format!("{at}.LayerNorm.bias"), &[h])?,
                epsilon,
            })
        };
        let mut positions = table("position", sizes.positions)?;
        let types = table("token_type", sizes.types)?;
        for row in positions.chunks_exact_mut(h) {
            kernels::add(row, &types[..h]);
        }
        let layers = (0..sizes.layers)
            .map(|i| {
                let at = format!("bert.encoder.layer.{i}");
                let part = |part| format!("{at}.attention.self.{part}");
                Ok(Layer {
                    qkv: linear(weights, &["query", "key", "value"].map(part), h, h)?,
                    attended: linear(weights, &[format!("{at}.attention.output.dense")], h, h)?,
                    attended_norm: norm(&format!("{at}.attention.output"))?,
                    widen: linear(
                        weights,
                        &[format!("{at}.intermediate.dense")],
                        h,
                        sizes.feed_forward,
                    )?,
                    narrow: linear(
                        weights,
                        &[format!("{at}.output.dense")],
                        sizes.feed_forward,
                        h,
                    )?,
                    narrow_norm: norm(&format!("{at}.output"))?,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        Ok(Self {
            words: table("word", sizes.vocabulary)?,
            positions,
            embedded_norm: norm("bert.embeddings")?,
            layers,
            head: weights.f32("classifier.weight", &[labels, h])?,
            head_bias: weights.f32("classifier.bias", &[labels])?,
            sizes,
        })
    }
}

/// Linear maps of the same input, side by side in one matrix.
fn linear(
    weights: &Weights,
    names: &[String],
    from: usize,
    to: usize,
) -> Result<Linear, ModelError> {
    let (mut rows, mut bias) = (Vec::new(), Vec::new());
    for name in names {
        rows.extend(weights.f32(&format!("{name}.weight"), &[to, from])?);
        bias.extend(weights.f32(&format!("{name}.bias"), &[to])?);
    }
    let matrix = Tensor::from_vec(rows, (to * names.len(), from), &Device::Cpu)?;
    Ok(Linear {
        matrix: matrix.t()?.contiguous()?,
        bias,
    })
}

#[cfg(test)]
mod tests;
