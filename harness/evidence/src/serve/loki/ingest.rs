//! Push and OTLP over HTTP.

use super::respond::plain;
use super::{Loki, MOST_BODY};
use crate::Ingested;
use crate::receive::loki_push;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use std::io::Read as _;

/// What an OTLP sender is told of a failure: `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// What Loki says to a payload with nothing in it.
const NO_STREAM: &str = "error at least one valid stream is required for ingestion";

pub(super) async fn push(
    State(loki): State<Loki>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match whole(&loki, body) {
        Ok(body) => body,
        Err((status, why)) => return plain(status, &why),
    };
    stored(move || {
        let streams =
            unpacked(&headers, body).and_then(|body| match content_type(&headers).as_str() {
                "application/json" => loki_push::json(&body),
                "application/x-protobuf" | "" => loki_push::protobuf(&body),
                other => Err(format!(
                    "content type {other} is not supported; send application/json or application/x-protobuf"
                )),
            });
        match streams {
            Ok(streams) if streams.is_empty() => {
                plain(StatusCode::UNPROCESSABLE_ENTITY, &format!("{NO_STREAM}\n"))
            }
            Ok(streams) => match problem(&loki.store.ingest_push(streams)) {
                None => StatusCode::NO_CONTENT.into_response(),
                Some((status, message)) => plain(status, &format!("{message}\n")),
            },
            Err(message) => {
                loki.store.count_invalid(1);
                plain(StatusCode::BAD_REQUEST, &format!("{message}\n"))
            }
        }
    })
    .await
}

pub(super) async fn otlp(
    State(loki): State<Loki>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match whole(&loki, body) {
        Ok(body) => body,
        Err((status, why)) => return plain(status, &why),
    };
    stored(move || {
        let decoded =
            unpacked(&headers, body).and_then(|body| match content_type(&headers).as_str() {
                "application/json" => serde_json::from_slice::<ExportLogsServiceRequest>(&body)
                    .map_err(|e| format!("malformed OTLP JSON: {e}")),
                "application/x-protobuf" => ExportLogsServiceRequest::decode(&*body)
                    .map_err(|e| format!("malformed OTLP: {e}")),
                other => Err(format!("content type: {other} is not supported")),
            });
        match decoded {
            Ok(request) if request.resource_logs.is_empty() => {
                otlp_error(StatusCode::UNPROCESSABLE_ENTITY, NO_STREAM.into())
            }
            Ok(request) => match problem(&loki.store.ingest_otlp(request.resource_logs)) {
                None => StatusCode::NO_CONTENT.into_response(),
                Some((status, message)) => otlp_error(status, message),
            },
            Err(message) => {
                loki.store.count_invalid(1);
                otlp_error(StatusCode::BAD_REQUEST, message)
            }
        }
    })
    .await
}

/// The body, or what to answer when it is too long or did not come whole; what was in it is missing.
fn whole(loki: &Loki, body: Result<Bytes, BytesRejection>) -> Result<Bytes, (StatusCode, String)> {
    body.map_err(|rejection| {
        loki.store.count_invalid(1);
        (rejection.status(), format!("{}\n", rejection.body_text()))
    })
}

/// Reads and stores off the async threads.
async fn stored(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "storing the request broke down\n",
        )
    })
}

/// What to answer when not everything was stored. A full store is 429 rather than 4xx for good,
/// so that a sender keeps its lines and says that it could not deliver.
fn problem(done: &Ingested) -> Option<(StatusCode, String)> {
    if done.rejected == 0 {
        return None;
    }
    let status = if done.out_of_room {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        StatusCode::BAD_REQUEST
    };
    Some((status, done.message.clone()))
}

fn otlp_error(status: StatusCode, message: String) -> Response {
    let body = Status { code: 0, message }.encode_to_vec();
    (
        status,
        [(header::CONTENT_TYPE, "application/octet-stream")],
        body,
    )
        .into_response()
}

/// The media type, without parameters, in small letters.
fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|v| v.to_str().ok()).unwrap_or("");
    let media = text.split(';').next().unwrap_or("");
    media.trim().to_ascii_lowercase()
}

/// The body without its content encoding.
fn unpacked(headers: &HeaderMap, body: Bytes) -> Result<Bytes, String> {
    let encoding = headers
        .get(header::CONTENT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    match encoding.trim() {
        // Protobuf pushes are snappy by themselves, whether or not they say so.
        "" | "identity" | "snappy" => Ok(body),
        "gzip" => {
            let mut out = Vec::new();
            let limit = MOST_BODY as u64 + 1;
            flate2::read::MultiGzDecoder::new(&*body)
                .take(limit)
                .read_to_end(&mut out)
                .map_err(|e| format!("malformed gzip: {e}"))?;
            if out.len() > MOST_BODY {
                return Err(format!("the body unpacks to more than {MOST_BODY} bytes"));
            }
            Ok(out.into())
        }
        other => Err(format!("content encoding {other} is not supported")),
    }
}
