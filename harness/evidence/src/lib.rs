//! Prometheus, Loki and Tempo in one embeddable crate.
//!
//! Telemetry comes in by the roads the real backends have (scrape, OTLP over gRPC and HTTP, Loki
//! push) and goes out by their HTTP APIs, in their query languages and with their shapes of answer
//! and error. A query this crate does not support is refused by name, never answered with nothing.
//!
//! Read in the order of the data: [`receive`] fills [`store`]; [`promql`], [`logql`] and [`traceql`]
//! evaluate over it; [`serve`] puts HTTP around them.

mod go_regex;
pub mod logql;
pub mod promql;
pub mod receive;
mod record;
pub mod serve;
pub mod store;
pub mod traceql;

pub use record::{Limits, Opened};

use std::sync::Arc;

/// The three stores of one embedded stack. Cheap to clone; all clones share the stores.
#[derive(Clone, Default)]
pub struct Evidence {
    /// Float samples by label set.
    pub metrics: Arc<store::metrics::MetricStore>,
    /// Log lines by stream.
    pub logs: Arc<store::logs::LogStore>,
    /// Spans by trace.
    pub traces: Arc<store::traces::TraceStore>,
}

/// What a receiver did with one payload, in the terms of OTLP's partial success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Items stored.
    pub accepted: u64,
    /// Items refused; they are counted in the store too.
    pub rejected: u64,
    /// Why items were refused; empty when none were.
    pub message: String,
    /// Whether any was refused for want of room (memory, disk) and not for what it is.
    pub out_of_room: bool,
}
