//! Attention over documents that lie one after the other without padding: each document's tokens look
//! at that document's only, so that no mask is needed.
//!
//! Threads share a batch by rows, so that a document may be cut. Its keys and values then lie in
//! several [`Segment`]s, each packed by the thread that computed it and read by all.

use std::ops::Range;

use super::kernels::Level;
use super::kernels::gemm::{PANEL, ROWS, Row, Rows, Start, Target, ZERO, put};

/// Consecutive tokens of one document that one thread computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    /// Index in the batch.
    pub(super) document: usize,
    /// Position of the first token in the document.
    pub(super) position: usize,
    /// Number of tokens; never 0.
    pub(super) tokens: usize,
    /// Which thread's.
    pub(super) share: usize,
    /// Row of the first token among that thread's.
    pub(super) row: usize,
}

impl Segment {
    fn rows(&self) -> Range<usize> {
        self.row..self.row + self.tokens
    }
}

/// How a row of hidden values is parted into heads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) count: usize,
    pub(super) width: usize,
}

impl Heads {
    pub(super) fn hidden(self) -> usize {
        self.count * self.width
    }

    /// Panels that hold one head's values side by side.
    fn value_panels(self) -> usize {
        self.width.div_ceil(PANEL)
    }
}

/// The keys and values of one thread's rows, packed for multiplication: keys transposed, as panels of
/// tokens; values as they are, as panels of a head's columns.
#[derive(Debug, Default)]
pub(super) struct Memory {
    keys: Vec<Row>,
    values: Vec<Row>,
    /// Where each segment of the thread begins, by its row.
    starts: Vec<(usize, usize, usize)>,
}

impl Memory {
    /// Packs keys and values out of rows that hold query, key and value one after the other.
    pub(super) fn fill(&mut self, heads: Heads, segments: &[Segment], qkv: &[f32]) {
        self.starts.clear();
        let (mut key, mut value) = (0, 0);
        for segment in segments {
            self.starts.push((segment.row, key, value));
            key += heads.count * segment.tokens.div_ceil(PANEL) * heads.width;
            value += heads.count * heads.value_panels() * segment.tokens;
        }
        // What is in the panels beyond a segment's last token is computed with and never written out.
        if self.keys.len() < key {
            self.keys.resize(key, ZERO);
        }
        if self.values.len() < value {
            self.values.resize(value, ZERO);
        }
        for (segment, (_, key, value)) in segments.iter().zip(&self.starts) {
            let panels = segment.tokens.div_ceil(PANEL);
            for (token, row) in qkv
                .chunks_exact(3 * heads.hidden())
                .skip(segment.row)
                .take(segment.tokens)
                .enumerate()
            {
                let (keys, values) = row[heads.hidden()..].split_at(heads.hidden());
                for (head, part) in keys.chunks_exact(heads.width).enumerate() {
                    let at = key + (head * panels + token / PANEL) * heads.width;
                    let to = &mut self.keys[at..at + heads.width];
                    for (row, k) in to.iter_mut().zip(part) {
                        put(row, token % PANEL, *k);
                    }
                }
                for (head, part) in values.chunks_exact(heads.width).enumerate() {
                    for (panel, part) in part.chunks(PANEL).enumerate() {
                        let panel = head * heads.value_panels() + panel;
                        let row = &mut self.values[value + panel * segment.tokens + token];
                        for (line, part) in row.iter_mut().zip(part.chunks(16)) {
                            line.0[..part.len()].copy_from_slice(part);
                        }
                    }
                }
            }
        }
    }

    fn start(&self, segment: &Segment) -> (usize, usize) {
        let at = self.starts.binary_search_by_key(&segment.row, |s| s.0);
        let (_, key, value) = self.starts[at.expect("a segment of this thread")];
        (key, value)
    }

    /// A panel of a head's keys.
    fn keys(&self, heads: Heads, segment: &Segment, head: usize, panel: usize) -> &[Row] {
        let (key, _) = self.start(segment);
        let at = key + (head * segment.tokens.div_ceil(PANEL) + panel) * heads.width;
        &self.keys[at..at + heads.width]
    }

    /// A panel of a head's values.
    fn values(&self, heads: Heads, segment: &Segment, head: usize, panel: usize) -> &[Row] {
        let (_, value) = self.start(segment);
        let at = value + (head * heads.value_panels() + panel) * segment.tokens;
        &self.values[at..at + segment.tokens]
    }
}

/// What the rows `rows` of `own` (a segment of the calling thread) take from their document, whose
/// segments are `document` and whose keys and values are in `memories`, one a thread.
///
/// `qkv` are the thread's rows; `attended` holds the results, its first row being `rows.start`.
#[allow(clippy::too_many_arguments)]
pub(super) fn attend<M: std::ops::Deref<Target = Memory>>(
    level: Level,
    heads: Heads,
    document: &[Segment],
    memories: &[M],
    qkv: &[f32],
    rows: Range<usize>,
    scores: &mut Vec<f32>,
    attended: &mut [f32],
) {
    let hidden = heads.hidden();
    let tokens: usize = document.iter().map(|s| s.tokens).sum();
    let scale = 1.0 / (heads.width as f32).sqrt();
    scores.resize(scores.len().max(ROWS * tokens), 0.0);
    for first in rows.clone().step_by(ROWS) {
        let count = ROWS.min(rows.end - first);
        for head in 0..heads.count {
            let query = Rows {
                data: &qkv[first * 3 * hidden..],
                stride: 3 * hidden,
                column: head * heads.width,
                width: heads.width,
            };
            let mut column = 0;
            for segment in document {
                for panel in 0..segment.tokens.div_ceil(PANEL) {
                    let columns = PANEL.min(segment.tokens - panel * PANEL);
                    let keys = memories[segment.share].keys(heads, segment, head, panel);
                    let mut to = Target {
                        data: scores,
                        stride: tokens,
                        column,
                    };
                    level.panel(keys, Start::Zero, query, &mut to, 0..count, columns);
                    column += columns;
                }
            }
            for row in scores.chunks_exact_mut(tokens).take(count) {
                level.softmax(row, scale);
            }
            for panel in 0..heads.value_panels() {
                let mut to = Target {
                    data: &mut attended[(first - rows.start) * hidden..],
                    stride: hidden,
                    column: head * heads.width + panel * PANEL,
                };
                let columns = PANEL.min(heads.width - panel * PANEL);
                let (mut column, mut start) = (0, Start::Zero);
                for segment in document {
                    let weights = Rows {
                        data: scores,
                        stride: tokens,
                        column,
                        width: segment.tokens,
                    };
                    let values = memories[segment.share].values(heads, segment, head, panel);
                    level.panel(values, start, weights, &mut to, 0..count, columns);
                    column += segment.tokens;
                    start = Start::Added;
                }
            }
        }
    }
}

/// Divides the rows of a batch among `shares` threads, evenly: the segments, in order of the batch.
pub(super) fn divide(lengths: &[usize], shares: usize) -> Vec<Segment> {
    let total: usize = lengths.iter().sum();
    let each = total.div_ceil(shares.max(1)).max(1);
    let mut segments = Vec::with_capacity(lengths.len() + shares);
    let (mut share, mut row) = (0, 0);
    for (document, length) in lengths.iter().enumerate() {
        let mut position = 0;
        while position < *length {
            if row == each {
                (share, row) = (share + 1, 0);
            }
            let tokens = (length - position).min(each - row);
            segments.push(Segment {
                document,
                position,
                tokens,
                share,
                row,
            });
            (position, row) = (position + tokens, row + tokens);
        }
    }
    segments
}

/// Segments of `own`'s rows that lie in `rows`, with the part of each that does.
pub(super) fn within(
    own: &[Segment],
    rows: Range<usize>,
) -> impl Iterator<Item = (Segment, Range<usize>)> {
    own.iter().filter_map(move |segment| {
        let part = segment.rows().start.max(rows.start)..segment.rows().end.min(rows.end);
        (!part.is_empty()).then_some((*segment, part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_in_exactly_one_segment() {
        for shares in 1..5 {
            for lengths in [
                vec![1],
                vec![16],
                vec![3, 50, 1, 7],
                vec![5; 9],
                vec![33, 2],
            ] {
                let segments = divide(&lengths, shares);
                let mut rows = vec![0; shares];
                let mut positions = vec![0; lengths.len()];
                for s in &segments {
                    assert_eq!((s.row, s.position), (rows[s.share], positions[s.document]));
                    rows[s.share] += s.tokens;
                    positions[s.document] += s.tokens;
                }
                assert_eq!(positions, lengths);
                let most = lengths.iter().sum::<usize>().div_ceil(shares);
                assert!(rows.iter().all(|r| *r <= most), "{rows:?}");
            }
        }
    }
}
