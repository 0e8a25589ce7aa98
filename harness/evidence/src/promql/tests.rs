use super::*;
use crate::store::metrics::METRIC_NAME;
use proptest::prelude::*;

/// Our own cases, in the script language.
#[test]
fn own_scripts_pass() {
    for (name, script) in [
        ("counters", include_str!("tests/counters.test")),
        ("ratios", include_str!("tests/ratios.test")),
        ("latency", include_str!("tests/latency.test")),
        ("shapes", include_str!("tests/shapes.test")),
    ] {
        let r = testing::run(script);
        assert!(
            r.failed.is_empty() && r.refused.is_empty(),
            "{name}: {r:#?}"
        );
        assert!(r.passed > 5, "{name} evaluated only {}", r.passed);
    }
}

/// A runner that passes everything would prove nothing.
#[test]
fn the_runner_tells_passed_failed_and_refused_apart() {
    let r = testing::run(
        "load 1m\n  a 1 2\n  h {{schema:0 sum:1 count:1}}\n\
         eval instant at 1m a\n  a 2\n\
         eval instant at 1m a\n  a 3\n\
         eval instant at 1m a\n\
         eval instant at 1m a + b(\n\
         eval instant at 1m a\n  expect fail\n\
         eval instant at 1m h\n\
         eval instant at 1m mad_over_time(a[1m])\n  {} 0\n\n\
         evil instant at 1m a\n",
    );
    assert_eq!(
        (r.passed, r.failed.len(), r.refused.len()),
        (1, 5, 2),
        "{r:#?}"
    );
}

fn store() -> MetricStore {
    let store = MetricStore::default();
    for (i, job) in ["a", "b"].into_iter().enumerate() {
        for name in ["x_total", "y"] {
            let l = Labels::new([(METRIC_NAME, name), ("job", job)]).expect("valid");
            for k in 0..50 {
                let v = (k * (i as i64 + 1)) as f64;
                store.append(&l, k * 15_000, v).expect("in order");
            }
        }
    }
    store
}

fn at(query: &str, t_ms: i64) -> Result<QueryValue, QueryError> {
    instant(&store(), query, t_ms, &Options::default()).map(|a| a.value)
}

#[test]
fn a_range_selector_gives_raw_samples_left_open() {
    let Ok(QueryValue::Matrix(m)) = at("y{job=\"a\"}[30s]", 60_000) else {
        panic!("expected a matrix");
    };
    assert_eq!(m.len(), 1);
    assert_eq!(m[0].times, [45_000, 60_000]);
}

#[test]
fn names_are_dropped_at_once_by_default_and_clashes_refused() {
    let e = at("rate({job=\"a\"}[1m])", 60_000).expect_err("two names, one label set");
    assert_eq!(
        e.to_string(),
        "vector cannot contain metrics with the same labelset"
    );
    let Ok(QueryValue::Vector(v)) = at("abs(y{job=\"a\"})", 60_000) else {
        panic!("expected a vector");
    };
    assert_eq!(v[0].labels.to_string(), "{job=\"a\"}");
}

#[test]
fn refusals_name_the_thing_and_its_place() {
    for (query, want) in [
        (
            "1 +\n  histogram_sum(y)",
            "2:3: the native histogram function \"histogram_sum\" is not supported",
        ),
        (
            "limitk(1, y)",
            "1:1: the experimental aggregation \"limitk\" is not supported",
        ),
        (
            "y + fill(0) y",
            "1:5: the experimental modifier \"fill\" is not supported",
        ),
        (
            "sort_by_label(y, \"job\")",
            "1:1: the experimental function \"sort_by_label\"",
        ),
        ("y{job=\"a\" or job=\"b\"}", "parse error"),
        ("y </ 2", "a native histogram operator"),
    ] {
        let e = at(query, 0).expect_err(query).to_string();
        assert!(e.contains(want), "{query}: {e}");
    }
}

#[test]
fn limits_are_errors_and_not_short_answers() {
    let tight = Options {
        max_samples: 20,
        ..Options::default()
    };
    let e = instant(&store(), "count_over_time(y[10m])", 600_000, &tight);
    assert_eq!(e, Err(QueryError::TooManySamples(20)));
    let none = Options {
        timeout: Duration::ZERO,
        ..Options::default()
    };
    assert_eq!(instant(&store(), "y", 0, &none), Err(QueryError::Timeout));
    let wide = range(&store(), "y", (0, 12_000_000), 1000, &Options::default());
    assert!(wide.is_err_and(|e| e.to_string().contains("11,000")));
}

#[test]
fn deep_and_long_queries_are_refused_or_answered_but_never_crash() {
    for (open, close) in [
        ("(", ")"),
        ("-", ""),
        ("abs(", ")"),
        ("1+(", ")"),
        ("sum(", ")"),
        ("a[1m:", "]"),
        ("{a=\"", "\"}"),
        ("y[", ""),
        ("y + on (", ")"),
        ("y offset -", ""),
    ] {
        for n in [50, 190, 400, 5_000, 100_000] {
            let q = format!("{}y{}", open.repeat(n), close.repeat(n));
            let _ = at(&q, 60_000);
        }
    }
    assert!(at(&format!("1{}", "+1".repeat(150)), 0).is_ok());
    assert!(at(&format!("1{}", "+1".repeat(20_000)), 0).is_err());
    assert!(at(&"y".repeat(100_000), 0).is_err());
}

fn vector_query() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("y".to_string()),
        Just("x_total{job=\"a\"}".to_string()),
        Just("y offset 30s".to_string()),
        Just("y @ 300".to_string()),
        Just("rate(x_total[2m])".to_string()),
        Just("max_over_time(y[3m:20s])".to_string()),
        Just("vector(2)".to_string()),
        Just("absent(z)".to_string()),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|a| format!("sum by (job) ({a})")),
            inner.clone().prop_map(|a| format!("topk(1, {a})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner
                .clone()
                .prop_map(|a| format!("avg_over_time(({a})[1m:15s])")),
            inner.clone().prop_map(|a| format!("({a}) > 3")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or on (job) ({b})")),
            (inner.clone(), inner)
                .prop_map(|(a, b)| format!("sum by (job) ({a}) / on (job) sum by (job) ({b})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_text_is_an_answer_or_an_error(text in "[a-z0-9_\\[\\]{}()\"'`=~!<>+*/^%@:,. \n#-]{0,40}") {
        let _ = at(&text, 0);
    }

    #[test]
    fn a_range_query_is_its_instants(query in vector_query()) {
        let store = store();
        let o = Options::default();
        let Ok(Answer { value: QueryValue::Matrix(m), .. }) = range(&store, &query, (0, 600_000), 60_000, &o) else {
            return Ok(());
        };
        for t in (0..=600_000).step_by(60_000) {
            let answer = instant(&store, &query, t, &o).expect("each instant succeeds when the range does");
            let QueryValue::Vector(v) = answer.value else { panic!("expected a vector") };
            let mut one: Vec<_> = v.iter().map(|s| (s.labels.clone(), s.value.to_bits())).collect();
            let mut many: Vec<_> = m
                .iter()
                .filter_map(|s| Some((s.labels.clone(), s.values[s.times.binary_search(&t).ok()?].to_bits())))
                .collect();
            one.sort();
            many.sort();
            prop_assert_eq!(one, many, "{} at {}", query, t);
        }
    }
}
