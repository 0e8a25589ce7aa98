//! OTLP messages in the JSON that Tempo writes: protobuf JSON with defaults left out, ids in base64.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use serde_json::{Map, Value, json};

use crate::traceql::ast::Static;

/// A JSON response.
pub(super) fn answer(body: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// A double as Go writes it: without a fraction when it has none; NaN and infinities as text.
pub(super) fn double(value: f64) -> Value {
    // Beyond 2^53 not every integer is a double, and digits would pretend to a precision that is
    // not there.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        json!(value as i64)
    } else if value.is_finite() {
        json!(value)
    } else if value.is_nan() {
        json!("NaN")
    } else {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    }
}

/// A TraceQL value as an OTLP one; what OTLP has no type for is text.
pub(super) fn literal(value: &Static) -> Value {
    match value {
        Static::Nil => json!({ "stringValue": "nil" }),
        Static::String(text) => json!({ "stringValue": text }),
        Static::Int(v) => json!({ "intValue": v.to_string() }),
        Static::Float(v) => json!({ "doubleValue": double(*v) }),
        Static::Bool(v) => json!({ "boolValue": v }),
        Static::Array(all) => {
            let all: Vec<Value> = all.iter().map(literal).collect();
            json!({ "arrayValue": { "values": all } })
        }
        Static::Duration(_) | Static::Status(_) | Static::Kind(_) => {
            json!({ "stringValue": value.to_string() })
        }
    }
}

/// Named values as a list of `{"key", "value"}`.
pub(super) fn literals(all: &[(String, Static)]) -> Value {
    all.iter()
        .map(|(key, value)| json!({ "key": key, "value": literal(value) }))
        .collect()
}

pub(super) fn resource_spans(of: &ResourceSpans) -> Value {
    let resource = of.resource.clone().unwrap_or_default();
    let mut inner = Map::new();
    list(&mut inner, "attributes", &resource.attributes, attribute);
    number(
        &mut inner,
        "droppedAttributesCount",
        resource.dropped_attributes_count,
    );
    let mut out = Map::new();
    out.insert("resource".into(), inner.into());
    list(&mut out, "scopeSpans", &of.scope_spans, scope_spans);
    text(&mut out, "schemaUrl", &of.schema_url);
    out.into()
}

fn scope_spans(of: &ScopeSpans) -> Value {
    let scope = of.scope.clone().unwrap_or_default();
    let mut inner = Map::new();
    text(&mut inner, "name", &scope.name);
    text(&mut inner, "version", &scope.version);
    list(&mut inner, "attributes", &scope.attributes, attribute);
    number(
        &mut inner,
        "droppedAttributesCount",
        scope.dropped_attributes_count,
    );
    let mut out = Map::new();
    out.insert("scope".into(), inner.into());
    list(&mut out, "spans", &of.spans, span);
    text(&mut out, "schemaUrl", &of.schema_url);
    out.into()
}

fn span(of: &Span) -> Value {
    const KINDS: [&str; 6] = [
        "UNSPECIFIED",
        "INTERNAL",
        "SERVER",
        "CLIENT",
        "PRODUCER",
        "CONSUMER",
    ];
    let mut out = Map::new();
    out.insert("traceId".into(), STANDARD.encode(&of.trace_id).into());
    out.insert("spanId".into(), STANDARD.encode(&of.span_id).into());
    text(&mut out, "traceState", &of.trace_state);
    if !of.parent_span_id.is_empty() {
        out.insert(
            "parentSpanId".into(),
            STANDARD.encode(&of.parent_span_id).into(),
        );
    }
    number(&mut out, "flags", of.flags);
    text(&mut out, "name", &of.name);
    let kind = usize::try_from(of.kind).ok().and_then(|k| KINDS.get(k));
    if let Some(kind) = kind.filter(|_| of.kind != 0) {
        out.insert("kind".into(), format!("SPAN_KIND_{kind}").into());
    }
    nanos(&mut out, "startTimeUnixNano", of.start_time_unix_nano);
    nanos(&mut out, "endTimeUnixNano", of.end_time_unix_nano);
    list(&mut out, "attributes", &of.attributes, attribute);
    number(
        &mut out,
        "droppedAttributesCount",
        of.dropped_attributes_count,
    );
    list(&mut out, "events", &of.events, event);
    number(&mut out, "droppedEventsCount", of.dropped_events_count);
    list(&mut out, "links", &of.links, link);
    number(&mut out, "droppedLinksCount", of.dropped_links_count);
    let status = of.status.clone().unwrap_or_default();
    let mut inner = Map::new();
    text(&mut inner, "message", &status.message);
    match status.code {
        1 => text(&mut inner, "code", "STATUS_CODE_OK"),
        2 => text(&mut inner, "code", "STATUS_CODE_ERROR"),
        _ => {}
    }
    out.insert("status".into(), inner.into());
    out.into()
}

fn event(of: &Event) -> Value {
    let mut out = Map::new();
    nanos(&mut out, "timeUnixNano", of.time_unix_nano);
    text(&mut out, "name", &of.name);
    list(&mut out, "attributes", &of.attributes, attribute);
    number(
        &mut out,
        "droppedAttributesCount",
        of.dropped_attributes_count,
    );
    out.into()
}

fn link(of: &Link) -> Value {
    let mut out = Map::new();
    out.insert("traceId".into(), STANDARD.encode(&of.trace_id).into());
    out.insert("spanId".into(), STANDARD.encode(&of.span_id).into());
    text(&mut out, "traceState", &of.trace_state);
    list(&mut out, "attributes", &of.attributes, attribute);
    number(
        &mut out,
        "droppedAttributesCount",
        of.dropped_attributes_count,
    );
    number(&mut out, "flags", of.flags);
    out.into()
}

fn attribute(of: &KeyValue) -> Value {
    json!({ "key": of.key, "value": any(of.value.as_ref()) })
}

fn any(of: Option<&AnyValue>) -> Value {
    use any_value::Value as V;
    match of.and_then(|v| v.value.as_ref()) {
        Some(V::StringValue(s)) => json!({ "stringValue": s }),
        Some(V::BoolValue(b)) => json!({ "boolValue": b }),
        Some(V::IntValue(i)) => json!({ "intValue": i.to_string() }),
        Some(V::DoubleValue(f)) => json!({ "doubleValue": double(*f) }),
        Some(V::BytesValue(b)) => json!({ "bytesValue": STANDARD.encode(b) }),
        Some(V::ArrayValue(a)) => {
            let values: Vec<_> = a.values.iter().map(|v| any(Some(v))).collect();
            json!({ "arrayValue": { "values": values } })
        }
        Some(V::KvlistValue(m)) => {
            let values: Vec<_> = m.values.iter().map(attribute).collect();
            json!({ "kvlistValue": { "values": values } })
        }
        Some(V::StringValueStrindex(_)) | None => json!({}),
    }
}

fn list<T>(out: &mut Map<String, Value>, key: &str, items: &[T], one: impl Fn(&T) -> Value) {
    if !items.is_empty() {
        let items: Vec<Value> = items.iter().map(one).collect();
        out.insert(key.into(), items.into());
    }
}

fn text(out: &mut Map<String, Value>, key: &str, value: &str) {
    if !value.is_empty() {
        out.insert(key.into(), value.into());
    }
}

fn number(out: &mut Map<String, Value>, key: &str, value: u32) {
    if value != 0 {
        out.insert(key.into(), value.into());
    }
}

fn nanos(out: &mut Map<String, Value>, key: &str, value: u64) {
    if value != 0 {
        out.insert(key.into(), value.to_string().into());
    }
}
