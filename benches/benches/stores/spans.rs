//! Spans as a service under load sends them.

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

/// Spans of one request: the client's, the server's, and three stages.
const NAMES: [&str; 5] = ["predict", "POST /predict", "tokenise", "queue", "inference"];

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A number that looks random and is the same each time.
fn noise(n: u64) -> u64 {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 29;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 32)
}

fn span(n: u64) -> Span {
    let (request, place) = (n / NAMES.len() as u64, n % NAMES.len() as u64);
    let start = 1_800_000_000_000_000_000 + request * 200_000 + place * 50_000;
    let id = |n: u64| noise(n).max(1).to_be_bytes().to_vec();
    let mut trace_id = id(!request);
    trace_id.extend(id(request));
    Span {
        trace_id,
        span_id: id(n),
        parent_span_id: if place == 0 { Vec::new() } else { id(n - 1) },
        name: NAMES[place as usize].into(),
        kind: [3, 2, 1, 1, 1][place as usize],
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_000_000 + noise(n) % 50_000_000,
        attributes: vec![
            attribute("http.route", Value::StringValue("/predict".into())),
            attribute("http.request.method", Value::StringValue("POST".into())),
            attribute("http.response.status_code", Value::IntValue(200)),
            attribute(
                "input.tokens",
                Value::IntValue((noise(request) % 500) as i64),
            ),
        ],
        status: Some(Status::default()),
        ..Span::default()
    }
}

/// Spans `first..first + count` of one service.
pub(crate) fn batch(first: u64, count: u64) -> ResourceSpans {
    let of = |key: &str, value: &str| attribute(key, Value::StringValue(value.into()));
    ResourceSpans {
        resource: Some(Resource {
            attributes: vec![
                of("service.name", "shop"),
                of("service.version", "1.2.3"),
                of("service.instance.id", "shop-0"),
            ],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "shop".into(),
                version: "1.2.3".into(),
                ..InstrumentationScope::default()
            }),
            spans: (first..first + count).map(span).collect(),
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }
}
