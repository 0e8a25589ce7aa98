//! Objectives: what has to hold for a build to pass, read from OpenSLO v1 files.
//!
//! The OpenSLO grammar is taken unchanged. What it leaves open is filled in where it leaves room:
//! `metadata.annotations` (`harness/*`), `metricSource.type` and `metricSource.spec`.
//! `schemas/slo-annotations.md` documents all of it.

use crate::problem::{Problem, Problems};
use crate::report::model::{Gate, Signal, Source};
use crate::scenario::{Dur, Scenario};

mod annotations;
mod check;
mod client;
mod criteria;
mod kinds;
mod names;
mod read;
mod schema;
mod signal;
mod sli;
mod target;
#[cfg(test)]
mod tests;
mod window;
mod yaml;

pub use criteria::{Allowance, Baseline, Warn, Worse};
pub use schema::schema;
pub use window::TimeWindow;

/// Confidence of each one-sided bound when `harness/confidence` does not say otherwise.
pub const DEFAULT_CONFIDENCE: f64 = 0.95;

/// One thing to be judged: one entry of an SLO's `spec.objectives`.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// The SLO's name, with `/N` for the N-th of several objectives (from 1).
    pub name: String,
    /// For people.
    pub display_name: String,
    /// File it was read from, as given to [`parse`].
    pub file: String,
    /// Line and column of the SLO's name in that file, from 1, where known.
    pub at: Option<(usize, usize)>,
    /// Golden signal: `harness/signal`, else inferred (see `schemas/slo-annotations.md`).
    pub signal: Signal,
    /// Whether it decides the verdict: `harness/gate`, required unless it says advisory.
    pub gate: Gate,
    /// Confidence of each one-sided bound, between 0.5 and 1.
    pub confidence: f64,
    /// Fewest events below which nothing is decided: `harness/min-samples`.
    pub min_samples: Option<u64>,
    /// What an empty answer counts as, when the evidence is known to be complete: `harness/empty-as`.
    pub empty_as: Option<f64>,
    /// Unit of the value, for people: `harness/unit`.
    pub unit: Option<String>,
    /// A stricter criterion short of failing: `harness/warn`.
    pub warn: Option<Warn>,
    /// How much worse than earlier runs it may be: `harness/baseline`.
    pub baseline: Option<Baseline>,
    /// The service that the SLO is of, as written.
    pub service: Option<String>,
    /// The period of its error budget: `spec.timeWindow`.
    pub time_window: Option<TimeWindow>,
    /// What is measured and what it has to be.
    pub indicator: Indicator,
    /// The value is a share computed elsewhere (`ratioMetric.raw`), of these events: one from 0 to 1.
    pub raw: Option<Part>,
    /// What the error budget is a budget of.
    pub budgeting: Budgeting,
    /// Where its parts are written.
    pub written: Written,
}

/// OpenSLO's `budgetingMethod`: what the target is a share of.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Budgeting {
    /// Of events.
    #[default]
    Occurrences,
    /// Of slices of time that are good.
    Timeslices {
        /// Length of a slice: `harness/slice`, else `timeSliceWindow`.
        slice: Dur,
        /// Least share of good events that makes a slice a good one, above 0 and at most 1. Of no
        /// meaning with a threshold, which holds in a slice or does not.
        slice_target: f64,
        /// Least share of good slices, in `[0, 1)`.
        target: f64,
    },
    /// Of the mean of the slices' own shares.
    RatioTimeslices {
        /// As above.
        slice: Dur,
    },
}

impl Budgeting {
    /// The length of a slice, if time is sliced.
    #[must_use]
    pub fn slice(&self) -> Option<Dur> {
        match self {
            Self::Occurrences => None,
            Self::Timeslices { slice, .. } | Self::RatioTimeslices { slice } => Some(*slice),
        }
    }
}

/// Where the parts of an objective are written, where known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The query (or LoadClient spec) of the value, or of the good or bad events.
    pub metric: Option<Place>,
    /// The query of all events.
    pub total: Option<Place>,
    /// The entry of `spec.objectives`.
    pub target: Option<Place>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As given to [`parse`].
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
}

/// What is measured and what it has to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Indicator {
    /// Share of good events among all: `ratioMetric`.
    Ratio {
        /// Whether `part` counts the good events or the bad ones.
        part_is: Part,
        /// The good or the bad events.
        part: Metric,
        /// All events.
        total: Metric,
        /// Both sides are counters that only ever grow, read at the window's two edges; otherwise
        /// each side is a count over the window.
        counter: bool,
        /// Least share of good events, in `[0, 1)`.
        target: f64,
    },
    /// A value against a limit: `thresholdMetric`.
    Threshold {
        /// The value.
        metric: Metric,
        /// How it must relate to the limit.
        op: Op,
        /// The limit.
        value: f64,
    },
}

/// Which events the numerator of a ratio counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The good ones.
    Good,
    /// The bad ones.
    Bad,
}

/// OpenSLO's comparison operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// At most.
    Lte,
    /// At least.
    Gte,
    /// Less than.
    Lt,
    /// More than.
    Gt,
}

impl Op {
    /// As OpenSLO writes it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Lte => "lte",
            Self::Gte => "gte",
            Self::Lt => "lt",
            Self::Gt => "gt",
        }
    }

    /// As people write it.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Lte => "<=",
            Self::Gte => ">=",
            Self::Lt => "<",
            Self::Gt => ">",
        }
    }

    /// Whether `value op limit` holds. Never for NaN.
    #[must_use]
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Lte => value <= limit,
            Self::Gte => value >= limit,
            Self::Lt => value < limit,
            Self::Gt => value > limit,
        }
    }
}

/// Where a number comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Metric {
    /// The generator's own rows.
    Client(ClientMetric),
    /// PromQL; `$window` stands for the judgement window.
    Prometheus(String),
    /// LogQL metric query; `$window` stands for the judgement window.
    Loki(String),
    /// TraceQL metrics query, asked over the judgement window.
    Tempo(String),
}

impl Metric {
    /// The kind of source.
    #[must_use]
    pub fn source(&self) -> Source {
        match self {
            Self::Client(_) => Source::Client,
            Self::Prometheus(_) => Source::Prometheus,
            Self::Loki(_) => Source::Loki,
            Self::Tempo(_) => Source::Tempo,
        }
    }

    /// The query's text; `None` for the client's own rows.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        match self {
            Self::Client(_) => None,
            Self::Prometheus(query) | Self::Loki(query) | Self::Tempo(query) => Some(query),
        }
    }
}

/// A number from the generator's rows of the measured phase.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientMetric {
    /// Only requests of this name; all when `None`.
    pub request: Option<String>,
    /// What is counted or measured.
    pub figure: ClientFigure,
}

/// What is counted or measured of the rows.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFigure {
    /// Rows that end as `outcome` says, within `limit` where there is one.
    Count {
        /// Which outcomes.
        outcome: Wanted,
        /// At most this long.
        limit: Option<Limit>,
    },
    /// Answers that agreed with the truth, among those that could be compared.
    Accuracy,
    /// Rows a second that end as `outcome` says, over the measured window; with any outcome, answers
    /// a second, right or wrong.
    Rate {
        /// Which outcomes.
        outcome: Wanted,
    },
    /// The quantile `q` of a time, in seconds, by nearest rank, of all rows: one without an answer
    /// counts as slower than any limit.
    Quantile {
        /// Which time.
        time: Time,
        /// From 0 to 1, both excluded.
        q: f64,
    },
}

/// Which outcomes a row may have to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Answered as the scenario expects.
    Expected,
    /// Anything but that: wrong, refused, timed out, dropped, unfinished.
    Failed,
    /// Any outcome: every request of the schedule.
    Any,
}

/// A limit on one of a request's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Which time.
    pub time: Time,
    /// The limit.
    pub at_most: Dur,
    /// `<` instead of `<=`.
    pub strictly: bool,
}

/// A time of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Time {
    /// From due to done: what users wait.
    Latency,
    /// From sent to done.
    ServiceTime,
    /// From due to the head of the answer.
    FirstByte,
    /// From due to the first event of a streamed answer.
    FirstEvent,
    /// The longest gap between one event of a streamed answer and the next; zero with one event.
    InterEvent,
}

impl Time {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Latency,
        Self::ServiceTime,
        Self::FirstByte,
        Self::FirstEvent,
        Self::InterEvent,
    ];

    /// Its key in a `LoadClient` spec.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::ServiceTime => "service_time",
            Self::FirstByte => "first_byte",
            Self::FirstEvent => "first_event",
            Self::InterEvent => "inter_event",
        }
    }

    /// Whether only a streamed answer has it.
    #[must_use]
    pub fn of_stream(self) -> bool {
        matches!(self, Self::FirstEvent | Self::InterEvent)
    }
}

impl Objective {
    /// Where its value comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        match &self.indicator {
            Indicator::Ratio { total, .. } => total.source(),
            Indicator::Threshold { metric, .. } => metric.source(),
        }
    }

    /// Every number it is made of.
    pub fn metrics(&self) -> impl Iterator<Item = &Metric> {
        let (first, second) = match &self.indicator {
            Indicator::Ratio { part, total, .. } => (part, Some(total)),
            Indicator::Threshold { metric, .. } => (metric, None),
        };
        std::iter::once(first).chain(second)
    }

    /// Names of the Prometheus metrics that its queries select.
    #[must_use]
    pub fn metric_names(&self) -> std::collections::BTreeSet<String> {
        names::of(self)
    }

    /// The least share of slices, where a threshold is judged slice by slice.
    #[must_use]
    pub fn sliced_threshold(&self) -> Option<f64> {
        match (&self.indicator, self.budgeting) {
            (Indicator::Threshold { .. }, Budgeting::Timeslices { target, .. }) => Some(target),
            _ => None,
        }
    }

    /// What cannot work with this scenario: an unknown request name, a source that is not read.
    #[must_use]
    pub fn check(&self, scenario: &Scenario) -> Vec<Problem> {
        check::check(self, scenario)
    }
}

/// Reads all objectives of these files (`(name, text)`), in order.
///
/// # Errors
/// Everything wrong in any of them, with file, line, column, key and hint. A file without an SLO and
/// two SLOs of one name are errors too.
pub fn parse(files: &[(String, String)]) -> Result<Vec<Objective>, Problems> {
    parse_with_notes(files).map(|(objectives, _)| objectives)
}

/// As [`parse`], with notes on what was accepted but is not used (other OpenSLO kinds).
///
/// # Errors
/// As [`parse`].
pub fn parse_with_notes(
    files: &[(String, String)],
) -> Result<(Vec<Objective>, Vec<String>), Problems> {
    read::files(files, true)
}

/// As [`parse_with_notes`], where files without any SLO are well: for checking documents that SLOs refer
/// to, or that nothing is judged by.
///
/// # Errors
/// As [`parse`].
pub fn parse_documents(
    files: &[(String, String)],
) -> Result<(Vec<Objective>, Vec<String>), Problems> {
    read::files(files, false)
}
