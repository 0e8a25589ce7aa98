//! Comparisons with earlier runs: what may pass, what must not, and that they can be made again.

use super::super::judge;
use super::super::testing::Run;
use super::*;
use crate::noise::dependence::tests::Noise;
use crate::objective::{self, Worse};
use crate::observation::Outcome as Ended;
use crate::record::baseline::BASELINE_SCHEMA;
use crate::units::Nanos;

const P95: &str = r#"
apiVersion: openslo/v1
kind: SLO
metadata: {name: p95, annotations: {harness/baseline: "+10%"}}
spec:
  indicator:
    metadata: {name: p95}
    spec: {thresholdMetric: {metricSource: {type: LoadClient, spec: {metric: latency_p95}}}}
  budgetingMethod: Occurrences
  objectives: [{op: lte, value: 1, target: 0.95}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: errors, annotations: {harness/baseline: "+0.02"}}
spec:
  indicator:
    metadata: {name: errors}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: LoadClient, spec: {outcome: expected}}}
        total: {metricSource: {type: LoadClient, spec: {}}}
  budgetingMethod: Occurrences
  objectives: [{target: 0.5}]
"#;

/// A run whose latencies are `scale` times those of a service that answers in 20 ms on average, all
/// its own by `seed`; every `fail`-th request fails.
fn run(seed: u64, scale: f64, fail: usize) -> Run {
    let mut run = Run::healthy();
    run.objectives = objective::parse(&[("slo.yaml".into(), P95.into())]).unwrap();
    run.facts.run_id = format!("r{seed}");
    let mut noise = Noise(seed * 7_919);
    let times: Vec<u64> = (0..2_000)
        .map(|_| ((0.01 + noise.exponential(0.01)) * scale * 1e9) as u64)
        .collect();
    run.each(|n, row| {
        row.done = Nanos(row.due.0 + times[n]);
        if fail > 0 && n % fail == 0 {
            row.outcome = Ended::UnexpectedStatus;
            row.status = Some(500);
        }
    });
    run
}

/// What is kept of this run for another with these objectives.
fn kept(run: &Run, wanted: &Run, place: usize) -> BaselineRun {
    let report = run.judged();
    let answers = run.answered();
    let record = run.record(&answers);
    let wanted = Wanted {
        scenario_sha256: &wanted.facts.scenario_sha256,
        files: &wanted.facts.context.files,
        run_id: &wanted.facts.run_id,
        service: &wanted.facts.service,
        objectives: &wanted.objectives,
    };
    let mut kept = baseline_run(&wanted, &record, &report, place);
    kept.dir = format!("runs/{}", run.facts.run_id);
    kept
}

fn against(mut now: Run, then: &[Run]) -> (Report, Run) {
    let runs = then.iter().enumerate();
    now.baselines = Some(Baselines {
        schema: BASELINE_SCHEMA.into(),
        runs: runs.map(|(place, run)| kept(run, &now, place)).collect(),
    });
    (now.judged(), now)
}

fn found<'a>(report: &'a Report, name: &str) -> &'a BaselineResult {
    let result = report.objectives.iter().find(|o| o.name == name).unwrap();
    assert_eq!(result.baseline.as_ref().unwrap().verdict, result.verdict);
    result.baseline.as_ref().unwrap()
}

#[test]
fn alike_passes_worse_fails_and_in_between_is_not_decided() {
    for (scale, verdict) in [
        (0.7, Verdict::Pass),
        (1.1, Verdict::Inconclusive),
        (1.5, Verdict::Fail),
    ] {
        let (report, _) = against(run(2, scale, 0), &[run(1, 1.0, 0)]);
        let found = found(&report, "p95");
        assert_eq!(found.verdict, verdict, "{scale}: {}", found.reason);
        assert!(found.reason.contains("block bootstrap"), "{}", found.reason);
    }
}

#[test]
fn without_the_criterion_the_worse_run_would_pass() {
    let mut worse = run(2, 1.5, 0);
    for objective in &mut worse.objectives {
        objective.baseline = None;
    }
    assert_eq!(worse.judged().verdict, Verdict::Pass);
    let (report, _) = against(run(2, 1.5, 0), &[run(1, 1.0, 0)]);
    assert_eq!(report.verdict, Verdict::Fail);
}

#[test]
fn shares_of_bad_events_are_compared() {
    let (report, _) = against(run(2, 0.8, 0), &[run(1, 1.0, 0)]);
    assert_eq!(found(&report, "errors").verdict, Verdict::Pass);
    let (report, _) = against(run(2, 0.8, 5), &[run(1, 1.0, 100)]);
    let errors = found(&report, "errors");
    assert_eq!(errors.verdict, Verdict::Fail, "{}", errors.reason);
}

/// The rate of good answers must not fall by a tenth.
const RATE: &str = r#"
apiVersion: openslo/v1
kind: SLO
metadata: {name: rate, annotations: {harness/baseline: "-10%"}}
spec:
  indicator:
    metadata: {name: rate}
    spec: {thresholdMetric: {metricSource: {type: LoadClient, spec: {metric: rate}}}}
  budgetingMethod: Occurrences
  objectives: [{op: gte, value: 1, target: 0.95}]
"#;

#[test]
fn a_rate_is_not_compared_by_rows_that_are_a_sample() {
    // Failures come by chance, so that seconds differ: a share of e^-rarity.
    let rated = |seed, rarity| {
        let mut run = run(seed, 1.0, 0);
        run.objectives = objective::parse(&[("slo.yaml".into(), RATE.into())]).unwrap();
        let mut noise = Noise(seed * 104_729);
        let drawn: Vec<f64> = (0..2_000).map(|_| noise.exponential(1.0)).collect();
        run.each(|n, row| {
            if drawn[n] > rarity {
                row.outcome = Ended::UnexpectedStatus;
                row.status = Some(500);
            }
        });
        run
    };
    let verdict = |most: u64| {
        let mut then = rated(1, 2.5);
        then.world = then.rows.clone();
        then.keep_rows(most);
        let (report, _) = against(rated(2, 0.6), &[then]);
        let rate = found(&report, "rate");
        (rate.verdict, rate.reason.clone())
    };
    let (whole, reason) = verdict(10_000);
    assert_eq!(whole, Verdict::Fail, "{reason}");
    // By its rows the earlier run had half the rate, too.
    let (sampled, reason) = verdict(700);
    assert_eq!(sampled, Verdict::Inconclusive, "{reason}");
    assert!(reason.contains("spec.record.rows"), "{reason}");
}

#[test]
fn a_sample_of_rows_makes_a_share_no_surer_than_the_rows_are() {
    let mut then = run(1, 1.0, 100);
    then.world = then.rows.clone();
    then.keep_rows(700);
    let kept = kept(&then, &run(2, 1.0, 100), 0);
    let rows = then.rows.len() as f64;
    let Figure::Share {
        bad,
        total,
        effective,
        ..
    } = kept.figures["errors"].figure
    else {
        panic!("{kept:?}");
    };
    assert_eq!((bad, total), (12, 1_200), "counted of all");
    assert!(effective * total as f64 <= rows, "{effective}");
}

#[test]
fn the_spread_between_runs_decides_where_there_are_several() {
    // Runs that lie far apart: a run as slow as the slowest of them is not told to be worse.
    let apart: Vec<Run> = [(1, 1.0), (2, 1.5), (3, 0.7)]
        .map(|(seed, scale)| run(seed, scale, 0))
        .into();
    let (report, _) = against(run(9, 1.5, 0), &apart);
    let apart = found(&report, "p95");
    assert_eq!(apart.verdict, Verdict::Inconclusive, "{}", apart.reason);
    assert!(
        apart.reason.contains("between 3 baseline runs"),
        "{}",
        apart.reason
    );
    let alike: Vec<Run> = (1..7).map(|seed| run(seed, 1.0, 0)).collect();
    let (report, _) = against(run(9, 1.5, 0), &alike);
    assert_eq!(found(&report, "p95").verdict, Verdict::Fail);
    let (report, _) = against(run(9, 0.8, 0), &alike);
    assert_eq!(found(&report, "p95").verdict, Verdict::Pass);
}

/// Each trap as `(what, how the baselines come about, words of the reason)`; the same run with a sound
/// baseline passes.
#[test]
fn a_baseline_that_cannot_be_used_is_never_a_pass() {
    type Spoil = fn(&mut Run);
    let traps: [(&str, Spoil, &str); 7] = [
        (
            "another scenario",
            |r| r.facts.scenario_sha256 = "f00".into(),
            "another scenario",
        ),
        (
            "other data",
            |r| {
                drop(
                    r.facts
                        .context
                        .files
                        .insert("documents.jsonl".into(), "f00".into()),
                )
            },
            "documents.jsonl is not the same file",
        ),
        (
            "another service",
            |r| r.facts.service = "other".into(),
            "another service",
        ),
        ("itself", |r| r.facts.run_id = "r2".into(), "this very run"),
        (
            "invalid",
            |r| r.each(|_, row| row.set_sent(row.sent().map(|_| Nanos(row.due.0 + 900_000_000)))),
            "invalid (late_sends)",
        ),
        (
            "other objectives",
            |r| r.objectives.truncate(1),
            "did not judge this objective",
        ),
        (
            "an objective of this name that measures something else",
            |r| {
                let other =
                    P95.replace("outcome: expected", "outcome: expected, latency: '<= 5ms'");
                r.objectives = objective::parse(&[("slo.yaml".into(), other)]).unwrap();
            },
            "measured something else",
        ),
    ];
    let (sound, _) = against(run(2, 0.8, 0), &[run(1, 1.0, 0)]);
    assert_eq!(sound.verdict, Verdict::Pass, "{:?}", sound.reasons);
    for (what, spoil, words) in traps {
        let mut then = run(1, 1.0, 0);
        spoil(&mut then);
        let (report, _) = against(run(2, 0.8, 0), &[then]);
        assert_eq!(
            report.verdict,
            Verdict::Inconclusive,
            "{what}: {:?}",
            report.reasons
        );
        let errors = found(&report, "errors");
        assert!(errors.reason.contains(words), "{what}: {}", errors.reason);
    }
}

#[test]
fn missing_baselines_and_twins_are_never_a_pass() {
    let none = run(2, 0.8, 0).judged();
    assert_eq!(none.verdict, Verdict::Inconclusive);
    assert!(found(&none, "p95").reason.contains("no baseline was given"));

    let (_, mut now) = against(run(2, 0.8, 0), &[run(1, 1.0, 0)]);
    let baselines = now.baselines.as_mut().unwrap();
    // The same run twice would show no spread at all.
    baselines.runs.push(baselines.runs[0].clone());
    let report = now.judged();
    assert!(found(&report, "p95").reason.contains("are the same run"));
    assert_eq!(report.verdict, Verdict::Inconclusive);

    let baselines = now.baselines.as_mut().unwrap();
    baselines.runs.truncate(1);
    baselines.runs.push(BaselineRun {
        dir: "runs/gone".into(),
        unusable: Some("there is no such directory".into()),
        ..BaselineRun::default()
    });
    let report = now.judged();
    assert!(found(&report, "p95").reason.contains("runs/gone"));
    assert_eq!(report.verdict, Verdict::Inconclusive);
    assert_eq!(report.baselines.len(), 2);
}

#[test]
fn what_was_kept_is_not_taken_for_another_objective_of_the_same_name() {
    // Judged later by other objectives: the median now would look fine beside the 95th percentile then.
    let (sound, mut now) = against(run(2, 0.8, 0), &[run(1, 1.0, 0)]);
    assert_eq!(sound.verdict, Verdict::Pass);
    let other = P95.replace("latency_p95", "latency_p50");
    now.objectives = objective::parse(&[("slo.yaml".into(), other)]).unwrap();
    let report = now.judged();
    let found = found(&report, "p95");
    assert_eq!(found.verdict, Verdict::Inconclusive, "{}", found.reason);
    assert!(
        found.reason.contains("measured something else"),
        "{}",
        found.reason
    );
}

#[test]
fn requests_without_an_answer_are_no_better_than_the_baseline() {
    let mut now = run(2, 0.8, 0);
    now.each(|n, row| {
        if n % 10 == 0 {
            row.outcome = Ended::Timeout;
            row.status = None;
        }
    });
    let (report, _) = against(now, &[run(1, 1.0, 0)]);
    assert_eq!(report.verdict, Verdict::Fail, "{:?}", report.reasons);
}

#[test]
fn what_was_kept_gives_the_same_judgement_again() {
    let (first, now) = against(run(2, 1.05, 3), &[run(1, 1.0, 4), run(3, 1.02, 4)]);
    let text = serde_json::to_string(now.baselines.as_ref().unwrap()).unwrap();
    let again: Baselines = serde_json::from_str(&text).unwrap();
    let answers = now.answered();
    let mut record = now.record(&answers);
    record.baselines = Some(&again);
    assert_eq!(judge(&record), first);
}

#[test]
fn values_without_noise_of_their_own_need_several_runs() {
    let value = |value| Figure::Value {
        value,
        why: "a backend's one value shows no noise within the run".into(),
    };
    let (now, then) = (
        value(1.0),
        [value(1.0), value(1.01), value(0.99), value(1.0)],
    );
    let criterion = objective::Baseline {
        allowance: Allowance::Relative(0.1),
        worse: Worse::Higher,
    };
    let one = compare(&now, &[&then[0]], &criterion, 0.95).unwrap_err();
    assert!(one.contains("needs several baseline runs"), "{one}");
    let all: Vec<&Figure> = then.iter().collect();
    let found = compare(&now, &all, &criterion, 0.95).unwrap();
    assert!(found.p_no_worse < 0.01, "{found:?}");
    // No spread is no knowledge of the noise, unless nothing differs at all.
    let still = [value(1.0), value(1.0), value(1.0)];
    let all: Vec<&Figure> = still.iter().collect();
    assert!(compare(&value(1.05), &all, &criterion, 0.95).is_err());
    assert_eq!(
        compare(&now, &all, &criterion, 0.95).unwrap().p_no_worse,
        0.0
    );
    let zero = [value(0.0), value(0.0)];
    let all: Vec<&Figure> = zero.iter().collect();
    let why = compare(&value(0.0), &all, &criterion, 0.95).unwrap_err();
    assert!(why.contains("absolute"), "{why}");
}

#[test]
fn less_is_worse_where_the_objective_says_so() {
    let value = |value| Figure::Value {
        value,
        why: String::new(),
    };
    let then = [value(40.0), value(40.5), value(39.5), value(40.2)];
    let all: Vec<&Figure> = then.iter().collect();
    let criterion = objective::Baseline {
        allowance: Allowance::Relative(0.1),
        worse: Worse::Lower,
    };
    let of = |v| compare(&value(v), &all, &criterion, 0.95).unwrap();
    assert!(of(41.0).p_no_worse < 0.01 && of(30.0).p_worse < 0.01);
    assert!(of(30.0).p_no_worse > 0.9);
}
