//! Verdicts go home: what a run came to, as samples for a Prometheus, as a line for a Loki and as an
//! annotation for a Grafana.
//!
//! Each is off unless an address is given. Nothing here bears on the verdict: it is made before, from the
//! record alone, and what cannot be published is said on stderr. Everything carries the instant at which
//! the run's last outcome was known, so publishing a run again writes the same again.

use std::path::PathBuf;

use harness_core::report::model::{Report, Verdict};
use harness_core::units::UnixNanos;
use harness_evidence::receive::remote_write::{self, TimeSeries, WriteRequest};
use serde::Serialize;
use serde_json::json;

use crate::backends::{chain, client, without_credentials};
use crate::finished;
use crate::output;
use crate::run::Failure;

/// Where a verdict goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Destinations {
    /// Prometheus, or whatever takes remote write 1.0: a base URL, or a whole one with its path.
    pub prometheus: Option<String>,
    /// Loki: a base URL, or a whole one with its path.
    pub loki: Option<String>,
    /// Grafana: its base URL. `GRAFANA_TOKEN` of the environment is the token.
    pub grafana: Option<String>,
}

/// Where a verdict goes that a command comes to.
#[derive(Debug, Clone, clap::Args)]
pub struct PublishToArgs {
    /// Remote-write the verdict and key figures to this Prometheus afterwards (base URL, or one with its
    /// path).
    #[arg(long, value_name = "URL")]
    publish_prometheus: Option<String>,
    /// Push a line of summary to this Loki afterwards.
    #[arg(long, value_name = "URL")]
    publish_loki: Option<String>,
    /// Annotate this Grafana afterwards; the token is GRAFANA_TOKEN of the environment.
    #[arg(long, value_name = "URL")]
    publish_grafana: Option<String>,
}

impl From<PublishToArgs> for Destinations {
    fn from(args: PublishToArgs) -> Self {
        Self {
            prometheus: args.publish_prometheus,
            loki: args.publish_loki,
            grafana: args.publish_grafana,
        }
    }
}

/// What `harness publish` was asked.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("to").required(true).multiple(true).args(["prometheus", "loki", "grafana"]))]
pub struct PublishArgs {
    /// The run directory.
    run: PathBuf,
    /// Remote-write verdict and key figures to this Prometheus (base URL, or one with its path).
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// Push a line of summary to this Loki (base URL, or one with its path).
    #[arg(long, value_name = "URL")]
    loki: Option<String>,
    /// Annotate this Grafana (base URL); the token is GRAFANA_TOKEN of the environment.
    #[arg(long, value_name = "URL")]
    grafana: Option<String>,
}

/// Publishes a finished run; exit 0 when everything took it, whatever the verdict.
///
/// # Errors
/// When the run cannot be read, or something did not take it.
pub async fn run(args: PublishArgs) -> Result<u8, Failure> {
    let run = match finished::read(&args.run)? {
        Ok(run) => run,
        Err(code) => return Ok(code),
    };
    let report = output::judge_finished(&run, None).map_err(Failure::Internal)?;
    let ended = run.facts.started.plus(run.facts.drained);
    let to = Destinations {
        prometheus: args.prometheus,
        loki: args.loki,
        grafana: args.grafana,
    };
    match publish(&report, ended, &to).await {
        wrong if wrong.is_empty() => Ok(0),
        wrong => Err(Failure::Internal(wrong.join("\n"))),
    }
}

/// Publishes a report of a run that ended at this instant. What went wrong is given back, a sentence for
/// each destination.
pub async fn publish(report: &Report, ended: UnixNanos, to: &Destinations) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut note = |name: &str, url: &str, outcome: Result<(), String>| {
        if let Err(why) = outcome {
            let url = without_credentials(url);
            wrong.push(format!(
                "the verdict was not published to {name} at {url}: {why}"
            ));
        }
    };
    if let Some(url) = &to.prometheus {
        let body = remote_write::pack(&WriteRequest {
            timeseries: samples(report, ended),
        });
        let outcome = match body {
            Ok(body) => post(url, "/api/v1/write", &remote_write::HEADERS, None, body).await,
            Err(why) => Err(why),
        };
        note("Prometheus", url, outcome);
    }
    let json = [("content-type", "application/json")];
    if let Some(url) = &to.loki {
        let body = line(report, ended).to_string().into_bytes();
        let outcome = post(url, "/loki/api/v1/push", &json, None, body).await;
        note("Loki", url, outcome);
    }
    if let Some(url) = &to.grafana {
        let base = format!("{}/api/annotations", url.trim_end_matches('/'));
        let token = std::env::var("GRAFANA_TOKEN").ok();
        let body = annotation(report, ended).to_string().into_bytes();
        let outcome = post(&base, "", &json, token.as_deref(), body).await;
        note("Grafana", url, outcome);
    }
    wrong
}

/// Posts a body; an address without a path gets `path`.
async fn post(
    url: &str,
    path: &str,
    headers: &[(&str, &str)],
    token: Option<&str>,
    body: Vec<u8>,
) -> Result<(), String> {
    let mut parsed = url::Url::parse(url).map_err(|error| format!("no URL: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err("must begin with http:// or https://".into());
    }
    if parsed.path() == "/" && !path.is_empty() {
        parsed.set_path(path);
    }
    let mut request = client(url, None)?.post(parsed).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.map_err(|error| chain(&error))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let said: String = answer.text().await.unwrap_or_default();
    let said: String = said.chars().filter(|c| !c.is_control()).take(300).collect();
    Err(format!("{status} {said}"))
}

/// How a word of the report is written in it.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        _ => String::new(),
    }
}

/// The four verdicts, each with 1 or 0: alerts can ask for one, and none is a number to be averaged.
fn each(verdict: Verdict) -> impl Iterator<Item = (String, f64)> {
    let all = [
        Verdict::Pass,
        Verdict::Fail,
        Verdict::Inconclusive,
        Verdict::Invalid,
    ];
    all.into_iter()
        .map(move |one| (word(&one), f64::from(u8::from(one == verdict))))
}

/// Verdict and key figures as series of one sample. What is missing has no sample, never 0. The run's id is
/// a label of `harness_run_info` alone: of a series that alerts and dashboards follow it would make as many
/// as there are runs.
fn samples(report: &Report, ended: UnixNanos) -> Vec<TimeSeries> {
    let run = &report.run;
    let at = i64::try_from(ended.0 / 1_000_000).unwrap_or(i64::MAX);
    let mut out = Vec::new();
    let mut add = |name: &str, labels: &[(&str, &str)], value: f64| {
        let common = [
            ("__name__", name),
            ("job", "harness"),
            ("scenario", run.scenario.as_str()),
            ("service", run.service.as_str()),
        ];
        let labels = common.iter().chain(labels).copied();
        out.push(TimeSeries::new(labels, [(at, value)]));
    };
    let versions = run.versions.join(",");
    add(
        "harness_run_info",
        &[
            ("run_id", &run.id),
            ("service_version", &versions),
            ("harness_version", &run.harness_version),
        ],
        1.0,
    );
    for (verdict, value) in each(report.verdict) {
        add("harness_run_verdict", &[("verdict", &verdict)], value);
    }
    add("harness_run_exit_code", &[], f64::from(report.exit_code));
    add("harness_run_duration_seconds", &[], run.duration_seconds);
    for objective in &report.objectives {
        let [source, signal, gate] = [
            word(&objective.source),
            word(&objective.signal),
            word(&objective.gate),
        ];
        let labels = [
            ("objective", objective.name.as_str()),
            ("source", source.as_str()),
            ("signal", signal.as_str()),
            ("gate", gate.as_str()),
        ];
        for (verdict, value) in each(objective.verdict) {
            let labels: Vec<_> = labels
                .iter()
                .copied()
                .chain([("verdict", verdict.as_str())])
                .collect();
            add("harness_objective_verdict", &labels, value);
        }
        let target = objective
            .target
            .or(objective.threshold.as_ref().map(|limit| limit.value));
        for (name, value) in [
            ("harness_objective_value", objective.value),
            ("harness_objective_target", target),
        ] {
            if let Some(value) = value {
                add(name, &labels, value);
            }
        }
    }
    for source in &report.coverage.sources {
        let backend = source.backend.to_string();
        let labels = [("backend", backend.as_str())];
        add("harness_coverage_expected", &labels, source.expected as f64);
        if let Some(found) = source.found {
            add("harness_coverage_found", &labels, found as f64);
        }
        add(
            "harness_coverage_complete",
            &labels,
            f64::from(u8::from(source.complete)),
        );
    }
    for load in &report.load {
        let phase = load.phase.to_string();
        let labels = [
            ("phase", phase.as_str()),
            ("request", load.request.as_str()),
        ];
        for (outcome, count) in &load.outcomes {
            let labels: Vec<_> = labels
                .iter()
                .copied()
                .chain([("outcome", outcome.name())])
                .collect();
            add("harness_run_requests", &labels, *count as f64);
        }
        let Some(latency) = &load.latency else {
            continue;
        };
        for (quantile, value) in [
            ("0.5", latency.p50),
            ("0.95", latency.p95),
            ("0.99", latency.p99),
            ("1", latency.max),
        ] {
            let labels: Vec<_> = labels
                .iter()
                .copied()
                .chain([("quantile", quantile)])
                .collect();
            add("harness_run_latency_seconds", &labels, value);
        }
    }
    out
}

/// One line, with the run's id and verdict as structured metadata.
fn line(report: &Report, ended: UnixNanos) -> serde_json::Value {
    let run = &report.run;
    let verdict = word(&report.verdict);
    let objectives: Vec<_> = report
        .objectives
        .iter()
        .map(|one| json!({"name": one.name, "verdict": one.verdict, "value": one.value}))
        .collect();
    let text = json!({
        "body": "run judged",
        "verdict": verdict,
        "exit_code": report.exit_code,
        "reason_code": report.reason_code,
        "reason": report.reasons.first(),
        "scenario": run.scenario,
        "service": run.service,
        "run_id": run.id,
        "objectives": objectives,
    });
    json!({"streams": [{
        "stream": {"service_name": "harness"},
        "values": [[ended.0.to_string(), text.to_string(), {
            "run_id": run.id,
            "scenario": run.scenario,
            "verdict": verdict,
        }]],
    }]})
}

/// An annotation over the time of the run.
fn annotation(report: &Report, ended: UnixNanos) -> serde_json::Value {
    let run = &report.run;
    let ended = ended.0 / 1_000_000;
    let length = (run.duration_seconds.max(0.0) * 1e3) as u64;
    let reason = report.reasons.first().map_or("", String::as_str);
    json!({
        "time": ended.saturating_sub(length),
        "timeEnd": ended,
        "tags": ["harness", word(&report.verdict), run.scenario, run.service],
        "text": format!("{}: {} (exit {}) {reason}", run.scenario, word(&report.verdict), report.exit_code),
    })
}
