//! What the generator saw of itself: beyond the scenario's limits its figures are of itself, not of
//! the service.

use super::RunRecord;
use super::decide::percent;
use super::names::grouped;
use super::validity::check;
use crate::observation::Outcome;
use crate::report::model::ValidityCheck;

/// All that apply to a run; each says what to change.
pub(super) fn checks(record: &RunRecord) -> Vec<ValidityCheck> {
    let mut all = vec![able(record)];
    all.extend(core(record));
    all.extend(files(record));
    all.push(stalls(record));
    all
}

/// Requests that the generator itself could not send say nothing of the service. One is too many:
/// the rest were sent by a generator at its end.
fn able(record: &RunRecord) -> ValidityCheck {
    let failed = |row: &&crate::observation::Observation| row.outcome == Outcome::GeneratorFailed;
    let rows = record.rows.iter().filter(failed);
    let (count, why) = match super::tally::of(record) {
        Some(sampled) => {
            let cells = sampled.cells.iter();
            let failed = cells.filter_map(|cell| cell.outcomes.get(&Outcome::GeneratorFailed));
            (failed.sum(), sampled.generator_failed.as_deref())
        }
        None => (
            rows.clone().count() as u64,
            rows.into_iter().find_map(|row| row.detail()),
        ),
    };
    let remedy = match why {
        Some(why) => format!(
            "raise the limits of open files and ports, or keep connections alive and lower the rate: {why}"
        ),
        None => "raise the limits of open files and ports, or lower the rate".into(),
    };
    check(
        "generator_able",
        Some(count == 0 && record.facts.generator.broken == 0),
        format!(
            "{} requests that the generator could not send",
            grouped(count)
        ),
        "none",
        remedy,
    )
}

/// The thread that sends has one core and no more.
fn core(record: &RunRecord) -> Option<ValidityCheck> {
    let share = record.facts.generator.sender_cpu_share?;
    let limit = record.scenario.spec.validity.sender_cpu.0;
    Some(check(
        "generator_cpu",
        Some(share <= limit),
        format!(
            "the sending thread used {} of a core, {} in its busiest second",
            percent(share.min(1.0)),
            percent(record.facts.generator.busiest_second.min(1.0))
        ),
        &format!("{} of a core", percent(limit)),
        "the generator itself was the bottleneck: send fewer requests from this process, split the load over more shards, or make its expectations cheaper".into(),
    ))
}

fn files(record: &RunRecord) -> Option<ValidityCheck> {
    let open = record.facts.generator.open_files?;
    let most = record.facts.generator.open_files_limit?;
    let limit = record.scenario.spec.validity.open_files.0;
    let share = open as f64 / most.max(1) as f64;
    Some(check(
        "generator_files",
        Some(share <= limit),
        format!("{} of {} files open at most", grouped(open), grouped(most)),
        &format!("{} of the limit", percent(limit)),
        "raise the limit of open files (ulimit -n) or lower maxInFlight".into(),
    ))
}

fn stalls(record: &RunRecord) -> ValidityCheck {
    let longest = record.facts.generator.longest_stall.as_duration();
    let limit = record.scenario.spec.validity.stall.0;
    check(
        "generator_stalls",
        Some(longest <= limit),
        format!(
            "the event loop stood still for {:.1} ms at most",
            longest.as_secs_f64() * 1000.0
        ),
        &format!("{:.0} ms", limit.as_secs_f64() * 1000.0),
        "the generator was not given the processor: leave it more of the machine, or move it away from the service".into(),
    )
}
