//! From the record of a run to its report: which objectives hold, and whether that can be known.
//!
//! Pure and repeatable: every question is a function of the record, every answer is looked up in it,
//! so judging again offline asks the same questions of the same answers. See
//! [`coverage`] (is the evidence whole?), `validity` (can the run be trusted?), `objectives` (what
//! does the evidence say?), `stat` (how sure is that?).

use crate::objective::Objective;
use crate::observation::Observation;
use crate::query::Query;
use crate::record::{AnswerBook, RunFacts};
use crate::report::model::{Coverage, REPORT_SCHEMA, Report, RunSummary, Verdict};
use crate::scenario::Scenario;

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
}

/// Questions that tell how much of the run each backend holds, up to `facts.settled.until`. Asked
/// again, with a later `until`, until [`coverage`] finds every source complete.
#[must_use]
pub fn coverage_queries(_record: &RunRecord) -> Vec<Query> {
    Vec::new()
}

/// How much of the run each backend holds, by the answers recorded so far.
#[must_use]
pub fn coverage(record: &RunRecord) -> Coverage {
    Coverage {
        sent: record.rows.iter().filter(|r| r.sent.is_some()).count() as u64,
        answered: record.rows.iter().filter(|r| r.outcome.answered()).count() as u64,
        sources: Vec::new(),
    }
}

/// Questions of the objectives and of the saturation charts. To be asked once settled: they use the
/// answers to [`coverage_queries`] (scrape instants).
#[must_use]
pub fn objective_queries(_record: &RunRecord) -> Vec<Query> {
    Vec::new()
}

/// Questions for the traces and log lines of the requests that a report shows.
#[must_use]
pub fn detail_queries(_record: &RunRecord, _report: &Report) -> Vec<Query> {
    Vec::new()
}

/// The whole report except `judged_at`, which is left empty.
#[must_use]
pub fn judge(record: &RunRecord) -> Report {
    let facts = record.facts;
    Report {
        schema: REPORT_SCHEMA.into(),
        verdict: Verdict::Inconclusive,
        exit_code: 11,
        reason_code: Some("not_judged".into()),
        reasons: vec!["judging is not built yet".into()],
        judged_at: String::new(),
        run: RunSummary {
            id: facts.run_id.clone(),
            scenario: facts.scenario.clone(),
            seed: facts.seed.0,
            harness_version: facts.harness_version.clone(),
            started_at: String::new(),
            duration_seconds: facts.drained.as_secs_f64(),
            window: None,
            service: facts.service.clone(),
            target: facts.target.url.clone(),
            versions: Vec::new(),
            expect_version: facts.expect_version.clone(),
            generator_cpu: None,
        },
        objectives: Vec::new(),
        coverage: coverage(record),
        validity: Vec::new(),
        load: Vec::new(),
        series: Vec::new(),
        distribution: Vec::new(),
        saturation: Vec::new(),
        requests: Vec::new(),
        notes: Vec::new(),
    }
}
