//! `/v1/completions` by a small model with random weights: shapes, streams, limits, telemetry.

use super::*;
use crate::engine::{WriterSettings, Writers};
use crate::model::ModelError;
use crate::model::causal::tests::{CONTEXT, loaded};
use crate::model::causal::{Decode, Part};

const PATH: &str = "/v1/completions";

fn start() -> Fixture {
    start_with(8, Duration::from_secs(600))
}

fn start_with(capacity: usize, deadline: Duration) -> Fixture {
    serve_with(fixture_without_model(deadline), loaded().engine(), capacity)
}

fn fixture_without_model(deadline: Duration) -> Fixture {
    Setup {
        loaded: false,
        deadline,
        ..Setup::default()
    }
    .start()
}

/// The small model's vocabulary with `engine`.
fn serve_with(fixture: Fixture, engine: Box<dyn Decode>, capacity: usize) -> Fixture {
    let model = loaded();
    let settings = WriterSettings {
        capacity,
        sequences: 2,
        chunk: 8,
    };
    let (metrics, faults) = (
        fixture.service.telemetry.metrics.clone(),
        fixture.service.faults.clone(),
    );
    let text = model.text.clone();
    let writers = Writers::start(vec![engine], text, settings, metrics, faults).unwrap();
    fixture.service.make_ready(Loaded {
        workers: Workers::Causal(writers),
        info: ModelInfo {
            name: "small".to_owned(),
            ..model.info
        },
        load: Duration::from_secs(1),
    });
    fixture
}

fn ask(fields: &Json) -> Request<Body> {
    let mut body = json!({ "model": "small", "prompt": "the", "temperature": 0 });
    for (key, value) in fields.as_object().unwrap() {
        body[key] = value.clone();
    }
    Request::post(PATH)
        .body(Body::from(body.to_string()))
        .unwrap()
}

/// The objects of a stream, and whether it ended as it should.
fn events(text: &str) -> (Vec<Json>, bool) {
    let mut data: Vec<&str> = text
        .split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").expect("an event"))
        .collect();
    let done = data.last() == Some(&"[DONE]");
    if done {
        data.pop();
    }
    let objects = data.iter().map(|d| serde_json::from_str(d).unwrap());
    (objects.collect(), done)
}

#[tokio::test]
async fn a_text_is_the_same_at_once_and_streamed() {
    let fixture = start();
    let whole = fixture.send(ask(&json!({ "max_tokens": 20 }))).await;
    assert_eq!(whole.status, 200, "{}", whole.text);
    let body = whole.json();
    assert!(body["id"].as_str().unwrap().starts_with("cmpl-"));
    assert_eq!(
        (&body["object"], &body["model"]),
        (&json!("text_completion"), &json!("small"))
    );
    let choice = &body["choices"][0];
    let read = body["usage"]["prompt_tokens"].as_u64().unwrap();
    let written = body["usage"]["completion_tokens"].as_u64().unwrap();
    assert_eq!(read, 2, "\"t\" and \"he\"");
    assert_eq!(body["usage"]["total_tokens"], read + written);
    match choice["finish_reason"].as_str().unwrap() {
        "length" => assert_eq!(written, 20),
        "stop" => assert!(written <= 20),
        other => panic!("{other}"),
    }
    for stage in [
        "preprocess;dur=",
        "queue;dur=",
        "prefill;dur=",
        "decode;dur=",
    ] {
        assert!(
            whole.headers["server-timing"]
                .to_str()
                .unwrap()
                .contains(stage)
        );
    }
    let asked =
        json!({ "max_tokens": 20, "stream": true, "stream_options": {"include_usage": true} });
    let streamed = fixture.send(ask(&asked)).await;
    assert_eq!(streamed.headers["content-type"], "text/event-stream");
    assert!(
        streamed.headers["server-timing"]
            .to_str()
            .unwrap()
            .contains("prefill;dur=")
    );
    let (objects, done) = events(&streamed.text);
    assert!(done, "{}", streamed.text);
    let (usage, chunks) = objects.split_last().unwrap();
    assert_eq!(
        (&usage["choices"], &usage["usage"]),
        (&json!([]), &body["usage"])
    );
    let texts = chunks
        .iter()
        .map(|c| c["choices"][0]["text"].as_str().unwrap());
    assert_eq!(texts.collect::<String>(), choice["text"].as_str().unwrap());
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], choice["finish_reason"]);
    assert!(
        before
            .iter()
            .all(|c| c["choices"][0]["finish_reason"].is_null() && c["usage"].is_null())
    );
    assert!(
        chunks
            .iter()
            .all(|c| c["id"] == usage["id"] && c["object"] == "text_completion")
    );
}

#[tokio::test]
async fn a_seed_gives_the_same_text_again() {
    let fixture = start();
    let mut texts = Vec::new();
    for seed in [5, 5, 6] {
        let asked = json!({ "max_tokens": 30, "temperature": 1.5, "top_p": 0.95, "seed": seed });
        let reply = fixture.send(ask(&asked)).await.json();
        texts.push(reply["choices"][0]["text"].clone());
    }
    assert_eq!(texts[0], texts[1]);
    assert_ne!(texts[0], texts[2]);
}

#[tokio::test]
async fn a_stop_text_is_not_given_out() {
    let fixture = start();
    let asked = json!({ "max_tokens": 40, "temperature": 1, "seed": 1 });
    let plain = fixture.send(ask(&asked)).await.json();
    let text = plain["choices"][0]["text"].as_str().unwrap().to_owned();
    let characters: Vec<char> = text.chars().filter(|c| *c != '\u{fffd}').collect();
    let stop = characters[characters.len() / 2].to_string();
    for streamed in [false, true] {
        let asked = json!({
            "max_tokens": 40, "temperature": 1, "seed": 1, "stop": [stop], "stream": streamed,
        });
        let reply = fixture.send(ask(&asked)).await;
        let objects = match streamed {
            true => events(&reply.text).0,
            false => vec![reply.json()],
        };
        let said = objects
            .iter()
            .map(|o| o["choices"][0]["text"].as_str().unwrap());
        assert_eq!(
            Some(said.collect::<String>().as_str()),
            text.split(&stop).next()
        );
        assert_eq!(
            objects.last().unwrap()["choices"][0]["finish_reason"],
            "stop"
        );
    }
}

#[tokio::test]
async fn tokens_may_be_given_for_a_text() {
    let fixture = start();
    let of_text = fixture.send(ask(&json!({}))).await.json();
    let of_tokens = fixture
        .send(ask(&json!({ "prompt": [116, 259] })))
        .await
        .json();
    assert_eq!(of_text["choices"], of_tokens["choices"]);
}

#[tokio::test]
async fn what_is_wrong_is_refused_naming_it() {
    let fixture = start();
    for (asked, param, status) in [
        (json!({ "model": "other" }), json!("model"), 404),
        (json!({ "model": null }), json!("model"), 400),
        (json!({ "prompt": null }), json!("prompt"), 400),
        (json!({ "prompt": "" }), json!("prompt"), 400),
        (json!({ "prompt": ["a", "b"] }), json!("prompt"), 400),
        (json!({ "prompt": [1, 99_999] }), json!("prompt[1]"), 400),
        (json!({ "prompt": [1, -1] }), json!("prompt[1]"), 400),
        (json!({ "max_tokens": 0 }), json!("max_tokens"), 400),
        (json!({ "max_tokens": CONTEXT }), json!("max_tokens"), 400),
        (json!({ "max_tokens": u64::MAX }), json!("max_tokens"), 400),
        (json!({ "max_tokens": -1 }), json!(null), 400),
        (json!({ "temperature": 2.5 }), json!("temperature"), 400),
        (json!({ "temperature": -1 }), json!("temperature"), 400),
        (json!({ "top_p": 0 }), json!("top_p"), 400),
        (
            json!({ "stop": ["a", "b", "c", "d", "e"] }),
            json!("stop"),
            400,
        ),
        (json!({ "stop": "" }), json!("stop"), 400),
        (json!({ "stop": 1 }), json!("stop"), 400),
        (json!({ "n": 2 }), json!("n"), 400),
        (json!({ "echo": true }), json!("echo"), 400),
        (json!({ "logprobs": 1 }), json!("logprobs"), 400),
        (
            json!({ "frequency_penalty": 0.5 }),
            json!("frequency_penalty"),
            400,
        ),
        (json!({ "logit_bias": {"1": 2} }), json!("logit_bias"), 400),
        (
            json!({ "stream_options": {} }),
            json!("stream_options"),
            400,
        ),
        (json!({ "max_token": 5 }), json!(null), 400),
    ] {
        let reply = fixture.send(ask(&asked)).await;
        assert_eq!(reply.status, status, "{asked}: {}", reply.text);
        let error = &reply.json()["error"];
        assert_eq!(error["param"], param, "{asked}: {error}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let torn = Request::post(PATH)
        .body(Body::from("{\"model\": \"small\",\n  \"prompt\" "))
        .unwrap();
    let reply = fixture.send(torn).await;
    assert_eq!(reply.status, 400);
    assert!(reply.text.contains("line 2 column"), "{}", reply.text);
    let bytes = Request::post(PATH)
        .body(Body::from(&b"\xff\xfe"[..]))
        .unwrap();
    assert!(fixture.send(bytes).await.text.contains("from byte 0 on"));
}

#[tokio::test]
async fn a_model_that_writes_does_nothing_else() {
    let fixture = start();
    let reply = fixture.predict("a text").await;
    assert_eq!(
        (reply.status, reply.error_type().as_str()),
        (StatusCode::NOT_FOUND, "unsupported_by_model")
    );
    let body =
        r#"{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}"#;
    let infer = Request::post("/v2/models/small/infer")
        .body(Body::from(body))
        .unwrap();
    let reply = fixture.send(infer).await;
    assert_eq!(reply.status, 404);
    assert!(reply.json()["error"].is_string());
    let body = r#"{"model": "small", "input": "a"}"#;
    let embeddings = Request::post("/v1/embeddings")
        .body(Body::from(body))
        .unwrap();
    assert_eq!(
        fixture.send(embeddings).await.json()["error"]["code"],
        "unsupported_by_model"
    );
    let encoder = Setup::default().start();
    let reply = encoder.send(ask(&json!({ "model": "scripted" }))).await;
    assert_eq!(reply.json()["error"]["code"], "unsupported_by_model");
}

#[tokio::test]
async fn a_generation_has_its_span_its_metrics_and_one_log_line() {
    let fixture = start();
    let asked =
        json!({ "max_tokens": 5, "temperature": 1, "seed": 3, "stop": "zz", "stream": true });
    let reply = fixture.send(ask(&asked)).await;
    let finish = events(&reply.text).0.last().unwrap()["choices"][0]["finish_reason"].clone();
    let spans = fixture.spans.all();
    let named = |name: &str| {
        spans
            .iter()
            .find(|s| s.name == name)
            .unwrap_or_else(|| panic!("{name}"))
    };
    let (server, generation) = (
        named("POST /v1/completions"),
        named("text_completion small"),
    );
    assert_eq!(generation.parent_span_id, server.span_context.span_id());
    for child in ["queue", "prefill", "decode"] {
        assert_eq!(
            named(child).parent_span_id,
            generation.span_context.span_id()
        );
    }
    assert!(
        server.end_time >= generation.end_time,
        "the request lasts as long as its text"
    );
    let of = |key: &str| attribute(&generation.attributes, key).cloned();
    assert_eq!(of("gen_ai.operation.name"), Some("text_completion".into()));
    assert_eq!(of("gen_ai.request.model"), Some("small".into()));
    assert_eq!(of("gen_ai.request.max_tokens"), Some(5.into()));
    assert_eq!(of("gen_ai.request.seed"), Some(3.into()));
    assert_eq!(of("gen_ai.usage.input_tokens"), Some(2.into()));
    let written = of("gen_ai.usage.output_tokens").unwrap();
    let Some(Value::Array(opentelemetry::Array::String(reasons))) =
        of("gen_ai.response.finish_reasons")
    else {
        panic!("a list");
    };
    assert_eq!(reasons[0].as_str(), finish.as_str().unwrap());
    assert!(
        of("gen_ai.latency.time_to_first_token").is_some()
            && of("gen_ai.request.stop_sequences").is_some()
    );
    let metrics = fixture.metrics();
    let labels = ["text_completion", "small"];
    assert_eq!(
        metrics
            .time_to_first_token
            .with_label_values(&labels)
            .get_sample_count(),
        1
    );
    let tokens = |kind| {
        metrics
            .tokens
            .with_label_values(&[labels[0], labels[1], kind])
            .get()
    };
    assert_eq!(
        (tokens("input"), Value::I64(tokens("output") as i64)),
        (2, written)
    );
    let done = metrics
        .gen_ai_duration
        .with_label_values(&[labels[0], labels[1], ""]);
    assert_eq!(done.get_sample_count(), 1);
    assert_eq!(fixture.counted("POST", PATH, "200"), 1);
    assert_eq!(metrics.active_requests.get(), 0);
    let logged = fixture.requests_logged();
    assert_eq!(logged.len(), 1);
    assert_eq!(
        attribute(&logged[0].attributes, "http.response.status_code"),
        Some(&200.into())
    );
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_told_apart_and_its_text_ends() {
    let fixture = start();
    let asked = ask(&json!({ "max_tokens": 90, "temperature": 1, "seed": 2, "stream": true }));
    let response = router(fixture.service.clone())
        .oneshot(asked)
        .await
        .unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(fixture.metrics().active_requests.get(), 1);
    drop(body);
    assert_eq!(fixture.metrics().active_requests.get(), 0);
    assert_eq!(fixture.counted("POST", PATH, "499"), 1);
    let spans = fixture.spans.all();
    let generation = spans
        .iter()
        .find(|s| s.name == "text_completion small")
        .unwrap();
    let class = attribute(&generation.attributes, "error.type");
    assert_eq!(class, Some(&"client_closed_request".into()));
    while fixture.metrics().sequences.get() != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_deadline_ends_a_text_before_or_in_its_midst() {
    let fixture = start();
    let stall = |ms: u64| json!({ "kind": "stall", "for_ms": ms }).to_string();
    assert_eq!(
        fixture
            .admin("POST", "/faults", &stall(600_000))
            .await
            .status,
        200
    );
    let mut request = ask(&json!({ "stream": true }));
    request
        .headers_mut()
        .insert("x-request-timeout", "20ms".parse().unwrap());
    let reply = fixture.send(request).await;
    assert_eq!(reply.status, 503, "nothing was sent yet");
    assert_eq!(reply.json()["error"]["code"], "deadline");
    assert!(reply.headers.contains_key("retry-after"));
}

/// Writes one token and then nothing until it is let go.
struct Stuck(std::sync::mpsc::Receiver<()>, bool);

impl Decode for Stuck {
    fn step(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        if std::mem::replace(&mut self.1, true) {
            let _ = self.0.recv();
        }
        let mut scores = vec![0.0; 260];
        scores[usize::from(b'x')] = 1.0;
        Ok(vec![scores; parts.len()])
    }
}

#[tokio::test]
async fn a_stream_broken_off_ends_in_an_error_and_not_in_done() {
    let (go, stuck) = std::sync::mpsc::channel();
    let engine = Box::new(Stuck(stuck, false));
    // Time enough for the first token on any machine; the second never comes.
    let fixture = serve_with(fixture_without_model(Duration::from_secs(2)), engine, 8);
    let reply = fixture.send(ask(&json!({ "stream": true }))).await;
    assert_eq!(reply.status, 200);
    let (objects, done) = events(&reply.text);
    assert!(!done && objects.len() == 2, "{}", reply.text);
    assert_eq!(objects[0]["choices"][0]["text"], "x");
    assert_eq!(objects[1]["error"]["code"], "deadline");
    let labels = ["text_completion", "small", "deadline"];
    let late = fixture.metrics().gen_ai_duration.with_label_values(&labels);
    assert_eq!(late.get_sample_count(), 1);
    assert_eq!(fixture.counted("POST", PATH, "200"), 1, "what was sent");
    let line = &fixture.requests_logged()[0];
    assert_eq!(
        attribute(&line.attributes, "error.type"),
        Some(&"deadline".into())
    );
    assert_eq!(line.severity, opentelemetry::logs::Severity::Warn);
    drop(go);
}

#[tokio::test]
async fn faults_strike_texts_too() {
    let fixture = start();
    let plain = fixture.send(ask(&json!({}))).await.json();
    let wrong = json!({ "kind": "wrong_answers", "for_ms": 600_000 }).to_string();
    fixture.admin("POST", "/faults", &wrong).await;
    let lied = fixture.send(ask(&json!({}))).await.json();
    assert_ne!(plain["choices"][0]["text"], lied["choices"][0]["text"]);
    fixture.admin("DELETE", "/faults", "").await;
    let errors = json!({ "kind": "errors", "for_ms": 600_000 }).to_string();
    fixture.admin("POST", "/faults", &errors).await;
    let reply = fixture.send(ask(&json!({}))).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (StatusCode::INTERNAL_SERVER_ERROR, &json!("fault_injected"))
    );
}

#[tokio::test]
async fn as_many_wait_as_may() {
    let fixture = start_with(1, Duration::from_secs(600));
    let stall = json!({ "kind": "stall", "for_ms": 600_000 }).to_string();
    fixture.admin("POST", "/faults", &stall).await;
    let waiting = tokio::spawn({
        let routes = router(fixture.service.clone());
        async move { read(routes.oneshot(ask(&json!({}))).await.unwrap()).await }
    });
    fixture.queued(1).await;
    let reply = fixture.send(ask(&json!({}))).await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("queue_full"))
    );
    fixture.admin("DELETE", "/faults", "").await;
    assert_eq!(waiting.await.unwrap().status, 200);
}
