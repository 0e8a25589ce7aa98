//! One value of a backend against a limit: what forbids to take it as it is.

use super::RunRecord;
use super::buckets;
use super::coverage::Survey;
use super::evaluate::{Said, not_shown};
use super::names::grouped;
use super::range;
use super::reading::{Missing, Reading};
use crate::objective::{Indicator, Metric, Objective, Op};
use crate::query::Query;

/// What a value says that was read over `window`.
pub(super) fn said(
    record: &RunRecord,
    survey: &Survey,
    objective: &Objective,
    query: &Query,
    value: f64,
    window: &str,
) -> Reading<Said> {
    let Indicator::Threshold {
        metric,
        op,
        value: limit,
    } = &objective.indicator
    else {
        return Err(Missing::Because("a share is needed, not a value".into()));
    };
    let text = metric.query().unwrap_or_default();
    let mut how = if range::is_instant(text) && !matches!(metric, Metric::Tempo(_)) {
        "evaluated at the end of the measured phase only, since the query has no `$window`".into()
    } else {
        format!("evaluated over {window}")
    };
    if let Some(added) = extrapolated(survey, text, window) {
        how.push_str(&added);
    }
    let open = unit(objective, value)
        .or_else(|| counts_below_zero(text, value))
        .or_else(|| lacking(survey, objective, text, value, *op, *limit));
    let open = match (open, buckets::behind(record, query, value)?) {
        (Some(open), _) => Some(open),
        (None, Some(bucket)) if bucket.holds(*op, *limit).is_none() => Some(bucket.open(*limit)),
        (None, Some(bucket)) if bucket.holds(*op, *limit) != Some(op.holds(value, *limit)) => Some(
            format!("{}, and its estimate says otherwise", bucket.said()),
        ),
        (None, Some(bucket)) => {
            how.push_str(&format!("; {}", bucket.said()));
            None
        }
        (None, None) => None,
    };
    Ok(Said::Value { value, how, open })
}

/// A share outside of 0 to 1 is in another unit.
fn unit(objective: &Objective, value: f64) -> Option<String> {
    let is_share = matches!(objective.unit.as_deref(), Some("ratio" | "share" | "1"));
    (is_share && !(0.0..=1.0).contains(&value)).then(|| {
        format!(
            "harness/unit says that it is a share, and {value} is not between 0 and 1 (percent?)"
        )
    })
}

/// The query counts lines or spans.
fn is_count(query: &str) -> bool {
    query.contains("count_over_time")
}

fn counts_below_zero(query: &str, value: f64) -> Option<String> {
    (is_count(query) && value < 0.0).then(|| format!("{value} is negative, so it is no count"))
}

/// A count that must stay under a limit has to do so with everything counted that is not there.
fn lacking(
    survey: &Survey,
    objective: &Objective,
    query: &str,
    value: f64,
    op: Op,
    limit: f64,
) -> Option<String> {
    let lacking = not_shown(survey, objective);
    let at_most = matches!(op, Op::Lte | Op::Lt);
    if lacking == 0 || !is_count(query) || !at_most || !op.holds(value, limit) {
        return None;
    }
    (!op.holds(value + lacking as f64, limit)).then(|| {
        format!(
            "the evidence lacks {} of the run's requests, any of which may have counted",
            grouped(lacking)
        )
    })
}

/// What Prometheus' extrapolation to the edges of a range may have added: up to a little more than one
/// scrape interval at either end (it reaches to the edge where that is within 1.1 intervals).
fn extrapolated(survey: &Survey, query: &str, window: &str) -> Option<String> {
    let code = range::without_strings(query);
    if !["increase(", "rate(", "delta("]
        .iter()
        .any(|f| code.contains(f))
    {
        return None;
    }
    let interval = survey.scrapes.as_ref()?.interval_ms as f64 / 1_000.0;
    // The shortest range decides: of `rate(x[10s])[$window:1s]` it is the 10 s.
    let shortest = code
        .split('[')
        .skip(1)
        .filter_map(|rest| rest.split([']', ':']).next())
        .map(|text| {
            if text.contains("$window") {
                window
            } else {
                text
            }
        })
        .filter_map(range::duration)
        .fold(f64::INFINITY, f64::min);
    let seen = shortest - 2.0 * interval;
    let share = if seen > 0.0 {
        2.2 * interval / seen
    } else {
        return Some(
            "; its range holds hardly two scrapes, so that it is mostly extrapolation".into(),
        );
    };
    Some(format!(
        "; `increase` and `rate` extrapolate to the edges of their range, which may have added up to {:.1} %",
        100.0 * share
    ))
}
