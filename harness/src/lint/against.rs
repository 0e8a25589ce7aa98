//! What an earlier run says of the queries: one that was answered with nothing in it matches nothing.

use harness_core::judge::{self, RunRecord};
use harness_core::objective::{Objective, Part};
use harness_core::query::Query;
use harness_core::record::AnswerBook;
use harness_core::scenario::Scenario;
use serde_json::Value;

use super::{Id, Role, Warning, sides};
use crate::run_dir::FinishedRun;

/// Warnings on queries that matched nothing in this run, and the names of objectives that it was not
/// asked about.
///
/// # Errors
/// A sentence when the run's scenario cannot be read.
pub fn against(
    objectives: &[Objective],
    run: &FinishedRun,
) -> Result<(Vec<Warning>, Vec<String>), String> {
    let scenario =
        Scenario::parse(&run.scenario, "scenario.yaml").map_err(|wrong| wrong.to_string())?;
    let (mut warnings, mut unasked) = (Vec::new(), Vec::new());
    let asked = |objectives: &[Objective]| {
        judge::objective_queries(&RunRecord {
            scenario: &scenario,
            objectives,
            facts: &run.facts,
            rows: &run.rows,
            answers: &run.answers,
            baselines: None,
        })
    };
    // What is asked for the charts, whatever the objectives.
    let charts = asked(&[]);
    for objective in objectives {
        let mut queries = asked(std::slice::from_ref(objective));
        queries.retain(|query| !charts.contains(query));
        for (role, metric, place) in sides(objective) {
            let Some(template) = metric.query() else {
                continue;
            };
            let known: Vec<bool> = queries
                .iter()
                .filter(|query| asks(query, template))
                .filter_map(|query| is_empty(&run.answers, query))
                .collect();
            if known.is_empty() {
                unasked.push(objective.name.clone());
            } else if known.iter().all(|empty| *empty) && !may_be_empty(objective, role) {
                warnings.push(Warning {
                    id: Id::UnseenSelector,
                    place: place.cloned(),
                    objective: objective.name.clone(),
                    message: format!("matched nothing in the run {}: {template}", run.facts.run_id),
                    better: "compare names and labels with what the service exports; `harness stack` and Grafana show it".into(),
                });
            }
        }
    }
    unasked.dedup();
    Ok((warnings, unasked))
}

/// Whether nothing is a proper answer when all is well.
fn may_be_empty(objective: &Objective, role: Role) -> bool {
    match role {
        Role::Part(Part::Bad) => true,
        Role::Value(_) => objective.empty_as.is_some(),
        Role::Part(Part::Good) | Role::Total => false,
    }
}

/// Whether a question was made from this query of an objective.
fn asks(query: &Query, template: &str) -> bool {
    let text = match query {
        Query::PromInstant { query, .. }
        | Query::PromRange { query, .. }
        | Query::LokiInstant { query, .. }
        | Query::TempoMetrics { query, .. } => query,
        _ => return false,
    };
    match template.split_once("$window") {
        None => text == template,
        Some((before, rest)) => {
            let after = rest.rsplit("$window").next().unwrap_or(rest);
            text.len() >= before.len() + after.len()
                && text.starts_with(before)
                && text.ends_with(after)
        }
    }
}

/// Whether the recorded answer has nothing in it; `None` without a proper answer.
fn is_empty(answers: &AnswerBook, query: &Query) -> Option<bool> {
    let answer = answers.get(query)?;
    if answer.error.is_some() || answer.status != Some(200) {
        return None;
    }
    let body: Value = serde_json::from_str(&answer.body).ok()?;
    if let Query::TempoMetrics { .. } = query {
        let series = body.get("series").and_then(Value::as_array);
        return Some(series.is_none_or(|all| all.iter().all(|s| s.get("value").is_none())));
    }
    let result = body.get("data")?.get("result")?.as_array()?;
    Some(result.is_empty())
}

#[cfg(test)]
mod tests {
    use harness_core::query::{Answer, Backend};
    use harness_core::record::{BackendUsed, Generator, RUN_SCHEMA, RunFacts, Settled, Target};
    use harness_core::units::{Nanos, Seed, UnixNanos};

    use super::*;

    #[test]
    fn a_question_is_known_by_its_query() {
        let query = |text: &str| Query::LokiInstant {
            query: text.into(),
            time: UnixNanos(1),
        };
        assert!(asks(&query("sum(a[31s])"), "sum(a[$window])"));
        assert!(asks(
            &query("sum(a[31s]) / sum(b[31s])"),
            "sum(a[$window]) / sum(b[$window])"
        ));
        assert!(!asks(&query("sum(b[31s])"), "sum(a[$window])"));
        assert!(asks(&query("sum(a)"), "sum(a)"));
    }

    /// A run of 10 s that read Loki, with this answer to whatever the objective asks.
    fn run(objectives: &[Objective], body: &str) -> FinishedRun {
        let scenario = "apiVersion: harness/v1
kind: Scenario
metadata: {name: it}
spec:
  seed: 1
  target: {url: \"http://127.0.0.1:1\"}
  telemetry: {loki: {url: \"http://127.0.0.1:1\"}}
  requests: [{name: one, method: GET, path: /}]
  loads: [{name: l, mix: {one: 1}, executor: constant-arrival-rate, stages: [{phase: measure, rate: 1/s, for: 10s}]}]
";
        let parsed = Scenario::parse(scenario, "it.yaml").unwrap();
        let facts = RunFacts {
            schema: RUN_SCHEMA.into(),
            run_id: "r1".into(),
            harness_version: String::new(),
            scenario: "it".into(),
            scenario_sha256: String::new(),
            seed: Seed(1),
            started: UnixNanos(1_767_225_600_000_000_000),
            drained: Nanos(10_000_000_000),
            stretches: harness_core::schedule::stretches(&parsed),
            generator: Generator::default(),
            target: Target::default(),
            service: "it".into(),
            expect_version: None,
            backends: [(
                Backend::Loki,
                BackendUsed {
                    url: "http://127.0.0.1:1".into(),
                    embedded: false,
                    refused: 0,
                    clock: None,
                },
            )]
            .into(),
            settled: Settled::default(),
            faults: Vec::new(),
            stop: None,
            context: harness_core::record::context::Context::default(),
            grafana: None,
            slo_files: std::collections::BTreeMap::new(),
        };
        let mut answers = AnswerBook::default();
        let queries = judge::objective_queries(&RunRecord {
            scenario: &parsed,
            objectives,
            facts: &facts,
            rows: &[],
            answers: &answers,
            baselines: None,
        });
        for query in queries {
            answers.insert(Answer {
                query,
                at: facts.started,
                status: Some(200),
                body: body.into(),
                error: None,
            });
        }
        FinishedRun {
            scenario: scenario.into(),
            slos: Vec::new(),
            facts,
            rows: Vec::new(),
            answers,
            baselines: None,
        }
    }

    fn objectives(op: &str) -> Vec<Objective> {
        let text = format!(
            "apiVersion: openslo/v1\nkind: SLO\nmetadata: {{name: lines}}\nspec:\n  indicator:\n    spec:\n      thresholdMetric: {{metricSource: {{type: Loki, spec: {{query: 'sum(count_over_time({{a=\"b\"}} [$window]))'}}}}}}\n  budgetingMethod: Occurrences\n  objectives: [{{op: {op}, value: 1, target: 0.9}}]\n"
        );
        harness_core::objective::parse(&[("it.yaml".into(), text)]).unwrap()
    }

    #[test]
    fn a_query_that_matched_nothing_is_told_and_one_that_did_is_not() {
        let objectives = objectives("gte");
        let nothing = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        let (warnings, unasked) = against(&objectives, &run(&objectives, nothing)).unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!(warnings[0].id, Id::UnseenSelector);
        let place = warnings[0].place.as_ref().unwrap();
        assert_eq!((place.file.as_str(), place.line), ("it.yaml", 7));
        assert!(unasked.is_empty());

        let some = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"3"]}]}}"#;
        let (warnings, unasked) = against(&objectives, &run(&objectives, some)).unwrap();
        assert!(warnings.is_empty() && unasked.is_empty(), "{warnings:?}");

        // What was never asked, or not answered, says nothing of the query.
        let (warnings, unasked) = against(&objectives, &run(&[], nothing)).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(unasked, ["lines"]);
    }
}
