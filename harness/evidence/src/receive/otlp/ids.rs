//! Trace and span ids of an OTLP/JSON payload.
//!
//! In OTLP/JSON ids are hex, not the base64 of ordinary protobuf JSON. Base64 of the right bytes is
//! often valid hex of the wrong length, so the length is checked here, as the collector does.

use opentelemetry_proto::tonic::trace::v1::ResourceSpans;

/// Finds the first id of a wrong length.
pub(super) fn check(spans: &[ResourceSpans]) -> Result<(), String> {
    let all = spans
        .iter()
        .flat_map(|r| &r.scope_spans)
        .flat_map(|s| &s.spans);
    for span in all {
        let of = |what: &str, id: &[u8], bytes: usize| {
            if id.is_empty() || id.len() == bytes {
                return Ok(());
            }
            Err(format!(
                "{what} of span {:?}: length mismatch: {} bytes of hex where {bytes} are right",
                span.name,
                id.len()
            ))
        };
        of("traceId", &span.trace_id, 16)?;
        of("spanId", &span.span_id, 8)?;
        of("parentSpanId", &span.parent_span_id, 8)?;
        for link in &span.links {
            of("link traceId", &link.trace_id, 16)?;
            of("link spanId", &link.span_id, 8)?;
        }
    }
    Ok(())
}
