//! A comparison as one HTML file: no script, nothing to fetch.

use maud::{DOCTYPE, Markup, PreEscaped, html as markup};

use super::super::figures;
use super::super::html::plot::{self, HEIGHT, Scale, Step, WIDTH};
use super::super::html::{POLICY, STYLE};
use super::super::model::{Change, ComparedRun, Comparison, Delta, Pair};
use super::super::text;
use super::{change, group, groups, headline, interval, run_line, value, word};

/// Classes of the runs' lines, in turn.
const LINES: [&str; 4] = ["line c1", "line c4", "line c2", "line c3"];

/// The comparison as a self-contained HTML page.
#[must_use]
pub fn html(comparison: &Comparison) -> String {
    let class = if comparison.comparable {
        ""
    } else {
        "is-invalid"
    };
    markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { "Comparison: " (headline(comparison)) }
                style { (PreEscaped(STYLE)) }
            }
            body class=(class) {
                main {
                    (header(comparison))
                    @for pair in &comparison.pairs { (table(comparison, pair)) }
                    section #distribution.card {
                        h2 { "Latencies over each other" }
                        (distributions(comparison))
                    }
                }
            }
        }
    }
    .into_string()
}

fn header(comparison: &Comparison) -> Markup {
    markup! {
        header.hero {
            h1 { span { @if comparison.comparable { "Comparison" } @else { "Not comparable" } } }
            p.lead { (headline(comparison)) "." }
            @if !comparison.not_comparable.is_empty() {
                h2 { "Why" }
                ul { @for why in &comparison.not_comparable { li { (text::line(why)) } } }
            }
            h2 { "Runs" }
            ul { @for run in &comparison.runs { li { (run_line(run)) } } }
        }
    }
}

fn table(comparison: &Comparison, pair: &Pair) -> Markup {
    let title = format!("{} against {}", pair.other, pair.base);
    markup! {
        section.card {
            h2 { (title) }
            div.scroll role="region" tabindex="0" aria-label={ (title) ", scrollable" } {
                table {
                    caption { "Changes with intervals of " (figures::percent(comparison.confidence, None)) " confidence, both sides" }
                    thead {
                        tr {
                            th scope="col" { "Figure" }
                            th.n scope="col" { (pair.base) }
                            th.n scope="col" { (pair.other) }
                            th.n scope="col" { "Change" }
                            th.n scope="col" { "Interval" }
                            th scope="col" { "Says" }
                        }
                    }
                    @for (of, deltas) in groups(&pair.deltas) {
                        tbody {
                            tr.group { th scope="rowgroup" colspan="6" { (group(of)) } }
                            @for delta in deltas { (row(comparison, delta)) }
                        }
                    }
                }
            }
        }
    }
}

fn row(comparison: &Comparison, delta: &Delta) -> Markup {
    let class = match delta.says {
        _ if !comparison.comparable => "",
        Change::Worse => "is-fail",
        Change::Better => "is-pass",
        Change::Same => "",
        Change::Unknown => "is-inconclusive",
    };
    markup! {
        tr class=(class) {
            th scope="row" {
                (text::name(&delta.name))
                @if !delta.note.is_empty() { p.reason { (text::line(&delta.note)) } }
            }
            td.n { (value(delta.base, delta)) }
            td.n { (value(delta.other, delta)) }
            td.n { (change(delta.change, delta)) }
            td.n { (interval(delta)) }
            td { (word(comparison, delta)) }
        }
    }
}

/// All runs' latencies in one drawing, each as an outline of shares.
fn distributions(comparison: &Comparison) -> Markup {
    let bins = || comparison.runs.iter().flat_map(|run| &run.distribution);
    let bins = || bins().filter(|bin| bin.low > 0.0 && bin.high > bin.low);
    let (Some(low), Some(high)) = (
        bins().map(|bin| bin.low).min_by(f64::total_cmp),
        bins().map(|bin| bin.high).max_by(f64::total_cmp),
    ) else {
        return markup! { p { "No latencies were measured." } };
    };
    let share = |run: &ComparedRun, count: u64| count as f64 / (run.requests as f64).max(1.0);
    let most = comparison
        .runs
        .iter()
        .flat_map(|run| {
            run.distribution
                .iter()
                .map(move |bin| share(run, bin.expected + bin.other))
        })
        .fold(0.0, f64::max);
    let (x, y) = (Scale::across_log(low, high), Scale::up(most));
    let outline = |run: &ComparedRun| {
        let shown = run.distribution.iter().filter(|bin| bin.low > 0.0);
        let steps: Vec<Step> = shown
            .map(|bin| {
                let top = y.at(share(run, bin.expected + bin.other));
                (x.at(bin.low), x.at(bin.high), y.at(0.0), top)
            })
            .collect();
        plot::stairs(&steps)
    };
    let said = format!(
        "Latencies of {} runs between {} and {}, as shares of their requests.",
        comparison.runs.len(),
        figures::seconds(low),
        figures::seconds(high)
    );
    let keyed: Vec<_> = comparison.runs.iter().zip(LINES.iter().cycle()).collect();
    markup! {
        figure {
            figcaption {
                ul.legend {
                    @for (run, class) in &keyed {
                        li {
                            svg viewBox="0 0 22 10" aria-hidden="true" { path class=(class) d="M2 5H20" {} }
                            (run.label) ": " (text::name(&run.run))
                        }
                    }
                }
            }
            svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-labelledby="overlay-title overlay-desc" {
                title id="overlay-title" { "Latencies over each other" }
                desc id="overlay-desc" { (said) }
                (plot::axes(&x, &y, figures::seconds, |tick| figures::percent(tick, None), "latency from due (logarithmic)"))
                @for (run, class) in &keyed { path class=(class) d=(outline(run)) {} }
            }
        }
    }
}
