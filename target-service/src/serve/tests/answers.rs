//! What a client gets for good and for bad requests.

use super::*;

#[tokio::test]
async fn text_and_json_get_the_same_answer() {
    let fixture = Setup::default().start();
    let text = fixture.predict("b").await;
    assert_eq!(text.status, StatusCode::OK);
    let expected = serde_json::json!({"result": "even", "scores": {"even": 0.75, "odd": 0.25}});
    assert_eq!(text.json(), expected);
    let json = Request::post(PREDICT).header("content-type", "application/json");
    let json = fixture
        .send(json.body(Body::from(r#"{"text": "b"}"#)).unwrap())
        .await;
    assert_eq!(json.json(), expected);
    let plain = Request::post(PREDICT).body(Body::from("a")).unwrap();
    assert_eq!(fixture.send(plain).await.json()["result"], "odd");
}

#[tokio::test]
async fn a_long_text_takes_the_other_road_to_the_same_answer() {
    let fixture = Setup::default().start();
    let reply = fixture.predict(&"b".repeat(9_999)).await;
    assert_eq!(
        (reply.status, &reply.json()["result"]),
        (StatusCode::OK, &"even".into())
    );
}

#[tokio::test]
async fn what_cannot_be_classified_is_refused_in_words() {
    let fixture = Setup::default().start();
    let long = "x".repeat(10_001);
    let json = "application/json";
    let cases: [(&str, &[u8], u16, &str); 10] = [
        ("text/plain", b"", 422, reason::EMPTY_TEXT),
        ("text/plain", b" \n\t ", 422, reason::EMPTY_TEXT),
        ("text/plain", b"ok \xff", 422, reason::NOT_UTF8),
        ("text/plain", long.as_bytes(), 413, reason::BODY_TOO_LARGE),
        (json, b"", 422, reason::MALFORMED_JSON),
        (json, b"{\"text\": ", 422, reason::MALFORMED_JSON),
        (json, b"{\"text\": 5}", 422, reason::WRONG_SHAPE),
        (
            json,
            b"{\"text\": \"a\", \"more\": 1}",
            422,
            reason::WRONG_SHAPE,
        ),
        (json, b"{\"text\": \"\"}", 422, reason::EMPTY_TEXT),
        (
            "application/x-www-form-urlencoded",
            b"a=b",
            415,
            reason::MEDIA_TYPE,
        ),
    ];
    for (content_type, body, status, class) in cases {
        let request = Request::post(PREDICT).header("content-type", content_type);
        let reply = fixture
            .send(request.body(Body::from(body.to_vec())).unwrap())
            .await;
        let told = (reply.status.as_u16(), reply.error_type());
        assert_eq!(told, (status, class.to_owned()), "{content_type} {body:?}");
        assert!(
            !reply.json()["error"]["message"]
                .as_str()
                .unwrap()
                .is_empty()
        );
        assert_eq!(reply.headers["content-type"], "application/json");
    }
    assert!(
        fixture.gate.sizes().is_empty(),
        "none of them reached the model"
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_told_so_and_counted_under_bounded_names() {
    let fixture = Setup::default().start();
    for (method, path, status, label) in [
        ("GET", "/predict", 405, "GET"),
        ("POST", "/healthz", 405, "POST"),
        ("GET", "/a/1", 404, "GET"),
        ("GET", "/a/2?x=y", 404, "GET"),
        ("BREW", "/coffee", 404, "_OTHER"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let reply = fixture.send(request).await;
        assert_eq!(reply.status.as_u16(), status, "{method} {path}");
        let route = if status == 404 { "unmatched" } else { path };
        assert!(
            fixture.counted(label, route, &status.to_string()) > 0,
            "{method} {path}"
        );
        if status == 405 {
            assert!(reply.headers.contains_key("allow"), "{method} {path}");
        }
    }
    assert_eq!(fixture.counted("GET", "unmatched", "404"), 2);
}

#[tokio::test]
async fn readiness_follows_the_model_and_the_drain_and_liveness_does_not() {
    let fixture = Setup {
        loaded: false,
        ..Setup::default()
    }
    .start();
    let probe = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    assert_eq!(fixture.send(probe(READYZ)).await.status, 503);
    let early = fixture.predict("b").await;
    assert_eq!(
        (early.status.as_u16(), early.error_type()),
        (503, reason::NOT_READY.to_owned())
    );
    assert!(early.headers.contains_key("retry-after"));
    fixture.load();
    assert_eq!(fixture.send(probe(READYZ)).await.status, 200);
    fixture.service.start_draining();
    assert_eq!(
        fixture.send(probe(READYZ)).await.json()["status"],
        "draining"
    );
    assert_eq!(fixture.admin("GET", READYZ, "").await.status, 503);
    assert_eq!(fixture.send(probe(HEALTHZ)).await.status, 200);
    assert_eq!(
        fixture.predict("b").await.status,
        200,
        "those who still come are served"
    );
}
