//! Client spans over OTLP. Export never slows the schedule: the queue is bounded and what does not
//! fit, or is not acknowledged, is counted as lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness_core::observation::{Observation, Outcome};
use harness_core::scenario::Scenario;
use harness_core::units::UnixNanos;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status,
};
use prost::Message as _;
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
    port: i64,
    /// The base URL, without credentials and without a slash at its end.
    base: String,
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
        let url = url::Url::parse(target).ok();
        let port = url.as_ref().and_then(url::Url::port_or_known_default);
        let host = url
            .as_ref()
            .and_then(|url| url.host_str().map(str::to_owned));
        Self {
            names,
            started,
            run_id: run_id.into(),
            host: host.unwrap_or_default(),
            port: port.map_or(0, i64::from),
            base: crate::backends::without_credentials(target)
                .trim_end_matches('/')
                .to_owned(),
        }
    }

    /// The client span of a request that was sent and sampled.
    #[must_use]
    pub fn span(&self, seen: &Observation) -> Option<Span> {
        let sent = seen.sent().filter(|_| seen.sampled)?;
        let (name, method, path) = self.names.get(usize::from(seen.request))?;
        let mut attributes = vec![
            text("http.request.method", method),
            text("server.address", &self.host),
            number("server.port", self.port),
            text("url.full", &format!("{}{path}", self.base)),
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
            // The span runs from sent; what is judged runs from due.
            number(
                "harness.latency_us",
                i64::try_from(seen.latency().0 / 1000).unwrap_or(i64::MAX),
            ),
        ];
        if let Some(code) = seen.status {
            attributes.push(number("http.response.status_code", i64::from(code)));
        }
        let failed = seen.outcome != Outcome::Expected;
        if failed {
            // The status where that is what was wrong, by the conventions; else the outcome's name.
            let status = seen
                .status
                .filter(|_| seen.outcome == Outcome::UnexpectedStatus);
            let kind = status.map_or_else(|| seen.outcome.name().to_owned(), |s| s.to_string());
            attributes.push(text("error.type", &kind));
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
                message: seen.detail().unwrap_or_default().to_owned(),
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

/// Where spans go.
enum Collector {
    Grpc(TraceServiceClient<Channel>),
    Http {
        client: reqwest::Client,
        url: String,
    },
}

/// Whether an OTLP endpoint is one of OTLP/HTTP: it then names the signal's path, as
/// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` does.
#[must_use]
pub fn is_http(endpoint: &str) -> bool {
    endpoint.trim_end_matches('/').ends_with("/v1/traces")
}

/// Starts the exporter: over gRPC to an endpoint such as `http://127.0.0.1:4317`, over HTTP (protobuf)
/// to one such as `http://127.0.0.1:4318/v1/traces`. The task ends when every [`SpanQueue`] is gone and
/// the last batch has been sent or given up.
///
/// # Errors
/// When the endpoint is not a URL.
pub fn start(endpoint: &str) -> Result<(SpanQueue, JoinHandle<()>, Arc<ExportCounts>), String> {
    let collector = Collector::new(endpoint)
        .map_err(|error| format!("`{endpoint}` is no OTLP endpoint: {error}"))?;
    let (queue, spans) = mpsc::channel(QUEUE);
    let counts = Arc::new(ExportCounts::default());
    let task = tokio::spawn(export(spans, collector, Arc::clone(&counts)));
    Ok((
        SpanQueue {
            queue,
            counts: Arc::clone(&counts),
        },
        task,
        counts,
    ))
}

impl Collector {
    fn new(endpoint: &str) -> Result<Self, String> {
        let within = Duration::from_secs(5);
        if is_http(endpoint) {
            let url = url::Url::parse(endpoint).map_err(|error| error.to_string())?;
            let client = reqwest::Client::builder().timeout(within).build();
            return Ok(Self::Http {
                client: client.map_err(|error| error.to_string())?,
                url: url.into(),
            });
        }
        let channel = Endpoint::from_shared(endpoint.to_owned())
            .map_err(|error| error.to_string())?
            .connect_timeout(Duration::from_secs(2))
            .timeout(within)
            .connect_lazy();
        Ok(Self::Grpc(TraceServiceClient::new(channel)))
    }

    /// Hands spans over; how many of them were rejected.
    async fn export(&mut self, spans: ExportTraceServiceRequest) -> Result<i64, String> {
        let answer = match self {
            Self::Grpc(client) => {
                let answer = client.export(spans).await;
                answer.map_err(|status| status.to_string())?.into_inner()
            }
            Self::Http { client, url } => {
                let request = client
                    .post(url.as_str())
                    .header("content-type", "application/x-protobuf")
                    .body(spans.encode_to_vec());
                let answer = request.send().await.map_err(|error| error.to_string())?;
                let answer = answer
                    .error_for_status()
                    .map_err(|error| error.to_string())?;
                let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
                ExportTraceServiceResponse::decode(bytes).map_err(|error| error.to_string())?
            }
        };
        Ok(answer
            .partial_success
            .map_or(0, |partial| partial.rejected_spans))
    }
}

async fn export(
    mut spans: mpsc::Receiver<Span>,
    mut collector: Collector,
    counts: Arc<ExportCounts>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let deadline = tokio::time::Instant::now() + DELAY;
        let mut open = true;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            match tokio::time::timeout_at(deadline, spans.recv_many(&mut batch, room)).await {
                Ok(0) => {
                    open = false;
                    break;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        if !batch.is_empty() {
            let sent = batch.len() as u64;
            match collector.export(request(std::mem::take(&mut batch))).await {
                Ok(rejected) => {
                    let taken = sent.saturating_sub(u64::try_from(rejected).unwrap_or(0));
                    counts.exported.fetch_add(taken, Ordering::Relaxed);
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// A collector that takes one export over HTTP, rejects a span of it, and gives back what it got.
    fn collector() -> (String, std::thread::JoinHandle<ExportTraceServiceRequest>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut read = Vec::new();
            let (head, length) = loop {
                let mut bytes = [0; 4096];
                let more = socket.read(&mut bytes).unwrap();
                read.extend_from_slice(&bytes[..more]);
                let text = String::from_utf8_lossy(&read).to_lowercase();
                if let Some(end) = text.find("\r\n\r\n") {
                    let length = text.split("content-length: ").nth(1).unwrap();
                    let length: usize = length.lines().next().unwrap().parse().unwrap();
                    break (end + 4, length);
                }
            };
            while read.len() < head + length {
                let mut bytes = [0; 4096];
                let more = socket.read(&mut bytes).unwrap();
                read.extend_from_slice(&bytes[..more]);
            }
            let mut answer = ExportTraceServiceResponse::default();
            answer
                .partial_success
                .get_or_insert_default()
                .rejected_spans = 1;
            let body = answer.encode_to_vec();
            write!(
                socket,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                body.len()
            )
            .unwrap();
            socket.write_all(&body).unwrap();
            ExportTraceServiceRequest::decode(&read[head..]).unwrap()
        });
        (url, thread)
    }

    #[tokio::test]
    async fn spans_go_over_http_and_what_is_rejected_is_not_taken_for_exported() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (url, thread) = collector();
        let (queue, exporting, counts) = start(&url).unwrap();
        for _ in 0..3 {
            queue.offer(Span::default());
        }
        drop(queue);
        exporting.await.unwrap();
        let got = thread.join().unwrap();
        assert_eq!(got.resource_spans[0].scope_spans[0].spans.len(), 3);
        assert_eq!(counts.offered.load(Ordering::Relaxed), 3);
        assert_eq!(counts.exported.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_full_queue_loses_spans_and_counts_them_instead_of_waiting() {
        // Nobody takes anything: the address is of a listener that is gone.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let (queue, exporting, counts) = start(&url).unwrap();
        let offered = QUEUE as u64 + 100;
        for _ in 0..offered {
            queue.offer(Span::default());
        }
        exporting.abort();
        assert_eq!(counts.offered.load(Ordering::Relaxed), offered);
        assert_eq!(counts.exported.load(Ordering::Relaxed), 0);
    }
}
