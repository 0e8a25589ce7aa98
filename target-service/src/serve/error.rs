//! Refusals as HTTP: a status, a JSON body that says what is wrong, and a note for the log.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use std::time::Duration;

/// An answer that is not a prediction.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Status.
    pub status: StatusCode,
    /// Class, one of [`crate::telemetry::names::reason`].
    pub class: &'static str,
    /// What is wrong and what would be right, for people.
    pub message: String,
    /// For 503: when to come back.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal without `Retry-After`.
    pub fn new(status: StatusCode, class: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            class,
            message: message.into(),
            retry_after: None,
        }
    }

    /// 503 that asks to come back after `wait`, in whole seconds and at least one.
    pub fn busy(class: &'static str, message: impl Into<String>, wait: Duration) -> Refusal {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Refusal {
            retry_after: Some(wait),
            ..Refusal::new(status, class, message)
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "type": self.class, "message": self.message } });
        let mut response = (self.status, Json(body)).into_response();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        response.extensions_mut().insert(self);
        response
    }
}
