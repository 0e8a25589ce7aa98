//! Budgets of time, on the synthetic run: right where all is well, and no pass out of missing slices.

use serde_json::{Value, json};

use super::testing::Run;
use crate::objective;
use crate::observation::Outcome;
use crate::query::Query;
use crate::report::model::{ObjectiveResult, Verdict};

/// The run with one sliced SLO; the measured phase is 30 s of 40 requests a second.
fn run(indicator: &str, method: &str, slice: &str, entry: &str) -> Run {
    let slo = format!(
        "apiVersion: openslo/v1
kind: SLO
metadata: {{name: it, annotations: {{harness/slice: {slice}, harness/signal: latency}}}}
spec:
  indicator: {{spec: {indicator}}}
  budgetingMethod: {method}
  objectives: [{{timeSliceWindow: 1m, {entry}}}]
"
    );
    let mut run = Run::healthy();
    run.objectives = objective::parse(&[("it.yaml".into(), slo)]).unwrap_or_else(|w| panic!("{w}"));
    run
}

fn result(run: &Run) -> ObjectiveResult {
    run.judged().objectives.remove(0)
}

const CLIENT: &str = "{ratioMetric: {counter: true, good: {metricSource: {type: LoadClient, spec: {outcome: expected}}}, total: {metricSource: {type: LoadClient, spec: {}}}}}";
const COUNTERS: &str = "{ratioMetric: {counter: true, good: {metricSource: {type: Prometheus, spec: {query: 'sum(x_bucket)'}}}, total: {metricSource: {type: Prometheus, spec: {query: 'sum(x_count)'}}}}}";

#[test]
fn a_slice_is_good_when_enough_of_its_requests_are() {
    // 60 slices of 20 requests. Two bad ones in one slice spoil it, one each in two slices spoils none.
    let verdict = |bad: &'static [usize], target: &str| {
        let entry = format!("target: {target}, timeSliceTarget: 0.95");
        let mut run = run(CLIENT, "Timeslices", "500ms", &entry);
        run.each(|n, row| {
            if bad.contains(&n) {
                row.outcome = Outcome::WrongAnswer;
            }
        });
        let found = result(&run);
        assert_eq!(found.samples, Some(60), "{}", found.reason);
        (found.good, found.verdict)
    };
    assert_eq!(verdict(&[], "0.95"), (Some(60), Verdict::Pass));
    assert_eq!(verdict(&[0, 25], "0.95"), (Some(60), Verdict::Pass));
    assert_eq!(verdict(&[0, 1], "0.95"), (Some(59), Verdict::Inconclusive));
    // Ten slices of sixty are bad: not 95 %, at 95 % confidence.
    const TEN: &[usize] = &[
        0, 1, 20, 21, 40, 41, 60, 61, 80, 81, 100, 101, 120, 121, 140, 141, 160, 161, 180, 181,
    ];
    assert_eq!(verdict(TEN, "0.95"), (Some(50), Verdict::Fail));
}

#[test]
fn a_slice_without_a_request_is_no_good_slice() {
    // All requests of the last ten slices are another kind: of ours there is nothing to judge.
    let mut run = run(
        CLIENT,
        "Timeslices",
        "500ms",
        "target: 0.95, timeSliceTarget: 0.95",
    );
    run.rows.retain(|row| row.due.0 < 30_000_000_000);
    run.world = run.rows.clone();
    let found = result(&run);
    assert_eq!(found.verdict, Verdict::Inconclusive);
    assert!(
        found
            .reason
            .contains("10 of them hold no evidence (no event)"),
        "{}",
        found.reason
    );
    // Whether the fifty were good or bad, ten could still turn it.
    assert_eq!(found.samples, None, "{}", found.reason);
}

#[test]
fn a_rest_belongs_to_no_slice_and_is_told() {
    let run = run(
        CLIENT,
        "Timeslices",
        "7s",
        "target: 0.1, timeSliceTarget: 0.95",
    );
    let found = result(&run);
    assert_eq!(found.samples, Some(4));
    assert!(
        found.reason.contains("the last 2s belong to none"),
        "{}",
        found.reason
    );
    let run = self::run(
        CLIENT,
        "Timeslices",
        "31s",
        "target: 0.1, timeSliceTarget: 0.95",
    );
    let found = result(&run);
    assert_eq!(found.verdict, Verdict::Inconclusive);
    assert!(
        found.reason.contains("shorter than one slice"),
        "{}",
        found.reason
    );
}

#[test]
fn counters_are_cut_at_scrapes() {
    let entry = "target: 0.5, timeSliceTarget: 0.95";
    let found = result(&run(COUNTERS, "Timeslices", "3s", entry));
    assert_eq!(
        (found.good, found.samples),
        (Some(10), Some(10)),
        "{}",
        found.reason
    );
    assert_eq!(found.verdict, Verdict::Pass);
    // From the third slice on every tenth request is slow.
    let entry = "target: 0.7, timeSliceTarget: 0.95";
    let mut slow = run(COUNTERS, "Timeslices", "3s", entry);
    slow.each(|n, row| {
        if n >= 280 && n.is_multiple_of(10) {
            row.done.0 += 300_000_000;
        }
    });
    let found = result(&slow);
    assert!(found.good < Some(4), "{}", found.reason);
    assert_eq!(found.verdict, Verdict::Fail, "{}", found.reason);
    // Slices shorter than scrapes say nothing.
    let found = result(&run(COUNTERS, "Timeslices", "1500ms", entry));
    assert_eq!(found.verdict, Verdict::Inconclusive);
    assert!(
        found.reason.contains("shorter than two scrapes"),
        "{}",
        found.reason
    );
}

#[test]
fn boundaries_without_a_value_are_not_filled_in() {
    let mut run = run(
        COUNTERS,
        "Timeslices",
        "3s",
        "target: 0.5, timeSliceTarget: 0.95",
    );
    run.tamper(|query, answer| {
        if let Query::PromRange { step_ms: 3_000, .. } = query {
            let mut body: Value = serde_json::from_str(&answer.body).unwrap();
            let values = body["data"]["result"][0]["values"].as_array_mut().unwrap();
            values.drain(2..9);
            answer.body = body.to_string();
        }
    });
    let found = result(&run);
    assert_eq!(found.verdict, Verdict::Inconclusive, "{}", found.reason);
    assert!(
        found.reason.contains("8 of them hold no evidence"),
        "{}",
        found.reason
    );
}

#[test]
fn a_counter_that_fell_makes_its_slice_unknown() {
    let mut run = run(
        COUNTERS,
        "Timeslices",
        "3s",
        "target: 0.8, timeSliceTarget: 0.95",
    );
    run.tamper(|query, answer| {
        if let Query::PromRange { step_ms: 3_000, .. } = query {
            let mut body: Value = serde_json::from_str(&answer.body).unwrap();
            body["data"]["result"][0]["values"][5][1] = json!("0");
            answer.body = body.to_string();
        }
    });
    let found = result(&run);
    assert_eq!(found.verdict, Verdict::Inconclusive, "{}", found.reason);
    assert!(
        found.reason.contains("the counter fell"),
        "{}",
        found.reason
    );
}

#[test]
fn the_mean_of_ratios_weighs_slices_alike() {
    // Ten slices of 120 requests, in each six of them bad, far from one another: 95 % on average.
    let found = |target: &str| {
        let mut run = run(
            CLIENT,
            "RatioTimeslices",
            "3s",
            &format!("target: {target}"),
        );
        run.each(|n, row| {
            if n.is_multiple_of(20) {
                row.outcome = Outcome::WrongAnswer;
            }
        });
        result(&run)
    };
    let met = found("0.93");
    assert_eq!(
        (met.verdict, met.samples),
        (Verdict::Pass, Some(1_200)),
        "{}",
        met.reason
    );
    assert!(
        met.reason.contains("mean of 10 slices of 3s: 95.0000 %"),
        "{}",
        met.reason
    );
    assert_eq!(found("0.97").verdict, Verdict::Fail);
    assert_eq!(found("0.951").verdict, Verdict::Inconclusive);
    // A slice with few requests weighs as much as one with many, and makes the mean less sure.
    let mut thin = run(CLIENT, "RatioTimeslices", "15s", "target: 0.9");
    let mut n = 0;
    thin.rows.retain(|row| {
        n += usize::from(row.due.0 >= 20_000_000_000);
        row.due.0 < 20_000_000_000 || n % 60 == 1
    });
    thin.world = thin.rows.clone();
    let found = result(&thin);
    // 600 and 10 requests: 4 / (1/600 + 1/10) = 39.
    assert_eq!(found.samples, Some(39), "{}", found.reason);
}

#[test]
fn a_threshold_holds_in_a_slice_or_does_not() {
    const GAUGE: &str = "{thresholdMetric: {metricSource: {type: Prometheus, spec: {query: 'max_over_time(max(g)[$window:1s])'}}}}";
    let entry = |limit: &str| format!("op: lte, value: {limit}, target: 0.5");
    let found = result(&run(GAUGE, "Timeslices", "3s", &entry("0.2")));
    assert_eq!(
        (found.good, found.samples),
        (Some(10), Some(10)),
        "{}",
        found.reason
    );
    assert_eq!((found.verdict, found.target), (Verdict::Pass, Some(0.5)));
    let found = result(&run(GAUGE, "Timeslices", "3s", &entry("0.1")));
    assert_eq!(
        (found.good, found.verdict),
        (Some(0), Verdict::Fail),
        "{}",
        found.reason
    );
    const RATE: &str =
        "{thresholdMetric: {metricSource: {type: LoadClient, spec: {metric: rate}}}}";
    let found = result(&run(
        RATE,
        "Timeslices",
        "3s",
        "op: gte, value: 39, target: 0.5",
    ));
    assert_eq!(found.good, Some(10), "{}", found.reason);
}

#[test]
fn a_ratio_computed_elsewhere_is_a_share_or_nothing() {
    const RAW: &str = "{ratioMetric: {rawType: success, raw: {metricSource: {type: Prometheus, spec: {query: 'avg_over_time(r[$window])'}}}}}";
    let slo = format!(
        "apiVersion: openslo/v1\nkind: SLO\nmetadata: {{name: it}}\nspec:\n  indicator: {{spec: {RAW}}}\n  budgetingMethod: Occurrences\n  objectives: [{{target: 0.99}}]\n"
    );
    let verdict = |value: &'static str| {
        let mut run = Run::healthy();
        run.objectives = objective::parse(&[("it.yaml".into(), slo.clone())]).unwrap();
        run.tamper(move |query, answer| {
            if let Query::PromInstant { query, time } = query
                && query.starts_with("avg_over_time(r[")
            {
                answer.body = json!({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [time.as_secs_f64(), value]}]}}).to_string();
            }
        });
        result(&run)
    };
    let met = verdict("0.995");
    assert_eq!(met.verdict, Verdict::Pass, "{}", met.reason);
    assert_eq!(verdict("0.98").verdict, Verdict::Fail);
    // In per cent, any service would pass.
    let percent = verdict("12.5");
    assert_eq!(percent.verdict, Verdict::Inconclusive);
    assert!(
        percent.reason.contains("is it in per cent?"),
        "{}",
        percent.reason
    );
}
