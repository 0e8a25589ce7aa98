//! The second listener: metrics, probes and faults. Kept apart so that load on the first neither
//! slows a scrape nor is counted with it.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use opentelemetry::KeyValue;
use opentelemetry::logs::Severity;
use serde_json::json;

use super::Service;
use super::error::Refusal;
use crate::faults;
use crate::telemetry::CONTENT_TYPE;
use crate::telemetry::names::{attribute, event, reason};

pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Result<Response, Refusal> {
    if service.faults.telemetry_is_cut(Instant::now()) {
        let message = "telemetry is cut; this was asked for through /faults";
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            reason::CUT,
            message,
        ));
    }
    let text = service.telemetry.metrics.render().map_err(|error| {
        let message = format!("metrics cannot be written: {error}");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, reason::INTERNAL, message)
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

fn allowed(service: &Service) -> Result<(), Refusal> {
    if service.allow_faults {
        return Ok(());
    }
    let message = "faults are off; start the service with --allow-faults";
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        reason::FAULT_REFUSED,
        message,
    ))
}

pub(super) async fn list_faults(State(service): State<Arc<Service>>) -> Result<Response, Refusal> {
    allowed(&service)?;
    Ok(Json(json!({ "faults": service.faults.list(Instant::now()) })).into_response())
}

pub(super) async fn start_fault(
    State(service): State<Arc<Service>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    allowed(&service)?;
    let request: faults::Request = serde_json::from_slice(&body).map_err(|error| {
        let (status, class) = if error.is_data() {
            (StatusCode::UNPROCESSABLE_ENTITY, reason::WRONG_SHAPE)
        } else {
            (StatusCode::BAD_REQUEST, reason::MALFORMED_JSON)
        };
        let message = format!(
            "expected {{\"kind\": \"latency|errors|stall|wrong_answers|telemetry_cut\", \
             \"for_ms\": 10000, \"add_ms\": 300, \"share\": 0.5}}: {error}"
        );
        Refusal::new(status, class, message)
    })?;
    let kind = request.kind;
    let started = |service: &Service| {
        let attributes = vec![KeyValue::new(attribute::FAULT, kind.as_str())];
        service.log(Severity::Warn, event::FAULT_STARTED, attributes);
    };
    faults::check(&request).map_err(refused)?;
    if kind == faults::Kind::TelemetryCut {
        // Told before it begins: it would swallow the line about itself.
        started(&service);
    }
    let id = service
        .faults
        .start(Instant::now(), request)
        .map_err(refused)?;
    if kind != faults::Kind::TelemetryCut {
        started(&service);
    }
    Ok(Json(json!({ "id": id, "kind": kind.as_str() })).into_response())
}

fn refused(error: faults::Rejected) -> Refusal {
    let status = match error {
        faults::Rejected::Field(_) => StatusCode::UNPROCESSABLE_ENTITY,
        faults::Rejected::TooMany => StatusCode::TOO_MANY_REQUESTS,
    };
    Refusal::new(status, reason::FAULT_REFUSED, error.to_string())
}

pub(super) async fn clear_faults(State(service): State<Arc<Service>>) -> Result<Response, Refusal> {
    allowed(&service)?;
    let cleared = service.faults.clear(Instant::now());
    service.log(Severity::Info, event::FAULTS_CLEARED, Vec::new());
    Ok(Json(json!({ "cleared": cleared })).into_response())
}
