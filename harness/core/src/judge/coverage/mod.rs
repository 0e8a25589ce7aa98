//! How much of the run each backend holds. Settling waits for it, and without it nothing of that
//! backend is judged.

use std::collections::{BTreeMap, BTreeSet};

use super::RunRecord;
use super::tally;
use crate::query::{Backend, Query};
use crate::record::sampled::Cell;
use crate::report::model::{Coverage, Finding, SourceCoverage};
use crate::units::Nanos;

mod clock;
mod logs;
mod metrics;
mod traces;

pub use clock::LIMIT as CLOCK_LIMIT;
pub(super) use metrics::Scrapes;

/// Everything that the coverage questions tell.
pub(super) struct Survey {
    pub(super) coverage: Coverage,
    /// Every `service.version` seen in metrics and traces during the run.
    pub(super) versions: BTreeSet<String>,
    /// The scrapes of the service; `None` without Prometheus or without scrapes.
    pub(super) scrapes: Option<Scrapes>,
    /// Requests of the run that the service counted itself, by where it did.
    pub(super) counted: BTreeMap<Backend, u64>,
    /// Requests that a log or trace backend should count and does not, by backend.
    pub(super) lacking: BTreeMap<Backend, u64>,
    /// Median of the service's clock minus ours, seconds, from traces; limits of its error are the
    /// request's own times.
    pub(super) clock_offset: Option<f64>,
    /// Clocks that differ from ours without forbidding to judge, and those that forbid it.
    pub(super) findings: Vec<Finding>,
    /// Things worth a note in the report.
    pub(super) notes: Vec<String>,
}

impl Survey {
    /// The coverage of one backend.
    pub(super) fn source(&self, backend: Backend) -> Option<&SourceCoverage> {
        self.coverage.sources.iter().find(|s| s.backend == backend)
    }
}

/// What one backend's part of the survey found wrong, and since when.
#[derive(Default)]
struct Gaps {
    why: Vec<String>,
    since: Option<f64>,
}

impl Gaps {
    fn add(&mut self, why: impl Into<String>) {
        self.why.push(why.into());
    }

    /// The earliest time counts.
    fn since(&mut self, seconds: f64) {
        self.since = Some(self.since.map_or(seconds, |s: f64| s.min(seconds)));
    }
}

/// Backends that the run must be found in: those used, and those the scenario names.
pub(super) fn backends(record: &RunRecord) -> BTreeSet<Backend> {
    let telemetry = &record.scenario.spec.telemetry;
    let named = [
        (Backend::Prometheus, telemetry.prometheus.is_some()),
        (Backend::Loki, telemetry.loki.is_some()),
        (Backend::Tempo, telemetry.tempo.is_some()),
    ];
    let named = named.into_iter().filter(|(_, on)| *on).map(|(b, _)| b);
    named.chain(record.facts.backends.keys().copied()).collect()
}

/// All coverage questions, for `facts.settled.until`.
pub(super) fn queries(record: &RunRecord) -> Vec<Query> {
    let mut queries = Vec::new();
    for backend in backends(record) {
        match backend {
            Backend::Prometheus => queries.extend(metrics::queries(record)),
            Backend::Loki => queries.extend(logs::queries(record)),
            Backend::Tempo => queries.extend(traces::queries(record)),
        }
    }
    queries
}

/// Reads the answers to the coverage questions.
pub(super) fn survey(record: &RunRecord) -> Survey {
    let count = |keep: fn(&crate::observation::Observation) -> bool| {
        record.rows.iter().filter(|r| keep(r)).count() as u64
    };
    let (sent, answered) = match tally::of(record) {
        Some(sampled) => (
            sampled.cells.iter().map(|cell| cell.sent).sum(),
            sampled.cells.iter().map(Cell::answered).sum(),
        ),
        None => (
            count(|r| r.sent().is_some()),
            count(|r| r.outcome.answered()),
        ),
    };
    let mut survey = Survey {
        coverage: Coverage {
            sent,
            answered,
            sources: Vec::new(),
        },
        versions: BTreeSet::new(),
        scrapes: None,
        counted: BTreeMap::new(),
        lacking: BTreeMap::new(),
        clock_offset: None,
        findings: Vec::new(),
        notes: Vec::new(),
    };
    for backend in backends(record) {
        let mut source = match backend {
            Backend::Prometheus => metrics::survey(record, &mut survey),
            Backend::Loki => logs::survey(record, &mut survey),
            Backend::Tempo => traces::survey(record, &mut survey),
        };
        used(record, backend, &mut source);
        survey.coverage.sources.push(source);
    }
    survey
}

/// What the run itself knows against a backend's evidence, whatever that looks like.
fn used(record: &RunRecord, backend: Backend, source: &mut SourceCoverage) {
    let mut against = |why: String| {
        source.complete = false;
        source.reason = format!("{why}; {}", source.reason);
    };
    match record.facts.backends.get(&backend) {
        None => against(format!(
            "the scenario names {backend} and the run did not use it"
        )),
        Some(used) if used.refused > 0 => against(format!(
            "the embedded {backend} refused {} records (malformed, or out of memory)",
            used.refused
        )),
        Some(_) => {}
    }
}

/// The coverage of one backend, from what was found.
fn source(
    backend: Backend,
    expected: u64,
    found: Option<u64>,
    limit: f64,
    canary: bool,
    gaps: Gaps,
    fine: String,
) -> SourceCoverage {
    let complete = gaps.why.is_empty() && canary && found.is_some();
    let mut reason = if gaps.why.is_empty() {
        fine
    } else {
        gaps.why.join("; ")
    };
    if let (false, Some(since)) = (complete, gaps.since) {
        reason.push_str(&format!("; missing since {}", super::names::seconds(since)));
    }
    SourceCoverage {
        backend,
        expected,
        found,
        limit,
        canary,
        complete,
        missing_since: if complete { None } else { gaps.since },
        reason,
    }
}

/// Fewest that must be found of `expected`.
fn floor(limit: f64, expected: u64) -> u64 {
    // 0.99 * 100 must be 99, not 99.00000000000001 rounded up.
    (limit * expected as f64 - 1e-9).ceil().max(0.0) as u64
}

/// Seconds since the start of the load of a wall-clock instant; negative ones are 0.
fn since_start(record: &RunRecord, unix_ns: u64) -> f64 {
    Nanos(unix_ns.saturating_sub(record.facts.started.0)).as_secs_f64()
}
