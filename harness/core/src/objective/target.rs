//! One entry of `spec.objectives`: what is measured has to be what, of what the budget is a budget.

use serde_json::Value;
use serde_saphyr::Spanned;

use super::annotations::Annotations;
use super::kinds::{SHORTHAND, shorthand};
use super::read::{At, Reader, place};
use super::sli::Measured;
use super::yaml::Target;
use super::{Budgeting, ClientFigure, ClientMetric, Indicator, Metric, Op, Part};
use crate::scenario::Dur;

/// `spec.budgetingMethod`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Occurrences,
    Timeslices,
    RatioTimeslices,
}

pub(super) fn method(
    reader: &mut Reader,
    written: Option<&Spanned<String>>,
    at: At,
) -> Option<Method> {
    const HINT: &str = "one of `Occurrences`, `Timeslices`, `RatioTimeslices`";
    let key = "spec.budgetingMethod";
    let Some(written) = written else {
        reader.problem(at, key, "is missing", HINT);
        return None;
    };
    match written.value.as_str() {
        "Occurrences" => Some(Method::Occurrences),
        "Timeslices" => Some(Method::Timeslices),
        "RatioTimeslices" => Some(Method::RatioTimeslices),
        other => {
            let message = format!("unknown method `{other}`");
            reader.problem(place(written.referenced), key, message, HINT);
            None
        }
    }
}

/// The budgeting of one objective: the method with its slices.
pub(super) fn budgeting(
    reader: &mut Reader,
    method: Method,
    notes: &Annotations,
    measured: &Measured,
    target: &Target,
    (at, key): (At, &str),
) -> Option<Budgeting> {
    let mut of_slices = |name: &str, at: At, why: &str| {
        let key = format!("{key}.{name}");
        reader.problem(
            at,
            &key,
            why,
            "leave it out, or choose another `budgetingMethod`",
        );
    };
    let slice_target = target.time_slice_target.as_ref();
    if method == Method::Occurrences {
        if let Some(written) = &target.time_slice_window {
            let at = place(written.referenced);
            of_slices("timeSliceWindow", at, "has no meaning with Occurrences");
        }
        if let Some(written) = slice_target {
            let at = place(written.referenced);
            of_slices("timeSliceTarget", at, "has no meaning with Occurrences");
        }
        if let Some(slice) = &notes.slice {
            let key = "metadata.annotations.harness/slice";
            let hint = "leave it out, or choose `budgetingMethod: Timeslices`";
            let at = place(slice.referenced);
            reader.problem(at, key, "has no meaning with Occurrences", hint);
        }
        return Some(Budgeting::Occurrences);
    }
    let window = window(reader, target, at, key);
    let slice = notes.slice.as_ref().map(|s| s.value).or(window);
    if method == Method::RatioTimeslices {
        if let Some(written) = slice_target {
            let at = place(written.referenced);
            let key = format!("{key}.timeSliceTarget");
            let hint = "leave it out: the target is for the mean of all slices";
            reader.problem(at, &key, "has no meaning with RatioTimeslices", hint);
            return None;
        }
        if measured.is_threshold() {
            let hint = "use `Timeslices`, or a ratioMetric";
            let message =
                "RatioTimeslices takes the mean of ratios, and a thresholdMetric has none";
            reader.problem(at, key, message, hint);
            return None;
        }
        return Some(Budgeting::RatioTimeslices { slice: slice? });
    }
    let slice_target = match slice_target {
        Some(written) if written.value > 0.0 && written.value <= 1.0 => written.value,
        Some(written) => {
            let key = format!("{key}.timeSliceTarget");
            let message = format!("{} is out of range", written.value);
            let hint = "a share above 0 and at most 1, such as 0.95";
            reader.problem(place(written.referenced), &key, message, hint);
            return None;
        }
        // A threshold holds in a slice or does not: it is evaluated once.
        None if measured.is_threshold() => 1.0,
        None => {
            let key = format!("{key}.timeSliceTarget");
            let hint = "the least share of good events that makes a slice a good one, such as 0.95";
            reader.problem(at, &key, "is missing", hint);
            return None;
        }
    };
    Some(Budgeting::Timeslices {
        slice: slice?,
        slice_target,
        // What is wrong with it is told once, with the indicator.
        target: written_share(target)?,
    })
}

/// `timeSliceWindow`: the shorthand, or a number of minutes.
fn window(reader: &mut Reader, target: &Target, at: At, key: &str) -> Option<Dur> {
    let key = format!("{key}.timeSliceWindow");
    let Some(written) = &target.time_slice_window else {
        let hint = "the length of a slice, such as 1m; for shorter ones add the annotation harness/slice: \"5s\"";
        reader.problem(at, &key, "is missing", hint);
        return None;
    };
    let seconds = match &written.value {
        Value::String(text) => shorthand(text),
        Value::Number(minutes) => minutes
            .as_f64()
            .map(|m| m * 60.0)
            .filter(|s| s.fract() == 0.0 && (1.0..1e9).contains(s))
            .map(|s| s as u64),
        _ => None,
    };
    let seconds = seconds.filter(|s| *s > 0);
    if seconds.is_none() {
        let message = format!("{} is no length of time", written.value);
        reader.problem(place(written.referenced), &key, message, SHORTHAND);
    }
    seconds.map(|s| Dur(std::time::Duration::from_secs(s)))
}

/// An indicator inside an entry belongs to a composite SLO, which has none above.
pub(super) fn not_composite(reader: &mut Reader, target: &Target, key: &str) {
    let inline = target.indicator.as_ref().map(|i| i.spec.referenced);
    let reference = target.indicator_ref.as_ref().map(|r| r.referenced);
    if let Some(location) = inline.or(reference) {
        let hint = "of a composite SLO each objective has its own indicator and the SLO has none; else leave this one out";
        let key = format!("{key}.indicator");
        reader.problem(place(location), &key, "stands beside the SLO's own", hint);
    }
}

/// A weight says how fast a part burns a common budget. A gate has no such budget: each part is judged
/// by its own target.
pub(super) fn weight(reader: &mut Reader, target: &Target, key: &str) {
    if let Some(weight) = target.composite_weight.as_ref().filter(|w| w.value != 1.0) {
        let key = format!("{key}.compositeWeight");
        let message = format!("{} is not supported", weight.value);
        let hint = "leave it out: every objective of a composite SLO is judged by its own target, and all have to hold";
        reader.problem(place(weight.referenced), &key, message, hint);
    }
}

/// Joins what is measured with its target; with it, of which events a share computed elsewhere is.
pub(super) fn indicator(
    reader: &mut Reader,
    measured: &Measured,
    target: &Target,
    at: At,
    key: &str,
) -> Option<(Indicator, Option<Part>)> {
    let share = share(reader, target, at, key);
    if let Measured::Threshold(one) = measured {
        return threshold(reader, &one.metric, target, at, key).map(|i| (i, None));
    }
    no_operator(reader, target, key)?;
    let share = share?;
    match measured {
        Measured::Ratio {
            part_is,
            part,
            total,
            counter,
        } => {
            let ratio = Indicator::Ratio {
                part_is: *part_is,
                part: part.metric.clone(),
                total: total.metric.clone(),
                counter: *counter,
                target: share,
            };
            Some((ratio, None))
        }
        Measured::Raw(part, one) => {
            let (op, value) = match part {
                Part::Good => (Op::Gte, share),
                // 1 - 0.99 is 0.010000000000000009 in floats; no target has that many digits.
                Part::Bad => (Op::Lte, ((1.0 - share) * 1e12).round() / 1e12),
            };
            let threshold = Indicator::Threshold {
                metric: one.metric.clone(),
                op,
                value,
            };
            Some((threshold, Some(*part)))
        }
        Measured::Threshold(_) => None,
    }
}

/// A ratio has a target and no limit. `op: gt` and `op: gte` say what holds anyway.
fn no_operator(reader: &mut Reader, target: &Target, key: &str) -> Option<()> {
    let hint = "a ratioMetric has only `target`; `op` and `value` go with a thresholdMetric";
    let mut refuse = |name: &str, at: At| {
        let key = format!("{key}.{name}");
        reader.problem(at, &key, "has no meaning here", hint);
    };
    if let Some(value) = &target.value {
        refuse("value", place(value.referenced));
        return None;
    }
    match &target.op {
        Some(op) if matches!(op.value.as_str(), "gt" | "gte") => {
            let here = reader.here(place(op.referenced));
            let what = format!(
                "{here}: `op: {}` of a ratio is not used: the share of good events has to reach `target`",
                op.value
            );
            reader.notes.push(what);
            Some(())
        }
        Some(op) => {
            refuse("op", place(op.referenced));
            None
        }
        None => Some(()),
    }
}

fn written_share(target: &Target) -> Option<f64> {
    let percent = target.target_percent.as_ref().map(|p| p.value / 100.0);
    target.target.as_ref().map(|t| t.value).or(percent)
}

/// `target` or `targetPercent`, in `[0, 1)`. A threshold's is checked and not used.
fn share(reader: &mut Reader, target: &Target, at: At, key: &str) -> Option<f64> {
    const HINT: &str = "a share of at least 0 and less than 1, such as 0.99; no number of requests could prove 1, and OpenSLO forbids it";
    let (share, at, name) = match (&target.target, &target.target_percent) {
        (Some(share), None) => (share.value, place(share.referenced), "target"),
        (None, Some(percent)) => (
            percent.value / 100.0,
            place(percent.referenced),
            "targetPercent",
        ),
        (None, None) => {
            reader.problem(at, &format!("{key}.target"), "is missing", HINT);
            return None;
        }
        (Some(_), Some(percent)) => {
            let at = place(percent.referenced);
            let key = format!("{key}.targetPercent");
            reader.problem(
                at,
                &key,
                "stands beside `target`",
                "leave out one of the two",
            );
            return None;
        }
    };
    if (0.0..1.0).contains(&share) {
        return Some(share);
    }
    let message = format!("{share} is out of range");
    reader.problem(at, &format!("{key}.{name}"), message, HINT);
    None
}

fn threshold(
    reader: &mut Reader,
    metric: &Metric,
    target: &Target,
    at: At,
    key: &str,
) -> Option<Indicator> {
    let hint = "a thresholdMetric needs `op` (lte, gte, lt, gt) and `value`";
    let (Some(op), Some(value)) = (&target.op, &target.value) else {
        reader.problem(at, key, "has no `op` or no `value`", hint);
        return None;
    };
    let op_at = place(op.referenced);
    let op = match op.value.as_str() {
        "lte" => Op::Lte,
        "gte" => Op::Gte,
        "lt" => Op::Lt,
        "gt" => Op::Gt,
        other => {
            let message = format!("unknown operator `{other}`");
            reader.problem(op_at, &format!("{key}.op"), message, hint);
            return None;
        }
    };
    if !value.value.is_finite() {
        let key = format!("{key}.value");
        reader.problem(place(value.referenced), &key, "is not a finite number", "");
        return None;
    }
    let wrong_way = match metric {
        Metric::Client(ClientMetric {
            figure: ClientFigure::Quantile { .. },
            ..
        }) if matches!(op, Op::Gte | Op::Gt) => Some("a quantile of a time needs `lte` or `lt`"),
        Metric::Client(ClientMetric {
            figure: ClientFigure::Accuracy,
            ..
        }) if op != Op::Gte || !(0.0..1.0).contains(&value.value) => {
            Some("accuracy needs `gte` and a value of at least 0 and less than 1")
        }
        _ => None,
    };
    if let Some(hint) = wrong_way {
        let message = format!("`{} {}` cannot be decided here", op.text(), value.value);
        reader.problem(op_at, &format!("{key}.op"), message, hint);
        return None;
    }
    Some(Indicator::Threshold {
        metric: metric.clone(),
        op,
        value: value.value,
    })
}
