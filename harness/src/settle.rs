//! Waits until the telemetry holds the run: by completeness, never by a fixed sleep.

use std::time::Duration;

use harness_core::judge::{self, RunRecord};
use harness_core::objective::Objective;
use harness_core::observation::Observation;
use harness_core::query::{Backend, Query};
use harness_core::record::{AnswerBook, RunFacts, Settled};
use harness_core::report::model::Coverage;
use harness_core::scenario::Scenario;

use crate::backends::Backends;
use crate::clock::wall_now;

/// Shortest and longest pause between two rounds of questions.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));

/// What settling works on.
pub struct Settling<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The objectives.
    pub objectives: &'a [Objective],
    /// The observations.
    pub rows: &'a [Observation],
    /// The backends.
    pub backends: &'a Backends,
}

impl Settling<'_> {
    fn record<'b>(&'b self, facts: &'b RunFacts, answers: &'b AnswerBook) -> RunRecord<'b> {
        RunRecord {
            scenario: self.scenario,
            objectives: self.objectives,
            facts,
            rows: self.rows,
            answers,
        }
    }

    /// Asks the coverage questions again and again until every source is complete, the time is
    /// over, or `stop` says so; then those of the objectives. All answers are in the book returned,
    /// those of the last round alone.
    pub async fn settle(
        &self,
        facts: &mut RunFacts,
        stop: &tokio_util::sync::CancellationToken,
        mut progress: impl FnMut(&Coverage),
    ) -> AnswerBook {
        let within = self.scenario.spec.settle.0;
        let since = tokio::time::Instant::now();
        let mut pause = PAUSE.0;
        let mut traces = Vec::new();
        let (answers, coverage) = loop {
            facts.settled.until = wall_now();
            let mut book = AnswerBook::default();
            let queries = judge::coverage_queries(&self.record(facts, &book));
            // Traces found whole in an earlier round need not be asked for again.
            let (kept, asked): (Vec<Query>, Vec<Query>) = queries.into_iter().partition(|query| {
                matches!(query, Query::TempoTrace { .. })
                    && traces
                        .iter()
                        .any(|answer: &harness_core::query::Answer| answer.query == *query)
            });
            traces
                .iter()
                .filter(|answer| kept.contains(&answer.query))
                .cloned()
                .for_each(|a| book.insert(a));
            let answered = self.backends.ask_all(asked).await;
            answered.into_iter().for_each(|answer| book.insert(answer));
            let coverage = judge::coverage(&self.record(facts, &book));
            progress(&coverage);
            let complete = coverage.sources.iter().all(|source| source.complete);
            let waited = since.elapsed();
            facts.settled = Settled {
                waited_seconds: waited.as_secs_f64(),
                within_seconds: within.as_secs_f64(),
                missing: coverage
                    .sources
                    .iter()
                    .filter(|source| !source.complete)
                    .map(|source| format!("{}: {}", source.backend, source.reason))
                    .collect(),
                until: facts.settled.until,
            };
            if complete || waited >= within || stop.is_cancelled() {
                break (book, coverage);
            }
            let tempo_complete = coverage
                .sources
                .iter()
                .any(|s| s.backend == Backend::Tempo && s.complete);
            if tempo_complete {
                traces = book
                    .iter()
                    .filter(|a| matches!(a.query, Query::TempoTrace { .. }))
                    .cloned()
                    .collect();
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
            pause = (pause * 2).min(PAUSE.1);
        };
        drop(coverage);
        self.ask(facts, answers).await
    }

    /// The questions of the objectives, and then those of the details that the judgement wants shown.
    async fn ask(&self, facts: &RunFacts, mut answers: AnswerBook) -> AnswerBook {
        let queries = judge::objective_queries(&self.record(facts, &answers));
        let new = unanswered(queries, &answers);
        self.backends
            .ask_all(new)
            .await
            .into_iter()
            .for_each(|answer| answers.insert(answer));
        let record = self.record(facts, &answers);
        let report = judge::judge(&record);
        let new = unanswered(judge::detail_queries(&record, &report), &answers);
        self.backends
            .ask_all(new)
            .await
            .into_iter()
            .for_each(|answer| answers.insert(answer));
        answers
    }
}

fn unanswered(mut queries: Vec<Query>, answers: &AnswerBook) -> Vec<Query> {
    queries.sort();
    queries.dedup();
    queries.retain(|query| answers.get(query).is_none());
    queries
}
