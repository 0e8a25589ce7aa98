//! Threads around the pure [`Queue`] of documents.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use opentelemetry::trace::SpanContext;
use tokio::sync::oneshot;

use super::desk::{Crew, Desk, State, SubmitError};
use crate::batch::{Entry, EntryId, Limits, Queue};
use crate::faults::Faults;
use crate::model::{Encoded, Infer, ModelError, Prediction};
use crate::telemetry::Metrics;

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

struct Job {
    encoded: Encoded,
    span: Option<SpanContext>,
    reply: oneshot::Sender<Reply>,
}

impl Desk<Queue<Job>> {
    fn show(&self, state: &State<Queue<Job>>) {
        self.metrics
            .queue_depth
            .set(i64::try_from(state.queue.len()).unwrap_or(i64::MAX));
    }
}

/// The running workers. Closing lets them finish what waits; dropping closes without waiting.
pub struct Pool {
    crew: Crew<Queue<Job>>,
}

/// A place in the queue. Dropping it gives the place up, if no worker has taken it yet.
pub struct Ticket {
    id: EntryId,
    reply: oneshot::Receiver<Reply>,
    desk: Arc<Desk<Queue<Job>>>,
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
        let mut state = self.desk.lock();
        let left = state.queue.cancel(self.id);
        self.desk.show(&state);
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
        let desk = Desk::new(queue, capacity, metrics, faults);
        let workers = engines
            .into_iter()
            .map(|engine| move |desk: &Desk<_>| work(desk, engine));
        let crew = Crew::start(desk, "inference", workers)?;
        Ok(Pool { crew })
    }

    /// Whether a request of so many documents would be let in now, whatever their size: asked before
    /// time is spent on reading them.
    ///
    /// # Errors
    /// [`SubmitError`], as [`Pool::submit`] would.
    pub fn admits(&self, documents: usize, deadline: Instant) -> Result<(), SubmitError> {
        let desk = &self.crew.desk;
        let state = desk.open()?;
        let now = desk.since_epoch(Instant::now());
        let deadline = desk.since_epoch(deadline);
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
        let desk = &self.crew.desk;
        let mut state = desk.open()?;
        let now = desk.since_epoch(Instant::now());
        let deadline = desk.since_epoch(deadline);
        let ids = state
            .queue
            .offer(now, deadline, jobs)
            .map_err(|(refusal, _)| SubmitError::Refused(refusal))?;
        desk.show(&state);
        drop(state);
        desk.call();
        let tickets = ids.into_iter().zip(replies).map(|(id, reply)| Ticket {
            id,
            reply,
            desk: desk.clone(),
            waiting: true,
        });
        Ok(tickets.collect())
    }

    /// Lets nothing more in and waits until the workers have finished what waits. Blocks.
    pub fn close(&self) {
        self.crew.close();
    }
}

fn work(desk: &Desk<Queue<Job>>, mut engine: Box<dyn Infer>) {
    while let Some((batch, started)) = next_batch(desk) {
        run(desk, engine.as_mut(), batch, started);
    }
}

/// Waits for work. `None` when the pool is closed and nothing waits.
fn next_batch(desk: &Desk<Queue<Job>>) -> Option<(Vec<Entry<Job>>, Instant)> {
    let mut state = desk.lock();
    loop {
        if state.queue.is_empty() {
            if state.closed {
                return None;
            }
            state = desk.wait(state, None);
            continue;
        }
        let now = Instant::now();
        if let Some(stall) = desk.stall(&state, now) {
            state = desk.wait(state, Some(stall));
            continue;
        }
        let since = desk.since_epoch(now);
        // A closing pool waits for nobody: nobody comes any more.
        if !state.closed
            && let Some(until) = state.queue.hold(since)
        {
            state = desk.wait(state, Some(until.saturating_sub(since)));
            continue;
        }
        let taken = state.queue.take(since);
        desk.show(&state);
        let more = !state.queue.is_empty();
        drop(state);
        if more {
            // A wake-up may have been spent on this worker while it was busy.
            desk.call();
        }
        for entry in taken.expired {
            let _ = entry.item.reply.send(Reply::Expired);
        }
        if !taken.batch.is_empty() {
            return Some((taken.batch, now));
        }
        state = desk.lock();
    }
}

fn run(desk: &Desk<Queue<Job>>, engine: &mut dyn Infer, batch: Vec<Entry<Job>>, started: Instant) {
    let tokens: usize = batch.iter().map(|e| e.tokens).sum();
    let inputs: Vec<&Encoded> = batch.iter().map(|e| &e.item.encoded).collect();
    let (outcomes, sound) = infer(engine, &inputs);
    let finished = Instant::now();
    let took = finished - started;
    let since = desk.since_epoch(started);
    desk.lock().queue.finished(since, tokens, took, sound);
    let metrics = &desk.metrics;
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
        let enqueued = desk.epoch + entry.enqueued;
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
