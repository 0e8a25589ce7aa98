use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use proptest::prelude::*;
use tower::ServiceExt as _;

use super::*;

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        ".{0,12}".prop_map(Value::StringValue),
        any::<i64>().prop_map(Value::IntValue),
        any::<bool>().prop_map(Value::BoolValue),
        (-1e300..1e300).prop_map(Value::DoubleValue),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Value::BytesValue),
    ]
}

fn span() -> impl Strategy<Value = Span> {
    let attributes = prop::collection::vec((".{0,8}", value()), 0..4);
    let ids = (any::<[u8; 16]>(), any::<[u8; 8]>());
    (ids, ".{0,12}", any::<(u64, u64)>(), 0..=5_i32, attributes).prop_map(
        |((trace, id), name, (start, end), kind, attributes)| Span {
            trace_id: trace.into(),
            span_id: id.into(),
            name,
            kind,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            attributes: attributes
                .into_iter()
                .map(|(key, value)| KeyValue {
                    key,
                    value: Some(AnyValue { value: Some(value) }),
                    ..KeyValue::default()
                })
                .collect(),
            ..Span::default()
        },
    )
}

fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    prop::collection::vec(span(), 0..4).prop_map(|spans| ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    })
}

proptest! {
    /// What is written as OTLP/JSON is read as it was: 64-bit numbers, ids, unicode, doubles.
    #[test]
    fn json_comes_back(request in request()) {
        let text = serde_json::to_vec(&request).expect("JSON");
        prop_assert_eq!(json_traces(&text), Ok(request.resource_spans));
    }

    /// Damage is an error or another payload; all three signals read any bytes without a panic.
    #[test]
    fn damaged_json_never_panics(
        request in request(),
        at in any::<prop::sample::Index>(),
        with in prop::sample::select(b"{}[]\",:0-9eE.\\nul\x00\xff".to_vec()),
        cut in any::<bool>(),
    ) {
        let mut text = serde_json::to_vec(&request).expect("JSON");
        let at = at.index(text.len());
        if cut { text.truncate(at) } else { text[at] = with }
        let _ = (json_traces(&text), json_logs(&text), json_metrics(&text));
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = (json_traces(&bytes), json_logs(&bytes), json_metrics(&bytes));
        for signal in Signal::ALL {
            let _ = Encoding::Protobuf.read(&bytes.clone().into(), signal);
        }
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_exhausted_stack() {
    let deep = |n: usize| {
        let open = r#"{"arrayValue":{"values":["#.repeat(n);
        let close = "]}}".repeat(n);
        format!(
            r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"a","value":{open}{close}}}]}}}}]}}"#
        )
    };
    assert!(json_traces(deep(3).as_bytes()).is_ok());
    let error = json_traces(deep(100_000).as_bytes()).unwrap_err();
    assert!(error.contains("recursion limit"), "{error}");
}

#[test]
fn errors_say_where() {
    let error = json_traces(b"{\"resourceSpans\":\n [{]}").unwrap_err();
    assert!(error.contains("line 2 column"), "{error}");
}

#[test]
fn unknown_fields_are_passed_over_as_the_protocol_asks() {
    let text = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000001",
        "spanId":"0000000000000002","name":"a","newField":{"x":[1]}}],"other":1}]}],"more":null}"#;
    let read = json_traces(text).expect("read");
    assert_eq!(read[0].scope_spans[0].spans[0].name, "a");
}

/// A payload that cannot be read is counted, and what was there before stays.
#[tokio::test]
async fn unreadable_payloads_are_counted_and_lose_nothing() {
    let evidence = Evidence::default();
    let good = br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"00000000000000000000000000000001","spanId":"0000000000000002"}]}]}]}"#;
    for (body, status) in [
        (&good[..], StatusCode::OK),
        (&good[..20], StatusCode::BAD_REQUEST),
        (b"", StatusCode::BAD_REQUEST),
    ] {
        for signal in Signal::ALL {
            let request = Request::post(format!("/v1/{}", signal.name()))
                .header(CONTENT_TYPE, JSON)
                .body(axum::body::Body::from(body))
                .expect("a request");
            let answer = http_router(evidence.clone()).oneshot(request).await;
            assert_eq!(answer.expect("infallible").status(), status, "{signal:?}");
        }
    }
    assert_eq!(evidence.traces.stats().spans, 1);
    assert_eq!(evidence.traces.stats().refused(), 2);
    assert_eq!(evidence.logs.stats().refused(), 2);
    assert_eq!(evidence.metrics.stats().refused(), 2);
}
