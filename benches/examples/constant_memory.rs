//! Ten million requests' worth of schedule, planning, live figures and abort rules in constant memory:
//! `cargo run --release -p harness-benches --example constant_memory`.
//!
//! Every arrival is found, planned, given an outcome and recorded, as a run does it. Resident memory is
//! read as it goes; the example fails when nine million requests more need more than 8 MiB more. What is
//! not in it: rows, which a run appends to a file.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use harness_core::measure::{AbortWatch, Measurements};
use harness_core::observation::{Line, Observation, Outcome};
use harness_core::request::Planner;
use harness_core::scenario::Scenario;
use harness_core::schedule::open;
use harness_core::units::Nanos;

const REQUESTS: u64 = 10_000_000;
/// Growth that is allowed from the first million to the last, KiB.
const ALLOWED: u64 = 8 << 10;

const TEXT: &str = r#"apiVersion: harness/v1
kind: Scenario
metadata: {name: memory}
spec:
  seed: 42
  target: {url: "http://127.0.0.1:1", timeout: 2s}
  requests:
    - {name: classify, method: POST, path: /predict, body: {dataset: documents.jsonl, field: text, order: shuffled}}
    - {name: ping, method: GET, path: /healthz, headers: {x-id: "{{ $uuid }}"}}
  loads:
    - name: steady
      mix: {classify: 9, ping: 1}
      executor: constant-arrival-rate
      spacing: {gamma: 0.5}
      stages: [{phase: warmup, rate: 20000/s, for: 20s}, {phase: measure, rate: 20000/s, for: 600s}]
  abort: [{when: p99 > 1s, over: 30s}, {when: error_ratio > 0.5, over: 10s}]
"#;

fn main() -> ExitCode {
    let scenario =
        Scenario::parse(TEXT, "memory.yaml").unwrap_or_else(|problems| panic!("{problems}"));
    let files = BTreeMap::from([("documents.jsonl".to_owned(), harness_benches::documents())]);
    let planner =
        Planner::new(&scenario, &files, 7).unwrap_or_else(|problems| panic!("{problems}"));
    let mut live = Measurements::new(&scenario);
    let mut abort = AbortWatch::new(&scenario);
    let begun = Instant::now();
    let (mut first, mut last) = (0, 0);
    println!(
        "{:>12} {:>12} {:>12}",
        "requests", "resident KiB", "seconds"
    );
    for (n, arrival) in (1..=REQUESTS).zip(open(&scenario)) {
        let plan = planner.plan(&arrival);
        // Latencies of 1 to 500 ms, and one request in a thousand that is never answered.
        let took = 1_000_000 + plan.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 499_000_000;
        let lost = n.is_multiple_of(1_000);
        let row = Observation::from(Line {
            id: plan.id,
            request: plan.request,
            load: arrival.load,
            phase: arrival.phase,
            due: arrival.due,
            sent: Some(arrival.due),
            first_byte: (!lost).then_some(arrival.due),
            done: Nanos(arrival.due.0 + took),
            outcome: if lost {
                Outcome::Timeout
            } else {
                Outcome::Expected
            },
            status: (!lost).then_some(200),
            bytes: 100,
            connected: None,
            first_event: None,
            gaps: Vec::new(),
            trace: plan.trace,
            span: plan.span,
            sampled: plan.sampled,
            correct: None,
            detail: None,
        });
        live.record(&row);
        abort.record(&row);
        if n.is_multiple_of(100_000) {
            assert_eq!(abort.check(row.due), None);
        }
        if n.is_multiple_of(1_000_000) {
            last = resident();
            first = if first == 0 { last } else { first };
            println!("{n:>12} {last:>12} {:>12.2}", begun.elapsed().as_secs_f64());
        }
    }
    let counted: u64 = live.histograms().map(|(.., pair)| pair.latency.len()).sum();
    println!(
        "{counted} requests counted exactly; {} KiB more at the end than after the first million",
        last.saturating_sub(first)
    );
    assert_eq!(counted, REQUESTS);
    if first == 0 {
        println!("this system does not tell its resident memory: nothing was shown");
        return ExitCode::FAILURE;
    }
    ExitCode::from(u8::from(last > first + ALLOWED))
}

/// Resident memory in KiB; 0 where the system does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
