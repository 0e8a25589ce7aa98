//! The forward pass made of candle's operators, for devices other than the processor.
//!
//! The documents of a batch lie one after the other without padding, as in [`super::forward`]; attention
//! alone gathers them into rows of equal length, of which the surplus is masked. Nothing of a document enters
//! the sums of another, not even times zero, since a number that is none would spoil them.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use candle_nn::ops;

use super::layout::Activation;
use super::{Group, Keep, Layer, Linear, Network, Norm};
use crate::model::{Encoded, Infer, ModelError, Prediction};

/// Places, documents times tokens of the longest, that go through the layers together, at most, but for a
/// single longer document: 192 MB of scores at 512 tokens and 12 heads.
const TOGETHER: usize = 8 * 1024;

/// Added to the scores of keys that are none; finite, since what is infinite makes numbers that are none.
const MASKED: f32 = -1e30;

type Computed = candle_core::Result<Tensor>;

/// Keeps weights as tensors of a device.
pub(super) struct OnDevice(pub(super) Device);

/// A linear map: inputs × outputs, and a row.
pub(super) struct Map {
    matrix: Tensor,
    bias: Tensor,
}

/// A layer norm.
pub(super) struct Normal {
    scale: Tensor,
    shift: Tensor,
    epsilon: f32,
}

impl Keep for OnDevice {
    type Table = Tensor;
    type Map = Map;
    type Norm = Normal;

    fn table(&self, rows: Vec<f32>, width: usize) -> Result<Tensor, ModelError> {
        let shape = (rows.len() / width, width);
        Ok(Tensor::from_vec(rows, shape, &self.0)?)
    }

    fn map(&self, map: Linear) -> Result<Map, ModelError> {
        let outputs = map.bias.len();
        let inputs = map.matrix.len() / outputs;
        let matrix = Tensor::from_vec(map.matrix, (outputs, inputs), &self.0)?;
        Ok(Map {
            matrix: matrix.t()?.contiguous()?,
            bias: Tensor::from_vec(map.bias, outputs, &self.0)?,
        })
    }

    fn norm(&self, norm: Norm) -> Result<Normal, ModelError> {
        let row = |row: Vec<f32>| {
            let width = row.len();
            Tensor::from_vec(row, width, &self.0)
        };
        Ok(Normal {
            scale: row(norm.scale)?,
            shift: row(norm.shift)?,
            epsilon: norm.epsilon,
        })
    }
}

impl Map {
    fn apply(&self, x: &Tensor) -> Computed {
        x.matmul(&self.matrix)?.broadcast_add(&self.bias)
    }
}

impl Normal {
    fn apply(&self, x: &Tensor) -> Computed {
        ops::layer_norm(x, &self.scale, &self.shift, self.epsilon)
    }
}

/// Where the tokens of a batch lie.
struct Places {
    documents: usize,
    /// Tokens of the longest document.
    longest: usize,
    /// For each place of documents × longest the row that stands there; where none does, the document's first.
    spread: Tensor,
    /// For each row its place.
    gather: Tensor,
    /// Documents × 1 × 1 × longest, to be added to scores.
    mask: Tensor,
}

impl Places {
    fn new(lengths: &[usize], device: &Device) -> candle_core::Result<Self> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let (documents, rows) = (lengths.len(), lengths.iter().sum::<usize>());
        let mut spread = Vec::with_capacity(documents * longest);
        let mut mask = Vec::with_capacity(documents * longest);
        let mut gather = Vec::with_capacity(rows);
        for (document, length) in lengths.iter().enumerate() {
            let first = gather.len();
            for position in 0..longest {
                let real = position < *length;
                if real {
                    gather.push(index(document * longest + position));
                }
                spread.push(index(first + if real { position } else { 0 }));
                mask.push(if real { 0.0 } else { MASKED });
            }
        }
        Ok(Self {
            documents,
            longest,
            spread: Tensor::from_vec(spread, documents * longest, device)?,
            gather: Tensor::from_vec(gather, rows, device)?,
            mask: Tensor::from_vec(mask, (documents, 1, 1, longest), device)?,
        })
    }
}

/// There are at most [`TOGETHER`] rows and places, or those of one document, far fewer than this holds.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

pub(super) struct Engine {
    network: Arc<Network<OnDevice>>,
}

impl Engine {
    pub(super) fn new(network: Arc<Network<OnDevice>>) -> Self {
        Self { network }
    }
}

impl Network<OnDevice> {
    /// The pooled last layer of each document.
    fn pooled(&self, batch: &[&Encoded]) -> candle_core::Result<Vec<Vec<f32>>> {
        let device = self.words.device();
        let lengths: Vec<usize> = batch.iter().map(|document| document.ids.len()).collect();
        let places = Places::new(&lengths, device)?;
        let rows: usize = lengths.iter().sum();
        let ids = batch.iter().flat_map(|d| d.ids.iter().copied()).collect();
        let positions = lengths
            .iter()
            .flat_map(|length| 0..index(*length))
            .collect();
        let of = |table: &Tensor, at: Vec<u32>| {
            table.index_select(&Tensor::from_vec(at, rows, device)?, 0)
        };
        let x = (of(&self.words, ids)? + of(&self.positions, positions)?)?;
        let mut x = self.embedded_norm.apply(&x)?;
        for layer in &self.layers {
            x = self.layer(layer, &x, &places)?;
        }
        let (mut pooled, mut first) = (Vec::with_capacity(lengths.len()), 0);
        for length in lengths {
            let counted = length.min(self.pooling.rows(0));
            pooled.push(x.narrow(0, first, counted)?.mean(0)?);
            first += length;
        }
        Tensor::stack(&pooled, 0)?.to_vec2()
    }

    fn layer(&self, layer: &Layer<OnDevice>, x: &Tensor, places: &Places) -> Computed {
        let attended = self.attend(&layer.qkv.apply(x)?, places)?;
        let x = (layer.attended.apply(&attended)? + x)?;
        let x = layer.attended_norm.apply(&x)?;
        let wide = layer.widen.apply(&x)?;
        let wide = match self.activation {
            Activation::Gelu => wide.gelu_erf()?,
            // Not `relu`, which makes a number of what is none.
            Activation::Relu => ((&wide + wide.abs()?)? * 0.5)?,
            Activation::Tanh => wide.tanh()?,
        };
        let x = (layer.narrow.apply(&wide)? + x)?;
        layer.narrow_norm.apply(&x)
    }

    /// What each row takes from its document.
    fn attend(&self, qkv: &Tensor, places: &Places) -> Computed {
        let heads = self.heads();
        let Places {
            documents, longest, ..
        } = *places;
        let apart = qkv.index_select(&places.spread, 0)?.reshape((
            documents,
            longest,
            3,
            heads.count,
            heads.width,
        ))?;
        // Documents × heads × longest × width.
        let part = |at: usize| -> Computed {
            apart
                .narrow(2, at, 1)?
                .squeeze(2)?
                .transpose(1, 2)?
                .contiguous()
        };
        let scale = 1.0 / (heads.width as f64).sqrt();
        let scores = (part(0)?.matmul(&part(1)?.transpose(2, 3)?.contiguous()?)? * scale)?;
        let shares = ops::softmax_last_dim(&scores.broadcast_add(&places.mask)?)?;
        let taken = shares.matmul(&part(2)?)?.transpose(1, 2)?.contiguous()?;
        taken
            .reshape((documents * longest, heads.count * heads.width))?
            .index_select(&places.gather, 0)
    }
}

impl Infer for Engine {
    fn infer(&mut self, batch: &[&Encoded]) -> Vec<Result<Prediction, ModelError>> {
        let network = &self.network;
        let fit = |group: Group| group.documents * group.longest <= TOGETHER;
        network.answer(batch, fit, |documents| Ok(network.pooled(documents)?))
    }
}
