//! `POST /predict`: a document in, a label out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use opentelemetry::KeyValue;
use serde::Deserialize;
use serde_json::{Map, json};

use super::error::Refusal;
use super::observe::Observed;
use super::{Loaded, Service};
use crate::batch;
use crate::engine::{Answer, Outcome, Reply, SubmitError, Ticket, Timing};
use crate::faults::{self, Verdict};
use crate::model::{Encoded, ModelError, Prediction};
use crate::telemetry::names::{attribute, reason, span};
use crate::telemetry::{RequestTrace, Stage};

/// Texts longer than this are encoded on a blocking thread: word pieces of a long document take
/// milliseconds, in which a runtime thread would serve nobody else.
const INLINE_TEXT: usize = 8 * 1024;

/// JSON form of the body.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    text: String,
}

pub(super) async fn predict(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Refusal> {
    let received = Instant::now();
    let trace = request
        .extensions()
        .get::<Observed>()
        .map(|o| o.trace.clone());
    let received = trace.as_ref().map_or(received, |t| t.anchor().instant());
    let deadline = received + service.limits.deadline;
    let request_work = Work {
        service: &service,
        trace: trace.as_ref(),
        deadline,
    };
    let result = request_work.run(request).await;
    if let Err(refusal) = &result
        && reason::REJECTIONS.contains(&refusal.class)
    {
        service
            .telemetry
            .metrics
            .rejected
            .with_label_values(&[refusal.class])
            .inc();
    }
    result
}

struct Work<'a> {
    service: &'a Service,
    trace: Option<&'a RequestTrace>,
    deadline: Instant,
}

impl Work<'_> {
    async fn run(&self, request: Request) -> Result<Response, Refusal> {
        let Some(loaded) = self.service.loaded() else {
            let message = "the model is not loaded yet; /readyz tells when it is";
            return Err(Refusal::busy(
                reason::NOT_READY,
                message,
                Duration::from_secs(1),
            ));
        };
        let text = self.text(request).await?;
        let struck = self.service.faults.strike(Instant::now());
        if struck.fail {
            let message = "this error was asked for through /faults";
            return Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                reason::FAULT,
                message,
            ));
        }
        let encoded = self.encode(loaded, text).await?;
        let tokens = encoded.cost();
        let answer = self.infer(loaded, encoded).await?;
        self.respond(loaded, answer, tokens, struck).await
    }

    async fn text(&self, request: Request) -> Result<String, Refusal> {
        let format = Format::of(request.headers())?;
        let limit = self.service.limits.max_body;
        let body = Limited::new(request.into_body(), limit).collect();
        let body = match tokio::time::timeout_at(self.deadline.into(), body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
                let message = format!("the body is longer than {limit} bytes");
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                return Err(Refusal::new(status, reason::BODY_TOO_LARGE, message));
            }
            Ok(Err(error)) => {
                let message = format!("the body could not be read: {error}");
                return Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    reason::BODY_UNREADABLE,
                    message,
                ));
            }
            Err(_) => {
                let message = "the body did not arrive within the deadline";
                return Err(Refusal::new(
                    StatusCode::REQUEST_TIMEOUT,
                    reason::BODY_TIMEOUT,
                    message,
                ));
            }
        };
        let text = format.text(body)?;
        if text.trim().is_empty() {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(Refusal::new(
                status,
                reason::EMPTY_TEXT,
                "there is no text to classify",
            ));
        }
        Ok(text)
    }

    async fn encode(&self, loaded: &Loaded, text: String) -> Result<Encoded, Refusal> {
        let start = Instant::now();
        let size = text.len();
        let result = if size <= INLINE_TEXT {
            loaded.preprocess.encode_timed(&text)
        } else {
            let preprocess = loaded.preprocess.clone();
            let task = tokio::task::spawn_blocking(move || preprocess.encode_timed(&text));
            task.await.map_err(|_| internal("preprocessing panicked"))?
        };
        let end = Instant::now();
        let (encoded, stages) = match result {
            Ok(both) => both,
            Err(error @ ModelError::Tokenise(_)) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                return Err(Refusal::new(status, reason::UNENCODABLE, error.to_string()));
            }
            Err(error) => return Err(internal(error.to_string())),
        };
        if let Some(trace) = self.trace {
            let within: Vec<Stage> = stages
                .iter()
                .map(|s| Stage {
                    name: s.name,
                    start: s.start,
                    end: s.end,
                })
                .collect();
            let attributes = vec![
                KeyValue::new(attribute::BODY_SIZE, count(size)),
                KeyValue::new(attribute::TOKENS, count(encoded.cost())),
            ];
            trace.stage(
                Stage {
                    name: span::PREPROCESS,
                    start,
                    end,
                },
                attributes,
                &within,
            );
        }
        Ok(encoded)
    }

    async fn infer(&self, loaded: &Loaded, encoded: Encoded) -> Result<Answer, Refusal> {
        let joined = Instant::now();
        let mut ticket = loaded
            .pool
            .submit(encoded, self.deadline)
            .map_err(refused)?;
        match tokio::time::timeout_at(self.deadline.into(), ticket.reply()).await {
            Ok(Reply::Answered(answer)) => Ok(answer),
            Ok(Reply::Expired) => Err(self.too_late(joined, None)),
            Ok(Reply::Lost) => Err(internal("the inference worker is gone")),
            Err(_) => Err(self.too_late(joined, Some(ticket))),
        }
    }

    /// The deadline passed. If it did so in the queue, the trace shows the wait.
    fn too_late(&self, joined: Instant, ticket: Option<Ticket>) -> Refusal {
        let in_queue = ticket.is_none_or(Ticket::give_up);
        if let Some(trace) = self.trace
            && in_queue
        {
            let stage = Stage {
                name: span::QUEUE,
                start: joined,
                end: Instant::now(),
            };
            trace.stage(
                stage,
                vec![KeyValue::new(attribute::ERROR_TYPE, reason::DEADLINE)],
                &[],
            );
        }
        let limit = self.service.limits.deadline.as_millis();
        let message = format!("no answer within the deadline of {limit} ms");
        Refusal::busy(reason::DEADLINE, message, Duration::from_secs(1))
    }

    async fn respond(
        &self,
        loaded: &Loaded,
        answer: Answer,
        tokens: usize,
        struck: Verdict,
    ) -> Result<Response, Refusal> {
        let Answer { outcome, timing } = answer;
        self.show_inference(&timing, &outcome, tokens);
        let prediction = match outcome {
            Outcome::Predicted(prediction) => prediction,
            Outcome::Failed(why) => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                let message = format!("inference failed: {why}");
                return Err(Refusal::new(status, reason::INFERENCE_FAILED, message));
            }
        };
        let start = Instant::now();
        let response = render(loaded, &prediction, struck.lie)?;
        if !struck.delay.is_zero() {
            tokio::time::sleep(struck.delay).await;
        }
        if let Some(trace) = self.trace {
            let stage = Stage {
                name: span::POSTPROCESS,
                start,
                end: Instant::now(),
            };
            trace.stage(stage, fault_attributes(struck), &[]);
        }
        Ok(response)
    }

    fn show_inference(&self, timing: &Timing, outcome: &Outcome, tokens: usize) {
        let Some(trace) = self.trace else { return };
        let Timing {
            enqueued,
            started,
            finished,
            batch_size,
            batch_tokens,
        } = *timing;
        trace.stage(
            Stage {
                name: span::QUEUE,
                start: enqueued,
                end: started,
            },
            vec![],
            &[],
        );
        let mut attributes = vec![
            KeyValue::new(attribute::BATCH_SIZE, count(batch_size)),
            KeyValue::new(attribute::BATCH_TOKENS, count(batch_tokens)),
            KeyValue::new(attribute::TOKENS, count(tokens)),
        ];
        if matches!(outcome, Outcome::Failed(_)) {
            attributes.push(KeyValue::new(
                attribute::ERROR_TYPE,
                reason::INFERENCE_FAILED,
            ));
        }
        let stage = Stage {
            name: span::INFERENCE,
            start: started,
            end: finished,
        };
        trace.stage(stage, attributes, &[]);
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn internal(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, reason::INTERNAL, message)
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
    let mut attributes = Vec::new();
    if !struck.delay.is_zero() {
        attributes.push(faults::Kind::Latency);
    }
    if struck.lie {
        attributes.push(faults::Kind::WrongAnswers);
    }
    let names: Vec<&str> = attributes.into_iter().map(faults::Kind::as_str).collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![KeyValue::new(attribute::FAULT, names.join(","))]
}

/// The answer's body. A lie gives each score to the next label, so that it is a plausible answer
/// and a wrong one.
fn render(loaded: &Loaded, prediction: &Prediction, lie: bool) -> Result<Response, Refusal> {
    let labels = &loaded.labels;
    if prediction.scores.len() != labels.len() || labels.is_empty() {
        return Err(internal("the model's scores do not match its labels"));
    }
    let shift = usize::from(lie);
    let label = |score: usize| &labels[(score + shift) % labels.len()];
    let scores = prediction.scores.iter().enumerate();
    let scores: Map<String, serde_json::Value> = scores
        .map(|(at, score)| (label(at).clone(), json!(score)))
        .collect();
    let result = label(prediction.best());
    Ok(Json(json!({ "result": result, "scores": scores })).into_response())
}

/// How the body holds the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl Format {
    /// From the content type; without one the body is the text.
    fn of(headers: &HeaderMap) -> Result<Format, Refusal> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Ok(Format::Text);
        };
        let given = value.to_str().unwrap_or("(not ASCII)");
        let essence = given
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        match essence.as_str() {
            "text/plain" => Ok(Format::Text),
            "application/json" => Ok(Format::Json),
            _ => Err(Refusal::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                reason::MEDIA_TYPE,
                format!("content type {given:?}; send text/plain or application/json"),
            )),
        }
    }

    fn text(self, body: Bytes) -> Result<String, Refusal> {
        match self {
            Format::Text => String::from_utf8(body.into()).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                let message = format!("the text is not UTF-8 from byte {at} on");
                Refusal::new(StatusCode::BAD_REQUEST, reason::NOT_UTF8, message)
            }),
            Format::Json => {
                let document: Result<Document, _> = serde_json::from_slice(&body);
                document.map(|d| d.text).map_err(|error| {
                    let (status, class) = if error.is_data() {
                        (StatusCode::UNPROCESSABLE_ENTITY, reason::WRONG_SHAPE)
                    } else {
                        (StatusCode::BAD_REQUEST, reason::MALFORMED_JSON)
                    };
                    let message = format!("expected {{\"text\": \"...\"}}: {error}");
                    Refusal::new(status, class, message)
                })
            }
        }
    }
}
