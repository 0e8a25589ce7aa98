//! The pure part of harness: no clock, no network, no files, no global randomness.
//!
//! Read the modules in the order of the data: [`units`], [`scenario`], [`schedule`], [`request`],
//! [`observation`], [`measure`], [`objective`], [`query`], [`record`], [`judge`], [`report`].
//! Each uses only those before it.

pub(crate) mod dataset;
pub mod judge;
pub mod measure;
mod noise;
pub mod objective;
pub mod observation;
pub mod problem;
pub mod query;
pub mod record;
pub mod report;
pub mod request;
pub mod rules;
pub mod scenario;
pub mod schedule;
pub mod units;

// The samples of reports are shared with an example and so name this crate from outside.
#[cfg(test)]
extern crate self as harness_core;
