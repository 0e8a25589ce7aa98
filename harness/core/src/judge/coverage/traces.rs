//! Tempo: the traces of the run by their ids, each with the service's span under ours.

use super::{Gaps, Survey, clock, floor, source};
use crate::judge::RunRecord;
use crate::judge::decide::percent;
use crate::judge::names::{grouped, quoted, until};
use crate::judge::reading::{Missing, count};
use crate::judge::spans::{Span, spans};
use crate::judge::stat;
use crate::judge::tally;
use crate::observation::Observation;
use crate::query::{Backend, Query};
use crate::report::model::{Source, SourceCoverage};

/// Most traces looked up one by one; of more, an even sample of so many, with the first and the last.
const LOOKED_FOR: usize = 500;

/// Confidence of what a sample of traces shows of all.
const SURE: f64 = 0.95;

/// Rows whose traces must be there, by due: answered, and asked to be recorded.
fn recorded<'a>(record: &RunRecord<'a>) -> Vec<&'a Observation> {
    let mut rows: Vec<&Observation> = record
        .rows
        .iter()
        .filter(|r| r.sampled && r.outcome.answered())
        .collect();
    rows.sort_by_key(|r| (r.due, r.id));
    rows
}

/// How many there are, with a row or without.
fn recorded_in_all(record: &RunRecord) -> u64 {
    match tally::of(record) {
        Some(sampled) => sampled.cells.iter().map(|cell| cell.traced).sum(),
        None => recorded(record).len() as u64,
    }
}

/// Those looked for: all up to [`LOOKED_FOR`], else every n-th.
fn looked_for<'a>(record: &RunRecord<'a>) -> Vec<&'a Observation> {
    let rows = recorded(record);
    if rows.len() <= LOOKED_FOR {
        return rows;
    }
    (0..LOOKED_FOR)
        .map(|i| rows[i * (rows.len() - 1) / (LOOKED_FOR - 1)])
        .collect()
}

/// The service's span under the client span of this request.
fn server_span(record: &RunRecord, row: &Observation) -> Result<Span, Missing> {
    let all = spans(record.answers, row.trace)?;
    all.into_iter()
        .find(|s| s.service == record.facts.service && s.parent == Some(row.span))
        .ok_or(Missing::Empty)
}

/// Counts the service's server spans as objectives over traces would: a trace can be found by id long
/// before metrics over traces see it.
///
/// Asked from the second before the load: a Tempo leaves out blocks whose last span ends in the very
/// second that is asked from, as those of a load that has just begun may.
fn count_query(record: &RunRecord) -> Query {
    Query::TempoMetrics {
        query: format!(
            "{{resource.service.name={} && kind=server}} | count_over_time()",
            quoted(&record.facts.service)
        ),
        start_s: record.facts.started.0.saturating_sub(1) / 1_000_000_000,
        end_s: until(record.facts).0.div_ceil(1_000_000_000),
    }
}

/// Whether any objective reads metrics over traces. Without one, a Tempo that cannot answer them (2.x
/// without local blocks) still serves to look requests up.
fn metrics_needed(record: &RunRecord) -> bool {
    record
        .objectives
        .iter()
        .any(|o| o.source() == Source::Tempo)
}

/// Most server spans that the service may have for what was sent. Requests that did not ask to be
/// recorded may be recorded all the same, hence all that were sent.
fn spans_at_most(record: &RunRecord, survey: &Survey) -> f64 {
    let foreign = record.scenario.spec.validity.foreign_traffic.0;
    survey.coverage.sent as f64 * (1.0 + foreign)
}

/// Traces already found are not asked for again.
pub(super) fn queries(record: &RunRecord) -> Vec<Query> {
    let mut queries: Vec<Query> = looked_for(record)
        .into_iter()
        .filter(|row| server_span(record, row).is_err())
        .map(|row| Query::TempoTrace { trace: row.trace })
        .collect();
    if metrics_needed(record) {
        queries.push(count_query(record));
    }
    queries
}

pub(super) fn survey(record: &RunRecord, survey: &mut Survey) -> SourceCoverage {
    let limit = record.scenario.spec.validity.trace_coverage.0;
    let rows = looked_for(record);
    let mut gaps = Gaps::default();
    clock::of_backend(record, Backend::Tempo, &mut gaps, survey);
    let mut found = 0_u64;
    let mut offsets = Vec::new();
    let mut first_lost = None;
    let mut trouble = None;
    for row in &rows {
        match server_span(record, row) {
            Ok(span) => {
                found += 1;
                first_lost = None;
                survey.versions.extend(span.version.clone());
                offsets.extend(offset(record, row, &span));
            }
            Err(missing) => {
                first_lost = first_lost.or(Some(row.due));
                if let Missing::Because(why) = missing {
                    trouble = trouble.or(Some(why));
                }
            }
        }
    }
    offsets.sort_by(f64::total_cmp);
    survey.clock_offset = offsets.get(offsets.len() / 2).copied();
    let expected = rows.len() as u64;
    if rows.is_empty() {
        gaps.add("no answered request asked to be traced, so there is nothing to find");
    } else if found < floor(limit, expected) {
        gaps.add(format!(
            "{} of {} traces have the service's span under ours",
            grouped(found),
            grouped(expected)
        ));
        if let Some(why) = &trouble {
            gaps.add(why.clone());
        }
        if let Some(due) = first_lost {
            gaps.since(due.as_secs_f64());
        }
    }
    let all = recorded_in_all(record);
    let bound = stat::bounds(found as f64, expected as f64, SURE).lower;
    if all > expected && gaps.why.is_empty() && !metrics_needed(record) && bound < limit {
        gaps.add(format!(
            "{} of an even sample of {} traces were found, which shows no more than {} of all {} at {} confidence",
            grouped(found),
            grouped(expected),
            percent(bound),
            grouped(all),
            percent(SURE),
        ));
    }
    if metrics_needed(record) && !rows.is_empty() {
        let seen = count(record.answers, &count_query(record));
        if let Ok(n) = &seen {
            survey
                .lacking
                .insert(Backend::Tempo, all.saturating_sub(*n));
        }
        match seen {
            Ok(n) if n as f64 > spans_at_most(record, survey) => gaps.add(format!(
                "metrics over traces see {} of the service's spans for {} requests sent: spans count twice (two exporters?) or are not ours",
                grouped(n),
                grouped(survey.coverage.sent)
            )),
            Ok(n) if n >= floor(limit, all) => {}
            Ok(n) => gaps.add(format!(
                "metrics over traces see {} of {} requests",
                grouped(n),
                grouped(all)
            )),
            Err(missing) => gaps.add(format!(
                "metrics over traces see nothing of the run: {missing}"
            )),
        }
    }
    let sample = if all > expected {
        format!(
            " looked up, an even sample of {} (at least {} of all at {} confidence),",
            grouped(all),
            percent(bound),
            percent(SURE)
        )
    } else {
        String::new()
    };
    let fine = format!(
        "{} of {} traces{sample} have the service's span under ours",
        grouped(found),
        grouped(expected)
    );
    // When nothing was found and the backend was in trouble, it could not be told.
    let told = (found > 0 || trouble.is_none()).then_some(found);
    source(Backend::Tempo, expected, told, limit, found > 0, gaps, fine)
}

/// How far the service's clock is from ours at least: 0 when its span lies within the request's own
/// times, else the distance, in seconds.
fn offset(record: &RunRecord, row: &Observation, span: &Span) -> Option<f64> {
    let sent = record.facts.wall(row.sent()?).0 as f64;
    let done = record.facts.wall(row.done).0 as f64;
    let (start, end) = (span.start as f64, span.end as f64);
    let early = sent - start;
    let late = end - done;
    Some(if early > 0.0 && early >= late {
        -early / 1e9
    } else if late > 0.0 {
        late / 1e9
    } else {
        0.0
    })
}
