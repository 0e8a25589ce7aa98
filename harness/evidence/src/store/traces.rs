//! Spans, by trace.
//!
//! Rows of fixed size point into tables in which every string and every attribute set is kept once:
//! a load test repeats the same few names, resources and attributes millions of times, and a row of
//! 72 bytes scans fast. Data is only ever appended, so a row's index stays good after the lock is let go and
//! a query can read in pieces, letting receivers in between.

mod attrs;
mod convert;
mod ingest;
mod rows;
mod strings;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use opentelemetry_proto::tonic::trace::v1::ResourceSpans;

pub(crate) use attrs::{AttrSets, SetId, Value};
pub(crate) use rows::{Extra, NO_SPAN, ResourceRow, ScopeRow, SpanRow, TraceRow};
pub(crate) use strings::{StrId, Strings};

use crate::Ingested;

/// Default of [`TraceStore::with_limit`], in bytes.
pub const DEFAULT_LIMIT_BYTES: usize = 1 << 30;

/// Spans by trace.
///
/// Many may read while one writes nothing; receivers and queries may run at the same time. When the
/// memory limit is reached, new spans are refused (and counted, and the sender told), what is stored
/// stays readable: evidence with a known hole is inconclusive, a dead process proves nothing.
pub struct TraceStore {
    tables: RwLock<Tables>,
    limit: usize,
}

/// What the store holds and what it refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TraceStats {
    /// Traces with at least one span.
    pub traces: u64,
    /// Spans stored.
    pub spans: u64,
    /// Spans that were already stored under the same trace and span id: taken, not stored again.
    pub duplicates: u64,
    /// Spans refused because an id was missing, all zero or of the wrong length.
    pub refused_invalid: u64,
    /// Spans refused because the memory limit was reached. Not zero means incomplete evidence.
    pub refused_full: u64,
    /// Bytes of stored data (without what an allocator keeps in reserve).
    pub bytes: u64,
}

impl Default for TraceStore {
    fn default() -> Self {
        Self::with_limit(DEFAULT_LIMIT_BYTES)
    }
}

impl TraceStore {
    /// An empty store that refuses new spans once it holds `bytes` of data.
    #[must_use]
    pub fn with_limit(bytes: usize) -> Self {
        Self {
            tables: RwLock::new(Tables::default()),
            limit: bytes,
        }
    }

    /// Stores spans. Duplicates of a stored span count as accepted: the sender did nothing wrong by
    /// retrying.
    pub fn ingest(&self, spans: Vec<ResourceSpans>) -> Ingested {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let taken = ingest::ingest(&mut tables, self.limit, spans);
        drop(tables);
        if taken.rejected > 0 {
            tracing::error!(spans = taken.rejected, why = %taken.message, "spans refused");
        }
        taken
    }

    /// What is held and what was refused so far.
    pub fn stats(&self) -> TraceStats {
        let tables = self.read();
        TraceStats {
            traces: tables.traces.len() as u64,
            spans: tables.spans.len() as u64,
            bytes: tables.bytes() as u64,
            ..tables.counters
        }
    }

    /// One trace by its id (big-endian, as OTLP writes it), spans grouped by resource and scope in
    /// order of arrival; `None` when no span of it was received.
    pub fn trace(&self, id: u128) -> Option<Vec<ResourceSpans>> {
        let tables = self.read();
        let trace = *tables.by_id.get(&id)?;
        Some(convert::trace(&tables, trace))
    }

    /// Ids of all traces held, in order of arrival.
    pub fn trace_ids(&self) -> Vec<u128> {
        self.read().traces.iter().map(|t| t.id).collect()
    }

    /// The tables, for a query. Hold it for a bounded number of traces: receivers wait meanwhile.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Tables> {
        // A panic while writing can lose the span it was writing, never bend what is stored: every
        // row is pushed whole. So a poisoned lock is not worse than a refused span.
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All tables. An index into one is a `u32`.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) strings: Strings,
    pub(crate) sets: AttrSets,
    pub(crate) resources: Vec<ResourceRow>,
    resource_index: HashMap<ResourceRow, u32>,
    pub(crate) scopes: Vec<ScopeRow>,
    scope_index: HashMap<ScopeRow, u32>,
    pub(crate) spans: Vec<SpanRow>,
    pub(crate) extras: Vec<Extra>,
    extras_bytes: usize,
    pub(crate) traces: Vec<TraceRow>,
    by_id: HashMap<u128, u32>,
    counters: TraceStats,
}

impl Tables {
    /// Rows of one trace, in order of arrival.
    pub(crate) fn spans_of(&self, trace: &TraceRow) -> impl Iterator<Item = u32> + '_ {
        let first = Some(trace.first);
        std::iter::successors(first, |at| {
            Some(self.spans[*at as usize].next).filter(|next| *next != NO_SPAN)
        })
    }

    /// Events, links and the rest of a span; `None` for the many spans that have none.
    pub(crate) fn extra(&self, span: &SpanRow) -> Option<&Extra> {
        (span.extra != 0).then(|| &self.extras[span.extra as usize - 1])
    }

    fn bytes(&self) -> usize {
        // A hash map entry costs its size and about a seventh more, and a control byte.
        let indexed = |len: usize, entry: usize| len * (entry + entry / 7 + 1);
        self.strings.bytes()
            + self.sets.bytes()
            + self.spans.len() * size_of::<SpanRow>()
            + self.extras_bytes
            + self.traces.len() * size_of::<TraceRow>()
            + indexed(self.by_id.len(), size_of::<(u128, u32)>())
            + self.resources.len() * 3 * size_of::<ResourceRow>()
            + self.scopes.len() * 3 * size_of::<ScopeRow>()
    }
}
