//! What a script expects of an evaluation, and whether an answer is that.

use super::super::{Answer, QueryValue};
use super::Outcome;
use super::series::{self, Described};
use regex::Regex;

/// Relative difference up to which two values count as equal, as in promqltest.
const EPSILON: f64 = 1e-6;

#[derive(Default)]
pub(super) struct Expected {
    pub(super) fail: Option<Check>,
    pub(super) ordered: bool,
    pub(super) text: Option<String>,
    pub(super) notes: Vec<(Note, bool, Check)>,
    pub(super) scalar: Option<f64>,
    pub(super) series: Vec<Described>,
    /// `expect range vector from … to … step …`: series lines are then ranges.
    pub(super) matrix: Option<(i64, i64)>,
}

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Note {
    Warning,
    Info,
}

pub(super) enum Check {
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

pub(super) enum When {
    Instant(i64),
    Range(i64, i64, i64),
}

pub(super) fn judge_error(text: &str, expected: &Expected) -> Outcome {
    match &expected.fail {
        None => Outcome::Failed(format!("unexpected error: {text}")),
        Some(check) if check.holds(text) => Outcome::Passed,
        Some(_) => Outcome::Failed(format!("failed as expected, with another text: {text}")),
    }
}

pub(super) fn check_notes(answer: &Answer, expected: &Expected) -> Result<(), String> {
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

pub(super) fn check_value(
    when: &When,
    value: &QueryValue,
    expected: &Expected,
) -> Result<(), String> {
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

pub(super) fn near(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < EPSILON * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < EPSILON
}

pub(super) fn parse_eval(head: &str) -> Result<(When, &str, &str), String> {
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

pub(super) fn expectations(lines: &[&str], mode: &str) -> Result<Expected, String> {
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
pub(super) fn millis(s: &str) -> Result<i64, String> {
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
