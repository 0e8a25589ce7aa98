//! The report as a terminal shows it: one table, what it rests on, and the verdict first and last.

mod beside;
pub(super) mod canvas;
mod table;
mod waterfall;
mod why;

use canvas::{Canvas, Tone, tone};

use super::figures;
use super::model::{Gate, Link, ObjectiveResult, Report, RequestDetail, Verdict};
use super::summary;
use super::text;
use crate::units::RequestId;

/// Narrowest page drawn; a terminal that says it is narrower gets lines of this many columns.
const NARROWEST: usize = 60;

/// Requests shown for one missed objective; `harness explain` shows all.
const MOST_REQUESTS: usize = 2;

/// Stages shown for one missed objective.
const MOST_STAGES: usize = 6;

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
    reasons(&mut canvas, report);
    beside::draw(&mut canvas, report);
    behind(&mut canvas, report);
    if report.verdict != Verdict::Pass
        && let Some(onset) = &report.onset
    {
        why::onset(&mut canvas, onset, false);
        canvas.blank();
    }
    why::findings(&mut canvas, report);
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

fn reasons(canvas: &mut Canvas, report: &Report) {
    if report.verdict == Verdict::Pass || report.reasons.is_empty() {
        return;
    }
    canvas.heading("Why", "");
    for reason in &report.reasons {
        canvas.marked(2, report.verdict, &text::line(reason));
    }
    canvas.blank();
}

/// How each objective was missed, where its time went, and the worst requests, each request once.
fn behind(canvas: &mut Canvas, report: &Report) {
    let missed = report
        .objectives
        .iter()
        .filter(|o| o.verdict == Verdict::Fail);
    let mut shown = Vec::new();
    for objective in missed {
        let explanation = summary::explanation(report, objective);
        let told = explanation.is_some_and(|e| !e.misses.is_empty() || e.tail.is_some());
        if !told && objective.evidence.is_empty() {
            continue;
        }
        canvas.heading("Behind", &summary::title(objective));
        if let Some(explanation) = explanation {
            why::explanation(canvas, explanation, MOST_STAGES);
        }
        requests(
            canvas,
            report,
            &objective.evidence,
            MOST_REQUESTS,
            &mut shown,
        );
        canvas.blank();
    }
}

/// Requests of these ids, those shown before by name only.
fn requests(
    canvas: &mut Canvas,
    report: &Report,
    ids: &[RequestId],
    most: usize,
    shown: &mut Vec<RequestId>,
) {
    let behind = ids
        .iter()
        .filter_map(|id| report.requests.iter().find(|r| r.id == *id));
    for request in behind.take(most) {
        if shown.contains(&request.id) {
            let again = format!("trace {}: shown above", request.trace);
            canvas.text(2, Tone::Dim, &again);
        } else {
            shown.push(request.id);
            one_request(canvas, request);
        }
    }
}

/// Everything that is known of why one objective is as it is; `None` when the report has no objective
/// of this name. In lines of at most `width` columns, as [`terminal`].
#[must_use]
pub fn explain(report: &Report, objective: &str, width: usize, color: bool) -> Option<String> {
    let objective = report.objectives.iter().find(|o| o.name == objective)?;
    let mut canvas = Canvas::new(width.max(NARROWEST), color);
    let word = format!(" {} ", objective.verdict.word().to_uppercase());
    canvas.line(&[
        (Tone::Banner(objective.verdict), &word),
        (Tone::Bold, &format!(" {}", summary::title(objective))),
    ]);
    if report.verdict == Verdict::Invalid {
        canvas.text(0, tone(Verdict::Invalid), summary::DISTRUST);
    }
    canvas.blank();
    facts(&mut canvas, objective);
    let explanation = summary::explanation(report, objective);
    if let Some(explanation) = explanation {
        canvas.heading("Why it was missed", "");
        why::explanation(&mut canvas, explanation, usize::MAX);
        canvas.blank();
    }
    if explanation.is_none_or(|e| e.tail.is_none())
        && let Some(tail) = &report.tail
    {
        canvas.heading("The tail of all measured requests", "");
        why::attribution(&mut canvas, tail, usize::MAX);
        canvas.blank();
    }
    if let Some(onset) = &report.onset {
        why::onset(&mut canvas, onset, true);
        canvas.blank();
    }
    let mut shown = Vec::new();
    let slowest: Vec<RequestId> = report.requests.iter().map(|r| r.id).take(3).collect();
    let (title, worst, typical) = match explanation {
        Some(e) => ("Worst requests", &e.worst, e.typical.as_slice()),
        None => ("Slowest requests of the run", &slowest, &[][..]),
    };
    for (title, ids) in [(title, worst.as_slice()), ("A typical request", typical)] {
        if !ids.is_empty() {
            canvas.heading(title, "");
            requests(&mut canvas, report, ids, usize::MAX, &mut shown);
            canvas.blank();
        }
    }
    why::findings(&mut canvas, report);
    links(&mut canvas, "", &objective.links);
    for request in report.requests.iter().filter(|r| shown.contains(&r.id)) {
        links(
            &mut canvas,
            &format!("request {}: ", request.id.0),
            &request.links,
        );
    }
    Some(canvas.finish())
}

/// What was measured of one objective and how.
fn facts(canvas: &mut Canvas, objective: &ObjectiveResult) {
    let mut line = |label: &str, what: &str| canvas.hanging(2, Tone::Dim, label, what);
    line("value     ", &figures::value(objective));
    line("target    ", &figures::target(objective));
    if objective.interval.is_some() {
        line("interval  ", &figures::interval(objective));
    }
    line("source    ", figures::source(objective.source));
    line("reason    ", &text::line(&objective.reason));
    if let Some(place) = &objective.place {
        let at = place
            .line
            .map_or_else(String::new, |line| format!(":{line}"));
        line("defined   ", &format!("{}{at}", text::name(&place.file)));
    }
    for query in &objective.queries {
        line("query     ", &text::line(query));
    }
    canvas.blank();
}

/// Addresses, each on a line of its own however long it is: broken up it could not be followed.
fn links(canvas: &mut Canvas, of: &str, links: &[Link]) {
    for link in links.iter().take(10) {
        if let Some(url) = summary::safe_url(&link.url) {
            canvas.text(2, Tone::Dim, &format!("{of}{}", text::name(&link.label)));
            canvas.whole(&format!("  {url}"));
        }
    }
}

fn one_request(canvas: &mut Canvas, request: &RequestDetail) {
    let state = match request.why.as_str() {
        "failed" => Verdict::Fail,
        "typical" => Verdict::Pass,
        _ => Verdict::Inconclusive,
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
    if let Some(sides) = &request.sides {
        let shown =
            |time: Option<f64>| time.map_or_else(|| figures::NONE.to_owned(), figures::seconds);
        canvas.hanging(
            4,
            Tone::Dim,
            "length: ",
            &format!(
                "client {}, its span {}, the service's span {}, outside it {}",
                shown(sides.row),
                shown(sides.client_span),
                shown(sides.server_span),
                shown(sides.outside),
            ),
        );
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
