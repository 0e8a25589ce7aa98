//! `POST /predict` and `POST /embed`: documents in, labels or vectors out.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::{self, Format};
use super::error::{Refusal, Shape};
use super::work::{Done, Work, internal};
use super::{Loaded, Service};
use crate::model::{ModelInfo, Prediction};
use crate::telemetry::names::{EMBEDDINGS, reason};

/// JSON form of the body: one document, or several.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Documents {
    text: Option<String>,
    texts: Option<Vec<String>>,
}

const EXPECTED: &str = "{\"text\": \"...\"} or {\"texts\": [\"...\"]}";

/// What is asked of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Label,
    Vector,
}

impl Ask {
    /// Whether the model can answer it at all.
    pub(super) fn check(self, info: &ModelInfo) -> Result<(), Refusal> {
        let message = match self {
            _ if info.labels.is_empty() && info.dimensions == 0 => {
                "this model writes texts; ask it by /v1/completions"
            }
            Ask::Label if info.labels.is_empty() => "this model predicts no labels; it embeds",
            Ask::Vector if info.dimensions == 0 => {
                "this model makes no embeddings; it predicts labels"
            }
            _ => return Ok(()),
        };
        Err(Refusal::new(
            StatusCode::NOT_FOUND,
            reason::UNSUPPORTED,
            message,
        ))
    }

    fn write(self, info: &ModelInfo, prediction: &Prediction) -> Result<Value, Refusal> {
        if self == Ask::Vector {
            return Ok(json!({ "embedding": prediction.embedding }));
        }
        let labels = &info.labels;
        let Some(best) = labels.get(prediction.best()) else {
            return Err(internal("the model's scores do not match its labels"));
        };
        let scores = labels.iter().zip(&prediction.scores);
        let scores: Map<String, Value> = scores
            .map(|(label, score)| (label.clone(), json!(score)))
            .collect();
        Ok(json!({ "result": best, "scores": scores }))
    }
}

pub(super) async fn predict(service: State<Arc<Service>>, request: Request) -> Response {
    answer(service, request, Ask::Label).await
}

pub(super) async fn embed(service: State<Arc<Service>>, request: Request) -> Response {
    answer(service, request, Ask::Vector).await
}

async fn answer(State(service): State<Arc<Service>>, request: Request, ask: Ask) -> Response {
    let start = Instant::now();
    let result = run(&service, request, ask).await;
    if ask == Ask::Vector {
        let class = result.as_ref().err().map_or("", |refusal| refusal.class);
        count_gen_ai(&service, EMBEDDINGS, start, class);
    }
    result.unwrap_or_else(|refusal| refused(&service, refusal, Shape::Plain))
}

/// Counts a request by the `GenAI` conventions; not before there is a model to name.
pub(super) fn count_gen_ai(service: &Service, operation: &str, start: Instant, class: &str) {
    if let Some(loaded) = service.loaded() {
        let duration = &service.telemetry.metrics.gen_ai_duration;
        duration
            .with_label_values(&[operation, &loaded.info.name, class])
            .observe(start.elapsed().as_secs_f64());
    }
}

/// A refusal in the protocol's shape, counted if it is one for load.
pub(super) fn refused(service: &Service, refusal: Refusal, shape: Shape) -> Response {
    if reason::REJECTIONS.contains(&refusal.class) {
        let rejected = &service.telemetry.metrics.rejected;
        rejected.with_label_values(&[refusal.class]).inc();
    }
    refusal.shaped(shape).into_response()
}

async fn run(service: &Arc<Service>, request: Request, ask: Ask) -> Result<Response, Refusal> {
    let work = Work::begin(service, &request)?;
    ask.check(&work.loaded()?.info)?;
    let format = Format::of(request.headers())?;
    let body = work.body(request).await?;
    let (documents, several) = documents(format, &body)?;
    if !several && documents.iter().all(|text| text.trim().is_empty()) {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Refusal::new(status, reason::EMPTY_TEXT, "there is no text"));
    }
    let done = work.predict(documents).await?;
    if ask == Ask::Vector {
        work.note_embeddings(&work.loaded()?.info, done.tokens);
    }
    work.respond(done, |loaded, done| render(loaded, done, several, ask))
        .await
}

/// The documents, and whether they came as a list.
fn documents(format: Format, body: &Bytes) -> Result<(Vec<String>, bool), Refusal> {
    if format == Format::Text {
        return Ok((vec![body::text(body)?.to_owned()], false));
    }
    let Documents { text, texts } = body::json(body, EXPECTED)?;
    let wrong = |what: &str| {
        let message = format!("expected {EXPECTED}: {what}");
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Err(Refusal::new(status, reason::WRONG_SHAPE, message))
    };
    match (text, texts) {
        (Some(text), None) => Ok((vec![text], false)),
        (None, Some(texts)) if texts.is_empty() => wrong("\"texts\" is empty"),
        (None, Some(texts)) => Ok((texts, true)),
        (Some(_), Some(_)) => wrong("both are there"),
        (None, None) => wrong("neither is there"),
    }
}

/// Of several documents each has its result or its own error; one alone answers for the request.
fn render(loaded: &Loaded, done: &Done, several: bool, ask: Ask) -> Result<Response, Refusal> {
    let mut results = done.outcomes.iter().map(|outcome| {
        let prediction = outcome.as_ref().map_err(Clone::clone)?;
        ask.write(&loaded.info, prediction)
    });
    if several {
        let results: Vec<Value> = results
            .map(|result| result.unwrap_or_else(|refusal| refusal.body()))
            .collect();
        return Ok(Json(json!({ "results": results })).into_response());
    }
    let only = results
        .next()
        .ok_or_else(|| internal("the document was lost"))?;
    Ok(Json(only?).into_response())
}
