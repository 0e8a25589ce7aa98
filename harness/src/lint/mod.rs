//! Warnings of queries and objectives that are valid and would still mislead: each with a stable id, the
//! place, the reason, and the better way. `docs/LINTS.md` describes each; a test keeps it in step.
//!
//! They look at parsed queries, never at their text: the same words in a string or a label are no
//! mistake.

mod against;
mod load;
mod logql;
mod promql;
#[cfg(test)]
mod tests;
mod traceql;

use std::fmt;
use std::time::Duration;

use harness_core::objective::{Indicator, Metric, Objective, Op, Part, Place};
use harness_core::scenario::Scenario;

pub use against::against;
pub use load::load;

/// A kind of warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "docs/LINTS.md describes each under its id")]
pub enum Id {
    CounterRate,
    EmptyBad,
    LokiErrorDropped,
    LokiParserError,
    ManySeries,
    NeverFails,
    NeverPasses,
    NoLe,
    NotAMetric,
    OneInstant,
    OrVector,
    RunIdLabel,
    ShortRateWindow,
    SliceRest,
    TempoQuantile,
    TempoSearch,
    Undecidable,
    Unparsed,
    UnseenSelector,
    WindowMismatch,
}

impl Id {
    /// All, in the order of their names.
    pub const ALL: [Self; 20] = [
        Self::CounterRate,
        Self::EmptyBad,
        Self::LokiErrorDropped,
        Self::LokiParserError,
        Self::ManySeries,
        Self::NeverFails,
        Self::NeverPasses,
        Self::NoLe,
        Self::NotAMetric,
        Self::OneInstant,
        Self::OrVector,
        Self::RunIdLabel,
        Self::ShortRateWindow,
        Self::SliceRest,
        Self::TempoQuantile,
        Self::TempoSearch,
        Self::Undecidable,
        Self::Unparsed,
        Self::UnseenSelector,
        Self::WindowMismatch,
    ];

    /// Its name, which never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CounterRate => "counter-rate",
            Self::EmptyBad => "empty-bad",
            Self::LokiErrorDropped => "loki-error-dropped",
            Self::LokiParserError => "loki-parser-error",
            Self::ManySeries => "many-series",
            Self::NeverFails => "never-fails",
            Self::NeverPasses => "never-passes",
            Self::NoLe => "no-le",
            Self::NotAMetric => "not-a-metric",
            Self::OneInstant => "one-instant",
            Self::OrVector => "or-vector",
            Self::RunIdLabel => "run-id-label",
            Self::ShortRateWindow => "short-rate-window",
            Self::SliceRest => "slice-rest",
            Self::TempoQuantile => "tempo-quantile",
            Self::TempoSearch => "tempo-search",
            Self::Undecidable => "undecidable",
            Self::Unparsed => "unparsed",
            Self::UnseenSelector => "unseen-selector",
            Self::WindowMismatch => "window-mismatch",
        }
    }
}

/// One warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Its kind.
    pub id: Id,
    /// File, line and column, where known.
    pub place: Option<Place>,
    /// The objective's name.
    pub objective: String,
    /// What is misleading, and why.
    pub message: String,
    /// The better way.
    pub better: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file, place.line, place.column)?;
        }
        write!(
            f,
            "warning[{}]: {}: {}\n  better: {}",
            self.id.name(),
            self.objective,
            self.message,
            self.better
        )
    }
}

/// What is known beside the objectives.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// The scenario they are judged under.
    pub scenario: Option<&'a Scenario>,
}

impl Context<'_> {
    /// Distance of two scrapes of the service, where the scenario tells.
    fn scrape_interval(&self) -> Option<Duration> {
        let jobs = &self.scenario?.spec.telemetry.embedded.as_ref()?.scrape;
        jobs.iter().map(|job| job.every.0).max()
    }
}

/// Which part of an objective a query is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// A value against a limit.
    Value(Op),
    /// The numerator of a ratio.
    Part(Part),
    /// The denominator.
    Total,
}

/// A query with what it is for.
struct Asked<'a> {
    objective: &'a Objective,
    role: Role,
    query: &'a str,
    place: Option<&'a Place>,
    context: Context<'a>,
}

impl Asked<'_> {
    fn warn(&self, id: Id, message: impl Into<String>, better: impl Into<String>) -> Warning {
        Warning {
            id,
            place: self.place.cloned(),
            objective: self.objective.name.clone(),
            message: message.into(),
            better: better.into(),
        }
    }

    /// Whether both sides are counters read at the window's edges.
    fn counter(&self) -> bool {
        matches!(
            self.objective.indicator,
            Indicator::Ratio { counter: true, .. }
        )
    }

    /// Whether the answer may be empty when all is well, and nothing says what that means.
    fn empty_when_well(&self) -> bool {
        let well = matches!(
            self.role,
            Role::Part(Part::Bad) | Role::Value(Op::Lte | Op::Lt)
        );
        well && self.objective.empty_as.is_none()
    }

    /// A label or attribute with the id of a run in its name.
    fn run_id(&self, name: &str) -> Option<Warning> {
        let plain: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '_'
                }
            })
            .collect();
        let names_run = plain == "run" || plain == "runid" || plain.ends_with("run_id");
        names_run.then(|| {
            self.warn(
                Id::RunIdLabel,
                format!("`{name}` names one run: in the next one this matches nothing, and as a label it makes a new series of every metric for each run"),
                "leave it out: the judgement window already selects the run's time, and coverage finds foreign traffic",
            )
        })
    }
}

/// The length that stands for `$window` while a query is looked at: no one writes it.
const WINDOW: Duration = Duration::from_millis(86_399_999);

fn with_window(query: &str) -> String {
    query.replace("$window", "86399999ms")
}

/// The metrics of an objective, what each is for, and where it is written.
fn sides(objective: &Objective) -> Vec<(Role, &Metric, Option<&Place>)> {
    let written = &objective.written;
    match &objective.indicator {
        Indicator::Ratio {
            part_is,
            part,
            total,
            ..
        } => vec![
            (Role::Part(*part_is), part, written.metric.as_ref()),
            (Role::Total, total, written.total.as_ref()),
        ],
        Indicator::Threshold { metric, op, .. } => {
            vec![(Role::Value(*op), metric, written.metric.as_ref())]
        }
    }
}

/// Warnings on one objective.
#[must_use]
pub fn lint(objective: &Objective, context: Context) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (role, metric, place) in sides(objective) {
        let Some(query) = metric.query() else {
            continue;
        };
        let asked = Asked {
            objective,
            role,
            query,
            place,
            context,
        };
        warnings.extend(match metric {
            Metric::Prometheus(_) => promql::lint(&asked),
            Metric::Loki(_) => logql::lint(&asked),
            Metric::Tempo(_) => traceql::lint(&asked),
            Metric::Client(_) => Vec::new(),
        });
    }
    warnings.extend(decided_beforehand(objective));
    warnings
}

/// Objectives that can only end one way.
fn decided_beforehand(objective: &Objective) -> Vec<Warning> {
    let place = objective.written.target.as_ref();
    let warn = |id, message: String, better: &str| Warning {
        id,
        place: place.cloned(),
        objective: objective.name.clone(),
        message,
        better: better.into(),
    };
    match &objective.indicator {
        Indicator::Ratio {
            part_is,
            part,
            total,
            target,
            ..
        } => {
            let same = part.query().is_some() && part.query() == total.query();
            let better = "write in `good` (or `bad`) what makes an event good (or bad)";
            match (same, part_is) {
                (true, Part::Good) => vec![warn(
                    Id::NeverFails,
                    "`good` and `total` are the same query, so every event is good".into(),
                    better,
                )],
                (true, Part::Bad) => vec![warn(
                    Id::NeverPasses,
                    "`bad` and `total` are the same query, so every event is bad".into(),
                    better,
                )],
                _ if *target <= 0.0 => vec![warn(
                    Id::NeverFails,
                    "target 0 can never be missed".into(),
                    "write the least share that is still well, or make it advisory",
                )],
                _ => Vec::new(),
            }
        }
        Indicator::Threshold { metric, op, value } => {
            let Some((least, most, what)) = range(objective, metric) else {
                return Vec::new();
            };
            let limit = format!("`{} {value}`", op.sign());
            let always = op.holds(least, *value) && op.holds(most, *value);
            let never = !op.holds(least, *value) && !op.holds(most, *value);
            if always {
                let message = format!("{what} is always {limit}");
                vec![warn(
                    Id::NeverFails,
                    message,
                    "write a limit that can be missed",
                )]
            } else if never {
                let message = format!("{what} is never {limit}");
                vec![warn(
                    Id::NeverPasses,
                    message,
                    "write a limit that can be met",
                )]
            } else {
                Vec::new()
            }
        }
    }
}

/// The values that a metric can have at all, where that is known: least, greatest, what it is.
fn range(objective: &Objective, metric: &Metric) -> Option<(f64, f64, &'static str)> {
    use harness_core::objective::ClientFigure;
    if objective.raw.is_some() {
        return Some((0.0, 1.0, "a ratio"));
    }
    match metric {
        Metric::Client(client) => Some(match client.figure {
            ClientFigure::Accuracy => (0.0, 1.0, "a share"),
            ClientFigure::Rate { .. } => (0.0, f64::INFINITY, "a rate"),
            _ => (0.0, f64::INFINITY, "a time"),
        }),
        Metric::Loki(query) => logql::counts(query).then_some((0.0, f64::INFINITY, "a count")),
        Metric::Tempo(query) => traceql::counts(query).then_some((0.0, f64::INFINITY, "a count")),
        Metric::Prometheus(_) => None,
    }
}
