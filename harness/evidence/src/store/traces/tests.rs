use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value as V,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::TraceStore;

fn attr(key: &str, value: V) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        key_strindex: 0,
    }
}

fn span(trace: u128, id: u64, parent: u64, start: u64) -> Span {
    Span {
        trace_id: trace.to_be_bytes().into(),
        span_id: id.to_be_bytes().into(),
        parent_span_id: if parent == 0 {
            Vec::new()
        } else {
            parent.to_be_bytes().into()
        },
        name: format!("op {id}"),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 5,
        status: Some(Status::default()),
        ..Span::default()
    }
}

fn batch(spans: Vec<Span>) -> Vec<ResourceSpans> {
    vec![ResourceSpans {
        resource: Some(Resource {
            attributes: vec![attr("service.name", V::StringValue("shop".into()))],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(InstrumentationScope {
                name: "lib".into(),
                ..Default::default()
            }),
            spans,
            schema_url: String::new(),
        }],
        schema_url: "https://example.org/1".into(),
    }]
}

#[test]
fn a_trace_comes_back_as_it_was_sent() {
    let text = |s: &str| AnyValue {
        value: Some(V::StringValue(s.into())),
    };
    let nested = KeyValueList {
        values: vec![attr("inner", V::BytesValue(vec![1, 2]))],
    };
    let full = Span {
        trace_state: "vendor=1".into(),
        flags: 1,
        attributes: vec![
            attr("n", V::IntValue(-7)),
            attr("f", V::DoubleValue(0.25)),
            attr("b", V::BoolValue(true)),
            attr(
                "tags",
                V::ArrayValue(ArrayValue {
                    values: vec![text("x"), text("y")],
                }),
            ),
            attr("map", V::KvlistValue(nested)),
        ],
        events: vec![Event {
            time_unix_nano: 3,
            name: "e".into(),
            ..Event::default()
        }],
        links: vec![Link {
            trace_id: 9u128.to_be_bytes().into(),
            span_id: 8u64.to_be_bytes().into(),
            ..Link::default()
        }],
        status: Some(Status {
            message: "no".into(),
            code: 2,
        }),
        dropped_links_count: 4,
        ..span(0xab, 1, 0, 10)
    };
    let sent = batch(vec![full, span(0xab, 2, 1, 11)]);
    let store = TraceStore::default();
    assert_eq!(store.ingest(sent.clone()).accepted, 2);
    assert_eq!(store.trace(0xab), Some(sent));
    assert_eq!(store.trace(0xac), None);
}

#[test]
fn a_span_sent_twice_is_stored_once_also_in_a_long_trace() {
    let store = TraceStore::default();
    let spans: Vec<_> = (1..=200).map(|id| span(1, id, 0, id)).collect();
    for _ in 0..2 {
        let taken = store.ingest(batch(spans.clone()));
        assert_eq!((taken.accepted, taken.rejected), (200, 0));
    }
    let stats = store.stats();
    assert_eq!((stats.spans, stats.duplicates, stats.traces), (200, 200, 1));
}

#[test]
fn a_span_without_usable_ids_is_refused_with_the_reason() {
    let store = TraceStore::default();
    let mut short = span(1, 1, 0, 1);
    short.trace_id.truncate(4);
    let taken = store.ingest(batch(vec![short, span(1, 0, 0, 1), span(1, 2, 0, 1)]));
    assert_eq!((taken.accepted, taken.rejected), (1, 2));
    assert_eq!(
        taken.message,
        "trace id of span \"op 1\" has 4 bytes where 16 are right"
    );
    assert_eq!(store.stats().refused_invalid, 2);
}

#[test]
fn a_full_store_refuses_loudly_and_stays_readable() {
    let store = TraceStore::with_limit(4_000);
    let taken = store.ingest(batch((1..=100).map(|id| span(1, id, 0, id)).collect()));
    assert!(taken.accepted > 0 && taken.rejected > 0, "{taken:?}");
    assert_eq!(taken.accepted + taken.rejected, 100);
    assert!(
        taken.message.contains("full at 4000 bytes"),
        "{}",
        taken.message
    );
    assert_eq!(store.stats().refused_full, taken.rejected);
    assert!(store.trace(1).is_some());
}

#[test]
fn the_root_and_the_extent_of_a_trace_follow_its_spans_in_any_order() {
    let store = TraceStore::default();
    store.ingest(batch(vec![
        span(1, 2, 1, 50),
        span(1, 1, 0, 20),
        span(1, 3, 0, 40),
    ]));
    let tables = store.read();
    let trace = &tables.traces[0];
    assert_eq!((trace.start, trace.end, trace.count), (20, 55, 3));
    assert_eq!(tables.spans[trace.root as usize].id, 1);
}
