//! PromQL with the semantics of Prometheus 3, over a [`MetricStore`].
//!
//! Text is scanned and parsed (`scan`, the crate promql-parser), checked and lowered to a tree of
//! ours (`plan`), the samples that all its selectors need are copied under one lock (`load`), and
//! the tree is evaluated step by step (`eval` and what it calls) without any lock. What a selector or a
//! function of a range gives is computed series by series for a block of steps (`block`), and work on
//! label sets is done once a query (`memo`). Native histograms,
//! experimental functions and experimental syntax are refused by name.

mod aggregate;
mod binary;
mod block;
pub(crate) mod civil;
mod error;
mod eval;
mod histogram;
mod instant_fn;
mod label_fn;
mod load;
mod memo;
mod num;
mod over_time;
mod plan;
mod scan;
pub mod testing;

pub use error::QueryError;
pub(crate) use num::format_value;

use crate::store::metrics::{Labels, Matcher, MetricStore, SeriesData};
use std::time::{Duration, Instant};

/// The most points a range query may ask for in one series, as in Prometheus.
pub const MAX_POINTS: i64 = 11_000;

/// How queries are evaluated.
#[derive(Debug, Clone)]
pub struct Options {
    /// How far an instant selector looks back for a sample (left-open).
    pub lookback: Duration,
    /// How long one query may take.
    pub timeout: Duration,
    /// The most samples one query may copy and produce together.
    pub max_samples: usize,
    /// The step of a subquery that names none.
    pub default_step: Duration,
    /// Keep metric names until the end of a query, as Prometheus' feature flag
    /// `promql-delayed-name-removal` does. Its conformance scripts assume it; servers default to off.
    pub delayed_name_removal: bool,
}

impl Default for Options {
    /// Prometheus' defaults: 5 min lookback, 2 min timeout, 50 million samples, 1 min step.
    fn default() -> Self {
        Options {
            lookback: Duration::from_secs(300),
            timeout: Duration::from_secs(120),
            max_samples: 50_000_000,
            default_step: Duration::from_secs(60),
            delayed_name_removal: false,
        }
    }
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

/// What a query evaluates to.
#[derive(Debug, Clone, PartialEq)]
pub enum QueryValue {
    /// One number.
    Scalar(f64),
    /// One text.
    Text(String),
    /// One value per series, in the order of the result.
    Vector(Vec<VectorSample>),
    /// Samples per series. From a range selector these are the raw samples with their own times.
    Matrix(Vec<SeriesData>),
}

/// A query's value and what should be known about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The value.
    pub value: QueryValue,
    /// Things that are probably wrong, each once, sorted.
    pub warnings: Vec<String>,
    /// Things worth knowing, each once, sorted.
    pub infos: Vec<String>,
}

/// Evaluates a query at one instant, Unix milliseconds.
///
/// # Errors
/// When the query is invalid, unsupported, too large or too slow, or its data cannot be combined.
pub fn instant(
    store: &MetricStore,
    query: &str,
    t_ms: i64,
    options: &Options,
) -> Result<Answer, QueryError> {
    let span = eval::Span {
        start: t_ms,
        end: t_ms,
        step: 1,
    };
    let began = Instant::now();
    let plan = plan::plan(query)?;
    eval::Eval::new(store, query, &plan, span, options, began)?.instant()
}

/// Evaluates a query at `start`, `start + step`, … up to `end`, all milliseconds, and returns a
/// matrix sorted by labels.
///
/// # Errors
/// As [`instant`]; also when the query is no scalar or instant vector, `step` is not above zero,
/// `end` is before `start`, or there would be more than [`MAX_POINTS`] steps.
pub fn range(
    store: &MetricStore,
    query: &str,
    (start, end): (i64, i64),
    step: i64,
    options: &Options,
) -> Result<Answer, QueryError> {
    let began = Instant::now();
    if step <= 0 {
        return Err(QueryError::Execution(
            "zero or negative query resolution step widths are not accepted. Try a positive integer".into(),
        ));
    }
    if end < start {
        return Err(QueryError::Execution(
            "end timestamp must not be before start time".into(),
        ));
    }
    if end.saturating_sub(start) / step > MAX_POINTS {
        return Err(QueryError::Execution(
            "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)".into(),
        ));
    }
    let plan = plan::plan(query)?;
    eval::Eval::new(
        store,
        query,
        &plan,
        eval::Span { start, end, step },
        options,
        began,
    )?
    .range()
}

/// Checks a query without evaluating it.
///
/// # Errors
/// When it is invalid or unsupported.
pub fn check(query: &str) -> Result<(), QueryError> {
    plan::plan(query).map(drop)
}

/// Parses a series selector such as `up{job="x"}`.
///
/// # Errors
/// When the text is anything else.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, QueryError> {
    plan::selector(text)
}

#[cfg(test)]
mod tests;
