//! The entries of one stream that a query reads.

use super::Entry;
use std::ops::{Index, Range};
use std::sync::Arc;

/// Entries sorted by time, shared with the store and not copied: a query over a million lines must not
/// begin with a million clones.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    runs: Vec<Run>,
}

#[derive(Clone, Debug)]
struct Run {
    chunk: Arc<[Entry]>,
    part: Range<usize>,
    /// Entries of the runs before.
    before: usize,
}

impl Entries {
    pub(super) fn push(&mut self, chunk: Arc<[Entry]>, part: Range<usize>) {
        if !part.is_empty() {
            let before = self.len();
            self.runs.push(Run {
                chunk,
                part,
                before,
            });
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.runs
            .last()
            .map_or(0, |run| run.before + run.part.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The entry at a place in the order of time.
    pub fn get(&self, at: usize) -> Option<&Entry> {
        let run = self
            .runs
            .partition_point(|run| run.before <= at)
            .checked_sub(1)?;
        let run = &self.runs[run];
        run.chunk[run.part.clone()].get(at - run.before)
    }

    /// Those at these places in the order of time; a place beyond the last is none.
    pub(crate) fn part(&self, places: Range<usize>) -> Self {
        let mut out = Self::default();
        for run in &self.runs {
            let from = places.start.max(run.before) - run.before;
            let to = places.end.saturating_sub(run.before).min(run.part.len());
            if from < to {
                let first = run.part.start;
                out.push(run.chunk.clone(), first + from..first + to);
            }
        }
        out
    }

    /// All, in the order of time.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slices().flatten()
    }

    /// All, in the order of time, in the pieces in which they are stored.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &[Entry]> {
        self.runs.iter().map(|run| &run.chunk[run.part.clone()])
    }
}

impl Index<usize> for Entries {
    type Output = Entry;

    /// # Panics
    /// When there is no such place, as with any list.
    fn index(&self, at: usize) -> &Entry {
        match self.get(at) {
            Some(entry) => entry,
            None => panic!("entry {at} of {}", self.len()),
        }
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        let mut all = Self::default();
        let part = 0..entries.len();
        all.push(entries.into(), part);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::logs::Labels;

    #[test]
    fn entries_of_several_runs_are_found_in_order() {
        let chunk = |from: i64| -> Arc<[Entry]> {
            (from..from + 4)
                .map(|ts| Entry {
                    ts,
                    line: "".into(),
                    metadata: Labels::default(),
                })
                .collect()
        };
        let mut all = Entries::default();
        all.push(chunk(0), 1..3);
        all.push(chunk(10), 2..2);
        all.push(chunk(20), 0..4);
        let times: Vec<i64> = all.iter().map(|e| e.ts).collect();
        assert_eq!(times, [1, 2, 20, 21, 22, 23]);
        let got: Vec<i64> = (0..7).filter_map(|at| Some(all.get(at)?.ts)).collect();
        assert_eq!((&got, all.len()), (&times, 6));
        for from in 0..=7 {
            for to in from..=8 {
                let part: Vec<i64> = all.part(from..to).iter().map(|e| e.ts).collect();
                assert_eq!(part, times[from.min(6)..to.min(6)], "{from}..{to}");
            }
        }
        assert!(Entries::default().get(0).is_none() && Entries::default().is_empty());
    }
}
