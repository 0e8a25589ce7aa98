//! Threads that write texts: one lock around the pure [`Turns`], N workers with sequences of their own.
//!
//! A worker holds its sequences over many steps, and takes up new ones between two of them. What it writes
//! goes to each request's channel as it comes. The channels are unbounded and need no bound: an event a
//! token, of which a request may have so many, and the worker never waits for whoever reads slowly. Whoever
//! does not listen any more is noticed at the next step and costs nothing from then on.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::pool::{STALL_POLL, SubmitError};
use crate::batch::EntryId;
#[cfg(test)]
use crate::batch::Refusal;
use crate::batch::turns::{Entry, Limits, Turns, Want, plan};
use crate::faults::Faults;
use crate::model::ModelError;
use crate::model::causal::{Decode, Detokenizer, Memory, Part, Sampler, Sampling, Text};
use crate::telemetry::Metrics;

/// The bounds of a [`Writers`]; the number of workers is the number of engines.
#[derive(Debug, Clone, Copy)]
pub struct WriterSettings {
    /// Requests waiting, at most.
    pub capacity: usize,
    /// Sequences that one worker has under way, at most.
    pub sequences: usize,
    /// Tokens of prompts in one step, at most.
    pub chunk: usize,
}

/// A text to be continued.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Its tokens, at least one.
    pub tokens: Vec<u32>,
    /// Tokens to be written, at most; at least one.
    pub most: usize,
    /// How they are chosen.
    pub sampling: Sampling,
    /// Texts at which to stop.
    pub stops: Vec<String>,
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop text came.
    Stop,
    /// As many tokens were written as may be.
    Length,
}

impl Finish {
    /// As `OpenAI`'s protocol and the `GenAI` conventions have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
    }
}

/// Why a text was broken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// Its deadline passed while it waited; nothing was computed.
    Expired,
    /// Its deadline passed while it was written.
    TooLate,
    /// The model failed.
    Failed(String),
}

/// What becomes of a request, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Left the queue.
    Begun {
        /// When it joined.
        enqueued: Instant,
        /// When it left.
        started: Instant,
    },
    /// A token was written.
    Token {
        /// What it adds for certain; empty while that is not known.
        text: String,
        /// When it was there.
        at: Instant,
    },
    /// That was all.
    Done {
        /// What was still held back.
        text: String,
        /// Why.
        finish: Finish,
        /// Whether a token of its own came with it, the one by which the model ends a text.
        ended: bool,
        /// When.
        at: Instant,
    },
    /// No more comes.
    Broken(Broken),
}

struct Job {
    prompt: Prompt,
    events: UnboundedSender<Event>,
}

struct State {
    turns: Turns<Job>,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    epoch: Instant,
    settings: WriterSettings,
    text: Arc<Text>,
    metrics: Arc<Metrics>,
    faults: Arc<Faults>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What is done under the lock does not panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_epoch(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    fn show(&self, state: &State) {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.queue_depth.set(gauge(state.turns.waiting()));
        self.metrics.sequences.set(gauge(state.turns.running()));
    }
}

/// The running workers. Closing lets them finish what waits; dropping closes without waiting.
pub struct Writers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// A text being written, or waiting for that. Dropping it ends the work on it.
pub struct Writing {
    id: EntryId,
    events: UnboundedReceiver<Event>,
    shared: Arc<Shared>,
}

impl Writing {
    /// The next event; after [`Event::Done`] or [`Event::Broken`] there are no more.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        // A panic of the model is caught, so that a worker that is gone is a defect.
        let lost = || Event::Broken(Broken::Failed("the worker is gone".to_owned()));
        self.events
            .poll_recv(context)
            .map(|event| event.unwrap_or_else(lost))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.turns.cancel(self.id).is_some() {
            self.shared.show(&state);
        }
    }
}

impl Writers {
    /// Starts one worker thread for each engine.
    ///
    /// # Errors
    /// When the system has no more threads to give.
    pub fn start(
        engines: Vec<Box<dyn Decode>>,
        text: Arc<Text>,
        settings: WriterSettings,
        metrics: Arc<Metrics>,
        faults: Arc<Faults>,
    ) -> std::io::Result<Writers> {
        let turns = Turns::new(Limits {
            capacity: settings.capacity,
            places: settings.sequences.saturating_mul(engines.len()),
            chunk: settings.chunk,
            workers: engines.len(),
        });
        let capacity = turns.limits().capacity;
        metrics
            .queue_capacity
            .set(i64::try_from(capacity).unwrap_or(i64::MAX));
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                turns,
                closed: false,
            }),
            wake: Condvar::new(),
            epoch: Instant::now(),
            settings,
            text,
            metrics,
            faults,
        });
        let writers = Writers {
            shared: shared.clone(),
            threads: Mutex::new(Vec::new()),
        };
        for (n, engine) in engines.into_iter().enumerate() {
            let shared = shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("generation-{n}"))
                .spawn(move || Worker::new(&shared, engine).run())?;
            writers
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thread);
        }
        Ok(writers)
    }

    /// The vocabulary.
    pub fn text(&self) -> &Arc<Text> {
        &self.shared.text
    }

    /// Whether a request of this size would be let in now.
    ///
    /// # Errors
    /// [`SubmitError`], as [`Writers::submit`] would.
    pub fn admits(&self, want: Want, deadline: Instant) -> Result<(), SubmitError> {
        let state = self.shared.lock();
        if state.closed {
            return Err(SubmitError::Closed);
        }
        let (now, deadline) = (Instant::now(), self.shared.since_epoch(deadline));
        let admitted = state
            .turns
            .admits(self.shared.since_epoch(now), want, deadline);
        admitted.map_err(SubmitError::Refused)
    }

    /// Takes a text on. `deadline` is when the answer is worthless: it is not written beyond that.
    ///
    /// # Errors
    /// [`SubmitError`]: nothing was taken on.
    pub fn submit(&self, prompt: Prompt, deadline: Instant) -> Result<Writing, SubmitError> {
        let want = Want {
            prompt: prompt.tokens.len(),
            most: prompt.most,
        };
        let (sender, events) = unbounded_channel();
        let job = Job {
            prompt,
            events: sender,
        };
        let mut state = self.shared.lock();
        if state.closed {
            return Err(SubmitError::Closed);
        }
        let (now, deadline) = (Instant::now(), self.shared.since_epoch(deadline));
        let now = self.shared.since_epoch(now);
        let offered = state.turns.offer(now, deadline, want, job);
        let id = offered.map_err(|(refusal, _)| SubmitError::Refused(refusal))?;
        self.shared.show(&state);
        drop(state);
        self.shared.wake.notify_one();
        let shared = self.shared.clone();
        Ok(Writing { id, events, shared })
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

impl Drop for Writers {
    fn drop(&mut self) {
        self.shut();
    }
}

/// A sequence under way.
struct Sequence {
    id: EntryId,
    memory: Memory,
    /// Tokens of which nothing was computed yet: the rest of the prompt, or the last one written.
    ahead: Vec<u32>,
    /// Whether the prompt is read.
    writes: bool,
    written: usize,
    most: usize,
    deadline: Instant,
    sampler: Sampler,
    detokenizer: Detokenizer,
    events: UnboundedSender<Event>,
}

impl Sequence {
    fn tell(&self, event: Event) {
        // Whoever asked may have left; that is looked at before the next step.
        let _ = self.events.send(event);
    }

    /// Takes the scores of the next token up; whether there is more to come.
    fn write(&mut self, scores: &[f32], text: &Text, at: Instant) -> bool {
        let token = match self.sampler.choose(scores) {
            Ok(token) => token,
            Err(error) => {
                self.tell(Event::Broken(Broken::Failed(error.to_string())));
                return false;
            }
        };
        self.written += 1;
        self.writes = true;
        if text.ends(token) {
            return self.end(Finish::Stop, true, at);
        }
        let added = self.detokenizer.push(text, token);
        if self.detokenizer.stopped() {
            self.tell(Event::Token { text: added, at });
            return self.end(Finish::Stop, false, at);
        }
        self.tell(Event::Token { text: added, at });
        if self.written >= self.most {
            return self.end(Finish::Length, false, at);
        }
        self.ahead.push(token);
        true
    }

    fn end(&mut self, finish: Finish, ended: bool, at: Instant) -> bool {
        let text = self.detokenizer.finish();
        // What was held back may have had a stop text in it, now that nothing follows.
        let finish = match self.detokenizer.stopped() {
            true => Finish::Stop,
            false => finish,
        };
        self.tell(Event::Done {
            text,
            finish,
            ended,
            at,
        });
        false
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    engine: Box<dyn Decode>,
    sequences: Vec<Sequence>,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared, engine: Box<dyn Decode>) -> Self {
        Worker {
            shared,
            engine,
            sequences: Vec::new(),
        }
    }

    fn run(mut self) {
        while self.prepare() {
            self.step();
        }
    }

    /// Lets sequences go that nobody wants any more and takes new ones up, waiting until there is one.
    /// False when the workers are closed and nothing is left to do.
    fn prepare(&mut self) -> bool {
        let shared = self.shared;
        let mut state = shared.lock();
        loop {
            let now = Instant::now();
            self.let_go(&mut state, now);
            // A closing pool ignores stalls: the drain must end.
            if !state.closed
                && let Some(stall) = shared.faults.stalled_for(now)
            {
                let wait = shared.wake.wait_timeout(state, stall.min(STALL_POLL));
                state = wait.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let free = shared
                .settings
                .sequences
                .max(1)
                .saturating_sub(self.sequences.len());
            let taken = state.turns.take(shared.since_epoch(now), free);
            for entry in taken.expired {
                let _ = entry.item.events.send(Event::Broken(Broken::Expired));
            }
            for entry in taken.begun {
                self.begin(entry, now);
            }
            shared.show(&state);
            if !self.sequences.is_empty() {
                if state.turns.waiting() > 0 {
                    // A wake-up may have been spent on this worker while it had no place.
                    shared.wake.notify_one();
                }
                return true;
            }
            if state.closed {
                return false;
            }
            state = shared
                .wake
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn let_go(&mut self, state: &mut State, now: Instant) {
        self.sequences.retain(|sequence| {
            let late = sequence.deadline <= now;
            if late {
                sequence.tell(Event::Broken(Broken::TooLate));
            }
            let stays = !late && !sequence.events.is_closed();
            if !stays {
                state.turns.left(sequence.id);
            }
            stays
        });
    }

    fn begin(&mut self, entry: Entry<Job>, now: Instant) {
        let Job { prompt, events } = entry.item;
        let enqueued = self.shared.epoch + entry.enqueued;
        let waited = now.saturating_duration_since(enqueued);
        self.shared.metrics.queue_wait.observe(waited.as_secs_f64());
        let sequence = Sequence {
            id: entry.id,
            memory: Memory::default(),
            ahead: prompt.tokens,
            writes: false,
            written: 0,
            most: prompt.most,
            deadline: self.shared.epoch + entry.deadline,
            sampler: Sampler::new(prompt.sampling),
            detokenizer: Detokenizer::new(prompt.stops),
            events,
        };
        sequence.tell(Event::Begun {
            enqueued,
            started: now,
        });
        self.sequences.push(sequence);
    }

    fn step(&mut self) {
        let unread = |sequence: &Sequence| match sequence.writes {
            true => 0,
            false => sequence.ahead.len(),
        };
        let unread: Vec<usize> = self.sequences.iter().map(unread).collect();
        let counts = plan(&unread, self.shared.settings.chunk);
        let started = Instant::now();
        let scores = self.compute(&counts);
        let finished = Instant::now();
        let tokens: usize = counts.iter().sum();
        let metrics = &self.shared.metrics;
        let took = finished - started;
        metrics.inference_duration.observe(took.as_secs_f64());
        metrics.batch_tokens.observe(tokens as f64);
        let together = counts.iter().filter(|count| **count > 0).count();
        metrics.batch_size.observe(together as f64);
        let mut state = self.shared.lock();
        let scores = match scores {
            Ok(scores) => scores,
            Err(why) => {
                // Nothing can be said of any of them; whoever comes next begins anew.
                for sequence in self.sequences.drain(..) {
                    sequence.tell(Event::Broken(Broken::Failed(why.clone())));
                    state.turns.left(sequence.id);
                }
                self.shared.show(&state);
                return;
            }
        };
        let progress: Vec<(EntryId, usize)> = self
            .sequences
            .iter()
            .zip(&counts)
            .filter(|(_, count)| **count > 0)
            .map(|(sequence, count)| (sequence.id, if sequence.writes { 0 } else { *count }))
            .collect();
        state.turns.stepped(tokens, took, &progress);
        drop(state);
        self.write(&counts, scores, finished);
    }

    /// The scores of each sequence's next token, of those that are so far.
    fn compute(&mut self, counts: &[usize]) -> Result<Vec<Vec<f32>>, String> {
        let mut parts: Vec<Part<'_>> = self
            .sequences
            .iter_mut()
            .zip(counts)
            .filter(|(_, count)| **count > 0)
            .map(|(sequence, count)| Part {
                memory: &mut sequence.memory,
                tokens: &sequence.ahead[..*count],
                scores: *count == sequence.ahead.len(),
            })
            .collect();
        let expected = parts.len();
        let engine = &mut self.engine;
        let computed = std::panic::catch_unwind(AssertUnwindSafe(|| engine.step(&mut parts)));
        match computed {
            Ok(Ok(scores)) if scores.len() == expected => Ok(scores),
            Ok(Ok(_)) => Err("the model gave no scores for some".to_owned()),
            Ok(Err(error)) => Err(ModelError::to_string(&error)),
            Err(_) => Err("the model panicked".to_owned()),
        }
    }

    /// Gives each sequence its scores; those that are over leave.
    fn write(&mut self, counts: &[usize], scores: Vec<Vec<f32>>, at: Instant) {
        let mut scores = scores.into_iter();
        let mut counts = counts.iter();
        let mut over = Vec::new();
        let text = &self.shared.text;
        self.sequences.retain_mut(|sequence| {
            let count = counts.next().copied().unwrap_or(0);
            if count == 0 {
                return true;
            }
            sequence.ahead.drain(..count);
            let scores = scores.next().unwrap_or_default();
            if !sequence.ahead.is_empty() {
                return true;
            }
            let stays = sequence.write(&scores, text, at);
            if !stays {
                over.push(sequence.id);
            }
            stays
        });
        if !over.is_empty() {
            let mut state = self.shared.lock();
            for id in over {
                state.turns.left(id);
            }
            self.shared.show(&state);
        }
    }
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
