//! Whether a query looks at the measured phase: the ranges in its text against the window.
//!
//! A query evaluated once sees what its range selectors reach. `[1h]` in a run of half a minute counts
//! what was there before the load; `[10s]` sees its end only. Both give numbers that look like the
//! run's.

use super::names::seconds;

/// How much longer or shorter than the window a written-out range may be.
const SLACK: f64 = 0.1;

/// Refuses a query (PromQL or LogQL, `$window` not yet replaced) that looks at more or at less than
/// the window of `length` seconds. One without any range is let through: it asks for an instant.
pub(super) fn covers(query: &str, length: f64) -> Result<(), String> {
    let code = without_strings(query);
    let words = || code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '@'));
    if words().any(|word| word == "offset") || code.contains('@') {
        return Err(
            "its `offset` or `@` moves it away from the measured phase; leave it out".into(),
        );
    }
    let ranges: Vec<&str> = code
        .split('[')
        .skip(1)
        .filter_map(|rest| rest.split([']', ':']).next())
        .map(str::trim)
        .collect();
    let longest = ranges
        .iter()
        .filter_map(|range| duration(range))
        .fold(0.0, f64::max);
    if longest > length * (1.0 + SLACK) + 1.0 {
        return Err(format!(
            "it reaches back {} and the measured phase is {} long, so it takes in what was before; write `$window` for the phase",
            seconds(longest),
            seconds(length)
        ));
    }
    let whole = ranges.iter().any(|range| range.contains("$window"));
    if longest > 0.0 && !whole && longest < length * (1.0 - SLACK) - 1.0 {
        return Err(format!(
            "it looks at the last {} of a measured phase of {}; write `$window` for the phase",
            seconds(longest),
            seconds(length)
        ));
    }
    Ok(())
}

/// Whether a query asks for one instant only.
pub(super) fn is_instant(query: &str) -> bool {
    !without_strings(query).contains('[')
}

/// The text with the contents of its strings left out, and without comments.
pub(super) fn without_strings(query: &str) -> String {
    let mut out = String::new();
    let (mut quote, mut escaped, mut comment) = (None, false, false);
    for c in query.chars() {
        match quote {
            _ if comment => comment = c != '\n',
            Some(_) if escaped => escaped = false,
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if c == '#' => comment = true,
            None => out.push(c),
        }
    }
    out
}

/// A duration as PromQL and LogQL write it, in seconds: `1h30m`, `35s`, `250ms`.
pub(super) fn duration(text: &str) -> Option<f64> {
    let mut rest = text.trim();
    let mut sum = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        sum += number
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                "w" => 604_800.0,
                "y" => 31_536_000.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_and_what_is_inside_it_are_let_through() {
        for query in [
            "max_over_time(x[$window])",
            "max_over_time(rate(x[10s])[$window:1s])",
            r#"sum(count_over_time({a="[1h]"} |= `offset [9h]` [$window]))"#,
            "increase(x[32s])",
            "sum(queue)",
            "x # offset 1h\n",
        ] {
            assert_eq!(covers(query, 32.0), Ok(()), "{query}");
        }
    }

    #[test]
    fn more_and_less_than_the_window_are_refused() {
        for query in [
            "max_over_time(x[1h])",
            "max_over_time(rate(x[1h])[$window:1s])",
            "max_over_time(x[10s])",
            "max_over_time(x[$window] offset 1h)",
            "max_over_time(x[$window] @ 1700000000)",
            "sum(count_over_time({a=\"b\"} [5m]))",
        ] {
            assert!(covers(query, 32.0).is_err(), "{query}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1h30m"), Some(5_400.0));
        assert_eq!(duration("35001ms"), Some(35.001));
        assert_eq!(duration("$window"), None);
        assert_eq!(duration(""), None);
        assert_eq!(duration("1é"), None);
    }
}
