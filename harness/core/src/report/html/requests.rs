//! Single requests: what the client saw, the spans as a waterfall, the log lines.

use maud::{Markup, html};

use super::super::figures;
use super::super::model::{
    LogDetail, ObjectiveResult, Report, RequestDetail, Sides, SpanDetail, Verdict,
};
use super::super::summary;
use super::super::text;
use super::class;
use crate::observation::Outcome;

/// Requests, and spans and log lines of one of them, that are shown.
const MOST_REQUESTS: usize = 30;
const MOST_SPANS: usize = 120;
const MOST_LOGS: usize = 120;

pub(super) fn section(report: &Report) -> Markup {
    let missed: Vec<(usize, &ObjectiveResult)> = report
        .objectives
        .iter()
        .enumerate()
        .filter(|(_, o)| o.verdict != Verdict::Pass)
        .collect();
    let behind =
        |request: &RequestDetail| missed.iter().any(|(_, o)| o.evidence.contains(&request.id));
    let (first, then): (Vec<_>, Vec<_>) =
        report.requests.iter().partition(|request| behind(request));
    let shown = first.iter().chain(&then).take(MOST_REQUESTS);
    html! {
        section #requests.card {
            h2 { "Requests" }
            @if report.requests.is_empty() {
                p { "No single requests were kept." }
            } @else {
                p.hint {
                    "Those behind objectives that were not met, then the slowest of the measured phase and typical ones. "
                    "Times count from when the request was due."
                }
            }
            @for request in shown { (one(&missed, request)) }
            @if report.requests.len() > MOST_REQUESTS {
                p { (report.requests.len() - MOST_REQUESTS) " more requests in report.json" }
            }
        }
    }
}

fn one(missed: &[(usize, &ObjectiveResult)], request: &RequestDetail) -> Markup {
    let state = if request.outcome == Outcome::Expected {
        Verdict::Pass
    } else {
        Verdict::Fail
    };
    let behind = missed
        .iter()
        .filter(|(_, o)| o.evidence.contains(&request.id));
    html! {
        article.request id={ "request-" (request.id.0) } {
            h3 {
                span class={ "badge " (class(state)) } {
                    (super::icon(state)) (figures::ending(request.outcome, request.status))
                }
                " after " (figures::seconds(request.latency)) ": " (text::name(&request.request))
            }
            p.trace { "trace " code { (request.trace.to_string()) } " " (super::links(&request.links)) }
            p.reason {
                "Shown as " (text::name(&request.why))
                ". Due " (figures::seconds(request.due.as_secs_f64())) " after the start, "
                @match request.lateness {
                    Some(late) => { "sent " (figures::seconds(late)) " later." }
                    None => { "never sent." }
                }
                @for (place, objective) in behind {
                    " Behind " a href={ "#objective-" (place) } { (summary::title(objective)) } "."
                }
            }
            @if let Some(detail) = &request.detail { p { code { (text::line(detail)) } } }
            @if let Some(sides) = &request.sides { (compared(sides)) }
            @match &request.spans_missing {
                Some(why) => { p.absent { "No spans: " (text::line(why)) } }
                None => { (waterfall(request)) }
            }
            @match &request.logs_missing {
                Some(why) => { p.absent { "No log lines: " (text::line(why)) } }
                None => { (logs(&request.logs)) }
            }
        }
    }
}

/// What client, service and trace say of one request, side by side.
fn compared(sides: &Sides) -> Markup {
    let shown = |time: Option<f64>| time.map_or_else(|| figures::NONE.to_owned(), figures::seconds);
    html! {
        dl.sides {
            @for (name, time) in [
                ("client, sent to done", sides.row),
                ("client's span", sides.client_span),
                ("service's span", sides.server_span),
                ("outside the service", sides.outside),
            ] {
                div { dt { (name) } dd { (shown(time)) } }
            }
        }
    }
}

/// The span of time that all bars of a request share.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn of(request: &RequestDetail) -> Self {
        let ends = || request.spans.iter().take(MOST_SPANS);
        let from = ends()
            .map(|s| s.start)
            .filter(|v| v.is_finite())
            .fold(0.0, f64::min);
        let to = ends()
            .map(|s| s.start + s.duration)
            .chain([request.latency])
            .filter(|v| v.is_finite())
            .fold(f64::MIN_POSITIVE, f64::max);
        Self { from, to }
    }

    fn percent(&self, at: f64) -> f64 {
        let share = (at - self.from) / (self.to - self.from);
        if share.is_finite() {
            share.clamp(0.0, 1.0) * 100.0
        } else {
            0.0
        }
    }

    /// Start and width in percent; even the shortest is wide enough to be seen.
    fn bar(&self, start: f64, duration: f64) -> (String, String) {
        let from = self.percent(start).min(99.5);
        let width = (self.percent(start + duration) - from).max(0.5);
        (format!("{from:.2}%"), format!("{width:.2}%"))
    }
}

fn waterfall(request: &RequestDetail) -> Markup {
    let axis = Axis::of(request);
    let middle = f64::midpoint(axis.from, axis.to);
    html! {
        div.scroll role="region" tabindex="0" aria-label="Spans, scrollable" {
            table.waterfall {
                caption { "Spans, from when the request was due" }
                thead {
                    tr {
                        th scope="col" { "Span" }
                        th scope="col" { "Service" }
                        th.n scope="col" { "Start" }
                        th.n scope="col" { "Length" }
                        th.axis scope="col" {
                            span { (figures::seconds(axis.from)) }
                            span { (figures::seconds(middle)) }
                            span { (figures::seconds(axis.to)) }
                        }
                    }
                }
                tbody {
                    (client(&axis, request))
                    @for span in request.spans.iter().take(MOST_SPANS) { (row(&axis, span)) }
                }
            }
        }
        @if request.spans.len() > MOST_SPANS {
            p { (request.spans.len() - MOST_SPANS) " more spans in report.json" }
        }
    }
}

/// What the client saw: waiting to be sent, then the answer.
fn client(axis: &Axis, request: &RequestDetail) -> Markup {
    let late = request.lateness.unwrap_or(request.latency);
    let wait = axis.bar(0.0, late);
    let served = axis.bar(late, request.latency - late);
    html! {
        tr.client {
            th scope="row" { "due to done" }
            td { "client" }
            td.n { (figures::seconds(0.0)) }
            td.n { (figures::seconds(request.latency)) }
            td.bars {
                svg aria-hidden="true" {
                    (guides())
                    rect.wait x=(wait.0) width=(wait.1) y="4" height="8" rx="1" {}
                    @if request.lateness.is_some() {
                        rect.client x=(served.0) width=(served.1) y="4" height="8" rx="2" {}
                    }
                }
            }
        }
    }
}

fn row(axis: &Axis, span: &SpanDetail) -> Markup {
    let (x, width) = axis.bar(span.start, span.duration);
    let depth = span.depth.min(20) + 1;
    html! {
        tr {
            th scope="row" style={ "padding-left:" (depth) "rem" } {
                (text::name(&span.name))
                @if span.error { " " span.badge.is-fail { (super::icon(Verdict::Fail)) "error" } }
            }
            td { (text::name(&span.service)) }
            td.n { (figures::seconds(span.start)) }
            td.n { (figures::seconds(span.duration)) }
            td.bars {
                svg aria-hidden="true" {
                    (guides())
                    rect.span.bad[span.error] x=(x) width=(width) y="3" height="10" rx="2" {}
                }
            }
        }
    }
}

fn guides() -> Markup {
    html! {
        @for at in ["0%", "50%", "100%"] { line x1=(at) x2=(at) y1="0" y2="16" {} }
    }
}

fn logs(logs: &[LogDetail]) -> Markup {
    html! {
        @if logs.is_empty() {
            p.absent { "No log lines were found for this trace." }
        } @else {
            div.scroll role="region" tabindex="0" aria-label="Log lines, scrollable" {
                table.logs {
                    caption { "Log lines of this trace" }
                    thead.unseen {
                        tr { th scope="col" { "At" } th scope="col" { "Severity" } th scope="col" { "Line" } }
                    }
                    tbody {
                        @for log in logs.iter().take(MOST_LOGS) {
                            tr.bad[is_bad(log)] {
                                td.n { (figures::seconds(log.at)) }
                                td { (log.severity.as_deref().map_or_else(String::new, text::name)) }
                                td { code { (text::line(&log.line)) } }
                            }
                        }
                    }
                }
            }
            @if logs.len() > MOST_LOGS { p { (logs.len() - MOST_LOGS) " more log lines in report.json" } }
        }
    }
}

fn is_bad(log: &LogDetail) -> bool {
    log.severity.as_deref().is_some_and(|severity| {
        ["err", "error", "fatal", "critical"]
            .iter()
            .any(|bad| severity.eq_ignore_ascii_case(bad))
    })
}
