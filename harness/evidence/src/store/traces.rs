//! Spans, by trace.
//!
//! Rows of fixed size point into tables in which every string and every attribute set is kept once:
//! a load test repeats the same few names, resources and attributes millions of times, and a row of
//! 72 bytes scans fast. What a query may have seen is only ever appended to, so a row's index stays good
//! after the lock is let go and a query can read in pieces, letting receivers in between.

mod attrs;
mod chunks;
mod convert;
mod ingest;
mod journal;
mod payload;
mod rows;
mod strings;
#[cfg(test)]
mod tests;
mod undo;

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::{DefaultHashBuilder, HashTable};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;

pub(crate) use attrs::{AttrSets, SetId, Value};
pub(crate) use payload::{OfResource, OfScope, Payload, SpanRef, Val};
pub(crate) use rows::{Extra, NO_SPAN, ResourceRow, ScopeRow, SpanRow, TraceRow};
pub(crate) use strings::{StrId, Strings};

use super::segment::Sink;
use crate::Ingested;
use chunks::Chunks;

/// Default of [`TraceStore::with_limit`], in bytes.
pub const DEFAULT_LIMIT_BYTES: usize = 1 << 30;

/// Spans by trace.
///
/// Many may read while one writes nothing; receivers and queries may run at the same time. When the
/// memory limit is reached, new spans are refused (and counted, and the sender told), what is stored
/// stays readable: evidence with a known hole is inconclusive, a dead process proves nothing.
pub struct TraceStore {
    /// Taken before `tables` and held for a batch: batches are recorded in the order they were stored.
    sink: Mutex<Sink>,
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
    /// Spans refused because they could not be recorded on disk, or the store was closed.
    pub not_recorded: u64,
    /// Bytes of stored data (without what an allocator keeps in reserve).
    pub bytes: u64,
}

impl TraceStats {
    /// Spans refused for any reason. Not 0 means that the evidence is incomplete.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused_invalid + self.refused_full + self.not_recorded
    }
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
            sink: Mutex::default(),
            tables: RwLock::new(Tables::default()),
            limit: bytes,
        }
    }

    /// Stores spans. Duplicates of a stored span count as accepted: the sender did nothing wrong by
    /// retrying.
    pub fn ingest(&self, spans: Vec<ResourceSpans>) -> Ingested {
        self.ingest_payload(&Payload::of(&spans))
    }

    /// As [`Self::ingest`], of spans that lie elsewhere.
    pub(crate) fn ingest_payload(&self, payload: &Payload<'_>) -> Ingested {
        let count = payload.spans.len() as u64;
        let mut sink = self.sink();
        if let Some(why) = sink.closed() {
            return self.lost(count, why.to_owned());
        }
        let mut tables = self.write();
        let was = sink.records().then(|| (tables.lengths(), tables.counters));
        let taken = ingest::ingest(&mut tables, self.limit, payload);
        if let Some((was, counters)) = was
            // Under the lock: no query sees a span before it is recorded.
            && let Err(why) = tables.record_since(&mut sink, was)
        {
            tables.forget_since(was);
            tables.counters = counters;
            drop(tables);
            return self.lost(count, why);
        }
        drop(tables);
        drop(sink);
        if taken.rejected > 0 {
            tracing::error!(spans = taken.rejected, why = %taken.message, "spans refused");
        }
        taken
    }

    /// Counts items that a receiver could not read.
    pub(crate) fn count_invalid(&self, items: u64) {
        self.write().counters.refused_invalid += items;
    }

    fn lost(&self, spans: u64, why: String) -> Ingested {
        self.write().counters.not_recorded += spans;
        Ingested {
            accepted: 0,
            rejected: spans,
            message: format!("{spans} spans are not recorded: {why}"),
            out_of_room: true,
        }
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
        let trace = tables.find(id)?;
        Some(convert::trace(&tables, trace))
    }

    /// Ids of all traces held, in order of arrival.
    pub fn trace_ids(&self) -> Vec<u128> {
        self.read().traces.iter().map(|t| t.id).collect()
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
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
    pub(crate) spans: Chunks<SpanRow>,
    pub(crate) extras: Vec<Extra>,
    /// Beyond the rows of `extras`: their lists.
    extras_bytes: usize,
    /// Traces that keep a set of their span ids, and the ids in these sets.
    long_traces: usize,
    long_ids: usize,
    pub(crate) traces: Chunks<TraceRow>,
    /// Places in `traces`, by trace id.
    by_id: HashTable<u32>,
    hasher: DefaultHashBuilder,
    counters: TraceStats,
    /// Attributes of the last set that came, by their places in it.
    recent: Vec<(StrId, Value)>,
}

/// What an id costs in a trace's set of ids: itself and a control byte, in a table that is filled to
/// seven eighths at most and to two thirds in the middle.
const LONG_ID_BYTES: usize = (size_of::<u64>() + 1) * 3 / 2;

impl Tables {
    /// Rows of one trace, in order of arrival.
    pub(crate) fn spans_of(&self, trace: &TraceRow) -> impl Iterator<Item = u32> + '_ {
        let first = Some(trace.first);
        std::iter::successors(first, |at| {
            Some(self.spans[*at as usize].next).filter(|next| *next != NO_SPAN)
        })
    }

    fn hash_of(&self, trace: u128) -> u64 {
        self.hasher.hash_one(trace)
    }

    /// The row of a trace, when any span of it was received.
    fn find(&self, id: u128) -> Option<u32> {
        let same = |at: &u32| self.traces[*at as usize].id == id;
        self.by_id.find(self.hash_of(id), same).copied()
    }

    /// Events, links and the rest of a span; `None` for the many spans that have none.
    pub(crate) fn extra(&self, span: &SpanRow) -> Option<&Extra> {
        (span.extra != 0).then(|| &self.extras[span.extra as usize - 1])
    }

    /// Bytes that the tables take. Chunks are counted by what is used of them: the rest of the last one
    /// has never been touched.
    fn bytes(&self) -> usize {
        self.strings.bytes()
            + self.sets.bytes()
            + self.spans.len() * size_of::<SpanRow>()
            + self.extras.capacity() * size_of::<Extra>()
            + self.extras_bytes
            + self.traces.len() * size_of::<TraceRow>()
            + self.by_id.allocation_size()
            + self.long_traces * size_of::<HashSet<u64>>()
            + self.long_ids * LONG_ID_BYTES
            + self.resources.len() * 3 * size_of::<ResourceRow>()
            + self.scopes.len() * 3 * size_of::<ScopeRow>()
    }
}
