//! What has been received, in memory.
pub mod logs;
pub mod metrics;
pub mod segment;
pub mod traces;
