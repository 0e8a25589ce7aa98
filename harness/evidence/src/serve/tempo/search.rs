//! `/api/search`.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::params::Params;
use super::{Api, ApiError, json};
use crate::traceql::ast::{
    Attribute, Expr, Intrinsic, Op, Query, Scope, Spanset, SpansetOp, Stage, Static,
};
use crate::traceql::eval::search::{self, Bounds, Found, FoundSet, FoundSpan};

const DEFAULT_TRACES: usize = 20;
const MAX_TRACES: usize = 262_144;
const DEFAULT_SPANS: usize = 3;
const MAX_SPANS: usize = 100;
const MAX_RANGE_SECONDS: u64 = 168 * 3600;

/// Traces that a TraceQL query (`q`) or plain `tags` find, newest first.
pub(super) async fn search(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let bounds = bounds(&params)?;
    let (query, with_spans) = query(&params)?;
    let found = api
        .run(move |store| search::search(store, &query, &bounds).map_err(ApiError::from))
        .await?;
    let traces: Vec<Value> = found.iter().map(|found| trace(found, with_spans)).collect();
    let metrics = json!({ "inspectedTraces": traces.len(), "completedJobs": 1, "totalJobs": 1 });
    Ok(json::answer(
        &json!({ "traces": traces, "metrics": metrics }),
    ))
}

fn bounds(params: &Params) -> Result<Bounds, ApiError> {
    let limit = |key: &str, default: usize| match params.integer(key, "ParseUint")? {
        Some(0) => Err(ApiError::bad(format!(
            "invalid {key}: must be a positive number"
        ))),
        given => Ok(given.unwrap_or(default)),
    };
    let traces = limit("limit", DEFAULT_TRACES)?;
    if traces > MAX_TRACES {
        return Err(ApiError::bad(format!(
            "limit {traces} exceeds max limit {MAX_TRACES}"
        )));
    }
    let spans = limit("spss", DEFAULT_SPANS)?;
    if spans > MAX_SPANS {
        return Err(ApiError::bad(format!(
            "spans per span set exceeds {MAX_SPANS}. received {spans}"
        )));
    }
    let nanos = |key: &str, default: u64| {
        let given = params.duration(key)?;
        Ok::<u64, ApiError>(
            given.map_or(default, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)),
        )
    };
    let (shortest, longest) = (nanos("minDuration", 0)?, nanos("maxDuration", u64::MAX)?);
    if longest < shortest {
        return Err(ApiError::bad(
            "invalid maxDuration: must be greater than minDuration",
        ));
    }
    Ok(Bounds {
        window: window(params, true)?,
        traces,
        spans,
        duration: (shortest, longest),
    })
}

/// `start` and `end`, both or neither, in nanoseconds.
pub(super) fn window(params: &Params, capped: bool) -> Result<Option<(u64, u64)>, ApiError> {
    let (start, end) = (params.seconds("start")?, params.seconds("end")?);
    if start.is_none() && end.is_none() {
        return Ok(None);
    }
    let (start, end) = (start.unwrap_or(0), end.unwrap_or(0));
    if start >= end {
        return Err(ApiError::bad(format!(
            "http parameter start must be before end. received start={start} end={end}"
        )));
    }
    if capped && end.saturating_sub(start) > MAX_RANGE_SECONDS {
        return Err(ApiError::bad(format!(
            "range specified by start and end exceeds 168h0m0s. received start={start} end={end}"
        )));
    }
    let nanos = |s: u64| s.saturating_mul(1_000_000_000);
    Ok(Some((nanos(start), nanos(end))))
}

/// The query, and whether the answer shows spans: one by tags shows traces alone.
fn query(params: &Params) -> Result<(Query, bool), ApiError> {
    let parsed = |text: &str| {
        crate::traceql::parse(text)
            .map_err(|e| ApiError::bad(format!("invalid TraceQL query: {e}")))
    };
    match (params.get("q"), params.get("tags")) {
        (Some(_), Some(_)) => Err(ApiError::bad(
            "invalid request: can't specify tags and q in the same query",
        )),
        (Some(q), None) => Ok((parsed(q)?, true)),
        (None, tags) => Ok((by_tags(tags.unwrap_or_default())?, false)),
    }
}

/// `service.name=shop http.status_code=500` in logfmt: each has to be found on some span of a trace.
fn by_tags(text: &str) -> Result<Query, ApiError> {
    let mut wanted: Option<Spanset> = None;
    for (key, value) in logfmt(text)? {
        let attribute = match key.as_str() {
            "name" => Attribute::Intrinsic(Intrinsic::Name),
            _ => Attribute::Named(Scope::Any, key),
        };
        let equals = |value| {
            let attribute = Box::new(Expr::Attribute(attribute.clone()));
            Expr::Binary(Op::Eq, attribute, Box::new(Expr::Static(value)))
        };
        let mut test = equals(Static::String(value.clone()));
        if let Ok(number) = value.parse() {
            let or = equals(Static::Int(number));
            test = Expr::Binary(Op::Or, Box::new(test), Box::new(or));
        }
        let one = Spanset::Filter(Some(test));
        wanted = Some(match wanted {
            None => one,
            Some(others) => Spanset::Op(SpansetOp::And, Box::new(others), Box::new(one)),
        });
    }
    let wanted = wanted.unwrap_or(Spanset::Filter(None));
    Ok(Query {
        pipeline: vec![Stage::Spans(wanted)],
        metric: None,
        hints: Vec::new(),
    })
}

fn logfmt(text: &str) -> Result<Vec<(String, String)>, ApiError> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| c == '=' || c.is_whitespace())
            .unwrap_or(rest.len());
        let key = rest[..end].to_owned();
        let wrong = |rest: &str, c: char| {
            let at = text[..text.len() - rest.len()].chars().count() + 1;
            ApiError::bad(format!("invalid tags: unexpected '{c}' at pos {at}"))
        };
        if key.is_empty() {
            return Err(wrong(rest, '='));
        }
        rest = &rest[end..];
        let mut value = String::new();
        if let Some(after) = rest.strip_prefix('=') {
            if let Some(quoted) = after.strip_prefix('"') {
                let close = quoted.find('"').ok_or_else(|| {
                    ApiError::bad(format!(
                        "invalid tags: the quote after {key}= is not closed"
                    ))
                })?;
                value = quoted[..close].to_owned();
                rest = &quoted[close + 1..];
            } else {
                let end = after.find(char::is_whitespace).unwrap_or(after.len());
                if let Some(sign) = after[..end].find('=') {
                    return Err(wrong(&after[sign..], '='));
                }
                value = after[..end].to_owned();
                rest = &after[end..];
            }
        }
        pairs.push((key, value));
        rest = rest.trim_start();
    }
    Ok(pairs)
}

fn trace(of: &Found, with_spans: bool) -> Value {
    let mut out = Map::new();
    // Searches leave leading zeros out of trace ids, though not out of span ids.
    out.insert("traceID".into(), format!("{:x}", of.id).into());
    match &of.root {
        Some((service, name)) => {
            text(&mut out, "rootServiceName", service);
            text(&mut out, "rootTraceName", name);
        }
        None => text(&mut out, "rootServiceName", "<root span not yet received>"),
    }
    out.insert("startTimeUnixNano".into(), of.start.to_string().into());
    if of.duration >= 1_000_000 {
        out.insert("durationMs".into(), (of.duration / 1_000_000).into());
    }
    if with_spans {
        let sets: Vec<Value> = of.sets.iter().map(set).collect();
        out.insert("spanSet".into(), sets.first().cloned().unwrap_or_default());
        out.insert("spanSets".into(), sets.into());
        let services: Map<String, Value> = of
            .services
            .iter()
            .map(|(name, (spans, errors))| (name.clone(), counts(*spans, *errors)))
            .collect();
        out.insert("serviceStats".into(), services.into());
    }
    out.into()
}

fn counts(spans: u64, errors: u64) -> Value {
    match errors {
        0 => json!({ "spanCount": spans }),
        _ => json!({ "spanCount": spans, "errorCount": errors }),
    }
}

fn set(of: &FoundSet) -> Value {
    let spans: Vec<Value> = of.spans.iter().map(span).collect();
    let mut out = Map::new();
    out.insert("spans".into(), spans.into());
    out.insert("matched".into(), of.matched.into());
    if !of.attributes.is_empty() {
        out.insert("attributes".into(), json::literals(&of.attributes));
    }
    out.into()
}

fn span(of: &FoundSpan) -> Value {
    let mut out = Map::new();
    out.insert("spanID".into(), format!("{:016x}", of.id).into());
    text(&mut out, "name", of.name.as_deref().unwrap_or_default());
    out.insert("startTimeUnixNano".into(), of.start.to_string().into());
    if of.duration > 0 {
        out.insert("durationNanos".into(), of.duration.to_string().into());
    }
    if !of.attributes.is_empty() {
        out.insert("attributes".into(), json::literals(&of.attributes));
    }
    out.into()
}

fn text(out: &mut Map<String, Value>, key: &str, value: &str) {
    if !value.is_empty() {
        out.insert(key.into(), value.into());
    }
}
