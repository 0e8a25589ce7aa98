//! Observations → figures: live while a run goes on ([`Measurements`], [`AbortWatch`]), and for the
//! report as pure functions of all rows ([`summaries`], [`series`], [`distribution`]).
//!
//! Figures of a report are exact: quantiles are order statistics of the rows, nearest rank (the
//! smallest value that at least the share `q` of all values do not exceed). Only the live line and
//! the histograms written beside the rows are rounded, to three significant digits.
//!
//! A request that was never answered has no latency of its own: the instant at which a connection
//! was refused or a place in the schedule dropped says nothing of how long its user would have
//! waited. Left out, or taken as it is, a service would look faster the more it fails. Such a
//! request is shown as if it had taken the target's timeout, or its own time if that was longer
//! ([`shown_latency`]). Objectives do not look at this: to them such a request is not good.

use crate::observation::Observation;
use crate::report::model::Quantiles;
use crate::scenario::Scenario;
use crate::units::Nanos;

mod abort;
mod live;
mod rows;
#[cfg(test)]
mod tests;

pub use abort::{ABORT_FLOOR, AbortWatch};
pub use live::{Measurements, Pair, Snapshot, Stream};
pub use rows::{distribution, series, summaries};

/// Latency from due, for showing: at least `timeout` for a request that was never answered.
#[must_use]
pub fn shown_latency(row: &Observation, timeout: Nanos) -> Nanos {
    if row.outcome.answered() {
        row.latency()
    } else {
        row.latency().max(timeout)
    }
}

fn timeout(scenario: &Scenario) -> Nanos {
    Nanos(scenario.spec.target.timeout.nanos())
}

/// Nearest rank of sorted values; `q` in `(0, 1]`.
fn nearest_rank(sorted: &[Nanos], q: f64) -> Option<Nanos> {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

/// Sorts the values and reads all quantiles off; `None` without values.
fn quantiles(values: &mut [Nanos]) -> Option<Quantiles> {
    values.sort_unstable();
    let at = |q| nearest_rank(values, q).map(Nanos::as_secs_f64);
    let sum: u128 = values.iter().map(|value| u128::from(value.0)).sum();
    Some(Quantiles {
        min: values.first()?.as_secs_f64(),
        mean: sum as f64 / values.len() as f64 / 1e9,
        p50: at(0.5)?,
        p90: at(0.9)?,
        p95: at(0.95)?,
        p99: at(0.99)?,
        p999: at(0.999)?,
        max: values.last()?.as_secs_f64(),
    })
}
