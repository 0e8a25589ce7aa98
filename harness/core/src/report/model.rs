//! The report as data: what `report.json` holds and every other form is drawn from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::observation::Outcome;
use crate::query::Backend;
use crate::units::{Nanos, Phase, RequestId, SpanId, TraceId};

mod beside;
mod comparison;

pub use beside::{
    AttemptUsed, Attempts, BaselineResult, BaselineUsed, BudgetResult, EarlierRun,
    ProductionBudget, WarnResult,
};

pub use comparison::{COMPARISON_SCHEMA, Change, ComparedRun, Comparison, Delta, DeltaOf, Pair};

mod why;

pub use why::{
    Explanation, Finding, Group, Link, Miss, Moved, Onset, Sides, Stage, StageKind, Tail,
};

/// Version of `report.json`.
pub const REPORT_SCHEMA: &str = "harness.report/v1";

/// The four answers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every required objective is met, with enough evidence to say so.
    Pass,
    /// The run was sound, the evidence does not decide.
    Inconclusive,
    /// At least one required objective is missed, with enough evidence to say so.
    Fail,
    /// The run itself cannot be trusted.
    Invalid,
}

/// Golden signal of an objective.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// How long.
    Latency,
    /// How much.
    Traffic,
    /// How often wrong.
    Errors,
    /// How full.
    Saturation,
}

/// Where an objective's value comes from.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The load generator's own observations.
    Client,
    /// Metrics.
    Prometheus,
    /// Logs.
    Loki,
    /// Traces.
    Tempo,
}

/// Whether an objective decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Decides the verdict.
    Required,
    /// Is reported only.
    Advisory,
}

/// The whole report. Only `judged_at` differs between two judgements of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: String,
    /// The answer.
    pub verdict: Verdict,
    /// The exit code that goes with it: 0, 10, 11, 12, or 13, 14, 15, 130 for runs ended early.
    pub exit_code: u8,
    /// Short machine-readable reason, e.g. `objective_missed`, `telemetry_incomplete`, `late_sends`.
    pub reason_code: Option<String>,
    /// Why, in sentences, most important first.
    pub reasons: Vec<String>,
    /// When this judgement was made, RFC 3339 UTC; empty until written.
    pub judged_at: String,
    /// The run.
    pub run: RunSummary,
    /// One entry per objective, in the order of the SLO files.
    pub objectives: Vec<ObjectiveResult>,
    /// Requests sent against requests found in each kind of telemetry.
    pub coverage: Coverage,
    /// Checks of the run itself.
    pub validity: Vec<ValidityCheck>,
    /// Counts and latencies per phase and request name.
    pub load: Vec<LoadSummary>,
    /// One point per second of the run.
    pub series: Vec<SecondPoint>,
    /// Latencies of the measured phase, for drawing.
    pub distribution: Vec<Bin>,
    /// Saturation signals over time, as the telemetry has them.
    pub saturation: Vec<TimeSeries>,
    /// Requests behind missed objectives, and the slowest of the measured phase.
    pub requests: Vec<RequestDetail>,
    /// Why objectives were missed, one entry for each missed objective.
    #[serde(default)]
    pub why: Vec<Explanation>,
    /// Where the time of the slowest requests of the measured phase went.
    #[serde(default)]
    pub tail: Option<Tail>,
    /// When latency departed, and what moved before it.
    #[serde(default)]
    pub onset: Option<Onset>,
    /// Disagreements between client, service and traces.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Other things worth knowing, one sentence each.
    pub notes: Vec<String>,
    /// Objectives that do not fail and are shown to miss their warn criterion, one sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Whether warnings of required objectives fail the run (`--strict`).
    #[serde(default)]
    pub strict: bool,
    /// Earlier runs compared with.
    #[serde(default)]
    pub baselines: Vec<BaselineUsed>,
    /// Runs of the same scenario found beside this one when it began, oldest first.
    #[serde(default)]
    pub earlier: Vec<EarlierRun>,
    /// With `--retries`: the attempts.
    #[serde(default)]
    pub attempts: Option<Attempts>,
}

/// The run in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSummary {
    /// Run id.
    pub id: String,
    /// Scenario name.
    pub scenario: String,
    /// Seed.
    pub seed: u64,
    /// Version of the harness that made the load.
    pub harness_version: String,
    /// Start, RFC 3339 UTC.
    pub started_at: String,
    /// Seconds from the start of the load to the last outcome.
    pub duration_seconds: f64,
    /// Measured window in seconds since the start of the load.
    pub window: Option<[f64; 2]>,
    /// The service's name in telemetry.
    pub service: String,
    /// Base URL of the target.
    pub target: String,
    /// Every `service.version` seen in the telemetry.
    pub versions: Vec<String>,
    /// The version that was to be judged.
    pub expect_version: Option<String>,
    /// Share of one core that the harness' process used during the load, embedded evidence included.
    pub generator_cpu: Option<f64>,
}

/// One objective's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectiveResult {
    /// Name: the SLO's, with `/N` for the N-th of several objectives (from 1).
    pub name: String,
    /// For people.
    pub display_name: String,
    /// Where the value comes from.
    pub source: Source,
    /// Golden signal.
    pub signal: Signal,
    /// Whether it decides.
    pub gate: Gate,
    /// The measured value: a ratio for ratio objectives. `None` when missing, never 0.
    pub value: Option<f64>,
    /// Unit of `value` and `threshold`, e.g. `ratio`, `s`; may be unknown.
    pub unit: Option<String>,
    /// Good events, for ratio objectives.
    pub good: Option<u64>,
    /// All events, for ratio objectives.
    pub samples: Option<u64>,
    /// How many independent events `samples` are worth at least, for ratio objectives: requests that
    /// follow each other in a queue are correlated. Never more than `samples`.
    #[serde(default)]
    pub effective_samples: Option<f64>,
    /// Least ratio, for ratio objectives.
    pub target: Option<f64>,
    /// Limit, for threshold objectives.
    pub threshold: Option<Threshold>,
    /// Longest latency, in seconds, that counts as good, for ratio objectives on latency; drawn as
    /// a line over the latencies.
    #[serde(default)]
    pub limit_seconds: Option<f64>,
    /// One-sided bounds at `confidence` (each side), for ratio objectives.
    pub interval: Option<[f64; 2]>,
    /// Confidence of each bound.
    pub confidence: f64,
    /// `value - target`, or the distance to the limit, positive on the good side.
    pub margin: Option<f64>,
    /// Its verdict; never `invalid`.
    pub verdict: Verdict,
    /// Why, in one sentence, with what would decide it when inconclusive.
    pub reason: String,
    /// Queries asked for it, as sent.
    pub queries: Vec<String>,
    /// SLO file and line that it was read from, as named when the run was made.
    #[serde(default)]
    pub place: Option<Place>,
    /// Where its queries can be looked at.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Ids of requests in [`Report::requests`] behind a miss.
    pub evidence: Vec<RequestId>,
    /// The warn criterion, where there is one.
    #[serde(default)]
    pub warn: Option<WarnResult>,
    /// The comparison with earlier runs, where one was asked for; it is part of `verdict`.
    #[serde(default)]
    pub baseline: Option<BaselineResult>,
    /// The error budget of the SLO's period, for ratio objectives with a `timeWindow`.
    #[serde(default)]
    pub budget: Option<BudgetResult>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// The file, relative to where the run was started where it lies below that.
    pub file: String,
    /// Line, from 1.
    pub line: Option<usize>,
}

/// The limit of a threshold objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Threshold {
    /// OpenSLO operator: `lte`, `gte`, `lt`, `gt`.
    pub op: String,
    /// The limit.
    pub value: f64,
}

/// Requests sent against requests found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Requests that were sent, in all phases.
    pub sent: u64,
    /// Requests that were answered, in all phases.
    pub answered: u64,
    /// Per backend in use.
    pub sources: Vec<SourceCoverage>,
}

/// What one backend holds of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceCoverage {
    /// Which.
    pub backend: Backend,
    /// What was expected in it: answered requests, or sampled traces looked for.
    pub expected: u64,
    /// What was found; `None` when it could not be told.
    pub found: Option<u64>,
    /// Least share.
    pub limit: f64,
    /// Whether the run's own canary was found.
    pub canary: bool,
    /// Whether objectives of this source may be judged.
    pub complete: bool,
    /// Since when (seconds since the start of the load) evidence is missing, where that can be told.
    pub missing_since: Option<f64>,
    /// What was found, or what is missing and since when, in one sentence.
    pub reason: String,
}

/// One check of the run itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValidityCheck {
    /// E.g. `late_sends`, `foreign_traffic`, `expected_version`, `schedule_complete`.
    pub name: String,
    /// Whether it held; `None` when it could not be told.
    pub ok: Option<bool>,
    /// What was measured, for people.
    pub value: String,
    /// The limit, for people.
    pub limit: String,
    /// What to change when it did not hold.
    pub remedy: Option<String>,
}

/// Counts and latencies of one request name in one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadSummary {
    /// Phase.
    pub phase: Phase,
    /// Request name.
    pub request: String,
    /// Requests scheduled.
    pub scheduled: u64,
    /// Requests by outcome; all outcomes add up to `scheduled`.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Achieved rate of answers a second over the phase.
    pub rate: f64,
    /// Latency from due, seconds, all outcomes; a request never answered counts with the target's
    /// timeout at least ([`crate::measure::shown_latency`]).
    pub latency: Option<Quantiles>,
    /// Service time from sent, seconds, all sent requests.
    pub service_time: Option<Quantiles>,
    /// Correct answers and answers with a truth to compare with.
    pub accuracy: Option<crate::units::Ratio>,
    /// Bytes of answers.
    pub bytes: u64,
}

/// Quantiles in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Quantiles {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// One second of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecondPoint {
    /// Whole seconds since the start of the load.
    pub second: u32,
    /// Phase, of the first load.
    pub phase: Phase,
    /// Requests due in it.
    pub due: u64,
    /// Requests done in it.
    pub done: u64,
    /// Of these, other than expected.
    pub failed: u64,
    /// Most requests out at once.
    pub in_flight: u64,
    /// Latency from due of requests due in it, seconds.
    pub p50: Option<f64>,
    /// Likewise.
    pub p99: Option<f64>,
    /// Likewise.
    pub max: Option<f64>,
}

/// A bin of the latency distribution, `(low, high]` seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bin {
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
    /// Latencies from due of expected answers in it.
    pub expected: u64,
    /// Latencies from due of all other requests in it.
    pub other: u64,
    /// Service times in it.
    pub service_time: u64,
}

/// Values over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimeSeries {
    /// What.
    pub name: String,
    /// Unit, UCUM-like: `1`, `s`, `By`.
    pub unit: String,
    /// `(seconds since the start of the load, value)`.
    pub points: Vec<(f64, f64)>,
}

/// One request, across client, traces and logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RequestDetail {
    /// Place in the schedule.
    pub id: RequestId,
    /// Request name.
    pub request: String,
    /// Why it is shown: `slowest`, `failed`, `typical`.
    pub why: String,
    /// Trace id.
    pub trace: TraceId,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status.
    pub status: Option<u16>,
    /// When it was due.
    pub due: Nanos,
    /// Seconds from due to sent; `None` when never sent.
    pub lateness: Option<f64>,
    /// Seconds from due to done.
    pub latency: f64,
    /// What went wrong. Untrusted.
    pub detail: Option<String>,
    /// Its spans, parents before children, by start. Untrusted names.
    pub spans: Vec<SpanDetail>,
    /// Why there are no spans.
    pub spans_missing: Option<String>,
    /// Its log lines, oldest first. Untrusted.
    pub logs: Vec<LogDetail>,
    /// Why there are no log lines.
    pub logs_missing: Option<String>,
    /// What client, service and traces say of its length; `None` without a trace.
    #[serde(default)]
    pub sides: Option<Sides>,
    /// Where its trace and log lines can be looked at.
    #[serde(default)]
    pub links: Vec<Link>,
}

/// A span of a waterfall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpanDetail {
    /// Span id.
    pub id: SpanId,
    /// `service.name`.
    pub service: String,
    /// Name.
    pub name: String,
    /// Depth in the tree, 0 for the root.
    pub depth: u32,
    /// Start, seconds since the request was due (may be negative by clock error).
    pub start: f64,
    /// Duration, seconds.
    pub duration: f64,
    /// Status `error`.
    pub error: bool,
}

/// A log line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogDetail {
    /// Seconds since the request was due.
    pub at: f64,
    /// Severity, when known.
    pub severity: Option<String>,
    /// The line, at most 2,000 bytes.
    pub line: String,
}
