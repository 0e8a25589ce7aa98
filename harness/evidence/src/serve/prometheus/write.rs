//! Remote write and OTLP metrics, at the paths where Prometheus takes them.

use super::Api;
use crate::receive::remote_write;
use crate::store::metrics::AppendError;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

/// `POST /api/v1/write`. As in Prometheus a request is stored whole or not at all: a sample that is
/// out of order, contradicts a stored one or is out of bounds is answered 400 in plain text, which
/// tells the sender not to try again; a store without room is answered 503.
pub(super) async fn write(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // Not counted: it asks the sender for another message, by which nothing is lost.
    if let Err(why) = acceptable(&headers) {
        return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why);
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) => {
            // Whatever is in it is missing.
            api.store.count_invalid(1);
            return plain(rejection.status(), &rejection.body_text());
        }
    };
    let store = api.store.clone();
    let stored = tokio::task::spawn_blocking(move || {
        let samples = remote_write::samples(&body).map_err(|why| {
            store.count_invalid(1);
            (StatusCode::BAD_REQUEST, why)
        })?;
        store.append_all(&samples).map_err(|e| {
            let status = match e {
                AppendError::Full { .. } | AppendError::NotRecorded(_) => {
                    StatusCode::SERVICE_UNAVAILABLE
                }
                _ => StatusCode::BAD_REQUEST,
            };
            (status, e.to_string())
        })
    });
    match stored.await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err((status, why))) => plain(status, &why),
        Err(_) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "storing the request broke down",
        ),
    }
}

/// Version 2 has another message under the same media type, told apart by a parameter only.
fn acceptable(headers: &HeaderMap) -> Result<(), String> {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    let kind = text(CONTENT_TYPE).unwrap_or("application/x-protobuf");
    let mut parts = kind.split(';').map(str::trim);
    if parts.next() != Some("application/x-protobuf") {
        return Err(format!(
            "expected application/x-protobuf as the first (media) part, got {kind:?} content-type"
        ));
    }
    if let Some(proto) = parts.find_map(|part| part.strip_prefix("proto="))
        && proto != "prometheus.WriteRequest"
    {
        return Err(format!(
            "{proto} protobuf message is not accepted by this server; only accepts prometheus.WriteRequest"
        ));
    }
    match text(CONTENT_ENCODING) {
        None | Some("snappy") => Ok(()),
        Some(other) => Err(format!(
            "{other} encoding (compression) is not accepted by this server; only snappy is acceptable"
        )),
    }
}

fn plain(status: StatusCode, why: &str) -> Response {
    let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, kind, format!("{why}\n")).into_response()
}
