//! Evidence on disk: the same answers when it is opened again, and no damage that goes unseen.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use harness_evidence::Evidence;
use harness_evidence::serve::{loki, prometheus, tempo};
use harness_evidence::store::logs::PushStream;
use harness_evidence::store::metrics::{Labels, stale_nan};
use harness_evidence::store::segment::Signal;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use serde_json::{Value, json};
use tower::ServiceExt as _;

#[path = "support/segment.rs"]
mod support;

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_800_000_000;

fn span(trace: u64, id: u64, parent: u64) -> Value {
    let start = START * SECOND + (trace as i64) * SECOND;
    json!({
        "traceId": format!("{trace:032x}"), "spanId": format!("{id:016x}"),
        "parentSpanId": if parent == 0 { String::new() } else { format!("{parent:016x}") },
        "name": format!("op {}", id % 3), "kind": 2, "traceState": if id == 1 { "a=b" } else { "" },
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 5_000_000).to_string(),
        "status": {"code": id % 3, "message": if id % 3 == 2 { "bad" } else { "" }},
        "attributes": [
            {"key": "n", "value": {"intValue": (id as i64 - 3).to_string()}},
            {"key": "f", "value": {"doubleValue": 0.25}},
            {"key": "b", "value": {"boolValue": true}},
            {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"intValue": "2"}]}}},
            {"key": "map", "value": {"kvlistValue": {"values": [{"key": "k", "value": {"stringValue": "v"}}]}}},
        ],
        "events": [{"timeUnixNano": start.to_string(), "name": "exception",
            "attributes": [{"key": "exception.type", "value": {"stringValue": "E"}}]}],
        "links": [{"traceId": format!("{:032x}", 99), "spanId": format!("{:016x}", 98)}],
    })
}

fn resource(name: &str) -> Value {
    json!({"attributes": [{"key": "service.name", "value": {"stringValue": name}},
        {"key": "host.name", "value": {"stringValue": "h"}}]})
}

/// Batch `n` of all three signals, with what is hard to keep: stale markers, NaN, refused samples,
/// repeated lines and spans, lines out of order.
fn feed(to: &Evidence, n: u64) {
    let at = (START + n as i64) * 1000;
    let series = |name: &str, i: u64| {
        Labels::new([("__name__", name), ("i", &i.to_string())]).expect("labels")
    };
    let values = [
        n as f64,
        f64::NAN,
        stale_nan(),
        0.1 * n as f64,
        f64::INFINITY,
    ];
    to.metrics.append_batch(
        (0..5).map(|i| (series("m", i % (n + 1)), at, values[((i + n) % 5) as usize])),
    );
    to.metrics.append_batch([(series("m", 0), 1, 1.0)]);
    let otlp: ExportMetricsServiceRequest = serde_json::from_value(json!({"resourceMetrics": [{
        "resource": resource("shop"), "scopeMetrics": [{"metrics": [{"name": "hits", "sum": {
            "aggregationTemporality": 2, "isMonotonic": true,
            "dataPoints": [{"timeUnixNano": (at * 1_000_000).to_string(), "asInt": n.to_string()}]}}]}]}]}))
    .expect("metrics");
    to.metrics.ingest_otlp(otlp.resource_metrics);

    let lines = |app: &str, shift: i64| PushStream {
        labels: vec![("app".into(), app.into())],
        entries: (0..3)
            .map(|i| {
                let ts = START * SECOND + (n as i64 + shift) * SECOND + i % 2;
                (
                    ts,
                    format!("line {n} {i}"),
                    vec![("t".into(), format!("{i}"))],
                )
            })
            .collect(),
    };
    to.logs.ingest_push(vec![
        lines("a", 0),
        lines(&format!("b{n}"), -2),
        lines("a", 0),
    ]);
    let otlp: ExportLogsServiceRequest = serde_json::from_value(json!({"resourceLogs": [{
        "resource": resource("shop"), "scopeLogs": [{"logRecords": [{
            "timeUnixNano": (START * SECOND + n as i64 * SECOND).to_string(), "severityText": "ERROR",
            "body": {"stringValue": "otlp"}}]}]}]}))
    .expect("logs");
    to.logs.ingest_otlp(otlp.resource_logs);

    let spans = [
        span(n + 1, 1, 0),
        span(n + 1, 2, 1),
        span(n + 1, 2, 1),
        span(1, n + 10, 1),
    ];
    let otlp: ExportTraceServiceRequest = serde_json::from_value(json!({"resourceSpans": [{
        "resource": resource(if n.is_multiple_of(2) { "shop" } else { "cart" }),
        "scopeSpans": [{"scope": {"name": "lib", "version": "1"}, "spans": spans}]}]}))
    .expect("traces");
    to.traces.ingest(otlp.resource_spans);
}

async fn ask(router: &Router, path: &str, params: &[(&str, &str)]) -> Value {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(params)
        .finish();
    let request = Request::get(format!("{path}?{query}"))
        .body(Body::empty())
        .expect("a request");
    let answer = router.clone().oneshot(request).await.expect("infallible");
    let status = answer.status();
    let body = to_bytes(answer.into_body(), usize::MAX)
        .await
        .expect("body");
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(status.is_success(), "{path} {params:?}: {status} {text}");
    let mut value: Value = serde_json::from_str(&text).expect("JSON");
    // How long it took is the one thing that may differ.
    if let Some(data) = value.get_mut("data").and_then(Value::as_object_mut) {
        data.remove("stats");
    }
    value
}

/// What three clients would see.
async fn answers(of: &Evidence) -> Vec<Value> {
    let (start, end) = (START.to_string(), (START + 60).to_string());
    let range = [("start", start.as_str()), ("end", end.as_str())];
    let with = |more: &[(&'static str, &'static str)]| [&range[..], more].concat();
    let (p, l, t) = (
        prometheus::router(of.metrics.clone()),
        loki::router(of.logs.clone()),
        tempo::router(of.traces.clone()),
    );
    let id = format!("/api/v2/traces/{:032x}", 1);
    vec![
        ask(
            &p,
            "/api/v1/query_range",
            &with(&[("query", "m"), ("step", "1")]),
        )
        .await,
        ask(
            &p,
            "/api/v1/query",
            &[("query", "{__name__=~\".+\"}[1h]"), ("time", &end)],
        )
        .await,
        ask(
            &p,
            "/api/v1/series",
            &with(&[("match[]", "{__name__=~\".+\"}")]),
        )
        .await,
        ask(
            &l,
            "/loki/api/v1/query_range",
            &with(&[("query", "{service_name=~\".+\"}"), ("limit", "5000")]),
        )
        .await,
        ask(
            &l,
            "/loki/api/v1/query",
            &[
                (
                    "query",
                    "sum by (app, t) (count_over_time({app=~\".+\"}[1h]))",
                ),
                ("time", &end),
            ],
        )
        .await,
        ask(&l, "/loki/api/v1/series", &range).await,
        ask(&t, &id, &[]).await,
        ask(
            &t,
            "/api/search",
            &with(&[
                ("q", "{ span.n > -2 && event:name = \"exception\" }"),
                ("spss", "50"),
            ]),
        )
        .await,
        ask(
            &t,
            "/api/metrics/query",
            &with(&[(
                "q",
                "{ } | count_over_time() by (resource.service.name, status)",
            )]),
        )
        .await,
        ask(&t, "/api/v2/search/tags", &range).await,
    ]
}

fn recorded(dir: &Path, batches: u64) -> Evidence {
    let evidence = Evidence::default();
    evidence.record(dir, u64::MAX).expect("recording");
    (0..batches).for_each(|n| feed(&evidence, n));
    evidence
}

#[tokio::test]
async fn opened_evidence_answers_as_the_live_one_did_and_takes_nothing_new() {
    let dir = tempfile::tempdir().expect("a directory");
    let live = recorded(dir.path(), 12);
    let before = answers(&live).await;
    assert!(
        before.iter().all(|v| v.to_string().len() > 80),
        "{before:?}"
    );
    live.close(dir.path()).expect("closed");

    let opened = Evidence::open(dir.path()).expect("opened");
    // `feed` has samples and lines refused on purpose, which an end reports.
    let said = opened.incomplete();
    assert!(
        said.len() == 1 && said[0].contains("metrics.seg: the store refused"),
        "{said:?}"
    );
    assert!(opened.reports.iter().all(|r| r.closed && r.loss.is_none()));
    assert_eq!(answers(&opened.evidence).await, before);

    let stats = |e: &Evidence| {
        (
            e.metrics.stats().samples,
            e.logs.stats().entries,
            e.traces.stats().spans,
        )
    };
    let (was, of_live) = (stats(&opened.evidence), stats(&live));
    assert_eq!(was, of_live);
    for evidence in [&opened.evidence, &live] {
        feed(evidence, 100);
        assert_eq!(stats(evidence), was);
        assert!(evidence.metrics.stats().not_recorded > 0);
        assert!(evidence.logs.stats().not_recorded > 0);
        assert!(evidence.traces.stats().not_recorded > 0);
    }
}

#[test]
fn what_does_not_fit_is_refused_counted_and_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let evidence = Evidence::default();
    evidence.record(dir.path(), 3000).expect("recording");
    (0..40).for_each(|n| feed(&evidence, n));
    let (m, l, t) = (
        evidence.metrics.stats(),
        evidence.logs.stats(),
        evidence.traces.stats(),
    );
    assert!(m.not_recorded > 0 && l.not_recorded > 0 && t.not_recorded > 0);
    assert!(m.refused() > 0 && l.refused() > 0 && t.refused() > 0);
    let told = evidence.logs.ingest_push(vec![PushStream {
        labels: vec![("app".into(), "x".into())],
        entries: vec![(1, "x".into(), Vec::new())],
    }]);
    assert_eq!((told.accepted, told.rejected), (0, 1));
    assert!(
        told.message.contains("limit of 3000 bytes"),
        "{}",
        told.message
    );
    for signal in Signal::ALL {
        let size = dir
            .path()
            .join(signal.file_name())
            .metadata()
            .expect("a file")
            .len();
        assert!(size <= 3000, "{signal:?}: {size}");
    }
    evidence.close(dir.path()).expect("closing");
    let opened = Evidence::open(dir.path()).expect("opened");
    assert_eq!(opened.incomplete().len(), 3, "{:?}", opened.incomplete());
    assert!(opened.evidence.logs.stats().entries > 0);
}

/// A line, span or sample whose sender was told that it is refused is in no answer of the live store:
/// one that counted it would say another thing than the record does when it is judged again.
#[tokio::test]
async fn what_could_not_be_recorded_is_in_no_answer() {
    const BATCHES: u64 = 90;
    let mut cut_short = 0;
    for most_bytes in (1_000..9_000).step_by(777) {
        let dir = tempfile::tempdir().expect("a directory");
        let live = Evidence::default();
        live.record(dir.path(), most_bytes).expect("recording");
        (0..BATCHES).for_each(|n| feed(&live, n));
        let (l, t) = (live.logs.stats(), live.traces.stats());
        assert_eq!(l.entries + l.duplicates + l.refused(), 10 * BATCHES);
        assert_eq!(t.spans + t.duplicates + t.refused(), 4 * BATCHES);
        cut_short += u64::from(t.not_recorded > 4 && t.spans > 0);
        live.close(dir.path()).expect("closing");
        let opened = Evidence::open(dir.path()).expect("opened");
        assert_eq!(answers(&live).await, answers(&opened.evidence).await);
        let stats = opened.evidence.traces.stats();
        assert_eq!((stats.spans, stats.traces), (t.spans, t.traces));
        assert_eq!(opened.evidence.logs.stats().entries, l.entries);
        let (of_live, of_opened) = (live.metrics.stats(), opened.evidence.metrics.stats());
        assert_eq!(of_live.samples, of_opened.samples);
    }
    assert!(cut_short > 5);
}

#[test]
fn a_recording_is_not_begun_twice_nor_over_another_nor_late() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = recorded(dir.path(), 1);
    assert!(first.record(dir.path(), 1 << 20).is_err());
    assert!(Evidence::default().record(dir.path(), 1 << 20).is_err());
    let other = tempfile::tempdir().expect("a directory");
    let late = Evidence::default();
    feed(&late, 0);
    let error = late.record(other.path(), 1 << 20).expect_err("too late");
    assert!(
        error.to_string().contains("before the first item"),
        "{error}"
    );
}

const WRITER: &str = "HARNESS_TEST_SEGMENT_WRITER";

/// The process that the next test kills: it records without end and says how far it has come. Run as
/// a test of its own it does nothing.
#[test]
fn writer_to_be_killed() {
    let Some(dir) = std::env::var_os(WRITER) else {
        return;
    };
    let evidence = Evidence::default();
    evidence
        .record(Path::new(&dir), u64::MAX)
        .expect("recording");
    for n in 0.. {
        feed(&evidence, n);
        let spans = evidence.traces.stats().spans;
        writeln!(std::io::stderr(), "ACKNOWLEDGED {n} {spans}").expect("stderr");
    }
}

/// What was acknowledged before `kill -9` is there afterwards, and the missing end is reported.
#[tokio::test]
async fn acknowledged_data_survive_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["writer_to_be_killed", "--exact", "--nocapture"])
        .env(WRITER, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child");
    let stderr = BufReader::new(child.stderr.take().expect("stderr"));
    let line = stderr
        .lines()
        .map(|line| line.expect("a line"))
        .find(|line| line.contains("ACKNOWLEDGED 30 "))
        .expect("thirty batches");
    child.kill().expect("SIGKILL");
    child.wait().expect("ended");
    let acknowledged: u64 = line
        .rsplit(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");

    let opened = Evidence::open(dir.path()).expect("opened");
    assert!(opened.evidence.traces.stats().spans >= acknowledged);
    assert_eq!(opened.incomplete().len(), 3, "{:?}", opened.incomplete());
    // Whatever came later, the first thirty batches answer as they do without a kill.
    let whole = Evidence::default();
    (0..=30).for_each(|n| feed(&whole, n));
    let first = |e: &Evidence| {
        let e = e.clone();
        async move {
            let p = prometheus::router(e.metrics.clone());
            let end = (START + 30).to_string();
            ask(
                &p,
                "/api/v1/query",
                &[("query", "{__name__=~\".+\"}[1h]"), ("time", &end)],
            )
            .await
        }
    };
    assert_eq!(first(&opened.evidence).await, first(&whole).await);
}

/// All that is in the stores, as text that a prefix of the data gives a prefix of, a signal.
fn contents(of: &Evidence) -> [Vec<String>; 3] {
    let reader = of.metrics.read();
    let mut metrics = Vec::new();
    for series in reader
        .select(&[], i64::MIN, i64::MAX, &mut usize::MAX.clone())
        .expect("all")
    {
        let samples = series.times.iter().zip(&series.values);
        metrics.extend(samples.map(|(t, v)| format!("{} {t} {:x}", series.labels, v.to_bits())));
    }
    let logs = of.logs.select(i64::MIN, i64::MAX, |_| true);
    let logs = logs.iter().flat_map(|s| {
        s.entries
            .iter()
            .map(|e| format!("{} {} {} {}", s.labels, e.ts, e.line, e.metadata))
    });
    let traces = of.traces.trace_ids();
    let traces = traces
        .into_iter()
        .flat_map(|id| of.traces.trace(id))
        .flatten();
    let traces = traces.flat_map(|r| {
        let resource = format!("{:?}", r.resource);
        let spans = r.scope_spans.into_iter().flat_map(|s| s.spans);
        spans
            .map(|s| format!("{resource} {s:?}"))
            .collect::<Vec<_>>()
    });
    [metrics, logs.collect(), traces.collect()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A body that makes no sense though its checksum is right: an error or another content, never a
    /// panic, neither then nor when it is asked.
    #[test]
    fn hostile_bodies_are_refused_or_can_be_asked(
        which in 0..3_usize,
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4_u8, any::<u8>()),
            1..5,
        ),
    ) {
        static RECORDED: std::sync::LazyLock<[Vec<Vec<u8>>; 3]> = std::sync::LazyLock::new(|| {
            let dir = tempfile::tempdir().expect("a directory");
            recorded(dir.path(), 4).close(dir.path()).expect("closed");
            Signal::ALL.map(|signal| {
                let file = std::fs::read(dir.path().join(signal.file_name()));
                support::bodies(&file.expect("a segment"))
            })
        });
        let signal = Signal::ALL[which];
        let mut bodies = RECORDED[which].clone();
        for (body, place, change, by) in changes {
            let at = body.index(bodies.len());
            let body = &mut bodies[at];
            if body.is_empty() {
                continue;
            }
            let place = place.index(body.len());
            match change {
                0 => body[place] = by,
                1 => body.truncate(place),
                2 => body.insert(place, by),
                _ => { body.remove(place); }
            }
        }
        let file = support::of_bodies(signal, bodies.iter().map(Vec::as_slice));
        if let Ok(opened) = Evidence::open_bytes(&[(signal, &file)]) {
            support::ask(&opened.evidence);
        }
    }

    /// Any damage to any segment: reported, never a panic, and no datum that was not written.
    #[test]
    fn damage_is_reported_and_invents_nothing(
        which in 0..3_usize,
        place in any::<prop::sample::Index>(),
        change in prop::sample::select(vec!["flip", "cut", "zero", "insert", "swap"]),
        by in 1..=255_u8,
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let live = Evidence::default();
        live.record(dir.path(), u64::MAX).expect("recording");
        (0..4).for_each(|n| feed(&live, n));
        live.close(dir.path()).expect("closed");
        let path = dir.path().join(Signal::ALL[which].file_name());
        let good = std::fs::read(&path).expect("a segment");
        let mut bad = good.clone();
        let at = place.index(bad.len());
        match change {
            "flip" => bad[at] ^= by,
            "cut" => bad.truncate(at),
            "zero" => bad[at..].fill(0),
            "insert" => bad.insert(at, by),
            _ => bad.swap(at, (at + usize::from(by)) % good.len()),
        }
        prop_assume!(bad != good);
        std::fs::write(&path, &bad).expect("written");
        if let Ok(opened) = Evidence::open(dir.path()) {
            let report = &opened.reports[which];
            prop_assert!(report.loss.is_some() || !report.closed, "{report:?}");
            prop_assert!(report.incomplete().is_some());
            let (was, is) = (contents(&live), contents(&opened.evidence));
            for signal in 0..3 {
                let known: std::collections::HashSet<_> = was[signal].iter().collect();
                prop_assert!(is[signal].iter().all(|item| known.contains(item)));
            }
        }
    }
}
