//! All loads of a scenario as one sequence of arrivals: what a driver, whatever its clock, asks for
//! the next instant and tells of completions.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Arrival, Closed, Open, Shard, Tapes, open_with};
use crate::scenario::Scenario;
use crate::units::Nanos;

/// The arrivals of all loads, open and closed, in order of due. Holds no clock.
#[derive(Debug)]
pub struct Timetable {
    open: Open,
    next_open: Option<Arrival>,
    closed: Vec<Option<Closed>>,
    waiting: BinaryHeap<Waiting>,
    /// Closed arrivals taken and not yet completed.
    out: u64,
    shard: Shard,
    /// Kept to spare an allocation for each completion.
    next: Vec<Arrival>,
}

/// What the driver has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This instant: then [`Timetable::take`] the arrival.
    At(Nanos),
    /// A completion: nothing is due before one.
    Completion,
    /// Nothing: the schedule is over.
    Over,
}

/// A closed arrival waiting for its due instant; the earliest is the greatest.
#[derive(Debug)]
struct Waiting(Reverse<(Nanos, u64)>, Arrival);

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl Timetable {
    /// This shard's part of the scenario's schedule, at its beginning.
    #[must_use]
    pub fn new(scenario: &Scenario, tapes: &Tapes, shard: Shard) -> Self {
        let loads = (0_u16..).zip(&scenario.spec.loads);
        let closed = loads.map(|(index, load)| {
            let closed = !load.executor.is_open();
            closed.then(|| Closed::of_shard(scenario, index, shard))
        });
        let mut table = Self {
            open: open_with(scenario, tapes),
            next_open: None,
            closed: closed.collect(),
            waiting: BinaryHeap::new(),
            out: 0,
            shard,
            next: Vec::new(),
        };
        table.advance();
        let first = table.closed.iter_mut().flatten().flat_map(Closed::start);
        let first: Vec<Arrival> = first.collect();
        first.into_iter().for_each(|arrival| table.wait(arrival));
        table
    }

    /// What comes next.
    #[must_use]
    pub fn next(&self) -> Next {
        let waiting = self
            .waiting
            .peek()
            .map(|Waiting(Reverse((due, _)), _)| *due);
        let open = self.next_open.map(|arrival| arrival.due);
        match open.into_iter().chain(waiting).min() {
            Some(due) => Next::At(due),
            None if self.out > 0 => Next::Completion,
            None => Next::Over,
        }
    }

    /// The next arrival. Of a closed load it counts as out until it is [`Self::completed`].
    pub fn take(&mut self) -> Option<Arrival> {
        let waiting = self
            .waiting
            .peek()
            .map(|Waiting(Reverse((due, _)), _)| *due);
        let closed_first = match (self.next_open, waiting) {
            (Some(open), Some(due)) => due < open.due,
            (open, _) => open.is_none(),
        };
        if closed_first {
            let arrival = self.waiting.pop()?.1;
            self.out += 1;
            return Some(arrival);
        }
        let arrival = self.next_open.take();
        self.advance();
        arrival
    }

    /// A closed user's request (or flow) was done at `at`, with whatever outcome.
    pub fn completed(&mut self, load: u16, vu: u32, at: Nanos) {
        self.out = self.out.saturating_sub(1);
        let mut next = std::mem::take(&mut self.next);
        if let Some(Some(users)) = self.closed.get_mut(usize::from(load)) {
            users.completed(vu, at, &mut next);
        }
        next.drain(..).for_each(|arrival| self.wait(arrival));
        self.next = next;
    }

    /// An iteration that its load's time did not suffice for. To be asked when all is over, until
    /// there is none: each counts as a request that was dropped.
    pub fn left_over(&mut self) -> Option<Arrival> {
        self.closed.iter_mut().flatten().find_map(Closed::left_over)
    }

    fn advance(&mut self) {
        let shard = self.shard;
        self.next_open = self.open.find(|arrival| shard.takes(arrival.id.0));
    }

    fn wait(&mut self, arrival: Arrival) {
        let order = Reverse((arrival.due, arrival.id.0));
        self.waiting.push(Waiting(order, arrival));
    }
}
