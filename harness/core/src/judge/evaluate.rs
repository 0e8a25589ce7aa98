//! What the evidence says of one objective: its queries, and the numbers in their answers.

use super::RunRecord;
use super::buckets;
use super::client;
use super::coverage::Survey;
use super::exact;
use super::names::{grouped, seconds};
use super::range;
use super::reading::{Missing, Reading, count, one, series, whole};
use super::slices;
use super::tally;
use super::value;
use super::window::{self, Edges};
use crate::objective::{ClientFigure, ClientMetric, Indicator, Metric, Objective, Part, Time};
use crate::query::{Backend, Query};
use crate::record::sampled::Sampled;
use crate::report::model::Source;

/// The questions of one objective.
enum Plan {
    /// None: the rows say it.
    Client,
    /// Counters at two scrapes, and between them for resets.
    Edges(Edges, Box<[Side; 2]>),
    /// Part and total, each a count over the window, and the window in words.
    Counts(Box<[Query; 2]>, String),
    /// One value, and the window in words.
    Value(Query, String),
}

/// One side of a counter ratio.
struct Side {
    first: Query,
    last: Query,
    between: Query,
}

/// What the evidence says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// So many good of so many, to be tested against a share.
    Share {
        good: u64,
        total: u64,
        /// Events that may have been lost in a restart, or that the evidence lacks; a pass must hold with all of them bad.
        unseen: u64,
        /// How they were counted, a clause for the reason.
        how: String,
    },
    /// One value, to be compared with a limit.
    Value {
        value: f64,
        how: String,
        /// Why it decides nothing, although it is known.
        open: Option<String>,
    },
    /// A quantile of the client's times: tested as a share of times within the limit. No value when
    /// it falls among requests without an answer.
    Quantile {
        good: u64,
        total: u64,
        value: Option<f64>,
    },
}

/// The backend that answers for a source.
pub(super) fn backend(source: Source) -> Option<Backend> {
    match source {
        Source::Client => None,
        Source::Prometheus => Some(Backend::Prometheus),
        Source::Loki => Some(Backend::Loki),
        Source::Tempo => Some(Backend::Tempo),
    }
}

/// All questions of an objective; none when it cannot be asked (and [`said`] tells why).
pub(super) fn queries(record: &RunRecord, survey: &Survey, objective: &Objective) -> Vec<Query> {
    if let Some(slice) = objective.budgeting.slice() {
        return match not_read(survey, objective) {
            Some(_) => Vec::new(),
            None => slices::queries(record, survey, objective, slice.nanos()),
        };
    }
    match plan(record, survey, objective) {
        Ok(Plan::Edges(_, sides)) => sides
            .into_iter()
            .flat_map(|s| [s.first, s.last, s.between])
            .collect(),
        Ok(Plan::Counts(sides, _)) => sides.into_iter().collect(),
        Ok(Plan::Value(query, _)) => {
            let buckets = buckets::question(&query);
            std::iter::once(query).chain(buckets).collect()
        }
        Ok(Plan::Client) | Err(_) => Vec::new(),
    }
}

/// Why an objective's backend cannot be asked at all.
fn not_read(survey: &Survey, objective: &Objective) -> Option<String> {
    let backend = backend(objective.source()).filter(|b| survey.source(*b).is_none())?;
    Some(format!("{backend} was not read in this run"))
}

fn plan(record: &RunRecord, survey: &Survey, objective: &Objective) -> Result<Plan, String> {
    if let Some(why) = not_read(survey, objective) {
        return Err(why);
    }
    match &objective.indicator {
        Indicator::Threshold { metric, .. } => match asked_once(record, survey, metric)? {
            Some((query, window)) => Ok(Plan::Value(query, window)),
            None => Ok(Plan::Client),
        },
        Indicator::Ratio {
            part,
            total,
            counter: true,
            ..
        } if matches!(total, Metric::Prometheus(_)) => {
            let edges = window::edges(record, survey)?;
            let side = |metric: &Metric| side(metric, edges);
            Ok(Plan::Edges(edges, Box::new([side(part), side(total)])))
        }
        Indicator::Ratio { part, total, .. }
            if exact::counter(part).is_some() && exact::counter(total).is_some() =>
        {
            let edges = window::edges(record, survey)?;
            let side =
                |metric: &Metric| side(&exact::counter(metric).unwrap_or(metric.clone()), edges);
            Ok(Plan::Edges(edges, Box::new([side(part), side(total)])))
        }
        Indicator::Ratio { part, total, .. } => {
            let sides = (
                asked_once(record, survey, part)?,
                asked_once(record, survey, total)?,
            );
            match sides {
                (Some((part, window)), Some((total, _))) => {
                    Ok(Plan::Counts(Box::new([part, total]), window))
                }
                _ => Ok(Plan::Client),
            }
        }
    }
}

fn side(metric: &Metric, edges: Edges) -> Side {
    let query = metric.query().unwrap_or_default().to_owned();
    let at = |time| Query::PromInstant {
        query: query.clone(),
        time,
    };
    Side {
        first: at(edges.first_at()),
        last: at(edges.last_at()),
        between: Query::PromRange {
            query: query.clone(),
            start: edges.first_at(),
            end: edges.last_at(),
            step_ms: edges.step,
        },
    }
}

/// The question for a metric evaluated once over the window; `None` for the client's own.
fn asked_once(
    record: &RunRecord,
    survey: &Survey,
    metric: &Metric,
) -> Result<Option<(Query, String)>, String> {
    Ok(match metric {
        Metric::Client(_) => None,
        Metric::Prometheus(query) => {
            let (time, length) = window::metrics(record, window::edges(record, survey)?)?;
            covers(query, &length)?;
            let query = query.replace("$window", &length);
            Some((Query::PromInstant { query, time }, length))
        }
        Metric::Loki(query) => {
            let (time, length) = window::logs(record)?;
            covers(query, &length)?;
            let query = query.replace("$window", &length);
            Some((Query::LokiInstant { query, time }, length))
        }
        Metric::Tempo(query) => {
            let (start_s, end_s) = window::traces(record)?;
            let length = format!("{}s", end_s - start_s);
            let query = query.replace("$window", &length);
            Some((
                Query::TempoMetrics {
                    query,
                    start_s,
                    end_s,
                },
                length,
            ))
        }
    })
}

fn covers(query: &str, length: &str) -> Result<(), String> {
    let length = range::duration(length).unwrap_or(0.0);
    range::covers(query, length).map_err(|why| format!("the query does not look at the run: {why}"))
}

/// What the evidence says of an objective, or why it says nothing.
pub(super) fn said(record: &RunRecord, survey: &Survey, objective: &Objective) -> Reading<Said> {
    if objective.budgeting.slice().is_some() {
        return match not_read(survey, objective) {
            Some(why) => Err(Missing::Because(why)),
            None => slices::said(record, survey, objective),
        };
    }
    let plan = plan(record, survey, objective).map_err(Missing::Because)?;
    // `empty-as` needs whole evidence: an empty answer of a backend that lacks the run means nothing.
    let empty_as = objective.empty_as.filter(|_| {
        backend(objective.source())
            .and_then(|b| survey.source(b))
            .is_some_and(|s| s.complete && s.canary)
    });
    let or_empty = |reading: Reading<f64>| match (reading, empty_as) {
        (Err(Missing::Empty), Some(value)) => Ok(value),
        (reading, _) => reading,
    };
    match plan {
        Plan::Client => client_said(record, objective),
        Plan::Value(query, window) => {
            let value = or_empty(one(record.answers, &query)).map_err(explain(objective))?;
            if objective.raw.is_some() && !(0.0..=1.0).contains(&value) {
                return Err(Missing::Because(format!(
                    "{value} is no share: a ratio lies between 0 and 1 (is it in per cent?)"
                )));
            }
            value::said(record, survey, objective, &query, value, &window)
        }
        Plan::Counts(sides, window) => {
            let part = or_empty(one(record.answers, &sides[0])).map_err(explain(objective))?;
            let part = whole(part)?;
            let total = count(record.answers, &sides[1]).map_err(of_total)?;
            let unseen = not_shown(survey, objective);
            let mut how = format!("counted over {window}");
            if unseen > 0 {
                how.push_str(&format!(
                    "; {} requests that the evidence lacks are taken as bad for a pass",
                    grouped(unseen)
                ));
            }
            share(objective, part, total, unseen, how)
        }
        Plan::Edges(edges, sides) => {
            edges_said(record, survey, objective, edges, &sides, &or_empty)
        }
    }
}

/// Says what to write where an empty answer is expected.
fn explain(objective: &Objective) -> impl Fn(Missing) -> Missing {
    let hint = if objective.empty_as.is_some() {
        "harness/empty-as is not used, since the evidence is not whole"
    } else {
        "if empty means none, say so with harness/empty-as or, in PromQL, `or 0 * sum(total)`"
    };
    move |missing| match missing {
        Missing::Empty => Missing::Because(format!("the answer is empty; {hint}")),
        because => because,
    }
}

fn of_total(missing: Missing) -> Missing {
    match missing {
        Missing::Empty => Missing::Because("the total is empty: no event was counted".into()),
        Missing::Because(why) => Missing::Because(format!("the total is unknown: {why}")),
    }
}

/// Requests of the run that the objective's backend does not count, though it holds enough of them to be
/// judged by. What comes last or not at all is likely the slowest, so that a share of what is there
/// flatters.
pub(super) fn not_shown(survey: &Survey, objective: &Objective) -> u64 {
    backend(objective.source())
        .and_then(|backend| survey.lacking.get(&backend))
        .copied()
        .unwrap_or(0)
}

/// Good and total from the part that was counted, whichever that is.
fn share(objective: &Objective, part: u64, total: u64, unseen: u64, how: String) -> Reading<Said> {
    if part > total {
        return Err(Missing::Because(format!(
            "{} of a total of {}: the two queries do not count the same events",
            grouped(part),
            grouped(total)
        )));
    }
    let good = match objective.indicator {
        Indicator::Ratio {
            part_is: Part::Bad, ..
        } => total - part,
        _ => part,
    };
    Ok(Said::Share {
        good,
        total,
        unseen,
        how,
    })
}

fn edges_said(
    record: &RunRecord,
    survey: &Survey,
    objective: &Objective,
    edges: Edges,
    sides: &[Side; 2],
    or_empty: &dyn Fn(Reading<f64>) -> Reading<f64>,
) -> Reading<Said> {
    let strict = |reading| reading;
    let part = increase(record, survey, edges, &sides[0], or_empty).map_err(explain(objective))?;
    let total = increase(record, survey, edges, &sides[1], &strict).map_err(of_total)?;
    let from = record.facts.started.0;
    let clock = |at: u64| seconds((at.saturating_sub(from)) as f64 / 1e9);
    let client = record
        .rows
        .iter()
        .filter(|r| r.outcome.answered())
        .map(|r| record.facts.wall(r.done))
        .filter(|at| *at > edges.first_at() && *at <= edges.last_at())
        .count() as u64;
    let sampled = tally::of(record);
    let client = client.saturating_mul(sampled.map_or(1, |sampled| sampled.one_in));
    let mut how = format!(
        "counters read at the scrapes {} and {}, between which the client had {}{} answers",
        clock(edges.first_at().0),
        clock(edges.last_at().0),
        if sampled.is_some() { "about " } else { "" },
        grouped(client)
    );
    let reset = part.1 || total.1;
    let unseen = if reset {
        let found = survey
            .counted
            .get(&Backend::Prometheus)
            .copied()
            .unwrap_or(0);
        survey.coverage.sent.saturating_sub(found)
    } else {
        0
    };
    if reset {
        how.push_str(&format!(
            "; the target restarted in between, and {} requests that no counter shows are taken as bad for a pass",
            grouped(unseen)
        ));
    }
    share(objective, part.0, total.0, unseen, how)
}

/// How much a counter grew between the edges, and whether it was reset on the way.
fn increase(
    record: &RunRecord,
    survey: &Survey,
    edges: Edges,
    side: &Side,
    or_empty: &dyn Fn(Reading<f64>) -> Reading<f64>,
) -> Reading<(u64, bool)> {
    let (at_first, at_last) = (
        one(record.answers, &side.first),
        one(record.answers, &side.last),
    );
    let never_there = at_first == Err(Missing::Empty) && at_last == Err(Missing::Empty);
    let (first, last) = (or_empty(at_first)?, or_empty(at_last)?);
    if let Some(negative) = [first, last].into_iter().find(|v| *v < 0.0) {
        return Err(Missing::Because(format!(
            "{negative} is negative, so it is no count"
        )));
    }
    let between = series(record.answers, &side.between)?;
    if between.is_empty() && !never_there {
        return Err(Missing::Because(
            "there is a value at an edge of the window and none between: the answer is not whole"
                .into(),
        ));
    }
    if between.len() > 1 {
        return Err(Missing::Because(format!(
            "the answer has {} series where one number is needed; aggregate them, e.g. with sum(…)",
            between.len()
        )));
    }
    let scrapes = survey.scrapes.as_ref();
    let restarts: Vec<i64> = scrapes
        .iter()
        .flat_map(|s| s.restarts.iter().copied())
        .filter(|at| *at > edges.first && *at <= edges.last)
        .collect();
    let restarted = !restarts.is_empty();
    let mut grown = 0.0;
    let mut previous = (edges.first, first);
    let mut fell = false;
    let path = between.iter().flat_map(|s| s.points.iter().copied());
    for (at, value) in path.chain([(edges.last, last)]) {
        if !value.is_finite() || value < 0.0 {
            return Err(Missing::Because(format!(
                "the counter reads {value} on the way"
            )));
        }
        fell |= value < previous.1;
        // A new process counts from 0, also where it soon has more than the one before.
        let anew = restarts.iter().any(|r| *r > previous.0 && *r <= at);
        let from = if anew || value < previous.1 {
            0.0
        } else {
            previous.1
        };
        grown += value - from;
        previous = (at, value);
    }
    let instances = scrapes.map_or(0, |s| s.instances.len());
    if (fell || restarted) && instances != 1 {
        return Err(Missing::Because(format!(
            "a counter fell, and with {instances} instances summed up it cannot be told by how much"
        )));
    }
    if fell && !restarted {
        return Err(Missing::Because(
            "it fell, although the target did not restart: it is not a counter".into(),
        ));
    }
    whole(grown).map(|grown| (grown, fell || restarted))
}

/// How the client's requests are counted, a clause for the reason.
const EVERY: &str = "every request due in the measured phase";
const COMPARED: &str = "every answer with a truth to compare with";
const WITHIN: &str = "answers of the measured phase that came within it";

fn client_said(record: &RunRecord, objective: &Objective) -> Reading<Said> {
    match tally::of(record) {
        Some(sampled) => sampled_said(record, sampled, objective),
        None => rows_said(record, objective),
    }
}

/// What was counted of all requests as they were recorded, where the rows are a sample of them.
fn sampled_said(record: &RunRecord, sampled: &Sampled, objective: &Objective) -> Reading<Said> {
    let of_stream = |metric: &ClientMetric| {
        let asked = client::time_of(&metric.figure).is_some_and(Time::of_stream);
        asked && !tally::streamed(record, sampled, metric)
    };
    let accuracy = |metric: &ClientMetric| {
        Ok(Said::Share {
            good: tally::count(record, sampled, metric)?,
            total: tally::compared(record, sampled, metric),
            unseen: 0,
            how: COMPARED.into(),
        })
    };
    match &objective.indicator {
        Indicator::Ratio {
            part: Metric::Client(metric),
            ..
        }
        | Indicator::Threshold {
            metric: Metric::Client(metric),
            ..
        } if of_stream(metric) => Err(Missing::Because(NO_STREAM.into())),
        Indicator::Ratio {
            part: Metric::Client(part),
            total: Metric::Client(total),
            ..
        } => match total.figure {
            ClientFigure::Accuracy => accuracy(part),
            _ => share(
                objective,
                tally::count(record, sampled, part)?,
                tally::count(record, sampled, total)?,
                0,
                EVERY.into(),
            ),
        },
        Indicator::Threshold {
            metric: Metric::Client(metric),
            op,
            value,
        } => match &metric.figure {
            ClientFigure::Quantile { time, q } => Ok(Said::Quantile {
                good: tally::within(record, sampled, metric, (*time, *op, *value))?,
                total: tally::all(record, sampled, metric),
                value: client::nearest_rank(client::times(record, metric, *time), *q)
                    .filter(|v| v.is_finite()),
            }),
            ClientFigure::Accuracy => accuracy(metric),
            ClientFigure::Rate { outcome } => {
                let ended = tally::ended(record, sampled, metric, *outcome)?;
                Ok(Said::Value {
                    value: client::a_second(record, ended).ok_or_else(no_length)?,
                    how: WITHIN.into(),
                    open: None,
                })
            }
            ClientFigure::Count { .. } => Err(Missing::Because("a count is no value".into())),
        },
        _ => Err(Missing::Because(
            "the two sides come from different sources".into(),
        )),
    }
}

const NO_STREAM: &str =
    "no answer held an event of a stream: is it `text/event-stream`, or has the request `stream`?";

fn no_length() -> Missing {
    Missing::Because("the measured phase has no length".into())
}

fn rows_said(record: &RunRecord, objective: &Objective) -> Reading<Said> {
    if let Indicator::Ratio { part: metric, .. } | Indicator::Threshold { metric, .. } =
        &objective.indicator
        && let Metric::Client(metric) = metric
        && client::time_of(&metric.figure).is_some_and(Time::of_stream)
        && !client::streamed(record, metric)
    {
        return Err(Missing::Because(NO_STREAM.into()));
    }
    match &objective.indicator {
        Indicator::Ratio {
            part: Metric::Client(part),
            total: Metric::Client(total),
            ..
        } if total.figure == ClientFigure::Accuracy => Ok(Said::Share {
            good: client::count(record, part),
            total: client::compared(record, total),
            unseen: 0,
            how: COMPARED.into(),
        }),
        Indicator::Ratio {
            part: Metric::Client(part),
            total: Metric::Client(total),
            ..
        } => share(
            objective,
            client::count(record, part),
            client::count(record, total),
            0,
            EVERY.into(),
        ),
        Indicator::Threshold {
            metric: Metric::Client(metric),
            op,
            value,
        } => match &metric.figure {
            ClientFigure::Quantile { time, q } => {
                let times = client::times(record, metric, *time);
                let good = times.iter().filter(|t| op.holds(**t, *value)).count() as u64;
                Ok(Said::Quantile {
                    good,
                    total: times.len() as u64,
                    value: client::nearest_rank(times, *q).filter(|v| v.is_finite()),
                })
            }
            ClientFigure::Accuracy => Ok(Said::Share {
                good: client::count(record, metric),
                total: client::compared(record, metric),
                unseen: 0,
                how: COMPARED.into(),
            }),
            ClientFigure::Rate { outcome } => client::rate(record, metric, *outcome)
                .map(|value| Said::Value {
                    value,
                    how: WITHIN.into(),
                    open: None,
                })
                .ok_or_else(no_length),
            ClientFigure::Count { .. } => Err(Missing::Because("a count is no value".into())),
        },
        _ => Err(Missing::Because(
            "the two sides come from different sources".into(),
        )),
    }
}
