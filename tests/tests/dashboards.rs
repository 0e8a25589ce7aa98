//! Every query of every dashboard, and of its variables, is put to the evidence of a short quickstart run and must find
//! something there: a metric, label or span that is renamed leaves no panel empty unnoticed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use harness_tests::{harness, root};
use serde_json::Value;

/// Seconds between points; the run scrapes every second.
const STEP: u64 = 1;

/// The embedded backends over an old run's evidence.
struct Stack {
    process: Child,
    prometheus: String,
    loki: String,
    tempo: String,
}

impl Stack {
    fn started(args: &[&std::ffi::OsStr], addresses: usize) -> Stack {
        let zero = "127.0.0.1:0";
        let mut process = harness()
            .arg("stack")
            .args(args)
            .args(["--prometheus", zero, "--loki", zero, "--tempo", zero])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let urls: BTreeMap<String, String> = lines
            .map(Result::unwrap)
            .filter_map(|line| {
                let (name, host) = line.split_once("http://")?;
                Some((name.trim().to_owned(), format!("http://{host}")))
            })
            .take(addresses)
            .collect();
        let url = |name: &str| urls[name].clone();
        Stack {
            prometheus: url("prometheus"),
            loki: url("loki"),
            tempo: url("tempo"),
            process,
        }
    }

    fn over(run: &Path) -> Stack {
        Stack::started(&["--data".as_ref(), run.as_os_str()], 3)
    }

    /// Empty, and taking what is written to it.
    fn empty() -> Stack {
        let zero = "127.0.0.1:0".as_ref();
        Stack::started(
            &["--otlp-grpc".as_ref(), zero, "--otlp-http".as_ref(), zero],
            5,
        )
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Seconds since 1970 at which a run's load began, and at which its last request ended.
fn times(run: &Path) -> (u64, u64) {
    let facts: Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("run.json")).unwrap()).unwrap();
    let nanos = |key: &str| {
        facts[key]
            .as_u64()
            .unwrap_or_else(|| panic!("run.json has no {key}: {facts}"))
    };
    let second = 1_000_000_000;
    (
        nanos("started") / second,
        (nanos("started") + nanos("drained")) / second + 2,
    )
}

/// What Grafana puts in for variables; `$$` is none.
fn filled(query: &str, variables: &BTreeMap<&str, String>) -> String {
    let mut text = query.to_owned();
    // Longest names first: `$__rate_interval` before `$__range`.
    let mut names: Vec<&&str> = variables.keys().collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    for name in names {
        text = text
            .replace(&format!("${{{name}}}"), &variables[*name])
            .replace(&format!("${name}"), &variables[*name]);
    }
    assert!(!text.contains('$'), "a variable is left: {text}");
    text
}

async fn get(
    client: &reqwest::Client,
    url: String,
    query: &[(&str, String)],
) -> Result<Value, String> {
    let answer = client
        .get(&url)
        .query(query)
        .send()
        .await
        .map_err(|error| error.to_string())?;
    let status = answer.status();
    let body = answer.text().await.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("{status}: {body}"));
    }
    serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))
}

/// Numbers in an answer of Prometheus or Loki, NaN left out.
fn numbers(answer: &Value) -> usize {
    let mut found = 0;
    for series in answer["data"]["result"].as_array().into_iter().flatten() {
        let points = series["values"]
            .as_array()
            .cloned()
            .unwrap_or_else(|| vec![series["value"].clone()]);
        found += points
            .iter()
            .filter(|point| point[1].as_str().is_some_and(|value| value != "NaN"))
            .count();
    }
    found
}

/// Values in an answer of Tempo's metrics.
fn samples(answer: &Value) -> usize {
    let series = answer["series"].as_array().into_iter().flatten();
    series
        .flat_map(|one| one["samples"].as_array().into_iter().flatten())
        .filter(|one| one["value"].is_number())
        .count()
}

struct Asked<'a> {
    client: reqwest::Client,
    /// The run's evidence.
    stack: &'a Stack,
    /// Where the run's verdict was published to.
    home: &'a Stack,
    start: u64,
    end: u64,
}

impl Asked<'_> {
    /// How much a panel's query finds.
    async fn found(
        &self,
        target: &Value,
        variables: &BTreeMap<&str, String>,
    ) -> Result<usize, String> {
        let range = [
            ("start", self.start.to_string()),
            ("end", self.end.to_string()),
            ("step", format!("{STEP}")),
        ];
        let with = |query: &str, key: &'static str| -> Vec<(&'static str, String)> {
            std::iter::once((key, filled(query, variables)))
                .chain(range.clone())
                .collect()
        };
        let text = |key: &str| target[key].as_str().unwrap_or_default();
        let expr = text("expr");
        let published = [
            "harness_run_",
            "harness_objective_",
            "harness_coverage_",
            "service_name=\"harness\"",
        ]
        .iter()
        .any(|name| expr.contains(name));
        let stack = if published { self.home } else { self.stack };
        match target["datasource"]["type"].as_str().unwrap() {
            "prometheus" => {
                let url = &stack.prometheus;
                if target["instant"] == true {
                    let query = [
                        ("query", filled(text("expr"), variables)),
                        ("time", self.end.to_string()),
                    ];
                    return Ok(numbers(
                        &get(&self.client, format!("{url}/api/v1/query"), &query).await?,
                    ));
                }
                Ok(numbers(
                    &get(
                        &self.client,
                        format!("{url}/api/v1/query_range"),
                        &with(text("expr"), "query"),
                    )
                    .await?,
                ))
            }
            "loki" => {
                let url = &stack.loki;
                if target["queryType"] == "instant" {
                    let query = [
                        ("query", filled(text("expr"), variables)),
                        ("time", self.end.to_string()),
                    ];
                    return Ok(numbers(
                        &get(&self.client, format!("{url}/loki/api/v1/query"), &query).await?,
                    ));
                }
                Ok(numbers(
                    &get(
                        &self.client,
                        format!("{url}/loki/api/v1/query_range"),
                        &with(text("expr"), "query"),
                    )
                    .await?,
                ))
            }
            "tempo" => {
                let url = &self.stack.tempo;
                let query = text("query");
                if query.contains(" | ") {
                    return Ok(samples(
                        &get(
                            &self.client,
                            format!("{url}/api/metrics/query_range"),
                            &with(query, "q"),
                        )
                        .await?,
                    ));
                }
                let found = get(
                    &self.client,
                    format!("{url}/api/search"),
                    &with(query, "q")[..3],
                )
                .await?;
                Ok(found["traces"].as_array().map_or(0, Vec::len))
            }
            other => Err(format!("{other} is no data source of ours")),
        }
    }

    /// The values that a variable offers.
    async fn values(
        &self,
        variable: &Value,
        variables: &BTreeMap<&str, String>,
    ) -> Result<Vec<String>, String> {
        let range = [
            ("start", self.start.to_string()),
            ("end", self.end.to_string()),
        ];
        let strings = |list: &Value| -> Vec<String> {
            list.as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| one["value"].as_str().or(one.as_str()).map(str::to_owned))
                .collect()
        };
        if variable["datasource"]["type"] == "tempo" {
            let label = variable["query"]["label"].as_str().unwrap();
            let url = format!("{}/api/v2/search/tag/span.{label}/values", self.stack.tempo);
            return Ok(strings(&get(&self.client, url, &range).await?["tagValues"]));
        }
        // label_values(SELECTOR, LABEL)
        let query = filled(variable["query"]["query"].as_str().unwrap(), variables);
        let inner = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'))
            .expect("label_values");
        let (selector, label) = inner.rsplit_once(", ").unwrap();
        let url = format!("{}/api/v1/label/{label}/values", self.stack.prometheus);
        let mut query = range.to_vec();
        query.push(("match[]", selector.to_owned()));
        Ok(strings(&get(&self.client, url, &query).await?["data"]))
    }
}

fn dashboards() -> Vec<Value> {
    let at = root().join("helm-config/charts/stack/dashboards");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(at).unwrap() {
        all.push(
            serde_json::from_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap(),
        );
    }
    all
}

#[tokio::test]
async fn every_query_finds_something_in_a_quickstart_run() {
    let keep = tempfile::tempdir().unwrap();
    let run = keep.path().join("run");
    let home = Stack::empty();
    // The verdict of so short a run is of no matter here; its telemetry is, and that the verdict is published.
    let output = harness()
        .arg("run")
        .arg(root().join("scenarios/quickstart.yaml"))
        .arg("--out")
        .arg(&run)
        .args([
            "--quiet",
            "--set",
            "loads.steady.stages[0].for=2s",
            "--set",
            "loads.steady.stages[1].for=8s",
        ])
        .args(["--set", "loads.steady.stages[1].rate=20/s"])
        .args([
            "--publish-prometheus",
            &home.prometheus,
            "--publish-loki",
            &home.loki,
        ])
        .args(["--publish-grafana", "http://user:hunter2@127.0.0.1:1"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(run.join("manifest.json").is_file(), "{said}");

    published(&run, &output, &said);

    let _ = rustls::crypto::ring::default_provider().install_default();
    let stack = Stack::over(&run);
    let (start, end) = times(&run);
    let asked = Asked {
        client: reqwest::Client::new(),
        stack: &stack,
        home: &home,
        start,
        end,
    };
    let (mut queries, mut wrong) = (0, Vec::new());
    for dashboard in dashboards() {
        let title = dashboard["title"].as_str().unwrap();
        let mut variables: BTreeMap<&str, String> = BTreeMap::from([
            ("__rate_interval", "5s".into()),
            ("__auto", "5s".into()),
            ("__range", format!("{}s", end - start)),
        ]);
        for variable in dashboard["templating"]["list"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            let values = asked
                .values(variable, &variables)
                .await
                .unwrap_or_else(|why| panic!("{title}: ${name}: {why}"));
            let wanted = match name {
                "job" => "target-service".to_owned(),
                "route" => "/predict".to_owned(),
                _ => values.first().cloned().unwrap_or_default(),
            };
            assert!(
                values.contains(&wanted),
                "{title}: ${name} offers {values:?}, not {wanted:?}"
            );
            variables.insert(name, wanted);
        }
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                queries += 1;
                let name = format!("{title} / {} / {}", panel["title"], target["refId"]);
                match asked.found(target, &variables).await {
                    Ok(0) => wrong.push(format!("{name} finds nothing: {target}")),
                    Ok(_) => {}
                    Err(why) => wrong.push(format!("{name}: {why}: {target}")),
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {queries}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(queries > 50, "only {queries} queries");

    // A renamed metric would be found out.
    let renamed = serde_json::json!({"datasource": {"type": "prometheus"}, "expr": "sum(inference_queue_dept)"});
    assert_eq!(asked.found(&renamed, &BTreeMap::new()).await, Ok(0));
}

fn publish(run: &Path, to: &[&str]) -> (Option<i32>, String) {
    let done = harness()
        .arg("publish")
        .arg(run)
        .args(to)
        .env("GRAFANA_TOKEN", "a-token")
        .output()
        .unwrap();
    (
        done.status.code(),
        String::from_utf8_lossy(&done.stderr).into_owned(),
    )
}

/// A destination that is not there is said, without its password, and changes no exit code; a run can be published
/// again, and Grafana gets an annotation over its time.
fn published(run: &Path, output: &std::process::Output, said: &str) {
    assert!(
        said.contains("was not published to Grafana at http://127.0.0.1:1"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
    let judged = harness().arg("judge").arg(run).output().unwrap();
    assert_eq!(output.status.code(), judged.status.code(), "{said}");

    let other = Stack::empty();
    for _ in 0..2 {
        let (code, said) = publish(
            run,
            &["--prometheus", &other.prometheus, "--loki", &other.loki],
        );
        assert_eq!(code, Some(0), "{said}");
    }
    let (code, said) = publish(run, &["--loki", "http://127.0.0.1:1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("was not published to Loki"), "{said}");
    assert_eq!(publish(run, &[]).0, Some(2), "nowhere to go");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let grafana = format!("http://{}", listener.local_addr().unwrap());
    let taken = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut bytes = [0; 4096];
        // The body is JSON and ends with a brace; the head has none.
        while !request.ends_with(b"}") {
            let more = std::io::Read::read(&mut socket, &mut bytes).unwrap();
            assert!(more > 0, "the request ends early");
            request.extend_from_slice(&bytes[..more]);
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        std::io::Write::write_all(&mut socket, answer).unwrap();
        String::from_utf8(request).unwrap()
    });
    let (code, said) = publish(run, &["--grafana", &grafana]);
    assert_eq!(code, Some(0), "{said}");
    let request = taken.join().unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /api/annotations "), "{head}");
    assert!(
        head.to_lowercase()
            .contains("authorization: bearer a-token"),
        "{head}"
    );
    let note: Value = serde_json::from_str(body).unwrap();
    let (start, end) = times(run);
    let at = |key: &str| note[key].as_u64().unwrap() / 1000;
    assert!(
        at("time") >= start && at("timeEnd") <= end && at("time") < at("timeEnd"),
        "{note}"
    );
    assert_eq!(note["tags"][2], "quickstart", "{note}");
}
