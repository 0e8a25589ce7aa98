//! The HTTP APIs of Prometheus, Loki and Tempo.
pub mod loki;
pub mod prometheus;
pub mod tempo;
