//! Prometheus' HTTP API.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;

use crate::store::metrics::MetricStore;

/// Not built yet: every path is answered 501.
pub fn router(_store: Arc<MetricStore>) -> Router {
    Router::new().fallback(|| async {
        (
            StatusCode::NOT_IMPLEMENTED,
            "the Prometheus API is not built yet\n",
        )
    })
}
