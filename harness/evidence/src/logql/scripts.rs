//! Our own cases, as scripts: see `tests/*.test`.
//!
//! ```text
//! load
//!   {app="a"} 10 tenant=t1 | the line      seconds, structured metadata, line ("…" with escapes)
//! eval instant at 60 QUERY                 seconds
//!   {app="a"} 2                            in any order; eval_ordered: in this one
//! eval range from 0 to 60 step 10 QUERY
//!   {app="a"} 1 2 _ 3                      _ is no value
//! eval lines from 0 to 60 [limit 5] [forward] QUERY
//!   10 {app="a"} the line                  all labels of the line
//! ```
//!
//! `fail TEXT` under an evaluation expects an error that holds the text; a lone number is a scalar.
//! The labels `service_name` and `detected_level`, which the store adds, are left out.

use super::query::{Answer, Direction, LogRange, Query, QueryLimits, Steps};
use crate::store::logs::{Labels, LogStore, PushStream};

/// Runs a script and returns how many evaluations it has.
///
/// # Panics
/// With all evaluations that did not go as expected.
fn run(name: &str, script: &str) -> usize {
    let mut store = LogStore::default();
    let mut lines = script.lines().enumerate().peekable();
    let (mut count, mut wrong) = (0, Vec::new());
    while let Some((n, line)) = lines.next() {
        let head = line.trim();
        if head.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut body = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, l)| l.starts_with(' ')) {
            body.push(line.trim());
        }
        if head == "clear" {
            store = LogStore::default();
        } else if head == "load" {
            body.iter().for_each(|line| load(&store, line));
        } else {
            count += 1;
            let got = evaluate(&store, head).unwrap_or_else(|e| vec![format!("fail {e}")]);
            if !fits(head, &body, got.clone()) {
                let (body, got) = (body.join("\n  "), got.join("\n  "));
                let n = n + 1;
                wrong.push(format!("{name}:{n}: {head}\n  {body}\n got\n  {got}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    count
}

/// Nanoseconds of decimal seconds, exactly: a double cannot hold those of today.
fn nanos(seconds: &str) -> i64 {
    let (whole, part) = seconds.split_once('.').unwrap_or((seconds, ""));
    format!("{whole}{part:0<9}").parse().expect(seconds)
}

fn load(store: &LogStore, line: &str) {
    let (head, text) = line.split_once(" | ").expect(line);
    let end = head.find('}').expect("a selector") + 1;
    let labels = super::parse_selector(&head[..end]).expect(line);
    let mut words = head[end..].split_whitespace();
    let ts = nanos(words.next().expect("a time"));
    let pair = |(n, v): (&str, &str)| (n.to_owned(), v.to_owned());
    let text = match text.strip_prefix('"') {
        Some(_) => serde_json::from_str(text).expect(line),
        None => text.to_owned(),
    };
    let done = store.ingest_push(vec![PushStream {
        labels: labels.into_iter().map(|m| (m.name, m.value)).collect(),
        entries: vec![(
            ts,
            text,
            words.map(|w| pair(w.split_once('=').expect(w))).collect(),
        )],
    }]);
    assert_eq!(done.rejected, 0, "{line}");
}

fn shown(labels: &Labels) -> String {
    let own = |n: &str| n != "service_name" && n != "detected_level";
    labels
        .iter()
        .filter(|(n, _)| own(n))
        .collect::<Labels>()
        .to_string()
}

fn evaluate(store: &LogStore, head: &str) -> Result<Vec<String>, String> {
    let mut rest = head;
    let mut word = || {
        let (word, tail) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
        rest = tail;
        word
    };
    word();
    let kind = word();
    let limits = QueryLimits::default();
    let error = |e: super::QueryError| e.to_string();
    let mut named = |name: &str| {
        assert_eq!(word(), name, "{head}");
        nanos(word())
    };
    match kind {
        "instant" => {
            let at = named("at");
            Ok(show(
                Query::new(rest).map_err(error)?.instant(store, at, &limits),
                None,
            )?)
        }
        "range" => {
            let steps = Steps {
                start: named("from"),
                end: named("to"),
                step: named("step"),
            };
            let answer = Query::new(rest)
                .map_err(error)?
                .range(store, steps, &limits);
            Ok(show(answer, Some(steps))?)
        }
        "lines" => {
            let (start, end) = (named("from"), named("to"));
            let mut limit = 100;
            let mut direction = Direction::Backward;
            if let Some(tail) = rest.strip_prefix("limit ") {
                let (n, tail) = tail.split_once(' ').expect(head);
                limit = n.parse().expect(head);
                rest = tail;
            }
            if let Some(tail) = rest.strip_prefix("forward ") {
                direction = Direction::Forward;
                rest = tail;
            }
            let range = LogRange {
                start,
                end,
                limit,
                direction,
                interval: 0,
            };
            let answer = Query::new(rest)
                .map_err(error)?
                .lines(store, range, &limits);
            Ok(show(answer, None)?)
        }
        other => panic!("no kind of evaluation: {other}"),
    }
}

fn show(
    answer: Result<Answer, super::QueryError>,
    steps: Option<Steps>,
) -> Result<Vec<String>, String> {
    Ok(match answer.map_err(|e| e.to_string())? {
        Answer::Scalar(value) => vec![value.to_string()],
        Answer::Vector(samples) => samples
            .iter()
            .map(|s| format!("{} {}", shown(&s.labels), s.value))
            .collect(),
        Answer::Lines(lines) => lines
            .iter()
            .map(|l| {
                let (whole, part) = (l.ts / 1_000_000_000, l.ts % 1_000_000_000);
                let t = format!("{whole}.{part:09}");
                let t = t.trim_end_matches('0').trim_end_matches('.');
                format!("{t} {} {}", shown(&l.labels.all), l.line)
                    .trim_end()
                    .to_owned()
            })
            .collect(),
        Answer::Matrix(series) => series
            .iter()
            .map(|s| {
                let steps = steps.expect("a range");
                let mut out = shown(&s.labels);
                let mut t = steps.start;
                while t <= steps.end {
                    let value = s.points.iter().find(|(at, _)| *at == t);
                    let value = value.map_or("_".to_owned(), |(_, v)| v.to_string());
                    out = format!("{out} {value}");
                    t += steps.step;
                }
                out
            })
            .collect(),
    })
}

fn fits(head: &str, wanted: &[&str], mut got: Vec<String>) -> bool {
    if let [only] = wanted
        && let Some(text) = only.strip_prefix("fail ")
    {
        return matches!(got.as_slice(), [e] if e.starts_with("fail ") && e.contains(text));
    }
    let mut wanted: Vec<String> = wanted.iter().map(|w| (*w).to_owned()).collect();
    // Lines stand in the order of the answer; series do not, unless asked for.
    if !head.starts_with("eval_ordered") && !head.starts_with("eval lines") {
        wanted.sort();
        got.sort();
    }
    wanted.len() == got.len() && wanted.iter().zip(&got).all(|(w, g)| same(w, g))
}

/// Equal word by word, numbers within rounding.
fn same(wanted: &str, got: &str) -> bool {
    let near = |w: &str, g: &str| match (w.parse::<f64>(), g.parse::<f64>()) {
        (Ok(a), Ok(b)) => {
            (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
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
            let count = run(file, include_str!(concat!("tests/", stringify!($name), ".test")));
            assert!(count >= 10, "{file} has only {count} evaluations");
        }
    )*};
}

scripts!(
    line_filters,
    parsers,
    label_filters,
    formats,
    range_aggregations,
    vector_aggregations,
    operators,
    errors,
    limits
);

/// A runner that passes everything would prove nothing.
#[test]
#[should_panic(expected = "x.test:3")]
fn a_wrong_expectation_fails() {
    run(
        "x.test",
        "load\n  {app=\"a\"} 1 | x\neval instant at 2 count_over_time({app=\"a\"}[5s])\n  {app=\"a\"} 2\n",
    );
}
