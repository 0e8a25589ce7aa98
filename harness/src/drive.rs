//! Arrivals become observations. The only place that waits for the schedule.
//!
//! Pacing runs on a thread of its own: a runtime's timer wheel is a millisecond coarse, and a busy
//! event loop must show as lateness of sends, not move the schedule. The n-th arrival is due at an
//! instant computed from the start; nothing is chained, so nothing drifts. What is due, and what
//! follows from a completion, is the [`Timetable`]'s business, which holds no clock: the same code
//! runs in a runtime whose time is virtual ([`Drive::run_in_runtime`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender as StdSender};
use std::time::Duration;

use harness_core::observation::{Observation, Outcome};
use harness_core::request::Captured;
use harness_core::scenario::Scenario;
use harness_core::schedule::{Arrival, Next, Shard, Tapes, Timetable};
use harness_core::units::Nanos;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// What the pacing thread is told.
#[derive(Debug, Clone, Copy)]
pub enum Tell {
    /// A closed user's request (or flow) is done.
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

/// What carries requests out: the network, or a model of a service.
pub trait Exchange: Send + Sync + 'static {
    /// Sends one request and waits for its outcome, at most until its timeout or `kill`. With it come
    /// the values that later steps of its flow use.
    fn exchange(
        &self,
        arrival: Arrival,
        captured: &Captured,
        kill: &CancellationToken,
    ) -> impl Future<Output = (Observation, Vec<(String, serde_json::Value)>)> + Send;

    /// A request that is not sent, given up at `at`.
    fn not_sent(&self, arrival: &Arrival, outcome: Outcome, at: Nanos, why: &str) -> Observation;
}

/// Everything that driving a load needs.
pub struct Drive<E> {
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// Instants to replay.
    pub tapes: Tapes,
    /// The part of the schedule that this process sends.
    pub shard: Shard,
    /// Sends.
    pub sender: Arc<E>,
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

/// Tells whoever paces.
type Teller = Arc<dyn Fn(Tell) + Send + Sync>;

/// A load's slots: how many there are, and how many are taken.
struct Slots {
    most: u32,
    out: Arc<AtomicU32>,
}

enum Wait {
    Due,
    Told(Tell),
}

impl<E: Exchange> Drive<E> {
    /// Runs the schedule to its end, or until told to stop. Blocks: call it on a thread of its own.
    /// When it returns nothing new is sent but later steps of flows; requests may still be out.
    pub fn run(&self, tell: &StdSender<Tell>, told: &Receiver<Tell>) {
        let mut table = self.timetable();
        let slots = self.slots();
        let tell = tell.clone();
        // The receiver lives as long as the pacing; after it there is nobody to tell.
        let teller: Teller = Arc::new(move |what| {
            let _ = tell.send(what);
        });
        while let Some(due) = self.due(&mut table) {
            // With nothing due only a completion can bring the next arrival.
            let patience = due.map_or(Duration::from_secs(3600), |due| self.clock.until(due));
            let wait = match told.recv_timeout(patience) {
                Ok(tell) => Wait::Told(tell),
                Err(RecvTimeoutError::Timeout) if due.is_some() => Wait::Due,
                Err(_) => Wait::Told(Tell::Stop),
            };
            if !self.step(&mut table, &slots, &teller, wait) {
                return;
            }
        }
    }

    /// The same on a runtime's own timer. That is too coarse for a load over the network; where the
    /// runtime's time is virtual it is exact.
    pub async fn run_in_runtime(
        &self,
        tell: &UnboundedSender<Tell>,
        told: &mut UnboundedReceiver<Tell>,
    ) {
        let mut table = self.timetable();
        let slots = self.slots();
        let tell = tell.clone();
        let teller: Teller = Arc::new(move |what| {
            let _ = tell.send(what);
        });
        while let Some(due) = self.due(&mut table) {
            let at = due.map(|due| tokio::time::Instant::from_std(self.clock.instant(due)));
            let wait = tokio::select! {
                biased;
                tell = told.recv() => Wait::Told(tell.unwrap_or(Tell::Stop)),
                () = until(at) => Wait::Due,
            };
            if !self.step(&mut table, &slots, &teller, wait) {
                return;
            }
        }
    }

    fn timetable(&self) -> Timetable {
        Timetable::new(&self.scenario, &self.tapes, self.shard)
    }

    /// The next due instant, `None` within when only a completion can bring one. At the end of the
    /// schedule: none, and what its time did not suffice for is recorded.
    fn due(&self, table: &mut Timetable) -> Option<Option<Nanos>> {
        match table.next() {
            Next::At(due) => Some(Some(due)),
            Next::Completion => Some(None),
            Next::Over => {
                while let Some(arrival) = table.left_over() {
                    let why = "the load's time was over before this iteration began";
                    self.give_up(&arrival, Outcome::Dropped, arrival.due, why);
                }
                None
            }
        }
    }

    /// Does what a wait ended for; false when told to stop.
    fn step(&self, table: &mut Timetable, slots: &[Slots], tell: &Teller, wait: Wait) -> bool {
        match wait {
            Wait::Due => {
                if let Some(arrival) = table.take() {
                    self.dispatch(arrival, &slots[usize::from(arrival.load)], tell);
                }
                true
            }
            Wait::Told(Tell::Completed { load, vu, at }) => {
                table.completed(load, vu, at);
                true
            }
            Wait::Told(Tell::Stop) => false,
        }
    }

    fn slots(&self) -> Vec<Slots> {
        let slots = |load: &harness_core::scenario::Load| Slots {
            most: if load.executor.is_open() {
                load.in_flight_limit()
            } else {
                u32::MAX
            },
            out: Arc::new(AtomicU32::new(0)),
        };
        self.scenario.spec.loads.iter().map(slots).collect()
    }

    /// Records a request that is not sent, and the steps of its flow after it.
    fn give_up(&self, arrival: &Arrival, outcome: Outcome, at: Nanos, why: &str) {
        let mut outcome = outcome;
        let mut next = Some(*arrival);
        while let Some(arrival) = next {
            self.gauges.scheduled.fetch_add(1, Ordering::Relaxed);
            // The receiver lives as long as the run; without it there is nobody to tell.
            let _ = self
                .observed
                .send(self.sender.not_sent(&arrival, outcome, at, why));
            outcome = Outcome::NotReached;
            next = arrival.next_step(&self.scenario, arrival.due);
        }
    }

    fn dispatch(&self, arrival: Arrival, slots: &Slots, tell: &Teller) {
        if slots.out.load(Ordering::Acquire) >= slots.most {
            let why = "as many requests were out as maxInFlight allows";
            self.give_up(&arrival, Outcome::Dropped, self.clock.now(), why);
            return;
        }
        slots.out.fetch_add(1, Ordering::AcqRel);
        let journey = Journey {
            scenario: arrival.flow.map(|_| Arc::clone(&self.scenario)),
            sender: Arc::clone(&self.sender),
            observed: self.observed.clone(),
            kill: self.kill.clone(),
            gauges: Arc::clone(&self.gauges),
        };
        journey.gauges.scheduled.fetch_add(1, Ordering::Relaxed);
        journey.gauges.in_flight.fetch_add(1, Ordering::Relaxed);
        let out = Arc::clone(&slots.out);
        let user = arrival.vu.map(|vu| (Arc::clone(tell), vu));
        self.runtime.spawn(async move {
            let load = arrival.load;
            let gauges = Arc::clone(&journey.gauges);
            let at = journey.go(arrival).await;
            out.fetch_sub(1, Ordering::AcqRel);
            gauges.in_flight.fetch_sub(1, Ordering::Relaxed);
            if let Some((tell, vu)) = user {
                tell(Tell::Completed { load, vu, at });
            }
        });
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One arrival on its way: a request, or a flow of them.
struct Journey<E> {
    /// Of a flow.
    scenario: Option<Arc<Scenario>>,
    sender: Arc<E>,
    observed: UnboundedSender<Observation>,
    kill: CancellationToken,
    gauges: Arc<Gauges>,
}

impl<E: Exchange> Journey<E> {
    /// Sends the request, and the steps after it as long as each is answered as expected. Returns
    /// when the last one was done.
    async fn go(self, first: Arrival) -> Nanos {
        let mut captured = Captured::new();
        let mut arrival = first;
        loop {
            let (seen, values) = self.sender.exchange(arrival, &captured, &self.kill).await;
            let (at, well) = (seen.done, seen.outcome == Outcome::Expected);
            let _ = self.observed.send(seen);
            let Some(next) = self.after(&arrival, at) else {
                return at;
            };
            self.gauges.scheduled.fetch_add(1, Ordering::Relaxed);
            if !well {
                self.give_up(next, at);
                return at;
            }
            captured.extend(values);
            arrival = next;
        }
    }

    fn after(&self, arrival: &Arrival, at: Nanos) -> Option<Arrival> {
        arrival.next_step(self.scenario.as_ref()?, at)
    }

    fn give_up(&self, first: Arrival, at: Nanos) {
        let why = "an earlier step of the flow failed";
        let mut next = Some(first);
        while let Some(arrival) = next {
            let seen = self.sender.not_sent(&arrival, Outcome::NotReached, at, why);
            let _ = self.observed.send(seen);
            next = self.after(&arrival, at);
            if next.is_some() {
                self.gauges.scheduled.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
