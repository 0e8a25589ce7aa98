//! How sure a ratio is: one-sided Clopper–Pearson bounds, and how many more requests would decide.
//!
//! The bounds are exact: their error is never above `1 - confidence`, at any number of requests. They
//! are written in their Beta form, which takes real numbers, so that the effective sample size, smaller
//! than the count where requests are correlated ([`correlation`]), is put in as it is.
//!
//! The regularised incomplete beta function is our own continued fraction: the one of statrs ends
//! after 140 terms without saying so, which is too few near the mean from some 20,000 requests on.

use statrs::function::gamma::ln_gamma;

pub mod correlation;
pub mod pace;

pub use correlation::Correlation;

/// One-sided bounds of a share, each at its own confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The share is at least this.
    pub lower: f64,
    /// The share is at most this.
    pub upper: f64,
}

/// Most terms of the continued fraction; it takes about the square root of the number of requests.
const TERMS: u32 = 200_000;
/// Most further requests that are worth telling people about.
const MOST_MORE: u64 = 1 << 40;

/// Clopper–Pearson bounds of `good / total`, each at `confidence` (0.5 to 1). With no requests: 0 and 1.
#[must_use]
pub fn bounds(good: f64, total: f64, confidence: f64) -> Bounds {
    if total <= 0.0 {
        return Bounds {
            lower: 0.0,
            upper: 1.0,
        };
    }
    let alpha = 1.0 - confidence;
    let bad = total - good;
    Bounds {
        lower: if good <= 0.0 {
            0.0
        } else {
            inverse(good, bad + 1.0, alpha)
        },
        upper: if bad <= 0.0 {
            1.0
        } else {
            inverse(good + 1.0, bad, confidence)
        },
    }
}

/// Chance to see at least this many good ones if the share were exactly `target`: small when the
/// target is surely met. At or under `1 - confidence` exactly when the lower bound reaches the target.
#[must_use]
pub fn p_met(good: f64, total: f64, target: f64) -> f64 {
    if good <= 0.0 {
        return 1.0;
    }
    beta_reg(good, total - good + 1.0, target)
}

/// Chance to see at most this many good ones if the share were exactly `target`: small when the
/// target is surely missed. Under `1 - confidence` exactly when the upper bound is under the target.
#[must_use]
pub fn p_missed(good: f64, total: f64, target: f64) -> f64 {
    if good >= total {
        return 1.0;
    }
    1.0 - beta_reg(good + 1.0, total - good, target)
}

/// [`p_met`] of so many counted requests, `unseen` more taken as bad, at what they are worth at least: as
/// the run was or at its slowest pace, whichever shows more.
#[must_use]
pub fn p_met_by(good: u64, total: u64, unseen: u64, target: f64, correlation: Correlation) -> f64 {
    let (good, total) = (good as f64, total as f64);
    let ways = correlation.ways().map(|(least, more_bad)| {
        let good = (good - more_bad * total).max(0.0);
        p_met(good / least, (total + unseen as f64) / least, target)
    });
    ways.fold(1.0, f64::min)
}

/// [`p_missed`] of so many counted requests, at what they are worth by the estimate.
///
/// The estimate, not its limit: misses in few clusters already make it large (calibrated on queues by the
/// example `calibrate`). Only where the run is too short to tell ([`Correlation::few`]) the chance is
/// taken four times, which calibration asks for.
#[must_use]
pub fn p_missed_by(good: u64, total: u64, target: f64, correlation: Correlation) -> f64 {
    let p = p_missed(
        good as f64 / correlation.time,
        total as f64 / correlation.time,
        target,
    );
    if correlation.few() {
        (4.0 * p).min(1.0)
    } else {
        p
    }
}

/// Bounds of a share over correlated requests: the lower one at what they are worth at least, the upper
/// one by the estimate, as [`p_met_by`] and [`p_missed_by`] have it.
#[must_use]
pub fn bounds_by(good: u64, total: u64, confidence: f64, correlation: Correlation) -> Bounds {
    let (good, total, time) = (good as f64, total as f64, correlation.time);
    let ways = correlation.ways().map(|(least, more_bad)| {
        let good = (good - more_bad * total).max(0.0);
        bounds(good / least, total / least, confidence).lower
    });
    Bounds {
        lower: ways.fold(0.0, f64::max),
        upper: bounds(good / time, total / time, confidence).upper,
    }
}

/// How many more requests would decide if the share and the correlation stayed as they are, with `unseen`
/// taken as bad for a pass: `None` when no number that could be sent would.
#[must_use]
pub fn more_to_decide(
    good: u64,
    total: u64,
    unseen: u64,
    target: f64,
    confidence: f64,
    correlation: Correlation,
) -> Option<u64> {
    let share = good as f64 / (total as f64).max(1.0);
    let decided = |more: u64| {
        let n = total as f64 + more as f64;
        // Misses come whole: rounding them up is what the luckless case would be.
        let bad = ((1.0 - share) * n).ceil().min(n);
        let (time, alpha) = (correlation.time, 1.0 - confidence);
        correlation.ways().any(|(least, more_bad)| {
            let good = (n - bad - (more_bad * n).ceil()).max(0.0);
            p_met(good / least, (n + unseen as f64) / least, target) <= alpha
        }) || p_missed((n - bad) / time, n / time, target) < alpha
    };
    let mut high = 1_u64;
    while !decided(high) {
        high *= 2;
        if high > MOST_MORE {
            return None;
        }
    }
    // Decidedness is not quite monotone (misses come whole), so bisection finds one border, not
    // always the first; good enough for advice.
    let mut low = high / 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if decided(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(high)
}

/// Holm's step-down correction: `p` values adjusted so that comparing each with its own `1 - confidence`
/// keeps the chance of any wrong finding among them at that. Order kept.
#[must_use]
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut so_far: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        so_far = so_far.max(p[index] * (p.len() - rank) as f64).min(1.0);
        adjusted[index] = so_far;
    }
    adjusted
}

/// `x` with `I_x(a, b) = p`, by bisection to the last bit that matters.
fn inverse(a: f64, b: f64, p: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..200 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if beta_reg(a, b, middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// The regularised incomplete beta function `I_x(a, b)`, for `a, b > 0`. Continued fraction by
/// Lentz's method (Abramowitz and Stegun 26.5.8, in the faster-converging half).
fn beta_reg(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        (front * fraction(a, b, x) / a).clamp(0.0, 1.0)
    } else {
        (1.0 - front * fraction(b, a, 1.0 - x) / b).clamp(0.0, 1.0)
    }
}

fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let sound = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / sound(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for term in 1..TERMS {
        let m = f64::from(term);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / sound(1.0 + even * d);
        c = sound(1.0 + even / c);
        result *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / sound(1.0 + odd * d);
        c = sound(1.0 + odd / c);
        let step = d * c;
        result *= step;
        if (step - 1.0).abs() <= 1e-15 {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `P(X <= k)` for a binomial, summed term by term: slow, and independent of any beta function.
    fn binomial_cdf(k: u64, n: u64, p: f64) -> f64 {
        let mut ln_term = n as f64 * (-p).ln_1p();
        let mut sum = ln_term.exp();
        for i in 1..=k {
            ln_term += ((n - i + 1) as f64 / i as f64).ln() + p.ln() - (-p).ln_1p();
            sum += ln_term.exp();
        }
        sum
    }

    fn passes(good: u64, total: u64, target: f64, confidence: f64) -> bool {
        bounds(good as f64, total as f64, confidence).lower >= target
    }

    #[test]
    fn known_floors_hold_to_the_request() {
        assert!(passes(299, 299, 0.99, 0.95));
        assert!(!passes(298, 298, 0.99, 0.95));
        assert!(passes(2_995, 2_995, 0.999, 0.95));
        assert!(!passes(2_994, 2_994, 0.999, 0.95));
        // MLPerf's: one miss at 99 %.
        assert!(passes(661, 662, 0.99, 0.99));
        assert!(!passes(660, 661, 0.99, 0.99));
        assert!(passes(6_635, 6_636, 0.999, 0.99));
        assert!(!passes(6_634, 6_635, 0.999, 0.99));
    }

    #[test]
    fn bounds_agree_with_the_binomial_sum_where_statrs_does_not_converge() {
        for (good, total) in [
            (500_u64, 1_000_u64),
            (60_000, 120_000),
            (990_000, 1_000_000),
        ] {
            let bounds = bounds(good as f64, total as f64, 0.95);
            let bad = total - good;
            // At the lower bound of the good share, that few misses have chance 5 %.
            let at_lower = binomial_cdf(bad, total, 1.0 - bounds.lower);
            assert!((at_lower - 0.05).abs() < 1e-6, "{good}/{total}: {at_lower}");
            let at_upper = 1.0 - binomial_cdf(bad - 1, total, 1.0 - bounds.upper);
            assert!((at_upper - 0.05).abs() < 1e-6, "{good}/{total}: {at_upper}");
        }
    }

    #[test]
    fn nothing_seen_says_nothing() {
        let none = bounds(0.0, 0.0, 0.95);
        assert_eq!((none.lower, none.upper), (0.0, 1.0));
        assert_eq!(p_met(0.0, 0.0, 0.99), 1.0);
        assert_eq!(p_missed(0.0, 0.0, 0.99), 1.0);
    }

    #[test]
    fn advice_is_the_floor() {
        let alone = Correlation::none(100.0);
        assert_eq!(more_to_decide(100, 100, 0, 0.99, 0.95, alone), Some(199));
        // A share that sits on the target is never decided.
        assert_eq!(more_to_decide(99, 100, 0, 0.99, 0.95, alone), None);
        // Three in a row worth one: three times as many, and no rounding up to whole ones.
        let three = Correlation {
            time: 3.0,
            at_most: 3.0,
            ..Correlation::none(100.0)
        };
        assert_eq!(more_to_decide(100, 100, 0, 0.99, 0.95, three), Some(795));
    }

    #[test]
    fn holm_by_hand() {
        let adjusted = holm(&[0.01, 0.04, 0.03]);
        let expected = [0.03, 0.06, 0.06];
        for (a, e) in adjusted.iter().zip(expected) {
            assert!((a - e).abs() < 1e-12, "{adjusted:?}");
        }
        assert!(holm(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn bounds_hold_the_share_and_agree_with_the_p_values(
            total in 1_u64..50_000, part in 0.0_f64..=1.0, target in 0.01_f64..0.9999, confidence in 0.8_f64..0.999,
        ) {
            let good = (part * total as f64) as u64;
            let (g, n) = (good as f64, total as f64);
            let b = bounds(g, n, confidence);
            prop_assert!(b.lower <= g / n && g / n <= b.upper, "{b:?}");
            let alpha = 1.0 - confidence;
            // Right at the border rounding may decide either way; elsewhere both ways must agree.
            if (b.lower - target).abs() > 1e-9 {
                prop_assert_eq!(b.lower >= target, p_met(g, n, target) <= alpha);
            }
            if (b.upper - target).abs() > 1e-9 {
                prop_assert_eq!(b.upper < target, p_missed(g, n, target) < alpha);
            }
        }

        #[test]
        fn more_good_ones_never_lower_a_bound(total in 2_u64..5_000, part in 0.0_f64..1.0) {
            let good = (part * (total - 1) as f64) as u64;
            let (a, b) = (
                bounds(good as f64, total as f64, 0.95),
                bounds(good as f64 + 1.0, total as f64, 0.95),
            );
            prop_assert!(b.lower >= a.lower && b.upper >= a.upper);
        }

        #[test]
        fn holm_never_helps(p in proptest::collection::vec(0.0_f64..1.0, 0..8)) {
            for (raw, adjusted) in p.iter().zip(holm(&p)) {
                prop_assert!(adjusted >= *raw);
            }
        }
    }
}
