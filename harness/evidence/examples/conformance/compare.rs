//! Whether an answer is the one that was recorded.
//!
//! What may differ: the order of series, streams, traces, spans, attributes and names; the order of
//! log lines of one time; which spans are shown when more matched than are shown; the time of a Loki
//! scalar (the real one is nonsense); exemplars; texts of errors, which are counted apart. Everything
//! else must be the same, numbers within a tolerance.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An answer over HTTP: the body as JSON if it is JSON, else as text.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

type Same = Result<(), String>;

/// Compares an answer with that of a recorded case.
///
/// # Errors
/// The first difference.
pub(crate) fn compare(case: &Value, got: &Answer) -> Same {
    let status = case["status"].as_u64().unwrap_or(0);
    if u64::from(got.status) != status {
        return Err(format!(
            "status {status} was recorded, got {}: {}",
            got.status,
            short(&got.body)
        ));
    }
    let want = &case["response"];
    if status >= 400 {
        return match want.get("errorType") {
            Some(kind) => same("errorType", kind, &got.body["errorType"]),
            None => Ok(()),
        };
    }
    let kind = case["cmp"].as_str().unwrap_or("");
    if kind == "status" {
        return Ok(());
    }
    let media = |text: &str| text.split(';').next().unwrap_or("").trim().to_owned();
    let wanted_type = media(case["content_type"].as_str().unwrap_or(""));
    if wanted_type != media(&got.content_type) {
        return Err(format!(
            "content type {wanted_type} was recorded, got {}",
            got.content_type
        ));
    }
    if kind == "stats" {
        return ["streams", "entries"]
            .iter()
            .try_for_each(|f| same(f, &want[*f], &got.body[*f]));
    }
    let path = case["path"].as_str().unwrap_or("");
    let backend = case["backend"].as_str().unwrap_or("");
    if matches!(backend, "loki" | "prometheus") {
        return match want.get("data") {
            Some(_) => data(case, want, &got.body),
            None => same("body", want, &got.body),
        };
    }
    if path == "/api/search" {
        search(case, want, &got.body)
    } else if path.starts_with("/api/metrics/") {
        span_metrics(case, want, &got.body)
    } else if path.contains("/traces/") {
        trace(want, &got.body)
    } else if path.contains("/search/tag") {
        tags(case, want, &got.body)
    } else {
        same("body", want, &got.body)
    }
}

/// Whether an error's text is the recorded one, for an error case whose text is stable.
pub(crate) fn same_text(case: &Value, got: &Answer) -> Option<bool> {
    let is_error = case["status"].as_u64() >= Some(400);
    if !is_error || case["cmp"] == "status" || case["unstable_text"] == true {
        return None;
    }
    let text = |v: &Value| -> String {
        let of_object = v.get("error").or_else(|| v.get("message"));
        let found = of_object.unwrap_or(v).as_str().unwrap_or("");
        found.trim().to_owned()
    };
    Some(text(&case["response"]) == text(&got.body))
}

fn short(v: &Value) -> String {
    let text = v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    text.chars().take(300).collect()
}

fn same(what: &str, want: &Value, got: &Value) -> Same {
    if key(want) == key(got) {
        return Ok(());
    }
    Err(format!(
        "{what}: {} was recorded, got {}",
        short(want),
        short(got)
    ))
}

/// A value as text in which the members of objects stand in the order of their names.
fn key(v: &Value) -> String {
    match v {
        Value::Object(o) => {
            let members: BTreeMap<&String, String> = o.iter().map(|(k, v)| (k, key(v))).collect();
            let all: Vec<String> = members.iter().map(|(k, v)| format!("{k:?}:{v}")).collect();
            format!("{{{}}}", all.join(","))
        }
        Value::Array(list) => {
            let all: Vec<String> = list.iter().map(key).collect();
            format!("[{}]", all.join(","))
        }
        other => other.to_string(),
    }
}

fn list(v: &Value) -> &[Value] {
    v.as_array().map_or(&[], Vec::as_slice)
}

/// Things by their key; one key twice is an error of whoever answered so.
fn by(of: &[Value], key: impl Fn(&Value) -> String) -> Result<BTreeMap<String, &Value>, String> {
    let mut out = BTreeMap::new();
    for v in of {
        let key = key(v);
        if out.insert(key.clone(), v).is_some() {
            return Err(format!("{key} twice"));
        }
    }
    Ok(out)
}

fn same_keys<A, B>(what: &str, want: &BTreeMap<String, A>, got: &BTreeMap<String, B>) -> Same {
    let missing: Vec<_> = want
        .keys()
        .filter(|k| !got.contains_key(*k))
        .take(2)
        .collect();
    let extra: Vec<_> = got
        .keys()
        .filter(|k| !want.contains_key(*k))
        .take(2)
        .collect();
    if missing.is_empty() && extra.is_empty() {
        return Ok(());
    }
    Err(format!("{what}: missing {missing:?}, too many {extra:?}"))
}

/// Two numbers, as such or in texts.
fn near(want: &Value, got: &Value, tolerance: f64) -> bool {
    let number = |v: &Value| -> Option<f64> {
        match v.as_str() {
            Some(text) => text.replace("Inf", "inf").parse().ok(),
            None => v.as_f64(),
        }
    };
    match (number(want), number(got)) {
        (Some(a), Some(b)) => {
            let floor = if tolerance < 1e-7 { 1e-12 } else { 1e-9 };
            a == b
                || (a.is_nan() && b.is_nan())
                || (a - b).abs() <= (tolerance * a.abs().max(b.abs())).max(floor)
        }
        _ => want == got,
    }
}

/// Pairs of time and value.
fn points(what: &str, want: &[Value], got: &[Value], tolerance: f64) -> Same {
    if want.len() != got.len() {
        return Err(format!(
            "{what}: {} points were recorded, got {}",
            want.len(),
            got.len()
        ));
    }
    for (w, g) in want.iter().zip(got) {
        if !near(&w[0], &g[0], 1e-12) || !near(&w[1], &g[1], tolerance) {
            return Err(format!("{what}: {w} was recorded, got {g}"));
        }
    }
    Ok(())
}

// ---- Prometheus and Loki

fn data(case: &Value, want: &Value, got: &Value) -> Same {
    same("status", &want["status"], &got["status"])?;
    let (want, got) = (&want["data"], &got["data"]);
    let Some(kind) = want.get("resultType").and_then(Value::as_str) else {
        if !want.is_array() {
            return same("data", want, got);
        }
        let sorted = |v: &Value| -> Vec<String> {
            let mut all: Vec<String> = list(v).iter().map(key).collect();
            all.sort();
            all
        };
        let (want, got) = (sorted(want), sorted(got));
        return if want == got {
            Ok(())
        } else {
            Err(format!("data: {want:?} was recorded, got {got:?}"))
        };
    };
    same("resultType", &want["resultType"], &got["resultType"])?;
    let tolerance = case["tol"].as_f64().unwrap_or(1e-9);
    let (want, got) = (&want["result"], &got["result"]);
    if matches!(kind, "scalar" | "string") {
        let timed = case["backend"] != "loki";
        let fits = (!timed || near(&want[0], &got[0], 1e-12)) && near(&want[1], &got[1], tolerance);
        return if fits {
            Ok(())
        } else {
            Err(format!("{want} was recorded, got {got}"))
        };
    }
    let name = if kind == "streams" {
        "stream"
    } else {
        "metric"
    };
    let labels = |v: &Value| key(&v[name]);
    let (w, g) = (by(list(want), labels)?, by(list(got), labels)?);
    same_keys("series", &w, &g)?;
    if case["ordered"] == true {
        let values = |v: &Value| list(v).iter().map(|s| s["value"][1].clone()).collect();
        same("order", &values(want), &values(got))?;
    }
    for (labels, w) in &w {
        let g = g[labels];
        match kind {
            "streams" => lines(labels, list(&w["values"]), list(&g["values"]))?,
            "matrix" => points(labels, list(&w["values"]), list(&g["values"]), tolerance)?,
            _ => points(
                labels,
                std::slice::from_ref(&w["value"]),
                std::slice::from_ref(&g["value"]),
                tolerance,
            )?,
        }
    }
    Ok(())
}

fn lines(what: &str, want: &[Value], got: &[Value]) -> Same {
    let times = |v: &[Value]| -> Value { v.iter().map(|e| e[0].clone()).collect() };
    same(&format!("times of {what}"), &times(want), &times(got))?;
    let both = |v: &[Value]| -> BTreeSet<String> {
        v.iter().map(|e| format!("{} {}", e[0], e[1])).collect()
    };
    let (want, got) = (both(want), both(got));
    match want.difference(&got).next() {
        None => Ok(()),
        Some(line) => Err(format!("{what}: the line {line} is missing")),
    }
}

// ---- Tempo

/// Attributes without their order.
fn attributes(of: &Value) -> String {
    let mut all: Vec<String> = list(of)
        .iter()
        .map(|a| format!("{}={}", a["key"], key(&a["value"])))
        .collect();
    all.sort();
    all.join(",")
}

fn search(case: &Value, want: &Value, got: &Value) -> Same {
    let id = |t: &Value| key(&t["traceID"]);
    let (w, g) = (
        by(list(&want["traces"]), id)?,
        by(list(&got["traces"]), id)?,
    );
    if case["cmp"] == "count-traces" {
        return same("number of traces", &w.len().into(), &g.len().into());
    }
    same_keys("traces", &w, &g)?;
    for (id, w) in &w {
        let g = g[id];
        for f in [
            "rootServiceName",
            "rootTraceName",
            "startTimeUnixNano",
            "durationMs",
        ] {
            same(&format!("{id} {f}"), &w[f], &g[f])?;
        }
        if w.get("serviceStats").is_some() {
            same("serviceStats", &w["serviceStats"], &g["serviceStats"])?;
        }
        spansets(id, w, g)?;
    }
    Ok(())
}

fn spansets(id: &str, want: &Value, got: &Value) -> Same {
    let sets = |t: &Value| -> Vec<(String, Value)> {
        let one = || t.get("spanSet").cloned().into_iter().collect();
        let all = t["spanSets"].as_array().cloned().unwrap_or_else(one);
        let head = |s: &Value| format!("{} matched {}", attributes(&s["attributes"]), s["matched"]);
        let ids = |s: &Value| -> Vec<String> {
            let mut all: Vec<_> = list(&s["spans"])
                .iter()
                .map(|z| key(&z["spanID"]))
                .collect();
            all.sort();
            all
        };
        let mut all: Vec<(String, Value)> = all.into_iter().map(|s| (head(&s), s)).collect();
        all.sort_by_cached_key(|(head, s)| (head.clone(), ids(s)));
        all
    };
    let (want, got) = (sets(want), sets(got));
    let heads = |s: &[(String, Value)]| -> Value { s.iter().map(|(h, _)| h.clone()).collect() };
    same(&format!("{id} spansets"), &heads(&want), &heads(&got))?;
    for ((_, w), (_, g)) in want.iter().zip(&got) {
        let (ws, gs) = (list(&w["spans"]), list(&g["spans"]));
        same(
            &format!("{id} spans shown"),
            &ws.len().into(),
            &gs.len().into(),
        )?;
        let span_id = |s: &Value| key(&s["spanID"]);
        let (ws, gs) = (by(ws, span_id)?, by(gs, span_id)?);
        // When not all are shown, which ones are is not defined.
        if w["matched"].as_u64().unwrap_or(0) as usize <= ws.len() {
            same_keys(&format!("{id} spans"), &ws, &gs)?;
        }
        for (span, w) in &ws {
            let Some(g) = gs.get(span) else { continue };
            same(&format!("{id} span {span}"), &plain(w), &plain(g))?;
        }
    }
    Ok(())
}

/// A span of a search answer, its attributes without their order.
fn plain(span: &Value) -> Value {
    let mut out = span.clone();
    out["attributes"] = attributes(&span["attributes"]).into();
    out
}

fn span_metrics(case: &Value, want: &Value, got: &Value) -> Same {
    let tolerance = case["tol"].as_f64().unwrap_or(1e-6);
    let labels = |s: &Value| attributes(&s["labels"]);
    let (w, g) = (
        by(list(&want["series"]), labels)?,
        by(list(&got["series"]), labels)?,
    );
    same_keys("series", &w, &g)?;
    // Protobuf's JSON leaves a zero out.
    let value = |v: &Value| v.get("value").cloned().unwrap_or_else(|| 0.into());
    for (labels, w) in &w {
        let g = g[labels];
        let samples = |v: &Value| -> Vec<Value> {
            let all = list(&v["samples"]).iter();
            all.map(|s| Value::from(vec![s["timestampMs"].clone(), value(s)]))
                .collect()
        };
        points(labels, &samples(w), &samples(g), tolerance)?;
        if !near(&value(w), &value(g), tolerance) {
            return Err(format!(
                "{labels}: {} was recorded, got {}",
                value(w),
                value(g)
            ));
        }
    }
    if case["cmp"] == "exemplars" {
        let any =
            |m: &BTreeMap<String, &Value>| m.values().any(|s| !list(&s["exemplars"]).is_empty());
        return same("has exemplars", &any(&w).into(), &any(&g).into());
    }
    Ok(())
}

fn trace(want: &Value, got: &Value) -> Same {
    let (w, g) = (spans(want)?, spans(got)?);
    same_keys("spans", &w, &g)?;
    for (id, w) in &w {
        same(&format!("span {id}"), w, &g[id])?;
    }
    let wrapped = |v: &Value| v.get("trace").is_some();
    same("envelope", &wrapped(want).into(), &wrapped(got).into())
}

/// The spans of a trace, each with its resource and scope.
fn spans(of: &Value) -> Result<BTreeMap<String, Value>, String> {
    let of = of.get("trace").unwrap_or(of);
    if !of.is_object() {
        return Err(format!("no trace: {}", short(of)));
    }
    let mut out = BTreeMap::new();
    let batches = of.get("batches").or_else(|| of.get("resourceSpans"));
    for batch in list(batches.unwrap_or(&Value::Null)) {
        for scoped in list(&batch["scopeSpans"]) {
            let scope = &scoped["scope"];
            for span in list(&scoped["spans"]) {
                let mut span = span.clone();
                let id = key(&span["spanId"]);
                let parts = |name: &str, fields: &[&str]| -> Value {
                    let mut all: Vec<String> = list(&span[name])
                        .iter()
                        .map(|e| {
                            let fields: Vec<String> = fields.iter().map(|f| key(&e[*f])).collect();
                            format!("{} {}", fields.join(" "), attributes(&e["attributes"]))
                        })
                        .collect();
                    all.sort();
                    all.into()
                };
                let events = parts("events", &["timeUnixNano", "name"]);
                let links = parts("links", &["traceId", "spanId"]);
                span["attributes"] = attributes(&span["attributes"]).into();
                (span["events"], span["links"]) = (events, links);
                span["resource"] = attributes(&batch["resource"]["attributes"]).into();
                let library = [
                    key(&scope["name"]),
                    key(&scope["version"]),
                    attributes(&scope["attributes"]),
                ];
                span["scope"] = library.join(" ").into();
                out.insert(id, span);
            }
        }
    }
    Ok(out)
}

fn tags(case: &Value, want: &Value, got: &Value) -> Same {
    let sorted = |v: &Value| -> Value {
        let mut all: Vec<String> = list(v).iter().map(key).collect();
        all.sort();
        all.into()
    };
    if case["cmp"] == "count" {
        let count = |v: &Value| Value::from(list(&v["tagValues"]).len());
        return same("number of values", &count(want), &count(got));
    }
    let plain = |v: &Value| -> Value {
        if let Some(scopes) = v.get("scopes") {
            let scopes = list(scopes).iter();
            return scopes
                .map(|s| {
                    (
                        s["name"].as_str().unwrap_or("").to_owned(),
                        sorted(&s["tags"]),
                    )
                })
                .collect::<serde_json::Map<_, _>>()
                .into();
        }
        match ["tagNames", "tagValues"]
            .iter()
            .find(|f| v.get(**f).is_some())
        {
            Some(field) => sorted(&v[*field]),
            None => v.clone(),
        }
    };
    same("tags", &plain(want), &plain(got))
}
