//! Spans as OTLP carries them.

use harness_core::observation::Observation;
use harness_core::units::UnixNanos;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status, span, status,
};

use super::format::{SpanKind, SpanSet, SpanStatus, Test};
use super::world::{SERVICE, wall};

/// The spans that a test writes down, each in a trace of its own.
pub(super) fn of_test(test: &Test) -> Vec<ResourceSpans> {
    let mut number = 0_u64;
    let sets = test.input_spans.iter().map(|set| {
        let set = &set.value;
        let spans = set.times().instants().map(|at| {
            number += 1;
            spelled(set, wall(at), number)
        });
        let spans = spans.collect();
        let mut attributes = vec![pair("service.name", &set.service.clone().into())];
        attributes.extend(set.resource.iter().map(|(key, value)| pair(key, value)));
        of_resource(attributes, spans)
    });
    sets.collect()
}

fn spelled(set: &SpanSet, start: u64, number: u64) -> Span {
    let kind = match set.kind {
        SpanKind::Internal => span::SpanKind::Internal,
        SpanKind::Server => span::SpanKind::Server,
        SpanKind::Client => span::SpanKind::Client,
        SpanKind::Producer => span::SpanKind::Producer,
        SpanKind::Consumer => span::SpanKind::Consumer,
    };
    let code = match set.status {
        SpanStatus::Unset => status::StatusCode::Unset,
        SpanStatus::Ok => status::StatusCode::Ok,
        SpanStatus::Error => status::StatusCode::Error,
    };
    Span {
        trace_id: (1_u128 << 120 | u128::from(number)).to_be_bytes().to_vec(),
        span_id: number.to_be_bytes().to_vec(),
        name: set.name.clone(),
        kind: kind.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(set.duration.nanos()),
        attributes: set
            .attributes
            .iter()
            .map(|(key, value)| pair(key, value))
            .collect(),
        status: Some(Status {
            code: code.into(),
            ..Status::default()
        }),
        ..Span::default()
    }
}

/// The server spans of `harness-test` under the client's.
pub(super) fn of_service<'a>(
    rows: impl Iterator<Item = &'a Observation>,
    started: UnixNanos,
) -> Vec<ResourceSpans> {
    let spans = rows.map(|row| Span {
        trace_id: row.trace.0.to_vec(),
        span_id: (u64::from_be_bytes(row.span.0) | 1 << 63)
            .to_be_bytes()
            .to_vec(),
        parent_span_id: row.span.0.to_vec(),
        name: "request".into(),
        kind: span::SpanKind::Server.into(),
        start_time_unix_nano: started.plus(row.sent().unwrap_or(row.due)).0,
        end_time_unix_nano: started.plus(row.done).0,
        ..Span::default()
    });
    let spans = spans.collect();
    vec![of_resource(
        vec![pair("service.name", &SERVICE.into())],
        spans,
    )]
}

fn of_resource(attributes: Vec<KeyValue>, spans: Vec<Span>) -> ResourceSpans {
    ResourceSpans {
        resource: Some(Resource {
            attributes,
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}

fn pair(key: &str, value: &serde_json::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(any(value)),
        ..KeyValue::default()
    }
}

fn any(value: &serde_json::Value) -> AnyValue {
    let value = match value {
        serde_json::Value::Bool(on) => Value::BoolValue(*on),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(n) => Value::IntValue(n),
            None => Value::DoubleValue(n.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::StringValue(text.clone()),
        serde_json::Value::Array(all) => Value::ArrayValue(ArrayValue {
            values: all.iter().map(any).collect(),
        }),
        other => Value::StringValue(other.to_string()),
    };
    AnyValue { value: Some(value) }
}
