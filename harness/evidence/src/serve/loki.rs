//! Loki's HTTP API over a [`LogStore`].
//!
//! Shapes, status codes and plain-text errors are those recorded of Loki 3.7. A query runs on a
//! thread of its own with a deadline; a panic in it is an answer of 500 and nothing more. What Loki
//! has and this has not is answered 404.

mod ingest;
mod params;
mod respond;

use super::gate::{Busy, Gate};
use crate::logql::{Direction, LogRange, Query, QueryError, QueryLimits, Selector, Steps};
use crate::store::logs::{Labels, LogStore};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use params::{Params, now};
use respond::{Failure, json_data, plain};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest request body in bytes, packed and unpacked.
const MOST_BODY: usize = 64 << 20;
/// Longest time for one query.
const QUERY_TIME: Duration = Duration::from_secs(60);
/// Most lines of one answer, as Loki ships it.
const MOST_LINES: usize = 5_000;
/// Most instants of a range query, as Loki ships it.
const MOST_POINTS: i64 = 11_000;
/// Longest range of a query, in nanoseconds: 30 days and an hour, as Loki ships it.
const MOST_RANGE: i64 = (30 * 24 + 1) * 3_600 * 1_000_000_000;

#[derive(Clone)]
struct Loki {
    store: Arc<LogStore>,
    gate: Gate,
}

/// The API over this store. Serve it where Loki's base address would be.
pub fn router(store: Arc<LogStore>) -> Router {
    gated(store, Gate::default())
}

fn gated(store: Arc<LogStore>, gate: Gate) -> Router {
    let state = Loki { store, gate };
    Router::new()
        .route("/ready", get(async || plain(StatusCode::OK, "ready\n")))
        .route("/loki/api/v1/status/buildinfo", get(build_info))
        .route("/loki/api/v1/query", get(query).post(query))
        .route(
            "/loki/api/v1/query_range",
            get(query_range).post(query_range),
        )
        .route("/loki/api/v1/labels", get(labels).post(labels))
        .route("/loki/api/v1/label", get(labels).post(labels))
        .route(
            "/loki/api/v1/label/{name}/values",
            get(label_values).post(label_values),
        )
        .route("/loki/api/v1/series", get(series).post(series))
        .route(
            "/loki/api/v1/index/stats",
            get(index_stats).post(index_stats),
        )
        .route(
            "/loki/api/v1/format_query",
            get(format_query).post(format_query),
        )
        .route(
            "/loki/api/v1/detected_labels",
            get(detected_labels).post(detected_labels),
        )
        .route("/loki/api/v1/push", post(ingest::push))
        .route("/otlp/v1/logs", post(ingest::otlp))
        .fallback(async || plain(StatusCode::NOT_FOUND, "404 page not found\n"))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .with_state(state)
}

async fn build_info() -> Response {
    respond::json(&json!({
        "version": env!("CARGO_PKG_VERSION"), "revision": "embedded", "branch": "",
        "buildUser": "", "buildDate": "", "goVersion": "",
    }))
}

/// Runs a query where it may take its time without holding up the server.
async fn run(
    loki: &Loki,
    work: impl FnOnce(&LogStore, &QueryLimits) -> Result<Response, Failure> + Send + 'static,
) -> Response {
    let limits = QueryLimits {
        deadline: Some(Instant::now() + QUERY_TIME),
        ..QueryLimits::default()
    };
    let permit = match loki.gate.enter(QUERY_TIME).await {
        Ok(permit) => permit,
        Err(Busy::Full) => {
            return plain(
                StatusCode::TOO_MANY_REQUESTS,
                "too many outstanding requests",
            );
        }
        Err(Busy::Late) => return Failure::from(QueryError::Timeout).into_response(),
    };
    let store = loki.store.clone();
    let done = tokio::task::spawn_blocking(move || {
        let response = work(&store, &limits);
        drop(permit);
        response
    });
    match done.await {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => failure.into_response(),
        Err(_) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the query failed by a fault of the server; other queries are not affected",
        ),
    }
}

async fn query(State(loki): State<Loki>, RawQuery(raw): RawQuery, body: Bytes) -> Response {
    run(&loki, move |store, limits| {
        let params = Params::new(raw, &body)?;
        let at = params.time("time")?.unwrap_or_else(now);
        params.limit()?;
        params.direction()?;
        let query = Query::new(params.get("query").unwrap_or(""))?;
        if query.is_log() {
            return Err(Failure::bad(
                "log queries are not supported as an instant query type, please change your \
                 query to a range query type",
            ));
        }
        let started = Instant::now();
        let answer = query.instant(store, at, limits)?;
        Ok(respond::answer(&answer, at, false, started))
    })
    .await
}

async fn query_range(
    State(loki): State<Loki>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let categorize = headers
        .get_all("x-loki-response-encoding-flags")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|flag| flag.trim() == "categorize-labels");
    run(&loki, move |store, limits| {
        let params = Params::new(raw, &body)?;
        let (start, end) = params.bounds()?;
        let limit = params.limit()?;
        let direction = params.direction()?;
        let step = params.step(start, end)?;
        let interval = params.duration("interval")?.unwrap_or(0);
        let query = Query::new(params.get("query").unwrap_or(""))?;
        check_range(&query, start, end, step)?;
        let started = Instant::now();
        let answer = if query.is_log() {
            let range = LogRange {
                start,
                end,
                limit,
                direction,
                interval,
            };
            query.lines(store, range, limits)?
        } else {
            query.range(store, aligned(start, end, step), limits)?
        };
        Ok(respond::answer(&answer, end, categorize, started))
    })
    .await
}

/// Loki takes the instants of a range at whole multiples of the step, widening the range to them.
fn aligned(start: i64, end: i64, step: i64) -> Steps {
    let up = if end.rem_euclid(step) == 0 { 0 } else { step };
    Steps {
        start: start.saturating_sub(start.rem_euclid(step)),
        end: end.saturating_sub(end.rem_euclid(step)).saturating_add(up),
        step,
    }
}

fn check_range(query: &Query, start: i64, end: i64, step: i64) -> Result<(), Failure> {
    if end < start || (end == start && query.is_log()) {
        return Err(Failure::bad(
            "end timestamp must not be before or equal to start time",
        ));
    }
    // Times may lie anywhere, so their distance need not be one.
    let length = end.saturating_sub(start);
    let read = length.saturating_add(query.longest_window());
    if read > MOST_RANGE {
        return Err(Failure::bad(format!(
            "the query time range exceeds the limit (query length: {} s, limit: 30d1h)",
            read / 1_000_000_000
        )));
    }
    if !query.is_log() && length / step > MOST_POINTS {
        return Err(Failure::bad(
            "exceeded maximum resolution of 11,000 points per time series. Try increasing the \
             value of the step parameter",
        ));
    }
    Ok(())
}

/// Label sets in the bounds of a metadata request that satisfy any of its selectors.
fn label_sets(
    store: &LogStore,
    params: &Params,
    selectors: &[&str],
) -> Result<Vec<Labels>, Failure> {
    let (start, end) = params.bounds()?;
    if end < start {
        return Err(Failure::bad(
            "end timestamp must not be before or equal to start time",
        ));
    }
    let compiled: Vec<Selector> = selectors
        .iter()
        .map(|text| Selector::new(&crate::logql::parse_selector(text)?))
        .collect::<Result<_, QueryError>>()?;
    let wanted = |labels: &Labels| {
        compiled.is_empty() || compiled.iter().any(|selector| selector.fits(labels))
    };
    Ok(store.series(start, end.saturating_add(1), wanted))
}

async fn labels(State(loki): State<Loki>, RawQuery(raw): RawQuery, body: Bytes) -> Response {
    run(&loki, move |store, _| {
        let params = Params::new(raw, &body)?;
        let sets = label_sets(store, &params, &params.all(&["query"]))?;
        let names: BTreeSet<&str> = sets.iter().flat_map(|s| s.iter().map(|(n, _)| n)).collect();
        Ok(json_data(&names))
    })
    .await
}

async fn label_values(
    State(loki): State<Loki>,
    Path(name): Path<String>,
    RawQuery(raw): RawQuery,
    body: Bytes,
) -> Response {
    run(&loki, move |store, _| {
        let params = Params::new(raw, &body)?;
        let sets = label_sets(store, &params, &params.all(&["query"]))?;
        let values: BTreeSet<&str> = sets.iter().filter_map(|s| s.get(&name)).collect();
        Ok(json_data(&values))
    })
    .await
}

async fn series(State(loki): State<Loki>, RawQuery(raw): RawQuery, body: Bytes) -> Response {
    run(&loki, move |store, _| {
        let params = Params::new(raw, &body)?;
        let selectors = params.all(&["match[]", "match"]);
        let sets = label_sets(store, &params, &selectors)?;
        let maps: Vec<_> = sets.iter().map(respond::label_map).collect();
        Ok(json_data(&maps))
    })
    .await
}

async fn index_stats(State(loki): State<Loki>, RawQuery(raw): RawQuery, body: Bytes) -> Response {
    run(&loki, move |store, _| {
        let params = Params::new(raw, &body)?;
        let (start, end) = params.bounds()?;
        let text = params.get("query").unwrap_or("");
        let selector = Selector::new(&crate::logql::parse_selector(text)?)?;
        let found = store.select(start, end, |labels| selector.fits(labels));
        let entries: usize = found.iter().map(|s| s.entries.len()).sum();
        let bytes: usize = found
            .iter()
            .flat_map(|s| s.entries.iter().map(|e| e.line.len()))
            .sum();
        Ok(respond::json(&json!({
            "streams": found.len(), "chunks": found.len(), "bytes": bytes, "entries": entries,
        })))
    })
    .await
}

async fn format_query(State(loki): State<Loki>, RawQuery(raw): RawQuery, body: Bytes) -> Response {
    run(&loki, move |_, _| {
        let params = Params::new(raw, &body)?;
        let query = Query::new(params.get("query").unwrap_or(""))?;
        Ok(json_data(&query.text()))
    })
    .await
}

async fn detected_labels(
    State(loki): State<Loki>,
    RawQuery(raw): RawQuery,
    body: Bytes,
) -> Response {
    run(&loki, move |store, _| {
        let params = Params::new(raw, &body)?;
        let sets = label_sets(store, &params, &params.all(&["query"]))?;
        let names: BTreeSet<&str> = sets.iter().flat_map(|s| s.iter().map(|(n, _)| n)).collect();
        let labels: Vec<_> = names
            .iter()
            .map(|name| {
                let values: BTreeSet<&str> = sets.iter().filter_map(|s| s.get(name)).collect();
                json!({"label": name, "cardinality": values.len()})
            })
            .collect();
        Ok(respond::json(&json!({"detectedLabels": labels})))
    })
    .await
}

#[cfg(test)]
mod tests;
