//! Tempo's HTTP API.
//!
//! Answers have the shapes recorded from Tempo 3: errors are plain text, 64-bit integers are strings,
//! ids are base64 in traces and hex in searches. A parameter or path that is not supported is
//! refused, never ignored when ignoring it would change the answer.

mod json;
mod metrics;
mod params;
mod search;
mod tags;
#[cfg(test)]
mod tests;
mod trace_by_id;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::gate::{Busy, Gate};

use crate::store::traces::TraceStore;
use crate::traceql::TraceQlError;

/// The version whose API this is. Tools that read it choose their endpoints by it.
const TEMPO_VERSION: &str = "3.0.3";

/// The longest form a request may post, in bytes.
const FORM_LIMIT: usize = 1 << 20;
/// How long a query waits for others to end before it is given up; as long as it may run.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a request is answered from.
#[derive(Clone)]
struct Api {
    store: Arc<TraceStore>,
    gate: Gate,
}

/// Trace by id, search, tags and TraceQL metrics.
pub fn router(store: Arc<TraceStore>) -> Router {
    gated(store, Gate::default())
}

/// By GET and as a posted form.
fn both<H: Handler<T, Api> + Clone, T: 'static>(handler: H) -> MethodRouter<Api> {
    get(handler.clone()).post(handler)
}

fn gated(store: Arc<TraceStore>, gate: Gate) -> Router {
    Router::new()
        .route("/api/traces/{id}", both(trace_by_id::v1))
        .route("/api/v2/traces/{id}", both(trace_by_id::v2))
        .route("/api/search", both(search::search))
        .route("/api/metrics/query", both(metrics::instant))
        .route("/api/metrics/query_range", both(metrics::range))
        .route("/api/search/tags", both(tags::names_v1))
        .route("/api/v2/search/tags", both(tags::names_v2))
        .route("/api/search/tag/{tag}/values", both(tags::values_v1))
        .route("/api/v2/search/tag/{tag}/values", both(tags::values_v2))
        .route("/api/status/buildinfo", get(buildinfo))
        .route("/api/echo", get(|| async { "echo\n" }))
        .route("/ready", get(|| async { "ready\n" }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .layer(DefaultBodyLimit::max(FORM_LIMIT))
        .with_state(Api { store, gate })
}

async fn buildinfo() -> Response {
    json::answer(&serde_json::json!({
        "version": TEMPO_VERSION,
        "revision": concat!("harness-evidence ", env!("CARGO_PKG_VERSION")),
        "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
    }))
}

/// An error as Tempo words it: plain text, without a newline.
#[derive(Debug)]
struct ApiError {
    status: StatusCode,
    text: String,
}

impl ApiError {
    fn bad(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            text: text.into(),
        }
    }

    fn internal(text: impl Into<String>) -> Self {
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            text: text.into(),
        }
    }
}

impl From<TraceQlError> for ApiError {
    fn from(e: TraceQlError) -> Self {
        match e {
            TraceQlError::Timeout => Self {
                status: StatusCode::GATEWAY_TIMEOUT,
                text: e.to_string(),
            },
            TraceQlError::Syntax { .. } | TraceQlError::Meaning(_) => Self::bad(e.to_string()),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let plain = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
        (self.status, plain, self.text).into_response()
    }
}

impl From<Busy> for ApiError {
    fn from(busy: Busy) -> Self {
        match busy {
            Busy::Full => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                text: "too many outstanding requests".into(),
            },
            Busy::Late => TraceQlError::Timeout.into(),
        }
    }
}

impl Api {
    /// Runs a query off the async threads: it may scan millions of spans.
    async fn run<T: Send + 'static>(
        self,
        query: impl FnOnce(&TraceStore) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = self.gate.enter(PATIENCE).await?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            query(&self.store)
        });
        done.await
            .map_err(|e| ApiError::internal(format!("the query ended abnormally: {e}")))?
    }
}
