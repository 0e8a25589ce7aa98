//! Spans and log records of a request: whose child, when, and whether at all.

use super::*;
use crate::telemetry::names::span;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traced(text: &str, traceparent: &str) -> Request<Body> {
    let mut request = post(text);
    request
        .headers_mut()
        .insert("traceparent", traceparent.parse().unwrap());
    request
}

fn named<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    let found: Vec<&SpanData> = spans.iter().filter(|s| s.name == name).collect();
    assert_eq!(
        found.len(),
        1,
        "{name} among {:?}",
        spans.iter().map(|s| &s.name).collect::<Vec<_>>()
    );
    found[0]
}

#[tokio::test]
async fn a_sampled_request_leaves_a_tree_under_the_callers_span() {
    let fixture = Setup::default().start();
    let request = traced("bcd", &format!("00-{TRACE}-{PARENT}-01"));
    assert_eq!(fixture.send(request).await.status, 200);
    let spans = fixture.spans.all();
    assert_eq!(spans.len(), 6);
    let server = named(&spans, "POST /predict");
    assert_eq!(server.span_kind, SpanKind::Server);
    assert_eq!(server.parent_span_id, SpanId::from_hex(PARENT).unwrap());
    assert!(server.parent_span_is_remote);
    assert_eq!(server.status, Status::Unset);
    for (key, value) in [
        ("http.request.method", Value::from("POST")),
        ("http.route", "/predict".into()),
        ("url.path", "/predict".into()),
        ("http.response.status_code", 200.into()),
    ] {
        assert_eq!(attribute(&server.attributes, key), Some(&value), "{key}");
    }
    let mut end_of_last = server.start_time;
    for name in span::ALL {
        let child = named(&spans, name);
        assert_eq!(
            child.parent_span_id,
            server.span_context.span_id(),
            "{name}"
        );
        assert!(
            end_of_last <= child.start_time && child.start_time <= child.end_time,
            "{name}"
        );
        end_of_last = child.end_time;
    }
    assert!(end_of_last <= server.end_time);
    let stage = named(&spans, "tokenize");
    assert_eq!(
        stage.parent_span_id,
        named(&spans, span::PREPROCESS).span_context.span_id()
    );
    let inference = named(&spans, span::INFERENCE);
    assert_eq!(
        attribute(&inference.attributes, "inference.batch.size"),
        Some(&1.into())
    );
    assert_eq!(
        attribute(&inference.attributes, "inference.tokens"),
        Some(&3.into())
    );
    let trace = TraceId::from_hex(TRACE).unwrap();
    assert!(spans.iter().all(|s| s.span_context.trace_id() == trace));
    let line = &fixture.requests_logged()[0];
    let logged = line.span.as_ref().unwrap();
    assert_eq!(logged.trace_id(), trace);
    assert_eq!(logged.span_id(), server.span_context.span_id());
    assert_eq!(line.severity, Severity::Info);
    assert!(attribute(&line.attributes, "duration").is_some());
    assert!(
        !format!("{line:?}").contains("bcd"),
        "bodies are not logged"
    );
}

#[tokio::test]
async fn an_unsampled_request_leaves_a_log_line_with_its_trace_and_no_span() {
    let fixture = Setup::default().start();
    let request = traced("b", &format!("00-{TRACE}-{PARENT}-00"));
    assert_eq!(fixture.send(request).await.status, 200);
    assert!(fixture.spans.all().is_empty());
    let line = &fixture.requests_logged()[0];
    assert_eq!(
        line.span.as_ref().unwrap().trace_id(),
        TraceId::from_hex(TRACE).unwrap()
    );
}

#[tokio::test]
async fn without_a_usable_parent_a_trace_begins_here() {
    let fixture = Setup::default().start();
    fixture.predict("b").await;
    fixture.send(traced("b", "00-xyz-1-01")).await;
    let spans = fixture.spans.all();
    let servers: Vec<&SpanData> = spans.iter().filter(|s| s.name == "POST /predict").collect();
    assert_eq!(servers.len(), 2);
    assert!(servers.iter().all(|s| s.parent_span_id == SpanId::INVALID));
    assert_ne!(
        servers[0].span_context.trace_id(),
        servers[1].span_context.trace_id()
    );
}

#[tokio::test]
async fn our_errors_mark_the_span_and_the_clients_do_not() {
    let fixture = Setup::default().start();
    fixture.predict("!").await;
    fixture.predict("").await;
    let spans = fixture.spans.all();
    let servers: Vec<&SpanData> = spans.iter().filter(|s| s.name == "POST /predict").collect();
    assert!(matches!(servers[0].status, Status::Error { .. }));
    let class = attribute(&servers[0].attributes, "error.type");
    assert_eq!(class, Some(&Value::from(reason::INFERENCE_FAILED)));
    assert_eq!(servers[1].status, Status::Unset);
    assert_eq!(attribute(&servers[1].attributes, "error.type"), None);
}

#[tokio::test]
async fn probes_are_counted_and_neither_traced_nor_logged() {
    let fixture = Setup::default().start();
    for path in [HEALTHZ, READYZ] {
        fixture
            .send(Request::get(path).body(Body::empty()).unwrap())
            .await;
        assert_eq!(fixture.counted("GET", path, "200"), 1);
    }
    assert!(fixture.spans.all().is_empty() && fixture.requests_logged().is_empty());
}

#[tokio::test]
async fn an_unmatched_path_has_a_span_named_by_its_method_alone() {
    let fixture = Setup::default().start();
    fixture
        .send(Request::get("/user/42").body(Body::empty()).unwrap())
        .await;
    let spans = fixture.spans.all();
    assert_eq!(spans[0].name, "GET");
    assert_eq!(
        attribute(&spans[0].attributes, "url.path"),
        Some(&"/user/42".into())
    );
    assert_eq!(attribute(&spans[0].attributes, "http.route"), None);
}
