//! The rows of the tables.

use std::collections::HashSet;

use super::{SetId, StrId};

/// Marks the end of a trace's chain of spans, and a trace whose root has not come.
pub(crate) const NO_SPAN: u32 = u32::MAX;

/// One span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanRow {
    /// Span id, big-endian.
    pub(crate) id: u64,
    /// Parent span id, 0 for a root.
    pub(crate) parent: u64,
    /// Start, nanoseconds since the Unix epoch.
    pub(crate) start: u64,
    /// End, nanoseconds since the Unix epoch.
    pub(crate) end: u64,
    /// Index of the trace.
    pub(crate) trace: u32,
    /// Next span of the same trace, or [`NO_SPAN`].
    pub(crate) next: u32,
    pub(crate) name: StrId,
    pub(crate) status_message: StrId,
    pub(crate) attrs: SetId,
    pub(crate) resource: u32,
    pub(crate) scope: u32,
    /// Index of its [`Extra`] plus one, 0 for none.
    pub(crate) extra: u32,
    /// OTLP's number of the kind, 0..=5.
    pub(crate) kind: u8,
    /// OTLP's number of the status: 0 unset, 1 ok, 2 error.
    pub(crate) status: u8,
}

impl SpanRow {
    /// Length in nanoseconds; a span that ends before it starts has none.
    pub(crate) fn duration(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// What most spans lack.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) trace_state: StrId,
    pub(crate) flags: u32,
    pub(crate) dropped_attributes: u32,
    pub(crate) dropped_events: u32,
    pub(crate) dropped_links: u32,
    pub(crate) events: Box<[EventRow]>,
    pub(crate) links: Box<[LinkRow]>,
}

/// Something that happened during a span.
#[derive(Debug)]
pub(crate) struct EventRow {
    /// Nanoseconds since the Unix epoch.
    pub(crate) time: u64,
    pub(crate) name: StrId,
    pub(crate) attrs: SetId,
    pub(crate) dropped_attributes: u32,
}

/// A pointer to another span.
#[derive(Debug)]
pub(crate) struct LinkRow {
    pub(crate) trace: u128,
    pub(crate) span: u64,
    pub(crate) trace_state: StrId,
    pub(crate) attrs: SetId,
    pub(crate) dropped_attributes: u32,
    pub(crate) flags: u32,
}

/// What sent the span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ResourceRow {
    pub(crate) attrs: SetId,
    /// `service.name`, the empty string when it has none.
    pub(crate) service: StrId,
    pub(crate) dropped_attributes: u32,
    pub(crate) schema_url: StrId,
}

/// The library that made the span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ScopeRow {
    pub(crate) name: StrId,
    pub(crate) version: StrId,
    pub(crate) attrs: SetId,
    pub(crate) dropped_attributes: u32,
    pub(crate) schema_url: StrId,
}

/// One trace. What a search shows of every trace is kept up to date as spans come in.
#[derive(Debug)]
pub(crate) struct TraceRow {
    /// Trace id, big-endian.
    pub(crate) id: u128,
    /// Earliest start, nanoseconds since the Unix epoch.
    pub(crate) start: u64,
    /// Latest end, nanoseconds since the Unix epoch.
    pub(crate) end: u64,
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) count: u32,
    /// The span without a parent (the earliest, if a trace has several), or [`NO_SPAN`].
    pub(crate) root: u32,
    /// Span ids, kept once the trace is too long to look through for each new span.
    #[allow(
        clippy::box_collection,
        reason = "most traces have none, and there are millions of rows: 8 bytes each, not 48"
    )]
    pub(crate) ids: Option<Box<HashSet<u64>>>,
}

impl TraceRow {
    /// A trace without a span yet, and so with the extent of none.
    pub(crate) fn empty(id: u128) -> Self {
        Self {
            id,
            start: u64::MAX,
            end: 0,
            first: NO_SPAN,
            last: NO_SPAN,
            count: 0,
            root: NO_SPAN,
            ids: None,
        }
    }
}
