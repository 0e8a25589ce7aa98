//! A scenario: what to send, how, to whom, and what makes the run itself valid.
//!
//! The grammar is our own kind `apiVersion: harness/v1`, shaped like a Kubernetes object. Unknown
//! keys are errors. What the grammar knows but this version does not do is refused by name.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Nanos, Phase};

mod check;
mod parse;
mod resolve;
mod text;

pub use text::{Dur, Rate, Share};

/// Requests that an open load may have out at once when the scenario does not say.
pub const DEFAULT_MAX_IN_FLIGHT: u32 = 512;

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
    /// Loads side by side.
    pub loads: Vec<Load>,
    /// Faults put on a target that the harness started.
    #[serde(default)]
    pub faults: Vec<Fault>,
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

/// What is put under load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Target {
    /// Base URL, `http://host:port`. Left out with `start`: the started process reports its address.
    #[serde(default)]
    pub url: Option<String>,
    /// A process to start, and to stop at the end.
    #[serde(default)]
    pub start: Option<Start>,
    /// `service.version` that every instance seen in the telemetry must have.
    #[serde(default)]
    pub expect_version: Option<String>,
    /// Longest time from due to a complete answer. Default 30 s.
    #[serde(default = "default_timeout")]
    pub timeout: Dur,
    /// Most connections open at once. Default: as many as requests in flight.
    #[serde(default)]
    pub max_connections: Option<u32>,
}

fn default_timeout() -> Dur {
    Dur(Duration::from_secs(30))
}

/// A target process. Its first line on stdout is JSON with the addresses it listens on:
/// `{"event":"listening","http":"127.0.0.1:PORT","metrics":"127.0.0.1:PORT",…}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Program and arguments. A bare name is looked up beside the harness' own executable, then in `PATH`.
    pub command: Vec<String>,
    /// Path that answers 200 once the target is ready.
    pub ready: String,
    /// How long that may take.
    pub within: Dur,
    /// Environment variables beside the harness' own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Where telemetry is read. Either `embedded` or real backends, or both for different signals.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Telemetry {
    /// Embedded Prometheus, Loki and Tempo in the harness' own process.
    #[serde(default)]
    pub embedded: Option<Embedded>,
    /// A real Prometheus.
    #[serde(default)]
    pub prometheus: Option<BackendAddress>,
    /// A real Loki.
    #[serde(default)]
    pub loki: Option<BackendAddress>,
    /// A real Tempo.
    #[serde(default)]
    pub tempo: Option<BackendAddress>,
    /// OTLP/gRPC endpoint that client spans (and a started target's telemetry) go to when the
    /// backends are real, e.g. `http://127.0.0.1:4317`.
    #[serde(default)]
    pub otlp: Option<String>,
    /// The service's name in telemetry. Default: the first scrape job's name, else the file name of
    /// the started command.
    #[serde(default)]
    pub service: Option<String>,
    /// Counter of requests that the service keeps, as a PromQL selector; every series of it is one
    /// instance, route and status. Default
    /// `http_server_request_duration_seconds_count{job="SERVICE",http_route=~"ROUTES"}` with the
    /// routes of the scenario's requests.
    #[serde(default)]
    pub request_counter: Option<String>,
    /// LogQL log query that matches exactly one line per request the service answered. Default
    /// `{service_name="SERVICE"} |= "request completed"`.
    #[serde(default)]
    pub request_log: Option<String>,
}

/// The embedded backends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    /// What the embedded Prometheus scrapes.
    #[serde(default)]
    pub scrape: Vec<ScrapeJob>,
}

/// One scrape job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScrapeJob {
    /// Value of the label `job`.
    pub job: String,
    /// Scrape interval.
    pub every: Dur,
    /// What to scrape. Left out: the metrics address that the started target reports.
    #[serde(default)]
    pub url: Option<String>,
}

/// A real backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendAddress {
    /// Base URL.
    pub url: String,
    /// `X-Scope-OrgID`.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Bearer token; write `${NAME}`. Never printed or stored.
    #[serde(default)]
    pub bearer: Option<String>,
    /// PEM file of a certificate authority to trust beside the system's.
    #[serde(default)]
    pub ca: Option<String>,
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

/// A kind of request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Request {
    /// Name that mixes and objectives refer to.
    pub name: String,
    /// HTTP method.
    pub method: String,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// The service's route template, where it differs from `path`.
    #[serde(default)]
    pub route: Option<String>,
    /// Headers. `content-type` defaults to `text/plain; charset=utf-8` when there is a body.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body.
    #[serde(default)]
    pub body: Option<Body>,
    /// What a right answer is. Default: any status from 200 to 299.
    #[serde(default)]
    pub expect: Expect,
    /// JSONPath → template that the answer is compared with for the figure `accuracy`; never an error.
    #[serde(default)]
    pub score: BTreeMap<String, String>,
}

/// The body of a request: from a dataset, or written out.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, untagged)]
pub enum Body {
    /// One field of a row of a dataset.
    Dataset {
        /// JSONL file, relative to the scenario file.
        dataset: String,
        /// The row's field that is sent.
        field: String,
        /// Order of rows. Default `sequential`, beginning again at the end.
        #[serde(default)]
        order: Order,
    },
    /// The same text each time.
    Text {
        /// The text.
        text: String,
    },
}

impl<'de> Deserialize<'de> for Body {
    /// By hand, since what serde says of an untagged enum ("did not match any variant") names
    /// neither the key nor the mistake.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            dataset: Option<String>,
            field: Option<String>,
            order: Option<Order>,
            text: Option<String>,
        }
        match Keys::deserialize(deserializer)? {
            Keys {
                dataset: Some(dataset),
                field: Some(field),
                order,
                text: None,
            } => Ok(Self::Dataset {
                dataset,
                field,
                order: order.unwrap_or_default(),
            }),
            Keys {
                dataset: None,
                field: None,
                order: None,
                text: Some(text),
            } => Ok(Self::Text { text }),
            _ => Err(serde::de::Error::custom(
                "a body is either `dataset` and `field` (and `order`), or `text` alone",
            )),
        }
    }
}

/// Order in which rows of a dataset are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As in the file, beginning again at the end.
    #[default]
    Sequential,
    /// A fresh permutation, from the seed, of each pass over the file.
    Shuffled,
    /// Zipf's law with exponent 1. Not built yet.
    Zipf,
}

/// What a right answer is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The status. Default: any from 200 to 299.
    #[serde(default)]
    pub status: Option<u16>,
    /// JSONPath → value or template (`{{ field }}` of the dataset's row) that must be equal.
    #[serde(default)]
    pub json: BTreeMap<String, serde_json::Value>,
}

/// A stream of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Load {
    /// Name.
    pub name: String,
    /// Request name → weight.
    pub mix: BTreeMap<String, u32>,
    /// Open or closed, by k6's names.
    pub executor: Executor,
    /// Spacing of arrivals of an open load. Default `even`.
    #[serde(default)]
    pub spacing: Option<Spacing>,
    /// Most requests out at once; beyond it a request counts as failed, outcome `dropped`. Default 512.
    #[serde(default)]
    pub max_in_flight: Option<u32>,
    /// Users of a closed load.
    #[serde(default)]
    pub vus: Option<u32>,
    /// Pause of a user between an answer and its next request.
    #[serde(default)]
    pub think_time: Option<ThinkTime>,
    /// Delay of the load's start.
    #[serde(default)]
    pub start_at: Option<Dur>,
    /// Its stages, one after another.
    pub stages: Vec<Stage>,
}

/// How a load makes its arrivals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Executor {
    /// Open: a constant rate in each stage.
    ConstantArrivalRate,
    /// Open: the rate runs linearly from stage to stage.
    RampingArrivalRate,
    /// Closed: a constant number of users.
    ConstantVus,
    /// Closed: the number of users runs linearly from stage to stage. Not built yet.
    RampingVus,
    /// Closed: each user makes a given number of requests. Not built yet.
    PerVuIterations,
    /// Closed: users share a given number of requests. Not built yet.
    SharedIterations,
    /// Open: instants from a file. Not built yet.
    Replay,
}

/// Spacing of the arrivals of an open load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Equal gaps.
    Even,
    /// Exponential gaps: a Poisson process.
    Poisson,
    /// Gamma gaps of this shape; 1 is Poisson, less is burstier. Not built yet.
    Gamma(f64),
}

/// Pause of a closed user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ThinkTime {
    /// Always the same.
    Constant(Dur),
    /// Uniform between two.
    Uniform(Dur, Dur),
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
    /// Its length.
    #[serde(rename = "for")]
    pub length: Dur,
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

impl Executor {
    /// Whether arrivals wait for no answer.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(
            self,
            Self::ConstantArrivalRate | Self::RampingArrivalRate | Self::Replay
        )
    }
}

impl Load {
    /// When it starts, in nanoseconds since the start of the run.
    #[must_use]
    pub fn start(&self) -> Nanos {
        Nanos(self.start_at.map_or(0, Dur::nanos))
    }

    /// When its last stage ends.
    #[must_use]
    pub fn end(&self) -> Nanos {
        let stages = self.stages.iter().map(|stage| stage.length.nanos());
        Nanos(stages.fold(self.start().0, u64::saturating_add))
    }

    /// Most requests out at once of an open load.
    #[must_use]
    pub fn in_flight_limit(&self) -> u32 {
        self.max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT)
    }
}

impl Scenario {
    /// The dataset files that requests take their bodies from, as written, each once.
    #[must_use]
    pub fn datasets(&self) -> Vec<&str> {
        let mut files: Vec<&str> = Vec::new();
        for request in &self.spec.requests {
            if let Some(Body::Dataset { dataset, .. }) = &request.body
                && !files.contains(&dataset.as_str())
            {
                files.push(dataset);
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
}

impl Default for Validity {
    fn default() -> Self {
        Self {
            late_sends: LateSends::default(),
            trace_coverage: Share(0.99),
            metric_coverage: Share(0.99),
            log_coverage: Share(0.99),
            foreign_traffic: Share(0.01),
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

/// A rule that ends the run early.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AbortRule {
    /// `error_ratio > X`, over all requests done in the window.
    pub when: String,
    /// Length of the sliding window.
    pub over: Dur,
}

#[cfg(test)]
mod tests;
