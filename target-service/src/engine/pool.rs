//! Threads around the pure queue: one mutex, one condition variable, N workers.
//!
//! One lock for queue and in-flight count, because a decision reads both; it is held for the
//! decision only, never while the model runs. Threads and not tasks, because inference computes for
//! milliseconds and would hold up every connection on a runtime thread.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opentelemetry::trace::SpanContext;
use tokio::sync::oneshot;

use crate::batch::{Entry, EntryId, Limits, Queue, Refusal};
use crate::faults::Faults;
use crate::model::{Encoded, Infer, ModelError, Prediction};
use crate::telemetry::Metrics;

/// A stalled worker looks this often whether the stall was called off.
pub(super) const STALL_POLL: Duration = Duration::from_millis(20);

/// The bounds of a pool; the number of workers is the number of engines.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Documents in one batch, at most.
    pub max_batch: usize,
    /// Tokens in one batch, at most.
    pub max_batch_tokens: usize,
    /// Documents waiting, at most.
    pub capacity: usize,
    /// How long a free worker may wait for company.
    pub max_hold: Duration,
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

/// The company in which a document was computed.
#[derive(Debug, Default)]
pub struct Batch {
    /// The server spans of its requests that are traced, each once.
    pub members: Vec<SpanContext>,
    /// The batch's own span, made by whichever of them comes first.
    pub span: OnceLock<SpanContext>,
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
    /// With whom; the same for all of a batch.
    pub batch: Arc<Batch>,
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
    span: Option<SpanContext>,
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
            max_hold: settings.max_hold,
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

    /// Whether a request of so many documents would be let in now, whatever their size: asked before
    /// time is spent on reading them.
    ///
    /// # Errors
    /// [`SubmitError`], as [`Pool::submit`] would.
    pub fn admits(&self, documents: usize, deadline: Instant) -> Result<(), SubmitError> {
        let state = self.shared.lock();
        if state.closed {
            return Err(SubmitError::Closed);
        }
        let now = self.shared.since_epoch(Instant::now());
        let deadline = self.shared.since_epoch(deadline);
        let admitted = state.queue.admits(now, documents, 0, deadline);
        admitted.map_err(SubmitError::Refused)
    }

    /// Puts the documents of a request into the queue, all or none. `deadline` is when their answers are
    /// worthless, `span` the request's server span if it is traced.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was queued.
    pub fn submit(
        &self,
        documents: Vec<Encoded>,
        deadline: Instant,
        span: Option<&SpanContext>,
    ) -> Result<Vec<Ticket>, SubmitError> {
        let mut replies = Vec::with_capacity(documents.len());
        let jobs = documents
            .into_iter()
            .map(|encoded| {
                let (reply, receiver) = oneshot::channel();
                replies.push(receiver);
                let job = Job {
                    span: span.cloned(),
                    reply,
                    encoded,
                };
                (job.encoded.cost(), job)
            })
            .collect();
        let mut state = self.shared.lock();
        if state.closed {
            return Err(SubmitError::Closed);
        }
        let now = self.shared.since_epoch(Instant::now());
        let deadline = self.shared.since_epoch(deadline);
        let ids = state
            .queue
            .offer(now, deadline, jobs)
            .map_err(|(refusal, _)| SubmitError::Refused(refusal))?;
        self.shared.show_depth(&state);
        drop(state);
        self.shared.wake.notify_one();
        let tickets = ids.into_iter().zip(replies).map(|(id, reply)| Ticket {
            id,
            reply,
            shared: self.shared.clone(),
            waiting: true,
        });
        Ok(tickets.collect())
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
        let since = shared.since_epoch(now);
        // A closing pool waits for nobody: nobody comes any more.
        if !state.closed
            && let Some(until) = state.queue.hold(since)
        {
            let wait = shared.wake.wait_timeout(state, until.saturating_sub(since));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let taken = state.queue.take(since);
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
    let (outcomes, sound) = infer(engine, &inputs);
    let finished = Instant::now();
    let took = finished - started;
    let since = shared.since_epoch(started);
    shared.lock().queue.finished(since, tokens, took, sound);
    let metrics = &shared.metrics;
    metrics.batch_size.observe(batch.len() as f64);
    metrics.batch_tokens.observe(tokens as f64);
    metrics.inference_duration.observe(took.as_secs_f64());
    let size = batch.len();
    let mut members: Vec<SpanContext> = Vec::new();
    for span in batch.iter().filter_map(|entry| entry.item.span.as_ref()) {
        // The documents of a request lie together.
        if members.last() != Some(span) {
            members.push(span.clone());
        }
    }
    let company = Arc::new(Batch {
        members,
        span: OnceLock::new(),
    });
    for (entry, outcome) in batch.into_iter().zip(outcomes) {
        let enqueued = shared.epoch + entry.enqueued;
        metrics
            .queue_wait
            .observe(started.saturating_duration_since(enqueued).as_secs_f64());
        let timing = Timing {
            enqueued,
            started,
            finished,
            batch_size: size,
            batch_tokens: tokens,
        };
        // Whoever asked may have left; then the answer is nobody's.
        let _ = entry.item.reply.send(Reply::Answered(Answer {
            outcome,
            timing,
            batch: company.clone(),
        }));
    }
}

/// One outcome a document, and whether the time it took says something of the model's pace. When the
/// model panics on a batch, each document is tried alone, so that only the one at fault fails.
fn infer(engine: &mut dyn Infer, inputs: &[&Encoded]) -> (Vec<Outcome>, bool) {
    let mut attempt = |inputs: &[&Encoded]| {
        std::panic::catch_unwind(AssertUnwindSafe(|| engine.infer(inputs))).ok()
    };
    let failed = |why: &str| Outcome::Failed(why.to_owned());
    let outcome = |result: Result<Prediction, ModelError>| match result {
        Ok(prediction) => Outcome::Predicted(prediction),
        Err(error) => Outcome::Failed(error.to_string()),
    };
    match attempt(inputs) {
        Some(results) if results.len() == inputs.len() => {
            let sound = results.iter().any(Result::is_ok);
            (results.into_iter().map(outcome).collect(), sound)
        }
        Some(results) => {
            let why = format!(
                "the model gave {} predictions for {} documents",
                results.len(),
                inputs.len()
            );
            (inputs.iter().map(|_| failed(&why)).collect(), false)
        }
        None if inputs.len() == 1 => (vec![failed("the model panicked")], false),
        None => {
            let alone = inputs.iter().map(|input| {
                match attempt(&[input]).and_then(|mut results| results.pop()) {
                    Some(result) => outcome(result),
                    None => failed("the model panicked"),
                }
            });
            (alone.collect(), false)
        }
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
