//! A scenario: what to send, how, to whom, and what makes the run itself valid.
//!
//! The grammar is our own kind `apiVersion: harness/v1`, shaped like a Kubernetes object. Unknown
//! keys are errors. What the grammar knows but this version does not do is refused by name.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod abort;
mod check;
mod load;
mod parse;
mod request;
mod resolve;
mod target;
pub(crate) mod template;
mod text;

pub use abort::{AbortRule, Condition};
pub use load::{
    DEFAULT_MAX_IN_FLIGHT, Executor, Load, Lognormal, Replay, Sine, Spacing, Spike, Stage,
    ThinkTime, TimeUnit,
};
pub use request::{
    Body, Capture, Data, DataFormat, DataSource, Expect, Flow, HeaderValue, Order, Request, Size,
    Status, Streaming,
};
pub use target::{
    BackendAddress, Embedded, Grafana, Protocol, ScrapeJob, Start, Target, Telemetry, Tls,
};
pub use text::{Dur, Rate, Share};

/// A whole scenario file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Scenario {
    /// `harness/v1`.
    pub api_version: String,
    /// `Scenario`.
    pub kind: String,
    /// Name and notes.
    pub metadata: Metadata,
    /// The scenario itself.
    pub spec: Spec,
}

/// Name and notes of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Name, a DNS label: lower-case letters, digits and `-`.
    pub name: String,
    /// Free text for people.
    #[serde(default)]
    pub description: Option<String>,
    /// Free labels; harness reads none.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// The body of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Spec {
    /// What timing, payload and sampling derive from.
    pub seed: u64,
    /// OpenSLO files or directories, relative to the scenario file. `--slo` replaces them.
    #[serde(default)]
    pub slo: Vec<String>,
    /// What is put under load.
    pub target: Target,
    /// Where its telemetry is read.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// Trace sampling.
    #[serde(default)]
    pub trace: Trace,
    /// The kinds of request, each with a name that objectives refer to.
    pub requests: Vec<Request>,
    /// Sequences of requests in which a later one uses what an earlier one's answer held. A mix may
    /// name them like a request.
    #[serde(default)]
    pub flows: Vec<Flow>,
    /// Loads side by side.
    pub loads: Vec<Load>,
    /// Faults put on a target that the harness started.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// How long after it is due a request may wait for others, so that one wake of the generator sends
    /// them all. It counts as latency, since that runs from due. Only loads of more than `1 / timerSlack`
    /// requests a second (1,000/s) are touched; below, each is sent at its instant. `0s`: always. Default
    /// 1 ms, or a tenth of `validity.lateSends.over` where that is less.
    #[serde(default)]
    pub timer_slack: Option<Dur>,
    /// What is kept of each request.
    #[serde(default)]
    pub record: Record,
    /// What makes the run itself valid.
    #[serde(default)]
    pub validity: Validity,
    /// Rules that end the run early.
    #[serde(default)]
    pub abort: Vec<AbortRule>,
    /// How long requests still out at the end may take. Default 10 s.
    #[serde(default = "default_graceful_stop")]
    pub graceful_stop: Dur,
    /// How long to wait for complete telemetry after the last request. Default 30 s.
    #[serde(default = "default_settle")]
    pub settle: Dur,
}

fn default_graceful_stop() -> Dur {
    Dur(Duration::from_secs(10))
}

fn default_settle() -> Dur {
    Dur(Duration::from_secs(30))
}

/// Fewest rows that may be asked for.
pub const FEWEST_ROWS: u64 = 100;

/// What is kept of each request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Most requests of which a row is kept, at least 100. Of more, one in 2, 4, 8, … keeps its row, by a hash
    /// of its id. Counts are of all requests all the same; figures that need rows (percentiles, how requests
    /// hang together, where the time went) are then of the sample. Default 1,000,000.
    #[serde(default = "default_rows")]
    pub rows: u64,
}

fn default_rows() -> u64 {
    1_000_000
}

impl Default for Record {
    fn default() -> Self {
        Self {
            rows: default_rows(),
        }
    }
}

/// Trace sampling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Share of requests whose `traceparent` asks to be recorded, 0 to 1.
    pub sampled: f64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { sampled: 1.0 }
    }
}

/// A fault put on a target that the harness started, through the target's own `POST /faults`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When, since the start of the load.
    pub at: Dur,
    /// How long.
    #[serde(rename = "for")]
    pub length: Dur,
    /// What.
    pub kind: FaultKind,
    /// Time added to each request (`latency`, `stall`).
    #[serde(default)]
    pub add: Option<Dur>,
    /// Share of requests it meets. Default all.
    #[serde(default)]
    pub share: Option<Share>,
}

/// Kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Each request takes longer.
    Latency,
    /// Requests are answered with 500.
    Errors,
    /// The engine stands still.
    Stall,
    /// Answers carry another label.
    WrongAnswers,
    /// `/metrics` fails and nothing is exported.
    TelemetryCut,
}

impl Spec {
    /// How long after it is due a request may wait for others.
    #[must_use]
    pub fn timer_slack(&self) -> Dur {
        let default = Duration::from_millis(1).min(self.validity.late_sends.over.0 / 10);
        self.timer_slack.unwrap_or(Dur(default))
    }
}

impl Scenario {
    /// The files that requests take rows from, as written, each once.
    #[must_use]
    pub fn datasets(&self) -> Vec<&str> {
        let mut files: Vec<&str> = Vec::new();
        for data in self.spec.requests.iter().filter_map(Request::data) {
            if !files.contains(&data.dataset) {
                files.push(data.dataset);
            }
        }
        files
    }

    /// The values that a request's templates can take from earlier steps, wherever it is used: what
    /// every flow with it captures before, and nothing if a mix uses it alone.
    #[must_use]
    pub(crate) fn captured_before(&self, request: &str) -> BTreeSet<&str> {
        let captures = |name: &String| {
            let found = self
                .spec
                .requests
                .iter()
                .find(|request| request.name == *name);
            found
                .into_iter()
                .flat_map(|request| request.capture.keys().map(String::as_str))
        };
        let mut uses: Vec<BTreeSet<&str>> = Vec::new();
        if self
            .spec
            .loads
            .iter()
            .any(|load| load.mix.contains_key(request))
        {
            uses.push(BTreeSet::new());
        }
        for flow in &self.spec.flows {
            let places = flow
                .steps
                .iter()
                .enumerate()
                .filter(|(_, step)| *step == request);
            uses.extend(
                places.map(|(place, _)| flow.steps[..place].iter().flat_map(captures).collect()),
            );
        }
        let mut uses = uses.into_iter();
        let first = uses.next().unwrap_or_default();
        uses.fold(first, |common, other| {
            common.intersection(&other).copied().collect()
        })
    }

    /// All files that the scenario reads: datasets, and instants to replay; as written, each once.
    #[must_use]
    pub fn files(&self) -> Vec<&str> {
        let mut files = self.datasets();
        for replay in self
            .spec
            .loads
            .iter()
            .filter_map(|load| load.replay.as_ref())
        {
            if !files.contains(&replay.file.as_str()) {
                files.push(&replay.file);
            }
        }
        files
    }
}

/// Limits beyond which the run itself is invalid, or its evidence incomplete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Validity {
    /// Share of requests that may be sent late. Default: 1 % over 10 ms.
    pub late_sends: LateSends,
    /// Least share of sampled traces that must be found. Default 99 %.
    pub trace_coverage: Share,
    /// Least share of answered requests that the service's counter must show. Default 99 %.
    pub metric_coverage: Share,
    /// Least share of answered requests that the request log must show. Default 99 %.
    pub log_coverage: Share,
    /// Most requests the service may have counted beyond those sent, as a share of them. Default 1 %.
    pub foreign_traffic: Share,
    /// Most of one core that the thread which sends may use, on average. Default 95 %.
    pub sender_cpu: Share,
    /// Longest time that the generator's event loop may stand still. Default 1 s.
    pub stall: Dur,
    /// Most files that the generator may have open, as a share of its limit. Default 95 %.
    pub open_files: Share,
}

impl Default for Validity {
    fn default() -> Self {
        Self {
            late_sends: LateSends::default(),
            trace_coverage: Share(0.99),
            metric_coverage: Share(0.99),
            log_coverage: Share(0.99),
            foreign_traffic: Share(0.01),
            sender_cpu: Share(0.95),
            stall: Dur(Duration::from_secs(1)),
            open_files: Share(0.95),
        }
    }
}

/// How many requests may be how late.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LateSends {
    /// Later than this is late.
    pub over: Dur,
    /// This share may be.
    pub share: Share,
}

impl Default for LateSends {
    fn default() -> Self {
        Self {
            over: Dur(Duration::from_millis(10)),
            share: Share(0.01),
        }
    }
}

#[cfg(test)]
mod refused;
#[cfg(test)]
mod tests;
