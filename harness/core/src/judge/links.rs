//! Links into Grafana's Explore: a trace, the log lines of a request, an objective's queries, each over
//! the run's time.
//!
//! `/explore?schemaVersion=1&panes=JSON` is how Grafana 10 and later write and read the state of
//! Explore: each pane under an id of three letters, with a data source by uid, queries, and a range whose
//! ends are texts. A TraceQL query that is nothing but hexadecimal digits is looked up as a trace's id.
//! All of the JSON is percent-encoded, so that no query and no name can leave its place.

use serde_json::{Value, json};

use super::RunRecord;
use super::names::{trace_log, until};
use crate::observation::Observation;
use crate::query::{Backend, Query};
use crate::report::model::Link;
use crate::scenario::Grafana;
use crate::units::UnixNanos;

/// Shown before and after what is looked at, nanoseconds.
const MARGIN: u64 = 10_000_000_000;
/// Longest URL that is made: what browsers and servers take is bounded.
const LONGEST: usize = 8_000;
/// Id of the one pane. One that is not three letters or digits long would be replaced by Grafana.
const PANE: &str = "run";
/// Most links of one objective.
const MOST: usize = 6;

/// Trace and log lines of one request.
pub(super) fn of_request(record: &RunRecord, row: &Observation) -> Vec<Link> {
    let Some(grafana) = &record.facts.grafana else {
        return Vec::new();
    };
    if row.sent().is_none() {
        return Vec::new();
    }
    let range = around(record.facts.wall(row.due), record.facts.wall(row.done));
    let used = super::coverage::backends(record);
    let mut links = Vec::new();
    if used.contains(&Backend::Tempo) && row.sampled {
        let query = json!({"queryType": "traceql", "query": row.trace.to_string()});
        links.extend(link(
            grafana,
            Backend::Tempo,
            "trace in Grafana",
            query,
            range,
        ));
    }
    if used.contains(&Backend::Loki) {
        let query = json!({"queryType": "range", "expr": trace_log(record, row.trace)});
        links.extend(link(
            grafana,
            Backend::Loki,
            "log lines in Grafana",
            query,
            range,
        ));
    }
    links
}

/// An objective's queries, over the whole run.
pub(super) fn of_queries(record: &RunRecord, queries: &[Query]) -> Vec<Link> {
    let Some(grafana) = &record.facts.grafana else {
        return Vec::new();
    };
    let range = around(record.facts.started, until(record.facts));
    let mut seen = Vec::new();
    let mut links = Vec::new();
    for query in queries {
        let (backend, text) = match query {
            Query::PromInstant { query, .. } | Query::PromRange { query, .. } => {
                (Backend::Prometheus, query)
            }
            Query::LokiInstant { query, .. } | Query::LokiLines { query, .. } => {
                (Backend::Loki, query)
            }
            Query::TempoMetrics { query, .. } => (Backend::Tempo, query),
            Query::TempoTrace { .. } => continue,
        };
        // A bare range of samples cannot be drawn.
        if seen.contains(&text) || text.trim_end().ends_with(']') || links.len() >= MOST {
            continue;
        }
        seen.push(text);
        let pane = match backend {
            Backend::Prometheus => json!({"expr": text, "range": true}),
            Backend::Loki => json!({"queryType": "range", "expr": text}),
            Backend::Tempo => json!({"queryType": "traceql", "query": text}),
        };
        let label = format!("{} {} in Grafana", kind(backend), seen.len());
        links.extend(link(grafana, backend, &label, pane, range));
    }
    links
}

fn kind(backend: Backend) -> &'static str {
    match backend {
        Backend::Prometheus => "metrics",
        Backend::Loki => "logs",
        Backend::Tempo => "traces",
    }
}

fn around(from: UnixNanos, to: UnixNanos) -> (u64, u64) {
    (
        from.0.saturating_sub(MARGIN) / 1_000_000,
        to.0.saturating_add(MARGIN) / 1_000_000,
    )
}

fn link(
    grafana: &Grafana,
    backend: Backend,
    label: &str,
    mut query: Value,
    (from, to): (u64, u64),
) -> Option<Link> {
    let (uid, kind) = match backend {
        Backend::Prometheus => (&grafana.prometheus, "prometheus"),
        Backend::Loki => (&grafana.loki, "loki"),
        Backend::Tempo => (&grafana.tempo, "tempo"),
    };
    query["refId"] = "A".into();
    query["datasource"] = json!({"type": kind, "uid": uid});
    let panes = json!({PANE: {
        "datasource": uid,
        "queries": [query],
        "range": {"from": from.to_string(), "to": to.to_string()},
    }});
    let base = base(&grafana.url)?;
    let org = grafana
        .org
        .map_or_else(String::new, |org| format!("&orgId={org}"));
    let panes = percent_encoded(&panes.to_string());
    let url = format!("{base}/explore?schemaVersion=1{org}&panes={panes}");
    (url.len() <= LONGEST).then(|| Link {
        label: label.to_owned(),
        url,
    })
}

/// The address without a trailing slash, if it is one that a page may link to.
fn base(url: &str) -> Option<&str> {
    let web = url.starts_with("http://") || url.starts_with("https://");
    let plain = url
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"\"'<>\\^`{|}()[]*?#".contains(&b));
    (web && plain).then(|| url.trim_end_matches('/'))
}

/// Everything but the unreserved characters of RFC 3986 as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::testing::Run;
    use super::*;

    fn grafana(url: &str) -> Grafana {
        serde_json::from_value(json!({"url": url, "org": 3})).unwrap()
    }

    fn decoded(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                let hex = std::str::from_utf8(&hex).unwrap();
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn requests_and_objectives_link_to_their_queries_over_the_runs_time() {
        let mut run = Run::healthy();
        assert!(run.judged().requests[0].links.is_empty());
        run.facts.grafana = Some(grafana("https://grafana.example/sub/"));
        let report = run.judged();
        let request = &report.requests[0];
        let (head, panes) = request.links[0].url.split_once("&panes=").unwrap();
        assert_eq!(
            head,
            "https://grafana.example/sub/explore?schemaVersion=1&orgId=3"
        );
        let panes: Value = serde_json::from_str(&decoded(panes)).unwrap();
        let pane = &panes[PANE];
        assert_eq!(pane["datasource"], "tempo");
        assert_eq!(pane["queries"][0]["query"], request.trace.to_string());
        let from: u64 = pane["range"]["from"].as_str().unwrap().parse().unwrap();
        let due = run.facts.wall(request.due).0 / 1_000_000;
        assert!(from < due && due - from <= 10_000);
        assert!(
            decoded(&request.links[1].url).contains(&format!("trace_id=\\\"{}", request.trace))
        );
        let linked = |name: &str| {
            let found = report.objectives.iter().find(|o| o.name == name).unwrap();
            found.links.len()
        };
        assert!(linked("queue-wait") >= 2 && linked("error-lines") == 1 && linked("latency") == 0);
    }

    #[test]
    fn nothing_in_a_query_or_an_address_leaves_its_place() {
        let evil = "} or \"<script>\" & ?#' (\u{202e}) %41 ]";
        let query = json!({"expr": evil});
        let made = link(&grafana("http://g"), Backend::Loki, "x", query, (1, 2)).unwrap();
        let panes = made.url.split_once("&panes=").unwrap().1;
        assert!(
            panes
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~%".contains(&b))
        );
        let read: Value = serde_json::from_str(&decoded(panes)).unwrap();
        assert_eq!(read[PANE]["queries"][0]["expr"], evil);
        for address in [
            "javascript:alert(1)",
            "//elsewhere",
            "http://g/\"onclick=x",
            "http://g/) [x](http://h",
            "http://g/\u{202e}",
            "",
        ] {
            let made = link(&grafana(address), Backend::Loki, "x", json!({}), (1, 2));
            assert_eq!(made, None, "{address}");
        }
        let long = json!({"expr": "x".repeat(20_000)});
        assert_eq!(
            link(&grafana("http://g"), Backend::Loki, "x", long, (1, 2)),
            None
        );
    }
}
