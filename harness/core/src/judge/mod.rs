//! From the record of a run to its report: which objectives hold, and whether that can be known.
//!
//! Pure and repeatable: every question is a function of the record, every answer is looked up in it,
//! so judging again offline asks the same questions of the same answers. See
//! [`coverage`] (is the evidence whole?), `validity` (can the run be trusted?), `objectives` (what
//! does the evidence say?), `stat` (how sure is that?).

use std::collections::BTreeSet;

use crate::measure;
use crate::objective::Objective;
use crate::observation::Observation;
use crate::query::{Backend, Query};
use crate::record::baseline::Baselines;
use crate::record::{AnswerBook, RunFacts};
use crate::report::model::{Coverage, REPORT_SCHEMA, Report};
use crate::scenario::Scenario;

mod attempts;
mod baseline;
#[cfg(test)]
mod besides;
mod buckets;
mod budget;
mod client;
mod comparison;
mod coverage;
mod decide;
mod details;
mod evaluate;
mod exact;
mod generator;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod lacking;
mod limits;
mod links;
mod names;
mod onset;
#[cfg(test)]
mod outlived;
mod range;
mod reading;
mod saturation;
mod shards;
mod sides;
#[cfg(test)]
mod sliced;
mod slices;
mod spans;
mod stages;
pub mod stat;
mod streams;
mod summary;
mod tail;
pub mod tally;
#[cfg(test)]
mod testing;
mod tiers;
#[cfg(test)]
mod traps;
mod validity;
mod value;
mod verdict;
mod why;
mod window;

use tail::Groups;

/// Everything that a verdict is made from.
#[derive(Debug, Clone, Copy)]
pub struct RunRecord<'a> {
    /// The scenario as used.
    pub scenario: &'a Scenario,
    /// The objectives as used, in the order of their files.
    pub objectives: &'a [Objective],
    /// What the run left beside rows and answers.
    pub facts: &'a RunFacts,
    /// One row a scheduled request.
    pub rows: &'a [Observation],
    /// Recorded answers.
    pub answers: &'a AnswerBook,
    /// Earlier runs to compare with, where any were named.
    pub baselines: Option<&'a Baselines>,
}

pub use attempts::counts;
pub use baseline::{Wanted as BaselineWanted, baseline_run};
pub use comparison::{Side, compare};
pub use coverage::CLOCK_LIMIT;

/// Questions that tell how much of the run each backend holds, up to `facts.settled.until`. Asked
/// again, with a later `until`, until [`coverage`] finds every source complete. Traces found in
/// earlier rounds are not asked for again.
#[must_use]
pub fn coverage_queries(record: &RunRecord) -> Vec<Query> {
    coverage::queries(record)
}

/// How much of the run each backend holds, by the answers recorded so far.
#[must_use]
pub fn coverage(record: &RunRecord) -> Coverage {
    coverage::survey(record).coverage
}

/// Questions of the objectives and of the saturation charts. To be asked once settled: they use the
/// answers to [`coverage_queries`] (scrape instants).
#[must_use]
pub fn objective_queries(record: &RunRecord) -> Vec<Query> {
    let survey = coverage::survey(record);
    let mut queries: Vec<Query> = record
        .objectives
        .iter()
        .flat_map(|objective| evaluate::queries(record, &survey, objective))
        .collect();
    queries.extend(saturation::queries(record, &survey));
    queries.extend(budget::query(record));
    let mut seen = BTreeSet::new();
    queries.retain(|query| seen.insert(query.clone()));
    queries
}

/// Questions for the traces and log lines of the requests that a report shows, and for the traces of a
/// bounded number of slow and of typical ones, which tell where the time of the slow ones went.
#[must_use]
pub fn detail_queries(record: &RunRecord, report: &Report) -> Vec<Query> {
    let mut queries = details::queries(record, &report.requests);
    if coverage::backends(record).contains(&Backend::Tempo) {
        let whole = Groups::of_run(record);
        let missed = why::missed(record, &report.objectives, whole.as_ref());
        queries.extend(whole.iter().flat_map(Groups::queries));
        queries.extend(missed.iter().flat_map(why::Missed::queries));
    }
    queries
}

/// The whole report except `judged_at`, which is left empty. Spans and log lines of the requests it
/// shows are filled in from the answers to [`detail_queries`] once these are recorded.
#[must_use]
pub fn judge(record: &RunRecord) -> Report {
    match attempts::surer(record) {
        None => judge_once(record),
        Some(objectives) => judge_once(&RunRecord {
            objectives: &objectives,
            ..*record
        }),
    }
}

fn judge_once(record: &RunRecord) -> Report {
    let survey = coverage::survey(record);
    let validity = validity::checks(record, &survey);
    let mut objectives = decide::results(record, &survey);
    if let Some(shard) = shards::alone(record) {
        shards::undecide(shard, &mut objectives);
    }
    let production = budget::production(record);
    let rate = production.as_ref().ok().and_then(Option::as_ref);
    for (objective, result) in record.objectives.iter().zip(&mut objectives) {
        result.budget = budget::budget(record, objective, result, rate);
    }
    let answer = verdict::answer(record, &survey, &validity, &objectives);
    let whole = Groups::of_run(record);
    let missed = why::missed(record, &objectives, whole.as_ref());
    let requests = details::chosen(record, &mut objectives, &missed)
        .into_iter()
        .map(|(row, why)| details::detail(record, row, why))
        .collect();
    let (saturation, uncharted) = saturation::charts(record, &survey);
    let onset = onset::onset(record, &saturation);
    let mut findings = sides::findings(record, &survey);
    findings.extend(survey.findings.iter().cloned());
    let mut notes = summary::notes(record, &survey);
    notes.extend(uncharted);
    if let Err(why) = &production {
        notes.push(format!(
            "production's traffic is not known, so error budgets are shown as shares only: {why}"
        ));
    }
    let run = summary::run(record, &survey);
    Report {
        schema: REPORT_SCHEMA.into(),
        verdict: answer.verdict,
        exit_code: answer.exit_code,
        reason_code: answer.reason_code,
        reasons: answer.reasons,
        judged_at: String::new(),
        warnings: tiers::warnings(&objectives),
        strict: record.facts.context.strict,
        baselines: baseline::used(record),
        earlier: attempts::earlier(record, &run.versions),
        attempts: attempts::attempts(record),
        run,
        objectives,
        coverage: survey.coverage,
        validity,
        load: measure::summaries(record.scenario, record.facts, record.rows),
        series: measure::series(record.scenario, record.facts, record.rows),
        distribution: measure::distribution(record.scenario, record.facts, record.rows),
        saturation,
        requests,
        why: missed.iter().map(|m| m.explanation(record)).collect(),
        tail: whole.as_ref().map(|groups| tail::attribute(record, groups)),
        onset,
        findings,
        notes,
    }
}
