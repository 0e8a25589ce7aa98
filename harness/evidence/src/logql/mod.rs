//! LogQL: text to syntax tree ([`parse`]), tree to checked pipeline, pipeline over the store.
//!
//! Lines are taken from [`start, end)` of a log query and from `(t - window, t]` of a metric query.
//! Nothing is extrapolated, and no matching line gives no series rather than 0. A line that cannot
//! be processed carries `__error__`, and fails a metric query unless a filter drops it.

pub mod ast;
mod display;
mod error;
mod lexer;
mod metric;
mod parser;
mod pipeline;
mod query;
#[cfg(test)]
mod scripts;
mod units;

pub use error::QueryError;
pub use parser::{parse, parse_selector};
pub use query::{
    Answer, Direction, FoundLine, LineLabels, LogRange, Query, QueryLimits, Sample, Series, Steps,
};

pub(crate) use pipeline::Selector;

pub(crate) use pipeline::days_since_epoch;
pub(crate) use units::duration;
