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
    assert_eq!(spans.len(), 7);
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
    let own = |s: &&SpanData| s.name != span::BATCH;
    assert!(
        spans
            .iter()
            .filter(own)
            .all(|s| s.span_context.trace_id() == trace)
    );
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

#[tokio::test]
async fn one_batch_is_one_span_linked_with_every_request_in_it() {
    let fixture = Setup {
        gate: Gate::closed(),
        ..Setup::default()
    }
    .start();
    let busy = fixture.occupy().await;
    let sampled = |trace: &str| {
        let router = router(fixture.service.clone());
        let request = traced("b", &format!("00-{trace}-{PARENT}-01"));
        tokio::spawn(async move { read(router.oneshot(request).await.unwrap()).await })
    };
    let other = TRACE.replace("0af7", "1af7");
    let (one, two) = (sampled(TRACE), sampled(&other));
    let unsampled = {
        let router = router(fixture.service.clone());
        let request = traced(
            "b",
            &format!("00-{}-{PARENT}-00", TRACE.replace("0af7", "2af7")),
        );
        tokio::spawn(async move { read(router.oneshot(request).await.unwrap()).await })
    };
    fixture.queued(3).await;
    fixture.gate.release();
    for reply in [busy, one, two, unsampled] {
        assert_eq!(reply.await.unwrap().status, 200);
    }
    let spans = fixture.spans.all();
    let size = |s: &SpanData| attribute(&s.attributes, "inference.batch.size").cloned();
    let of_three = |name: &str| -> Vec<&SpanData> {
        let named = spans.iter().filter(|s| s.name == name);
        named.filter(|s| size(s) == Some(3.into())).collect()
    };
    let batches = of_three(span::BATCH);
    assert_eq!(batches.len(), 1);
    let batch = batches[0];
    assert_eq!(batch.parent_span_id, SpanId::INVALID);
    let servers: Vec<TraceId> = batch
        .links
        .iter()
        .map(|l| l.span_context.trace_id())
        .collect();
    assert_eq!(servers.len(), 2, "the unsampled one has no span to link to");
    for trace in [TRACE, &other] {
        assert!(servers.contains(&TraceId::from_hex(trace).unwrap()));
    }
    let inferences = of_three(span::INFERENCE);
    assert_eq!(inferences.len(), 2);
    for inference in inferences {
        let linked: Vec<SpanId> = inference
            .links
            .iter()
            .map(|l| l.span_context.span_id())
            .collect();
        assert_eq!(linked, [batch.span_context.span_id()]);
    }
}

#[tokio::test]
async fn embeddings_are_told_by_the_conventions_for_them() {
    let fixture = Setup::default().start();
    let embed = |text: &str| {
        let request =
            Request::post("/embed").header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
        request.body(Body::from(text.to_owned())).unwrap()
    };
    assert_eq!(fixture.send(embed("bcd")).await.status, 200);
    assert_eq!(fixture.send(embed("")).await.status, 422);
    let spans = fixture.spans.all();
    let server = spans.iter().find(|s| s.name == "POST /embed").unwrap();
    for (key, value) in [
        ("gen_ai.operation.name", Value::from("embeddings")),
        ("gen_ai.request.model", "scripted".into()),
        ("gen_ai.usage.input_tokens", 3.into()),
    ] {
        assert_eq!(attribute(&server.attributes, key), Some(&value), "{key}");
    }
    let duration = &fixture.metrics().gen_ai_duration;
    for class in ["", reason::EMPTY_TEXT] {
        let series = duration.with_label_values(&["embeddings", "scripted", class]);
        assert_eq!(series.get_sample_count(), 1, "{class}");
    }
}

#[tokio::test]
async fn named_entries_of_the_callers_baggage_are_on_its_span_and_its_log_line() {
    let fixture = Setup::default().start();
    let mut request = post("a");
    let baggage = format!("tenant=a%20b;p=1,user=secret,long={}", "x".repeat(2000));
    let headers = request.headers_mut();
    headers.insert("baggage", baggage.parse().unwrap());
    assert_eq!(fixture.send(request).await.status, 200);
    let spans = fixture.spans.all();
    let server = spans.iter().find(|s| s.name == "POST /predict").unwrap();
    let logged = fixture.requests_logged();
    for attributes in [&server.attributes, &logged[0].attributes] {
        assert_eq!(attribute(attributes, "tenant"), Some(&"a b".into()));
        assert_eq!(attribute(attributes, "user"), None, "not asked for");
        assert_eq!(attribute(attributes, "absent"), None);
    }
    let mut torn = post("a");
    let headers = torn.headers_mut();
    headers.insert("baggage", "=;,tenant,,=x".parse().unwrap());
    assert_eq!(fixture.send(torn).await.status, 200);
}
