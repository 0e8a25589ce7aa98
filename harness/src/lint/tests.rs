//! Each warning has a case in which it is given and one in which it is not.

use std::collections::BTreeSet;

use harness_core::objective::{self, Objective};
use harness_core::scenario::Scenario;

use super::*;

/// An SLO with this indicator, annotations and entry of `objectives`.
fn slo(annotations: &str, indicator: &str, target: &str) -> Objective {
    let text = format!(
        "apiVersion: openslo/v1\nkind: SLO\nmetadata: {{name: it, annotations: {{{annotations}}}}}\nspec:\n  indicator:\n    spec:\n      {indicator}\n  budgetingMethod: Occurrences\n  objectives: [{{{target}}}]\n"
    );
    let mut all = objective::parse(&[("it.yaml".into(), text.clone())])
        .unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
    all.remove(0)
}

fn quoted(query: &str) -> String {
    format!("'{}'", query.replace('\'', "''"))
}

fn source(kind: &str, query: &str) -> String {
    format!(
        "{{metricSource: {{type: {kind}, spec: {{query: {}}}}}}}",
        quoted(query)
    )
}

fn ratio(kind: &str, counter: bool, part: (&str, &str), total: &str) -> Objective {
    ratio_with("", kind, counter, part, total)
}

fn ratio_with(
    annotations: &str,
    kind: &str,
    counter: bool,
    (which, part): (&str, &str),
    total: &str,
) -> Objective {
    let indicator = format!(
        "ratioMetric: {{counter: {counter}, {which}: {}, total: {}}}",
        source(kind, part),
        source(kind, total)
    );
    slo(annotations, &indicator, "target: 0.99")
}

fn threshold(kind: &str, query: &str) -> Objective {
    threshold_with(
        "harness/empty-as: \"0\"",
        kind,
        query,
        "op: lte, value: 5, target: 0.99",
    )
}

fn threshold_with(annotations: &str, kind: &str, query: &str, target: &str) -> Objective {
    let indicator = format!("thresholdMetric: {}", source(kind, query));
    slo(annotations, &indicator, target)
}

fn client(annotations: &str, good: &str, target: &str) -> Objective {
    let indicator = format!(
        "ratioMetric: {{counter: true, good: {{metricSource: {{type: LoadClient, spec: {{{good}}}}}}}, total: {{metricSource: {{type: LoadClient, spec: {{}}}}}}}}"
    );
    slo(annotations, &indicator, target)
}

/// A scenario of 40/s for 30 s, scraped every 5 s.
fn scenario() -> Scenario {
    let text = "apiVersion: harness/v1
kind: Scenario
metadata: {name: it}
spec:
  seed: 1
  target: {url: \"http://127.0.0.1:1\"}
  telemetry: {embedded: {scrape: [{job: it, every: 5s, url: \"http://127.0.0.1:1/metrics\"}]}}
  requests: [{name: one, method: GET, path: /}]
  loads: [{name: l, mix: {one: 1}, executor: constant-arrival-rate, stages: [{phase: measure, rate: 40/s, for: 30s}]}]
";
    Scenario::parse(text, "it.yaml").unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// Names of the warnings on an objective, under the scenario.
fn ids(objective: &Objective) -> BTreeSet<&'static str> {
    let scenario = scenario();
    let context = Context {
        scenario: Some(&scenario),
    };
    let mut all = lint(objective, context);
    all.extend(load(objective, &scenario));
    all.iter().map(|warning| warning.id.name()).collect()
}

#[test]
fn each_warning_is_given_where_it_belongs_and_nowhere_else() {
    let count = "sum(requests_total{job=\"a\"})";
    let bad = "sum(requests_total{job=\"a\", code=~\"5..\"})";
    let guarded = &format!("{bad} or 0 * {count}");
    let p = "Prometheus";
    let spans = "{name=\"queue\"} | count_over_time()";
    // Name, where it is given, where it is not.
    let cases: Vec<(&str, Objective, Objective)> = vec![
        (
            "counter-rate",
            ratio(p, true, ("good", "sum(rate(ok_total[1m]))"), count),
            ratio(p, true, ("good", "sum(ok_total)"), count),
        ),
        (
            "empty-bad",
            ratio(p, true, ("bad", bad), count),
            ratio(p, true, ("bad", guarded), count),
        ),
        (
            "empty-bad",
            threshold_with(
                "",
                "Loki",
                "sum(count_over_time({a=\"b\"} [$window]))",
                "op: lte, value: 0, target: 0.99",
            ),
            threshold("Loki", "sum(count_over_time({a=\"b\"} [$window]))"),
        ),
        (
            "empty-bad",
            ratio(
                "Tempo",
                false,
                (
                    "bad",
                    "{name=\"queue\" && status=error} | count_over_time()",
                ),
                spans,
            ),
            ratio(
                "Tempo",
                false,
                ("good", "{name=\"queue\" && status=ok} | count_over_time()"),
                spans,
            ),
        ),
        (
            "loki-error-dropped",
            threshold(
                "Loki",
                "sum(count_over_time({a=\"b\"} | json | __error__=\"\" [$window]))",
            ),
            threshold(
                "Loki",
                "sum(count_over_time({a=\"b\"} | json | __error__!=\"\" [$window]))",
            ),
        ),
        (
            "loki-parser-error",
            threshold(
                "Loki",
                "sum(count_over_time({a=\"b\"} | json | level=\"error\" [$window]))",
            ),
            // The same word in a filter's text is no parser.
            threshold(
                "Loki",
                "sum(count_over_time({a=\"b\"} |= \"| json\" [$window]))",
            ),
        ),
        (
            "loki-parser-error",
            threshold(
                "Loki",
                "sum(sum_over_time({a=\"b\"} | unwrap took [$window]))",
            ),
            threshold(
                "Loki",
                "sum(sum_over_time({a=\"b\"} | unwrap took | __error__=\"\" [$window]))",
            ),
        ),
        (
            "many-series",
            ratio(p, true, ("good", "ok_total"), count),
            ratio(
                p,
                true,
                ("good", "sum without () (ok_total) * 0 + sum(ok_total)"),
                count,
            ),
        ),
        (
            "many-series",
            threshold("Loki", "count_over_time({a=\"b\"} [$window])"),
            threshold("Loki", "sum(count_over_time({a=\"b\"} [$window]))"),
        ),
        (
            "many-series",
            threshold("Tempo", "{} | count_over_time() by (name)"),
            threshold("Tempo", "{} | count_over_time()"),
        ),
        (
            "never-fails",
            client("", "outcome: expected", "target: 0"),
            client("", "outcome: expected", "target: 0.5"),
        ),
        (
            "never-fails",
            threshold_with(
                "",
                "Loki",
                "sum(count_over_time({a=\"b\"} [$window]))",
                "op: gte, value: 0, target: 0.99",
            ),
            threshold_with(
                "",
                "Loki",
                "sum(count_over_time({a=\"b\"} [$window]))",
                "op: gte, value: 1, target: 0.99",
            ),
        ),
        (
            "never-fails",
            ratio(p, true, ("good", count), count),
            ratio(p, true, ("good", "sum(ok_total)"), count),
        ),
        (
            "never-passes",
            ratio(p, true, ("bad", count), count),
            ratio(p, true, ("bad", guarded), count),
        ),
        (
            "never-passes",
            threshold_with(
                "harness/empty-as: \"0\"",
                "Loki",
                "sum(count_over_time({a=\"b\"} [$window]))",
                "op: lt, value: 0, target: 0.99",
            ),
            threshold("Loki", "sum(count_over_time({a=\"b\"} [$window]))"),
        ),
        (
            "no-le",
            threshold(
                p,
                "histogram_quantile(0.99, sum(rate(took_seconds_bucket[$window])))",
            ),
            threshold(
                p,
                "histogram_quantile(0.99, sum by (le) (rate(took_seconds_bucket[$window])))",
            ),
        ),
        (
            // Native histograms have no `le`.
            "no-le",
            threshold(
                p,
                "histogram_quantile(0.99, sum by (job) (rate(took_seconds_bucket[$window])))",
            ),
            threshold(
                p,
                "histogram_quantile(0.99, sum(rate(took_seconds[$window])))",
            ),
        ),
        (
            "not-a-metric",
            threshold("Loki", "{a=\"b\"} |= \"ERROR\""),
            threshold(
                "Loki",
                "sum(count_over_time({a=\"b\"} |= \"ERROR\" [$window]))",
            ),
        ),
        (
            "one-instant",
            threshold(p, "max(queue_depth)"),
            threshold(p, "max_over_time(max(queue_depth)[$window:1s])"),
        ),
        (
            "or-vector",
            ratio(p, true, ("bad", &format!("{bad} or vector(0)")), count),
            ratio(p, true, ("bad", guarded), count),
        ),
        (
            "or-vector",
            threshold(
                "Loki",
                "sum(count_over_time({a=\"b\"} [$window])) or vector(0)",
            ),
            threshold(
                "Loki",
                "sum(count_over_time({a=\"b\"} |= \"or vector(0)\" [$window]))",
            ),
        ),
        (
            "run-id-label",
            ratio(p, true, ("good", "sum(ok_total{test_run_id=\"7\"})"), count),
            ratio(p, true, ("good", "sum(ok_total{job=\"run_id\"})"), count),
        ),
        (
            "run-id-label",
            threshold(
                "Loki",
                "sum(count_over_time({a=\"b\"} | run_id=\"7\" [$window]))",
            ),
            threshold(
                "Loki",
                "sum(count_over_time({a=\"b\"} |= \"run_id\" [$window]))",
            ),
        ),
        (
            "run-id-label",
            threshold("Tempo", "{span.harness.run.id=\"7\"} | count_over_time()"),
            threshold("Tempo", "{name=\"run.id\"} | count_over_time()"),
        ),
        (
            "short-rate-window",
            threshold(p, "max_over_time(sum(rate(ok_total[15s]))[$window:1s])"),
            threshold(p, "max_over_time(sum(rate(ok_total[20s]))[$window:1s])"),
        ),
        (
            "tempo-quantile",
            threshold(
                "Tempo",
                "{name=\"queue\"} | quantile_over_time(duration, .99)",
            ),
            threshold("Tempo", "{name=\"quantile_over_time\"} | count_over_time()"),
        ),
        (
            "tempo-search",
            threshold("Tempo", "{name=\"queue\"}"),
            threshold("Tempo", spans),
        ),
        (
            "undecidable",
            client("", "outcome: expected", "target: 0.999"),
            client("", "outcome: expected", "target: 0.99"),
        ),
        (
            "undecidable",
            client(
                "harness/min-samples: \"5000\"",
                "outcome: expected",
                "target: 0.99",
            ),
            client(
                "harness/min-samples: \"1000\"",
                "outcome: expected",
                "target: 0.99",
            ),
        ),
        (
            "unparsed",
            threshold(p, "sum(("),
            threshold(p, "sum(increase(x[$window]))"),
        ),
        (
            "unparsed",
            threshold("Loki", "sum(count_over_time({a=\"b\"} [$window])"),
            threshold("Loki", "sum(count_over_time({a=\"b\"} [$window]))"),
        ),
        (
            "unparsed",
            threshold("Tempo", "{name=} | count_over_time()"),
            threshold("Tempo", spans),
        ),
        (
            "window-mismatch",
            threshold(p, "sum(increase(errors_total[5m]))"),
            threshold(p, "sum(increase(errors_total[$window]))"),
        ),
        (
            "window-mismatch",
            threshold("Loki", "sum(count_over_time({a=\"b\"} [5m]))"),
            threshold("Loki", "sum(count_over_time({a=\"b\"} [$window]))"),
        ),
    ];
    for (id, fires, does_not) in &cases {
        let given = ids(fires);
        assert!(
            given.contains(id),
            "{id} is not given: {given:?} for {:?}",
            fires.indicator
        );
        let given = ids(does_not);
        assert!(
            !given.contains(id),
            "{id} is given: {given:?} for {:?}",
            does_not.indicator
        );
    }
    let covered: BTreeSet<&str> = cases.iter().map(|(id, ..)| *id).collect();
    let missing: Vec<&str> = Id::ALL
        .iter()
        .map(|id| id.name())
        .filter(|id| !covered.contains(id))
        .collect();
    // Both have tests of their own: one needs slices, the other a run.
    assert_eq!(missing, ["slice-rest", "unseen-selector"]);
}

#[test]
fn slices_have_to_fit_into_the_measured_phase() {
    let sliced = |slice: &str, target: &str| {
        let text = format!(
            "apiVersion: openslo/v1\nkind: SLO\nmetadata: {{name: it, annotations: {{harness/slice: {slice}}}}}\nspec:\n  indicator:\n    spec:\n      ratioMetric: {{counter: true, good: {{metricSource: {{type: LoadClient, spec: {{outcome: expected}}}}}}, total: {{metricSource: {{type: LoadClient, spec: {{}}}}}}}}\n  budgetingMethod: Timeslices\n  objectives: [{{target: {target}, timeSliceTarget: 0.9, timeSliceWindow: 1m}}]\n"
        );
        ids(&objective::parse(&[("it.yaml".into(), text)])
            .unwrap_or_else(|wrong| panic!("{wrong}"))[0])
    };
    // 30 s hold four slices of 7 s and a rest, none of 60 s, and 300 of 100 ms: 299 show 99 %.
    assert!(sliced("7s", "0.1").contains("slice-rest"));
    assert!(!sliced("10s", "0.1").contains("slice-rest"));
    assert!(sliced("1m", "0.1").contains("undecidable"));
    assert!(sliced("1s", "0.99").contains("undecidable"));
    assert!(!sliced("100ms", "0.99").contains("undecidable"));
}

#[test]
fn a_warning_says_where_it_is_and_what_is_better() {
    let objective = ratio(
        "Prometheus",
        true,
        ("bad", "sum(e_total{code=\"5\"})"),
        "sum(e_total)",
    );
    let warnings = lint(&objective, Context::default());
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let text = warnings[0].to_string();
    assert!(text.starts_with("it.yaml:7:"), "{text}");
    assert!(text.contains("warning[empty-bad]: it: "), "{text}");
    assert!(
        text.ends_with("better: sum(e_total{code=\"5\"}) or 0 * sum(e_total)"),
        "{text}"
    );
}

#[test]
fn the_document_of_warnings_is_in_step() {
    let text = include_str!("../../../docs/LINTS.md");
    let documented: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'))
        .collect();
    let names: Vec<&str> = Id::ALL.iter().map(|id| id.name()).collect();
    assert_eq!(documented, names);
}
