//! Budgets of time: `Timeslices` and `RatioTimeslices`.
//!
//! The measured phase is cut into slices of equal length from its start; what is left at its end is
//! shorter than a slice and belongs to none. A request belongs to the slice in which it was due. What
//! backends count is cut by their own clocks: counters at the scrapes at or before each boundary (the first
//! boundary is the first scrape inside the phase), lines and spans at the boundaries.
//!
//! A slice in which there is nothing to judge is neither good nor bad, it is unknown: a pass has to hold
//! with all such slices bad, a fail with all of them good.
//!
//! The mean of ratios is a weighted share of events. It is tested as a share of so many events as have the
//! same variance: n² / Σ 1/total over n slices, after Korn and Graubard (1998), "Confidence intervals for
//! proportions with small expected number of positive counts estimated from survey data".

use super::RunRecord;
use super::client;
use super::coverage::Survey;
use super::evaluate::{Said, backend};
use super::names::{grouped, length};
use super::reading::{Missing, Reading, one, series};
use super::stat;
use super::window;
use crate::objective::{Budgeting, ClientFigure, Indicator, Metric, Objective, Part};
use crate::observation::Observation;
use crate::query::Query;
use crate::report::model::Source;
use crate::units::{Nanos, Phase, UnixNanos};

/// Most slices of one objective: some backends are asked once for each.
const MOST: u64 = 1_000;
const SECOND: u64 = 1_000_000_000;

/// The slices of the measured phase.
struct Cut {
    start: Nanos,
    /// Length of one, nanoseconds.
    length: u64,
    count: u64,
    /// What is left at the end, nanoseconds.
    rest: u64,
}

fn cut(record: &RunRecord, slice: u64) -> Result<Cut, String> {
    let (start, end) = record
        .facts
        .window()
        .ok_or("the scenario has no measured phase")?;
    let phase = end.since(start).0;
    let count = phase / slice.max(1);
    if count == 0 {
        return Err("the measured phase is shorter than one slice".into());
    }
    if count > MOST {
        return Err(format!(
            "the measured phase has {} slices, at most {} are judged: choose longer ones",
            grouped(count),
            grouped(MOST)
        ));
    }
    Ok(Cut {
        start,
        length: slice,
        count,
        rest: phase - count * slice,
    })
}

/// What one metric is asked, slice by slice.
enum Ask {
    Client,
    /// One question with a value at each boundary.
    Range {
        query: Query,
        /// Milliseconds since the epoch of the first value.
        first: i64,
        step: i64,
        /// Slices whose boundaries can be asked about.
        count: u64,
    },
    /// A question a slice.
    Each(Vec<Query>),
}

fn ask(
    record: &RunRecord,
    survey: &Survey,
    cut: &Cut,
    metric: &Metric,
    at_edges: bool,
) -> Result<Ask, String> {
    let facts = record.facts;
    let text = metric.query().unwrap_or_default();
    match metric {
        Metric::Client(_) => Ok(Ask::Client),
        Metric::Prometheus(_) => {
            let edges = window::edges(record, survey)?;
            let interval = survey.scrapes.as_ref().map_or(1, |s| s.interval_ms);
            let step = cut.length / 1_000_000;
            if step < 2 * interval || !cut.length.is_multiple_of(1_000_000) {
                return Err(format!(
                    "a slice of {} is shorter than two scrapes of {interval} ms",
                    length(cut.length)
                ));
            }
            let until = super::names::until(facts).0 / 1_000_000;
            let first = u64::try_from(edges.first).unwrap_or(0);
            let count = cut.count.min(until.saturating_sub(first) / step);
            if count == 0 {
                return Err("no slice lies before the last scrape".into());
            }
            let from = if at_edges { first } else { first + step };
            let instant = |ms: u64| UnixNanos(ms.saturating_mul(1_000_000));
            Ok(Ask::Range {
                query: Query::PromRange {
                    query: text.replace("$window", &length(cut.length)),
                    start: instant(from),
                    end: instant(first + count * step),
                    step_ms: step,
                },
                first: i64::try_from(from).unwrap_or(i64::MAX),
                step: i64::try_from(step).unwrap_or(i64::MAX),
                count,
            })
        }
        Metric::Loki(_) => {
            let start = facts.wall(cut.start).0;
            let at = |slice: u64| UnixNanos(start + (slice + 1) * cut.length);
            let query = text.replace("$window", &length(cut.length));
            let each = (0..cut.count).map(|slice| Query::LokiInstant {
                query: query.clone(),
                time: at(slice),
            });
            Ok(Ask::Each(each.collect()))
        }
        Metric::Tempo(_) => {
            if !cut.length.is_multiple_of(SECOND) {
                return Err("spans are counted by whole seconds, and the slice is none".into());
            }
            let (start, end) = window::traces(record)?;
            let seconds = cut.length / SECOND;
            let query = text.replace("$window", &length(cut.length));
            let each =
                (0..cut.count.min((end - start) / seconds)).map(|slice| Query::TempoMetrics {
                    query: query.clone(),
                    start_s: start + slice * seconds,
                    end_s: start + (slice + 1) * seconds,
                });
            Ok(Ask::Each(each.collect()))
        }
    }
}

impl Ask {
    fn queries(&self) -> Vec<Query> {
        match self {
            Self::Client => Vec::new(),
            Self::Range { query, .. } => vec![query.clone()],
            Self::Each(queries) => queries.clone(),
        }
    }
}

/// The asks of an objective: of its value or part, and of its total.
fn asks(
    record: &RunRecord,
    survey: &Survey,
    cut: &Cut,
    objective: &Objective,
) -> Result<(Ask, Option<Ask>), String> {
    match &objective.indicator {
        Indicator::Threshold { metric, .. } => Ok((ask(record, survey, cut, metric, false)?, None)),
        Indicator::Ratio {
            part,
            total,
            counter,
            ..
        } => Ok((
            ask(record, survey, cut, part, *counter)?,
            Some(ask(record, survey, cut, total, *counter)?),
        )),
    }
}

/// All questions of a sliced objective; none when it cannot be asked.
pub(super) fn queries(
    record: &RunRecord,
    survey: &Survey,
    objective: &Objective,
    slice: u64,
) -> Vec<Query> {
    let Ok(asked) = cut(record, slice).and_then(|cut| asks(record, survey, &cut, objective)) else {
        return Vec::new();
    };
    let (first, second) = asked;
    let mut queries = first.queries();
    queries.extend(second.iter().flat_map(Ask::queries));
    queries
}

/// What is known of one slice.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Slice {
    Share { good: f64, total: f64 },
    Holds(bool),
}

/// What the evidence says of a sliced objective.
pub(super) fn said(record: &RunRecord, survey: &Survey, objective: &Objective) -> Reading<Said> {
    if let (Source::Client, Some(sampled)) = (objective.source(), super::tally::of(record)) {
        return Err(Missing::Because(format!(
            "slices of the client's requests need every row, and one in {} is kept: raise spec.record.rows",
            sampled.one_in
        )));
    }
    let budgeting = objective.budgeting;
    let slice = budgeting.slice().map_or(0, |s| s.nanos());
    let cut = cut(record, slice).map_err(Missing::Because)?;
    let slices = slices(record, survey, objective, &cut)?;
    let lacking = backend(objective.source())
        .and_then(|b| survey.lacking.get(&b))
        .copied()
        .unwrap_or(0);
    let of = format!("{} slices of {}", grouped(cut.count), length(cut.length));
    let rest = if cut.rest > 0 {
        format!("; the last {} belong to none", length(cut.rest))
    } else {
        String::new()
    };
    let of = of + &rest;
    match (budgeting, &objective.indicator) {
        (Budgeting::RatioTimeslices { .. }, Indicator::Ratio { target, .. }) => {
            mean(&slices, cut.count, lacking, *target, objective, &of)
        }
        (
            Budgeting::Timeslices {
                slice_target,
                target,
                ..
            },
            _,
        ) => {
            let targets = (target, slice_target);
            share(&slices, cut.count, lacking, targets, objective, &of)
        }
        _ => Err(Missing::Because("it cannot be sliced".into())),
    }
}

/// The share of good slices.
fn share(
    slices: &[Reading<Slice>],
    count: u64,
    lacking: u64,
    (target, slice_target): (f64, f64),
    objective: &Objective,
    of: &str,
) -> Reading<Said> {
    let (mut good, mut bad) = (0_u64, 0_u64);
    for slice in slices.iter().flatten() {
        let well = match slice {
            Slice::Holds(holds) => *holds,
            // As products: a quotient may fall short of what it is.
            Slice::Share { good, total } => *good >= slice_target * total - 1e-9,
        };
        good += u64::from(well);
        bad += u64::from(!well);
    }
    let unknown = count - good - bad;
    // Each request that the evidence lacks may have spoilt a slice.
    let spoilt = lacking.min(good);
    let alpha = 1.0 - objective.confidence;
    let how = format!("{of}{}", unknown_are(slices, unknown, spoilt));
    let said = |good| Said::Share {
        good,
        total: count,
        unseen: 0,
        how: how.clone(),
    };
    let met = stat::p_met((good - spoilt) as f64, count as f64, target) <= alpha;
    if met || unknown + spoilt == 0 {
        return Ok(said(good - spoilt));
    }
    if stat::p_missed((good + unknown) as f64, count as f64, target) < alpha {
        return Ok(said(good + unknown));
    }
    Err(Missing::Because(format!("{} of {how}", grouped(good))))
}

/// The mean of the slices' shares.
fn mean(
    slices: &[Reading<Slice>],
    count: u64,
    lacking: u64,
    target: f64,
    objective: &Objective,
    of: &str,
) -> Reading<Said> {
    let (mut sum, mut known, mut inverse, mut events) = (0.0, 0_u64, 0.0, 0.0);
    for slice in slices.iter().flatten() {
        if let Slice::Share { good, total } = slice {
            sum += good / total;
            inverse += 1.0 / total;
            events += total;
            known += 1;
        }
    }
    if known == 0 {
        return Err(Missing::Because(format!("none of {of} has an event")));
    }
    let unknown = count - known;
    let effective = (known as f64).powi(2) / inverse;
    // What the evidence lacks, as bad events of the smallest weight there is: by their own number.
    let spoilt = lacking as f64 / (events + lacking as f64);
    let low = (sum / count as f64 - spoilt).max(0.0);
    let high = (sum + unknown as f64) / count as f64;
    let total = effective.floor().max(1.0);
    let alpha = 1.0 - objective.confidence;
    let how = format!(
        "mean of {of}: {:.4} %, as sure as the share of {} events{}",
        sum / known as f64 * 100.0,
        grouped(total as u64),
        unknown_are(slices, unknown, lacking)
    );
    let said = |good: f64| {
        Ok(Said::Share {
            good: good as u64,
            total: total as u64,
            unseen: 0,
            how: how.clone(),
        })
    };
    // Whole events: rounded against what is to be shown.
    let (at_least, at_most) = ((low * total + 1e-9).floor(), (high * total - 1e-9).ceil());
    if stat::p_met(at_least, total, target) <= alpha {
        said(at_least)
    } else if stat::p_missed(at_most, total, target) < alpha {
        said(at_most)
    } else if stat::p_missed(at_least, total, target) >= alpha {
        said(at_least)
    } else {
        Err(Missing::Because(format!("undecided: {how}")))
    }
}

fn unknown_are(slices: &[Reading<Slice>], unknown: u64, lacking: u64) -> String {
    let mut text = String::new();
    if unknown > 0 {
        let why = slices.iter().find_map(|s| s.as_ref().err());
        let why = why.map_or_else(|| "nothing was asked of them".into(), ToString::to_string);
        text.push_str(&format!(
            "; {} of them hold no evidence ({why}): bad for a pass, good for a fail",
            grouped(unknown)
        ));
    }
    if lacking > 0 {
        text.push_str(&format!(
            "; {} requests that the evidence lacks are taken as bad for a pass",
            grouped(lacking)
        ));
    }
    text
}

/// What is known of each slice, in their order.
fn slices(
    record: &RunRecord,
    survey: &Survey,
    objective: &Objective,
    cut: &Cut,
) -> Reading<Vec<Reading<Slice>>> {
    let (first, second) = asks(record, survey, cut, objective).map_err(Missing::Because)?;
    if let Ask::Client = first {
        return Ok(of_client(record, objective, cut));
    }
    // As for the whole window: nothing is a number only where the evidence is known to be whole.
    let empty_as = objective.empty_as.filter(|_| {
        backend(objective.source())
            .and_then(|b| survey.source(b))
            .is_some_and(|s| s.complete && s.canary)
    });
    let or_empty = |reading: Reading<f64>| match (reading, empty_as) {
        (Err(Missing::Empty), Some(value)) => Ok(value),
        (reading, _) => reading,
    };
    let values = |ask: &Ask, counter: bool| values(record, ask, cut.count, counter, &or_empty);
    match &objective.indicator {
        Indicator::Threshold { op, value, .. } => Ok(values(&first, false)?
            .into_iter()
            .map(|read| {
                let read = read?;
                if objective.raw.is_some() && !(0.0..=1.0).contains(&read) {
                    return Err(Missing::Because(format!("{read} is no share")));
                }
                Ok(Slice::Holds(op.holds(read, *value)))
            })
            .collect()),
        Indicator::Ratio {
            part_is, counter, ..
        } => {
            let parts = values(&first, *counter)?;
            let strict = |reading| reading;
            let totals = match &second {
                Some(ask) => self::values(record, ask, cut.count, *counter, &strict)?,
                None => return Err(Missing::Because("the ratio has no total".into())),
            };
            Ok(parts
                .into_iter()
                .zip(totals)
                .map(|(part, total)| of_counts(*part_is, part?, total?))
                .collect())
        }
    }
}

fn of_counts(part_is: Part, part: f64, total: f64) -> Reading<Slice> {
    if total == 0.0 {
        return Err(Missing::Because("no event".into()));
    }
    if part < 0.0 || part > total {
        return Err(Missing::Because(format!("{part} of a total of {total}")));
    }
    let good = match part_is {
        Part::Good => part,
        Part::Bad => total - part,
    };
    Ok(Slice::Share { good, total })
}

/// The value of each slice: the growth of a counter, or what was answered for it.
fn values(
    record: &RunRecord,
    ask: &Ask,
    count: u64,
    counter: bool,
    or_empty: &dyn Fn(Reading<f64>) -> Reading<f64>,
) -> Reading<Vec<Reading<f64>>> {
    let count = usize::try_from(count).unwrap_or(0);
    let mut values: Vec<Reading<f64>> = match ask {
        Ask::Client => Vec::new(),
        Ask::Each(queries) => queries
            .iter()
            .map(|query| or_empty(one(record.answers, query)))
            .collect(),
        Ask::Range {
            query,
            first,
            step,
            count,
        } => {
            let all = series(record.answers, query)?;
            if all.len() > 1 {
                return Err(Missing::Because(format!(
                    "the answer has {} series where one number is needed; aggregate them, e.g. with sum(…)",
                    all.len()
                )));
            }
            let points = all.first().map(|s| s.points.as_slice()).unwrap_or_default();
            let at = |n: u64| {
                let time = first + i64::try_from(n).unwrap_or(i64::MAX) * step;
                let point = points.iter().find(|(at, _)| *at == time);
                let value = point.map(|(_, v)| *v).ok_or(Missing::Empty);
                or_empty(value).and_then(|v| {
                    if v.is_finite() {
                        Ok(v)
                    } else {
                        Err(Missing::Because(format!("it reads {v}")))
                    }
                })
            };
            if counter {
                (0..*count)
                    .map(|n| {
                        let (before, after) = (at(n)?, at(n + 1)?);
                        if after < before {
                            return Err(Missing::Because("the counter fell".into()));
                        }
                        Ok(after - before)
                    })
                    .collect()
            } else {
                (0..*count).map(at).collect()
            }
        }
    };
    // Slices that could not be asked about.
    values.resize(
        count,
        Err(Missing::Because("it lies after the last scrape".into())),
    );
    Ok(values)
}

fn of_client(record: &RunRecord, objective: &Objective, cut: &Cut) -> Vec<Reading<Slice>> {
    let count = usize::try_from(cut.count).unwrap_or(0);
    let mut rows: Vec<Vec<&Observation>> = vec![Vec::new(); count];
    for row in record.rows.iter().filter(|r| r.phase == Phase::Measure) {
        let slice = row.due.since(cut.start).0 / cut.length;
        if let Some(rows) = usize::try_from(slice).ok().and_then(|s| rows.get_mut(s)) {
            rows.push(row);
        }
    }
    rows.into_iter()
        .enumerate()
        .map(|(n, rows)| client_slice(record, objective, cut, n as u64, rows))
        .collect()
}

fn client_slice(
    record: &RunRecord,
    objective: &Objective,
    cut: &Cut,
    number: u64,
    rows: Vec<&Observation>,
) -> Reading<Slice> {
    let of_request = |request: &Option<String>| {
        let index = request.as_ref().map(|name| {
            let all = &record.scenario.spec.requests;
            all.iter().position(|r| r.name == *name)
        });
        let rows = rows.iter().copied();
        rows.filter(move |row| index.is_none_or(|index| index == Some(usize::from(row.request))))
    };
    match &objective.indicator {
        Indicator::Ratio {
            part_is,
            part: Metric::Client(part),
            total: Metric::Client(total),
            ..
        } => {
            let all = of_request(&total.request).filter(|row| match total.figure {
                ClientFigure::Accuracy => row.correct.is_some(),
                _ => true,
            });
            let all = all.count() as f64;
            let counted = of_request(&part.request).filter(|row| client::counts(row, &part.figure));
            of_counts(*part_is, counted.count() as f64, all)
        }
        Indicator::Threshold {
            metric: Metric::Client(metric),
            op,
            value,
        } => {
            let rows: Vec<&Observation> = of_request(&metric.request).collect();
            let read = match &metric.figure {
                ClientFigure::Quantile { time, q } => {
                    let times = rows.iter().map(|row| {
                        client::time(row, *time).map_or(f64::INFINITY, Nanos::as_secs_f64)
                    });
                    client::nearest_rank(times.collect(), *q)
                }
                ClientFigure::Accuracy => {
                    let all = rows.iter().filter(|r| r.correct.is_some()).count();
                    let right = rows.iter().filter(|r| r.correct == Some(true)).count();
                    (all > 0).then(|| right as f64 / all as f64)
                }
                ClientFigure::Rate { outcome } => {
                    let end = Nanos(cut.start.0 + (number + 1) * cut.length);
                    let begin = Nanos(end.0 - cut.length);
                    let all = record.rows.iter().filter(|row| {
                        row.phase == Phase::Measure && row.done > begin && row.done <= end
                    });
                    let index = metric.request.as_ref().map(|name| {
                        let requests = &record.scenario.spec.requests;
                        requests.iter().position(|r| r.name == *name)
                    });
                    let wanted = all.filter(|row| {
                        index.is_none_or(|i| i == Some(usize::from(row.request)))
                            && client::ended(row, *outcome)
                    });
                    Some(wanted.count() as f64 / (cut.length as f64 / 1e9))
                }
                ClientFigure::Count { .. } => None,
            };
            let read = read.ok_or_else(|| Missing::Because("no event".into()))?;
            Ok(Slice::Holds(op.holds(read, *value)))
        }
        _ => Err(Missing::Because(
            "the two sides come from different sources".into(),
        )),
    }
}
