//! From an objective's query to one that a rule can evaluate over any window.

use std::time::Duration;

use promql_parser::parser::{self, Expr, MatrixSelector};

/// Aggregates to one series without labels, unless it is one already.
fn one_series(expr: Expr) -> String {
    let summed = matches!(&expr, Expr::Aggregate(aggregate)
        if aggregate.op.to_string() == "sum" && aggregate.modifier.is_none());
    if summed {
        expr.to_string()
    } else {
        format!("sum({expr})")
    }
}

/// A counter expression (`counter: true`: read at both edges of a run and subtracted) as a rate over
/// the window: every selector becomes `rate(selector[window])`. That means the same only where the
/// expression is a sum of counters, possibly with constants as factors; anything else is refused.
pub(super) fn rate(query: &str, window: &str) -> Result<String, String> {
    let parsed = parse(query)?;
    let range = parser_range(window)?;
    Ok(one_series(rated(parsed, range)?))
}

/// A count over the window (`counter: false`): `$window` becomes the window.
pub(super) fn windowed(query: &str, window: &str) -> Result<String, String> {
    if !query.contains("$window") {
        return Err(format!(
            "`{query}` does not say `$window`, so it cannot be asked over other windows"
        ));
    }
    parse(&query.replace("$window", window)).map(one_series)
}

fn parse(query: &str) -> Result<Expr, String> {
    parser::parse(query).map_err(|error| format!("`{query}` does not parse as PromQL: {error}"))
}

fn parser_range(window: &str) -> Result<Duration, String> {
    match parse(&format!("up[{window}]"))? {
        Expr::MatrixSelector(selector) => Ok(selector.range),
        _ => Err(format!("`{window}` is no window")),
    }
}

fn rated(expr: Expr, range: Duration) -> Result<Expr, String> {
    let text = expr.to_string();
    let refuse = |what: &str| {
        Err(format!(
            "`{text}` is {what}; only sums of counters mean the same as a rate"
        ))
    };
    match expr {
        Expr::NumberLiteral(_) => Ok(expr),
        Expr::VectorSelector(selector) if selector.at.is_some() => refuse("fixed to an instant"),
        Expr::VectorSelector(vs) => {
            // The parser makes functions only from text.
            let Expr::Call(mut call) = parse("rate(up[5m])")? else {
                return refuse("no counter");
            };
            call.args.args = vec![Box::new(Expr::MatrixSelector(MatrixSelector { vs, range }))];
            Ok(Expr::Call(call))
        }
        Expr::Paren(mut paren) => {
            *paren.expr = rated(*paren.expr, range)?;
            Ok(Expr::Paren(paren))
        }
        Expr::Aggregate(mut aggregate) if aggregate.op.to_string() == "sum" => {
            *aggregate.expr = rated(*aggregate.expr, range)?;
            Ok(Expr::Aggregate(aggregate))
        }
        Expr::Binary(mut binary) => {
            let constant = |side: &Expr| matches!(strip(side), Expr::NumberLiteral(_));
            let (left, right) = (constant(&binary.lhs), constant(&binary.rhs));
            let linear = match binary.op.to_string().as_str() {
                "+" | "-" => !left && !right,
                "or" => true,
                "*" => left != right,
                "/" => right && !left,
                _ => false,
            };
            if !linear {
                return refuse("no sum of counters");
            }
            *binary.lhs = rated(*binary.lhs, range)?;
            *binary.rhs = rated(*binary.rhs, range)?;
            Ok(Expr::Binary(binary))
        }
        Expr::MatrixSelector(_) | Expr::Subquery(_) => refuse("a range of values"),
        _ => refuse("more than a counter"),
    }
}

fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Paren(paren) => strip(&paren.expr),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_become_rates() {
        for (query, expected) in [
            ("sum(a)", "sum(rate(a[5m]))"),
            ("a", "sum(rate(a[5m]))"),
            (
                r#"sum(a{code=~"5..", le="0.25"}) or 0 * sum(a)"#,
                r#"sum(sum(rate(a{code=~"5..",le="0.25"}[5m])) or 0 * sum(rate(a[5m])))"#,
            ),
            (
                "sum by (job) (a) - sum(b)",
                "sum(sum by (job) (rate(a[5m])) - sum(rate(b[5m])))",
            ),
            ("(a + b) / 1000", "sum((rate(a[5m]) + rate(b[5m])) / 1000)"),
            ("sum(a offset 1h)", "sum(rate(a[5m] offset 1h))"),
        ] {
            let found = rate(query, "5m").unwrap();
            // Spaces are the printer's.
            let bare = |text: &str| text.replace(' ', "");
            assert_eq!(bare(&found), bare(expected), "{query}");
            assert!(parser::parse(&found).is_ok(), "{found}");
        }
    }

    #[test]
    fn what_would_mean_something_else_is_refused() {
        for query in [
            "max(a)",
            "avg(a)",
            "rate(a[1m])",
            "sum(increase(a[5m]))",
            "ln(a)",
            "a * b",
            "a / b",
            "1 / a",
            "a + 1",
            "a > 5",
            "a @ 100",
            "a[5m]",
            "sum(",
            "histogram_quantile(0.9, a)",
        ] {
            assert!(rate(query, "5m").is_err(), "{query}");
        }
    }

    #[test]
    fn counts_over_the_window_follow_it() {
        assert_eq!(
            windowed("sum(increase(a[$window]))", "30m").unwrap(),
            "sum(increase(a[30m]))"
        );
        assert!(windowed("sum(increase(a[5m]))", "30m").is_err());
        assert!(windowed("sum(increase(a[$window])", "30m").is_err());
    }
}
