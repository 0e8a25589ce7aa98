//! HTTP: routes, and the service they share. [`run()`] takes bound listeners and a future that says
//! when to stop, so that tests use free ports and stop cleanly.

mod admin;
mod body;
mod completions;
mod connections;
mod error;
mod generation;
mod inference_v2;
mod observe;
mod openai;
mod predict;
mod run;
mod stream;
#[cfg(test)]
mod tests;
mod work;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{StatusCode, Uri, header};
use opentelemetry::KeyValue;
use opentelemetry::logs::Severity;
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;

pub use error::{Refusal, Shape};
pub use run::{Listeners, Stopped, run};

use crate::config::RequestLimits;
use crate::engine::{Pool, Writers};
use crate::faults::Faults;
use crate::model::{ModelInfo, Preprocess};
use crate::telemetry::names::{EMBEDDINGS, TEXT_COMPLETION, event, reason};
use crate::telemetry::{Line, Telemetry};

/// Route of predictions.
pub const PREDICT: &str = "/predict";
/// Route that says whether the process lives.
pub const HEALTHZ: &str = "/healthz";
/// Route that says whether it wants requests.
pub const READYZ: &str = "/readyz";

/// The workers of a model, by what it does.
pub enum Workers {
    /// Judges documents.
    Encoder {
        /// The workers.
        pool: Pool,
        /// Text to model input.
        preprocess: Arc<dyn Preprocess>,
    },
    /// Writes texts.
    Causal(Writers),
}

/// A model at work.
pub struct Loaded {
    /// Its workers.
    pub workers: Workers,
    /// What it is.
    pub info: ModelInfo,
    /// From reading its files to warm workers.
    pub load: Duration,
}

impl Loaded {
    fn encoder(&self) -> Result<(&Pool, &Arc<dyn Preprocess>), Refusal> {
        match &self.workers {
            Workers::Encoder { pool, preprocess } => Ok((pool, preprocess)),
            Workers::Causal(_) => Err(unsupported(
                "this model writes texts; ask it by /v1/completions",
            )),
        }
    }

    fn writers(&self) -> Result<&Writers, Refusal> {
        match &self.workers {
            Workers::Causal(writers) => Ok(writers),
            Workers::Encoder { .. } => Err(unsupported("this model writes no texts")),
        }
    }

    /// What it is asked for, by the `GenAI` conventions.
    fn operation(&self) -> &'static str {
        match self.workers {
            Workers::Encoder { .. } => EMBEDDINGS,
            Workers::Causal(_) => TEXT_COMPLETION,
        }
    }

    /// Lets nothing more in and finishes what waits. Blocks.
    fn close(&self) {
        match &self.workers {
            Workers::Encoder { pool, .. } => pool.close(),
            Workers::Causal(writers) => writers.close(),
        }
    }
}

fn unsupported(message: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, reason::UNSUPPORTED, message)
}

/// What all requests share.
pub struct Service {
    telemetry: Telemetry,
    faults: Arc<Faults>,
    limits: RequestLimits,
    allow_faults: bool,
    loaded: OnceLock<Loaded>,
    draining: AtomicBool,
}

impl Service {
    /// A service without a model: alive, not ready.
    pub fn new(
        telemetry: Telemetry,
        faults: Arc<Faults>,
        limits: RequestLimits,
        allow_faults: bool,
    ) -> Arc<Service> {
        Arc::new(Service {
            telemetry,
            faults,
            limits,
            allow_faults,
            loaded: OnceLock::new(),
            draining: AtomicBool::new(false),
        })
    }

    /// Takes up work with `loaded`. A second call changes nothing.
    pub fn make_ready(&self, loaded: Loaded) {
        let (info, load) = (loaded.info.clone(), loaded.load);
        let operation = loaded.operation();
        if self.loaded.set(loaded).is_ok() {
            self.telemetry
                .metrics
                .show_model(&info.name, &info.revision, operation, load);
            let attributes = vec![
                KeyValue::new("model.name", info.name),
                KeyValue::new("model.revision", info.revision),
            ];
            self.log(Severity::Info, event::READY, attributes);
        }
    }

    /// What the service tells its observers.
    pub fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    fn loaded(&self) -> Option<&Loaded> {
        self.loaded.get()
    }

    /// The model, or a refusal that tells to come back.
    fn loaded_or_refused(&self) -> Result<&Loaded, Refusal> {
        self.loaded().ok_or_else(|| {
            let message = "the model is not loaded yet; /readyz tells when it is";
            Refusal::busy(reason::NOT_READY, message, Duration::from_secs(1))
        })
    }

    /// Whether requests are wanted, and if not, why.
    fn state(&self) -> Result<(), &'static str> {
        if self.draining.load(Ordering::Acquire) {
            Err("draining")
        } else if self.loaded().is_none() {
            Err("loading")
        } else {
            Ok(())
        }
    }

    fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
        self.log(Severity::Info, event::DRAINING, Vec::new());
    }

    fn log(&self, severity: Severity, event: &'static str, attributes: Vec<KeyValue>) {
        let time = SystemTime::now();
        self.telemetry.logs.emit(Line {
            time,
            severity,
            event,
            span: None,
            attributes,
        });
    }
}

/// The routes of the first listener.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route(PREDICT, post(predict::predict))
        .route("/embed", post(predict::embed))
        .route("/v1/embeddings", post(openai::embeddings))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/models", get(openai::models))
        .route("/v2", get(inference_v2::server))
        .route("/v2/health/live", get(inference_v2::live))
        .route("/v2/health/ready", get(inference_v2::ready))
        .route("/v2/models/{model}", get(inference_v2::model))
        .route("/v2/models/{model}/ready", get(inference_v2::model_ready))
        .route("/v2/models/{model}/infer", post(inference_v2::infer))
        .route(
            "/v2/models/{model}/versions/{version}",
            get(inference_v2::model),
        )
        .route(
            "/v2/models/{model}/versions/{version}/ready",
            get(inference_v2::model_ready),
        )
        .route(
            "/v2/models/{model}/versions/{version}/infer",
            post(inference_v2::infer),
        )
        .route("/openapi.json", get(openapi))
        .route(HEALTHZ, get(healthz))
        .route(READYZ, get(readyz))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        // The panic is caught inside of the observation, so that it is counted as what it is.
        .layer(CatchPanicLayer::custom(panicked))
        .layer(axum::middleware::from_fn_with_state(
            service.clone(),
            observe::observe,
        ))
        .with_state(service)
}

/// The routes of the second listener.
pub fn admin_router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/metrics", get(admin::metrics))
        .route(
            "/faults",
            get(admin::list_faults)
                .post(admin::start_fault)
                .delete(admin::clear_faults),
        )
        .route(HEALTHZ, get(healthz))
        .route(READYZ, get(readyz))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(service)
}

async fn healthz() -> Response {
    Json(json!({ "status": "alive" })).into_response()
}

async fn readyz(State(service): State<Arc<Service>>) -> Response {
    match service.state() {
        Ok(()) => Json(json!({ "status": "ready" })).into_response(),
        Err(status) => {
            let status = Json(json!({ "status": status }));
            (StatusCode::SERVICE_UNAVAILABLE, status).into_response()
        }
    }
}

/// What there is, for people and for generators of clients.
const OPENAPI: &str = include_str!("openapi.json");

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn not_found(uri: Uri) -> Refusal {
    let message = "no such path; GET /openapi.json describes those there are";
    Refusal::new(StatusCode::NOT_FOUND, reason::NOT_FOUND, message)
        .shaped(Shape::of_path(uri.path()))
}

async fn method_not_allowed(uri: Uri) -> Refusal {
    let message = "this path does not have this method; the Allow header names those it has";
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        reason::METHOD_NOT_ALLOWED,
        message,
    )
    .shaped(Shape::of_path(uri.path()))
}

// The signature is tower-http's.
#[allow(clippy::needless_pass_by_value)]
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Refusal::new(status, reason::INTERNAL, "the handler panicked").into_response()
}
