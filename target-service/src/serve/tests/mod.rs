//! The routers with a scripted model, and the run from listeners to a clean stop.

mod answers;
mod completions;
mod drain;
mod observed;
mod protocols;
mod trouble;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use opentelemetry::{Context, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use serde_json::Value as Json;
use tower::ServiceExt;

use super::*;
use crate::config::ConnectionLimits;
use crate::engine::Settings;
use crate::engine::scripted::{Bytes, Gate, LABELS, Scripted};
use crate::telemetry::{Identity, Metrics, Sink};

/// Keeps what it is given.
#[derive(Debug)]
pub(super) struct Kept<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(Arc::default())
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Kept(self.0.clone())
    }
}

impl<T: Clone> Kept<T> {
    fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().clone()
    }
}

impl SpanProcessor for Kept<SpanData> {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Sink for Kept<Line> {
    fn emit(&self, line: Line) {
        self.0.lock().unwrap().push(line);
    }

    fn shutdown(&self, _: Duration) {}
}

/// How a service under test differs from the usual one.
pub(super) struct Setup {
    gate: Arc<Gate>,
    capacity: usize,
    deadline: Duration,
    max_body: usize,
    connections: ConnectionLimits,
    allow_faults: bool,
    loaded: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            gate: Gate::open(),
            capacity: 8,
            deadline: Duration::from_secs(600),
            max_body: 10_000,
            connections: ConnectionLimits {
                most: 100,
                idle: Duration::from_secs(600),
            },
            allow_faults: true,
            loaded: true,
        }
    }
}

/// A service under test and what it said.
pub(super) struct Fixture {
    service: Arc<Service>,
    gate: Arc<Gate>,
    capacity: usize,
    spans: Kept<SpanData>,
    logs: Kept<Line>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    fn error_type(&self) -> String {
        self.json()["error"]["type"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Setup {
    pub(super) fn start(self) -> Fixture {
        let faults = Arc::new(Faults::default());
        let metrics = Arc::new(Metrics::for_tests());
        let (spans, logs) = (Kept::default(), Kept::default());
        let mut telemetry = Telemetry::assemble(
            metrics,
            Identity::for_tests(),
            Some(Box::new(spans.clone())),
            Arc::new(logs.clone()),
        );
        telemetry.baggage = vec!["tenant".to_owned(), "absent".to_owned()];
        let limits = RequestLimits {
            deadline: self.deadline,
            max_body: self.max_body,
            max_documents: 4,
            connections: self.connections,
        };
        let service = Service::new(telemetry, faults, limits, self.allow_faults);
        let fixture = Fixture {
            service,
            gate: self.gate,
            capacity: self.capacity,
            spans,
            logs,
        };
        if self.loaded {
            fixture.load();
        }
        fixture
    }
}

impl Fixture {
    fn load(&self) {
        let settings = Settings {
            max_batch: 4,
            max_batch_tokens: 1000,
            capacity: self.capacity,
            max_hold: Duration::ZERO,
        };
        let engine = Box::new(Scripted::new(self.gate.clone()));
        let metrics = self.service.telemetry.metrics.clone();
        let pool =
            Pool::start(vec![engine], settings, metrics, self.service.faults.clone()).unwrap();
        let info = ModelInfo {
            name: "scripted".to_owned(),
            revision: "0".to_owned(),
            labels: LABELS.map(str::to_owned).to_vec(),
            dimensions: 2,
            max_tokens: 1000,
        };
        self.service.make_ready(Loaded {
            workers: Workers::Encoder {
                pool,
                preprocess: Arc::new(Bytes),
            },
            info,
            load: Duration::from_secs(1),
        });
    }

    fn metrics(&self) -> &Metrics {
        &self.service.telemetry.metrics
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        read(router(self.service.clone()).oneshot(request).await.unwrap()).await
    }

    async fn admin(&self, method: &str, path: &str, body: &str) -> Reply {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::from(body.to_owned())).unwrap();
        read(
            admin_router(self.service.clone())
                .oneshot(request)
                .await
                .unwrap(),
        )
        .await
    }

    async fn predict(&self, text: &str) -> Reply {
        self.send(post(text)).await
    }

    /// A request on a task of its own.
    fn spawn(&self, text: &str) -> tokio::task::JoinHandle<Reply> {
        let router = router(self.service.clone());
        let request = post(text);
        tokio::spawn(async move { read(router.oneshot(request).await.unwrap()).await })
    }

    /// Waits until `n` requests are in the queue.
    async fn queued(&self, n: i64) {
        while self.metrics().queue_depth.get() != n {
            tokio::task::yield_now().await;
        }
    }

    /// A request that holds the worker at the gate.
    async fn occupy(&self) -> tokio::task::JoinHandle<Reply> {
        let busy = self.spawn("a");
        let gate = self.gate.clone();
        tokio::task::spawn_blocking(move || gate.wait_for(1))
            .await
            .unwrap();
        busy
    }

    fn requests_logged(&self) -> Vec<Line> {
        self.logs
            .all()
            .into_iter()
            .filter(|l| l.event == event::REQUEST)
            .collect()
    }

    fn counted(&self, method: &str, route: &str, status: &str) -> u64 {
        let duration = &self.metrics().request_duration;
        duration
            .with_label_values(&[method, route, status])
            .get_sample_count()
    }
}

fn post(text: &str) -> Request<Body> {
    let request = Request::post(PREDICT).header("content-type", "text/plain; charset=utf-8");
    request.body(Body::from(text.to_owned())).unwrap()
}

async fn read(response: Response) -> Reply {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Reply {
        status: parts.status,
        headers: parts.headers,
        text,
    }
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes
        .iter()
        .find(|kv| kv.key.as_str() == key)
        .map(|kv| &kv.value)
}
