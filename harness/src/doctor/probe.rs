//! A few requests, and how long until each backend holds them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use harness_core::judge::{self, RunRecord};
use harness_core::observation::{Observation, Outcome};
use harness_core::query::{Answer, Backend, Query};
use harness_core::record::{AnswerBook, RunFacts, Settled, Stretch};
use harness_core::report::checkup::{Checkup, State};
use harness_core::report::model::{Coverage, Report, SourceCoverage};
use harness_core::request::{Captured, Planner};
use harness_core::scenario::Scenario;
use harness_core::schedule::Arrival;
use harness_core::units::{Nanos, Phase, RequestId};
use rand::RngExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::reach::first_words;
use super::seconds;
use crate::clock::{Clock, wall_now};
use crate::drive::Exchange as _;
use crate::inputs::Inputs;
use crate::progress::Progress;
use crate::run::{self, Failure};
use crate::send::{SendOptions, Sender};
use crate::settle::note_clocks;
use crate::stage::Stage;
use crate::trace;

/// Requests and flows sent at least, and at most.
const PROBES: (usize, usize) = (5, 20);
/// Most requests sent, steps of flows included.
const MOST_SENT: usize = 60;
/// How long the backends are asked for them: at least, and at most whatever the scenario says.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(90));
/// Pause between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(150);
/// How long the questions of the objectives may take.
const QUESTIONS: Duration = Duration::from_secs(30);
/// Most objectives' queries and metric names that are complained of.
const MOST_LINES: usize = 20;

/// When one backend was first seen to hold the probes.
#[derive(Default, Clone, Copy)]
struct Held {
    found: Option<Duration>,
    complete: Option<Duration>,
}

/// Sends the probes and looks for them.
pub(super) async fn check(
    inputs: &Inputs,
    stage: &mut Stage,
    reached: &[Backend],
    checkup: &mut Checkup,
    progress: &Progress,
) -> Result<(), Failure> {
    progress.moving("sending probing requests".into());
    let mut facts = run::first_facts(inputs, "doctor", stage);
    facts
        .backends
        .retain(|backend, _| reached.contains(backend));
    // Spans are counted from the second before the load on: what the doctor itself has asked of the target
    // by now must lie before that.
    let clock = Clock::starting_on_a_second(Duration::from_millis(1_050));
    facts.started = clock.started();
    let rows = send(inputs, stage, &mut facts, clock).await?;
    answered(&rows, checkup);
    if rows.iter().all(|row| !row.outcome.answered()) {
        return Ok(());
    }
    let (answers, held, coverage) = look_for(inputs, stage, &mut facts, &rows, progress).await;
    for source in &coverage.sources {
        if reached.contains(&source.backend) {
            let held = held.get(&source.backend).copied().unwrap_or_default();
            found(source, held, &facts, checkup);
        }
    }
    progress.moving("asking the objectives' questions".into());
    let record = RunRecord {
        scenario: &inputs.scenario,
        objectives: &inputs.objectives,
        facts: &facts,
        rows: &rows,
        answers: &answers,
        baselines: None,
    };
    let mut queries = judge::objective_queries(&record);
    queries.retain(|query| reached.contains(&query.backend()));
    let enough = tokio::time::sleep(QUESTIONS);
    let asked = stage.backends.ask_all(queries, enough).await;
    objectives(&asked, checkup);
    names(inputs, stage, reached, checkup).await;
    service(&record, stage, checkup).await;
    Ok(())
}

/// Sends one request of each kind, and more until there are enough, one after another.
async fn send(
    inputs: &Inputs,
    stage: &Stage,
    facts: &mut RunFacts,
    clock: Clock,
) -> Result<Vec<Observation>, Failure> {
    let scenario = &inputs.scenario;
    let planner = Planner::new(scenario, &inputs.datasets, rand::rng().random::<u64>())
        .map_err(|wrong| Failure::Config(wrong.to_string()))?;
    let sender = Sender::new(
        &stage.target.url,
        SendOptions::of(scenario, &inputs.base).map_err(Failure::Config)?,
        clock,
        Arc::new(planner),
        &facts.run_id,
    );
    let sender = sender.map_err(Failure::Config)?;
    let exporter = match &stage.otlp {
        Some(otlp) => Some(trace::start(otlp).map_err(Failure::Config)?),
        None => None,
    };
    let maker = trace::SpanMaker::new(scenario, facts.started, &facts.run_id, &facts.target.url);
    let starts = starts(scenario);
    let kill = CancellationToken::new();
    tokio::time::sleep(clock.until(Nanos(0))).await;
    let mut rows = Vec::new();
    for n in 0..starts.len().clamp(PROBES.0, PROBES.1) {
        let Some((request, flow)) = starts.get(n % starts.len().max(1)) else {
            break;
        };
        let mut next = Some(Arrival {
            id: RequestId(n as u64),
            load: 0,
            request: *request,
            flow: *flow,
            step: 0,
            nth: (n / starts.len()) as u64,
            phase: Phase::Measure,
            due: clock.now(),
            vu: None,
        });
        let mut captured = Captured::new();
        while let Some(arrival) = next.filter(|_| rows.len() < MOST_SENT) {
            let (seen, values) = sender.exchange(arrival, &captured, &kill).await;
            captured.extend(values);
            if let (Some((queue, ..)), Some(span)) = (&exporter, maker.span(&seen)) {
                queue.offer(span);
            }
            let right = seen.outcome == Outcome::Expected;
            rows.push(seen);
            next = arrival.next_step(scenario, clock.now()).filter(|_| right);
        }
    }
    if let Some((queue, exporting, counts)) = exporter {
        drop(queue);
        let _ = tokio::time::timeout(Duration::from_secs(10), exporting).await;
        let of = |n: &std::sync::atomic::AtomicU64| n.load(std::sync::atomic::Ordering::Relaxed);
        facts.generator.spans_offered = of(&counts.offered);
        facts.generator.spans_exported = of(&counts.exported);
    }
    facts.drained = rows.iter().map(|row| row.done).max().unwrap_or_default();
    facts.generator.scheduled = rows.len() as u64;
    facts.stretches = vec![Stretch {
        load: 0,
        phase: Phase::Measure,
        start: Nanos(0),
        end: Nanos(facts.drained.0 + 1),
    }];
    Ok(rows)
}

/// What loads send: requests by themselves, and the first steps of flows.
fn starts(scenario: &Scenario) -> Vec<(u16, Option<u16>)> {
    let spec = &scenario.spec;
    let sent = |name: &str| {
        let mut weights = spec.loads.iter().filter_map(|load| load.mix.get(name));
        weights.any(|weight| *weight > 0)
    };
    let requests = (0_u16..).zip(&spec.requests);
    let mut starts: Vec<(u16, Option<u16>)> = requests
        .clone()
        .filter(|(_, request)| sent(&request.name))
        .map(|(place, _)| (place, None))
        .collect();
    for (flow, named) in (0_u16..).zip(&spec.flows).filter(|(_, f)| sent(&f.name)) {
        let first = requests
            .clone()
            .find(|(_, request)| Some(&request.name) == named.steps.first());
        starts.extend(first.map(|(place, _)| (place, Some(flow))));
    }
    starts
}

fn answered(rows: &[Observation], checkup: &mut Checkup) {
    let right = rows
        .iter()
        .filter(|r| r.outcome == Outcome::Expected)
        .count();
    let slowest = rows.iter().map(|r| r.latency().as_duration()).max();
    let slowest = slowest.unwrap_or_default();
    let all = rows.len();
    let wrong = rows.iter().find(|r| r.outcome != Outcome::Expected);
    match wrong {
        None => {
            let said = format!(
                "{all} of {all} answered as expected, within {}",
                seconds(slowest)
            );
            checkup.add("target", "probing requests", State::Ok, said, None);
        }
        Some(wrong) => {
            let detail = wrong.detail().unwrap_or_default();
            let said = format!(
                "{right} of {all} answered as expected; one: {:?}, {detail}",
                wrong.outcome
            );
            let state = if right == 0 { State::Fail } else { State::Warn };
            let hint =
                "check spec.requests: path, body, expect; and whether the service is the right one";
            checkup.add("target", "probing requests", state, said, Some(hint));
        }
    }
}

/// Asks the coverage questions until every backend holds the probes or the time is over.
async fn look_for(
    inputs: &Inputs,
    stage: &Stage,
    facts: &mut RunFacts,
    rows: &[Observation],
    progress: &Progress,
) -> (AnswerBook, BTreeMap<Backend, Held>, Coverage) {
    let within = inputs.scenario.spec.settle.0.clamp(PATIENCE.0, PATIENCE.1);
    let since = Instant::now();
    let mut held: BTreeMap<Backend, Held> = BTreeMap::new();
    let mut book = AnswerBook::default();
    loop {
        facts.settled.until = wall_now();
        book = book
            .iter()
            .filter(|answer| matches!(answer.query, Query::TempoTrace { .. }))
            .cloned()
            .collect();
        let queries = judge::coverage_queries(&RunRecord {
            scenario: &inputs.scenario,
            objectives: &inputs.objectives,
            facts,
            rows,
            answers: &book,
            baselines: None,
        });
        let enough = tokio::time::sleep(Duration::from_secs(10));
        let answers = stage.backends.ask_round(queries, enough).await;
        answers.into_iter().for_each(|answer| book.insert(answer));
        let coverage = judge::coverage(&RunRecord {
            scenario: &inputs.scenario,
            objectives: &inputs.objectives,
            facts,
            rows,
            answers: &book,
            baselines: None,
        });
        let waited = since.elapsed();
        for source in &coverage.sources {
            let held = held.entry(source.backend).or_default();
            if source.found.is_some_and(|found| found >= source.expected) {
                held.found.get_or_insert(waited);
            }
            if source.complete {
                held.complete.get_or_insert(waited);
            }
        }
        let asked = |s: &&SourceCoverage| facts.backends.contains_key(&s.backend);
        let missing: Vec<String> = coverage
            .sources
            .iter()
            .filter(asked)
            .filter(|s| !s.complete)
            .map(|s| s.backend.to_string())
            .collect();
        if missing.is_empty() || waited >= within {
            note_clocks(facts, &stage.backends);
            facts.settled = Settled {
                waited_seconds: waited.as_secs_f64(),
                within_seconds: within.as_secs_f64(),
                missing: Vec::new(),
                until: facts.settled.until,
            };
            // Once more, as a run's verdict would have it: with what the answers tell of the clocks.
            let coverage = judge::coverage(&RunRecord {
                scenario: &inputs.scenario,
                objectives: &inputs.objectives,
                facts,
                rows,
                answers: &book,
                baselines: None,
            });
            return (book, held, coverage);
        }
        progress.moving(format!("waiting for {}", missing.join(", ")));
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_real(facts: &RunFacts, backend: Backend) -> bool {
    facts.backends.get(&backend).is_some_and(|b| !b.embedded)
}

/// Whether one backend holds the probes, and how long that took.
fn found(source: &SourceCoverage, held: Held, facts: &RunFacts, checkup: &mut Checkup) {
    let area = source.backend.to_string();
    let (name, hint) = match source.backend {
        Backend::Prometheus => (
            "request counter",
            "the service must count its requests and be scraped as this job: see spec.telemetry.service and requestCounter",
        ),
        Backend::Tempo if !source.complete && source.found == Some(source.expected) => (
            "metrics over traces",
            "each trace is found by its id, so the service is right; metrics over traces lag behind: Tempo hides the newest spans for query_frontend.query_end_cutoff (30 s by default), so give the scenario `settle: 60s`, or set that to 0s; a Tempo 2 needs the local-blocks processor",
        ),
        // See `Stage::target_env`: a started target then writes its log to stdout.
        Backend::Loki if facts.target.started && is_real(facts, Backend::Loki) => (
            "traceparent in logs",
            "the service writes its log to stdout, and the harness copies it to target.stdout.log: let a collector tail that file (--out names its directory, here as in a run) and push its lines to this Loki, with trace_id as structured metadata",
        ),
        Backend::Loki => (
            "traceparent in logs",
            "one line a request, with the trace id of traceparent, in this tenant: see spec.telemetry.requestLog and tenant",
        ),
        Backend::Tempo => (
            "traceparent honoured",
            "the service must continue the trace of traceparent and export its span to this Tempo and tenant: see spec.telemetry.otlp and tenant",
        ),
    };
    if !source.complete {
        let waited = Duration::from_secs_f64(facts.settled.waited_seconds);
        let said = format!("after {}: {}", seconds(waited), source.reason);
        return checkup.add(&area, name, State::Fail, said, Some(hint));
    }
    checkup.add(&area, name, State::Ok, source.reason.clone(), None);
    let Some(complete) = held.complete else {
        return;
    };
    let by_id = match (source.backend, held.found) {
        (Backend::Tempo, Some(found)) if found < complete => {
            format!("traces by id after {}, ", seconds(found))
        }
        _ => String::new(),
    };
    let settle = Duration::from_secs_f64(facts.settled.within_seconds);
    // Under load it takes longer than for five requests.
    let tight = complete * 2 > settle;
    let state = if tight { State::Warn } else { State::Ok };
    let said = format!(
        "{by_id}everything after {} of {} to settle",
        seconds(complete),
        seconds(settle)
    );
    let hint = "give the scenario a longer `settle`: after a load it takes longer";
    checkup.add(&area, "time until queryable", state, said, Some(hint));
}

/// Whether the backends take the objectives' questions at all.
fn objectives(asked: &[Answer], checkup: &mut Checkup) {
    let mut refused = 0;
    for answer in asked {
        let why = match (&answer.error, answer.status) {
            (Some(error), _) => error.clone(),
            (None, Some(200)) => continue,
            (None, Some(status)) => format!("it answers {status}: {}", first_words(&answer.body)),
            (None, None) => "no answer".into(),
        };
        refused += 1;
        if refused <= MOST_LINES {
            let (_, parameters) = answer.query.http();
            let query = parameters
                .into_iter()
                .find(|(key, _)| matches!(*key, "query" | "q"));
            let query = query.map_or_else(String::new, |(_, text)| text);
            let area = answer.query.backend().to_string();
            let said = format!("{why}; asked: {}", first_words(&query));
            let hint = "correct the query of the objective: a run could not judge it";
            checkup.add(&area, "objective's query", State::Fail, said, Some(hint));
        }
    }
    if refused == 0 {
        let said = format!("{} taken", asked.len());
        checkup.add("objectives", "queries", State::Ok, said, None);
    }
}

/// Whether every metric that objectives select is there.
async fn names(inputs: &Inputs, stage: &Stage, reached: &[Backend], checkup: &mut Checkup) {
    if !reached.contains(&Backend::Prometheus) {
        return;
    }
    let wanted: std::collections::BTreeSet<String> = inputs
        .objectives
        .iter()
        .flat_map(|objective| objective.metric_names())
        .collect();
    if wanted.is_empty() {
        return;
    }
    let path = "/api/v1/label/__name__/values";
    let known: Option<Vec<String>> = match stage.backends.fetch(Backend::Prometheus, path).await {
        Ok(fetched) => serde_json::from_str::<serde_json::Value>(&fetched.body)
            .ok()
            .and_then(|value| serde_json::from_value(value.get("data")?.clone()).ok()),
        Err(_) => None,
    };
    let Some(known) = known else {
        let said = "Prometheus does not list its metrics' names".to_owned();
        return checkup.add("objectives", "metric names", State::Warn, said, None);
    };
    let lost: Vec<&String> = wanted.iter().filter(|name| !known.contains(name)).collect();
    for name in lost.iter().take(MOST_LINES) {
        let hint = match alike(name, &known).as_slice() {
            [] => "the objective would have no evidence: correct its query, or let the service export it".to_owned(),
            alike => format!("the objective would have no evidence; alike: {}", alike.join(", ")),
        };
        let said = format!("no metric is called `{name}`");
        checkup.add("objectives", "metric names", State::Fail, said, Some(&hint));
    }
    if lost.is_empty() {
        let said = format!("{} of {} are there", wanted.len(), wanted.len());
        checkup.add("objectives", "metric names", State::Ok, said, None);
    }
}

/// Up to three names that begin alike for most of their length.
fn alike<'a>(name: &str, known: &'a [String]) -> Vec<&'a str> {
    let common = |other: &str| {
        let same = name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b);
        same.count()
    };
    let mut near: Vec<(usize, &str)> = known
        .iter()
        .map(|other| (common(other), other.as_str()))
        .filter(|(same, _)| *same * 2 >= name.len())
        .collect();
    near.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// What the telemetry tells of the service: its version, its clock, our own spans.
async fn service(record: &RunRecord<'_>, stage: &Stage, checkup: &mut Checkup) {
    let mut answers = record.answers.clone();
    let report = judge::judge(record);
    let queries = judge::detail_queries(record, &report);
    let enough = tokio::time::sleep(QUESTIONS);
    let asked = stage.backends.ask_all(queries, enough).await;
    asked.into_iter().for_each(|answer| answers.insert(answer));
    let report = judge::judge(&RunRecord {
        answers: &answers,
        ..*record
    });
    versions(&report, checkup);
    for check in report.validity.iter().filter(|c| c.name == "clocks") {
        let state = if check.ok == Some(true) {
            State::Ok
        } else {
            State::Fail
        };
        checkup.add(
            "target",
            "clock in spans",
            state,
            check.value.clone(),
            check.remedy.as_deref(),
        );
    }
    if record.facts.backends.contains_key(&Backend::Tempo) {
        client_spans(record, &report, checkup);
    }
    for finding in &report.findings {
        checkup.add(
            "target",
            "disagreement",
            State::Warn,
            finding.said.clone(),
            None,
        );
    }
}

fn versions(report: &Report, checkup: &mut Checkup) {
    let seen = report.run.versions.join(", ");
    match (&report.run.expect_version, report.run.versions.as_slice()) {
        (None, []) => {
            let hint = "without service.version in `target_info` or spans nobody can tell which build was judged";
            checkup.add(
                "target",
                "version",
                State::Warn,
                "not in the telemetry".into(),
                Some(hint),
            );
        }
        (Some(_), []) => {
            let hint =
                "target.expectVersion is set, and no service.version is seen: a run could not pass";
            checkup.add(
                "target",
                "version",
                State::Fail,
                "not in the telemetry".into(),
                Some(hint),
            );
        }
        (Some(expected), all) if all.iter().any(|version| version != expected) => {
            let said = format!("{seen} instead of {expected}");
            let hint = "another build answers: deploy the one to be judged, or correct target.expectVersion";
            checkup.add("target", "version", State::Fail, said, Some(hint));
        }
        _ => checkup.add("target", "version", State::Ok, seen, None),
    }
}

fn client_spans(record: &RunRecord, report: &Report, checkup: &mut Checkup) {
    let traced: Vec<_> = report
        .requests
        .iter()
        .filter_map(|r| r.sides.as_ref())
        .collect();
    let ours = traced.iter().filter(|s| s.client_span.is_some()).count();
    let generator = &record.facts.generator;
    let (state, said) = if traced.is_empty() {
        return;
    } else if ours == traced.len() {
        (State::Ok, format!("{ours} of {} found", traced.len()))
    } else {
        let (sent, taken) = (generator.spans_offered, generator.spans_exported);
        let said = format!(
            "{ours} of {} found; {sent} sent, {taken} taken",
            traced.len()
        );
        (State::Warn, said)
    };
    let hint = "traces will lack their first span: let --otlp or telemetry.otlp be the OTLP/gRPC receiver before this Tempo";
    checkup.add("tempo", "our own spans", state, said, Some(hint));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_begin_alike_are_offered() {
        let known: Vec<String> = [
            "http_server_request_duration_seconds_count",
            "http_server_requests_total",
            "go_goroutines",
        ]
        .map(str::to_owned)
        .into();
        let near = alike("http_server_request_duration_count", &known);
        assert_eq!(
            near,
            [
                "http_server_request_duration_seconds_count",
                "http_server_requests_total"
            ]
        );
        assert_eq!(alike("up", &known), Vec::<&str>::new());
    }
}
