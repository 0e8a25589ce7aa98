//! Runs that end early or cannot begin: each has its own exit code and loses nothing measured.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use harness_tests::{command, finished, harness, lay_out, run};

const SLO: &str = r#"
apiVersion: openslo/v1
kind: SLO
metadata: {name: client-latency}
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
  objectives: [{displayName: 90 % under 2 s, target: 0.9}]
"#;

fn scenario(target: &str, telemetry: &str) -> String {
    format!(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {{name: endings}}
spec:
  seed: 7
  slo: [slo.yaml]
  target: {{{target}}}
  telemetry: {{{telemetry}}}
  settle: 2s
  validity: {{lateSends: {{over: 5s, share: 50%}}}}
  requests:
    - {{name: classify, method: POST, path: /predict, body: {{text: the engine needs oil}}, expect: {{status: 200}}}}
  loads:
    - name: steady
      mix: {{classify: 1}}
      executor: constant-arrival-rate
      stages: [{{phase: measure, rate: 20/s, for: 60s}}]
"#
    )
}

const STARTED: &str = r#"start: {command: [target-service, --listen, "127.0.0.1:0", --model, tfidf], ready: /readyz, within: 60s}"#;
const EMBEDDED: &str = "embedded: {scrape: [{job: target-service, every: 500ms}]}";

/// A loopback port on which nothing listens: bound, read, and let go.
fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Waits for rows of a run under way, not longer than a minute.
fn wait_for_rows(path: &std::path::Path, rows: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::read_to_string(path).map_or(0, |text| text.lines().count()) < rows {
        assert!(
            Instant::now() < deadline,
            "{} never held {rows} rows",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_unreachable_target_is_14_with_a_report() {
    let text = scenario(
        &format!("url: \"http://127.0.0.1:{}\"", closed_port()),
        EMBEDDED,
    )
    .replace(
        "job: target-service,",
        "job: target-service, url: \"http://127.0.0.1:1/metrics\",",
    );
    let run = run(&text, SLO, &[]);
    assert_eq!(run.code, 14, "{}", run.story());
    assert_eq!(run.report()["verdict"], "invalid");
    assert_eq!(run.report()["reason_code"], "target_unreachable");
}

#[test]
fn an_unreachable_backend_is_13_with_a_report() {
    let loki = format!("http://127.0.0.1:{}", closed_port());
    let run = run(&scenario(STARTED, EMBEDDED), SLO, &["--loki", &loki]);
    assert_eq!(run.code, 13, "{}", run.story());
    assert_eq!(run.report()["verdict"], "invalid");
    assert_eq!(run.report()["reason_code"], "backend_unreachable");
    assert!(run.stdout.contains(&loki), "{}", run.stdout);
}

#[test]
fn an_interrupt_drains_and_reports_what_was_measured() {
    let keep = lay_out(&scenario(STARTED, EMBEDDED), SLO);
    let dir = keep.path().join("run");
    let mut command = command(keep.path(), &[]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_rows(&dir.join("requests.jsonl"), 10);
    interrupt(child.id());
    let run = finished(child.wait_with_output().unwrap(), dir, keep);
    assert_eq!(run.code, 130, "{}", run.story());
    let report = run.report();
    assert_eq!(report["verdict"], "invalid");
    assert_eq!(report["reason_code"], "interrupted");
    assert!(
        report["load"][0]["scheduled"].as_u64().unwrap() >= 10,
        "{}",
        run.story()
    );
}

fn interrupt(pid: u32) {
    let status = std::process::Command::new("kill")
        .args(["-INT", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn a_killed_run_is_refused_offline_with_what_it_holds() {
    let keep = lay_out(&scenario(STARTED, EMBEDDED), SLO);
    let dir = keep.path().join("run");
    let mut child = command(keep.path(), &["--quiet"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_rows(&dir.join("requests.jsonl"), 5);
    child.kill().unwrap();
    child.wait().unwrap();
    let judged = harness().arg("judge").arg(&dir).output().unwrap();
    let said = String::from_utf8_lossy(&judged.stderr).into_owned();
    assert_eq!(judged.status.code(), Some(12), "{said}");
    assert!(
        said.contains("never finished") && said.contains("requests are recorded"),
        "{said}"
    );
    assert!(!dir.join("report.json").exists());
}

#[test]
fn a_target_that_dies_is_failed_requests_not_a_lost_run() {
    let keep = lay_out(
        &scenario(STARTED, EMBEDDED).replace("for: 60s", "for: 8s"),
        SLO,
    );
    let dir = keep.path().join("run");
    let child = command(keep.path(), &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_rows(&dir.join("requests.jsonl"), 20);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))
        .unwrap_or_default();
    for pid in children.split_whitespace() {
        let _ = std::process::Command::new("kill")
            .args(["-KILL", pid])
            .status();
    }
    let run = finished(child.wait_with_output().unwrap(), dir, keep);
    assert_eq!(
        run.code,
        10,
        "most requests were refused, which the client alone proves: {}",
        run.story()
    );
    let outcomes = run.report()["load"].to_string();
    assert!(
        outcomes.contains("connection_refused") || outcomes.contains("connection_reset"),
        "{outcomes}"
    );
}

#[test]
fn usage_and_configuration_errors_are_2_and_name_file_line_and_key() {
    assert_eq!(
        harness().arg("run").output().unwrap().status.code(),
        Some(2)
    );
    assert_eq!(
        harness().arg("fly").output().unwrap().status.code(),
        Some(2)
    );

    let text = scenario(STARTED, EMBEDDED).replace("executor:", "exekutor:");
    let run = run(&text, SLO, &[]);
    assert_eq!(run.code, 2, "{}", run.story());
    assert!(
        run.stderr.contains("scenario.yaml:") && run.stderr.contains("exekutor"),
        "{}",
        run.stderr
    );
    assert!(
        !run.dir.exists(),
        "nothing may start before all files are valid"
    );
}

#[test]
fn no_objectives_are_a_usage_error_in_every_shape() {
    let without = scenario(STARTED, EMBEDDED).replace("  slo: [slo.yaml]\n", "");
    let run_without = run(&without, SLO, &[]);
    assert_eq!(run_without.code, 2, "{}", run_without.story());

    let empty = run(&scenario(STARTED, EMBEDDED), "", &[]);
    assert_eq!(empty.code, 2, "{}", empty.story());

    let keep = lay_out(&scenario(STARTED, EMBEDDED), SLO);
    std::fs::create_dir(keep.path().join("none")).unwrap();
    let none = keep.path().join("none").display().to_string();
    let output = command(keep.path(), &["--slo", &none]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("holds no SLO files"));

    let whole = run(
        &scenario(STARTED, EMBEDDED),
        &SLO.replace("target: 0.9", "target: 1.0"),
        &[],
    );
    assert_eq!(whole.code, 2, "{}", whole.story());
}

#[test]
fn a_run_directory_is_never_written_over() {
    let keep = lay_out(&scenario(STARTED, EMBEDDED), SLO);
    let dir = keep.path().join("run");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("report.json"), "mine").unwrap();
    let output = command(keep.path(), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        std::fs::read_to_string(dir.join("report.json")).unwrap(),
        "mine"
    );
}

#[test]
fn an_ended_harness_leaves_no_target_behind() {
    let keep = lay_out(&scenario(STARTED, EMBEDDED), SLO);
    let dir = keep.path().join("run");
    let mut child = command(keep.path(), &["--quiet"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_rows(&dir.join("requests.jsonl"), 1);
    let first = std::fs::File::open(dir.join("target.stdout.log"))
        .map(BufReader::new)
        .unwrap()
        .lines()
        .next();
    let announced: serde_json::Value = serde_json::from_str(&first.unwrap().unwrap()).unwrap();
    let address = announced["http"].as_str().unwrap().to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::net::TcpStream::connect(&address).is_ok() {
        assert!(
            Instant::now() < deadline,
            "the target still listens on {address}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_real_tempo_without_a_road_for_traces_is_a_usage_error() {
    let run = run(
        &scenario(STARTED, EMBEDDED),
        SLO,
        &["--tempo", "http://127.0.0.1:1"],
    );
    assert_eq!(run.code, 2, "{}", run.story());
    assert!(run.stderr.contains("--otlp"), "{}", run.stderr);
    assert!(!run.dir.exists());
}
