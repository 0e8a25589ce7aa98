//! One schedule sent by two processes, merged into one run and judged as one.

use std::path::{Path, PathBuf};
use std::process::Output;

use harness_tests::{ANSWERS, harness, lay_out, service};

/// Beside [`ANSWERS`].
const RATE: &str = r#"---
apiVersion: openslo/v1
kind: SLO
metadata: {name: rate}
spec:
  service: target
  indicator:
    metadata: {name: rate}
    spec:
      thresholdMetric: {metricSource: {type: LoadClient, spec: {request: ping, metric: rate}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: 150 a second, op: gte, value: 150, target: 0.9}]
"#;

fn slo() -> String {
    format!("{ANSWERS}{RATE}")
}

fn scenario(url: &str, seed: u64) -> String {
    format!(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {{name: shards}}
spec:
  seed: {seed}
  slo: [slo.yaml]
  target: {{url: "{url}"}}
  validity: {{lateSends: {{over: 5s, share: 50%}}, stall: 20s}}
  requests: [{{name: ping, method: GET, path: /, expect: {{status: 200}}}}]
  loads:
    - name: steady
      mix: {{ping: 1}}
      executor: constant-arrival-rate
      spacing: poisson
      stages: [{{phase: measure, rate: 200/s, for: 2s}}]
"#
    )
}

/// Runs the shards side by side, from one instant on.
fn shards(laid_out: &Path, names: &[&str]) -> Vec<(PathBuf, Output)> {
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    let soon = soon.duration_since(std::time::UNIX_EPOCH).unwrap();
    let start = harness_core::units::UnixNanos(soon.as_nanos() as u64).rfc3339();
    let children = names.iter().map(|name| {
        let out = laid_out.join(name.replace('/', "-of-"));
        let mut command = harness();
        command
            .arg("run")
            .arg(laid_out.join("scenario.yaml"))
            .arg("--quiet");
        command
            .args(["--shard", name, "--start-at", &start, "--out"])
            .arg(&out);
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        (out, command.spawn().unwrap())
    });
    let children: Vec<_> = children.collect();
    let ended = children
        .into_iter()
        .map(|(out, child)| (out, child.wait_with_output().unwrap()));
    ended.collect()
}

fn told(output: &Output) -> String {
    format!(
        "exit {:?}\n{}\n{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn merge(out: &Path, dirs: &[&Path]) -> Output {
    let mut command = harness();
    command
        .arg("merge")
        .args(dirs)
        .arg("--out")
        .arg(out)
        .arg("--quiet");
    command.output().unwrap()
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The schedule's ids as `harness schedule` lists them, and those that a run recorded.
fn planned(laid_out: &Path) -> Vec<u64> {
    let mut command = harness();
    command
        .args(["schedule", "--format", "json"])
        .arg(laid_out.join("scenario.yaml"));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let ids = text.lines().filter(|line| !line.is_empty()).map(|line| {
        let arrival: serde_json::Value = serde_json::from_str(line).unwrap();
        arrival["id"].as_u64().unwrap()
    });
    ids.collect()
}

fn recorded(dir: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(dir.join("requests.jsonl")).unwrap();
    let ids = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["row"]["id"].as_u64().unwrap()
    });
    let mut ids: Vec<u64> = ids.collect();
    ids.sort_unstable();
    ids
}

#[test]
fn two_shards_are_one_run_and_each_alone_decides_nothing() {
    let url = service(true);
    let keep = lay_out(&scenario(&url, 7), &slo());
    let ended = shards(keep.path(), &["0/2", "1/2"]);
    for (dir, output) in &ended {
        // Alone: half the rate is no miss, and all answered is no pass.
        assert_eq!(output.status.code(), Some(11), "{}", told(output));
        assert_eq!(json(&dir.join("report.json"))["reason_code"], "one_shard");
    }
    let dirs: Vec<&Path> = ended.iter().map(|(dir, _)| dir.as_path()).collect();

    let out = keep.path().join("merged");
    // In any order.
    let merged = merge(&out, &[dirs[1], dirs[0]]);
    assert_eq!(merged.status.code(), Some(0), "{}", told(&merged));
    let mut ids = planned(keep.path());
    ids.sort_unstable();
    assert!(ids.len() > 300, "{}", ids.len());
    assert_eq!(recorded(&out), ids, "the union is the whole schedule");
    let run = json(&out.join("run.json"));
    assert_eq!(run["context"]["shards"][1]["shard"], "1/2");
    assert_eq!(
        run["generator"]["scheduled"].as_u64(),
        Some(ids.len() as u64)
    );

    // And again, offline.
    let judged = harness().arg("judge").arg(&out).output().unwrap();
    assert_eq!(judged.status.code(), Some(0), "{}", told(&judged));

    // Half of it is no run, nor is one half twice.
    for dirs in [vec![dirs[0], dirs[0]], vec![dirs[0], out.as_path()]] {
        let none = keep.path().join("none");
        let refused = merge(&none, &dirs);
        assert_eq!(refused.status.code(), Some(12), "{}", told(&refused));
        let said = told(&refused);
        assert!(said.contains("shard 1/2 is missing"), "{said}");
        assert!(!none.exists(), "{said}");
    }

    // Nor do shards of different schedules make one.
    let other = lay_out(&scenario(&url, 8), &slo());
    let foreign = shards(other.path(), &["1/2"]);
    let refused = merge(&keep.path().join("none"), &[dirs[0], &foreign[0].0]);
    assert_eq!(refused.status.code(), Some(12), "{}", told(&refused));
    assert!(
        told(&refused).contains("another scenario, another seed"),
        "{}",
        told(&refused)
    );

    // A row changed after the fact is noticed before anything is merged.
    let rows = dirs[1].join("requests.jsonl");
    let text = std::fs::read_to_string(&rows).unwrap();
    std::fs::write(&rows, text.replacen("expected", "too_slow", 1)).unwrap();
    let refused = merge(&keep.path().join("none"), &dirs);
    assert_eq!(refused.status.code(), Some(12), "{}", told(&refused));
}

/// More requests than rows are kept of: by each shard, and again by what they are merged into.
#[test]
fn shards_that_keep_a_sample_are_counted_whole() {
    let url = service(true);
    let sampling = scenario(&url, 7)
        .replace("  validity:", "  record: {rows: 100}\n  validity:")
        .replace("rate: 200/s", "rate: 500/s");
    let keep = lay_out(&sampling, &slo());
    let ended = shards(keep.path(), &["0/2", "1/2"]);
    let dirs: Vec<&Path> = ended.iter().map(|(dir, _)| dir.as_path()).collect();
    let out = keep.path().join("merged");
    let merged = merge(&out, &dirs);
    // How much a hundred rows are worth is the machine's affair.
    let code = merged.status.code();
    assert!(matches!(code, Some(0 | 11)), "{}", told(&merged));

    let mut ids = planned(keep.path());
    ids.sort_unstable();
    let report = json(&out.join("report.json"));
    let run = json(&out.join("run.json"));
    let sampled = &run["context"]["sampled"];
    let one_in = sampled["one_in"].as_u64().unwrap();
    assert!(one_in >= 8, "{sampled}");
    assert_eq!(sampled["requests"].as_u64(), Some(ids.len() as u64));
    let samples = &report["objectives"][0]["samples"];
    assert_eq!(samples.as_u64(), Some(ids.len() as u64), "{samples}");
    let kept = |id: &u64| {
        harness_core::record::sampled::keeps(harness_core::units::RequestId(*id), one_in)
    };
    ids.retain(kept);
    assert_eq!(recorded(&out), ids);
    assert!(ids.len() <= 100, "{}", ids.len());
    for dir in &dirs {
        let rows = recorded(dir).len();
        assert!((1..=100).contains(&rows), "{rows}");
    }

    let judged = harness().arg("judge").arg(&out).output().unwrap();
    assert_eq!(judged.status.code(), code, "{}", told(&judged));
}

#[test]
fn what_shards_cannot_share_is_refused() {
    let keep = lay_out(
        &scenario("http://127.0.0.1:1", 7).replace(
            "target: {url: \"http://127.0.0.1:1\"}",
            "target: {url: \"http://127.0.0.1:1\"}\n  telemetry: {embedded: {scrape: []}}",
        ),
        &slo(),
    );
    let mut command = harness();
    command
        .arg("run")
        .arg(keep.path().join("scenario.yaml"))
        .args(["--shard", "0/2"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("harness stack"), "{}", told(&output));
    command.args(["--retries", "1"]);
    assert_eq!(command.output().unwrap().status.code(), Some(2));
}

/// It leaves no directory behind, which would stand in the way of the next try.
#[test]
fn a_start_that_has_passed_is_refused_before_anything_begins() {
    let keep = lay_out(&scenario("http://127.0.0.1:1", 7), &slo());
    let out = keep.path().join("run");
    let mut command = harness();
    command
        .arg("run")
        .arg(keep.path().join("scenario.yaml"))
        .args(["--shard", "0/2", "--start-at", "2020-01-01T00:00:00Z"])
        .arg("--out")
        .arg(&out);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    let said = told(&output);
    assert!(
        said.contains("--start-at 2020-01-01T00:00:00Z has passed"),
        "{said}"
    );
    assert!(!out.exists());
}
