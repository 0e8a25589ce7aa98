//! How long a large run takes to judge, and how much memory: 1 million requests with five spans each and
//! 50 objectives over all four sources, by default.
//!
//! `cargo run --release -p harness-core --example judge_large [REQUESTS] [OBJECTIVES]`
//!
//! The backends' answers are made up as a healthy service's would be: judging sees answers, never the
//! spans themselves, of which the traces that are looked up hold five each. On two cores that others used
//! at the same time it took 3 s and 165 MiB, 92 of them the rows.

// An example is no part of the pure core: it looks at the clock.
#![allow(clippy::disallowed_methods)]

use std::time::Instant;

use harness_core::judge::{self, RunRecord};
use harness_core::objective;
use harness_core::observation::{Line, Observation, Outcome};
use harness_core::query::{Answer, Backend, Query};
use harness_core::record::{
    AnswerBook, BackendUsed, Generator, RUN_SCHEMA, RunFacts, Settled, Target,
};
use harness_core::scenario::Scenario;
use harness_core::schedule;
use harness_core::units::{Nanos, Phase, RequestId, Seed, SpanId, TraceId, UnixNanos};
use serde_json::json;

const SECOND: u64 = 1_000_000_000;
const STARTED: u64 = 1_795_351_900 * SECOND;
const RATE: u64 = 2_000;

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().and_then(|a| a.parse().ok()).unwrap_or(default);
    let (requests, objectives) = (number(1_000_000), number(50));
    let length = requests / RATE;
    let scenario = Scenario::parse(&scenario(length), "large.yaml").expect("the scenario");
    let objectives =
        objective::parse(&[("large.yaml".into(), slos(objectives))]).expect("the objectives");
    let rows: Vec<Observation> = (0..requests).map(row).collect();
    let drained = rows.iter().map(|r| r.done).max().expect("rows");
    let facts = facts(&scenario, requests, drained);
    let built = peak_mib();

    let mut answers = AnswerBook::default();
    macro_rules! record {
        () => {
            RunRecord {
                scenario: &scenario,
                objectives: &objectives,
                facts: &facts,
                rows: &rows,
                answers: &answers,
                baselines: None,
            }
        };
    }
    let began = Instant::now();
    let asked = judge::coverage_queries(&record!());
    asked
        .into_iter()
        .for_each(|q| answers.insert(answer(q, requests, length)));
    let asked = judge::objective_queries(&record!());
    asked
        .into_iter()
        .for_each(|q| answers.insert(answer(q, requests, length)));
    let first = judge::judge(&record!());
    let details = judge::detail_queries(&record!(), &first);
    details
        .into_iter()
        .for_each(|q| answers.insert(answer(q, requests, length)));
    let asking = began.elapsed();

    let began = Instant::now();
    let report = judge::judge(&record!());
    println!(
        "{requests} requests, {} spans, {} objectives: {:?}",
        5 * requests,
        objectives.len(),
        report.verdict
    );
    for reason in report.reasons.iter().take(3) {
        println!("  {reason}");
    }
    println!(
        "questions derived, asked and judged once: {:.2} s",
        asking.as_secs_f64()
    );
    println!("judged: {:.2} s", began.elapsed().as_secs_f64());
    println!(
        "peak memory: {} MiB, of which rows and facts {built} MiB",
        peak_mib()
    );
}

/// Peak resident memory of this process; 0 where the system does not tell.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn scenario(length: u64) -> String {
    format!(
        "apiVersion: harness/v1\nkind: Scenario\nmetadata: {{name: large}}\nspec:\n  seed: 1\n  \
         target: {{url: \"http://127.0.0.1:1\", timeout: 2s}}\n  \
         telemetry: {{embedded: {{scrape: [{{job: s, every: 1s, url: \"http://127.0.0.1:1/metrics\"}}]}}, service: s}}\n  \
         requests: [{{name: a, method: GET, path: /a}}, {{name: b, method: GET, path: /b}}]\n  \
         loads: [{{name: l, mix: {{a: 1, b: 1}}, executor: constant-arrival-rate, stages: [{{phase: measure, rate: {RATE}/s, for: {length}s}}]}}]\n"
    )
}

/// Objectives of every source in turn.
fn slos(number: u64) -> String {
    let client = |n: u64| {
        format!(
            "{{type: LoadClient, spec: {{request: {}, outcome: expected, latency: \"<= {}ms\"}}}}",
            ["a", "b"][(n % 2) as usize],
            100 + n
        )
    };
    (0..number)
        .map(|n| {
            let (good, total, counter) = match n % 4 {
                0 | 1 => (client(n), format!("{{type: LoadClient, spec: {{request: {}}}}}", ["a", "b"][(n % 2) as usize]), true),
                2 => (
                    format!("{{type: Prometheus, spec: {{query: 'sum(h_bucket{{le=\"{n}\"}})'}}}}"),
                    "{type: Prometheus, spec: {query: 'sum(h_count)'}}".into(),
                    true,
                ),
                _ => (
                    format!("{{type: Tempo, spec: {{query: '{{duration <= {n}ms}} | count_over_time()'}}}}"),
                    "{type: Tempo, spec: {query: '{} | count_over_time()'}}".into(),
                    false,
                ),
            };
            format!(
                "---\napiVersion: openslo/v1\nkind: SLO\nmetadata: {{name: o{n}, annotations: {{harness/signal: latency}}}}\n\
                 spec:\n  service: s\n  indicator:\n    metadata: {{name: o{n}}}\n    spec:\n      ratioMetric:\n        \
                 counter: {counter}\n        good: {{metricSource: {good}}}\n        total: {{metricSource: {total}}}\n  \
                 timeWindow: [{{duration: 28d, isRolling: true}}]\n  budgetingMethod: Occurrences\n  \
                 objectives: [{{displayName: o, target: 0.99}}]\n"
            )
        })
        .collect()
}

/// Latencies that wander, so that neighbours are alike and the estimate of it has work to do.
fn row(n: u64) -> Observation {
    let due = n * SECOND / RATE;
    let wave = ((n as f64 / 5_000.0).sin() + 1.5) * 8e6;
    let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    let done = due + wave as u64 + 10 * noise;
    let mut trace = [7; 16];
    trace[8..].copy_from_slice(&n.to_be_bytes());
    let mut span = (n + 1).to_be_bytes();
    span[0] = 5;
    Line {
        id: RequestId(n),
        request: (n % 2) as u16,
        load: 0,
        phase: Phase::Measure,
        due: Nanos(due),
        sent: Some(Nanos(due + 1_000)),
        first_byte: Some(Nanos(done)),
        done: Nanos(done),
        outcome: Outcome::Expected,
        status: Some(200),
        bytes: 60,
        connected: None,
        first_event: None,
        gaps: Vec::new(),
        trace: TraceId(trace),
        span: SpanId(span),
        sampled: true,
        correct: None,
        detail: None,
    }
    .into()
}

fn facts(scenario: &Scenario, requests: u64, drained: Nanos) -> RunFacts {
    let used = BackendUsed {
        url: "http://127.0.0.1:1".into(),
        embedded: true,
        refused: 0,
        clock: None,
    };
    RunFacts {
        schema: RUN_SCHEMA.into(),
        run_id: "large".into(),
        context: Default::default(),
        harness_version: "0".into(),
        scenario: "large".into(),
        scenario_sha256: String::new(),
        seed: Seed(1),
        started: UnixNanos(STARTED),
        drained,
        stretches: schedule::stretches(scenario),
        generator: Generator {
            scheduled: requests,
            cores: 2,
            ..Generator::default()
        },
        target: Target {
            started: true,
            ..Target::default()
        },
        service: "s".into(),
        expect_version: None,
        backends: [Backend::Prometheus, Backend::Tempo]
            .map(|b| (b, used.clone()))
            .into(),
        settled: Settled {
            until: UnixNanos(STARTED + drained.0 + 2 * SECOND),
            ..Settled::default()
        },
        faults: Vec::new(),
        stop: None,
        grafana: None,
        slo_files: std::collections::BTreeMap::new(),
    }
}

fn answer(query: Query, requests: u64, length: u64) -> Answer {
    let counted = |at: u64| (at.saturating_sub(STARTED + SECOND / 10) / SECOND).min(length) * RATE;
    let body = match &query {
        Query::PromInstant { query, time } if query.ends_with(']') => {
            let points: Vec<_> = (STARTED - 3 * SECOND..=time.0)
                .step_by(SECOND as usize)
                .map(|t| {
                    let value = if query.starts_with("http_server") {
                        counted(t)
                    } else {
                        1
                    };
                    json!([t as f64 / 1e9, value.to_string()])
                })
                .collect();
            json!({"status": "success", "data": {"resultType": "matrix", "result": [
                {"metric": {"job": "s", "instance": "i"}, "values": points}]}})
        }
        Query::PromInstant { time, .. } => {
            json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {}, "value": [time.0 as f64 / 1e9, counted(time.0).to_string()]}]}})
        }
        Query::PromRange {
            start,
            end,
            step_ms,
            ..
        } => {
            let points: Vec<_> = (start.0..=end.0)
                .step_by((step_ms * 1_000_000) as usize)
                .map(|t| json!([t as f64 / 1e9, counted(t).to_string()]))
                .collect();
            json!({"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": points}]}})
        }
        Query::TempoMetrics { .. } => {
            json!({"series": [{"labels": [], "value": requests}], "metrics": {}})
        }
        Query::TempoTrace { trace } => {
            let mut number = [0; 8];
            number.copy_from_slice(&trace.0[8..]);
            let n = u64::from_be_bytes(number);
            let row = row(n);
            let spans: Vec<_> = (0..5_u8)
                .map(|i| {
                    let parent = if i == 0 { row.span } else { SpanId([9, 0, 0, 0, 0, 0, 0, 1]) };
                    json!({"spanId": SpanId([9, 0, 0, 0, 0, 0, 0, i + 1]).to_string(), "parentSpanId": parent.to_string(),
                        "name": "work", "startTimeUnixNano": (STARTED + row.due.0 + 2_000).to_string(),
                        "endTimeUnixNano": (STARTED + row.done.0).to_string(), "status": {}})
                })
                .collect();
            json!({"trace": {"resourceSpans": [{"resource": {"attributes": [
                {"key": "service.name", "value": {"stringValue": "s"}}]}, "scopeSpans": [{"spans": spans}]}]}})
        }
        Query::LokiInstant { .. } | Query::LokiLines { .. } => json!({}),
    };
    Answer {
        query,
        at: UnixNanos(STARTED),
        status: Some(200),
        body: body.to_string(),
        error: None,
    }
}
