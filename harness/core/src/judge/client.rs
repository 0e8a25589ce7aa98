//! What the generator's own rows of the measured phase say.

use super::RunRecord;
use crate::objective::{ClientFigure, ClientMetric, Limit, Time, Wanted};
use crate::observation::{Observation, Outcome};
use crate::record::sampled::Cell;
use crate::units::{Nanos, Phase};

/// Rows of the measured phase with this request name.
pub(super) fn rows<'a>(
    record: &RunRecord<'a>,
    request: Option<&str>,
) -> impl Iterator<Item = &'a Observation> {
    let requests = &record.scenario.spec.requests;
    let wanted: Vec<bool> = requests
        .iter()
        .map(|r| request.is_none_or(|name| name == r.name))
        .collect();
    record.rows.iter().filter(move |row| {
        row.phase == Phase::Measure && wanted.get(usize::from(row.request)) == Some(&true)
    })
}

/// Whether an outcome is one of those wanted.
pub(super) fn wants(wanted: Wanted, outcome: Outcome) -> bool {
    match wanted {
        Wanted::Expected => outcome == Outcome::Expected,
        Wanted::Failed => outcome != Outcome::Expected,
        Wanted::Any => true,
    }
}

/// A time of a request; `None` without a complete answer, which is slower than any limit.
pub(super) fn time(row: &Observation, time: Time) -> Option<Nanos> {
    if !row.outcome.answered() {
        return None;
    }
    match time {
        Time::Latency => Some(row.latency()),
        Time::ServiceTime => row.service_time(),
        Time::FirstByte => row.first_byte().map(|at| at.since(row.due)),
        Time::FirstEvent => row.first_event().map(|at| at.since(row.due)),
        Time::InterEvent => row.longest_gap(),
    }
}

/// Whether a row is within a limit.
pub(super) fn within(row: &Observation, limit: Limit) -> bool {
    time(row, limit.time).is_some_and(|took| {
        let took = took.as_duration();
        took < limit.at_most.0 || (!limit.strictly && took == limit.at_most.0)
    })
}

/// Whether one row is counted by a figure.
pub(super) fn counts(row: &Observation, figure: &ClientFigure) -> bool {
    match figure {
        ClientFigure::Count { outcome, limit } => {
            wants(*outcome, row.outcome) && limit.is_none_or(|limit| within(row, limit))
        }
        ClientFigure::Accuracy => row.correct == Some(true),
        ClientFigure::Rate { outcome } => wants(*outcome, row.outcome),
        ClientFigure::Quantile { .. } => true,
    }
}

/// Whether any answer held an event of a stream. Where none did, the requests are not taken for
/// streams, and nothing is known of their events.
pub(super) fn streamed(record: &RunRecord, metric: &ClientMetric) -> bool {
    rows(record, metric.request.as_deref()).any(|row| row.first_event().is_some())
}

/// The time that a figure is about.
pub(super) fn time_of(figure: &ClientFigure) -> Option<Time> {
    match figure {
        ClientFigure::Count { limit, .. } => limit.map(|limit| limit.time),
        ClientFigure::Quantile { time, .. } => Some(*time),
        ClientFigure::Accuracy | ClientFigure::Rate { .. } => None,
    }
}

/// Rows that the figure counts. For `accuracy` these are the correct answers.
pub(super) fn count(record: &RunRecord, metric: &ClientMetric) -> u64 {
    rows(record, metric.request.as_deref())
        .filter(|row| counts(row, &metric.figure))
        .count() as u64
}

/// Answers that had a truth to be compared with.
pub(super) fn compared(record: &RunRecord, metric: &ClientMetric) -> u64 {
    rows(record, metric.request.as_deref())
        .filter(|row| row.correct.is_some())
        .count() as u64
}

/// Whether a row counts for a rate.
pub(super) fn ended(row: &Observation, wanted: Wanted) -> bool {
    wants(wanted, row.outcome) && (wanted != Wanted::Any || row.outcome.answered())
}

/// Rows a second that end as wanted, of those that ended within the measured window. Of any outcome
/// means answers, right or wrong: requests that a dead service refused are no traffic it carried.
pub(super) fn rate(record: &RunRecord, metric: &ClientMetric, wanted: Wanted) -> Option<f64> {
    let (_, end) = record.facts.window()?;
    let ended = rows(record, metric.request.as_deref())
        .filter(|row| row.done <= end && ended(row, wanted))
        .count();
    a_second(record, ended as u64)
}

/// So many over the length of the measured window.
pub(super) fn a_second(record: &RunRecord, count: u64) -> Option<f64> {
    let (start, end) = record.facts.window()?;
    let length = end.since(start).as_secs_f64();
    (length > 0.0).then(|| count as f64 / length)
}

/// Requests of the measured phase, with a row or without.
pub(super) fn measured(record: &RunRecord) -> u64 {
    match super::tally::of(record) {
        Some(sampled) => sampled.measured().map(Cell::requests).sum(),
        None => rows(record, None).count() as u64,
    }
}

/// A time of a row in seconds; infinite without an answer.
pub(super) fn seconds_of(row: &Observation, which: Time) -> f64 {
    time(row, which).map_or(f64::INFINITY, Nanos::as_secs_f64)
}

/// Times of all rows in seconds; infinite for those without an answer.
pub(super) fn times(record: &RunRecord, metric: &ClientMetric, which: Time) -> Vec<f64> {
    rows(record, metric.request.as_deref())
        .map(|row| seconds_of(row, which))
        .collect()
}

/// The same in the order in which the requests were due.
pub(super) fn times_in_order(record: &RunRecord, metric: &ClientMetric, which: Time) -> Vec<f64> {
    let mut rows: Vec<&Observation> = rows(record, metric.request.as_deref()).collect();
    rows.sort_by_key(|row| (row.due, row.id));
    rows.into_iter()
        .map(|row| time(row, which).map_or(f64::INFINITY, Nanos::as_secs_f64))
        .collect()
}

/// The quantile `q` by nearest rank: the smallest value that a share `q` of all is at or under.
pub(super) fn nearest_rank(mut values: Vec<f64>, q: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (q * values.len() as f64 - 1e-9).ceil().max(1.0) as usize;
    values.get(rank - 1).copied()
}
