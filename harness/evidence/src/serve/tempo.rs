//! Tempo's HTTP API.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;

use crate::store::traces::TraceStore;

/// Not built yet: every path is answered 501.
pub fn router(_store: Arc<TraceStore>) -> Router {
    Router::new().fallback(|| async {
        (
            StatusCode::NOT_IMPLEMENTED,
            "the Tempo API is not built yet\n",
        )
    })
}
