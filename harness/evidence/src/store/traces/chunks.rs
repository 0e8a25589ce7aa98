//! A table that grows without moving.

use std::ops::{Index, IndexMut};

/// Rows in chunks of one size. A `Vec` of ten million rows would hold up to twice their memory and
/// stop receivers while it moves.
#[derive(Debug)]
pub(crate) struct Chunks<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

const BITS: u32 = 14;
const ROWS: usize = 1 << BITS;

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Chunks<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push(&mut self, row: T) {
        if self.len.is_multiple_of(ROWS) {
            self.chunks.push(Vec::with_capacity(ROWS));
        }
        if let Some(last) = self.chunks.last_mut() {
            last.push(row);
            self.len += 1;
        }
    }

    /// Drops the rows from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.chunks.truncate(len.div_ceil(ROWS));
            if let Some(last) = self.chunks.last_mut() {
                last.truncate(len - ((len - 1) & !(ROWS - 1)));
            }
            self.len = len;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// The rows from `first` on.
    pub(crate) fn from(&self, first: usize) -> impl Iterator<Item = &T> {
        let skip = first >> BITS;
        let rest = first & (ROWS - 1);
        let chunks = self.chunks.get(skip..).unwrap_or_default();
        chunks.iter().flatten().skip(rest)
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    fn index(&self, at: usize) -> &T {
        &self.chunks[at >> BITS][at & (ROWS - 1)]
    }
}

impl<T> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.chunks[at >> BITS][at & (ROWS - 1)]
    }
}

/// Makes room for `more` rows, a quarter at a time: doubling a table of half the memory limit would
/// break it.
pub(crate) fn grow<T>(table: &mut Vec<T>, more: usize) {
    if table.capacity() - table.len() < more {
        table.reserve_exact(more.max(table.len() / 4).max(64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_across_chunks() {
        let mut rows = Chunks::default();
        for n in 0..ROWS * 2 + 5 {
            rows.push(n);
        }
        assert_eq!(rows.len(), ROWS * 2 + 5);
        assert_eq!((rows[ROWS], rows[ROWS * 2 + 4]), (ROWS, ROWS * 2 + 4));
        rows[ROWS + 1] = 7;
        assert_eq!(rows[ROWS + 1], 7);
        let tail: Vec<_> = rows.from(ROWS * 2 + 3).copied().collect();
        assert_eq!(tail, [ROWS * 2 + 3, ROWS * 2 + 4]);
        assert_eq!(rows.iter().count(), rows.len());
        assert_eq!(rows.from(rows.len()).count(), 0);
        for len in [ROWS * 2 + 4, ROWS * 2, ROWS + 1, 1, 0] {
            rows.truncate(len);
            assert_eq!((rows.len(), rows.iter().count()), (len, len));
            rows.push(9);
            assert_eq!((rows.len(), rows[len]), (len + 1, 9));
        }
    }
}
