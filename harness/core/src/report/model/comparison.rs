//! Runs side by side: what `harness compare` says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bin, Verdict};

/// Version of the comparison's JSON.
pub const COMPARISON_SCHEMA: &str = "harness.comparison/v1";

/// Runs side by side. The first is what the others are compared with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// [`COMPARISON_SCHEMA`].
    pub schema: String,
    /// Whether the runs did the same to the same service, and all can be trusted.
    pub comparable: bool,
    /// Why not, one sentence each.
    pub not_comparable: Vec<String>,
    /// Confidence of each two-sided interval.
    pub confidence: f64,
    /// The runs.
    pub runs: Vec<ComparedRun>,
    /// Each run but the first against the first.
    pub pairs: Vec<Pair>,
}

/// One of the runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComparedRun {
    /// `A`, `B`, … in the order named.
    pub label: String,
    /// Directory, as named. Untrusted.
    pub dir: String,
    /// Run id.
    pub run: String,
    /// Scenario name.
    pub scenario: String,
    /// SHA-256 of the scenario.
    pub scenario_sha256: String,
    /// Start, RFC 3339 UTC.
    pub started_at: String,
    /// The service's name in telemetry.
    pub service: String,
    /// Versions of the service seen.
    pub versions: Vec<String>,
    /// Its verdict.
    pub verdict: Verdict,
    /// Requests due in the measured phase.
    pub requests: u64,
    /// Length of the measured phase, seconds.
    pub seconds: f64,
    /// Latencies of the measured phase; bins of all runs lie on one grid.
    pub distribution: Vec<Bin>,
}

/// One run against the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pair {
    /// Label of the first.
    pub base: String,
    /// Label of the other.
    pub other: String,
    /// What was compared.
    pub deltas: Vec<Delta>,
}

/// What a delta is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeltaOf {
    /// A quantile of latency from due, all requests.
    Latency,
    /// The share of requests that did not end as expected.
    Errors,
    /// Answers a second.
    Throughput,
    /// An objective's value; of a ratio its share of bad events.
    Objective,
}

/// What a delta says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Beyond chance for the better.
    Better,
    /// Beyond chance for the worse.
    Worse,
    /// Not beyond chance.
    Same,
    /// It cannot be told.
    Unknown,
}

/// One figure of two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Delta {
    /// What it is of.
    pub of: DeltaOf,
    /// `p99`, `bad`, `answers`, or an objective's name.
    pub name: String,
    /// Unit of `base` and `other`: `s`, `ratio`, `1/s`; may be unknown.
    pub unit: Option<String>,
    /// The first run's value.
    pub base: Option<f64>,
    /// The other's.
    pub other: Option<f64>,
    /// Whether the change and its interval are shares of the first run's value; else differences.
    pub relative: bool,
    /// The change.
    pub change: Option<f64>,
    /// Lower end of its interval; `None` when unbounded or unknown.
    pub lower: Option<f64>,
    /// Upper end, likewise.
    pub upper: Option<f64>,
    /// What that says.
    pub says: Change,
    /// Why there is no interval, or what noise was reckoned with.
    pub note: String,
}
