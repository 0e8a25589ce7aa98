//! Why an objective was missed, in text: how, where the time went, what moved first.

use super::super::figures;
use super::super::model::{Explanation, Onset, Report, Stage, Tail, Verdict};
use super::super::summary;
use super::super::text;
use super::canvas::{Canvas, Tone, tone};

/// Columns of each figure.
const FIGURE: usize = 9;

/// How the requests that count against an objective ended, and where the time of the slow ones went.
pub(super) fn explanation(canvas: &mut Canvas, explanation: &Explanation, most_stages: usize) {
    if !explanation.misses.is_empty() {
        let ways: Vec<String> = explanation
            .misses
            .iter()
            .map(|miss| format!("{} {}", figures::count(miss.count), text::name(&miss.how)))
            .collect();
        canvas.hanging(2, Tone::Dim, "counted against it: ", &ways.join("; "));
    }
    if let Some(tail) = &explanation.tail {
        attribution(canvas, tail, most_stages);
    }
}

/// The table of stages, or why there is none.
pub(super) fn attribution(canvas: &mut Canvas, tail: &Tail, most: usize) {
    canvas.hanging(2, Tone::Dim, "slow:    ", &summary::group(&tail.slow));
    canvas.hanging(2, Tone::Dim, "typical: ", &summary::group(&tail.typical));
    if let Some(missing) = &tail.missing {
        let missing = text::line(missing);
        return canvas.text(
            2,
            tone(Verdict::Inconclusive),
            &format!("where their time went cannot be told: {missing}"),
        );
    }
    let room = canvas.width() - 2;
    let bar = if room >= 78 { 10 } else { 0 };
    let name = (room - 4 * (FIGURE + 1) - bar - 2).min(44);
    let head = ["slow", "typical", "excess", "share"].map(|h| format!(" {h:>FIGURE$}"));
    canvas.line(&[
        (Tone::Plain, "  "),
        (Tone::Dim, &format!("{:<name$}{}", "stage", head.concat())),
    ]);
    for stage in tail.stages.iter().take(most) {
        row(canvas, stage, name, bar);
    }
    if tail.stages.len() > most {
        let more = tail.stages.len() - most;
        let more = text::plural(more, "more stage", "more stages");
        canvas.text(2, Tone::Dim, &format!("{more} in the report"));
    }
}

fn row(canvas: &mut Canvas, stage: &Stage, name: usize, bar: usize) {
    let shown = text::fit(&text::name(&stage.name), name);
    let pad = " ".repeat(name - text::width(&shown));
    let share = stage
        .share
        .map_or_else(|| figures::NONE.to_owned(), figures::share);
    let figures: String = [stage.slow, stage.typical, stage.excess]
        .map(figures::seconds)
        .into_iter()
        .chain([share])
        .map(|figure| format!(" {:>FIGURE$}", text::fit(&figure, FIGURE)))
        .collect();
    let filled = stage.share.unwrap_or(0.0).clamp(0.0, 1.0) * bar as f64;
    canvas.line(&[
        (Tone::Plain, "  "),
        (Tone::Plain, &format!("{shown}{pad}")),
        (Tone::Plain, &figures),
        (
            tone(Verdict::Fail),
            &format!("  {}", "━".repeat(filled.round() as usize)),
        ),
    ]);
}

/// What moved first.
pub(super) fn onset(canvas: &mut Canvas, onset: &Onset, all: bool) {
    canvas.heading("What moved first", &text::line(&onset.said));
    if !all {
        return;
    }
    for signal in onset.latency.iter().chain(&onset.signals) {
        let shown = |value: f64| figures::quantity(value, Some(&signal.unit), None);
        let until = signal
            .until
            .map_or_else(|| "the end".to_owned(), figures::seconds);
        canvas.hanging(
            2,
            Tone::Dim,
            "- ",
            &format!(
                "{}: {} from {} until {until}, {} otherwise",
                text::name(&signal.name),
                shown(signal.during),
                figures::seconds(signal.at),
                shown(signal.before),
            ),
        );
    }
    if !onset.still.is_empty() {
        let still: Vec<String> = onset.still.iter().map(|name| text::name(name)).collect();
        canvas.hanging(
            2,
            Tone::Dim,
            "- ",
            &format!("no stretch stands out in {}", still.join(", ")),
        );
    }
}

/// Where client, service and traces disagree.
pub(super) fn findings(canvas: &mut Canvas, report: &Report) {
    if report.findings.is_empty() {
        return;
    }
    canvas.heading("Findings", "");
    for finding in &report.findings {
        canvas.marked(2, Verdict::Inconclusive, &text::line(&finding.said));
    }
    canvas.blank();
}
