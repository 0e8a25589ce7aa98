//! OTLP over HTTP: protobuf and JSON, plain or gzip.

use std::io::Read;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message;
use serde::de::DeserializeOwned;

use super::{MAX_PAYLOAD_BYTES, NotStored, Payload, ids, ingest};
use crate::store::segment::Signal;
use crate::{Evidence, Ingested};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// `POST /v1/traces`, `/v1/logs` and `/v1/metrics`.
///
/// A payload that cannot be read is answered 400 with a `google.rpc.Status` in the request's own
/// encoding, an unknown content type 415, a payload over [`MAX_PAYLOAD_BYTES`] 413.
pub fn http_router(evidence: Evidence) -> Router {
    let counted = middleware::from_fn_with_state(evidence.clone(), count_unread);
    Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/logs", post(logs))
        .route("/v1/metrics", post(metrics))
        .layer(DefaultBodyLimit::max(MAX_PAYLOAD_BYTES))
        .layer(counted)
        .with_state(evidence)
}

/// `POST /v1/metrics` alone, for where Prometheus takes it.
pub fn metrics_router(evidence: Evidence) -> Router {
    let counted = middleware::from_fn_with_state(evidence.clone(), count_unread);
    Router::new()
        .route("/v1/metrics", post(metrics))
        .layer(DefaultBodyLimit::max(MAX_PAYLOAD_BYTES))
        .layer(counted)
        .with_state(evidence)
}

/// Counts every payload whose answer is an error, wherever it came from (its encoding, its length, its
/// content): nothing of it is stored, and the evidence must not look whole. What a store refuses of a
/// payload is a partial success, and the store has counted it.
async fn count_unread(State(to): State<Evidence>, request: Request, next: Next) -> Response {
    let posted = request.method() == Method::POST;
    let signal = Signal::ALL.into_iter().find(|signal| {
        let path = request.uri().path();
        path.strip_prefix("/v1/") == Some(signal.name())
    });
    let response = next.run(request).await;
    if let Some(signal) = signal
        && posted
        && !response.status().is_success()
    {
        to.count_unreadable(signal);
    }
    response
}

async fn traces(State(to): State<Evidence>, headers: HeaderMap, body: Bytes) -> Response {
    receive(to, &headers, body, Signal::Traces).await
}

async fn logs(State(to): State<Evidence>, headers: HeaderMap, body: Bytes) -> Response {
    receive(to, &headers, body, Signal::Logs).await
}

async fn metrics(State(to): State<Evidence>, headers: HeaderMap, body: Bytes) -> Response {
    receive(to, &headers, body, Signal::Metrics).await
}

fn rejected_key(signal: Signal) -> &'static str {
    match signal {
        Signal::Traces => "rejectedSpans",
        Signal::Logs => "rejectedLogRecords",
        Signal::Metrics => "rejectedDataPoints",
    }
}

/// The spans of an OTLP/JSON payload, the body of an `ExportTraceServiceRequest`.
///
/// # Errors
/// What is malformed and where.
pub fn json_traces(body: &[u8]) -> Result<Vec<ResourceSpans>, String> {
    let request: ExportTraceServiceRequest = from_json(body)?;
    ids::check(&request.resource_spans)?;
    Ok(request.resource_spans)
}

/// The log records of an OTLP/JSON payload, the body of an `ExportLogsServiceRequest`.
///
/// # Errors
/// What is malformed and where.
pub fn json_logs(body: &[u8]) -> Result<Vec<ResourceLogs>, String> {
    from_json::<ExportLogsServiceRequest>(body).map(|request| request.resource_logs)
}

/// The data points of an OTLP/JSON payload, the body of an `ExportMetricsServiceRequest`.
///
/// # Errors
/// What is malformed and where.
pub fn json_metrics(body: &[u8]) -> Result<Vec<ResourceMetrics>, String> {
    from_json::<ExportMetricsServiceRequest>(body).map(|request| request.resource_metrics)
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|e| format!("not an OTLP/JSON payload: {e}"))
}

fn from_protobuf<T: Message + Default>(body: &[u8]) -> Result<T, String> {
    T::decode(body).map_err(|e| format!("not an OTLP payload: {e}"))
}

/// How a payload is written; the answer is written the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = value.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case(PROTOBUF) {
            Some(Self::Protobuf)
        } else if essence.eq_ignore_ascii_case(JSON) {
            Some(Self::Json)
        } else {
            None
        }
    }

    fn read(self, body: &Bytes, signal: Signal) -> Result<Payload, String> {
        Ok(match (signal, self) {
            (Signal::Traces, Self::Json) => Payload::Traces(json_traces(body)?),
            (Signal::Logs, Self::Json) => Payload::Logs(json_logs(body)?),
            (Signal::Metrics, Self::Json) => Payload::Metrics(json_metrics(body)?),
            (Signal::Traces, Self::Protobuf) => Payload::Spans(body.clone()),
            (Signal::Logs, Self::Protobuf) => {
                let request: ExportLogsServiceRequest = from_protobuf(body)?;
                Payload::Logs(request.resource_logs)
            }
            (Signal::Metrics, Self::Protobuf) => {
                let request: ExportMetricsServiceRequest = from_protobuf(body)?;
                Payload::Metrics(request.resource_metrics)
            }
        })
    }

    fn answer(self, status: StatusCode, protobuf: Vec<u8>, json: &serde_json::Value) -> Response {
        match self {
            Self::Protobuf => (status, [(CONTENT_TYPE, PROTOBUF)], protobuf).into_response(),
            Self::Json => (status, [(CONTENT_TYPE, JSON)], json.to_string()).into_response(),
        }
    }

    fn error(self, status: StatusCode, code: i32, message: String) -> Response {
        let json = serde_json::json!({ "code": code, "message": message });
        self.answer(status, RpcStatus { code, message }.encode_to_vec(), &json)
    }
}

/// `google.rpc.Status` without its details, the body OTLP asks for with every error.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// An `Export…ServiceResponse`. The three have one wire shape: field 1 holds the count of refused
/// items in field 1 and the reason in field 2.
#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

const INVALID_ARGUMENT: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;
const INTERNAL: i32 = 13;

async fn receive(to: Evidence, headers: &HeaderMap, body: Bytes, signal: Signal) -> Response {
    let Some(encoding) = Encoding::of(headers) else {
        let text = format!("415 unsupported media type, supported: [{JSON}, {PROTOBUF}]");
        return (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            [(CONTENT_TYPE, "text/plain")],
            text,
        )
            .into_response();
    };
    let body = match inflate(headers, body) {
        Ok(body) => body,
        Err((status, code, message)) => return encoding.error(status, code, message),
    };
    let payload = match encoding.read(&body, signal) {
        Ok(payload) => payload,
        Err(message) => return encoding.error(StatusCode::BAD_REQUEST, INVALID_ARGUMENT, message),
    };
    match ingest(to, payload).await {
        Ok(done) => accepted(encoding, &done, rejected_key(signal)),
        Err(NotStored::Malformed(message)) => {
            encoding.error(StatusCode::BAD_REQUEST, INVALID_ARGUMENT, message)
        }
        Err(NotStored::Broken(message)) => {
            encoding.error(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL, message)
        }
    }
}

fn accepted(encoding: Encoding, done: &Ingested, rejected_key: &str) -> Response {
    let mut partial = serde_json::Map::new();
    if done.rejected > 0 {
        partial.insert(rejected_key.into(), done.rejected.to_string().into());
    }
    if !done.message.is_empty() {
        partial.insert("errorMessage".into(), done.message.clone().into());
    }
    let partial_success = (!partial.is_empty()).then(|| PartialSuccess {
        rejected: i64::try_from(done.rejected).unwrap_or(i64::MAX),
        error_message: done.message.clone(),
    });
    let json = serde_json::json!({ "partialSuccess": partial });
    encoding.answer(
        StatusCode::OK,
        ExportResponse { partial_success }.encode_to_vec(),
        &json,
    )
}

/// Undoes the content encoding. The bound is on what comes out: a small gzip can hold gigabytes.
fn inflate(headers: &HeaderMap, body: Bytes) -> Result<Bytes, (StatusCode, i32, String)> {
    let bad = |message| (StatusCode::BAD_REQUEST, INVALID_ARGUMENT, message);
    match headers.get(CONTENT_ENCODING).map(|v| v.as_bytes()) {
        None | Some(b"" | b"identity") => Ok(body),
        Some(b"gzip") => {
            let mut plain = Vec::new();
            flate2::read::MultiGzDecoder::new(&body[..])
                .take(MAX_PAYLOAD_BYTES as u64 + 1)
                .read_to_end(&mut plain)
                .map_err(|e| bad(format!("Content-Encoding is gzip, the body is not: {e}")))?;
            if plain.len() > MAX_PAYLOAD_BYTES {
                let text = format!("payload inflates to more than {MAX_PAYLOAD_BYTES} bytes");
                return Err((StatusCode::PAYLOAD_TOO_LARGE, RESOURCE_EXHAUSTED, text));
            }
            Ok(plain.into())
        }
        Some(other) => Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            INVALID_ARGUMENT,
            format!(
                "unsupported Content-Encoding {:?}, supported: gzip, identity",
                String::from_utf8_lossy(other)
            ),
        )),
    }
}

#[cfg(test)]
mod tests;
