//! Scenario and seed → arrivals. The schedule is data: the same seed gives the same schedule on
//! every machine (ChaCha8 and `libm`, no ambient randomness), and separate streams for timing, mix
//! and think time mean that changing one leaves the others as they were.
//!
//! Open loads are an iterator in constant memory ([`open`]); closed loads are a state machine fed
//! with completions ([`Closed`]).

use crate::record::Stretch;
use crate::scenario::{Load, Scenario};
use crate::units::{Nanos, Phase, RequestId};

mod closed;
mod open;
pub(crate) mod random;

pub use closed::Closed;
pub use open::{Open, open};

use random::Stream;

/// One request's place in the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// `load << 40 | n` for the n-th arrival (from 0) of the load.
    pub id: RequestId,
    /// Index into the scenario's `loads`.
    pub load: u16,
    /// Index into the scenario's `requests`.
    pub request: u16,
    /// Which arrival of this load and request it is, from 0.
    pub nth: u64,
    /// The phase it is due in.
    pub phase: Phase,
    /// When it is to be sent.
    pub due: Nanos,
    /// The user of a closed load, from 0.
    pub vu: Option<u32>,
}

/// The planned stretches of all loads: one per stage, in the order of the scenario.
#[must_use]
pub fn stretches(scenario: &Scenario) -> Vec<Stretch> {
    let mut all = Vec::new();
    for (index, load) in (0_u16..).zip(&scenario.spec.loads) {
        let mut start = load.start();
        for stage in &load.stages {
            let end = Nanos(start.0.saturating_add(stage.length.nanos()));
            all.push(Stretch {
                load: index,
                phase: stage.phase,
                start,
                end,
            });
            start = end;
        }
    }
    all
}

/// Indices of the closed loads, for which the caller makes a [`Closed`] each.
#[must_use]
pub fn closed_loads(scenario: &Scenario) -> Vec<u16> {
    let loads = (0_u16..).zip(&scenario.spec.loads);
    loads
        .filter(|(_, load)| !load.executor.is_open())
        .map(|(index, _)| index)
        .collect()
}

/// The request names of a load with their weights, and how often each was drawn.
#[derive(Debug, Clone)]
struct Mix {
    /// Index of the request, sum of the weights up to and including it, times drawn.
    entries: Vec<(u16, u64, u64)>,
    total: u64,
}

impl Mix {
    fn new(scenario: &Scenario, load: &Load) -> Self {
        let mut entries = Vec::new();
        let mut total = 0;
        for (index, request) in (0_u16..).zip(&scenario.spec.requests) {
            let weight = load.mix.get(&request.name).copied().unwrap_or(0);
            if weight > 0 {
                total += u64::from(weight);
                entries.push((index, total, 0));
            }
        }
        Self { entries, total }
    }

    /// Draws a request and counts it. A mix of one request draws nothing from the stream.
    fn draw(&mut self, stream: &mut Stream) -> Option<(u16, u64)> {
        let ticket = if self.entries.len() > 1 {
            stream.below(self.total)
        } else {
            0
        };
        let (request, _, drawn) = self
            .entries
            .iter_mut()
            .find(|(_, upto, _)| ticket < *upto)?;
        *drawn += 1;
        Some((*request, *drawn - 1))
    }
}

/// Id of the n-th arrival of a load.
fn id(load: u16, n: u64) -> RequestId {
    RequestId((u64::from(load) << 40) | n)
}

#[cfg(test)]
mod tests;
