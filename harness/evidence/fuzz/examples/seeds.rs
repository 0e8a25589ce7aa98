//! Writes what the fuzzer of segments starts from: `seeds DIR`. The payloads in `seeds/otlp_json` are
//! recorded, and each body of the segments becomes an input.

use std::path::Path;

use harness_evidence::Evidence;
use harness_evidence::receive::otlp::{json_logs, json_metrics, json_traces};
use harness_evidence::store::segment::Signal;

#[path = "../../tests/support/segment.rs"]
#[allow(dead_code, reason = "the fuzzer and the tests use the rest")]
mod support;

fn main() {
    let to = std::env::args().nth(1).expect("usage: seeds DIR");
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("seeds/otlp_json")
            .join(name);
        std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let dir = std::env::temp_dir().join(format!("harness-seeds-{}", std::process::id()));
    let evidence = Evidence::default();
    evidence.record(&dir, u64::MAX).expect("recording");
    evidence
        .traces
        .ingest(json_traces(&read("traces.json")).expect("spans"));
    evidence
        .logs
        .ingest_otlp(json_logs(&read("logs.json")).expect("records"));
    evidence
        .metrics
        .ingest_otlp(json_metrics(&read("metrics.json")).expect("points"));
    evidence.close(&dir).expect("closed");
    for (number, signal) in Signal::ALL.into_iter().enumerate() {
        let segment = std::fs::read(dir.join(signal.file_name())).expect("a segment");
        let mut seed = vec![number as u8];
        for body in support::bodies(&segment) {
            let length = u16::try_from(body.len()).expect("a short body");
            seed.extend(length.to_le_bytes());
            seed.extend(body);
        }
        let path = Path::new(&to).join(signal.file_name());
        std::fs::write(&path, seed).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    std::fs::remove_dir_all(&dir).expect("removed");
}
