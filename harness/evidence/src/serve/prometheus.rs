//! The HTTP API of Prometheus over a [`MetricStore`].
//!
//! Shapes, error types and status codes follow the v1 API
//! (<https://prometheus.io/docs/prometheus/latest/querying/api/>). Values are strings; an instant
//! query of a range selector answers with a matrix of the raw samples.

mod json;
mod params;
mod write;

use super::gate::{Busy, Gate};
use crate::Evidence;
use crate::promql::{self, MAX_POINTS, Options, QueryError};
use crate::receive::{otlp, remote_write};
use crate::store::metrics::{Labels, MetricStore};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on, post};
use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use params::Params;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The largest form a request may post, bytes.
pub const FORM_LIMIT: usize = 1 << 20;

#[derive(Clone)]
struct Api {
    store: Arc<MetricStore>,
    options: Arc<Options>,
    gate: Gate,
}

/// The API with Prometheus' default query options.
pub fn router(store: Arc<MetricStore>) -> Router {
    router_with(store, Options::default())
}

/// The API; a request's `timeout` can shorten that of `options`, not lengthen it.
pub fn router_with(store: Arc<MetricStore>, options: Options) -> Router {
    gated(store, options, Gate::default())
}

fn gated(store: Arc<MetricStore>, options: Options, gate: Gate) -> Router {
    let received = Evidence {
        metrics: store.clone(),
        ..Evidence::default()
    };
    let api = Api {
        store,
        options: Arc::new(options),
        gate,
    };
    let both = MethodFilter::GET.or(MethodFilter::POST);
    Router::new()
        .route("/api/v1/query", on(both, query))
        .route("/api/v1/query_range", on(both, query_range))
        .route("/api/v1/series", on(both, series))
        .route("/api/v1/labels", on(both, labels))
        .route("/api/v1/label/{name}/values", get(label_values))
        .route("/api/v1/metadata", get(metadata))
        .route(
            "/api/v1/query_exemplars",
            on(both, || async { success("[]") }),
        )
        .route(
            "/api/v1/rules",
            get(|| async { success("{\"groups\":[]}") }),
        )
        .route(
            "/api/v1/write",
            post(write::write).layer(DefaultBodyLimit::max(remote_write::MOST_UNPACKED)),
        )
        .route(
            "/api/v1/alerts",
            get(|| async { success("{\"alerts\":[]}") }),
        )
        .route("/api/v1/targets", get(targets))
        .route(
            "/api/v1/status/buildinfo",
            get(|| async { success(&json::build_info()) }),
        )
        .route(
            "/-/ready",
            get(|| async { "Prometheus Server is Ready.\n" }),
        )
        .route(
            "/-/healthy",
            get(|| async { "Prometheus Server is Healthy.\n" }),
        )
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .layer(DefaultBodyLimit::max(FORM_LIMIT))
        .with_state(api)
        // Behind the limit of forms: a payload has its own.
        .nest("/api/v1/otlp", otlp::metrics_router(received))
}

/// An answer that is an error: its status, type and text.
struct Failure(StatusCode, &'static str, String);

impl Failure {
    fn bad(message: impl Into<String>) -> Self {
        Failure(StatusCode::BAD_REQUEST, "bad_data", message.into())
    }

    fn parameter(name: &str, message: impl std::fmt::Display) -> Self {
        Self::bad(format!("invalid parameter {name:?}: {message}"))
    }
}

impl From<QueryError> for Failure {
    fn from(e: QueryError) -> Self {
        match e {
            QueryError::Parse { .. } | QueryError::Unsupported { .. } => {
                Failure::parameter("query", e)
            }
            QueryError::Execution(_) | QueryError::TooManySamples(_) => {
                Failure(StatusCode::UNPROCESSABLE_ENTITY, "execution", e.to_string())
            }
            QueryError::Timeout => {
                Failure(StatusCode::SERVICE_UNAVAILABLE, "timeout", e.to_string())
            }
        }
    }
}

impl From<Busy> for Failure {
    fn from(busy: Busy) -> Self {
        let (kind, text) = match busy {
            Busy::Full => ("unavailable", "too many queries are waiting to be run"),
            Busy::Late => ("timeout", "query timed out in query queue"),
        };
        Failure(StatusCode::SERVICE_UNAVAILABLE, kind, text.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Failure(status, kind, message) = self;
        let body = format!(
            "{{\"status\":\"error\",\"errorType\":\"{kind}\",\"error\":{}}}",
            json::text(&message)
        );
        (status, [(CONTENT_TYPE, "application/json")], body).into_response()
    }
}

fn success(data: &str) -> Response {
    let body = format!("{{\"status\":\"success\",\"data\":{data}}}");
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

impl Api {
    /// Runs blocking work off the runtime's threads, when fewer than too many others run, and with what
    /// is left of its time. Its panic becomes a 500 and ends nothing else.
    async fn run<T: Send + 'static>(
        &self,
        time: Duration,
        work: impl FnOnce(&MetricStore, Duration) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let internal = |what: &str| {
            Failure(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                what.to_string(),
            )
        };
        let came = Instant::now();
        let permit = self.gate.enter(time).await?;
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&store, time.saturating_sub(came.elapsed()))
        });
        done.await
            .unwrap_or_else(|_| Err(internal("the evaluation of this query broke down")))
    }

    fn options(&self, p: &Params) -> Result<Options, Failure> {
        let mut options = (*self.options).clone();
        if let Some(ms) = p.optional_duration("timeout")? {
            options.timeout = options
                .timeout
                .min(Duration::from_millis(ms.unsigned_abs()));
        }
        if let Some(ms) = p.optional_duration("lookback_delta")? {
            options.lookback = Duration::from_millis(ms.unsigned_abs());
        }
        Ok(options)
    }
}

async fn query(
    State(api): State<Api>,
    RawQuery(raw): RawQuery,
    body: Bytes,
) -> Result<Response, Failure> {
    let p = Params::read(raw.as_deref(), &body)?;
    let t_ms = p.time("time")?.unwrap_or_else(params::now_ms);
    let mut options = api.options(&p)?;
    let text = p.first("query").unwrap_or("").to_string();
    let answer = api
        .run(options.timeout, move |store, left| {
            options.timeout = left;
            let answer = promql::instant(store, &text, t_ms, &options)?;
            Ok(json::answer(&answer, t_ms))
        })
        .await?;
    Ok(([(CONTENT_TYPE, "application/json")], answer).into_response())
}

async fn query_range(
    State(api): State<Api>,
    RawQuery(raw): RawQuery,
    body: Bytes,
) -> Result<Response, Failure> {
    let p = Params::read(raw.as_deref(), &body)?;
    let (start, end) = (p.required_time("start")?, p.required_time("end")?);
    if end < start {
        return Err(Failure::parameter(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let step = p.required_duration("step")?;
    if step <= 0 {
        return Err(Failure::parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if end.saturating_sub(start) / step > MAX_POINTS {
        return Err(Failure::bad(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ));
    }
    let mut options = api.options(&p)?;
    let text = p.first("query").unwrap_or("").to_string();
    let answer = api
        .run(options.timeout, move |store, left| {
            options.timeout = left;
            let answer = promql::range(store, &text, (start, end), step, &options)?;
            Ok(json::answer(&answer, start))
        })
        .await?;
    Ok(([(CONTENT_TYPE, "application/json")], answer).into_response())
}

/// The label sets that the request's `match[]` selectors and times select; all when there is none.
async fn selected(api: &Api, p: &Params, needs_match: bool) -> Result<BTreeSet<Labels>, Failure> {
    let texts: Vec<String> = p.all("match[]").map(String::from).collect();
    if needs_match && texts.is_empty() {
        return Err(Failure::bad("no match[] parameter provided"));
    }
    let from = p.time("start")?.unwrap_or(i64::MIN);
    let to = p.time("end")?.unwrap_or(i64::MAX);
    if to < from {
        return Err(Failure::parameter(
            "end",
            "end timestamp must not be before start time",
        ));
    }
    let mut sets = Vec::with_capacity(texts.len());
    for text in texts {
        sets.push(promql::parse_selector(&text).map_err(|e| Failure::parameter("match[]", e))?);
    }
    api.run(api.options.timeout, move |store, _| {
        let reader = store.read();
        if sets.is_empty() {
            return Ok(reader.label_sets(&[], from, to).into_iter().collect());
        }
        Ok(sets
            .iter()
            .flat_map(|m| reader.label_sets(m, from, to))
            .collect())
    })
    .await
}

async fn series(
    State(api): State<Api>,
    RawQuery(raw): RawQuery,
    body: Bytes,
) -> Result<Response, Failure> {
    let p = Params::read(raw.as_deref(), &body)?;
    let sets = selected(&api, &p, true).await?;
    Ok(success(&json::list(sets.iter().map(json::labels))))
}

async fn labels(
    State(api): State<Api>,
    RawQuery(raw): RawQuery,
    body: Bytes,
) -> Result<Response, Failure> {
    let p = Params::read(raw.as_deref(), &body)?;
    let sets = selected(&api, &p, false).await?;
    let names: BTreeSet<&str> = sets.iter().flat_map(|l| l.iter().map(|(n, _)| n)).collect();
    Ok(success(&json::list(names.into_iter().map(json::text))))
}

async fn label_values(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Failure> {
    let p = Params::read(raw.as_deref(), &[])?;
    let sets = selected(&api, &p, false).await?;
    let values: BTreeSet<&str> = sets.iter().filter_map(|l| l.get(&name)).collect();
    Ok(success(&json::list(values.into_iter().map(json::text))))
}

/// Types and help texts of the metrics scraped, narrowed by `metric` and `limit`.
async fn metadata(State(api): State<Api>, RawQuery(raw): RawQuery) -> Result<Response, Failure> {
    let p = Params::read(raw.as_deref(), &[])?;
    let limit = match p.first("limit").filter(|t| !t.is_empty()) {
        None => usize::MAX,
        // A negative limit is none.
        Some(text) => text
            .parse::<i64>()
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX))
            .map_err(|_| Failure::bad("limit must be a number"))?,
    };
    let only = p.first("metric").filter(|m| !m.is_empty());
    let all = api.store.metadata.all();
    let shown = all
        .iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name))
        .take(limit);
    Ok(success(&json::metadata(shown)))
}

async fn targets(State(api): State<Api>) -> Response {
    success(&json::targets(&api.store.targets.all()))
}

#[cfg(test)]
mod tests;
