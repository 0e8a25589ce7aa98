//! How fast the model has been of late, and how fast requests come.

use std::collections::VecDeque;
use std::time::Duration;

/// Batches remembered. At tens of batches a second this is a second or so of history.
const MEMORY: usize = 32;

/// With fewer batches than this the fixed cost is not told from the cost of tokens.
const ENOUGH: usize = 8;

/// What a batch costs: a fixed time and a time a token, learned from the last batches.
///
/// The slope is the median of the slopes between all pairs (Theil and Sen), the fixed part the median of
/// what the slope leaves. Medians and not least squares, because one stalled batch (a page fault, a
/// neighbour on the same core) must not make the service refuse what it can serve; they stand a
/// quarter of such batches. Neither part is ever negative.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    seen: VecDeque<(f64, f64)>,
    fixed: f64,
    per_token: f64,
    /// Whether batches differed enough for `fixed` to mean something.
    told_apart: bool,
}

impl Pace {
    /// Remembers that a batch of `tokens` took `took`. A batch without tokens says nothing.
    pub fn observe(&mut self, tokens: usize, took: Duration) {
        if tokens == 0 {
            return;
        }
        if self.seen.len() == MEMORY {
            self.seen.pop_front();
        }
        self.seen.push_back((tokens as f64, took.as_nanos() as f64));
        self.fit();
    }

    fn fit(&mut self) {
        let ratio = |(tokens, nanos): &(f64, f64)| nanos / tokens;
        (self.fixed, self.told_apart) = (0.0, false);
        self.per_token = median(self.seen.iter().map(ratio).collect()).unwrap_or_default();
        let mut slopes = Vec::with_capacity(MEMORY * MEMORY / 2);
        for (at, (tokens, nanos)) in self.seen.iter().enumerate() {
            for (other, more) in self.seen.iter().skip(at + 1) {
                if tokens != other {
                    slopes.push((nanos - more) / (tokens - other));
                }
            }
        }
        // Nearly equal batches give slopes of noise alone: half of the pairs must differ.
        let pairs = self.seen.len() * self.seen.len().saturating_sub(1) / 2;
        if self.seen.len() < ENOUGH || slopes.len() * 2 < pairs {
            return;
        }
        let Some(slope) = median(slopes).filter(|s| *s > 0.0) else {
            return;
        };
        let rest = self
            .seen
            .iter()
            .map(|(tokens, nanos)| nanos - slope * tokens);
        let fixed = median(rest.collect()).unwrap_or_default();
        self.told_apart = true;
        if fixed > 0.0 {
            (self.fixed, self.per_token) = (fixed, slope);
        }
    }

    /// Time that `tokens` in `batches` batches would take; zero while nothing was measured.
    pub fn estimate(&self, batches: usize, tokens: usize) -> Duration {
        // Saturates: `as` clamps a float that does not fit.
        let nanos = self.fixed * batches as f64 + self.per_token * tokens as f64;
        Duration::from_nanos(nanos as u64)
    }

    /// What a batch costs whatever is in it; `None` while that cannot be told.
    pub fn fixed(&self) -> Option<Duration> {
        self.told_apart
            .then(|| Duration::from_nanos(self.fixed as u64))
    }

    /// The tokens of a batch whose fixed cost is one part in `parts`; `None` while that cannot be told.
    pub fn worth_sharing(&self, parts: f64) -> Option<usize> {
        let tokens = parts * self.fixed / self.per_token;
        (self.told_apart && tokens.is_finite()).then_some(tokens as usize)
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    Some(*values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

/// How far apart requests come: an exponential mean of the last few gaps, or the silence since the last
/// request when that is longer, so that a burst's end is noticed at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrivals {
    last: Option<Duration>,
    gap: Option<Duration>,
}

impl Arrivals {
    /// A request came at `now`.
    pub fn observe(&mut self, now: Duration) {
        if let Some(last) = self.last.replace(now) {
            let gap = now.saturating_sub(last);
            // An eighth of the newest: some ten requests of memory.
            self.gap = Some(self.gap.map_or(gap, |mean| (mean * 7 + gap) / 8));
        }
    }

    /// The gap to be expected; `None` before two requests have come.
    pub fn gap(&self, now: Duration) -> Option<Duration> {
        let silence = now.saturating_sub(self.last?);
        Some(self.gap?.max(silence))
    }

    /// When the next request would come, if it came as the mean says.
    pub fn next(&self) -> Option<Duration> {
        self.last?.checked_add(self.gap?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(n: usize) -> Duration {
        Duration::from_micros(n as u64)
    }

    #[test]
    fn the_fixed_cost_is_told_from_that_of_tokens() {
        let mut pace = Pace::default();
        for at in 0..20 {
            let tokens = 10 + 13 * (at % 7);
            // Every seventh batch is stalled.
            let stall = if at % 7 == 3 { 50_000 } else { 0 };
            pace.observe(tokens, micros(900 + 20 * tokens + stall));
        }
        assert_eq!(pace.fixed(), Some(micros(900)));
        assert_eq!(pace.estimate(2, 100), micros(2 * 900 + 2000));
        assert_eq!(pace.worth_sharing(20.0), Some(900));
    }

    #[test]
    fn batches_of_one_size_tell_a_sum_and_no_parts() {
        let mut pace = Pace::default();
        for _ in 0..20 {
            pace.observe(100, micros(1000));
        }
        assert_eq!(pace.estimate(1, 200), micros(2000));
        assert_eq!((pace.fixed(), pace.worth_sharing(20.0)), (None, None));
    }

    #[test]
    fn costs_are_never_negative() {
        let mut pace = Pace::default();
        for at in 1..20 {
            pace.observe(at * 10, micros(at * at * 10));
        }
        assert_eq!(pace.fixed(), Some(Duration::ZERO));
        assert!(pace.estimate(1, 1) > Duration::ZERO);
        let mut pace = Pace::default();
        for at in 1..20 {
            pace.observe(at * 10, micros(1000 - at));
        }
        assert_eq!(pace.fixed(), None, "more tokens in less time say nothing");
        assert!(pace.estimate(1, 10) > Duration::ZERO);
    }

    #[test]
    fn silence_is_a_gap() {
        let mut arrivals = Arrivals::default();
        arrivals.observe(micros(0));
        assert_eq!(arrivals.gap(micros(5)), None);
        for at in 1..20 {
            arrivals.observe(micros(at * 10));
        }
        assert_eq!(arrivals.gap(micros(195)), Some(micros(10)));
        assert_eq!(arrivals.next(), Some(micros(200)));
        assert_eq!(arrivals.gap(micros(1190)), Some(micros(1000)));
    }
}
