//! The forward pass of the Llama family: pre-norm layers with rotary positions, grouped queries and a
//! gated feed-forward, over the rows of several sequences at once.
//!
//! Multiplications take the rows of all sequences together, so that weights are read once a step;
//! attention looks at each row's own sequence. A row is computed in the same order whatever is beside
//! it, so that a sequence's tokens do not depend on its company.

use std::sync::Arc;

use super::super::ModelError;
use super::read::{Gguf, Matrix};
use super::{Decode, Part};

/// How weights are kept for those who compute with them.
pub(super) trait Keep {
    /// A linear map.
    type Map;
    /// The scale of a norm.
    type Norm;
    /// The map to scores.
    type Output;
    /// For each position, cosine and sine of the angle of each pair of a head.
    type Turns;

    fn map(&self, map: Matrix) -> Result<Self::Map, ModelError>;
    fn norm(&self, norm: Vec<f32>) -> Result<Self::Norm, ModelError>;
    /// `own` is absent where the words' embeddings are used.
    fn output(&self, words: &Matrix, own: Option<Matrix>) -> Result<Self::Output, ModelError>;
    /// `turns` holds cosine and sine in turn, `width` floats a position.
    fn turns(&self, turns: Vec<f32>, width: usize) -> Result<Self::Turns, ModelError>;
}

/// As they were read, for candle's kernels of the processor.
pub(super) struct AsRead;

impl Keep for AsRead {
    type Map = Matrix;
    type Norm = Vec<f32>;
    type Output = Option<Matrix>;
    type Turns = Vec<f32>;

    fn map(&self, map: Matrix) -> Result<Matrix, ModelError> {
        Ok(map)
    }

    fn norm(&self, norm: Vec<f32>) -> Result<Vec<f32>, ModelError> {
        Ok(norm)
    }

    fn output(&self, _: &Matrix, own: Option<Matrix>) -> Result<Option<Matrix>, ModelError> {
        Ok(own)
    }

    fn turns(&self, turns: Vec<f32>, _: usize) -> Result<Vec<f32>, ModelError> {
        Ok(turns)
    }
}

pub(super) struct Layer<K: Keep = AsRead> {
    pub(super) attention_norm: K::Norm,
    /// Query, key and value in one multiplication.
    pub(super) qkv: K::Map,
    pub(super) attended: K::Map,
    pub(super) wide_norm: K::Norm,
    /// Gate and value of the feed-forward, in one multiplication.
    pub(super) widen: K::Map,
    pub(super) narrow: K::Map,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    vocabulary: usize,
    pub(super) hidden: usize,
    pub(super) wide: usize,
    pub(super) heads: usize,
    /// Heads of keys and values; each serves `heads / groups` heads of queries.
    pub(super) groups: usize,
    /// Width of a head.
    pub(super) width: usize,
    /// The most of a sequence.
    positions: usize,
}

/// The weights, shared by all engines.
pub(super) struct Network<K: Keep = AsRead> {
    pub(super) sizes: Sizes,
    pub(super) epsilon: f32,
    pub(super) turns: K::Turns,
    words: Matrix,
    pub(super) output: K::Output,
    pub(super) norm: K::Norm,
    pub(super) layers: Vec<Layer<K>>,
}

impl<K: Keep> Network<K> {
    /// The network, and the most positions that a sequence can have.
    pub(super) fn read(
        file: &Gguf<'_>,
        vocabulary: usize,
        keep: &K,
    ) -> Result<(Self, usize), ModelError> {
        let kind = file.string("general.architecture")?;
        if kind != "llama" {
            return Err(file.invalid(format!(
                "is of the architecture {kind:?}; \"llama\" is built"
            )));
        }
        let size = |key: &str, max| file.size(&format!("llama.{key}"), max);
        let (layers, context) = (size("block_count", 1000)?, size("context_length", 1 << 20)?);
        let heads = size("attention.head_count", 1024)?;
        let groups = file.size_or("llama.attention.head_count_kv", 1024, heads)?;
        let hidden = size("embedding_length", 1 << 16)?;
        if !hidden.is_multiple_of(heads) || !heads.is_multiple_of(groups) {
            return Err(file.invalid(format!(
                "has {heads} heads and {groups} of keys at a width of {hidden}, which do not divide"
            )));
        }
        let sizes = Sizes {
            vocabulary,
            hidden,
            wide: size("feed_forward_length", 1 << 18)?,
            heads,
            groups,
            width: hidden / heads,
            positions: context,
        };
        let turned = file.size_or("llama.rope.dimension_count", 1 << 16, sizes.width)?;
        if turned != sizes.width || !turned.is_multiple_of(2) {
            return Err(file.invalid(format!(
                "turns {turned} of a head's {} elements; an even number and all of them are built",
                sizes.width
            )));
        }
        let base = file.number_or("llama.rope.freq_base", 10_000.0)?;
        let output = file
            .has("output.weight")
            .then(|| file.matrix("output.weight", vocabulary, hidden))
            .transpose()?;
        let words = file.matrix("token_embd.weight", vocabulary, hidden)?;
        let network = Self {
            sizes,
            epsilon: file.number_or("llama.attention.layer_norm_rms_epsilon", 1e-5)?,
            turns: keep.turns(turns(context, turned, base), turned)?,
            output: keep.output(&words, output)?,
            words,
            norm: keep.norm(file.floats("output_norm.weight", &[hidden])?)?,
            layers: (0..layers)
                .map(|at| Layer::read(file, at, sizes, keep))
                .collect::<Result<_, _>>()?,
        };
        Ok((network, context))
    }

    /// The embeddings of the new tokens of all parts, row by row.
    ///
    /// # Errors
    /// A part has no new token, one that there is not, or more than there are positions for.
    pub(super) fn embed(&self, parts: &[Part<'_>], rows: &mut [f32]) -> Result<(), ModelError> {
        let mut rows = rows.chunks_exact_mut(self.sizes.hidden);
        for part in parts {
            let positions = part.memory.positions + part.tokens.len();
            if positions > self.sizes.positions || part.tokens.is_empty() {
                let what = format!("{positions} positions, or none that is new");
                return Err(ModelError::Mismatch(what));
            }
            for (token, row) in part.tokens.iter().zip(rows.by_ref()) {
                let token = *token as usize;
                if token >= self.sizes.vocabulary {
                    return Err(ModelError::Mismatch(format!("token {token}")));
                }
                self.words.row(token, row);
            }
        }
        Ok(())
    }
}

impl Network {
    fn normalise(&self, from: &[f32], scale: &[f32], to: &mut [f32]) {
        let rows = from.chunks_exact(scale.len());
        for (row, to) in rows.zip(to.chunks_exact_mut(scale.len())) {
            let mean = dot(row, row) / row.len() as f32;
            let factor = 1.0 / (mean + self.epsilon).sqrt();
            for ((to, v), scale) in to.iter_mut().zip(row).zip(scale) {
                *to = v * factor * scale;
            }
        }
    }

    /// Turns the heads of a row to its position: each pair of neighbours by an angle of its own.
    fn turn(&self, row: &mut [f32], position: usize) {
        let width = self.sizes.width;
        let angles = &self.turns[position * width..(position + 1) * width];
        for head in row.chunks_exact_mut(width) {
            for (pair, angle) in head.chunks_exact_mut(2).zip(angles.chunks_exact(2)) {
                let (a, b, cos, sin) = (pair[0], pair[1], angle[0], angle[1]);
                pair[0] = a * cos - b * sin;
                pair[1] = a * sin + b * cos;
            }
        }
    }

    /// What the row of `queries` at `position` makes of the keys and values up to it.
    fn attend(
        &self,
        queries: &[f32],
        keys: &[f32],
        values: &[f32],
        scores: &mut Vec<f32>,
        to: &mut [f32],
    ) {
        let Sizes {
            heads,
            groups,
            width,
            ..
        } = self.sizes;
        let row = groups * width;
        let scale = 1.0 / (width as f32).sqrt();
        let each = queries
            .chunks_exact(width)
            .zip(to.chunks_exact_mut(width))
            .enumerate();
        for (head, (query, to)) in each {
            let column = head / (heads / groups) * width;
            let part = column..column + width;
            let keys = keys.chunks_exact(row).map(|key| &key[part.clone()]);
            scores.clear();
            scores.extend(keys.map(|key| dot(query, key) * scale));
            softmax(scores);
            to.fill(0.0);
            for (value, score) in values.chunks_exact(row).zip(scores.iter()) {
                for (to, v) in to.iter_mut().zip(&value[part.clone()]) {
                    *to += score * v;
                }
            }
        }
    }
}

impl<K: Keep> Layer<K> {
    fn read(file: &Gguf<'_>, at: usize, sizes: Sizes, keep: &K) -> Result<Self, ModelError> {
        let Sizes {
            hidden,
            wide,
            groups,
            width,
            ..
        } = sizes;
        let name = |part: &str| format!("blk.{at}.{part}.weight");
        let norm = |part: &str| keep.norm(file.floats(&name(part), &[hidden])?);
        let map = |parts: &[(&str, usize)], inputs| {
            let named: Vec<_> = parts.iter().map(|(part, n)| (name(part), *n)).collect();
            let parts: Vec<_> = named.iter().map(|(name, n)| (name.as_str(), *n)).collect();
            keep.map(file.matrices(&parts, inputs)?)
        };
        let side = groups * width;
        Ok(Self {
            attention_norm: norm("attn_norm")?,
            qkv: map(
                &[("attn_q", hidden), ("attn_k", side), ("attn_v", side)],
                hidden,
            )?,
            attended: map(&[("attn_output", hidden)], hidden)?,
            wide_norm: norm("ffn_norm")?,
            widen: map(&[("ffn_gate", wide), ("ffn_up", wide)], hidden)?,
            narrow: map(&[("ffn_down", hidden)], wide)?,
        })
    }
}

/// Cosines and sines of pair `i` at position `p`: of the angle `p / base^(2i / width)`.
fn turns(positions: usize, width: usize, base: f32) -> Vec<f32> {
    let mut turns = Vec::with_capacity(positions * width);
    for position in 0..positions {
        for pair in 0..width / 2 {
            let slower = f64::from(base).powf(2.0 * pair as f64 / width as f64);
            let (sin, cos) = (position as f64 / slower).sin_cos();
            turns.extend([cos as f32, sin as f32]);
        }
    }
    turns
}

/// The dot product, in eight partial sums that the compiler can keep in a vector.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = left.remainder().iter().zip(right.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in left.zip(right) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f32>() + rest
}

fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for v in row.iter_mut() {
        *v = (*v - most).exp();
        sum += *v;
    }
    row.iter_mut().for_each(|v| *v /= sum);
}

/// One worker's scratch memory over the shared weights.
pub(super) struct Engine {
    network: Arc<Network>,
    rows: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    wide: Vec<f32>,
    gated: Vec<f32>,
    scores: Vec<f32>,
}

impl Engine {
    pub(super) fn new(network: Arc<Network>) -> Self {
        Self {
            network,
            rows: Vec::new(),
            normed: Vec::new(),
            qkv: Vec::new(),
            attended: Vec::new(),
            wide: Vec::new(),
            gated: Vec::new(),
            scores: Vec::new(),
        }
    }

    fn layer(&mut self, at: usize, parts: &mut [Part<'_>]) -> Result<(), ModelError> {
        let network = Arc::clone(&self.network);
        let (layer, sizes) = (&network.layers[at], network.sizes);
        let (hidden, side) = (sizes.hidden, sizes.groups * sizes.width);
        network.normalise(&self.rows, &layer.attention_norm, &mut self.normed);
        layer.qkv.multiply(&self.normed, &mut self.qkv)?;
        let mut rows = self
            .qkv
            .chunks_exact_mut(layer.qkv.outputs())
            .zip(self.attended.chunks_exact_mut(hidden));
        for part in parts.iter_mut() {
            let (keys, values) = (&mut part.memory.keys[at], &mut part.memory.values[at]);
            // The range first: it ends before another part's row is taken.
            for (n, (row, to)) in (0..part.tokens.len()).zip(rows.by_ref()) {
                let (queries, new) = row.split_at_mut(hidden);
                let position = part.memory.positions + n;
                network.turn(queries, position);
                network.turn(&mut new[..side], position);
                keys.extend_from_slice(&new[..side]);
                values.extend_from_slice(&new[side..]);
                network.attend(queries, keys, values, &mut self.scores, to);
            }
        }
        layer.attended.multiply(&self.attended, &mut self.normed)?;
        add(&mut self.rows, &self.normed);
        network.normalise(&self.rows, &layer.wide_norm, &mut self.normed);
        layer.widen.multiply(&self.normed, &mut self.wide)?;
        let both = self.wide.chunks_exact(2 * sizes.wide);
        for (both, to) in both.zip(self.gated.chunks_exact_mut(sizes.wide)) {
            let (gate, value) = both.split_at(sizes.wide);
            for ((to, gate), value) in to.iter_mut().zip(gate).zip(value) {
                *to = gate / (1.0 + (-gate).exp()) * value;
            }
        }
        layer.narrow.multiply(&self.gated, &mut self.normed)?;
        add(&mut self.rows, &self.normed);
        Ok(())
    }

    /// The scores after `row` of this step.
    fn scores_of(&mut self, row: usize) -> Result<Vec<f32>, ModelError> {
        let (network, hidden) = (&self.network, self.network.sizes.hidden);
        let last = &self.rows[row * hidden..(row + 1) * hidden];
        network.normalise(last, &network.norm, &mut self.normed[..hidden]);
        let mut scores = vec![0.0; network.sizes.vocabulary];
        let output = network.output.as_ref().unwrap_or(&network.words);
        output.multiply(&self.normed[..hidden], &mut scores)?;
        Ok(scores)
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

impl Decode for Engine {
    fn step(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        let network = Arc::clone(&self.network);
        let sizes = network.sizes;
        let count: usize = parts.iter().map(|part| part.tokens.len()).sum();
        let room = |buffer: &mut Vec<f32>, width: usize| buffer.resize(count * width, 0.0);
        room(&mut self.rows, sizes.hidden);
        room(&mut self.normed, sizes.hidden);
        room(&mut self.qkv, sizes.hidden + 2 * sizes.groups * sizes.width);
        room(&mut self.attended, sizes.hidden);
        room(&mut self.wide, 2 * sizes.wide);
        room(&mut self.gated, sizes.wide);
        network.embed(parts, &mut self.rows)?;
        for part in parts.iter_mut() {
            part.memory.keys.resize_with(network.layers.len(), Vec::new);
            part.memory
                .values
                .resize_with(network.layers.len(), Vec::new);
        }
        for at in 0..network.layers.len() {
            self.layer(at, parts)?;
        }
        let (mut all, mut end) = (Vec::with_capacity(parts.len()), 0);
        for part in parts.iter_mut() {
            end += part.tokens.len();
            part.memory.positions += part.tokens.len();
            all.push(match part.scores {
                true => self.scores_of(end - 1)?,
                false => Vec::new(),
            });
        }
        Ok(all)
    }
}
