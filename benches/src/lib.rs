//! What the benches share. They lie in `benches/`: `inference` (the target service's model), `load`
//! (schedule, requests, recording), `queries` (PromQL, LogQL and TraceQL over stores in memory) and
//! `stores` (filling the stores, recorded and not, and reading much of them).

use std::path::Path;

/// The text of the documents that the shipped scenarios send: JSONL, a document a line.
///
/// # Panics
/// When the file cannot be read: without it there is nothing to measure.
#[must_use]
pub fn documents() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/data/documents.jsonl");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("reading {}: {e}", path.display()))
}
