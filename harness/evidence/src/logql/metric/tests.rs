use super::super::query::{Answer, Direction, LogRange, Query};
use super::*;
use crate::store::logs::PushStream;

const SECOND: i64 = 1_000_000_000;

/// `a` has lines at 10, 20 … 60 s, `b` at 30 s and 60 s; their `v` is the second.
fn store() -> LogStore {
    let store = LogStore::default();
    let stream = |app: &str, times: &[i64]| PushStream {
        labels: vec![("app".into(), app.into())],
        entries: times
            .iter()
            .map(|t| (t * SECOND, format!("v={t} d={t}ms s={t}KiB"), Vec::new()))
            .collect(),
    };
    store.ingest_push(vec![
        stream("a", &[10, 20, 30, 40, 50, 60]),
        stream("b", &[30, 60]),
    ]);
    store
}

/// `labels value` of each sample, the labels that every series has left out.
fn at(store: &LogStore, query: &str, seconds: i64) -> Result<Vec<String>, String> {
    let query = Query::new(query).map_err(|e| e.to_string())?;
    let answer = query.instant(store, seconds * SECOND, &QueryLimits::default());
    Ok(match answer.map_err(|e| e.to_string())? {
        Answer::Vector(samples) => samples
            .iter()
            .map(|s| {
                let names = s
                    .labels
                    .iter()
                    .filter(|(n, _)| !matches!(*n, "detected_level" | "service_name" | "d" | "s"));
                let shown: Labels = names.collect();
                format!("{shown} {}", s.value)
            })
            .collect(),
        Answer::Scalar(value) => vec![value.to_string()],
        other => vec![format!("{other:?}")],
    })
}

#[test]
fn range_aggregations() {
    let store = store();
    let unwrapped = |op: &str| format!("{op}({{app=\"a\"}} | logfmt | unwrap v [1m]) by (app)");
    for (query, wanted) in [
        // (t - w, t]: 10 s is out, 30 s is in.
        (
            r#"count_over_time({app="a"}[20s])"#.to_owned(),
            r#"{app="a"} 2"#,
        ),
        (r#"rate({app="a"}[20s])"#.to_owned(), r#"{app="a"} 0.1"#),
        (
            r#"bytes_over_time({app="b"}[20s])"#.to_owned(),
            r#"{app="b"} 19"#,
        ),
        (
            r#"bytes_rate({app="b"}[20s])"#.to_owned(),
            r#"{app="b"} 0.95"#,
        ),
        (
            r#"sum(sum_over_time({app="a"} | logfmt | unwrap v [1m]))"#.to_owned(),
            "{} 60",
        ),
        (
            r#"sum(rate({app="a"} | logfmt | unwrap v [1m]))"#.to_owned(),
            "{} 1",
        ),
        (unwrapped("avg_over_time"), r#"{app="a"} 20"#),
        (unwrapped("min_over_time"), r#"{app="a"} 10"#),
        (unwrapped("max_over_time"), r#"{app="a"} 30"#),
        (unwrapped("first_over_time"), r#"{app="a"} 10"#),
        (unwrapped("last_over_time"), r#"{app="a"} 30"#),
        (
            r#"stdvar_over_time({app="b"} | logfmt | unwrap v [1m]) by (app)"#.to_owned(),
            r#"{app="b"} 0"#,
        ),
        (
            r#"quantile_over_time(0.25, {app="a"} | logfmt | unwrap v [1m]) by (app)"#.to_owned(),
            r#"{app="a"} 15"#,
        ),
        (
            r#"max_over_time({app="a"} | logfmt | unwrap duration(d) [1m]) by (app)"#.to_owned(),
            r#"{app="a"} 0.03"#,
        ),
        (
            r#"max_over_time({app="a"} | logfmt | unwrap bytes(s) [1m]) by (app)"#.to_owned(),
            r#"{app="a"} 30720"#,
        ),
        (
            r#"count_over_time({app="a"}[20s] offset 10s)"#.to_owned(),
            r#"{app="a"} 2"#,
        ),
    ] {
        assert_eq!(
            at(&store, &query, 30),
            Ok(vec![wanted.to_owned()]),
            "{query}"
        );
    }
}

#[test]
fn nothing_is_nothing_and_not_zero() {
    let store = store();
    for query in [
        r#"count_over_time({app="none"}[1m])"#,
        r#"sum(count_over_time({app="none"}[1m]))"#,
        r#"sum(count_over_time({app="none"}[1m])) / sum(count_over_time({app="a"}[1m]))"#,
        r#"sum(rate({app="a"} |= "zzz" [1m]))"#,
        r#"avg_over_time({app="a"} | logfmt | unwrap none [1m]) by (app)"#,
        r#"absent_over_time({app="a"}[1m])"#,
    ] {
        assert_eq!(at(&store, query, 60), Ok(Vec::new()), "{query}");
    }
    assert_eq!(
        at(&store, r#"absent_over_time({app="none",x=~"y"}[1m])"#, 60),
        Ok(vec![r#"{app="none"} 1"#.to_owned()])
    );
}

#[test]
fn a_line_that_cannot_be_processed_fails_the_query_unless_filtered() {
    let store = store();
    for stages in ["| json", "| logfmt | app>5", "| logfmt | unwrap d"] {
        let op = if stages.contains("unwrap") {
            "sum_over_time"
        } else {
            "count_over_time"
        };
        let failing = at(
            &store,
            &format!("sum({op}({{app=\"a\"}} {stages} [1m]))"),
            60,
        );
        let error = failing.expect_err(stages);
        assert!(error.starts_with("pipeline error: '"), "{error}");
        let filtered = format!("sum({op}({{app=\"a\"}} {stages} | __error__=\"\" [1m]))");
        assert_eq!(at(&store, &filtered, 60), Ok(Vec::new()), "{filtered}");
    }
}

#[test]
fn vector_aggregations_and_operators() {
    let store = store();
    let n = r#"sum by (app) (count_over_time({app=~"a|b"}[1m]))"#;
    for (query, wanted) in [
        (n.to_owned(), vec![r#"{app="a"} 6"#, r#"{app="b"} 2"#]),
        (format!("sum({n})"), vec!["{} 8"]),
        (format!("avg({n})"), vec!["{} 4"]),
        (format!("min({n})"), vec!["{} 2"]),
        (format!("max({n})"), vec!["{} 6"]),
        (format!("count({n})"), vec!["{} 2"]),
        (format!("stddev({n})"), vec!["{} 2"]),
        (format!("stdvar({n})"), vec!["{} 4"]),
        (format!("topk(1, {n})"), vec![r#"{app="a"} 6"#]),
        (format!("bottomk(1, {n})"), vec![r#"{app="b"} 2"#]),
        (
            format!("sort({n})"),
            vec![r#"{app="b"} 2"#, r#"{app="a"} 6"#],
        ),
        (
            format!("sort_desc({n})"),
            vec![r#"{app="a"} 6"#, r#"{app="b"} 2"#],
        ),
        (format!("{n} / 2"), vec![r#"{app="a"} 3"#, r#"{app="b"} 1"#]),
        (format!("{n} > 3"), vec![r#"{app="a"} 6"#]),
        (format!("3 < {n}"), vec![r#"{app="a"} 6"#]),
        (
            format!("{n} > bool 3"),
            vec![r#"{app="a"} 1"#, r#"{app="b"} 0"#],
        ),
        (
            format!("{n} / 0"),
            vec![r#"{app="a"} NaN"#, r#"{app="b"} NaN"#],
        ),
        (format!("{n} and ({n} > 3)"), vec![r#"{app="a"} 6"#]),
        (format!("{n} unless ({n} > 3)"), vec![r#"{app="b"} 2"#]),
        (format!("({n} > 99) or vector(0)"), vec!["{} 0"]),
        (
            format!("{n} / on () group_left () sum({n})"),
            vec![r#"{app="a"} 0.75"#, r#"{app="b"} 0.25"#],
        ),
        (
            format!(r#"label_replace({n}, "svc", "x-$1", "app", "(.*)") > 3"#),
            vec![r#"{app="a", svc="x-a"} 6"#],
        ),
        ("1 + 2 * 3".to_owned(), vec!["7"]),
    ] {
        let wanted: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
        assert_eq!(at(&store, &query, 60), Ok(wanted), "{query}");
    }
    let many = format!("sum({n}) / on () {n}");
    assert!(at(&store, &many, 60).unwrap_err().contains("many-to-many"));
}

#[test]
fn a_sum_does_not_need_a_series_for_each_trace_id() {
    let store = LogStore::default();
    store.ingest_push(vec![PushStream {
        labels: vec![("app".into(), "a".into())],
        entries: (0..2_000)
            .map(|n| {
                (
                    n,
                    "x".to_owned(),
                    vec![("trace_id".to_owned(), n.to_string())],
                )
            })
            .collect(),
    }]);
    assert_eq!(
        at(&store, r#"sum(count_over_time({app="a"}[1m]))"#, 1),
        Ok(vec!["{} 2000".to_owned()])
    );
    let all = at(&store, r#"count_over_time({app="a"}[1m])"#, 1);
    assert!(all.unwrap_err().contains("maximum number of series (500)"));
}

#[test]
fn a_deadline_that_has_passed_ends_the_query() {
    let limits = QueryLimits {
        deadline: Some(std::time::Instant::now()),
        ..QueryLimits::default()
    };
    let query = Query::new(r#"sum(rate({app="a"}[1m]))"#).unwrap();
    let failed = query.instant(&store(), 60 * SECOND, &limits);
    assert_eq!(failed, Err(QueryError::Timeout));
}

#[test]
fn log_queries_have_start_lack_end_and_obey_limit_and_direction() {
    let store = store();
    let times = |start: i64, end: i64, limit: usize, direction: Direction| -> Vec<i64> {
        let range = LogRange {
            start: start * SECOND,
            end: end * SECOND,
            limit,
            direction,
            interval: 0,
        };
        let query = Query::new(r#"{app=~"a|b"}"#).unwrap();
        match query.lines(&store, range, &QueryLimits::default()) {
            Ok(Answer::Lines(lines)) => lines.iter().map(|l| l.ts / SECOND).collect(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(times(10, 30, 9, Direction::Forward), [10, 20]);
    assert_eq!(times(0, 99, 3, Direction::Backward), [60, 60, 50]);
    assert_eq!(times(0, 99, 4, Direction::Forward), [10, 20, 30, 30]);
}
