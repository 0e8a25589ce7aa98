//! Scenario and seed → arrivals. The schedule is data: the same seed gives the same schedule on
//! every machine (ChaCha8 and `libm`, no ambient randomness), and separate streams for timing, mix
//! and think time mean that changing one leaves the others as they were.
//!
//! Open loads are an iterator in constant memory ([`open`]); closed loads are a state machine fed
//! with completions ([`Closed`]); [`Timetable`] is both as one sequence. A [`Shard`] takes its part of
//! it.

use crate::record::Stretch;
use crate::scenario::{Load, Scenario};
use crate::units::{Nanos, Phase, RequestId};

mod closed;
mod open;
pub(crate) mod random;
mod shape;
mod shard;
mod slack;
mod tape;
mod timetable;

pub use closed::Closed;
pub use open::{Open, open, open_with};
pub use shard::Shard;
pub use slack::Wakes;
pub use tape::Tapes;
pub use timetable::{Next, Timetable};

use random::Stream;

/// Place of the step's number in a request's id, above the load's number and the arrival's.
const STEP_SHIFT: u32 = 56;
/// Place of the load's number in a request's id.
const LOAD_SHIFT: u32 = 40;

/// One request's place in the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// `step << 56 | load << 40 | n` for the n-th arrival (from 0) of the load. Of closed loads `n`
    /// is `k · users + user` for a user's k-th, so that it follows from the user alone.
    pub id: RequestId,
    /// Index into the scenario's `loads`.
    pub load: u16,
    /// Index into the scenario's `requests`.
    pub request: u16,
    /// Index into the scenario's `flows`, when the request is a step of one.
    pub flow: Option<u16>,
    /// Which step of the flow, from 0.
    pub step: u8,
    /// Which arrival of this load and request (or flow) it is, from 0. Of closed loads that do not
    /// share iterations it is unique, and follows from the user alone.
    pub nth: u64,
    /// The phase it is due in. All steps of a flow belong to that of the first.
    pub phase: Phase,
    /// When it is to be sent.
    pub due: Nanos,
    /// The user of a closed load, from 0.
    pub vu: Option<u32>,
}

impl Arrival {
    /// The flow's next step, due at `due`; `None` after the last, and of a single request.
    #[must_use]
    pub fn next_step(&self, scenario: &Scenario, due: Nanos) -> Option<Self> {
        let flow = scenario.spec.flows.get(usize::from(self.flow?))?;
        let step = self.step.checked_add(1)?;
        let name = flow.steps.get(usize::from(step))?;
        let requests = &scenario.spec.requests;
        let request = requests.iter().position(|request| request.name == *name)?;
        Some(Self {
            id: RequestId(self.id.0 + (1 << STEP_SHIFT)),
            request: u16::try_from(request).ok()?,
            step,
            due,
            ..*self
        })
    }
}

/// The planned stretches of all loads: one per stage, in the order of the scenario.
#[must_use]
pub fn stretches(scenario: &Scenario) -> Vec<Stretch> {
    let mut all = Vec::new();
    for (index, load) in (0_u16..).zip(&scenario.spec.loads) {
        let mut start = scenario.load_start(usize::from(index));
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

/// The requests and flows of a load with their weights, and how often each was drawn.
#[derive(Debug, Clone, Default)]
struct Mix {
    entries: Vec<Entry>,
    total: u64,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Index into the requests, then the flows.
    index: u16,
    /// The request, or the first one of the flow.
    request: u16,
    flow: Option<u16>,
    /// Sum of the weights up to and including it.
    upto: u64,
    drawn: u64,
}

/// What was drawn.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    request: u16,
    flow: Option<u16>,
    nth: u64,
}

impl Mix {
    fn new(scenario: &Scenario, load: &Load) -> Self {
        let spec = &scenario.spec;
        let place = |name: &String| spec.requests.iter().position(|r| r.name == *name);
        let single = spec.requests.iter().map(|request| (&request.name, None));
        let flows = (0_u16..).zip(&spec.flows);
        let flows = flows.map(|(index, flow)| (&flow.name, Some((index, flow))));
        let mut entries = Vec::new();
        let mut total = 0;
        for (index, (name, flow)) in (0_u16..).zip(single.chain(flows)) {
            let weight = load.mix.get(name).copied().unwrap_or(0);
            let first = match flow {
                Some((_, flow)) => flow.steps.first().and_then(place),
                None => Some(usize::from(index)),
            };
            let Some(first) = first.filter(|_| weight > 0) else {
                continue;
            };
            total += u64::from(weight);
            entries.push(Entry {
                index,
                request: first as u16,
                flow: flow.map(|(index, _)| index),
                upto: total,
                drawn: 0,
            });
        }
        Self { entries, total }
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn entry(&self, place: usize) -> (u16, Option<u16>) {
        let entry = &self.entries[place];
        (entry.request, entry.flow)
    }

    /// How often the entry was counted before; counts it once more.
    fn count(&mut self, place: usize) -> u64 {
        self.entries[place].drawn += 1;
        self.entries[place].drawn - 1
    }

    /// Draws an entry. A mix of one draws nothing from the stream.
    fn choose(&self, stream: &mut Stream) -> Option<usize> {
        let ticket = if self.entries.len() > 1 {
            stream.below(self.total)
        } else {
            0
        };
        self.entries.iter().position(|entry| ticket < entry.upto)
    }

    /// Draws an entry and counts it.
    fn draw(&mut self, stream: &mut Stream) -> Option<Drawn> {
        let place = self.choose(stream)?;
        Some(self.drawn(place))
    }

    /// Takes the entry of this index of the requests, then the flows, and counts it.
    fn take(&mut self, index: u16) -> Option<Drawn> {
        let place = self.entries.iter().position(|entry| entry.index == index)?;
        Some(self.drawn(place))
    }

    fn drawn(&mut self, place: usize) -> Drawn {
        let nth = self.count(place);
        let (request, flow) = self.entry(place);
        Drawn { request, flow, nth }
    }
}

/// Id of the n-th arrival of a load.
fn id(load: u16, n: u64) -> RequestId {
    RequestId((u64::from(load) << LOAD_SHIFT) | n)
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
