//! Our own cases, as scripts: see `scripts/*.test`.
//!
//! ```text
//! load
//!   1/2<1 name=load at=101 for=2s kind=server status=error:why service=shop lib=net@1.2
//!         n=4 tags=["a","b"] event:boom@104{"why":"oom"} link:2/5{"rel":"x"} resource.x=1 scope.y=2
//! eval search QUERY
//!   2 3                                     span ids found, in any order
//! eval sets QUERY
//!   2 3 matched 5 by(kind)=server           one line a set: ids, how many matched, attributes
//! eval show QUERY
//!   2 name=load n=4                         one line a span: id and what the query asked to see
//! eval instant from 100 to 200 QUERY
//!   name=`load` 4
//! eval range from 100 to 110 step 5 QUERY
//!   {} 1 2 _
//! ```
//!
//! A span is `trace/span<parent`; what has no prefix and is no keyword is an attribute of it. Times
//! are seconds. `fail TEXT` expects an error that holds the text.

use super::eval::metrics::{Steps, evaluate};
use super::eval::search::{Bounds, Found, search};
use super::eval::series::Series;
use super::parse;
use crate::store::traces::TraceStore;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value as V,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde_json::Value as Json;

const SECOND: f64 = 1e9;

/// Runs a script and returns how many evaluations it has.
///
/// # Panics
/// With all evaluations that did not go as expected.
fn run(name: &str, script: &str) -> usize {
    let mut store = TraceStore::default();
    let mut lines = script.lines().enumerate().peekable();
    let (mut count, mut wrong) = (0, Vec::new());
    while let Some((n, line)) = lines.next() {
        let head = line.trim();
        if head.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut body: Vec<String> = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, l)| l.starts_with(' ')) {
            body.push(line.trim().to_owned());
        }
        if head == "clear" {
            store = TraceStore::default();
        } else if head == "load" {
            body.iter().for_each(|line| load(&store, line));
        } else {
            count += 1;
            let mut got = evaluated(&store, head).unwrap_or_else(|e| vec![format!("fail {e}")]);
            got.sort();
            body.sort();
            if !fits(&body, &got) {
                let (body, got) = (body.join("\n  "), got.join("\n  "));
                wrong.push(format!("{name}:{}: {head}\n  {body}\n got\n  {got}", n + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    count
}

fn nanos(seconds: &str) -> u64 {
    (seconds.parse::<f64>().expect(seconds) * SECOND).round() as u64
}

fn any(value: &Json) -> V {
    match value {
        Json::Bool(b) => V::BoolValue(*b),
        Json::Number(n) => match n.as_i64() {
            Some(i) => V::IntValue(i),
            None => V::DoubleValue(n.as_f64().expect("a number")),
        },
        Json::Array(list) => V::ArrayValue(ArrayValue {
            values: list
                .iter()
                .map(|v| AnyValue {
                    value: Some(any(v)),
                })
                .collect(),
        }),
        other => V::StringValue(other.as_str().map_or(other.to_string(), str::to_owned)),
    }
}

fn attr(key: &str, value: &Json) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(any(value)),
        }),
        key_strindex: 0,
    }
}

/// `{"a":1}` as attributes.
fn attrs(text: &str) -> Vec<KeyValue> {
    let json: Json = serde_json::from_str(text).expect(text);
    let members = json.as_object().expect(text).iter();
    members.map(|(k, v)| attr(k, v)).collect()
}

fn load(store: &TraceStore, line: &str) {
    let mut words = line.split_whitespace();
    let ids = words.next().expect("ids");
    let (trace, rest) = ids.split_once('/').expect(line);
    let (id, parent) = rest.split_once('<').unwrap_or((rest, ""));
    let trace_id = |text: &str| text.parse::<u128>().expect(line).to_be_bytes().to_vec();
    let span_id = |text: &str| text.parse::<u64>().expect(line).to_be_bytes().to_vec();
    let mut span = Span {
        trace_id: trace_id(trace),
        span_id: span_id(id),
        kind: 1,
        ..Span::default()
    };
    if !parent.is_empty() {
        span.parent_span_id = span_id(parent);
    }
    let mut resource = Vec::new();
    let mut scope = InstrumentationScope::default();
    for word in words {
        if let Some(event) = word.strip_prefix("event:") {
            let (head, tail) = event.split_once('{').unwrap_or((event, "}"));
            let (name, at) = head.split_once('@').expect(word);
            span.events.push(Event {
                name: name.into(),
                time_unix_nano: nanos(at),
                attributes: attrs(&format!("{{{tail}")),
                ..Event::default()
            });
            continue;
        }
        if let Some(link) = word.strip_prefix("link:") {
            let (head, tail) = link.split_once('{').unwrap_or((link, "}"));
            let (trace, id) = head.split_once('/').expect(word);
            span.links.push(Link {
                trace_id: trace_id(trace),
                span_id: span_id(id),
                attributes: attrs(&format!("{{{tail}")),
                ..Link::default()
            });
            continue;
        }
        let (key, value) = word.split_once('=').expect(word);
        let json = serde_json::from_str(value).unwrap_or_else(|_| Json::from(value));
        match key {
            "name" => span.name = value.into(),
            "at" => span.start_time_unix_nano = nanos(value),
            "for" => {
                let seconds = value.strip_suffix('s').expect(word);
                span.end_time_unix_nano = span.start_time_unix_nano + nanos(seconds);
            }
            "kind" => {
                let at = super::ast::KINDS.iter().position(|k| *k == value);
                span.kind = i32::try_from(at.expect(word)).expect(word);
            }
            "status" => {
                let (code, message) = value.split_once(':').unwrap_or((value, ""));
                let at = super::ast::STATUSES.iter().position(|s| *s == code);
                span.status = Some(Status {
                    code: i32::try_from(at.expect(word)).expect(word),
                    message: message.into(),
                });
            }
            "service" => resource.push(attr("service.name", &json)),
            "lib" => {
                let (name, version) = value.split_once('@').unwrap_or((value, ""));
                (scope.name, scope.version) = (name.into(), version.into());
            }
            _ => {
                if let Some(key) = key.strip_prefix("resource.") {
                    resource.push(attr(key, &json));
                } else if let Some(key) = key.strip_prefix("scope.") {
                    scope.attributes.push(attr(key, &json));
                } else {
                    span.attributes.push(attr(key, &json));
                }
            }
        }
    }
    let taken = store.ingest(vec![ResourceSpans {
        resource: Some(Resource {
            attributes: resource,
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            scope: Some(scope),
            spans: vec![span],
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }]);
    assert_eq!(taken.accepted, 1, "{line}");
}

fn evaluated(store: &TraceStore, head: &str) -> Result<Vec<String>, String> {
    let mut rest = head.strip_prefix("eval ").expect(head);
    let mut word = || {
        let (word, tail) = rest.split_once(' ').expect(head);
        rest = tail;
        word
    };
    let kind = word();
    let mut named = |name: &str| {
        assert_eq!(word(), name, "{head}");
        nanos(word())
    };
    let steps = match kind {
        "instant" => Some(Steps::Instant {
            start: named("from"),
            end: named("to"),
        }),
        "range" => {
            let (from, to) = (named("from"), named("to"));
            Some(Steps::range(from, to, named("step")))
        }
        _ => None,
    };
    let query = parse(rest).map_err(|e| e.to_string())?;
    if let Some(steps) = steps {
        let series = evaluate(store, &query, steps, 0).map_err(|e| e.to_string())?;
        return Ok(series.iter().map(series_text).collect());
    }
    let bounds = Bounds {
        window: None,
        traces: 100,
        spans: 100,
        duration: (0, u64::MAX),
    };
    let found = search(store, &query, &bounds).map_err(|e| e.to_string())?;
    Ok(match kind {
        "search" => ids(&found),
        "sets" => sets(&found),
        "show" => shown(&found),
        other => panic!("no kind of evaluation: {other}"),
    })
}

fn series_text(series: &Series) -> String {
    let labels: Vec<String> = series
        .labels
        .iter()
        .filter(|(k, _)| k != "__name__")
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let labels = if labels.is_empty() {
        "{}".to_owned()
    } else {
        labels.join(" ")
    };
    let values: Vec<String> = series
        .values
        .iter()
        .map(|v| v.map_or("_".to_owned(), |v| v.to_string()))
        .collect();
    format!("{labels} {}", values.join(" "))
}

/// The ids of all spans found, on one line; no line when there is none.
fn ids(found: &[Found]) -> Vec<String> {
    let sets = found.iter().flat_map(|t| &t.sets);
    let mut ids: Vec<u64> = sets.flat_map(|s| &s.spans).map(|s| s.id).collect();
    ids.sort_unstable();
    let text: Vec<String> = ids.iter().map(u64::to_string).collect();
    Some(text.join(" "))
        .filter(|t| !t.is_empty())
        .into_iter()
        .collect()
}

fn sets(found: &[Found]) -> Vec<String> {
    let one = |set: &super::eval::search::FoundSet| {
        let mut ids: Vec<u64> = set.spans.iter().map(|s| s.id).collect();
        ids.sort_unstable();
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        let attributes = set.attributes.iter().map(|(k, v)| format!(" {k}={v}"));
        format!(
            "{} matched {}{}",
            ids.join(" "),
            set.matched,
            attributes.collect::<String>()
        )
    };
    found.iter().flat_map(|t| &t.sets).map(one).collect()
}

fn shown(found: &[Found]) -> Vec<String> {
    let spans = found.iter().flat_map(|t| &t.sets).flat_map(|s| &s.spans);
    spans
        .map(|s| {
            let name = s.name.as_ref().map(|n| format!(" name={n}"));
            let mut attributes: Vec<String> = s
                .attributes
                .iter()
                .map(|(k, v)| format!(" {k}={v}"))
                .collect();
            attributes.sort();
            format!(
                "{}{}{}",
                s.id,
                name.unwrap_or_default(),
                attributes.concat()
            )
        })
        .collect()
}

fn fits(wanted: &[String], got: &[String]) -> bool {
    if let [only] = wanted
        && let Some(text) = only.strip_prefix("fail ")
    {
        return matches!(got, [e] if e.starts_with("fail ") && e.contains(text));
    }
    wanted.len() == got.len() && wanted.iter().zip(got).all(|(w, g)| same(w, g))
}

/// Equal word by word, numbers within rounding.
fn same(wanted: &str, got: &str) -> bool {
    let near = |w: &str, g: &str| match (w.parse::<f64>(), g.parse::<f64>()) {
        (Ok(a), Ok(b)) => a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
        _ => false,
    };
    let (w, g): (Vec<_>, Vec<_>) = (wanted.split(' ').collect(), got.split(' ').collect());
    w.len() == g.len() && w.iter().zip(&g).all(|(w, g)| w == g || near(w, g))
}

macro_rules! scripts {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            let file = concat!(stringify!($name), ".test");
            let count = run(file, include_str!(concat!("scripts/", stringify!($name), ".test")));
            assert!(count >= 10, "{file} has only {count} evaluations");
        }
    )*};
}

scripts!(conditions, structure, pipelines, span_metrics, refusals);

/// A runner that passes everything would prove nothing.
#[test]
#[should_panic(expected = "x.test:3")]
fn a_wrong_expectation_fails() {
    run(
        "x.test",
        "load\n  1/1 name=a at=1 for=1s\neval search {}\n  2\n",
    );
}
