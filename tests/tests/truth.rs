//! The reported latencies are the law's own.
//!
//! A service follows a scripted law: it serves one request after another, stands still for a second out
//! of every ten, or takes two seconds for one answer in a hundred, or is driven beyond its capacity. The
//! load goes through the real schedule, the real driver and the real recording, on tokio's paused clock,
//! so that it is exact and takes no time. What is reported must equal what the law says of each due
//! instant, worked out here without any of these; and the same run measured from the send, as tools do
//! whose connections wait for answers, is shown to be off by orders of magnitude.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use harness::clock::Clock;
use harness::drive::{Drive, Exchange, Gauges};
use harness::observed::Observed;
use harness_core::measure::{Measurements, summaries};
use harness_core::observation::{Line, Observation, Outcome};
use harness_core::record::{Generator, RUN_SCHEMA, RunFacts, Settled, Target};
use harness_core::report::model::Quantiles;
use harness_core::request::Captured;
use harness_core::scenario::Scenario;
use harness_core::schedule::{Arrival, Shard, Tapes, stretches};
use harness_core::units::{Nanos, Phase, Seed, SpanId, TraceId, UnixNanos};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// How long an answer takes that begins at an instant, and how many are served at once.
#[derive(Clone, Copy)]
struct Law {
    at_once: usize,
    /// When an answer begun at this instant is complete; the second number is the arrival's.
    complete: fn(u64, u64) -> u64,
}

/// 5 ms an answer, and none at all in the first second of every ten (but the first ten).
fn stalls(begun: u64, _: u64) -> u64 {
    let standing = |at: u64| at >= 10 * SECOND && at % (10 * SECOND) < SECOND;
    let mut now = begun;
    let mut left = 5;
    // By the millisecond, which is what the law is written in.
    while left > 0 {
        left -= u64::from(!standing(now));
        now += MS;
    }
    now
}

/// 2 s for one answer in a hundred, 4 ms for the others.
fn rare(begun: u64, n: u64) -> u64 {
    begun + if n % 100 == 37 { 2 * SECOND } else { 4 * MS }
}

/// 10 ms an answer: 100 a second and no more.
fn steady(begun: u64, _: u64) -> u64 {
    begun + 10 * MS
}

struct Service {
    law: Law,
    clock: Clock,
    free: Semaphore,
}

impl Exchange for Service {
    async fn exchange(
        &self,
        arrival: Arrival,
        _: &Captured,
        _: &CancellationToken,
    ) -> (Observation, Vec<(String, serde_json::Value)>) {
        // As a connection pool would have it: who finds none free waits, first come first served.
        let free = self.free.acquire().await.expect("nobody closes it");
        let sent = self.clock.now();
        let complete = Nanos((self.law.complete)(sent.0, arrival.id.0));
        tokio::time::sleep_until(self.clock.instant(complete).into()).await;
        drop(free);
        let mut seen = self.not_sent(&arrival, Outcome::Expected, self.clock.now(), "");
        seen.set_sent(Some(sent));
        (seen, Vec::new())
    }

    fn not_sent(&self, arrival: &Arrival, outcome: Outcome, at: Nanos, _: &str) -> Observation {
        Line {
            id: arrival.id,
            request: arrival.request,
            load: arrival.load,
            phase: arrival.phase,
            due: arrival.due,
            sent: None,
            first_byte: None,
            done: at,
            outcome,
            status: Some(200),
            bytes: 0,
            connected: None,
            first_event: None,
            gaps: Vec::new(),
            trace: TraceId([1; 16]),
            span: SpanId([1; 8]),
            sampled: false,
            correct: None,
            detail: None,
        }
        .into()
    }
}

fn scenario(load: &str) -> Scenario {
    let text = format!(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {{name: truth}}
spec:
  seed: 42
  target: {{url: "http://127.0.0.1:1", timeout: 1h}}
  requests: [{{name: a, method: GET, path: /}}]
  loads: [{{name: l, mix: {{a: 1}}, {load}}}]
"#
    );
    Scenario::parse(&text, "truth.yaml").unwrap_or_else(|problems| panic!("{problems}"))
}

/// Drives the load against the law to its end.
async fn drive(scenario: &Scenario, law: Law) -> Vec<Observation> {
    let clock = Clock::starting_in(Duration::ZERO);
    let (observed, batches) = Observed::channel();
    let (tell, mut told) = mpsc::unbounded_channel();
    let drive = Drive {
        scenario: Arc::new(scenario.clone()),
        tapes: Tapes::default(),
        shard: Shard::WHOLE,
        sender: Arc::new(Service {
            law,
            clock,
            free: Semaphore::new(law.at_once),
        }),
        clock,
        observed,
        kill: CancellationToken::new(),
        gauges: Arc::new(Gauges::default()),
    };
    drive.run_in_runtime(&tell, &mut told).await;
    // What is still out holds the way to the rows.
    let held = Arc::downgrade(&drive.observed);
    drop(drive);
    while held.strong_count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    batches.iter().flatten().collect()
}

/// What the report says of the rows: latency from due, and service time from sent.
fn reported(scenario: &Scenario, rows: &[Observation]) -> (Quantiles, Quantiles) {
    let facts = RunFacts {
        schema: RUN_SCHEMA.into(),
        run_id: "truth".into(),
        harness_version: "0".into(),
        scenario: "truth".into(),
        scenario_sha256: String::new(),
        slo_files: Default::default(),
        grafana: Default::default(),
        seed: Seed(42),
        started: UnixNanos(0),
        drained: rows.iter().map(|row| row.done).max().unwrap_or_default(),
        stretches: stretches(scenario),
        generator: Generator::default(),
        target: Target::default(),
        service: "truth".into(),
        expect_version: None,
        backends: BTreeMap::new(),
        settled: Settled::default(),
        faults: Vec::new(),
        stop: None,
        context: harness_core::record::context::Context::default(),
    };
    let all = summaries(scenario, &facts, rows);
    let measured = all.iter().find(|summary| summary.phase == Phase::Measure);
    let measured = measured.expect("a measured phase");
    (
        measured.latency.expect("latencies"),
        measured.service_time.expect("service times"),
    )
}

/// Nearest rank of nanoseconds, in seconds.
fn quantile(sorted: &[u64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1] as f64 / 1e9
}

/// Every figure of the report, and of the histograms within their resolution, is the law's own.
fn is_the_law(scenario: &Scenario, rows: &[Observation], law: &[u64]) {
    let mut law = law.to_vec();
    law.sort_unstable();
    let (latency, _) = reported(scenario, rows);
    let mut live = Measurements::new(scenario);
    rows.iter().for_each(|row| live.record(row));
    let histograms: Vec<_> = live.histograms().collect();
    assert_eq!(histograms.len(), 1, "one phase, request and outcome");
    let histogram = &histograms[0].3.latency;
    assert_eq!(histogram.len(), law.len() as u64);
    for (q, figure) in [
        (0.5, latency.p50),
        (0.9, latency.p90),
        (0.95, latency.p95),
        (0.99, latency.p99),
        (0.999, latency.p999),
        (1.0, latency.max),
    ] {
        let wanted = quantile(&law, q);
        assert!(
            (figure - wanted).abs() < 1e-9,
            "{q}: {figure} s, by the law {wanted} s"
        );
        let shown = histogram.value_at_quantile(q) as f64 / 1e6;
        assert!(
            (shown / wanted - 1.0).abs() <= 1e-3,
            "{q}: histogram {shown} s, law {wanted} s"
        );
    }
}

/// Latencies by the law alone: due instants in order, one queue, so many served at once.
fn queued(due: &[u64], law: Law) -> Vec<u64> {
    let mut free = vec![0_u64; law.at_once];
    let latencies = due.iter().enumerate().map(|(n, due)| {
        let first = (0..free.len())
            .min_by_key(|server| free[*server])
            .expect("a server");
        let begun = free[first].max(*due);
        free[first] = (law.complete)(begun, n as u64);
        free[first] - due
    });
    latencies.collect()
}

#[tokio::test(start_paused = true)]
async fn a_stall_of_a_second_in_ten_is_seen_by_everyone_who_was_due() {
    let law = Law {
        at_once: 1,
        complete: stalls,
    };
    let scenario = scenario(
        "executor: constant-arrival-rate, maxInFlight: 10000, stages: [{phase: measure, rate: 100/s, for: 60s}]",
    );
    let rows = drive(&scenario, law).await;
    let due: Vec<u64> = (0..6_000).map(|n| n * 10 * MS).collect();
    let latencies = queued(&due, law);
    is_the_law(&scenario, &rows, &latencies);

    // From the send a stall is one slow answer in a thousand; from due it is every tenth.
    let (latency, naive) = reported(&scenario, &rows);
    assert_eq!((naive.p90, naive.p99), (0.005, 0.005));
    assert!(latency.p90 > 50.0 * naive.p90, "{latency:?} {naive:?}");
    assert!(latency.p99 > 100.0 * naive.p99, "{latency:?} {naive:?}");
}

#[tokio::test(start_paused = true)]
async fn one_answer_in_a_hundred_that_takes_two_seconds_holds_up_those_behind_it() {
    // One connection: a slow answer takes it away for two seconds, in which fifty requests are due.
    let law = Law {
        at_once: 1,
        complete: rare,
    };
    let scenario = scenario(
        "executor: constant-arrival-rate, maxInFlight: 10000, stages: [{phase: measure, rate: 25/s, for: 120s}]",
    );
    let rows = drive(&scenario, law).await;
    let due: Vec<u64> = (0..3_000).map(|n| n * 40 * MS).collect();
    is_the_law(&scenario, &rows, &queued(&due, law));
    let (latency, naive) = reported(&scenario, &rows);
    // From the send a slow answer is the slow one's alone; from due it is everybody's behind it.
    assert_eq!((naive.p50, naive.p95), (0.004, 0.004));
    assert!(latency.p95 > 100.0 * naive.p95, "{latency:?} {naive:?}");
}

#[tokio::test(start_paused = true)]
async fn beyond_saturation_the_queue_shows_and_not_the_service() {
    let law = Law {
        at_once: 1,
        complete: steady,
    };
    // 125/s where 100/s can be served: the wait grows by 2 ms with every request.
    let scenario = scenario(
        "executor: constant-arrival-rate, maxInFlight: 10000, stages: [{phase: measure, rate: 125/s, for: 40s}]",
    );
    let rows = drive(&scenario, law).await;
    let due: Vec<u64> = (0..5_000).map(|n| n * 8 * MS).collect();
    let latencies = queued(&due, law);
    assert_eq!(latencies[4_999], 10 * MS + 4_999 * 2 * MS);
    is_the_law(&scenario, &rows, &latencies);
    let (latency, naive) = reported(&scenario, &rows);
    assert_eq!(naive.max, 0.01);
    assert!(latency.p99 > 900.0 * naive.p99, "{latency:?} {naive:?}");
}

#[tokio::test(start_paused = true)]
async fn a_ramp_to_saturation_is_the_law_before_and_beyond_it() {
    let law = Law {
        at_once: 1,
        complete: steady,
    };
    // From 0 to 150/s in a minute, where 100/s can be served: idle, then busy, from 40 s on too late.
    let scenario = scenario(
        "executor: ramping-arrival-rate, maxInFlight: 10000, stages: [{phase: measure, rate: 150/s, for: 60s}]",
    );
    let mut rows = drive(&scenario, law).await;
    rows.sort_by_key(|row| row.id);
    assert_eq!(rows.len(), 4_500);
    // The n-th is due when the integral of the rate, 1.25 t², is n.
    for (n, row) in rows.iter().enumerate() {
        let due = (n as f64 / 1.25).sqrt() * 1e9;
        assert!(
            (row.due.0 as f64 - due).abs() <= 2.0,
            "{n}: {} {due}",
            row.due.0
        );
    }
    // Virtual time ticks in milliseconds: a request is sent at the first tick at or after it is due.
    let due: Vec<u64> = rows.iter().map(|row| row.due.0).collect();
    let ticks: Vec<u64> = due.iter().map(|due| due.div_ceil(MS) * MS).collect();
    let waited = due.iter().zip(&ticks).map(|(due, tick)| tick - due);
    let latencies: Vec<u64> = queued(&ticks, law)
        .iter()
        .zip(waited)
        .map(|(a, b)| a + b)
        .collect();
    is_the_law(&scenario, &rows, &latencies);

    // Below saturation hardly anyone waits; at the end 500 are queued, five seconds of work.
    let under: Vec<u64> = rows
        .iter()
        .zip(&latencies)
        .filter(|(row, _)| row.due.0 < 30 * SECOND)
        .map(|(_, l)| *l)
        .collect();
    assert!(*under.iter().max().expect("some") < 30 * MS);
    assert!(
        latencies[4_499].abs_diff(5 * SECOND) < SECOND / 10,
        "{}",
        latencies[4_499]
    );
    let (latency, naive) = reported(&scenario, &rows);
    assert!(naive.max <= 0.011, "{naive:?}");
    assert!(latency.p99 > 400.0 * naive.p99, "{latency:?} {naive:?}");
}

#[tokio::test(start_paused = true)]
async fn closed_users_see_the_law_from_the_end_of_their_think_time() {
    let law = Law {
        at_once: 1,
        complete: stalls,
    };
    let scenario = scenario(
        "executor: constant-vus, vus: 8, thinkTime: {constant: 50ms}, stages: [{phase: measure, for: 60s}]",
    );
    let rows = drive(&scenario, law).await;
    // The same by the law alone: eight users, one server, first come first served.
    let mut ready: Vec<(u64, u64)> = (0..8).map(|user| (0, user)).collect();
    let (mut free, mut latencies) = (0_u64, Vec::new());
    loop {
        ready.sort_unstable();
        let (due, user) = ready.remove(0);
        if due >= 60 * SECOND {
            break;
        }
        let complete = stalls(free.max(due), 0);
        free = complete;
        latencies.push(complete - due);
        ready.push((complete + 50 * MS, user));
    }
    is_the_law(&scenario, &rows, &latencies);
    let (latency, naive) = reported(&scenario, &rows);
    // All eight wait for a stall's end; from the send only the one does whose answer was begun.
    assert!(naive.p999 < 0.01, "{naive:?}");
    assert!(latency.p999 > 50.0 * naive.p999, "{latency:?} {naive:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_max_in_flight_drops_and_every_arrival_is_accounted_for() {
    let law = Law {
        at_once: 1,
        complete: steady,
    };
    let scenario = scenario(
        "executor: constant-arrival-rate, maxInFlight: 10, stages: [{phase: measure, rate: 125/s, for: 40s}]",
    );
    let rows = drive(&scenario, law).await;
    assert_eq!(rows.len(), 5_000);
    let dropped = rows
        .iter()
        .filter(|row| row.outcome == Outcome::Dropped)
        .count();
    // One in five is beyond what can be served, but for the ten that may wait.
    assert!((985..=1_000).contains(&dropped), "{dropped}");
    // A drop is no fast answer: it counts with the timeout.
    let (latency, _) = reported(&scenario, &rows);
    assert_eq!(latency.p90, 3_600.0);
}
