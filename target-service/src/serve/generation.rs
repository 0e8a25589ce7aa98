//! One text on its way from the workers to its answer, watched: the span of the generation, its metrics,
//! and its end whatever that is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use opentelemetry::{Array, KeyValue, StringValue, Value};
use serde_json::{Value as Json, json};
use tokio::time::Sleep;

use super::Service;
use super::error::Refusal;
use super::predict::count_gen_ai;
use super::work::{failed, late};
use crate::engine::{Broken, Event, Finish, Writing};
use crate::faults::Verdict;
use crate::model::causal::Sampling;
use crate::telemetry::names::{SERVICE_NAME, TEXT_COMPLETION, attribute, reason, span, token};
use crate::telemetry::{RequestTrace, Stage};

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) prompt_tokens: usize,
    pub(super) most: usize,
    /// As asked.
    pub(super) seed: Option<i64>,
    pub(super) sampling: Sampling,
    pub(super) stops: Vec<String>,
}

/// What comes next of a text.
#[derive(Debug)]
pub(super) enum Step {
    /// More of it; empty when a token adds nothing that is certain yet.
    Text(String),
    /// The rest of it.
    Done(String, Finish),
    /// No more comes.
    Broken(Refusal),
}

/// A text on its way. Dropped before its end, it is given up, and its span says so.
pub(super) struct Generation {
    pub(super) service: Arc<Service>,
    pub(super) trace: Option<RequestTrace>,
    facts: Facts,
    writing: Writing,
    struck: Verdict,
    /// Holds the first token back, where a fault says so.
    delay: Option<Pin<Box<Sleep>>>,
    deadline: Pin<Box<Sleep>>,
    patience: Duration,
    /// When the request came.
    start: Instant,
    preprocess: Duration,
    enqueued: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
    written: usize,
    over: bool,
}

/// From when to when a request may take how long, for [`Generation::new`].
pub(super) struct Times {
    pub(super) start: Instant,
    pub(super) preprocess: Duration,
    pub(super) deadline: Instant,
    pub(super) patience: Duration,
}

impl Generation {
    pub(super) fn new(
        service: Arc<Service>,
        trace: Option<RequestTrace>,
        facts: Facts,
        writing: Writing,
        struck: Verdict,
        times: &Times,
    ) -> Self {
        let sleep = |until: Instant| Box::pin(tokio::time::sleep_until(until.into()));
        let delay = (!struck.delay.is_zero()).then(|| sleep(Instant::now() + struck.delay));
        Generation {
            service,
            trace,
            facts,
            writing,
            struck,
            delay,
            deadline: sleep(times.deadline),
            patience: times.patience,
            start: times.start,
            preprocess: times.preprocess,
            enqueued: Instant::now(),
            started: None,
            first: None,
            last: None,
            written: 0,
            over: false,
        }
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(super) fn usage(&self) -> Json {
        let (read, written) = (self.facts.prompt_tokens, self.written);
        json!({
            "prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written,
        })
    }

    /// The next step; not to be asked for after the last one.
    pub(super) async fn next(&mut self) -> Step {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        if let Some(delay) = &mut self.delay {
            std::task::ready!(delay.as_mut().poll(context));
            self.delay = None;
        }
        loop {
            let event = match self.writing.poll_next(context) {
                Poll::Ready(event) => event,
                Poll::Pending => {
                    // The workers look at the deadline themselves; but they may be held up.
                    std::task::ready!(self.deadline.as_mut().poll(context));
                    Event::Broken(Broken::TooLate)
                }
            };
            match event {
                Event::Begun { enqueued, started } => {
                    self.enqueued = enqueued;
                    self.started = Some(started);
                }
                Event::Token { text, at } => {
                    self.note(at);
                    return Poll::Ready(Step::Text(self.told(text)));
                }
                Event::Done {
                    text,
                    finish,
                    ended,
                    at,
                } => {
                    if ended {
                        self.note(at);
                    }
                    self.finish(Ok(finish));
                    return Poll::Ready(Step::Done(self.told(text), finish));
                }
                Event::Broken(why) => {
                    let refusal = match why {
                        Broken::Expired | Broken::TooLate => late(self.patience),
                        Broken::Failed(why) => failed(&why),
                    };
                    self.finish(Err(refusal.class));
                    return Poll::Ready(Step::Broken(refusal));
                }
            }
        }
    }

    /// A token was there at `at`.
    fn note(&mut self, at: Instant) {
        self.written += 1;
        self.last = Some(at);
        if self.first.replace(self.first.unwrap_or(at)).is_none() {
            let wait = at.saturating_duration_since(self.start).as_secs_f64();
            let metric = &self.service.telemetry.metrics.time_to_first_token;
            let labels = [TEXT_COMPLETION, &self.facts.model];
            metric.with_label_values(&labels).observe(wait);
        }
    }

    /// The text, or a wrong one where a fault says so.
    fn told(&self, text: String) -> String {
        match self.struck.lie {
            true => text.chars().rev().collect(),
            false => text,
        }
    }

    /// The stages so far, as `Server-Timing` has them.
    pub(super) fn server_timing(&self) -> String {
        let mut stages = vec![(span::PREPROCESS, self.preprocess)];
        if let Some(started) = self.started {
            stages.push((span::QUEUE, started - self.enqueued));
            if let Some(first) = self.first {
                stages.push((span::PREFILL, first - started));
            }
        }
        if let (Some(first), Some(last), true) = (self.first, self.last, self.over) {
            stages.push((span::DECODE, last - first));
        }
        let stages = stages.iter();
        let stages =
            stages.map(|(name, time)| format!("{name};dur={:.3}", time.as_secs_f64() * 1e3));
        stages.collect::<Vec<_>>().join(", ")
    }

    fn finish(&mut self, end: Result<Finish, &'static str>) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let metrics = &self.service.telemetry.metrics;
        let labels = [TEXT_COMPLETION, &self.facts.model];
        let tokens = |kind: &str, count: usize| {
            let metric = metrics
                .tokens
                .with_label_values(&[labels[0], labels[1], kind]);
            metric.inc_by(count as u64);
        };
        tokens(token::INPUT, self.facts.prompt_tokens);
        tokens(token::OUTPUT, self.written);
        if let (Some(first), Some(last), 2..) = (self.first, self.last, self.written) {
            let each = (last - first).as_secs_f64() / (self.written - 1) as f64;
            let metric = &metrics.time_per_output_token;
            metric.with_label_values(&labels).observe(each);
        }
        self.show(end);
        let class = end.err().unwrap_or_default();
        count_gen_ai(&self.service, TEXT_COMPLETION, self.start, class);
    }

    /// The span of the generation, and within it the wait, the reading and the writing.
    fn show(&self, end: Result<Finish, &'static str>) {
        let Some(trace) = self.trace.as_ref().filter(|trace| trace.is_recording()) else {
            return;
        };
        let now = Instant::now();
        let started = self.started.unwrap_or(now);
        let stage = |name, start, end| Stage { name, start, end };
        let mut within = vec![stage(span::QUEUE, self.enqueued, started)];
        if self.started.is_some() {
            let first = self.first.unwrap_or(now);
            within.push(stage(span::PREFILL, started, first));
            if let (Some(first), Some(last)) = (self.first, self.last) {
                within.push(stage(span::DECODE, first, last));
            }
        }
        let name = format!("{TEXT_COMPLETION} {}", self.facts.model);
        let over = (self.enqueued, now);
        trace.generation(name, over, self.attributes(end), &within, end.is_err());
    }

    fn attributes(&self, end: Result<Finish, &'static str>) -> Vec<KeyValue> {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let list = |texts: &[String]| {
            let texts = texts.iter().cloned().map(StringValue::from).collect();
            Value::Array(Array::String(texts))
        };
        let (facts, sampling) = (&self.facts, self.facts.sampling);
        let mut all = vec![
            KeyValue::new(attribute::GEN_AI_OPERATION, TEXT_COMPLETION),
            KeyValue::new(attribute::GEN_AI_PROVIDER, SERVICE_NAME),
            KeyValue::new(attribute::GEN_AI_REQUEST_MODEL, facts.model.clone()),
            KeyValue::new(attribute::GEN_AI_RESPONSE_MODEL, facts.model.clone()),
            KeyValue::new(attribute::GEN_AI_RESPONSE_ID, facts.id.clone()),
            KeyValue::new(attribute::GEN_AI_MAX_TOKENS, count(facts.most)),
            KeyValue::new(
                attribute::GEN_AI_TEMPERATURE,
                f64::from(sampling.temperature),
            ),
            KeyValue::new(attribute::GEN_AI_TOP_P, f64::from(sampling.top_p)),
            KeyValue::new(attribute::GEN_AI_INPUT_TOKENS, count(facts.prompt_tokens)),
            KeyValue::new(attribute::GEN_AI_OUTPUT_TOKENS, count(self.written)),
        ];
        if let Some(seed) = facts.seed {
            all.push(KeyValue::new(attribute::GEN_AI_SEED, seed));
        }
        if !facts.stops.is_empty() {
            all.push(KeyValue::new(attribute::GEN_AI_STOPS, list(&facts.stops)));
        }
        if let Some(first) = self.first {
            let wait = (first - self.start).as_secs_f64();
            all.push(KeyValue::new(attribute::GEN_AI_FIRST_TOKEN, wait));
        }
        match end {
            Ok(finish) => all.push(KeyValue::new(
                attribute::GEN_AI_FINISH_REASONS,
                list(&[finish.as_str().to_owned()]),
            )),
            Err(class) => all.push(KeyValue::new(attribute::ERROR_TYPE, class)),
        }
        all
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.finish(Err(reason::CLIENT_CLOSED));
    }
}
