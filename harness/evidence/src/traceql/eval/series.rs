//! Series of numbers, and what is done to them once they are complete.

use std::cmp::Ordering;

use crate::traceql::ast::{Fold, Op, Static, Then};

/// One series.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// Label names and values, in the order of the query.
    pub(crate) labels: Vec<(String, Static)>,
    /// One value for each step; `None` where there is no sample.
    pub(crate) values: Vec<Option<f64>>,
    pub(crate) exemplars: Vec<Exemplar>,
}

/// A span that a value was computed from.
#[derive(Debug, Clone)]
pub(crate) struct Exemplar {
    pub(crate) trace: u128,
    /// The value observed; `None` shows the series' own value at that step.
    pub(crate) value: Option<f64>,
    pub(crate) step: usize,
    /// Nanoseconds since the Unix epoch.
    pub(crate) time: u64,
}

/// What was seen of one fold in one step.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    count: u64,
    sum: f64,
    // Neumaier's correction: durations of very different size are added in any order.
    lost: f64,
    min: f64,
    max: f64,
}

impl Seen {
    pub(crate) fn add(&mut self, value: f64) {
        if self.count == 0 {
            (self.min, self.max) = (value, value);
        }
        self.count += 1;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        let sum = self.sum + value;
        self.lost += if self.sum.abs() >= value.abs() {
            (self.sum - sum) + value
        } else {
            (value - sum) + self.sum
        };
        self.sum = sum;
    }

    pub(crate) fn result(&self, fold: Fold) -> Option<f64> {
        let sum = self.sum + self.lost;
        (self.count > 0).then_some(match fold {
            Fold::Min => self.min,
            Fold::Max => self.max,
            Fold::Sum => sum,
            Fold::Avg => sum / self.count as f64,
        })
    }
}

/// The upper end of the power-of-two bucket a value lies in; values under 2 have none and are not
/// counted, as in the real server.
pub(crate) fn bucket(value: u64) -> Option<u64> {
    (value >= 2)
        .then(|| value.checked_next_power_of_two())
        .flatten()
}

/// A quantile from counts by bucket (upper ends, ascending).
///
/// The rank is rounded up to a whole sample, and the place between the bucket and the one before it
/// that has samples is interpolated exponentially, as the real server does. The truth may be
/// anywhere in the bucket, whose ends differ by a factor of two; the answer may lie outside even
/// that when the buckets before it are empty.
pub(crate) fn quantile(q: f64, buckets: &[(f64, u64)]) -> Option<f64> {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    if total == 0 {
        return None;
    }
    let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
    let (mut below, mut lower) = (0, None);
    for (upper, count) in buckets.iter().filter(|(_, count)| *count > 0) {
        let from = lower.unwrap_or(upper / 2.0);
        if below + count >= rank {
            let part = (rank - below) as f64 / *count as f64;
            return Some(from * (upper / from).powf(part));
        }
        below += count;
        lower = Some(*upper);
    }
    None
}

/// Applies what follows the function, in order. Series left without any sample are dropped.
pub(crate) fn then(mut all: Vec<Series>, then: &[Then]) -> Vec<Series> {
    for what in then {
        match what {
            Then::Keep(op, limit) => {
                for value in all.iter_mut().flat_map(|s| &mut s.values) {
                    *value = value.filter(|v| holds(*op, *v, *limit));
                }
            }
            Then::Top(n) => rank(&mut all, *n, true),
            Then::Bottom(n) => rank(&mut all, *n, false),
        }
        all.retain(|series| series.values.iter().any(Option::is_some));
    }
    all
}

fn holds(op: Op, a: f64, b: f64) -> bool {
    match op {
        Op::Eq => a == b,
        Op::Ne => a != b,
        Op::Gt => a > b,
        Op::Ge => a >= b,
        Op::Lt => a < b,
        Op::Le => a <= b,
        _ => false,
    }
}

/// Keeps the `n` largest or smallest values of each step. Of equal values the largest prefer the
/// labels that sort first and the smallest those that sort last.
fn rank(all: &mut [Series], n: usize, largest: bool) {
    let names: Vec<String> = all.iter().map(label_text).collect();
    let steps = all.iter().map(|s| s.values.len()).max().unwrap_or(0);
    for step in 0..steps {
        let mut here: Vec<(f64, usize)> = all
            .iter()
            .enumerate()
            .filter_map(|(i, s)| Some((s.values.get(step).copied().flatten()?, i)))
            .collect();
        here.sort_by(|(a, i), (b, j)| {
            let order = b.total_cmp(a).then_with(|| names[*i].cmp(&names[*j]));
            if largest { order } else { order.reverse() }
        });
        for (_, i) in here.into_iter().skip(n) {
            all[i].values[step] = None;
        }
    }
}

/// Labels as text, for ordering.
pub(crate) fn label_text(series: &Series) -> String {
    let mut labels: Vec<String> = series
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    labels.sort();
    labels.join(",")
}

/// Order of series in an answer.
pub(crate) fn by_labels(a: &Series, b: &Series) -> Ordering {
    label_text(a).cmp(&label_text(b))
}
