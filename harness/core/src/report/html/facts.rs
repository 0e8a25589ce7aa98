//! Counts and latencies per phase, the facts of the run, notes.

use maud::{Markup, html};

use super::super::figures;
use super::super::model::{LoadSummary, Report, Signal};
use super::super::text;
use crate::observation::Outcome;
use crate::units::Phase;

/// One figure for a golden signal, from the client's own measurements of the measured phase, and
/// what it is. Saturation is the generator's view of it: how many requests were out at once.
pub(super) fn glance(report: &Report, signal: Signal) -> (String, String) {
    let measured: Vec<&LoadSummary> = report
        .load
        .iter()
        .filter(|load| load.phase == Phase::Measure)
        .collect();
    let scheduled: u64 = measured.iter().map(|load| load.scheduled).sum();
    if measured.is_empty() || scheduled == 0 {
        return (figures::NONE.to_owned(), "nothing was measured".to_owned());
    }
    match signal {
        Signal::Latency => {
            let slowest = |of: fn(&super::super::model::Quantiles) -> f64| {
                measured
                    .iter()
                    .filter_map(|l| l.latency.as_ref())
                    .map(of)
                    .max_by(f64::total_cmp)
            };
            let show = |value: Option<f64>| {
                value.map_or_else(|| figures::NONE.to_owned(), figures::seconds)
            };
            (
                show(slowest(|q| q.p99)),
                format!("p99 from due; p50 {}", show(slowest(|q| q.p50))),
            )
        }
        Signal::Traffic => {
            let rate: f64 = measured.iter().map(|load| load.rate).sum();
            let what = format!("answers; {} requests were due", figures::count(scheduled));
            (figures::rate(rate), what)
        }
        Signal::Errors => {
            let good: u64 = measured
                .iter()
                .map(|load| of(load, Outcome::Expected))
                .sum();
            let failed = scheduled.saturating_sub(good);
            let share = figures::percent(failed as f64 / scheduled as f64, None);
            (
                share,
                format!(
                    "not as expected: {} of {}",
                    figures::count(failed),
                    figures::count(scheduled)
                ),
            )
        }
        Signal::Saturation => {
            let most = report
                .series
                .iter()
                .filter(|point| point.phase == Phase::Measure)
                .map(|point| point.in_flight)
                .max();
            let most = most.map_or_else(|| figures::NONE.to_owned(), figures::count);
            (most, "requests out at once, at most".to_owned())
        }
    }
}

fn of(load: &LoadSummary, outcome: Outcome) -> u64 {
    load.outcomes
        .iter()
        .filter(|(o, _)| *o == outcome)
        .map(|(_, count)| count)
        .sum()
}

pub(super) fn section(report: &Report) -> Markup {
    html! {
        section #run.card {
            h2 { "Run" }
            (load(report))
            (facts(report))
            @if !report.notes.is_empty() {
                h3 { "Notes" }
                ul { @for note in &report.notes { li { (text::line(note)) } } }
            }
        }
        footer {
            p {
                "Made by harness " (text::name(&report.run.harness_version))
                @if !report.judged_at.is_empty() { ", judged " (text::name(&report.judged_at)) }
                ". The same figures are in report.json (" (text::name(&report.schema)) ")."
            }
        }
    }
}

fn load(report: &Report) -> Markup {
    html! {
        div.scroll role="region" tabindex="0" aria-label="Load, scrollable" {
            table {
                caption { "Requests by phase and name; latency counts from when a request was due" }
                thead {
                    tr {
                        th scope="col" { "Phase" }
                        th scope="col" { "Request" }
                        th.n scope="col" { "Scheduled" }
                        th scope="col" { "Outcomes" }
                        th.n scope="col" { "Answers" }
                        @for q in ["p50", "p90", "p99", "p99.9", "max"] { th.n scope="col" { (q) } }
                        th.n scope="col" { "Service p99" }
                        th.n scope="col" { "Accuracy" }
                    }
                }
                tbody { @for load in &report.load { (load_row(load)) } }
            }
        }
    }
}

fn load_row(load: &LoadSummary) -> Markup {
    let none = || figures::NONE.to_owned();
    let latency = |q: f64| figures::seconds(q);
    let quantiles = load.latency.map(|q| [q.p50, q.p90, q.p99, q.p999, q.max]);
    html! {
        tr {
            td { (load.phase.to_string()) }
            th scope="row" { (text::name(&load.request)) }
            td.n { (figures::count(load.scheduled)) }
            td {
                @for (place, (outcome, count)) in load.outcomes.iter().enumerate() {
                    @if place > 0 { ", " }
                    (figures::count(*count)) " " (figures::outcome_name(*outcome))
                }
            }
            td.n { (figures::rate(load.rate)) }
            @for place in 0..5 {
                td.n { (quantiles.map_or_else(none, |q| latency(q[place]))) }
            }
            td.n { (load.service_time.map_or_else(none, |q| latency(q.p99))) }
            td.n {
                (load.accuracy.and_then(|ratio| ratio.value()).map_or_else(none, |share| figures::percent(share, None)))
            }
        }
    }
}

fn facts(report: &Report) -> Markup {
    let run = &report.run;
    let none = || figures::NONE.to_owned();
    let window = run.window.map_or_else(none, |[from, to]| {
        format!(
            "{} to {} after the start",
            figures::seconds(from),
            figures::seconds(to)
        )
    });
    let versions: Vec<String> = run.versions.iter().map(|v| text::name(v)).collect();
    let rows = [
        ("Run", text::name(&run.id)),
        ("Scenario", text::name(&run.scenario)),
        ("Seed", run.seed.to_string()),
        ("Started", text::name(&run.started_at)),
        ("Length", figures::seconds(run.duration_seconds)),
        ("Measured", window),
        ("Service", text::name(&run.service)),
        ("Target", text::name(&run.target)),
        (
            "Versions seen",
            if versions.is_empty() {
                none()
            } else {
                versions.join(", ")
            },
        ),
        (
            "Version to be judged",
            run.expect_version.as_deref().map_or_else(none, text::name),
        ),
        (
            "Generator's CPU",
            run.generator_cpu.map_or_else(none, |share| {
                format!("{} of one core", figures::percent(share, None))
            }),
        ),
        (
            "Answers read",
            figures::bytes(report.load.iter().map(|l| l.bytes).sum::<u64>() as f64),
        ),
    ];
    html! {
        dl {
            @for (name, value) in rows { div { dt { (name) } dd { (value) } } }
        }
    }
}
