//! What the harness and the service agree on: published names, file formats, and nothing else.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use harness_core::objective::{self, Objective};
use harness_core::report::model::Source;
use harness_tests::{binary, harness, root};

fn yaml_in(dir: &str) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(root().join(dir)).unwrap_or_else(|error| panic!("{dir}: {error}"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "{dir} holds no YAML");
    files
}

fn shipped_objectives() -> Vec<Objective> {
    // Two files may use one SLO name for two scenarios, so each file is read by itself.
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        objective::parse(&[(file.display().to_string(), text)])
            .unwrap_or_else(|wrong| panic!("{wrong}"))
    };
    yaml_in("slo").into_iter().flat_map(read).collect()
}

#[test]
fn every_shipped_scenario_and_slo_file_checks() {
    for file in yaml_in("scenarios").into_iter().chain(yaml_in("slo")) {
        let output = harness().arg("check").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {said}", file.display());
    }
}

#[test]
fn check_names_everything_that_is_wrong_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("s.yaml");
    std::fs::write(
        &file,
        "apiVersion: harness/v1\nkind: Scenario\nmetadata: {name: x}\nspec: {sede: 1}\n",
    )
    .unwrap();
    let output = harness()
        .arg("check")
        .arg(&file)
        .arg("no-such-file.yaml")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("sede") && said.contains("no-such-file.yaml"),
        "{said}"
    );
}

#[test]
fn the_service_depends_on_nothing_of_the_harness() {
    let manifest = std::fs::read_to_string(root().join("target-service/Cargo.toml")).unwrap();
    let dependencies = &manifest[manifest.find("[dependencies]").unwrap()..];
    assert!(!dependencies.contains("harness"), "{dependencies}");
    // And in what it says: its sources do not name the judge either.
    let mut dirs = vec![root().join("target-service/src")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(
                    !text.contains("harness_core") && !text.contains("harness.run"),
                    "{}",
                    path.display()
                );
            }
        }
    }
}

struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_service_exports_every_metric_that_shipped_objectives_ask_for() {
    let mut child = Command::new(binary("target-service"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
            "--model",
            "tfidf",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let _service = Service(child);
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let announced: serde_json::Value = serde_json::from_str(&line).unwrap();

    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let predict = format!("http://{}/predict", announced["http"].as_str().unwrap());
    let answered = loop {
        let answer = client
            .post(&predict)
            .body("the engine needs oil")
            .send()
            .await
            .unwrap();
        if answer.status() != 503 {
            break answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(answered.status(), 200);
    let metrics = format!("http://{}/metrics", announced["metrics"].as_str().unwrap());
    let exposition = client
        .get(metrics)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();

    let mut asked = 0;
    for objective in shipped_objectives() {
        for query in objective
            .metrics()
            .filter(|metric| metric.source() == Source::Prometheus)
        {
            for name in metric_names(query.query().unwrap()) {
                asked += 1;
                assert!(
                    exposition.lines().any(|line| line.starts_with(&name)),
                    "{}: the service exports no {name}",
                    objective.name
                );
            }
        }
    }
    assert!(asked > 0, "the shipped objectives ask Prometheus nothing");
}

#[test]
fn spans_that_shipped_objectives_ask_for_are_published() {
    let published = std::fs::read_to_string(root().join("target-service/TELEMETRY.md")).unwrap();
    let mut asked = 0;
    for objective in shipped_objectives() {
        for metric in objective
            .metrics()
            .filter(|metric| metric.source() == Source::Tempo)
        {
            for part in metric.query().unwrap().split("name=\"").skip(1) {
                let name = part.split('"').next().unwrap();
                if name == "target-service" {
                    continue;
                }
                asked += 1;
                assert!(
                    published.contains(&format!("`{name}`")),
                    "{}: no span `{name}`",
                    objective.name
                );
            }
        }
    }
    assert!(asked > 0, "the shipped objectives ask Tempo nothing");
}

/// The metric names of a PromQL expression, as its own parser sees them.
fn metric_names(query: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut word = String::new();
    for c in query.replace("$window", "1m").chars().chain([' ']) {
        if c.is_ascii_alphanumeric() || c == '_' || c == ':' {
            word.push(c);
        } else {
            // Of all words only metric names of this service hold an underscore and stand before a selector.
            if word.contains('_')
                && !word.ends_with("_over_time")
                && matches!(c, '{' | '[' | ')' | ' ' | '/')
            {
                names.push(std::mem::take(&mut word));
            }
            word.clear();
        }
    }
    names.retain(|name| {
        ["http_server", "inference_", "process_", "target_info"]
            .iter()
            .any(|p| name.starts_with(p))
    });
    names
}
