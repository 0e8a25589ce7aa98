//! Any bytes are an OTLP/JSON payload or an error; what is one is stored or refused to the last item,
//! and is written as a text that reads back the same.
#![no_main]

use harness_evidence::Evidence;
use harness_evidence::receive::otlp::{json_logs, json_metrics, json_traces};
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

fuzz_target!(|body: &[u8]| {
    let evidence = Evidence::default();
    if let Ok(resource_spans) = json_traces(body) {
        let written = |resource_spans| {
            serde_json::to_string(&ExportTraceServiceRequest { resource_spans }).expect("JSON")
        };
        let text = written(resource_spans.clone());
        let again = json_traces(text.as_bytes()).unwrap_or_else(|e| panic!("{e}: {text}"));
        assert_eq!(written(again), text);
        let scopes = resource_spans.iter().flat_map(|of| &of.scope_spans);
        let sent: usize = scopes.map(|of| of.spans.len()).sum();
        let taken = evidence.traces.ingest(resource_spans);
        assert_eq!(taken.accepted + taken.rejected, sent as u64);
        for id in evidence.traces.trace_ids() {
            assert!(evidence.traces.trace(id).is_some());
        }
    }
    if let Ok(resource_logs) = json_logs(body) {
        let scopes = resource_logs.iter().flat_map(|of| &of.scope_logs);
        let sent: usize = scopes.map(|of| of.log_records.len()).sum();
        let taken = evidence.logs.ingest_otlp(resource_logs);
        assert_eq!(taken.accepted + taken.rejected, sent as u64);
    }
    if let Ok(resource_metrics) = json_metrics(body) {
        let _ = evidence.metrics.ingest_otlp(resource_metrics);
    }
});
