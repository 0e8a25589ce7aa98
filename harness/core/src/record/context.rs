//! What a run was told, or saw around it, that its verdict or its report depends on: part of `run.json`,
//! so that a verdict is the same when it is made again somewhere else.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Generator;
use super::sampled::Sampled;
use super::together::StartedTogether;
use crate::report::model::Verdict;
use crate::schedule::Shard;
use crate::units::{Nanos, UnixNanos};

/// What a run was told, or saw around it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Context {
    /// `--strict`: a missed `harness/warn` criterion of a required objective fails the run.
    #[serde(default)]
    pub strict: bool,
    /// SHA-256 of the files that the scenario names (datasets, recorded arrivals), by path as written:
    /// the same scenario with other data is another load.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Traffic in production, for error budgets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub production: Option<Production>,
    /// Runs of the same scenario found beside this one when it began, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Beside>,
    /// With `--retries`: which attempt this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// With `--shard`: which part of the schedule this run sent. Such a run alone decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
    /// With `--results`: how it came to start when it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartedTogether>,
    /// Of a merged run: the shards that it was put together from, by their numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<ShardRun>,
    /// Where there were more requests than rows are kept of: which rows those are, and what was counted of
    /// all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled: Option<Sampled>,
}

/// One shard of a merged run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShardRun {
    /// Which part of the schedule.
    pub shard: Shard,
    /// Its own run id, which its requests carry in `baggage`.
    pub run_id: String,
    /// SHA-256 of its manifest, which holds the digests of all that it left.
    pub manifest_sha256: String,
    /// Wall-clock instant of its `Nanos(0)`, by its own clock.
    pub started: UnixNanos,
    /// When its last outcome was known.
    pub drained: Nanos,
    /// How it came to start when it did, where the shards met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<StartedTogether>,
    /// What its generator knew of itself.
    pub generator: Generator,
    /// What it counted itself, where the merged run does not have the rows of all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<ShardCounts>,
}

/// Counts of one shard of a merged run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShardCounts {
    /// All its requests.
    pub requests: u64,
    /// Those of the measured phase.
    pub measured: u64,
    /// Those of the measured phase that were sent later than `validity.lateSends.over`.
    pub late: u64,
}

/// Traffic in production: given, or to be asked of the run's Prometheus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Production {
    /// Events a second, more than 0.
    Rate(f64),
    /// PromQL that answers with events a second.
    Query(String),
}

/// A run found beside this one, by what its files say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Beside {
    /// Name of its directory.
    pub dir: String,
    /// Run id; `None` when it was never finished.
    pub run_id: Option<String>,
    /// When it started, RFC 3339 UTC.
    pub started_at: Option<String>,
    /// Versions of the service that its report names.
    pub versions: Vec<String>,
    /// The verdict that its report holds; `None` when it has none.
    pub verdict: Option<Verdict>,
    /// Machine-readable reason of that verdict.
    pub reason_code: Option<String>,
}

/// Which attempt of a run with `--retries` this is, and what came before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// Most attempts, agreed on before the first: one more than `--retries`.
    pub most: u32,
    /// The attempts before this one.
    #[serde(default)]
    pub earlier: Vec<EarlierAttempt>,
}

/// An attempt before this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EarlierAttempt {
    /// Name of its directory.
    pub dir: String,
    /// Run id.
    pub run_id: String,
    /// Its verdict, on its own counts and those of the attempts before it.
    pub verdict: Verdict,
    /// Machine-readable reason of that verdict.
    pub reason_code: Option<String>,
    /// Its own counts, by objective, where its evidence was complete; empty for an invalid attempt.
    #[serde(default)]
    pub counts: BTreeMap<String, Counted>,
}

/// Counts of one objective in one run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Counted {
    /// Good events.
    pub good: u64,
    /// All events that were counted.
    pub total: u64,
    /// Events that the evidence lacks: bad for a pass.
    pub unseen: u64,
}
