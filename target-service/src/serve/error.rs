//! Refusals as HTTP: a status, a JSON body in the shape of the protocol that the request came by, and
//! a note for the log.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::time::Duration;

/// Which protocol's errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shape {
    /// `{"error": {"type", "message"}}`: our own.
    #[default]
    Plain,
    /// `{"error": "message"}`: the Open Inference Protocol.
    OpenInference,
    /// `{"error": {"message", "type", "param", "code"}}`: `OpenAI`'s.
    OpenAi,
}

impl Shape {
    /// The protocol that a path belongs to.
    pub fn of_path(path: &str) -> Shape {
        let within = |root: &str| {
            path.strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if within("/v1") {
            Shape::OpenAi
        } else if within("/v2") {
            Shape::OpenInference
        } else {
            Shape::Plain
        }
    }
}

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
    /// How it is written.
    pub shape: Shape,
    /// What part of the request is meant, where the shape can say it.
    pub param: Option<String>,
}

impl Refusal {
    /// A refusal without `Retry-After`.
    pub fn new(status: StatusCode, class: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            class,
            message: message.into(),
            retry_after: None,
            shape: Shape::Plain,
            param: None,
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

    /// The same in another shape.
    #[must_use]
    pub fn shaped(self, shape: Shape) -> Refusal {
        Refusal { shape, ..self }
    }

    /// The same, of a part of the request.
    #[must_use]
    pub fn about(self, param: impl Into<String>) -> Refusal {
        Refusal {
            param: Some(param.into()),
            ..self
        }
    }

    /// The body.
    pub fn body(&self) -> Value {
        match self.shape {
            Shape::Plain => json!({ "error": { "type": self.class, "message": self.message } }),
            Shape::OpenInference => json!({ "error": self.message }),
            Shape::OpenAi => {
                let kind = if self.status.is_client_error() {
                    "invalid_request_error"
                } else {
                    "server_error"
                };
                json!({ "error": {
                    "message": self.message, "type": kind, "param": self.param, "code": self.class,
                } })
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
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
