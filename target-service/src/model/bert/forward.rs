//! The forward pass. The documents of a batch lie one after the other without padding. Each thread
//! has an even share of the rows and takes them through all layers by itself; it meets the others once
//! a layer, when the keys and values of all are there.
//!
//! A share goes through the wide part of a layer in tiles that stay in the processor's second cache.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::attend::{self, Memory, Segment};
use super::kernels::Level;
use super::kernels::gemm::{Packed, Rows, Target};
use super::threads::Barrier;
use super::{Group, Layer, Network};
use crate::model::{Encoded, Infer, ModelError, Prediction};

/// Tokens a thread that go through the layers together. More would gain nothing: the multiplications
/// are at full speed well before.
const TOGETHER: usize = 1024;

/// Floats of the widest buffer of a tile: 384 KiB, so that the rest has room beside it in 1 MiB.
const TILE: usize = 96 * 1024;

/// Fewer rows than this are not worth another thread.
const ROWS_A_THREAD: usize = 8;

pub(super) struct Engine {
    network: Arc<Network>,
    level: Level,
    threads: usize,
    scratch: Vec<Scratch>,
    /// Keys and values of this layer and of the next: one layer may still be read while the next is
    /// written. One of each for every thread.
    memories: [Vec<RwLock<Memory>>; 2],
}

/// The buffers of one thread, kept from batch to batch.
#[derive(Default)]
struct Scratch {
    x: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    middle: Vec<f32>,
    wide: Vec<f32>,
    scores: Vec<f32>,
}

/// What the threads of one batch share.
struct Pass<'a> {
    network: &'a Network,
    level: Level,
    batch: &'a [&'a Encoded],
    segments: &'a [Segment],
    memories: &'a [Vec<RwLock<Memory>>; 2],
    barrier: &'a Barrier,
}

impl Engine {
    pub(super) fn new(network: Arc<Network>, threads: usize) -> Self {
        Self::at_level(network, threads, Level::best())
    }

    pub(super) fn at_level(network: Arc<Network>, threads: usize, level: Level) -> Self {
        let threads = threads.max(1);
        let memories = || (0..threads).map(|_| RwLock::default()).collect();
        Self {
            network,
            level,
            threads,
            scratch: (0..threads).map(|_| Scratch::default()).collect(),
            memories: [memories(), memories()],
        }
    }

    /// The pooled last layer of each document.
    fn pooled(&mut self, batch: &[&Encoded]) -> Vec<Vec<f32>> {
        let lengths: Vec<usize> = batch.iter().map(|d| d.ids.len()).collect();
        let rows: usize = lengths.iter().sum();
        let threads = self.threads.min((rows / ROWS_A_THREAD).max(1));
        let segments = attend::divide(&lengths, threads);
        let threads = segments.last().map_or(0, |s| s.share + 1);
        let pass = Pass {
            network: &self.network,
            level: self.level,
            batch,
            segments: &segments,
            memories: &self.memories,
            barrier: &Barrier::new(threads),
        };
        if let Some((first, others)) = self.scratch[..threads].split_first_mut() {
            std::thread::scope(|scope| {
                for (at, scratch) in others.iter_mut().enumerate() {
                    let pass = &pass;
                    scope.spawn(move || pass.share(at + 1, scratch));
                }
                pass.share(0, first);
            });
        }
        let (hidden, pooling) = (self.network.sizes.hidden, self.network.pooling);
        let mut pooled = vec![vec![0f32; hidden]; batch.len()];
        for segment in &segments {
            let sum = &mut pooled[segment.document];
            let from = &self.scratch[segment.share].x[segment.row * hidden..];
            let rows = from.chunks_exact(hidden).take(segment.tokens);
            rows.take(pooling.rows(segment.position))
                .for_each(|row| self.level.add(sum, row));
        }
        for (sum, length) in pooled.iter_mut().zip(lengths) {
            let share = 1.0 / length.min(pooling.rows(0)) as f32;
            sum.iter_mut().for_each(|v| *v *= share);
        }
        pooled
    }
}

impl Infer for Engine {
    fn infer(&mut self, batch: &[&Encoded]) -> Vec<Result<Prediction, ModelError>> {
        let network = Arc::clone(&self.network);
        let most = TOGETHER * self.threads;
        let fit = |group: Group| group.tokens <= most;
        network.answer(batch, fit, |documents| Ok(self.pooled(documents)))
    }
}

/// The first `length` floats of a buffer, which grows when it has to.
fn room(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

impl Pass<'_> {
    /// Takes the rows of one thread through all layers, to the beginning of `scratch.x`.
    fn share(&self, share: usize, scratch: &mut Scratch) {
        let _watch = self.barrier.watch();
        let own: Vec<Segment> = self
            .segments
            .iter()
            .filter(|s| s.share == share)
            .copied()
            .collect();
        let rows = own.iter().map(|s| s.tokens).sum();
        self.embed(&own, rows, &mut scratch.x);
        for (at, layer) in self.network.layers.iter().enumerate() {
            let memories = &self.memories[at % 2];
            self.look(layer, &own, rows, scratch, &memories[share]);
            self.barrier.wait();
            let memories: Vec<RwLockReadGuard<'_, Memory>> = memories
                .iter()
                .map(|m| m.read().unwrap_or_else(PoisonError::into_inner))
                .collect();
            let tile = (TILE / self.network.sizes.widest()).max(super::kernels::gemm::ROWS);
            for start in (0..rows).step_by(tile) {
                let rows = start..rows.min(start + tile);
                self.tile(layer, &own, rows, scratch, &memories);
            }
        }
    }

    /// Normalised sums of word and position.
    fn embed(&self, own: &[Segment], rows: usize, x: &mut Vec<f32>) {
        let network = self.network;
        let hidden = network.sizes.hidden;
        let mut to = room(x, rows * hidden).chunks_exact_mut(hidden);
        for segment in own {
            let ids = &self.batch[segment.document].ids[segment.position..][..segment.tokens];
            let positions = network.positions[segment.position * hidden..].chunks_exact(hidden);
            for ((id, position), row) in ids.iter().zip(positions).zip(&mut to) {
                let word = *id as usize * hidden;
                row.copy_from_slice(&network.words[word..word + hidden]);
                self.level.add(row, position);
                self.level.normalise(row, &network.embedded_norm);
            }
        }
    }

    /// Queries, keys and values of all rows; the last two are packed for everybody.
    fn look(
        &self,
        layer: &Layer,
        own: &[Segment],
        rows: usize,
        scratch: &mut Scratch,
        memory: &RwLock<Memory>,
    ) {
        let hidden = self.network.sizes.hidden;
        let qkv = room(&mut scratch.qkv, rows * 3 * hidden);
        let tile = (TILE / (3 * hidden)).max(super::kernels::gemm::ROWS);
        for (from, to) in scratch.x[..rows * hidden]
            .chunks(tile * hidden)
            .zip(qkv.chunks_mut(tile * 3 * hidden))
        {
            self.multiply(&layer.qkv, from, to);
        }
        // A panic with the lock held breaks the barrier too; what is there is written anew.
        let mut memory = memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.fill(self.network.heads(), own, qkv);
    }

    /// What follows the keys and values, for some rows: attention and the two dense blocks.
    fn tile(
        &self,
        layer: &Layer,
        own: &[Segment],
        rows: Range<usize>,
        scratch: &mut Scratch,
        memories: &[RwLockReadGuard<'_, Memory>],
    ) {
        let hidden = self.network.sizes.hidden;
        let size = rows.len() * hidden;
        let attended = room(&mut scratch.attended, size);
        for (segment, part) in attend::within(own, rows.clone()) {
            let from = (part.start - rows.start) * hidden;
            let to = (part.end - rows.start) * hidden;
            attend::attend(
                self.level,
                self.network.heads(),
                self.document(segment.document),
                memories,
                &scratch.qkv,
                part,
                &mut scratch.scores,
                &mut attended[from..to],
            );
        }
        let x = &mut scratch.x[rows.start * hidden..rows.end * hidden];
        let middle = room(&mut scratch.middle, size);
        self.multiply(&layer.attended, attended, middle);
        self.add_and_normalise(middle, x, &layer.attended_norm);
        let wide = room(&mut scratch.wide, rows.len() * layer.widen.outputs());
        self.multiply(&layer.widen, middle, wide);
        self.network.activation.apply(self.level, wide);
        self.multiply(&layer.narrow, wide, x);
        self.add_and_normalise(x, middle, &layer.narrow_norm);
    }

    fn add_and_normalise(&self, to: &mut [f32], from: &[f32], norm: &super::Norm) {
        let hidden = self.network.sizes.hidden;
        for (row, other) in to.chunks_exact_mut(hidden).zip(from.chunks_exact(hidden)) {
            self.level.add(row, other);
            self.level.normalise(row, norm);
        }
    }

    fn multiply(&self, matrix: &Packed, from: &[f32], to: &mut [f32]) {
        let rows = from.len() / matrix.inputs();
        let from = Rows {
            data: from,
            stride: matrix.inputs(),
            column: 0,
            width: matrix.inputs(),
        };
        let mut to = Target {
            data: to,
            stride: matrix.outputs(),
            column: 0,
        };
        self.level.multiply(matrix, from, &mut to, rows);
    }

    /// The segments of a document.
    fn document(&self, document: usize) -> &[Segment] {
        let from = self.segments.partition_point(|s| s.document < document);
        let to = self.segments.partition_point(|s| s.document <= document);
        &self.segments[from..to]
    }
}
