//! The run in short, and notes for the report.

use super::RunRecord;
use super::coverage::Survey;
use super::names::grouped;
use super::window;
use crate::report::model::RunSummary;

pub(super) fn run(record: &RunRecord, survey: &Survey) -> RunSummary {
    let facts = record.facts;
    let generator = &facts.generator;
    RunSummary {
        id: facts.run_id.clone(),
        scenario: facts.scenario.clone(),
        seed: facts.seed.0,
        harness_version: facts.harness_version.clone(),
        started_at: facts.started.rfc3339(),
        duration_seconds: facts.drained.as_secs_f64(),
        window: facts
            .window()
            .map(|(a, b)| [a.as_secs_f64(), b.as_secs_f64()]),
        service: facts.service.clone(),
        target: facts.target.url.clone(),
        versions: survey.versions.iter().cloned().collect(),
        expect_version: facts.expect_version.clone(),
        generator_cpu: generator
            .cpu_seconds
            .filter(|_| generator.wall_seconds > 0.0)
            .map(|cpu| cpu / generator.wall_seconds),
    }
}

/// Other things worth knowing, one sentence each.
pub(super) fn notes(record: &RunRecord, survey: &Survey) -> Vec<String> {
    let facts = record.facts;
    let mut notes = survey.notes.clone();
    if let Some(sampled) = super::tally::of(record) {
        notes.push(format!(
            "of {} requests one in {} has its row ({}; at most spec.record.rows, {}): counts are of all of them, as they were recorded; percentiles, the distribution and the requests shown are of the sample, requests out at once are reckoned from it, and no more certainty is drawn from the counts than these rows give",
            grouped(sampled.requests),
            sampled.one_in,
            grouped(sampled.rows),
            grouped(record.scenario.spec.record.rows)
        ));
    }
    if let (Ok(edges), Some((start, _))) = (window::edges(record, survey), facts.window()) {
        let outside = edges.first_at().0.saturating_sub(facts.wall(start).0) as f64 / 1e9;
        notes.push(format!(
            "counters are read between two scrapes; the first {outside:.1} s of the measured phase lie before them"
        ));
    }
    for fault in &facts.faults {
        notes.push(match (&fault.at, &fault.error) {
            (Some(at), None) => format!(
                "fault {} was put on at {:.1} s",
                fault.kind,
                at.as_secs_f64()
            ),
            (_, error) => format!(
                "fault {} was not put on: {}",
                fault.kind,
                error
                    .as_deref()
                    .unwrap_or("the target did not acknowledge it")
            ),
        });
    }
    let generator = &facts.generator;
    if generator.spans_exported < generator.spans_offered {
        notes.push(format!(
            "{} of {} client spans reached the collector; traces may lack their first span",
            grouped(generator.spans_exported),
            grouped(generator.spans_offered)
        ));
    }
    for missing in &facts.settled.missing {
        notes.push(format!(
            "after {:.1} s of settling: {missing}",
            facts.settled.waited_seconds
        ));
    }
    notes
}
