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
        gate: Gate::new(1, 0),
    };
    let broken = api
        .run::<()>(Duration::from_secs(60), |_, _| panic!("on purpose"))
        .await;
    assert!(matches!(
        broken,
        Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, "internal", _))
    ));
    assert!(
        api.run(Duration::ZERO, |_, _| Ok(1))
            .await
            .is_ok_and(|v| v == 1)
    );
}

mod write {
    use super::*;
    use crate::receive::remote_write::testing;

    fn post(kind: &str, body: Vec<u8>) -> Request<Body> {
        Request::post("/api/v1/write")
            .header(CONTENT_TYPE, kind)
            .header("content-encoding", "snappy")
            .body(Body::from(body))
            .expect("request")
    }

    const KIND: &str = "application/x-protobuf";

    fn one(name: &str, samples: &[(i64, f64)]) -> Vec<u8> {
        testing::body(&[(&[("__name__", name)], samples)])
    }

    /// Statuses and first words as Prometheus answers them; texts go on to say which sample.
    #[tokio::test]
    async fn remote_write_is_answered_as_prometheus_does() {
        let store = Arc::new(MetricStore::default());
        let app = || router(store.clone());
        for (body, status, says) in [
            (one("a", &[(1000, 1.0), (2000, 2.0)]), 204, ""),
            (one("a", &[(2000, 2.0)]), 204, ""),
            (
                one("a", &[(2000, 3.0)]),
                400,
                "duplicate sample for timestamp",
            ),
            (one("a", &[(1500, 3.0)]), 400, "out of order sample"),
            (b"\xff\xff".to_vec(), 400, "snappy: "),
            (
                testing::native(),
                400,
                "series 0 of the request: {__name__=\"h\"} has native histograms",
            ),
        ] {
            let (got, kind, text) = send(app(), post(KIND, body)).await;
            assert_eq!(got, status, "{text}");
            assert!(text.starts_with(says), "{text}");
            assert!(status == 204 || kind.starts_with("text/plain"), "{kind}");
        }
        let (status, _, text) = send(
            app(),
            post(
                "application/x-protobuf;proto=io.prometheus.write.v2.Request",
                Vec::new(),
            ),
        )
        .await;
        assert_eq!(status, 415);
        assert!(text.contains("io.prometheus.write.v2.Request"), "{text}");
        let stats = store.stats();
        assert_eq!(
            (stats.samples, stats.duplicates, stats.out_of_order),
            (2, 1, 1)
        );
        assert_eq!(
            stats.refused(),
            4,
            "the two unreadable bodies are counted too"
        );
    }

    #[tokio::test]
    async fn a_request_with_one_bad_sample_is_not_stored_in_part() {
        let store = Arc::new(MetricStore::default());
        store
            .append(
                &Labels::new([(METRIC_NAME, "a")]).expect("labels"),
                5000,
                1.0,
            )
            .expect("first");
        let body = testing::body(&[
            (&[("__name__", "good")], &[(6000, 1.0)]),
            (&[("__name__", "a")], &[(4000, 1.0)]),
        ]);
        let (status, ..) = send(router(store.clone()), post(KIND, body)).await;
        assert_eq!((status, store.stats().samples), (400, 1));
        assert_eq!(
            store.stats().out_of_order,
            2,
            "all that was lost is counted"
        );
        // Within one request too.
        let body = one("b", &[(2, 1.0), (1, 1.0)]);
        let (status, ..) = send(router(store.clone()), post(KIND, body)).await;
        assert_eq!((status, store.stats().samples), (400, 1));
    }

    #[tokio::test]
    async fn samples_far_ahead_or_far_behind_are_out_of_bounds() {
        let store = Arc::new(MetricStore::default().with_time_rules());
        let app = || router(store.clone());
        let now = params::now_ms();
        let minute = 60_000;
        for (name, at, status) in [
            ("a", now + 11 * minute, 400),
            ("a", now + 9 * minute, 204),
            ("b", now - 40 * minute, 204),
            ("c", now - 52 * minute, 400),
        ] {
            let (got, _, text) = send(app(), post(KIND, one(name, &[(at, 1.0)]))).await;
            assert_eq!(got, status, "{name}: {text}");
            assert!(got == 204 || text.starts_with("out of bounds"), "{text}");
        }
        assert_eq!(store.stats().out_of_bounds, 2);
    }

    #[tokio::test]
    async fn a_full_store_asks_the_sender_to_keep_its_samples() {
        let store = Arc::new(MetricStore::with_memory_limit(100));
        let (status, _, text) =
            send(router(store.clone()), post(KIND, one("a", &[(1, 1.0)]))).await;
        assert_eq!((status, store.stats().over_limit), (503, 1), "{text}");
    }
}

#[tokio::test]
async fn metadata_of_scraped_metrics_are_listed() {
    let store = Arc::new(MetricStore::default());
    let text = "# HELP a What \"it\" is.\n# TYPE a counter\na 1\n# TYPE b gauge\nb 1\n";
    let read = crate::receive::exposition::read(text, crate::receive::exposition::Format::Text);
    store.learn(read.expect("valid").metadata);
    let ask = |query: &str| {
        let request = Request::get(format!("/api/v1/metadata{query}"));
        send(
            router(store.clone()),
            request.body(Body::empty()).expect("request"),
        )
    };
    let (_, _, all) = ask("").await;
    assert_eq!(
        data(&all),
        r#"{"a":[{"type":"counter","help":"What \"it\" is.","unit":""}],"b":[{"type":"gauge","help":"","unit":""}]}"#
    );
    let (_, _, one) = ask("?metric=b").await;
    assert_eq!(
        data(&one),
        r#"{"b":[{"type":"gauge","help":"","unit":""}]}"#
    );
    let (_, _, none) = ask("?metric=c").await;
    assert_eq!(data(&none), "{}");
    let (_, _, first) = ask("?limit=1").await;
    assert!(
        first.contains("\"a\"") && !first.contains("\"b\""),
        "{first}"
    );
    assert_eq!(ask("?limit=x").await.0, 400);
}

#[tokio::test]
async fn too_many_queries_are_told_so() {
    for (waiting, told) in [
        (
            0,
            r#""errorType":"unavailable","error":"too many queries are waiting to be run""#,
        ),
        (
            1,
            r#""errorType":"timeout","error":"query timed out in query queue""#,
        ),
    ] {
        let options = Options {
            timeout: Duration::ZERO,
            ..Options::default()
        };
        let gate = Gate::new(0, waiting);
        let app = gated(Arc::new(MetricStore::default()), options, gate);
        for path in ["/api/v1/query?query=1", "/api/v1/labels"] {
            let request = Request::get(path).body(Body::empty()).expect("request");
            let (status, kind, body) = send(app.clone(), request).await;
            assert_eq!((status, kind.as_str()), (503, "application/json"));
            assert_eq!(body, format!("{{\"status\":\"error\",{told}}}"));
        }
    }
}

/// Whatever a payload held that is not read is missing from the evidence.
#[tokio::test]
async fn payloads_that_cannot_be_read_are_counted_as_refused() {
    let store = Arc::new(MetricStore::default());
    let app = router(store.clone());
    let long = remote_write::MOST_UNPACKED + 1;
    for (path, kind, body, told) in [
        (
            "/api/v1/write",
            "application/x-protobuf",
            vec![b' '; long],
            413,
        ),
        ("/api/v1/write", "application/x-protobuf", vec![b' '], 400),
        (
            "/api/v1/otlp/v1/metrics",
            "application/json",
            vec![b' '],
            400,
        ),
    ] {
        let before = store.stats().refused();
        let request = Request::post(path).header(CONTENT_TYPE, kind);
        let request = request.body(Body::from(body)).expect("request");
        let (status, _, body) = send(app.clone(), request).await;
        assert_eq!(
            (status, store.stats().refused()),
            (told, before + 1),
            "{body}"
        );
    }
}

#[tokio::test]
async fn what_is_not_utf8_is_refused_and_not_looked_for() {
    for path in [
        "query?query=up%7Bjob%3D%22%ff%22%7D",
        "series?match[]=up%7Bjob%3D%22%ff%22%7D",
    ] {
        let (status, body) = ask(&format!("/api/v1/{path}")).await;
        assert_eq!(status, 400, "{path}: {body}");
        assert!(body.contains("invalid UTF-8 rune"), "{body}");
    }
}
