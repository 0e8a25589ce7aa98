//! From a request's bytes to what it says, within limits and with positions in errors.

use std::time::Instant;

use axum::body::{Body, Bytes};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::Refusal;
use crate::telemetry::names::reason;

/// How a body holds its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

impl Format {
    /// From the content type; without one the body is text.
    pub(super) fn of(headers: &HeaderMap) -> Result<Format, Refusal> {
        Ok(Self::given(headers)?.unwrap_or(Format::Text))
    }

    /// For protocols that know JSON only, which may come without a content type.
    pub(super) fn only_json(headers: &HeaderMap) -> Result<(), Refusal> {
        match Self::given(headers)? {
            None | Some(Format::Json) => Ok(()),
            Some(Format::Text) => Err(media_type(
                "content type \"text/plain\"; send application/json",
            )),
        }
    }

    fn given(headers: &HeaderMap) -> Result<Option<Format>, Refusal> {
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
            && encoding.as_bytes() != b"identity"
        {
            let encoding = encoding.to_str().unwrap_or("(not ASCII)");
            return Err(media_type(format!(
                "content encoding {encoding:?}; bodies are read as they are"
            )));
        }
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Ok(None);
        };
        let given = value.to_str().unwrap_or("(not ASCII)");
        let essence = given.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "text/plain" => Ok(Some(Format::Text)),
            "application/json" => Ok(Some(Format::Json)),
            _ => Err(media_type(format!(
                "content type {given:?}; send text/plain or application/json"
            ))),
        }
    }
}

fn media_type(message: impl Into<String>) -> Refusal {
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    Refusal::new(status, reason::MEDIA_TYPE, message)
}

/// The whole body, if it comes until `deadline` and has at most `limit` bytes.
pub(super) async fn read(body: Body, limit: usize, deadline: Instant) -> Result<Bytes, Refusal> {
    let whole = Limited::new(body, limit).collect();
    match tokio::time::timeout_at(deadline.into(), whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            let message = format!("the body is longer than {limit} bytes");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            Err(Refusal::new(status, reason::BODY_TOO_LARGE, message))
        }
        Ok(Err(error)) => {
            let message = format!("the body could not be read: {error}");
            let status = StatusCode::BAD_REQUEST;
            Err(Refusal::new(status, reason::BODY_UNREADABLE, message))
        }
        Err(_) => {
            let message = "the body did not arrive within the deadline";
            let status = StatusCode::REQUEST_TIMEOUT;
            Err(Refusal::new(status, reason::BODY_TIMEOUT, message))
        }
    }
}

/// The body as text.
pub(super) fn text(body: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        let message = format!("the body is not UTF-8 from byte {at} on");
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, reason::NOT_UTF8, message)
    })
}

/// The body as JSON; `expected` shows what would be right. Errors have line and column.
pub(super) fn json<T: DeserializeOwned>(body: &[u8], expected: &str) -> Result<T, Refusal> {
    serde_json::from_str(text(body)?).map_err(|error| {
        let class = if error.is_data() {
            reason::WRONG_SHAPE
        } else {
            reason::MALFORMED_JSON
        };
        let message = format!("expected {expected}: {error}");
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, class, message)
    })
}
