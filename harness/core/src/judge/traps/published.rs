//! Traps that were published of other tools, each rebuilt from its report.

use super::metrics::only;
use super::statistics::point_holds;
use super::{EMPTY, NO_TRACE, Trap, body, status, where_asked};
use crate::observation::Outcome;
use crate::query::{Backend, Query};
use crate::report::model::Verdict::{Fail, Inconclusive, Invalid};
use crate::units::Nanos;

const CLASS: &str = "Published of other tools";

pub(super) fn traps() -> Vec<Trap> {
    let open = |name, code, spoil| Trap::new(CLASS, name, Inconclusive, code, spoil);
    vec![
        open("k6#4283, k6#1346: a threshold on a metric without samples", "evidence_missing", |r| {
            r.slo(
                "apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: errors, annotations: {harness/signal: errors}}\n\
                 spec:\n  service: s\n  indicator:\n    metadata: {name: errors}\n    spec:\n      thresholdMetric:\n        \
                 metricSource: {type: Prometheus, spec: {query: 'increase(error_counter[$window])'}}\n  \
                 timeWindow: [{duration: 28d, isRolling: true}]\n  budgetingMethod: Occurrences\n  \
                 objectives: [{displayName: errors, op: lt, value: 10, target: 0.99}]\n",
            );
            where_asked(r, "error_counter", body(EMPTY));
        })
        .wrong("pass: `count < 10` holds on no sample at all")
        .why("nothing was counted because nothing was exercised; missing is not 0"),
        open("k6#1346: every request fails before its latency is recorded", "undecided", |r| {
            r.rows.retain(|row| row.id.0 < 55);
            r.world = r.rows.clone();
            r.facts.generator.scheduled = r.rows.len() as u64;
        })
        .base(|r| only(r, "latency"))
        .wrong("pass: the percentile of a handful of samples is under its limit")
        .why("five requests decide nothing, and the report says how many would")
        .naively(point_holds)
        .says("more at this share"),
        open("Keptn#9198: an SLO file without objectives scores 0 of 0", "no_required_objectives", |r| {
            r.objectives.clear();
        })
        .wrong("pass: a score of 100 %")
        .why("with nothing required there is nothing to pass; such files are refused before the run, too"),
        open("Keptn#6096: the provider says that it failed, the objectives that are left pass", "evidence_missing", |r| {
            where_asked(r, "max_over_time", status(500, "data explorer tile could not be converted"));
        })
        .wrong("pass by the objectives that had a value")
        .why("an objective without a value is open, and one open forbids a pass"),
        open("Flagger#892: the metric template does not exist", "evidence_missing", |r| {
            where_asked(r, "max_over_time", status(404, "metric template not found"));
        })
        .wrong("advance: a metric that does not exist is skipped")
        .why("what cannot be asked is not met"),
        open("Flagger#1581: a metric's name that nothing has", "evidence_missing", |r| {
            r.tamper(|query, answer| {
                if matches!(query, Query::PromInstant { query, .. } | Query::PromRange { query, .. } if query.contains("_bucket")) {
                    answer.body = answer.body.replace(&answer.body.clone(), EMPTY);
                }
            });
        })
        .wrong("advance")
        .why("no series is no evidence"),
        open("Argo Rollouts#4479: every measurement is an error", "telemetry_incomplete", |r| {
            r.spoil(Backend::Prometheus, status(500, "connection error"));
        })
        .wrong("successful: fewer failures than `failureLimit`")
        .why("errors are no measurements, however many are allowed"),
        open("Argo Rollouts#3503: `len(result) > 0 ? result[0] < 1 : true`", "evidence_missing", |r| {
            where_asked(r, "5..", body(EMPTY));
        })
        .wrong("successful: an empty result is taken for no error")
        .why("only `harness/empty-as` makes a number of it, and only while the service's own counters are there"),
        open("Iter8: an experiment without SLOs", "no_required_objectives", |r| r.objectives.clear())
            .wrong("success: all of no SLOs are satisfied")
            .why("with nothing required there is nothing to pass"),
        open("Tracetest#3666: an assertion whose selector matches no span", "evidence_missing", |r| {
            where_asked(r, "name=\"queue\"", body(r#"{"series":[],"metrics":{}}"#));
        })
        .wrong("pass: no span breaks the assertion")
        .why("no span was looked at; the total is empty"),
        open("Tracetest: the trace has not arrived yet when it is asserted on", "telemetry_incomplete", |r| {
            r.spoil(Backend::Tempo, body(NO_TRACE));
        })
        .wrong("pass: no span breaks the assertion")
        .why("the run waits until its own traces are found, and names those that are not"),
        Trap::new(CLASS, "vegeta `-max-workers`: the clock starts when a worker is free", Invalid, "late_sends", |r| {
            // The service's answers take 8 ms from being sent; the backlog grows all the same.
            r.each(|n, row| {
                let late = n as u64 * 1_000_000;
                row.set_sent(Some(Nanos(row.due.0 + late)));
                row.done = Nanos(row.due.0 + late + 8_000_000);
            });
        })
        .wrong("pass: every request took 8 ms")
        .why("latency runs from when a request was due, and a generator that cannot send then is named")
        .naively(|_, report| {
            report.load.iter().filter_map(|l| l.service_time).all(|q| q.max < 0.01)
        }),
        Trap::new(CLASS, "oha: failures are left out of the latencies", Fail, "objective_missed", |r| {
            r.each(|n, row| {
                if n % 10 == 0 {
                    row.outcome = Outcome::Timeout;
                    row.status = None;
                    row.done.0 = row.due.0 + 2_000_000_000;
                }
            });
        })
        .base(|r| only(r, "latency"))
        .wrong("pass: the 99th percentile of the successes is 8 ms, better the more time out")
        .why("every request that was due is in the ratio"),
        Trap::new(CLASS, "oha#212, oha#645: any HTTP status is a success", Fail, "objective_missed", |r| {
            r.each(|n, row| {
                if n % 10 == 0 {
                    row.outcome = Outcome::UnexpectedStatus;
                    row.status = Some(503);
                    row.done.0 = row.due.0 + 1_000_000;
                }
            });
        })
        .base(|r| only(r, "latency"))
        .wrong("pass: success rate 100 %, and the quick refusals better the percentiles")
        .why("a request is good when its answer is the expected one"),
    ]
}
