//! Evidence that holds nearly the whole run is judged, and what it lacks speaks against a pass.

use super::testing::Run;
use crate::objective;
use crate::query::Query;
use crate::report::model::Verdict;

#[test]
fn a_hundredth_of_the_traces_missing_may_have_been_the_slow_ones() {
    let slo = include_str!("../../../../slo/quickstart.yaml").replace(
        "queued at most 100 ms\", target: 0.95}",
        "queued at most 100 ms\", target: 0.995}",
    );
    let verdict = |lost: u64| {
        let mut run = Run::healthy();
        run.objectives = objective::parse(&[("q.yaml".into(), slo.clone())]).unwrap();
        run.tamper(move |query, answer| {
            if let Query::TempoMetrics { .. } = query {
                let mut value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
                let count = &mut value["series"][0]["value"];
                *count = (count.as_u64().unwrap() - lost).into();
                answer.body = value.to_string();
            }
        });
        let report = run.judged();
        let mut objectives = report.objectives.into_iter();
        objectives.find(|o| o.name == "queue-wait").unwrap()
    };
    assert_eq!(verdict(0).verdict, Verdict::Pass);
    let lacking = verdict(8);
    assert_eq!(lacking.verdict, Verdict::Inconclusive, "{}", lacking.reason);
    assert!(lacking.reason.contains("8 requests"), "{}", lacking.reason);
}
