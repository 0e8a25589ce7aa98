//! A document classification service: what `harness` is tried on, and knows nothing of it.
//!
//! Read in this order: [`config`] (what was asked for), [`model`] (text to label), [`batch`] (which
//! requests are computed together; pure), [`engine`] (threads that do it), [`telemetry`] (what
//! observers see, all names in [`telemetry::names`]), [`faults`] (what can be made to go wrong),
//! [`serve`] (HTTP), [`app`] (all of it together).

pub mod app;
pub mod batch;
pub mod config;
pub mod engine;
pub mod faults;
pub mod model;
pub mod serve;
pub mod telemetry;
