//! Replays recorded cases of a real Loki against the embedded one, fed the same lines.
//!
//! The cases lie outside the repository: in `corpus/` of the directory that `HARNESS_SHARED` names,
//! else of `../shared` beside the repository. Without them this test says so and passes.
//! `cargo nextest run --workspace -E 'binary(loki_corpus)' --no-capture` shows the table.

use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use harness_evidence::serve::loki::router;
use harness_evidence::store::logs::LogStore;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tower::ServiceExt as _;

/// Cases that may disagree, and why.
const KNOWN: [(&str, &str); 3] = [
    (
        "loki-unwrap-019",
        "Loki averages lines that lack the label as 0 under unwrap bytes() with a grouping; a \
         missing value is no value here",
    ),
    (
        "loki-vector-agg-022",
        "approx_topk is refused by name with 400; Loki refuses it with 500",
    ),
    ("loki-metadata-018", "detected_fields is not built"),
];

struct Answer {
    status: u16,
    content_type: String,
    body: Value,
}

async fn ask(app: &axum::Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let content_type = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("")
        .to_owned();
    let bytes = to_bytes(response.into_body(), usize::MAX)
        .await
        .expect("a body");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Answer {
        status,
        content_type,
        body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}

fn post(path: &str, body: Vec<u8>) -> Request<Body> {
    Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .expect("a request")
}

fn get(case: &Value) -> Request<Body> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in case["params"].as_object().into_iter().flatten() {
        query.append_pair(name, value.as_str().unwrap_or(""));
    }
    let uri = format!("{}?{}", case["path"].as_str().unwrap_or(""), query.finish());
    Request::builder()
        .method(case["method"].as_str().unwrap_or("GET"))
        .uri(uri)
        .body(Body::empty())
        .expect("a request")
}

/// Two numbers in texts, equal within a relative tolerance.
fn near(want: &Value, got: &Value, tolerance: f64) -> bool {
    let number = |v: &Value| -> Option<f64> {
        let text = v.as_str().map(|t| t.replace("Inf", "inf"));
        text.map_or_else(|| v.as_f64(), |t| t.parse().ok())
    };
    match (number(want), number(got)) {
        (Some(a), Some(b)) => {
            a == b
                || (a.is_nan() && b.is_nan())
                || (a - b).abs() <= (tolerance * a.abs().max(b.abs())).max(1e-12)
        }
        _ => want == got,
    }
}

/// An object's members in the order of names, so that equal sets have equal texts.
fn sorted(value: &Value) -> String {
    let members: BTreeMap<_, _> = value.as_object().into_iter().flatten().collect();
    serde_json::to_string(&members).unwrap_or_default()
}

fn by_labels<'v>(result: &'v Value, key: &str) -> BTreeMap<String, &'v Value> {
    let list = result.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().map(|s| (sorted(&s[key]), s)).collect()
}

fn points(want: &Value, got: &Value, tolerance: f64) -> Result<(), String> {
    let (want, got) = (want.as_array(), got.as_array());
    let (want, got) = (want.map_or(&[][..], |v| v), got.map_or(&[][..], |v| v));
    if want.len() != got.len() {
        return Err(format!("{} points, not {}", got.len(), want.len()));
    }
    for (w, g) in want.iter().zip(got) {
        if !near(&w[0], &g[0], 1e-12) || !near(&w[1], &g[1], tolerance) {
            return Err(format!("point {g}, not {w}"));
        }
    }
    Ok(())
}

fn lines(want: &Value, got: &Value) -> Result<(), String> {
    let split = |v: &Value| {
        let list = v.as_array().cloned().unwrap_or_default();
        let times: Vec<Value> = list.iter().map(|e| e[0].clone()).collect();
        let mut both: Vec<String> = list.iter().map(|e| format!("{} {}", e[0], e[1])).collect();
        both.sort();
        (times, both)
    };
    let (want, got) = (split(want), split(got));
    if want == got {
        Ok(())
    } else {
        Err(format!("lines {:?}, not {:?}", got.1, want.1))
    }
}

fn same_result(case: &Value, want: &Value, got: &Value) -> Result<(), String> {
    if want["resultType"] != got["resultType"] {
        return Err(format!(
            "type {}, not {}",
            got["resultType"], want["resultType"]
        ));
    }
    let tolerance = case["tol"].as_f64().unwrap_or(1e-9);
    let kind = want["resultType"].as_str().unwrap_or("");
    if kind == "scalar" {
        // The recorded time of a scalar is nonsense.
        let same = near(&want["result"][1], &got["result"][1], tolerance);
        return same
            .then_some(())
            .ok_or_else(|| format!("{}", got["result"]));
    }
    let key = if kind == "streams" {
        "stream"
    } else {
        "metric"
    };
    let (w, g) = (
        by_labels(&want["result"], key),
        by_labels(&got["result"], key),
    );
    let missing: Vec<_> = w.keys().filter(|k| !g.contains_key(*k)).take(2).collect();
    let extra: Vec<_> = g.keys().filter(|k| !w.contains_key(*k)).take(2).collect();
    if !missing.is_empty() || !extra.is_empty() {
        return Err(format!("missing {missing:?} extra {extra:?}"));
    }
    for (labels, want) in &w {
        let got = g[labels];
        let outcome = match kind {
            "streams" => lines(&want["values"], &got["values"]),
            "matrix" => points(&want["values"], &got["values"], tolerance),
            _ => points(
                &Value::from(vec![want["value"].clone()]),
                &Value::from(vec![got["value"].clone()]),
                tolerance,
            ),
        };
        outcome.map_err(|e| format!("{labels}: {e}"))?;
    }
    if case["ordered"].as_bool() == Some(true) {
        let order = |v: &Value| -> Vec<Value> {
            let list = v["result"].as_array().cloned().unwrap_or_default();
            list.iter().map(|s| s["value"][1].clone()).collect()
        };
        if order(want) != order(got) {
            return Err("another order".to_owned());
        }
    }
    Ok(())
}

fn compare(case: &Value, got: &Answer) -> Result<(), String> {
    let status = case["status"].as_u64().unwrap_or(0);
    if u64::from(got.status) != status {
        return Err(format!("status {}, not {status}: {}", got.status, got.body));
    }
    if status >= 400 || case["cmp"] == "status" {
        return Ok(());
    }
    let media = |text: &str| text.split(';').next().unwrap_or("").trim().to_owned();
    let wanted_type = case["content_type"].as_str().unwrap_or("");
    if media(wanted_type) != media(&got.content_type) {
        return Err(format!("content type {}", got.content_type));
    }
    let (want, got) = (&case["response"]["data"], &got.body["data"]);
    if want.get("resultType").is_some() {
        return same_result(case, want, got);
    }
    let set = |v: &Value| -> Option<Vec<String>> {
        let mut all: Vec<String> = v
            .as_array()?
            .iter()
            .map(|e| {
                if e.is_object() {
                    sorted(e)
                } else {
                    e.to_string()
                }
            })
            .collect();
        all.sort();
        Some(all)
    };
    if set(want) == set(got) && (want.is_array() || want == got) {
        Ok(())
    } else {
        Err(format!("{got}, not {want}"))
    }
}

#[tokio::test]
async fn recorded_cases_of_loki() {
    let root = std::env::var_os("HARNESS_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let corpus = root.join("corpus");
    let Ok(cases) = std::fs::read_to_string(corpus.join("cases/loki.jsonl")) else {
        println!(
            "no recorded cases at {}: nothing compared",
            corpus.display()
        );
        return;
    };
    let app = router(Arc::new(LogStore::default()));
    for (file, path) in [
        ("logs.otlp.json", "/otlp/v1/logs"),
        ("logs.push.json", "/loki/api/v1/push"),
    ] {
        let body = std::fs::read(corpus.join("data").join(file)).expect("the corpus' data");
        let answer = ask(&app, post(path, body)).await;
        assert_eq!(answer.status, 204, "{file}: {}", answer.body);
    }
    let mut unexpected = 0;
    let mut table: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).expect("a case");
        let answer = ask(&app, get(&case)).await;
        let row = table
            .entry(case["category"].as_str().unwrap_or("").to_owned())
            .or_default();
        match compare(&case, &answer) {
            Ok(()) => row.0 += 1,
            Err(difference) => {
                row.1 += 1;
                let id = case["id"].as_str().unwrap_or("");
                let known = KNOWN.iter().find(|(known, _)| *known == id);
                unexpected += usize::from(known.is_none());
                let why = known.map_or("unexpected", |(_, why)| why);
                let short: String = difference.chars().take(900).collect();
                println!("{id} {}: {why}\n    {short}", case["params"]["query"]);
            }
        }
    }
    let agree: usize = table.values().map(|(agree, _)| agree).sum();
    let disagree: usize = table.values().map(|(_, disagree)| disagree).sum();
    for (category, (agree, disagree)) in &table {
        println!("{category:16} agree {agree:4} disagree {disagree:4}");
    }
    println!("{:16} agree {agree:4} disagree {disagree:4}", "total");
    assert_eq!(unexpected, 0, "cases that used to agree; see above");
}
