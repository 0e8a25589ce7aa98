//! A run as it would have been at its slowest pace.
//!
//! A machine that changes its speed for some seconds shifts the level of all latencies, and a shift of the
//! level is correlation over thousands of requests: by [`super::correlation`] such a run is worth next to
//! nothing, even where no latency comes near the limit. What the shift could do to the objective can be
//! put to the test instead of feared: take the whole run at its slowest pace, count what would miss then,
//! and reckon only with the correlation that is left when the level is taken out.
//!
//! The pace of a stretch of a hundred requests, in short runs of fewer, is its median latency. Each latency is multiplied by
//! (slowest pace / pace of its own stretch), and once more by (slowest pace / fastest pace): as if the
//! slowest stretch had lasted all along, and had been slower again by as much as the run shows that a
//! level may shift. Where latencies come near the limit that costs so many more misses that nothing is
//! gained (a queue's own swings are levels, too); where they stay far from it, a shift decides nothing.
//! Of a long run the correlation that is left is that of its tail, where the tail was seen often enough.
//! The example `calibrate` shows that it adds no wrong passes.

use super::correlation::{self, Tail};

/// Most requests in a stretch, in runs of up to [`STRETCHES`] times as many: few enough for seconds of a
/// common load.
const MOST: usize = 100;
/// Most stretches. Of ever more and shorter ones the slowest would be ever slower, the longer a run is: one
/// stall of some milliseconds would be its level. What is shorter than a stretch is correlation, of which
/// a long run has seen enough.
const STRETCHES: usize = 100;
/// Fewest requests in a stretch: enough for a median.
const LEAST: usize = 30;
/// Fewer stretches do not tell how much a level shifts.
const FEWEST: usize = 10;

/// Latencies of a run, and their paces.
#[derive(Debug, Clone)]
pub struct Paces {
    /// Each latency at the slowest pace, slowed again; same unit and order as they were given.
    slowed: Vec<f64>,
    /// Correlation time of the latencies without their levels.
    time: f64,
    /// That of their tail, which stands for it in a run long enough to tell.
    tail: Option<Tail>,
}

/// What a run is worth at its slowest pace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slowest {
    /// At most so many requests in a row are worth one independent one, the level taken out.
    pub at_most: f64,
    /// Share of all requests that are good as it was and bad at the slowest pace.
    pub more_bad: f64,
}

impl Slowest {
    /// The same for `total` events that a backend counted of `rows` requests, of which `failed` failed.
    ///
    /// Nobody knows which requests the events are of: a counter may be of one route of several. So all
    /// requests that would be bad are taken to be among them, those that failed as it was, too, which the
    /// backend may not have counted as bad.
    #[must_use]
    pub fn of_events(self, total: f64, rows: f64, failed: f64) -> Self {
        let each = (total / rows.max(1.0)).max(1.0);
        let bad = (self.more_bad * rows + failed) * each;
        Self {
            at_most: self.at_most * each,
            more_bad: (bad / total.max(1.0)).min(1.0),
        }
    }
}

impl Paces {
    /// From latencies in the order in which their requests were due; infinite for a request without an
    /// answer. `None` where there are too few, or where most of a stretch has no answer or takes no time.
    #[must_use]
    pub fn of(latencies: &[f64]) -> Option<Self> {
        let n = latencies.len();
        if n < FEWEST * LEAST {
            return None;
        }
        let length = (n / FEWEST).clamp(LEAST, MOST).max(n / STRETCHES);
        let count = n / length;
        let stretches: Vec<&[f64]> = (0..count)
            .map(|i| &latencies[i * n / count..(i + 1) * n / count])
            .collect();
        let paces: Vec<f64> = stretches.iter().map(|s| median(s)).collect();
        let fastest = paces.iter().copied().fold(f64::INFINITY, f64::min);
        let slowest = paces.iter().copied().fold(0.0, f64::max);
        if fastest <= 0.0 || !slowest.is_finite() {
            return None;
        }
        let levelled: Vec<f64> = stretches
            .iter()
            .zip(&paces)
            .flat_map(|(stretch, pace)| stretch.iter().map(move |latency| latency / pace))
            .collect();
        let tail = correlation::of_tail(&levelled);
        let time = correlation::of_latencies(&levelled);
        let factor = slowest * (slowest / fastest);
        let slowed = levelled.into_iter().map(|l| l * factor).collect();
        Some(Self { slowed, time, tail })
    }

    /// The requests that would be bad at the slowest pace: those that `is_bad` as it was, and those whose
    /// latency would be over `limit`. In the order of the latencies.
    fn bad<'a>(
        &'a self,
        is_bad: impl Fn(usize) -> bool + 'a,
        limit: f64,
    ) -> impl Iterator<Item = bool> + 'a {
        let slowed = self.slowed.iter().enumerate();
        slowed.map(move |(i, latency)| *latency > limit || is_bad(i))
    }

    /// What the run is worth at its slowest pace for a `limit` on latency, of which `is_bad` tells which
    /// requests missed as it was. `confidence` as in [`Correlation::new`](super::Correlation::new).
    #[must_use]
    pub fn against(&self, is_bad: impl Fn(usize) -> bool, limit: f64, confidence: f64) -> Slowest {
        let was = (0..self.slowed.len()).filter(|i| is_bad(*i)).count();
        let bad: Vec<bool> = self.bad(is_bad, limit).collect();
        let n = bad.len() as f64;
        let now = bad.iter().filter(|bad| **bad).count();
        let at_most = |time| super::Correlation::new(time, n, confidence).at_most;
        let all = match self.tail {
            Some(tail) => tail.at_most(confidence),
            None => at_most(self.time),
        };
        Slowest {
            at_most: all.max(at_most(correlation::of_events_over_all_lengths(bad))),
            more_bad: (now - was) as f64 / n,
        }
    }
}

/// The middle value; of two, the lower.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    let middle = (values.len() - 1) / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

    use super::*;
    use crate::judge::stat::{self, Correlation};

    /// Latencies of 3 to 5 ms, half as much again in the last quarter, as a shared machine has them.
    fn shifted() -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        (0..3_600)
            .map(|n| {
                let level = if n < 2_700 { 1.0 } else { 1.5 };
                let part = (rng.next_u64() >> 11) as f64 / 9_007_199_254_740_992.0;
                level * (0.003 + 0.002 * part)
            })
            .collect()
    }

    fn passes(latencies: &[f64], limit: f64, with_paces: bool) -> bool {
        let n = latencies.len();
        let good = latencies.iter().filter(|l| **l <= limit).count() as u64;
        let mut correlation =
            Correlation::new(correlation::of_latencies(latencies), n as f64, 0.95);
        if with_paces {
            correlation.slowest = Paces::of(latencies)
                .map(|paces| paces.against(|i| latencies[i] > limit, limit, 0.95));
        }
        stat::p_met_by(good, n as u64, 0, 0.99, correlation) <= 0.05
    }

    #[test]
    fn a_shift_of_the_level_far_from_the_limit_decides_nothing() {
        let latencies = shifted();
        assert!(!passes(&latencies, 0.5, false), "the shift alone undid it");
        assert!(passes(&latencies, 0.5, true));
    }

    #[test]
    fn a_shift_that_could_reach_the_limit_is_not_taken_out() {
        let latencies = shifted();
        // 7.5 ms at most as it was; some 12 ms if the machine had slowed down once more.
        assert!(!passes(&latencies, 0.008, true));
        assert!(!passes(&latencies, 0.010, true));
        assert!(passes(&latencies, 0.015, true));
    }

    #[test]
    fn what_would_be_bad_may_all_be_of_the_part_that_a_backend_counts() {
        // Half a hundredth of all requests would be bad; the backend counts one request in ten.
        let slowest = Slowest {
            at_most: 1.0,
            more_bad: 0.005,
        };
        let met = |slowest| {
            let correlation = Correlation {
                time: 1_000.0,
                at_most: 1_000.0,
                slowest: Some(slowest),
                ..Correlation::none(3_600.0)
            };
            stat::p_met_by(3_600, 3_600, 0, 0.99, correlation) <= 0.05
        };
        assert!(met(slowest), "as a share of all of them it would pass");
        let part = slowest.of_events(3_600.0, 36_000.0, 0.0);
        assert!((part.more_bad - 0.05).abs() < 1e-12 && part.at_most == 1.0);
        assert!(!met(part));
        // Several events a request: all of them are bad, and they are worth no more than the requests.
        let spans = slowest.of_events(7_200.0, 3_600.0, 18.0);
        assert!((spans.more_bad - 0.01).abs() < 1e-12 && spans.at_most == 2.0);
        assert_eq!(slowest.of_events(0.0, 0.0, 0.0).more_bad, 0.0);
        assert_eq!(slowest.of_events(1.0, 3_600.0, 0.0).more_bad, 1.0);
    }

    #[test]
    fn requests_without_an_answer_stay_bad() {
        let mut latencies = shifted();
        for i in (0..3_600).step_by(50) {
            latencies[i] = f64::INFINITY;
        }
        let paces = Paces::of(&latencies).unwrap();
        let slowest = paces.against(|i| latencies[i].is_infinite(), 2.0, 0.95);
        assert_eq!(slowest.more_bad, 0.0);
        assert!(!passes(&latencies, 2.0, true), "2 % are bad");
        latencies[..200].fill(f64::INFINITY);
        assert!(Paces::of(&latencies).is_none());
    }

    #[test]
    fn too_few_requests_tell_no_paces() {
        assert!(Paces::of(&[0.004; 299]).is_none());
        assert!(Paces::of(&[0.004; 300]).is_some());
        assert!(Paces::of(&[]).is_none());
        assert!(Paces::of(&[0.0; 1_000]).is_none());
    }
}
