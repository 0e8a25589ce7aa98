//! Which metrics an objective's queries read.

use std::collections::BTreeSet;

use promql_parser::label::METRIC_NAME;
use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};

use super::{Metric, Objective};

struct Names(BTreeSet<String>);

impl Names {
    fn take(&mut self, selector: &VectorSelector) {
        let written = selector.name.clone();
        let matched = || {
            let matchers = selector.matchers.matchers.iter();
            let equal = matchers.filter(|m| m.op == promql_parser::label::MatchOp::Equal);
            equal
                .filter(|m| m.name == METRIC_NAME)
                .map(|m| m.value.clone())
                .next()
        };
        self.0.extend(written.or_else(matched));
    }
}

impl ExprVisitor for Names {
    type Error = std::convert::Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
        match expr {
            Expr::VectorSelector(selector) => self.take(selector),
            Expr::MatrixSelector(matrix) => self.take(&matrix.vs),
            _ => {}
        }
        Ok(true)
    }
}

/// Names of the metrics that the PromQL of an objective selects; a query that does not parse has none.
pub(super) fn of(objective: &Objective) -> BTreeSet<String> {
    let mut names = Names(BTreeSet::new());
    for metric in objective.metrics() {
        if let Metric::Prometheus(query) = metric
            && let Ok(expr) = parser::parse(&query.replace("$window", "1m"))
        {
            let Ok(_) = walk_expr(&mut names, &expr);
        }
    }
    names.0
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_metric_of_the_shipped_objectives_is_named() {
        let text = include_str!("../../../../slo/quickstart.yaml");
        let objectives = super::super::parse(&[("slo.yaml".into(), text.into())]).unwrap();
        let all: std::collections::BTreeSet<String> =
            objectives.iter().flat_map(super::of).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(
            all,
            [
                "http_server_request_duration_seconds_bucket",
                "http_server_request_duration_seconds_count",
                "inference_queue_capacity",
                "inference_queue_depth",
            ]
        );
    }
}
