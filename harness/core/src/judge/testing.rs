//! A synthetic run with backends that answer as real ones would, to be spoilt in one place at a time.

use std::time::Duration;

use serde_json::{Value, json};

use super::{RunRecord, coverage_queries, detail_queries, judge, objective_queries};
use crate::objective::{self, Indicator, Objective};
use crate::observation::{Line, Observation, Outcome};
use crate::query::{Answer, Backend, Query};
use crate::record::baseline::Baselines;
use crate::record::{AnswerBook, BackendUsed, Generator, RUN_SCHEMA, RunFacts, Settled, Target};
use crate::report::model::Report;
use crate::scenario::{Dur, Scenario};
use crate::schedule::stretches;
use crate::units::{Nanos, Phase, RequestId, Seed, SpanId, TraceId, UnixNanos};

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
/// Off the whole second, as real starts are.
const STARTED: u64 = 1_795_351_900 * SECOND + 250 * MS;
/// Scrapes happen at whole seconds and so much.
const SCRAPE_OFFSET_MS: u64 = 100;

type Tamper = Box<dyn Fn(&Query, &mut Answer)>;

/// A run, its world, and what is wrong with the answers.
pub(super) struct Run {
    pub(super) scenario: Scenario,
    pub(super) objectives: Vec<Objective>,
    pub(super) facts: RunFacts,
    pub(super) rows: Vec<Observation>,
    pub(super) tampers: Vec<Tamper>,
    /// What the world holds, where it differs from the rows.
    pub(super) world: Vec<Observation>,
    pub(super) baselines: Option<Baselines>,
    /// How far the clock that dates scrapes is ahead of ours, nanoseconds.
    pub(super) scrapes_ahead: i64,
    /// When the target began anew, nanoseconds since the start of the load, ascending.
    pub(super) restarts: Vec<u64>,
}

impl Run {
    /// The shipped quickstart, 40 requests a second for 30 s, with every request answered rightly in 8 ms.
    pub(super) fn healthy() -> Self {
        let text = include_str!("../../../../scenarios/quickstart.yaml");
        let mut scenario = Scenario::parse(text, "quickstart.yaml").unwrap();
        scenario.spec.loads[0].stages[1].length = Dur(Duration::from_secs(30));
        let slo = include_str!("../../../../slo/quickstart.yaml");
        let mut objectives = objective::parse(&[("quickstart.yaml".into(), slo.into())]).unwrap();
        for objective in &mut objectives {
            if let (true, Indicator::Threshold { value, .. }) =
                (objective.name == "throughput", &mut objective.indicator)
            {
                *value = 35.0;
            }
        }
        let rows = rows();
        let drained = rows.iter().map(|r| r.done).max().unwrap();
        let used = |url: &str| BackendUsed {
            url: url.into(),
            embedded: true,
            refused: 0,
            clock: None,
        };
        let facts = RunFacts {
            schema: RUN_SCHEMA.into(),
            run_id: "r1".into(),
            harness_version: "0.1.0".into(),
            scenario: "quickstart".into(),
            scenario_sha256: String::new(),
            seed: Seed(42),
            started: UnixNanos(STARTED),
            drained,
            stretches: stretches(&scenario),
            generator: Generator {
                scheduled: rows.len() as u64,
                cpu_seconds: Some(1.0),
                wall_seconds: 35.0,
                cores: 2,
                ..Generator::default()
            },
            target: Target {
                url: "http://127.0.0.1:3010".into(),
                started: true,
                ..Target::default()
            },
            service: "target-service".into(),
            expect_version: Some("1.0".into()),
            backends: [
                (Backend::Prometheus, used("http://127.0.0.1:9090")),
                (Backend::Loki, used("http://127.0.0.1:3100")),
                (Backend::Tempo, used("http://127.0.0.1:3200")),
            ]
            .into(),
            settled: Settled {
                waited_seconds: 3.0,
                within_seconds: 30.0,
                missing: Vec::new(),
                until: UnixNanos(STARTED + drained.0 + 3 * SECOND),
            },
            faults: Vec::new(),
            stop: None,
            context: Default::default(),
            grafana: None,
            slo_files: std::collections::BTreeMap::new(),
        };
        Self {
            scenario,
            objectives,
            facts,
            world: rows.clone(),
            rows,
            tampers: Vec::new(),
            baselines: None,
            scrapes_ahead: 0,
            restarts: Vec::new(),
        }
    }

    /// Replaces the objectives.
    pub(super) fn slo(&mut self, text: &str) {
        self.objectives = objective::parse(&[("slo.yaml".into(), text.into())]).unwrap();
    }

    /// Appends 10 s of cooldown at 20 requests a second.
    pub(super) fn cool_down(&mut self) {
        let stages = &mut self.scenario.spec.loads[0].stages;
        let mut stage = stages[1].clone();
        stage.phase = Phase::Cooldown;
        stage.length = Dur(Duration::from_secs(10));
        stages.push(stage);
        self.facts.stretches = stretches(&self.scenario);
        let first = self.rows.len() as u64;
        let more: Vec<Observation> = (0..200)
            .map(|n| row(first + n, 35 * SECOND + n * 50 * MS, Phase::Cooldown))
            .collect();
        self.rows.extend(more.clone());
        self.world.extend(more);
        self.facts.generator.scheduled = self.rows.len() as u64;
        self.facts.drained = self.rows.iter().map(|r| r.done).max().unwrap();
        self.facts.settled.until = UnixNanos(STARTED + self.facts.drained.0 + 3 * SECOND);
    }

    /// Spoils answers.
    pub(super) fn tamper(&mut self, spoil: impl Fn(&Query, &mut Answer) + 'static) {
        self.tampers.push(Box::new(spoil));
    }

    /// Spoils the answers of one backend.
    pub(super) fn spoil(&mut self, backend: Backend, spoil: impl Fn(&mut Answer) + 'static) {
        self.tamper(move |query, answer| {
            if query.backend() == backend {
                spoil(answer);
            }
        });
    }

    /// Changes the rows of the measured phase, and what the backends saw of them.
    pub(super) fn each(&mut self, change: impl Fn(usize, &mut Observation)) {
        for rows in [&mut self.rows, &mut self.world] {
            let measured = rows.iter_mut().filter(|r| r.phase == Phase::Measure);
            measured.enumerate().for_each(|(n, row)| change(n, row));
        }
    }

    /// The record with these answers.
    /// Records the run's requests anew, of which at most so many keep their rows.
    pub(super) fn keep_rows(&mut self, most: u64) {
        self.scenario.spec.record.rows = most;
        let mut tally = super::tally::Tally::new(&self.scenario, &self.objectives);
        for row in &self.world {
            tally.record(row);
        }
        let sampled = tally.sampled();
        let one_in = sampled.as_ref().map_or(1, |sampled| sampled.one_in);
        self.rows = self.world.clone();
        self.rows
            .retain(|row| crate::record::sampled::keeps(row.id, one_in));
        self.facts.context.sampled = sampled;
    }

    pub(super) fn record<'a>(&'a self, answers: &'a AnswerBook) -> RunRecord<'a> {
        RunRecord {
            scenario: &self.scenario,
            objectives: &self.objectives,
            facts: &self.facts,
            rows: &self.rows,
            answers,
            baselines: self.baselines.as_ref(),
        }
    }

    /// What a metric reads at so many seconds of the load.
    pub(super) fn reads(&self, query: &str, seconds: u64) -> f64 {
        self.prom(query, STARTED + seconds * SECOND)
    }

    /// Asks everything in the order in which the shell does, and judges.
    pub(super) fn judged(&self) -> Report {
        judge(&self.record(&self.answered()))
    }

    /// Asks everything in the order in which the shell does.
    pub(super) fn answered(&self) -> AnswerBook {
        let mut answers = AnswerBook::default();
        for step in 0..3 {
            let record = self.record(&answers);
            let queries = match step {
                0 => coverage_queries(&record),
                1 => objective_queries(&record),
                _ => detail_queries(&record, &judge(&record)),
            };
            for query in queries {
                answers.insert(self.answer(query));
            }
        }
        answers
    }

    fn answer(&self, query: Query) -> Answer {
        let body = self.body(&query).to_string();
        let mut answer = Answer {
            query: query.clone(),
            at: self.facts.settled.until,
            status: Some(200),
            body,
            error: None,
        };
        for tamper in &self.tampers {
            tamper(&query, &mut answer);
        }
        answer
    }

    fn wall(&self, at: Nanos) -> u64 {
        self.facts.wall(at).0
    }

    /// Requests that the service had answered at an instant, of those that `keep` keeps.
    fn done_by(&self, at: u64, keep: impl Fn(&Observation) -> bool) -> u64 {
        let rows = self
            .world
            .iter()
            .filter(|r| r.outcome.answered() && keep(r));
        rows.filter(|r| self.wall(r.done) <= at).count() as u64
    }

    /// As [`Self::done_by`], by the process that runs at that instant.
    fn counted_by(&self, at: u64, keep: impl Fn(&Observation) -> bool) -> f64 {
        let at = at.saturating_add_signed(-self.scrapes_ahead);
        let began = self.began(at);
        let before = began.map_or(0, |began| self.done_by(began, &keep));
        (self.done_by(at, &keep) - before) as f64
    }

    /// When the process that runs at an instant began, if it did so during the load.
    fn began(&self, at: u64) -> Option<u64> {
        let restarts = self.restarts.iter().map(|r| STARTED + r);
        restarts.take_while(|began| *began <= at).last()
    }

    fn body(&self, query: &Query) -> Value {
        match query {
            Query::PromInstant { query, time } if query.ends_with(']') => self.raw(query, time.0),
            Query::PromInstant { query, time } if query.starts_with("sum by (le)") => {
                let edges = ["0.005", "0.01", "0.25", "0.5", "+Inf"];
                let buckets = edges.map(|le| {
                    let edge = le.parse::<f64>().unwrap();
                    let count = self.counted_by(time.0, |r| r.latency().as_secs_f64() <= edge);
                    json!({"metric": {"le": le}, "value": [time.as_secs_f64(), count.to_string()]})
                });
                vector(json!(buckets))
            }
            Query::PromInstant { query, time } => {
                let value = self.prom(query, time.0).to_string();
                vector(json!([{"metric": {}, "value": [time.as_secs_f64(), value]}]))
            }
            Query::PromRange {
                query,
                start,
                end,
                step_ms,
            } => {
                let times = (start.0..=end.0).step_by(usize::try_from(step_ms * MS).unwrap());
                let values: Vec<Value> = times
                    .map(|t| {
                        json!([
                            t as f64 / 1e9,
                            self.prom(query, self.scraped(t)).to_string()
                        ])
                    })
                    .collect();
                matrix(json!([{"metric": {}, "values": values}]))
            }
            Query::LokiInstant { query, .. } if query.contains("ERROR") => vector(json!([])),
            Query::LokiInstant { time, .. } => {
                let n = self.done_by(time.0, |_| true).to_string();
                vector(json!([{"metric": {}, "value": [1, n]}]))
            }
            Query::LokiLines { query, .. } => self.lines(query),
            Query::TempoMetrics {
                query,
                start_s,
                end_s,
            } => {
                let seen = |r: &&Observation| {
                    let at = self.wall(r.sent().unwrap_or(r.due));
                    r.outcome.answered()
                        && r.sampled
                        && at >= start_s * SECOND
                        && at < end_s * SECOND
                };
                if query.contains("quantile_over_time") {
                    return json!({"series": [{"labels": [], "value": 0.0083}], "metrics": {}});
                }
                let n = self.world.iter().filter(seen).count();
                json!({"series": [{"labels": [], "value": n}], "metrics": {"completedJobs": 1, "totalJobs": 1}})
            }
            Query::TempoTrace { trace } => self.trace(*trace),
        }
    }

    /// The last scrape at or before an instant.
    fn scraped(&self, at: u64) -> u64 {
        let offset = SCRAPE_OFFSET_MS * MS;
        at.saturating_sub(offset) / SECOND * SECOND + offset
    }

    fn prom(&self, query: &str, at: u64) -> f64 {
        let at = self.scraped(at);
        if query.starts_with("histogram_quantile") {
            // 99 % within (0.005, 0.01]: interpolated.
            0.00995
        } else if query.contains("5..") {
            self.counted_by(at, |r| r.status.is_some_and(|s| s >= 500))
        } else if query.contains("_bucket") {
            self.counted_by(at, |r| r.latency().0 <= 250 * MS)
        } else if query.contains("_count") {
            self.counted_by(at, |_| true)
        } else if query.starts_with("100 *") {
            12.5
        } else if query.contains("vector(0)") {
            0.0
        } else {
            0.125
        }
    }

    fn raw(&self, query: &str, until: u64) -> Value {
        let mut labels = json!({"job": "target-service", "instance": "127.0.0.1:9000"});
        if query.starts_with("target_info") {
            labels["service_version"] = json!("1.0");
        }
        let first = self.scraped(STARTED) - 3 * SECOND;
        let times = (first..=until).step_by(usize::try_from(SECOND).unwrap());
        let values: Vec<Value> = times
            .map(|t| {
                let value = if query.starts_with("http_server") {
                    self.counted_by(t, |_| true)
                } else if query.starts_with("process_start") {
                    self.began(t).map_or(1.0, |began| began as f64 / 1e9)
                } else {
                    1.0
                };
                json!([t as f64 / 1e9, value.to_string()])
            })
            .collect();
        matrix(json!([{"metric": labels, "values": values}]))
    }

    fn lines(&self, query: &str) -> Value {
        let row = match query.split("trace_id=\"").nth(1) {
            Some(rest) => {
                let trace = rest.trim_end_matches('"').parse().unwrap();
                self.world.iter().find(|r| r.trace == trace)
            }
            None => self
                .world
                .iter()
                .filter(|r| r.outcome.answered())
                .max_by_key(|r| r.done),
        };
        let streams: Vec<Value> = row
            .into_iter()
            .map(|r| json!({"stream": {"severity_text": "INFO"}, "values": [[self.wall(r.done).to_string(), "request completed"]]}))
            .collect();
        json!({"status": "success", "data": {"resultType": "streams", "result": streams}})
    }

    fn trace(&self, trace: TraceId) -> Value {
        let Some(row) = self
            .world
            .iter()
            .find(|r| r.trace == trace && r.sampled && r.sent().is_some())
        else {
            return json!({"trace": {}, "metrics": {}});
        };
        let span = |id: SpanId, parent: SpanId, name: &str, start: u64, end: u64| {
            json!({"traceId": trace.to_string(), "spanId": id.to_string(), "parentSpanId": parent.to_string(),
                "name": name, "startTimeUnixNano": start.to_string(), "endTimeUnixNano": end.to_string(), "status": {}})
        };
        let (start, end) = (
            self.wall(row.sent().unwrap()) + MS,
            self.wall(row.done).saturating_sub(MS),
        );
        let server = SpanId([9, 0, 0, 0, 0, 0, 0, 1]);
        let spans = [
            span(server, row.span, "POST /predict", start, end),
            span(
                SpanId([9, 0, 0, 0, 0, 0, 0, 2]),
                server,
                "inference",
                start,
                end,
            ),
        ];
        let attributes = json!([
            {"key": "service.name", "value": {"stringValue": "target-service"}},
            {"key": "service.version", "value": {"stringValue": "1.0"}},
        ]);
        json!({"trace": {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": spans}]}]}})
    }
}

fn vector(result: Value) -> Value {
    json!({"status": "success", "data": {"resultType": "vector", "result": result}})
}

fn matrix(result: Value) -> Value {
    json!({"status": "success", "data": {"resultType": "matrix", "result": result}})
}

/// 50 requests of warm-up in 5 s, then 1,200 in 30 s.
fn rows() -> Vec<Observation> {
    let warm = (0..50).map(|n| (n * 100 * MS, Phase::Warmup));
    let measured = (0..1_200).map(|n| (5 * SECOND + n * 25 * MS, Phase::Measure));
    warm.chain(measured)
        .enumerate()
        .map(|(n, (due, phase))| row(n as u64, due, phase))
        .collect()
}

/// A request answered rightly in 8 ms.
fn row(n: u64, due: u64, phase: Phase) -> Observation {
    let mut trace = [7; 16];
    trace[8..].copy_from_slice(&n.to_be_bytes());
    let mut span = (n + 1).to_be_bytes();
    span[0] = 5;
    Line {
        id: RequestId(n),
        request: 0,
        load: 0,
        phase,
        due: Nanos(due),
        sent: Some(Nanos(due + MS / 10)),
        first_byte: Some(Nanos(due + 7 * MS)),
        done: Nanos(due + 8 * MS),
        outcome: Outcome::Expected,
        status: Some(200),
        bytes: 60,
        connected: None,
        first_event: None,
        gaps: Vec::new(),
        trace: TraceId(trace),
        span: SpanId(span),
        sampled: true,
        correct: Some(!n.is_multiple_of(25)),
        detail: None,
    }
    .into()
}
