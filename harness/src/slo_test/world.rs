//! A run as a test writes it down: rows and facts, and the embedded stores filled as if a service had
//! been scraped and had pushed its logs and spans.
//!
//! Beside what the test writes stands a service of the harness' own, `harness-test`, that counts, logs
//! and traces every answered request: by it the judge finds that the evidence holds the whole run.
//! A backend named in `missing` does not get it.

use harness_core::observation::{Line, Observation, Outcome};
use harness_core::problem::{Problem, Problems};
use harness_core::query::Backend;
use harness_core::scenario::{Dur, Scenario};
use harness_core::units::{Nanos, Phase, RequestId, SpanId, TraceId, UnixNanos};
use harness_evidence::Evidence;
use harness_evidence::promql::testing::series as described;
use harness_evidence::store::logs::PushStream;
use harness_evidence::store::metrics::Labels;

use super::format::{Test, TestFile, at};
use super::spans;

/// The service that stands for the run in every backend.
pub(super) const SERVICE: &str = "harness-test";
const COUNTER: &str = "harness_test_requests_total";
/// Name of the requests that a test has when it writes none.
const BACKGROUND: &str = "background";
/// How many these are.
const BACKGROUND_REQUESTS: u64 = 1_000;

const MS: u64 = 1_000_000;
/// Instant 0 of a test's times: 2026-01-01T00:00:00Z.
const EPOCH: UnixNanos = UnixNanos(1_767_225_600_000_000_000);
/// The load begins so long before instant 0, so that what happens at 0 lies within the window, whose
/// start PromQL and LogQL leave out.
const LEAD: u64 = MS;
/// Traces that are looked up one by one; the others are not asked to be recorded.
const TRACED: usize = 16;
/// Longest measured phase.
const LONGEST: u64 = 24 * 3_600_000_000_000;

/// A written-down run.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) rows: Vec<Observation>,
    /// Wall-clock instant of `Nanos(0)`.
    pub(super) started: UnixNanos,
    pub(super) drained: Nanos,
    /// Latest instant that may be asked about.
    pub(super) until: UnixNanos,
    /// Of the measured phase.
    pub(super) length: Nanos,
}

/// The wall-clock instant of a test's time.
pub(super) fn wall(nanos: u64) -> u64 {
    EPOCH.0.saturating_add(nanos)
}

/// Makes the run and fills the stores.
///
/// # Errors
/// What cannot be read of the test's input.
pub(super) fn build(
    file: &str,
    all: &TestFile,
    (index, test): (usize, &Test),
    evidence: &Evidence,
) -> Result<World, Problems> {
    let mut problems = Vec::new();
    let every = all.evaluation_interval.nanos();
    let mut problem = |at, key: &str, message: String| {
        problems.push(Problem {
            file: file.to_owned(),
            at,
            key: format!("tests[{index}].{key}"),
            message,
            hint: None,
        });
    };
    let interval = test.interval.unwrap_or(all.evaluation_interval).nanos();
    let mut series = Vec::new();
    for written in &test.input_series {
        let line = format!("{} {}", written.value.series, written.value.values);
        match described::describe(&line) {
            Ok(one) if one.beyond.is_none() => series.push(one),
            Ok(one) => {
                let what = one.beyond.unwrap_or_default();
                problem(
                    at(written),
                    "input_series",
                    format!("{what} are not supported"),
                );
            }
            Err(why) => problem(at(written), "input_series", why),
        }
    }
    let steps = series
        .iter()
        .map(|s| s.values.len() as u64)
        .max()
        .unwrap_or(0);
    let window = test.window.map_or_else(
        || longest(test, steps.saturating_sub(1).saturating_mul(interval)),
        Dur::nanos,
    );
    if window == 0 || window > LONGEST {
        problem(
            None,
            "window",
            "the measured phase has to be longer than nothing and at most 24h: write `window: 30s`"
                .into(),
        );
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let names = names(test);
    let scenario = scenario(&names, window, every, file)?;
    let rows = rows(test, &names, window);
    let drained = rows.iter().map(|r| r.done.0).max().unwrap_or(0).max(window);
    let until = wall(drained).saturating_add(2 * every + 2_000 * MS);
    for one in series {
        for (step, value) in one.values.into_iter().enumerate() {
            let Some(value) = value else { continue };
            let at = wall(interval.saturating_mul(step as u64)) / MS;
            evidence
                .metrics
                .append(&one.labels, i64::try_from(at).unwrap_or(i64::MAX), value)
                .map_err(|error| stored(file, index, "input_series", &error.to_string()))?;
        }
    }
    let told = evidence.logs.ingest_push(logs(test));
    if told.rejected > 0 {
        return Err(stored(file, index, "input_logs", &told.message));
    }
    let told = evidence.traces.ingest(spans::of_test(test));
    if told.rejected > 0 {
        return Err(stored(file, index, "input_spans", &told.message));
    }
    let world = World {
        scenario,
        rows,
        started: UnixNanos(EPOCH.0 - LEAD),
        drained: Nanos(drained),
        until: UnixNanos(until),
        length: Nanos(window),
    };
    own_telemetry(test, &world, every, evidence).map_err(|e| stored(file, index, "", &e))?;
    Ok(world)
}

fn stored(file: &str, index: usize, key: &str, why: &str) -> Problems {
    Problems(vec![Problem {
        file: file.to_owned(),
        at: None,
        key: format!("tests[{index}].{key}"),
        message: format!("is refused by the store: {why}"),
        hint: None,
    }])
}

/// The length of the input.
fn longest(test: &Test, series: u64) -> u64 {
    let lines = test.input_logs.iter().flat_map(|s| &s.lines);
    let last = lines
        .map(|l| l.value.times().last())
        .chain(test.input_spans.iter().map(|s| s.value.times().last()))
        .chain(test.input_requests.iter().map(|r| r.value.times().last()))
        .max()
        .unwrap_or(0);
    // To the next whole second, so that the last of them lies within.
    let last = (last / 1_000_000_000 + u64::from(last > 0)) * 1_000_000_000;
    series.max(last)
}

fn names(test: &Test) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for requests in &test.input_requests {
        if !names.contains(&requests.value.name) {
            names.push(requests.value.name.clone());
        }
    }
    if names.is_empty() {
        names.push(BACKGROUND.into());
    }
    names
}

/// A scenario, read by the reader of scenarios. YAML takes JSON.
fn scenario(names: &[String], window: u64, every: u64, file: &str) -> Result<Scenario, Problems> {
    let length = |nanos| Dur(std::time::Duration::from_nanos(nanos)).to_string();
    let requests: Vec<_> = names
        .iter()
        .map(|name| serde_json::json!({"name": name, "method": "GET", "path": "/"}))
        .collect();
    let mix: serde_json::Map<String, serde_json::Value> =
        names.iter().map(|name| (name.clone(), 1.into())).collect();
    let text = serde_json::json!({
        "apiVersion": "harness/v1",
        "kind": "Scenario",
        "metadata": {"name": "test"},
        "spec": {
            "seed": 1,
            "target": {"url": "http://127.0.0.1:1"},
            "telemetry": {
                "embedded": {"scrape": [{"job": SERVICE, "every": length(every), "url": "http://127.0.0.1:1/metrics"}]},
                "service": SERVICE,
                "requestCounter": format!("{COUNTER}{{job=\"{SERVICE}\"}}"),
                "requestLog": format!("{{service_name=\"{SERVICE}\"}}"),
            },
            "requests": requests,
            "loads": [{
                "name": "test", "mix": mix, "executor": "constant-arrival-rate",
                "stages": [{"phase": "measure", "rate": "1/s", "for": length(window)}],
            }],
        },
    });
    Scenario::parse(&text.to_string(), file)
}

/// The rows; without any of the test's, so many that what backends count is not worth less for being
/// behind few requests.
fn rows(test: &Test, names: &[String], window: u64) -> Vec<Observation> {
    let mut rows = Vec::new();
    for requests in &test.input_requests {
        let of = &requests.value;
        let name = names.iter().position(|n| *n == of.name).unwrap_or(0);
        for due in of.times().instants() {
            rows.push(row(
                u16::try_from(name).unwrap_or(0),
                due,
                of.latency.nanos(),
            ));
            if let Some(row) = rows.last_mut() {
                row.outcome = of.outcome;
                row.correct = of.correct;
                let head = of.first_byte.unwrap_or(of.latency).nanos();
                row.set_first_byte(of.outcome.answered().then_some(Nanos(row.due.0 + head)));
                let first = of.first_event.map(|at| Nanos(row.due.0 + at.nanos()));
                if first.is_some() {
                    let gaps = of.gaps.iter().map(|gap| Nanos(gap.nanos()));
                    row.set_events(first, gaps.collect());
                }
                row.set_sent((of.outcome != Outcome::Dropped).then_some(row.due));
                row.status = of.status.or(match of.outcome {
                    Outcome::Expected | Outcome::WrongAnswer => Some(200),
                    Outcome::UnexpectedStatus => Some(500),
                    _ => None,
                });
            }
        }
    }
    if rows.is_empty() {
        let step = (window / BACKGROUND_REQUESTS).max(1);
        rows.extend((0..BACKGROUND_REQUESTS).map(|n| row(0, n * step, MS)));
    }
    rows.sort_by_key(|row| row.due);
    let step = rows.len().div_ceil(TRACED).max(1);
    for (n, row) in rows.iter_mut().enumerate() {
        row.id = RequestId(n as u64);
        row.trace = TraceId((0x7e57_u128 << 96 | n as u128).to_be_bytes());
        row.span = SpanId((n as u64 + 1).to_be_bytes());
        row.sampled = n % step == 0;
    }
    // The last answered one is what every backend has to hold.
    if let Some(last) = rows.iter_mut().rev().find(|r| r.outcome.answered()) {
        last.sampled = true;
    }
    rows
}

fn row(request: u16, due: u64, latency: u64) -> Observation {
    let due = Nanos(due + LEAD);
    let done = Nanos(due.0.saturating_add(latency));
    Line {
        id: RequestId(0),
        request,
        load: 0,
        phase: Phase::Measure,
        due,
        sent: Some(due),
        first_byte: Some(done),
        done,
        outcome: Outcome::Expected,
        status: Some(200),
        bytes: 0,
        connected: None,
        first_event: None,
        gaps: Vec::new(),
        trace: TraceId([0; 16]),
        span: SpanId([0; 8]),
        sampled: false,
        correct: None,
        detail: None,
    }
    .into()
}

fn logs(test: &Test) -> Vec<PushStream> {
    let entries = |line: &super::format::Line| {
        let metadata: Vec<(String, String)> = line.metadata.clone().into_iter().collect();
        // A store keeps the same line at the same instant once: repetitions at one instant are told
        // apart by a nanosecond, as a service's own clock would.
        line.times()
            .instants()
            .enumerate()
            .map(|(n, at)| {
                let apart = if line.times().every.0.is_zero() {
                    n as u64
                } else {
                    0
                };
                let at = i64::try_from(wall(at + apart)).unwrap_or(i64::MAX);
                (at, line.line.clone(), metadata.clone())
            })
            .collect::<Vec<_>>()
    };
    test.input_logs
        .iter()
        .map(|stream| PushStream {
            labels: stream.stream.clone().into_iter().collect(),
            entries: stream
                .lines
                .iter()
                .flat_map(|l| entries(&l.value))
                .collect(),
        })
        .collect()
}

/// What `harness-test` exports of the run.
fn own_telemetry(
    test: &Test,
    world: &World,
    every: u64,
    evidence: &Evidence,
) -> Result<(), String> {
    let answered: Vec<&Observation> = world.rows.iter().filter(|r| r.outcome.answered()).collect();
    let done = |row: &Observation| world.started.plus(row.done).0;
    if !test.missing.contains(&Backend::Prometheus) {
        let labels = |name: &str| {
            Labels::new([("__name__", name), ("job", SERVICE), ("instance", SERVICE)])
                .map_err(|e| e.to_string())
        };
        let (up, counter, born) = (
            labels("up")?,
            labels(COUNTER)?,
            labels("process_start_time_seconds")?,
        );
        let mut ends: Vec<u64> = answered.iter().map(|r| done(r)).collect();
        ends.sort_unstable();
        let first = EPOCH.0 - 2 * every;
        let scrapes = (0..)
            .map(|n| first + n * every)
            .take_while(|at| *at <= world.until.0);
        for at in scrapes {
            // A restarted process counts anew.
            let life = test
                .restarts
                .iter()
                .map(|r| wall(r.nanos()))
                .filter(|r| *r <= at)
                .max();
            let from = life.map_or(0, |life| ends.partition_point(|end| *end < life));
            let count = ends.partition_point(|end| *end <= at) - from;
            let ms = i64::try_from(at / MS).unwrap_or(i64::MAX);
            let since = life.unwrap_or(EPOCH.0 - 3_600_000 * MS) as f64 / 1e9;
            for (labels, value) in [(&up, 1.0), (&counter, count as f64), (&born, since)] {
                evidence
                    .metrics
                    .append(labels, ms, value)
                    .map_err(|e| e.to_string())?;
            }
        }
    }
    if !test.missing.contains(&Backend::Loki) {
        let entries = answered.iter().map(|row| {
            let at = i64::try_from(done(row)).unwrap_or(i64::MAX);
            let trace = ("trace_id".to_owned(), row.trace.to_string());
            (at, "request completed".to_owned(), vec![trace])
        });
        evidence.logs.ingest_push(vec![PushStream {
            labels: vec![("service_name".into(), SERVICE.into())],
            entries: entries.collect(),
        }]);
    }
    if !test.missing.contains(&Backend::Tempo) {
        let traced = answered.iter().copied().filter(|r| r.sampled);
        evidence
            .traces
            .ingest(spans::of_service(traced, world.started));
    }
    Ok(())
}
