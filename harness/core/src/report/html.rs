//! The report as one HTML file: nothing to fetch, no script, light and dark, to read and to print.
//!
//! The charts are SVG written by hand rather than by a plotting library: a library writes fixed
//! colours and fonts into its elements, knows no `title`, `desc` or class, and so can follow neither
//! the reader's theme nor a screen reader; and the five charts here need two scales and a path.

mod beside;
mod charts;
mod evidence;
mod facts;
mod objectives;
pub(super) mod plot;
mod requests;
mod why;

use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

use super::figures;
use super::model::{Gate, Link, ObjectiveResult, Report, Signal, Verdict};
use super::summary;
use super::text;

pub(super) const STYLE: &str = include_str!("html/style.css");

/// Reasons on the first screen; the rest are folded away under them.
const MOST_REASONS: usize = 4;

/// No source of anything is allowed but the styles in the file itself, so that whatever text slips
/// through has nothing it could load or run.
pub(super) const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The report as a self-contained HTML page.
#[must_use]
pub fn html(report: &Report) -> String {
    let title = format!("{}: {}", report.verdict.word(), summary::headline(report));
    markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body class=(class(report.verdict)) {
                a.skip href="#objectives" { "Skip to the objectives" }
                main {
                    (header(report))
                    (tiles(report))
                    (objectives::section(report))
                    (why::section(report))
                    (beside::section(report))
                    (evidence::section(report))
                    (charts::section(report))
                    (requests::section(report))
                    (facts::section(report))
                }
            }
        }
    }
    .into_string()
}

/// The class that gives an element its verdict's colours.
fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "is-pass",
        Verdict::Fail => "is-fail",
        Verdict::Inconclusive => "is-inconclusive",
        Verdict::Invalid => "is-invalid",
    }
}

/// Sign and word, so that colour is never the only thing that tells.
fn badge(verdict: Verdict) -> Markup {
    markup! {
        span class={ "badge " (class(verdict)) } {
            (icon(verdict)) (verdict.word())
        }
    }
}

/// A round sign, drawn so that it looks alike everywhere.
fn icon(verdict: Verdict) -> Markup {
    let path = match verdict {
        Verdict::Pass => "M4.5 8.4 7 10.9 11.6 5.6",
        Verdict::Fail => "M5.2 5.2 10.8 10.8 M10.8 5.2 5.2 10.8",
        Verdict::Inconclusive => "M5.9 6.3a2.1 2.1 0 1 1 3.2 1.8c-.7.4-1.1.8-1.1 1.6 M8 11.7v.1",
        Verdict::Invalid => "M8 4.4v4.4 M8 11.4v.1",
    };
    markup! {
        svg.icon viewBox="0 0 16 16" aria-hidden="true" {
            circle cx="8" cy="8" r="7.5" {}
            path d=(path) {}
        }
    }
}

fn header(report: &Report) -> Markup {
    let run = &report.run;
    let versions: Vec<String> = run.versions.iter().map(|v| text::name(v)).collect();
    let versions = if versions.is_empty() {
        "version unknown".to_owned()
    } else {
        versions.join(", ")
    };
    markup! {
        header.hero {
            p.kicker {
                b { (text::name(&run.scenario)) }
                " against " (text::name(&run.service)) ", " (versions)
                span.when { (text::name(&run.started_at)) }
            }
            h1 { (icon(report.verdict)) span { (report.verdict.word()) } }
            p.lead { (capital(&summary::finding(report))) "." }
            p.meaning { (summary::meaning(report.verdict)) " Exit code " (report.exit_code) "." }
            div.columns {
                div {
                    h2 { "Why" }
                    @if report.reasons.is_empty() {
                        p { "No reason was recorded." }
                    } @else {
                        @let (first, more) = report.reasons.split_at(report.reasons.len().min(MOST_REASONS));
                        ul { @for reason in first { li { (text::line(reason)) } } }
                        @if !more.is_empty() {
                            details {
                                summary { "and " (text::plural(more.len(), "more reason", "more reasons")) }
                                ul { @for reason in more { li { (text::line(reason)) } } }
                            }
                        }
                    }
                }
                (where_to_look(report))
            }
            nav aria-label="Sections" {
                a href="#objectives" { "Objectives" }
                @if has_why(report) { a href="#why" { "Why" } }
                a href="#evidence" { "Evidence" }
                a href="#charts" { "Charts" }
                a href="#requests" { "Requests" }
                a href="#run" { "Run" }
            }
        }
    }
}

/// Links to what a reader should open first, worst first.
fn where_to_look(report: &Report) -> Markup {
    let missed: Vec<(usize, &ObjectiveResult)> = report
        .objectives
        .iter()
        .enumerate()
        .filter(|(_, o)| o.gate == Gate::Required && o.verdict != Verdict::Pass)
        .collect();
    let doubts: Vec<_> = summary::doubts(report).collect();
    let blind: Vec<_> = report
        .coverage
        .sources
        .iter()
        .filter(|s| !s.complete)
        .collect();
    let calm = missed.is_empty() && doubts.is_empty() && blind.is_empty();
    let slowest = report
        .requests
        .iter()
        .max_by(|a, b| a.latency.total_cmp(&b.latency));
    markup! {
        div {
            h2 { "Where to look" }
            ul.look {
                @for check in &doubts {
                    li {
                        a href="#validity" { "Check " (text::name(&check.name)) } ": "
                        (text::line(check.remedy.as_deref().unwrap_or(&check.value)))
                    }
                }
                @for source in &blind {
                    @let (kind, backend) = figures::backend(source.backend);
                    li {
                        a href="#coverage" { (capital(kind)) " in " (backend) }
                        ": " (summary::found(source))
                        @if let Some(at) = source.missing_since {
                            ", missing since " (figures::seconds(at))
                        }
                    }
                }
                @for (place, objective) in &missed {
                    li {
                        a href={ "#objective-" (place) } { (summary::title(objective)) }
                        ": "
                        @if objective.value.is_some() { (figures::value(objective)) } @else { "no value" }
                        ", target " (figures::target(objective))
                        @if let Some((place, most)) = most_excess(report, objective) {
                            "; " a href={ "#why-" (place) } { "slow by " (most) }
                        }
                        @for id in objective.evidence.iter().take(1) {
                            "; " a href={ "#request-" (id.0) } { "see a request" }
                        }
                    }
                }
                @if let Some(finding) = report.findings.first() {
                    li { a href="#findings" { "Disagreement" } ": " (text::line(&finding.said)) }
                }
                @if calm {
                    li { "Nothing stands out: the evidence is complete and every check held." }
                    @if let Some(slowest) = slowest {
                        li {
                            a href={ "#request-" (slowest.id.0) } { "The slowest request" }
                            " took " (figures::seconds(slowest.latency)) "."
                        }
                    }
                }
            }
        }
    }
}

fn has_why(report: &Report) -> bool {
    !report.why.is_empty()
        || report.tail.is_some()
        || report.onset.is_some()
        || !report.findings.is_empty()
}

/// Where the explanation of an objective stands, and the stage that most of the excess is in.
fn most_excess(report: &Report, objective: &ObjectiveResult) -> Option<(usize, String)> {
    let place = report
        .why
        .iter()
        .position(|e| e.objective == objective.name)?;
    let tail = report.why[place].tail.as_ref()?;
    Some((place, summary::most(tail)?))
}

/// Links to other pages, of which only http and https ones are made.
fn links(links: &[Link]) -> Markup {
    markup! {
        @for link in links.iter().take(10) {
            @if let Some(url) = summary::safe_url(&link.url) {
                a href=(url) rel="noreferrer noopener" target="_blank" { (text::name(&link.label)) }
                " "
            }
        }
    }
}

/// The four golden signals at a glance.
fn tiles(report: &Report) -> Markup {
    markup! {
        section.tiles aria-label="Golden signals" {
            @for signal in Signal::ALL { (tile(report, signal)) }
        }
    }
}

fn tile(report: &Report, signal: Signal) -> Markup {
    let mine: Vec<_> = report
        .objectives
        .iter()
        .filter(|o| o.signal == signal)
        .collect();
    let met = mine.iter().filter(|o| o.verdict == Verdict::Pass).count();
    // Advisory objectives set the tone only where nothing else does.
    let required = mine.iter().filter(|o| o.gate == Gate::Required);
    let decisive = required.map(|o| o.verdict).max();
    let worst = decisive.or_else(|| mine.iter().map(|o| o.verdict).max());
    // What an untrustworthy run measured must not stand there in green.
    let distrusted = report.verdict == Verdict::Invalid;
    let worst = if distrusted {
        worst.and(Some(Verdict::Invalid))
    } else {
        worst
    };
    let (figure, what) = facts::glance(report, signal);
    markup! {
        div class={ "tile " (worst.map_or("", class)) } {
            h2 { @if let Some(worst) = worst { (icon(worst)) } (signal.title()) }
            p.figure { (figure) }
            p.what { (what) }
            p.met {
                @if mine.is_empty() { "no objective" }
                @else { (met) " of " (text::plural(mine.len(), "objective", "objectives")) " met"
                    @if decisive.is_none() { " (advisory)" }
                    @if distrusted { ", not to be trusted" }
                }
            }
        }
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

#[cfg(test)]
mod tests;
