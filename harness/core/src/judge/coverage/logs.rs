//! Loki: the request log's lines against the client's count, and one request of the run by name.

use super::{Gaps, Survey, clock, floor, since_start, source};
use crate::judge::RunRecord;
use crate::judge::names::{grouped, request_log, until};
use crate::judge::reading::{Missing, Reading, json};
use crate::observation::Observation;
use crate::query::{Backend, Query};
use crate::report::model::SourceCoverage;
use crate::units::Phase;

/// All lines of the request log since the load began.
fn count_query(record: &RunRecord) -> Query {
    let until = until(record.facts);
    // Rounded down, so that no line from before the load is counted.
    let ms = until.0.saturating_sub(record.facts.started.0) / 1_000_000;
    let log = request_log(record);
    Query::LokiInstant {
        query: format!("sum(count_over_time({log} [{}ms]))", ms.max(1)),
        time: until,
    }
}

/// The newest line of the request log.
fn newest_query(record: &RunRecord) -> Query {
    Query::LokiLines {
        query: request_log(record),
        start: record.facts.started,
        end: until(record.facts),
        limit: 1,
        backward: true,
    }
}

/// The request that must be found by its trace id: the last answered one of the measured phase.
/// A wrong tenant or another environment answers 200 and does not hold it.
fn canary<'a>(record: &RunRecord<'a>) -> Option<&'a Observation> {
    let answered = || record.rows.iter().filter(|r| r.outcome.answered());
    let measured = answered().filter(|r| r.phase == Phase::Measure);
    measured
        .max_by_key(|r| (r.sampled, r.due, r.id))
        .or_else(|| answered().max_by_key(|r| (r.sampled, r.due, r.id)))
}

fn canary_query(record: &RunRecord) -> Option<Query> {
    canary(record).map(|row| Query::LokiLines {
        query: format!("{} | trace_id=\"{}\"", request_log(record), row.trace),
        start: record.facts.started,
        end: until(record.facts),
        limit: 1,
        backward: true,
    })
}

pub(super) fn queries(record: &RunRecord) -> Vec<Query> {
    let mut queries = vec![count_query(record), newest_query(record)];
    queries.extend(canary_query(record));
    queries
}

pub(super) fn survey(record: &RunRecord, survey: &mut Survey) -> SourceCoverage {
    let limit = record.scenario.spec.validity.log_coverage.0;
    let (answered, sent) = (survey.coverage.answered, survey.coverage.sent);
    let mut gaps = Gaps::default();
    clock::of_backend(record, Backend::Loki, &mut gaps, survey);
    let found = match crate::judge::reading::count(record.answers, &count_query(record)) {
        Ok(found) => Some(found),
        // No matching line is a proper empty answer; here, and only here, that is the count 0.
        Err(Missing::Empty) => Some(0),
        Err(missing) => {
            gaps.add(format!("the request log could not be counted: {missing}"));
            None
        }
    };
    if let Some(found) = found {
        survey.counted.insert(Backend::Loki, found);
        survey
            .lacking
            .insert(Backend::Loki, answered.saturating_sub(found));
        if found < floor(limit, answered) {
            gaps.add(format!(
                "the request log holds {} lines of {} answered requests",
                grouped(found),
                grouped(answered)
            ));
            // Only the newest line tells since when; without any, nothing ever arrived.
            match newest(record) {
                Ok(Some(at)) => gaps.since(since_start(record, at)),
                Ok(None) => gaps.since(0.0),
                Err(_) => {}
            }
        }
        let foreign = record.scenario.spec.validity.foreign_traffic.0;
        if found as f64 > sent as f64 * (1.0 + foreign) {
            gaps.add(format!(
                "the request log holds {} lines of {} requests sent: lines count twice (two collectors?) or are not ours",
                grouped(found),
                grouped(sent)
            ));
        }
    }
    let canary = match canary_query(record) {
        None => {
            gaps.add("no request was answered, so there is nothing to find");
            false
        }
        Some(query) => match newest_line(record, &query) {
            Ok(Some(at)) => {
                if let Some(row) = canary(record) {
                    clock::of_line(record, row, at, &mut gaps, survey);
                }
                true
            }
            Ok(None) => {
                gaps.add("the run's own last request is not in the log (wrong tenant, or trace_id is not kept?)");
                false
            }
            Err(missing) => {
                gaps.add(format!(
                    "the run's own last request could not be looked for: {missing}"
                ));
                false
            }
        },
    };
    let fine = format!(
        "the request log holds {} lines of {} sent and {} answered requests, the last one among them",
        grouped(found.unwrap_or(0)),
        grouped(sent),
        grouped(answered),
    );
    source(Backend::Loki, answered, found, limit, canary, gaps, fine)
}

fn newest(record: &RunRecord) -> Reading<Option<u64>> {
    newest_line(record, &newest_query(record))
}

/// Time of the newest line of an answer with log lines.
fn newest_line(record: &RunRecord, query: &Query) -> Reading<Option<u64>> {
    let value = json(record.answers, query)?;
    let data = value.get("data");
    let streams = data
        .filter(|d| d.get("resultType").and_then(|t| t.as_str()) == Some("streams"))
        .and_then(|d| d.get("result")?.as_array())
        .ok_or_else(|| Missing::Because("loki's answer holds no log lines".into()))?;
    Ok(streams
        .iter()
        .filter_map(|s| s.get("values")?.as_array())
        .flatten()
        .filter_map(|line| line.get(0)?.as_str()?.parse::<u64>().ok())
        .max())
}
