//! What both kinds of workers have in common: a queue behind one lock, and the threads that take from it.
//!
//! One lock for the queue and whether it is closed, because a decision reads both; it is held for the
//! decision only, never while the model runs. Threads and not tasks, because inference computes for
//! milliseconds and would hold up every connection on a runtime thread.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::batch::Refusal;
use crate::faults::Faults;
use crate::telemetry::Metrics;

/// A stalled worker looks this often whether the stall was called off.
const STALL_POLL: Duration = Duration::from_millis(20);

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// The queue refused it.
    Refused(Refusal),
    /// No more are let in.
    Closed,
}

/// What the lock is for.
pub(super) struct State<Q> {
    pub(super) queue: Q,
    pub(super) closed: bool,
}

/// Where requests wait and workers ask for them.
pub(super) struct Desk<Q> {
    state: Mutex<State<Q>>,
    wake: Condvar,
    pub(super) epoch: Instant,
    pub(super) metrics: Arc<Metrics>,
    faults: Arc<Faults>,
}

impl<Q> Desk<Q> {
    /// `capacity` is how many may wait in `queue`.
    pub(super) fn new(
        queue: Q,
        capacity: usize,
        metrics: Arc<Metrics>,
        faults: Arc<Faults>,
    ) -> Self {
        metrics
            .queue_capacity
            .set(i64::try_from(capacity).unwrap_or(i64::MAX));
        Self {
            state: Mutex::new(State {
                queue,
                closed: false,
            }),
            wake: Condvar::new(),
            epoch: Instant::now(),
            metrics,
            faults,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<Q>> {
        // The queues' operations do not panic half-way; a poisoned lock still guards a sound queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Desk::lock`], for who wants to come in.
    pub(super) fn open(&self) -> Result<MutexGuard<'_, State<Q>>, SubmitError> {
        let state = self.lock();
        match state.closed {
            true => Err(SubmitError::Closed),
            false => Ok(state),
        }
    }

    pub(super) fn since_epoch(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    /// Wakes a worker that waits.
    pub(super) fn call(&self) {
        self.wake.notify_one();
    }

    /// Waits to be called, at most for `most` where it is given.
    pub(super) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State<Q>>,
        most: Option<Duration>,
    ) -> MutexGuard<'a, State<Q>> {
        match most {
            None => self
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(most) => {
                let woken = self.wake.wait_timeout(state, most);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// How long to wait before looking again, where a fault stalls the workers. One that closes ignores
    /// stalls: the drain must end.
    pub(super) fn stall(&self, state: &State<Q>, now: Instant) -> Option<Duration> {
        let stalled = self.faults.stalled_for(now).filter(|_| !state.closed);
        stalled.map(|stall| stall.min(STALL_POLL))
    }

    pub(super) fn shut(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }
}

/// The threads at a desk. Closing lets them finish what waits; dropping closes without waiting.
pub(super) struct Crew<Q> {
    pub(super) desk: Arc<Desk<Q>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<Q: Send + 'static> Crew<Q> {
    /// Starts a thread for each of `workers`, called `name` and a number.
    ///
    /// # Errors
    /// When the system has no more threads to give.
    pub(super) fn start<W>(
        desk: Desk<Q>,
        name: &str,
        workers: impl IntoIterator<Item = W>,
    ) -> std::io::Result<Self>
    where
        W: FnOnce(&Desk<Q>) + Send + 'static,
    {
        let mut crew = Self {
            desk: Arc::new(desk),
            threads: Mutex::default(),
        };
        for (n, work) in workers.into_iter().enumerate() {
            let desk = crew.desk.clone();
            let thread = std::thread::Builder::new()
                .name(format!("{name}-{n}"))
                .spawn(move || work(&desk))?;
            let threads = crew.threads.get_mut();
            threads.unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(crew)
    }

    /// Lets nothing more in and waits until the workers have finished what waits. Blocks.
    pub(super) fn close(&self) {
        self.desk.shut();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A worker's panic was caught and reported where it happened.
            let _ = thread.join();
        }
    }
}

impl<Q> Drop for Crew<Q> {
    fn drop(&mut self) {
        self.desk.shut();
    }
}
