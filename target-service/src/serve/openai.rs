//! `POST /v1/embeddings` and `GET /v1/models`, as `OpenAI`'s clients know them.
//!
//! The protocol has no place for one document's error beside another's vector, so a request with a
//! text that cannot be read is refused as a whole, naming which.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{self, Format};
use super::error::{Refusal, Shape};
use super::predict::{Ask, count_gen_ai, refused};
use super::work::{Done, Work};
use super::{Loaded, Service};
use crate::model::ModelInfo;
use crate::telemetry::names::{EMBEDDINGS, reason};

#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    input: Option<Value>,
    #[serde(default)]
    encoding_format: Encoding,
    dimensions: Option<u64>,
    /// Read and not used, as the protocol allows.
    #[serde(rename = "user")]
    _user: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    #[default]
    Float,
    /// Little-endian 32-bit floats.
    Base64,
}

const EXPECTED: &str = "{\"model\": \"...\", \"input\": \"...\" or [\"...\"], \"encoding_format\": \"float\" or \"base64\"}";

pub(super) async fn embeddings(State(service): State<Arc<Service>>, request: Request) -> Response {
    let start = Instant::now();
    let result = run(&service, request).await;
    let class = result.as_ref().err().map_or("", |refusal| refusal.class);
    count_gen_ai(&service, EMBEDDINGS, start, class);
    result.unwrap_or_else(|refusal| refused(&service, refusal, Shape::OpenAi))
}

pub(super) async fn models(State(service): State<Arc<Service>>) -> Response {
    let models: Vec<Value> = service
        .loaded()
        .map(|loaded| json!({ "id": loaded.info.name, "object": "model", "owned_by": "target-service" }))
        .into_iter()
        .collect();
    Json(json!({ "object": "list", "data": models })).into_response()
}

async fn run(service: &Arc<Service>, request: Request) -> Result<Response, Refusal> {
    let work = Work::begin(service, &request)?;
    work.loaded()?;
    Format::only_json(request.headers())?;
    let body = work.body(request).await?;
    // The protocol's own status for a body that is wrong.
    let body: Body = body::json(&body, EXPECTED).map_err(|refusal| Refusal {
        status: StatusCode::BAD_REQUEST,
        ..refusal
    })?;
    let texts = checked(&body, &work.loaded()?.info)?;
    let done = work.predict(texts).await?;
    work.note_embeddings(&work.loaded()?.info, done.tokens);
    work.respond(done, |loaded, done| {
        render(loaded, done, body.encoding_format)
    })
    .await
}

fn wrong(param: impl Into<String>, message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, reason::WRONG_SHAPE, message).about(param)
}

/// The texts of a request that this model can answer.
fn checked(body: &Body, info: &ModelInfo) -> Result<Vec<String>, Refusal> {
    match &body.model {
        None => {
            return Err(wrong(
                "model",
                "\"model\" is missing; GET /v1/models names it",
            ));
        }
        Some(asked) if *asked != info.name => {
            let message = format!("there is no model {asked:?}; this is {:?}", info.name);
            let refusal = Refusal::new(StatusCode::NOT_FOUND, reason::NO_SUCH_MODEL, message);
            return Err(refusal.about("model"));
        }
        Some(_) => {}
    }
    Ask::Vector.check(info)?;
    if let Some(asked) = body.dimensions
        && asked != info.dimensions as u64
    {
        let message = format!(
            "the embeddings of this model have {} dimensions",
            info.dimensions
        );
        return Err(wrong("dimensions", message));
    }
    let texts = match &body.input {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(list)) if !list.is_empty() => list
            .iter()
            .enumerate()
            .map(|(at, value)| match value {
                Value::String(text) => Ok(text.clone()),
                _ => {
                    let message = "only texts are read, no token ids";
                    Err(wrong(format!("input[{at}]"), message))
                }
            })
            .collect::<Result<_, _>>()?,
        _ => {
            return Err(wrong(
                "input",
                "\"input\" must be a text or a list of texts, not empty",
            ));
        }
    };
    if let Some(at) = texts.iter().position(|text| text.trim().is_empty()) {
        let message = format!("input[{at}] has no text");
        let refusal = Refusal::new(StatusCode::BAD_REQUEST, reason::EMPTY_TEXT, message);
        return Err(refusal.about(format!("input[{at}]")));
    }
    Ok(texts)
}

fn render(loaded: &Loaded, done: &Done, encoding: Encoding) -> Result<Response, Refusal> {
    let mut data = Vec::with_capacity(done.outcomes.len());
    for (index, outcome) in done.outcomes.iter().enumerate() {
        let param = format!("input[{index}]");
        let prediction = outcome
            .as_ref()
            .map_err(|refusal| refusal.clone().about(param))?;
        let embedding = match encoding {
            Encoding::Float => json!(prediction.embedding),
            Encoding::Base64 => {
                let bytes = prediction.embedding.iter().flat_map(|v| v.to_le_bytes());
                json!(STANDARD.encode(bytes.collect::<Vec<u8>>()))
            }
        };
        data.push(json!({ "object": "embedding", "index": index, "embedding": embedding }));
    }
    let usage = json!({ "prompt_tokens": done.tokens, "total_tokens": done.tokens });
    let body = json!({ "object": "list", "data": data, "model": loaded.info.name, "usage": usage });
    Ok(Json(body).into_response())
}
