//! What is read from OpenSLO text, and how what is wrong in it is told.

use super::{Allowance, Baseline, Objective, Op, Warn, Worse, parse};

/// An SLO over the client's rows with these annotations.
fn ratio(annotations: &str) -> String {
    format!(
        "apiVersion: openslo/v1
kind: SLO
metadata:
  name: answers
  annotations: {{{annotations}}}
spec:
  service: s
  indicator:
    metadata: {{name: answers}}
    spec:
      ratioMetric:
        counter: true
        good: {{metricSource: {{type: LoadClient, spec: {{outcome: expected}}}}}}
        total: {{metricSource: {{type: LoadClient, spec: {{}}}}}}
  budgetingMethod: Occurrences
  objectives: [{{target: 0.99}}]
"
    )
}

fn threshold(annotations: &str) -> String {
    format!(
        "apiVersion: openslo/v1
kind: SLO
metadata:
  name: p99
  annotations: {{{annotations}}}
spec:
  service: s
  indicator:
    metadata: {{name: p99}}
    spec:
      thresholdMetric: {{metricSource: {{type: LoadClient, spec: {{metric: latency_p99}}}}}}
  budgetingMethod: Occurrences
  objectives: [{{op: lte, value: 0.25, target: 0.99}}]
"
    )
}

fn read(text: &str) -> Vec<Objective> {
    parse(&[("a.yaml".into(), text.into())]).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn refused(text: &str) -> String {
    parse(&[("a.yaml".into(), text.into())])
        .expect_err("is refused")
        .to_string()
}

#[test]
fn criteria_beside_the_target_are_read_as_values() {
    let slo = &read(&ratio(
        "harness/warn: \"0.995\", harness/baseline: \"+10%\"",
    ))[0];
    assert_eq!(slo.warn, Some(Warn::Share(0.995)));
    let baseline = Baseline {
        allowance: Allowance::Relative(0.1),
        worse: Worse::Higher,
    };
    assert_eq!(slo.baseline, Some(baseline));
    let slo = &read(&threshold(
        "harness/warn: \"<= 200ms\", harness/baseline: \"+5ms\"",
    ))[0];
    let op = Op::Lte;
    assert_eq!(slo.warn, Some(Warn::Limit { op, value: 0.2 }));
    assert_eq!(
        slo.baseline.map(|b| b.allowance),
        Some(Allowance::Absolute(0.005))
    );
    let plain = &read(&ratio(""))[0];
    assert_eq!((plain.warn, plain.baseline), (None, None));
}

#[test]
fn a_warning_that_is_no_stricter_is_told_with_its_place() {
    let told = refused(&ratio("harness/warn: \"0.98\""));
    assert_eq!(
        told,
        "a.yaml:5:31: metadata.annotations.harness/warn: 0.98 is not stricter than the target 0.99\n  \
         hint: a share above the target and below 1, such as \"0.995\" or \"99.5%\""
    );
    let told = refused(&threshold("harness/baseline: \"10%\""));
    assert!(told.contains("a.yaml:5:35"), "{told}");
    assert!(told.contains("`10%` cannot be read"), "{told}");
}
