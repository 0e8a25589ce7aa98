//! `harness doctor` against the real service and against things that are not there.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use harness_tests::{harness, lay_out};

const SLO: &str = r#"
apiVersion: openslo/v1
kind: SLO
metadata: {name: answers, annotations: {harness/signal: errors}}
spec:
  service: doc-classifier
  indicator:
    metadata: {name: answers}
    spec:
      ratioMetric:
        counter: true
        bad: {metricSource: {type: Prometheus, spec: {query: 'sum(METRIC{http_response_status_code=~"5.."}) or 0 * sum(METRIC)'}}}
        total: {metricSource: {type: Prometheus, spec: {query: 'sum(METRIC)'}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: 90 % answered, target: 0.9}]
"#;

fn slo(metric: &str) -> String {
    SLO.replace("METRIC", metric)
}

const COUNT: &str = "http_server_request_duration_seconds_count";

const STARTED: &str = r#"start: {command: [target-service, --listen, "127.0.0.1:0", --model, tfidf], ready: /readyz, within: 60s}"#;

fn scenario(target: &str, job: &str) -> String {
    format!(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {{name: looked-at}}
spec:
  seed: 7
  slo: [slo.yaml]
  target:
    {target}
    timeout: 5s
  telemetry: {{embedded: {{scrape: [{job}]}}}}
  requests:
    - name: classify
      method: POST
      path: /predict
      body: {{dataset: data/documents.jsonl, field: text}}
      expect: {{status: 200}}
  loads:
    - name: steady
      mix: {{classify: 1}}
      executor: constant-arrival-rate
      stages: [{{phase: measure, rate: 20/s, for: 6s}}]
  settle: 10s
"#
    )
}

/// Exit code and the checks, each as `area name state said`.
fn doctor(scenario: &str, slo: &str, args: &[&str]) -> (Option<i32>, Vec<String>) {
    let files = lay_out(scenario, slo);
    let output = harness()
        .arg("doctor")
        .arg(files.path().join("scenario.yaml"))
        .args(["--format", "json", "--quiet"])
        .args(args)
        .output()
        .expect("harness starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    let report: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", said()));
    assert_eq!(report["schema"], "harness.checkup/v1");
    let field = |check: &serde_json::Value, key: &str| check[key].as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().expect("checks");
    let lines = checks.iter().map(|c| {
        ["area", "name", "state", "said"]
            .map(|key| field(c, key))
            .join(" ")
    });
    (output.status.code(), lines.collect())
}

fn has(lines: &[String], start: &str) -> bool {
    lines.iter().any(|line| line.starts_with(start))
}

#[test]
fn a_sound_set_up_is_well_in_every_line_that_is_not_about_this_machine() {
    let job = "{job: target-service, every: 500ms}";
    let (code, lines) = doctor(&scenario(STARTED, job), &slo(COUNT), &[]);
    assert_eq!(code, Some(0), "{lines:#?}");
    for line in [
        "prometheus reachable ok",
        "prometheus version ok",
        "loki reachable ok",
        "tempo clock ok",
        "target reachable ok",
        "target probing requests ok",
        "prometheus request counter ok",
        "loki traceparent in logs ok",
        "tempo traceparent honoured ok",
        "tempo our own spans ok",
        "objectives queries ok",
        "objectives metric names ok",
        "target version ok",
    ] {
        assert!(has(&lines, line), "{line}: {lines:#?}");
    }
}

#[test]
fn a_metric_that_nobody_exports_is_named_with_those_alike() {
    let job = "{job: target-service, every: 500ms}";
    let wrong = slo("http_server_request_duration_second_count");
    let (code, lines) = doctor(&scenario(STARTED, job), &wrong, &[]);
    assert_eq!(code, Some(2), "{lines:#?}");
    let lost = "objectives metric names fail no metric is called `http_server_request_duration_second_count`";
    assert!(has(&lines, lost), "{lines:#?}");
}

#[test]
fn what_cannot_be_reached_has_its_own_exit() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let job = "{job: target-service, every: 500ms}";
    let (code, lines) = doctor(
        &scenario(STARTED, job),
        &slo(COUNT),
        &["--prometheus", &nobody],
    );
    assert_eq!(code, Some(13), "{lines:#?}");
    assert!(has(&lines, "prometheus reachable fail"), "{lines:#?}");
    // One that is gone does not hide what the others say.
    assert!(has(&lines, "loki traceparent in logs ok"), "{lines:#?}");

    let job = format!("{{job: target-service, every: 500ms, url: \"{nobody}/metrics\"}}");
    let target = format!("url: \"{nobody}\"");
    let (code, lines) = doctor(&scenario(&target, &job), &slo(COUNT), &[]);
    assert_eq!(code, Some(14), "{lines:#?}");
    assert!(has(&lines, "target reachable fail"), "{lines:#?}");
}

/// Answers every request of a connection with an empty 200.
fn answer_all(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut length = 0;
        let mut line = String::new();
        while reader.read_line(&mut line).ok().filter(|n| *n > 0)? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            line.clear();
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        writer.write_all(answer.as_bytes()).ok()?;
    }
}

/// A service that answers rightly and has no telemetry at all: a run against it could not be judged.
#[test]
fn a_service_that_drops_traceparent_is_found_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer_all(stream));
        }
    });
    let job = format!("{{job: mute, every: 500ms, url: \"http://{address}/metrics\"}}");
    let target = format!("url: \"http://{address}\"");
    let (code, lines) = doctor(&scenario(&target, &job), &slo(COUNT), &[]);
    assert_eq!(code, Some(2), "{lines:#?}");
    for line in [
        "prometheus request counter fail",
        "loki traceparent in logs fail",
        "tempo traceparent honoured fail",
        "objectives metric names fail",
        "target version warn",
    ] {
        assert!(has(&lines, line), "{line}: {lines:#?}");
    }
}
