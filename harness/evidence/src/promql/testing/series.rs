//! Series written as `name{label="x"} 1 2+3x4 _ stale`.

use crate::store::metrics::{Labels, METRIC_NAME, stale_nan};
use regex::Regex;
use std::sync::LazyLock;

/// A series and its values at successive steps; `None` is no sample.
#[derive(Debug)]
pub struct Described {
    /// Its labels, the name among them.
    pub labels: Labels,
    /// One a step.
    pub values: Vec<Option<f64>>,
    /// What it holds that is not supported; it has no values then.
    pub beyond: Option<&'static str>,
}

impl Described {
    /// The samples with their times.
    pub(super) fn at(&self, start: i64, step: i64) -> Vec<(i64, f64)> {
        let times = (0..).map(|k| start + k * step);
        times
            .zip(&self.values)
            .filter_map(|(t, v)| v.map(|v| (t, v)))
            .collect()
    }
}

/// Reads a series and its values.
///
/// # Errors
/// What cannot be read.
pub fn describe(line: &str) -> Result<Described, String> {
    let (labels, rest) = labels(line)?;
    let beyond = if rest.contains("{{") {
        Some("native histograms")
    } else if rest.starts_with("@st") {
        Some("start timestamps")
    } else if ["__type__", "__unit__"]
        .iter()
        .any(|n| labels.get(n).is_some())
    {
        Some("type and unit labels")
    } else {
        None
    };
    let mut values = Vec::new();
    if beyond.is_none() {
        for item in rest.split_whitespace() {
            expand(item, &mut values)?;
        }
    }
    Ok(Described {
        labels,
        values,
        beyond,
    })
}

/// The label set at the start of a line, and what follows it.
fn labels(line: &str) -> Result<(Labels, &str), String> {
    let name_end = line
        .find(|c: char| c == '{' || c.is_whitespace())
        .unwrap_or(line.len());
    let (name, mut rest) = line.split_at(name_end);
    let mut pairs: Vec<(String, String)> = Vec::new();
    if !name.is_empty() {
        pairs.push((METRIC_NAME.into(), name.into()));
    }
    let spaced = rest.trim_start();
    if let Some(inner) = spaced.strip_prefix('{').filter(|i| !i.starts_with('{')) {
        rest = inner;
        loop {
            rest = rest.trim_start().trim_start_matches(',').trim_start();
            if let Some(r) = rest.strip_prefix('}') {
                rest = r;
                break;
            }
            let label = if rest.starts_with(['"', '\'', '`']) {
                let (text, r) = quoted(rest)?;
                rest = r.trim_start();
                text
            } else {
                let n = rest
                    .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '.')))
                    .ok_or("unterminated labels")?;
                let (w, r) = rest.split_at(n);
                rest = r.trim_start();
                w.to_string()
            };
            match rest.strip_prefix('=') {
                Some(r) => {
                    let (value, r) = quoted(r.trim_start())?;
                    rest = r;
                    pairs.push((label, value));
                }
                None => pairs.push((METRIC_NAME.into(), label)),
            }
        }
    }
    Ok((Labels::new(pairs).map_err(|e| e.to_string())?, rest))
}

fn quoted(s: &str) -> Result<(String, &str), String> {
    let quote = s
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\'' | '`'))
        .ok_or("expected a quoted text")?;
    let mut out = String::new();
    let mut chars = s.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        if c == quote {
            return Ok((out, &s[i + 1..]));
        }
        if c != '\\' || quote == '`' {
            out.push(c);
            continue;
        }
        match chars.next().map(|(_, c)| c) {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some(c @ ('\\' | '"' | '\'')) => out.push(c),
            other => return Err(format!("unknown escape {other:?}")),
        }
    }
    Err("unterminated text".into())
}

/// `first`, `+` or `-`, `step`, `x`, `times`.
static ITEM: LazyLock<Result<Regex, regex::Error>> = LazyLock::new(|| {
    let number = r"(?:inf|nan|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)";
    Regex::new(&format!(
        r"(?i)^([+-]?{number})(?:([+-])({number}))?(?:x(\d+))?$"
    ))
});

fn expand(item: &str, out: &mut Vec<Option<f64>>) -> Result<(), String> {
    let times = |n: &str| n.parse::<usize>().map_err(|e| format!("{item}: {e}"));
    if let Some(rest) = item.strip_prefix('_') {
        let n = match rest.strip_prefix('x') {
            Some(n) => times(n)?,
            None if rest.is_empty() => 1,
            None => return Err(format!("cannot read {item:?}")),
        };
        out.extend(std::iter::repeat_n(None, n));
        return Ok(());
    }
    if let Some(rest) = item.strip_prefix("stale") {
        let n = match rest.strip_prefix('x') {
            Some(n) => times(n)? + 1,
            None => 1,
        };
        out.extend(std::iter::repeat_n(Some(stale_nan()), n));
        return Ok(());
    }
    let pattern = ITEM.as_ref().map_err(ToString::to_string)?;
    let c = pattern
        .captures(item)
        .ok_or_else(|| format!("cannot read {item:?}"))?;
    let number = |i: usize| c.get(i).map_or(Ok(0.0), |m| m.as_str().parse::<f64>());
    let mut v = number(1).map_err(|e| e.to_string())?;
    let mut by = number(3).map_err(|e| e.to_string())?;
    if c.get(2).is_some_and(|m| m.as_str() == "-") {
        by = -by;
    }
    let n = c.get(4).map_or(Ok(0), |m| times(m.as_str()))?;
    for _ in 0..=n {
        out.push(Some(v));
        v += by;
    }
    Ok(())
}
