//! The small texts of a scenario: durations, rates and shares.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A duration such as `250ms`, `10s`, `1m30s`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct Dur(pub Duration);

/// A rate such as `20/s` or `90/m`, kept as a rational number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rate {
    /// Events.
    pub events: u64,
    /// In this many nanoseconds, at least 1.
    pub per_nanos: u64,
}

/// A share such as `1%` or `0.01`, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
pub struct Share(pub f64);
