//! The Open Inference Protocol, version 2, over HTTP (KServe, Triton): health, metadata, inference.
//!
//! One input `text` of `BYTES`; outputs `label` and `scores` of a classifier, `embedding` of an encoder.
//! Tensors have no place for one document's error beside another's result, so a request with a text that
//! cannot be read is refused as a whole, naming which.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{self, Format};
use super::error::{Refusal, Shape};
use super::predict::refused;
use super::work::{Done, Work};
use super::{Loaded, Service};
use crate::model::{ModelInfo, Prediction};
use crate::telemetry::names::reason;

#[derive(Debug, Deserialize)]
struct Body {
    id: Option<String>,
    inputs: Vec<Input>,
    outputs: Option<Vec<Output>>,
}

#[derive(Debug, Deserialize)]
struct Input {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    data: Value,
}

#[derive(Debug, Deserialize)]
struct Output {
    name: String,
}

const EXPECTED: &str = "{\"inputs\": [{\"name\": \"text\", \"shape\": [1], \"datatype\": \"BYTES\", \
                        \"data\": [\"...\"]}]}";

/// A tensor that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tensor {
    Label,
    Scores,
    Embedding,
}

impl Tensor {
    /// Those that a model has, in the order in which they are given.
    fn all(info: &ModelInfo) -> Vec<Tensor> {
        let mut all = Vec::new();
        if !info.labels.is_empty() {
            all.extend([Tensor::Label, Tensor::Scores]);
        }
        if info.dimensions > 0 {
            all.push(Tensor::Embedding);
        }
        all
    }

    fn name(self) -> &'static str {
        match self {
            Tensor::Label => "label",
            Tensor::Scores => "scores",
            Tensor::Embedding => "embedding",
        }
    }

    fn datatype(self) -> &'static str {
        match self {
            Tensor::Label => "BYTES",
            Tensor::Scores | Tensor::Embedding => "FP32",
        }
    }

    /// The shape for `documents`, which is -1 where their number is open.
    fn shape(self, info: &ModelInfo, documents: i64) -> Vec<i64> {
        let width = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        match self {
            Tensor::Label => vec![documents],
            Tensor::Scores => vec![documents, width(info.labels.len())],
            Tensor::Embedding => vec![documents, width(info.dimensions)],
        }
    }

    fn data(self, info: &ModelInfo, predictions: &[&Prediction]) -> Value {
        match self {
            Tensor::Label => predictions
                .iter()
                .map(|p| json!(info.labels.get(p.best())))
                .collect(),
            Tensor::Scores => predictions
                .iter()
                .flat_map(|p| &p.scores)
                .map(|v| json!(v))
                .collect(),
            Tensor::Embedding => predictions
                .iter()
                .flat_map(|p| &p.embedding)
                .map(|v| json!(v))
                .collect(),
        }
    }
}

pub(super) async fn server() -> Response {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    Json(json!({ "name": name, "version": version, "extensions": [] })).into_response()
}

pub(super) async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

pub(super) async fn ready(State(service): State<Arc<Service>>) -> Response {
    let ready = service.state().is_ok();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "ready": ready }))).into_response()
}

/// `{model}` or `{model}/versions/{version}` of a path.
type Named = Path<Vec<String>>;

pub(super) async fn model(State(service): State<Arc<Service>>, Path(named): Named) -> Response {
    let metadata = || -> Result<Response, Refusal> {
        let info = &find(&service, &named)?.info;
        let tensor = |name: &str, datatype: &str, shape: Vec<i64>| json!({ "name": name, "datatype": datatype, "shape": shape });
        let outputs: Vec<Value> = Tensor::all(info)
            .into_iter()
            .map(|t| tensor(t.name(), t.datatype(), t.shape(info, -1)))
            .collect();
        let body = json!({
            "name": info.name, "versions": [info.revision], "platform": "target-service",
            "inputs": [tensor("text", "BYTES", vec![-1])], "outputs": outputs,
        });
        Ok(Json(body).into_response())
    };
    metadata().unwrap_or_else(|refusal| refused(&service, refusal, Shape::OpenInference))
}

pub(super) async fn model_ready(
    State(service): State<Arc<Service>>,
    Path(named): Named,
) -> Response {
    match find(&service, &named) {
        Ok(loaded) => {
            let ready = service.state().is_ok();
            let status = if ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            (
                status,
                Json(json!({ "name": loaded.info.name, "ready": ready })),
            )
                .into_response()
        }
        Err(refusal) => refused(&service, refusal, Shape::OpenInference),
    }
}

pub(super) async fn infer(
    State(service): State<Arc<Service>>,
    Path(named): Named,
    request: Request,
) -> Response {
    match run(&service, &named, request).await {
        Ok(response) => response,
        Err(refusal) => refused(&service, refusal, Shape::OpenInference),
    }
}

/// The model of this name and, where one is given, version.
fn find<'a>(service: &'a Service, named: &[String]) -> Result<&'a Loaded, Refusal> {
    let loaded = service.loaded_or_refused()?;
    let info = &loaded.info;
    let (name, version) = (named.first(), named.get(1));
    if name == Some(&info.name) && version.is_none_or(|version| *version == info.revision) {
        return Ok(loaded);
    }
    let asked = named.join(", version ");
    let message = format!(
        "there is no model {asked}; this is {}, version {}",
        info.name, info.revision
    );
    Err(Refusal::new(
        StatusCode::NOT_FOUND,
        reason::NO_SUCH_MODEL,
        message,
    ))
}

async fn run(
    service: &Arc<Service>,
    named: &[String],
    request: Request,
) -> Result<Response, Refusal> {
    let work = Work::begin(service, &request)?;
    let loaded = find(service, named)?;
    loaded.encoder()?;
    let info = &loaded.info;
    Format::only_json(request.headers())?;
    let body = work.body(request).await?;
    let body: Body = body::json(&body, EXPECTED).map_err(|refusal| Refusal {
        status: StatusCode::BAD_REQUEST,
        ..refusal
    })?;
    let wanted = outputs(&body, info)?;
    let texts = texts(&body)?;
    let done = work.predict(texts).await?;
    work.respond(done, |loaded, done| render(loaded, done, &wanted, body.id))
        .await
}

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, reason::WRONG_SHAPE, message)
}

/// The outputs asked for, or all there are.
fn outputs(body: &Body, info: &ModelInfo) -> Result<Vec<Tensor>, Refusal> {
    let all = Tensor::all(info);
    let Some(asked) = &body.outputs else {
        return Ok(all);
    };
    let find = |output: &Output| {
        let found = all
            .iter()
            .find(|tensor| tensor.name() == output.name)
            .copied();
        let names: Vec<&str> = all.iter().map(|tensor| tensor.name()).collect();
        found.ok_or_else(|| {
            wrong(format!(
                "there is no output {:?}; there are {}",
                output.name,
                names.join(", ")
            ))
        })
    };
    asked.iter().map(find).collect()
}

/// The texts in the order of the tensor's elements, however its data is nested.
fn texts(body: &Body) -> Result<Vec<String>, Refusal> {
    let [input] = body.inputs.as_slice() else {
        let count = body.inputs.len();
        return Err(wrong(format!("{count} inputs; expected one, \"text\"")));
    };
    if input.name != "text" || input.datatype != "BYTES" {
        let Input { name, datatype, .. } = input;
        return Err(wrong(format!(
            "input {name:?} of {datatype:?}; expected \"text\" of \"BYTES\""
        )));
    }
    let mut texts = Vec::new();
    flatten(&input.data, &mut texts)?;
    let elements = input
        .shape
        .iter()
        .try_fold(1u64, |all, n| all.checked_mul(*n));
    if elements != Some(texts.len() as u64) || texts.is_empty() {
        return Err(wrong(format!(
            "input \"text\" has the shape {:?} and {} texts; both must say the same, at least one",
            input.shape,
            texts.len()
        )));
    }
    if let Some(at) = texts.iter().position(|text| text.trim().is_empty()) {
        let message = format!("input \"text\": element {at} has no text");
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            reason::EMPTY_TEXT,
            message,
        ));
    }
    Ok(texts)
}

fn flatten(value: &Value, to: &mut Vec<String>) -> Result<(), Refusal> {
    match value {
        Value::String(text) => to.push(text.clone()),
        Value::Array(list) => list.iter().try_for_each(|value| flatten(value, to))?,
        _ => {
            let at = to.len();
            return Err(wrong(format!("input \"text\": element {at} is no string")));
        }
    }
    Ok(())
}

fn render(
    loaded: &Loaded,
    done: &Done,
    wanted: &[Tensor],
    id: Option<String>,
) -> Result<Response, Refusal> {
    let info = &loaded.info;
    let mut predictions = Vec::with_capacity(done.outcomes.len());
    for (at, outcome) in done.outcomes.iter().enumerate() {
        predictions.push(outcome.as_ref().map_err(|refusal| Refusal {
            message: format!("element {at}: {}", refusal.message),
            ..refusal.clone()
        })?);
    }
    let documents = i64::try_from(predictions.len()).unwrap_or(i64::MAX);
    let outputs: Vec<Value> = wanted
        .iter()
        .map(|tensor| {
            json!({
                "name": tensor.name(), "datatype": tensor.datatype(),
                "shape": tensor.shape(info, documents), "data": tensor.data(info, &predictions),
            })
        })
        .collect();
    let mut body = json!({
        "model_name": info.name, "model_version": info.revision, "outputs": outputs,
    });
    if let Some(id) = id {
        body["id"] = id.into();
    }
    Ok(Json(body).into_response())
}
