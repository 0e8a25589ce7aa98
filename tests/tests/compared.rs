//! The real `harness` against the real `target-service`: runs compared with earlier ones, made again,
//! and set side by side.

use std::path::Path;

use harness_tests::{harness, lay_out};

/// Short and light: what is judged here is the judging, not this machine.
const SCENARIO: &str = r#"apiVersion: harness/v1
kind: Scenario
metadata: {name: compared}
spec:
  seed: 7
  slo: [slo.yaml]
  target:
    start: {command: [target-service, --listen, "127.0.0.1:0", --model, tfidf], ready: /readyz, within: 60s}
    timeout: 5s
  telemetry: {embedded: {scrape: [{job: target-service, every: 500ms}]}}
  requests:
    - name: classify
      method: POST
      path: /predict
      body: {dataset: data/documents.jsonl, field: text, order: shuffled}
      expect: {status: 200}
  loads:
    - name: steady
      mix: {classify: 1}
      executor: constant-arrival-rate
      spacing: poisson
      stages: [{phase: measure, rate: 30/s, for: 5s}]
  validity: {lateSends: {over: 2s, share: 10%}}
"#;

/// Half answered is little to ask: a stall of a busy machine makes so short a run worth a handful of
/// independent requests. No bad answers, now as then: by some 150 requests the share has risen by less
/// than 3 points, by half as many independent ones by less than 5.
const SLO: &str = r#"apiVersion: openslo/v1
kind: SLO
metadata: {name: answers, annotations: {harness/baseline: "+0.5"}}
spec:
  indicator:
    metadata: {name: answers}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: LoadClient, spec: {outcome: expected}}}
        total: {metricSource: {type: LoadClient, spec: {}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: half answered, target: 0.5}]
"#;

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(at: &Path, args: &[&str]) -> Ran {
    let output = harness()
        .args(args)
        .current_dir(at)
        .output()
        .expect("harness starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// A report without the time it was made.
fn timeless(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.contains("\"judged_at\""));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_run_is_compared_with_an_earlier_one_and_judged_again_without_it() {
    let keep = lay_out(SCENARIO, SLO);
    let at = keep.path();
    let first = run(at, &["run", "scenario.yaml", "--out", "one", "--quiet"]);
    assert_eq!(first.code, Some(11), "{}{}", first.stdout, first.stderr);
    assert!(
        first.stdout.contains("no baseline was given"),
        "{}",
        first.stdout
    );

    let args = [
        "run",
        "scenario.yaml",
        "--out",
        "two",
        "--production-rate",
        "200/s",
        "--baseline",
        "one",
    ];
    let second = run(at, &args);
    assert_eq!(second.code, Some(0), "{}{}", second.stdout, second.stderr);
    let squeezed = second
        .stdout
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for told in [
        "no worse than +0.5 of the baseline",
        "of its error budget",
        "1 earlier run",
    ] {
        assert!(squeezed.contains(told), "{told}: {}", second.stdout);
    }

    let compared = run(at, &["compare", "one", "two", "--format", "json"]);
    assert_eq!(
        compared.code,
        Some(0),
        "{}{}",
        compared.stdout,
        compared.stderr
    );
    let comparison: serde_json::Value = serde_json::from_str(&compared.stdout).expect("JSON");
    assert_eq!(comparison["comparable"], true);
    assert_eq!(comparison["pairs"][0]["deltas"][0]["name"], "p50");
    let same = run(at, &["compare", "one", "one"]);
    assert_eq!(same.code, Some(11), "{}", same.stdout);
    assert!(same.stdout.contains("the same run"), "{}", same.stdout);

    // Offline, without the earlier run, the very same report.
    std::fs::remove_dir_all(at.join("one")).expect("removed");
    let live = std::fs::read_to_string(at.join("two/report.json")).expect("report.json");
    let again = run(at, &["judge", "two", "--format", "json"]);
    assert_eq!(timeless(&again.stdout), timeless(&live));
    // With a baseline that is not there it is not decided.
    let gone = run(at, &["judge", "two", "--baseline", "one"]);
    assert_eq!(gone.code, Some(11), "{}", gone.stdout);
    assert!(gone.stdout.contains("cannot be used"), "{}", gone.stdout);
}

#[test]
fn attempts_add_up_and_none_is_lost() {
    // At the surer confidence of three looks (1 - 0.05 / 3) it takes 271 requests without a miss to show
    // 98.5 %: one attempt of some 150 cannot.
    let slo = SLO
        .replace("harness/baseline: \"+0.5\"", "harness/gate: required")
        .replace("target: 0.5", "target: 0.985");
    let keep = lay_out(SCENARIO, &slo);
    let at = keep.path();
    let tried = run(
        at,
        &["run", "scenario.yaml", "--out", "tried", "--retries", "2"],
    );
    assert!(
        tried
            .stderr
            .contains("attempt 1 of at most 3 is inconclusive"),
        "{}{}",
        tried.stdout,
        tried.stderr
    );
    let report = std::fs::read_to_string(at.join("tried/report.json")).expect("report.json");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let number = report["attempts"]["number"].as_u64().expect("a number");
    assert!(number >= 2, "{report}");
    assert_eq!(report["attempts"]["earlier"][0]["pooled"], true);
    let samples = report["objectives"][0]["samples"]
        .as_u64()
        .expect("samples");
    assert!(samples > number * 100, "{samples}");
    // Every attempt is kept whole, and the last gives the same verdict again.
    for attempt in 1..=number {
        let dir = at.join(format!("tried/attempt-{attempt}"));
        assert!(dir.join("manifest.json").is_file(), "{}", dir.display());
    }
    let last = format!("tried/attempt-{number}");
    let again = run(at, &["judge", &last, "--format", "json"]);
    let live = std::fs::read_to_string(at.join("tried/report.json")).expect("report.json");
    assert_eq!(timeless(&again.stdout), timeless(&live));
    assert_eq!(again.code, tried.code);
}
