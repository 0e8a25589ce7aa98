//! Replays a recorded corpus against the embedded server: the same data, the same requests, and the
//! answers of a real Prometheus 2.42. The corpus is not part of the repository; it is looked for in
//! `$HARNESS_SHARED/corpus`, else in `../shared/corpus` beside the repository.

use axum::body::Body;
use harness_evidence::receive::exposition::{Format, parse};
use harness_evidence::serve::prometheus::router;
use harness_evidence::store::metrics::MetricStore;
use http_body_util::BodyExt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tower::ServiceExt;

fn corpus() -> Option<PathBuf> {
    let shared = std::env::var_os("HARNESS_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
        PathBuf::from,
    );
    let dir = shared.join("corpus");
    dir.is_dir().then_some(dir)
}

/// Cases in which Prometheus 3, which is followed here, is known to answer otherwise than the 2.42
/// that was recorded, beyond those the corpus marks.
const DIFFER_BY_VERSION: [(&str, &str); 4] = [
    // 3 never stretches a counter further than half an interval beyond a distant first sample; 2.42
    // went to the point where the counter would have been zero.
    (
        "prometheus-counter-023",
        "extrapolation of a series born late",
    ),
    (
        "prometheus-counter-024",
        "extrapolation of a series born late",
    ),
    (
        "prometheus-range-005",
        "extrapolation of a series born late",
    ),
    ("prometheus-binary-025", "atan2 drops the metric's name"),
];

fn differs_by_version(case: &Value) -> bool {
    let known = DIFFER_BY_VERSION.iter().any(|(id, _)| case["id"] == *id);
    known || case["v2v3"] == true
}

#[tokio::test]
async fn answers_as_the_real_server_did() {
    let Some(dir) = corpus() else {
        println!("no corpus: neither $HARNESS_SHARED nor ../shared is there; nothing was compared");
        return;
    };
    let text = std::fs::read_to_string(dir.join("data/metrics.om.txt")).expect("corpus data");
    let store = Arc::new(MetricStore::default());
    let mut samples = parse(&text, Format::OpenMetrics).expect("valid OpenMetrics");
    samples.sort_by_key(|s| s.t_ms);
    let outcome = store.append_batch(
        samples
            .into_iter()
            .map(|s| (s.labels, s.t_ms.expect("timestamps"), s.value)),
    );
    assert_eq!(outcome.rejected, 0, "{:?}", outcome.first_error);

    let app = router(store);
    let cases = std::fs::read_to_string(dir.join("cases/prometheus.jsonl")).expect("corpus cases");
    let (mut agree, mut disagree, mut apart, mut same_text, mut errors) = (0, Vec::new(), 0, 0, 0);
    for line in cases.lines() {
        let case: Value = serde_json::from_str(line).expect("a JSON case");
        let (status, body) = ask(&app, &case).await;
        match compare(&case, status, &body) {
            Ok(()) => agree += 1,
            Err(why) if differs_by_version(&case) => {
                apart += 1;
                println!(
                    "version 3 differs: {} {}: {why}",
                    case["id"], case["params"]
                );
            }
            Err(why) => disagree.push(format!("{} {}: {why}", case["id"], case["params"])),
        }
        if case["status"].as_u64() >= Some(400) {
            errors += 1;
            if case["response"]["error"] == body["error"] {
                same_text += 1;
            } else {
                println!(
                    "~ {} want {} got {}",
                    case["params"], case["response"]["error"], body["error"]
                );
            }
        }
    }
    println!(
        "{agree} agree, {} disagree, {apart} differ between versions; error text same {same_text}/{errors}",
        disagree.len()
    );
    assert!(disagree.is_empty(), "{}", disagree.join("\n"));
}

async fn ask(app: &axum::Router, case: &Value) -> (u16, Value) {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in case["params"].as_object().expect("params") {
        match value {
            Value::Array(all) => all.iter().for_each(|v| {
                query.append_pair(name, v.as_str().unwrap_or_default());
            }),
            v => drop(query.append_pair(name, v.as_str().unwrap_or_default())),
        }
    }
    let uri = format!(
        "{}?{}",
        case["path"].as_str().expect("path"),
        query.finish()
    );
    let request = http::Request::builder()
        .method(case["method"].as_str().expect("method"))
        .uri(uri)
        .body(Body::empty())
        .expect("request");
    let answer = app.clone().oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.expect("body").to_bytes();
    let value = serde_json::from_slice(&body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
    (status, value)
}

fn compare(case: &Value, status: u16, got: &Value) -> Result<(), String> {
    let want = &case["response"];
    if case["status"].as_u64() != Some(status.into()) {
        return Err(format!(
            "want status {}, got {status}: {got}",
            case["status"]
        ));
    }
    if status >= 400 {
        return same(&want["errorType"], &got["errorType"]);
    }
    let (w, g) = (&want["data"], &got["data"]);
    let Some(kind) = w.get("resultType") else {
        return match (w, g) {
            (Value::Array(w), Value::Array(g)) => same(&sorted(w), &sorted(g)),
            _ => same(w, g),
        };
    };
    same(kind, &g["resultType"])?;
    let tolerance = case["tol"].as_f64().unwrap_or(1e-9);
    if kind == "scalar" || kind == "string" {
        return points(
            &Value::Array(vec![w["result"].clone()]),
            &Value::Array(vec![g["result"].clone()]),
            tolerance,
        );
    }
    let (w, g) = (by_metric(&w["result"]), by_metric(&g["result"]));
    same(&names(&w), &names(&g))?;
    for (metric, w) in &w {
        let g = &g[metric];
        let one = |v: &Value| match v.get("value") {
            Some(p) => Value::Array(vec![p.clone()]),
            None => v["values"].clone(),
        };
        points(&one(w), &one(g), tolerance).map_err(|e| format!("{metric}: {e}"))?;
    }
    if case["ordered"] == true {
        let order = |v: &Value| -> Vec<Value> {
            let all = v["data"]["result"].as_array().cloned().unwrap_or_default();
            all.iter().map(|s| s["value"][1].clone()).collect()
        };
        same(&order(want).into(), &order(got).into())?;
    }
    Ok(())
}

fn sorted(list: &[Value]) -> Value {
    let mut all: Vec<String> = list.iter().map(canonical).collect();
    all.sort();
    all.into()
}

fn canonical(v: &Value) -> String {
    match v {
        Value::Object(o) => {
            let ordered: BTreeMap<_, _> = o.iter().collect();
            format!("{ordered:?}")
        }
        other => other.to_string(),
    }
}

fn by_metric(result: &Value) -> BTreeMap<String, &Value> {
    let all = result.as_array().map_or(&[][..], Vec::as_slice);
    all.iter().map(|s| (canonical(&s["metric"]), s)).collect()
}

fn names(m: &BTreeMap<String, &Value>) -> Value {
    m.keys().cloned().collect::<Vec<_>>().into()
}

fn same(want: &Value, got: &Value) -> Result<(), String> {
    if want == got {
        Ok(())
    } else {
        Err(format!("want {want}, got {got}"))
    }
}

fn points(want: &Value, got: &Value, tolerance: f64) -> Result<(), String> {
    let (w, g) = (want.as_array(), got.as_array());
    let (Some(w), Some(g)) = (w, g) else {
        return same(want, got);
    };
    if w.len() != g.len() {
        return Err(format!("want {} points, got {}", w.len(), g.len()));
    }
    for (w, g) in w.iter().zip(g) {
        if w[0].as_f64() != g[0].as_f64() {
            return Err(format!("want time {}, got {}", w[0], g[0]));
        }
        let number = |v: &Value| v.as_str().and_then(|s| s.parse::<f64>().ok());
        let near = match (number(&w[1]), number(&g[1])) {
            (Some(a), Some(b)) => {
                a == b
                    || a.is_nan() && b.is_nan()
                    || (a - b).abs() <= (tolerance * a.abs().max(b.abs())).max(1e-12)
            }
            _ => w[1] == g[1],
        };
        if !near {
            return Err(format!("want {} at {}, got {}", w[1], w[0], g[1]));
        }
    }
    Ok(())
}
