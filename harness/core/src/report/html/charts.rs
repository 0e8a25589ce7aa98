//! What happened over time, and how latencies were distributed.

use maud::{Markup, html};

use super::super::figures;
use super::super::model::{Bin, Report, SecondPoint, TimeSeries};
use super::super::text;
use super::plot::{self, HEIGHT, Scale, Step, WIDTH};
use crate::units::Phase;

/// Points drawn along a chart; a longer run is drawn by the worst second of each stretch.
const MOST_POINTS: usize = 600;

/// Rows of the table of figures.
const MOST_ROWS: usize = 600;

/// Saturation series drawn.
const MOST_SERIES: usize = 12;

/// How a line or an area is drawn, also in the legend.
type Key = (&'static str, &'static str);

pub(super) fn section(report: &Report) -> Markup {
    let points = thin(&report.series);
    html! {
        section #charts.card {
            h2 { "Charts" }
            @if report.series.len() > MOST_POINTS {
                p.hint {
                    "The run is long: each point stands for "
                    (report.series.len().div_ceil(MOST_POINTS)) " seconds and shows the worst of them."
                }
            }
            div.charts {
                @if points.is_empty() {
                    p { "There is no series over time." }
                } @else {
                    (latency(report, &points))
                }
                (distribution(report))
                @if !points.is_empty() {
                    (rate(report, &points))
                    (in_flight(report, &points))
                }
                @for series in report.saturation.iter().take(MOST_SERIES) { (saturation(report, series)) }
            }
            @if report.saturation.len() > MOST_SERIES {
                p.hint { (report.saturation.len() - MOST_SERIES) " more saturation series in report.json" }
            }
            @if !report.series.is_empty() { (table(&report.series)) }
        }
    }
}

/// At most [`MOST_POINTS`] points; each the worst of the seconds it stands for.
fn thin(series: &[SecondPoint]) -> Vec<SecondPoint> {
    let every = series.len().div_ceil(MOST_POINTS).max(1);
    let worst = |stretch: &[SecondPoint], of: fn(&SecondPoint) -> Option<f64>| {
        stretch.iter().filter_map(of).max_by(f64::total_cmp)
    };
    let most = |stretch: &[SecondPoint], of: fn(&SecondPoint) -> u64| {
        stretch.iter().map(of).max().unwrap_or(0)
    };
    series
        .chunks(every)
        .map(|stretch| SecondPoint {
            second: stretch[0].second,
            phase: stretch[0].phase,
            due: most(stretch, |p| p.due),
            done: stretch.iter().map(|p| p.done).min().unwrap_or(0),
            failed: most(stretch, |p| p.failed),
            in_flight: most(stretch, |p| p.in_flight),
            p50: worst(stretch, |p| p.p50),
            p99: worst(stretch, |p| p.p99),
            max: worst(stretch, |p| p.max),
        })
        .collect()
}

/// A titled chart with a legend and words for those who do not see it.
fn figure(id: &str, title: &str, said: &str, keys: &[Key], drawing: &Markup) -> Markup {
    html! {
        figure {
            figcaption {
                h3 { (title) }
                @if !keys.is_empty() {
                    ul.legend {
                        @for (class, name) in keys {
                            li {
                                svg viewBox="0 0 22 10" aria-hidden="true" {
                                    @if class.starts_with("area") {
                                        rect class=(class) x="3" width="16" height="10" {}
                                    } @else {
                                        path class=(class) d="M2 5H20" {}
                                    }
                                }
                                (name)
                            }
                        }
                    }
                }
            }
            svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img"
                aria-labelledby={ (id) "-title " (id) "-desc" } {
                title id={ (id) "-title" } { (title) }
                desc id={ (id) "-desc" } { (said) }
                (drawing)
            }
        }
    }
}

/// The axis of time: whole run, from 0.
fn time(report: &Report) -> Scale {
    let last = report
        .series
        .last()
        .map_or(0.0, |point| f64::from(point.second) + 1.0);
    Scale::across(0.0, last.max(report.run.duration_seconds).max(1.0))
}

/// Shades what is not measured, and marks since when telemetry is missing.
fn phases(report: &Report, x: &Scale) -> Markup {
    let mut stretches: Vec<(Phase, f64, f64)> = Vec::new();
    for point in &report.series {
        let second = f64::from(point.second);
        match stretches.last_mut() {
            Some((phase, _, end)) if *phase == point.phase => *end = second + 1.0,
            _ => stretches.push((point.phase, second, second + 1.0)),
        }
    }
    let missing = report
        .coverage
        .sources
        .iter()
        .filter(|source| !source.complete)
        .filter_map(|source| source.missing_since)
        .min_by(f64::total_cmp);
    html! {
        @for (phase, from, to) in stretches {
            @if phase != Phase::Measure { (plot::stretch(x, from, to, &phase.to_string())) }
        }
        @if let Some((_, to)) = report.run.window.map(|[from, to]| (from, to)) {
            @let end = report.series.last().map_or(to, |point| f64::from(point.second) + 1.0);
            @if end > to && report.series.last().is_some_and(|p| p.phase == Phase::Measure) {
                (plot::stretch(x, to, end, "drain"))
            }
        }
        @if let Some(at) = missing { (plot::upright(x, at, "telemetry missing")) }
    }
}

fn at_second(tick: f64) -> String {
    figures::quantity(tick, Some("1"), None)
}

fn latency(report: &Report, points: &[SecondPoint]) -> Markup {
    let all = || {
        points
            .iter()
            .flat_map(|p| [p.p50, p.p99, p.max])
            .flatten()
            .filter(|v| *v > 0.0)
    };
    let limits: Vec<f64> = limits(report);
    let least = all()
        .chain(limits.iter().copied())
        .fold(f64::INFINITY, f64::min);
    let most = all().chain(limits.iter().copied()).fold(0.0, f64::max);
    if most <= 0.0 {
        return html! {};
    }
    let x = time(report);
    let y = Scale::up_log(least * 0.8, most * 1.25);
    let path = |of: fn(&SecondPoint) -> Option<f64>| {
        plot::line(points.iter().map(|point| {
            of(point)
                .filter(|v| *v > 0.0)
                .map(|value| (x.at(f64::from(point.second) + 0.5), y.at(value)))
        }))
    };
    let drawing = html! {
        (phases(report, &x))
        (plot::axes(&x, &y, at_second, figures::seconds, "seconds since the start"))
        @for limit in &limits { (plot::level(&y, *limit, &format!("limit {}", figures::seconds(*limit)))) }
        path.line.c2 d=(path(|p| p.p99)) {}
        path.line.c1 d=(path(|p| p.p50)) {}
        path.line.c3 d=(path(|p| p.max)) {}
    };
    let said = format!(
        "Latency from when requests were due, per second of the run, on a logarithmic axis; between {} and {}.",
        figures::seconds(least),
        figures::seconds(all().fold(0.0, f64::max)),
    );
    let keys = [("line c1", "p50"), ("line c2", "p99"), ("line c3", "max")];
    figure(
        "latency",
        "Latency over time, from due",
        &said,
        &keys,
        &drawing,
    )
}

/// Limits on latency that objectives name, each once.
fn limits(report: &Report) -> Vec<f64> {
    let mut limits: Vec<f64> = report
        .objectives
        .iter()
        .filter_map(|objective| objective.limit_seconds)
        .filter(|limit| limit.is_finite() && *limit > 0.0)
        .collect();
    limits.sort_by(f64::total_cmp);
    limits.dedup();
    limits.truncate(4);
    limits
}

fn distribution(report: &Report) -> Markup {
    let bins: Vec<&Bin> = report
        .distribution
        .iter()
        .filter(|b| b.low > 0.0 && b.high > b.low)
        .collect();
    let (Some(low), Some(high)) = (
        bins.iter().map(|b| b.low).min_by(f64::total_cmp),
        bins.iter().map(|b| b.high).max_by(f64::total_cmp),
    ) else {
        return html! {};
    };
    let most = bins
        .iter()
        .map(|b| (b.expected + b.other).max(b.service_time))
        .max()
        .unwrap_or(0);
    let x = Scale::across_log(low, high);
    let y = Scale::up(most as f64);
    let stack = |from: fn(&Bin) -> u64, to: fn(&Bin) -> u64| -> Vec<Step> {
        let column = |b: &&Bin| {
            (
                x.at(b.low),
                x.at(b.high),
                y.at(from(b) as f64),
                y.at(to(b) as f64),
            )
        };
        bins.iter().map(column).collect()
    };
    let failed: u64 = bins.iter().map(|b| b.other).sum();
    let all: u64 = bins.iter().map(|b| b.expected + b.other).sum();
    let drawing = html! {
        (plot::axes(&x, &y, figures::seconds, |tick| figures::quantity(tick, None, None), "latency from due (logarithmic)"))
        path.area.bad d=(plot::steps(&stack(|b| b.expected, |b| b.expected + b.other))) {}
        path.area.c1 d=(plot::steps(&stack(|_| 0, |b| b.expected))) {}
        path.line.c4 d=(plot::stairs(&stack(|_| 0, |b| b.service_time))) {}
        @for limit in limits(report).iter().filter(|limit| x.holds(**limit)) {
            (plot::upright(&x, *limit, &format!("limit {}", figures::seconds(*limit))))
        }
    };
    let said = format!(
        "Distribution of {} latencies of the measured phase between {} and {}; {} of the requests did not end as expected.",
        figures::count(all),
        figures::seconds(low),
        figures::seconds(high),
        figures::count(failed),
    );
    let keys = [
        ("area c1", "as expected"),
        ("area bad", "other outcomes"),
        ("line c4", "service time, from sent"),
    ];
    figure(
        "distribution",
        "Latency distribution, measured phase",
        &said,
        &keys,
        &drawing,
    )
}

/// Per-second steps of a count.
fn counts(points: &[SecondPoint], x: &Scale, y: &Scale, of: fn(&SecondPoint) -> u64) -> Vec<Step> {
    let end = |place: usize, point: &SecondPoint| {
        points
            .get(place + 1)
            .map_or(f64::from(point.second) + 1.0, |next| f64::from(next.second))
    };
    points
        .iter()
        .enumerate()
        .map(|(place, p)| {
            let (from, to) = (x.at(f64::from(p.second)), x.at(end(place, p)));
            (from, to, plot::floor(), y.at(of(p) as f64))
        })
        .collect()
}

fn rate(report: &Report, points: &[SecondPoint]) -> Markup {
    let x = time(report);
    let most = points.iter().map(|p| p.due.max(p.done)).max().unwrap_or(0);
    let y = Scale::up(most as f64);
    let drawing = html! {
        (phases(report, &x))
        (plot::axes(&x, &y, at_second, |tick| figures::quantity(tick, None, None), "seconds since the start"))
        path.area.bad d=(plot::steps(&counts(points, &x, &y, |p| p.failed))) {}
        path.line.c2 d=(plot::stairs(&counts(points, &x, &y, |p| p.due))) {}
        path.line.c1 d=(plot::stairs(&counts(points, &x, &y, |p| p.done))) {}
    };
    let failed: u64 = report.series.iter().map(|p| p.failed).sum();
    let said = format!(
        "Requests due and done in each second, at most {} a second; {} failed in all.",
        figures::count(most),
        figures::count(failed),
    );
    let keys = [
        ("line c2", "due"),
        ("line c1", "done"),
        ("area bad", "of these failed"),
    ];
    figure("rate", "Requests a second", &said, &keys, &drawing)
}

fn in_flight(report: &Report, points: &[SecondPoint]) -> Markup {
    let x = time(report);
    let most = points.iter().map(|p| p.in_flight).max().unwrap_or(0);
    let y = Scale::up(most as f64);
    let steps = counts(points, &x, &y, |p| p.in_flight);
    let drawing = html! {
        (phases(report, &x))
        (plot::axes(&x, &y, at_second, |tick| figures::quantity(tick, None, None), "seconds since the start"))
        path.area.soft d=(plot::steps(&steps)) {}
        path.line.c1 d=(plot::stairs(&steps)) {}
    };
    let said = format!(
        "Most requests out at once in each second, at most {}.",
        figures::count(most)
    );
    figure("in-flight", "Requests in flight", &said, &[], &drawing)
}

fn saturation(report: &Report, series: &TimeSeries) -> Markup {
    let finite = || {
        series
            .points
            .iter()
            .filter(|(at, value)| at.is_finite() && value.is_finite())
    };
    let most = finite().map(|(_, value)| *value).fold(0.0, f64::max);
    let x = time(report);
    let y = Scale::up(most);
    let path = plot::line(
        series
            .points
            .iter()
            .map(|(at, v)| (at.is_finite() && v.is_finite()).then(|| (x.at(*at), y.at(*v)))),
    );
    let unit = series.unit.as_str();
    let place = report
        .saturation
        .iter()
        .position(|s| std::ptr::eq(s, series))
        .unwrap_or(0);
    let shown = |value: f64| figures::quantity(value, Some(unit), None);
    let drawing = html! {
        (phases(report, &x))
        (plot::axes(&x, &y, at_second, shown, "seconds since the start"))
        @if finite().next().is_none() {
            text.empty x=(WIDTH / 2.0) y=(HEIGHT / 2.0) { "no values" }
        }
        path.line.c1 d=(path) {}
    };
    let title = text::name(&series.name).replace('_', " ");
    let said = format!("{title} as the telemetry has it, at most {}.", shown(most));
    figure(&format!("saturation-{place}"), &title, &said, &[], &drawing)
}

/// The figures behind the charts, for reading and for screen readers.
fn table(series: &[SecondPoint]) -> Markup {
    let time =
        |value: Option<f64>| value.map_or_else(|| figures::NONE.to_owned(), figures::seconds);
    html! {
        details {
            summary { "The figures second by second" }
            div.scroll role="region" tabindex="0" aria-label="Figures second by second, scrollable" {
                table {
                    caption { "Each second of the run" }
                    thead {
                        tr {
                            @for head in ["Second", "Phase"] { th scope="col" { (head) } }
                            @for head in ["Due", "Done", "Failed", "In flight", "p50", "p99", "max"] {
                                th.n scope="col" { (head) }
                            }
                        }
                    }
                    tbody {
                        @for point in series.iter().take(MOST_ROWS) {
                            tr {
                                th scope="row" { (point.second) }
                                td { (point.phase.to_string()) }
                                @for count in [point.due, point.done, point.failed, point.in_flight] {
                                    td.n { (figures::count(count)) }
                                }
                                @for value in [point.p50, point.p99, point.max] { td.n { (time(value)) } }
                            }
                        }
                    }
                }
            }
            @if series.len() > MOST_ROWS { p { (series.len() - MOST_ROWS) " more seconds in report.json" } }
        }
    }
}
