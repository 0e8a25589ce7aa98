//! How fast the model has been of late.

use std::collections::VecDeque;
use std::time::Duration;

/// Batches remembered. At tens of batches a second this is a second or so of history.
const MEMORY: usize = 32;

/// Time a token, learned from the last batches.
///
/// The median and not the mean, because one stalled batch (a page fault, a neighbour on the same
/// core) must not make the service refuse what it can serve. A fixed cost per batch is not
/// separated from the cost per token; it is small for the models here, and counting it as tokens
/// foresees a wait that is rather too long than too short.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    nanos_per_token: VecDeque<f64>,
}

impl Pace {
    /// Remembers that a batch of `tokens` took `took`. A batch without tokens says nothing.
    pub fn observe(&mut self, tokens: usize, took: Duration) {
        if tokens == 0 {
            return;
        }
        if self.nanos_per_token.len() == MEMORY {
            self.nanos_per_token.pop_front();
        }
        self.nanos_per_token
            .push_back(took.as_nanos() as f64 / tokens as f64);
    }

    /// Time that `tokens` would take; zero while nothing was measured.
    pub fn estimate(&self, tokens: usize) -> Duration {
        let mut seen: Vec<f64> = self.nanos_per_token.iter().copied().collect();
        if seen.is_empty() {
            return Duration::ZERO;
        }
        let middle = seen.len() / 2;
        let (_, median, _) = seen.select_nth_unstable_by(middle, f64::total_cmp);
        // Saturates: `as` clamps a float that does not fit.
        Duration::from_nanos((*median * tokens as f64) as u64)
    }
}
