//! A request's spans as bars of text.

use super::super::figures;
use super::super::model::{RequestDetail, Verdict};
use super::super::text;
use super::canvas::{Canvas, Tone, tone};

/// Spans shown for one request.
const MOST_SPANS: usize = 24;

/// Columns of the figure behind a bar.
const FIGURE: usize = 9;

/// One line a span: name, bar, duration. The bars share one axis, from when the request was due
/// (or its first span, if clocks disagree) to the end of whatever ended last.
pub(super) fn draw(canvas: &mut Canvas, request: &RequestDetail) {
    if let Some(why) = &request.spans_missing {
        return canvas.text(4, Tone::Dim, &format!("no spans: {}", text::line(why)));
    }
    let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
    let spans = || request.spans.iter().take(MOST_SPANS);
    let from = spans().map(|s| finite(s.start)).fold(0.0, f64::min);
    let to = spans()
        .map(|s| finite(s.start + s.duration))
        .fold(finite(request.latency), f64::max);
    let names = (canvas.width() / 3).clamp(16, 40);
    let bars = canvas.width() - 4 - names - FIGURE - 2;
    let axis = Axis {
        from,
        to,
        columns: bars,
    };
    let (wait, rest) = axis.bar(0.0, finite(request.latency));
    line(
        canvas,
        names,
        &axis,
        "client: due to done",
        (wait, rest),
        Tone::Dim,
        request.latency,
    );
    for span in spans() {
        let indent = " ".repeat((span.depth as usize + 1).min(names / 2));
        let name = format!("{indent}{}", text::name(&span.name));
        let paint = if span.error {
            tone(Verdict::Fail)
        } else {
            Tone::Plain
        };
        let bar = axis.bar(finite(span.start), finite(span.duration));
        line(canvas, names, &axis, &name, bar, paint, span.duration);
    }
    if request.spans.len() > MOST_SPANS {
        let more = request.spans.len() - MOST_SPANS;
        canvas.text(4, Tone::Dim, &format!("{more} more spans in the report"));
    }
}

struct Axis {
    from: f64,
    to: f64,
    columns: usize,
}

impl Axis {
    /// Columns before a bar and of it; even the shortest span is seen.
    fn bar(&self, start: f64, duration: f64) -> (usize, usize) {
        let length = (self.to - self.from).max(f64::MIN_POSITIVE);
        let column = |at: f64| {
            ((at - self.from) / length * self.columns as f64).clamp(0.0, self.columns as f64)
        };
        let first = (column(start).floor() as usize).min(self.columns.saturating_sub(1));
        let last = (column(start + duration).round() as usize).clamp(first + 1, self.columns);
        (first, last - first)
    }
}

fn line(
    canvas: &mut Canvas,
    names: usize,
    axis: &Axis,
    name: &str,
    (before, length): (usize, usize),
    paint: Tone,
    duration: f64,
) {
    let name = text::fit(name, names);
    let pad = " ".repeat(names - text::width(&name));
    let bar = "━".repeat(length);
    let after = " ".repeat(axis.columns - before - length);
    canvas.line(&[
        (Tone::Plain, "    "),
        (Tone::Dim, &format!("{name}{pad} ")),
        (Tone::Plain, &" ".repeat(before)),
        (paint, &bar),
        (Tone::Plain, &after),
        (
            Tone::Plain,
            &format!(" {:>FIGURE$}", figures::seconds(duration)),
        ),
    ]);
}
