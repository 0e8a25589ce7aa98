//! The healthy run that traps are set in, and what is refused before there is a run.

use super::super::testing::Run;
use super::generator::fault;
use super::metrics::cut_scrapes;
use super::told;
use crate::objective::{self, ClientFigure, Indicator, Metric, Wanted};
use crate::observation::Outcome;
use crate::record::FaultApplied;
use crate::report::model::Verdict;

#[test]
fn the_healthy_run_passes() {
    let report = Run::healthy().judged();
    assert_eq!(report.verdict, Verdict::Pass, "{}", told(&report));
    assert_eq!(report.exit_code, 0);
    for objective in &report.objectives {
        assert_eq!(
            objective.verdict,
            Verdict::Pass,
            "{}: {}",
            objective.name,
            objective.reason
        );
        assert!(objective.value.is_some());
    }
    assert_eq!(report.coverage.sources.len(), 3);
    assert!(
        report
            .coverage
            .sources
            .iter()
            .all(|s| s.complete && s.canary)
    );
    assert_eq!(report.run.versions, ["1.0"]);
    let scheduled: u64 = report.load.iter().map(|l| l.scheduled).sum();
    assert_eq!(scheduled, 1_250);
    assert!(!report.series.is_empty() && !report.distribution.is_empty());
    let slowest = &report.requests[0];
    assert_eq!(
        (slowest.spans.len(), slowest.spans[1].depth),
        (2, 1),
        "{:?}",
        slowest.spans_missing
    );
    assert_eq!(slowest.logs.len(), 1, "{:?}", slowest.logs_missing);
}

#[test]
fn refused_requests_are_no_traffic_whatever_outcome_is_asked_for() {
    let mut run = Run::healthy();
    run.objectives.retain_mut(|o| match &mut o.indicator {
        Indicator::Threshold {
            metric: Metric::Client(client),
            ..
        } => match &mut client.figure {
            ClientFigure::Rate { outcome } => {
                *outcome = Wanted::Any;
                true
            }
            _ => false,
        },
        _ => false,
    });
    assert_eq!(run.judged().objectives[0].verdict, Verdict::Pass);
    run.each(|_, row| {
        row.outcome = Outcome::ConnectionRefused;
        row.status = None;
    });
    let report = run.judged();
    assert_eq!(
        report.objectives[0].verdict,
        Verdict::Fail,
        "{}",
        told(&report)
    );
}

#[test]
fn an_applied_fault_is_no_trap() {
    let mut run = Run::healthy();
    run.scenario.spec.faults.push(fault());
    run.facts.faults.push(FaultApplied {
        kind: "stall".into(),
        at: Some(crate::units::Nanos(1)),
        error: None,
    });
    assert_eq!(run.judged().verdict, Verdict::Pass);
}

#[test]
fn judging_again_says_the_same() {
    let run = Run::healthy();
    assert_eq!(run.judged(), run.judged());
}

#[test]
fn evidence_that_stops_is_missing_since_then() {
    let mut run = Run::healthy();
    cut_scrapes(&mut run, 20, 1_000);
    let report = run.judged();
    let metrics = &report.coverage.sources[0];
    let since = metrics.missing_since.unwrap();
    assert!((18.0..22.0).contains(&since), "{since}: {}", metrics.reason);
}

#[test]
fn files_that_judge_nothing_are_refused() {
    let good = include_str!("../../../../../slo/seed-locust.yaml");
    let refused = |files: &[(&str, String)], word: &str| {
        let files: Vec<_> = files
            .iter()
            .map(|(n, t)| ((*n).to_owned(), t.clone()))
            .collect();
        let problems = objective::parse(&files).expect_err(word).to_string();
        assert!(problems.contains(word), "{problems}");
    };
    objective::parse(&[("a.yaml".into(), good.into())]).unwrap();
    refused(&[], "no SLO file");
    refused(&[("a.yaml", "# nothing\n".into())], "holds no SLO");
    let service = "apiVersion: openslo/v1\nkind: Service\nmetadata: {name: a}\nspec: {}\n";
    refused(&[("a.yaml", service.into())], "holds no SLO");
    refused(
        &[("a.yaml", good.into()), ("b.yaml", good.into())],
        "a second SLO named",
    );
    refused(
        &[("a.yaml", good.replacen("target: 0.99", "target: 1.0", 1))],
        "out of range",
    );
    refused(
        &[("a.yaml", good.replacen("type: Tempo", "type: Jaeger", 1))],
        "unknown source `Jaeger`",
    );
    refused(
        &[(
            "a.yaml",
            good.replacen("budgetingMethod", "budgetMethod", 1),
        )],
        "budgetMethod",
    );
    refused(
        &[("a.yaml", good.replacen("Occurrences", "Timeslices", 1))],
        "timeSliceWindow: is missing",
    );
    refused(
        &[("a.yaml", good.replacen("harness/gate", "harness/gait", 1))],
        "unknown annotation",
    );
    refused(
        &[("a.yaml", good.replacen("metric: rate", "metric: ratte", 1))],
        "unknown metric",
    );
    let cut = good.find("  objectives:").unwrap();
    refused(
        &[("a.yaml", format!("{}  objectives: []\n", &good[..cut]))],
        "is empty",
    );
}

#[test]
fn problems_name_the_line() {
    let good = include_str!("../../../../../slo/seed-locust.yaml");
    let bad = good.replacen("type: Tempo", "type: Jaeger", 1);
    let line = 1 + bad.lines().position(|l| l.contains("Jaeger")).unwrap();
    let problems = objective::parse(&[("a.yaml".into(), bad)]).unwrap_err();
    assert_eq!(problems.0[0].at.unwrap().0, line, "{problems}");
}

#[test]
fn an_objective_on_an_unknown_request_is_refused() {
    let mut run = Run::healthy();
    assert!(
        run.objectives
            .iter()
            .all(|o| o.check(&run.scenario).is_empty())
    );
    run.scenario.spec.requests[0].name = "other".into();
    assert!(!run.objectives[0].check(&run.scenario).is_empty());
    run.scenario.spec.telemetry.embedded = None;
    let metrics = run
        .objectives
        .iter()
        .find(|o| o.name == "server-errors")
        .unwrap();
    assert!(
        metrics.check(&run.scenario)[0]
            .message
            .contains("prometheus")
    );
}
