//! The run in short, and notes for the report.

use super::RunRecord;
use super::coverage::Survey;
use super::names::grouped;
use super::window;
use crate::report::model::RunSummary;
use crate::units::UnixNanos;

pub(super) fn run(record: &RunRecord, survey: &Survey) -> RunSummary {
    let facts = record.facts;
    let generator = &facts.generator;
    RunSummary {
        id: facts.run_id.clone(),
        scenario: facts.scenario.clone(),
        seed: facts.seed.0,
        harness_version: facts.harness_version.clone(),
        started_at: rfc3339(facts.started),
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

/// RFC 3339, UTC, milliseconds. Days to dates by Howard Hinnant's `civil_from_days`.
fn rfc3339(at: UnixNanos) -> String {
    let seconds = at.0 / 1_000_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        at.0 / 1_000_000 % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(UnixNanos(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            rfc3339(UnixNanos(1_795_351_914_306_736_726)),
            "2026-11-22T12:51:54.306Z"
        );
        assert_eq!(
            rfc3339(UnixNanos(1_709_251_199_999_000_000)),
            "2024-02-29T23:59:59.999Z"
        );
    }
}
