//! Function calls, and the functions of one value at a time.

use super::civil::{civil, days_from_civil};
use super::eval::{Eval, Evaluated, Frame, Sample};
use super::plan::{DateFn, Func, Kind, Node};
use crate::store::metrics::Labels;
use std::cmp::Ordering;

impl Eval<'_> {
    pub(super) fn call(
        &self,
        node: &Node,
        f: Func,
        args: &[Node],
        frame: &Frame,
        t: i64,
    ) -> Evaluated<Vec<Sample>> {
        let scalar = |i: usize| self.scalar(&args[i], frame, t);
        match f {
            Func::Over(f) => self.over(f, &args[0], frame, t),
            Func::QuantileOverTime => self.quantile_over_time(&args[0], &args[1], frame, t),
            Func::PredictLinear => self.predict_linear(&args[0], &args[1], frame, t),
            Func::AbsentOverTime => self.absent_over_time(&args[0], frame, t),
            Func::Absent => {
                let v = self.vector(&args[0], frame, t)?;
                Ok(self.absent_unless(!v.is_empty(), &args[0]))
            }
            Func::Map(f) => self.map(&args[0], frame, t, f),
            Func::Round => {
                let to = if args.len() > 1 { scalar(1)? } else { 1.0 };
                // Dividing by the inverse is what keeps round(x, 0.1) free of representation noise.
                let inverse = 1.0 / to;
                self.map(&args[0], frame, t, |v| {
                    (v * inverse + 0.5).floor() / inverse
                })
            }
            Func::Clamp => {
                let (min, max) = (scalar(1)?, scalar(2)?);
                if max < min {
                    return Ok(Vec::new());
                }
                self.map(&args[0], frame, t, |v| super::plan::clamp(v, min, max))
            }
            Func::ClampMin => {
                let min = scalar(1)?;
                self.map(&args[0], frame, t, |v| super::num::go_max(min, v))
            }
            Func::ClampMax => {
                let max = scalar(1)?;
                self.map(&args[0], frame, t, |v| super::num::go_min(max, v))
            }
            Func::Date(part) => match args.first() {
                Some(arg) => self.map(arg, frame, t, |v| date_part(part, v)),
                None => Ok(one(date_part(part, (t as f64 / 1000.0).floor()))),
            },
            Func::Vector => Ok(one(scalar(0)?)),
            Func::Timestamp => self.timestamp(&args[0], frame, t),
            Func::Sort { descending } => {
                if self.is_range_query() {
                    self.warn(node, "sort is ineffective for range queries since results are always ordered by labels");
                }
                let mut v = self.vector(&args[0], frame, t)?;
                v.sort_by(|a, b| by_value(a.v, b.v, descending));
                Ok(v)
            }
            Func::LabelReplace => self.label_replace(args, frame, t),
            Func::LabelJoin => self.label_join(args, frame, t),
            Func::HistogramQuantile => self.histogram_quantile(args, frame, t),
            Func::HistogramFraction => self.histogram_fraction(args, frame, t),
            // Functions that return scalars are evaluated as scalars.
            Func::Scalar | Func::Time | Func::Pi => Ok(one(self.scalar(node, frame, t)?)),
        }
    }

    fn map(
        &self,
        arg: &Node,
        frame: &Frame,
        t: i64,
        f: impl Fn(f64) -> f64,
    ) -> Evaluated<Vec<Sample>> {
        let mut v = self.vector(arg, frame, t)?;
        v.iter_mut().for_each(|s| s.v = f(s.v));
        self.without_names(v)
    }

    /// Of a selector the times of its samples, of anything else the time of evaluation.
    fn timestamp(&self, arg: &Node, frame: &Frame, t: i64) -> Evaluated<Vec<Sample>> {
        let v = match arg.kind {
            Kind::Select(i) => self
                .select(i, t)
                .map(|(labels, time, _)| Sample::new(labels.clone(), time as f64 / 1000.0))
                .collect(),
            _ => {
                let mut v = self.vector(arg, frame, t)?;
                v.iter_mut().for_each(|s| s.v = t as f64 / 1000.0);
                v
            }
        };
        self.without_names(v)
    }
}

fn one(v: f64) -> Vec<Sample> {
    vec![Sample::new(Labels::default(), v)]
}

/// NaN last in both directions.
pub(super) fn by_value(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ if descending => b.total_cmp(&a),
        _ => a.total_cmp(&b),
    }
}

/// A part of the UTC date of a Unix time in seconds; the fraction is dropped towards zero.
fn date_part(part: DateFn, unix: f64) -> f64 {
    if !unix.is_finite() {
        return f64::NAN;
    }
    let seconds = unix as i64;
    let days = seconds.div_euclid(86_400);
    let in_day = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    let v = match part {
        DateFn::Year => year,
        DateFn::Month => month,
        DateFn::DayOfMonth => day,
        // 1970-01-01 was a Thursday; Sunday is 0.
        DateFn::DayOfWeek => (days + 4).rem_euclid(7),
        DateFn::DayOfYear => days - days_from_civil(year, 1, 1) + 1,
        DateFn::DaysInMonth => {
            let (y, m) = if month == 12 {
                (year + 1, 1)
            } else {
                (year, month + 1)
            };
            days_from_civil(y, m, 1) - days_from_civil(year, month, 1)
        }
        DateFn::Hour => in_day / 3600,
        DateFn::Minute => in_day / 60 % 60,
    };
    v as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_before_and_after_1970() {
        assert_eq!(date_part(DateFn::Year, -1.0), 1969.0);
        assert_eq!(date_part(DateFn::DayOfWeek, -86_400.0), 3.0);
        assert_eq!(date_part(DateFn::DaysInMonth, 951_782_400.0), 29.0);
        assert!(date_part(DateFn::Hour, f64::NAN).is_nan());
    }
}
