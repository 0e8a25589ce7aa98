//! What stands beside an objective's target: warn criterion, earlier runs, the period's error budget;
//! and beside the run: its baselines, earlier runs of the same build, attempts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Verdict;

/// How a `harness/warn` criterion stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WarnResult {
    /// As people write it: `≥ 99.5 %`, `≤ 200 ms`.
    pub criterion: String,
    /// Least share of good events, for ratio objectives; else the limit, in the value's unit.
    pub limit: f64,
    /// `pass`: shown to be met; `fail`: shown to be missed, which is the warning; `inconclusive`: neither.
    pub verdict: Verdict,
    /// Why, a sentence.
    pub reason: String,
}

/// How an objective compares with earlier runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineResult {
    /// `harness/baseline` as written: `+10%`, `+5ms`.
    pub allowance: String,
    /// The baseline's value: of a ratio the share of *bad* events, else in the value's unit. Of several
    /// runs their mean (of shares, pooled; geometric for a relative allowance).
    pub value: Option<f64>,
    /// This run's value, of the same kind.
    pub now: Option<f64>,
    /// The worst value that is still no worse than allowed.
    pub limit: Option<f64>,
    /// Whether `change`, `lower` and `upper` are shares of the baseline's value; else differences.
    pub relative: bool,
    /// The change.
    pub change: Option<f64>,
    /// The change is at least this, at the objective's confidence; `None` when unbounded or unknown.
    pub lower: Option<f64>,
    /// The change is at most this, likewise.
    pub upper: Option<f64>,
    /// Earlier runs compared with.
    pub runs: usize,
    /// `pass`: no worse; `fail`: worse; else undecided.
    pub verdict: Verdict,
    /// Why, a sentence, with the noise that was reckoned with.
    pub reason: String,
}

/// An earlier run that this one was compared with, or could not be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineUsed {
    /// Directory, as it was named. Untrusted.
    pub dir: String,
    /// Run id.
    pub run: Option<String>,
    /// When it started, RFC 3339 UTC.
    pub started_at: Option<String>,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Option<String>,
    /// Versions of the service seen in its telemetry.
    pub versions: Vec<String>,
    /// Its own verdict.
    pub verdict: Option<Verdict>,
    /// Why it could not be used.
    pub unusable: Option<String>,
}

/// What this build would do to the error budget of the SLO's period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BudgetResult {
    /// The period, as the SLO has it: `28d`.
    pub window: String,
    /// Its length in days.
    pub days: f64,
    /// Share of events that may be bad: `1 - target`.
    pub budget: f64,
    /// How many times faster than the budget allows bad events come, which is also the share of the
    /// period's budget that the period would burn: the bad share over the budget. 1 uses it up exactly.
    pub burn_rate: f64,
    /// The burn rate is at least this, at the objective's confidence.
    pub lower: f64,
    /// The burn rate is at most this, likewise.
    pub upper: f64,
    /// Days until the period's budget is used up; `None`: not within the period.
    pub days_to_exhaustion: Option<f64>,
    /// The same at the upper bound of the burn rate: the soonest that the evidence allows.
    pub days_at_worst: Option<f64>,
    /// Events in production, where that was given or measured.
    pub production: Option<ProductionBudget>,
    /// In one sentence.
    pub summary: String,
}

/// The error budget in events of production.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProductionBudget {
    /// Events a second.
    pub rate: f64,
    /// Where the rate is from: `given`, or the query that measured it.
    pub source: String,
    /// Bad events that the period's budget holds.
    pub budget_events: f64,
    /// Bad events that this build would have in the period.
    pub bad_events: f64,
    /// How many times the rate of the run that is.
    pub times_the_run: Option<f64>,
}

/// An earlier run of the same scenario found beside this one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EarlierRun {
    /// Name of its directory. Untrusted.
    pub dir: String,
    /// Run id.
    pub run: Option<String>,
    /// When it started, RFC 3339 UTC.
    pub started_at: Option<String>,
    /// Versions of the service that its report names.
    pub versions: Vec<String>,
    /// The verdict that its report holds; `None` when it has none.
    pub verdict: Option<Verdict>,
    /// Machine-readable reason of that verdict.
    pub reason_code: Option<String>,
    /// Whether it was the same build: the same versions were seen; `None` where that cannot be told.
    pub same_build: Option<bool>,
}

/// An earlier attempt of a run with `--retries`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptUsed {
    /// Its number, from 1.
    pub number: u32,
    /// Name of its directory.
    pub dir: String,
    /// Run id.
    pub run: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Machine-readable reason of that verdict.
    pub reason_code: Option<String>,
    /// Whether its counts are in this report.
    pub pooled: bool,
}

/// The attempts that this report stands on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Attempts {
    /// This attempt's number, from 1.
    pub number: u32,
    /// Most attempts, agreed on before the first: one more than `--retries`.
    pub most: u32,
    /// The attempts before this one.
    pub earlier: Vec<AttemptUsed>,
    /// The rule, in one sentence.
    pub rule: String,
}
