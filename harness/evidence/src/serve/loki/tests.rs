use super::*;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use serde_json::Value;
use tower::ServiceExt as _;

struct Got {
    status: u16,
    content_type: String,
    text: String,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("JSON")
    }
}

async fn send(app: &Router, request: Request<Body>) -> Got {
    let response = app.clone().oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let content_type = content_type
        .map_or("", |v| v.to_str().unwrap_or(""))
        .to_owned();
    let bytes = to_bytes(response.into_body(), usize::MAX)
        .await
        .expect("a body");
    Got {
        status,
        content_type,
        text: String::from_utf8_lossy(&bytes).into_owned(),
    }
}

async fn get_at(app: &Router, path: &str, params: &[(&str, &str)]) -> Got {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(params)
        .finish();
    let request = Request::get(format!("{path}?{query}")).body(Body::empty());
    send(app, request.expect("a request")).await
}

async fn post_as(app: &Router, path: &str, content_type: &str, body: impl Into<Body>) -> Got {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into());
    send(app, request.expect("a request")).await
}

async fn filled() -> Router {
    let app = router(Arc::new(LogStore::default()));
    let body = r#"{"streams":[{"stream":{"app":"x","level":"info"},"values":[
        ["1000000000","v=1",{"trace_id":"t"}],["2000000000","v=2"],["3000000000","nope"]]}]}"#;
    let got = post_as(&app, "/loki/api/v1/push", "application/json", body).await;
    assert_eq!((got.status, got.text.as_str()), (204, ""));
    app
}

#[tokio::test]
async fn lines_come_in_lokis_shape() {
    let app = filled().await;
    let params = [
        ("query", r#"{app="x"}"#),
        ("start", "1"),
        ("end", "2"),
        ("limit", "5"),
    ];
    let got = get_at(&app, "/loki/api/v1/query_range", &params).await;
    assert_eq!(got.content_type, "application/json; charset=UTF-8");
    let data = &got.json()["data"];
    assert_eq!(data["resultType"], "streams");
    assert_eq!(
        data["result"],
        serde_json::json!([{
            "stream": {"app": "x", "detected_level": "info", "level": "info",
                       "service_name": "x", "trace_id": "t"},
            "values": [["1000000000", "v=1"]]
        }])
    );
}

#[tokio::test]
async fn categories_are_kept_apart_on_request() {
    let app = filled().await;
    let request = Request::get(
        "/loki/api/v1/query_range?query=%7Bapp%3D%22x%22%7D%20%7C%20logfmt&start=1&end=2",
    )
    .header("X-Loki-Response-Encoding-Flags", "categorize-labels")
    .body(Body::empty());
    let data = send(&app, request.expect("a request")).await.json()["data"].take();
    assert_eq!(
        data["encodingFlags"],
        serde_json::json!(["categorize-labels"])
    );
    assert_eq!(
        data["result"][0]["values"][0][2],
        serde_json::json!({
            "structuredMetadata": {"detected_level": "info", "trace_id": "t"},
            "parsed": {"v": "1"}
        })
    );
    assert_eq!(
        data["result"][0]["stream"]
            .as_object()
            .map(serde_json::Map::len),
        Some(3)
    );
}

#[tokio::test]
async fn metrics_by_get_and_by_form() {
    let app = filled().await;
    let query = r#"sum(count_over_time({app="x"}[2s]))"#;
    let path = "/loki/api/v1/query";
    let got = get_at(&app, path, &[("query", query), ("time", "3.5")]).await;
    let wanted = serde_json::json!([{"metric": {}, "value": [3.5, "2"]}]);
    assert_eq!(got.json()["data"]["result"], wanted);
    let form = "query=sum(count_over_time(%7Bapp%3D%22x%22%7D%5B2s%5D))&time=3.5";
    let got = post_as(&app, path, "application/x-www-form-urlencoded", form).await;
    assert_eq!(got.json()["data"]["result"], wanted);
    let params = [
        ("query", query),
        ("start", "1.5"),
        ("end", "3.5"),
        ("step", "1"),
    ];
    let got = get_at(&app, "/loki/api/v1/query_range", &params).await;
    assert_eq!(
        got.json()["data"]["result"][0]["values"],
        serde_json::json!([[1, "1"], [2, "2"], [3, "2"], [4, "1"]])
    );
}

#[tokio::test]
async fn errors_are_plain_text_with_lokis_status() {
    let app = filled().await;
    let instant = "/loki/api/v1/query";
    let range = "/loki/api/v1/query_range";
    let ok = r#"{app="x"}"#;
    let metric = r#"sum(rate({app="x"}[1m]))"#;
    for (path, params, status, text) in [
        (
            instant,
            vec![],
            400,
            "parse error : syntax error: unexpected $end",
        ),
        (
            instant,
            vec![("query", ok)],
            400,
            "log queries are not supported as an instant query",
        ),
        (
            instant,
            vec![("query", ok), ("time", "nope")],
            400,
            "strconv.ParseInt: parsing \"nope\"",
        ),
        (
            range,
            vec![("query", ok), ("limit", "5001")],
            400,
            "(5001 > 5000)",
        ),
        (
            range,
            vec![("query", ok), ("limit", "abc")],
            400,
            "strconv.Atoi",
        ),
        (
            range,
            vec![("query", ok), ("direction", "up")],
            400,
            "invalid direction",
        ),
        (
            range,
            vec![("query", ok), ("start", "2"), ("end", "1")],
            400,
            "end timestamp must not be",
        ),
        (
            range,
            vec![("query", metric), ("step", "0")],
            400,
            "zero or negative query resolution",
        ),
        (
            range,
            vec![
                ("query", metric),
                ("start", "1"),
                ("end", "20001"),
                ("step", "1"),
            ],
            400,
            "11,000 points",
        ),
        (
            range,
            vec![("query", metric), ("start", "1"), ("end", "9000000")],
            400,
            "time range exceeds",
        ),
        (
            instant,
            vec![
                ("query", r#"sum(count_over_time({app="x"} | json [9s]))"#),
                ("time", "5"),
            ],
            400,
            "pipeline error: 'JSONParserErr' for series:",
        ),
        (
            "/loki/api/v1/series",
            vec![("match[]", "{")],
            400,
            "expecting IDENTIFIER or }",
        ),
        ("/loki/api/v1/nope", vec![], 404, "404 page not found"),
    ] {
        let got = get_at(&app, path, &params).await;
        assert_eq!(got.status, status, "{params:?}: {}", got.text);
        assert!(got.text.contains(text), "{params:?}: {}", got.text);
        assert_eq!(got.content_type, "text/plain; charset=utf-8");
    }
}

#[tokio::test]
async fn metadata() {
    let app = filled().await;
    let bounds = [("start", "0"), ("end", "9"), ("query", r#"{app="x"}"#)];
    let labels = get_at(&app, "/loki/api/v1/labels", &bounds).await.json();
    assert_eq!(
        labels["data"],
        serde_json::json!(["app", "level", "service_name"])
    );
    let values = get_at(&app, "/loki/api/v1/label/app/values", &bounds)
        .await
        .json();
    assert_eq!(values["data"], serde_json::json!(["x"]));
    let none = [("start", "0"), ("end", "9"), ("match[]", r#"{app="y"}"#)];
    let series = get_at(&app, "/loki/api/v1/series", &none).await.json();
    assert_eq!(series["data"], serde_json::json!([]));
    let stats = get_at(&app, "/loki/api/v1/index/stats", &bounds)
        .await
        .json();
    assert_eq!(
        (&stats["entries"], &stats["streams"]),
        (&3.into(), &1.into())
    );
    assert_eq!(get_at(&app, "/ready", &[]).await.text, "ready\n");
}

#[tokio::test]
async fn bad_pushes_are_refused_and_nothing_is_stored() {
    let store = Arc::new(LogStore::default());
    let app = router(store.clone());
    let push = "/loki/api/v1/push";
    let otlp = "/otlp/v1/logs";
    for (path, content_type, body) in [
        (push, "application/json", "{nope"),
        (push, "text/plain", "x"),
        (push, "application/x-protobuf", "not snappy"),
        (otlp, "application/json", "{nope"),
        (otlp, "text/plain", "x"),
        (otlp, "application/x-protobuf", "\u{7f}\u{7f}"),
    ] {
        let got = post_as(&app, path, content_type, body).await;
        assert_eq!(got.status, 400, "{path} {content_type}");
        let binary = got.content_type == "application/octet-stream";
        assert_eq!(binary, path == otlp);
    }
    assert_eq!(store.stats().entries, 0);
}

#[tokio::test]
async fn a_full_store_says_so_to_the_sender() {
    let store = LogStore::new(crate::store::logs::LogLimits {
        memory_bytes: 10,
        ..Default::default()
    });
    let app = router(Arc::new(store));
    let body = r#"{"streams":[{"stream":{"app":"x"},"values":[["1","a"]]}]}"#;
    let got = post_as(&app, "/loki/api/v1/push", "application/json", body).await;
    assert_eq!(got.status, 429);
    assert!(got.text.contains("log store is full"));
}

#[tokio::test]
async fn otlp_is_taken_packed() {
    use std::io::Write as _;
    let store = Arc::new(LogStore::default());
    let app = router(store.clone());
    let body = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"5","body":{"stringValue":"x"}}]}]}]}"#;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body).expect("memory");
    let request = Request::post("/otlp/v1/logs")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_ENCODING, "gzip")
        .body(Body::from(gzip.finish().expect("memory")));
    assert_eq!(send(&app, request.expect("a request")).await.status, 204);
    assert_eq!(store.stats().entries, 1);
}

#[tokio::test]
async fn too_many_queries_are_told_so() {
    let app = gated(Arc::new(LogStore::default()), Gate::new(0, 0));
    let got = get_at(&app, "/loki/api/v1/query", &[("query", "vector(1)")]).await;
    assert_eq!(got.status, 429);
    assert_eq!(got.text, "too many outstanding requests");
    assert_eq!(got.content_type, "text/plain; charset=utf-8");
}

#[tokio::test]
async fn a_push_that_is_too_long_is_counted_as_refused() {
    let store = Arc::new(LogStore::default());
    let app = router(store.clone());
    for path in ["/loki/api/v1/push", "/otlp/v1/logs"] {
        let got = post_as(&app, path, "application/json", vec![b' '; MOST_BODY + 1]).await;
        assert_eq!(got.status, 413, "{}", got.text);
    }
    assert_eq!(store.stats().refused(), 2);
}

/// Times may lie anywhere in 64 bits: their distance must not wrap round to a short one, which would be
/// read for a minute or answered with nothing.
#[tokio::test]
async fn a_range_over_all_of_time_is_too_long() {
    let app = filled().await;
    let (first, last) = (i64::MIN + 9, i64::MAX - 9);
    for query in ["vector(1)", r#"{app="x"}"#, r#"rate({app="x"}[1m])"#] {
        let bounds = [first.to_string(), last.to_string()];
        let params = [("query", query), ("start", &bounds[0]), ("end", &bounds[1])];
        let got = get_at(&app, "/loki/api/v1/query_range", &params).await;
        assert_eq!(got.status, 400, "{query}: {}", got.text);
        assert!(
            got.text.starts_with("the query time range exceeds"),
            "{}",
            got.text
        );
        for near in [[first, first + 90], [last - 90, last]] {
            let bounds = near.map(|t| t.to_string());
            let params = [
                ("query", query),
                ("start", &bounds[0]),
                ("end", &bounds[1]),
                ("step", "1"),
            ];
            let got = get_at(&app, "/loki/api/v1/query_range", &params).await;
            assert_eq!(got.status, 200, "{query} at {near:?}: {}", got.text);
        }
    }
    // What is read is the window before the first instant, too.
    let params = [
        ("query", r#"rate({app="x"}[31d])"#),
        ("start", "0"),
        ("end", "10"),
    ];
    let got = get_at(&app, "/loki/api/v1/query_range", &params).await;
    assert_eq!(got.status, 400, "{}", got.text);
}

#[tokio::test]
async fn what_is_not_utf8_is_refused_and_not_looked_for() {
    let app = filled().await;
    for path in [
        "query_range?query=%7Bapp%3D%22%ff%22%7D",
        "series?match[]=%7Bapp%3D%22%ff%22%7D",
    ] {
        let request = Request::get(format!("/loki/api/v1/{path}")).body(Body::empty());
        let got = send(&app, request.expect("a request")).await;
        assert_eq!(got.status, 400, "{path}: {}", got.text);
        assert!(
            got.text.starts_with("parse error : invalid UTF-8 encoding"),
            "{}",
            got.text
        );
    }
}

/// As a real Loki answers: nothing at all is no push, a name that is none is the stream's own fault, and
/// the other streams are kept.
#[tokio::test]
async fn pushes_of_nothing_and_of_bad_names_are_refused() {
    let store = Arc::new(LogStore::default());
    let app = router(store.clone());
    for body in ["{}", r#"{"other":[]}"#, r#"{"streams":[]}"#] {
        let got = post_as(&app, "/loki/api/v1/push", "application/json", body).await;
        assert_eq!(
            (got.status, got.text.trim_end()),
            (
                422,
                "error at least one valid stream is required for ingestion"
            )
        );
    }
    for name in ["a b", "a.b", "0a", "é", ""] {
        let body = format!(
            r#"{{"streams":[{{"stream":{{"{name}":"x"}},"values":[["1","bad"]]}},{{"stream":{{"app":"x"}},"values":[["2","{name}"]]}}]}}"#
        );
        let got = post_as(&app, "/loki/api/v1/push", "application/json", body).await;
        assert_eq!(got.status, 400, "{name}: {}", got.text);
        assert!(
            got.text.starts_with("couldn't parse labels: "),
            "{}",
            got.text
        );
    }
    assert_eq!(
        (store.stats().entries, store.stats().refused_invalid),
        (5, 5)
    );
}
