//! A comparison as a terminal shows it.

use super::super::figures;
use super::super::model::{Change, Comparison, Delta, Pair, Verdict};
use super::super::terminal::canvas::{Canvas, Tone, tone};
use super::super::text;
use super::{change, group, groups, headline, interval, run_line, shares, value, word};

/// Narrowest page drawn.
const NARROWEST: usize = 60;
/// Rows of the distribution.
const ROWS: usize = 16;

/// The comparison in lines of at most `width` columns (at least 60), with ANSI colours if `color`.
#[must_use]
pub fn terminal(comparison: &Comparison, width: usize, color: bool) -> String {
    let mut canvas = Canvas::new(width.max(NARROWEST), color);
    canvas.heading("Comparison", &headline(comparison));
    for why in &comparison.not_comparable {
        canvas.marked(2, Verdict::Invalid, &text::line(why));
    }
    for run in &comparison.runs {
        canvas.hanging(2, Tone::Dim, "- ", &run_line(run));
    }
    canvas.blank();
    for pair in &comparison.pairs {
        deltas(&mut canvas, comparison, pair);
    }
    distributions(&mut canvas, comparison);
    canvas.finish()
}

fn deltas(canvas: &mut Canvas, comparison: &Comparison, pair: &Pair) {
    let lead = format!(
        "{} against {}; interval: {} confidence, both sides",
        pair.other,
        pair.base,
        figures::percent(comparison.confidence, None)
    );
    canvas.heading("Change", &lead);
    let name = canvas.width().saturating_sub(64).clamp(14, 34);
    for (of, deltas) in groups(&pair.deltas) {
        canvas.line(&[(Tone::Bold, group(of))]);
        for delta in deltas {
            row(canvas, comparison, delta, name);
        }
    }
    canvas.blank();
}

fn row(canvas: &mut Canvas, comparison: &Comparison, delta: &Delta, name: usize) {
    let word = word(comparison, delta);
    let colour = match delta.says {
        _ if !comparison.comparable => Tone::Dim,
        Change::Worse => tone(Verdict::Fail),
        Change::Better => tone(Verdict::Pass),
        Change::Same => Tone::Plain,
        Change::Unknown => tone(Verdict::Inconclusive),
    };
    let shown = text::fit(&text::name(&delta.name), name);
    let pad = |text: &str, columns: usize| {
        let room = columns.saturating_sub(text::width(text));
        format!("{}{text}", " ".repeat(room))
    };
    let title = format!("  {shown}{}", " ".repeat(name - text::width(&shown)));
    canvas.line(&[
        (Tone::Plain, &title),
        (Tone::Plain, &pad(&value(delta.base, delta), 10)),
        (Tone::Dim, " →"),
        (Tone::Plain, &pad(&value(delta.other, delta), 10)),
        (Tone::Plain, &pad(&change(delta.change, delta), 10)),
        (Tone::Dim, &pad(&interval(delta), 21)),
        (colour, &format!("  {word}")),
    ]);
    if delta.lower.is_none() && delta.upper.is_none() && !delta.note.is_empty() {
        canvas.text(4, Tone::Dim, &text::line(&delta.note));
    }
}

/// Each row a range of latencies, each run a bar in it.
fn distributions(canvas: &mut Canvas, comparison: &Comparison) {
    let rows = shares(comparison, ROWS);
    let most = rows
        .iter()
        .flat_map(|row| row.2.iter().copied())
        .fold(0.0_f64, f64::max);
    if most <= 0.0 {
        return;
    }
    canvas.heading("Latencies", "share of the measured requests, a line a run");
    let room = canvas.width().saturating_sub(42).max(10);
    for (low, high, shares) in rows {
        let range = format!("{} – {}", figures::seconds(low), figures::seconds(high));
        for (place, (run, share)) in comparison.runs.iter().zip(shares).enumerate() {
            let label = if place == 0 { range.as_str() } else { "" };
            let bar = bar(share / most * room as f64, place);
            let percent = match share {
                0.0 => String::new(),
                share => figures::percent(share, None),
            };
            canvas.line(&[
                (Tone::Dim, &format!("  {label:>22} ")),
                (Tone::Bold, &format!("{} ", run.label)),
                (Tone::Plain, &bar),
                (Tone::Dim, &format!(" {percent}")),
            ]);
        }
    }
    canvas.blank();
}

/// A bar of so many columns; runs are told apart by shade, not by colour.
fn bar(columns: f64, place: usize) -> String {
    let whole = columns.round() as usize;
    let glyph = if place.is_multiple_of(2) {
        "█"
    } else {
        "▒"
    };
    match whole {
        0 if columns > 0.0 => "▏".to_owned(),
        whole => glyph.repeat(whole),
    }
}
