//! What all protocols share: from documents to predictions, in time or not at all, watched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode};
use opentelemetry::KeyValue;

use super::error::Refusal;
use super::generation::{Facts, Generation, Times};
use super::observe::Observed;
use super::{Loaded, Service};
use crate::batch;
use crate::batch::turns::Want;
use crate::config::duration_or_zero;
use crate::engine::{Batch, Outcome, Pool, Prompt, Reply, SubmitError, Ticket, Timing};
use crate::faults::{self, Verdict};
use crate::model::{Encoded, ModelError, ModelInfo, Prediction, Preprocess, Stage as ModelStage};
use crate::telemetry::names::{EMBEDDINGS, SERVICE_NAME, attribute, reason, span, token};
use crate::telemetry::{RequestTrace, Stage};

/// Texts longer than this are encoded on a blocking thread: word pieces of a long document take
/// milliseconds, in which a runtime thread would serve nobody else.
const INLINE_TEXT: usize = 8 * 1024;

/// Header by which a caller says how long it waits, with the unit: `250ms`, `2s`. A shorter wait than
/// the service's own deadline replaces it.
pub(super) const TIMEOUT: &str = "x-request-timeout";

/// Header that parts the time of an answer (W3C Server Timing).
pub(super) const SERVER_TIMING: &str = "server-timing";

/// How long the caller waits for an answer, by its own word and at most `limit`.
fn patience(headers: &HeaderMap, limit: Duration) -> Result<Duration, Refusal> {
    let Some(value) = headers.get(TIMEOUT) else {
        return Ok(limit);
    };
    let text = value.to_str().unwrap_or("(not ASCII)");
    duration_or_zero(text)
        .map(|asked| asked.min(limit))
        .map_err(|why| {
            let message =
                format!("{TIMEOUT}: {text:?}: {why}; expected a time such as 250ms or 2s");
            Refusal::new(StatusCode::BAD_REQUEST, reason::BAD_TIMEOUT, message)
        })
}

/// One request on its way.
pub(super) struct Work {
    service: Arc<Service>,
    trace: Option<RequestTrace>,
    patience: Duration,
    /// When the answer is worthless.
    pub(super) deadline: Instant,
}

/// Predictions, in the order of the documents.
pub(super) struct Done {
    /// A document's own error leaves the others alone.
    pub(super) outcomes: Vec<Result<Prediction, Refusal>>,
    /// Tokens of all documents together.
    pub(super) tokens: usize,
    struck: Verdict,
    timings: Timings,
}

/// Where the time of a request went, for [`SERVER_TIMING`].
#[derive(Debug, Default)]
struct Timings {
    preprocess: Duration,
    queue: Duration,
    inference: Duration,
}

/// A document that was read, or why it cannot be.
type Read = Result<(Encoded, Vec<ModelStage>), Refusal>;

impl Work {
    pub(super) fn begin(service: &Arc<Service>, request: &Request) -> Result<Work, Refusal> {
        let observed = request.extensions().get::<Observed>();
        let trace = observed.map(|o| o.trace.clone());
        let received = trace
            .as_ref()
            .map_or_else(Instant::now, |t| t.anchor().instant());
        let patience = patience(request.headers(), service.limits.deadline)?;
        Ok(Work {
            service: service.clone(),
            trace,
            patience,
            deadline: received + patience,
        })
    }

    /// The model, if it is loaded.
    pub(super) fn loaded(&self) -> Result<&Loaded, Refusal> {
        self.service.loaded_or_refused()
    }

    /// The body of the request.
    pub(super) async fn body(&self, request: Request) -> Result<axum::body::Bytes, Refusal> {
        let limit = self.service.limits.max_body;
        super::body::read(request.into_body(), limit, self.deadline).await
    }

    /// Predicts all documents, each for itself, or refuses the request as a whole.
    pub(super) async fn predict(&self, documents: Vec<String>) -> Result<Done, Refusal> {
        let loaded = self.loaded()?;
        let (pool, preprocess) = loaded.encoder()?;
        let most = self.service.limits.max_documents;
        if documents.len() > most {
            let message = format!(
                "{} documents, where {most} may come at once",
                documents.len()
            );
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Refusal::new(status, reason::TOO_MANY_DOCUMENTS, message));
        }
        let struck = self.strike()?;
        // Before time is spent on reading texts that would be turned away afterwards.
        pool.admits(documents.len(), self.deadline)
            .map_err(refused)?;
        let start = Instant::now();
        let read = self.read(preprocess, documents).await?;
        let mut timings = Timings {
            preprocess: start.elapsed(),
            ..Timings::default()
        };
        let tokens = read
            .iter()
            .flatten()
            .map(|(encoded, _)| encoded.cost())
            .sum();
        let sound: Vec<Encoded> = read
            .iter()
            .flatten()
            .map(|(encoded, _)| encoded.clone())
            .collect();
        let mut predicted = self.infer(pool, sound, &mut timings).await?.into_iter();
        let outcomes = read.into_iter().map(|read| {
            read.and_then(|_| match predicted.next() {
                Some(Outcome::Predicted(prediction)) => Ok(prediction),
                Some(Outcome::Failed(why)) => Err(failed(&why)),
                None => Err(internal("a prediction is missing")),
            })
        });
        Ok(Done {
            outcomes: outcomes.collect(),
            tokens,
            struck,
            timings,
        })
    }

    /// What the faults in force make of this request, or the error that one asks for.
    pub(super) fn strike(&self) -> Result<Verdict, Refusal> {
        let struck = self.service.faults.strike(Instant::now());
        if struck.fail {
            let message = "this error was asked for through /faults";
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            return Err(Refusal::new(status, reason::FAULT, message));
        }
        Ok(struck)
    }

    /// Whether one more text would be taken on, whatever its size: asked before it is read.
    pub(super) fn admits_text(&self) -> Result<(), Refusal> {
        let writers = self.loaded()?.writers()?;
        let nothing = Want { prompt: 0, most: 0 };
        writers.admits(nothing, self.deadline).map_err(refused)
    }

    /// The tokens of a prompt, of which there is at least one.
    pub(super) async fn tokens(&self, prompt: String) -> Result<Vec<u32>, Refusal> {
        let (start, size) = (Instant::now(), prompt.len());
        let text = self.loaded()?.writers()?.text().clone();
        let read = if size <= INLINE_TEXT {
            text.encode(&prompt)
        } else {
            let task = tokio::task::spawn_blocking(move || text.encode(&prompt));
            task.await.map_err(|_| internal("preprocessing panicked"))?
        };
        let end = Instant::now();
        let tokens = read.map_err(|error| Refusal {
            status: StatusCode::BAD_REQUEST,
            ..unreadable(error)
        })?;
        if let Some(trace) = &self.trace {
            let attributes = vec![
                KeyValue::new(attribute::BODY_SIZE, count(size)),
                KeyValue::new(attribute::TOKENS, count(tokens.len())),
            ];
            let stage = |name| Stage { name, start, end };
            trace.stage(stage(span::PREPROCESS), attributes, &[stage("tokenize")]);
        }
        Ok(tokens)
    }

    /// Takes a text on.
    pub(super) fn generate(
        &self,
        prompt: Prompt,
        facts: Facts,
        struck: Verdict,
        start: Instant,
        preprocess: Duration,
    ) -> Result<Generation, Refusal> {
        let writers = self.loaded()?.writers()?;
        let writing = writers.submit(prompt, self.deadline).map_err(refused)?;
        let times = Times {
            start,
            preprocess,
            deadline: self.deadline,
            patience: self.patience,
        };
        let (service, trace) = (self.service.clone(), self.trace.clone());
        Ok(Generation::new(
            service, trace, facts, writing, struck, &times,
        ))
    }

    async fn read(
        &self,
        preprocess: &Arc<dyn Preprocess>,
        documents: Vec<String>,
    ) -> Result<Vec<Read>, Refusal> {
        let start = Instant::now();
        let size: usize = documents.iter().map(String::len).sum();
        let preprocess = preprocess.clone();
        let all = move || -> Vec<Result<(Encoded, Vec<ModelStage>), ModelError>> {
            let read = documents.iter().map(|text| {
                if text.trim().is_empty() {
                    return Err(ModelError::Empty);
                }
                preprocess.encode_timed(text)
            });
            read.collect()
        };
        let read = if size <= INLINE_TEXT {
            all()
        } else {
            let task = tokio::task::spawn_blocking(all);
            task.await.map_err(|_| internal("preprocessing panicked"))?
        };
        let end = Instant::now();
        let read: Vec<Read> = read.into_iter().map(|r| r.map_err(unreadable)).collect();
        if let Some(trace) = &self.trace {
            let sound = || read.iter().flatten();
            let within: Vec<Stage> = sound()
                .flat_map(|(_, stages)| stages)
                .map(|s| Stage {
                    name: s.name,
                    start: s.start,
                    end: s.end,
                })
                .collect();
            let tokens = sound().map(|(encoded, _)| encoded.cost()).sum();
            let attributes = vec![
                KeyValue::new(attribute::BODY_SIZE, count(size)),
                KeyValue::new(attribute::TOKENS, count(tokens)),
            ];
            let stage = Stage {
                name: span::PREPROCESS,
                start,
                end,
            };
            trace.stage(stage, attributes, &within);
        }
        Ok(read)
    }

    /// One outcome a document. Empty without documents.
    async fn infer(
        &self,
        pool: &Pool,
        documents: Vec<Encoded>,
        timings: &mut Timings,
    ) -> Result<Vec<Outcome>, Refusal> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let tokens: Vec<usize> = documents.iter().map(Encoded::cost).collect();
        let joined = Instant::now();
        let traced = self.trace.as_ref().filter(|trace| trace.is_recording());
        let span = traced.map(RequestTrace::span_context);
        let submitted = pool.submit(documents, self.deadline, span.as_ref());
        let tickets = submitted.map_err(refused)?;
        let mut outcomes = Vec::with_capacity(tickets.len());
        let mut batches: Vec<Share> = Vec::new();
        for (mut ticket, tokens) in tickets.into_iter().zip(tokens) {
            let reply = tokio::time::timeout_at(self.deadline.into(), ticket.reply()).await;
            let answer = match reply {
                Ok(Reply::Answered(answer)) => answer,
                Ok(Reply::Expired) => return Err(self.too_late(joined, None)),
                Ok(Reply::Lost) => return Err(internal("the inference worker is gone")),
                Err(_) => return Err(self.too_late(joined, Some(ticket))),
            };
            let failed = matches!(answer.outcome, Outcome::Failed(_));
            outcomes.push(answer.outcome);
            Share::add(&mut batches, answer.timing, answer.batch, tokens, failed);
        }
        for share in &batches {
            let Timing {
                enqueued,
                started,
                finished,
                ..
            } = share.timing;
            timings.queue = timings.queue.max(started - enqueued);
            timings.inference += finished - started;
            self.show(share);
        }
        Ok(outcomes)
    }

    /// The deadline passed. If it did so in the queue, the trace shows the wait.
    fn too_late(&self, joined: Instant, ticket: Option<Ticket>) -> Refusal {
        let in_queue = ticket.is_none_or(Ticket::give_up);
        if let Some(trace) = &self.trace
            && in_queue
        {
            let stage = Stage {
                name: span::QUEUE,
                start: joined,
                end: Instant::now(),
            };
            let attributes = vec![KeyValue::new(attribute::ERROR_TYPE, reason::DEADLINE)];
            trace.stage(stage, attributes, &[]);
        }
        late(self.patience)
    }

    fn show(&self, share: &Share) {
        let Some(trace) = &self.trace else { return };
        let timing = &share.timing;
        let queue = Stage {
            name: span::QUEUE,
            start: timing.enqueued,
            end: timing.started,
        };
        trace.stage(queue, vec![], &[]);
        let mut attributes = vec![
            KeyValue::new(attribute::BATCH_SIZE, count(timing.batch_size)),
            KeyValue::new(attribute::BATCH_TOKENS, count(timing.batch_tokens)),
            KeyValue::new(attribute::TOKENS, count(share.tokens)),
        ];
        if share.failed {
            let class = reason::INFERENCE_FAILED;
            attributes.push(KeyValue::new(attribute::ERROR_TYPE, class));
        }
        let inference = Stage {
            name: span::INFERENCE,
            start: timing.started,
            end: timing.finished,
        };
        let shared = trace.is_recording().then(|| {
            let attributes = vec![
                KeyValue::new(attribute::BATCH_SIZE, count(timing.batch_size)),
                KeyValue::new(attribute::BATCH_TOKENS, count(timing.batch_tokens)),
            ];
            let batch = Stage {
                name: span::BATCH,
                ..inference
            };
            let span = &share.batch.span;
            span.get_or_init(|| trace.shared(batch, attributes, &share.batch.members))
        });
        trace.linked_stage(inference, attributes, &[], shared.cloned());
    }

    /// Tells that these were embeddings, by the `GenAI` conventions.
    pub(super) fn note_embeddings(&self, info: &ModelInfo, tokens: usize) {
        let metric = &self.service.telemetry.metrics.tokens;
        metric
            .with_label_values(&[EMBEDDINGS, &info.name, token::INPUT])
            .inc_by(tokens as u64);
        if let Some(trace) = &self.trace {
            trace.note(vec![
                KeyValue::new(attribute::GEN_AI_OPERATION, EMBEDDINGS),
                KeyValue::new(attribute::GEN_AI_PROVIDER, SERVICE_NAME),
                KeyValue::new(attribute::GEN_AI_REQUEST_MODEL, info.name.clone()),
                KeyValue::new(attribute::GEN_AI_DIMENSIONS, count(info.dimensions)),
                KeyValue::new(attribute::GEN_AI_INPUT_TOKENS, count(tokens)),
            ]);
        }
    }

    /// The answer to what was done, as `render` writes it.
    pub(super) async fn respond(
        &self,
        mut done: Done,
        render: impl FnOnce(&Loaded, &Done) -> Result<Response, Refusal>,
    ) -> Result<Response, Refusal> {
        let loaded = self.loaded()?;
        let start = Instant::now();
        if done.struck.lie {
            done.outcomes.iter_mut().flatten().for_each(lie);
        }
        let mut response = render(loaded, &done)?;
        if !done.struck.delay.is_zero() {
            tokio::time::sleep(done.struck.delay).await;
        }
        let end = Instant::now();
        if let Some(trace) = &self.trace {
            let stage = Stage {
                name: span::POSTPROCESS,
                start,
                end,
            };
            trace.stage(stage, fault_attributes(done.struck), &[]);
        }
        let Timings {
            preprocess,
            queue,
            inference,
        } = done.timings;
        let stages = [
            (span::PREPROCESS, preprocess),
            (span::QUEUE, queue),
            (span::INFERENCE, inference),
            (span::POSTPROCESS, end - start),
        ];
        let stages =
            stages.map(|(name, time)| format!("{name};dur={:.3}", time.as_secs_f64() * 1e3));
        if let Ok(value) = HeaderValue::from_str(&stages.join(", ")) {
            response.headers_mut().insert(SERVER_TIMING, value);
        }
        Ok(response)
    }
}

/// A request's part of one batch.
struct Share {
    timing: Timing,
    batch: Arc<Batch>,
    tokens: usize,
    failed: bool,
}

impl Share {
    fn add(
        shares: &mut Vec<Share>,
        timing: Timing,
        batch: Arc<Batch>,
        tokens: usize,
        failed: bool,
    ) {
        match shares.iter_mut().find(|s| Arc::ptr_eq(&s.batch, &batch)) {
            Some(share) => {
                share.tokens += tokens;
                share.failed |= failed;
            }
            None => shares.push(Share {
                timing,
                batch,
                tokens,
                failed,
            }),
        }
    }
}

/// Gives each score to the next label, and turns the embedding: a plausible answer and a wrong one.
fn lie(prediction: &mut Prediction) {
    for values in [&mut prediction.scores, &mut prediction.embedding] {
        if !values.is_empty() {
            values.rotate_right(1);
        }
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The model failed.
pub(super) fn failed(why: &str) -> Refusal {
    let message = format!("inference failed: {why}");
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Refusal::new(status, reason::INFERENCE_FAILED, message)
}

/// The deadline passed.
pub(super) fn late(patience: Duration) -> Refusal {
    let limit = patience.as_millis();
    let message = format!("no answer within the deadline of {limit} ms");
    Refusal::busy(reason::DEADLINE, message, Duration::from_secs(1))
}

pub(super) fn internal(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, reason::INTERNAL, message)
}

fn unreadable(error: ModelError) -> Refusal {
    let status = StatusCode::UNPROCESSABLE_ENTITY;
    match error {
        ModelError::Empty => Refusal::new(status, reason::EMPTY_TEXT, error.to_string()),
        ModelError::Tokenise(_) => Refusal::new(status, reason::UNENCODABLE, error.to_string()),
        other => internal(other.to_string()),
    }
}

fn refused(error: SubmitError) -> Refusal {
    match error {
        SubmitError::Refused(batch::Refusal::Full { backlog }) => {
            Refusal::busy(reason::QUEUE_FULL, "as many requests wait as may", backlog)
        }
        SubmitError::Refused(batch::Refusal::TooLate { expected }) => {
            let expected_ms = expected.as_millis();
            let message = format!("the answer would take {expected_ms} ms, past the deadline");
            Refusal::busy(reason::DEADLINE, message, expected)
        }
        SubmitError::Closed => {
            let message = "the service is shutting down";
            Refusal::busy(reason::SHUTTING_DOWN, message, Duration::from_secs(1))
        }
    }
}

fn fault_attributes(struck: Verdict) -> Vec<KeyValue> {
    let mut kinds = Vec::new();
    if !struck.delay.is_zero() {
        kinds.push(faults::Kind::Latency);
    }
    if struck.lie {
        kinds.push(faults::Kind::WrongAnswers);
    }
    let names: Vec<&str> = kinds.into_iter().map(faults::Kind::as_str).collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![KeyValue::new(attribute::FAULT, names.join(","))]
}
