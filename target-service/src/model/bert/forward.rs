//! The forward pass. The documents of a batch lie one after the other without padding: what is done
//! token by token is done for all of them in one multiplication, and attention, the only step that
//! mixes tokens, is taken document by document, so that no mask is needed.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::kernels::{self, AddNorm, Bias, BiasGelu, PutHeads, Softmax};
use super::{Layer, Linear, Network};
use crate::model::{Encoded, Infer, ModelError, Prediction};

/// Tokens that go through the layers together. More would fall out of the processor's caches between
/// two steps and gain nothing: the multiplications are at full speed well before.
const TOGETHER: usize = 1024;

pub(super) struct Engine(Arc<Network>);

impl Engine {
    pub(super) fn new(network: Arc<Network>) -> Self {
        Self(network)
    }

    fn check(&self, document: &Encoded) -> Result<(), ModelError> {
        let sizes = &self.0.sizes;
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
}

impl Infer for Engine {
    fn infer(&mut self, batch: &[&Encoded]) -> Result<Vec<Prediction>, ModelError> {
        for document in batch {
            self.check(document)?;
        }
        let mut answers = Vec::with_capacity(batch.len());
        for group in groups(batch) {
            answers.extend(self.0.predict(&batch[group])?);
        }
        Ok(answers)
    }
}

/// Neighbouring documents of at most [`TOGETHER`] tokens in all, or a single longer one.
fn groups(batch: &[&Encoded]) -> Vec<Range<usize>> {
    let (mut groups, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (at, document) in batch.iter().enumerate() {
        if at > start && tokens + document.ids.len() > TOGETHER {
            groups.push(start..at);
            (start, tokens) = (at, 0);
        }
        tokens += document.ids.len();
    }
    if start < batch.len() {
        groups.push(start..batch.len());
    }
    groups
}

impl Network {
    fn predict(&self, batch: &[&Encoded]) -> Result<Vec<Prediction>, ModelError> {
        let documents = rows(batch);
        let mut x = self.embed(batch)?;
        for layer in &self.layers {
            x = self.layer(layer, x, &documents)?;
        }
        let hidden = self.sizes.hidden;
        let last = x.flatten_all()?.to_vec1::<f32>()?;
        documents
            .iter()
            .map(|rows| self.judge(&last[rows.start * hidden..rows.end * hidden]))
            .collect()
    }

    /// Normalised sums of word and position, tokens × hidden.
    fn embed(&self, batch: &[&Encoded]) -> Result<Tensor, ModelError> {
        let hidden = self.sizes.hidden;
        let tokens = batch.iter().map(|d| d.ids.len()).sum::<usize>();
        let mut x = Vec::with_capacity(tokens * hidden);
        for document in batch {
            for (id, position) in document.ids.iter().zip(self.positions.chunks_exact(hidden)) {
                let (at, word) = (x.len(), *id as usize * hidden);
                x.extend_from_slice(&self.words[word..word + hidden]);
                kernels::add(&mut x[at..], position);
                kernels::normalise(&mut x[at..], &self.embedded_norm);
            }
        }
        Ok(Tensor::from_vec(x, (tokens, hidden), &Device::Cpu)?)
    }

    fn layer(
        &self,
        layer: &Layer,
        x: Tensor,
        documents: &[Range<usize>],
    ) -> Result<Tensor, ModelError> {
        let attended = self.attention(layer, &x, documents)?;
        let attended = attended.matmul(&layer.attended.matrix)?;
        attended.inplace_op2(
            &x,
            &AddNorm {
                bias: &layer.attended.bias,
                norm: &layer.attended_norm,
            },
        )?;
        let wide = attended.matmul(&layer.widen.matrix)?;
        wide.inplace_op1(&BiasGelu(&layer.widen.bias))?;
        let narrow = wide.matmul(&layer.narrow.matrix)?;
        narrow.inplace_op2(
            &attended,
            &AddNorm {
                bias: &layer.narrow.bias,
                norm: &layer.narrow_norm,
            },
        )?;
        Ok(narrow)
    }

    /// What each token takes from the tokens of its document, tokens × hidden.
    fn attention(
        &self,
        layer: &Layer,
        x: &Tensor,
        documents: &[Range<usize>],
    ) -> Result<Tensor, ModelError> {
        let (hidden, heads) = (self.sizes.hidden, self.sizes.heads);
        let width = hidden / heads;
        let Linear { matrix, bias } = &layer.qkv;
        let qkv = x.matmul(matrix)?;
        qkv.inplace_op1(&Bias(bias))?;
        let attended = Tensor::zeros(x.shape(), DType::F32, &Device::Cpu)?;
        for rows in documents {
            let tokens = rows.len();
            let document = qkv
                .narrow(0, rows.start, tokens)?
                .reshape((tokens, 3, heads, width))?;
            // Views with strides, heads × tokens × width: nothing is copied.
            let part = |at| document.narrow(1, at, 1)?.squeeze(1)?.transpose(0, 1);
            let (q, k, v) = (part(0)?, part(1)?, part(2)?);
            let weights = q.matmul(&k.t()?)?;
            weights.inplace_op1(&Softmax {
                length: tokens,
                scale: 1.0 / (width as f32).sqrt(),
            })?;
            let put = PutHeads {
                row: rows.start,
                heads,
                tokens,
            };
            attended.inplace_op2(&weights.matmul(&v)?, &put)?;
        }
        Ok(attended)
    }

    /// The head on the mean of a document's rows.
    fn judge(&self, rows: &[f32]) -> Result<Prediction, ModelError> {
        let hidden = self.sizes.hidden;
        let mut mean = vec![0f32; hidden];
        for row in rows.chunks_exact(hidden) {
            kernels::add(&mut mean, row);
        }
        let tokens = (rows.len() / hidden) as f32;
        let logits: Vec<f32> = self
            .head
            .chunks_exact(hidden)
            .zip(&self.head_bias)
            .map(|(weights, bias)| {
                let sum: f32 = weights.iter().zip(&mean).map(|(w, m)| w * m).sum();
                sum / tokens + bias
            })
            .collect();
        Prediction::from_logits(&logits)
    }
}

/// Which rows belong to which document.
fn rows(batch: &[&Encoded]) -> Vec<Range<usize>> {
    let mut end = 0;
    batch
        .iter()
        .map(|document| {
            let start = end;
            end += document.ids.len();
            start..end
        })
        .collect()
}
