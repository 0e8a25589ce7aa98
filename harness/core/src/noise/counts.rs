//! Two counts of bad events, each among many: how far apart are the shares?
//!
//! Counts may be real numbers, so that they can be made smaller for the dependence of requests.

use crate::judge::stat::{self, Bounds};

/// Bad events among all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Count {
    /// Bad ones.
    pub(crate) bad: f64,
    /// All.
    pub(crate) total: f64,
}

impl Count {
    /// Both numbers made smaller by the same factor.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self {
            bad: self.bad * factor,
            total: self.total * factor,
        }
    }

    /// The share of bad ones; `None` without events.
    pub(crate) fn share(self) -> Option<f64> {
        (self.total > 0.0).then(|| self.bad / self.total)
    }
}

/// One-sided bounds, each at `confidence`, of the bad share of `now` over that of `then`. From 0 to
/// infinity when neither has a bad event.
///
/// Exact for rare events: given their sum, the bad ones of `now` are binomial with
/// `θ = r·n₁ / (r·n₁ + n₀)` (Przyborowski and Wilenski 1940). For shares that are not small this
/// errs on the wide side, since it takes Poisson's variance where the binomial's is smaller.
pub(crate) fn ratio(now: Count, then: Count, confidence: f64) -> Bounds {
    let theta = stat::bounds(now.bad, now.bad + then.bad, confidence);
    let of = |theta: f64| {
        if theta >= 1.0 {
            f64::INFINITY
        } else {
            theta / (1.0 - theta) * then.total / now.total
        }
    };
    Bounds {
        lower: of(theta.lower),
        upper: of(theta.upper),
    }
}

/// Chances of what was seen, or more of it, if the share of `now` were exactly `limit` times that of
/// `then`: `(of so few, of so many)`. Small of few: surely under the limit; small of many: surely over.
pub(crate) fn ratio_chances(now: Count, then: Count, limit: f64) -> (f64, f64) {
    let theta = limit * now.total / (limit * now.total + then.total);
    let all = now.bad + then.bad;
    (
        stat::p_missed(now.bad, all, theta),
        stat::p_met(now.bad, all, theta),
    )
}

/// One-sided bounds, each at `confidence`, of the bad share of `now` less that of `then`: each
/// share's own exact bound at half the error, so that both hold together.
pub(crate) fn difference(now: Count, then: Count, confidence: f64) -> Bounds {
    let each = 1.0 - (1.0 - confidence) / 2.0;
    let of = |count: Count| stat::bounds(count.bad, count.total, each);
    let (now, then) = (of(now), of(then));
    Bounds {
        lower: now.lower - then.upper,
        upper: now.upper - then.lower,
    }
}

/// Chance-like measures for a difference over `limit`, as [`ratio_chances`]: the least error at which
/// the bound lies on the other side.
pub(crate) fn difference_chances(now: Count, then: Count, limit: f64) -> (f64, f64) {
    let least = |decided: &dyn Fn(Bounds) -> bool| {
        let (mut low, mut high) = (0.0_f64, 1.0_f64);
        for _ in 0..40 {
            let alpha = f64::midpoint(low, high);
            if decided(difference(now, then, 1.0 - alpha)) {
                high = alpha;
            } else {
                low = alpha;
            }
        }
        high
    };
    (
        least(&|bounds| bounds.upper <= limit),
        least(&|bounds| bounds.lower > limit),
    )
}

/// How much more the counts of several runs spread than independent events would: Pearson's χ² over
/// its degrees of freedom, never under 1.
pub(crate) fn overdispersion(runs: &[Count]) -> f64 {
    let sum = |of: fn(&Count) -> f64| runs.iter().map(of).sum::<f64>();
    let share = sum(|c| c.bad) / sum(|c| c.total);
    if runs.len() < 2 || !(share > 0.0 && share < 1.0) {
        return 1.0;
    }
    let squares: f64 = runs
        .iter()
        .filter(|c| c.total > 0.0)
        .map(|c| (c.bad - c.total * share).powi(2) / (c.total * share * (1.0 - share)))
        .sum();
    (squares / (runs.len() - 1) as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(bad: f64, total: f64) -> Count {
        Count { bad, total }
    }

    #[test]
    fn nothing_bad_in_either_says_nothing_of_their_ratio() {
        let bounds = ratio(count(0.0, 1_000.0), count(0.0, 1_000.0), 0.95);
        assert_eq!((bounds.lower, bounds.upper), (0.0, f64::INFINITY));
        let (few, many) = ratio_chances(count(0.0, 1_000.0), count(0.0, 1_000.0), 1.1);
        assert_eq!((few, many), (1.0, 1.0));
        // Their difference is known all the same.
        let bounds = difference(count(0.0, 1_000.0), count(0.0, 1_000.0), 0.95);
        assert!(bounds.upper < 0.004 && bounds.lower > -0.004, "{bounds:?}");
    }

    #[test]
    fn bounds_and_chances_agree() {
        let (now, then) = (count(30.0, 1_000.0), count(12.0, 1_200.0));
        let bounds = ratio(now, then, 0.95);
        assert!(bounds.lower < 3.0 && 3.0 < bounds.upper, "{bounds:?}");
        let (_, many) = ratio_chances(now, then, bounds.lower);
        assert!((many - 0.05).abs() < 1e-6, "{many}");
        let (few, _) = ratio_chances(now, then, bounds.upper);
        assert!((few - 0.05).abs() < 1e-6, "{few}");
        let bounds = difference(now, then, 0.95);
        let (_, many) = difference_chances(now, then, bounds.lower - 1e-9);
        assert!((many - 0.05).abs() < 1e-6, "{many}");
    }

    #[test]
    fn smaller_counts_are_less_sure() {
        let (now, then) = (count(30.0, 1_000.0), count(12.0, 1_200.0));
        let whole = ratio(now, then, 0.95);
        let part = ratio(now.times(0.4), then.times(0.4), 0.95);
        assert!(part.lower < whole.lower && part.upper > whole.upper);
    }

    #[test]
    fn runs_that_differ_more_than_chance_are_seen() {
        let alike = [count(10.0, 1e3), count(11.0, 1e3), count(9.0, 1e3)];
        assert_eq!(overdispersion(&alike), 1.0);
        let apart = [count(2.0, 1e3), count(40.0, 1e3), count(9.0, 1e3)];
        assert!(overdispersion(&apart) > 10.0);
        assert_eq!(overdispersion(&alike[..1]), 1.0);
        assert_eq!(overdispersion(&[count(0.0, 1e3), count(0.0, 1e3)]), 1.0);
    }
}
