//! How the service and its requests are called in telemetry, and stretches of time as queries write them.

use super::RunRecord;
use crate::record::RunFacts;
use crate::units::{Nanos, UnixNanos};

/// A text in double quotes, as PromQL, LogQL and TraceQL read it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The service's counter of requests, a selector.
pub(super) fn request_counter(record: &RunRecord) -> String {
    let spec = &record.scenario.spec;
    if let Some(counter) = &spec.telemetry.request_counter {
        return counter.clone();
    }
    let mut routes: Vec<String> = spec
        .requests
        .iter()
        .map(|r| {
            let route = r.route.as_deref().unwrap_or(&r.path);
            regex::escape(route.split('?').next().unwrap_or_default())
        })
        .collect();
    routes.sort();
    routes.dedup();
    format!(
        "http_server_request_duration_seconds_count{{job={},http_route=~{}}}",
        quoted(&record.facts.service),
        quoted(&routes.join("|")),
    )
}

/// A metric of the service's own process.
pub(super) fn of_job(record: &RunRecord, metric: &str) -> String {
    format!("{metric}{{job={}}}", quoted(&record.facts.service))
}

/// The log query that matches one line an answered request.
pub(super) fn request_log(record: &RunRecord) -> String {
    match &record.scenario.spec.telemetry.request_log {
        Some(query) => query.clone(),
        None => format!(
            "{{service_name={}}} |= \"request completed\"",
            quoted(&record.facts.service)
        ),
    }
}

/// All log lines of one trace: the request log's stream selector, with its parser if it has one.
pub(super) fn trace_log(record: &RunRecord, trace: crate::units::TraceId) -> String {
    let query = request_log(record);
    let selector = stream_selector(&query);
    let rest: String = query[selector.len()..]
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let parser = ["json", "logfmt"]
        .into_iter()
        .find(|p| rest.contains(&format!("|{p}")))
        .map(|p| format!(" | {p}"))
        .unwrap_or_default();
    format!("{selector}{parser} | trace_id=\"{trace}\"")
}

/// The leading `{…}`, minding quotes.
fn stream_selector(query: &str) -> &str {
    let (mut quote, mut escaped) = (None, false);
    for (place, c) in query.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if c == '}' => return &query[..=place],
            None => {}
        }
    }
    query
}

/// A length of time as all three query languages read it; whole milliseconds, rounded up.
pub(super) fn length(nanos: u64) -> String {
    let ms = nanos.div_ceil(1_000_000).max(1);
    if ms.is_multiple_of(1000) {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    }
}

/// The latest instant that may be asked about: where settling ended, and never before the drain.
pub(super) fn until(facts: &RunFacts) -> UnixNanos {
    facts.settled.until.max(facts.wall(facts.drained))
}

/// Whether requests of another phase may follow the measured one.
pub(super) fn followed(facts: &RunFacts) -> bool {
    let end = facts.window().map_or(Nanos(0), |(_, end)| end);
    facts
        .stretches
        .iter()
        .any(|s| s.phase != crate::units::Phase::Measure && s.end > end && s.end > s.start)
}

/// 1234567 as `1,234,567`.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Seconds for people: `17.3 s`.
pub(super) fn seconds(at: f64) -> String {
    format!("{at:.1} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_end_at_their_own_brace() {
        assert_eq!(
            stream_selector(r#"{a="}\"", b=~`}`} |= "x}" | json"#),
            r#"{a="}\"", b=~`}`}"#
        );
        assert_eq!(stream_selector("no brace"), "no brace");
    }

    #[test]
    fn lengths_are_whole_and_never_short() {
        assert_eq!(length(35_000_000_000), "35s");
        assert_eq!(length(35_000_000_001), "35001ms");
        assert_eq!(length(0), "1ms");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
    }
}
