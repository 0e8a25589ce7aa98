//! Spans.
/// Spans by trace.
#[derive(Default)]
pub struct TraceStore {}
