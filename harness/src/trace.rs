//! Client spans over OTLP. Export never slows the schedule: the queue is bounded and what does not
//! fit, or is not acknowledged, is counted as lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness_core::observation::{Observation, Outcome};
use harness_core::scenario::Scenario;
use harness_core::units::UnixNanos;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

/// Spans that may wait for export.
const QUEUE: usize = 16_384;
/// Spans in one export call.
const BATCH: usize = 512;
/// Longest a span waits for its batch to fill.
const DELAY: Duration = Duration::from_millis(500);

/// How many spans went which way.
#[derive(Debug, Default)]
pub struct ExportCounts {
    /// Handed in.
    pub offered: AtomicU64,
    /// Acknowledged by the collector.
    pub exported: AtomicU64,
}

/// Turns observations into client spans.
pub struct SpanMaker {
    names: Vec<(String, String, String)>,
    started: UnixNanos,
    run_id: String,
    /// Host of the target, without port.
    host: String,
}

impl SpanMaker {
    /// For one run against `target`, a base URL.
    #[must_use]
    pub fn new(scenario: &Scenario, started: UnixNanos, run_id: &str, target: &str) -> Self {
        let names = scenario
            .spec
            .requests
            .iter()
            .map(|request| {
                (
                    request.name.clone(),
                    request.method.clone(),
                    request.path.clone(),
                )
            })
            .collect();
        Self {
            names,
            started,
            run_id: run_id.into(),
            host: url::Url::parse(target)
                .ok()
                .and_then(|url| url.host_str().map(str::to_owned))
                .unwrap_or_default(),
        }
    }

    /// The client span of a request that was sent and sampled.
    #[must_use]
    pub fn span(&self, seen: &Observation) -> Option<Span> {
        let sent = seen.sent.filter(|_| seen.sampled)?;
        let (name, method, path) = self.names.get(usize::from(seen.request))?;
        let mut attributes = vec![
            text("http.request.method", method),
            text("server.address", &self.host),
            text("url.path", path),
            text("harness.run.id", &self.run_id),
            text("harness.request.name", name),
            text("harness.phase", &seen.phase.to_string()),
            number(
                "harness.request.id",
                i64::try_from(seen.id.0).unwrap_or(i64::MAX),
            ),
            number(
                "harness.lateness_us",
                i64::try_from(seen.lateness().0 / 1000).unwrap_or(i64::MAX),
            ),
        ];
        if let Some(code) = seen.status {
            attributes.push(number("http.response.status_code", i64::from(code)));
        }
        let failed = seen.outcome != Outcome::Expected;
        if failed {
            attributes.push(text("error.type", &format!("{:?}", seen.outcome)));
        }
        let code = if failed {
            status::StatusCode::Error
        } else {
            status::StatusCode::Unset
        };
        Some(Span {
            trace_id: seen.trace.0.to_vec(),
            span_id: seen.span.0.to_vec(),
            flags: 1,
            name: method.clone(),
            kind: SpanKind::Client.into(),
            start_time_unix_nano: self.started.plus(sent).0,
            end_time_unix_nano: self.started.plus(seen.done).0,
            attributes,
            status: Some(Status {
                message: seen.detail.clone().unwrap_or_default(),
                code: code.into(),
            }),
            ..Span::default()
        })
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// The way in to the exporter.
#[derive(Clone)]
pub struct SpanQueue {
    queue: mpsc::Sender<Span>,
    counts: Arc<ExportCounts>,
}

impl SpanQueue {
    /// Hands a span over if there is room; counts it either way.
    pub fn offer(&self, span: Span) {
        self.counts.offered.fetch_add(1, Ordering::Relaxed);
        let _ = self.queue.try_send(span);
    }
}

/// Starts the exporter to an OTLP/gRPC endpoint such as `http://127.0.0.1:4317`. The task ends when
/// every [`SpanQueue`] is gone and the last batch has been sent or given up.
///
/// # Errors
/// When the endpoint is not a URL.
pub fn start(endpoint: &str) -> Result<(SpanQueue, JoinHandle<()>, Arc<ExportCounts>), String> {
    let channel = Endpoint::from_shared(endpoint.to_owned())
        .map_err(|error| format!("`{endpoint}` is no OTLP/gRPC endpoint: {error}"))?
        .connect_timeout(Duration::from_secs(2))
        .timeout(Duration::from_secs(5))
        .connect_lazy();
    let (queue, spans) = mpsc::channel(QUEUE);
    let counts = Arc::new(ExportCounts::default());
    let task = tokio::spawn(export(
        spans,
        TraceServiceClient::new(channel),
        Arc::clone(&counts),
    ));
    Ok((
        SpanQueue {
            queue,
            counts: Arc::clone(&counts),
        },
        task,
        counts,
    ))
}

async fn export(
    mut spans: mpsc::Receiver<Span>,
    mut client: TraceServiceClient<Channel>,
    counts: Arc<ExportCounts>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let deadline = tokio::time::Instant::now() + DELAY;
        let mut open = true;
        while batch.len() < BATCH {
            match tokio::time::timeout_at(deadline, spans.recv()).await {
                Ok(Some(span)) => batch.push(span),
                Ok(None) => {
                    open = false;
                    break;
                }
                Err(_) => break,
            }
        }
        if !batch.is_empty() {
            let sent = batch.len() as u64;
            match client.export(request(std::mem::take(&mut batch))).await {
                Ok(answer) => {
                    let rejected = answer
                        .into_inner()
                        .partial_success
                        .map_or(0, |p| p.rejected_spans);
                    let rejected = u64::try_from(rejected).unwrap_or(0);
                    counts
                        .exported
                        .fetch_add(sent.saturating_sub(rejected), Ordering::Relaxed);
                }
                Err(error) => tracing::warn!(spans = sent, %error, "client spans lost"),
            }
        }
        if !open {
            return;
        }
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource = Resource {
        attributes: vec![
            text("service.name", "harness"),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope {
        name: "harness".into(),
        ..InstrumentationScope::default()
    };
    let scope_spans = vec![ScopeSpans {
        scope: Some(scope),
        spans,
        ..ScopeSpans::default()
    }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans,
            ..ResourceSpans::default()
        }],
    }
}
