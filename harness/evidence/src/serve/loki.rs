//! Loki' HTTP API.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;

use crate::store::logs::LogStore;

/// Not built yet: every path is answered 501.
pub fn router(_store: Arc<LogStore>) -> Router {
    Router::new().fallback(|| async {
        (
            StatusCode::NOT_IMPLEMENTED,
            "the Loki API is not built yet\n",
        )
    })
}
