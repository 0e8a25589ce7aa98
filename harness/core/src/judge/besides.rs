//! What stands beside the targets: warn criteria, budgets, production's traffic, attempts, earlier runs.

use super::stat;
use super::testing::Run;
use crate::objective;
use crate::observation::Outcome;
use crate::query::Query;
use crate::record::context::{Attempt, Beside, Counted, EarlierAttempt, Production};
use crate::report::model::{Report, Verdict};
use crate::units::Nanos;

/// Of the client alone, so that only what is changed here decides.
fn slo(annotations: &str, target: f64) -> String {
    format!(
        "apiVersion: openslo/v1
kind: SLO
metadata: {{name: answers, annotations: {{{annotations}}}}}
spec:
  indicator:
    metadata: {{name: answers}}
    spec:
      ratioMetric:
        counter: true
        good: {{metricSource: {{type: LoadClient, spec: {{outcome: expected}}}}}}
        total: {{metricSource: {{type: LoadClient, spec: {{}}}}}}
  timeWindow: [{{duration: 28d, isRolling: true}}]
  budgetingMethod: Occurrences
  objectives: [{{target: {target}}}]
"
    )
}

/// 1,200 requests, of which every `fail`-th fails.
fn run(slo: &str, fail: usize) -> Run {
    let mut run = Run::healthy();
    run.objectives = objective::parse(&[("slo.yaml".into(), slo.into())]).unwrap();
    run.each(|n, row| {
        if fail > 0 && n % fail == 0 {
            row.outcome = Outcome::UnexpectedStatus;
            row.status = Some(500);
        }
    });
    run
}

fn strict(mut run: Run) -> Report {
    run.facts.context.strict = true;
    run.judged()
}

#[test]
fn a_missed_warn_criterion_warns_and_strict_fails_it() {
    // 24 of 1,200 bad: 98 %, surely over 95 % and surely under 99.5 %.
    let slo = slo("harness/warn: \"0.995\"", 0.95);
    let report = run(&slo, 50).judged();
    assert_eq!(
        (report.verdict, report.exit_code),
        (Verdict::Pass, 0),
        "{:?}",
        report.reasons
    );
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert!(
        report.warnings[0].contains("≥ 99.5 % is missed"),
        "{:?}",
        report.warnings
    );
    let report = strict(run(&slo, 50));
    assert_eq!((report.verdict, report.exit_code), (Verdict::Fail, 10));
    assert_eq!(report.reason_code.as_deref(), Some("strict_warning"));
    assert_eq!(report.objectives[0].verdict, Verdict::Pass);
}

#[test]
fn an_undecided_warn_criterion_is_no_warning_and_no_strict_pass() {
    // 6 of 1,200 bad: 99.5 % exactly.
    let slo = slo("harness/warn: \"0.995\"", 0.95);
    let report = run(&slo, 200).judged();
    assert_eq!(report.verdict, Verdict::Pass);
    assert!(report.warnings.is_empty());
    assert_eq!(
        report.objectives[0].warn.as_ref().unwrap().verdict,
        Verdict::Inconclusive
    );
    let report = strict(run(&slo, 200));
    assert_eq!(
        report.verdict,
        Verdict::Inconclusive,
        "{:?}",
        report.reasons
    );
    // With no bad one it is met.
    assert_eq!(strict(run(&slo, 0)).verdict, Verdict::Pass);
}

#[test]
fn warnings_of_advisory_objectives_and_of_missed_ones_do_not_count() {
    let required = slo("", 0.5).replace("name: answers", "name: other");
    let advisory = slo("harness/gate: advisory, harness/warn: \"0.995\"", 0.95);
    let report = strict(run(&format!("{required}---\n{advisory}"), 50));
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.reasons);
    assert_eq!(report.warnings.len(), 1);
    // A missed objective is told as missed, once.
    let report = run(&slo("harness/warn: \"0.995\"", 0.99), 20).judged();
    assert_eq!(report.verdict, Verdict::Fail);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
}

#[test]
fn a_warn_limit_of_a_quantile_is_judged_on_every_request() {
    let slo = "apiVersion: openslo/v1
kind: SLO
metadata: {name: p95, annotations: {harness/warn: \"<= 20ms\"}}
spec:
  indicator:
    metadata: {name: p95}
    spec: {thresholdMetric: {metricSource: {type: LoadClient, spec: {metric: latency_p95}}}}
  budgetingMethod: Occurrences
  objectives: [{op: lte, value: 1, target: 0.95}]
";
    let mut slow = run(slo, 0);
    assert!(slow.judged().warnings.is_empty());
    slow.each(|n, row| {
        if n % 10 == 0 {
            row.done = Nanos(row.due.0 + 50_000_000);
        }
    });
    let report = slow.judged();
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.reasons);
    assert_eq!(report.warnings.len(), 1, "{:?}", report.objectives[0].warn);
}

#[test]
fn budgets_burn_at_the_bad_share_over_what_may_be_bad() {
    // 2 % bad of 5 % that may be: 40 % of the budget.
    let mut burning = run(&slo("", 0.95), 50);
    let report = burning.judged();
    let budget = report.objectives[0].budget.as_ref().unwrap();
    assert!((budget.burn_rate - 0.4).abs() < 1e-9, "{budget:?}");
    assert!(
        budget.lower < 0.4 && 0.4 < budget.upper && budget.upper < 0.7,
        "{budget:?}"
    );
    assert_eq!(
        (budget.days_to_exhaustion, &budget.production),
        (None, &None)
    );
    // 5 % bad of 1 %: five times too fast, gone in 28 / 5 days.
    let report = run(&slo("", 0.99), 20).judged();
    let budget = report.objectives[0].budget.as_ref().unwrap();
    assert!(
        (budget.days_to_exhaustion.unwrap() - 5.6).abs() < 1e-9,
        "{budget:?}"
    );

    burning.facts.context.production = Some(Production::Rate(200.0));
    let report = burning.judged();
    let production = report.objectives[0]
        .budget
        .clone()
        .unwrap()
        .production
        .unwrap();
    let month = 200.0 * 28.0 * 86_400.0;
    assert!(
        (production.budget_events - 0.05 * month).abs() < 1.0,
        "{production:?}"
    );
    assert!(
        (production.bad_events - 0.02 * month).abs() < 1.0,
        "{production:?}"
    );
}

#[test]
fn production_that_is_not_known_is_said_and_never_a_zero() {
    const ASK: &str = "sum(rate(production_total[1d]))";
    let measured = |value: &'static str| {
        let mut run = run(&slo("", 0.95), 50);
        run.facts.context.production = Some(Production::Query(ASK.into()));
        run.tamper(move |query, answer| {
            if let Query::PromInstant { query, time } = query
                && query == ASK
            {
                // A backend answers with the instant that it was asked about.
                answer.body = value.replace("[1,", &format!("[{},", time.as_secs_f64()));
            }
        });
        run.judged()
    };
    let vector = |result: &str| {
        let body = format!(
            r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#
        );
        &*Box::leak(body.into_boxed_str())
    };
    let report = measured(vector(r#"{"metric":{},"value":[1,"250"]}"#));
    let production = report.objectives[0]
        .budget
        .clone()
        .unwrap()
        .production
        .unwrap();
    assert_eq!((production.rate, production.source.as_str()), (250.0, ASK));
    for nothing in [
        "",
        r#"{"metric":{},"value":[1,"0"]}"#,
        r#"{"metric":{},"value":[1,"NaN"]}"#,
    ] {
        let report = measured(vector(nothing));
        let budget = report.objectives[0].budget.clone().unwrap();
        assert_eq!(budget.production, None);
        assert!(
            report
                .notes
                .iter()
                .any(|n| n.contains("traffic is not known")),
            "{:?}",
            report.notes
        );
    }
}

fn earlier(verdict: Verdict, good: u64, total: u64) -> EarlierAttempt {
    let counted = Counted {
        good,
        total,
        unseen: 0,
    };
    EarlierAttempt {
        dir: "attempt-1".into(),
        run_id: "r0".into(),
        verdict,
        reason_code: None,
        counts: [("answers".to_owned(), counted)].into(),
    }
}

fn attempt(run: &mut Run, earlier: Vec<EarlierAttempt>) {
    run.facts.context.attempt = Some(Attempt {
        number: earlier.len() as u32 + 1,
        most: 3,
        earlier,
    });
}

#[test]
fn counts_of_inconclusive_attempts_are_added_up_and_no_others() {
    let mut second = run(&slo("", 0.99), 0);
    attempt(
        &mut second,
        vec![earlier(Verdict::Inconclusive, 1_180, 1_200)],
    );
    let report = second.judged();
    let result = &report.objectives[0];
    assert_eq!((result.good, result.samples), (Some(2_380), Some(2_400)));
    // On its own the second attempt passes; together they do not: nothing is picked.
    assert_eq!(report.verdict, Verdict::Inconclusive, "{}", result.reason);
    attempt(&mut second, vec![earlier(Verdict::Invalid, 0, 1_200)]);
    let report = second.judged();
    assert_eq!(report.objectives[0].samples, Some(1_200));
    assert_eq!(report.verdict, Verdict::Pass);
    assert!(!report.attempts.unwrap().earlier[0].pooled);
}

/// The slowest pace is that of one attempt: what it shows must not stand for the requests of others.
#[test]
fn counts_of_other_attempts_do_not_pass_by_this_ones_pace() {
    // A third slower from the middle on, and far from any limit: alone it passes by its slowest pace.
    let mut second = run(&slo("", 0.95), 0);
    let half = second.rows.len() / 2;
    second.each(|n, row| {
        let extra = if n < half { n % 3 } else { 4 + n % 3 };
        row.done = crate::units::Nanos(row.done.0 + extra as u64 * 1_000_000);
    });
    let report = second.judged();
    let alone = &report.objectives[0];
    assert_eq!(alone.verdict, Verdict::Pass, "{}", alone.reason);
    assert!(alone.reason.contains("slowest pace"), "{}", alone.reason);
    attempt(
        &mut second,
        vec![earlier(Verdict::Inconclusive, 1_200, 1_200)],
    );
    let report = second.judged();
    let pooled = &report.objectives[0];
    assert_eq!(pooled.verdict, Verdict::Inconclusive, "{}", pooled.reason);
    assert!(!pooled.reason.contains("slowest pace"), "{}", pooled.reason);
}

#[test]
fn every_look_is_judged_surer() {
    // 360 requests without a miss show 99 % at 95 %, and not at 98.33 %, which takes 408.
    let few = |most: u32| {
        let mut run = run(&slo("", 0.99), 0);
        let mut left = 0;
        run.rows.retain(|row| {
            left += usize::from(row.phase == crate::units::Phase::Measure);
            row.phase != crate::units::Phase::Measure || left <= 360
        });
        run.world = run.rows.clone();
        run.facts.generator.scheduled = run.rows.len() as u64;
        run.facts.context.attempt = (most > 1).then_some(Attempt {
            number: 1,
            most,
            earlier: Vec::new(),
        });
        run.judged()
    };
    assert_eq!(few(1).objectives[0].verdict, Verdict::Pass);
    let report = few(3);
    assert_eq!(report.objectives[0].verdict, Verdict::Inconclusive);
    assert!((report.objectives[0].confidence - (1.0 - 0.05 / 3.0)).abs() < 1e-12);
}

/// A service just short of the target, looked at up to three times with counts added up: passing it is
/// an error, and must be as rare as for one look. Without the correction it is not.
#[test]
fn patience_does_not_buy_a_pass() {
    let mut noise = crate::noise::dependence::tests::Noise(5);
    let (mut corrected, mut plain) = (0, 0);
    const RUNS: u32 = 1_500;
    for _ in 0..RUNS {
        let (mut good, mut total) = (0.0, 0.0);
        let (mut by_rule, mut by_patience) = (false, false);
        for _ in 0..3 {
            good += (0..300).filter(|_| noise.unit() < 0.95).count() as f64;
            total += 300.0;
            let p = stat::p_met(good, total, 0.95);
            by_rule |= p <= 0.05 / 3.0;
            by_patience |= p <= 0.05;
        }
        corrected += u32::from(by_rule);
        plain += u32::from(by_patience);
    }
    let share = |count: u32| f64::from(count) / f64::from(RUNS);
    assert!(share(corrected) <= 0.05, "{}", share(corrected));
    assert!(share(plain) > 0.06, "{}", share(plain));
}

#[test]
fn earlier_runs_of_the_same_build_are_named() {
    let mut run = run(&slo("", 0.95), 0);
    let beside = |dir: &str, run_id: Option<&str>, versions: &[&str]| Beside {
        dir: dir.into(),
        run_id: run_id.map(Into::into),
        started_at: None,
        versions: versions.iter().map(|v| (*v).to_owned()).collect(),
        verdict: run_id.map(|_| Verdict::Fail),
        reason_code: None,
    };
    run.facts.context.earlier = vec![
        beside("same", Some("r-same"), &["1.0"]),
        beside("other", Some("r-other"), &["0.9"]),
        beside("killed", None, &[]),
        beside("itself", Some("r1"), &["1.0"]),
    ];
    let told: Vec<_> = run
        .judged()
        .earlier
        .into_iter()
        .map(|run| (run.dir, run.same_build))
        .collect();
    assert_eq!(
        told,
        [
            ("same".to_owned(), Some(true)),
            ("other".to_owned(), Some(false)),
            ("killed".to_owned(), None),
        ]
    );
}
