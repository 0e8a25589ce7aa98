//! The real `harness` against the real `target-service`: each verdict, its exit code and its report.
//!
//! Loads are small and limits wide or far exceeded, so that a busy machine does not change a verdict:
//! what is judged here is the judging, not this machine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use harness_tests::{Run, harness, run};

/// A scenario with the fast model; `more` is put into its `spec`.
fn scenario(command: &str, stages: &str, more: &str) -> String {
    format!(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {{name: short}}
spec:
  seed: 7
  slo: [slo.yaml]
  target:
    start: {{command: [target-service, --listen, "127.0.0.1:0", --model, tfidf{command}], ready: /readyz, within: 60s}}
    timeout: 5s
  telemetry: {{embedded: {{scrape: [{{job: target-service, every: 500ms}}]}}}}
  requests:
    - name: classify
      method: POST
      path: /predict
      body: {{dataset: data/documents.jsonl, field: text, order: shuffled}}
      expect: {{status: 200}}
      score: {{"$.result": "{{{{ label }}}}"}}
  loads:
    - name: steady
      mix: {{classify: 1}}
      executor: constant-arrival-rate
      spacing: poisson
      stages: [{stages}]
  validity: {{lateSends: {{over: 2s, share: 10%}}}}
{more}"#
    )
}

const STAGES: &str = "{phase: warmup, rate: 10/s, for: 1s}, {phase: measure, rate: 50/s, for: 8s}";

/// One objective per source, with wide targets: a single stall of a busy machine makes so short a run worth
/// a handful of independent requests, and 5 without a miss decide one half at 95 % confidence.
const SLO: &str = r#"
apiVersion: openslo/v1
kind: SLO
metadata: {name: client-latency, annotations: {harness/signal: latency}}
spec:
  service: doc-classifier
  indicator:
    metadata: {name: fast}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: LoadClient, spec: {request: classify, outcome: expected, latency: "<= 2s"}}}
        total: {metricSource: {type: LoadClient, spec: {request: classify}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: half under 2 s, target: 0.5}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: server-errors, annotations: {harness/signal: errors}}
spec:
  service: doc-classifier
  indicator:
    metadata: {name: served}
    spec:
      ratioMetric:
        counter: true
        bad: {metricSource: {type: Prometheus, spec: {query: 'sum(http_server_request_duration_seconds_count{http_route="/predict", http_response_status_code=~"5.."}) or 0 * sum(http_server_request_duration_seconds_count{http_route="/predict"})'}}}
        total: {metricSource: {type: Prometheus, spec: {query: 'sum(http_server_request_duration_seconds_count{http_route="/predict"})'}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: half served, target: 0.5}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: error-lines, annotations: {harness/signal: errors, harness/empty-as: "0"}}
spec:
  service: doc-classifier
  indicator:
    metadata: {name: lines}
    spec:
      thresholdMetric:
        metricSource: {type: Loki, spec: {query: 'sum(count_over_time({service_name="target-service"} | severity_text = "ERROR" [$window]))'}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: no error lines, op: lte, value: 0, target: 0.999}]
---
apiVersion: openslo/v1
kind: SLO
metadata: {name: queue-wait, annotations: {harness/signal: saturation}}
spec:
  service: doc-classifier
  indicator:
    metadata: {name: queued}
    spec:
      ratioMetric:
        counter: false
        good: {metricSource: {type: Tempo, spec: {query: '{resource.service.name="target-service" && name="queue" && duration <= 2s} | count_over_time()'}}}
        total: {metricSource: {type: Tempo, spec: {query: '{resource.service.name="target-service" && name="queue"} | count_over_time()'}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: half queued under 2 s, target: 0.5}]
"#;

#[track_caller]
fn assert_ends(run: &Run, code: i32, verdict: &str) -> serde_json::Value {
    assert_eq!(run.code, code, "{}", run.story());
    let report = run.report();
    assert_eq!(report["verdict"], verdict, "{}", run.story());
    for file in [
        "junit.xml",
        "report.md",
        "report.html",
        "run.json",
        "requests.jsonl",
        "manifest.json",
    ] {
        assert!(run.dir.join(file).is_file(), "{file} is missing");
    }
    report
}

fn objective<'a>(report: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let all = report["objectives"].as_array().expect("objectives");
    all.iter()
        .find(|o| o["name"] == name)
        .unwrap_or_else(|| panic!("no objective {name}"))
}

#[test]
fn a_healthy_service_passes_on_all_four_kinds_of_evidence_and_is_judged_alike_offline() {
    let run = run(&scenario("", STAGES, ""), SLO, &[]);
    let report = assert_ends(&run, 0, "pass");
    let sources: Vec<_> = report["objectives"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| o["source"].clone())
        .collect();
    assert_eq!(sources, ["client", "prometheus", "loki", "tempo"]);
    for source in report["coverage"]["sources"].as_array().unwrap() {
        assert_eq!(source["complete"], true, "{source}");
    }

    let judged = harness()
        .arg("judge")
        .arg(&run.dir)
        .args(["--format", "json"])
        .output()
        .unwrap();
    assert_eq!(judged.status.code(), Some(0));
    let live = std::fs::read_to_string(run.dir.join("report.json")).unwrap();
    let again = String::from_utf8(judged.stdout).unwrap();
    let but_time = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| !line.trim_start().starts_with("\"judged_at\""))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(but_time(&live), but_time(&again));

    // The report is what its published schema says.
    let schema = std::fs::read_to_string(
        harness_tests::root().join("harness/core/schemas/report.schema.json"),
    )
    .unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let wrong: Vec<String> = schema
        .iter_errors(&report)
        .map(|error| error.to_string())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");

    asked_anew(&run);

    // A changed byte is noticed, in the evidence too.
    let evidence = run.dir.join("evidence/logs.seg");
    let good = std::fs::read(&evidence).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&evidence, &bad).unwrap();
    let judged = harness().arg("judge").arg(&run.dir).output().unwrap();
    assert_eq!(judged.status.code(), Some(12));
    assert!(String::from_utf8_lossy(&judged.stderr).contains("evidence/logs.seg"));
    std::fs::write(&evidence, &good).unwrap();
    let rows = run.dir.join("requests.jsonl");
    let text = std::fs::read_to_string(&rows).unwrap();
    std::fs::write(
        &rows,
        text.replacen("\"outcome\":\"expected\"", "\"outcome\":\"timeout\"", 1),
    )
    .unwrap();
    let judged = harness().arg("judge").arg(&run.dir).output().unwrap();
    assert_eq!(
        judged.status.code(),
        Some(12),
        "{}",
        String::from_utf8_lossy(&judged.stderr)
    );
    assert!(String::from_utf8_lossy(&judged.stderr).contains("requests.jsonl"));
}

/// Questions that nobody asked in the run are answered from its evidence, which a stack shows too.
fn asked_anew(run: &Run) {
    let slo = SLO
        .replace("duration <= 2s", "duration <= 3s")
        .replace("=~\"5..\"", "=~\"5[0-9]+\"")
        .replace(
            "severity_text = \"ERROR\"",
            "severity_text =~ \"ERROR|FATAL\"",
        );
    let other = run.keep.path().join("other.yaml");
    std::fs::write(&other, slo).unwrap();
    let judge = || {
        let mut command = harness();
        command.arg("judge").arg(&run.dir).arg("--slo").arg(&other);
        command.args(["--format", "json"]).output().unwrap()
    };
    let judged = judge();
    let said = String::from_utf8_lossy(&judged.stderr);
    assert!(
        said.contains("were put to the run's embedded evidence"),
        "{said}"
    );
    let report: serde_json::Value = serde_json::from_slice(&judged.stdout).expect("JSON");
    for name in ["server-errors", "error-lines", "queue-wait"] {
        assert_eq!(objective(&report, name)["verdict"], "pass", "{report}");
    }
    assert_eq!(judged.status.code(), Some(0));
    let again: serde_json::Value = serde_json::from_slice(&judge().stdout).expect("JSON");
    assert_eq!(again["objectives"], report["objectives"]);

    let mut stack = harness()
        .args(["stack", "--data"])
        .arg(&run.dir)
        .args([
            "--prometheus",
            "127.0.0.1:0",
            "--loki",
            "127.0.0.1:0",
            "--tempo",
            "127.0.0.1:0",
        ])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(stack.stderr.take().unwrap()).lines();
    let urls: Vec<String> = lines
        .map(Result::unwrap)
        .inspect(|line| assert!(!line.contains("incomplete"), "{line}"))
        .filter_map(|line| Some(line.split_once("http://")?.1.to_owned()))
        .take(3)
        .collect();
    let mut client = std::net::TcpStream::connect(&urls[0]).unwrap();
    client
        .write_all(
            b"GET /api/v1/label/http_route/values HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        )
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    stack.kill().unwrap();
    stack.wait().unwrap();
    assert!(answer.contains("\"/predict\""), "{answer}");
}

#[test]
fn a_slow_service_fails_and_the_report_shows_the_requests_behind_it() {
    let faults = "  faults: [{at: 0s, for: 60s, kind: latency, add: 400ms}]\n";
    let slo = SLO.replace("<= 2s", "<= 200ms");
    let run = run(&scenario(", --allow-faults", STAGES, faults), &slo, &[]);
    let report = assert_ends(&run, 10, "fail");
    let missed = objective(&report, "client-latency");
    assert_eq!(missed["verdict"], "fail");
    let shown = missed["evidence"].as_array().unwrap();
    assert!(!shown.is_empty(), "{missed}");
    let detail = report["requests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["id"] == shown[0])
        .unwrap();
    let spans: Vec<_> = detail["spans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["name"].as_str().unwrap())
        .collect();
    for stage in ["preprocess", "queue", "inference", "postprocess"] {
        assert!(spans.contains(&stage), "{stage} is not among {spans:?}");
    }
    assert!(!detail["logs"].as_array().unwrap().is_empty(), "{detail}");
    assert!(run.stdout.contains("client-latency"), "{}", run.stdout);
}

#[test]
fn telemetry_that_is_cut_off_half_way_is_inconclusive_and_never_a_pass() {
    let faults = "  faults: [{at: 4s, for: 60s, kind: telemetry-cut}]\n  settle: 3s\n";
    let run = run(&scenario(", --allow-faults", STAGES, faults), SLO, &[]);
    let report = assert_ends(&run, 11, "inconclusive");
    assert_eq!(objective(&report, "client-latency")["verdict"], "pass");
    for name in ["server-errors", "error-lines", "queue-wait"] {
        assert_eq!(
            objective(&report, name)["verdict"],
            "inconclusive",
            "{name}"
        );
    }
    let sources = report["coverage"]["sources"].as_array().unwrap();
    assert!(
        sources.iter().all(|s| s["complete"] == false),
        "{sources:?}"
    );
    assert!(
        sources.iter().any(|s| s["missing_since"].is_number()),
        "{sources:?}"
    );
}

#[test]
fn a_generator_without_connections_is_an_invalid_run_with_a_remedy() {
    let faults = "  faults: [{at: 0s, for: 60s, kind: latency, add: 300ms}]\n";
    let text = scenario(", --allow-faults", STAGES, faults)
        .replace("timeout: 5s", "timeout: 30s\n    maxConnections: 1")
        .replace("{over: 2s, share: 10%}", "{over: 10ms, share: 1%}");
    let run = run(&text, SLO, &[]);
    let report = assert_ends(&run, 12, "invalid");
    assert_eq!(report["reason_code"], "late_sends", "{}", run.story());
    assert!(run.stdout.contains("maxConnections"), "{}", run.stdout);
}

#[test]
fn closed_users_are_judged_too() {
    let text = scenario(
        "",
        "{phase: warmup, for: 1s}, {phase: measure, for: 6s}",
        "",
    )
    .replace(
        "executor: constant-arrival-rate\n      spacing: poisson",
        "executor: constant-vus\n      vus: 5\n      thinkTime: {uniform: [100ms, 200ms]}",
    );
    assert_ends(&run(&text, SLO, &[]), 0, "pass");
}

#[test]
fn the_wrong_build_is_an_invalid_run() {
    let text =
        scenario("", STAGES, "").replace("timeout: 5s", "timeout: 5s\n    expectVersion: 9.9.9");
    let report = assert_ends(&run(&text, SLO, &[]), 12, "invalid");
    assert_eq!(report["reason_code"], "expected_version");
}

#[test]
fn wrong_answers_under_the_expected_status_are_errors() {
    let faults = "  faults: [{at: 0s, for: 60s, kind: wrong-answers}]\n";
    let text = scenario(", --allow-faults", STAGES, faults).replace(
        "expect: {status: 200}",
        r#"expect: {status: 200, json: {"$.result": "{{ answer }}"}}"#,
    );
    let run = run(&text, SLO, &[]);
    let report = assert_ends(&run, 10, "fail");
    assert_eq!(objective(&report, "client-latency")["verdict"], "fail");
    assert_eq!(
        objective(&report, "server-errors")["verdict"],
        "pass",
        "the server saw nothing wrong"
    );
}
