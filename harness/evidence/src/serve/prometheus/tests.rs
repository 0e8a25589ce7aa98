use super::*;
use crate::store::metrics::METRIC_NAME;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use tower::ServiceExt;

/// Three scrapes of `up` (the last at 30 s) and a counter.
fn app() -> Router {
    let store = Arc::new(MetricStore::default());
    let series = |name: &str, job: &str| {
        Labels::new([(METRIC_NAME, name), ("job", job)]).expect("valid labels")
    };
    for (t, v) in [(10_000, 1.0), (20_500, 0.0), (30_000, 1.0)] {
        store.append(&series("up", "sut"), t, v).expect("in order");
        let count = f64::from(t as i32) / 1000.0;
        store
            .append(&series("req_total", "sut"), t, count)
            .expect("in order");
        store
            .append(&series("req_total", "a\"b"), t, count)
            .expect("in order");
    }
    router(store)
}

async fn send(app: Router, request: Request<Body>) -> (u16, String, String) {
    let answer = app.oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    let kind = answer
        .headers()
        .get(CONTENT_TYPE)
        .map_or(String::new(), |v| v.to_str().unwrap_or("").to_string());
    let body = answer.into_body().collect().await.expect("body").to_bytes();
    (status, kind, String::from_utf8_lossy(&body).into_owned())
}

async fn ask(path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).expect("request");
    let (status, kind, body) = send(app(), request).await;
    if path.starts_with("/api") && status != 404 {
        assert_eq!(kind, "application/json", "{path}");
    }
    (status, body)
}

fn data(body: &str) -> &str {
    body.strip_prefix("{\"status\":\"success\",\"data\":")
        .and_then(|b| b.strip_suffix('}'))
        .unwrap_or(body)
}

#[tokio::test]
async fn every_type_of_value_has_its_shape() {
    for (query, want) in [
        (
            "query=up&time=30",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"sut"},"value":[30,"1"]}]}"#,
        ),
        (
            "query=up%5B20s%5D&time=30.5",
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"sut"},"values":[[20.500,"0"],[30,"1"]]}]}"#,
        ),
        (
            "query=1/0&time=1.25",
            r#"{"resultType":"scalar","result":[1.250,"+Inf"]}"#,
        ),
        (
            "query=%22x%22&time=1",
            r#"{"resultType":"string","result":[1,"x"]}"#,
        ),
        (
            "query=nothing&time=30",
            r#"{"resultType":"vector","result":[]}"#,
        ),
        (
            "query=req_total%7Bjob=~%60a.b%60%7D&time=30",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"req_total","job":"a\"b"},"value":[30,"30"]}]}"#,
        ),
    ] {
        let (status, body) = ask(&format!("/api/v1/query?{query}")).await;
        assert_eq!((status, data(&body)), (200, want), "{query}");
    }
    let (_, body) = ask("/api/v1/query_range?query=up&start=10&end=30&step=10s").await;
    assert_eq!(
        data(&body),
        r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"sut"},"values":[[10,"1"],[20,"1"],[30,"1"]]}]}"#
    );
}

#[tokio::test]
async fn a_posted_form_is_read() {
    let request = Request::post("/api/v1/query")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from("query=count%28up%29&time=30"))
        .expect("request");
    let (status, _, body) = send(app(), request).await;
    assert_eq!(status, 200);
    assert_eq!(
        data(&body),
        r#"{"resultType":"vector","result":[{"metric":{},"value":[30,"1"]}]}"#
    );
    let request = Request::post("/api/v1/query")
        .body(Body::from("x".repeat(FORM_LIMIT + 1)))
        .expect("request");
    assert_eq!(send(app(), request).await.0, 413);
}

#[tokio::test]
async fn errors_have_their_status_type_and_text() {
    for (path, status, kind, text) in [
        (
            "query?query=sum(rate(",
            400,
            "bad_data",
            r#"invalid parameter "query": 1:10: parse error: unclosed left parenthesis"#,
        ),
        (
            "query",
            400,
            "bad_data",
            r#"invalid parameter "query": 1:1: parse error: no expression found in input"#,
        ),
        (
            "query?query=rate(up)",
            400,
            "bad_data",
            r#"invalid parameter "query": 1:6: parse error: expected type range vector in call to function "rate", got instant vector"#,
        ),
        (
            "query?query=nosuch(up)",
            400,
            "bad_data",
            r#"invalid parameter "query": 1:1: parse error: unknown function with name "nosuch""#,
        ),
        (
            "query?query=1%2Bmad_over_time(up[1m])",
            400,
            "bad_data",
            r#"invalid parameter "query": 1:3: the experimental function "mad_over_time" is not supported by the embedded evaluator"#,
        ),
        (
            "query?query=up&time=yesterday",
            400,
            "bad_data",
            r#"invalid parameter "time": Invalid time value for 'time': cannot parse "yesterday" to a valid timestamp"#,
        ),
        (
            "query_range?query=up&start=20&end=10&step=1",
            400,
            "bad_data",
            r#"invalid parameter "end": end timestamp must not be before start time"#,
        ),
        (
            "query_range?query=up&start=10&end=20&step=0",
            400,
            "bad_data",
            r#"invalid parameter "step": zero or negative query resolution step widths are not accepted. Try a positive integer"#,
        ),
        (
            "query_range?query=up&start=0&end=20000&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
        ),
        ("query?query=up*on()req_total&time=30", 422, "execution", ""),
        (
            "query?query=sum(req_total)&time=30&timeout=0.0001ms",
            400,
            "bad_data",
            r#"invalid parameter "timeout": cannot parse "0.0001ms" to a valid duration"#,
        ),
        (
            "query?query=sum(req_total)&time=30&timeout=0",
            503,
            "timeout",
            "query timed out in expression evaluation",
        ),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        ("series?match[]=1", 400, "bad_data", ""),
    ] {
        let (got, body) = ask(&format!("/api/v1/{path}")).await;
        let v: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(
            (got, v["errorType"].as_str()),
            (status, Some(kind)),
            "{path}: {body}"
        );
        assert!(text.is_empty() || v["error"] == text, "{path}: {body}");
    }
    let (status, body) = ask("/api/v1/nope").await;
    assert_eq!((status, body.as_str()), (404, "404 page not found\n"));
}

#[tokio::test]
async fn labels_values_and_series_are_listed() {
    for (path, want) in [
        ("labels", r#"["__name__","job"]"#),
        ("labels?match[]=nothing", "[]"),
        ("label/job/values?match[]=up", r#"["sut"]"#),
        ("label/job/values?start=31", "[]"),
        (
            "series?match[]=up&match[]=%7Bjob=%22sut%22%7D",
            r#"[{"__name__":"req_total","job":"sut"},{"__name__":"up","job":"sut"}]"#,
        ),
        ("metadata", "{}"),
        (
            "targets",
            r#"{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}"#,
        ),
    ] {
        let (status, body) = ask(&format!("/api/v1/{path}")).await;
        assert_eq!((status, data(&body)), (200, want), "{path}");
    }
    assert_eq!(
        ask("/-/ready").await,
        (200, "Prometheus Server is Ready.\n".into())
    );
    assert_eq!(
        ask("/-/healthy").await,
        (200, "Prometheus Server is Healthy.\n".into())
    );
    let (_, body) = ask("/api/v1/status/buildinfo").await;
    assert!(body.contains("\"version\":\"3."), "{body}");
}

#[tokio::test]
async fn a_scraped_target_is_listed_with_its_error() {
    let store = Arc::new(MetricStore::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind");
    let addr = listener.local_addr().expect("address");
    drop(listener);
    let s = Duration::from_secs(1);
    let target =
        crate::receive::scrape::ScrapeTarget::new("sut", &format!("http://{addr}/metrics"), s, s);
    crate::receive::scrape::scrape_once(Arc::clone(&store), target.expect("valid")).await;
    let request = Request::get("/api/v1/targets")
        .body(Body::empty())
        .expect("request");
    let (_, _, body) = send(router(store), request).await;
    let v: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let t = &v["data"]["activeTargets"][0];
    assert_eq!(
        (t["health"].as_str(), t["scrapeInterval"].as_str()),
        (Some("down"), Some("1s"))
    );
    assert_eq!(t["labels"]["instance"], addr.to_string());
    assert!(
        t["lastError"]
            .as_str()
            .is_some_and(|e| e.contains("Connection refused")),
        "{t}"
    );
}

#[tokio::test]
async fn a_panic_in_one_query_does_not_end_the_server() {
    let api = Api {
        store: Arc::default(),
        options: Arc::default(),
        running: Arc::new(Semaphore::new(1)),
    };
    let broken = api.run::<()>(|_| panic!("on purpose")).await;
    assert!(matches!(
        broken,
        Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", _))
    ));
    assert!(api.run(|_| Ok(1)).await.is_ok_and(|v| v == 1));
}
