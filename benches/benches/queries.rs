//! Queries over stores as a run of some minutes fills them: what `settle` asks again and again while
//! it waits, and what the objectives ask at the end.

// The macros of criterion make public functions without documentation.
#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use harness_evidence::logql::{self, QueryLimits};
use harness_evidence::promql::{self, Options, QueryValue};
use harness_evidence::serve::tempo;
use harness_evidence::store::logs::{LogStore, PushStream};
use harness_evidence::store::metrics::{Labels, MetricStore};
use harness_evidence::store::traces::TraceStore;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde_json::Value;
use tower::ServiceExt;

/// Unix seconds at which all data begins, and how many it lasts.
const START: i64 = 1_800_000_000;
const SECONDS: i64 = 600;
const NANOS: i64 = 1_000_000_000;

/// Twenty histograms of fifteen buckets, scraped each second: what a service with a few routes and
/// status codes shows.
const SERIES: i64 = 300;

fn metrics() -> MetricStore {
    let store = MetricStore::default();
    let series: Vec<Labels> = (0..SERIES)
        .map(|n| {
            Labels::new([
                ("__name__", "request_duration_seconds_bucket".to_owned()),
                ("route", format!("/route/{}", n / 15)),
                ("le", format!("{}", 0.005 * f64::from(1 << (n % 15)))),
            ])
            .expect("labels")
        })
        .collect();
    for second in 0..SECONDS {
        let at = (START + second) * 1_000;
        let samples = (0_i64..)
            .zip(&series)
            .map(|(n, labels)| (labels.clone(), at, (second * (1 + n % 15)) as f64));
        let outcome = store.append_batch(samples);
        assert_eq!(outcome.rejected, 0, "{:?}", outcome.first_error);
    }
    store
}

fn promql(c: &mut Criterion) {
    let store = metrics();
    let options = Options::default();
    let end = (START + SECONDS - 1) * 1_000;
    let query = "sum by (route) (rate(request_duration_seconds_bucket[5m]))";
    let found = promql::instant(&store, query, end, &options).expect("an answer");
    let QueryValue::Vector(routes) = found.value else {
        panic!("not a vector: {:?}", found.value);
    };
    assert_eq!(routes.len() as i64, SERIES / 15);

    let mut group = c.benchmark_group("promql");
    // Samples inside the window of the query.
    group.throughput(Throughput::Elements((SERIES * 300) as u64));
    group.bench_function("rate, 300 series, 5 min", |b| {
        b.iter(|| promql::instant(black_box(&store), query, end, &options));
    });
    let query = "histogram_quantile(0.99, sum by (le) (rate(request_duration_seconds_bucket[1m])))";
    let span = (end - 300_000, end);
    let found = promql::range(&store, query, span, 10_000, &options).expect("an answer");
    assert!(matches!(&found.value, QueryValue::Matrix(m) if m[0].values.len() == 31));
    group.throughput(Throughput::Elements((SERIES * 360) as u64));
    group.bench_function("quantile, 300 series, 31 steps", |b| {
        b.iter(|| promql::range(black_box(&store), query, span, 10_000, &options));
    });
    group.finish();
}

const LINES: i64 = 100_000;

/// Lines of four instances, one in ten a warning.
fn logs() -> LogStore {
    let store = LogStore::default();
    for instance in 0..4 {
        let entries = (0..LINES / 4).map(|n| {
            let at = START * NANOS + n * SECONDS * NANOS / (LINES / 4);
            let level = if n % 10 == 0 { "WARN" } else { "INFO" };
            let status = if n % 10 == 0 { 503 } else { 200 };
            let line = format!(
                r#"{{"level":"{level}","message":"request handled","route":"/predict","status":{status},"duration_ms":{},"request":{n}}}"#,
                n % 97
            );
            (at, line, vec![("trace_id".to_owned(), format!("{n:032x}"))])
        });
        let labels = [
            ("service_name", "shop"),
            ("pod", &format!("pod-{instance}")),
        ];
        let taken = store.ingest_push(vec![PushStream {
            labels: labels.map(|(n, v)| (n.to_owned(), v.to_owned())).into(),
            entries: entries.collect(),
        }]);
        assert_eq!(taken.rejected, 0, "{}", taken.message);
    }
    store
}

fn logql(c: &mut Criterion) {
    let store = logs();
    // A window is left-open and the first line lies at its very start: half an hour holds them all.
    let end = (START + SECONDS) * NANOS;
    let limits = QueryLimits::default();
    let mut group = c.benchmark_group("logql");
    group.throughput(Throughput::Elements(LINES as u64));
    for (name, query, wanted) in [
        (
            "count, 100k lines",
            r#"sum(count_over_time({service_name="shop"}[30m]))"#,
            LINES,
        ),
        (
            "count of a text, 100k lines",
            r#"sum(count_over_time({service_name="shop"} |= "WARN" [30m]))"#,
            LINES / 10,
        ),
        (
            "count of a JSON field, 100k lines",
            r#"sum(count_over_time({service_name="shop"} | json status="status" | status >= 500 [30m]))"#,
            LINES / 10,
        ),
    ] {
        let query = logql::Query::new(query).expect("a query");
        let found = query.instant(&store, end, &limits).expect("an answer");
        assert!(
            matches!(&found, logql::Answer::Vector(v) if v.len() == 1 && v[0].value == wanted as f64),
            "{name}: {found:?}"
        );
        group.bench_function(name, |b| {
            b.iter(|| query.instant(black_box(&store), end, &limits));
        });
    }
    group.finish();
}

const TRACES: u64 = 25_000;

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A request as a service traces it: the server's span over tokenise, queue and inference; one in
/// twenty fails.
fn trace(n: u64) -> Vec<Span> {
    let start = START as u64 * NANOS as u64 + n * SECONDS as u64 * NANOS as u64 / TRACES;
    let failed = n.is_multiple_of(20);
    let span = |place: u64, name: &str| Span {
        trace_id: u128::from(n + 1).to_be_bytes().into(),
        span_id: (n * 4 + place + 1).to_be_bytes().into(),
        parent_span_id: if place == 0 {
            Vec::new()
        } else {
            (n * 4 + 1).to_be_bytes().into()
        },
        name: name.into(),
        kind: if place == 0 { 2 } else { 1 },
        start_time_unix_nano: start + place * 1_000_000,
        end_time_unix_nano: start + 5_000_000 + n % 97 * 100_000,
        attributes: vec![
            attribute(
                "http.route",
                any_value::Value::StringValue("/predict".into()),
            ),
            attribute(
                "http.response.status_code",
                any_value::Value::IntValue(if failed { 503 } else { 200 }),
            ),
        ],
        status: Some(Status {
            code: if failed && place == 0 { 2 } else { 0 },
            ..Status::default()
        }),
        ..Span::default()
    };
    let names = ["POST /predict", "tokenise", "queue", "inference"];
    (0..).zip(names).map(|(n, name)| span(n, name)).collect()
}

fn traces() -> TraceStore {
    let store = TraceStore::default();
    let taken = store.ingest(vec![ResourceSpans {
        resource: Some(Resource {
            attributes: vec![attribute(
                "service.name",
                any_value::Value::StringValue("shop".into()),
            )],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans: (0..TRACES).flat_map(trace).collect(),
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }]);
    assert_eq!(taken.accepted, TRACES * 4, "{}", taken.message);
    store
}

/// Through the API, which is the way in: a request is parsed, answered and written as JSON.
fn traceql(c: &mut Criterion) {
    let api = tempo::router(Arc::new(traces()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let ask = |uri: &str| -> Value {
        let request = Request::get(uri).body(Body::empty()).expect("a request");
        runtime.block_on(async {
            let answer = api.clone().oneshot(request).await.expect("an answer");
            let status = answer.status();
            let body = to_bytes(answer.into_body(), usize::MAX)
                .await
                .expect("a body");
            assert!(status.is_success(), "{}", String::from_utf8_lossy(&body));
            serde_json::from_slice(&body).expect("JSON")
        })
    };
    let mut group = c.benchmark_group("traceql");
    group.throughput(Throughput::Elements(TRACES * 4));
    for (name, query, wanted) in [
        (
            "count, 100k spans",
            "{ kind = server && status = error } | count_over_time()",
            Some(TRACES / 20),
        ),
        (
            "count by attribute, 100k spans",
            "{ } | count_over_time() by (span.http.response.status_code)",
            None,
        ),
        (
            "quantile, 100k spans",
            "{ kind = server } | quantile_over_time(duration, 0.99)",
            None,
        ),
    ] {
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let (start, end) = (START - 1, START + SECONDS + 1);
        let uri = format!("/api/metrics/query?q={query}&start={start}&end={end}");
        let found = ask(&uri);
        let series = found["series"].as_array().expect("series");
        assert!(!series.is_empty(), "{name}: {found}");
        if let Some(wanted) = wanted {
            assert_eq!(series[0]["value"].as_f64(), Some(wanted as f64), "{found}");
        }
        group.bench_function(name, |b| b.iter(|| ask(black_box(&uri))));
    }
    group.finish();
}

criterion_group!(benches, promql, logql, traceql);
criterion_main!(benches);
