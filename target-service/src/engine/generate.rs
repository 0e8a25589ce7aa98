//! Threads that write texts: one lock around the pure [`Turns`], N workers with sequences of their own.
//!
//! A worker holds its sequences over many steps, and takes up new ones between two of them. What it writes
//! goes to each request's channel as it comes. The channels are unbounded and need no bound: an event a
//! token, of which a request may have so many, and the worker never waits for whoever reads slowly. Whoever
//! does not listen any more is noticed at the next step and costs nothing from then on.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::desk::{Crew, Desk, State, SubmitError};
use crate::batch::EntryId;
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

impl Desk<Turns<Job>> {
    fn show(&self, state: &State<Turns<Job>>) {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics.queue_depth.set(gauge(state.queue.waiting()));
        self.metrics.sequences.set(gauge(state.queue.running()));
    }
}

/// The running workers. Closing lets them finish what waits; dropping closes without waiting.
pub struct Writers {
    crew: Crew<Turns<Job>>,
    text: Arc<Text>,
}

/// A text being written, or waiting for that. Dropping it ends the work on it.
pub struct Writing {
    id: EntryId,
    events: UnboundedReceiver<Event>,
    desk: Arc<Desk<Turns<Job>>>,
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
        let mut state = self.desk.lock();
        if state.queue.cancel(self.id).is_some() {
            self.desk.show(&state);
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
        let desk = Desk::new(turns, capacity, metrics, faults);
        let workers = engines.into_iter().map(|engine| {
            let text = text.clone();
            move |desk: &Desk<_>| {
                let worker = Worker {
                    desk,
                    settings,
                    text,
                    engine,
                    sequences: Vec::new(),
                };
                worker.run();
            }
        });
        let crew = Crew::start(desk, "generation", workers)?;
        Ok(Writers { crew, text })
    }

    /// The vocabulary.
    pub fn text(&self) -> &Arc<Text> {
        &self.text
    }

    /// Whether a request of this size would be let in now.
    ///
    /// # Errors
    /// [`SubmitError`], as [`Writers::submit`] would.
    pub fn admits(&self, want: Want, deadline: Instant) -> Result<(), SubmitError> {
        let desk = &self.crew.desk;
        let state = desk.open()?;
        let now = desk.since_epoch(Instant::now());
        let admitted = state.queue.admits(now, want, desk.since_epoch(deadline));
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
        let desk = &self.crew.desk;
        let mut state = desk.open()?;
        let now = desk.since_epoch(Instant::now());
        let deadline = desk.since_epoch(deadline);
        let offered = state.queue.offer(now, deadline, want, job);
        let id = offered.map_err(|(refusal, _)| SubmitError::Refused(refusal))?;
        desk.show(&state);
        drop(state);
        desk.call();
        let desk = desk.clone();
        Ok(Writing { id, events, desk })
    }

    /// Lets nothing more in and waits until the workers have finished what waits. Blocks.
    pub fn close(&self) {
        self.crew.close();
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
    desk: &'a Desk<Turns<Job>>,
    settings: WriterSettings,
    text: Arc<Text>,
    engine: Box<dyn Decode>,
    sequences: Vec<Sequence>,
}

impl Worker<'_> {
    fn run(mut self) {
        while self.prepare() {
            self.step();
        }
    }

    /// Lets sequences go that nobody wants any more and takes new ones up, waiting until there is one.
    /// False when the workers are closed and nothing is left to do.
    fn prepare(&mut self) -> bool {
        let desk = self.desk;
        let mut state = desk.lock();
        loop {
            let now = Instant::now();
            self.let_go(&mut state, now);
            if let Some(stall) = desk.stall(&state, now) {
                state = desk.wait(state, Some(stall));
                continue;
            }
            let places = self.settings.sequences.max(1);
            let free = places.saturating_sub(self.sequences.len());
            let taken = state.queue.take(desk.since_epoch(now), free);
            for entry in taken.expired {
                let _ = entry.item.events.send(Event::Broken(Broken::Expired));
            }
            for entry in taken.begun {
                self.begin(entry, now);
            }
            desk.show(&state);
            if !self.sequences.is_empty() {
                if state.queue.waiting() > 0 {
                    // A wake-up may have been spent on this worker while it had no place.
                    desk.call();
                }
                return true;
            }
            if state.closed {
                return false;
            }
            state = desk.wait(state, None);
        }
    }

    fn let_go(&mut self, state: &mut State<Turns<Job>>, now: Instant) {
        self.sequences.retain(|sequence| {
            let late = sequence.deadline <= now;
            if late {
                sequence.tell(Event::Broken(Broken::TooLate));
            }
            let stays = !late && !sequence.events.is_closed();
            if !stays {
                state.queue.left(sequence.id);
            }
            stays
        });
    }

    fn begin(&mut self, entry: Entry<Job>, now: Instant) {
        let Job { prompt, events } = entry.item;
        let enqueued = self.desk.epoch + entry.enqueued;
        let waited = now.saturating_duration_since(enqueued);
        self.desk.metrics.queue_wait.observe(waited.as_secs_f64());
        let sequence = Sequence {
            id: entry.id,
            memory: Memory::default(),
            ahead: prompt.tokens,
            writes: false,
            written: 0,
            most: prompt.most,
            deadline: self.desk.epoch + entry.deadline,
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
        let counts = plan(&unread, self.settings.chunk);
        let started = Instant::now();
        let scores = self.compute(&counts);
        let finished = Instant::now();
        let tokens: usize = counts.iter().sum();
        let metrics = &self.desk.metrics;
        let took = finished - started;
        metrics.inference_duration.observe(took.as_secs_f64());
        metrics.batch_tokens.observe(tokens as f64);
        let together = counts.iter().filter(|count| **count > 0).count();
        metrics.batch_size.observe(together as f64);
        let mut state = self.desk.lock();
        let scores = match scores {
            Ok(scores) => scores,
            Err(why) => {
                // Nothing can be said of any of them; whoever comes next begins anew.
                for sequence in self.sequences.drain(..) {
                    sequence.tell(Event::Broken(Broken::Failed(why.clone())));
                    state.queue.left(sequence.id);
                }
                self.desk.show(&state);
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
        state.queue.stepped(tokens, took, &progress);
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
        let text = &self.text;
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
            let mut state = self.desk.lock();
            for id in over {
                state.queue.left(id);
            }
            self.desk.show(&state);
        }
    }
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
