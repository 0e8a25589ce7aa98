//! Why an objective was missed, as data: which requests, which stage, what moved first, and where the
//! three witnesses of one request disagree.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::RequestId;

/// A link to another page about the same thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// What is to be seen there.
    pub label: String,
    /// An http or https URL, everything in its query percent-encoded.
    pub url: String,
}

/// What lies behind one missed objective.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// Name of the objective.
    pub objective: String,
    /// How the requests that count against it ended, most frequent first; empty where the client's
    /// rows do not tell which these are.
    pub misses: Vec<Miss>,
    /// The worst of them, in [`super::Report::requests`].
    pub worst: Vec<RequestId>,
    /// Requests in the middle of those that counted for it, to hold the worst against.
    pub typical: Vec<RequestId>,
    /// Where the time of the slow ones went; `None` when it was not missed by time, or when
    /// [`super::Report::tail`] says it for all requests.
    pub tail: Option<Tail>,
}

/// One way in which requests counted against an objective.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Miss {
    /// In words: an outcome with its status, or that the answer came too late.
    pub how: String,
    /// Requests of the measured phase.
    pub count: u64,
}

/// What share of the slow requests' excess over the typical ones each stage accounts for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tail {
    /// The slow ones.
    pub slow: Group,
    /// The typical ones.
    pub typical: Group,
    /// Mean latency of the slow requests with whole traces less that of the typical ones, seconds.
    pub excess: Option<f64>,
    /// Stages, the greatest excess first. The stages of one request add up to its latency, so the
    /// shares add up to 1. Empty when `missing`.
    pub stages: Vec<Stage>,
    /// Why nothing can be said.
    pub missing: Option<String>,
}

/// One side of a [`Tail`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Which requests, in words.
    pub what: String,
    /// How many there are in the measured phase.
    pub requests: u64,
    /// Mean latency of all of them from due, seconds.
    pub latency: Option<f64>,
    /// How many of their traces were looked up.
    pub looked_up: u64,
    /// How many of these are whole: the service's span is there under ours, and no span lacks its parent.
    pub traced: u64,
    /// Mean latency of those with whole traces, seconds: how alike they are to all of them.
    pub traced_latency: Option<f64>,
}

/// One stage of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// Its name; for spans the span's, with the service's before it where that is another. Untrusted.
    pub name: String,
    /// Kind.
    pub kind: StageKind,
    /// Mean over the slow requests, seconds; of spans their own time, without that of their children.
    pub slow: f64,
    /// Mean over the typical requests, seconds.
    pub typical: f64,
    /// `slow - typical`.
    pub excess: f64,
    /// Share of the whole excess, negative for a stage that was quicker; `None` when there is no excess.
    pub share: Option<f64>,
}

/// Kinds of stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StageKind {
    /// From due to the beginning of sending, without waiting for a connection: the generator's own.
    Generator,
    /// Opening a connection, where none was free: name, TCP and TLS together.
    Connection,
    /// Between the client's first byte and its last, outside the service's span.
    Network,
    /// A span whose name says that it waits in a queue.
    Queue,
    /// Any other span's own time.
    Span,
}

/// When latency departed from what it was, and which signals moved, by time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Onset {
    /// Latency from due of the answered requests; `None` when it has no stretch that stands out.
    pub latency: Option<Moved>,
    /// Signals with a stretch that stands out, the earliest first.
    pub signals: Vec<Moved>,
    /// Signals that were looked at and have none.
    pub still: Vec<String>,
    /// What follows, in one sentence.
    pub said: String,
}

/// A stretch of a series that stands out above the rest of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Moved {
    /// Name of the series.
    pub name: String,
    /// Unit, UCUM-like.
    pub unit: String,
    /// When it begins, seconds since the start of the load.
    pub at: f64,
    /// Distance of two points of the series, seconds: the change lies at most this long before `at`.
    pub resolution: f64,
    /// When it ends; `None` when it lasts to the end of the measured phase.
    pub until: Option<f64>,
    /// Mean outside the stretch.
    pub before: f64,
    /// Mean within it.
    pub during: f64,
}

/// What client, service and traces say of one request, seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sides {
    /// From sent to done, by the generator's own clock.
    pub row: Option<f64>,
    /// Length of the generator's span in the trace.
    pub client_span: Option<f64>,
    /// Length of the service's span under it.
    pub server_span: Option<f64>,
    /// `row - server_span`: connecting, network, accept queue, proxies, reading the answer.
    pub outside: Option<f64>,
}

/// A disagreement between client, service and traces beyond what their clocks may err.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Short machine-readable name, e.g. `server_longer_than_client`.
    pub code: String,
    /// In one sentence.
    pub said: String,
    /// Requests that show it, at most five, the plainest first.
    pub requests: Vec<RequestId>,
}
