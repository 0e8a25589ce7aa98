//! Arrival + datasets + seed → the request to send, and what a right answer to it is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::observation::Outcome;
use crate::problem::Problems;
use crate::scenario::{Dur, Scenario};
use crate::schedule::Arrival;
use crate::schedule::random::{Purpose, Stream, mix, unit};
use crate::units::{RequestId, SpanId, TraceId};

mod compile;
mod expect;
mod fill;
mod rows;

pub use expect::Answer;
pub use fill::Captured;

use compile::Kind;
use expect::Got;
use fill::{OwnValues, Values};

/// Longest detail of an outcome, bytes of UTF-8.
pub const DETAIL_LIMIT: usize = 200;

/// A request ready to be sent. What requests share is shared: where nothing is a template, making
/// one copies no text.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestPlan {
    /// Place in the schedule.
    pub id: RequestId,
    /// Index into the scenario's `requests`.
    pub request: u16,
    /// HTTP method, upper case.
    pub method: Arc<str>,
    /// Path and query.
    pub path: Arc<str>,
    /// Names (lower case) and values, `content-type` included when there is a body, `traceparent` not.
    pub headers: Arc<[(String, String)]>,
    /// The body; empty when there is none.
    pub body: Arc<[u8]>,
    /// Row of the dataset, from 0, that body and expectations come from.
    pub row: Option<usize>,
    /// Trace id.
    pub trace: TraceId,
    /// The generator's client span.
    pub span: SpanId,
    /// Whether `traceparent` asks for the trace to be recorded.
    pub sampled: bool,
    /// What the answer is compared with where that is not the same for all requests of a row.
    wanted: Arc<[Value]>,
}

impl RequestPlan {
    /// The value of the header `traceparent` (W3C Trace Context, version 00).
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!(
            "00-{}-{}-{:02x}",
            self.trace,
            self.span,
            u8::from(self.sampled)
        )
    }
}

/// What became of a request that was answered completely.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Its outcome.
    pub outcome: Outcome,
    /// Whether the answer agrees with the dataset's truth; `None` when the scenario asks for no
    /// score, or the status was not the expected one.
    pub correct: Option<bool>,
    /// What was wrong, in at most [`DETAIL_LIMIT`] bytes.
    pub detail: Option<String>,
    /// Values for later steps of the flow; empty when the outcome is not `expected`.
    pub captured: Vec<(String, Value)>,
}

impl Judged {
    fn wrong(outcome: Outcome, correct: Option<bool>, why: &str) -> Self {
        Self {
            outcome,
            correct,
            detail: Some(detail(why)),
            captured: Vec::new(),
        }
    }
}

/// Makes requests of arrivals and judges their answers. Cheap to share; holds all bodies in memory.
pub struct Planner {
    kinds: Vec<Kind>,
    /// By load, then request or flow: the key of the row order.
    row_keys: Vec<Vec<u64>>,
    sampled: f64,
    sampling_key: u64,
    payload_keys: [u64; 3],
    trace_keys: [u64; 3],
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner")
            .field("requests", &self.kinds.len())
            .finish_non_exhaustive()
    }
}

impl Planner {
    /// Compiles the scenario's requests and checks every row of their datasets, so that nothing
    /// wrong is found under load. `datasets` holds the text of each file by its path as the
    /// scenario has it ([`Scenario::files`]). `trace_seed` must be new for each run: trace ids
    /// derive from it, and those of two runs must not meet in one backend.
    ///
    /// # Errors
    /// A dataset that is missing, empty or malformed; a row without a field that the request or an
    /// expectation takes, by line; an expectation that cannot be compiled; a dataset that ends
    /// before the schedule does, where its rows may be used once only.
    pub fn new(
        scenario: &Scenario,
        datasets: &BTreeMap<String, String>,
        trace_seed: u64,
    ) -> Result<Self, Problems> {
        let kinds = compile::kinds(scenario, datasets)?;
        let seed = scenario.spec.seed;
        let entries = kinds.len() + scenario.spec.flows.len();
        let row_keys = (0..scenario.spec.loads.len() as u64).map(|load| {
            let mut stream = Stream::new(seed, Purpose::Rows, load);
            (0..entries).map(|_| stream.next_u64()).collect()
        });
        let mut traces = Stream::new(trace_seed, Purpose::Traces, 0);
        let mut payload = Stream::new(seed, Purpose::Payload, 0);
        Ok(Self {
            row_keys: row_keys.collect(),
            kinds,
            sampled: scenario.spec.trace.sampled,
            sampling_key: Stream::new(seed, Purpose::Sampling, 0).next_u64(),
            payload_keys: std::array::from_fn(|_| payload.next_u64()),
            trace_keys: std::array::from_fn(|_| traces.next_u64()),
        })
    }

    /// The request of an arrival of the same scenario. A pure function of the arrival: the row
    /// follows from seed, load, request and `nth`; ids from the trace seed and the arrival's id.
    /// Of a flow's later steps: see [`Self::plan_step`].
    ///
    /// # Panics
    /// When the arrival is of another scenario.
    #[must_use]
    pub fn plan(&self, arrival: &Arrival) -> RequestPlan {
        self.plan_step(arrival, &Captured::new())
    }

    /// The request of a step of a flow, with what earlier steps captured.
    ///
    /// # Panics
    /// When the arrival is of another scenario.
    #[must_use]
    pub fn plan_step(&self, arrival: &Arrival, captured: &Captured) -> RequestPlan {
        let kind = &self.kinds[usize::from(arrival.request)];
        let row = self.row(kind, arrival);
        let id = arrival.id.0;
        let [uuid_high, uuid_low, random] = self.payload_keys.map(|key| mix(id ^ key));
        let parts = kind.parts(
            &Values {
                row: row.and_then(|row| kind.fields(row)),
                captured,
                own: OwnValues {
                    id,
                    nth: arrival.nth,
                    vu: arrival.vu.unwrap_or(0),
                    uuid: [uuid_high, uuid_low],
                    random: (random >> 32) as u32,
                },
            },
            row,
        );
        // Bijections of the id, so that no two requests of a run share a trace or a span.
        let [high, low, span] = self.trace_keys.map(|key| mix(id ^ key));
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&high.to_be_bytes());
        trace[8..].copy_from_slice(&low.to_be_bytes());
        RequestPlan {
            id: arrival.id,
            request: arrival.request,
            method: Arc::clone(&kind.method),
            path: parts.path,
            headers: parts.headers,
            body: parts.body,
            row,
            // All zero is not an id: the one request in 2^64 that would have it gets 1.
            trace: if trace == [0; 16] {
                TraceId([1; 16])
            } else {
                TraceId(trace)
            },
            span: SpanId(span.max(1).to_be_bytes()),
            sampled: unit(mix(id ^ self.sampling_key)) < self.sampled,
            wanted: parts.wanted,
        }
    }

    /// Which row an arrival takes. Steps of a flow that take the same dataset in the same order take
    /// the same row.
    fn row(&self, kind: &Kind, arrival: &Arrival) -> Option<usize> {
        let source = kind.rows.as_ref()?;
        let entry = match arrival.flow {
            Some(flow) => self.kinds.len() + usize::from(flow),
            None => usize::from(arrival.request),
        };
        let key = self.row_keys[usize::from(arrival.load)][entry];
        let rows = source.fields.len() as u64;
        Some(source.ordering.row(arrival.nth, rows, key))
    }

    /// The timeout of a request that has one of its own.
    #[must_use]
    pub fn timeout(&self, request: u16) -> Option<Dur> {
        self.kinds.get(usize::from(request))?.timeout
    }

    /// What became of a request that was answered completely.
    #[must_use]
    pub fn judge(&self, plan: &RequestPlan, answer: &Answer<'_>) -> Judged {
        let Some(kind) = self.kinds.get(usize::from(plan.request)) else {
            let why = "the request is not of this scenario";
            return Judged::wrong(Outcome::WrongAnswer, None, why);
        };
        let Answer { status, body, .. } = *answer;
        let expected = kind
            .status
            .as_ref()
            .map_or((200..300).contains(&status), |wanted| wanted.holds(status));
        if !expected {
            let said = String::from_utf8_lossy(&body[..body.len().min(DETAIL_LIMIT)]);
            let why = format!("status {status}: {said}");
            return Judged::wrong(Outcome::UnexpectedStatus, None, &why);
        }
        let got = Got {
            answer,
            json: kind
                .expect
                .reads_json()
                .then(|| serde_json::from_slice(body).map_err(|error| error.to_string())),
            row: plan.row,
            wanted: &plan.wanted,
        };
        let correct = kind.expect.correct(&got);
        let captured = kind
            .expect
            .hold(&got)
            .and_then(|()| kind.expect.capture(&got));
        let captured = match captured {
            Ok(captured) => captured,
            Err(wrong) => return Judged::wrong(Outcome::WrongAnswer, correct, &wrong),
        };
        if let Some(limit) = kind.latency
            && answer.latency.0 > limit.nanos()
        {
            let why = format!(
                "took {:.1} ms from due, where the scenario expects at most {limit}",
                answer.latency.0 as f64 / 1e6
            );
            return Judged::wrong(Outcome::TooSlow, correct, &why);
        }
        Judged {
            outcome: Outcome::Expected,
            correct,
            detail: None,
            captured,
        }
    }
}

/// Cuts a text to [`DETAIL_LIMIT`] bytes at a character's border, without control characters.
#[must_use]
pub fn detail(text: &str) -> String {
    let mut short = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if short.len() + c.len_utf8() > DETAIL_LIMIT {
            break;
        }
        short.push(c);
    }
    short.truncate(short.trim_end().len());
    short
}

#[cfg(test)]
mod features;
#[cfg(test)]
mod tests;
