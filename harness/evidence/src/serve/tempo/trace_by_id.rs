//! `/api/traces/{id}` and `/api/v2/traces/{id}`.

use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, TracesData};
use prost::Message;
use serde_json::{Value, json};

use super::params::Params;
use super::{Api, ApiError, json};

const PROTOBUF: &str = "application/protobuf";

/// Version 1: the trace itself; 404 with an empty body when it is unknown.
pub(super) async fn v1(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let Some(resource_spans) = find(api, id, &params).await? else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    if wants_protobuf(&headers) {
        return Ok(protobuf(&TracesData { resource_spans }));
    }
    Ok(json::answer(&json!({ "batches": spans(&resource_spans) })))
}

/// Version 2: the trace in an envelope; an unknown trace is an empty one.
pub(super) async fn v2(
    State(api): State<Api>,
    Path(id): Path<String>,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let found = find(api, id, &params).await?;
    if wants_protobuf(&headers) {
        let trace = TracesData {
            resource_spans: found.unwrap_or_default(),
        };
        return Ok(protobuf(&TraceByIdResponse { trace: Some(trace) }));
    }
    let trace = match &found {
        Some(all) => json!({ "resourceSpans": spans(all) }),
        None => json!({}),
    };
    Ok(json::answer(&json!({ "trace": trace, "metrics": {} })))
}

/// The envelope of version 2.
#[derive(Clone, PartialEq, Message)]
struct TraceByIdResponse {
    #[prost(message, optional, tag = "1")]
    trace: Option<TracesData>,
}

async fn find(
    api: Api,
    id: String,
    params: &Params,
) -> Result<Option<Vec<ResourceSpans>>, ApiError> {
    // They only tell Tempo which blocks to open; here there is one place to look.
    if let (Some(start), Some(end)) = (params.seconds("start")?, params.seconds("end")?)
        && start >= end
    {
        return Err(ApiError::bad(format!(
            "http parameter start must be before end. received start={start} end={end}"
        )));
    }
    let id = parse_id(&id)?;
    api.run(move |store| Ok(store.trace(id))).await
}

/// Hex of either case, leading zeros optional, as searches leave them out.
fn parse_id(text: &str) -> Result<u128, ApiError> {
    if let Some((at, odd)) = text
        .chars()
        .enumerate()
        .find(|(_, c)| !c.is_ascii_hexdigit())
    {
        return Err(ApiError::bad(format!(
            "trace IDs can only contain hex characters: invalid character '{odd}' at position {}",
            at + 1
        )));
    }
    u128::from_str_radix(text, 16)
        .ok()
        .filter(|_| text.len() <= 32)
        .ok_or_else(|| ApiError::bad("trace IDs can't be larger than 128 bits"))
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|accept| accept.contains(PROTOBUF))
}

fn protobuf(message: &impl Message) -> Response {
    ([(CONTENT_TYPE, PROTOBUF)], message.encode_to_vec()).into_response()
}

fn spans(all: &[ResourceSpans]) -> Vec<Value> {
    all.iter().map(json::resource_spans).collect()
}
