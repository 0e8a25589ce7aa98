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

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::store::traces::TraceStore;
use crate::traceql::TraceQlError;

/// The version whose API this is. Tools that read it choose their endpoints by it.
const TEMPO_VERSION: &str = "3.0.3";

/// Trace by id, search, tags and TraceQL metrics.
pub fn router(store: Arc<TraceStore>) -> Router {
    Router::new()
        .route("/api/traces/{id}", get(trace_by_id::v1))
        .route("/api/v2/traces/{id}", get(trace_by_id::v2))
        .route("/api/search", get(search::search))
        .route("/api/metrics/query", get(metrics::instant))
        .route("/api/metrics/query_range", get(metrics::range))
        .route("/api/search/tags", get(tags::names_v1))
        .route("/api/v2/search/tags", get(tags::names_v2))
        .route("/api/search/tag/{tag}/values", get(tags::values_v1))
        .route("/api/v2/search/tag/{tag}/values", get(tags::values_v2))
        .route("/api/status/buildinfo", get(buildinfo))
        .route("/api/echo", get(|| async { "echo\n" }))
        .route("/ready", get(|| async { "ready\n" }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .with_state(store)
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

/// Runs a query off the async threads: it may scan millions of spans.
async fn blocking<T: Send + 'static>(
    query: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(query)
        .await
        .map_err(|e| ApiError::internal(format!("the query ended abnormally: {e}")))?
}
