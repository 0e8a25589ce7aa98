//! Spans on their way into the store, borrowed from whatever they came in.
//!
//! A million spans are a dozen million names, ids and values. Whoever makes a `String` of each, only to
//! look it up in the store's tables and let it go, spends most of the time on that.

use std::borrow::Cow;
use std::ops::Range;

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};

/// The spans of one request.
#[derive(Default)]
pub(crate) struct Payload<'a> {
    pub(crate) resources: Vec<OfResource<'a>>,
    /// Of all scopes, one after another.
    pub(crate) spans: Vec<SpanRef<'a>>,
    /// Of all spans, one after another.
    pub(crate) attributes: Vec<(&'a str, Val<'a>)>,
}

/// A resource and its scopes.
#[derive(Default)]
pub(crate) struct OfResource<'a> {
    pub(crate) resource: Cow<'a, Resource>,
    pub(crate) schema_url: &'a str,
    pub(crate) scopes: Vec<OfScope<'a>>,
}

/// A scope and where its spans are.
#[derive(Default)]
pub(crate) struct OfScope<'a> {
    pub(crate) scope: Cow<'a, InstrumentationScope>,
    pub(crate) schema_url: &'a str,
    pub(crate) spans: Range<usize>,
}

/// OTLP's `Span`, field for field.
#[derive(Default)]
pub(crate) struct SpanRef<'a> {
    pub(crate) trace_id: &'a [u8],
    pub(crate) id: &'a [u8],
    pub(crate) parent: &'a [u8],
    pub(crate) name: &'a str,
    pub(crate) trace_state: &'a str,
    pub(crate) kind: i32,
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) flags: u32,
    pub(crate) dropped_attributes: u32,
    pub(crate) dropped_events: u32,
    pub(crate) dropped_links: u32,
    pub(crate) status: i32,
    pub(crate) status_message: &'a str,
    /// Where its attributes are.
    pub(crate) attributes: Range<usize>,
    /// Most spans have none.
    pub(crate) events: Cow<'a, [Event]>,
    pub(crate) links: Cow<'a, [Link]>,
}

/// An attribute's value.
#[derive(Debug, Clone)]
pub(crate) enum Val<'a> {
    Str(&'a str),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// An array, a map, bytes, or nothing.
    Nested(Box<AnyValue>),
}

impl<'a> From<&'a KeyValue> for Val<'a> {
    fn from(attribute: &'a KeyValue) -> Self {
        match attribute.value.as_ref().and_then(|v| v.value.as_ref()) {
            Some(any_value::Value::StringValue(v)) => Self::Str(v),
            Some(any_value::Value::IntValue(v)) => Self::Int(*v),
            Some(any_value::Value::DoubleValue(v)) => Self::Float(*v),
            Some(any_value::Value::BoolValue(v)) => Self::Bool(*v),
            _ => Self::Nested(Box::new(attribute.value.clone().unwrap_or_default())),
        }
    }
}

impl<'a> Payload<'a> {
    /// Of spans that are there already.
    pub(crate) fn of(all: &'a [ResourceSpans]) -> Self {
        let mut out = Self::default();
        for of_resource in all {
            let mut scopes = Vec::with_capacity(of_resource.scope_spans.len());
            for of_scope in &of_resource.scope_spans {
                let first = out.spans.len();
                out.spans.reserve(of_scope.spans.len());
                for span in &of_scope.spans {
                    out.push(span);
                }
                scopes.push(OfScope {
                    scope: of_scope
                        .scope
                        .as_ref()
                        .map(Cow::Borrowed)
                        .unwrap_or_default(),
                    schema_url: &of_scope.schema_url,
                    spans: first..out.spans.len(),
                });
            }
            out.resources.push(OfResource {
                resource: of_resource
                    .resource
                    .as_ref()
                    .map(Cow::Borrowed)
                    .unwrap_or_default(),
                schema_url: &of_resource.schema_url,
                scopes,
            });
        }
        out
    }

    fn push(&mut self, span: &'a Span) {
        let first = self.attributes.len();
        let attributes = span.attributes.iter();
        self.attributes
            .extend(attributes.map(|a| (a.key.as_str(), Val::from(a))));
        let status = span.status.as_ref();
        self.spans.push(SpanRef {
            trace_id: &span.trace_id,
            id: &span.span_id,
            parent: &span.parent_span_id,
            name: &span.name,
            trace_state: &span.trace_state,
            kind: span.kind,
            start: span.start_time_unix_nano,
            end: span.end_time_unix_nano,
            flags: span.flags,
            dropped_attributes: span.dropped_attributes_count,
            dropped_events: span.dropped_events_count,
            dropped_links: span.dropped_links_count,
            status: status.map_or(0, |s| s.code),
            status_message: status.map_or("", |s| &s.message),
            attributes: first..self.attributes.len(),
            events: Cow::Borrowed(&span.events),
            links: Cow::Borrowed(&span.links),
        });
    }
}
