//! Waits until the telemetry holds the run: by completeness, never by a fixed sleep.

use std::time::Duration;

use harness_core::judge::{self, RunRecord};
use harness_core::objective::Objective;
use harness_core::observation::Observation;
use harness_core::query::Query;
use harness_core::record::baseline::Baselines;
use harness_core::record::{AnswerBook, RunFacts, Settled};
use harness_core::report::model::Coverage;
use harness_core::scenario::Scenario;

use crate::backends::Backends;
use crate::clock::wall_now;
use crate::signals::Signals;

/// Shortest and longest pause between two rounds of questions.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// How far the last round of coverage questions may reach past the time for settling, and how long
/// one may take after a signal.
const LAST_ROUND: Duration = Duration::from_secs(10);
/// How long the questions of the objectives may take in all; those of the details likewise.
const QUESTIONS: Duration = Duration::from_secs(60);

/// How long counts must stand still before a source that is complete by its limit, but holds less than
/// was sent, is taken as it is: two export intervals of a usual collector.
const CALM: Duration = Duration::from_secs(2);

/// What settling works on.
pub struct Settling<'a> {
    /// The scenario as it is stored, `${NAME}` and all: what is asked now must be what is looked up
    /// when the run is judged from its directory.
    pub scenario: &'a Scenario,
    /// The objectives.
    pub objectives: &'a [Objective],
    /// What was taken of earlier runs: a miss against them wants its requests shown, too.
    pub baselines: Option<&'a Baselines>,
    /// The observations.
    pub rows: &'a [Observation],
    /// The backends.
    pub backends: &'a Backends,
    /// The first ends the wait, the second all asking.
    pub signals: &'a Signals,
}

impl Settling<'_> {
    fn record<'b>(&'b self, facts: &'b RunFacts, answers: &'b AnswerBook) -> RunRecord<'b> {
        RunRecord {
            scenario: self.scenario,
            objectives: self.objectives,
            facts,
            rows: self.rows,
            answers,
            baselines: self.baselines,
        }
    }

    /// Asks the coverage questions again and again until every source is complete, the time is
    /// over, or a signal comes; then those of the objectives. All answers are in the book returned,
    /// those of the last round alone.
    pub async fn settle(
        &self,
        facts: &mut RunFacts,
        mut progress: impl FnMut(&Coverage),
    ) -> AnswerBook {
        let within = self.scenario.spec.settle.0;
        let stop = &self.signals.first;
        let since = tokio::time::Instant::now();
        let mut pause = PAUSE.0;
        let mut book = AnswerBook::default();
        let mut found = Vec::new();
        let mut changed = since;
        let answers = loop {
            facts.settled.until = wall_now();
            // Traces found in an earlier round are kept; everything else is asked as it stands now.
            book = book
                .iter()
                .filter(|answer| matches!(answer.query, Query::TempoTrace { .. }))
                .cloned()
                .collect();
            let queries = judge::coverage_queries(&self.record(facts, &book));
            let left = within.saturating_sub(since.elapsed()) + LAST_ROUND;
            let answered = self
                .backends
                .ask_round(queries, self.round_over(left))
                .await;
            answered.into_iter().for_each(|answer| book.insert(answer));
            let coverage = judge::coverage(&self.record(facts, &book));
            progress(&coverage);
            let now: Vec<Option<u64>> = coverage.sources.iter().map(|s| s.found).collect();
            if now != found {
                (found, changed) = (now, tokio::time::Instant::now());
            }
            let waited = since.elapsed();
            facts.settled = Settled {
                waited_seconds: waited.as_secs_f64(),
                within_seconds: within.as_secs_f64(),
                missing: missing(&coverage),
                until: facts.settled.until,
            };
            let settled = has_settled(&coverage, changed.elapsed());
            if settled || waited >= within || stop.is_cancelled() {
                break book;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
            pause = (pause * 2).min(PAUSE.1);
        };
        // Only now: a clock that is wrong does not become right by waiting for it.
        note_clocks(facts, self.backends);
        self.ask(facts, answers).await
    }

    /// When a round of coverage questions has taken long enough.
    async fn round_over(&self, left: Duration) {
        let signalled = async {
            self.signals.first.cancelled().await;
            tokio::time::sleep(LAST_ROUND).await;
        };
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            () = signalled => {}
            () = self.signals.second.cancelled() => {}
        }
    }

    async fn questions_over(&self) {
        tokio::select! {
            () = tokio::time::sleep(QUESTIONS) => {}
            () = self.signals.second.cancelled() => {}
        }
    }

    /// The questions of the objectives, and then those of the details that the judgement wants shown.
    async fn ask(&self, facts: &RunFacts, mut answers: AnswerBook) -> AnswerBook {
        let queries = judge::objective_queries(&self.record(facts, &answers));
        let new = unanswered(queries, &answers);
        self.backends
            .ask_all(new, self.questions_over())
            .await
            .into_iter()
            .for_each(|answer| answers.insert(answer));
        if facts.backends.is_empty() {
            // Nobody to ask, so nobody judges twice.
            return answers;
        }
        let record = self.record(facts, &answers);
        let report = judge::judge(&record);
        let new = unanswered(judge::detail_queries(&record, &report), &answers);
        self.backends
            .ask_all(new, self.questions_over())
            .await
            .into_iter()
            .for_each(|answer| answers.insert(answer));
        answers
    }
}

/// Keeps what the backends' answers told of their clocks. An embedded one goes by ours.
pub(crate) fn note_clocks(facts: &mut RunFacts, backends: &Backends) {
    for (backend, clock) in backends.clocks() {
        if let Some(used) = facts.backends.get_mut(&backend).filter(|b| !b.embedded) {
            used.clock = Some(clock);
        }
    }
}

fn missing(coverage: &Coverage) -> Vec<String> {
    coverage
        .sources
        .iter()
        .filter(|source| !source.complete)
        .map(|source| format!("{}: {}", source.backend, source.reason))
        .collect()
}

/// Whether there is nothing more to wait for: everything is there; or enough is there for every source
/// to be complete, and nothing more has come for a while.
fn has_settled(coverage: &Coverage, unchanged_for: Duration) -> bool {
    let complete = coverage.sources.iter().all(|source| source.complete);
    let whole = coverage
        .sources
        .iter()
        .all(|source| source.found.is_some_and(|found| found >= source.expected));
    complete && (whole || unchanged_for >= CALM)
}

fn unanswered(mut queries: Vec<Query>, answers: &AnswerBook) -> Vec<Query> {
    queries.sort();
    queries.dedup();
    queries.retain(|query| answers.get(query).is_none());
    queries
}

#[cfg(test)]
mod tests {
    use harness_core::query::Backend;
    use harness_core::report::model::SourceCoverage;

    use super::*;

    fn coverage(found: Option<u64>, complete: bool) -> Coverage {
        let source = SourceCoverage {
            backend: Backend::Tempo,
            expected: 500,
            found,
            limit: 0.99,
            canary: true,
            complete,
            missing_since: None,
            reason: String::new(),
        };
        Coverage {
            sent: 500,
            answered: 500,
            sources: vec![source],
        }
    }

    #[test]
    fn a_source_over_its_limit_but_still_growing_is_waited_for() {
        assert!(has_settled(&coverage(Some(500), true), Duration::ZERO));
        assert!(!has_settled(&coverage(Some(497), true), Duration::ZERO));
        assert!(has_settled(&coverage(Some(497), true), CALM));
        assert!(!has_settled(&coverage(Some(100), false), CALM * 10));
        assert!(!has_settled(&coverage(None, true), Duration::ZERO));
    }
}
