//! Shapes of answers, against the recorded ones.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde_json::json;
use tower::ServiceExt;

use crate::store::traces::TraceStore;

const TRACES: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
 "scopeSpans":[{"scope":{"name":"lib","version":"1"},"spans":[{"traceId":"000000000000000000000000000000ab","spanId":"00000000000000cd",
 "name":"op","kind":2,"startTimeUnixNano":"1000000000","endTimeUnixNano":"1005000000","status":{"code":1},
 "attributes":[{"key":"n","value":{"intValue":"7"}},{"key":"whole","value":{"doubleValue":2.0}}]}]}]}]}"#;

async fn get(path: &str) -> (u16, String) {
    let store = TraceStore::default();
    let spans: ExportTraceServiceRequest = serde_json::from_str(TRACES).expect("OTLP/JSON");
    store.ingest(spans.resource_spans);
    let request = Request::get(path).body(Body::empty()).expect("a request");
    send(super::router(Arc::new(store)), request).await
}

async fn send(router: axum::Router, request: Request<Body>) -> (u16, String) {
    let answer = router.oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
    (status, String::from_utf8(body.into()).expect("UTF-8"))
}

async fn json(path: &str) -> serde_json::Value {
    let (status, body) = get(path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).expect("JSON")
}

#[tokio::test]
async fn a_trace_is_shown_with_base64_ids_and_text_integers() {
    let span = json!({
        "traceId": "AAAAAAAAAAAAAAAAAAAAqw==", "spanId": "AAAAAAAAAM0=", "name": "op",
        "kind": "SPAN_KIND_SERVER", "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": "1005000000",
        "attributes": [{ "key": "n", "value": { "intValue": "7" } },
                       { "key": "whole", "value": { "doubleValue": 2 } }],
        "status": { "code": "STATUS_CODE_OK" },
    });
    let whole = json("/api/v2/traces/ab").await;
    assert_eq!(
        whole["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0],
        span
    );
    assert_eq!(
        json("/api/traces/AB").await["batches"][0]["scopeSpans"][0]["spans"][0],
        span
    );
}

#[tokio::test]
async fn an_unknown_trace_is_empty_or_not_found() {
    assert_eq!(json("/api/v2/traces/1").await["trace"], json!({}));
    assert_eq!(get("/api/traces/1").await, (404, String::new()));
    let bad = "trace IDs can only contain hex characters: invalid character 'z' at position 1";
    assert_eq!(get("/api/traces/zzz").await, (400, bad.into()));
}

#[tokio::test]
async fn a_search_shows_short_trace_ids_and_what_the_query_names() {
    let found = json("/api/search?q=%7Bspan.n%3E5%20%26%26%20name%3D%22op%22%7D").await;
    let set = json!({ "matched": 1, "spans": [{
        "spanID": "00000000000000cd", "name": "op", "startTimeUnixNano": "1000000000",
        "durationNanos": "5000000",
        "attributes": [{ "key": "n", "value": { "intValue": "7" } }],
    }]});
    assert_eq!(
        found["traces"],
        json!([{
            "traceID": "ab", "rootServiceName": "shop", "rootTraceName": "op",
            "startTimeUnixNano": "1000000000", "durationMs": 5, "spanSet": set, "spanSets": [set],
            "serviceStats": { "shop": { "spanCount": 1 } },
        }])
    );
}

#[tokio::test]
async fn an_instant_zero_has_no_value_and_no_series_no_key() {
    let name = |n: &str| json!([{ "key": "__name__", "value": { "stringValue": n } }]);
    let window = "&start=0&end=10";
    let count = json(&format!(
        "/api/metrics/query?q=%7B%7D%7Ccount_over_time(){window}"
    ))
    .await;
    assert_eq!(
        count["series"],
        json!([{ "labels": name("count_over_time"), "value": 1 }])
    );
    let none = json(&format!(
        "/api/metrics/query?q=%7Bname=%22x%22%7D%7Crate(){window}"
    ))
    .await;
    assert_eq!(none["series"], json!([{ "labels": name("rate") }]));
    let none = format!("/api/metrics/query?q=%7Bname=%22x%22%7D%7Cmax_over_time(duration){window}");
    assert_eq!(json(&none).await.get("series"), None);
}

#[tokio::test]
async fn errors_are_plain_text() {
    let cases = [
        (
            "/api/search?q=%7B",
            "invalid TraceQL query: parse error at line 1, col 2: syntax error: unexpected $end",
        ),
        (
            "/api/search?limit=0",
            "invalid limit: must be a positive number",
        ),
        (
            "/api/search?start=9&end=3",
            "http parameter start must be before end. received start=9 end=3",
        ),
        ("/api/metrics/query?q=%7B%7D", "not a metrics query"),
        (
            "/api/metrics/query",
            "compiling query: parse error : syntax error: unexpected $end",
        ),
        (
            "/api/metrics/query?q=%7B%7D%7Ccompare(%7B%7D)&start=0&end=9",
            "line 1, col 4: compare() is not supported by the embedded evaluator",
        ),
        (
            "/api/metrics/query_range?q=%7B%7D%7Crate()&start=0&end=600&step=1ms",
            "step of 1ms is too small, minimum step for given range is 60ms",
        ),
    ];
    for (path, expected) in cases {
        assert_eq!(get(path).await, (400, expected.into()), "{path}");
    }
    assert_eq!(get("/api/nope").await, (404, "404 page not found\n".into()));
}

#[tokio::test]
async fn a_posted_form_asks_as_an_address_does_and_comes_first() {
    let store = TraceStore::default();
    let spans: ExportTraceServiceRequest = serde_json::from_str(TRACES).expect("OTLP/JSON");
    store.ingest(spans.resource_spans);
    let router = super::router(Arc::new(store));
    for (path, form) in [
        ("/api/search", "q=%7Bspan.n%3E5%7D"),
        ("/api/search", "tags=n%3D7&limit=3"),
        ("/api/metrics/query", "q=%7B%7D%7Crate()&start=0&end=10"),
        (
            "/api/metrics/query_range",
            "q=%7B%7D%7Crate()&start=0&end=10&step=5s",
        ),
        ("/api/v2/search/tags", "scope=span"),
        ("/api/v2/search/tag/span.n/values", "start=0&end=10"),
        ("/api/v2/traces/ab", ""),
    ] {
        let post = |address: &str, form: &str| {
            Request::post(address)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(Body::from(form.to_owned()))
                .expect("a request")
        };
        let by_get = get(&format!("{path}?{form}")).await;
        assert_eq!(by_get.0, 200, "{path}: {}", by_get.1);
        assert!(by_get.1.len() > 40, "{path}: {}", by_get.1);
        assert_eq!(send(router.clone(), post(path, form)).await, by_get);
        let both = format!("{path}?q=%7B&scope=nope&start=99&end=1");
        if form.contains("start") && form.contains("q=") {
            assert_eq!(send(router.clone(), post(&both, form)).await, by_get);
        }
    }
    let long = Request::post("/api/search").body(Body::from(vec![b'x'; super::FORM_LIMIT + 1]));
    assert_eq!(send(router, long.expect("a request")).await.0, 413);
}

#[tokio::test]
async fn too_many_queries_are_told_so() {
    let gate = crate::serve::gate::Gate::new(0, 0);
    let router = super::gated(Arc::new(TraceStore::default()), gate);
    for path in ["/api/search", "/api/v2/traces/1", "/api/v2/search/tags"] {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let told = (429, "too many outstanding requests".to_owned());
        assert_eq!(send(router.clone(), request).await, told, "{path}");
    }
}

/// Worded as a real Tempo words it; answered with no traces, each would look as if none were there.
#[tokio::test]
async fn what_means_nothing_is_refused_and_not_looked_for() {
    for (path, wanted) in [
        (
            "search?q=%7Bname%3D%22%ff%22%7D",
            "invalid TraceQL query: parse error : invalid UTF-8 encoding in \"q\"",
        ),
        (
            "search?start=-1&end=5",
            "invalid start: strconv.ParseUint: parsing \"-1\": invalid syntax",
        ),
        (
            "search?minDuration=5s&maxDuration=1s",
            "invalid maxDuration: must be greater than minDuration",
        ),
        ("search?tags=%3Db", "invalid tags: unexpected '=' at pos 1"),
        (
            "search?tags=a%3D%3Db",
            "invalid tags: unexpected '=' at pos 3",
        ),
        (
            "search?tags=a%3Db%3Dc",
            "invalid tags: unexpected '=' at pos 4",
        ),
        (
            "v2/traces/ab?start=5&end=1",
            "http parameter start must be before end. received start=5 end=1",
        ),
    ] {
        let got = get(&format!("/api/{path}")).await;
        assert_eq!(got, (400, wanted.to_owned()), "{path}");
    }
    let (status, body) = get("/api/search?minDuration=5s&maxDuration=5s&tags=n%3D7").await;
    assert_eq!(status, 200, "{body}");
}
