//! OTLP log records to streams, as Loki 3 maps them.
//!
//! The resource attributes that Loki's documentation lists as index labels become labels, with dots
//! as underscores. Everything else (other resource attributes, scope, record attributes and
//! fields) becomes structured metadata. Recorded: `loki_range_streams_otlp`.

use super::journal::Batch;
use super::{LogStore, Pairs, level, sanitize_name, with_service_name};
use crate::Ingested;
use base64::Engine as _;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const INDEX_LABELS: [&str; 18] = [
    "cloud.availability_zone",
    "cloud.region",
    "container.name",
    "deployment.environment",
    "deployment.environment.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.replicaset.name",
    "k8s.statefulset.name",
    "service.instance.id",
    "service.name",
    "service.namespace",
];

impl LogStore {
    /// Stores what an OTLP export carried. A record without a time is taken at its observed time,
    /// and without that at the time of arrival.
    pub fn ingest_otlp(&self, logs: Vec<ResourceLogs>) -> Ingested {
        let scopes = logs.iter().flat_map(|r| &r.scope_logs);
        let records = scopes.map(|s| s.log_records.len() as u64).sum();
        self.batch(records, |batch| self.take_otlp(logs, batch))
    }

    fn take_otlp(&self, logs: Vec<ResourceLogs>, batch: &mut Batch) {
        for resource_logs in logs {
            let attributes = resource_logs.resource.unwrap_or_default().attributes;
            let (index, rest): (Vec<KeyValue>, Vec<KeyValue>) = attributes
                .into_iter()
                .partition(|kv| INDEX_LABELS.contains(&kv.key.as_str()));
            let labels: Pairs = flatten(index);
            let labels = with_service_name_otlp(&labels);
            let stream = self.stream(&labels, batch);
            let resource = self.intern_pairs(&flatten(rest));
            for scope_logs in resource_logs.scope_logs {
                let scope = self.intern_pairs(&scope_pairs(scope_logs.scope.unwrap_or_default()));
                for record in scope_logs.log_records {
                    let ts = timestamp(&record);
                    let line = record.body.as_ref().map(text).unwrap_or_default();
                    let own = record_pairs(record, &line);
                    // The most specific comes last and so wins.
                    let mut metadata: Vec<(Arc<str>, Arc<str>)> = resource.clone();
                    metadata.extend_from_slice(&scope);
                    metadata.extend(self.intern_pairs(&own));
                    self.append(&stream, ts, &line, metadata, batch);
                }
            }
        }
    }
}

/// Loki looks at other labels for a service's name only on its own push road; here what is missing
/// is unknown.
fn with_service_name_otlp(pairs: &[(String, String)]) -> super::Labels {
    let labels = super::labels_of(pairs);
    if labels.get("service_name").is_some() {
        return labels;
    }
    with_service_name(
        labels
            .iter()
            .chain([("service_name", "unknown_service")])
            .collect(),
    )
}

fn timestamp(record: &LogRecord) -> i64 {
    let sent = [record.time_unix_nano, record.observed_time_unix_nano]
        .into_iter()
        .find(|t| *t != 0);
    let ns = sent.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
    });
    i64::try_from(ns).unwrap_or(i64::MAX)
}

fn scope_pairs(scope: InstrumentationScope) -> Pairs {
    let mut pairs = flatten(scope.attributes);
    pairs.push(("scope_name".into(), scope.name));
    pairs.push(("scope_version".into(), scope.version));
    pairs
}

fn record_pairs(record: LogRecord, line: &str) -> Pairs {
    let mut pairs = flatten(record.attributes);
    let mut field = |name: &str, value: String| pairs.push((name.into(), value));
    let number = |n: u64| {
        if n == 0 { String::new() } else { n.to_string() }
    };
    field("observed_timestamp", number(record.observed_time_unix_nano));
    let severity = u64::try_from(record.severity_number).unwrap_or(0);
    field("severity_number", number(severity));
    field("severity_text", record.severity_text.clone());
    field("flags", number(record.flags.into()));
    field("trace_id", hex(&record.trace_id));
    field("span_id", hex(&record.span_id));
    field("event_name", record.event_name);
    let dropped = record.dropped_attributes_count.into();
    field("dropped_attributes_count", number(dropped));
    pairs.retain(|(_, value)| !value.is_empty());
    if !pairs.iter().any(|(name, _)| name == "detected_level") {
        let level = level::from_severity(record.severity_number)
            .or_else(|| level::normal(&record.severity_text))
            .or_else(|| level::from_pairs(&pairs))
            .unwrap_or_else(|| level::from_line(line));
        pairs.push(("detected_level".into(), level.into()));
    }
    pairs
}

/// Attributes as names and texts; a map becomes one pair a leaf, its keys joined by `_`.
fn flatten(attributes: Vec<KeyValue>) -> Pairs {
    let mut pairs = Pairs::new();
    for attribute in attributes {
        let name = sanitize_name(&attribute.key);
        match attribute.value.and_then(|v| v.value) {
            Some(Value::KvlistValue(list)) => pairs.extend(
                flatten(list.values)
                    .into_iter()
                    .map(|(inner, value)| (format!("{name}_{inner}"), value)),
            ),
            value => pairs.push((name, text(&AnyValue { value }))),
        }
    }
    pairs
}

/// A value as text: scalars plainly, bytes in base64, arrays and maps as JSON.
fn text(value: &AnyValue) -> String {
    match &value.value {
        None => String::new(),
        Some(Value::StringValue(s)) => s.clone(),
        Some(Value::BytesValue(b)) => base64::engine::general_purpose::STANDARD.encode(b),
        Some(Value::BoolValue(b)) => b.to_string(),
        Some(Value::IntValue(i)) => i.to_string(),
        Some(Value::DoubleValue(d)) => d.to_string(),
        Some(_) => json(value).to_string(),
    }
}

fn json(value: &AnyValue) -> serde_json::Value {
    match &value.value {
        None => serde_json::Value::Null,
        Some(Value::BoolValue(b)) => (*b).into(),
        Some(Value::IntValue(i)) => (*i).into(),
        Some(Value::DoubleValue(d)) => (*d).into(),
        Some(Value::ArrayValue(list)) => list.values.iter().map(json).collect(),
        Some(Value::KvlistValue(list)) => {
            let mut pairs: Vec<_> = list
                .values
                .iter()
                .map(|kv| {
                    let inner = kv.value.as_ref().map_or(serde_json::Value::Null, json);
                    (kv.key.clone(), inner)
                })
                .collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            pairs.into_iter().collect()
        }
        Some(_) => text(value).into(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            // Writing to a string cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}
