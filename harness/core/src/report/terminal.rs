//! The report as a terminal shows it: one table, what it rests on, and the verdict first and last.

mod beside;
pub(super) mod canvas;
mod table;
mod waterfall;

use canvas::{Canvas, Tone, tone};

use super::figures;
use super::model::{Gate, Report, RequestDetail, Verdict};
use super::summary;
use super::text;

/// Narrowest page drawn; a terminal that says it is narrower gets lines of this many columns.
const NARROWEST: usize = 60;

/// Requests shown for one missed objective.
const MOST_REQUESTS: usize = 3;

/// Log lines shown for one request.
const MOST_LOGS: usize = 8;

/// The report in lines of at most `width` columns (at least 60), with ANSI colours if `color`.
///
/// Control characters in text that came from outside are made visible, so that the only escape
/// sequences in the result are this function's own colours. Ends with a newline.
#[must_use]
pub fn terminal(report: &Report, width: usize, color: bool) -> String {
    let mut canvas = Canvas::new(width.max(NARROWEST), color);
    verdict(&mut canvas, report);
    canvas.blank();
    table::objectives(&mut canvas, report);
    coverage(&mut canvas, report);
    validity(&mut canvas, report);
    why(&mut canvas, report);
    beside::draw(&mut canvas, report);
    requests(&mut canvas, report);
    notes(&mut canvas, report);
    verdict(&mut canvas, report);
    canvas.finish()
}

fn verdict(canvas: &mut Canvas, report: &Report) {
    let word = format!(" {} ", report.verdict.word().to_uppercase());
    let exit = format!("exit {}", report.exit_code);
    let room = canvas.width() - text::width(&word) - text::width(&exit) - 2;
    let headline = text::fit(&summary::headline(report), room);
    let gap = " ".repeat(room - text::width(&headline) + 1);
    canvas.line(&[
        (Tone::Banner(report.verdict), &word),
        (Tone::Bold, &format!(" {headline}")),
        (Tone::Dim, &format!("{gap}{exit}")),
    ]);
}

fn coverage(canvas: &mut Canvas, report: &Report) {
    let coverage = &report.coverage;
    let (sent, answered) = (
        figures::count(coverage.sent),
        figures::count(coverage.answered),
    );
    canvas.heading(
        "Coverage",
        &format!("{sent} requests sent, {answered} answered"),
    );
    if coverage.sources.is_empty() {
        canvas.text(
            2,
            Tone::Plain,
            "no telemetry was asked for: only the client's own figures were judged",
        );
    }
    for source in &coverage.sources {
        let state = if source.complete {
            Verdict::Pass
        } else {
            Verdict::Inconclusive
        };
        let (kind, backend) = figures::backend(source.backend);
        let since = match source.missing_since {
            Some(at) if !source.complete => format!(", missing since {}", figures::seconds(at)),
            _ => String::new(),
        };
        canvas.line(&[
            (Tone::Plain, "  "),
            (tone(state), &state.sign().to_string()),
            (
                Tone::Plain,
                &format!(" {kind:<8}{backend:<11} {}{since}", summary::found(source)),
            ),
        ]);
        if !source.complete {
            canvas.text(4, Tone::Plain, &text::line(&source.reason));
        }
    }
    canvas.blank();
}

fn validity(canvas: &mut Canvas, report: &Report) {
    let doubts: Vec<_> = summary::doubts(report).collect();
    if doubts.is_empty() {
        let held: Vec<String> = report
            .validity
            .iter()
            .map(|c| text::name(&c.name))
            .collect();
        canvas.heading("Run valid", &held.join(", "));
        canvas.blank();
        return;
    }
    let heading = if doubts.iter().any(|c| c.ok == Some(false)) {
        "Run not valid"
    } else {
        "Run validity"
    };
    canvas.heading(heading, "");
    for check in doubts {
        let state = if check.ok.is_some() {
            Verdict::Invalid
        } else {
            Verdict::Inconclusive
        };
        let unknown = if check.ok.is_none() {
            " (could not be told)"
        } else {
            ""
        };
        canvas.marked(
            2,
            state,
            &format!(
                "{}{unknown}: {}; limit: {}",
                text::name(&check.name),
                text::line(&check.value),
                text::line(&check.limit)
            ),
        );
        if let Some(remedy) = &check.remedy {
            canvas.text(4, Tone::Bold, &format!("→ {}", text::line(remedy)));
        }
    }
    canvas.blank();
}

fn why(canvas: &mut Canvas, report: &Report) {
    if report.verdict == Verdict::Pass || report.reasons.is_empty() {
        return;
    }
    canvas.heading("Why", "");
    for reason in &report.reasons {
        canvas.marked(2, report.verdict, &text::line(reason));
    }
    canvas.blank();
}

/// The requests behind each missed objective, each request once.
fn requests(canvas: &mut Canvas, report: &Report) {
    let missed = report
        .objectives
        .iter()
        .filter(|o| o.verdict == Verdict::Fail);
    let mut shown = Vec::new();
    for objective in missed {
        let behind: Vec<&RequestDetail> = objective
            .evidence
            .iter()
            .filter_map(|id| report.requests.iter().find(|r| r.id == *id))
            .take(MOST_REQUESTS)
            .collect();
        if behind.is_empty() {
            continue;
        }
        canvas.heading("Requests behind", &summary::title(objective));
        for request in behind {
            if shown.contains(&request.id) {
                canvas.text(
                    2,
                    Tone::Dim,
                    &format!("trace {}: shown above", request.trace),
                );
            } else {
                shown.push(request.id);
                one_request(canvas, request);
            }
        }
        canvas.blank();
    }
}

fn one_request(canvas: &mut Canvas, request: &RequestDetail) {
    let state = if request.why == "failed" {
        Verdict::Fail
    } else {
        Verdict::Inconclusive
    };
    let sent = match request.lateness {
        Some(late) => format!("sent {} later", figures::seconds(late)),
        None => "never sent".to_owned(),
    };
    canvas.line(&[
        (Tone::Plain, "  "),
        (
            tone(state),
            &figures::ending(request.outcome, request.status),
        ),
        (
            Tone::Plain,
            &format!(
                " after {} · due at {}, {sent} · {}",
                figures::seconds(request.latency),
                figures::seconds(request.due.as_secs_f64()),
                text::name(&request.request),
            ),
        ),
    ]);
    canvas.line(&[
        (Tone::Dim, "    trace "),
        (Tone::Plain, &request.trace.to_string()),
    ]);
    if let Some(detail) = &request.detail {
        canvas.text(4, Tone::Plain, &text::line(detail));
    }
    waterfall::draw(canvas, request);
    for log in request.logs.iter().take(MOST_LOGS) {
        let severity = log.severity.as_deref().map_or_else(String::new, text::name);
        canvas.hanging(
            4,
            Tone::Dim,
            &format!("{:>9} ", figures::seconds(log.at)),
            &format!("{severity} {}", text::line(&log.line)),
        );
    }
    if request.logs.len() > MOST_LOGS {
        let more = request.logs.len() - MOST_LOGS;
        canvas.text(
            4,
            Tone::Dim,
            &format!("{more} more log lines in the report"),
        );
    }
    if let Some(why) = &request.logs_missing {
        canvas.text(4, Tone::Dim, &format!("no log lines: {}", text::line(why)));
    }
}

fn notes(canvas: &mut Canvas, report: &Report) {
    let advisory = report
        .objectives
        .iter()
        .filter(|o| o.gate == Gate::Advisory && o.verdict == Verdict::Fail)
        .count();
    if report.notes.is_empty() && advisory == 0 {
        return;
    }
    canvas.heading("Notes", "");
    if advisory > 0 {
        let missed = text::plural(
            advisory,
            "advisory objective was",
            "advisory objectives were",
        );
        canvas.text(
            2,
            Tone::Plain,
            &format!("{missed} missed; advisory ones do not decide"),
        );
    }
    for note in &report.notes {
        canvas.hanging(2, Tone::Dim, "- ", &text::line(note));
    }
    canvas.blank();
}

#[cfg(test)]
mod tests;
