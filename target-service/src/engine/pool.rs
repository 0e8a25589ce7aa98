//! Threads around the pure queue: one mutex, one condition variable, N workers.
//!
//! One lock for queue and in-flight count, because a decision reads both; it is held for the
//! decision only, never while the model runs. Threads and not tasks, because inference computes for
//! milliseconds and would hold up every connection on a runtime thread.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::batch::{Entry, EntryId, Limits, Queue, Refusal};
use crate::faults::Faults;
use crate::model::{Encoded, Infer, Prediction};
use crate::telemetry::Metrics;

/// A stalled worker looks this often whether the stall was called off.
const STALL_POLL: Duration = Duration::from_millis(20);

/// The bounds of a pool; the number of workers is the number of engines.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Requests in one batch, at most.
    pub max_batch: usize,
    /// Tokens in one batch, at most.
    pub max_batch_tokens: usize,
    /// Requests waiting, at most.
    pub capacity: usize,
}

/// Where a request's time went, and in what company.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Joined the queue.
    pub enqueued: Instant,
    /// Left it, in a batch.
    pub started: Instant,
    /// The model was done.
    pub finished: Instant,
    /// Requests in the batch.
    pub batch_size: usize,
    /// Tokens in the batch.
    pub batch_tokens: usize,
}

/// What became of a request that was let in.
#[derive(Debug)]
pub enum Outcome {
    /// The model answered.
    Predicted(Prediction),
    /// The model failed on the batch this request was in.
    Failed(String),
}

/// An outcome with its history.
#[derive(Debug)]
pub struct Answer {
    /// What came out.
    pub outcome: Outcome,
    /// When.
    pub timing: Timing,
}

/// What a worker says of a request that was let in.
#[derive(Debug)]
pub enum Reply {
    /// It was computed.
    Answered(Answer),
    /// Its deadline passed in the queue; it was not computed.
    Expired,
    /// The worker is gone. Panics of the model are caught, so this is a defect of the service.
    Lost,
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// The queue refused it.
    Refused(Refusal),
    /// The pool is closed.
    Closed,
}

struct Job {
    encoded: Encoded,
    reply: oneshot::Sender<Reply>,
}

struct State {
    queue: Queue<Job>,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    epoch: Instant,
    metrics: Arc<Metrics>,
    faults: Arc<Faults>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The queue's operations do not panic half-way; a poisoned lock still guards a sound queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_epoch(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    fn show_depth(&self, state: &State) {
        self.metrics
            .queue_depth
            .set(i64::try_from(state.queue.len()).unwrap_or(i64::MAX));
    }
}

/// The running workers. Closing lets them finish what waits; dropping closes without waiting.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A place in the queue. Dropping it gives the place up, if no worker has taken it yet.
pub struct Ticket {
    id: EntryId,
    reply: oneshot::Receiver<Reply>,
    shared: Arc<Shared>,
    waiting: bool,
}

impl Ticket {
    /// Waits until a worker has answered or given the request up. May be dropped and called again.
    pub async fn reply(&mut self) -> Reply {
        let reply = (&mut self.reply).await;
        self.waiting = false;
        reply.unwrap_or(Reply::Lost)
    }

    /// Gives the place up; whether no worker had taken it.
    pub fn give_up(mut self) -> bool {
        self.leave()
    }

    fn leave(&mut self) -> bool {
        if !std::mem::take(&mut self.waiting) {
            return false;
        }
        let mut state = self.shared.lock();
        let left = state.queue.cancel(self.id);
        self.shared.show_depth(&state);
        drop(state);
        left.is_some()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Pool {
    /// Starts one worker thread for each engine.
    ///
    /// # Errors
    /// When the system has no more threads to give.
    pub fn start(
        engines: Vec<Box<dyn Infer>>,
        settings: Settings,
        metrics: Arc<Metrics>,
        faults: Arc<Faults>,
    ) -> std::io::Result<Pool> {
        let queue = Queue::new(Limits {
            max_batch: settings.max_batch,
            max_batch_tokens: settings.max_batch_tokens,
            capacity: settings.capacity,
            workers: engines.len(),
        });
        let capacity = queue.limits().capacity;
        metrics
            .queue_capacity
            .set(i64::try_from(capacity).unwrap_or(i64::MAX));
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                queue,
                closed: false,
            }),
            wake: Condvar::new(),
            epoch: Instant::now(),
            metrics,
            faults,
        });
        let pool = Pool {
            shared: shared.clone(),
            threads: Mutex::new(Vec::new()),
        };
        for (n, engine) in engines.into_iter().enumerate() {
            let shared = shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("inference-{n}"))
                .spawn(move || work(&shared, engine))?;
            pool.threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thread);
        }
        Ok(pool)
    }

    /// Puts a request into the queue. `deadline` is when its answer is worthless.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was queued.
    pub fn submit(&self, encoded: Encoded, deadline: Instant) -> Result<Ticket, SubmitError> {
        let (reply, receiver) = oneshot::channel();
        let tokens = encoded.cost();
        let mut state = self.shared.lock();
        if state.closed {
            return Err(SubmitError::Closed);
        }
        let now = self.shared.since_epoch(Instant::now());
        let deadline = self.shared.since_epoch(deadline);
        let id = state
            .queue
            .offer(now, tokens, deadline, Job { encoded, reply })
            .map_err(|(refusal, _)| SubmitError::Refused(refusal))?;
        self.shared.show_depth(&state);
        drop(state);
        self.shared.wake.notify_one();
        Ok(Ticket {
            id,
            reply: receiver,
            shared: self.shared.clone(),
            waiting: true,
        })
    }

    /// Lets nothing more in and waits until the workers have finished what waits. Blocks.
    pub fn close(&self) {
        self.shut();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A worker's panic was caught and reported where it happened.
            let _ = thread.join();
        }
    }

    fn shut(&self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shut();
    }
}

fn work(shared: &Shared, mut engine: Box<dyn Infer>) {
    while let Some((batch, started)) = next_batch(shared) {
        run(shared, engine.as_mut(), batch, started);
    }
}

/// Waits for work. `None` when the pool is closed and nothing waits.
fn next_batch(shared: &Shared) -> Option<(Vec<Entry<Job>>, Instant)> {
    let mut state = shared.lock();
    loop {
        if state.queue.is_empty() {
            if state.closed {
                return None;
            }
            state = shared
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let now = Instant::now();
        // A closing pool ignores stalls: the drain must end.
        if !state.closed
            && let Some(stall) = shared.faults.stalled_for(now)
        {
            let wait = shared.wake.wait_timeout(state, stall.min(STALL_POLL));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let taken = state.queue.take(shared.since_epoch(now));
        shared.show_depth(&state);
        let more = !state.queue.is_empty();
        drop(state);
        if more {
            // A wake-up may have been spent on this worker while it was busy.
            shared.wake.notify_one();
        }
        for entry in taken.expired {
            let _ = entry.item.reply.send(Reply::Expired);
        }
        if !taken.batch.is_empty() {
            return Some((taken.batch, now));
        }
        state = shared.lock();
    }
}

fn run(shared: &Shared, engine: &mut dyn Infer, batch: Vec<Entry<Job>>, started: Instant) {
    let tokens: usize = batch.iter().map(|e| e.tokens).sum();
    let inputs: Vec<&Encoded> = batch.iter().map(|e| &e.item.encoded).collect();
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| engine.infer(&inputs)));
    let finished = Instant::now();
    let took = finished - started;
    let result = match result {
        Ok(Ok(predictions)) if predictions.len() == batch.len() => Ok(predictions),
        Ok(Ok(predictions)) => Err(format!(
            "the model gave {} predictions for {} documents",
            predictions.len(),
            batch.len()
        )),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the model panicked".to_owned()),
    };
    shared.lock().queue.finished(tokens, took, result.is_ok());
    let metrics = &shared.metrics;
    metrics.batch_size.observe(batch.len() as f64);
    metrics.batch_tokens.observe(tokens as f64);
    metrics.inference_duration.observe(took.as_secs_f64());
    let size = batch.len();
    let mut predictions = result.map(Vec::into_iter);
    for entry in batch {
        let enqueued = shared.epoch + entry.enqueued;
        metrics
            .queue_wait
            .observe(started.saturating_duration_since(enqueued).as_secs_f64());
        let outcome = match &mut predictions {
            Ok(list) => match list.next() {
                Some(prediction) => Outcome::Predicted(prediction),
                None => Outcome::Failed("a prediction is missing".to_owned()),
            },
            Err(error) => Outcome::Failed(error.clone()),
        };
        let timing = Timing {
            enqueued,
            started,
            finished,
            batch_size: size,
            batch_tokens: tokens,
        };
        // Whoever asked may have left; then the answer is nobody's.
        let _ = entry
            .item
            .reply
            .send(Reply::Answered(Answer { outcome, timing }));
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
