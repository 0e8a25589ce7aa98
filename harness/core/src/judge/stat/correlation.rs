//! How much requests that follow each other are worth: the integrated autocorrelation time.
//!
//! Neighbours in a queue share its length, so that 3,000 requests may say no more than 300
//! independent ones would. The variance of a mean over correlated values is that over independent
//! ones times `τ = 1 + 2 Σ ρ(k)`; dividing both counts by `τ` gives the Beta form of the bounds what
//! it needs.
//!
//! `τ` is estimated from latencies, not from misses alone: a run without a miss would seem
//! independent whatever its queue did. As posterior's bulk and tail effective sample sizes do
//! (Vehtari, Gelman, Simpson, Carpenter and Bürkner, *Bayesian Analysis* 16, 2021), the larger one is
//! taken of two series: the ranks of all latencies, which need no moments and take a request without
//! an answer as the slowest; and whether a latency is among the slowest tenth, since slow requests
//! may cluster where the bulk does not. Where there are misses, theirs is the third, and in a long run
//! that of its tail ([`of_tail`]).
//!
//! The sum over lags is cut where Geyer's initial monotone sequence (*Statistical Science* 7, 1992)
//! ends: at the first pair of neighbouring lags that does not add up to more than 0.
//!
//! In a long run the bulk wanders with the machine, over minutes, where no limit is near: by its ranks a
//! million requests may be worth twenty. What an objective counts is the tail, and of a long run's tail
//! enough has been seen to ask it alone, as [`super::pace`] does. Its clusters may themselves come and go over
//! times that the sum over lags cannot see among so few events, so that the variance of the shares of
//! whole blocks of the run is asked, too, and the larger answer taken.

use statrs::distribution::{ContinuousCDF, Normal};

use super::pace::Slowest;

/// Pairs of lags looked at before the series is halved by taking means of neighbours. Halving keeps
/// the work linear, however long the correlation.
const PAIRS: usize = 50;

/// Which share of the error that an objective allows may come from `τ` being estimated too low.
const SHARE_OF_ERROR: f64 = 0.1;

/// A run shorter than this many correlation times tells its `τ` badly; see [`Correlation::few`].
const FEW: f64 = 10.0;

/// The correlation of a series of requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correlation {
    /// Estimate of `τ` in requests: so many in a row are worth one independent one. At least 1.
    pub time: f64,
    /// What `τ` is at most, at the confidence asked for. At least `time`.
    pub at_most: f64,
    /// Length of the series.
    pub n: f64,
    /// What the run is worth at its slowest pace, where that is known; a pass may rest on it instead.
    pub slowest: Option<Slowest>,
}

impl Correlation {
    /// Independent requests.
    #[must_use]
    pub fn none(n: f64) -> Self {
        Self {
            time: 1.0,
            at_most: 1.0,
            n,
            slowest: None,
        }
    }

    /// The correlation of `blocks` blocks that the series is cut into: what ties requests together over
    /// less than a block's length ties no blocks.
    #[must_use]
    pub fn of_blocks(self, blocks: f64) -> Self {
        let length = (self.n / blocks.max(1.0)).max(1.0);
        Self {
            time: (self.time / length).max(1.0),
            at_most: (self.at_most / length).max(1.0),
            n: blocks,
            slowest: None,
        }
    }

    /// From an estimate of `τ` (less than 1 counts as 1) over a series of `n`, with its upper limit
    /// at a tenth of the error that `confidence` leaves.
    ///
    /// The limit follows Madras and Sokal (*J. Stat. Phys.* 50, 1988): the relative variance of the
    /// estimate is about `2 (2M + 1) / n` for a window of `M` lags, taken here as `5/2 (τ - 1)`: a
    /// series without correlation needs no window, and has no error from one.
    #[must_use]
    pub fn new(time: f64, n: f64, confidence: f64) -> Self {
        let time = time.max(1.0);
        let error = (10.0 * (time - 1.0) / n.max(1.0)).sqrt();
        Self {
            time,
            at_most: time * (1.0 + above(confidence) * error),
            n,
            slowest: None,
        }
    }

    /// The ways to a pass: at most so many requests in a row are worth one, and this share of all is taken
    /// as bad beside those that were. The run as it was, and at its slowest pace.
    pub(super) fn ways(self) -> impl Iterator<Item = (f64, f64)> {
        let slowest = self.slowest.map(|s| (s.at_most, s.more_bad));
        std::iter::once((self.at_most, 0.0)).chain(slowest)
    }

    /// Whether a pass of so many rests on the run at its slowest pace: there the lower bound is higher.
    #[must_use]
    pub fn rests_on_slowest(self, good: f64, total: f64, confidence: f64) -> Option<Slowest> {
        let slowest = self.slowest?;
        let least = |at_most: f64, more_bad: f64| {
            let good = (good - more_bad * total).max(0.0);
            super::bounds(good / at_most, total / at_most, confidence).lower
        };
        (least(slowest.at_most, slowest.more_bad) > least(self.at_most, 0.0)).then_some(slowest)
    }

    /// Whether the series is too short against its own correlation to tell it well.
    #[must_use]
    pub fn few(self) -> bool {
        self.n < FEW * self.time
    }
}

/// So many standard errors above an estimate of `τ` lies its upper limit.
fn above(confidence: f64) -> f64 {
    Normal::standard().inverse_cdf(1.0 - SHARE_OF_ERROR * (1.0 - confidence))
}

/// `τ` of latencies in the order in which their requests were due; infinite for a request without an
/// answer. 1 where nothing varies.
#[must_use]
pub fn of_latencies(latencies: &[f64]) -> f64 {
    let ranks = ranks(latencies);
    // The slowest tenth by rank, so that ties fall on one side together.
    let edge = 0.9 * latencies.len() as f64;
    let slow: Vec<f64> = ranks.iter().map(|r| f64::from(*r >= edge)).collect();
    // Rare stalls are seen by neither.
    let tail = of_tail(latencies).map_or(1.0, |tail| tail.time);
    of(ranks).max(of(slow)).max(tail)
}

/// `τ` of a series of yes and no. 1 where nothing varies.
#[must_use]
pub fn of_events(events: impl IntoIterator<Item = bool>) -> f64 {
    of(events.into_iter().map(f64::from).collect())
}

/// Fewer requests do not tell their tail.
const TAIL_FROM: usize = 10_000;
/// Clusters of slow requests that have to be seen before they stand for the tail.
const CLUSTERS: f64 = 30.0;
/// Shares of the slowest that are looked at.
const TAILS: [f64; 4] = [0.1, 0.01, 0.001, 0.000_1];
/// Numbers of blocks that a series is cut into.
const BLOCKS: [usize; 3] = [20, 50, 100];

/// The correlation of the slowest requests of a long run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tail {
    /// Estimate of their `τ` in requests.
    pub time: f64,
    /// How many independent clusters of them the run holds, by that estimate.
    pub clusters: f64,
}

impl Tail {
    /// What `τ` is at most, at a tenth of the error that `confidence` leaves: the relative variance of an
    /// estimate by a number of independent clusters is about 2 over that number.
    #[must_use]
    pub fn at_most(self, confidence: f64) -> f64 {
        self.time * (1.0 + above(confidence) * (2.0 / self.clusters).sqrt())
    }
}

/// `τ` of the least share of slowest requests that came in enough clusters: being slow there is as near to
/// missing a limit as the run can tell. `None` in short runs, and where no share did, as in a queue that
/// swings slower than the run could see.
#[must_use]
pub fn of_tail(latencies: &[f64]) -> Option<Tail> {
    if latencies.len() < TAIL_FROM {
        return None;
    }
    let ranks = ranks(latencies);
    let tails = TAILS.iter().rev().map(|share| {
        let edge = (1.0 - share) * latencies.len() as f64;
        let slow: Vec<f64> = ranks.iter().map(|r| f64::from(*r >= edge)).collect();
        let count: f64 = slow.iter().sum();
        let time = over_all_lengths(slow);
        Tail {
            time,
            clusters: count / time,
        }
    });
    tails.into_iter().find(|tail| tail.clusters >= CLUSTERS)
}

/// [`of_events`] for a run of which [`of_tail`] is asked: by blocks, too, if it is long.
#[must_use]
pub fn of_events_over_all_lengths(events: impl IntoIterator<Item = bool>) -> f64 {
    let values: Vec<f64> = events.into_iter().map(f64::from).collect();
    match values.len() {
        ..TAIL_FROM => of(values),
        _ => over_all_lengths(values),
    }
}

/// The larger of `τ` by lags and by the variance of the means of blocks (batch means, as in Geyer 1992).
fn over_all_lengths(values: Vec<f64>) -> f64 {
    let by_blocks = BLOCKS.map(|count| by_blocks(&values, count));
    by_blocks.into_iter().fold(of(values), f64::max)
}

fn by_blocks(values: &[f64], count: usize) -> f64 {
    let variance = |values: &[f64], less: usize| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - less as f64)
    };
    let length = values.len() / count;
    let of_one = variance(values, 0);
    if length == 0 || of_one <= 0.0 {
        return 1.0;
    }
    let means: Vec<f64> = values
        .chunks_exact(length)
        .take(count)
        .map(|block| block.iter().sum::<f64>() / length as f64)
        .collect();
    (variance(&means, 1) * length as f64 / of_one).max(1.0)
}

/// `τ` of any series, at least 1; 1 where nothing varies or there is nothing.
fn of(mut values: Vec<f64>) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    values.iter_mut().for_each(|v| *v -= mean);
    let variance = covariance(&values, 0);
    // Rounding leaves a trace of variance in a series of equal values.
    if variance.is_nan() || variance <= 1e-12 * (mean * mean).max(1e-300) {
        return 1.0;
    }
    // The long-run variance of means of two is half that of the values.
    let mut scale = 1.0;
    loop {
        let (sum, ended) = positive_pairs(&values);
        if ended || values.len() < 4 * PAIRS {
            let long_run = 2.0 * sum - covariance(&values, 0);
            return (long_run * scale / variance).max(1.0);
        }
        values = values
            .chunks_exact(2)
            .map(|pair| f64::midpoint(pair[0], pair[1]))
            .collect();
        scale *= 2.0;
    }
}

/// Sum of Geyer's initial monotone sequence, and whether it ended within [`PAIRS`].
fn positive_pairs(values: &[f64]) -> (f64, bool) {
    let (mut sum, mut before) = (0.0, f64::INFINITY);
    for pair in 0..PAIRS {
        if 2 * pair + 1 >= values.len() {
            return (sum, true);
        }
        let both = covariance(values, 2 * pair) + covariance(values, 2 * pair + 1);
        if both <= 0.0 {
            return (sum, true);
        }
        before = both.min(before);
        sum += before;
    }
    (sum, false)
}

/// Autocovariance at a lag, of values whose mean is 0, over the full length (which keeps the sequence
/// positive definite).
fn covariance(values: &[f64], lag: usize) -> f64 {
    let products = values.iter().zip(&values[lag..]).map(|(a, b)| a * b);
    products.sum::<f64>() / values.len() as f64
}

/// Ranks from 0, ties at their mean.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut from = 0;
    for tie in order.chunk_by(|a, b| values[*a].total_cmp(&values[*b]).is_eq()) {
        let mean = from as f64 + (tie.len() - 1) as f64 / 2.0;
        tie.iter().for_each(|place| ranks[*place] = mean);
        from += tie.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

    use super::*;

    fn uniform(rng: &mut ChaCha8Rng) -> f64 {
        (rng.next_u64() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    /// A first-order autoregression, whose `τ` is `(1 + a) / (1 - a)`.
    fn autoregression(a: f64, n: usize) -> Vec<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut x = 0.0;
        (0..n)
            .map(|_| {
                // Twelve uniforms make a normal one, near enough.
                let noise = (0..12).map(|_| uniform(&mut rng)).sum::<f64>() - 6.0;
                x = a * x + noise;
                x
            })
            .collect()
    }

    #[test]
    fn the_time_of_an_autoregression_is_found() {
        for (a, n) in [(0.0, 20_000), (0.5, 20_000), (0.9, 50_000), (0.98, 200_000)] {
            let truth = (1.0 + a) / (1.0 - a);
            let found = of(autoregression(a, n));
            assert!(
                (0.85 * truth..1.2 * truth).contains(&found),
                "{a}: {found} for {truth}"
            );
        }
    }

    #[test]
    fn halving_a_long_series_changes_little() {
        // 50 pairs reach lag 100; here the correlation reaches some 500.
        let found = of(autoregression(0.99, 100_000));
        assert!((150.0..250.0).contains(&found), "{found}");
    }

    #[test]
    fn what_does_not_vary_is_worth_its_number() {
        assert_eq!(of_latencies(&[]), 1.0);
        assert_eq!(of_latencies(&[0.008; 1_000]), 1.0);
        assert_eq!(of_latencies(&[f64::INFINITY; 1_000]), 1.0);
        assert_eq!(of_events([true; 100]), 1.0);
        assert_eq!(of_latencies(&[1.0]), 1.0);
    }

    #[test]
    fn alternation_never_makes_more_of_a_sample_than_it_is() {
        let values: Vec<f64> = (0..1_000).map(|n| f64::from(n % 2)).collect();
        assert_eq!(of_latencies(&values), 1.0);
    }

    #[test]
    fn heavy_tails_and_missing_answers_do_not_upset_it() {
        let mut values = autoregression(0.9, 20_000);
        let plain = of_latencies(&values);
        values.iter_mut().for_each(|v| *v = v.sinh());
        let heavy = of_latencies(&values);
        assert!((plain - heavy).abs() < 1e-9, "{plain} {heavy}");
        // Timeouts where it is slowest: the same order, with ties at the top.
        let limit = 100.0;
        values
            .iter_mut()
            .filter(|v| **v > limit)
            .for_each(|v| *v = f64::INFINITY);
        assert!(of_latencies(&values) > 0.7 * plain);
    }

    #[test]
    fn one_outage_is_little_more_than_one_event() {
        let time = of_events((0..1_200).map(|n| n < 600));
        assert!((350.0..450.0).contains(&time), "{time}");
    }

    #[test]
    fn a_bulk_that_wanders_says_nothing_of_a_tail_that_does_not() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        // The level doubles over minutes; a stall of fifty requests comes now and then, whatever the level.
        let latencies: Vec<f64> = (0..200_000)
            .map(|n| {
                let level = 1.5 + (f64::from(n) / 30_000.0).sin() / 2.0;
                let stalled = f64::from((n / 50) * 7919 % 97 == 0);
                level * (1.0 + uniform(&mut rng)) + 50.0 * stalled
            })
            .collect();
        assert!(of_latencies(&latencies) > 10_000.0);
        let tail = of_tail(&latencies).unwrap();
        assert!((30.0..150.0).contains(&tail.time), "{tail:?}");
        assert!(tail.at_most(0.95) > tail.time && tail.clusters >= CLUSTERS);
        assert!(of_tail(&latencies[..9_999]).is_none());
        assert!(of_tail(&[0.1; 20_000]).is_none());
    }

    #[test]
    fn rare_stalls_count_in_a_long_run_though_the_bulk_is_independent() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        // A stall of a hundred requests now and then: half a hundredth of all, too few for ranks and tenth.
        let mut stalled = false;
        let latencies: Vec<f64> = (0..300_000)
            .map(|n| {
                if n % 100 == 0 {
                    stalled = uniform(&mut rng) < 0.005;
                }
                uniform(&mut rng) + 10.0 * f64::from(stalled)
            })
            .collect();
        assert!(of(ranks(&latencies)) < 5.0);
        assert!(of_latencies(&latencies) > 25.0);
    }

    #[test]
    fn clusters_that_come_and_go_are_seen_by_blocks() {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        // Stalls of fifty requests, three times as many in every second stretch of forty thousand.
        let mut stalled = false;
        let events: Vec<bool> = (0..400_000)
            .map(|n| {
                if n % 50 == 0 {
                    let often = if n / 40_000 % 2 == 0 { 0.005 } else { 0.015 };
                    stalled = uniform(&mut rng) < often;
                }
                stalled
            })
            .collect();
        let by_lags = of_events(events.iter().copied());
        let by_all = of_events_over_all_lengths(events);
        assert!(by_all > 1.2 * by_lags, "{by_lags} {by_all}");
    }

    #[test]
    fn a_tail_in_few_clusters_is_not_believed() {
        // One slow tenth in one piece.
        let latencies: Vec<f64> = (0..50_000)
            .map(|n| f64::from(n % 10) + if n < 5_000 { 100.0 } else { 0.0 })
            .collect();
        let believed = of_tail(&latencies);
        assert!(
            believed.is_none_or(|tail| tail.time > 300.0),
            "{believed:?}"
        );
    }

    #[test]
    fn the_limit_is_above_the_estimate_and_closes_in_on_it() {
        let limit = |n| Correlation::new(5.0, n, 0.95).at_most;
        assert!(limit(300.0) > limit(3_000.0) && limit(3_000.0) > 5.0);
        assert!(Correlation::new(5.0, 3_000.0, 0.99).at_most > limit(3_000.0));
        assert_eq!(Correlation::new(0.5, 300.0, 0.95), Correlation::none(300.0));
        assert!(Correlation::new(40.0, 300.0, 0.95).few());
    }
}
