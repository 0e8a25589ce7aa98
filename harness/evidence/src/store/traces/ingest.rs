//! OTLP spans into rows.

use std::collections::HashSet;
use std::hash::BuildHasher as _;

use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::payload::{Payload, SpanRef, Val};
use super::rows::{EventRow, LinkRow};
use super::strings::allocation;
use super::{
    Extra, NO_SPAN, ResourceRow, ScopeRow, SetId, SpanRow, StrId, Tables, TraceRow, Value,
};
use crate::Ingested;

/// A trace longer than this keeps a set of its span ids, since looking through it for a duplicate
/// would make ingestion quadratic.
const LONG_TRACE: u32 = 64;

pub(super) fn ingest(tables: &mut Tables, limit: usize, payload: &Payload<'_>) -> Ingested {
    let mut done = Ingested::default();
    let (mut invalid, mut full) = (0u64, 0u64);
    for of_resource in &payload.resources {
        let resource = tables.resource(&of_resource.resource, of_resource.schema_url);
        for of_scope in &of_resource.scopes {
            let scope = tables.scope(&of_scope.scope, of_scope.schema_url);
            for span in &payload.spans[of_scope.spans.clone()] {
                if tables.bytes() >= limit {
                    full += 1;
                    continue;
                }
                let attributes = &payload.attributes[span.attributes.clone()];
                match tables.add(resource, scope, span, attributes) {
                    Ok(()) => done.accepted += 1,
                    Err(BadId(why)) => {
                        if invalid == 0 {
                            done.message = why;
                        }
                        invalid += 1;
                    }
                }
            }
        }
    }
    tables.counters.refused_invalid += invalid;
    tables.counters.refused_full += full;
    done.rejected = invalid + full;
    if full > 0 {
        done.out_of_room = true;
        let separator = if done.message.is_empty() { "" } else { "; " };
        done.message +=
            &format!("{separator}{full} spans refused: the trace store is full at {limit} bytes");
    }
    done
}

/// An id that identifies nothing.
struct BadId(String);

impl Tables {
    fn add(
        &mut self,
        resource: u32,
        scope: u32,
        span: &SpanRef<'_>,
        attributes: &[(&str, Val<'_>)],
    ) -> Result<(), BadId> {
        let trace_id = u128::from_be_bytes(id("trace id", span.name, span.trace_id)?);
        let span_id = u64::from_be_bytes(id("span id", span.name, span.id)?);
        let parent = if span.parent.is_empty() {
            0
        } else {
            // All zero is an unset parent to some exporters; a wrong length is not an id at all.
            let bytes: [u8; 8] = fixed("parent span id", span.name, span.parent)?;
            u64::from_be_bytes(bytes)
        };
        let trace = self.trace_row(trace_id);
        if self.holds(trace, span_id) {
            self.counters.duplicates += 1;
            return Ok(());
        }
        let extra = self.add_extra(span);
        let row = SpanRow {
            id: span_id,
            parent,
            start: span.start,
            end: span.end,
            trace,
            next: NO_SPAN,
            name: self.strings.intern(span.name),
            status_message: self.strings.intern(span.status_message),
            attrs: self.set(attributes),
            resource,
            scope,
            extra,
            kind: u8::try_from(span.kind)
                .ok()
                .filter(|k| *k <= 5)
                .unwrap_or(0),
            status: u8::try_from(span.status)
                .ok()
                .filter(|c| *c <= 2)
                .unwrap_or(0),
        };
        let at = self.spans.len() as u32;
        self.spans.push(row);
        self.link_into(trace, at);
        Ok(())
    }

    /// The row of a trace; a new one has no span yet, and so the extent of none.
    pub(super) fn trace_row(&mut self, id: u128) -> u32 {
        if let Some(known) = self.find(id) {
            return known;
        }
        let Self {
            by_id,
            traces,
            hasher,
            ..
        } = self;
        let at = traces.len() as u32;
        traces.push(TraceRow::empty(id));
        by_id.insert_unique(hasher.hash_one(id), at, |at| {
            hasher.hash_one(traces[*at as usize].id)
        });
        at
    }

    fn holds(&self, trace: u32, span_id: u64) -> bool {
        let row = &self.traces[trace as usize];
        match &row.ids {
            _ if row.count == 0 => false,
            Some(ids) => ids.contains(&span_id),
            None => self
                .spans_of(row)
                .any(|at| self.spans[at as usize].id == span_id),
        }
    }

    /// Chains the row just pushed to its trace and keeps the trace's summary true.
    pub(super) fn link_into(&mut self, trace: u32, at: u32) {
        let span = self.spans[at as usize];
        let row = &self.traces[trace as usize];
        let ids = (row.count == LONG_TRACE).then(|| {
            let known: HashSet<u64> = self
                .spans_of(row)
                .map(|at| self.spans[at as usize].id)
                .collect();
            Box::new(known)
        });
        let row = &mut self.traces[trace as usize];
        if ids.is_some() {
            row.ids = ids;
            self.long_traces += 1;
            self.long_ids += row.count as usize;
        }
        if let Some(ids) = &mut row.ids {
            ids.insert(span.id);
            self.long_ids += 1;
        }
        if row.count == 0 {
            row.first = at;
        } else {
            self.spans[row.last as usize].next = at;
        }
        row.last = at;
        row.count += 1;
        row.start = row.start.min(span.start);
        row.end = row.end.max(span.end);
        let earlier = |than: u32| span.start < self.spans[than as usize].start;
        if span.parent == 0 && (row.root == NO_SPAN || earlier(row.root)) {
            row.root = at;
        }
    }

    fn add_extra(&mut self, span: &SpanRef<'_>) -> u32 {
        let plain = span.trace_state.is_empty()
            && span.flags == 0
            && span.dropped_attributes == 0
            && span.dropped_events == 0
            && span.dropped_links == 0
            && span.events.is_empty()
            && span.links.is_empty();
        if plain {
            return 0;
        }
        let events: Box<[EventRow]> = span
            .events
            .iter()
            .map(|e| EventRow {
                time: e.time_unix_nano,
                name: self.strings.intern(&e.name),
                attrs: self.set_of(&e.attributes),
                dropped_attributes: e.dropped_attributes_count,
            })
            .collect();
        let links: Box<[LinkRow]> = span
            .links
            .iter()
            .map(|l| LinkRow {
                trace: padded(&l.trace_id),
                span: padded(&l.span_id) as u64,
                trace_state: self.strings.intern(&l.trace_state),
                attrs: self.set_of(&l.attributes),
                dropped_attributes: l.dropped_attributes_count,
                flags: l.flags,
            })
            .collect();
        let extra = Extra {
            trace_state: self.strings.intern(span.trace_state),
            flags: span.flags,
            dropped_attributes: span.dropped_attributes,
            dropped_events: span.dropped_events,
            dropped_links: span.dropped_links,
            events,
            links,
        };
        self.push_extra(extra)
    }

    /// Its index plus one.
    pub(super) fn push_extra(&mut self, extra: Extra) -> u32 {
        self.extras_bytes += allocation(size_of_val(&*extra.events));
        self.extras_bytes += allocation(size_of_val(&*extra.links));
        self.extras.push(extra);
        self.extras.len() as u32
    }

    fn set_of(&mut self, attributes: &[KeyValue]) -> SetId {
        let borrowed = attributes.iter().map(|a| (a.key.as_str(), Val::from(a)));
        self.set(&borrowed.collect::<Vec<_>>())
    }

    /// Attributes of one place mostly have the names of those before, and often their texts too.
    fn set(&mut self, attributes: &[(&str, Val<'_>)]) -> SetId {
        let Self {
            strings,
            sets,
            recent,
            ..
        } = self;
        for (at, (key, value)) in attributes.iter().enumerate() {
            let before = recent.get(at).copied();
            let again = |id: StrId, text: &str| strings.get(id) == text;
            let key = match before {
                Some((id, _)) if again(id, key) => id,
                _ => strings.intern(key),
            };
            let value = match (value, before) {
                (Val::Str(text), Some((_, Value::Str(id)))) if strings.get(id) == *text => {
                    Value::Str(id)
                }
                (value, _) => sets.value(strings, value),
            };
            match recent.get_mut(at) {
                Some(slot) => *slot = (key, value),
                None => recent.push((key, value)),
            }
        }
        sets.intern(&recent[..attributes.len()])
    }

    fn resource(&mut self, resource: &Resource, schema_url: &str) -> u32 {
        let service = resource
            .attributes
            .iter()
            .find(|a| a.key == "service.name")
            .and_then(|a| match a.value.as_ref()?.value.as_ref()? {
                opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(s) => {
                    Some(s.as_str())
                }
                _ => None,
            })
            .unwrap_or_default();
        let row = ResourceRow {
            service: self.strings.intern(service),
            attrs: self.set_of(&resource.attributes),
            dropped_attributes: resource.dropped_attributes_count,
            schema_url: self.strings.intern(schema_url),
        };
        self.resource_row(row)
    }

    pub(super) fn resource_row(&mut self, row: ResourceRow) -> u32 {
        let Self {
            resources,
            resource_index,
            ..
        } = self;
        *resource_index.entry(row).or_insert_with(|| {
            resources.push(row);
            resources.len() as u32 - 1
        })
    }

    fn scope(&mut self, scope: &InstrumentationScope, schema_url: &str) -> u32 {
        let row = ScopeRow {
            name: self.strings.intern(&scope.name),
            version: self.strings.intern(&scope.version),
            attrs: self.set_of(&scope.attributes),
            dropped_attributes: scope.dropped_attributes_count,
            schema_url: self.strings.intern(schema_url),
        };
        self.scope_row(row)
    }

    pub(super) fn scope_row(&mut self, row: ScopeRow) -> u32 {
        let Self {
            scopes,
            scope_index,
            ..
        } = self;
        *scope_index.entry(row).or_insert_with(|| {
            scopes.push(row);
            scopes.len() as u32 - 1
        })
    }
}

fn id<const N: usize>(what: &str, span: &str, bytes: &[u8]) -> Result<[u8; N], BadId> {
    let id = fixed(what, span, bytes)?;
    if id == [0; N] {
        return Err(BadId(format!("{what} of span {span:?} is all zero")));
    }
    Ok(id)
}

fn fixed<const N: usize>(what: &str, span: &str, bytes: &[u8]) -> Result<[u8; N], BadId> {
    bytes.try_into().map_err(|_| {
        let len = bytes.len();
        BadId(format!(
            "{what} of span {span:?} has {len} bytes where {N} are right"
        ))
    })
}

/// A link's id. Links point outside the store and are never looked up, so a short one is kept as
/// its number rather than refused with the whole span.
fn padded(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .take(16)
        .fold(0, |id, b| id << 8 | u128::from(*b))
}
