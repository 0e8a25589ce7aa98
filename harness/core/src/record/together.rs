//! What the shards of one run put where all of them, and the gate, can read it: each that it is ready,
//! the first of them when to start, each what it measured. And what forbids to start, or to merge.
//!
//! Instants that several machines share are by the clock of that place, since each shard knows how its
//! own clock lies to it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::clock::ClockSeen;
use crate::schedule::Shard;
use crate::units::{Nanos, UnixNanos};

/// Version of [`Ready`].
pub const READY_SCHEMA: &str = "harness.ready/v1";
/// Version of [`Start`].
pub const START_SCHEMA: &str = "harness.start/v1";
/// Version of [`Delivered`].
pub const SHARD_SCHEMA: &str = "harness.shard/v1";
/// Version of [`Judged`].
pub const GATE_SCHEMA: &str = "harness.gate/v1";

/// Most that shards may start apart, nanoseconds, and most that their clocks may lie apart: rows lie on
/// the schedule's own axis, on which all shards start together, and telemetry is asked for by one clock.
pub const MOST_APART: u64 = 500_000_000;

/// What all shards of a run must have in common.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Common {
    /// SHA-256 of the scenario as used.
    pub scenario_sha256: String,
    /// SHA-256 of the objectives as used, all of them.
    pub slo_sha256: String,
    /// SHA-256 of the files that the scenario names, by path as written.
    pub files: BTreeMap<String, String>,
    /// The seed.
    pub seed: u64,
    /// Version of the harness.
    pub harness_version: String,
    /// SHA-256 of the program itself.
    pub build: String,
}

impl Common {
    /// What the other has otherwise.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let same = [
            (
                self.scenario_sha256 == other.scenario_sha256,
                "another scenario",
            ),
            (self.slo_sha256 == other.slo_sha256, "other objectives"),
            (self.files == other.files, "other datasets"),
            (self.seed == other.seed, "another seed"),
            (
                self.harness_version == other.harness_version,
                "another version of harness",
            ),
            (self.build == other.build, "another build of harness"),
        ];
        let missing = same.into_iter().filter(|(same, _)| !same);
        missing.map(|(_, what)| what).collect()
    }
}

/// One process that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its part of the schedule.
    pub shard: Shard,
    /// Its own run id.
    pub run_id: String,
    /// The clock of the place against its own.
    pub clock: ClockSeen,
}

/// A shard that has everything it needs and waits for the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// [`READY_SCHEMA`].
    pub schema: String,
    /// Which.
    pub member: Member,
    /// What it is going to send.
    pub common: Common,
}

/// The one start of a run, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// [`START_SCHEMA`].
    pub schema: String,
    /// How many shards there are.
    pub of: u32,
    /// The first instant of the schedule, by the clock of the place; `None` when nobody may start.
    pub at: Option<UnixNanos>,
    /// Who takes part: nobody else does.
    pub members: Vec<Member>,
    /// What they have in common.
    pub common: Common,
    /// Why nobody may start, one sentence each.
    pub refused: Vec<String>,
}

/// How a shard came to start when it did; part of its `run.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartedTogether {
    /// The published instant, by the clock of the place where results go.
    pub at: UnixNanos,
    /// That clock against the shard's own, before the load.
    pub before: ClockSeen,
    /// The same after the load; `None` when the place could not be reached then.
    pub after: Option<ClockSeen>,
}

impl StartedTogether {
    /// The published instant by the shard's own clock, as it was seen before the load: in the middle of
    /// what is possible.
    #[must_use]
    pub fn by_own_clock(&self) -> UnixNanos {
        let (least, most) = possible(&[self.before]);
        let offset = i128::from(least).midpoint(i128::from(most)) * 1_000_000;
        let at = i128::from(self.at.0) - offset;
        UnixNanos(u64::try_from(at.max(0)).unwrap_or(u64::MAX))
    }
}

/// One object of a shard's results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// Size.
    pub bytes: u64,
    /// SHA-256, hex.
    pub sha256: String,
}

/// How late requests were sent, `sent - due`; zeros when none was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lateness {
    /// Median.
    pub p50: Nanos,
    /// 99th percentile.
    pub p99: Nanos,
    /// The latest.
    pub max: Nanos,
}

/// A shard's manifest, put last: without it there are no results. HDR histograms and rows are objects of
/// it (`latency.hlog`, `requests.jsonl`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delivered {
    /// [`SHARD_SCHEMA`].
    pub schema: String,
    /// Which part of the schedule.
    pub shard: Shard,
    /// Its own run id.
    pub run_id: String,
    /// What it sent.
    pub common: Common,
    /// When it began, and how its clock lay.
    pub start: StartedTogether,
    /// Rows in `requests.jsonl`.
    pub rows: u64,
    /// Requests that its part of the schedule held.
    pub scheduled: u64,
    /// Rows by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// How late they were sent.
    pub lateness: Lateness,
    /// Every file of its run directory.
    pub objects: BTreeMap<String, Object>,
}

/// What a gate asked and was answered, put beside the shards' results: the verdict can be made from both
/// again when the backends hold nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// [`GATE_SCHEMA`].
    pub schema: String,
    /// Run id of the merged run.
    pub run_id: String,
    /// SHA-256 of the manifests of the shards that were merged, by the shards' own run ids.
    pub merged: BTreeMap<String, String>,
    /// Files of the merged run that cannot be made from the shards' again.
    pub objects: BTreeMap<String, Object>,
}

/// Where a clock may lie against the others', in milliseconds: the least and the most that was seen.
/// Where answers contradict each other (several clocks), both ends count.
#[must_use]
pub fn possible(seen: &[ClockSeen]) -> (i64, i64) {
    let ends = || seen.iter().flat_map(|c| [c.least_ms, c.most_ms]);
    (ends().min().unwrap_or(0), ends().max().unwrap_or(0))
}

/// How far apart clocks may lie at most, milliseconds, each given by all that was seen of it.
#[must_use]
pub fn most_apart<'a>(clocks: impl Iterator<Item = &'a [ClockSeen]>) -> u64 {
    let ends: Vec<(i64, i64)> = clocks.map(possible).collect();
    let least = ends.iter().map(|(least, _)| *least).min().unwrap_or(0);
    let most = ends.iter().map(|(_, most)| *most).max().unwrap_or(0);
    most.abs_diff(least)
}

/// Shards of `of` that are not there.
#[must_use]
pub fn missing(of: u32, there: impl Iterator<Item = Shard>) -> Vec<String> {
    let there: BTreeSet<u32> = there.map(Shard::index).collect();
    let missing = (0..of).filter(|index| !there.contains(index));
    missing.map(|index| format!("{index}/{of}")).collect()
}

/// Why these may not start together: one sentence each. That all are there is asked apart.
#[must_use]
pub fn why_not_start(of: u32, ready: &[Ready]) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(first) = ready.first() else {
        return wrong;
    };
    let mut there: BTreeMap<Shard, &str> = BTreeMap::new();
    for one in ready {
        let Member { shard, run_id, .. } = &one.member;
        if shard.of() != of {
            wrong.push(format!("{run_id} is shard {shard}, this run has {of}"));
        }
        if let Some(other) = there.insert(*shard, run_id) {
            wrong.push(format!(
                "shard {shard} is there twice: {other} and {run_id}"
            ));
        }
        let differs = first.common.differences(&one.common);
        if !differs.is_empty() {
            wrong.push(format!(
                "shard {shard} is not of the run of shard {}: {}",
                first.member.shard,
                differs.join(", ")
            ));
        }
    }
    let members = || ready.iter().map(|one| &one.member);
    wrong.extend(why_skewed(members().map(|m| (m.shard, m.clock))));
    wrong
}

/// Clocks that lie further apart than they may, or whose place is not known well enough.
fn why_skewed(clocks: impl Iterator<Item = (Shard, ClockSeen)>) -> Option<String> {
    let clocks: Vec<(Shard, ClockSeen)> = clocks.collect();
    let apart = most_apart(clocks.iter().map(|(_, clock)| std::slice::from_ref(clock)));
    if apart <= MOST_APART / 1_000_000 {
        return None;
    }
    let least = clocks.iter().min_by_key(|(_, c)| possible(&[*c]).0)?;
    let most = clocks.iter().max_by_key(|(_, c)| possible(&[*c]).1)?;
    let place = |(shard, clock): &(Shard, ClockSeen)| {
        let (least, most) = possible(&[*clock]);
        format!("{} to {} ms from that of shard {shard}", least, most)
    };
    Some(format!(
        "the clocks of the shards may lie {apart} ms apart, at most {} are allowed (the clock of the results' place is {}, and {}): synchronise them (NTP)",
        MOST_APART / 1_000_000,
        place(least),
        place(most)
    ))
}

/// Why these results are not those of the run that was started, each shard once: one sentence each.
#[must_use]
pub fn why_not_whole(start: &Start, delivered: &[Delivered]) -> Vec<String> {
    let mut wrong = start.refused.clone();
    let mut there: BTreeMap<Shard, &str> = BTreeMap::new();
    for one in delivered {
        let (shard, run_id) = (one.shard, one.run_id.as_str());
        if let Some(other) = there.insert(shard, run_id) {
            wrong.push(format!(
                "shard {shard} was delivered twice: by {other} and by {run_id}"
            ));
        }
        let member = |m: &&Member| m.shard == shard && m.run_id == run_id;
        if !start.members.iter().any(|m| member(&m)) {
            wrong.push(format!(
                "{run_id} (shard {shard}) took no part in the start; its results are of another run"
            ));
        }
        let differs = start.common.differences(&one.common);
        if !differs.is_empty() {
            wrong.push(format!(
                "{run_id} (shard {shard}) is not of this run: {}",
                differs.join(", ")
            ));
        }
        if Some(one.start.at) != start.at {
            wrong.push(format!(
                "{run_id} (shard {shard}) was started at {}, not at the published instant",
                one.start.at.rfc3339()
            ));
        }
    }
    for shard in missing(start.of, there.keys().copied()) {
        wrong.push(format!(
            "shard {shard} is missing: its part of the load is not known"
        ));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(text: &str) -> Shard {
        text.parse().unwrap()
    }

    fn clock(least_ms: i64, most_ms: i64) -> ClockSeen {
        ClockSeen {
            answers: 5,
            least_ms,
            most_ms,
        }
    }

    fn common() -> Common {
        Common {
            scenario_sha256: "a".into(),
            slo_sha256: "b".into(),
            files: BTreeMap::new(),
            seed: 7,
            harness_version: "0.1.0".into(),
            build: "c".into(),
        }
    }

    fn ready(name: &str, least_ms: i64, most_ms: i64) -> Ready {
        Ready {
            schema: READY_SCHEMA.into(),
            member: Member {
                shard: shard(name),
                run_id: format!("run-{}", &name[..1]),
                clock: clock(least_ms, most_ms),
            },
            common: common(),
        }
    }

    fn start() -> Start {
        let members = ["0/2", "1/2"].map(|name| ready(name, -20, 20).member);
        Start {
            schema: START_SCHEMA.into(),
            of: 2,
            at: Some(UnixNanos(5_000_000_000)),
            members: members.to_vec(),
            common: common(),
            refused: Vec::new(),
        }
    }

    fn delivered(index: u32) -> Delivered {
        Delivered {
            schema: SHARD_SCHEMA.into(),
            shard: shard(&format!("{index}/2")),
            run_id: format!("run-{index}"),
            common: common(),
            start: StartedTogether {
                at: UnixNanos(5_000_000_000),
                before: clock(-20, 20),
                after: Some(clock(-20, 20)),
            },
            rows: 0,
            scheduled: 0,
            outcomes: BTreeMap::new(),
            lateness: Lateness::default(),
            objects: BTreeMap::new(),
        }
    }

    #[test]
    fn shards_that_belong_together_start_and_are_whole() {
        let both = [ready("0/2", -20, 20), ready("1/2", 100, 150)];
        assert_eq!(why_not_start(2, &both), Vec::<String>::new());
        assert_eq!(
            why_not_whole(&start(), &[delivered(0), delivered(1)]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_does_not_belong_together_does_not_start() {
        let mut foreign = ready("1/2", 0, 0);
        foreign.common.seed = 8;
        foreign.common.build = "d".into();
        let mut twice = ready("0/2", 0, 0);
        twice.member.run_id = "run-x".into();
        for (other, why) in [
            (foreign, "another seed, another build of harness"),
            (twice, "shard 0/2 is there twice: run-0 and run-x"),
            (ready("1/3", 0, 0), "is shard 1/3, this run has 2"),
            // Ten seconds behind.
            (ready("1/2", 9_990, 10_010), "may lie 10030 ms apart"),
            // Nobody knows where.
            (ready("1/2", -600, 400), "may lie 1000 ms apart"),
            // Several clocks, which contradict each other.
            (ready("1/2", 300, -300), "may lie 600 ms apart"),
        ] {
            let wrong = why_not_start(2, &[ready("0/2", -20, 20), other]);
            assert_eq!(wrong.len(), 1, "{wrong:?}");
            assert!(wrong[0].contains(why), "{wrong:?}");
        }
        assert_eq!(missing(3, [shard("1/3")].into_iter()), ["0/3", "2/3"]);
    }

    #[test]
    fn results_are_of_the_run_that_was_started_each_shard_once() {
        let mut twice = delivered(1);
        twice.run_id = "run-x".into();
        let mut other = delivered(1);
        other.common.scenario_sha256 = "z".into();
        let mut late = delivered(1);
        late.start.at = UnixNanos(6_000_000_000);
        for (results, why) in [
            (vec![delivered(0)], "shard 1/2 is missing"),
            (
                vec![delivered(0), delivered(1), twice],
                "was delivered twice",
            ),
            (
                vec![delivered(0), other],
                "is not of this run: another scenario",
            ),
            (vec![delivered(0), late], "not at the published instant"),
        ] {
            let wrong = why_not_whole(&start(), &results);
            assert!(wrong.iter().any(|text| text.contains(why)), "{wrong:?}");
        }
        let mut refused = start();
        refused.at = None;
        refused.refused = vec!["shard 1/2 never became ready".into()];
        let wrong = why_not_whole(&refused, &[]);
        assert_eq!(wrong[0], "shard 1/2 never became ready");
    }

    #[test]
    fn a_start_is_turned_into_the_shards_own_time() {
        let mut start = delivered(0).start;
        assert_eq!(start.by_own_clock(), UnixNanos(5_000_000_000));
        // The place's clock is 2 s ahead of the shard's: by its own the instant comes 2 s sooner.
        start.before = clock(1_980, 2_020);
        assert_eq!(start.by_own_clock(), UnixNanos(3_000_000_000));
        start.before = clock(-1_000, -1_000);
        assert_eq!(start.by_own_clock(), UnixNanos(6_000_000_000));
    }
}
