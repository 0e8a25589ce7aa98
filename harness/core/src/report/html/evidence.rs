//! What the verdict rests on: coverage of each source, and the checks of the run itself.

use maud::{Markup, html};

use super::super::figures;
use super::super::model::{Report, SourceCoverage, ValidityCheck, Verdict};
use super::super::summary;
use super::super::text;

pub(super) fn section(report: &Report) -> Markup {
    html! {
        section #evidence.pair {
            div #coverage.card {
                h2 { "Coverage" }
                p {
                    b { (figures::count(report.coverage.sent)) } " requests sent, "
                    b { (figures::count(report.coverage.answered)) } " answered. "
                    "Of these, the telemetry holds:"
                }
                @if report.coverage.sources.is_empty() {
                    p { "No telemetry was asked for: only the client's own figures were judged." }
                } @else { (coverage(report)) }
            }
            div #validity.card {
                h2 { "Validity of the run" }
                @if report.validity.is_empty() {
                    p { "No check of the run was recorded." }
                } @else { (validity(report)) }
            }
        }
    }
}

fn coverage(report: &Report) -> Markup {
    html! {
        div.scroll role="region" tabindex="0" aria-label="Coverage, scrollable" {
            table {
                caption { "Requests found in each kind of telemetry" }
                thead {
                    tr {
                        th scope="col" { "Evidence" }
                        th scope="col" { "Source" }
                        th scope="col" { "Found" }
                    }
                }
                tbody { @for source in &report.coverage.sources { (source_row(source)) } }
            }
        }
    }
}

fn source_row(source: &SourceCoverage) -> Markup {
    let (kind, backend) = figures::backend(source.backend);
    let state = if source.complete {
        Verdict::Pass
    } else {
        Verdict::Inconclusive
    };
    let share = source
        .found
        .map_or(0.0, |found| found as f64 / source.expected.max(1) as f64);
    html! {
        tr class=(super::class(state)) {
            td { (state_badge(state, if source.complete { "complete" } else { "incomplete" })) }
            th scope="row" { (backend) p.reason { (kind) } }
            td {
                span.value { (summary::found(source)) }
                svg.share viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
                    rect.track width="100" height="6" {}
                    rect.part width=(format!("{:.1}", share.clamp(0.0, 1.0) * 100.0)) height="6" {}
                }
                p.reason {
                    @if let Some(at) = source.missing_since {
                        b { "Missing since " (figures::seconds(at)) ". " }
                    }
                    (text::line(&source.reason))
                    @if source.canary { ". The run's own canary was found." }
                    @else { ". The run's own canary was not found." }
                }
            }
        }
    }
}

fn state_badge(state: Verdict, word: &str) -> Markup {
    html! { span class={ "badge " (super::class(state)) } { (super::icon(state)) (word) } }
}

fn validity(report: &Report) -> Markup {
    html! {
        div.scroll role="region" tabindex="0" aria-label="Checks of the run, scrollable" {
            table {
                caption { "Checks that the generator itself did not spoil the run" }
                thead {
                    tr {
                        th scope="col" { "Held" }
                        th scope="col" { "Check" }
                        th scope="col" { "Measured" }
                        th scope="col" { "Limit" }
                    }
                }
                tbody { @for check in &report.validity { (check_row(check)) } }
            }
        }
    }
}

fn check_row(check: &ValidityCheck) -> Markup {
    let (state, word) = match check.ok {
        Some(true) => (Verdict::Pass, "held"),
        Some(false) => (Verdict::Invalid, "not held"),
        None => (Verdict::Inconclusive, "unknown"),
    };
    html! {
        tr class=(super::class(state)) {
            td { (state_badge(state, word)) }
            th scope="row" { (text::name(&check.name).replace('_', " ")) }
            td {
                (text::line(&check.value))
                @if let Some(remedy) = &check.remedy {
                    p.remedy { b { "What to change: " } (text::line(remedy)) }
                }
            }
            td { (text::line(&check.limit)) }
        }
    }
}
