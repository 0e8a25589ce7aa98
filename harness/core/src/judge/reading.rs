//! From a recorded answer to numbers. Whatever is not plainly a number is a [`Missing`], with why.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::query::{Backend, Query};
use crate::record::AnswerBook;

/// Why a number is not known. Never read as zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    /// The backend answered properly, and its answer is empty.
    Empty,
    /// Anything else, in words.
    Because(String),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("the answer is empty"),
            Self::Because(why) => f.write_str(why),
        }
    }
}

/// A number that is known, or why it is not.
pub(super) type Reading<T> = Result<T, Missing>;

fn because<T>(why: impl Into<String>) -> Reading<T> {
    Err(Missing::Because(why.into()))
}

/// One series: labels and points, milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) points: Vec<(i64, f64)>,
}

/// At most this much of an answer is quoted in a reason.
const QUOTE: usize = 160;

fn quote(text: &str) -> String {
    let short: String = text.trim().chars().take(QUOTE).collect();
    if short.is_empty() {
        "an empty body".into()
    } else {
        format!("`{}`", short.replace(['\n', '\r'], " "))
    }
}

/// The JSON of a proper answer.
pub(super) fn json(answers: &AnswerBook, query: &Query) -> Reading<Value> {
    let backend = query.backend();
    let Some(answer) = answers.get(query) else {
        return because(format!(
            "not recorded: {backend} was not asked this in the run"
        ));
    };
    if let Some(error) = &answer.error {
        return because(format!("no whole answer from {backend}: {}", quote(error)));
    }
    match answer.status {
        None => return because(format!("no answer from {backend}")),
        Some(200) => {}
        // Tempo's v1 shape for an unknown trace; v2 answers 200 with an empty one.
        Some(404) if matches!(query, Query::TempoTrace { .. }) && answer.body.trim().is_empty() => {
            return Err(Missing::Empty);
        }
        Some(status) => {
            return because(format!(
                "{backend} answered {status}: {}",
                quote(&answer.body)
            ));
        }
    }
    let value: Value = match serde_json::from_str(&answer.body) {
        Ok(value) => value,
        Err(error) => {
            return because(format!(
                "{backend} answered 200 with something that is not JSON ({error}): {}",
                quote(&answer.body)
            ));
        }
    };
    if !value.is_object() {
        return because(format!(
            "{backend} answered 200 with {}",
            quote(&answer.body)
        ));
    }
    partial(backend, &value)?;
    Ok(value)
}

/// Backends say in passing when an answer is not the whole one.
fn partial(backend: Backend, value: &Value) -> Reading<()> {
    if let Some(warnings) = value.get("warnings").and_then(Value::as_array)
        && let Some(first) = warnings.first()
    {
        let text = first
            .as_str()
            .map_or_else(|| first.to_string(), str::to_owned);
        return because(format!(
            "{backend} warned that its answer may not be whole: {}",
            quote(&text)
        ));
    }
    if let Some(status) = value.get("status").and_then(Value::as_str)
        && status.eq_ignore_ascii_case("partial")
    {
        return because(format!("{backend} answered with a part of the data only"));
    }
    if let Some(metrics) = value.get("metrics") {
        let jobs = |key: &str| metrics.get(key).map_or(Some(0), number_or_text);
        // Protobuf's JSON leaves out a zero: no `completedJobs` beside `totalJobs` means none.
        if let Some(all) = jobs("totalJobs").filter(|all| *all > 0)
            && let Some(done) = jobs("completedJobs")
            && done < all
        {
            return because(format!(
                "{backend} finished {done} of {all} parts of the query only"
            ));
        }
    }
    Ok(())
}

fn number_or_text(value: &Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

/// All series of a Prometheus or Loki metric answer; an empty list is a proper answer.
pub(super) fn series(answers: &AnswerBook, query: &Query) -> Reading<Vec<Series>> {
    let value = json(answers, query)?;
    let backend = query.backend();
    let odd = |what: &str| Missing::Because(format!("{backend}'s answer is malformed: {what}"));
    if value.get("status").and_then(Value::as_str) != Some("success") {
        return Err(odd("its status is not `success`"));
    }
    let data = value.get("data").ok_or_else(|| odd("no `data`"))?;
    let result = data.get("result").ok_or_else(|| odd("no `result`"))?;
    let list = || result.as_array().ok_or_else(|| odd("`result` is no list"));
    match data.get("resultType").and_then(Value::as_str) {
        Some("scalar") => Ok(vec![Series {
            labels: BTreeMap::new(),
            points: vec![point(result).ok_or_else(|| odd("a scalar that is no number"))?],
        }]),
        Some("vector") => list()?
            .iter()
            .map(|item| {
                let value = item
                    .get("value")
                    .ok_or_else(|| odd("a series without `value`"))?;
                Ok(Series {
                    labels: labels(item),
                    points: vec![point(value).ok_or_else(|| odd("a value that is no number"))?],
                })
            })
            .collect(),
        Some("matrix") => list()?
            .iter()
            .map(|item| {
                let values = item.get("values").and_then(Value::as_array);
                let values = values.ok_or_else(|| odd("a series without `values`"))?;
                let points: Option<Vec<_>> = values.iter().map(point).collect();
                Ok(Series {
                    labels: labels(item),
                    points: points.ok_or_else(|| odd("a value that is no number"))?,
                })
            })
            .collect(),
        other => Err(odd(&format!(
            "result type {} where numbers are needed",
            other.unwrap_or("missing")
        ))),
    }
}

fn labels(item: &Value) -> BTreeMap<String, String> {
    let pairs = item.get("metric").and_then(Value::as_object);
    pairs
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Latest time that is taken for one, Unix seconds: the year 2200, well within 64-bit nanoseconds.
const LATEST: f64 = 7_258_118_400.0;

/// How far the time of an instant vector may lie from the one asked about, milliseconds: Prometheus answers
/// with the very instant; whole seconds are let through.
const AT_MOST_OFF: u64 = 1_000;

/// `[unix seconds, "value"]`; a time that a run can have, and a number, finite or not.
fn point(value: &Value) -> Option<(i64, f64)> {
    let [at, value] = value.as_array()?.as_slice() else {
        return None;
    };
    let at = at.as_f64().filter(|at| (0.0..=LATEST).contains(at))?;
    let at = (at * 1000.0).round() as i64;
    Some((at, value.as_str()?.parse().ok()?))
}

/// The one number that a query answers with.
pub(super) fn one(answers: &AnswerBook, query: &Query) -> Reading<f64> {
    let values: Vec<f64> = match query {
        Query::TempoMetrics { .. } => tempo_values(answers, query)?,
        _ => {
            let all = series(answers, query)?;
            if all.iter().any(|s| s.points.len() != 1) {
                return because("the answer is a range of values where one number is needed");
            }
            if let (Query::PromInstant { time, .. }, [only]) = (query, all.as_slice())
                && only.points[0].1.is_finite()
                && only.points[0].0.abs_diff((time.0 / 1_000_000) as i64) > AT_MOST_OFF
            {
                return because(
                    "the answer is for another time than the one asked about (from a cache?)",
                );
            }
            all.iter().map(|s| s.points[0].1).collect()
        }
    };
    match values.as_slice() {
        [] => Err(Missing::Empty),
        [value] if value.is_nan() => because("the answer is NaN, not a number"),
        [value] if value.is_infinite() => because("the answer is infinite"),
        [value] => Ok(*value),
        several => because(format!(
            "the answer has {} series where one number is needed; aggregate them, e.g. with sum(…)",
            several.len()
        )),
    }
}

/// The one whole number, not negative, that a query answers with.
pub(super) fn count(answers: &AnswerBook, query: &Query) -> Reading<u64> {
    one(answers, query).and_then(whole)
}

/// A float that is a count. 2^53 is where floats cease to hold every whole number.
pub(super) fn whole(value: f64) -> Reading<u64> {
    if value < 0.0 {
        return because(format!("{value} is negative, so it is no count"));
    }
    if value.fract() != 0.0 || value > 9_007_199_254_740_992.0 {
        return because(format!("{value} is not a whole number, so it is no count"));
    }
    Ok(value as u64)
}

/// Values of a TraceQL metrics answer. A series without `value` had no spans: that is empty, not 0.
fn tempo_values(answers: &AnswerBook, query: &Query) -> Reading<Vec<f64>> {
    let value = json(answers, query)?;
    let series = match value.get("series") {
        None | Some(Value::Null) if value.get("metrics").is_some() => return Ok(Vec::new()),
        Some(Value::Array(series)) => series,
        _ => return because("tempo's answer is malformed: no `series`"),
    };
    series
        .iter()
        .filter_map(|s| s.get("value"))
        .map(|v| {
            v.as_f64()
                .or_else(|| v.as_str().and_then(|text| text.parse().ok()))
                .ok_or_else(|| {
                    Missing::Because("tempo's answer has a value that is no number".into())
                })
        })
        .collect()
}
