//! The trace store's segment.
//!
//! A body is what one batch added to each of the store's tables, in the terms of
//! [`segment`](crate::store::segment). Rows are numbered in the order they appear in the file: texts
//! from 1 (0 is the empty text), attribute sets from 1 (0 is the empty set), extras from 1 (0 is
//! none), all others from 0.
//!
//! ```text
//! batch     = 1 texts nested nested sets resources scopes traces extras spans
//! texts     = n (n: text)
//! nested    = n (n: AnyValue)                  protobuf bytes; first the arrays of scalars, then the
//!                                              other values that are not scalars
//! sets      = n (n: k (k: text value))
//! value     = 0 text | 1 signed | 2 double | 3 (false) | 4 (true) | 5 array | 6 other
//! resources = n (n: set service:text dropped schema:text)
//! scopes    = n (n: name:text version:text set dropped schema:text)
//! traces    = n (n: id)                                                   16 bytes, big-endian
//! extras    = n (n: state:text flags dropped dropped dropped              attributes, events, links
//!                k (k: time:signed name:text set dropped)                 events
//!                l (l: trace span state:text set dropped flags))          links: 16 and 8 bytes
//! spans     = n (n: flags id [parent] trace:signed start:signed length:signed name:text
//!                status:text set resource scope extra)
//! flags     = kind + 8 * status + 32 if there is a parent
//! ```
//!
//! Ids are 8 bytes, big-endian. A span's trace and start are minus those of the span before in the
//! body (from 0), an event's time is minus 0; a length is end minus start, wrapping.

use std::path::Path;
use std::sync::{MutexGuard, PoisonError};

use opentelemetry_proto::tonic::common::v1::AnyValue;
use prost::Message;

use super::rows::{EventRow, LinkRow};
use super::{
    Extra, NO_SPAN, ResourceRow, ScopeRow, SetId, SpanRow, StrId, Tables, TraceStore, Value,
    convert,
};
use crate::store::segment::codec::{Put, Take};
use crate::store::segment::{self, SegmentError, SegmentReport, Signal, Sink, Source};

const BATCH: u8 = 1;
const PARENT: u8 = 32;

/// How many rows each table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) texts: usize,
    pub(super) arrays: usize,
    pub(super) others: usize,
    pub(super) sets: usize,
    pub(super) resources: usize,
    pub(super) scopes: usize,
    pub(super) traces: usize,
    pub(super) extras: usize,
    pub(super) spans: usize,
}

impl Tables {
    pub(super) fn lengths(&self) -> Lengths {
        let (arrays, others, sets) = self.sets.lengths();
        Lengths {
            texts: self.strings.len(),
            arrays,
            others,
            sets,
            resources: self.resources.len(),
            scopes: self.scopes.len(),
            traces: self.traces.len(),
            extras: self.extras.len(),
            spans: self.spans.len(),
        }
    }

    /// What was added since the tables had these lengths.
    fn body_since(&self, was: Lengths) -> Vec<u8> {
        let is = self.lengths();
        let mut put = Put::new(BATCH);
        put.number((is.texts - was.texts) as u64);
        for id in was.texts..is.texts {
            put.text(self.strings.get(id as StrId));
        }
        put.number((is.arrays - was.arrays) as u64);
        for id in was.arrays..is.arrays {
            let value = convert::any(self, Value::Array(id as u32));
            put.bytes(&value.encode_to_vec());
        }
        put.number((is.others - was.others) as u64);
        for id in was.others..is.others {
            put.bytes(&self.sets.other(id as u32).encode_to_vec());
        }
        put.number((is.sets - was.sets) as u64);
        for id in was.sets..is.sets {
            let set = self.sets.get(id as SetId);
            put.number(set.len() as u64);
            for (key, value) in set {
                put.number(key.into());
                put_value(&mut put, value);
            }
        }
        put.number((is.resources - was.resources) as u64);
        for row in &self.resources[was.resources..] {
            for n in [
                row.attrs,
                row.service,
                row.dropped_attributes,
                row.schema_url,
            ] {
                put.number(n.into());
            }
        }
        put.number((is.scopes - was.scopes) as u64);
        for row in &self.scopes[was.scopes..] {
            for n in [
                row.name,
                row.version,
                row.attrs,
                row.dropped_attributes,
                row.schema_url,
            ] {
                put.number(n.into());
            }
        }
        put.number((is.traces - was.traces) as u64);
        for row in self.traces.from(was.traces) {
            put.raw(&row.id.to_be_bytes());
        }
        put.number((is.extras - was.extras) as u64);
        for extra in &self.extras[was.extras..] {
            put_extra(&mut put, extra);
        }
        put.number((is.spans - was.spans) as u64);
        let (mut trace, mut start) = (0_i64, 0_u64);
        for row in self.spans.from(was.spans) {
            put_span(&mut put, row, trace, start);
            (trace, start) = (row.trace.into(), row.start);
        }
        put.0
    }

    /// Records what was added since the tables had these lengths.
    pub(super) fn record_since(&self, sink: &mut Sink, was: Lengths) -> Result<(), String> {
        if self.lengths() == was {
            return Ok(());
        }
        sink.append(&self.body_since(was))
    }

    /// Adds what a body holds; how many spans that was. Every number is checked before it is used
    /// as an index: a checksum says that a file is as it was written, not by whom.
    fn replay(&mut self, body: &[u8]) -> Result<u64, String> {
        let mut take = Take::new(body);
        match take.byte()? {
            BATCH => {}
            other => return Err(format!("kind {other} is unknown")),
        }
        for _ in 0..take.count()? {
            let (text, before) = (take.text()?, self.strings.len());
            self.strings.intern(text);
            if self.strings.len() == before {
                return Err(format!("the text {text:?} is there twice"));
            }
        }
        for arrays in [true, false] {
            for _ in 0..take.count()? {
                let value = AnyValue::decode(take.bytes()?).map_err(|e| e.to_string())?;
                let Self { strings, sets, .. } = self;
                let (texts, (a, o, _)) = (strings.len(), sets.lengths());
                sets.any(strings, &value);
                let grown = if arrays { (a + 1, o) } else { (a, o + 1) };
                let (a, o, _) = sets.lengths();
                if (a, o) != grown || strings.len() != texts {
                    return Err("a nested value is out of place".into());
                }
            }
        }
        for _ in 0..take.count()? {
            let mut set = Vec::new();
            for _ in 0..take.count()? {
                set.push((self.take_text(&mut take)?, self.take_value(&mut take)?));
            }
            if set.is_empty() {
                return Err("an attribute set is empty".into());
            }
            let before = self.sets.lengths();
            self.sets.intern(&set);
            if self.sets.lengths() == before {
                return Err("an attribute set is there twice".into());
            }
        }
        for _ in 0..take.count()? {
            let row = ResourceRow {
                attrs: self.take_set(&mut take)?,
                service: self.take_text(&mut take)?,
                dropped_attributes: take.small()?,
                schema_url: self.take_text(&mut take)?,
            };
            if self.resource_row(row) as usize + 1 != self.resources.len() {
                return Err("a resource is there twice".into());
            }
        }
        for _ in 0..take.count()? {
            let row = ScopeRow {
                name: self.take_text(&mut take)?,
                version: self.take_text(&mut take)?,
                attrs: self.take_set(&mut take)?,
                dropped_attributes: take.small()?,
                schema_url: self.take_text(&mut take)?,
            };
            if self.scope_row(row) as usize + 1 != self.scopes.len() {
                return Err("a scope is there twice".into());
            }
        }
        let first_trace = self.traces.len();
        for _ in 0..take.count()? {
            let id = u128::from_be_bytes(take.array()?);
            let before = self.traces.len();
            self.trace_row(id);
            if self.traces.len() == before {
                return Err(format!("trace {id:032x} is there twice"));
            }
        }
        for _ in 0..take.count()? {
            let extra = self.take_extra(&mut take)?;
            self.push_extra(extra);
        }
        let n = take.count()?;
        let (mut trace, mut start) = (0_i64, 0_u64);
        for _ in 0..n {
            let row = self.take_span(&mut take, trace, start)?;
            (trace, start) = (row.trace.into(), row.start);
            let at = u32::try_from(self.spans.len()).map_err(|_| "there are too many spans")?;
            self.spans.push(row);
            self.link_into(row.trace, at);
        }
        if self.traces.from(first_trace).any(|trace| trace.count == 0) {
            return Err("a trace has no span".into());
        }
        take.end().map(|()| n as u64)
    }

    fn take_text(&self, take: &mut Take<'_>) -> Result<StrId, String> {
        index("text", take, self.strings.len())
    }

    fn take_set(&self, take: &mut Take<'_>) -> Result<SetId, String> {
        let (.., sets) = self.sets.lengths();
        index("attribute set", take, sets)
    }

    fn take_value(&self, take: &mut Take<'_>) -> Result<Value, String> {
        let (arrays, others, _) = self.sets.lengths();
        Ok(match take.byte()? {
            0 => Value::Str(self.take_text(take)?),
            1 => Value::Int(take.signed()?),
            2 => Value::Float(f64::from_le_bytes(take.array()?)),
            3 => Value::Bool(false),
            4 => Value::Bool(true),
            5 => Value::Array(index("array", take, arrays)?),
            6 => Value::Other(index("nested value", take, others)?),
            other => return Err(format!("value kind {other} is unknown")),
        })
    }

    fn take_extra(&self, take: &mut Take<'_>) -> Result<Extra, String> {
        let trace_state = self.take_text(take)?;
        let (flags, dropped_attributes) = (take.small()?, take.small()?);
        let (dropped_events, dropped_links) = (take.small()?, take.small()?);
        let mut events = Vec::new();
        for _ in 0..take.count()? {
            events.push(EventRow {
                time: take.signed()? as u64,
                name: self.take_text(take)?,
                attrs: self.take_set(take)?,
                dropped_attributes: take.small()?,
            });
        }
        let mut links = Vec::new();
        for _ in 0..take.count()? {
            links.push(LinkRow {
                trace: u128::from_be_bytes(take.array()?),
                span: u64::from_be_bytes(take.array()?),
                trace_state: self.take_text(take)?,
                attrs: self.take_set(take)?,
                dropped_attributes: take.small()?,
                flags: take.small()?,
            });
        }
        Ok(Extra {
            trace_state,
            flags,
            dropped_attributes,
            dropped_events,
            dropped_links,
            events: events.into(),
            links: links.into(),
        })
    }

    fn take_span(&self, take: &mut Take<'_>, trace: i64, start: u64) -> Result<SpanRow, String> {
        let flags = take.byte()?;
        let id = u64::from_be_bytes(take.array()?);
        let parent = if flags & PARENT == 0 {
            0
        } else {
            u64::from_be_bytes(take.array()?)
        };
        let trace = trace.wrapping_add(take.signed()?);
        let trace = u32::try_from(trace)
            .ok()
            .filter(|at| (*at as usize) < self.traces.len())
            .ok_or_else(|| format!("there is no trace {trace}"))?;
        let start = start.wrapping_add(take.signed()? as u64);
        let end = start.wrapping_add(take.signed()? as u64);
        let (kind, status) = (flags & 7, (flags >> 3) & 3);
        if kind > 5 || status > 2 || flags > 63 {
            return Err(format!("a span has the flags {flags}"));
        }
        Ok(SpanRow {
            id,
            parent,
            start,
            end,
            trace,
            next: NO_SPAN,
            name: self.take_text(take)?,
            status_message: self.take_text(take)?,
            attrs: self.take_set(take)?,
            resource: index("resource", take, self.resources.len())?,
            scope: index("scope", take, self.scopes.len())?,
            extra: index("extra", take, self.extras.len() + 1)?,
            kind,
            status,
        })
    }
}

fn index(what: &str, take: &mut Take<'_>, len: usize) -> Result<u32, String> {
    let at: u32 = take.small()?;
    if at as usize >= len {
        return Err(format!("there is no {what} {at}"));
    }
    Ok(at)
}

fn put_value(put: &mut Put, value: Value) {
    match value {
        Value::Str(id) => {
            put.byte(0);
            put.number(id.into());
        }
        Value::Int(v) => {
            put.byte(1);
            put.signed(v);
        }
        Value::Float(v) => {
            put.byte(2);
            put.raw(&v.to_le_bytes());
        }
        Value::Bool(v) => put.byte(3 + u8::from(v)),
        Value::Array(id) => {
            put.byte(5);
            put.number(id.into());
        }
        Value::Other(id) => {
            put.byte(6);
            put.number(id.into());
        }
    }
}

fn put_extra(put: &mut Put, extra: &Extra) {
    for n in [
        extra.trace_state,
        extra.flags,
        extra.dropped_attributes,
        extra.dropped_events,
        extra.dropped_links,
    ] {
        put.number(n.into());
    }
    put.number(extra.events.len() as u64);
    for event in &extra.events {
        put.signed(event.time as i64);
        for n in [event.name, event.attrs, event.dropped_attributes] {
            put.number(n.into());
        }
    }
    put.number(extra.links.len() as u64);
    for link in &extra.links {
        put.raw(&link.trace.to_be_bytes());
        put.raw(&link.span.to_be_bytes());
        for n in [
            link.trace_state,
            link.attrs,
            link.dropped_attributes,
            link.flags,
        ] {
            put.number(n.into());
        }
    }
}

fn put_span(put: &mut Put, row: &SpanRow, trace: i64, start: u64) {
    let parent = if row.parent == 0 { 0 } else { PARENT };
    put.byte(row.kind | row.status << 3 | parent);
    put.raw(&row.id.to_be_bytes());
    if row.parent != 0 {
        put.raw(&row.parent.to_be_bytes());
    }
    put.signed(i64::from(row.trace) - trace);
    put.signed(row.start.wrapping_sub(start) as i64);
    put.signed(row.end.wrapping_sub(row.start) as i64);
    for n in [
        row.name,
        row.status_message,
        row.attrs,
        row.resource,
        row.scope,
        row.extra,
    ] {
        put.number(n.into());
    }
}

impl TraceStore {
    pub(super) fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to record into `dir`.
    pub(crate) fn record(&self, dir: &Path, most_bytes: u64) -> Result<(), SegmentError> {
        let mut sink = self.sink();
        if self.stats().traces > 0 || sink.records() {
            return Err(SegmentError::NotEmpty(Signal::Traces));
        }
        *sink = Sink::create(dir, Signal::Traces, most_bytes)?;
        Ok(())
    }

    /// Ends recording; nothing new is taken afterwards.
    pub(crate) fn close(&self) -> Result<(), SegmentError> {
        let mut sink = self.sink();
        let stats = self.stats();
        sink.close(stats.spans, stats.refused())
    }

    /// Reads a segment into a store that takes nothing new.
    pub(crate) fn open(from: Source<'_>) -> Result<(Self, SegmentReport), SegmentError> {
        let mut tables = Tables::default();
        let report = segment::read(from, Signal::Traces, |body| tables.replay(body))?;
        let mut store = Self::with_limit(usize::MAX);
        store.tables = tables.into();
        *store.sink() = Sink::Closed("this evidence was opened to be read".into());
        Ok((store, report))
    }
}
