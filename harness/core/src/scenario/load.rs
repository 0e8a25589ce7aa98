//! How much is sent, and when.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::request::DataFormat;
use super::{Dur, Rate, Scenario};
use crate::units::{Nanos, Phase};

/// Requests that an open load may have out at once when the scenario does not say.
pub const DEFAULT_MAX_IN_FLIGHT: u32 = 512;
/// Samples of one query of `MultiStream` when the scenario does not say: MLPerf's number.
const SAMPLES_PER_QUERY: u32 = 8;

/// A stream of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Load {
    /// Name.
    pub name: String,
    /// Name of a request or flow → weight.
    pub mix: BTreeMap<String, u32>,
    /// Open or closed, by k6's names, or one of MLPerf's scenarios.
    pub executor: Executor,
    /// Spacing of arrivals of an open load. Default `even`.
    #[serde(default)]
    pub spacing: Option<Spacing>,
    /// Most requests out at once; beyond it a request counts as failed, outcome `dropped`. Default 512.
    #[serde(default)]
    pub max_in_flight: Option<u32>,
    /// Users of a closed load. Of `ramping-vus`: how many it starts with, default 0.
    #[serde(default)]
    pub vus: Option<u32>,
    /// Requests (or flows) of each user (`per-vu-iterations`) or of all (`shared-iterations`,
    /// `Offline`). Those not begun when the stages are over count as failed, outcome `dropped`.
    #[serde(default)]
    pub iterations: Option<u64>,
    /// Samples of one query of `MultiStream`. Default 8.
    #[serde(default)]
    pub samples_per_query: Option<u32>,
    /// Pause of a user between an answer and its next request.
    #[serde(default)]
    pub think_time: Option<ThinkTime>,
    /// Instants from a file.
    #[serde(default)]
    pub replay: Option<Replay>,
    /// Delay of the load's start: since the run's start, or since the end of `startAfter`.
    #[serde(default)]
    pub start_at: Option<Dur>,
    /// Name of a load that is over before this one starts.
    #[serde(default)]
    pub start_after: Option<String>,
    /// Its stages, one after another.
    pub stages: Vec<Stage>,
}

/// How a load makes its arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Executor {
    /// Open: a constant rate in each stage, or the shape that the stage names.
    ConstantArrivalRate,
    /// Open: the rate runs linearly from stage to stage.
    RampingArrivalRate,
    /// Closed: a constant number of users.
    ConstantVus,
    /// Closed: the number of users runs linearly from stage to stage.
    RampingVus,
    /// Closed: each user makes a given number of requests.
    PerVuIterations,
    /// Closed: users share a given number of requests.
    SharedIterations,
    /// Open: instants from a file.
    Replay,
    /// MLPerf: one user without think time.
    #[serde(rename = "SingleStream")]
    SingleStream,
    /// MLPerf: `samplesPerQuery` users who wait for each other: a query is over when all of its
    /// samples are, and then the next one is sent.
    #[serde(rename = "MultiStream")]
    MultiStream,
    /// MLPerf: an open load with Poisson spacing.
    #[serde(rename = "Server")]
    Server,
    /// MLPerf: all `iterations` are at hand from the start, `vus` of them out at any time; what
    /// counts is the throughput.
    #[serde(rename = "Offline")]
    Offline,
}

/// Spacing of the arrivals of an open load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Equal gaps.
    Even,
    /// Exponential gaps: a Poisson process.
    Poisson,
    /// Gamma gaps of this shape: their coefficient of variation is `1 / sqrt(shape)`. 1 is Poisson,
    /// less is burstier, more is evener.
    Gamma(f64),
}

/// Pause of a closed user.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ThinkTime {
    /// Always the same.
    Constant(Dur),
    /// Uniform between two.
    Uniform(Dur, Dur),
    /// Exponential with this mean.
    Exponential(Dur),
    /// Log-normal.
    Lognormal(Lognormal),
}

/// A log-normal distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lognormal {
    /// Its median.
    pub median: Dur,
    /// Standard deviation of the logarithm.
    pub sigma: f64,
}

/// Instants of arrival from a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Replay {
    /// CSV, JSONL or text (an instant a line), relative to the scenario file. In order of time.
    pub file: String,
    /// Its format. Default: by its ending.
    #[serde(default)]
    pub format: Option<DataFormat>,
    /// The field with the instant: a number, or RFC 3339. The first is the load's start. Default
    /// `timestamp`; of a text file `line`.
    #[serde(default)]
    pub time: Option<String>,
    /// Unit of instants that are numbers. Default seconds.
    #[serde(default)]
    pub unit: TimeUnit,
    /// How many times faster than recorded. Default 1.
    #[serde(default = "one")]
    pub speed_up: f64,
    /// The field with the name of the request or flow, one of `mix`, whose weights then do not
    /// matter. Default: drawn from `mix`.
    #[serde(default)]
    pub request: Option<String>,
}

fn one() -> f64 {
    1.0
}

/// A unit of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Seconds.
    #[default]
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl TimeUnit {
    /// Nanoseconds in one.
    #[must_use]
    pub fn nanos(self) -> u64 {
        match self {
            Self::S => 1_000_000_000,
            Self::Ms => 1_000_000,
            Self::Us => 1_000,
            Self::Ns => 1,
        }
    }
}

/// A stage of a load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its phase.
    pub phase: Phase,
    /// Rate of an open load. When ramping: the rate at the stage's end, reached linearly from the
    /// rate at the end of the stage before (the first stage begins at 0).
    #[serde(default)]
    pub rate: Option<Rate>,
    /// Users at the stage's end, of `ramping-vus`: reached linearly from those at the end of the
    /// stage before (the first stage begins at the load's `vus`).
    #[serde(default)]
    pub vus: Option<u32>,
    /// The rate swings about `rate`.
    #[serde(default)]
    pub sine: Option<Sine>,
    /// The rate jumps from `rate` and back.
    #[serde(default)]
    pub spike: Option<Spike>,
    /// Its length; of loads with `iterations` the longest that they may take.
    #[serde(rename = "for")]
    pub length: Dur,
}

/// A rate that swings: `rate + amplitude · sin(2π · t / period)`, `t` from the stage's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sine {
    /// Largest difference from `rate`, which it may not exceed.
    pub amplitude: Rate,
    /// Length of one swing.
    pub period: Dur,
}

/// A rate that jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spike {
    /// The rate within the spike.
    pub to: Rate,
    /// When it begins, from the stage's start.
    pub at: Dur,
    /// Its length at the full rate.
    #[serde(rename = "for")]
    pub length: Dur,
    /// Length of the linear way up, and again of the way down. Default 0.
    #[serde(default)]
    pub ramp: Option<Dur>,
}

impl Executor {
    /// Whether arrivals wait for no answer.
    #[must_use]
    pub fn is_open(self) -> bool {
        match self {
            Self::ConstantArrivalRate | Self::RampingArrivalRate | Self::Replay | Self::Server => {
                true
            }
            Self::ConstantVus
            | Self::RampingVus
            | Self::PerVuIterations
            | Self::SharedIterations
            | Self::SingleStream
            | Self::MultiStream
            | Self::Offline => false,
        }
    }

    /// Whether stages give rates.
    #[must_use]
    pub fn has_rates(self) -> bool {
        self.is_open() && self != Self::Replay
    }

    /// Whether a load ends with a number of requests.
    #[must_use]
    pub fn has_iterations(self) -> bool {
        matches!(
            self,
            Self::PerVuIterations | Self::SharedIterations | Self::Offline
        )
    }

    /// Whether users take their iterations out of one number for all.
    #[must_use]
    pub fn shares_iterations(self) -> bool {
        matches!(self, Self::SharedIterations | Self::Offline)
    }

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConstantArrivalRate => "constant-arrival-rate",
            Self::RampingArrivalRate => "ramping-arrival-rate",
            Self::ConstantVus => "constant-vus",
            Self::RampingVus => "ramping-vus",
            Self::PerVuIterations => "per-vu-iterations",
            Self::SharedIterations => "shared-iterations",
            Self::Replay => "replay",
            Self::SingleStream => "SingleStream",
            Self::MultiStream => "MultiStream",
            Self::Server => "Server",
            Self::Offline => "Offline",
        }
    }
}

impl Load {
    /// Length of all stages in nanoseconds.
    #[must_use]
    pub fn length(&self) -> u64 {
        let stages = self.stages.iter().map(|stage| stage.length.nanos());
        stages.fold(0, u64::saturating_add)
    }

    /// Most requests out at once of an open load.
    #[must_use]
    pub fn in_flight_limit(&self) -> u32 {
        self.max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT)
    }

    /// Spacing of an open load's arrivals.
    #[must_use]
    pub fn spacing(&self) -> Spacing {
        match self.executor {
            Executor::Server => Spacing::Poisson,
            _ => self.spacing.unwrap_or(Spacing::Even),
        }
    }

    /// Most users that a closed load ever has; 0 for an open one.
    #[must_use]
    pub fn users(&self) -> u32 {
        let vus = self.vus.unwrap_or(0);
        match self.executor {
            Executor::SingleStream => 1,
            Executor::MultiStream => self.samples_per_query.unwrap_or(SAMPLES_PER_QUERY),
            Executor::RampingVus => {
                let stages = self.stages.iter().filter_map(|stage| stage.vus);
                stages.fold(vus, u32::max)
            }
            executor if executor.is_open() => 0,
            _ => vus,
        }
    }
}

impl Scenario {
    /// When load number `load` starts, in nanoseconds since the start of the run: after its
    /// `startAt`, counted from the planned end of the load that `startAfter` names.
    #[must_use]
    pub fn load_start(&self, load: usize) -> Nanos {
        let mut start: u64 = 0;
        let mut now = load;
        // As many steps as there are loads: a circle, which the checks refuse, ends too.
        for _ in &self.spec.loads {
            let Some(spec) = self.spec.loads.get(now) else {
                break;
            };
            start = start.saturating_add(spec.start_at.map_or(0, Dur::nanos));
            let before = spec
                .start_after
                .as_ref()
                .and_then(|name| self.load_named(name));
            let Some(before) = before else { break };
            start = start.saturating_add(self.spec.loads[before].length());
            now = before;
        }
        Nanos(start)
    }

    /// When the last stage of load number `load` ends.
    #[must_use]
    pub fn load_end(&self, load: usize) -> Nanos {
        let length = self.spec.loads.get(load).map_or(0, Load::length);
        Nanos(self.load_start(load).0.saturating_add(length))
    }

    fn load_named(&self, name: &str) -> Option<usize> {
        self.spec.loads.iter().position(|load| load.name == name)
    }
}
