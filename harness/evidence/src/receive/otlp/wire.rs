//! Spans out of the bytes of an `ExportTraceServiceRequest`, without a copy of any.
//!
//! What is read and what is refused is the same as with prost's own decoder (a test holds that); a value
//! that is neither text nor number, resources, scopes, events and links are few and left to it.

use opentelemetry_proto::tonic::common::v1::AnyValue;
use prost::encoding::{
    DecodeContext, WireType, check_wire_type, decode_key, decode_varint, skip_field,
};
use prost::{DecodeError, Message};

use crate::store::traces::{OfResource, OfScope, Payload, SpanRef, Val};

/// The spans of a request.
///
/// # Errors
/// What is malformed; nothing of such a body may be taken.
pub(crate) fn spans(body: &[u8]) -> Result<Payload<'_>, String> {
    read(body).map_err(|Malformed(why)| format!("not an OTLP payload: {why}"))
}

struct Malformed(String);

impl From<DecodeError> for Malformed {
    fn from(e: DecodeError) -> Self {
        Self(e.to_string())
    }
}

fn read(body: &[u8]) -> Result<Payload<'_>, Malformed> {
    let mut out = Payload::default();
    fields(body, |tag, field| {
        if tag == 1 {
            let of = resource(field.bytes()?, &mut out)?;
            out.resources.push(of);
        }
        Ok(tag == 1)
    })?;
    Ok(out)
}

fn resource<'a>(body: &'a [u8], out: &mut Payload<'a>) -> Result<OfResource<'a>, Malformed> {
    let mut of = OfResource::default();
    fields(body, |tag, field| {
        match tag {
            1 => of.resource.to_mut().merge(field.bytes()?)?,
            2 => of.scopes.push(scope(field.bytes()?, out)?),
            3 => of.schema_url = field.text()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(of)
}

fn scope<'a>(body: &'a [u8], out: &mut Payload<'a>) -> Result<OfScope<'a>, Malformed> {
    let mut of = OfScope::default();
    let first = out.spans.len();
    fields(body, |tag, field| {
        match tag {
            1 => of.scope.to_mut().merge(field.bytes()?)?,
            2 => {
                let span = span(field.bytes()?, out)?;
                out.spans.push(span);
            }
            3 => of.schema_url = field.text()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    of.spans = first..out.spans.len();
    Ok(of)
}

fn span<'a>(body: &'a [u8], out: &mut Payload<'a>) -> Result<SpanRef<'a>, Malformed> {
    let mut span = SpanRef::default();
    let first = out.attributes.len();
    fields(body, |tag, field| {
        match tag {
            1 => span.trace_id = field.bytes()?,
            2 => span.id = field.bytes()?,
            3 => span.trace_state = field.text()?,
            4 => span.parent = field.bytes()?,
            5 => span.name = field.text()?,
            6 => span.kind = field.varint()? as i32,
            7 => span.start = field.fixed64()?,
            8 => span.end = field.fixed64()?,
            9 => out.attributes.push(attribute(field.bytes()?)?),
            10 => span.dropped_attributes = field.varint()? as u32,
            11 => span.events.to_mut().push(Message::decode(field.bytes()?)?),
            12 => span.dropped_events = field.varint()? as u32,
            13 => span.links.to_mut().push(Message::decode(field.bytes()?)?),
            14 => span.dropped_links = field.varint()? as u32,
            15 => status(field.bytes()?, &mut span)?,
            16 => span.flags = field.fixed32()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    span.attributes = first..out.attributes.len();
    Ok(span)
}

fn status<'a>(body: &'a [u8], span: &mut SpanRef<'a>) -> Result<(), Malformed> {
    fields(body, |tag, field| {
        match tag {
            2 => span.status_message = field.text()?,
            3 => span.status = field.varint()? as i32,
            _ => return Ok(false),
        }
        Ok(true)
    })
}

fn attribute(body: &[u8]) -> Result<(&str, Val<'_>), Malformed> {
    let (mut key, mut value, mut values) = ("", None, 0);
    fields(body, |tag, field| {
        match tag {
            1 => key = field.text()?,
            2 => {
                let bytes = field.bytes()?;
                value = Some(value_of(bytes)?);
                values += 1;
            }
            // An index into a table that only profiles have.
            3 => drop(field.varint()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    // Several are merged, of which prost knows how.
    if values > 1 {
        let mut merged = AnyValue::default();
        fields(body, |tag, field| {
            if tag == 2 {
                merged.merge(field.bytes()?)?;
            }
            Ok(tag == 2)
        })?;
        return Ok((key, Val::Nested(Box::new(merged))));
    }
    Ok((key, value.unwrap_or_else(|| Val::Nested(Box::default()))))
}

/// A value of one field that is text or a number; any other is prost's.
fn value_of(body: &[u8]) -> Result<Val<'_>, Malformed> {
    let (mut found, mut plain) = (None, true);
    fields(body, |tag, field| {
        let value = match tag {
            1 => Val::Str(field.text()?),
            2 => Val::Bool(field.varint()? != 0),
            3 => Val::Int(field.varint()? as i64),
            4 => Val::Float(f64::from_bits(field.fixed64()?)),
            _ => {
                plain = false;
                return Ok(false);
            }
        };
        plain &= found.replace(value).is_none();
        Ok(true)
    })?;
    match found {
        Some(value) if plain => Ok(value),
        _ => Ok(Val::Nested(Box::new(AnyValue::decode(body)?))),
    }
}

/// One field of a message.
struct Field<'a, 'b> {
    wire: WireType,
    rest: &'b mut &'a [u8],
}

/// Gives every field of a message to `each`, which takes it or says that it does not know its tag.
fn fields<'a>(
    mut body: &'a [u8],
    mut each: impl FnMut(u32, Field<'a, '_>) -> Result<bool, Malformed>,
) -> Result<(), Malformed> {
    while !body.is_empty() {
        let (tag, wire) = decode_key(&mut body)?;
        let field = Field {
            wire,
            rest: &mut body,
        };
        if !each(tag, field)? {
            skip_field(wire, tag, &mut body, DecodeContext::default())?;
        }
    }
    Ok(())
}

impl<'a> Field<'a, '_> {
    fn of(&self, wanted: WireType) -> Result<(), Malformed> {
        Ok(check_wire_type(wanted, self.wire)?)
    }

    fn bytes(self) -> Result<&'a [u8], Malformed> {
        self.of(WireType::LengthDelimited)?;
        let length = decode_varint(self.rest)?;
        let at = usize::try_from(length).unwrap_or(usize::MAX);
        let all: &'a [u8] = self.rest;
        let (bytes, rest) = all.split_at_checked(at).ok_or_else(cut)?;
        *self.rest = rest;
        Ok(bytes)
    }

    fn text(self) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map_err(|e| Malformed(format!("a string is not UTF-8: {e}")))
    }

    fn varint(self) -> Result<u64, Malformed> {
        self.of(WireType::Varint)?;
        Ok(decode_varint(self.rest)?)
    }

    fn fixed64(self) -> Result<u64, Malformed> {
        self.of(WireType::SixtyFourBit)?;
        self.array().map(u64::from_le_bytes)
    }

    fn fixed32(self) -> Result<u32, Malformed> {
        self.of(WireType::ThirtyTwoBit)?;
        self.array().map(u32::from_le_bytes)
    }

    fn array<const N: usize>(self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(cut)?;
        let bytes = *bytes;
        *self.rest = rest;
        Ok(bytes)
    }
}

fn cut() -> Malformed {
    Malformed("it is cut short".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::traces::TraceStore;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{
        ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
    };
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Option<AnyValue>> {
        let simple = prop_oneof![
            ".{0,9}".prop_map(Value::StringValue),
            any::<i64>().prop_map(Value::IntValue),
            any::<bool>().prop_map(Value::BoolValue),
            any::<f64>().prop_map(Value::DoubleValue),
            prop::collection::vec(any::<u8>(), 0..5).prop_map(Value::BytesValue),
        ];
        let of = |value| AnyValue { value: Some(value) };
        let list = prop::collection::vec(simple.clone().prop_map(of), 0..4);
        prop_oneof![
            6 => simple.prop_map(move |v| Some(of(v))),
            1 => list.clone().prop_map(move |values| Some(of(Value::ArrayValue(ArrayValue { values })))),
            1 => list.prop_map(move |all| {
                let values = all.into_iter().map(|v| attribute("k", Some(v))).collect();
                Some(of(Value::KvlistValue(KeyValueList { values })))
            }),
            1 => Just(None),
            1 => Just(Some(AnyValue { value: None })),
        ]
    }

    fn attribute(key: &str, value: Option<AnyValue>) -> KeyValue {
        KeyValue {
            key: key.into(),
            value,
            ..KeyValue::default()
        }
    }

    fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
        let one = ("[a-c.]{0,3}", value()).prop_map(|(key, value)| attribute(&key, value));
        prop::collection::vec(one, 0..4)
    }

    fn span() -> impl Strategy<Value = Span> {
        let ids = (0..3_u128, 0..40_u64, 0..4_u64);
        let times = any::<(u64, u64)>();
        let rest = (
            any::<[u32; 4]>(),
            -1..7_i32,
            prop::option::of(("x?", -1..4_i32)),
        );
        (
            ids,
            ".{0,4}",
            times,
            rest,
            attributes(),
            attributes(),
            0..3_usize,
        )
            .prop_map(
                |(
                    (trace, id, parent),
                    name,
                    (start, end),
                    (n, kind, status),
                    attributes,
                    more,
                    some,
                )| Span {
                    trace_id: trace.to_be_bytes().into(),
                    span_id: id.to_be_bytes().into(),
                    parent_span_id: if parent == 0 {
                        Vec::new()
                    } else {
                        parent.to_be_bytes().into()
                    },
                    trace_state: if some == 1 {
                        "a=b".into()
                    } else {
                        String::new()
                    },
                    name,
                    kind,
                    start_time_unix_nano: start,
                    end_time_unix_nano: end,
                    flags: n[0] & 1,
                    dropped_attributes_count: n[1],
                    dropped_events_count: n[2],
                    dropped_links_count: n[3],
                    status: status.map(|(message, code)| Status { message, code }),
                    events: vec![
                        Event {
                            attributes: more.clone(),
                            ..Event::default()
                        };
                        some
                    ],
                    links: vec![
                        Link {
                            attributes: more,
                            trace_id: vec![1],
                            ..Link::default()
                        };
                        some / 2
                    ],
                    attributes,
                },
            )
    }

    fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
        let scope = (
            attributes(),
            prop::collection::vec(span(), 0..6),
            any::<bool>(),
        );
        let of = (
            attributes(),
            prop::collection::vec(scope, 0..3),
            any::<bool>(),
        );
        prop::collection::vec(of, 0..3).prop_map(|all| ExportTraceServiceRequest {
            resource_spans: all
                .into_iter()
                .map(|(attributes, scopes, some)| ResourceSpans {
                    resource: some.then(|| Resource {
                        attributes,
                        ..Resource::default()
                    }),
                    schema_url: if some { "u".into() } else { String::new() },
                    scope_spans: scopes
                        .into_iter()
                        .map(|(attributes, spans, some)| ScopeSpans {
                            scope: some.then(|| InstrumentationScope {
                                name: "lib".into(),
                                attributes,
                                ..InstrumentationScope::default()
                            }),
                            schema_url: if some { "v".into() } else { String::new() },
                            spans,
                        })
                        .collect(),
                })
                .collect(),
        })
    }

    /// What the store holds after the bytes came by either decoder, and what each said of them.
    fn both(body: &[u8]) -> [Result<(crate::Ingested, String), ()>; 2] {
        let held = |store: &TraceStore| {
            let ids = store.trace_ids();
            let traces: Vec<_> = ids.into_iter().map(|id| store.trace(id)).collect();
            // As text, in which NaN is itself.
            format!("{traces:?} {:?}", store.stats())
        };
        let ours = TraceStore::default();
        let own = spans(body).map(|payload| ours.ingest_payload(&payload));
        let theirs = TraceStore::default();
        let prost = ExportTraceServiceRequest::decode(body);
        let prost = prost.map(|request| theirs.ingest(request.resource_spans));
        [
            own.map(|taken| (taken, held(&ours))).map_err(drop),
            prost.map(|taken| (taken, held(&theirs))).map_err(drop),
        ]
    }

    proptest! {
        /// Sound or damaged, a payload is read as by prost, or refused as by prost.
        #[test]
        fn bytes_are_read_as_prost_reads_them(
            request in request(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..3),
        ) {
            let mut body = request.encode_to_vec();
            for (at, by, how) in changes {
                if body.is_empty() {
                    break;
                }
                let at = at.index(body.len());
                match how {
                    0 => body[at] = by,
                    1 => body.truncate(at),
                    2 => body.insert(at, by),
                    _ => { body.remove(at); }
                }
            }
            let [own, prost] = both(&body);
            prop_assert_eq!(own, prost);
        }

        #[test]
        fn any_bytes_are_read_as_prost_reads_them(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let [own, prost] = both(&body);
            prop_assert_eq!(own, prost);
        }
    }

    /// Fields that come twice, in any order, or that nobody knows.
    #[test]
    fn repeated_and_unknown_fields_are_merged_and_passed_over() {
        let id = |n: u8, len: usize| [vec![n, len as u8], vec![0; len - 1], vec![7]].concat();
        let message = |tag: u8, body: &[u8]| {
            let mut out = vec![tag << 3 | 2];
            prost::encoding::encode_varint(body.len() as u64, &mut out);
            [out.as_slice(), body].concat()
        };
        let text = |tag: u8, text: &str| message(tag, text.as_bytes());
        let twice = [
            text(1, "key"),
            message(2, &text(1, "a")),
            message(2, &[0x18, 5]),
        ]
        .concat();
        let empty = [text(1, "none"), message(2, &[])].concat();
        let status = [message(15, &text(2, "bad")), message(15, &[0x18, 2])].concat();
        let span = [
            id(0x0a, 16),
            id(0x12, 8),
            message(9, &twice),
            text(5, "first"),
            vec![0xa0, 0x06, 9],
            text(5, "second"),
            status,
            message(9, &empty),
        ];
        let scope = [message(2, &span.concat()), message(1, &text(1, "lib"))].concat();
        let resource = |name: &str| {
            let attribute = [text(1, "service.name"), message(2, &text(1, name))].concat();
            message(1, &message(1, &attribute))
        };
        let of = [
            message(2, &scope),
            resource("a"),
            text(3, "url"),
            resource("b"),
        ]
        .concat();
        let body = message(1, &of);
        let [own, prost] = both(&body);
        let (_, held) = own.clone().expect("read");
        for part in ["second", "lib", "bad", "url", "IntValue(5)"] {
            assert!(held.contains(part), "{part}: {held}");
        }
        assert_eq!(own, prost);
    }
}
