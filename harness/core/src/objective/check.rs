//! Whether an objective can work with a scenario, and whether it would mislead.

use super::{ClientFigure, Indicator, Metric, Objective};
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

pub(super) fn lint(objective: &Objective) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Indicator::Ratio { target, .. } = objective.indicator
        && target <= 0.0
    {
        warnings.push("target 0 can never be missed".into());
    }
    for metric in objective.metrics() {
        match metric {
            Metric::Client(_) => {}
            Metric::Prometheus(query) => prometheus(objective, query, &mut warnings),
            Metric::Loki(query) => loki(query, &mut warnings),
            Metric::Tempo(query) => {
                if query.contains("quantile_over_time") || query.contains("histogram_over_time") {
                    warnings.push(
                        "Tempo estimates quantiles from power-of-two buckets, which may be wrong by half; \
                         use a ratio of counts: {… && duration <= LIMIT} | count_over_time() over {…} | count_over_time()"
                            .into(),
                    );
                }
            }
        }
    }
    warnings
}

fn squeezed(query: &str) -> String {
    query.chars().filter(|c| !c.is_whitespace()).collect()
}

fn prometheus(objective: &Objective, query: &str, warnings: &mut Vec<String>) {
    let text = squeezed(query);
    if text.contains("orvector(0)") {
        warnings.push(
            "`or vector(0)` turns dead telemetry into zero; use `or 0 * sum(TOTAL)`, which is empty when there is none"
                .into(),
        );
    }
    let counter = matches!(objective.indicator, Indicator::Ratio { counter: true, .. });
    if counter
        && ["rate(", "increase(", "delta("]
            .iter()
            .any(|f| text.contains(f))
    {
        warnings.push(
            "`counter: true` reads the counter itself at both edges; rate() and increase() extrapolate and give no whole numbers"
                .into(),
        );
    }
    if text.contains("histogram_quantile(") && !text.contains("le") {
        warnings.push("histogram_quantile without the label `le` has no buckets to read".into());
    }
    let sample = query.replace("$window", "1m");
    if let Err(error) = promql_parser::parser::parse(&sample) {
        warnings.push(format!("the query does not parse as PromQL: {error}"));
    }
}

fn loki(query: &str, warnings: &mut Vec<String>) {
    let text = squeezed(query);
    if text.contains("orvector(0)") {
        warnings.push(
            "`or vector(0)` turns dead telemetry into zero; leave it out and set harness/empty-as"
                .into(),
        );
    }
    let parses = ["|json", "|logfmt", "|regexp", "|pattern", "|unpack"];
    if parses.iter().any(|p| text.contains(p)) && !text.contains("__error__") {
        warnings.push(
            "one line that the parser cannot read makes the whole metric query fail; filter lines before parsing, or count \
             those with `| __error__ != \"\"` in an objective of their own"
                .into(),
        );
    }
    if !query.contains("$window") {
        warnings.push(
            "the query's range is not [$window], so it counts over another time than the run's"
                .into(),
        );
    }
}
