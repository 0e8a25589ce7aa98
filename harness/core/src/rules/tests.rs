//! The rule file as a whole, and what cannot be exported.

use super::*;
use crate::objective::parse;

fn objectives(text: &str) -> Vec<Objective> {
    parse(&[("slo.yaml".into(), text.into())]).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// A ratio of Prometheus with this target, period and extra text in the annotations.
fn slo(name: &str, side: &str, query: &str, target: &str, window: &str) -> String {
    format!(
        "apiVersion: openslo/v1
kind: SLO
metadata: {{name: {name}}}
spec:
  service: doc-classifier
  indicator:
    metadata: {{name: {name}}}
    spec:
      ratioMetric:
        counter: true
        {side}: {{metricSource: {{type: Prometheus, spec: {{query: '{query}'}}}}}}
        total: {{metricSource: {{type: Prometheus, spec: {{query: 'sum(requests_total)'}}}}}}
  timeWindow: [{window}]
  budgetingMethod: Occurrences
  objectives: [{{displayName: served, target: {target}}}]
---
"
    )
}

const MONTH: &str = "{duration: 30d, isRolling: true}";

#[test]
fn the_shipped_objectives_are_exported() {
    let shipped = include_str!("../../../../slo/quickstart.yaml");
    let exported = rules(&objectives(shipped));
    assert_eq!(exported.exported, ["server-latency", "server-errors"]);
    insta::assert_snapshot!("quickstart", exported.yaml);
}

#[test]
fn every_objective_is_exported_or_named_with_its_reason() {
    let shipped = include_str!("../../../../slo/quickstart.yaml");
    let objectives = objectives(shipped);
    let exported = rules(&objectives);
    assert_eq!(
        exported.exported.len() + exported.left_out.len(),
        objectives.len()
    );
    let why = |name: &str| {
        let found = exported.left_out.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, why)| why.as_str())
    };
    assert!(why("latency").contains("load generator"));
    assert!(why("queue-wait").contains("Tempo"));
    assert!(why("queue-fill").contains("no error budget"));
}

#[test]
fn good_events_without_a_series_are_not_no_errors() {
    let exported = rules(&objectives(&slo(
        "a",
        "good",
        "sum(ok_total)",
        "0.99",
        MONTH,
    )));
    assert!(
        exported
            .yaml
            .contains("1 - (sum(rate(ok_total[5m])) or 0 * sum(rate(requests_total[5m]))) / sum(rate(requests_total[5m]))"),
        "{}",
        exported.yaml
    );
}

#[test]
fn an_alert_that_could_never_fire_is_left_out_and_said() {
    let exported = rules(&objectives(&slo(
        "a",
        "bad",
        "sum(bad_total)",
        "0.9",
        MONTH,
    )));
    assert!(
        exported
            .notes
            .iter()
            .any(|note| note.contains("over 5m and 1h"))
    );
    assert!(!exported.yaml.contains("14.4"));
    assert!(exported.yaml.contains("(6 * 0.1)"));
    // A period shorter than the long window.
    let short = "{duration: 1d, isRolling: true}";
    let exported = rules(&objectives(&slo(
        "a",
        "bad",
        "sum(bad_total)",
        "0.999",
        short,
    )));
    assert!(
        exported
            .notes
            .iter()
            .any(|note| note.contains("over 6h and 3d"))
    );
}

#[test]
fn without_a_period_there_is_nothing_to_alert_on() {
    let exported = rules(&objectives(&slo("a", "bad", "sum(bad_total)", "0.9", "")));
    assert!(exported.left_out[0].1.contains("timeWindow"));
    assert!(exported.yaml.ends_with("groups: []\n"));
    let exported = rules(&objectives(&slo(
        "a",
        "bad",
        "max(bad_total)",
        "0.9",
        MONTH,
    )));
    assert!(
        exported.left_out[0].1.contains("max(bad_total)"),
        "{exported:?}"
    );
}

#[test]
fn a_budget_of_slices_is_no_budget_of_events() {
    let events = slo("served", "good", "sum(ok_total)", "0.99", MONTH);
    let slices = events.replace("Occurrences", "Timeslices").replace(
        "target: 0.99",
        "target: 0.99, timeSliceTarget: 0.9, timeSliceWindow: 1m",
    );
    assert_eq!(rules(&objectives(&events)).exported, ["served"]);
    let exported = rules(&objectives(&slices));
    assert_eq!(exported.exported, [""; 0]);
    assert!(exported.left_out[0].1.contains("slices of time"));
}
