use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, any_value::Value as V,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;

use super::eval::metrics::{Steps, evaluate};
use super::eval::search::{Bounds, Found, search};
use super::eval::series::{bucket, quantile};
use super::{QueryKind, parse, validate};
use crate::store::traces::TraceStore;

const SECOND: u64 = 1_000_000_000;

fn attr(key: &str, value: V) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        key_strindex: 0,
    }
}

fn text(value: &str) -> V {
    V::StringValue(value.into())
}

/// One trace: `root` (server, 10 s) over `load` (2 s) and `run` (5 s, failed), `run` over `step`.
/// A second trace holds `lost`, whose parent never came.
fn store() -> TraceStore {
    let span = |trace: u128, id: u64, parent: u64, name: &str, start: u64, seconds: u64| Span {
        trace_id: trace.to_be_bytes().into(),
        span_id: id.to_be_bytes().into(),
        parent_span_id: if parent == 0 {
            Vec::new()
        } else {
            parent.to_be_bytes().into()
        },
        name: name.into(),
        kind: if parent == 0 { 2 } else { 1 },
        start_time_unix_nano: start * SECOND,
        end_time_unix_nano: (start + seconds) * SECOND,
        ..Span::default()
    };
    let array = ArrayValue {
        values: vec![
            AnyValue {
                value: Some(text("a")),
            },
            AnyValue {
                value: Some(text("b")),
            },
        ],
    };
    let spans = vec![
        Span {
            attributes: vec![
                attr("route", text("/x")),
                attr("ratio", V::DoubleValue(0.5)),
            ],
            ..span(1, 1, 0, "root", 100, 10)
        },
        Span {
            attributes: vec![
                attr("n", V::IntValue(4)),
                attr("tags", V::ArrayValue(array)),
            ],
            ..span(1, 2, 1, "load", 101, 2)
        },
        Span {
            attributes: vec![attr("n", V::IntValue(8)), attr("hit", V::BoolValue(true))],
            status: Some(Status {
                code: 2,
                message: "no".into(),
            }),
            events: vec![Event {
                name: "boom".into(),
                attributes: vec![attr("why", text("oom"))],
                time_unix_nano: 104 * SECOND,
                ..Event::default()
            }],
            ..span(1, 3, 1, "run", 103, 5)
        },
        span(1, 4, 3, "step", 104, 1),
        span(2, 5, 99, "lost", 200, 1),
    ];
    let store = TraceStore::default();
    let taken = store.ingest(vec![ResourceSpans {
        resource: Some(Resource {
            attributes: vec![attr("service.name", text("shop"))],
            ..Resource::default()
        }),
        scope_spans: vec![ScopeSpans {
            spans,
            ..ScopeSpans::default()
        }],
        ..ResourceSpans::default()
    }]);
    assert_eq!(taken.accepted, 5);
    store
}

fn found(query: &str) -> Vec<Found> {
    let query = parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let bounds = Bounds {
        window: None,
        traces: 100,
        spans: 100,
        duration: (0, u64::MAX),
    };
    search(&store(), &query, &bounds).expect("the query runs")
}

/// Span ids of all sets found, in order.
fn ids(query: &str) -> Vec<u64> {
    let mut ids: Vec<u64> = found(query)
        .iter()
        .flat_map(|t| &t.sets)
        .flat_map(|s| &s.spans)
        .map(|s| s.id)
        .collect();
    ids.sort_unstable();
    ids
}

#[test]
fn conditions_select_spans() {
    let cases: &[(&str, &[u64])] = &[
        ("{}", &[1, 2, 3, 4, 5]),
        ("{ name = `run` }", &[3]),
        (r#"{ name =~ "r.*" }"#, &[1, 3]),
        (r#"{ name =~ "o" }"#, &[]),
        (r#"{ name !~ "r.*" && duration < 2s }"#, &[4, 5]),
        ("{ status = error }", &[3]),
        ("{ statusMessage = `no` }", &[3]),
        ("{ kind = server }", &[1]),
        ("{ duration >= 5s }", &[1, 3]),
        ("{ duration * 2 > 19s }", &[1]),
        ("{ traceDuration > 5s && kind = internal }", &[2, 3, 4]),
        ("{ rootName = `root` && name = `step` }", &[4]),
        ("{ rootServiceName = `` }", &[5]),
        ("{ resource.service.name = `shop` && span.n > 4 }", &[3]),
        ("{ .service.name = `shop` && .n = 4 }", &[2]),
        ("{ span.n + 4 = 8 }", &[2]),
        ("{ span.n % 8 = 4 }", &[2]),
        ("{ -span.n < -5 }", &[3]),
        ("{ span.n != nil }", &[2, 3]),
        ("{ span.n = nil }", &[1, 4, 5]),
        ("{ span.n != 4 }", &[3]),
        ("{ span.hit }", &[3]),
        ("{ !(name = `root`) && name != `lost` }", &[2, 3, 4]),
        ("{ span.tags = `b` }", &[2]),
        ("{ span.tags != `b` }", &[]),
        ("{ event.why = `oom` }", &[3]),
        ("{ event:name = `boom` && event:timeSinceStart = 1s }", &[3]),
        ("{ span:id = `0000000000000004` }", &[4]),
        ("{ span:parentID = `0000000000000003` }", &[4]),
        ("{ trace:id = `00000000000000000000000000000002` }", &[5]),
        ("{ span:childCount = 2 }", &[1]),
        ("{ nestedSetParent < 0 }", &[1]),
        (
            "{ name = `run` || (name = `load` && status = unset) }",
            &[2, 3],
        ),
        // A literal of another numeric type finds nothing, as in the real server.
        ("{ span.n = 4.0 }", &[]),
        ("{ span.ratio = 0.5 }", &[1]),
        ("{ span.n = span.nosuch }", &[]),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(query), *expected, "{query}");
    }
}

#[test]
fn structure_relates_spans() {
    let cases: &[(&str, &[u64])] = &[
        ("{ name = `root` } > {}", &[2, 3]),
        ("{ name = `root` } >> {}", &[2, 3, 4]),
        ("{ name = `step` } < {}", &[3]),
        ("{ name = `step` } << {}", &[1, 3]),
        ("{ name = `load` } ~ {}", &[3]),
        ("{ name = `root` } !>> {}", &[1, 5]),
        ("{ name = `root` } &> { name = `load` }", &[1, 2]),
        ("{ name = `load` } && { name = `run` }", &[2, 3]),
        ("{ name = `load` } && { name = `lost` }", &[]),
        ("{ name = `load` } || { name = `lost` }", &[2, 5]),
        (
            "{ name = `root` } > { name = `run` } > { name = `step` }",
            &[4],
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(query), *expected, "{query}");
    }
}

#[test]
fn pipelines_group_aggregate_and_select() {
    assert_eq!(ids("{} | count() > 3"), [1, 2, 3, 4]);
    assert_eq!(ids("{ span.n > 0 } | sum(span.n) = 12"), [2, 3]);
    assert_eq!(
        ids("{ span.n > 0 } | avg(span.n) = 6 | min(duration) = 2s"),
        [2, 3]
    );
    assert_eq!(ids("{} | max(duration) < 2s"), [5]);
    assert_eq!(
        ids("({ name = `load` } | count() > 0) && { name = `step` }"),
        [2, 4]
    );

    let grouped = found("{ name != `lost` } | by(kind) | count() > 1");
    assert_eq!(grouped.len(), 1);
    let set = &grouped[0].sets[0];
    assert_eq!(set.matched, 3);
    let shown: Vec<String> = set
        .attributes
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(shown, ["by(kind)=internal", "count()=3"]);
    assert_eq!(
        found("{ name != `lost` } | by(kind) | coalesce()")[0]
            .sets
            .len(),
        1
    );

    let selected = found("{ name = `run` } | select(span.n, resource.service.name, span.nosuch)");
    let span = &selected[0].sets[0].spans[0];
    assert_eq!(span.name.as_deref(), Some("run"));
    let shown: Vec<String> = span
        .attributes
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(shown, ["n=8", "service.name=`shop`"]);
}

fn instant(query: &str) -> Vec<(String, f64)> {
    let query = parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let steps = Steps::Instant {
        start: 100 * SECOND,
        end: 200 * SECOND,
    };
    let series = evaluate(&store(), &query, steps, 0).expect("the query runs");
    let one = |s: &super::eval::series::Series| {
        let labels: Vec<String> = s.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Some((labels.join(","), s.values[0]?))
    };
    series.iter().filter_map(one).collect()
}

#[test]
fn metrics_count_and_fold_spans_by_their_start() {
    let one = |name: &str, value: f64| vec![(name.to_owned(), value)];
    // The span that starts at the very end of the window belongs to the next one.
    assert_eq!(
        instant("{} | count_over_time()"),
        one("__name__=`count_over_time`", 4.0)
    );
    assert_eq!(instant("{} | rate()"), one("__name__=`rate`", 0.04));
    assert_eq!(
        instant("{} | max_over_time(duration)"),
        one("__name__=`max_over_time`", 10.0)
    );
    assert_eq!(
        instant("{} | min_over_time(span.n)"),
        one("__name__=`min_over_time`", 4.0)
    );
    assert_eq!(
        instant("{} | avg_over_time(span.n)"),
        one("__name__=`avg_over_time`", 6.0)
    );
    assert_eq!(
        instant("{} | sum_over_time(span.n)"),
        one("__name__=`sum_over_time`", 12.0)
    );
    assert_eq!(
        instant("{} | count_over_time() by (kind)"),
        [
            ("kind=internal".to_owned(), 3.0),
            ("kind=server".to_owned(), 1.0)
        ]
    );
    assert_eq!(
        instant("{} | count_over_time() by (kind) | topk(1)"),
        one("kind=internal", 3.0)
    );
    assert_eq!(
        instant("{} | count_over_time() by (kind) | bottomk(1)"),
        one("kind=server", 1.0)
    );
    assert_eq!(
        instant("{} | count_over_time() by (kind) > 2"),
        one("kind=internal", 3.0)
    );
    assert_eq!(
        instant("{} | quantile_over_time(span.n, 1)"),
        one("p=1", 8.0)
    );
    assert_eq!(
        instant("{} | histogram_over_time(span.n)"),
        [
            ("__bucket=4".to_owned(), 1.0),
            ("__bucket=8".to_owned(), 1.0)
        ]
    );
}

#[test]
fn nothing_found_is_a_zero_only_where_counting_makes_it_one() {
    let nobody = "{ resource.service.name = `nobody` }";
    assert_eq!(instant(&format!("{nobody} | count_over_time()")).len(), 1);
    for function in [
        "avg_over_time(duration)",
        "quantile_over_time(duration, .9)",
        "rate() by (name)",
    ] {
        assert_eq!(instant(&format!("{nobody} | {function}")), [], "{function}");
    }
}

#[test]
fn steps_are_aligned_and_include_their_end() {
    let steps = Steps::range(107 * SECOND, 129 * SECOND, 10 * SECOND);
    assert_eq!(steps.ends(), [100, 110, 120, 130].map(|s| s * SECOND));
    let query = parse("{} | count_over_time()").expect("a query");
    let steps = Steps::range(100 * SECOND, 110 * SECOND, 2 * SECOND);
    let series = evaluate(&store(), &query, steps, 0).expect("the query runs");
    let expected = [1.0, 1.0, 2.0, 0.0, 0.0, 0.0].map(Some);
    assert_eq!(series[0].values, expected);
}

#[test]
fn quantiles_are_the_real_servers_estimates() {
    assert_eq!(
        (bucket(1), bucket(2), bucket(3), bucket(64)),
        (None, Some(2), Some(4), Some(64))
    );
    // Recorded: 20 spans in three buckets.
    let recorded = [(0.033554432, 3), (0.067108864, 7), (0.134217728, 10)];
    let close = |q, expected: f64| {
        let got = quantile(q, &recorded).expect("samples");
        assert!((got / expected - 1.0).abs() < 1e-12, "p{q}: {got}");
    };
    close(0.5, 0.067108864);
    close(0.9, 0.11684331871472597);
    close(0.99, 0.134217728);
    assert_eq!(quantile(0.5, &[]), None);
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_position() {
    let cases = [
        (
            "{",
            "parse error at line 1, col 2: syntax error: unexpected $end",
        ),
        (
            "{ name = x }",
            "parse error at line 1, col 10: unknown identifier: x",
        ),
        (
            "{}\n| nosuch()",
            "parse error at line 2, col 3: syntax error: unexpected IDENTIFIER",
        ),
        ("{ span.a =~ \"(\" }", "invalid regex: `(`"),
        (
            "{ status = \"error\" }",
            "binary operations must operate on the same type: status = `error`",
        ),
        (
            "{ status > ok }",
            "illegal operation for the given types: status > ok",
        ),
        ("{ parent.name = `x` }", "parent not yet supported"),
        (
            "{ 5 }",
            "span filter field expressions must resolve to a boolean: { 5 }",
        ),
        (
            "{} | min(1) > 0",
            "aggregate field expressions must reference the span: min(1)",
        ),
        (
            "{} | quantile_over_time(duration, 2)",
            "quantile must be between 0 and 1: 2",
        ),
        (
            "{ .a = 1 || .b = 1 && .c = 1 }",
            "parse error at line 1, col 20: && after || needs parentheses to say which is meant first",
        ),
        (
            "{ .a = \"open }",
            "parse error at line 1, col 8: syntax error: literal not terminated",
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(
            parse(query).expect_err(query).to_string(),
            expected,
            "{query}"
        );
    }
    assert_eq!(validate("{}"), Ok(QueryKind::Search));
    assert_eq!(validate("{} | rate()"), Ok(QueryKind::Metrics));
    let deep = format!("{{ {}true{} }}", "(".repeat(5000), ")".repeat(5000));
    assert!(parse(&deep).is_err());
    assert!(parse(&"!".repeat(100_000)).is_err());
    for (open, middle, close) in [
        ("(", "{}", ")"),
        ("{", "", ""),
        ("{ (", "true", ")"),
        ("{ -", "1 }", ""),
        ("{ 2^", "2 }", ""),
        ("{ .a + ", "1 = 1 }", ""),
        ("{ .a = ", "1 }", ""),
        ("{ .a && ", "true }", ""),
        ("{} > ", "{}", ""),
        ("{} && ", "{}", ""),
        ("{} | count() > ", "1", ""),
    ] {
        // As hostile as a request can be, on a thread with a server's stack.
        let text = format!("{}{middle}{}", open.repeat(100_000), close.repeat(100_000));
        assert!(parse(&text).is_err(), "{open}");
        let text = format!("{}{middle}{}", open.repeat(12_000), close.repeat(12_000));
        assert!(parse(&text).is_err(), "{open}");
    }
}

#[test]
fn a_duration_is_written_as_go_writes_it() {
    let cases = [
        (0, "0s"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (68_666_666, "68.666666ms"),
        (-2_000_000_000, "-2s"),
        (90_000_000_000, "1m30s"),
        (86_400_000_000_000, "24h0m0s"),
    ];
    for (ns, expected) in cases {
        assert_eq!(super::ast::go_duration(ns), expected);
    }
}

/// Spans of one trace: of each the number of its parent (an earlier span, itself for none) and in
/// which of the two sets it is.
fn family() -> impl Strategy<Value = Vec<(usize, bool, bool)>> {
    proptest::collection::vec((any::<usize>(), any::<bool>(), any::<bool>()), 1..14).prop_map(|v| {
        let one = |(at, (parent, a, b))| (parent % (at + 1), a, b);
        v.into_iter().enumerate().map(one).collect()
    })
}

/// Whether `b` is the child (…) of `a`, by following parents one at a time.
fn naive(family: &[(usize, bool, bool)], relation: &str, a: usize, b: usize) -> bool {
    let parent = |of: usize| (family[of].0 != of).then_some(family[of].0);
    let above = |mut at: usize, wanted: usize| {
        while let Some(next) = parent(at) {
            if next == wanted {
                return true;
            }
            at = next;
        }
        false
    };
    match relation {
        ">" => parent(b) == Some(a),
        "<" => parent(a) == Some(b),
        ">>" => above(b, a),
        "<<" => above(a, b),
        _ => a != b && parent(a).is_some() && parent(a) == parent(b),
    }
}

proptest! {
    #[test]
    fn relations_are_those_of_the_parents(family in family()) {
        let store = TraceStore::default();
        let span = |(at, (parent, a, b)): (usize, &(usize, bool, bool))| Span {
            trace_id: 1_u128.to_be_bytes().into(),
            span_id: (at as u64 + 1).to_be_bytes().into(),
            parent_span_id: if *parent == at {
                Vec::new()
            } else {
                (*parent as u64 + 1).to_be_bytes().into()
            },
            attributes: vec![attr("a", V::BoolValue(*a)), attr("b", V::BoolValue(*b))],
            start_time_unix_nano: SECOND,
            end_time_unix_nano: 2 * SECOND,
            ..Span::default()
        };
        store.ingest(vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans: family.iter().enumerate().map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }]);
        let bounds = Bounds { window: None, traces: 9, spans: 99, duration: (0, u64::MAX) };
        let of = |side: fn(&(usize, bool, bool)) -> bool| -> Vec<usize> {
            (0..family.len()).filter(|i| side(&family[*i])).collect()
        };
        let (left, right) = (of(|s| s.1), of(|s| s.2));
        for relation in [">", "<", ">>", "<<", "~"] {
            let related = |b: &usize| left.iter().any(|a| naive(&family, relation, *a, *b));
            let relates = |a: &usize| right.iter().any(|b| naive(&family, relation, *a, *b));
            let mut both: Vec<usize> = right.iter().copied().filter(|b| related(b)).collect();
            both.extend(left.iter().copied().filter(|a| relates(a)));
            both.sort_unstable();
            both.dedup();
            for (sign, wanted) in [
                ("", right.iter().copied().filter(|b| related(b)).collect::<Vec<_>>()),
                ("!", right.iter().copied().filter(|b| !related(b)).collect()),
                ("&", both),
            ] {
                let text = format!("{{ span.a }} {sign}{relation} {{ span.b }}");
                let query = parse(&text).expect("a query");
                let found = search(&store, &query, &bounds).expect("it runs");
                let spans = found.iter().flat_map(|t| &t.sets).flat_map(|s| &s.spans);
                let mut got: Vec<usize> = spans.map(|s| s.id as usize - 1).collect();
                got.sort_unstable();
                prop_assert_eq!(got, wanted, "{}", text);
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn no_mixture_of_tokens_makes_a_query_panic(parts in proptest::collection::vec(
        proptest::sample::select(vec![
            "{", "}", "(", ")", "&&", "||", "!", "=", "!=", ">", ">>", "<<", "~", "|", ",", "+", "-",
            "*", "/", "^", "%", "name", "status", "error", "nil", "5", "9223372036854775807", "1.5s",
            "\"x\"", "`y`", "span.n", ".n", "event:name", "count()", "by", "select", "rate()", "topk",
            "quantile_over_time", "with", " ", "0", "true",
        ]), 0..24)) {
        if let Ok(query) = parse(&parts.join(" ")) {
            let store = store();
            let bounds = Bounds { window: None, traces: 3, spans: 3, duration: (0, u64::MAX) };
            let _ = search(&store, &query, &bounds);
            let steps = Steps::range(100 * SECOND, 110 * SECOND, SECOND);
            let _ = evaluate(&store, &query, steps, 2);
        }
    }
}
