//! One request of the load: sent once, never retried, its instants taken.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harness_core::observation::{Observation, Outcome};
use harness_core::request::{Answer, Captured, Planner, RequestPlan};
use harness_core::schedule::Arrival;
use harness_core::units::Nanos;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::drive::Exchange as Exchanger;

/// Most bytes of one answer that are read; a longer one counts as a protocol error.
pub const MAX_ANSWER: usize = 16 << 20;

/// Waits for a connection because all of `maxConnections` were in use.
#[derive(Debug, Default)]
pub struct ConnectionWaits {
    /// How many requests waited.
    pub count: AtomicU64,
    /// Nanoseconds waited in all.
    pub nanos: AtomicU64,
}

/// What all requests of a run share.
pub struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Base URL without a trailing slash.
    base: String,
    timeout: Duration,
    connections: Option<Arc<Semaphore>>,
    clock: Clock,
    planner: Arc<Planner>,
    baggage: http::HeaderValue,
    waits: ConnectionWaits,
}

/// How the exchange of one request went, before the answer is looked at.
enum Exchange {
    Answered {
        status: u16,
        first_byte: Nanos,
        headers: http::HeaderMap,
        body: Bytes,
    },
    Failed {
        outcome: Outcome,
        first_byte: Option<Nanos>,
        status: Option<u16>,
        detail: String,
    },
}

impl Sender {
    /// A sender for `base`, e.g. `http://127.0.0.1:3010`.
    #[must_use]
    pub fn new(
        base: &str,
        timeout: Duration,
        max_connections: Option<u32>,
        clock: Clock,
        planner: Arc<Planner>,
        run_id: &str,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(30)));
        let client = Client::builder(TokioExecutor::new())
            // A request of the load is never retried, also not silently on a connection found dead.
            .retry_canceled_requests(false)
            .pool_max_idle_per_host(usize::MAX)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let baggage = http::HeaderValue::from_str(&format!("harness.run.id={run_id}"))
            .unwrap_or_else(|_| http::HeaderValue::from_static(""));
        Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
            timeout,
            connections: max_connections.map(|most| Arc::new(Semaphore::new(most as usize))),
            clock,
            planner,
            baggage,
            waits: ConnectionWaits::default(),
        }
    }

    /// Waits for connections so far.
    #[must_use]
    pub fn waits(&self) -> &ConnectionWaits {
        &self.waits
    }

    /// Sends one request and waits for its outcome, at most until the timeout from its due instant,
    /// or until `kill`. With it come the values that later steps of its flow use.
    async fn send(
        &self,
        arrival: Arrival,
        captured: &Captured,
        kill: &CancellationToken,
    ) -> (Observation, Vec<(String, serde_json::Value)>) {
        let plan = self.planner.plan_step(&arrival, captured);
        let deadline =
            tokio::time::Instant::from_std(self.clock.instant(arrival.due) + self.timeout);
        let mut sent = None;
        let exchange = tokio::select! {
            biased;
            () = kill.cancelled() => Exchange::failed(Outcome::Unfinished, "still out when the run ended"),
            exchange = tokio::time::timeout_at(deadline, self.exchange(&plan, &mut sent)) => exchange
                .unwrap_or_else(|_| Exchange::failed(
                    Outcome::Timeout,
                    &format!("no complete answer within {} ms of the due instant", self.timeout.as_millis()),
                )),
        };
        match exchange {
            Exchange::Answered {
                status,
                first_byte,
                headers,
                body,
            } => {
                let done = self.clock.now();
                let header = |name: &str| {
                    let value = headers.get(name)?.as_bytes();
                    Some(String::from_utf8_lossy(value).into_owned())
                };
                let judged = self.planner.judge(
                    &plan,
                    &Answer {
                        status,
                        header: &header,
                        body: &body,
                        latency: done.since(arrival.due),
                    },
                );
                let bytes = body.len() as u64;
                let mut seen = self.observe(
                    &arrival,
                    &plan,
                    sent,
                    Some(first_byte),
                    judged.outcome,
                    Some(status),
                    bytes,
                    judged.correct,
                    judged.detail,
                );
                // Looking at the answer is our work, not the service's.
                seen.done = done;
                (seen, judged.captured)
            }
            Exchange::Failed {
                outcome,
                first_byte,
                status,
                detail,
            } => {
                let seen = self.observe(
                    &arrival,
                    &plan,
                    sent,
                    first_byte,
                    outcome,
                    status,
                    0,
                    None,
                    Some(detail),
                );
                (seen, Vec::new())
            }
        }
    }

    async fn exchange(&self, plan: &RequestPlan, sent: &mut Option<Nanos>) -> Exchange {
        let _permit = self.connection().await;
        let request = match self.request(plan) {
            Ok(request) => request,
            Err(error) => return Exchange::failed(Outcome::ProtocolError, &error.to_string()),
        };
        *sent = Some(self.clock.now());
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) => {
                return Exchange::failed(outcome_of(&error, error.is_connect()), &chain(&error));
            }
        };
        let first_byte = self.clock.now();
        let status = answer.status().as_u16();
        let (head, body) = answer.into_parts();
        match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => Exchange::Answered {
                status,
                first_byte,
                headers: head.headers,
                body: body.to_bytes(),
            },
            Err(error) => Exchange::Failed {
                outcome: outcome_of(error.as_ref(), false),
                first_byte: Some(first_byte),
                status: Some(status),
                detail: format!("the answer broke off: {}", chain(error.as_ref())),
            },
        }
    }

    async fn connection(&self) -> Option<OwnedSemaphorePermit> {
        let connections = self.connections.as_ref()?;
        if let Ok(permit) = Arc::clone(connections).try_acquire_owned() {
            return Some(permit);
        }
        let since = self.clock.now();
        let permit = Arc::clone(connections).acquire_owned().await.ok();
        self.waits.count.fetch_add(1, Ordering::Relaxed);
        self.waits
            .nanos
            .fetch_add(self.clock.now().since(since).0, Ordering::Relaxed);
        permit
    }

    fn request(&self, plan: &RequestPlan) -> Result<http::Request<Full<Bytes>>, http::Error> {
        let mut request = http::Request::builder()
            .method(&*plan.method)
            .uri(format!("{}{}", self.base, plan.path))
            .header("traceparent", plan.traceparent())
            .header("baggage", &self.baggage);
        for (name, value) in plan.headers.iter() {
            request = request.header(name.as_str(), value.as_str());
        }
        request.body(Full::new(Bytes::from_owner(plan.body.clone())))
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one place where a row is put together"
    )]
    fn observe(
        &self,
        arrival: &Arrival,
        plan: &RequestPlan,
        sent: Option<Nanos>,
        first_byte: Option<Nanos>,
        outcome: Outcome,
        status: Option<u16>,
        bytes: u64,
        correct: Option<bool>,
        detail: Option<String>,
    ) -> Observation {
        Observation {
            id: arrival.id,
            request: arrival.request,
            load: arrival.load,
            phase: arrival.phase,
            due: arrival.due,
            sent,
            first_byte,
            done: self.clock.now(),
            outcome,
            status,
            bytes,
            trace: plan.trace,
            span: plan.span,
            sampled: plan.sampled,
            correct,
            detail: detail.map(shorten),
        }
    }
}

impl Exchanger for Sender {
    async fn exchange(
        &self,
        arrival: Arrival,
        captured: &Captured,
        kill: &CancellationToken,
    ) -> (Observation, Vec<(String, serde_json::Value)>) {
        self.send(arrival, captured, kill).await
    }

    /// Planned, so that it has its trace id, but not sent.
    fn not_sent(&self, arrival: &Arrival, outcome: Outcome, at: Nanos, why: &str) -> Observation {
        let plan = self.planner.plan(arrival);
        let detail = Some(why.to_owned());
        let mut seen = self.observe(arrival, &plan, None, None, outcome, None, 0, None, detail);
        seen.done = at;
        seen
    }
}

impl Exchange {
    fn failed(outcome: Outcome, detail: &str) -> Self {
        Self::Failed {
            outcome,
            first_byte: None,
            status: None,
            detail: detail.to_owned(),
        }
    }
}

/// At most 200 bytes, cut at a character.
fn shorten(mut text: String) -> String {
    if text.len() > 200 {
        let end = (0..=200)
            .rev()
            .find(|&end| text.is_char_boundary(end))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// The outcome that an error of the HTTP client stands for, by the IO error at its root.
fn outcome_of(error: &(dyn std::error::Error + 'static), connecting: bool) -> Outcome {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::ConnectionRefused => Outcome::ConnectionRefused,
                io::ErrorKind::TimedOut => Outcome::Timeout,
                _ if connecting && io.raw_os_error().is_none() => Outcome::ProtocolError,
                _ => Outcome::ConnectionReset,
            };
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>()
            && (hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled())
        {
            return Outcome::ConnectionReset;
        }
        source = cause.source();
    }
    Outcome::ProtocolError
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
