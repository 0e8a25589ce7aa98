//! What ends a run early.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Dur, Share};

/// A rule that ends the run early.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AbortRule {
    /// `error_ratio > X` or `dropped_ratio > X`, over all requests done in the window, or
    /// `p50 > DURATION` (also p90, p95, p99, p999), latency from due of all of them.
    pub when: String,
    /// Length of the sliding window.
    pub over: Dur,
}

/// An abort rule's condition, read. Every kind is a share of the requests done in the window: the
/// quantile `q` lies over a limit exactly when more than `1 - q` of them do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Condition {
    /// More than this share was other than expected.
    Errors(f64),
    /// More than this share was dropped.
    Dropped(f64),
    /// More than this share took longer, or was never answered.
    Slow {
        /// Share, `1 - q`.
        share: f64,
        /// Latency from due.
        over: Dur,
    },
}

impl AbortRule {
    /// Its condition.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn condition(&self) -> Result<Condition, String> {
        let words: Vec<&str> = self.when.split_whitespace().collect();
        let [figure, ">", limit] = words.as_slice() else {
            return Err(format!("`{}` is not a rule", self.when));
        };
        let share = || {
            let share = limit.parse::<Share>()?.0;
            if share < 1.0 {
                Ok(share)
            } else {
                Err(format!("{figure} never exceeds 1"))
            }
        };
        let slow = |share: f64| {
            let over = limit.parse()?;
            Ok(Condition::Slow { share, over })
        };
        match *figure {
            "error_ratio" => share().map(Condition::Errors),
            "dropped_ratio" => share().map(Condition::Dropped),
            "p50" => slow(0.5),
            "p90" => slow(0.1),
            "p95" => slow(0.05),
            "p99" => slow(0.01),
            "p999" => slow(0.001),
            other => Err(format!(
                "there is no figure `{other}`: one of error_ratio, dropped_ratio, p50, p90, p95, p99, p999"
            )),
        }
    }
}
