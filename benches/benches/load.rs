//! What the generator does for each request besides sending it: find when it is due, plan it, judge
//! its answer, record it. Each figure is time a request takes from the generator's own core; together
//! they bound the rate that one thread can keep.

// The macros of criterion make public functions without documentation.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use harness::run_dir::RunDir;
use harness_core::measure::Measurements;
use harness_core::observation::{Line, Observation, Outcome};
use harness_core::request::{Answer, Planner, RequestPlan};
use harness_core::scenario::Scenario;
use harness_core::schedule::{Arrival, open};
use harness_core::units::Nanos;
use serde_json::{Value, json};

/// Arrivals of one pass over the schedule: 100 s at 1,000/s, give or take for a Poisson process.
const ARRIVALS: u64 = 100_000;
/// Rows of one pass over what records them.
const ROWS: usize = 10_000;

/// The quickstart's request under another load.
fn scenario(spacing: &str) -> Scenario {
    let text = r#"apiVersion: harness/v1
kind: Scenario
metadata: {name: bench}
spec:
  seed: 42
  target: {url: "http://127.0.0.1:1", timeout: 2s}
  trace: {sampled: 1.0}
  requests:
    - name: classify
      method: POST
      path: /predict
      body: {dataset: data/documents.jsonl, field: text, order: shuffled}
      expect: {status: 200, json: {"$.result": "{{ answer }}"}}
      score: {"$.result": "{{ label }}"}
    - {name: ping, method: GET, path: /healthz}
  loads:
    - name: steady
      mix: {classify: 9, ping: 1}
      executor: constant-arrival-rate
      spacing: SPACING
      stages: [{phase: measure, rate: 1000/s, for: 100s}]
"#;
    Scenario::parse(&text.replace("SPACING", spacing), "bench.yaml")
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn schedule(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    for spacing in ["even", "poisson"] {
        let scenario = scenario(spacing);
        let arrivals = open(&scenario).count() as u64;
        assert!(arrivals.abs_diff(ARRIVALS) < ARRIVALS / 50, "{arrivals}");
        group.throughput(Throughput::Elements(arrivals));
        group.bench_function(BenchmarkId::new("open", spacing), |b| {
            b.iter(|| {
                let arrivals = open(black_box(&scenario));
                arrivals.map(|arrival| arrival.due.0).max()
            });
        });
    }
    group.finish();
}

/// A planner and arrivals for it, those of one request only where `request` says which.
fn planned(request: Option<u16>) -> (Planner, Vec<Arrival>) {
    let scenario = scenario("poisson");
    let datasets = BTreeMap::from([(
        "data/documents.jsonl".to_owned(),
        harness_benches::documents(),
    )]);
    let planner =
        Planner::new(&scenario, &datasets, 7).unwrap_or_else(|problems| panic!("{problems}"));
    let arrivals = open(&scenario).filter(|a| request.is_none_or(|wanted| a.request == wanted));
    (planner, arrivals.take(ROWS).collect())
}

/// Each iteration takes the next arrival, so that the figure is the mean over mix and dataset.
fn plan(c: &mut Criterion) {
    let (planner, arrivals) = planned(None);
    let mut group = c.benchmark_group("request");
    group.throughput(Throughput::Elements(1));
    let mut next = arrivals.iter().cycle();
    group.bench_function("plan", |b| {
        b.iter(|| planner.plan(black_box(next.next().expect("a cycle has no end"))));
    });
    group.finish();
}

/// The service's answer to a plan, with all the scores it gives.
fn answer(rows: &[Value], plan: &RequestPlan) -> Vec<u8> {
    let row = &rows[plan.row.expect("the request takes a row")];
    let labels = rows.iter().filter_map(|row| row["label"].as_str());
    let scores: BTreeMap<&str, f64> = labels.map(|label| (label, 0.123_456_789)).collect();
    serde_json::to_vec(&json!({"result": row["answer"], "scores": scores})).expect("JSON")
}

/// An answer without headers, as far as it is judged.
fn answered(body: &[u8]) -> Answer<'_> {
    Answer {
        status: 200,
        header: &|_| None,
        body,
        latency: Nanos(5_000_000),
    }
}

fn judge(c: &mut Criterion) {
    let (planner, arrivals) = planned(Some(0));
    let rows: Vec<Value> = harness_benches::documents()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a row of JSON"))
        .collect();
    let answers: Vec<(RequestPlan, Vec<u8>)> = arrivals
        .iter()
        .take(500)
        .map(|arrival| {
            let plan = planner.plan(arrival);
            let body = answer(&rows, &plan);
            (plan, body)
        })
        .collect();
    for (plan, body) in &answers {
        let judged = planner.judge(plan, &answered(body));
        assert_eq!(judged.outcome, Outcome::Expected, "{:?}", judged.detail);
    }
    let mut group = c.benchmark_group("request");
    group.throughput(Throughput::Elements(1));
    let mut next = answers.iter().cycle();
    group.bench_function("judge_answer", |b| {
        b.iter(|| {
            let (plan, body) = next.next().expect("a cycle has no end");
            planner.judge(plan, &answered(black_box(body)))
        });
    });
    group.finish();
}

/// What a run at 1,000/s records: latencies spread over 5 to 50 ms, one in a hundred too late.
fn observations() -> Vec<Observation> {
    let (planner, arrivals) = planned(None);
    let observe = |arrival: &Arrival| {
        let plan = planner.plan(arrival);
        let sent = arrival.due.0 + 40_000;
        let late = arrival.id.0.is_multiple_of(100);
        let took = 5_000_000 + arrival.due.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 45_000_000;
        Line {
            id: arrival.id,
            request: arrival.request,
            load: arrival.load,
            phase: arrival.phase,
            due: arrival.due,
            sent: Some(Nanos(sent)),
            first_byte: (!late).then_some(Nanos(sent + took - 50_000)),
            done: Nanos(sent + if late { 2_000_000_000 } else { took }),
            outcome: if late {
                Outcome::Timeout
            } else {
                Outcome::Expected
            },
            status: (!late).then_some(200),
            bytes: if late { 0 } else { 312 },
            connected: None,
            first_event: None,
            gaps: Vec::new(),
            trace: plan.trace,
            span: plan.span,
            sampled: plan.sampled,
            correct: (!late).then_some(true),
            detail: late.then(|| "no answer within 2s".to_owned()),
        }
        .into()
    };
    arrivals.iter().map(observe).collect()
}

fn record(c: &mut Criterion) {
    let rows = observations();
    let scenario = scenario("poisson");
    let mut group = c.benchmark_group("record");
    group.throughput(Throughput::Elements(rows.len() as u64));
    group.bench_function("measurements", |b| {
        b.iter_batched_ref(
            || Measurements::new(&scenario),
            |live| rows.iter().for_each(|row| live.record(black_box(row))),
            BatchSize::PerIteration,
        );
    });
    // Into the page cache: what a run pays for each row. The sync at its end is not a row's.
    group.bench_function("requests_log", |b| {
        b.iter_batched(
            || {
                let dir = tempfile::tempdir().expect("a temporary directory");
                let run = RunDir::create(dir.path(), "a: 1", &[]).expect("a run directory");
                let log = run.requests_log().expect("a log");
                (dir, log)
            },
            |(dir, mut log)| {
                for row in &rows {
                    log.append_row(black_box(row)).expect("a row is written");
                }
                log.flush().expect("the rows are handed over");
                // Given back, so that removing the directory is not measured.
                (dir, log)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, schedule, plan, judge, record);
criterion_main!(benches);
