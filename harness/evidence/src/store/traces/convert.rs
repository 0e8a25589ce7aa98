//! Rows back into OTLP.

use indexmap::IndexMap;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::{Extra, SetId, Tables, Value};

pub(super) fn trace(tables: &Tables, trace: u32) -> Vec<ResourceSpans> {
    let row = &tables.traces[trace as usize];
    let mut groups: IndexMap<u32, IndexMap<u32, Vec<Span>>> = IndexMap::new();
    for at in tables.spans_of(row) {
        let of = &tables.spans[at as usize];
        let scopes = groups.entry(of.resource).or_default();
        scopes.entry(of.scope).or_default().push(span(tables, at));
    }
    let group = |(resource, scopes): (u32, IndexMap<u32, Vec<Span>>)| {
        let of = &tables.resources[resource as usize];
        ResourceSpans {
            resource: Some(Resource {
                attributes: attributes(tables, of.attrs),
                dropped_attributes_count: of.dropped_attributes,
                entity_refs: Vec::new(),
            }),
            scope_spans: scopes
                .into_iter()
                .map(|(s, spans)| scope(tables, s, spans))
                .collect(),
            schema_url: tables.strings.get(of.schema_url).into(),
        }
    };
    groups.into_iter().map(group).collect()
}

fn scope(tables: &Tables, scope: u32, spans: Vec<Span>) -> ScopeSpans {
    let of = &tables.scopes[scope as usize];
    ScopeSpans {
        scope: Some(InstrumentationScope {
            name: tables.strings.get(of.name).into(),
            version: tables.strings.get(of.version).into(),
            attributes: attributes(tables, of.attrs),
            dropped_attributes_count: of.dropped_attributes,
        }),
        spans,
        schema_url: tables.strings.get(of.schema_url).into(),
    }
}

fn span(tables: &Tables, at: u32) -> Span {
    let row = &tables.spans[at as usize];
    let none = Extra::default();
    let extra = tables.extra(row).unwrap_or(&none);
    let text = |id| tables.strings.get(id).to_owned();
    Span {
        trace_id: tables.traces[row.trace as usize].id.to_be_bytes().into(),
        span_id: row.id.to_be_bytes().into(),
        trace_state: text(extra.trace_state),
        parent_span_id: if row.parent == 0 {
            Vec::new()
        } else {
            row.parent.to_be_bytes().into()
        },
        flags: extra.flags,
        name: text(row.name),
        kind: row.kind.into(),
        start_time_unix_nano: row.start,
        end_time_unix_nano: row.end,
        attributes: attributes(tables, row.attrs),
        dropped_attributes_count: extra.dropped_attributes,
        events: extra
            .events
            .iter()
            .map(|e| Event {
                time_unix_nano: e.time,
                name: text(e.name),
                attributes: attributes(tables, e.attrs),
                dropped_attributes_count: e.dropped_attributes,
            })
            .collect(),
        dropped_events_count: extra.dropped_events,
        links: extra
            .links
            .iter()
            .map(|l| Link {
                trace_id: l.trace.to_be_bytes().into(),
                span_id: l.span.to_be_bytes().into(),
                trace_state: text(l.trace_state),
                attributes: attributes(tables, l.attrs),
                dropped_attributes_count: l.dropped_attributes,
                flags: l.flags,
            })
            .collect(),
        dropped_links_count: extra.dropped_links,
        status: Some(Status {
            message: text(row.status_message),
            code: row.status.into(),
        }),
    }
}

fn attributes(tables: &Tables, set: SetId) -> Vec<KeyValue> {
    let one = |(key, value)| KeyValue {
        key: tables.strings.get(key).into(),
        value: Some(any(tables, value)),
        key_strindex: 0,
    };
    tables.sets.get(set).map(one).collect()
}

pub(super) fn any(tables: &Tables, value: Value) -> AnyValue {
    let value = match value {
        Value::Str(id) => any_value::Value::StringValue(tables.strings.get(id).into()),
        Value::Int(v) => any_value::Value::IntValue(v),
        Value::Float(v) => any_value::Value::DoubleValue(v),
        Value::Bool(v) => any_value::Value::BoolValue(v),
        Value::Array(id) => any_value::Value::ArrayValue(ArrayValue {
            values: tables
                .sets
                .array(id)
                .iter()
                .map(|v| any(tables, *v))
                .collect(),
        }),
        Value::Other(id) => return tables.sets.other(id).clone(),
    };
    AnyValue { value: Some(value) }
}
