use std::collections::BTreeMap;

use super::*;
use crate::observation::{Line, Outcome};
use crate::record::{Generator, RUN_SCHEMA, RunFacts, Settled, Stop, Target};
use crate::schedule::stretches;
use crate::units::{Phase, Ratio, RequestId, Seed, SpanId, TraceId, UnixNanos};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn scenario() -> Scenario {
    Scenario::parse(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {name: measure}
spec:
  seed: 1
  target: {url: "http://127.0.0.1:1", timeout: 2s}
  requests:
    - {name: a, method: GET, path: /a}
    - {name: b, method: GET, path: /b}
    - {name: unused, method: GET, path: /c}
  loads:
    - name: one
      mix: {a: 3, b: 1}
      executor: constant-arrival-rate
      stages: [{phase: warmup, rate: 10/s, for: 2s}, {phase: measure, rate: 100/s, for: 10s}]
  abort: [{when: error_ratio > 0.5, over: 10s}]
"#,
        "measure.yaml",
    )
    .unwrap()
}

fn facts() -> RunFacts {
    RunFacts {
        schema: RUN_SCHEMA.into(),
        run_id: "r".into(),
        harness_version: "0".into(),
        scenario: "measure".into(),
        scenario_sha256: String::new(),
        seed: Seed(1),
        started: UnixNanos(0),
        drained: Nanos(12 * SECOND),
        stretches: stretches(&scenario()),
        generator: Generator::default(),
        target: Target::default(),
        service: "s".into(),
        expect_version: None,
        backends: BTreeMap::new(),
        settled: Settled::default(),
        faults: Vec::new(),
        stop: None,
        context: crate::record::context::Context::default(),
        grafana: None,
        slo_files: std::collections::BTreeMap::new(),
    }
}

/// A request due at `due` ms, sent 1 ms later and done `latency` ms after due.
fn row(due: u64, latency: u64, outcome: Outcome) -> Observation {
    Line {
        id: RequestId(due),
        request: 0,
        load: 0,
        phase: if due < 2_000 {
            Phase::Warmup
        } else {
            Phase::Measure
        },
        due: Nanos(due * MS),
        sent: (outcome != Outcome::Dropped).then_some(Nanos((due + 1) * MS)),
        first_byte: None,
        done: Nanos((due + latency) * MS),
        outcome,
        status: outcome.answered().then_some(200),
        bytes: 10,
        connected: None,
        first_event: None,
        gaps: Vec::new(),
        trace: TraceId([1; 16]),
        span: SpanId([1; 8]),
        sampled: true,
        correct: None,
        detail: None,
    }
    .into()
}

#[test]
fn quantiles_are_order_statistics() {
    let mut values: Vec<Nanos> = (1..=1000).rev().map(|ms| Nanos(ms * MS)).collect();
    let found = quantiles(&mut values).unwrap();
    assert_eq!(
        (found.min, found.p50, found.p90, found.p95),
        (0.001, 0.5, 0.9, 0.95)
    );
    assert_eq!((found.p99, found.p999, found.max), (0.99, 0.999, 1.0));
    assert_eq!(found.mean, 0.5005);
    let one = quantiles(&mut [Nanos(SECOND)]).unwrap();
    assert_eq!((one.min, one.p50, one.p999), (1.0, 1.0, 1.0));
    assert_eq!(quantiles(&mut []), None);
}

#[test]
fn summaries_count_everything_once() {
    let mut rows = vec![
        row(100, 5, Outcome::Expected),
        row(2_000, 10, Outcome::Expected),
    ];
    rows.extend([
        row(3_000, 20, Outcome::WrongAnswer),
        row(4_000, 0, Outcome::Dropped),
    ]);
    rows[1].correct = Some(true);
    rows[2].correct = Some(false);
    let all = summaries(&scenario(), &facts(), &rows);
    let names: Vec<(Phase, &str, u64)> = all
        .iter()
        .map(|s| (s.phase, s.request.as_str(), s.scheduled))
        .collect();
    assert_eq!(
        names,
        [
            (Phase::Warmup, "a", 1),
            (Phase::Warmup, "b", 0),
            (Phase::Measure, "a", 3),
            (Phase::Measure, "b", 0),
        ]
    );
    let measured = &all[2];
    assert_eq!(
        measured.outcomes,
        [
            (Outcome::Expected, 1),
            (Outcome::WrongAnswer, 1),
            (Outcome::Dropped, 1)
        ]
    );
    assert_eq!(measured.rate, 0.2);
    assert_eq!(measured.accuracy, Some(Ratio { good: 1, total: 2 }));
    assert_eq!(measured.bytes, 30);
    assert_eq!(measured.service_time.unwrap().max, 0.019);
    assert_eq!(all[3].latency, None);
    assert_eq!(all[3].rate, 0.0);
}

#[test]
fn failing_makes_no_service_look_faster() {
    let healthy: Vec<Observation> = (0..100)
        .map(|n| row(2_000 + n, 50, Outcome::Expected))
        .collect();
    let before = summaries(&scenario(), &facts(), &healthy)[2]
        .latency
        .unwrap();
    for outcome in [
        Outcome::Dropped,
        Outcome::ConnectionRefused,
        Outcome::ConnectionReset,
        Outcome::Timeout,
    ] {
        let mut rows = healthy.clone();
        rows.iter_mut()
            .step_by(2)
            .for_each(|r| *r = row(r.due.0 / MS, 0, outcome));
        let after = summaries(&scenario(), &facts(), &rows)[2].latency.unwrap();
        assert!(
            after.p50 >= before.p50 && after.p99 >= 2.0,
            "{outcome:?}: {after:?}"
        );
    }
}

#[test]
fn a_run_cut_short_has_the_rate_of_what_there_was() {
    let mut facts = facts();
    facts.stop = Some(Stop::Interrupted("SIGINT".into()));
    facts.drained = Nanos(4 * SECOND);
    let rows: Vec<Observation> = (0..20)
        .map(|n| row(2_000 + n * 100, 5, Outcome::Expected))
        .collect();
    assert_eq!(summaries(&scenario(), &facts, &rows)[2].rate, 10.0);
}

#[test]
fn seconds_hold_what_was_due_done_and_out() {
    let rows = [
        row(2_100, 50, Outcome::Expected),
        row(2_200, 2_500, Outcome::Expected),
        row(2_300, 100, Outcome::WrongAnswer),
        row(4_999, 2, Outcome::Expected),
    ];
    let points = series(&scenario(), &facts(), &rows);
    assert_eq!(points.len(), 6);
    assert_eq!(
        (points[0].phase, points[1].due, points[1].p50),
        (Phase::Warmup, 0, None)
    );
    let second = &points[2];
    assert_eq!(
        (second.phase, second.due, second.done, second.failed),
        (Phase::Measure, 3, 2, 1)
    );
    assert_eq!(
        (second.p50, second.p99, second.max),
        (Some(0.1), Some(2.5), Some(2.5))
    );
    assert_eq!(second.in_flight, 2);
    // Still out through the third second, though nothing happened in it.
    assert_eq!(
        (points[3].due, points[3].done, points[3].in_flight),
        (0, 0, 1)
    );
    assert_eq!((points[4].due, points[4].done), (1, 1));
    assert_eq!(
        (points[5].due, points[5].done, points[5].in_flight),
        (0, 1, 1)
    );
    assert!(series(&scenario(), &facts(), &[]).is_empty());
}

#[test]
fn bins_hold_the_measured_phase_without_gap() {
    let mut rows: Vec<Observation> = (0..100)
        .map(|n| row(2_000 + n, 1 + n, Outcome::Expected))
        .collect();
    rows.push(row(100, 1_500, Outcome::Expected));
    rows.push(row(5_000, 0, Outcome::Dropped));
    let bins = distribution(&scenario(), &facts(), &rows);
    assert_eq!(bins.iter().map(|bin| bin.expected).sum::<u64>(), 100);
    assert_eq!(bins.iter().map(|bin| bin.service_time).sum::<u64>(), 100);
    assert!(bins.windows(2).all(|pair| pair[0].high == pair[1].low));
    let last = bins.last().unwrap();
    assert!(
        last.other == 1 && last.low < 2.0 && last.high >= 2.0,
        "{last:?}"
    );
    let first_latency = bins.iter().find(|bin| bin.expected > 0).unwrap();
    assert!(
        first_latency.low < 0.001 && first_latency.high >= 0.001,
        "{first_latency:?}"
    );
    // The upper edge belongs to the bin: 100 ms is an edge.
    let upto_100ms: u64 = bins
        .iter()
        .filter(|bin| bin.high <= 0.1)
        .map(|bin| bin.expected)
        .sum();
    assert_eq!(upto_100ms, 100);
    assert!(distribution(&scenario(), &facts(), &[]).is_empty());
}

#[test]
fn live_figures_are_of_the_last_seconds() {
    let mut live = Measurements::new(&scenario());
    for n in 0..1000 {
        // 100/s: 10 s, slow at first.
        live.record(&row(
            n * 10,
            if n < 300 { 500 } else { 20 },
            Outcome::Expected,
        ));
    }
    live.record(&row(9_999, 0, Outcome::Dropped));
    let now = live.snapshot(Nanos(10 * SECOND), 7_u32);
    assert_eq!((now.done, now.failed, now.in_flight), (1001, 1, 7));
    assert!((now.rate - 100.0).abs() < 1.0, "{now:?}");
    let p50 = now.p50.unwrap().as_secs_f64();
    assert!((p50 / 0.02 - 1.0).abs() < 0.02, "{now:?}");
    assert!(now.to_string().contains("failed 1 of 1001"), "{now}");
    let later = live.snapshot(Nanos(60 * SECOND), 0_u64);
    assert_eq!((later.rate, later.p50, later.done), (0.0, None, 1001));
    assert!(later.to_string().contains("p50      – ms"), "{later}");
    let start = Measurements::new(&scenario()).snapshot(Nanos(0), 0_u64);
    assert_eq!((start.rate, start.p99), (0.0, None));
    let counted: u64 = live.histograms().map(|(.., pair)| pair.latency.len()).sum();
    assert_eq!(counted, 1001);
    let dropped = live
        .histograms()
        .find(|(_, _, outcome, _)| *outcome == Outcome::Dropped)
        .unwrap();
    assert_eq!(dropped.3.service_time.len(), 0);
}

#[test]
fn a_rule_holds_over_a_whole_window_with_enough_requests() {
    let mut long = scenario();
    long.spec.loads[0].stages[1].length = "60s".parse().unwrap();
    let watch = || AbortWatch::new(&long);
    let mut failing = watch();
    (0..100).for_each(|n| {
        failing.record(&row(
            n * 100,
            10,
            if n < 60 {
                Outcome::Timeout
            } else {
                Outcome::Expected
            },
        ))
    });
    assert_eq!(
        failing.check(Nanos(9 * SECOND)),
        None,
        "the window is not full yet"
    );
    let why = failing.check(Nanos(10 * SECOND)).unwrap();
    assert_eq!(
        why,
        "error_ratio > 0.5: 60 of 100 requests failed in the last 10s"
    );
    // The failures slide out of the window.
    assert_eq!(failing.check(Nanos(14 * SECOND)), None);

    let mut few = watch();
    (0..ABORT_FLOOR - 1).for_each(|n| few.record(&row(n * 100, 10, Outcome::Timeout)));
    assert_eq!(few.check(Nanos(10 * SECOND)), None);
    few.record(&row(9_000, 10, Outcome::Timeout));
    assert!(few.check(Nanos(10 * SECOND)).is_some());

    let mut half = watch();
    (0..100).for_each(|n| {
        half.record(&row(
            n * 100,
            10,
            if n % 2 == 0 {
                Outcome::Timeout
            } else {
                Outcome::Expected
            },
        ))
    });
    assert_eq!(
        half.check(Nanos(10 * SECOND)),
        None,
        "exactly half is not more than half"
    );
}

#[test]
fn what_fails_while_the_last_requests_are_drained_ends_nothing_early() {
    let mut watch = AbortWatch::new(&scenario());
    (0..100).for_each(|n| watch.record(&row(2_000 + n * 100, 10, Outcome::Timeout)));
    // The schedule is over at 12 s.
    assert!(watch.clone().check(Nanos(12 * SECOND - 1)).is_some());
    assert_eq!(watch.check(Nanos(12 * SECOND)), None);
}

#[test]
fn outcomes_out_of_order_count_in_their_own_window() {
    let mut watch = AbortWatch::new(&scenario());
    for n in (0..100).rev() {
        watch.record(&row(n * 100, 10, Outcome::Timeout));
    }
    assert!(
        watch
            .check(Nanos(10 * SECOND))
            .unwrap()
            .contains("100 of 100")
    );
}

#[test]
fn rules_on_latency_and_on_drops_hold_too() {
    let watch = |when: &str| {
        let mut scenario = scenario();
        scenario.spec.abort[0].when = when.into();
        AbortWatch::new(&scenario)
    };
    // 100 requests, of which `slow` took 300 ms and the rest 10 ms.
    let fill = |watch: &mut AbortWatch, slow: u64, outcome| {
        (0..100).for_each(|n| {
            let (latency, outcome) = if n < slow {
                (300, outcome)
            } else {
                (10, Outcome::Expected)
            };
            watch.record(&row(n * 90, latency, outcome));
        });
    };
    let mut p95 = watch("p95 > 200ms");
    fill(&mut p95, 5, Outcome::Expected);
    assert_eq!(
        p95.check(Nanos(10 * SECOND)),
        None,
        "the 95th of 100 is a fast one"
    );
    let mut p95 = watch("p95 > 200ms");
    fill(&mut p95, 6, Outcome::Expected);
    let why = p95.check(Nanos(10 * SECOND)).unwrap();
    assert_eq!(
        why,
        "p95 > 200ms: 6 of 100 requests took longer in the last 10s"
    );
    // A refused connection is no fast answer.
    let mut refused = watch("p50 > 1s");
    fill(&mut refused, 51, Outcome::ConnectionRefused);
    assert!(refused.check(Nanos(10 * SECOND)).is_some());
    let mut dropped = watch("dropped_ratio > 10%");
    fill(&mut dropped, 11, Outcome::Timeout);
    assert_eq!(dropped.check(Nanos(10 * SECOND)), None);
    let mut dropped = watch("dropped_ratio > 10%");
    fill(&mut dropped, 11, Outcome::Dropped);
    assert!(
        dropped
            .check(Nanos(10 * SECOND))
            .unwrap()
            .contains("11 of 100 requests were dropped")
    );
}
