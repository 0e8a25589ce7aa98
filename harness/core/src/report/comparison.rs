//! Runs side by side on paper: terminal, Markdown, JSON and HTML.

mod html;
mod markdown;
mod terminal;

use schemars::generate::SchemaSettings;

use super::figures;
use super::model::{Change, Comparison, Delta, DeltaOf};
use super::text;

pub use html::html as comparison_html;
pub use markdown::markdown as comparison_markdown;
pub use terminal::terminal as comparison_terminal;

/// The comparison as indented JSON with a newline at the end.
#[must_use]
pub fn comparison_json(comparison: &Comparison) -> String {
    let mut text = serde_json::to_string_pretty(comparison).unwrap_or_else(|error| {
        format!("{{\n  \"error\": \"the comparison could not be written as JSON: {error:?}\"\n}}")
    });
    text.push('\n');
    text
}

/// The JSON Schema (2020-12) of [`comparison_json`].
#[must_use]
pub fn comparison_schema() -> serde_json::Value {
    let mut schema = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Comparison>();
    schema.insert("title".to_owned(), "Comparison of harness runs".into());
    schema.into()
}

/// The gist, in one line.
fn headline(comparison: &Comparison) -> String {
    if !comparison.comparable {
        return "not comparable: the figures are shown, and their difference says nothing".into();
    }
    let of = |change| {
        let all = comparison.pairs.iter().flat_map(|pair| &pair.deltas);
        all.filter(|delta| delta.says == change).count()
    };
    format!(
        "{} worse, {} better, {} alike within chance, {} not to be told",
        of(Change::Worse),
        of(Change::Better),
        of(Change::Same),
        of(Change::Unknown)
    )
}

/// Heading of a group of deltas.
fn group(of: DeltaOf) -> &'static str {
    match of {
        DeltaOf::Latency => "Latency from due",
        DeltaOf::Errors => "Not as expected",
        DeltaOf::Throughput => "Throughput",
        DeltaOf::Objective => "Objectives (of ratios the bad share)",
    }
}

/// Word for a change. Where runs are not comparable nothing is claimed.
fn word(comparison: &Comparison, delta: &Delta) -> &'static str {
    match delta.says {
        _ if !comparison.comparable => figures::NONE,
        Change::Better => "better",
        Change::Worse => "worse",
        Change::Same => "alike",
        Change::Unknown => "unknown",
    }
}

/// A value with its unit.
fn value(value: Option<f64>, delta: &Delta) -> String {
    value.map_or_else(
        || figures::NONE.to_owned(),
        |value| figures::quantity(value, delta.unit.as_deref(), None),
    )
}

/// A change with its sign.
fn change(value: Option<f64>, delta: &Delta) -> String {
    let Some(value) = value else {
        return figures::NONE.to_owned();
    };
    let ratio = delta.unit.as_deref() == Some("ratio");
    match (delta.relative, ratio) {
        (true, _) => format!("{:+.1} %", value * 100.0),
        (false, true) => format!("{:+.2} pp", value * 100.0),
        (false, false) => {
            let sign = if value > 0.0 { "+" } else { "" };
            format!(
                "{sign}{}",
                figures::quantity(value, delta.unit.as_deref(), None)
            )
        }
    }
}

/// The interval of a change.
fn interval(delta: &Delta) -> String {
    match (delta.lower, delta.upper) {
        (None, None) => figures::NONE.to_owned(),
        (lower, upper) => {
            let end = |v: Option<f64>, open: &str| match v {
                Some(_) => change(v, delta),
                None => open.to_owned(),
            };
            format!("{} … {}", end(lower, "−∞"), end(upper, "∞"))
        }
    }
}

/// Deltas in groups, in their order.
fn groups(deltas: &[Delta]) -> impl Iterator<Item = (DeltaOf, &[Delta])> {
    deltas
        .chunk_by(|a, b| a.of == b.of)
        .map(|group| (group[0].of, group))
}

/// A run in one line.
fn run_line(run: &super::model::ComparedRun) -> String {
    let versions = if run.versions.is_empty() {
        "version unknown".to_owned()
    } else {
        text::name(&run.versions.join(", "))
    };
    format!(
        "{}: {} against {} {versions}, {}, {} requests in {}, itself {}",
        run.label,
        text::name(&run.run),
        text::name(&run.service),
        text::name(&run.started_at),
        figures::count(run.requests),
        figures::seconds(run.seconds),
        run.verdict.word()
    )
}

/// Shares of latencies in common bins, few enough for lines: `(low, high, share of each run)`.
fn shares(comparison: &Comparison, most: usize) -> Vec<(f64, f64, Vec<f64>)> {
    let mut edges: Vec<(f64, f64)> = comparison
        .runs
        .iter()
        .flat_map(|run| run.distribution.iter().map(|bin| (bin.low, bin.high)))
        .collect();
    edges.sort_by(|a, b| a.0.total_cmp(&b.0));
    edges.dedup_by(|a, b| a.0 == b.0);
    if edges.is_empty() {
        return Vec::new();
    }
    let counted = |run: &super::model::ComparedRun, low: f64, high: f64| -> u64 {
        let within = run
            .distribution
            .iter()
            .filter(|b| b.low >= low && b.high <= high);
        within.map(|b| b.expected + b.other).sum()
    };
    edges
        .chunks(edges.len().div_ceil(most))
        .map(|chunk| {
            let (low, high) = (chunk[0].0, chunk[chunk.len() - 1].1);
            let share = |run: &super::model::ComparedRun| {
                counted(run, low, high) as f64 / (run.requests as f64).max(1.0)
            };
            (low, high, comparison.runs.iter().map(share).collect())
        })
        .filter(|(_, _, shares): &(_, _, Vec<f64>)| shares.iter().any(|share| *share > 0.0))
        .collect()
}

#[cfg(test)]
mod tests;
