//! The table of objectives, each with its interval drawn against its target.

use maud::{Markup, html};

use super::super::figures;
use super::super::model::{Gate, ObjectiveResult, Report, Verdict};
use super::super::summary;
use super::super::text;
use super::{badge, class};

const WIDTH: f64 = 150.0;
const HEIGHT: f64 = 22.0;

/// Queries shown for one objective.
const MOST_QUERIES: usize = 10;

pub(super) fn section(report: &Report) -> Markup {
    html! {
        section #objectives.card {
            h2 { "Objectives" }
            @if report.verdict == Verdict::Invalid { p.warn { (summary::DISTRUST) } }
            @if report.objectives.is_empty() {
                p { "There were no objectives, so there was nothing to pass." }
            } @else {
                div.scroll role="region" tabindex="0" aria-label="Objectives, scrollable" { (table(report)) }
                p.hint {
                    "Interval: one-sided bounds of the true share at the objective's confidence. "
                    "An objective is met when all of it lies on the good side of the target (shaded), "
                    "missed when none of it does, else undecided."
                }
            }
        }
    }
}

fn table(report: &Report) -> Markup {
    html! {
        table.objectives {
            caption { "Objectives by golden signal" }
            thead {
                tr {
                    th scope="col" { "Verdict" }
                    th scope="col" { "Objective" }
                    th scope="col" { "Source" }
                    th.n scope="col" { "Value" }
                    th.n scope="col" { "Target" }
                    th scope="col" { "Interval" }
                    th.n scope="col" { "Samples" }
                }
            }
            @for (signal, objectives) in summary::by_signal(report) {
                tbody {
                    tr.group { th scope="rowgroup" colspan="7" { (signal.title()) } }
                    @for objective in objectives { (row(report, objective)) }
                }
            }
        }
    }
}

fn row(report: &Report, objective: &ObjectiveResult) -> Markup {
    let place = report
        .objectives
        .iter()
        .position(|o| std::ptr::eq(o, objective))
        .unwrap_or(0);
    html! {
        tr id={ "objective-" (place) } class=(class(objective.verdict)) {
            td { (badge(objective.verdict)) }
            th scope="row" {
                span.name { (summary::title(objective)) }
                @if objective.gate == Gate::Advisory { " " span.chip { "advisory" } }
                p.reason { (text::line(&objective.reason)) }
                (more(objective))
            }
            td { (figures::source(objective.source)) }
            td.n.value { (figures::value(objective)) }
            td.n { (figures::target(objective)) }
            td.interval {
                (bar(objective))
                @if objective.interval.is_some() { span { (figures::interval(objective)) } }
            }
            td.n { (figures::samples(objective)) }
        }
    }
}

fn more(objective: &ObjectiveResult) -> Markup {
    let queries = objective.queries.iter().take(MOST_QUERIES);
    let left = objective.queries.len().saturating_sub(MOST_QUERIES);
    html! {
        details {
            summary { code { (text::name(&objective.name)) } }
            p {
                @if let (Some(good), Some(all)) = (objective.good, objective.samples) {
                    (figures::count(good)) " good of " (figures::count(all)) ". "
                }
                @if let Some(worth) = figures::effective(objective) {
                    "Neighbouring requests are alike, so these are worth at least " (worth)
                    " independent ones (effective samples). "
                }
                "Confidence of each bound: " (figures::percent(objective.confidence, None)) "."
            }
            @for query in queries { pre { code { (text::line(query)) } } }
            @if left > 0 { p { (left) " more queries in report.json" } }
            @if let Some(place) = &objective.place {
                p { "Defined in " code { (text::name(&place.file)) @if let Some(line) = place.line { ":" (line) } } }
            }
        }
        @if !objective.links.is_empty() { p.links { (super::links(&objective.links)) } }
        @if !objective.evidence.is_empty() {
            p.links {
                "Requests: "
                @for id in objective.evidence.iter().take(5) {
                    a href={ "#request-" (id.0) } { (id.0) } " "
                }
            }
        }
    }
}

/// What is drawn: an axis that holds everything, the good side, bounds and value.
struct Bar {
    from: f64,
    to: f64,
    good: (f64, f64),
    limit: f64,
}

impl Bar {
    fn of(objective: &ObjectiveResult) -> Option<Self> {
        let limit = figures::limit(objective).filter(|limit| limit.is_finite())?;
        let mut seen = vec![limit];
        seen.extend(objective.value);
        seen.extend(objective.interval.into_iter().flatten());
        seen.retain(|value| value.is_finite());
        let low = seen.iter().copied().fold(limit, f64::min);
        let high = seen.iter().copied().fold(limit, f64::max);
        match &objective.threshold {
            None => {
                let pad = ((high - low) * 0.25).max(0.001);
                let (from, to) = ((low - pad).max(0.0), (high + pad).min(1.0));
                Some(Self {
                    from,
                    to,
                    good: (limit, to),
                    limit,
                })
            }
            Some(threshold) => {
                let (from, to) = (
                    low.min(0.0),
                    if high == low.min(0.0) {
                        low + 1.0
                    } else {
                        high * 1.25
                    },
                );
                let good = match threshold.op.as_str() {
                    "lte" | "lt" => (from, limit),
                    "gte" | "gt" => (limit, to),
                    _ => (limit, limit),
                };
                Some(Self {
                    from,
                    to,
                    good,
                    limit,
                })
            }
        }
    }

    fn x(&self, value: f64) -> f64 {
        let share = (value - self.from) / (self.to - self.from).max(f64::MIN_POSITIVE);
        let share = if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        };
        4.0 + share * (WIDTH - 8.0)
    }
}

fn spoken(objective: &ObjectiveResult) -> String {
    let bounds = match objective.interval {
        Some(_) => format!(", interval {}", figures::interval(objective)),
        None => String::new(),
    };
    match objective.value {
        Some(_) => {
            let (value, target) = (figures::value(objective), figures::target(objective));
            format!("value {value}{bounds}, target {target}")
        }
        None => format!("no value, target {}", figures::target(objective)),
    }
}

fn bar(objective: &ObjectiveResult) -> Markup {
    let Some(bar) = Bar::of(objective) else {
        return html! {};
    };
    let middle = HEIGHT / 2.0;
    let at = |value: f64| format!("{:.1}", bar.x(value));
    let wide = |from: f64, to: f64| format!("{:.1}", (bar.x(to) - bar.x(from)).max(0.0));
    html! {
        svg.bar viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(spoken(objective)) {
            title { (spoken(objective)) }
            rect.good x=(at(bar.good.0)) y="3" width=(wide(bar.good.0, bar.good.1)) height=(HEIGHT - 6.0) rx="2" {}
            line.track x1="4" x2=(WIDTH - 4.0) y1=(middle) y2=(middle) {}
            line.limit x1=(at(bar.limit)) x2=(at(bar.limit)) y1="1" y2=(HEIGHT - 1.0) {}
            @if let Some([low, high]) = objective.interval.filter(|bounds| bounds.iter().all(|b| b.is_finite())) {
                rect.bounds x=(at(low)) y=(middle - 3.0) width=(wide(low, high)) height="6" rx="3" {}
            }
            @if let Some(value) = objective.value.filter(|value| value.is_finite()) {
                circle.dot cx=(at(value)) cy=(middle) r="4" {}
            }
        }
    }
}
