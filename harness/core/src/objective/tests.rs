//! What is read from OpenSLO text, and how what is wrong in it is told.

use super::{
    Allowance, Baseline, Budgeting, Indicator, Metric, Objective, Op, Part, Warn, Worse, parse,
};
use crate::scenario::Dur;

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
fn times_of_a_stream_are_limits_and_quantiles() {
    use super::{ClientFigure, Time};
    let limited = |key: &str| {
        let text = ratio("").replace("{outcome: expected}", &format!("{{{key}: \"<= 80ms\"}}"));
        let Indicator::Ratio {
            part: Metric::Client(metric),
            ..
        } = read(&text).remove(0).indicator
        else {
            panic!("no ratio of the client's");
        };
        match metric.figure {
            ClientFigure::Count { limit, .. } => limit.map(|limit| limit.time),
            other => panic!("{other:?}"),
        }
    };
    let named = |name: &str| {
        let text = threshold("").replace("latency_p99", name);
        let Indicator::Threshold {
            metric: Metric::Client(metric),
            ..
        } = read(&text).remove(0).indicator
        else {
            panic!("no threshold of the client's");
        };
        match metric.figure {
            ClientFigure::Quantile { time, .. } => time,
            other => panic!("{other:?}"),
        }
    };
    for time in Time::ALL {
        assert_eq!(limited(time.name()), Some(time));
        assert_eq!(named(&format!("{}_p99", time.name())), time);
    }
    let told = refused(&threshold("").replace("latency_p99", "gap_p99"));
    assert!(told.contains("inter_event_p99"), "{told}");
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

/// A file in which one SLO reads what other documents define.
const REFERRING: &str = "
apiVersion: openslo/v1
kind: Service
metadata: {name: shop, labels: {team: [a, b]}}
spec: {description: Sells things.}
---
apiVersion: openslo/v1
kind: DataSource
metadata: {name: our-prometheus}
spec: {type: Prometheus, connectionDetails: {url: http://p}}
---
apiVersion: openslo/v1
kind: SLI
metadata: {name: served}
spec:
  ratioMetric:
    counter: true
    good: {metricSource: {metricSourceRef: our-prometheus, spec: {query: sum(ok_total)}}}
    total: {metricSource: {metricSourceRef: our-prometheus, type: Prometheus, spec: {query: sum(all_total)}}}
---
apiVersion: openslo/v1
kind: AlertNotificationTarget
metadata: {name: mail}
spec: {target: email}
---
apiVersion: openslo/v1
kind: AlertCondition
metadata: {name: fast}
spec:
  severity: page
  condition: {kind: burnrate, op: gte, threshold: 14.4, lookbackWindow: 1h, alertAfter: 0m}
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: page}
spec:
  alertWhenBreaching: true
  conditions: [{conditionRef: fast}]
  notificationTargets: [{targetRef: mail}, {targetRef: pager}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: served-slo}
spec:
  service: shop
  indicatorRef: served
  timeWindow: [{duration: 4w, isRolling: true}]
  budgetingMethod: Occurrences
  objectives:
    - {displayName: internal, op: gte, target: 0.99}
    - {displayName: promised, targetPercent: 95}
  alertPolicies: [{alertPolicyRef: page}]
";

#[test]
fn documents_refer_to_one_another_and_what_is_not_used_is_named() {
    let (objectives, notes) =
        super::parse_with_notes(&[("a.yaml".into(), REFERRING.into())]).unwrap();
    let names: Vec<&str> = objectives.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["served-slo/1", "served-slo/2"]);
    let Indicator::Ratio { part, target, .. } = &objectives[1].indicator else {
        panic!("{:?}", objectives[1].indicator);
    };
    assert_eq!(part, &Metric::Prometheus("sum(ok_total)".into()));
    assert_eq!(*target, 0.95);
    // The query's own place, in the SLI.
    let place = objectives[0].written.metric.as_ref().unwrap();
    assert_eq!((place.file.as_str(), place.line), ("a.yaml", 18));
    for said in [
        "a.yaml:4: Service `shop` is accepted and not used",
        "connectionDetails of DataSource `our-prometheus` is not used",
        "AlertNotificationTarget `mail` is accepted and not used",
        "AlertCondition `fast` is accepted and not used",
        "AlertPolicy `page` is accepted and not used",
        "alertPolicies of SLO `served-slo` are accepted and not used",
        "no AlertNotificationTarget named `pager` in these files",
        "`op: gte` of a ratio is not used",
    ] {
        assert!(notes.iter().any(|n| n.contains(said)), "{said}: {notes:#?}");
    }
    assert_eq!(notes.len(), 8, "{notes:#?}");
}

#[test]
fn what_is_wrong_is_refused_with_its_place_and_a_hint() {
    // What is changed in the file above, and what has to be said of it.
    let cases = [
        (
            "metricSourceRef: our-prometheus, spec",
            "metricSourceRef: theirs, spec",
            ":18:",
            "no DataSource named `theirs`",
        ),
        (
            "type: Prometheus, connection",
            "type: CloudWatch, connection",
            ":18:",
            "unknown source `CloudWatch`",
        ),
        (
            "metricSourceRef: our-prometheus, type: Prometheus",
            "metricSourceRef: our-prometheus, type: Loki",
            ":19:",
            "is of type Prometheus, and `type` says Loki",
        ),
        (
            "indicatorRef: served",
            "indicatorRef: sold",
            ":",
            "no SLI named `sold`",
        ),
        (
            "budgetingMethod: Occurrences",
            "budgetingMethod: Sometimes",
            ":",
            "unknown method `Sometimes`",
        ),
        (
            "  budgetingMethod: Occurrences\n",
            "",
            ":",
            "spec.budgetingMethod: is missing",
        ),
        (
            "budgetingMethod: Occurrences",
            "budgetingMethod: Timeslices",
            ":",
            "timeSliceWindow: is missing",
        ),
        ("target: 0.99}", "target: 1.0}", ":", "1 is out of range"),
        (
            "target: 0.99}",
            "target: 0.99, targetPercent: 99}",
            ":",
            "stands beside `target`",
        ),
        (
            "op: gte, target: 0.99",
            "op: lte, target: 0.99",
            ":",
            "has no meaning here",
        ),
        (
            "op: gte, target: 0.99",
            "value: 3, target: 0.99",
            ":",
            "has no meaning here",
        ),
        (
            "target: 0.99}",
            "target: 0.99, timeSliceTarget: 0.9}",
            ":",
            "has no meaning with Occurrences",
        ),
        (
            "target: 0.99}",
            "target: 0.99, compositeWeight: 2}",
            ":",
            "2 is not supported",
        ),
        (
            "target: 0.99}",
            "target: 0.99, indicatorRef: served}",
            ":",
            "stands beside the SLO's own",
        ),
        (
            "op: gte, threshold",
            "op: above, threshold",
            ":",
            "unknown operator `above`",
        ),
        (
            "lookbackWindow: 1h",
            "lookbackWindow: 90s",
            ":",
            "`90s` is no duration",
        ),
        (
            "kind: burnrate",
            "kind: flames",
            ":",
            "unknown kind `flames`",
        ),
        ("[{conditionRef: fast}]", "[]", ":", "has 0 entries"),
        (
            "[{conditionRef: fast}]",
            "[{}]",
            ":",
            "needs exactly one of `conditionRef` and `spec`",
        ),
        (
            "spec: {target: email}",
            "spec: {goal: email}",
            ":",
            "unknown field",
        ),
        (
            "metadata: {name: fast}",
            "metadata: {name: \"\"}",
            ":",
            "is empty",
        ),
        (
            "kind: Service",
            "kind: Servce",
            ":",
            "unknown kind `Servce`",
        ),
        (
            "labels: {team: [a, b]}",
            "labels: {team: {a: b}}",
            ":",
            "is neither a text nor a list of texts",
        ),
        (
            "counter: true\n    good:",
            "counter: true\n    bad: {metricSource: {type: Prometheus, spec: {query: x}}}\n    good:",
            ":",
            "exactly one of `good` and `bad`",
        ),
        (
            "    counter: true\n",
            "",
            ":",
            "ratioMetric.counter: is missing",
        ),
        (
            "query: sum(ok_total)",
            "qery: sum(ok_total)",
            ":",
            "unknown key `qery`",
        ),
    ];
    for (old, new, place, why) in cases {
        assert!(REFERRING.contains(old), "{old}");
        let told = refused(&REFERRING.replacen(old, new, 1));
        assert!(told.contains(why) && told.contains(place), "{new}: {told}");
        assert!(told.starts_with("a.yaml"), "{told}");
    }
}

fn sliced(method: &str, annotations: &str, entry: &str) -> String {
    ratio(annotations)
        .replace(
            "budgetingMethod: Occurrences",
            &format!("budgetingMethod: {method}"),
        )
        .replace("[{target: 0.99}]", &format!("[{{target: 0.9, {entry}}}]"))
}

#[test]
fn slices_are_read_with_their_length() {
    let of = |method: &str, annotations: &str, entry: &str| {
        read(&sliced(method, annotations, entry))[0].budgeting
    };
    let seconds = |n| Dur(std::time::Duration::from_secs(n));
    let slices = |slice, slice_target| Budgeting::Timeslices {
        slice: seconds(slice),
        slice_target,
        target: 0.9,
    };
    assert_eq!(
        of(
            "Timeslices",
            "",
            "timeSliceTarget: 0.95, timeSliceWindow: 1m"
        ),
        slices(60, 0.95)
    );
    // A number means minutes; the annotation knows seconds.
    assert_eq!(
        of("Timeslices", "", "timeSliceTarget: 1, timeSliceWindow: 5"),
        slices(300, 1.0)
    );
    assert_eq!(
        of(
            "Timeslices",
            "harness/slice: 5s",
            "timeSliceTarget: 0.95, timeSliceWindow: 1m"
        ),
        slices(5, 0.95)
    );
    assert_eq!(
        of("RatioTimeslices", "", "timeSliceWindow: 2h"),
        Budgeting::RatioTimeslices {
            slice: seconds(7200)
        }
    );
    for (method, annotations, entry, why) in [
        (
            "Timeslices",
            "",
            "timeSliceWindow: 1m",
            "timeSliceTarget: is missing",
        ),
        (
            "Timeslices",
            "",
            "timeSliceTarget: 0.9, timeSliceWindow: 10s",
            "is no length of time",
        ),
        (
            "Timeslices",
            "",
            "timeSliceTarget: 0.9, timeSliceWindow: 0m",
            "is no length of time",
        ),
        (
            "Timeslices",
            "",
            "timeSliceTarget: 1.5, timeSliceWindow: 1m",
            "1.5 is out of range",
        ),
        (
            "RatioTimeslices",
            "",
            "timeSliceTarget: 0.9, timeSliceWindow: 1m",
            "has no meaning with RatioTimeslices",
        ),
        (
            "Timeslices",
            "harness/slice: fast",
            "timeSliceTarget: 0.9, timeSliceWindow: 1m",
            "`fast` cannot be read",
        ),
        (
            "Occurrences",
            "harness/slice: 5s",
            "displayName: a",
            "has no meaning with Occurrences",
        ),
        (
            "Timeslices",
            "harness/baseline: \"+10%\"",
            "timeSliceTarget: 0.9, timeSliceWindow: 1m",
            "is not built for what is judged slice by slice",
        ),
    ] {
        let told = refused(&sliced(method, annotations, entry));
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn a_ratio_computed_elsewhere_has_its_share_for_a_limit() {
    let raw = |raw_type: &str| {
        let text = ratio("");
        let start = text.find("        counter").unwrap();
        let end = text.find("  budgetingMethod").unwrap();
        format!(
            "{}        rawType: {raw_type}\n        raw: {{metricSource: {{type: Prometheus, spec: {{query: r}}}}}}\n{}",
            &text[..start],
            &text[end..]
        )
    };
    let limit = |raw_type: &str| {
        let objective = read(&raw(raw_type)).remove(0);
        match objective.indicator {
            Indicator::Threshold { op, value, .. } => (objective.raw, op, value),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(limit("success"), (Some(Part::Good), Op::Gte, 0.99));
    assert_eq!(limit("failure"), (Some(Part::Bad), Op::Lte, 0.01));
    assert!(refused(&raw("sometimes")).contains("unknown type `sometimes`"));
}

#[test]
fn the_parts_of_a_composite_are_objectives_of_their_own() {
    let text = "apiVersion: openslo/v1
kind: SLO
metadata: {name: journey}
spec:
  budgetingMethod: Occurrences
  objectives:
    - target: 0.99
      indicator: {spec: {ratioMetric: {counter: true, good: {metricSource: {type: LoadClient, spec: {outcome: expected}}}, total: {metricSource: {type: LoadClient, spec: {}}}}}}
    - target: 0.95
      compositeWeight: 1
      indicator: {spec: {ratioMetric: {counter: true, good: {metricSource: {type: Prometheus, spec: {query: a}}}, total: {metricSource: {type: Prometheus, spec: {query: b}}}}}}
";
    let parts = read(text);
    let names: Vec<&str> = parts.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["journey/1", "journey/2"]);
    let without = text.replacen("      indicator", "      displayName: a\n      indicatr", 1);
    assert!(refused(&without).contains("unknown field"), "{without}");
}

#[test]
fn a_threshold_has_one_limit() {
    let two = threshold("").replace("[{op: lte", "[{op: lte, value: 1, target: 0.9}, {op: lte");
    assert!(refused(&two).contains("OpenSLO allows a thresholdMetric only one"));
}

#[test]
fn files_without_slos_need_one_beside_them() {
    let cut = REFERRING
        .find("---\napiVersion: openslo/v1\nkind: SLO")
        .unwrap();
    let (others, slo) = (REFERRING[..cut].to_owned(), REFERRING[cut..].to_owned());
    let files = [
        ("others.yaml".to_owned(), others),
        ("slo.yaml".to_owned(), slo),
    ];
    assert_eq!(parse(&files).unwrap().len(), 2);
    let told = parse(&files[..1]).unwrap_err().to_string();
    assert!(told.contains("others.yaml: holds no SLO"), "{told}");
}
