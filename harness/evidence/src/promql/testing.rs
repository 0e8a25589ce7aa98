//! Runs scripts in the language of Prometheus' `promqltest`: `load`, `clear`, `eval instant`,
//! `eval range`, `expect`. It is documented in `promql/promqltest/README.md` of Prometheus.
//!
//! An evaluation passes, fails, or is refused because it needs what is not built (native histograms,
//! experimental functions and syntax): three different things.

mod series;

use super::plan;
use super::{Answer, Options, QueryError, QueryValue};
use crate::store::metrics::{Labels, METRIC_NAME, MetricStore, SeriesData};
use regex::Regex;
use series::Described;
use std::collections::BTreeMap;

/// Relative difference up to which two values count as equal, as in promqltest.
const EPSILON: f64 = 1e-6;

/// An evaluation that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// Line of the script, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// What differed, or what is not supported.
    pub why: String,
}

/// What became of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Evaluations that did as expected.
    pub passed: usize,
    /// Evaluations that did not, and lines that are no script.
    pub failed: Vec<Miss>,
    /// Evaluations that need what is not supported.
    pub refused: Vec<Miss>,
}

/// Runs a script from an empty store.
pub fn run(script: &str) -> Report {
    let lines: Vec<&str> = script
        .lines()
        .map(str::trim)
        .map(|l| if l.starts_with('#') { "" } else { l })
        .collect();
    let mut r = Runner {
        store: MetricStore::default(),
        beyond: Vec::new(),
        report: Report::default(),
        options: Options {
            delayed_name_removal: true,
            ..Options::default()
        },
    };
    let mut i = 0;
    while i < lines.len() {
        let end = lines[i..]
            .iter()
            .position(|l| l.is_empty())
            .map_or(lines.len(), |n| i + n);
        let word = lines[i].split_whitespace().next().unwrap_or("");
        // `clear` and `eval` may follow one another without a blank line.
        let stop = |from: usize| {
            let next = lines[from..end].iter().position(|l| starts_command(l));
            next.map_or(end, |n| from + n)
        };
        match word {
            "" => i += 1,
            "clear" => {
                r.store = MetricStore::default();
                r.beyond.clear();
                i += 1;
            }
            "load" | "load_with_nhcb" => {
                let last = stop(i + 1);
                if let Err(e) = r.load(lines[i], &lines[i + 1..last], word != "load") {
                    r.fail(i, lines[i], &e);
                }
                i = last;
            }
            w if w == "eval" || w.starts_with("eval_") => {
                let last = stop(i + 1);
                r.evaluate(i, lines[i], &lines[i + 1..last]);
                i = last;
            }
            _ => {
                r.fail(i, lines[i], "expected load, clear or eval");
                i += 1;
            }
        }
    }
    r.report
}

fn starts_command(line: &str) -> bool {
    line == "clear"
        || ["load ", "load_with_nhcb ", "eval ", "eval_"]
            .iter()
            .any(|w| line.starts_with(w))
}

struct Runner {
    store: MetricStore,
    /// Series that hold in the script what is not supported, and what that is.
    beyond: Vec<(Labels, &'static str)>,
    report: Report,
    options: Options,
}

#[derive(Default)]
struct Expected {
    fail: Option<Check>,
    ordered: bool,
    text: Option<String>,
    notes: Vec<(Note, bool, Check)>,
    scalar: Option<f64>,
    series: Vec<Described>,
    /// `expect range vector from … to … step …`: series lines are then ranges.
    matrix: Option<(i64, i64)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Note {
    Warning,
    Info,
}

enum Check {
    Any,
    Exact(String),
    Pattern(Regex),
}

impl Check {
    fn holds(&self, text: &str) -> bool {
        match self {
            Check::Any => true,
            Check::Exact(want) => text == want,
            Check::Pattern(re) => re.is_match(text),
        }
    }
}

enum When {
    Instant(i64),
    Range(i64, i64, i64),
}

enum Outcome {
    Passed,
    Failed(String),
    Refused(String),
}

impl Runner {
    fn fail(&mut self, line: usize, query: &str, why: &str) {
        self.report.failed.push(Miss {
            line: line + 1,
            query: query.into(),
            why: why.into(),
        });
    }

    fn load(&mut self, head: &str, lines: &[&str], custom_buckets: bool) -> Result<(), String> {
        let every = head
            .split_whitespace()
            .nth(1)
            .ok_or("expected an interval after load")?;
        let every = millis(every)?;
        let mut described: BTreeMap<Labels, Described> = BTreeMap::new();
        for line in lines {
            let s = series::describe(line).map_err(|e| format!("{line}: {e}"))?;
            match s.beyond {
                Some(what) => self.beyond.push((s.labels, what)),
                // Of two lines for one series the later counts, as in promqltest.
                None => drop(described.insert(s.labels.clone(), s)),
            }
        }
        for s in described.into_values() {
            if custom_buckets && let Some(base) = s.labels.metric_name().strip_suffix("_bucket") {
                let labels = s.labels.with(METRIC_NAME, base).with("le", "");
                self.beyond.push((labels, "native histograms"));
            }
            for (k, v) in s.values.iter().enumerate() {
                if let Some(v) = v {
                    self.store
                        .append(&s.labels, k as i64 * every, *v)
                        .map_err(|e| e.to_string())?;
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, line: usize, head: &str, rest: &[&str]) {
        let (when, query, mode) = match parse_eval(head) {
            Ok(x) => x,
            Err(e) => return self.fail(line, head, &e),
        };
        let outcome = if rest.iter().any(|l| l.contains("{{")) {
            Outcome::Refused("native histograms".into())
        } else {
            match expectations(rest, mode) {
                Ok(expected) => self.judge(&when, query, &expected),
                Err(e) => Outcome::Failed(e),
            }
        };
        let miss = |why| Miss {
            line: line + 1,
            query: query.to_string(),
            why,
        };
        match outcome {
            Outcome::Passed => self.report.passed += 1,
            Outcome::Failed(why) => self.report.failed.push(miss(why)),
            Outcome::Refused(why) => self.report.refused.push(miss(why)),
        }
    }

    fn judge(&self, when: &When, query: &str, expected: &Expected) -> Outcome {
        if let Some(what) = self.beyond(query) {
            return Outcome::Refused(what.into());
        }
        let result = match *when {
            When::Instant(t) => super::instant(&self.store, query, t, &self.options),
            When::Range(a, b, step) => {
                super::range(&self.store, query, (a, b), step, &self.options)
            }
        };
        let answer = match result {
            Err(e @ QueryError::Unsupported { .. }) => return Outcome::Refused(e.to_string()),
            Err(e) => return judge_error(&e.to_string(), expected),
            Ok(_) if expected.fail.is_some() => {
                return Outcome::Failed("expected a failure, got an answer".into());
            }
            Ok(answer) => answer,
        };
        let checked = check_notes(&answer, expected)
            .and_then(|()| check_value(when, &answer.value, expected))
            .and_then(|()| self.check_in_range(when, query, &answer.value));
        match checked {
            Ok(()) => Outcome::Passed,
            Err(why) => Outcome::Failed(why),
        }
    }

    /// What the query selects that is not supported.
    fn beyond(&self, query: &str) -> Option<&'static str> {
        let plan = plan::plan(query).ok()?;
        let selected = |labels: &Labels| {
            plan.selectors.iter().any(|s| {
                s.matchers
                    .iter()
                    .all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
            })
        };
        self.beyond
            .iter()
            .find(|(labels, _)| selected(labels))
            .map(|(_, what)| *what)
    }

    /// An instant query and the same instant inside a range query must agree.
    fn check_in_range(&self, when: &When, query: &str, value: &QueryValue) -> Result<(), String> {
        let (When::Instant(t), QueryValue::Vector(v)) = (when, value) else {
            return Ok(());
        };
        if ["range()", "step()", "start()", "end()"]
            .iter()
            .any(|f| query.contains(f))
        {
            return Ok(());
        }
        let minute = 60_000;
        let around = super::range(
            &self.store,
            query,
            (t - minute, t + minute),
            minute,
            &self.options,
        )
        // A neighbouring instant may fail where this one does not.
        .unwrap_or_else(|_| Answer {
            value: QueryValue::Matrix(
                v.iter()
                    .map(|s| SeriesData {
                        labels: s.labels.clone(),
                        times: vec![*t],
                        values: vec![s.value],
                    })
                    .collect(),
            ),
            warnings: Vec::new(),
            infos: Vec::new(),
        });
        let QueryValue::Matrix(m) = around.value else {
            return Err("range query gave no matrix".into());
        };
        let at_t: BTreeMap<&Labels, f64> = m
            .iter()
            .filter_map(|s| Some((&s.labels, s.values[s.times.binary_search(t).ok()?])))
            .collect();
        let same = at_t.len() == v.len()
            && v.iter()
                .all(|s| at_t.get(&s.labels).is_some_and(|&x| near(s.value, x)));
        if same {
            Ok(())
        } else {
            Err(format!(
                "as an instant query {v:?}, inside a range query {at_t:?}"
            ))
        }
    }
}

fn judge_error(text: &str, expected: &Expected) -> Outcome {
    match &expected.fail {
        None => Outcome::Failed(format!("unexpected error: {text}")),
        Some(check) if check.holds(text) => Outcome::Passed,
        Some(_) => Outcome::Failed(format!("failed as expected, with another text: {text}")),
    }
}

fn check_notes(answer: &Answer, expected: &Expected) -> Result<(), String> {
    for (note, wanted, check) in &expected.notes {
        let (name, texts) = match note {
            Note::Warning => ("warning", &answer.warnings),
            Note::Info => ("info", &answer.infos),
        };
        let found = texts.iter().any(|t| check.holds(t));
        if found != *wanted {
            let want = if *wanted {
                "expected a matching"
            } else {
                "expected no"
            };
            return Err(format!("{want} {name}, got {texts:?}"));
        }
    }
    Ok(())
}

fn check_value(when: &When, value: &QueryValue, expected: &Expected) -> Result<(), String> {
    let differs = || format!("expected {:?}, got {value:?}", expected.series);
    match value {
        QueryValue::Text(s) => match &expected.text {
            Some(want) if want == s => Ok(()),
            want => Err(format!("expected text {want:?}, got {s:?}")),
        },
        QueryValue::Scalar(v) => match expected.scalar {
            Some(want) if near(want, *v) => Ok(()),
            want => Err(format!("expected scalar {want:?}, got {v}")),
        },
        QueryValue::Vector(v) => {
            if v.len() != expected.series.len() {
                return Err(differs());
            }
            for (i, s) in v.iter().enumerate() {
                let place = expected.series.iter().position(|e| e.labels == s.labels);
                let place = place.ok_or_else(differs)?;
                let want = expected.series[place].values.first().copied().flatten();
                if !want.is_some_and(|w| near(w, s.value)) || (expected.ordered && place != i) {
                    return Err(differs());
                }
            }
            Ok(())
        }
        QueryValue::Matrix(m) => {
            let (start, step) = match (when, expected.matrix) {
                (When::Range(start, _, step), _) => (*start, *step),
                (When::Instant(_), Some(x)) => x,
                _ => return Err("expected no range vector here".into()),
            };
            let wanted: Vec<_> = expected
                .series
                .iter()
                .map(|e| (e, e.at(start, step)))
                .filter(|(_, points)| !points.is_empty())
                .collect();
            let same = wanted.len() == m.len()
                && wanted.iter().all(|(e, points)| {
                    m.iter().find(|s| s.labels == e.labels).is_some_and(|s| {
                        let got = s.times.iter().zip(&s.values);
                        got.len() == points.len()
                            && got
                                .zip(points)
                                .all(|((&t, &v), &(wt, wv))| t == wt && near(wv, v))
                    })
                });
            if same { Ok(()) } else { Err(differs()) }
        }
    }
}

fn near(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < EPSILON * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < EPSILON
}

fn parse_eval(head: &str) -> Result<(When, &str, &str), String> {
    let mut rest = head;
    let mut word = || {
        rest = rest.trim_start();
        let n = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (w, r) = rest.split_at(n);
        rest = r;
        w
    };
    let mode = word().trim_start_matches("eval").trim_start_matches('_');
    match (word(), word()) {
        ("instant", "at") => {
            let t = millis(word())?;
            Ok((When::Instant(t), rest.trim(), mode))
        }
        ("range", "from") => {
            let a = millis(word())?;
            word();
            let b = millis(word())?;
            word();
            let step = millis(word())?;
            Ok((When::Range(a, b, step), rest.trim(), mode))
        }
        _ => Err("expected 'eval instant at TIME QUERY' or 'eval range from TIME to TIME step TIME QUERY'".into()),
    }
}

fn expectations(lines: &[&str], mode: &str) -> Result<Expected, String> {
    let mut e = Expected::default();
    match mode {
        "fail" => e.fail = Some(Check::Any),
        "ordered" => e.ordered = true,
        "warn" => e.notes.push((Note::Warning, true, Check::Any)),
        "info" => e.notes.push((Note::Info, true, Check::Any)),
        _ => {}
    }
    for line in lines {
        if let Some(rest) = line.strip_prefix("expect ") {
            expectation(rest.trim(), &mut e)?;
        } else if let Ok(v) = line.parse::<f64>() {
            e.scalar = Some(v);
        } else {
            e.series
                .push(series::describe(line).map_err(|m| format!("{line}: {m}"))?);
        }
    }
    Ok(e)
}

fn expectation(text: &str, e: &mut Expected) -> Result<(), String> {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let check = || -> Result<Check, String> {
        if let Some(m) = rest.strip_prefix("msg:") {
            Ok(Check::Exact(m.trim().to_string()))
        } else if let Some(m) = rest.strip_prefix("regex:") {
            Regex::new(m.trim())
                .map(Check::Pattern)
                .map_err(|x| x.to_string())
        } else {
            Ok(Check::Any)
        }
    };
    match word {
        "fail" => e.fail = Some(check()?),
        "ordered" => e.ordered = true,
        "warn" => e.notes.push((Note::Warning, true, check()?)),
        "info" => e.notes.push((Note::Info, true, check()?)),
        "no_warn" => e.notes.push((Note::Warning, false, check()?)),
        "no_info" => e.notes.push((Note::Info, false, check()?)),
        "string" => {
            let quote = rest.chars().next().unwrap_or('"');
            e.text = Some(rest.trim_matches(quote).to_string());
        }
        "range" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let find = |name| {
                words
                    .iter()
                    .position(|w| *w == name)
                    .and_then(|i| words.get(i + 1))
            };
            match (find("from"), find("step")) {
                (Some(from), Some(step)) => e.matrix = Some((millis(from)?, millis(step)?)),
                _ => return Err(format!("unknown expectation {text:?}")),
            }
        }
        _ => return Err(format!("unknown expectation {text:?}")),
    }
    Ok(())
}

/// Milliseconds of `1h30m`, `90s`, `1ms`, or plain seconds.
fn millis(s: &str) -> Result<i64, String> {
    let bad = || format!("not a time: {s:?}");
    if let Ok(seconds) = s.parse::<f64>() {
        return Ok((seconds * 1000.0).round() as i64);
    }
    let (negative, mut rest) = s.strip_prefix('-').map_or((false, s), |r| (true, r));
    let mut total = 0;
    while !rest.is_empty() {
        let n = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value: i64 = rest[..n].parse().map_err(|_| bad())?;
        let u = rest[n..]
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let unit = match &rest[n..n + u] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "y" => 31_536_000_000,
            _ => return Err(bad()),
        };
        total += value * unit;
        rest = &rest[n + u..];
    }
    Ok(if negative { -total } else { total })
}
