//! Everything a run leaves that a verdict is made from: `run.json`, beside the rows and answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::query::{Answer, Query};
use crate::units::{Nanos, Phase, Seed, UnixNanos};

pub mod baseline;
pub mod clock;
pub mod context;
pub mod sampled;
pub mod together;

/// Version of the run directory's format.
pub const RUN_SCHEMA: &str = "harness.run/v1";

/// A stretch of one load's schedule, `[start, end)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stretch {
    /// Index into the scenario's `loads`.
    pub load: u16,
    /// Its phase.
    pub phase: Phase,
    /// Start.
    pub start: Nanos,
    /// End.
    pub end: Nanos,
}

/// Why a run ended before its schedule did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "code", content = "why")]
pub enum Stop {
    /// A signal; exit 130.
    Interrupted(String),
    /// An abort rule held; exit 15.
    AbortRule(String),
    /// The target could not be reached or never became ready, before the first measured request; exit 14.
    TargetUnreachable(String),
    /// A telemetry backend could not be reached before the first measured request; exit 13.
    BackendUnreachable(String),
    /// The disk did not take what was measured, and the load was ended for it; exit 1.
    CannotRecord(String),
    /// The shards did not start together, so this one sent nothing; exit 12.
    NotStarted(String),
}

/// What the generator knows of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Generator {
    /// Arrivals that the schedule held up to the instant the run ended.
    pub scheduled: u64,
    /// CPU seconds (user and system) of the harness' own process during the load, embedded
    /// evidence included; `None` where the system does not tell.
    pub cpu_seconds: Option<f64>,
    /// Wall-clock seconds those CPU seconds were counted over.
    pub wall_seconds: f64,
    /// Requests that waited for a connection because `maxConnections` were all in use.
    pub connection_waits: u64,
    /// Sum of those waits.
    pub connection_wait_total: Nanos,
    /// The longest of them.
    #[serde(default)]
    pub longest_connection_wait: Nanos,
    /// Longest time that the event loop did not run although it should have.
    pub longest_stall: Nanos,
    /// Connections opened to the target.
    #[serde(default)]
    pub connections_opened: u64,
    /// Share of one core that the thread which sends used; `None` for a load shorter than a second.
    #[serde(default)]
    pub sender_cpu_share: Option<f64>,
    /// The same in its busiest second.
    #[serde(default)]
    pub busiest_second: f64,
    /// Most files open at once, where the system tells.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// Requests whose task broke down in the generator: defects of the harness.
    #[serde(default)]
    pub broken: u64,
    /// Client spans handed to the exporter.
    pub spans_offered: u64,
    /// Client spans that the collector acknowledged.
    pub spans_exported: u64,
    /// Cores that this process may use.
    pub cores: u32,
    /// Whether the system ran the threads that keep the schedule before others (a real-time class).
    #[serde(default)]
    pub runs_first: bool,
    /// Soft limit of open files, where the system tells.
    pub open_files_limit: Option<u64>,
}

/// The target as the run knew it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// Base URL that requests went to.
    pub url: String,
    /// Whether the harness started it.
    pub started: bool,
    /// First line of a started target's stdout, as it was: JSON with its addresses and version.
    pub announced: Option<serde_json::Value>,
    /// How a started target ended, if it did so before it was asked to.
    pub exited: Option<String>,
}

/// One backend as the run used it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendUsed {
    /// Base URL, without credentials.
    pub url: String,
    /// Embedded in the harness' own process.
    pub embedded: bool,
    /// Data that an embedded backend refused (memory limit, malformed): evidence is incomplete if not 0.
    #[serde(default)]
    pub refused: u64,
    /// Its clock against ours, where its answers tell the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<clock::ClockSeen>,
}

/// How the wait for complete telemetry ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Settled {
    /// Seconds waited after the last request was done.
    pub waited_seconds: f64,
    /// The limit.
    pub within_seconds: f64,
    /// What was still missing when the limit was reached, one sentence each; empty when complete.
    pub missing: Vec<String>,
    /// The wall-clock instant that the last round of coverage questions was asked for: the upper
    /// edge of what the judge may ask about.
    pub until: UnixNanos,
}

/// A fault of the scenario, as it was really put on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultApplied {
    /// As written in the scenario.
    pub kind: String,
    /// When the target acknowledged it; `None` when it did not.
    pub at: Option<Nanos>,
    /// What went wrong in putting it on.
    pub error: Option<String>,
}

/// The facts of a run that are neither rows nor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunFacts {
    /// [`RUN_SCHEMA`].
    pub schema: String,
    /// Unique name of the run.
    pub run_id: String,
    /// Version of the harness that made the load.
    pub harness_version: String,
    /// `metadata.name` of the scenario.
    pub scenario: String,
    /// SHA-256 of the scenario file as used, hex.
    pub scenario_sha256: String,
    /// The seed used.
    pub seed: Seed,
    /// Wall-clock instant of `Nanos(0)`, read once together with the monotonic clock.
    pub started: UnixNanos,
    /// When the last outcome was known.
    pub drained: Nanos,
    /// The stretches of the schedule, as planned.
    pub stretches: Vec<Stretch>,
    /// The generator.
    pub generator: Generator,
    /// The target.
    pub target: Target,
    /// The service's name in telemetry (`service.name`, `job`).
    pub service: String,
    /// `target.expectVersion` with its variable replaced, if the scenario has one.
    pub expect_version: Option<String>,
    /// Backends in use.
    pub backends: BTreeMap<crate::query::Backend, BackendUsed>,
    /// The wait for telemetry.
    pub settled: Settled,
    /// Faults put on.
    pub faults: Vec<FaultApplied>,
    /// Why the run ended early, if it did.
    pub stop: Option<Stop>,
    /// What it was told, or saw around it.
    #[serde(default)]
    pub context: context::Context,
    /// The Grafana that reports link to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grafana: Option<crate::scenario::Grafana>,
    /// SLO files in the run directory → as they were named when the run was made, relative to where
    /// it was started where they lie below that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slo_files: BTreeMap<String, String>,
}

impl RunFacts {
    /// The measured window: from the earliest start to the latest end of any measured stretch.
    #[must_use]
    pub fn window(&self) -> Option<(Nanos, Nanos)> {
        let measured = || self.stretches.iter().filter(|s| s.phase == Phase::Measure);
        Some((
            measured().map(|s| s.start).min()?,
            measured().map(|s| s.end).max()?,
        ))
    }

    /// Wall-clock time of an instant of the run.
    #[must_use]
    pub fn wall(&self, at: Nanos) -> UnixNanos {
        self.started.plus(at)
    }
}

/// Recorded answers by question. Of two answers to one question the later recorded one counts.
#[derive(Debug, Clone, Default)]
pub struct AnswerBook(BTreeMap<Query, Answer>);

impl AnswerBook {
    /// Keeps an answer.
    pub fn insert(&mut self, answer: Answer) {
        self.0.insert(answer.query.clone(), answer);
    }

    /// The recorded answer to exactly this question.
    #[must_use]
    pub fn get(&self, query: &Query) -> Option<&Answer> {
        self.0.get(query)
    }

    /// All answers, in the order of their questions.
    pub fn iter(&self) -> impl Iterator<Item = &Answer> {
        self.0.values()
    }

    /// Number of answered questions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Answer> for AnswerBook {
    fn from_iter<I: IntoIterator<Item = Answer>>(answers: I) -> Self {
        let mut book = Self::default();
        answers.into_iter().for_each(|answer| book.insert(answer));
        book
    }
}
