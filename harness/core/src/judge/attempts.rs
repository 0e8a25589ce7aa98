//! A run that may be tried again, and runs that were made before: no way to a pass by patience.
//!
//! `--retries N` agrees on at most `N + 1` attempts before the first. An attempt that passes or fails
//! is the last. One that is invalid (the generator's trouble) says nothing and is made again; one that
//! is inconclusive is made again and its counts are added up with those of the next. Each attempt is
//! judged on all counts so far, each bound at `1 - (1 - confidence) / (N + 1)`: by Bonferroni the chance
//! that any of the looks passes or fails an objective wrongly stays at `1 - confidence`. What is no
//! count (a value over the window) is judged on the last attempt alone, as it would be without.

use std::collections::BTreeMap;

use super::RunRecord;
use crate::objective::Objective;
use crate::record::context::{Attempt, Counted};
use crate::report::model::{AttemptUsed, Attempts, EarlierRun, Verdict};

/// The rule as reports say it.
const RULE: &str = "only invalid and inconclusive attempts are made again; counts of sound ones are added up, and each \
                    look is judged surer, so that all together err no more often than one would";

/// Objectives with the confidence that this attempt is judged at; `None` when it is as it was.
pub(super) fn surer(record: &RunRecord) -> Option<Vec<Objective>> {
    let attempt = record.facts.context.attempt.as_ref()?;
    let looks = f64::from(attempt.most.max(1));
    let mut objectives = record.objectives.to_vec();
    for objective in &mut objectives {
        objective.confidence = 1.0 - (1.0 - objective.confidence) / looks;
    }
    Some(objectives)
}

/// Counts of the attempts before this one, and how many of them had any.
pub(super) fn pooled(record: &RunRecord, objective: &str) -> (Counted, u32) {
    let attempts = record.facts.context.attempt.as_ref();
    let earlier = attempts.map_or(&[][..], |attempt| &attempt.earlier);
    let counts = earlier
        .iter()
        .filter(|attempt| attempt.verdict == Verdict::Inconclusive)
        .filter_map(|attempt| attempt.counts.get(objective));
    counts.fold((Counted::default(), 0), |(sum, of), counted| {
        let sum = Counted {
            good: sum.good.saturating_add(counted.good),
            total: sum.total.saturating_add(counted.total),
            unseen: sum.unseen.saturating_add(counted.unseen),
        };
        (sum, of + 1)
    })
}

/// This run's own counts, without those of attempts before it, by objective: for the attempt after it.
#[must_use]
pub fn counts(record: &RunRecord) -> BTreeMap<String, Counted> {
    let mut facts = record.facts.clone();
    facts.context.attempt = None;
    super::decide::counted(&RunRecord {
        facts: &facts,
        ..*record
    })
}

/// The attempts, for the report.
pub(super) fn attempts(record: &RunRecord) -> Option<Attempts> {
    let Attempt {
        number,
        most,
        earlier,
    } = record.facts.context.attempt.as_ref()?;
    let earlier = (1..).zip(earlier).map(|(number, attempt)| AttemptUsed {
        number,
        dir: attempt.dir.clone(),
        run: attempt.run_id.clone(),
        verdict: attempt.verdict,
        reason_code: attempt.reason_code.clone(),
        pooled: attempt.verdict == Verdict::Inconclusive && !attempt.counts.is_empty(),
    });
    Some(Attempts {
        number: *number,
        most: *most,
        earlier: earlier.collect(),
        rule: RULE.into(),
    })
}

/// Runs of the same scenario found beside this one. `versions`: those seen in this run.
pub(super) fn earlier(record: &RunRecord, versions: &[String]) -> Vec<EarlierRun> {
    let build = |other: &[String]| {
        (!versions.is_empty() && !other.is_empty()).then(|| {
            let sorted = |v: &[String]| {
                let mut v = v.to_vec();
                v.sort();
                v
            };
            sorted(versions) == sorted(other)
        })
    };
    record
        .facts
        .context
        .earlier
        .iter()
        .filter(|run| run.run_id.as_deref() != Some(&record.facts.run_id))
        .map(|run| EarlierRun {
            dir: run.dir.clone(),
            run: run.run_id.clone(),
            started_at: run.started_at.clone(),
            versions: run.versions.clone(),
            verdict: run.verdict,
            reason_code: run.reason_code.clone(),
            same_build: build(&run.versions),
        })
        .collect()
}
