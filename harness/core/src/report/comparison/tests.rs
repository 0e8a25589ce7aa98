//! A comparison in every form.

use super::super::model::{Bin, COMPARISON_SCHEMA, ComparedRun, Pair, Verdict};
use super::*;

fn run(label: &str, id: &str, shift: f64) -> ComparedRun {
    let bins = (0..24).map(|n| {
        let low = 0.002 * 1.3_f64.powi(n) * shift;
        Bin {
            low,
            high: low * 1.3,
            expected: u64::from(24 - n.unsigned_abs()) * 4,
            other: u64::from(n == 20),
            service_time: 0,
        }
    });
    ComparedRun {
        label: label.into(),
        dir: format!("runs/{id}"),
        run: id.into(),
        scenario: "quickstart".into(),
        scenario_sha256: "0f".repeat(32),
        started_at: "2026-11-22T15:30:12Z".into(),
        service: "classifier".into(),
        versions: vec!["1.0".into()],
        verdict: Verdict::Pass,
        requests: 1_200,
        seconds: 30.0,
        distribution: bins.collect(),
    }
}

fn delta(of: DeltaOf, name: &str, unit: &str, values: (f64, f64), says: Change) -> Delta {
    let relative = unit != "ratio";
    let change = match relative {
        true => values.1 / values.0 - 1.0,
        false => values.1 - values.0,
    };
    Delta {
        of,
        name: name.into(),
        unit: Some(unit.into()),
        base: Some(values.0),
        other: Some(values.1),
        relative,
        change: Some(change),
        lower: (says != Change::Unknown).then_some(change - 0.05),
        upper: (says != Change::Unknown).then_some(change + 0.05),
        says,
        note: "noise within the runs".into(),
    }
}

fn sample() -> Comparison {
    Comparison {
        schema: COMPARISON_SCHEMA.into(),
        comparable: true,
        not_comparable: Vec::new(),
        confidence: 0.95,
        runs: vec![run("A", "run-one", 1.0), run("B", "run-two", 1.0)],
        pairs: vec![Pair {
            base: "A".into(),
            other: "B".into(),
            deltas: vec![
                delta(DeltaOf::Latency, "p50", "s", (0.012, 0.0121), Change::Same),
                delta(DeltaOf::Latency, "p99", "s", (0.08, 0.12), Change::Worse),
                delta(
                    DeltaOf::Errors,
                    "bad",
                    "ratio",
                    (0.001, 0.002),
                    Change::Same,
                ),
                delta(
                    DeltaOf::Throughput,
                    "answers",
                    "1/s",
                    (40.0, 39.9),
                    Change::Same,
                ),
                delta(
                    DeltaOf::Objective,
                    "queue-fill",
                    "share",
                    (0.1, 0.2),
                    Change::Unknown,
                ),
            ],
        }],
    }
}

#[test]
fn every_form_shows_deltas_intervals_and_both_distributions() {
    let comparison = sample();
    insta::assert_snapshot!("terminal", comparison_terminal(&comparison, 100, false));
    insta::assert_snapshot!("markdown", comparison_markdown(&comparison));
    let page = comparison_html(&comparison);
    assert_eq!(page.matches("<path class=\"line c").count(), 4, "{page}");
    assert!(page.contains("+50.0 %") && !page.contains("<script") && !page.contains("http://"));
    let json: serde_json::Value = serde_json::from_str(&comparison_json(&comparison)).unwrap();
    let validator = jsonschema::validator_for(&comparison_schema()).unwrap();
    assert!(validator.is_valid(&json));
}

#[test]
fn runs_that_are_not_comparable_are_said_to_be_and_nothing_is_claimed() {
    let mut comparison = sample();
    comparison.comparable = false;
    comparison.not_comparable = vec!["A and B differ in rate: 40.0/s and 80.0/s".into()];
    for form in [
        comparison_terminal(&comparison, 80, false),
        comparison_markdown(&comparison),
        comparison_html(&comparison),
    ] {
        assert!(form.contains("not comparable"), "{form}");
        assert!(form.contains("differ in rate"), "{form}");
        assert!(!form.contains("worse"), "{form}");
    }
}

#[test]
fn outside_text_is_only_text_and_lines_keep_their_width() {
    let mut comparison = sample();
    let evil = "<script>alert(1)</script>\u{1b}[31m|`@everyone".to_owned() + &"y".repeat(900);
    comparison.runs[0].run.clone_from(&evil);
    comparison.runs[1].versions = vec![evil.clone()];
    comparison.pairs[0].deltas[4].name.clone_from(&evil);
    comparison.pairs[0].deltas[4].note.clone_from(&evil);
    comparison.not_comparable = vec![evil];
    let terminal = comparison_terminal(&comparison, 80, false);
    assert!(!terminal.contains('\u{1b}'));
    assert!(
        terminal.lines().all(|line| text::width(line) <= 80),
        "{terminal}"
    );
    assert!(!comparison_html(&comparison).contains("<script"));
    assert!(!comparison_markdown(&comparison).contains("<script"));
}
