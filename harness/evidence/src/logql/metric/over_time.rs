//! The samples of one window to one value.

use super::super::ast::RangeOp;

/// Samples of one series in `(start, end]`, by time.
pub(super) struct Samples<'a> {
    pub(super) samples: &'a [(i64, f64)],
    /// Lines that an average is taken over; 0 when over the samples.
    pub(super) lines: usize,
    /// Nanoseconds, not in the window itself.
    pub(super) start: i64,
    /// Nanoseconds.
    pub(super) end: i64,
}

impl Samples<'_> {
    /// The value of an aggregation; `None` when there is none to give.
    pub(super) fn value(&self, op: RangeOp, param: f64, unwrapped: bool) -> Option<f64> {
        let seconds = (self.end - self.start) as f64 / 1e9;
        let values = || self.samples.iter().map(|(_, value)| *value);
        let count = self.samples.len() as f64;
        Some(match op {
            RangeOp::Count => count,
            RangeOp::Rate if !unwrapped => count / seconds,
            RangeOp::Rate | RangeOp::BytesRate => sum(values()) / seconds,
            RangeOp::Sum | RangeOp::Bytes => sum(values()),
            RangeOp::Avg if self.lines > 0 => sum(values()) / self.lines as f64,
            RangeOp::Avg => mean(values()),
            RangeOp::Min => values().reduce(|a, b| if b < a || a.is_nan() { b } else { a })?,
            RangeOp::Max => values().reduce(|a, b| if b > a || a.is_nan() { b } else { a })?,
            RangeOp::Stdvar => variance(values()),
            RangeOp::Stddev => variance(values()).sqrt(),
            RangeOp::Quantile => quantile(param, values().collect()),
            RangeOp::First => self.samples.first()?.1,
            RangeOp::Last => self.samples.last()?.1,
            RangeOp::RateCounter => return self.rate_counter(seconds),
            RangeOp::Absent => 1.0,
        })
    }

    /// Increase of a counter a second, resets taken as starts from 0.
    ///
    /// Loki 3.7 means to extrapolate to the window's edges as Prometheus' `rate` does, but counts
    /// the window in thousandths of what it counts times in: it adds a millionth of the window
    /// before the first sample and nothing behind the last. The recorded answers have it so, and
    /// so has this.
    fn rate_counter(&self, seconds: f64) -> Option<f64> {
        let (first, last) = (self.samples.first()?, self.samples.last()?);
        let sampled = (last.0 - first.0) as f64 / 1e9;
        if self.samples.len() < 2 || sampled <= 0.0 {
            return None;
        }
        let resets: f64 = self
            .samples
            .windows(2)
            .filter(|pair| pair[1].1 < pair[0].1)
            .map(|pair| pair[0].1)
            .sum();
        let increase = last.1 - first.1 + resets;
        let mut before = seconds / 1e6;
        if increase > 0.0 && first.1 >= 0.0 {
            // A counter cannot have been under 0 before the first sample.
            before = before.min(sampled * (first.1 / increase));
        }
        Some(increase * ((sampled + before) / sampled) / seconds)
    }
}

/// Kahan summation, so that many small values are not lost beside a large one.
pub(super) fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut total, mut lost) = (0.0_f64, 0.0_f64);
    for value in values {
        let next = total + value;
        if !next.is_finite() {
            lost = 0.0;
        } else if total.abs() >= value.abs() {
            lost += (total - next) + value;
        } else {
            lost += (value - next) + total;
        }
        total = next;
    }
    total + lost
}

pub(super) fn mean(values: impl Iterator<Item = f64> + Clone) -> f64 {
    sum(values.clone()) / values.count() as f64
}

/// Population variance.
pub(super) fn variance(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let mean = mean(values.clone());
    let count = values.clone().count() as f64;
    sum(values.map(|value| (value - mean) * (value - mean))) / count
}

/// Quantile with linear interpolation between the two nearest ranks. φ under 0 gives -Inf, over 1
/// +Inf.
pub(super) fn quantile(phi: f64, mut values: Vec<f64>) -> f64 {
    if values.is_empty() || phi.is_nan() {
        return f64::NAN;
    }
    if phi < 0.0 {
        return f64::NEG_INFINITY;
    }
    if phi > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(f64::total_cmp);
    let rank = phi * (values.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}
