//! `metricSource: {type: LoadClient}`: what the generator itself saw.

use serde_json::{Map, Value};

use super::{ClientFigure, ClientMetric, Limit, Time, Wanted};
use crate::scenario::Dur;

/// Where in an objective a client metric stands; each place takes other keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Good,
    Bad,
    Total,
    Threshold,
}

/// What is wrong with a `LoadClient` spec: the key, the message and a hint.
pub(super) struct Wrong {
    pub(super) key: &'static str,
    pub(super) message: String,
    pub(super) hint: String,
}

fn wrong(key: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Wrong {
    Wrong {
        key,
        message: message.into(),
        hint: hint.into(),
    }
}

const KEYS: &str = "the keys are `request`, `outcome`, `latency`, `service_time`, `first_byte`, `first_event`, `inter_event` and `metric`";

/// The keys as written, before their meaning in their place is looked at.
#[derive(Default)]
struct Written {
    request: Option<String>,
    outcome: Option<Wanted>,
    limit: Option<Limit>,
    metric: Option<String>,
}

/// Reads a `LoadClient` spec.
pub(super) fn metric(spec: &Map<String, Value>, place: Place) -> Result<ClientMetric, Wrong> {
    let written = written(spec)?;
    let figure = match (&written.metric, place) {
        (Some(name), _) => named(name, &written, place)?,
        (None, Place::Threshold) => {
            return Err(wrong(
                "metric",
                "is missing",
                "a thresholdMetric needs `metric: rate`, `metric: accuracy` or a quantile such as `metric: latency_p99`",
            ));
        }
        (None, place) => count(&written, place)?,
    };
    Ok(ClientMetric {
        request: written.request,
        figure,
    })
}

fn written(spec: &Map<String, Value>) -> Result<Written, Wrong> {
    let mut found = Written::default();
    for (key, value) in spec {
        let Some(text) = value.as_str() else {
            return Err(wrong(
                "",
                format!("`{key}` must be a text, not {value}"),
                KEYS,
            ));
        };
        match key.as_str() {
            "request" => found.request = Some(text.to_owned()),
            "outcome" => found.outcome = Some(wanted(text)?),
            "metric" => found.metric = Some(text.to_owned()),
            other => match named_time(other) {
                Some(time) => set_limit(&mut found, time, text)?,
                None => return Err(wrong("", format!("unknown key `{other}`"), KEYS)),
            },
        }
    }
    Ok(found)
}

fn named_time(name: &str) -> Option<Time> {
    Time::ALL.into_iter().find(|time| time.name() == name)
}

fn set_limit(found: &mut Written, time: Time, text: &str) -> Result<(), Wrong> {
    let key = time.name();
    if found.limit.is_some() {
        return Err(wrong(
            key,
            "is a second time limit",
            "write one limit an objective; several objectives may share an SLO file",
        ));
    }
    let bad = || {
        wrong(
            key,
            format!("`{text}` is not a limit"),
            "write it as `<= 250ms` or `< 1s500ms`",
        )
    };
    let (strictly, rest) = match (text.strip_prefix("<="), text.strip_prefix('<')) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(bad()),
    };
    let at_most: Dur = rest.trim().parse().map_err(|_| bad())?;
    if at_most.0.is_zero() {
        return Err(bad());
    }
    found.limit = Some(Limit {
        time,
        at_most,
        strictly,
    });
    Ok(())
}

fn wanted(text: &str) -> Result<Wanted, Wrong> {
    match text {
        "expected" => Ok(Wanted::Expected),
        "failed" => Ok(Wanted::Failed),
        "any" => Ok(Wanted::Any),
        _ => Err(wrong(
            "outcome",
            format!("unknown outcome `{text}`"),
            "one of `expected`, `failed`, `any`",
        )),
    }
}

/// A count of rows: one side of a ratio.
fn count(written: &Written, place: Place) -> Result<ClientFigure, Wrong> {
    let (outcome, limit) = (written.outcome, written.limit);
    match place {
        // Whatever narrows the total hides failures from the ratio.
        Place::Total if limit.is_some() || outcome.is_some_and(|o| o != Wanted::Any) => Err(wrong(
            "outcome",
            "the total of a client ratio is every request that was due; it takes neither a limit nor an outcome",
            "leave only `request` in `total`",
        )),
        Place::Good if outcome == Some(Wanted::Failed) => Err(wrong(
            "outcome",
            "failed requests cannot be the good ones",
            "use `bad` with `outcome: failed`, or `good` with `outcome: expected`",
        )),
        Place::Good if outcome == Some(Wanted::Any) && limit.is_none() => Err(wrong(
            "outcome",
            "counts every request as good, so that the objective can never be missed",
            "use `outcome: expected`, or add a limit such as `latency: \"<= 250ms\"`",
        )),
        Place::Bad if limit.is_some() => Err(wrong(
            "latency",
            "a limit says what is good",
            "use `good` with the limit in place of `bad`",
        )),
        Place::Bad if outcome.is_some_and(|o| o != Wanted::Failed) => Err(wrong(
            "outcome",
            "the bad requests are those with `outcome: failed`",
            "write `outcome: failed`, or use `good`",
        )),
        Place::Bad => Ok(ClientFigure::Count {
            outcome: Wanted::Failed,
            limit: None,
        }),
        Place::Good => Ok(ClientFigure::Count {
            outcome: outcome.unwrap_or(Wanted::Expected),
            limit,
        }),
        Place::Total | Place::Threshold => Ok(ClientFigure::Count {
            outcome: Wanted::Any,
            limit: None,
        }),
    }
}

/// A figure chosen by `metric`.
fn named(name: &str, written: &Written, place: Place) -> Result<ClientFigure, Wrong> {
    if written.limit.is_some() {
        return Err(wrong(
            "metric",
            "does not go with a time limit",
            "leave out one of the two",
        ));
    }
    match (name, place) {
        ("accuracy", _) if written.outcome.is_some() => Err(wrong(
            "outcome",
            "does not go with `metric: accuracy`, which compares every answer that has a truth",
            "leave out `outcome`",
        )),
        ("accuracy", _) => Ok(ClientFigure::Accuracy),
        ("rate", Place::Threshold) => Ok(ClientFigure::Rate {
            outcome: written.outcome.unwrap_or(Wanted::Expected),
        }),
        (_, Place::Threshold) if written.outcome.is_some() => Err(wrong(
            "outcome",
            "does not go with a quantile, which is over every request",
            "leave out `outcome`",
        )),
        (_, Place::Threshold) => quantile(name),
        _ => Err(wrong(
            "metric",
            format!("`{name}` is not a count and cannot be one side of a ratio"),
            "use `metric: accuracy` on both sides, or a thresholdMetric",
        )),
    }
}

fn quantile(name: &str) -> Result<ClientFigure, Wrong> {
    let parsed = name.rsplit_once("_p").and_then(|(time, percent)| {
        let time = named_time(time)?;
        let percent: f64 = percent.parse().ok()?;
        (percent > 0.0 && percent < 100.0).then_some(ClientFigure::Quantile {
            time,
            q: percent / 100.0,
        })
    });
    parsed.ok_or_else(|| {
        wrong(
            "metric",
            format!("unknown metric `{name}`"),
            "one of `rate`, `accuracy`, or a quantile: `latency_p99`, `service_time_p99.9`, `first_byte_p50`, `first_event_p95`, `inter_event_p99`",
        )
    })
}
