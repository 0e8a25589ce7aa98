use super::*;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;

type Borrowed<'a> = [(&'a str, &'a str)];

fn push(labels: &Borrowed, entries: &[(i64, &str, &Borrowed)]) -> Vec<PushStream> {
    let own = |pairs: &Borrowed| -> Pairs {
        pairs
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect()
    };
    vec![PushStream {
        labels: own(labels),
        entries: entries
            .iter()
            .map(|(ts, line, meta)| (*ts, line.to_string(), own(meta)))
            .collect(),
    }]
}

fn otlp(json: serde_json::Value) -> Vec<opentelemetry_proto::tonic::logs::v1::ResourceLogs> {
    serde_json::from_value::<ExportLogsServiceRequest>(json)
        .expect("an OTLP request")
        .resource_logs
}

#[test]
fn the_same_line_is_stored_once_and_a_line_with_other_metadata_is_kept() {
    let store = LogStore::default();
    let done = store.ingest_push(push(
        &[("app", "x")],
        &[
            (1, "a", &[]),
            (1, "a", &[]),
            (1, "b", &[]),
            (1, "a", &[("trace_id", "1")]),
            (2, "a", &[]),
        ],
    ));
    assert_eq!((done.accepted, done.rejected), (5, 0));
    let stats = store.stats();
    assert_eq!((stats.entries, stats.duplicates, stats.streams), (4, 1, 1));
}

#[test]
fn a_full_store_refuses_loudly_and_keeps_what_it_has() {
    let store = LogStore::new(LogLimits {
        memory_bytes: 2_000,
        ..LogLimits::default()
    });
    let line = "x".repeat(500);
    let mut rejected = 0;
    for ts in 0..10 {
        let done = store.ingest_push(push(&[("app", "x")], &[(ts, &line, &[])]));
        rejected += done.rejected;
        assert_eq!(done.rejected == 0, done.message.is_empty());
    }
    let stats = store.stats();
    assert!(rejected > 0 && stats.refused_memory == rejected);
    assert_eq!(stats.entries + rejected, 10);
    assert!(stats.memory_bytes <= 2_000);
}

#[test]
fn limits_on_one_line_are_counted() {
    let store = LogStore::default();
    let long = "y".repeat(300_000);
    let done = store.ingest_push(push(&[("service_name", "big")], &[(1, &long, &[])]));
    assert_eq!(
        done.message,
        "max entry size '262144' bytes exceeded for stream '{service_name=\"big\"}' while adding an entry with length '300000' bytes"
    );
    let names: Vec<String> = (0..16).map(|n| format!("l{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "v")).collect();
    assert_eq!(store.ingest_push(push(&many, &[(1, "y", &[])])).rejected, 1);
    assert_eq!(store.stats().refused_invalid, 2);
}

#[test]
fn a_push_without_a_service_gets_one() {
    let store = LogStore::default();
    store.ingest_push(push(&[("app", "api")], &[(1, "x", &[])]));
    store.ingest_push(push(&[], &[(1, "x", &[])]));
    let got: Vec<String> = store
        .series(0, 9, |_| true)
        .iter()
        .map(Labels::to_string)
        .collect();
    assert_eq!(
        got,
        [
            r#"{app="api", service_name="api"}"#,
            r#"{service_name="unknown_service"}"#
        ]
    );
}

#[test]
fn otlp_maps_as_loki_does() {
    let store = LogStore::default();
    let done = store.ingest_otlp(otlp(serde_json::json!({"resourceLogs": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"stringValue": "infer"}},
            {"key": "deployment.environment", "value": {"stringValue": "test"}},
            {"key": "k8s.pod.name", "value": {"stringValue": "p-0"}},
            {"key": "service.version", "value": {"stringValue": "1.2"}},
            {"key": "feature.flags", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "2"}]}}},
        ]},
        "scopeLogs": [{
            "scope": {"name": "cap", "version": "9"},
            "logRecords": [{
                "timeUnixNano": "5", "observedTimeUnixNano": "6",
                "severityNumber": 17, "severityText": "ERROR",
                "body": {"kvlistValue": {"values": [
                    {"key": "n", "value": {"intValue": "3"}}, {"key": "msg", "value": {"stringValue": "m"}}]}},
                "attributes": [
                    {"key": "http.status_code", "value": {"intValue": "500"}},
                    {"key": "user", "value": {"kvlistValue": {"values": [{"key": "id", "value": {"intValue": "7"}}]}}},
                    {"key": "ok", "value": {"boolValue": false}},
                    {"key": "ms", "value": {"doubleValue": 10.5}}],
                "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "flags": 1
            }]
        }]
    }]})));
    assert_eq!(done.accepted, 1);
    let got = &store.select(0, 9, |_| true)[0];
    assert_eq!(
        got.labels.to_string(),
        r#"{deployment_environment="test", k8s_pod_name="p-0", service_name="infer"}"#
    );
    let entry = &got.entries[0];
    assert_eq!((entry.ts, &*entry.line), (5, r#"{"msg":"m","n":3}"#));
    assert_eq!(
        entry.metadata.to_string(),
        r#"{detected_level="error", feature_flags="[\"a\",2]", flags="1", http_status_code="500", ms="10.5", observed_timestamp="6", ok="false", scope_name="cap", scope_version="9", service_version="1.2", severity_number="17", severity_text="ERROR", span_id="eee19b7ec3c1b174", trace_id="5b8efff798038103d269b633813fc60c", user_id="7"}"#
    );
}

#[test]
fn otlp_without_time_or_service_is_still_stored() {
    let store = LogStore::default();
    store.ingest_otlp(otlp(
        serde_json::json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [
            {"observedTimeUnixNano": "77", "body": {"stringValue": "x"}},
            {"body": {"stringValue": "now"}}
        ]}]}]}),
    ));
    let got = &store.select(0, i64::MAX, |_| true)[0];
    assert_eq!(got.labels.get("service_name"), Some("unknown_service"));
    assert_eq!(got.entries[0].ts, 77);
    assert!(got.entries[1].ts > 77);
    assert_eq!(
        got.entries[0].metadata.get("detected_level"),
        Some("unknown")
    );
}

#[test]
fn writers_and_readers_work_at_the_same_time() {
    let store = LogStore::default();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for ts in 0..500 {
                    let line = format!("{writer} {ts}");
                    store.ingest_push(push(&[("app", "x")], &[(ts, &line, &[])]));
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..50 {
                    for selected in store.select(0, 500, |_| true) {
                        assert!(selected.entries.iter().is_sorted_by_key(|e| e.ts));
                    }
                }
            });
        }
    });
    assert_eq!(store.stats().entries, 2_000);
}

/// Recorded: `loki_err_push_too_old`, `loki_err_push_future`, `loki_ooo_2h`.
#[test]
fn lines_of_impossible_times_are_refused_as_loki_does() {
    let store = LogStore::new(LogLimits {
        time_rules: true,
        ..LogLimits::default()
    });
    let now = age::now();
    let second = 1_000_000_000;
    for (back, refused) in [
        (8 * 24 * 3600, Some("has timestamp too old: ")),
        (-3600, Some("has timestamp too new: ")),
        (-590, None),
        (2900, None),
        (7200, Some("entry too far behind, entry timestamp is: ")),
    ] {
        let done = store.ingest_push(push(&[("app", "x")], &[(now - back * second, "a", &[])]));
        match refused {
            None => assert_eq!(done.rejected, 0, "{back}: {}", done.message),
            Some(why) => assert!(done.rejected == 1 && done.message.contains(why), "{done:?}"),
        }
    }
    assert_eq!(store.stats().refused_invalid, 3);
    // Another stream has its own newest line.
    let done = store.ingest_push(push(&[("app", "y")], &[(now - 7200 * second, "a", &[])]));
    assert_eq!(done.accepted, 1, "{}", done.message);
}
