//! `TELEMETRY.md`, the constants and what is really exposed say the same.

use std::collections::BTreeMap;

use super::names::{self, attribute, event, label, reason, resource, span};
use super::*;

const PAGE: &str = include_str!("../../TELEMETRY.md");

/// Rows of the table under `heading`, cells trimmed.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let section = PAGE.split(heading).nth(1).expect(heading);
    let section = section.split("\n## ").next().unwrap_or_default();
    section
        .lines()
        .filter(|l| l.starts_with("| `"))
        .map(|l| {
            l.trim_matches('|')
                .split(" |")
                .map(|c| c.trim().to_owned())
                .collect()
        })
        .collect()
}

#[test]
fn the_page_lists_exactly_the_metrics_there_are() {
    let published: Vec<Vec<String>> = rows("## Metrics");
    let declared: Vec<Vec<String>> = names::METRICS
        .iter()
        .map(|m| {
            let labels: Vec<String> = m.labels.iter().map(|l| format!("`{l}`")).collect();
            let name = format!("`{}`", m.name);
            vec![
                name,
                m.kind.as_str().to_owned(),
                labels.join(", "),
                m.help.to_owned(),
            ]
        })
        .collect();
    assert_eq!(published, declared);
}

#[test]
fn the_page_names_every_span_attribute_event_and_reason() {
    let all = [
        span::ALL,
        &[span::BATCH],
        span::GENERATION,
        attribute::ALL,
        event::ALL,
        resource::ALL,
        reason::REJECTIONS,
        reason::DROPS,
    ];
    for name in all.concat() {
        assert!(
            PAGE.contains(&format!("`{name}`")),
            "TELEMETRY.md does not name {name}"
        );
    }
}

/// Name to type, and name to label names, of an exposition.
fn families(text: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let mut families = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|s| name.strip_suffix(s));
            let base = base
                .filter(|b| families.contains_key(*b))
                .unwrap_or(name)
                .to_owned();
            let labels = line
                .split_once('{')
                .map_or("", |(_, l)| l.split_once('}').unwrap().0);
            let labels = labels
                .split(',')
                .filter_map(|l| l.split_once('='))
                .map(|(k, _)| k);
            let labels: Vec<String> = labels.filter(|k| *k != "le").map(str::to_owned).collect();
            families.get_mut(&base).unwrap().1 = labels;
        }
    }
    families
}

#[test]
fn the_first_scrape_shows_what_is_declared() {
    let metrics = Metrics::for_tests();
    metrics.show_model("m", "r", names::TEXT_COMPLETION, Duration::from_secs(1));
    let text = String::from_utf8(metrics.render().unwrap()).unwrap();
    let shown = families(&text);
    let quota: Vec<&str> = names::WITH_QUOTA.iter().map(|m| m.name).collect();
    let declared: Vec<&names::Metric> = names::METRICS
        .iter()
        .filter(|m| !quota.contains(&m.name) || shown.contains_key(m.name))
        .collect();
    for metric in &declared {
        let (kind, labels) = shown
            .get(metric.name)
            .unwrap_or_else(|| panic!("{}", metric.name));
        assert_eq!(kind, metric.kind.as_str(), "{}", metric.name);
        let mut labels = labels.clone();
        labels.sort();
        let mut declared = metric.labels.to_vec();
        declared.sort_unstable();
        assert_eq!(labels, declared, "{}", metric.name);
    }
    assert_eq!(
        shown.len(),
        declared.len(),
        "nothing undeclared is shown: {shown:?}"
    );
    let zero = format!(
        "http_server_request_duration_seconds_count{{{}=\"POST\",{}=\"200\",{}=\"/predict\"}} 0",
        label::METHOD,
        label::STATUS,
        label::ROUTE
    );
    assert!(text.contains(&zero), "{text}");
    assert!(text.contains("inference_rejected_total{reason=\"queue_full\"} 0"));
    for bound in ["0.005", "0.075", "0.25", "0.75", "7.5", "10"] {
        assert!(text.contains(&format!("le=\"{bound}\"")), "bucket {bound}");
    }
}

#[test]
fn resource_attributes_become_labels() {
    let env = |key: &str| {
        (key == "OTEL_RESOURCE_ATTRIBUTES").then(|| "deployment.environment.name=ci".to_owned())
    };
    let metrics = Metrics::new(&Identity::resolve(&env, "i").unwrap()).unwrap();
    let text = String::from_utf8(metrics.render().unwrap()).unwrap();
    let info = text
        .lines()
        .find(|l| l.starts_with("target_info{"))
        .unwrap();
    assert!(
        info.contains("deployment_environment_name=\"ci\""),
        "{info}"
    );
    assert!(
        info.contains("service_name=\"target-service\"") && info.ends_with("} 1"),
        "{info}"
    );
}
