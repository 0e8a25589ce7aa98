//! Arrivals become observations. The only place that waits for the schedule.
//!
//! Pacing runs on a thread of its own: a runtime's timer wheel is a millisecond coarse, and a busy
//! event loop must show as lateness of sends, not move the schedule. The n-th arrival is due at an
//! instant computed from the start; nothing is chained, so nothing drifts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender as StdSender};
use std::time::Duration;

use harness_core::observation::Observation;
use harness_core::scenario::{Executor, Scenario};
use harness_core::schedule::{self, Arrival, Closed};
use harness_core::units::Nanos;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::send::Sender;

/// Most requests out at once in an open load that does not say.
pub const DEFAULT_MAX_IN_FLIGHT: u32 = 512;

/// What the pacing thread is told.
pub enum Tell {
    /// A closed user's request is done.
    Completed {
        /// Its load.
        load: u16,
        /// The user.
        vu: u32,
        /// When.
        at: Nanos,
    },
    /// Send nothing more.
    Stop,
}

/// Numbers that others may read while the load goes on.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Requests out now.
    pub in_flight: AtomicU32,
    /// Arrivals so far.
    pub scheduled: AtomicU64,
}

/// Everything the pacing thread needs.
pub struct Drive {
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// Sends.
    pub sender: Arc<Sender>,
    /// The run's clock.
    pub clock: Clock,
    /// Runtime that requests run on.
    pub runtime: Handle,
    /// Where observations go.
    pub observed: UnboundedSender<Observation>,
    /// Ends all requests that are still out.
    pub kill: CancellationToken,
    /// Live numbers.
    pub gauges: Arc<Gauges>,
}

/// A closed arrival waiting for its due instant; the earliest is the greatest.
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

impl Drive {
    /// Runs the schedule to its end, or until told to stop. Blocks: call it on a thread of its own.
    /// When it returns nothing new is sent; requests may still be out.
    pub fn run(&self, tell: &StdSender<Tell>, told: &Receiver<Tell>) {
        let limits = self.in_flight_limits();
        let mut open = schedule::open(&self.scenario).peekable();
        let mut closed: Vec<Option<Closed>> = Vec::new();
        let mut waiting = BinaryHeap::new();
        let mut users_out = 0_u64;
        for (load, spec) in self.scenario.spec.loads.iter().enumerate() {
            let users = is_closed(spec.executor).then(|| Closed::new(&self.scenario, load as u16));
            closed.push(users);
        }
        for arrival in closed.iter_mut().flatten().flat_map(Closed::start) {
            waiting.push(Waiting(Reverse((arrival.due, arrival.id.0)), arrival));
        }
        loop {
            let next_open = open.peek().map(|arrival| arrival.due);
            let next_closed = waiting.peek().map(|Waiting(Reverse((due, _)), _)| *due);
            let due = match (next_open, next_closed) {
                (None, None) if users_out == 0 => return,
                (None, None) => None,
                (a, b) => a.into_iter().chain(b).min(),
            };
            match self.wait(due, told) {
                Wait::Due => {
                    let from_closed =
                        next_open.is_none() || (next_closed.is_some() && next_closed < next_open);
                    let arrival = if from_closed {
                        waiting.pop().map(|w| w.1)
                    } else {
                        open.next()
                    };
                    let Some(arrival) = arrival else { return };
                    users_out += u64::from(arrival.vu.is_some());
                    self.dispatch(arrival, &limits, tell);
                }
                Wait::Told(Tell::Stop) => return,
                Wait::Told(Tell::Completed { load, vu, at }) => {
                    users_out = users_out.saturating_sub(1);
                    let next = closed[usize::from(load)]
                        .as_mut()
                        .and_then(|users| users.completed(vu, at));
                    if let Some(arrival) = next {
                        waiting.push(Waiting(Reverse((arrival.due, arrival.id.0)), arrival));
                    }
                }
            }
        }
    }

    fn wait(&self, due: Option<Nanos>, told: &Receiver<Tell>) -> Wait {
        // With nothing due only a completion can bring the next arrival.
        let patience = due.map_or(Duration::from_secs(3600), |due| self.clock.until(due));
        match told.recv_timeout(patience) {
            Ok(tell) => Wait::Told(tell),
            Err(RecvTimeoutError::Timeout) if due.is_some() => Wait::Due,
            Err(_) => Wait::Told(Tell::Stop),
        }
    }

    fn in_flight_limits(&self) -> Vec<(u32, Arc<AtomicU32>)> {
        let limit = |load: &harness_core::scenario::Load| {
            let most = if is_closed(load.executor) {
                u32::MAX
            } else {
                DEFAULT_MAX_IN_FLIGHT
            };
            (
                load.max_in_flight.unwrap_or(most),
                Arc::new(AtomicU32::new(0)),
            )
        };
        self.scenario.spec.loads.iter().map(limit).collect()
    }

    fn dispatch(&self, arrival: Arrival, limits: &[(u32, Arc<AtomicU32>)], tell: &StdSender<Tell>) {
        self.gauges.scheduled.fetch_add(1, Ordering::Relaxed);
        let (most, out) = &limits[usize::from(arrival.load)];
        if out.load(Ordering::Acquire) >= *most {
            // The receiver lives as long as the run; without it there is nobody to tell.
            let _ = self.observed.send(self.sender.drop_arrival(&arrival));
            return;
        }
        out.fetch_add(1, Ordering::AcqRel);
        self.gauges.in_flight.fetch_add(1, Ordering::Relaxed);
        let (sender, observed, kill) = (
            Arc::clone(&self.sender),
            self.observed.clone(),
            self.kill.clone(),
        );
        let (out, gauges) = (Arc::clone(out), Arc::clone(&self.gauges));
        let user = arrival.vu.map(|vu| (tell.clone(), vu));
        self.runtime.spawn(async move {
            let seen = sender.send(arrival, &kill).await;
            out.fetch_sub(1, Ordering::AcqRel);
            gauges.in_flight.fetch_sub(1, Ordering::Relaxed);
            if let Some((tell, vu)) = user {
                let _ = tell.send(Tell::Completed {
                    load: seen.load,
                    vu,
                    at: seen.done,
                });
            }
            let _ = observed.send(seen);
        });
    }
}

enum Wait {
    Due,
    Told(Tell),
}

/// Whether users of the load wait for their answers.
fn is_closed(executor: Executor) -> bool {
    match executor {
        Executor::ConstantVus
        | Executor::RampingVus
        | Executor::PerVuIterations
        | Executor::SharedIterations => true,
        Executor::ConstantArrivalRate | Executor::RampingArrivalRate | Executor::Replay => false,
    }
}
