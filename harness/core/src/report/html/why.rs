//! Why: how missed objectives were missed, where the time of the slow requests went, what moved first,
//! and where client, service and traces disagree.

use maud::{Markup, html};

use super::super::figures;
use super::super::model::{
    Explanation, Finding, Moved, ObjectiveResult, Onset, Report, Stage, Tail,
};
use super::super::summary;
use super::super::text;

/// Stages of a table, and moved signals.
const MOST_ROWS: usize = 20;

/// Stages told apart by colour in a plot; the rest share one.
const COLOURS: usize = 6;

const WIDTH: f64 = 640.0;
const BAR: f64 = 26.0;
/// Left of the bars: the names of the two groups.
const NAMES: f64 = 74.0;

pub(super) fn section(report: &Report) -> Markup {
    let colours = Colours::of(report);
    html! {
        @if super::has_why(report) {
            section #why.card {
                h2 { "Why" }
                @for (place, explanation) in report.why.iter().enumerate() {
                    (one(report, explanation, place, &colours))
                }
                @if let Some(tail) = &report.tail {
                    div.explained #tail {
                        h3 { "The tail of all measured requests" }
                        (attribution(tail, "all", &colours))
                    }
                }
                @if let Some(onset) = &report.onset { (moved_first(onset)) }
                @if !report.findings.is_empty() { (findings(report)) }
            }
        }
    }
}

/// The objective that an explanation is of, with its place.
fn objective<'a>(
    report: &'a Report,
    explanation: &Explanation,
) -> Option<(usize, &'a ObjectiveResult)> {
    let mut all = report.objectives.iter().enumerate();
    all.find(|(_, o)| o.name == explanation.objective)
}

fn one(report: &Report, explanation: &Explanation, place: usize, colours: &Colours) -> Markup {
    html! {
        div.explained id={ "why-" (place) } {
            h3 {
                @match objective(report, explanation) {
                    Some((place, objective)) => {
                        a href={ "#objective-" (place) } { (summary::title(objective)) }
                    }
                    None => (text::name(&explanation.objective)),
                }
            }
            @if !explanation.misses.is_empty() {
                p {
                    "Counted against it: "
                    @for (place, miss) in explanation.misses.iter().enumerate() {
                        @if place > 0 { "; " }
                        b { (figures::count(miss.count)) } " " (text::name(&miss.how))
                    }
                    "."
                }
            }
            p.links {
                @for (word, ids) in [("Worst requests: ", &explanation.worst), ("typical: ", &explanation.typical)] {
                    @if !ids.is_empty() {
                        (word)
                        @for id in ids {
                            @if report.requests.iter().any(|r| r.id == *id) {
                                a href={ "#request-" (id.0) } { (id.0) } " "
                            }
                        }
                    }
                }
            }
            @match &explanation.tail {
                Some(tail) => (attribution(tail, &place.to_string(), colours)),
                None if explanation.misses.is_empty() && report.tail.is_some() => {
                    p.hint {
                        "The client does not tell which requests count here. "
                        a href="#tail" { "The tail of all measured requests" }
                    }
                }
                None => {}
            }
        }
    }
}

fn attribution(tail: &Tail, id: &str, colours: &Colours) -> Markup {
    html! {
        ul.groups {
            li { "Slow, " (summary::group(&tail.slow)) "." }
            li { "Typical, " (summary::group(&tail.typical)) "." }
        }
        @if let Some(missing) = &tail.missing {
            p.absent { "Where their time went cannot be told: " (text::line(missing)) "." }
        } @else {
            (plot(tail, id, colours))
            (table(tail, colours))
        }
    }
}

/// Stage names in the order of their first appearance: one stage has one colour on the whole page.
struct Colours<'a>(Vec<&'a str>);

impl<'a> Colours<'a> {
    fn of(report: &'a Report) -> Self {
        let mut names: Vec<&str> = Vec::new();
        let tails = report.why.iter().filter_map(|why| why.tail.as_ref());
        for stage in tails.chain(&report.tail).flat_map(|tail| &tail.stages) {
            if names.len() < COLOURS && !names.contains(&stage.name.as_str()) {
                names.push(&stage.name);
            }
        }
        Self(names)
    }

    /// Class of a stage's colour.
    fn class(&self, stage: &Stage) -> String {
        let place = self.0.iter().position(|name| *name == stage.name);
        format!("k{}", place.unwrap_or(COLOURS))
    }
}

/// Both groups as stacked bars on one axis of time.
fn plot(tail: &Tail, id: &str, colours: &Colours) -> Markup {
    let sum = |of: fn(&Stage) -> f64| -> f64 {
        tail.stages
            .iter()
            .map(of)
            .filter(|t| t.is_finite() && *t > 0.0)
            .sum()
    };
    let (slow, typical) = (sum(|s| s.slow), sum(|s| s.typical));
    let most = slow.max(typical);
    if most <= 0.0 {
        return html! {};
    }
    let scale = (WIDTH - NAMES - 70.0) / most;
    let bar = |of: fn(&Stage) -> f64| {
        let mut at = NAMES;
        let mut pieces = Vec::new();
        for stage in &tail.stages {
            let time = of(stage);
            let wide = if time.is_finite() {
                time.max(0.0) * scale
            } else {
                0.0
            };
            pieces.push((colours.class(stage), at, wide));
            at += wide;
        }
        (pieces, at)
    };
    let most_of = tail.stages.first().map(|stage| {
        let share = stage.share.map_or_else(String::new, |share| {
            format!(", {} of the excess", figures::share(share))
        });
        format!("; most of it in {}{share}", text::name(&stage.name))
    });
    let said = format!(
        "Mean latency by stage: typical {}, slow {}{}.",
        figures::seconds(typical),
        figures::seconds(slow),
        most_of.unwrap_or_default()
    );
    html! {
        svg.chart.stack viewBox={ "0 0 " (WIDTH) " " (2.0 * BAR + 22.0) } role="img" aria-labelledby={ "tail-" (id) "-desc" } {
            desc id={ "tail-" (id) "-desc" } { (said) }
            @for (row, name, (pieces, end), sum) in [
                (0.0, "typical", bar(|s| s.typical), typical),
                (1.0, "slow", bar(|s| s.slow), slow),
            ] {
                @let top = 4.0 + row * (BAR + 8.0);
                text.y x=(NAMES - 8.0) y=(top + BAR / 2.0 + 4.0) { (name) }
                @for (colour, at, wide) in pieces {
                    @if wide >= 0.05 {
                        rect class=(colour) x=(format!("{at:.1}")) y=(top) width=(format!("{wide:.1}")) height=(BAR) {}
                    }
                }
                text x=(format!("{:.1}", end + 6.0)) y=(top + BAR / 2.0 + 4.0) { (figures::seconds(sum)) }
            }
        }
    }
}

fn table(tail: &Tail, colours: &Colours) -> Markup {
    html! {
        div.scroll role="region" tabindex="0" aria-label="Stages, scrollable" {
            table.stages {
                caption { "Mean time by stage; of a span its own, without that of the spans below it" }
                thead {
                    tr {
                        th scope="col" { "Stage" }
                        th.n scope="col" { "Slow" }
                        th.n scope="col" { "Typical" }
                        th.n scope="col" { "Excess" }
                        th.n scope="col" { "Share of it" }
                    }
                }
                tbody {
                    @for stage in tail.stages.iter().take(MOST_ROWS) {
                        tr {
                            th scope="row" {
                                svg.swatch viewBox="0 0 10 10" aria-hidden="true" { rect class=(colours.class(stage)) width="10" height="10" rx="2" {} }
                                (text::name(&stage.name))
                            }
                            td.n { (figures::seconds(stage.slow)) }
                            td.n { (figures::seconds(stage.typical)) }
                            td.n { (figures::seconds(stage.excess)) }
                            td.n { (stage.share.map_or_else(|| figures::NONE.to_owned(), figures::share)) }
                        }
                    }
                    @if let Some(excess) = tail.excess {
                        tr.sum {
                            th scope="row" { "all" }
                            td.n { (tail.slow.traced_latency.map_or_else(|| figures::NONE.to_owned(), figures::seconds)) }
                            td.n { (tail.typical.traced_latency.map_or_else(|| figures::NONE.to_owned(), figures::seconds)) }
                            td.n { (figures::seconds(excess)) }
                            td.n { "100 %" }
                        }
                    }
                }
            }
        }
    }
}

fn moved_first(onset: &Onset) -> Markup {
    let moved: Vec<&Moved> = onset.latency.iter().chain(&onset.signals).collect();
    html! {
        div.explained {
            h3 { "What moved first" }
            p { (super::capital(&text::line(&onset.said))) "." }
            @if !moved.is_empty() {
                div.scroll role="region" tabindex="0" aria-label="Moved signals, scrollable" {
                    table {
                        caption { "Stretches that stand out; a hint where to look, no part of the verdict" }
                        thead {
                            tr {
                                th scope="col" { "Signal" }
                                th.n scope="col" { "From" }
                                th.n scope="col" { "Until" }
                                th.n scope="col" { "Points every" }
                                th.n scope="col" { "Outside it" }
                                th.n scope="col" { "Within" }
                            }
                        }
                        tbody {
                            @for signal in moved.into_iter().take(MOST_ROWS) {
                                @let shown = |value: f64| figures::quantity(value, Some(&signal.unit), None);
                                tr {
                                    th scope="row" { (text::name(&signal.name).replace('_', " ")) }
                                    td.n { (figures::seconds(signal.at)) }
                                    td.n { (signal.until.map_or_else(|| "the end".to_owned(), figures::seconds)) }
                                    td.n { (figures::seconds(signal.resolution)) }
                                    td.n { (shown(signal.before)) }
                                    td.n { (shown(signal.during)) }
                                }
                            }
                        }
                    }
                }
            }
            @if !onset.still.is_empty() {
                p.hint {
                    "No stretch stands out in: "
                    (onset.still.iter().take(MOST_ROWS).map(|name| text::name(name).replace('_', " ")).collect::<Vec<_>>().join(", "))
                    "."
                }
            }
        }
    }
}

fn findings(report: &Report) -> Markup {
    html! {
        div.explained #findings {
            h3 { "Client, service and traces disagree" }
            ul { @for finding in report.findings.iter().take(MOST_ROWS) { (finding_line(report, finding)) } }
        }
    }
}

fn finding_line(report: &Report, finding: &Finding) -> Markup {
    html! {
        li {
            (super::capital(&text::line(&finding.said))) ". Requests: "
            @for (place, id) in finding.requests.iter().enumerate() {
                @if place > 0 { ", " }
                @if report.requests.iter().any(|r| r.id == *id) {
                    a href={ "#request-" (id.0) } { (id.0) }
                } @else { (id.0) }
            }
        }
    }
}
