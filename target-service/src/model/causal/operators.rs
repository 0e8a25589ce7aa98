//! The forward pass made of candle's operators, for devices other than the processor: the same network as
//! [`super::forward`], with keys and values that stay on the device (where each token costs a copy of them, as
//! candle's tensors do not grow).

use std::sync::Arc;

use candle_core::quantized::QMatMul;
use candle_core::{Device, Module, Tensor};
use candle_nn::{ops, rotary_emb};

use super::super::ModelError;
use super::forward::{Keep, Layer, Network, Sizes};
use super::read::Matrix;
use super::{Decode, Part};

/// Added to the scores of keys that a row must not see.
const MASKED: f32 = -1e30;

type Computed = candle_core::Result<Tensor>;

/// Keeps weights as tensors of a device, maps in Q8_0 there, too.
pub(super) struct OnDevice(pub(super) Device);

/// Cosines and sines, each positions × half the width of a head.
pub(super) struct Turns {
    cosines: Tensor,
    sines: Tensor,
}

impl Keep for OnDevice {
    type Map = QMatMul;
    type Norm = Tensor;
    type Output = QMatMul;
    type Turns = Turns;

    fn map(&self, map: Matrix) -> Result<QMatMul, ModelError> {
        Ok(QMatMul::from_qtensor(map.onto(&self.0)?)?)
    }

    fn norm(&self, norm: Vec<f32>) -> Result<Tensor, ModelError> {
        let width = norm.len();
        Ok(Tensor::from_vec(norm, width, &self.0)?)
    }

    fn output(&self, words: &Matrix, own: Option<Matrix>) -> Result<QMatMul, ModelError> {
        self.map(own.unwrap_or_else(|| words.clone()))
    }

    fn turns(&self, turns: Vec<f32>, width: usize) -> Result<Turns, ModelError> {
        let shape = (turns.len() / width, width / 2);
        let every_second = |from: usize| {
            let values: Vec<f32> = turns.iter().skip(from).step_by(2).copied().collect();
            Tensor::from_vec(values, shape, &self.0)
        };
        Ok(Turns {
            cosines: every_second(0)?,
            sines: every_second(1)?,
        })
    }
}

pub(super) struct Engine {
    network: Arc<Network<OnDevice>>,
}

impl Engine {
    pub(super) fn new(network: Arc<Network<OnDevice>>) -> Self {
        Self { network }
    }
}

/// 0 where row `r` of `rows` new ones may see key `k` of `keys`: the first row all but `rows - 1` keys. A single
/// row sees all, and needs none.
fn mask(rows: usize, keys: usize, device: &Device) -> candle_core::Result<Option<Tensor>> {
    if rows == 1 {
        return Ok(None);
    }
    let known = keys - rows;
    let value = |at: usize| {
        let (row, key) = (at / keys, at % keys);
        if key <= known + row { 0.0 } else { MASKED }
    };
    let values: Vec<f32> = (0..rows * keys).map(value).collect();
    Tensor::from_vec(values, (1, rows, keys), device).map(Some)
}

impl Network<OnDevice> {
    fn layer(
        &self,
        at: usize,
        layer: &Layer<OnDevice>,
        x: &Tensor,
        parts: &mut [Part<'_>],
        masks: &[Option<Tensor>],
    ) -> Computed {
        let normed = ops::rms_norm(x, &layer.attention_norm, self.epsilon)?;
        let qkv = layer.qkv.forward(&normed)?;
        let (mut attended, mut from) = (Vec::with_capacity(parts.len()), 0);
        for (part, mask) in parts.iter_mut().zip(masks) {
            let rows = part.tokens.len();
            let own = qkv.narrow(0, from, rows)?;
            attended.push(self.attend(at, &own, part, mask.as_ref())?);
            from += rows;
        }
        let attended = layer.attended.forward(&Tensor::cat(&attended, 0)?)?;
        let x = (x + attended)?;
        let normed = ops::rms_norm(&x, &layer.wide_norm, self.epsilon)?;
        let both = layer.widen.forward(&normed)?;
        let wide = self.sizes.wide;
        let gate = both.narrow(1, 0, wide)?.contiguous()?.silu()?;
        let gated = (gate * both.narrow(1, wide, wide)?.contiguous()?)?;
        x + layer.narrow.forward(&gated)?
    }

    /// What the new rows of one part take from its sequence, to which they are added.
    fn attend(
        &self,
        at: usize,
        qkv: &Tensor,
        part: &mut Part<'_>,
        mask: Option<&Tensor>,
    ) -> Computed {
        let Sizes {
            hidden,
            heads,
            groups,
            width,
            ..
        } = self.sizes;
        let (rows, known) = (part.tokens.len(), part.memory.positions);
        // 1 × heads × rows × width.
        let split = |from: usize, heads: usize| -> Computed {
            qkv.narrow(1, from, heads * width)?
                .contiguous()?
                .reshape((1, rows, heads, width))?
                .transpose(1, 2)?
                .contiguous()
        };
        let cosines = self.turns.cosines.narrow(0, known, rows)?;
        let sines = self.turns.sines.narrow(0, known, rows)?;
        let turned = |from, heads| rotary_emb::rope_i(&split(from, heads)?, &cosines, &sines);
        let (queries, mut keys) = (turned(0, heads)?, turned(hidden, groups)?);
        let mut values = split(hidden + groups * width, groups)?;
        match part.memory.tensors.get_mut(at) {
            None => part.memory.tensors.push((keys.clone(), values.clone())),
            Some(before) => {
                keys = Tensor::cat(&[&before.0, &keys], 2)?;
                values = Tensor::cat(&[&before.1, &values], 2)?;
                *before = (keys.clone(), values.clone());
            }
        }
        // The heads that share keys lie one after the other.
        let (each, all) = (heads / groups, known + rows);
        let queries = queries.reshape((groups, each * rows, width))?;
        let keys = keys.squeeze(0)?.transpose(1, 2)?.contiguous()?;
        let scores = (queries.matmul(&keys)? / (width as f64).sqrt())?;
        let mut scores = scores.reshape((heads, rows, all))?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(mask)?;
        }
        let shares = ops::softmax_last_dim(&scores)?.reshape((groups, each * rows, all))?;
        let taken = shares.matmul(&values.squeeze(0)?.contiguous()?)?;
        let taken = taken.reshape((heads, rows, width))?.transpose(0, 1)?;
        taken.contiguous()?.reshape((rows, hidden))
    }

    fn compute(
        &self,
        rows: Vec<f32>,
        parts: &mut [Part<'_>],
    ) -> candle_core::Result<Vec<Vec<f32>>> {
        let hidden = self.sizes.hidden;
        let shape = (rows.len() / hidden, hidden);
        let mut x = Tensor::from_vec(rows, shape, self.norm.device())?;
        let masks = parts.iter().map(|part| {
            let rows = part.tokens.len();
            mask(rows, part.memory.positions + rows, x.device())
        });
        let masks: Vec<Option<Tensor>> = masks.collect::<candle_core::Result<_>>()?;
        for (at, layer) in self.layers.iter().enumerate() {
            x = self.layer(at, layer, &x, parts, &masks)?;
        }
        let (mut all, mut end) = (Vec::with_capacity(parts.len()), 0);
        for part in parts.iter_mut() {
            end += part.tokens.len();
            part.memory.positions += part.tokens.len();
            all.push(match part.scores {
                false => Vec::new(),
                true => {
                    let last = x.narrow(0, end - 1, 1)?.contiguous()?;
                    let last = ops::rms_norm(&last, &self.norm, self.epsilon)?;
                    self.output.forward(&last)?.squeeze(0)?.to_vec1()?
                }
            });
        }
        Ok(all)
    }
}

impl Decode for Engine {
    fn step(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        let network = &self.network;
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let count: usize = parts.iter().map(|part| part.tokens.len()).sum();
        let mut rows = vec![0.0; count * network.sizes.hidden];
        network.embed(parts, &mut rows)?;
        Ok(network.compute(rows, parts)?)
    }
}
