//! What the gate of a distributed run costs, by shards and by requests.
//!
//! ```console
//! cargo build --release -p harness --bin harness --example gate_cost
//! target/release/examples/gate_cost target/release/harness [SHARDS:REQUESTS…]
//! ```
//!
//! Makes the results of so many shards with so many requests in all, puts them into a directory as shards
//! do, has `harness merge` gather, merge and judge them, and says what that took: bytes in the place, seconds,
//! and the most memory. Requests are made up as a healthy service's would be, with the fields and digits
//! that a real row has; nothing is sent. By default a grid from which the two constants follow, a shard's
//! and a request's, by least squares.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::clock::wall_now;
use harness::results::{Store, deliver};
use harness::run_dir::{self, RunDir};
use harness_core::observation::{Line, Observation, Outcome};
use harness_core::record::clock::ClockSeen;
use harness_core::record::context::Context;
use harness_core::record::together::{Common, Member, START_SCHEMA, Start, StartedTogether};
use harness_core::record::{AnswerBook, Generator, RUN_SCHEMA, RunFacts, Settled, Target};
use harness_core::scenario::Scenario;
use harness_core::schedule::{self, Shard};
use harness_core::units::{Nanos, Phase, RequestId, Seed, SpanId, TraceId, UnixNanos};

const GRID: [(u32, u64); 6] = [
    (10, 100_000),
    (100, 100_000),
    (1_000, 100_000),
    (10, 400_000),
    (100, 400_000),
    (10, 1_600_000),
];
const SECOND: u64 = 1_000_000_000;

const SLO: &str = "apiVersion: openslo/v1
kind: SLO
metadata: {name: fast}
spec:
  service: target
  indicator:
    metadata: {name: fast}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: LoadClient, spec: {request: classify, outcome: expected, latency: \"<= 500ms\"}}}
        total: {metricSource: {type: LoadClient, spec: {request: classify}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: 99 % within 500 ms, target: 0.99}]
";

fn scenario(requests: u64) -> String {
    format!(
        "apiVersion: harness/v1
kind: Scenario
metadata: {{name: cost}}
spec:
  seed: 1
  slo: [slo.yaml]
  target: {{url: \"http://service.example:3010\"}}
  requests: [{{name: classify, method: POST, path: /predict, body: {{text: \"x\"}}, expect: {{status: 200}}}}]
  loads:
    - name: steady
      mix: {{classify: 1}}
      executor: constant-arrival-rate
      spacing: even
      stages: [{{phase: measure, rate: {}/s, for: 100s}}]
",
        requests / 100
    )
}

fn main() {
    let mut args = std::env::args().skip(1);
    let program = PathBuf::from(args.next().expect("the path of `harness`"));
    let mut cells: Vec<(u32, u64)> = args
        .map(|cell| {
            let (shards, requests) = cell.split_once(':').expect("SHARDS:REQUESTS");
            (
                shards.parse().expect("SHARDS"),
                requests.parse().expect("REQUESTS"),
            )
        })
        .collect();
    if cells.is_empty() {
        cells = GRID.to_vec();
    }
    println!("shards  requests  MiB there  B/request  delivered s  gate s  gate MiB");
    let mut seen = Vec::new();
    for (shards, requests) in cells {
        let cost = measure(&program, shards, requests);
        println!(
            "{shards:6}  {requests:8}  {:9.1}  {:9.0}  {:11.2}  {:6.2}  {:8.0}",
            cost.bytes / 1_048_576.0,
            cost.bytes / requests as f64,
            cost.delivered,
            cost.seconds,
            cost.mib
        );
        seen.push((f64::from(shards), requests as f64, cost));
    }
    if seen.len() > 2 {
        let of = |figure: fn(&Cost) -> f64| {
            let rows: Vec<[f64; 3]> = seen.iter().map(|(s, r, c)| [*s, *r, figure(c)]).collect();
            fit(&rows)
        };
        for (what, [fixed, shard, request]) in [
            ("bytes", of(|c| c.bytes)),
            ("seconds", of(|c| c.seconds)),
            ("MiB of memory", of(|c| c.mib)),
        ] {
            println!("{what} = {fixed:.3} + {shard:.6} a shard + {request:.9} a request");
        }
    }
}

struct Cost {
    bytes: f64,
    delivered: f64,
    seconds: f64,
    mib: f64,
}

fn measure(program: &Path, shards: u32, requests: u64) -> Cost {
    let keep = tempfile::tempdir().expect("a temporary directory");
    let place = keep.path().join("place");
    let text = scenario(requests);
    let parsed = Scenario::parse(&text, "scenario.yaml").expect("the scenario");
    let store = Store::open(&place.display().to_string()).expect("the place");
    let clock = ClockSeen {
        answers: 8,
        least_ms: -5,
        most_ms: 5,
    };
    let start = StartedTogether {
        at: UnixNanos(wall_now().0 / SECOND * SECOND),
        before: clock,
        after: Some(clock),
    };
    let common = Common {
        scenario_sha256: run_dir::sha256(&text),
        slo_sha256: String::new(),
        files: Default::default(),
        seed: 1,
        harness_version: env!("CARGO_PKG_VERSION").into(),
        build: "made up".into(),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut members = Vec::new();
    let mut delivered = Duration::ZERO;
    for index in 0..shards {
        let shard: Shard = format!("{index}/{shards}").parse().expect("a shard");
        let dir = keep.path().join("shard");
        make(&dir, &parsed, &text, shard, requests, &start);
        let run = run_dir::read(&dir).expect("the shard");
        let began = Instant::now();
        let put = deliver(&store, &dir, &run, &common);
        runtime.block_on(put).expect("delivered");
        delivered += began.elapsed();
        members.push(Member {
            shard,
            run_id: run.facts.run_id,
            clock,
        });
        std::fs::remove_dir_all(&dir).expect("removed");
    }
    let start = Start {
        schema: START_SCHEMA.into(),
        of: shards,
        at: Some(start.at),
        members,
        common,
        refused: Vec::new(),
    };
    let put = store.create("start.json", &start);
    assert!(runtime.block_on(put).expect("the start"));
    let bytes = size(&place);
    let began = Instant::now();
    let mut gate = Command::new(program)
        .arg("merge")
        .arg(&place)
        .args(["--quiet", "--format", "json", "--out"])
        .arg(keep.path().join("merged"))
        .stdout(Stdio::null())
        .spawn()
        .expect("harness");
    let mut mib: f64 = 0.0;
    let code = loop {
        // The system keeps the peak itself; it is read until the process is gone.
        let status = std::fs::read_to_string(format!("/proc/{}/status", gate.id()));
        let status = status.unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|p| p.split_whitespace().next()?.parse::<f64>().ok());
        mib = mib.max(kib.unwrap_or(0.0) / 1024.0);
        if let Some(status) = gate.try_wait().expect("the gate") {
            break status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(code, Some(0), "the gate did not pass");
    Cost {
        bytes,
        delivered: delivered.as_secs_f64(),
        seconds,
        mib,
    }
}

fn size(dir: &Path) -> f64 {
    let entries = std::fs::read_dir(dir).expect("the place");
    let sizes = entries.map(|entry| {
        let entry = entry.expect("an entry");
        match entry.file_type().expect("its type").is_dir() {
            true => size(&entry.path()),
            false => entry.metadata().expect("its size").len() as f64,
        }
    });
    sizes.sum()
}

/// One shard's run directory.
fn make(
    dir: &Path,
    scenario: &Scenario,
    text: &str,
    shard: Shard,
    all: u64,
    start: &StartedTogether,
) {
    let slos = [("slo.yaml".to_owned(), SLO.to_owned())];
    let run = RunDir::create(dir, text, &slos).expect("a run directory");
    let mut log = run.requests_log().expect("the log");
    let apart = 100 * SECOND / all;
    let mut rows = Vec::new();
    let of = u64::from(shard.of());
    for n in (u64::from(shard.index())..all).step_by(shard.of() as usize) {
        let row = row(n, n * apart);
        log.append_row(&row).expect("a row");
        rows.push(row);
    }
    log.close().expect("the rows");
    let scheduled = rows.len() as u64;
    assert!(scheduled >= all / of);
    let facts = RunFacts {
        schema: RUN_SCHEMA.into(),
        run_id: format!("cost-{}", shard.index()),
        harness_version: env!("CARGO_PKG_VERSION").into(),
        scenario: "cost".into(),
        scenario_sha256: run_dir::sha256(text),
        seed: Seed(1),
        started: start.at,
        drained: Nanos(101 * SECOND),
        stretches: schedule::stretches(scenario),
        generator: Generator {
            scheduled,
            wall_seconds: 100.0,
            cores: 4,
            ..Generator::default()
        },
        target: Target {
            url: "http://service.example:3010".into(),
            ..Target::default()
        },
        service: "target".into(),
        expect_version: None,
        backends: Default::default(),
        settled: Settled::default(),
        faults: Vec::new(),
        stop: None,
        context: Context {
            shard: Some(shard),
            start: Some(start.clone()),
            ..Context::default()
        },
        grafana: None,
        slo_files: Default::default(),
    };
    let mut live = harness_core::measure::Measurements::new(scenario);
    rows.iter().for_each(|row| live.record(row));
    harness::histograms::write(&dir.join("latency.hlog"), scenario, &facts, &live).expect("hlog");
    harness::columns::write(&dir.join("requests.parquet"), scenario, &rows).expect("parquet");
    let requests = run.requests().expect("the rows");
    run.seal(&facts, &AnswerBook::default(), &requests)
        .expect("sealed");
}

fn row(n: u64, due: u64) -> Observation {
    // SplitMix64, so that digits and latencies are spread as real ones are.
    let mix = |x: u64| {
        let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let (a, b) = (mix(n), mix(!n));
    let sent = due + 10_000 + a % 50_000;
    let done = sent + 3_000_000 + b % 20_000_000;
    let trace = [a.to_be_bytes(), b.to_be_bytes()].concat();
    Line {
        id: RequestId(n),
        request: 0,
        load: 0,
        phase: Phase::Measure,
        due: Nanos(due),
        sent: Some(Nanos(sent)),
        connected: None,
        first_byte: Some(Nanos(done - 100_000)),
        done: Nanos(done),
        outcome: Outcome::Expected,
        status: Some(200),
        bytes: 200 + a % 100,
        first_event: None,
        gaps: Vec::new(),
        trace: TraceId(trace.try_into().expect("16 bytes")),
        span: SpanId(b.to_be_bytes()),
        sampled: true,
        correct: None,
        detail: None,
    }
    .into()
}

/// Least squares of `z = fixed + a x + b y`, relative to `z` so that small cells count as large ones do.
fn fit(rows: &[[f64; 3]]) -> [f64; 3] {
    let mut m = [[0.0_f64; 4]; 3];
    for [x, y, z] in rows {
        let w = 1.0 / (z * z).max(1e-12);
        let v = [1.0, *x, *y, *z];
        for i in 0..3 {
            for j in 0..4 {
                m[i][j] += w * v[i] * v[j];
            }
        }
    }
    for i in 0..3 {
        let pivot = m[i][i];
        for value in &mut m[i] {
            *value /= pivot;
        }
        let row = m[i];
        for (j, other) in m.iter_mut().enumerate() {
            if j != i {
                let factor = other[i];
                for (value, by) in other.iter_mut().zip(row) {
                    *value -= factor * by;
                }
            }
        }
    }
    [m[0][3], m[1][3], m[2][3]]
}
