//! `/api/metrics/query` and `/api/metrics/query_range`.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::params::Params;
use super::{Api, ApiError, json};
use crate::traceql::ast::{Query, go_duration};
use crate::traceql::eval::metrics::{Steps, evaluate};
use crate::traceql::eval::series::{Exemplar, Series};

const MAX_RANGE_NANOS: u64 = 24 * 3600 * 1_000_000_000;
/// Exemplars of a query that does not say how many it wants.
const DEFAULT_EXEMPLARS: usize = 100;
/// Steps of one range at most; a smaller step is refused.
const MAX_STEPS: u64 = 10_000;

/// One value a series, over the whole window.
pub(super) async fn instant(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let query = query(&params, "compiling query: ")?;
    let (start, end) = window(&params)?;
    if start == end {
        return Err(ApiError::bad("end must be greater than start"));
    }
    let steps = Steps::Instant { start, end };
    let series = run(api, query, steps, 0).await?;
    let shown = |series: &Series| {
        let value = series.values.first().copied().flatten()?;
        let mut out = Map::new();
        out.insert("labels".into(), json::literals(&series.labels));
        put(&mut out, value);
        Some(out.into())
    };
    Ok(answer(series.iter().filter_map(shown).collect()))
}

/// A value for every step, a series.
pub(super) async fn range(State(api): State<Api>, params: Params) -> Result<Response, ApiError> {
    let query = query(&params, "")?;
    let (start, end) = window(&params)?;
    let step = step(&params, end - start)?;
    let wanted = match query.flag("exemplars") {
        Some(false) => 0,
        _ => match params.integer("exemplars", "ParseUint")? {
            None | Some(0) => DEFAULT_EXEMPLARS,
            Some(given) => given,
        },
    };
    let steps = Steps::range(start, end, step);
    let series = run(api, query, steps, wanted).await?;
    let ends = steps.ends();
    Ok(answer(series.iter().map(|s| shown(s, &ends)).collect()))
}

fn query(params: &Params, prefix: &str) -> Result<Query, ApiError> {
    let Some(text) = params.get("q").or_else(|| params.get("query")) else {
        let text = format!("{prefix}parse error : syntax error: unexpected $end");
        return Err(ApiError::bad(text));
    };
    let query = crate::traceql::parse(text).map_err(|e| ApiError::bad(format!("{prefix}{e}")))?;
    match query.metric {
        Some(_) => Ok(query),
        None => Err(ApiError::bad("not a metrics query")),
    }
}

fn window(params: &Params) -> Result<(u64, u64), ApiError> {
    let (start, end) = params.metrics_window()?;
    if end < start {
        return Err(ApiError::bad("end must be greater than start"));
    }
    if end - start > MAX_RANGE_NANOS {
        return Err(ApiError::bad(
            "metrics query time range exceeds the maximum allowed duration of 24h0m0s",
        ));
    }
    Ok((start, end))
}

fn step(params: &Params, range: u64) -> Result<u64, ApiError> {
    const SECOND: u64 = 1_000_000_000;
    let Some(step) = params.duration("step")? else {
        // About 250 points, whole seconds.
        return Ok((range / 250 / SECOND * SECOND).max(SECOND));
    };
    let step = u64::try_from(step.as_nanos())
        .unwrap_or(u64::MAX)
        .min(MAX_RANGE_NANOS);
    let least = range / MAX_STEPS;
    if step == 0 || step < least {
        let text = |ns: u64| go_duration(i64::try_from(ns).unwrap_or(i64::MAX));
        return Err(ApiError::bad(format!(
            "step of {} is too small, minimum step for given range is {}",
            text(step),
            text(least)
        )));
    }
    Ok(step)
}

async fn run(
    api: Api,
    query: Query,
    steps: Steps,
    exemplars: usize,
) -> Result<Vec<Series>, ApiError> {
    api.run(move |store| evaluate(store, &query, steps, exemplars).map_err(ApiError::from))
        .await
}

/// No series is no `series`, and a zero is no `value`: protobuf JSON leaves defaults out.
fn answer(series: Vec<Value>) -> Response {
    let mut out = Map::new();
    if !series.is_empty() {
        out.insert("series".into(), series.into());
    }
    out.insert(
        "metrics".into(),
        json!({ "completedJobs": 1, "totalJobs": 1 }),
    );
    json::answer(&out.into())
}

fn put(out: &mut Map<String, Value>, value: f64) {
    if value != 0.0 {
        out.insert("value".into(), json::double(value));
    }
}

fn shown(series: &Series, ends: &[u64]) -> Value {
    let sample = |(end, value): (&u64, &Option<f64>)| {
        let mut out = Map::new();
        out.insert("timestampMs".into(), millis(*end));
        put(&mut out, (*value)?);
        Some(Value::from(out))
    };
    let samples: Vec<Value> = ends.iter().zip(&series.values).filter_map(sample).collect();
    let mut out = Map::new();
    out.insert("labels".into(), json::literals(&series.labels));
    out.insert("samples".into(), samples.into());
    if !series.exemplars.is_empty() {
        let exemplars = series.exemplars.iter().map(|e| exemplar(series, e));
        out.insert("exemplars".into(), exemplars.collect());
    }
    out.into()
}

fn exemplar(series: &Series, of: &Exemplar) -> Value {
    let id = json!({ "key": "trace:id", "value": { "stringValue": format!("{:032x}", of.trace) } });
    let mut out = Map::new();
    out.insert("labels".into(), json!([id]));
    let value = of
        .value
        .or_else(|| series.values.get(of.step).copied().flatten());
    put(&mut out, value.unwrap_or_default());
    out.insert("timestampMs".into(), millis(of.time));
    out.into()
}

fn millis(nanos: u64) -> Value {
    (nanos / 1_000_000).to_string().into()
}
