//! A Prometheus that outlives runs still holds the target of the run before, under the same address.

use serde_json::{Value, json};

use super::testing::Run;
use crate::query::Backend;
use crate::report::model::{Report, Verdict};

/// How the process of the run before and the one under test are told apart.
#[derive(Clone, Copy)]
pub(super) enum Began {
    /// Both say when they began, the one under test so many seconds after the load began.
    Said(f64),
    /// The service has no such metric.
    Unsaid,
}

/// A healthy run whose first scrape lies within the load, after scrapes of an earlier process that had
/// counted `earlier` requests.
pub(super) fn after_another(earlier: f64, began: Began) -> Run {
    let mut run = Run::healthy();
    let load = run.facts.started.0 as f64 / 1e9;
    run.spoil(Backend::Prometheus, move |answer| {
        let crate::query::Query::PromInstant { query, .. } = &answer.query else {
            return;
        };
        if !query.ends_with(']') {
            return;
        }
        let (old, new) = match (query.split('{').next(), began) {
            (Some("process_start_time_seconds"), Began::Said(after)) => {
                (load - 90.0, Some(load + after))
            }
            (Some("process_start_time_seconds"), Began::Unsaid) => {
                answer.body =
                    json!({"status": "success", "data": {"resultType": "matrix", "result": []}})
                        .to_string();
                return;
            }
            (Some("up" | "target_info"), _) => (1.0, None),
            _ => (earlier, None),
        };
        let mut value: Value = serde_json::from_str(&answer.body).unwrap();
        for series in value["data"]["result"].as_array_mut().unwrap() {
            let values = series["values"].as_array_mut().unwrap();
            values.retain(|point| point[0].as_f64().unwrap() > load);
            if let Some(new) = new {
                values
                    .iter_mut()
                    .for_each(|point| point[1] = json!(new.to_string()));
            }
            let before = (10..60)
                .rev()
                .map(|n| json!([load - f64::from(n), old.to_string()]));
            let joined: Vec<Value> = before.chain(values.drain(..)).collect();
            *values = joined;
        }
        answer.body = value.to_string();
    });
    run
}

fn metrics(report: &Report) -> &crate::report::model::SourceCoverage {
    let mut sources = report.coverage.sources.iter();
    sources.find(|s| s.backend == Backend::Prometheus).unwrap()
}

fn restart_noted(report: &Report) -> bool {
    report.notes.iter().any(|note| note.contains("restarted"))
}

#[test]
fn the_target_of_the_run_before_is_neither_counted_nor_a_restart() {
    // More and fewer than the first scrape of the new process shows.
    for earlier in [1_095.0, 1.0] {
        let report = after_another(earlier, Began::Said(-0.4)).judged();
        assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.reasons);
        assert_eq!(metrics(&report).found, Some(1_250), "after {earlier}");
        assert!(!restart_noted(&report), "{:?}", report.notes);
    }
}

#[test]
fn a_started_target_that_does_not_say_when_it_began_is_not_taken_for_its_forerunner() {
    let report = after_another(1_095.0, Began::Unsaid).judged();
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", report.reasons);
    assert_eq!(metrics(&report).found, Some(1_250));
    assert!(!restart_noted(&report), "{:?}", report.notes);
}

#[test]
fn a_process_that_began_within_the_load_is_a_restart() {
    let report = after_another(1_095.0, Began::Said(0.5)).judged();
    assert!(restart_noted(&report), "{:?}", report.notes);
}
