//! The roads by which telemetry comes in.
pub mod exposition;
pub mod loki_push;
pub mod otlp;
pub mod remote_write;
pub mod scrape;
