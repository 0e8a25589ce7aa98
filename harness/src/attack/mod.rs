//! `harness attack`: one URL, one command, for people who come from oha, hey, wrk2 or vegeta.
//!
//! It is a run like any other: the flags are written down as a scenario and objectives, and these are
//! run, kept and judged as `harness run` would. Without an objective nothing is judged, and that is
//! said; the exit code then tells only whether the run itself was sound.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness_core::record::context::Context;
use harness_core::report::model::Verdict;
use harness_core::scenario::{Dur, Rate, Share};
use harness_core::schedule::Shard;
use serde_json::{Map, Value, json};
use url::Url;

use crate::inputs::{self, Inputs, Overrides};
use crate::output::Format;
use crate::progress::Progress;
use crate::run::{self, Failure, RunOptions};

mod print;
#[cfg(test)]
mod tests;

/// Requests out at once when neither `-c` nor the rate says.
const CONNECTIONS: u32 = 50;
/// Requests that an open load may have out when `-c` does not limit connections.
const MAX_IN_FLIGHT: u32 = 10_000;
/// Name of the only request.
const REQUEST: &str = "request";

/// What `harness attack` was asked.
#[derive(Debug, Clone, clap::Args)]
pub struct AttackArgs {
    /// What to send requests to: http://host:port/path?query.
    pub url: String,
    /// Requests a second, in all: a number, or a rate such as 90/m. Sent on schedule, whether or not
    /// the service keeps up. Without it each of -c users sends as fast as it is answered.
    #[arg(short = 'q', long, value_name = "RATE", value_parser = rate)]
    pub rate: Option<Rate>,
    /// How long [default: 10s, or until -n requests are sent].
    #[arg(short = 'z', long, value_name = "TIME", value_parser = dur)]
    pub duration: Option<Dur>,
    /// How many requests.
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Most connections [default: 50; with a rate, as many as it takes]. With a rate, a request that
    /// finds all of them taken waits, and its wait counts.
    #[arg(short = 'c', long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: Option<u32>,
    /// HTTP method [default: GET, or POST with a body].
    #[arg(short = 'm', long, value_name = "METHOD")]
    pub method: Option<String>,
    /// A header, NAME: VALUE.
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// The body; @FILE reads it from a file.
    #[arg(short = 'd', long, value_name = "BODY")]
    pub body: Option<String>,
    /// Longest time from due to a complete answer.
    #[arg(short = 't', long, value_name = "TIME", default_value = "30s", value_parser = dur)]
    pub timeout: Dur,
    /// Spacing of requests at a rate.
    #[arg(long, value_name = "LAW", value_parser = ["even", "poisson"], default_value = "even")]
    pub spacing: String,
    /// Sent before, and not counted.
    #[arg(long, value_name = "TIME", value_parser = dur)]
    pub warmup: Option<Dur>,
    /// What all random choices follow from.
    #[arg(long, value_name = "NUMBER", default_value_t = 42)]
    pub seed: u64,
    /// Objective: half of all requests are answered as expected within this.
    #[arg(long, value_name = "TIME", value_parser = dur)]
    pub p50: Option<Dur>,
    /// Objective: 90 % are.
    #[arg(long, value_name = "TIME", value_parser = dur)]
    pub p90: Option<Dur>,
    /// Objective: 95 % are.
    #[arg(long, value_name = "TIME", value_parser = dur)]
    pub p95: Option<Dur>,
    /// Objective: 99 % are.
    #[arg(long, value_name = "TIME", value_parser = dur)]
    pub p99: Option<Dur>,
    /// Objective: 99.9 % are.
    #[arg(long, value_name = "TIME", value_parser = dur)]
    pub p999: Option<Dur>,
    /// Objective: this share of all requests is answered with a status from 200 to 299, for instance
    /// 99.9%.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub success: Option<Share>,
    /// Objectives from OpenSLO files or directories; the request is named `request`.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    pub slo: Vec<PathBuf>,
    /// Keep the run in this directory, with its reports.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// No progress on stderr.
    #[arg(long)]
    pub quiet: bool,
}

fn rate(text: &str) -> Result<Rate, String> {
    let text = if text.contains('/') {
        text.to_owned()
    } else {
        format!("{text}/s")
    };
    let rate: Rate = text.parse()?;
    if rate.events == 0 {
        return Err("a rate of 0 sends nothing".into());
    }
    Ok(rate)
}

fn dur(text: &str) -> Result<Dur, String> {
    let dur: Dur = text.parse()?;
    if dur.nanos() == 0 {
        return Err("must be longer than zero".into());
    }
    Ok(dur)
}

fn share(text: &str) -> Result<Share, String> {
    let share: Share = text.parse()?;
    if share.0 <= 0.0 || share.0 >= 1.0 {
        return Err("must lie between 0 and 100 %: that every request succeeds cannot be shown by any number of them".into());
    }
    Ok(share)
}

/// Carries out an attack and gives its exit code: that of the verdict where anything was to be judged,
/// else 0 for a sound run and 12 (or 14, 15, 130) for one that is not.
///
/// # Errors
/// Wrong usage, and when nothing could be started or kept.
pub async fn attack(args: &AttackArgs) -> Result<u8, Failure> {
    let inputs = written_down(args)?;
    // Dropped at the end, with the run in it.
    let temporary = match &args.out {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(|error| {
            Failure::Internal(format!("no temporary directory for the run: {error}"))
        })?),
    };
    let kept = args.out.as_deref();
    let dir = kept.or(temporary.as_ref().map(tempfile::TempDir::path));
    let dir = dir.unwrap_or(Path::new("attack"));
    let progress = Progress::new(args.quiet);
    let options = RunOptions {
        scenario: PathBuf::new(),
        overrides: Overrides::default(),
        out: None,
        baselines: Vec::new(),
        strict: false,
        retries: 0,
        production: None,
        shard: Shard::WHOLE,
        start_at: None,
        results: None,
        quiet: args.quiet,
        publish: crate::publish::Destinations::default(),
        format: Format::Terminal,
    };
    let context = Context::default();
    let (run, report) = run::attempt(&options, &inputs, dir, &context, None, &progress).await?;
    let judged = args.judges();
    let stdout = std::io::stdout();
    let color = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let text = print::text(&run, &report, judged, color);
    let mut lock = stdout.lock();
    std::io::Write::write_all(&mut lock, text.as_bytes())
        .map_err(|error| Failure::Internal(format!("stdout: {error}")))?;
    if judged || report.verdict == Verdict::Invalid {
        return Ok(report.exit_code);
    }
    Ok(0)
}

impl AttackArgs {
    /// Whether there is anything to judge by.
    fn judges(&self) -> bool {
        self.success.is_some() || !self.slo.is_empty() || self.quantiles().next().is_some()
    }

    fn quantiles(&self) -> impl Iterator<Item = (&'static str, f64, Dur)> {
        let all = [
            ("p50", 0.5, self.p50),
            ("p90", 0.9, self.p90),
            ("p95", 0.95, self.p95),
            ("p99", 0.99, self.p99),
            ("p999", 0.999, self.p999),
        ];
        all.into_iter()
            .filter_map(|(name, target, limit)| Some((name, target, limit?)))
    }

    fn load(&self) -> Result<Value, String> {
        let measured = self.measured()?;
        let mut stages = Vec::new();
        let rate = self.rate.map(|rate| rate.to_string());
        let stage = |phase: &str, length: String| match &rate {
            Some(rate) => json!({"phase": phase, "rate": rate, "for": length}),
            None => json!({"phase": phase, "for": length}),
        };
        if let Some(warmup) = self.warmup {
            stages.push(stage("warmup", warmup.to_string()));
        }
        stages.push(stage("measure", measured.to_string()));
        let mut load = json!({"name": "attack", "mix": {REQUEST: 1}, "stages": stages});
        match (self.rate, self.requests) {
            (Some(_), _) => {
                load["executor"] = "constant-arrival-rate".into();
                load["spacing"] = self.spacing.as_str().into();
                load["maxInFlight"] = MAX_IN_FLIGHT.into();
            }
            (None, Some(requests)) => {
                load["executor"] = "shared-iterations".into();
                load["iterations"] = requests.into();
                load["vus"] = self.connections.unwrap_or(CONNECTIONS).into();
            }
            (None, None) => {
                load["executor"] = "constant-vus".into();
                load["vus"] = self.connections.unwrap_or(CONNECTIONS).into();
            }
        }
        Ok(load)
    }

    /// Length of the measured stage.
    fn measured(&self) -> Result<Dur, String> {
        match (self.rate, self.requests, self.duration) {
            (Some(_), Some(_), Some(_)) => {
                Err("a rate, a duration and a number of requests contradict each other: give two of -q, -z and -n".into())
            }
            (Some(rate), Some(requests), None) => {
                // The n-th of evenly spaced requests, from 0, is due at n / rate, so this holds them.
                let nanos = u128::from(requests) * u128::from(rate.per_nanos);
                let nanos = nanos / u128::from(rate.events);
                let nanos = u64::try_from(nanos).map_err(|_| "that would take centuries".to_owned())?;
                Ok(Dur(Duration::from_nanos(nanos.max(1))))
            }
            (None, Some(_), None) => Ok(Dur(Duration::from_secs(24 * 3600))),
            (_, _, duration) => Ok(duration.unwrap_or(Dur(Duration::from_secs(10)))),
        }
    }
}

/// The scenario and the objectives that the flags stand for.
fn written_down(args: &AttackArgs) -> Result<Inputs, Failure> {
    let scenario = scenario(args).map_err(Failure::Config)?;
    let text = serde_json::to_string_pretty(&scenario)
        .map_err(|error| Failure::Internal(error.to_string()))?;
    let mut slos = Vec::new();
    if !args.slo.is_empty() {
        let read =
            inputs::read_slos(&args.slo).map_err(|wrong| Failure::Config(wrong.to_string()))?;
        slos.extend(read.0);
    }
    let own = objectives(args);
    if !own.is_empty() {
        slos.push(("attack.yaml".to_owned(), own));
    }
    const HERE: &str = "the command line";
    inputs::of_texts(HERE, text + "\n", slos).map_err(|mut wrong| {
        // Lines and columns of a text that nobody has seen.
        let own = wrong.0.iter_mut().filter(|problem| problem.file == HERE);
        own.for_each(|problem| problem.at = None);
        Failure::Config(wrong.to_string())
    })
}

fn scenario(args: &AttackArgs) -> Result<Value, String> {
    let url = Url::parse(&args.url).map_err(|error| {
        format!(
            "`{}` is no URL: {error}; write for instance http://127.0.0.1:3010/",
            args.url
        )
    })?;
    if url.cannot_be_a_base() || url.host_str().is_none() {
        return Err(format!("`{}` is no http URL", args.url));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "credentials in a URL are printed and stored: use -H 'authorization: …'".into(),
        );
    }
    let mut path = url.path().to_owned();
    if let Some(query) = url.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut base = url.clone();
    base.set_path("");
    base.set_query(None);
    base.set_fragment(None);
    let body = body(args)?;
    let method = match (&args.method, &body) {
        (Some(method), _) => method.to_ascii_uppercase(),
        (None, Some(_)) => "POST".into(),
        (None, None) => "GET".into(),
    };
    let mut request =
        json!({"name": REQUEST, "method": method, "path": path, "headers": headers(args)?});
    if let Some(body) = body {
        request["body"] = json!({"text": plain(&body)});
    }
    let mut target =
        json!({"url": base.as_str().trim_end_matches('/'), "timeout": args.timeout.to_string()});
    if let (Some(connections), Some(_)) = (args.connections, args.rate) {
        target["maxConnections"] = connections.into();
    }
    Ok(json!({
        "apiVersion": "harness/v1",
        "kind": "Scenario",
        "metadata": {"name": "attack"},
        "spec": {
            "seed": args.seed,
            "target": target,
            "requests": [request],
            "loads": [args.load()?],
            "gracefulStop": args.timeout.to_string(),
            "settle": "1s",
        },
    }))
}

fn headers(args: &AttackArgs) -> Result<Map<String, Value>, String> {
    let mut headers = Map::new();
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| format!("`{header}` is no header: write 'name: value'"))?;
        headers.insert(name.trim().to_owned(), plain(value.trim()).into());
    }
    Ok(headers)
}

fn body(args: &AttackArgs) -> Result<Option<String>, String> {
    match args.body.as_deref() {
        Some(body) => match body.strip_prefix('@') {
            Some(file) => inputs::read_text(Path::new(file))
                .map(Some)
                .map_err(|problem| problem.to_string()),
            None => Ok(Some(body.to_owned())),
        },
        None => Ok(None),
    }
}

/// A text in which no variable of the environment is meant.
fn plain(text: &str) -> String {
    text.replace("$$", "$$$$").replace("${", "$${")
}

/// OpenSLO of the quick objectives. Without any objective at all, one that decides nothing: a run has
/// something to report on, and cannot pass.
fn objectives(args: &AttackArgs) -> String {
    let mut all: Vec<String> = args
        .quantiles()
        .map(|(name, target, limit)| {
            let what = format!("{name} at most {limit}");
            let good = format!(", latency: \"<= {limit}\"");
            slo(name, "required", &what, target, &good)
        })
        .collect();
    if let Some(Share(target)) = args.success {
        let what = format!("{} answered as expected", Share(target));
        all.push(slo("success", "required", &what, target, ""));
    }
    if all.is_empty() && args.slo.is_empty() {
        all.push(slo(
            "answered",
            "advisory",
            "answered as expected",
            0.99,
            "",
        ));
    }
    all.join("---\n")
}

fn slo(name: &str, gate: &str, what: &str, target: f64, good: &str) -> String {
    format!(
        r#"apiVersion: openslo/v1
kind: SLO
metadata:
  name: {name}
  annotations: {{harness/gate: {gate}}}
spec:
  service: target
  indicator:
    metadata: {{name: {name}}}
    spec:
      ratioMetric:
        counter: true
        good: {{metricSource: {{type: LoadClient, spec: {{request: {REQUEST}, outcome: expected{good}}}}}}}
        total: {{metricSource: {{type: LoadClient, spec: {{request: {REQUEST}}}}}}}
  timeWindow: [{{duration: 28d, isRolling: true}}]
  budgetingMethod: Occurrences
  objectives: [{{displayName: "{what}", target: {target}}}]
"#
    )
}
