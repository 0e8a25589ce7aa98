//! Arrivals become observations. The only place that waits for the schedule.
//!
//! Pacing and requests share one thread and one event loop, which does nothing else: a second thread
//! would have to wake the first for every request, which costs as much as sending it. The runtime's
//! timer wheel is a millisecond coarse, so the wait is for the kernel's own timer (`alarm`). The n-th
//! arrival is due at an instant computed from the start; nothing is chained, so nothing drifts. At
//! high rates one wake serves all that became due within the scenario's `timerSlack` ([`Wakes`]), and
//! an event loop too busy to come round in time shows as lateness of sends. What is due, and what
//! follows from a completion, is the [`Timetable`]'s business, which holds no clock: the same code
//! runs in a runtime whose time is virtual ([`Drive::run_in_runtime`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use harness_core::observation::{Line, Observation, Outcome};
use harness_core::request::Captured;
use harness_core::scenario::Scenario;
use harness_core::schedule::{Arrival, Next, Shard, Tapes, Timetable, Wakes};
use harness_core::units::{Nanos, SpanId, TraceId};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::observed::Observed;

mod carriers;

use carriers::{Carriers, Work};

/// Overdue arrivals that are dispatched before those dispatched get their turn to be sent.
const BURST: u32 = 16;

/// What pacing is told.
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
    /// Requests whose task broke down: defects of the harness.
    pub broken: AtomicU64,
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
    /// Where observations go.
    pub observed: Arc<Observed>,
    /// Ends all requests that are still out.
    pub kill: CancellationToken,
    /// Live numbers.
    pub gauges: Arc<Gauges>,
}

/// A load's slots: how many there are, and how many are taken.
struct Slots {
    most: u32,
    out: Arc<AtomicU32>,
}

/// Where dispatched arrivals go.
struct Out<E: Exchange> {
    /// By load.
    slots: Vec<Slots>,
    carriers: Carriers<Journey<E>>,
}

enum Wait {
    Due,
    Told(Tell),
}

impl<E: Exchange> Drive<E> {
    /// Runs the schedule to its end, or until told to stop, in a runtime of one thread that has
    /// nothing else to do. When it returns nothing new is sent but later steps of flows; requests may
    /// still be out, as tasks of that runtime.
    ///
    /// # Errors
    /// When the system gives no timer.
    pub async fn run(
        &self,
        tell: &UnboundedSender<Tell>,
        told: &mut UnboundedReceiver<Tell>,
    ) -> std::io::Result<()> {
        self.paced(Some(Alarm::new()?), tell, told).await;
        Ok(())
    }

    /// The same on a runtime's own timer. That is too coarse for a load over the network; where the
    /// runtime's time is virtual it is exact.
    pub async fn run_in_runtime(
        &self,
        tell: &UnboundedSender<Tell>,
        told: &mut UnboundedReceiver<Tell>,
    ) {
        self.paced(None, tell, told).await;
    }

    async fn paced(
        &self,
        alarm: Option<Alarm>,
        tell: &UnboundedSender<Tell>,
        told: &mut UnboundedReceiver<Tell>,
    ) {
        let mut table = self.timetable();
        let out = Out {
            slots: self.slots(),
            carriers: Carriers::new(),
        };
        let mut pace = Pace {
            alarm,
            clock: self.clock,
            burst: 0,
            wakes: Wakes::new(Nanos(self.scenario.spec.timer_slack().nanos())),
        };
        while let Some(due) = self.due(&mut table) {
            let wait = pace.wait(due, told).await;
            if !self.step(&mut table, &out, tell, wait) {
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
    fn step(
        &self,
        table: &mut Timetable,
        out: &Out<E>,
        tell: &UnboundedSender<Tell>,
        wait: Wait,
    ) -> bool {
        match wait {
            Wait::Due => {
                if let Some(arrival) = table.take() {
                    self.dispatch(arrival, out, tell);
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
            let seen = self.sender.not_sent(&arrival, outcome, at, why);
            self.observed.push(seen);
            outcome = Outcome::NotReached;
            next = arrival.next_step(&self.scenario, arrival.due);
        }
    }

    fn dispatch(&self, arrival: Arrival, out: &Out<E>, tell: &UnboundedSender<Tell>) {
        let slots = &out.slots[usize::from(arrival.load)];
        if slots.out.load(Ordering::Acquire) >= slots.most {
            let why = "as many requests were out as maxInFlight allows";
            self.give_up(&arrival, Outcome::Dropped, self.clock.now(), why);
            return;
        }
        slots.out.fetch_add(1, Ordering::AcqRel);
        self.gauges.scheduled.fetch_add(1, Ordering::Relaxed);
        self.gauges.in_flight.fetch_add(1, Ordering::Relaxed);
        out.carriers.take(Journey {
            now: Some(arrival),
            ended: arrival.due,
            scenario: arrival.flow.map(|_| Arc::clone(&self.scenario)),
            sender: Arc::clone(&self.sender),
            observed: Arc::clone(&self.observed),
            kill: self.kill.clone(),
            gauges: Arc::clone(&self.gauges),
            out: Arc::clone(&slots.out),
            clock: self.clock,
            load: arrival.load,
            user: arrival.vu.map(|vu| (tell.clone(), vu)),
        });
    }
}

/// Waits for what comes first: an arrival's instant, or something told.
struct Pace {
    /// `None`: the runtime's own timer.
    alarm: Option<Alarm>,
    clock: Clock,
    /// Overdue arrivals since the event loop last came round.
    burst: u32,
    wakes: Wakes,
}

impl Pace {
    async fn wait(&mut self, due: Option<Nanos>, told: &mut UnboundedReceiver<Tell>) -> Wait {
        if let Ok(tell) = told.try_recv() {
            return Wait::Told(tell);
        }
        let Some(due) = due else {
            // With nothing due only a completion can bring the next arrival.
            return Wait::Told(told.recv().await.unwrap_or(Tell::Stop));
        };
        if self.clock.until(due).is_zero() {
            self.burst += 1;
            if self.burst >= BURST {
                self.burst = 0;
                tokio::task::yield_now().await;
            }
            return Wait::Due;
        }
        self.burst = 0;
        let instant = self.clock.instant(self.wakes.at(due));
        tokio::select! {
            biased;
            tell = told.recv() => Wait::Told(tell.unwrap_or(Tell::Stop)),
            () = ring(self.alarm.as_mut(), instant) => {
                self.wakes.woke(self.clock.now());
                Wait::Due
            }
        }
    }
}

async fn ring(alarm: Option<&mut Alarm>, instant: std::time::Instant) {
    match alarm {
        Some(alarm) => alarm.at(instant).await,
        None => tokio::time::sleep_until(instant.into()).await,
    }
}

/// One arrival on its way: a request, or a flow of them. However its way ends, also by a panic, its
/// row is recorded, its slot given back and its user told: one defect must not leave the schedule
/// waiting for ever.
struct Journey<E: Exchange> {
    /// The request that is out.
    now: Option<Arrival>,
    /// When the last one was done.
    ended: Nanos,
    /// Of a flow.
    scenario: Option<Arc<Scenario>>,
    sender: Arc<E>,
    observed: Arc<Observed>,
    kill: CancellationToken,
    gauges: Arc<Gauges>,
    out: Arc<AtomicU32>,
    clock: Clock,
    load: u16,
    user: Option<(UnboundedSender<Tell>, u32)>,
}

impl<E: Exchange> Work for Journey<E> {
    /// Sends the request, and the steps after it as long as each is answered as expected.
    async fn go(mut self) {
        let mut captured = Captured::new();
        while let Some(arrival) = self.now {
            let (seen, values) = self.sender.exchange(arrival, &captured, &self.kill).await;
            let well = seen.outcome == Outcome::Expected;
            self.ended = seen.done;
            self.now = None;
            self.observed.push(seen);
            let Some(next) = self.after(&arrival) else {
                return;
            };
            if !well {
                return self.give_up(next);
            }
            self.gauges.scheduled.fetch_add(1, Ordering::Relaxed);
            captured.extend(values);
            self.now = Some(next);
        }
    }
}

impl<E: Exchange> Journey<E> {
    fn after(&self, arrival: &Arrival) -> Option<Arrival> {
        arrival.next_step(self.scenario.as_ref()?, self.ended)
    }

    fn give_up(&self, first: Arrival) {
        let why = "an earlier step of the flow failed";
        let mut next = Some(first);
        while let Some(arrival) = next {
            self.gauges.scheduled.fetch_add(1, Ordering::Relaxed);
            let outcome = Outcome::NotReached;
            let seen = self.sender.not_sent(&arrival, outcome, self.ended, why);
            self.observed.push(seen);
            next = self.after(&arrival);
        }
    }

    /// The task broke down over a request. Its planning may be what broke, so nothing is planned.
    fn broke(&mut self, arrival: Arrival) {
        self.gauges.broken.fetch_add(1, Ordering::Relaxed);
        self.ended = self.clock.now();
        let why = "the generator's own task broke down; this is a defect of the harness";
        let outcome = Outcome::GeneratorFailed;
        self.observed
            .push(unplanned(&arrival, outcome, self.ended, why));
        let mut next = self.after(&arrival);
        while let Some(arrival) = next {
            self.gauges.scheduled.fetch_add(1, Ordering::Relaxed);
            let why = "an earlier step of the flow broke down";
            let outcome = Outcome::NotReached;
            self.observed
                .push(unplanned(&arrival, outcome, self.ended, why));
            next = self.after(&arrival);
        }
    }
}

impl<E: Exchange> Drop for Journey<E> {
    fn drop(&mut self) {
        if let Some(arrival) = self.now.take() {
            self.broke(arrival);
        }
        self.out.fetch_sub(1, Ordering::AcqRel);
        self.gauges.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some((tell, vu)) = self.user.take() {
            let (load, at) = (self.load, self.ended);
            // Whoever is not there any more needs not be told.
            let _ = tell.send(Tell::Completed { load, vu, at });
        }
    }
}

/// A row of a request of which there is not even a plan: it has no trace.
fn unplanned(arrival: &Arrival, outcome: Outcome, at: Nanos, why: &str) -> Observation {
    Line {
        id: arrival.id,
        request: arrival.request,
        load: arrival.load,
        phase: arrival.phase,
        due: arrival.due,
        sent: None,
        first_byte: None,
        done: at,
        outcome,
        status: None,
        bytes: 0,
        connected: None,
        first_event: None,
        gaps: Vec::new(),
        trace: TraceId([0; 16]),
        span: SpanId([0; 8]),
        sampled: false,
        correct: None,
        detail: Some(why.into()),
    }
    .into()
}
