//! Runs of a part of a schedule, and runs merged from such parts.
//!
//! A shard alone sent one request in N: its rate is not the load's, its latencies are of a service that
//! others loaded meanwhile, and what the service counted is mostly theirs. It neither passes nor fails.
//! Merged runs hold every row of every shard, and are judged as the run of one process is; what each
//! generator must hold for itself (its sends in time) is judged for each.

use std::collections::{BTreeMap, BTreeSet};

use super::RunRecord;
use super::client;
use super::tally;
use super::validity::check;
use crate::record::clock::ClockSeen;
use crate::record::context::ShardRun;
use crate::record::together::{self, MOST_APART};
use crate::report::model::{ObjectiveResult, ValidityCheck, Verdict};
use crate::schedule::Shard;
use crate::units::RequestId;

/// The shard that a run is, if it is only one of several.
pub(super) fn alone(record: &RunRecord) -> Option<Shard> {
    record.facts.context.shard.filter(|shard| shard.is_part())
}

/// Why a shard alone is not judged.
pub(super) fn unmerged(shard: Shard) -> String {
    format!(
        "this is shard {shard}, one of {}, and the load was all of them: run `harness merge` on the {} run directories and judge that",
        shard.of(),
        shard.of()
    )
}

/// Takes back what a shard's objectives seem to say.
pub(super) fn undecide(shard: Shard, results: &mut [ObjectiveResult]) {
    for result in results {
        result.verdict = Verdict::Inconclusive;
        result.reason = format!("{}; {}", unmerged(shard), result.reason);
    }
}

/// Whether a merged run holds every shard once, each its own requests, at the same time.
pub(super) fn together(record: &RunRecord) -> Option<ValidityCheck> {
    let shards = &record.facts.context.shards;
    let of = shards.first()?.shard.of();
    let there: BTreeSet<Shard> = shards.iter().map(|run| run.shard).collect();
    let numbers: Vec<String> = shards.iter().map(|run| run.shard.to_string()).collect();
    let starts = || shards.iter().map(|run| run.started.0);
    let apart = starts().max()?.saturating_sub(starts().min()?);
    let mut counted: BTreeMap<Shard, u64> = BTreeMap::new();
    for row in record.rows.iter().filter(|_| tally::of(record).is_none()) {
        *counted.entry(of_row(record, row.id, of)).or_default() += 1;
    }
    for run in shards {
        let counts = run.counts.filter(|_| tally::of(record).is_some());
        counted.extend(counts.map(|counts| (run.shard, counts.requests)));
    }
    let sent =
        |run: &&ShardRun| counted.get(&run.shard).copied().unwrap_or(0) == run.generator.scheduled;
    let all: u64 = counted.values().sum();
    let adds_up = tally::of(record).is_none_or(|sampled| sampled.requests == all);
    let whole = there.len() == shards.len()
        && shards.len() as u64 == u64::from(of)
        && shards.iter().all(|run| run.shard.of() == of);
    let value = format!(
        "shards {}, started {:.0} ms apart{}",
        numbers.join(", "),
        apart as f64 / 1e6,
        match shards.iter().find(|run| !sent(run)) {
            Some(run) => format!(", and not the rows that shard {} scheduled", run.shard),
            None => String::new(),
        }
    );
    Some(check(
        "shards",
        Some(whole && adds_up && apart <= MOST_APART && shards.iter().all(|run| sent(&run))),
        value,
        &format!(
            "all {of}, each once with all of its rows, within {} ms",
            MOST_APART / 1_000_000
        ),
        "merge every shard of one schedule once, and start them together with `--start-at`".into(),
    ))
}

/// Whether shards that met began at the published instant, and by clocks that agree.
pub(super) fn met(record: &RunRecord) -> Option<ValidityCheck> {
    let shards = &record.facts.context.shards;
    let starts: Vec<_> = shards.iter().filter_map(|run| run.start.as_ref()).collect();
    let first = starts.first()?;
    let seen = |run: &ShardRun| {
        let start = run.start.as_ref()?;
        Some([start.before, start.after?])
    };
    let clocks: Vec<[ClockSeen; 2]> = shards.iter().filter_map(seen).collect();
    let apart = together::most_apart(clocks.iter().map(|clocks| &clocks[..]));
    // Its own clock, and the published instant by it.
    let began = |run: &&ShardRun| {
        let start = run.start.as_ref();
        start.map(|start| run.started.0.abs_diff(start.by_own_clock().0))
    };
    let late = shards.iter().max_by_key(|run| began(run))?;
    let later = began(&late).unwrap_or(u64::MAX);
    let same = starts.len() == shards.len() && starts.iter().all(|start| start.at == first.at);
    let unseen = shards.iter().find(|run| seen(run).is_none());
    let value = match (unseen, same) {
        (Some(run), _) => format!(
            "the clock of shard {} was not seen before and after its load",
            run.shard
        ),
        (None, false) => "the shards were started at different instants".into(),
        (None, true) => format!(
            "clocks at most {apart} ms apart, shard {} began {} ms from the published instant",
            late.shard,
            later / 1_000_000
        ),
    };
    let allowed = MOST_APART / 1_000_000;
    Some(check(
        "shard_clocks",
        Some(unseen.is_none() && same && apart <= allowed && later <= MOST_APART),
        value,
        &format!("all started at one instant, within {allowed} ms, by clocks within {allowed} ms"),
        "synchronise the clocks of the shards (NTP) and run again".into(),
    ))
}

fn of_row(record: &RunRecord, id: RequestId, of: u32) -> Shard {
    Shard::of_request(record.scenario, id, of)
}

/// Of a merged run, the shard with the largest share of late requests: the shard, and how many of its
/// measured requests were later than `over` nanoseconds.
pub(super) fn latest(record: &RunRecord, over: std::time::Duration) -> Option<(Shard, u64, u64)> {
    let of = record.facts.context.shards.first()?.shard.of();
    let mut counts: BTreeMap<Shard, (u64, u64)> = BTreeMap::new();
    if tally::of(record).is_some() {
        let shards = &record.facts.context.shards;
        let of_shard = |run: &crate::record::context::ShardRun| {
            let counts = run.counts?;
            Some((run.shard, (counts.late, counts.measured)))
        };
        counts.extend(shards.iter().filter_map(of_shard));
    }
    let rows = client::rows(record, None);
    for row in rows.filter(|_| tally::of(record).is_none()) {
        let (late, total) = counts.entry(of_row(record, row.id, of)).or_default();
        *late += u64::from(row.lateness().as_duration() > over);
        *total += 1;
    }
    let share = |(late, total): (u64, u64)| late as f64 / (total as f64).max(1.0);
    counts
        .into_iter()
        .max_by(|(_, a), (_, b)| share(*a).total_cmp(&share(*b)))
        .map(|(shard, (late, total))| (shard, late, total))
}
