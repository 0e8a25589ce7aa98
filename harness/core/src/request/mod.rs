//! Arrival + datasets + seed → the request to send, and what a right answer to it is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::observation::Outcome;
use crate::problem::{Problem, Problems};
use crate::scenario::{Body, Order, Request, Scenario};
use crate::schedule::Arrival;
use crate::schedule::random::{Purpose, Stream, mix, permute, unit};
use crate::units::{RequestId, SpanId, TraceId};

mod dataset;
mod expect;

use dataset::Row;
use expect::Check;

/// Longest detail of an outcome, bytes of UTF-8.
pub const DETAIL_LIMIT: usize = 200;

/// A request ready to be sent. Everything that requests share is shared: making one copies no text.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Makes requests of arrivals and judges their answers. Cheap to share; holds all bodies in memory.
pub struct Planner {
    kinds: Vec<Kind>,
    /// By load, then request: the key of the row order.
    row_keys: Vec<Vec<u64>>,
    sampled: f64,
    sampling_key: u64,
    trace_keys: [u64; 3],
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner")
            .field("requests", &self.kinds.len())
            .finish_non_exhaustive()
    }
}

/// One entry of the scenario's `requests`, compiled.
struct Kind {
    method: Arc<str>,
    path: Arc<str>,
    headers: Arc<[(String, String)]>,
    bodies: Bodies,
    status: Option<u16>,
    expect: Vec<Check>,
    score: Vec<Check>,
}

enum Bodies {
    Fixed(Arc<[u8]>),
    Rows {
        rows: Vec<Arc<[u8]>>,
        shuffled: bool,
    },
}

impl Planner {
    /// Compiles the scenario's requests and checks every row of their datasets, so that nothing
    /// wrong is found under load. `datasets` holds the text of each file by its path as the
    /// scenario has it ([`Scenario::datasets`]). `trace_seed` must be new for each run: trace ids
    /// derive from it, and those of two runs must not meet in one backend.
    ///
    /// # Errors
    /// A dataset that is missing, empty or not JSONL; a row without a field that the body or an
    /// expectation takes, by line; an expectation that cannot be compiled.
    pub fn new(
        scenario: &Scenario,
        datasets: &BTreeMap<String, String>,
        trace_seed: u64,
    ) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut read: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
        for file in scenario.datasets() {
            match datasets.get(file).map(|text| dataset::rows(file, text)) {
                Some(Ok(rows)) => {
                    read.insert(file, rows);
                }
                Some(Err(wrong)) => problems.extend(dataset::shorten(wrong)),
                None => problems.push(Problem {
                    file: file.to_owned(),
                    at: None,
                    key: String::new(),
                    message: "the dataset was not read".into(),
                    hint: Some("its path is relative to the scenario file".into()),
                }),
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let mut kinds = Vec::new();
        for (index, request) in scenario.spec.requests.iter().enumerate() {
            match kind(scenario, index, request, &read) {
                Ok(kind) => kinds.push(kind),
                Err(wrong) => problems.extend(wrong),
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(Self::with(scenario, kinds, trace_seed))
    }

    fn with(scenario: &Scenario, kinds: Vec<Kind>, trace_seed: u64) -> Self {
        let seed = scenario.spec.seed;
        let row_keys = (0..scenario.spec.loads.len() as u64).map(|load| {
            let mut stream = Stream::new(seed, Purpose::Rows, load);
            kinds.iter().map(|_| stream.next_u64()).collect()
        });
        let mut traces = Stream::new(trace_seed, Purpose::Traces, 0);
        Self {
            row_keys: row_keys.collect(),
            kinds,
            sampled: scenario.spec.trace.sampled,
            sampling_key: Stream::new(seed, Purpose::Sampling, 0).next_u64(),
            trace_keys: std::array::from_fn(|_| traces.next_u64()),
        }
    }

    /// The request of an arrival of the same scenario. A pure function of the arrival: the row
    /// follows from seed, load, request and `nth`; ids from the trace seed and the arrival's id.
    ///
    /// # Panics
    /// When the arrival is of another scenario.
    #[must_use]
    pub fn plan(&self, arrival: &Arrival) -> RequestPlan {
        let kind = &self.kinds[usize::from(arrival.request)];
        let (body, row) = match &kind.bodies {
            Bodies::Fixed(body) => (Arc::clone(body), None),
            Bodies::Rows { rows, shuffled } => {
                let row = self.row(arrival, rows.len() as u64, *shuffled) as usize;
                (Arc::clone(&rows[row]), Some(row))
            }
        };
        let id = arrival.id.0;
        // Bijections of the id, so that no two requests of a run share a trace or a span.
        let [high, low, span] = self.trace_keys.map(|key| mix(id ^ key));
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&high.to_be_bytes());
        trace[8..].copy_from_slice(&low.to_be_bytes());
        RequestPlan {
            id: arrival.id,
            request: arrival.request,
            method: Arc::clone(&kind.method),
            path: Arc::clone(&kind.path),
            headers: Arc::clone(&kind.headers),
            body,
            row,
            // All zero is not an id: the one request in 2^64 that would have it gets 1.
            trace: if trace == [0; 16] {
                TraceId([1; 16])
            } else {
                TraceId(trace)
            },
            span: SpanId(span.max(1).to_be_bytes()),
            sampled: unit(mix(id ^ self.sampling_key)) < self.sampled,
        }
    }

    /// Which row an arrival takes: each pass over the dataset meets every row once.
    fn row(&self, arrival: &Arrival, rows: u64, shuffled: bool) -> u64 {
        let place = arrival.nth % rows;
        if !shuffled {
            return place;
        }
        let key = self.row_keys[usize::from(arrival.load)][usize::from(arrival.request)];
        permute(place, rows, mix(key.wrapping_add(arrival.nth / rows)))
    }

    /// What became of a request that was answered completely: its outcome, whether the answer
    /// agrees with the dataset's truth (`None` when the scenario asks for no score, or the status
    /// was not the expected one), and what was wrong in at most [`DETAIL_LIMIT`] bytes.
    #[must_use]
    pub fn judge_answer(
        &self,
        plan: &RequestPlan,
        status: u16,
        body: &[u8],
    ) -> (Outcome, Option<bool>, Option<String>) {
        let Some(kind) = self.kinds.get(usize::from(plan.request)) else {
            return (
                Outcome::WrongAnswer,
                None,
                Some("the request is not of this scenario".into()),
            );
        };
        let expected = kind
            .status
            .map_or((200..300).contains(&status), |wanted| wanted == status);
        if !expected {
            let said = String::from_utf8_lossy(&body[..body.len().min(DETAIL_LIMIT)]);
            return (
                Outcome::UnexpectedStatus,
                None,
                Some(detail(&format!("status {status}: {said}"))),
            );
        }
        if kind.expect.is_empty() && kind.score.is_empty() {
            return (Outcome::Expected, None, None);
        }
        let answer: Result<Value, _> = serde_json::from_slice(body);
        let all_hold = |checks: &[Check]| -> Result<(), String> {
            let answer = answer
                .as_ref()
                .map_err(|error| format!("the answer is not JSON: {error}"))?;
            checks
                .iter()
                .try_for_each(|check| check.holds(answer, plan.row))
        };
        let correct = (!kind.score.is_empty()).then(|| all_hold(&kind.score).is_ok());
        let right = if kind.expect.is_empty() {
            Ok(())
        } else {
            all_hold(&kind.expect)
        };
        match right {
            Ok(()) => (Outcome::Expected, correct, None),
            Err(wrong) => (Outcome::WrongAnswer, correct, Some(detail(&wrong))),
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

fn kind(
    scenario: &Scenario,
    index: usize,
    request: &Request,
    read: &BTreeMap<&str, Vec<Row>>,
) -> Result<Kind, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut source: Option<(&str, &[Row])> = None;
    let bodies = match &request.body {
        None => Bodies::Fixed(Arc::from([])),
        Some(Body::Text { text }) => Bodies::Fixed(Arc::from(text.as_bytes())),
        Some(Body::Dataset {
            dataset,
            field,
            order,
        }) => {
            let rows = read.get(dataset.as_str()).map_or(&[][..], Vec::as_slice);
            source = Some((dataset, rows));
            let (bodies, wrong) = bodies(dataset, rows, field);
            problems.extend(wrong);
            Bodies::Rows {
                rows: bodies,
                shuffled: *order == Order::Shuffled,
            }
        }
    };
    let fields: Option<Vec<&Map<String, Value>>> =
        source.map(|(_, rows)| rows.iter().map(|row| &row.fields).collect());
    let mut compile = |part: &str, path: &str, wanted: &Value| match Check::new(
        path,
        wanted,
        fields.as_deref(),
    ) {
        Ok(check) => Some(check),
        Err(wrong) => {
            let key = format!("spec.requests[{index}].{part}");
            let wrong = wrong.into_iter().map(|(row, message)| match (row, source) {
                (Some(row), Some((file, rows))) => {
                    let hint = format!("`{part}` of the request `{}` takes it", request.name);
                    dataset::problem(file, rows[row].line, &message, &hint)
                }
                _ => Problem {
                    file: scenario.metadata.name.clone(),
                    at: None,
                    key: key.clone(),
                    message,
                    hint: None,
                },
            });
            problems.extend(dataset::shorten(wrong.collect()));
            None
        }
    };
    let expect = request
        .expect
        .json
        .iter()
        .filter_map(|(path, wanted)| compile("expect.json", path, wanted))
        .collect();
    let score = request
        .score
        .iter()
        .filter_map(|(path, wanted)| compile("score", path, &Value::String(wanted.clone())))
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Kind {
        method: Arc::from(request.method.as_str()),
        path: Arc::from(request.path.as_str()),
        headers: headers(request),
        bodies,
        status: request.expect.status,
        expect,
        score,
    })
}

fn bodies(file: &str, rows: &[Row], field: &str) -> (Vec<Arc<[u8]>>, Vec<Problem>) {
    let mut bodies = Vec::with_capacity(rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        match row.fields.get(field) {
            Some(Value::String(text)) => bodies.push(Arc::from(text.as_bytes())),
            Some(_) => wrong.push(dataset::problem(
                file,
                row.line,
                &format!("the field `{field}` is not a text"),
                "bodies are texts",
            )),
            None => {
                let names: Vec<&str> = row.fields.keys().map(String::as_str).take(8).collect();
                let hint = format!("it has {}", names.join(", "));
                wrong.push(dataset::problem(
                    file,
                    row.line,
                    &format!("the row has no field `{field}`"),
                    &hint,
                ));
            }
        }
    }
    (bodies, dataset::shorten(wrong))
}

fn headers(request: &Request) -> Arc<[(String, String)]> {
    let mut all: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .collect();
    if request.body.is_some() && !all.iter().any(|(name, _)| name == "content-type") {
        all.push(("content-type".into(), "text/plain; charset=utf-8".into()));
    }
    all.into()
}

#[cfg(test)]
mod tests;
