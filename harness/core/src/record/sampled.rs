//! A run of more requests than rows are kept of: which rows there are, and what was counted of all
//! requests as they were recorded.
//!
//! Which request keeps its row follows from its id alone: one in `one_in`, a power of two, spread
//! evenly by a hash. So shards agree on it, a coarser sample is a part of a finer one, and a row that
//! is not of the sample is noticed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::observation::Outcome;
use crate::schedule::random::mix;
use crate::units::{Nanos, Phase, RequestId};

/// Seconds that are counted apart; what lies beyond counts in the last: the longest load and an hour.
const MOST_SECONDS: usize = 30 * 86_400 + 3_600;

/// How often `one_in` may double before a request's row is left out.
#[must_use]
pub fn level(id: RequestId) -> u32 {
    // The hash takes 0 to 0.
    mix(id.0 ^ 0x9e37_79b9_7f4a_7c15).trailing_zeros()
}

/// Whether a request keeps its row where one in `one_in` does.
#[must_use]
pub fn keeps(id: RequestId, one_in: u64) -> bool {
    level(id) >= one_in.max(1).ilog2()
}

/// What is known of the requests of a run of which not all have a row.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sampled {
    /// One request in so many has its row; a power of two.
    pub one_in: u64,
    /// Rows that there are.
    pub rows: u64,
    /// All requests, with a row or without.
    pub requests: u64,
    /// Counts by phase and request.
    pub cells: Vec<Cell>,
    /// What the run's own objectives count, by what they ask.
    pub figures: BTreeMap<String, u64>,
    /// Counts by second since the start of the load.
    pub seconds: Vec<SecondCount>,
    /// By load: when its last outcome was known, and how many requests were dropped.
    pub loads: Vec<LoadEnd>,
    /// Why the generator could not send the first of those it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator_failed: Option<String>,
}

/// Counts of one phase and request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Phase.
    pub phase: Phase,
    /// Index into the scenario's `requests`.
    pub request: u16,
    /// Requests by outcome.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// Answers by HTTP status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that were sent.
    pub sent: u64,
    /// Requests sent, or given up, later than `validity.lateSends.over`.
    pub late: u64,
    /// The latest of them all.
    pub latest: Nanos,
    /// Answered requests that asked to be traced.
    pub traced: u64,
    /// Answers that had a truth.
    pub scored: u64,
    /// Those of them that agreed with it.
    pub right: u64,
    /// Answers with an event of a stream.
    pub streamed: u64,
    /// Bytes of bodies read.
    pub bytes: u64,
}

/// Counts of one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecondCount {
    /// Requests due in it.
    pub due: u64,
    /// Requests sent in it.
    pub sent: u64,
    /// Outcomes known in it.
    pub done: u64,
    /// Of these, complete answers.
    pub answered: u64,
    /// Of these, other than expected.
    pub failed: u64,
}

/// How a load ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadEnd {
    /// When its last outcome was known.
    pub last: Nanos,
    /// Requests that were dropped.
    pub dropped: u64,
}

impl Cell {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(phase: Phase, request: u16) -> Self {
        Self {
            phase,
            request,
            outcomes: BTreeMap::new(),
            statuses: BTreeMap::new(),
            sent: 0,
            late: 0,
            latest: Nanos(0),
            traced: 0,
            scored: 0,
            right: 0,
            streamed: 0,
            bytes: 0,
        }
    }

    /// All its requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.outcomes.values().sum()
    }

    /// Requests that were answered completely, right or wrong.
    #[must_use]
    pub fn answered(&self) -> u64 {
        let answered = self.outcomes.iter().filter(|(o, _)| o.answered());
        answered.map(|(_, count)| count).sum()
    }

    fn add(&mut self, other: &Self) {
        for (outcome, count) in &other.outcomes {
            *self.outcomes.entry(*outcome).or_default() += count;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.sent += other.sent;
        self.late += other.late;
        self.latest = self.latest.max(other.latest);
        self.traced += other.traced;
        self.scored += other.scored;
        self.right += other.right;
        self.streamed += other.streamed;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl Sampled {
    /// The counts of one second, which then are there.
    pub fn second(&mut self, at: Nanos) -> &mut SecondCount {
        let second = usize::try_from(at.0 / 1_000_000_000).unwrap_or(usize::MAX);
        let second = second.min(MOST_SECONDS - 1);
        if self.seconds.len() <= second {
            self.seconds.resize(second + 1, SecondCount::default());
        }
        &mut self.seconds[second]
    }

    /// The counts of one phase and request, which then are there.
    pub fn cell(&mut self, phase: Phase, request: u16) -> &mut Cell {
        let place = self
            .cells
            .iter()
            .position(|cell| cell.phase == phase && cell.request == request);
        let place = place.unwrap_or_else(|| {
            self.cells.push(Cell::new(phase, request));
            self.cells.len() - 1
        });
        &mut self.cells[place]
    }

    /// The counts of the measured phase.
    pub fn measured(&self) -> impl Iterator<Item = &Cell> {
        self.cells
            .iter()
            .filter(|cell| cell.phase == Phase::Measure)
    }

    /// Adds what was counted of other requests of the same schedule. Which rows there are is the caller's
    /// to say.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        for cell in &other.cells {
            self.cell(cell.phase, cell.request).add(cell);
        }
        for (figure, count) in &other.figures {
            *self.figures.entry(figure.clone()).or_default() += count;
        }
        for (place, more) in other.seconds.iter().enumerate() {
            let second = self.second(Nanos(place as u64 * 1_000_000_000));
            second.due += more.due;
            second.sent += more.sent;
            second.done += more.done;
            second.answered += more.answered;
            second.failed += more.failed;
        }
        if self.loads.len() < other.loads.len() {
            self.loads.resize(other.loads.len(), LoadEnd::default());
        }
        for (load, more) in self.loads.iter_mut().zip(&other.loads) {
            load.last = load.last.max(more.last);
            load.dropped += more.dropped;
        }
        let why = self.generator_failed.take();
        self.generator_failed = why.or_else(|| other.generator_failed.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_even_and_a_coarser_one_is_part_of_it() {
        for one_in in [1, 2, 4, 64] {
            let kept = |ids: std::ops::Range<u64>, step: usize| {
                let ids = ids.step_by(step).map(RequestId);
                ids.filter(|id| keeps(*id, one_in)).count() as f64
            };
            let even = |kept: f64, of: f64| {
                let wanted = of / one_in as f64;
                (kept - wanted).abs() <= 5.0 * wanted.sqrt()
            };
            assert!(even(kept(0..1_000_000, 1), 1e6), "{one_in}");
            // A shard's ids, and those of a later step of a flow.
            assert!(even(kept(1..1_000_000, 4), 2.5e5), "{one_in}");
            assert!(even(kept(1 << 56..(1 << 56) + 100_000, 1), 1e5), "{one_in}");
        }
        let of = |one_in| (0..10_000).filter(move |id| keeps(RequestId(*id), one_in));
        assert!(of(8).all(|id| keeps(RequestId(id), 4)));
        assert_eq!(of(1).count(), 10_000);
    }
}
