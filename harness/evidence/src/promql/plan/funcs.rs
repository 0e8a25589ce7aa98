//! The functions, by name.

use super::super::num;

/// A function of one range of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::promql) enum OverFn {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Deriv,
    Resets,
    Changes,
    Avg,
    Sum,
    Min,
    Max,
    Count,
    Last,
    First,
    Present,
    Stddev,
    Stdvar,
}

impl OverFn {
    /// Whether the result is a sample of the series itself, which keeps its name.
    pub(in crate::promql) fn keeps_name(self) -> bool {
        matches!(self, OverFn::Last | OverFn::First)
    }
}

/// A part of a date, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::promql) enum DateFn {
    Year,
    Month,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    DaysInMonth,
    Hour,
    Minute,
}

#[derive(Debug, Clone, Copy)]
pub(in crate::promql) enum Func {
    Over(OverFn),
    QuantileOverTime,
    PredictLinear,
    AbsentOverTime,
    Absent,
    Map(fn(f64) -> f64),
    Round,
    Clamp,
    ClampMin,
    ClampMax,
    Date(DateFn),
    Scalar,
    Vector,
    Time,
    Timestamp,
    Pi,
    Sort { descending: bool },
    LabelReplace,
    LabelJoin,
    HistogramQuantile,
    HistogramFraction,
}

fn sgn(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

/// The function of that name; `None` when it is not built.
pub(super) fn by_name(name: &str) -> Option<Func> {
    use Func::{Date, Map, Over};
    Some(match name {
        "rate" => Over(OverFn::Rate),
        "increase" => Over(OverFn::Increase),
        "delta" => Over(OverFn::Delta),
        "irate" => Over(OverFn::Irate),
        "idelta" => Over(OverFn::Idelta),
        "deriv" => Over(OverFn::Deriv),
        "resets" => Over(OverFn::Resets),
        "changes" => Over(OverFn::Changes),
        "avg_over_time" => Over(OverFn::Avg),
        "sum_over_time" => Over(OverFn::Sum),
        "min_over_time" => Over(OverFn::Min),
        "max_over_time" => Over(OverFn::Max),
        "count_over_time" => Over(OverFn::Count),
        "last_over_time" => Over(OverFn::Last),
        "first_over_time" => Over(OverFn::First),
        "present_over_time" => Over(OverFn::Present),
        "stddev_over_time" => Over(OverFn::Stddev),
        "stdvar_over_time" => Over(OverFn::Stdvar),
        "quantile_over_time" => Func::QuantileOverTime,
        "predict_linear" => Func::PredictLinear,
        "absent_over_time" => Func::AbsentOverTime,
        "absent" => Func::Absent,
        "abs" => Map(f64::abs),
        "ceil" => Map(f64::ceil),
        "floor" => Map(f64::floor),
        "exp" => Map(f64::exp),
        "sqrt" => Map(f64::sqrt),
        "ln" => Map(f64::ln),
        "log2" => Map(f64::log2),
        "log10" => Map(f64::log10),
        "sgn" => Map(sgn),
        "sin" => Map(f64::sin),
        "cos" => Map(f64::cos),
        "tan" => Map(f64::tan),
        "asin" => Map(f64::asin),
        "acos" => Map(f64::acos),
        "atan" => Map(f64::atan),
        "sinh" => Map(f64::sinh),
        "cosh" => Map(f64::cosh),
        "tanh" => Map(f64::tanh),
        "asinh" => Map(f64::asinh),
        "acosh" => Map(f64::acosh),
        "atanh" => Map(f64::atanh),
        "deg" => Map(|v| v * 180.0 / std::f64::consts::PI),
        "rad" => Map(|v| v * std::f64::consts::PI / 180.0),
        "round" => Func::Round,
        "clamp" => Func::Clamp,
        "clamp_min" => Func::ClampMin,
        "clamp_max" => Func::ClampMax,
        "year" => Date(DateFn::Year),
        "month" => Date(DateFn::Month),
        "day_of_month" => Date(DateFn::DayOfMonth),
        "day_of_week" => Date(DateFn::DayOfWeek),
        "day_of_year" => Date(DateFn::DayOfYear),
        "days_in_month" => Date(DateFn::DaysInMonth),
        "hour" => Date(DateFn::Hour),
        "minute" => Date(DateFn::Minute),
        "scalar" => Func::Scalar,
        "vector" => Func::Vector,
        "time" => Func::Time,
        "timestamp" => Func::Timestamp,
        "pi" => Func::Pi,
        "sort" => Func::Sort { descending: false },
        "sort_desc" => Func::Sort { descending: true },
        "label_replace" => Func::LabelReplace,
        "label_join" => Func::LabelJoin,
        "histogram_quantile" => Func::HistogramQuantile,
        "histogram_fraction" => Func::HistogramFraction,
        _ => return None,
    })
}

/// Clamps the way Prometheus does, NaN included.
pub(in crate::promql) fn clamp(v: f64, min: f64, max: f64) -> f64 {
    num::go_max(min, num::go_min(max, v))
}
