//! One request of the load: sent once, never retried, its instants taken.
//!
//! `connect` opens connections, `pool` keeps them, `h1` and `h2` carry out one exchange each,
//! `events` finds the events of a streamed answer, `outcome` gives every failure its name.

use std::sync::Arc;
use std::time::Duration;

use harness_core::observation::{Line, Observation, Outcome};
use harness_core::request::{Answer, Captured, Judged, Planner, RequestPlan};
use harness_core::schedule::Arrival;
use harness_core::units::Nanos;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::drive::Exchange;

mod connect;
mod events;
mod exchange;
mod h1;
mod h2;
mod head;
mod options;
mod outcome;
mod pool;
mod tls;

pub use connect::Protocol;
pub use events::Framing;
pub use options::{RequestOptions, SendOptions};
pub use pool::ConnectionWaits;
pub use tls::{Certificates, Pem};

use connect::Connector;
use exchange::{Asked, Seen, Stage};
use head::Common;
use outcome::Fault;
use pool::{Lease, Part, Pool};

/// Most bytes of one answer that are read; a longer one counts as a protocol error.
pub const MAX_ANSWER: usize = 16 << 20;

/// What all requests of a run share.
pub struct Sender {
    url: url::Url,
    options: SendOptions,
    common: Common,
    pool: Pool,
    clock: Clock,
    planner: Arc<Planner>,
}

/// A complete answer, looked at.
struct Ended {
    done: Nanos,
    judged: Judged,
    /// Where the answer says to go instead.
    location: Option<String>,
}

impl Sender {
    /// A sender for a base URL, e.g. `http://127.0.0.1:3010`.
    ///
    /// # Errors
    /// A sentence: the URL is none, or the certificates cannot be used.
    pub fn new(
        base: &str,
        options: SendOptions,
        clock: Clock,
        planner: Arc<Planner>,
        run_id: &str,
    ) -> Result<Self, String> {
        let url = url::Url::parse(base).map_err(|error| format!("`{base}` is no URL: {error}"))?;
        let connector = Connector::new(&url, options.protocol, &options.certificates)?;
        let host = url.host_str().unwrap_or_default();
        let common = Common {
            authority: url
                .port()
                .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
            prefix: url.path().trim_end_matches('/').to_owned(),
            baggage: format!("harness.run.id={run_id}"),
            keep_alive: options.keep_alive,
        };
        Ok(Self {
            pool: Pool::new(connector, &options),
            url,
            options,
            common,
            clock,
            planner,
        })
    }

    /// Waits for connections so far.
    #[must_use]
    pub fn waits(&self) -> &ConnectionWaits {
        &self.pool.waits
    }

    /// Connections opened so far.
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        self.pool.opened.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Sends one request and waits for its outcome, at most until the timeout from its due instant,
    /// or until `kill`. With it come the values that later steps of its flow use.
    pub async fn send(
        &self,
        arrival: Arrival,
        captured: &Captured,
        kill: &CancellationToken,
    ) -> (Observation, Vec<(String, serde_json::Value)>) {
        let plan = self.planner.plan_step(&arrival, captured);
        let timeout = self.timeout(arrival.request);
        let deadline = self.clock.instant(arrival.due) + timeout;
        let mut seen = Seen::default();
        let judged = tokio::select! {
            biased;
            ended = tokio::time::timeout_at(deadline.into(), self.exchange(&plan, arrival.due, &mut seen)) => Some(ended),
            () = kill.cancelled() => None,
        };
        let judged = match judged {
            Some(Ok(judged)) => judged,
            Some(Err(_)) => Err(timed_out(timeout, &seen)),
            None => Err(Fault::new(
                Outcome::Unfinished,
                "still out when the run ended",
            )),
        };
        self.observe(&arrival, &plan, seen, judged)
    }

    fn timeout(&self, request: u16) -> Duration {
        let own = self.planner.timeout(request);
        own.map_or(self.options.timeout, |own| own.0)
    }

    async fn exchange(
        &self,
        plan: &RequestPlan,
        due: Nanos,
        seen: &mut Seen,
    ) -> Result<Ended, Fault> {
        let _permit = self.pool.permit(self.clock).await;
        seen.sent = Some(self.clock.now());
        let mut judged = self.once(plan, due, seen).await?;
        let mut elsewhere = None;
        for _ in 0..self.options.redirects {
            let Some(next) = self.redirected(elsewhere.as_ref().unwrap_or(plan), seen, &judged)
            else {
                break;
            };
            (seen.first_byte, seen.bytes) = (None, 0);
            // A connection for the place redirected to comes after the first answer: not told apart.
            let connected = seen.connected;
            judged = self.once(&next, due, seen).await?;
            seen.connected = connected;
            elsewhere = Some(next);
        }
        Ok(judged)
    }

    /// The request that a redirect within the same origin asks for (RFC 9110, section 15.4).
    fn redirected(&self, plan: &RequestPlan, seen: &Seen, judged: &Ended) -> Option<RequestPlan> {
        let location = judged.location.as_deref()?;
        let path = plan.path.as_ref();
        let here = self
            .url
            .join(&format!("{}{path}", self.common.prefix))
            .ok()?;
        let there = here.join(location).ok()?;
        if there.origin() != self.url.origin() {
            return None;
        }
        let target = &there[url::Position::BeforePath..url::Position::AfterQuery];
        let mut next = plan.clone();
        next.path = target.strip_prefix(self.common.prefix.as_str())?.into();
        let to_get = match seen.status {
            Some(303) => &*plan.method != "HEAD",
            Some(301 | 302) => &*plan.method == "POST",
            _ => false,
        };
        if to_get {
            next.method = "GET".into();
            next.body = [].into();
        }
        Some(next)
    }

    /// One exchange on one connection.
    async fn once(&self, plan: &RequestPlan, due: Nanos, seen: &mut Seen) -> Result<Ended, Fault> {
        let lease = self.lease(seen).await?;
        if seen.stage == Stage::Connecting {
            seen.connected = Some(self.clock.now());
        }
        let first_byte_by = self.options.first_byte_timeout.zip(seen.sent);
        let of_request = self.options.requests.get(usize::from(plan.request));
        let of_request = of_request.copied().unwrap_or_default();
        let asked = Asked {
            head: &*plan.method == "HEAD",
            fields: of_request.fields,
            framing: of_request.framing,
            first_byte_by: first_byte_by
                .map(|(most, sent)| (self.clock.instant(sent) + most).into()),
        };
        match lease {
            Lease::One(mut connection) => {
                connection.output.clear();
                head::write_request(&mut connection.output, plan, &self.common)?;
                let head = connection.exchange(asked, self.clock, seen).await?;
                let done = self.clock.now();
                let fields = head.fields.as_ref();
                let judged = self.judge(plan, due, head.status, fields, &connection.body, done);
                if head.reusable {
                    self.pool.give_back(connection);
                }
                Ok(judged)
            }
            // Large: not in the future of requests that are not of its kind.
            Lease::Part(part) => Box::pin(self.multiplexed(part, plan, due, asked, seen)).await,
        }
    }

    async fn multiplexed(
        &self,
        mut part: Part,
        plan: &RequestPlan,
        due: Nanos,
        asked: Asked,
        seen: &mut Seen,
    ) -> Result<Ended, Fault> {
        let request = h2::request(plan, &self.common, self.url.scheme())?;
        let mut body = Vec::new();
        let answer =
            h2::exchange(&mut part.send, request, asked, &mut body, self.clock, seen).await;
        let (status, fields) = answer.map_err(|fault| part.reason(fault))?;
        let done = self.clock.now();
        Ok(self.judge(plan, due, status, fields.as_ref(), &body, done))
    }

    async fn lease(&self, seen: &mut Seen) -> Result<Lease, Fault> {
        let Some(most) = self.options.connect_timeout else {
            return self.pool.lease(self.clock, seen).await;
        };
        let lease = tokio::time::timeout(most, self.pool.lease(self.clock, seen)).await;
        lease.unwrap_or_else(|_| {
            let why = format!("no connection within {} ms", most.as_millis());
            Err(Fault::new(Outcome::ConnectTimeout, why))
        })
    }

    fn judge(
        &self,
        plan: &RequestPlan,
        due: Nanos,
        status: u16,
        fields: Option<&http::HeaderMap>,
        body: &[u8],
        done: Nanos,
    ) -> Ended {
        let header = |name: &str| {
            let value = fields?.get(name)?.as_bytes();
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let answer = Answer {
            status,
            header: &header,
            body,
            // Looking at the answer is our work, not the service's.
            latency: done.since(due),
        };
        let mut judged = self.planner.judge(plan, &answer);
        if let Some(text) = &mut judged.detail
            && let Some(after) = header("retry-after")
        {
            *text = harness_core::request::detail(&format!("Retry-After: {after}; {text}"));
        }
        Ended {
            done,
            judged,
            location: header("location"),
        }
    }

    /// The one place where a row is put together.
    fn observe(
        &self,
        arrival: &Arrival,
        plan: &RequestPlan,
        seen: Seen,
        ended: Result<Ended, Fault>,
    ) -> (Observation, Vec<(String, serde_json::Value)>) {
        let Ended { done, judged, .. } = ended.unwrap_or_else(|fault| Ended {
            done: self.clock.now(),
            judged: Judged {
                outcome: fault.outcome,
                correct: None,
                detail: Some(harness_core::request::detail(&fault.detail)),
                captured: Vec::new(),
            },
            location: None,
        });
        let observation = Line {
            id: arrival.id,
            request: arrival.request,
            load: arrival.load,
            phase: arrival.phase,
            due: arrival.due,
            sent: seen.sent,
            connected: seen.connected,
            first_byte: seen.first_byte,
            done,
            outcome: judged.outcome,
            status: seen.status,
            bytes: seen.bytes,
            first_event: seen.first_event,
            gaps: seen.gaps,
            trace: plan.trace,
            span: plan.span,
            sampled: plan.sampled,
            correct: judged.correct,
            detail: judged.detail,
        };
        (observation.into(), judged.captured)
    }
}

impl Exchange for Sender {
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
        let given_up = Fault::new(outcome, why);
        let (mut seen, _) = self.observe(arrival, &plan, Seen::default(), Err(given_up));
        seen.done = at;
        seen
    }
}

fn timed_out(most: Duration, seen: &Seen) -> Fault {
    let doing = match seen.stage {
        Stage::Queued => "waiting for one of maxConnections",
        Stage::Connecting => "opening a connection",
        Stage::Waiting => "waiting for the first byte of an answer",
        Stage::Reading => "reading the answer",
    };
    let most = most.as_millis();
    let why = format!("no complete answer within {most} ms of the due instant: {doing}");
    Fault::new(Outcome::Timeout, why)
}
