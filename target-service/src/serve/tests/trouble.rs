//! Overload, deadlines, failures, clients that leave, and faults on request.

use super::*;

#[tokio::test]
async fn overload_is_shed_with_a_time_to_come_back() {
    let fixture = Setup {
        gate: Gate::closed(),
        capacity: 1,
        ..Setup::default()
    }
    .start();
    let busy = fixture.occupy().await;
    let waiting = fixture.spawn("b");
    fixture.queued(1).await;
    let shed = fixture.predict("c").await;
    assert_eq!(
        (shed.status.as_u16(), shed.error_type()),
        (503, reason::QUEUE_FULL.to_owned())
    );
    let seconds: u64 = shed.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(seconds >= 1);
    assert_eq!(
        fixture
            .metrics()
            .rejected
            .with_label_values(&[reason::QUEUE_FULL])
            .get(),
        1
    );
    fixture.gate.release();
    assert_eq!(busy.await.unwrap().status, 200);
    assert_eq!(waiting.await.unwrap().json()["result"], "even");
    let logged = fixture.requests_logged();
    assert_eq!(logged[0].severity, Severity::Warn, "shedding is by design");
    assert_eq!(fixture.counted("POST", PREDICT, "503"), 1);
    assert_eq!(fixture.counted("POST", PREDICT, "200"), 2);
}

#[tokio::test]
async fn a_deadline_that_passes_is_answered_and_the_place_given_up() {
    let deadline = Duration::from_millis(20);
    let fixture = Setup {
        gate: Gate::closed(),
        deadline,
        ..Setup::default()
    }
    .start();
    let computed = fixture.spawn("a");
    let queued = fixture.spawn("b");
    for late in [computed.await.unwrap(), queued.await.unwrap()] {
        assert_eq!(
            (late.status.as_u16(), late.error_type()),
            (503, reason::DEADLINE.to_owned())
        );
        assert!(late.headers.contains_key("retry-after"));
    }
    assert_eq!(fixture.metrics().queue_depth.get(), 0);
    assert_eq!(
        fixture
            .metrics()
            .rejected
            .with_label_values(&[reason::DEADLINE])
            .get(),
        2
    );
    fixture.gate.release();
}

#[tokio::test]
async fn a_caller_can_say_how_long_it_waits() {
    let fixture = Setup {
        gate: Gate::closed(),
        ..Setup::default()
    }
    .start();
    let with_timeout = |time: &str| {
        let mut request = post("b");
        let headers = request.headers_mut();
        headers.insert("x-request-timeout", time.parse().unwrap());
        request
    };
    for time in ["20ms", "0ms"] {
        let late = fixture.send(with_timeout(time)).await;
        assert_eq!(
            (late.status.as_u16(), late.error_type()),
            (503, reason::DEADLINE.to_owned())
        );
    }
    for time in ["20", "soon", "-1s", "1e9s", ""] {
        let refused = fixture.send(with_timeout(time)).await;
        assert_eq!(
            (refused.status.as_u16(), refused.error_type()),
            (400, reason::BAD_TIMEOUT.to_owned()),
            "{time}"
        );
        assert!(refused.text.contains("x-request-timeout"));
    }
    fixture.gate.release();
    assert_eq!(fixture.send(with_timeout("10m")).await.status, 200);
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let fixture = Setup {
        deadline: Duration::from_millis(5),
        ..Setup::default()
    }
    .start();
    let never = futures::stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
    let request = Request::post(PREDICT)
        .body(Body::from_stream(never))
        .unwrap();
    assert_eq!(
        fixture.send(request).await.error_type(),
        reason::BODY_TIMEOUT
    );
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_and_not_computed() {
    let fixture = Setup {
        gate: Gate::closed(),
        ..Setup::default()
    }
    .start();
    let busy = fixture.occupy().await;
    let leaving = fixture.spawn("b");
    fixture.queued(1).await;
    leaving.abort();
    fixture.queued(0).await;
    assert!(leaving.await.unwrap_err().is_cancelled());
    fixture.gate.release();
    assert_eq!(busy.await.unwrap().status, 200);
    assert_eq!(fixture.gate.sizes(), [1]);
    assert_eq!(fixture.counted("POST", PREDICT, "499"), 1);
    assert_eq!(fixture.metrics().active_requests.get(), 0);
    let logged = fixture.requests_logged();
    assert_eq!(
        attribute(&logged[0].attributes, "error.type"),
        Some(&Value::from(reason::CLIENT_CLOSED))
    );
}

#[tokio::test]
async fn a_model_that_fails_is_our_error() {
    let fixture = Setup::default().start();
    let failed = fixture.predict("!").await;
    assert_eq!(failed.status, 500);
    assert_eq!(failed.error_type(), reason::INFERENCE_FAILED);
    let logged = fixture.requests_logged();
    assert_eq!(logged[0].severity, Severity::Error);
    assert_eq!(
        fixture.predict("b").await.status,
        200,
        "the worker lives on"
    );
}

#[tokio::test]
async fn faults_need_the_flag() {
    let fixture = Setup {
        allow_faults: false,
        ..Setup::default()
    }
    .start();
    for method in ["GET", "POST", "DELETE"] {
        let body = r#"{"kind": "errors", "for_ms": 60000}"#;
        let refused = fixture.admin(method, "/faults", body).await;
        assert_eq!(refused.status, 403);
        assert!(refused.text.contains("--allow-faults"), "{}", refused.text);
    }
    assert_eq!(fixture.predict("b").await.status, 200);
}

#[tokio::test]
async fn faults_strike_are_listed_and_cleared() {
    let fixture = Setup::default().start();
    let start = async |body: &str| fixture.admin("POST", "/faults", body).await;
    let errors = start(r#"{"kind": "errors", "share": 0.5, "for_ms": 600000}"#).await;
    assert_eq!(
        (errors.status.as_u16(), &errors.json()["id"]),
        (200, &1.into())
    );
    let statuses = [
        fixture.predict("b").await.status,
        fixture.predict("b").await.status,
    ];
    assert_eq!(statuses.map(|s| s.as_u16()), [200, 500]);
    let listed = fixture.admin("GET", "/faults", "").await.json();
    assert_eq!(
        (&listed["faults"][0]["kind"], &listed["faults"][0]["struck"]),
        (&"errors".into(), &1.into())
    );
    assert_eq!(
        fixture.admin("DELETE", "/faults", "").await.json()["cleared"],
        1
    );
    assert_eq!(
        start(r#"{"kind": "wrong_answers", "for_ms": 600000}"#)
            .await
            .status,
        200
    );
    let lie = fixture.predict("b").await.json();
    assert_eq!(
        (&lie["result"], &lie["scores"]["odd"]),
        (&"odd".into(), &0.75.into())
    );
    fixture.admin("DELETE", "/faults", "").await;
    assert_eq!(fixture.predict("b").await.json()["result"], "even");
}

#[tokio::test]
async fn an_injected_error_is_an_error_in_the_log() {
    let fixture = Setup::default().start();
    fixture
        .admin("POST", "/faults", r#"{"kind": "errors", "for_ms": 600000}"#)
        .await;
    assert_eq!(fixture.predict("b").await.error_type(), reason::FAULT);
    assert_eq!(fixture.requests_logged()[0].severity, Severity::Error);
}

#[tokio::test]
async fn a_cut_hides_the_metrics_until_it_ends() {
    let fixture = Setup::default().start();
    assert_eq!(fixture.admin("GET", "/metrics", "").await.status, 200);
    fixture
        .admin(
            "POST",
            "/faults",
            r#"{"kind": "telemetry_cut", "for_ms": 600000}"#,
        )
        .await;
    let cut = fixture.admin("GET", "/metrics", "").await;
    assert_eq!(
        (cut.status.as_u16(), cut.error_type()),
        (503, reason::CUT.to_owned())
    );
    assert_eq!(
        fixture.predict("b").await.status,
        200,
        "requests do not notice"
    );
    fixture.admin("DELETE", "/faults", "").await;
    let back = fixture.admin("GET", "/metrics", "").await;
    assert!(
        back.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
    assert!(
        back.text.contains("http_route=\"/predict\"} 1"),
        "what was hidden was counted"
    );
}

#[tokio::test]
async fn senseless_faults_are_refused_and_not_announced() {
    let fixture = Setup::default().start();
    for (body, status) in [
        ("{", 400),
        (r#"{"kind": "gremlins", "for_ms": 5}"#, 422),
        (r#"{"kind": "errors"}"#, 422),
        (r#"{"kind": "latency", "for_ms": 5}"#, 422),
        (r#"{"kind": "errors", "for_ms": 5, "shares": 1}"#, 422),
    ] {
        let refused = fixture.admin("POST", "/faults", body).await;
        assert_eq!(refused.status.as_u16(), status, "{body}: {}", refused.text);
    }
    assert!(
        fixture
            .logs
            .all()
            .iter()
            .all(|l| l.event != event::FAULT_STARTED)
    );
}
