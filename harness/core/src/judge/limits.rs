//! How slow a request may be before an objective counts it as bad.
//!
//! That limit is known where the objective names it: of the client's own times, of a histogram's bucket
//! (`le`), of the spans' `duration`. What names no time (errors, refusals, wrong answers) is reached by
//! slowness when the client gives up, at the shortest of the scenario's timeouts. Of anything else it is
//! not known, and nothing is made of it.

use std::sync::LazyLock;

use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use regex::Regex;

use super::RunRecord;
use crate::objective::{ClientFigure, Indicator, Metric, Objective, Op, Part};

/// Seconds that a request may take before the objective counts it as bad for its slowness.
pub(super) fn seconds(record: &RunRecord, objective: &Objective) -> Option<f64> {
    match &objective.indicator {
        Indicator::Ratio {
            part_is,
            part,
            total,
            ..
        } => match part {
            Metric::Client(metric) => match &metric.figure {
                ClientFigure::Count {
                    limit: Some(limit), ..
                } => Some(limit.at_most.0.as_secs_f64()),
                ClientFigure::Count { limit: None, .. } => Some(given_up(record)),
                _ => None,
            },
            Metric::Prometheus(query) => match bucket(query)? {
                Some(le) if *part_is == Part::Good && bucket(total.query()?)?.is_none() => Some(le),
                Some(_) => None,
                None => Some(given_up(record)),
            },
            Metric::Tempo(query) => match duration(query, *part_is)? {
                Some(limit) => Some(limit),
                None => Some(given_up(record)),
            },
            Metric::Loki(query) => compares_nothing(query).then(|| given_up(record)),
        },
        Indicator::Threshold {
            metric: Metric::Client(metric),
            op: Op::Lte | Op::Lt,
            value,
        } => match metric.figure {
            ClientFigure::Quantile { .. } => Some(*value),
            _ => None,
        },
        Indicator::Threshold { .. } => None,
    }
}

/// When the client gives a request up: the shortest timeout of the scenario.
fn given_up(record: &RunRecord) -> f64 {
    let spec = &record.scenario.spec;
    let target = &spec.target;
    let requests = spec.requests.iter().filter_map(|r| r.timeout.as_ref());
    [
        Some(&target.timeout),
        target.connect_timeout.as_ref(),
        target.first_byte_timeout.as_ref(),
    ]
    .into_iter()
    .flatten()
    .chain(requests)
    .map(|timeout| timeout.0.as_secs_f64())
    .fold(f64::INFINITY, f64::min)
}

/// The one upper bound of buckets of seconds that a query selects; `Some(None)` for a query without
/// buckets, `None` for one whose buckets say no single time.
fn bucket(query: &str) -> Option<Option<f64>> {
    #[derive(Default)]
    struct Bounds {
        found: Vec<Option<f64>>,
    }
    impl Bounds {
        fn see(&mut self, selector: &VectorSelector) {
            let of_seconds = selector
                .name
                .as_deref()
                .is_some_and(|n| n.ends_with("_seconds_bucket"));
            for matcher in selector.matchers.find_matchers("le") {
                let le = (matcher.op == promql_parser::label::MatchOp::Equal && of_seconds)
                    .then(|| matcher.value.parse().ok())
                    .flatten();
                self.found.push(le.filter(|le: &f64| le.is_finite()));
            }
        }
    }
    impl ExprVisitor for Bounds {
        type Error = std::convert::Infallible;
        fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Self::Error> {
            match expr {
                Expr::VectorSelector(selector) => self.see(selector),
                Expr::MatrixSelector(range) => self.see(&range.vs),
                // A comparison with a number may be a limit of its own.
                Expr::Binary(binary) if binary.op.is_comparison_operator() => self.found.push(None),
                _ => {}
            }
            Ok(true)
        }
    }
    // `$window` is no duration to the parser.
    let expr = parser::parse(&query.replace("$window", "1m")).ok()?;
    let mut bounds = Bounds::default();
    walk_expr(&mut bounds, &expr).ok()?;
    match bounds.found.as_slice() {
        [] => Some(None),
        [le] => le.map(Some),
        _ => None,
    }
}

/// The one limit on `duration` that a TraceQL query has; `Some(None)` for one that looks at no times,
/// `None` for one that does otherwise.
fn duration(query: &str, part_is: Part) -> Option<Option<f64>> {
    static LIMIT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\bduration\s*(<=|<|>=|>)\s*([0-9.]+)(ns|us|µs|ms|s|m|h)\b").expect("a pattern")
    });
    let text = super::range::without_strings(query);
    let mentions = text.matches("uration").count();
    let mut limits = LIMIT.captures_iter(&text);
    match (mentions, limits.next()) {
        (0, _) if !text.contains(['<', '>']) => Some(None),
        (1, Some(found)) if text.matches(['<', '>']).count() == 1 => {
            let upper = found[1].starts_with('<');
            if upper != (part_is == Part::Good) {
                return None;
            }
            let unit = match &found[3] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                _ => 3600.0,
            };
            Some(Some(found[2].parse::<f64>().ok()? * unit))
        }
        _ => None,
    }
}

/// Whether a LogQL query looks at no numbers: it counts lines by their words.
fn compares_nothing(query: &str) -> bool {
    let text = super::range::without_strings(query);
    let text = text.replace("|>", "").replace("!>", "");
    !text.contains(['<', '>']) && !text.contains("unwrap")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_of_seconds_is_a_limit() {
        let limit = |q: &str| bucket(q);
        assert_eq!(
            limit(r#"sum(a_seconds_bucket{le="0.25"})"#),
            Some(Some(0.25))
        );
        assert_eq!(
            limit(r#"sum(increase(a_seconds_bucket{le="1.0"}[$window]))"#),
            Some(Some(1.0))
        );
        assert_eq!(limit("sum(a_seconds_count)"), Some(None));
        assert_eq!(limit(r#"sum(a{code=~"5.."}) or 0 * sum(a)"#), Some(None));
        // Other units, other matchers, several bounds, comparisons: no single time is said.
        assert_eq!(limit(r#"sum(a_milliseconds_bucket{le="250"})"#), None);
        assert_eq!(limit(r#"sum(a_seconds_bucket{le=~"0.1|0.2"})"#), None);
        assert_eq!(limit(r#"sum(a_seconds_bucket{le="+Inf"})"#), None);
        assert_eq!(
            limit(r#"a_seconds_bucket{le="1"} - b_seconds_bucket{le="2"}"#),
            None
        );
        assert_eq!(limit("sum(a > bool 3)"), None);
        assert_eq!(limit("sum("), None);
    }

    #[test]
    fn a_duration_of_spans_is_a_limit() {
        let good = |q: &str| duration(q, Part::Good);
        let (on, text) = (
            0.1,
            r#"{name="queue" && duration <= 100ms} | count_over_time()"#,
        );
        assert_eq!(good(text), Some(Some(on)));
        assert_eq!(duration(text, Part::Bad), None);
        assert_eq!(
            duration("{duration > 2s} | rate()", Part::Bad),
            Some(Some(2.0))
        );
        assert_eq!(good(r#"{name="duration <= 1s"} | rate()"#), Some(None));
        assert_eq!(good("{duration < 1s && duration > 2ms} | rate()"), None);
        assert_eq!(good("{span.tokens > 4} | rate()"), None);
        assert_eq!(good("{traceDuration < 1s} | rate()"), None);
    }

    #[test]
    fn lines_are_counted_by_words_or_not_known() {
        assert!(compares_nothing(
            r#"sum(count_over_time({a="b"} |= "<" [1m]))"#
        ));
        assert!(!compares_nothing(
            r#"sum(count_over_time({a="b"} | json | took > 3 [1m]))"#
        ));
        assert!(!compares_nothing(
            r#"sum(sum_over_time({a="b"} | unwrap took [1m]))"#
        ));
    }
}
