use super::super::testing::Run;
use super::super::{detail_queries, judge};
use super::*;
use crate::report::model::{Report, Verdict};

const MS: u64 = 1_000_000;

/// Every tenth request of the measured phase takes so much longer, in the service.
fn slow(by: u64) -> Run {
    let mut run = Run::healthy();
    run.each(|n, row| {
        if n.is_multiple_of(10) {
            row.done = Nanos(row.done.0 + by * MS);
        }
    });
    run
}

fn no_traces(run: &mut Run) {
    run.tamper(|query, answer| {
        if matches!(query, Query::TempoTrace { .. }) {
            answer.body = r#"{"trace":{},"metrics":{}}"#.into();
        }
    });
}

fn latency(report: &Report) -> &crate::report::model::Explanation {
    report
        .why
        .iter()
        .find(|w| w.objective == "latency")
        .unwrap()
}

#[test]
fn the_stage_that_took_the_time_accounts_for_the_excess() {
    let report = slow(600).judged();
    let why = latency(&report);
    assert_eq!(why.misses.len(), 1);
    assert_eq!(why.misses[0].count, 120);
    assert!(
        why.misses[0].how.contains("not within 500 ms"),
        "{:?}",
        why.misses
    );
    let tail = why.tail.as_ref().unwrap();
    assert_eq!(
        (tail.slow.requests, tail.slow.looked_up, tail.slow.traced),
        (120, 50, 50)
    );
    assert_eq!((tail.typical.looked_up, tail.typical.traced), (50, 50));
    assert_eq!(tail.stages[0].name, "inference");
    assert!(
        (tail.stages[0].share.unwrap() - 1.0).abs() < 0.01,
        "{:?}",
        tail.stages
    );
    assert!((tail.excess.unwrap() - 0.6).abs() < 0.001);
    let sum: f64 = tail.stages.iter().filter_map(|s| s.share).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
}

#[test]
fn a_late_generator_is_not_the_services_fault() {
    let mut run = Run::healthy();
    run.each(|n, row| {
        if n.is_multiple_of(10) {
            row.set_sent(row.sent().map(|at| Nanos(at.0 + 600 * MS)));
            row.done = Nanos(row.done.0 + 600 * MS);
        }
    });
    let report = run.judged();
    let tail = report.tail.as_ref().unwrap();
    assert_eq!(tail.stages[0].kind, StageKind::Generator);
    assert!(tail.stages[0].share.unwrap() > 0.99, "{:?}", tail.stages);
}

#[test]
fn opening_connections_is_told_from_the_network() {
    let mut run = Run::healthy();
    for row in run.rows.iter_mut().step_by(10) {
        row.set_connected(row.sent().map(|at| Nanos(at.0 + 500 * MS)));
        row.done = Nanos(row.done.0 + 600 * MS);
    }
    let report = run.judged();
    let stages = &report.tail.as_ref().unwrap().stages;
    assert_eq!(stages[0].kind, StageKind::Connection);
    assert!(
        (0.82..0.85).contains(&stages[0].share.unwrap()),
        "{stages:?}"
    );
    assert_eq!(stages[1].kind, StageKind::Network, "{stages:?}");
    assert!(
        (0.15..0.18).contains(&stages[1].share.unwrap()),
        "{stages:?}"
    );
}

#[test]
fn time_outside_the_span_is_not_the_services_own() {
    let mut run = Run::healthy();
    for (n, row) in run
        .rows
        .iter_mut()
        .enumerate()
        .filter(|(n, _)| n.is_multiple_of(10))
    {
        row.done = Nanos(row.done.0 + 600 * MS + n as u64);
    }
    let report = run.judged();
    let tail = report.tail.as_ref().unwrap();
    assert_eq!(tail.stages[0].kind, StageKind::Network);
    assert!(tail.stages[0].share.unwrap() > 0.99, "{:?}", tail.stages);
}

/// With traces the table says that inference took the time; without them nothing may be said, least
/// of all that it took none.
#[test]
fn missing_traces_are_said_and_never_zero() {
    let mut run = slow(600);
    assert!(
        !latency(&run.judged())
            .tail
            .as_ref()
            .unwrap()
            .stages
            .is_empty()
    );
    no_traces(&mut run);
    let report = run.judged();
    let tail = latency(&report).tail.as_ref().unwrap();
    assert_eq!((tail.stages.len(), tail.excess), (0, None));
    assert_eq!((tail.slow.looked_up, tail.slow.traced), (50, 0));
    let why = tail.missing.as_ref().unwrap();
    assert!(
        why.contains("0 of 120") && why.contains("50 looked up"),
        "{why}"
    );
}

#[test]
fn some_lost_traces_are_counted_and_the_rest_still_tell() {
    let mut run = slow(600);
    run.tamper(|query, answer| {
        if let Query::TempoTrace { trace } = query
            && trace.0[15].is_multiple_of(4)
        {
            answer.body = r#"{"trace":{},"metrics":{}}"#.into();
        }
    });
    let report = run.judged();
    let tail = report.tail.as_ref().unwrap();
    assert!(tail.slow.traced < tail.slow.looked_up);
    assert_eq!(tail.stages[0].name, "inference");
}

#[test]
fn when_all_are_slow_the_typical_ones_are_those_before() {
    let mut run = Run::healthy();
    run.each(|_, row| row.done = Nanos(row.done.0 + 700 * MS));
    let report = run.judged();
    let tail = latency(&report).tail.as_ref().unwrap();
    assert_eq!(tail.slow.requests, 1_200);
    assert!(
        tail.typical.what.contains("before or after"),
        "{}",
        tail.typical.what
    );
    assert!(tail.typical.traced >= 5 && tail.stages[0].name == "inference");
}

#[test]
fn what_is_asked_is_bounded_and_asked_only_where_traces_are_read() {
    let mut run = slow(600);
    let more: Vec<_> = (0..20)
        .map(|n| {
            let mut objective = run.objectives[0].clone();
            objective.name = format!("more/{n}");
            objective
        })
        .collect();
    run.objectives.extend(more);
    let answers = run.answered();
    let record = run.record(&answers);
    let report = judge(&record);
    let missed = report
        .objectives
        .iter()
        .filter(|o| o.verdict == Verdict::Fail);
    assert!(missed.count() > 20);
    let queries = detail_queries(&record, &report);
    let traces: std::collections::BTreeSet<_> = queries
        .iter()
        .filter(|q| matches!(q, Query::TempoTrace { .. }))
        .collect();
    let most = 2 * SAMPLE * (MOST_OBJECTIVES + 1) + report.requests.len();
    assert!(traces.len() <= most, "{} of {most}", traces.len());

    run.facts.backends.remove(&Backend::Tempo);
    let record = run.record(&answers);
    let queries = detail_queries(&record, &judge(&record));
    assert!(queries.iter().all(|q| q.backend() != Backend::Tempo));
    let report = judge(&record);
    let why = report.tail.unwrap().missing.unwrap();
    assert!(why.contains("no traces were read"), "{why}");
}

#[test]
fn small_and_empty_runs_are_no_error() {
    for rows in [0, 1, 4, 9, 30] {
        let mut run = Run::healthy();
        let measured = |r: &Observation| r.phase == crate::units::Phase::Measure;
        let keep: Vec<Observation> = run
            .rows
            .iter()
            .filter(|r| measured(r))
            .take(rows)
            .cloned()
            .collect();
        run.rows = keep.clone();
        run.world = keep;
        let report = run.judged();
        assert!(
            report
                .tail
                .is_none_or(|t| t.missing.is_some() || t.slow.traced >= 3),
            "{rows}"
        );
    }
}
