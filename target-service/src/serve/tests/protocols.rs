//! The same documents by every protocol, and what each says of bad ones.

use super::*;
use axum::http::Method;

fn json(path: &str, body: &str) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request.body(Body::from(body.to_owned())).unwrap()
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn several_documents_have_each_their_own_result_or_error() {
    let fixture = Setup::default().start();
    let body = r#"{"texts": ["b", " ", "!", "a"]}"#;
    let reply = fixture.send(json(PREDICT, body)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let results = reply.json()["results"].clone();
    assert_eq!(results[0]["result"], "even");
    assert_eq!(results[1]["error"]["type"], reason::EMPTY_TEXT);
    assert_eq!(results[2]["error"]["type"], reason::INFERENCE_FAILED);
    assert_eq!(results[3]["result"], "odd");
    let embedded = fixture.send(json("/embed", body)).await.json();
    assert_eq!(embedded["results"][0]["embedding"][1], 0.8f32);
    assert_eq!(embedded["results"][1]["error"]["type"], reason::EMPTY_TEXT);
    assert_eq!(embedded["results"][3]["embedding"][1], -0.8f32);
    let single = fixture
        .send(json("/embed", r#"{"text": "b"}"#))
        .await
        .json();
    assert_eq!(single["embedding"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn documents_that_are_none_or_too_many_are_refused() {
    let fixture = Setup::default().start();
    for (body, status, class) in [
        (r#"{"texts": []}"#, 422, reason::WRONG_SHAPE),
        (r#"{"texts": ["a"], "text": "b"}"#, 422, reason::WRONG_SHAPE),
        ("{}", 422, reason::WRONG_SHAPE),
        (r#"{"texts": ["a", 5]}"#, 422, reason::WRONG_SHAPE),
        (
            r#"{"texts": ["1", "2", "3", "4", "5"]}"#,
            413,
            reason::TOO_MANY_DOCUMENTS,
        ),
    ] {
        let reply = fixture.send(json(PREDICT, body)).await;
        let told = (reply.status.as_u16(), reply.error_type());
        assert_eq!(told, (status, class.to_owned()), "{body}");
    }
    assert!(
        fixture.gate.sizes().is_empty(),
        "none of them reached the model"
    );
}

#[tokio::test]
async fn positions_are_told_of_what_cannot_be_read() {
    let fixture = Setup::default().start();
    let reply = fixture.send(json(PREDICT, "{\"text\":\n  nul}")).await;
    assert!(reply.text.contains("line 2 column"), "{}", reply.text);
    let mut bytes = br#"{"text": "ab"#.to_vec();
    bytes.extend([0xff, b'"', b'}']);
    let request = Request::post(PREDICT).header("content-type", "application/json");
    let reply = fixture.send(request.body(Body::from(bytes)).unwrap()).await;
    assert_eq!(
        (reply.status.as_u16(), reply.error_type()),
        (422, reason::NOT_UTF8.to_owned())
    );
    assert!(reply.text.contains("byte 12"), "{}", reply.text);
    let packed = Request::post(PREDICT).header("content-encoding", "gzip");
    let reply = fixture.send(packed.body(Body::from("b")).unwrap()).await;
    assert_eq!(reply.status, 415);
}

#[tokio::test]
async fn the_stages_are_in_the_server_timing_header() {
    let fixture = Setup::default().start();
    let reply = fixture.predict("b").await;
    let timing = reply.headers["server-timing"].to_str().unwrap().to_owned();
    let names: Vec<&str> = timing
        .split(", ")
        .map(|m| m.split(';').next().unwrap())
        .collect();
    assert_eq!(names, ["preprocess", "queue", "inference", "postprocess"]);
    for metric in timing.split(", ") {
        let (_, time) = metric.split_once(";dur=").unwrap();
        assert!(time.parse::<f64>().unwrap() >= 0.0, "{timing}");
    }
}

#[tokio::test]
async fn openai_clients_get_embeddings() {
    let fixture = Setup::default().start();
    let body = r#"{"model": "scripted", "input": ["b", "abc"], "user": "u", "dimensions": 2}"#;
    let reply = fixture.send(json("/v1/embeddings", body)).await.json();
    assert_eq!(reply["object"], "list");
    assert_eq!(reply["model"], "scripted");
    assert_eq!(
        reply["usage"],
        serde_json::json!({"prompt_tokens": 4, "total_tokens": 4})
    );
    assert_eq!(reply["data"][1]["index"], 1);
    assert_eq!(reply["data"][1]["embedding"][1], -0.8f32);
    let body = r#"{"model": "scripted", "input": "b", "encoding_format": "base64"}"#;
    let reply = fixture.send(json("/v1/embeddings", body)).await.json();
    // 0.6 and 0.8 as little-endian floats.
    assert_eq!(reply["data"][0]["embedding"], "mpkZP83MTD8=");
    let models = fixture.send(get("/v1/models")).await.json();
    assert_eq!(models["data"][0]["id"], "scripted");
}

#[tokio::test]
async fn openai_clients_get_openai_errors() {
    let fixture = Setup::default().start();
    for (body, status, code, param) in [
        ("{", 400, reason::MALFORMED_JSON, Json::Null),
        (
            r#"{"input": "b"}"#,
            400,
            reason::WRONG_SHAPE,
            "model".into(),
        ),
        (
            r#"{"model": "x", "input": "b"}"#,
            404,
            reason::NO_SUCH_MODEL,
            "model".into(),
        ),
        (
            r#"{"model": "scripted"}"#,
            400,
            reason::WRONG_SHAPE,
            "input".into(),
        ),
        (
            r#"{"model": "scripted", "input": []}"#,
            400,
            reason::WRONG_SHAPE,
            "input".into(),
        ),
        (
            r#"{"model": "scripted", "input": ["b", [1, 2]]}"#,
            400,
            reason::WRONG_SHAPE,
            "input[1]".into(),
        ),
        (
            r#"{"model": "scripted", "input": ["b", ""]}"#,
            400,
            reason::EMPTY_TEXT,
            "input[1]".into(),
        ),
        (
            r#"{"model": "scripted", "input": ["b", "!"]}"#,
            500,
            reason::INFERENCE_FAILED,
            "input[1]".into(),
        ),
        (
            r#"{"model": "scripted", "input": "b", "dimensions": 3}"#,
            400,
            reason::WRONG_SHAPE,
            "dimensions".into(),
        ),
        (
            r#"{"model": "scripted", "input": "b", "encoding_format": "hex"}"#,
            400,
            reason::WRONG_SHAPE,
            Json::Null,
        ),
    ] {
        let reply = fixture.send(json("/v1/embeddings", body)).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text);
        let error = reply.json()["error"].clone();
        let kind = if status < 500 {
            "invalid_request_error"
        } else {
            "server_error"
        };
        assert_eq!(
            (&error["code"], &error["param"], &error["type"]),
            (&code.into(), &param, &kind.into()),
            "{body}"
        );
        assert!(error["message"].is_string());
    }
    let text = Request::post("/v1/embeddings").header("content-type", "text/plain");
    let reply = fixture.send(text.body(Body::from("b")).unwrap()).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.json()["error"]["code"]),
        (415, &reason::MEDIA_TYPE.into())
    );
    for (method, path, status) in [
        (Method::GET, "/v1/embeddings", 405),
        (Method::POST, "/v1/chat", 404),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let reply = fixture.send(request).await;
        assert_eq!(reply.status.as_u16(), status);
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn the_open_inference_protocol_answers_in_tensors() {
    let fixture = Setup::default().start();
    assert_eq!(
        fixture.send(get("/v2")).await.json()["name"],
        "target-service"
    );
    assert_eq!(
        fixture.send(get("/v2/health/live")).await.json()["live"],
        true
    );
    assert_eq!(
        fixture.send(get("/v2/health/ready")).await.json()["ready"],
        true
    );
    let metadata = fixture.send(get("/v2/models/scripted")).await.json();
    assert_eq!(metadata["inputs"][0]["datatype"], "BYTES");
    let outputs: Vec<&str> = metadata["outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["name"].as_str().unwrap())
        .collect();
    assert_eq!(outputs, ["label", "scores", "embedding"]);
    assert_eq!(metadata["outputs"][1]["shape"], serde_json::json!([-1, 2]));
    assert_eq!(
        fixture.send(get("/v2/models/scripted/ready")).await.json()["ready"],
        true
    );
    let body = r#"{"id": "7", "inputs": [{"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["b"], ["a"]]}]}"#;
    for path in [
        "/v2/models/scripted/infer",
        "/v2/models/scripted/versions/0/infer",
    ] {
        let reply = fixture.send(json(path, body)).await.json();
        assert_eq!(
            (&reply["model_name"], &reply["model_version"], &reply["id"]),
            (&"scripted".into(), &"0".into(), &"7".into())
        );
        assert_eq!(
            reply["outputs"][0],
            serde_json::json!({"name": "label", "datatype": "BYTES", "shape": [2], "data": ["even", "odd"]})
        );
        assert_eq!(reply["outputs"][1]["shape"], serde_json::json!([2, 2]));
        assert_eq!(
            reply["outputs"][1]["data"],
            serde_json::json!([0.75, 0.25, 0.25, 0.75])
        );
        assert_eq!(reply["outputs"][2]["data"].as_array().unwrap().len(), 4);
    }
    let some = body.replace("\"id\": \"7\"", "\"outputs\": [{\"name\": \"scores\"}]");
    let reply = fixture
        .send(json("/v2/models/scripted/infer", &some))
        .await
        .json();
    assert_eq!(reply["outputs"].as_array().unwrap().len(), 1);
    assert!(reply.get("id").is_none());
}

#[tokio::test]
async fn the_open_inference_protocol_names_what_is_wrong() {
    let fixture = Setup::default().start();
    let input = |inner: &str| format!(r#"{{"inputs": [{inner}]}}"#);
    let text = r#"{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["b"]}"#;
    for (body, status, word) in [
        ("[".to_owned(), 400, "line 1 column 1"),
        ("{}".to_owned(), 400, "inputs"),
        (input(""), 400, "0 inputs"),
        (input(&format!("{text}, {text}")), 400, "2 inputs"),
        (input(&text.replace("\"text\"", "\"words\"")), 400, "words"),
        (input(&text.replace("BYTES", "FP32")), 400, "FP32"),
        (input(&text.replace("[1]", "[2]")), 400, "shape"),
        (
            input(&text.replace("[1]", "[18446744073709551615, 2]")),
            400,
            "shape",
        ),
        (input(&text.replace("[\"b\"]", "[5]")), 400, "element 0"),
        (input(&text.replace("\"b\"", "\" \"")), 400, "element 0"),
        (input(&text.replace("\"b\"", "\"!\"")), 500, "element 0"),
        (
            input(text).replace(
                "{\"inputs\"",
                "{\"outputs\": [{\"name\": \"logits\"}], \"inputs\"",
            ),
            400,
            "logits",
        ),
    ] {
        let reply = fixture.send(json("/v2/models/scripted/infer", &body)).await;
        assert_eq!(reply.status.as_u16(), status, "{body}: {}", reply.text);
        let error = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(word), "{body}: {error}");
    }
    for path in [
        "/v2/models/other",
        "/v2/models/scripted/versions/9",
        "/v2/nothing",
    ] {
        let reply = fixture.send(get(path)).await;
        assert_eq!(reply.status, 404);
        assert!(reply.json()["error"].is_string(), "{}", reply.text);
    }
}

#[tokio::test]
async fn without_a_model_every_protocol_asks_to_come_back() {
    let fixture = Setup {
        loaded: false,
        ..Setup::default()
    }
    .start();
    for request in [
        post("b"),
        json("/embed", r#"{"text": "b"}"#),
        json("/v1/embeddings", r#"{"model": "scripted", "input": "b"}"#),
        json("/v2/models/scripted/infer", "{}"),
        get("/v2/models/scripted"),
    ] {
        let reply = fixture.send(request).await;
        assert_eq!(reply.status, 503);
        assert!(reply.headers.contains_key("retry-after"));
    }
    assert_eq!(fixture.send(get("/v2/health/ready")).await.status, 503);
    assert_eq!(
        fixture.send(get("/v1/models")).await.json()["data"],
        serde_json::json!([])
    );
}

/// Every path of the description is there, and every route of the first listener is described.
#[tokio::test]
async fn the_description_and_the_routes_are_the_same() {
    let fixture = Setup::default().start();
    let description = fixture.send(get("/openapi.json")).await.json();
    let source = include_str!("../mod.rs");
    let routes = source.split("pub fn router").nth(1).unwrap();
    let routes = routes.split(".fallback").next().unwrap();
    let count = routes.matches(".route(").count();
    let paths = description["paths"].as_object().unwrap();
    assert_eq!(paths.len(), count);
    for (path, operations) in paths {
        let path = path
            .replace("{model}", "scripted")
            .replace("{version}", "0");
        for method in ["get", "post"] {
            let described = operations.get(method).is_some();
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(&path);
            let reply = fixture.send(request.body(Body::from("{}")).unwrap()).await;
            assert!(!reply.text.contains("no such path"), "{method} {path}");
            assert_eq!(reply.status != 405, described, "{method} {path}");
        }
    }
}
