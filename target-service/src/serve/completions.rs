//! `POST /v1/completions`, as `OpenAI`'s clients know it: a text continued, at once or as it is written.
//!
//! What the service cannot do is refused by name and never ignored, a misspelt field as well: a client that
//! asks for log probabilities would take an answer without them for one that has none.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Service;
use super::body::{self, Format};
use super::error::{Refusal, Shape};
use super::generation::{Facts, Generation, Step};
use super::predict::{count_gen_ai, refused};
use super::stream::{Events, Streamed};
use super::work::{SERVER_TIMING, Work};
use crate::engine::{Finish, Prompt};
use crate::model::causal::Sampling;
use crate::telemetry::names::{TEXT_COMPLETION, reason};

/// Tokens to be written where the request does not say, as in the protocol.
const MOST: u64 = 16;
/// Texts at which to stop, at most, as in the protocol.
const STOPS: usize = 4;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    model: Option<String>,
    prompt: Option<Value>,
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
    stop: Option<Value>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u64>,
    best_of: Option<u64>,
    echo: Option<bool>,
    logprobs: Option<u64>,
    suffix: Option<String>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    logit_bias: Option<Value>,
    /// Read and not used, as the protocol allows.
    #[serde(rename = "user")]
    _user: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    include_usage: Option<bool>,
}

const EXPECTED: &str =
    "{\"model\": \"...\", \"prompt\": \"...\", \"max_tokens\": 16, \"stream\": true}";

pub(super) async fn completions(State(service): State<Arc<Service>>, request: Request) -> Response {
    let start = Instant::now();
    let answer = match begin(&service, request, start).await {
        Ok((generation, How::Whole)) => whole(generation).await,
        Ok((generation, How::Streamed { usage })) => stream(generation, usage).await,
        Err(refusal) => {
            count_gen_ai(&service, TEXT_COMPLETION, start, refusal.class);
            Err(refusal)
        }
    };
    answer.unwrap_or_else(|refusal| refused(&service, refusal, Shape::OpenAi))
}

/// How an answer is to be given.
enum How {
    Whole,
    /// As it is written, at the end with the tokens counted or not.
    Streamed {
        usage: bool,
    },
}

/// Takes the text on, or refuses it. From here on the generation tells of itself.
async fn begin(
    service: &Arc<Service>,
    request: Request,
    start: Instant,
) -> Result<(Generation, How), Refusal> {
    let work = Work::begin(service, &request)?;
    let loaded = work.loaded()?;
    let writers = loaded.writers()?;
    Format::only_json(request.headers())?;
    work.admits_text()?;
    let body = work.body(request).await?;
    // The protocol's own status for a body that is wrong.
    let asked: Asked = body::json(&body, EXPECTED).map_err(|refusal| Refusal {
        status: StatusCode::BAD_REQUEST,
        ..refusal
    })?;
    asked.is_possible(&loaded.info.name)?;
    let sampling = asked.sampling()?;
    let (most, stops) = (asked.most()?, asked.stops()?);
    let struck = work.strike()?;
    let read = Instant::now();
    let tokens = match asked.prompt.as_ref() {
        Some(Value::Array(list)) if list.first().is_some_and(Value::is_number) => {
            token_ids(list, |token| writers.text().has(token))?
        }
        prompt => work.tokens(text_of(prompt)?).await?,
    };
    let context = loaded.info.max_tokens;
    if tokens.len().saturating_add(most) > context {
        let message = format!(
            "the prompt has {} tokens and {most} are to be written (\"max_tokens\"), where {context} may be together",
            tokens.len()
        );
        let status = StatusCode::BAD_REQUEST;
        let refusal = Refusal::new(status, reason::TOO_MANY_TOKENS, message);
        return Err(refusal.about("max_tokens"));
    }
    let facts = Facts {
        id: format!("cmpl-{:032x}", rand::random::<u128>()),
        model: loaded.info.name.clone(),
        prompt_tokens: tokens.len(),
        most,
        seed: asked.seed,
        sampling,
        stops: stops.clone(),
    };
    let prompt = Prompt {
        tokens,
        most,
        sampling,
        stops,
    };
    let preprocess = read.elapsed();
    let generation = work.generate(prompt, facts, struck, start, preprocess)?;
    let how = match asked.stream {
        Some(true) => How::Streamed {
            usage: asked.stream_options.unwrap_or_default().include_usage == Some(true),
        },
        _ => How::Whole,
    };
    Ok((generation, how))
}

fn wrong(param: &str, message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, reason::WRONG_SHAPE, message).about(param)
}

impl Asked {
    /// Refuses what this service or this model cannot do.
    fn is_possible(&self, model: &str) -> Result<(), Refusal> {
        match &self.model {
            None => {
                return Err(wrong(
                    "model",
                    "\"model\" is missing; GET /v1/models names it",
                ));
            }
            Some(asked) if asked != model => {
                let message = format!("there is no model {asked:?}; this is {model:?}");
                let refusal = Refusal::new(StatusCode::NOT_FOUND, reason::NO_SUCH_MODEL, message);
                return Err(refusal.about("model"));
            }
            Some(_) => {}
        }
        let zero = |v: Option<f64>| v.is_none_or(|v| v == 0.0);
        let one = |v: Option<u64>| v.is_none_or(|v| v == 1);
        let no_bias = match &self.logit_bias {
            None => true,
            Some(Value::Object(map)) => map.is_empty(),
            Some(_) => false,
        };
        let unsupported = [
            ("n", one(self.n), "one text is written a request"),
            (
                "best_of",
                one(self.best_of),
                "one text is written a request",
            ),
            (
                "echo",
                self.echo != Some(true),
                "the prompt is not given back",
            ),
            (
                "logprobs",
                self.logprobs.is_none(),
                "log probabilities are not given",
            ),
            (
                "suffix",
                self.suffix.is_none(),
                "nothing is written between two texts",
            ),
            (
                "presence_penalty",
                zero(self.presence_penalty),
                "there are no penalties",
            ),
            (
                "frequency_penalty",
                zero(self.frequency_penalty),
                "there are no penalties",
            ),
            ("logit_bias", no_bias, "scores are not changed"),
            (
                "stream_options",
                self.stream_options.is_none() || self.stream == Some(true),
                "they belong to \"stream\": true",
            ),
        ];
        match unsupported.iter().find(|(_, fine, _)| !fine) {
            Some((param, _, why)) => Err(wrong(param, format!("{param:?}: {why}"))),
            None => Ok(()),
        }
    }

    fn sampling(&self) -> Result<Sampling, Refusal> {
        let temperature = self.temperature.unwrap_or(1.0);
        if !(0.0..=2.0).contains(&temperature) {
            let message = format!("\"temperature\" is {temperature}; from 0 to 2 is possible");
            return Err(wrong("temperature", message));
        }
        let top_p = self.top_p.unwrap_or(1.0);
        if !(top_p > 0.0 && top_p <= 1.0) {
            let message = format!("\"top_p\" is {top_p}; over 0, to 1 is possible");
            return Err(wrong("top_p", message));
        }
        Ok(Sampling {
            temperature: temperature as f32,
            // A share too small for a float of 32 bits is the best token alone, as the smallest one is.
            top_p: (top_p as f32).max(f32::MIN_POSITIVE),
            seed: self.seed.map_or_else(rand::random, i64::cast_unsigned),
        })
    }

    fn most(&self) -> Result<usize, Refusal> {
        let most = self.max_tokens.unwrap_or(MOST);
        match usize::try_from(most) {
            Ok(most) if most > 0 => Ok(most),
            _ => Err(wrong(
                "max_tokens",
                format!("\"max_tokens\" is {most}; at least 1"),
            )),
        }
    }

    fn stops(&self) -> Result<Vec<String>, Refusal> {
        let bad = || {
            let message = format!("\"stop\" must be a text or up to {STOPS} texts, none empty");
            wrong("stop", message)
        };
        let list = match &self.stop {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) if list.len() <= STOPS => &list[..],
            Some(one) => std::slice::from_ref(one),
        };
        let text = |value: &Value| value.as_str().filter(|s| !s.is_empty()).map(str::to_owned);
        list.iter()
            .map(|value| text(value).ok_or_else(bad))
            .collect()
    }
}

fn text_of(prompt: Option<&Value>) -> Result<String, Refusal> {
    let text = match prompt {
        Some(Value::String(text)) => Some(text),
        Some(Value::Array(list)) => match list.as_slice() {
            [Value::String(text)] => Some(text),
            _ => None,
        },
        _ => None,
    };
    match text {
        Some(text) if !text.is_empty() => Ok(text.clone()),
        Some(_) => {
            let refusal = Refusal::new(
                StatusCode::BAD_REQUEST,
                reason::EMPTY_TEXT,
                "\"prompt\" is empty",
            );
            Err(refusal.about("prompt"))
        }
        None => Err(wrong(
            "prompt",
            "\"prompt\" must be one text, or the tokens of one",
        )),
    }
}

fn token_ids(list: &[Value], known: impl Fn(u32) -> bool) -> Result<Vec<u32>, Refusal> {
    let token = |(at, value): (usize, &Value)| {
        let token = value.as_u64().and_then(|v| u32::try_from(v).ok());
        token.filter(|token| known(*token)).ok_or_else(|| {
            let message = format!("prompt[{at}] is no token of this model");
            wrong(&format!("prompt[{at}]"), message)
        })
    };
    list.iter().enumerate().map(token).collect()
}

/// Answers with the whole text.
async fn whole(mut generation: Generation) -> Result<Response, Refusal> {
    let mut all = String::new();
    let finish = loop {
        match generation.next().await {
            Step::Text(text) => all.push_str(&text),
            Step::Done(text, finish) => {
                all.push_str(&text);
                break finish;
            }
            Step::Broken(refusal) => return Err(refusal),
        }
    };
    let writer = Chunks::new(&generation);
    let mut body = writer.chunk(&all, Some(finish));
    body["usage"] = generation.usage();
    let mut response = Json(body).into_response();
    timing(&mut response, &generation);
    Ok(response)
}

/// Answers when the first token is there, so that a refusal until then is one, and goes on from there.
async fn stream(mut generation: Generation, usage: bool) -> Result<Response, Refusal> {
    let first = generation.next().await;
    if let Step::Broken(refusal) = first {
        return Err(refusal);
    }
    let timed = generation.server_timing();
    let streamed = Streamed::default();
    let chunks = Chunks::new(&generation);
    let events = Events::new(generation, chunks, first, usage, streamed.clone());
    let mut response = Body::new(events).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(value) = HeaderValue::from_str(&timed) {
        headers.insert(SERVER_TIMING, value);
    }
    response.extensions_mut().insert(streamed);
    Ok(response)
}

fn timing(response: &mut Response, generation: &Generation) {
    if let Ok(value) = HeaderValue::from_str(&generation.server_timing()) {
        response.headers_mut().insert(SERVER_TIMING, value);
    }
}

/// Writes the protocol's objects, of which all of an answer begin alike.
pub(super) struct Chunks {
    id: String,
    model: String,
    created: u64,
}

impl Chunks {
    fn new(generation: &Generation) -> Self {
        let facts = generation.facts();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Chunks {
            id: facts.id.clone(),
            model: facts.model.clone(),
            created: since.unwrap_or_default().as_secs(),
        }
    }

    pub(super) fn chunk(&self, text: &str, finish: Option<Finish>) -> Value {
        let choice = json!({
            "text": text, "index": 0, "logprobs": null, "finish_reason": finish.map(Finish::as_str),
        });
        self.with(&json!([choice]))
    }

    /// An object with `choices`.
    pub(super) fn with(&self, choices: &Value) -> Value {
        json!({
            "id": self.id, "object": "text_completion", "created": self.created, "model": self.model,
            "choices": choices,
        })
    }
}
