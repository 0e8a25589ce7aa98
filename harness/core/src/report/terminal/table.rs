//! The table of objectives: one line an objective where there is room, two where there is not.

use super::super::figures;
use super::super::model::{Gate, ObjectiveResult, Report, Verdict};
use super::super::summary;
use super::super::text;
use super::canvas::{Canvas, Tone, tone};

/// Space between columns.
const GAP: usize = 2;

/// Least columns for the objective's name beside its figures; with less it gets a line of its own.
const LEAST_NAME: usize = 30;

/// Headings of the columns between the name and the verdict, and whether they are set right.
const FIGURES: [(&str, bool); 5] = [
    ("source", false),
    ("value", true),
    ("target", true),
    ("interval", true),
    ("samples", true),
];

struct Layout {
    figures: [usize; 5],
    verdict: usize,
    /// Columns for the name, when it shares the line.
    beside: Option<usize>,
}

fn figures_of(objective: &ObjectiveResult) -> [String; 5] {
    [
        figures::source(objective.source).to_owned(),
        figures::value(objective),
        figures::target(objective),
        figures::interval(objective),
        figures::samples(objective),
    ]
}

fn layout(report: &Report, width: usize) -> Layout {
    let mut columns = FIGURES.map(|(title, _)| text::width(title));
    let mut verdict = text::width("verdict");
    for objective in &report.objectives {
        for (column, figure) in columns.iter_mut().zip(figures_of(objective)) {
            // A number this long is an accident (an unknown unit); it is cut rather than the table.
            *column = (*column).max(text::width(&figure)).min(22);
        }
        verdict = verdict.max(2 + objective.verdict.word().len());
    }
    let taken = 2 + columns.iter().map(|c| c + GAP).sum::<usize>() + GAP + verdict;
    let beside = width.checked_sub(taken).filter(|room| *room >= LEAST_NAME);
    Layout {
        figures: columns,
        verdict,
        beside: beside.map(|room| room.min(60)),
    }
}

/// Draws all objectives, grouped by golden signal.
pub(super) fn objectives(canvas: &mut Canvas, report: &Report) {
    if report.objectives.is_empty() {
        canvas.line(&[(Tone::Bold, "No objectives")]);
        canvas.blank();
        return;
    }
    if report.verdict == Verdict::Invalid {
        canvas.text(0, tone(Verdict::Invalid), summary::DISTRUST);
    }
    let layout = layout(report, canvas.width());
    head(canvas, &layout);
    for (signal, objectives) in summary::by_signal(report) {
        canvas.line(&[(Tone::Bold, signal.title())]);
        for objective in objectives {
            row(canvas, &layout, objective);
            if objective.verdict != Verdict::Pass && !summary::told(report, objective) {
                canvas.text(4, Tone::Dim, &text::line(&objective.reason));
            }
        }
    }
    canvas.blank();
}

fn columns(layout: &Layout, cells: [&str; 5]) -> String {
    let mut out = String::new();
    for ((width, cell), (_, right)) in layout.figures.iter().zip(cells).zip(FIGURES) {
        let cell = text::fit(cell, *width);
        let pad = " ".repeat(width - text::width(&cell));
        let gap = " ".repeat(GAP);
        out.push_str(&if right {
            format!("{pad}{cell}{gap}")
        } else {
            format!("{cell}{pad}{gap}")
        });
    }
    out
}

fn head(canvas: &mut Canvas, layout: &Layout) {
    let titles = columns(layout, FIGURES.map(|(title, _)| title));
    match layout.beside {
        Some(room) => {
            let name = padded("  objective", room + 2 + GAP);
            canvas.line(&[
                (Tone::Dim, &name),
                (Tone::Dim, &titles),
                (Tone::Dim, "verdict"),
            ]);
        }
        None => {
            let name = padded("objective", canvas.width() - layout.verdict);
            canvas.line(&[(Tone::Dim, &name), (Tone::Dim, "verdict")]);
            canvas.line(&[(Tone::Dim, "    "), (Tone::Dim, &titles)]);
        }
    }
}

fn row(canvas: &mut Canvas, layout: &Layout, objective: &ObjectiveResult) {
    let verdict = format!("{} {}", objective.verdict.sign(), objective.verdict.word());
    let mark = (tone(objective.verdict), verdict.as_str());
    let advisory = if objective.gate == Gate::Advisory {
        " (advisory)"
    } else {
        ""
    };
    let name = summary::title(objective);
    let cells = figures_of(objective);
    let cells = columns(layout, cells.each_ref().map(String::as_str));
    match layout.beside {
        Some(room) => {
            let name = text::fit(&name, room - text::width(advisory));
            let name = padded(&format!("  {name}{advisory}"), room + 2 + GAP);
            canvas.line(&[(Tone::Plain, &name), (Tone::Plain, &cells), mark]);
        }
        None => {
            let room = canvas.width() - layout.verdict;
            let name = text::fit(&name, room - 2 - GAP - text::width(advisory));
            let name = padded(&format!("  {name}{advisory}"), room);
            canvas.line(&[(Tone::Plain, &name), mark]);
            canvas.line(&[(Tone::Plain, "    "), (Tone::Plain, &cells)]);
        }
    }
}

fn padded(what: &str, columns: usize) -> String {
    let pad = columns.saturating_sub(text::width(what));
    format!("{what}{}", " ".repeat(pad))
}
