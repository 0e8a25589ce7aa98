//! Services whose truth is known, and what the judge's statistics say of their runs.
//!
//! A latency is exponential, with mean 1 where requests are independent; in the M/M/1 queue the sojourn
//! time is exponential, too (with rate `1 - ρ` at a service rate of 1), so that the limit that any share
//! of requests exceeds is known in closed form, whatever the correlation.

use std::fmt;

use harness_core::judge::stat::pace::Paces;
use harness_core::judge::stat::{self, Correlation, correlation};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// What answers the requests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Service {
    /// Every request for itself: Bernoulli trials.
    Independent,
    /// One server with a queue, at this utilisation.
    Queue(f64),
    /// Requests for themselves on a machine that is now fast, now at half its speed, for so many requests
    /// on average each time.
    TwoSpeeds(f64),
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Independent => f.write_str("independent"),
            Self::Queue(load) => write!(f, "M/M/1 at {load}"),
            Self::TwoSpeeds(stay) => write!(f, "two speeds, {stay} requests each"),
        }
    }
}

fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    ((rng.next_u64() >> 11) as f64 + 0.5) / 9_007_199_254_740_992.0
}

fn exponential(rng: &mut ChaCha8Rng, rate: f64) -> f64 {
    -uniform(rng).ln() / rate
}

impl Service {
    /// The limit that a share of requests exceeds.
    pub(crate) fn limit(self, exceed: f64) -> f64 {
        match self {
            Self::Independent => -exceed.ln(),
            Self::Queue(load) => -exceed.ln() / (1.0 - load),
            // exceed = (e^-x + e^-x/2) / 2, a quadratic in e^-x/2.
            Self::TwoSpeeds(_) => -2.0 * (((1.0 + 8.0 * exceed).sqrt() - 1.0) / 2.0).ln(),
        }
    }

    /// Latencies of requests in their order, from a service in its steady state.
    pub(crate) fn latencies(self, n: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let load = match self {
            Self::Independent => return (0..n).map(|_| exponential(rng, 1.0)).collect(),
            Self::TwoSpeeds(stay) => return two_speeds(n, stay, rng),
            Self::Queue(load) => load,
        };
        let mut wait = if uniform(rng) < load {
            exponential(rng, 1.0 - load)
        } else {
            0.0
        };
        (0..n)
            .map(|_| {
                let work = exponential(rng, 1.0);
                let latency = wait + work;
                // Lindley: what is left of the work when the next one arrives.
                wait = (latency - exponential(rng, load)).max(0.0);
                latency
            })
            .collect()
    }
}

fn two_speeds(n: usize, stay: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut slow = uniform(rng) < 0.5;
    (0..n)
        .map(|_| {
            slow ^= uniform(rng) < 1.0 / stay;
            exponential(rng, if slow { 0.5 } else { 1.0 })
        })
        .collect()
}

/// A share of runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) count: usize,
    pub(crate) of: usize,
}

impl Share {
    pub(crate) fn value(self) -> f64 {
        self.count as f64 / self.of as f64
    }

    /// Standard error.
    #[allow(dead_code, reason = "one of the two users prints it")]
    pub(crate) fn error(self) -> f64 {
        (self.value() * (1.0 - self.value()) / self.of as f64).sqrt()
    }
}

/// How many of many runs passed and failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    pub(crate) passes: Share,
    pub(crate) fails: Share,
    /// Without Holm's correction.
    #[allow(dead_code, reason = "one of the two users prints it")]
    pub(crate) fails_uncorrected: Share,
}

/// One objective's chances: that so many good ones come of a service on its target, and so few.
fn chances(latencies: &[f64], limit: f64, target: f64, confidence: f64) -> (f64, f64) {
    let good = latencies.iter().filter(|l| **l <= limit).count() as u64;
    let total = latencies.len() as u64;
    let own = correlation::of_events(latencies.iter().map(|l| *l <= limit));
    let time = own.max(correlation::of_latencies(latencies));
    let slowest = Paces::of(latencies)
        .map(|paces| paces.against(|i| latencies[i] > limit, limit, confidence));
    let correlation = Correlation {
        slowest,
        ..Correlation::new(time, total as f64, confidence)
    };
    (
        stat::p_met_by(good, total, 0, target, correlation),
        stat::p_missed_by(good, total, target, correlation),
    )
}

/// Judges many runs of as many independent services as there are targets, each of which misses `misses`
/// times what its target allows, as the judge does: a pass needs all at full confidence, a fail any by
/// Holm.
pub(crate) fn judge_many(
    service: Service,
    requests: usize,
    targets: &[f64],
    misses: f64,
    runs: usize,
    seed: u64,
) -> Judged {
    const CONFIDENCE: f64 = 0.95;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let alpha = 1.0 - CONFIDENCE;
    let (mut passes, mut fails, mut uncorrected) = (0, 0, 0);
    // All sit on the same limit: that of the first target.
    let limit = service.limit((1.0 - targets[0]) * misses);
    for _ in 0..runs {
        let p: Vec<(f64, f64)> = targets
            .iter()
            .map(|target| {
                let latencies = service.latencies(requests, &mut rng);
                chances(&latencies, limit, *target, CONFIDENCE)
            })
            .collect();
        let missed: Vec<f64> = p.iter().map(|(_, missed)| *missed).collect();
        passes += usize::from(p.iter().all(|(met, _)| *met <= alpha));
        uncorrected += usize::from(missed.iter().any(|p| *p < alpha));
        fails += usize::from(stat::holm(&missed).iter().any(|p| *p < alpha));
    }
    let share = |count| Share { count, of: runs };
    Judged {
        passes: share(passes),
        fails: share(fails),
        fails_uncorrected: share(uncorrected),
    }
}

/// Median number of requests after which a run passes, looked at in steps of 5 % (of ten requests below two
/// hundred), when a fifth of the misses that the target allows happen. Capped at 100,000.
#[allow(dead_code, reason = "one of the two users prints it")]
pub(crate) fn requests_to_decide(
    service: Service,
    target: f64,
    confidence: f64,
    runs: usize,
    seed: u64,
) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let limit = service.limit((1.0 - target) * 0.2);
    let mut found: Vec<usize> = (0..runs)
        .map(|_| {
            let all = service.latencies(100_000, &mut rng);
            let mut n = 20;
            while n < all.len() {
                if chances(&all[..n], limit, target, confidence).0 <= 1.0 - confidence {
                    return n;
                }
                n += if n < 200 { 10 } else { n / 20 };
            }
            all.len()
        })
        .collect();
    found.sort_unstable();
    found[found.len() / 2]
}
