//! The run's one verdict, from its objectives, its evidence and its own soundness.

use super::RunRecord;
use super::coverage::Survey;
use super::shards;
use super::tiers;
use crate::record::Stop;
use crate::report::model::{Gate, ObjectiveResult, ValidityCheck, Verdict};

/// The answer with its exit code and reasons.
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    pub(super) exit_code: u8,
    pub(super) reason_code: Option<String>,
    pub(super) reasons: Vec<String>,
}

/// Precedence: invalid, fail, inconclusive, pass. Only a run of which nothing is doubtful passes.
pub(super) fn answer(
    record: &RunRecord,
    survey: &Survey,
    validity: &[ValidityCheck],
    results: &[ObjectiveResult],
) -> Answer {
    let invalid = invalid(record, validity);
    let shard = shards::alone(record);
    let mut failed = missed(results);
    let by_warning = failed.is_empty();
    let (warned, unsure) = match record.facts.context.strict {
        true if shard.is_none() => tiers::strict(results),
        _ => Default::default(),
    };
    failed.extend(warned);
    let mut open = match shard {
        Some(shard) => vec![("one_shard", shards::unmerged(shard))],
        None => open(record, survey, validity, results),
    };
    open.extend(unsure.into_iter().map(|why| ("undecided", why)));
    let (verdict, exit_code, code) = if let Some((code, exit, _)) = invalid.first() {
        (Verdict::Invalid, *exit, Some(code.clone()))
    } else if !failed.is_empty() {
        let code = if by_warning {
            "strict_warning"
        } else {
            "objective_missed"
        };
        (Verdict::Fail, 10, Some(code.into()))
    } else if let Some((code, _)) = open.first() {
        (Verdict::Inconclusive, 11, Some((*code).to_owned()))
    } else {
        (Verdict::Pass, 0, None)
    };
    let mut reasons: Vec<String> = invalid.into_iter().map(|(_, _, why)| why).collect();
    reasons.extend(failed);
    reasons.extend(open.into_iter().map(|(_, why)| why));
    if verdict == Verdict::Pass {
        let required = results.iter().filter(|r| r.gate == Gate::Required).count();
        reasons.push(format!("all {required} required objectives are met"));
    }
    Answer {
        verdict,
        exit_code,
        reason_code: code,
        reasons,
    }
}

/// Why the run cannot be trusted: code, exit code, sentence.
fn invalid(record: &RunRecord, validity: &[ValidityCheck]) -> Vec<(String, u8, String)> {
    let mut found = Vec::new();
    if let Some(stop) = &record.facts.stop {
        let (code, exit, why) = match stop {
            Stop::Interrupted(why) => (
                "interrupted",
                130,
                format!("the run was interrupted: {why}"),
            ),
            Stop::AbortRule(why) => (
                "abort_rule",
                15,
                format!("an abort rule ended the run: {why}"),
            ),
            Stop::TargetUnreachable(why) => (
                "target_unreachable",
                14,
                format!("the target could not be reached: {why}"),
            ),
            Stop::BackendUnreachable(why) => (
                "backend_unreachable",
                13,
                format!("a telemetry backend could not be reached: {why}"),
            ),
            Stop::CannotRecord(why) => (
                "cannot_record",
                1,
                format!("the load was ended because it could not be recorded: {why}"),
            ),
            Stop::NotStarted(why) => (
                "not_started",
                12,
                format!("the shards did not start together: {why}"),
            ),
        };
        found.push((code.to_owned(), exit, why));
    }
    for check in validity.iter().filter(|c| c.ok == Some(false)) {
        let remedy = check.remedy.as_deref().unwrap_or_default();
        let why = format!(
            "{}: {} (limit: {}); {remedy}",
            check.name, check.value, check.limit
        );
        found.push((check.name.clone(), 12, why));
    }
    found
}

fn missed(results: &[ObjectiveResult]) -> Vec<String> {
    let missed = results
        .iter()
        .filter(|r| r.gate == Gate::Required && r.verdict == Verdict::Fail);
    missed
        .map(|r| format!("{} is missed: {}", r.name, r.reason))
        .collect()
}

/// Everything that forbids a pass: code and sentence, the most basic first.
fn open(
    record: &RunRecord,
    survey: &Survey,
    validity: &[ValidityCheck],
    results: &[ObjectiveResult],
) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for source in survey.coverage.sources.iter().filter(|s| !s.complete) {
        let why = format!(
            "{} does not hold the whole run: {}",
            source.backend, source.reason
        );
        found.push(("telemetry_incomplete", why));
    }
    if let Some(exited) = &record.facts.target.exited {
        let why = format!("the target ended before it was asked to: {exited}");
        found.push(("target_exited", why));
    }
    for check in validity.iter().filter(|c| c.ok.is_none()) {
        let remedy = check.remedy.as_deref().unwrap_or_default();
        found.push((
            "validity_unknown",
            format!("{}: {}; {remedy}", check.name, check.value),
        ));
    }
    let required = || results.iter().filter(|r| r.gate == Gate::Required);
    if required().next().is_none() {
        let why = "no objective is required, so there is nothing to pass";
        found.push(("no_required_objectives", why.into()));
    }
    for result in required().filter(|r| r.verdict == Verdict::Inconclusive) {
        let code = if result.value.is_none() {
            "evidence_missing"
        } else {
            "undecided"
        };
        found.push((
            code,
            format!("{} is not decided: {}", result.name, result.reason),
        ));
    }
    // `Invalid` is no verdict of an objective; should one ever carry it, it must not pass.
    for result in required().filter(|r| r.verdict == Verdict::Invalid) {
        found.push(("undecided", format!("{} is invalid", result.name)));
    }
    found
}
