//! Quantiles that a backend estimates from buckets, and what the buckets really say.
//!
//! `histogram_quantile` interpolates within a bucket as if the values in it lay evenly, and answers the
//! upper edge of the last finite bucket for whatever lies beyond. Tempo's `quantile_over_time` does the
//! like with buckets of powers of two. What is known is the bucket that the quantile lies in: a limit
//! outside of it is decided, a limit inside is not.

use super::RunRecord;
use super::reading::{Missing, Reading, series};
use crate::objective::Op;
use crate::query::Query;

/// The bucket that a quantile lies in, `(low, high]`, in the unit of the value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    low: f64,
    high: f64,
    /// Tempo's power of two: no boundary can be added.
    fixed: bool,
}

impl Bucket {
    /// Whether any value of the bucket relates to the limit as asked: `None` when some do and some
    /// do not.
    pub(super) fn holds(self, op: Op, limit: f64) -> Option<bool> {
        // Whether all of `(low, high]` is at or under the limit, and whether none of it is.
        let (all_under, none_under) = (self.high <= limit, self.low >= limit);
        match op {
            Op::Lte if all_under => Some(true),
            Op::Lt if self.high < limit => Some(true),
            Op::Lte | Op::Lt if none_under => Some(false),
            Op::Gt | Op::Gte if none_under => Some(true),
            Op::Gte if self.high < limit => Some(false),
            Op::Gt if all_under => Some(false),
            _ => None,
        }
    }

    /// A clause on what the buckets leave open.
    pub(super) fn open(self, limit: f64) -> String {
        let what = if self.fixed {
            format!(
                "Tempo's buckets are powers of two; count spans instead: {{… && duration <= {limit}s}} | count_over_time() over {{…}} | count_over_time()"
            )
        } else {
            format!(
                "add a bucket boundary at {limit}, or judge the share of requests in the buckets up to a boundary"
            )
        };
        format!("{}: {what}", self.said())
    }

    /// The bucket in words.
    pub(super) fn said(self) -> String {
        let high = if self.high.is_finite() {
            format!("{}]", self.high)
        } else {
            "+Inf)".into()
        };
        format!(
            "the quantile lies anywhere in the bucket ({}, {high}",
            self.low
        )
    }
}

/// `histogram_quantile(φ, buckets)` taken apart; `None` for other queries.
fn quantile(query: &str) -> Option<(f64, &str)> {
    let inside = query
        .trim()
        .strip_prefix("histogram_quantile")?
        .trim_start()
        .strip_prefix('(')?
        .strip_suffix(')')?;
    let (phi, buckets) = inside.split_once(',')?;
    let phi: f64 = phi.trim().parse().ok()?;
    // `histogram_quantile(…) / histogram_quantile(…)` also begins and ends so.
    let mut depth = 0_i32;
    for c in super::range::without_strings(buckets).chars() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth < 0 {
            return None;
        }
    }
    (0.0..=1.0).contains(&phi).then(|| (phi, buckets.trim()))
}

/// The question for the buckets behind a quantile.
pub(super) fn question(query: &Query) -> Option<Query> {
    match query {
        Query::PromInstant { query, time } => Some(Query::PromInstant {
            query: quantile(query)?.1.to_owned(),
            time: *time,
        }),
        _ => None,
    }
}

/// The bucket behind the value of a query; `None` where the value does not come from buckets.
pub(super) fn behind(record: &RunRecord, query: &Query, value: f64) -> Reading<Option<Bucket>> {
    match query {
        Query::PromInstant { query: text, .. } => match (quantile(text), question(query)) {
            (Some((phi, _)), Some(question)) => {
                let found = series(record.answers, &question)?;
                of_histogram(phi, &found).map(Some)
            }
            _ => Ok(None),
        },
        Query::TempoMetrics { query, .. } if query.contains("quantile_over_time") => {
            Ok(Some(power_of_two(value)))
        }
        _ => Ok(None),
    }
}

/// Tempo rounds nanoseconds up to a power of two.
fn power_of_two(seconds: f64) -> Bucket {
    let high = (seconds * 1e9).max(1.0).log2().ceil().exp2() / 1e9;
    Bucket {
        low: high / 2.0,
        high,
        fixed: true,
    }
}

fn of_histogram(phi: f64, found: &[super::reading::Series]) -> Reading<Bucket> {
    let odd = |why: &str| {
        Err(Missing::Because(format!(
            "the quantile's buckets are unknown: {why}"
        )))
    };
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for one in found {
        let edge = one.labels.get("le").and_then(|le| le.parse::<f64>().ok());
        let (Some(edge), [(_, count)]) = (edge, one.points.as_slice()) else {
            return odd("there is a series without a boundary `le`");
        };
        if !count.is_finite() || *count < 0.0 {
            return odd("a bucket holds no count");
        }
        buckets.push((edge, *count));
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let Some((edge, all)) = buckets.last().copied() else {
        return odd("there are none");
    };
    if edge != f64::INFINITY {
        return odd("the bucket `+Inf`, which holds all, is not there");
    }
    if all <= 0.0 {
        return odd("they hold nothing");
    }
    let rank = phi * all;
    let place = buckets
        .iter()
        .position(|(_, count)| *count >= rank)
        .unwrap_or(buckets.len() - 1);
    let low = match place.checked_sub(1) {
        Some(before) => buckets[before].0,
        None if buckets[place].0 > 0.0 => 0.0,
        None => f64::NEG_INFINITY,
    };
    Ok(Bucket {
        low,
        high: buckets[place].0,
        fixed: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_taken_apart_and_nothing_else_is() {
        let taken =
            quantile("histogram_quantile(0.99, sum by (le) (rate(x_bucket{a=\"),(\"}[$window])))");
        assert_eq!(
            taken,
            Some((0.99, "sum by (le) (rate(x_bucket{a=\"),(\"}[$window]))"))
        );
        assert_eq!(quantile("max(x)"), None);
        assert_eq!(
            quantile("histogram_quantile(0.5, a) / histogram_quantile(0.9, b)"),
            None
        );
        assert_eq!(quantile("histogram_quantile(scalar(x), b)"), None);
    }

    #[test]
    fn a_limit_inside_the_bucket_is_open() {
        let bucket = Bucket {
            low: 0.25,
            high: 0.5,
            fixed: false,
        };
        assert_eq!(bucket.holds(Op::Lte, 0.5), Some(true));
        assert_eq!(bucket.holds(Op::Lt, 0.5), None);
        assert_eq!(bucket.holds(Op::Lte, 0.3), None);
        assert_eq!(bucket.holds(Op::Lte, 0.25), Some(false));
        assert_eq!(bucket.holds(Op::Gt, 0.25), Some(true));
        assert_eq!(bucket.holds(Op::Gte, 0.5), None);
        assert_eq!(bucket.holds(Op::Gt, 0.5), Some(false));
        assert_eq!(bucket.holds(Op::Gte, 0.6), Some(false));
    }

    #[test]
    fn beyond_the_last_boundary_there_is_no_upper_edge() {
        let bucket = Bucket {
            low: 10.0,
            high: f64::INFINITY,
            fixed: false,
        };
        assert_eq!(bucket.holds(Op::Lte, 10.0), Some(false));
        assert_eq!(bucket.holds(Op::Lte, 20.0), None);
    }

    #[test]
    fn powers_of_two_hold_what_tempo_answers() {
        // The truth was 0.0795 s, the answer 0.130 s.
        let bucket = power_of_two(0.130);
        assert!(bucket.low < 0.130 && 0.130 <= bucket.high);
        assert_eq!(bucket.high, 134_217_728e-9);
        // 134,217,728 ns is 2^27.
        assert_eq!(bucket.low, 67_108_864e-9);
        assert_eq!(bucket.holds(Op::Lte, 0.08), None);
    }
}
