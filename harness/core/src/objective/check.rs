//! Whether an objective can work with a scenario.

use super::{ClientFigure, Metric, Objective};
use crate::problem::Problem;
use crate::scenario::Scenario;

pub(super) fn check(objective: &Objective, scenario: &Scenario) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut problem = |key: &str, message: String, hint: String| {
        problems.push(Problem {
            file: objective.file.clone(),
            at: objective.at,
            key: format!("{}.{key}", objective.name),
            message,
            hint: Some(hint),
        });
    };
    let telemetry = &scenario.spec.telemetry;
    for metric in objective.metrics() {
        let (name, configured) = match metric {
            Metric::Client(client) => {
                let names = || scenario.spec.requests.iter().map(|r| r.name.as_str());
                if let Some(request) = &client.request
                    && !names().any(|name| name == request)
                {
                    let known: Vec<&str> = names().collect();
                    problem(
                        "request",
                        format!("the scenario has no request named `{request}`"),
                        format!("one of {}", known.join(", ")),
                    );
                }
                let truth = scenario
                    .spec
                    .requests
                    .iter()
                    .filter(|r| client.request.as_ref().is_none_or(|name| *name == r.name))
                    .any(|r| !r.score.is_empty());
                if client.figure == ClientFigure::Accuracy && !truth {
                    problem(
                        "metric",
                        "accuracy needs a truth, and no such request of the scenario has `score`"
                            .into(),
                        "add `score: {\"$.result\": \"{{ label }}\"}` to the request".into(),
                    );
                }
                continue;
            }
            Metric::Prometheus(_) => ("prometheus", telemetry.prometheus.is_some()),
            Metric::Loki(_) => ("loki", telemetry.loki.is_some()),
            Metric::Tempo(_) => ("tempo", telemetry.tempo.is_some()),
        };
        if !configured && telemetry.embedded.is_none() {
            problem(
                "metricSource.type",
                format!("the scenario reads no {name}"),
                format!(
                    "add `telemetry: {{{name}: {{url: …}}}}` or `telemetry: {{embedded: {{…}}}}` to it, or --{name} URL"
                ),
            );
        }
    }
    problems.dedup();
    problems
}
