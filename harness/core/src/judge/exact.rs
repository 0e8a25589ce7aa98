//! Queries whose shape lets counts be read exactly instead of by `increase()`, which extrapolates: of
//! 237 requests it made 245 to 259 where the difference of two samples was 237.

use super::range::without_strings;
use crate::objective::Metric;

/// The counter behind `sum(increase(SELECTOR[$window]))`, as `sum(SELECTOR)`: a sum of counters whose
/// growth can be read at the window's edges. `None` for every other shape.
pub(super) fn counter(metric: &Metric) -> Option<Metric> {
    let Metric::Prometheus(query) = metric else {
        return None;
    };
    let call = |text: &str, name: &str| {
        let inside = text.trim().strip_prefix(name)?.trim_start();
        let inside = inside.strip_prefix('(')?.strip_suffix(')')?;
        Some(inside.trim().to_owned())
    };
    let selector = call(&call(query, "sum")?, "increase")?;
    let selector = selector.strip_suffix("[$window]")?.trim_end();
    // One selector: a name with label matchers, nothing called, added or grouped.
    let plain = without_strings(selector);
    let part_of_a_selector = |c: char| c.is_alphanumeric() || " _:{}=!~,\n".contains(c);
    (!plain.is_empty() && plain.chars().all(part_of_a_selector))
        .then(|| Metric::Prometheus(format!("sum({selector})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Option<String> {
        let found = counter(&Metric::Prometheus(query.into()))?;
        found.query().map(str::to_owned)
    }

    #[test]
    fn a_sum_of_increases_over_the_window_is_a_sum_of_counters() {
        assert_eq!(
            of(r#"sum(increase(x_total{a="(", b=~"5.."}[$window]))"#).as_deref(),
            Some(r#"sum(x_total{a="(", b=~"5.."})"#)
        );
        assert_eq!(
            of("sum ( increase( x [$window] ) )").as_deref(),
            Some("sum(x)")
        );
    }

    #[test]
    fn other_shapes_are_left_alone() {
        for query in [
            "sum(increase(x[5m]))",
            "sum(rate(x[$window]))",
            "sum(increase(x[$window])) or vector(0)",
            "sum(increase(x[$window])) / sum(increase(y[$window]))",
            "sum by (a) (increase(x[$window]))",
            "sum(increase(x[$window] offset 1m))",
            "sum(x)",
        ] {
            assert_eq!(of(query), None, "{query}");
        }
    }
}
