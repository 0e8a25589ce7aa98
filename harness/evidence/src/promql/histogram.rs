//! Quantiles and fractions of classic histograms (series of cumulative buckets with a label `le`).

use super::eval::{Eval, Evaluated, Frame, Sample};
use super::plan::Node;
use crate::store::metrics::METRIC_NAME;

const LE: &str = "le";

/// Relative difference of neighbouring cumulative counts that counts as none: rates of equal
/// counters differ by rounding.
const TOLERANCE: f64 = 1e-12;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Bucket {
    upper: f64,
    count: f64,
}

/// One histogram: what stays of its labels, and its buckets.
struct Histogram {
    name: String,
    sample: Sample,
    buckets: Vec<Bucket>,
}

impl Eval<'_> {
    pub(super) fn check_quantile(&self, node: &Node, q: f64) {
        if !(0.0..=1.0).contains(&q) {
            let shown = super::num::format_plain(q);
            self.warn(
                node,
                &format!("quantile value should be between 0 and 1, got {shown}"),
            );
        }
    }

    pub(super) fn histogram_quantile(
        &self,
        args: &[Node],
        frame: &Frame,
        t: i64,
    ) -> Evaluated<Vec<Sample>> {
        let q = self.scalar(&args[0], frame, t)?;
        self.check_quantile(&args[0], q);
        let mut out = Vec::new();
        for mut h in self.histograms(&args[1], frame, t)? {
            let (v, forced) = quantile(q, &mut h.buckets);
            if forced {
                self.inform(
                    &args[1],
                    &format!(
                        "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile) for metric name {:?}",
                        h.name
                    ),
                );
            }
            h.sample.v = v;
            out.push(h.sample);
        }
        self.without_names(out)
    }

    pub(super) fn histogram_fraction(
        &self,
        args: &[Node],
        frame: &Frame,
        t: i64,
    ) -> Evaluated<Vec<Sample>> {
        let lower = self.scalar(&args[0], frame, t)?;
        let upper = self.scalar(&args[1], frame, t)?;
        let mut out = Vec::new();
        for mut h in self.histograms(&args[2], frame, t)? {
            h.sample.v = fraction(lower, upper, &mut h.buckets);
            out.push(h.sample);
        }
        self.without_names(out)
    }

    fn histograms(&self, arg: &Node, frame: &Frame, t: i64) -> Evaluated<Vec<Histogram>> {
        let input = self.vector(arg, frame, t)?;
        let mut caches = frame.caches.borrow_mut();
        let (bounds, known) = caches.buckets.entry(arg.id).or_default();
        let mut found: Vec<Histogram> = Vec::new();
        let mut places: Vec<Option<usize>> = Vec::new();
        for s in input {
            let Some(upper) = *bounds.get(&s.labels, |l| bound(l.get(LE).unwrap_or(""))) else {
                let le = s.labels.get(LE).unwrap_or("");
                let name = s.labels.get(METRIC_NAME).unwrap_or("");
                self.warn(
                    arg,
                    &format!("bucket label \"le\" is missing or has a malformed value of {le:?} for metric name {name:?}"),
                );
                continue;
            };
            let number = known.number(&s.labels, |l| l.filtered(|n| n != LE)) as usize;
            if places.len() <= number {
                places.resize(number + 1, None);
            }
            let place = *places[number].get_or_insert_with(|| {
                let labels = known.made.all[number].clone();
                found.push(Histogram {
                    name: labels.metric_name().to_string(),
                    sample: Sample {
                        labels,
                        drop_name: s.drop_name,
                        v: 0.0,
                    },
                    buckets: Vec::new(),
                });
                found.len() - 1
            });
            found[place].buckets.push(Bucket { upper, count: s.v });
        }
        Ok(found)
    }
}

/// A bucket's bound; Rust reads every form that Go writes.
fn bound(le: &str) -> Option<f64> {
    le.parse().ok()
}

/// Sorts, checks that the last bucket is +Inf, and joins buckets of one bound (a `le="1"` beside a
/// `le="1.0"`). `None` when this is no histogram.
fn prepared(buckets: &mut Vec<Bucket>) -> Option<()> {
    buckets.sort_by(|a, b| a.upper.total_cmp(&b.upper));
    if buckets.last()?.upper != f64::INFINITY {
        return None;
    }
    buckets.dedup_by(|b, a| {
        let same = a.upper == b.upper;
        if same {
            a.count += b.count;
        }
        same
    });
    Some(())
}

/// The quantile, interpolated linearly within its bucket, and whether a count that fell from one
/// bucket to the next had to be lifted.
fn quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if q.is_nan() {
        return (f64::NAN, false);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if q > 1.0 {
        return (f64::INFINITY, false);
    }
    if prepared(buckets).is_none() {
        return (f64::NAN, false);
    }
    let forced = make_monotonic(buckets);
    (interpolated(q, buckets), forced)
}

fn interpolated(q: f64, b: &[Bucket]) -> f64 {
    let last = b.len() - 1;
    let all = b[last].count;
    if b.len() < 2 || all == 0.0 || all.is_nan() {
        return f64::NAN;
    }
    let mut rank = q * all;
    let i = b[..last].partition_point(|x| x.count < rank);
    if i == last {
        return b[last - 1].upper;
    }
    if i == 0 && b[0].upper <= 0.0 {
        return b[0].upper;
    }
    let (mut start, mut count) = (0.0, b[i].count);
    if i > 0 {
        start = b[i - 1].upper;
        count -= b[i - 1].count;
        rank -= b[i - 1].count;
    }
    start + (b[i].upper - start) * (rank / count)
}

fn make_monotonic(buckets: &mut [Bucket]) -> bool {
    let mut forced = false;
    let mut previous = buckets[0].count;
    for b in &mut buckets[1..] {
        if b.count == previous {
            continue;
        }
        if almost_equal(previous, b.count) {
            b.count = previous;
        } else if b.count < previous {
            b.count = previous;
            forced = true;
        } else {
            previous = b.count;
        }
    }
    forced
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a == b {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < TOLERANCE * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < TOLERANCE
}

/// The share of observations between two values, interpolated linearly within buckets.
fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if prepared(buckets).is_none() {
        return f64::NAN;
    }
    let all = buckets[buckets.len() - 1].count;
    if all == 0.0 || all.is_nan() || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank(upper, buckets, all) - rank(lower, buckets, all)) / all
}

/// How many observations are at or below `v`, never more than all.
fn rank(v: f64, buckets: &[Bucket], all: f64) -> f64 {
    let mut below = 0.0;
    for (i, b) in buckets.iter().enumerate() {
        let start = match i {
            0 if b.upper > 0.0 => 0.0,
            0 => f64::NEG_INFINITY,
            _ => buckets[i - 1].upper,
        };
        if v <= start {
            return below;
        }
        if v < b.upper {
            if b.upper.is_infinite() {
                return below;
            }
            let share = if start.is_infinite() {
                1.0
            } else {
                (v - start) / (b.upper - start)
            };
            return (below + (b.count - below) * share).min(all);
        }
        below = b.count;
    }
    all
}
