//! The command line: raw arguments in, an exit code out. One file because commands share arguments and
//! failures, and are read beside each other; what a command does lies in its own module.

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use harness_core::judge::BaselineWanted;
use harness_core::record::baseline::Baselines;
use harness_core::record::context::Production;
use harness_core::scenario::{Dur, Rate};
use harness_core::schedule::Shard;
use harness_core::units::UnixNanos;
use tracing_subscriber::EnvFilter;

use crate::attack::{self, AttackArgs};
use crate::baseline;
use crate::check::{self, CheckOptions};
use crate::compare;
use crate::doctor::{self, DoctorArgs};
use crate::export;
use crate::finished::{self, ExplainArgs, ReportArgs};
use crate::init::{self, InitArgs};
use crate::inputs::{self, Overrides};
use crate::merge::{self, MergeArgs};
use crate::output::{self, Format};
use crate::publish::{self, PublishArgs, PublishToArgs};
use crate::rejudge;
use crate::run::{self, Failure, RunOptions};
use crate::run_dir::{self, FinishedRun};
use crate::set::Set;
use crate::show::{self, Form, ShowOptions};
use crate::slo_test::{self, TestOptions};
use crate::stack::{self, StackOptions};

/// Exit code of an internal error.
pub const EXIT_INTERNAL: u8 = 1;
/// Exit code of wrong usage or configuration.
pub const EXIT_USAGE: u8 = 2;
/// Exit code of a run that cannot be trusted.
pub const EXIT_INVALID: u8 = 12;

const EXITS: &str = "\
Exit codes: 0 pass, 10 fail, 11 inconclusive, 12 invalid run, 1 internal error, 2 usage or configuration,
13 a telemetry backend was unreachable and 14 the target was (before the first measured request),
15 stopped by an abort rule, 130 interrupted.";

/// Does this build meet its service level objectives under this load, judged by the same telemetry
/// that operations will look at?
#[derive(Debug, Parser)]
#[command(name = "harness", version, after_help = EXITS, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put a scenario's load on its target and judge the objectives.
    Run(Box<RunArgs>),
    /// Judge a finished run again, offline, from what it recorded.
    Judge(JudgeArgs),
    /// Put the runs of all shards of one schedule together and judge them as one run.
    Merge(Box<MergeArgs>),
    /// Put load on one URL, without a scenario file.
    Attack(Box<AttackArgs>),
    /// Write a first scenario and its objectives for a URL.
    Init(InitArgs),
    /// Show what a scenario will send, and when, without sending it.
    Schedule(ScheduleArgs),
    /// Set finished runs beside the first of them: deltas with intervals, and both distributions.
    Compare {
        /// Run directories; the first is what the others are compared with.
        #[arg(required = true, num_args = 2.., value_name = "RUN_DIR")]
        runs: Vec<PathBuf>,
        /// Form of the comparison on stdout.
        #[arg(long, value_enum, default_value = "terminal")]
        format: compare::Format,
    },
    /// Write a finished run's report in any form.
    Report(ReportArgs),
    /// Send a finished run's verdict and key figures to Prometheus, Loki or Grafana.
    Publish(PublishArgs),
    /// Say why an objective of a finished run is as it is.
    Explain(ExplainArgs),
    /// Look whether everything that a scenario needs is there, as it must be.
    Doctor(DoctorArgs),
    /// Check scenario and SLO files without running anything.
    Check(CheckArgs),
    /// Test objectives on written-down telemetry.
    Test(TestArgs),
    /// Run the embedded Prometheus, Loki and Tempo alone, until interrupted.
    Stack(StackArgs),
    /// Write objectives in a form that other systems take.
    Export {
        /// What to write.
        #[command(subcommand)]
        what: Export,
    },
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of a file format.
    Schema {
        /// Which format.
        format: SchemaOf,
    },
}

#[derive(Debug, Subcommand)]
enum Export {
    /// Prometheus recording rules and multi-window, multi-burn-rate alerts of the ratio objectives that
    /// Prometheus answers.
    Rules {
        /// SLO files, or directories of them.
        #[arg(required = true, value_name = "SLO")]
        slos: Vec<PathBuf>,
        /// Write them here instead of to stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// What a verdict depends on beside the run itself.
#[derive(Debug, Clone, clap::Args)]
struct BesideArgs {
    /// Earlier run directories that objectives with `harness/baseline` are compared with.
    #[arg(long, num_args = 1.., value_name = "RUN_DIR")]
    baseline: Vec<PathBuf>,
    /// Missed `harness/warn` criteria of required objectives fail the run.
    #[arg(long)]
    strict: bool,
    /// Traffic in production, for error budgets: `200/s`, `12000/m`.
    #[arg(long, value_name = "RATE", value_parser = production_rate)]
    production_rate: Option<f64>,
}

fn production_rate(text: &str) -> Result<f64, String> {
    let rate: Rate = text.parse()?;
    let rate = rate.per_second();
    if rate > 0.0 {
        Ok(rate)
    } else {
        Err("must be more than 0".into())
    }
}

/// `i/N`, or `job/N` for a pod of an Indexed Job.
fn shard(text: &str) -> Result<Shard, String> {
    const INDEX: &str = "JOB_COMPLETION_INDEX";
    let Some(of) = text.strip_prefix("job/") else {
        return text.parse();
    };
    let index = std::env::var(INDEX)
        .map_err(|_| format!("{INDEX} is not set: is this a pod of an Indexed Job?"))?;
    format!("{index}/{of}").parse()
}

fn instant(text: &str) -> Result<UnixNanos, String> {
    UnixNanos::parse_rfc3339(text)
        .ok_or_else(|| "is no instant of RFC 3339, such as 2026-11-26T08:00:00Z".into())
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaOf {
    /// Scenario files.
    Scenario,
    /// `report.json`.
    Report,
    /// `harness compare --format json`.
    Comparison,
    /// OpenSLO files as harness reads them.
    Slo,
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Scenario files, SLO files, directories or globs of SLO files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Hold the queries against what an earlier run was answered.
    #[arg(long, value_name = "RUN_DIR")]
    against: Option<PathBuf>,
    /// Exit with 2 when there is a warning.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, clap::Args)]
struct TestArgs {
    /// Test files, or directories or globs of them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Only tests whose name contains this.
    #[arg(long, value_name = "TEXT")]
    run: Option<String>,
    /// Form of the outcome on stdout.
    #[arg(long, value_enum, default_value = "terminal")]
    format: slo_test::Form,
    /// Write JUnit XML here too.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The scenario file.
    scenario: PathBuf,
    /// OpenSLO files or directories, instead of those the scenario names.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    slo: Vec<PathBuf>,
    /// The run directory; must not exist or be empty [default: runs/NAME-TIME-RANDOM].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A real Prometheus instead of the embedded one.
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// A real Loki instead of the embedded one.
    #[arg(long, value_name = "URL")]
    loki: Option<String>,
    /// A real Tempo instead of the embedded one.
    #[arg(long, value_name = "URL")]
    tempo: Option<String>,
    /// OTLP/gRPC endpoint for client spans and the started target when Tempo is real.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    #[command(flatten)]
    beside: BesideArgs,
    /// PromQL that the run's Prometheus answers with production's events a second, instead of
    /// --production-rate.
    #[arg(long, value_name = "PROMQL", conflicts_with = "production_rate")]
    production_query: Option<String>,
    /// Make at most so many further attempts, only of one that is invalid or inconclusive; counts of
    /// all are added up, and each look is judged surer.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=9))]
    retries: u32,
    /// A Grafana that reports link into.
    #[arg(long, value_name = "URL")]
    grafana: Option<String>,
    /// Send part i of N of the schedule only, i from 0; job/N takes i from JOB_COMPLETION_INDEX, as
    /// Kubernetes sets it. The run is inconclusive by itself: `harness merge` puts the shards together.
    #[arg(long, value_name = "i/N", default_value = "0/1", value_parser = shard, conflicts_with_all = ["retries", "baseline"])]
    shard: Shard,
    /// Meet the other shards at s3://BUCKET/PREFIX, or in a directory that all of them see, begin with
    /// them at one instant and put the results there; exit code 0 then says that they are there, and
    /// `harness merge` gives the verdict. AWS_* of the environment are the credentials and endpoint.
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["start_at", "retries", "production_query"])]
    results: Option<String>,
    /// Longest that the shards wait for each other before the load.
    #[arg(long, value_name = "TIME", default_value = "5m", requires = "results")]
    start_within: Dur,
    /// Begin the load at this instant, by the wall clock: 2026-11-26T08:00:00Z. For shards, which have
    /// to begin together.
    #[arg(long, value_name = "TIME", value_parser = instant, conflicts_with = "retries")]
    start_at: Option<UnixNanos>,
    /// Form of the report on stdout.
    #[arg(long, value_enum, default_value = "terminal")]
    format: Format,
    /// No progress on stderr.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    publish: PublishToArgs,
    #[command(flatten)]
    over: OverArgs,
}

/// What the command line says over a scenario's file.
#[derive(Debug, clap::Args)]
pub struct OverArgs {
    /// A value instead of the scenario's, by its path: `loads.steady.stages[0].rate=200/s`.
    #[arg(long, value_name = "PATH=VALUE")]
    pub set: Vec<Set>,
    /// A variable of the scenario, instead of the environment's: TOKEN=secret.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
}

/// `NAME=VALUE`, apart.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("is not NAME=VALUE".into()),
    }
}

#[derive(Debug, clap::Args)]
struct ScheduleArgs {
    /// The scenario file.
    scenario: PathBuf,
    /// Form of what is printed.
    #[arg(long, value_enum, default_value = "table")]
    format: Form,
    /// At most so many arrivals [default: 20 in a table, else all].
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Part i of N: of open loads the arrivals whose id leaves i when divided by N, of closed loads
    /// the users whose number does.
    #[arg(long, value_name = "i/N", default_value = "0/1")]
    shard: Shard,
    #[command(flatten)]
    over: OverArgs,
}

#[derive(Debug, clap::Args)]
struct JudgeArgs {
    /// The run directory.
    run: PathBuf,
    /// Other objectives. What they ask beyond the recorded answers is asked of the run's embedded
    /// evidence; what is in neither is missing.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    slo: Vec<PathBuf>,
    #[command(flatten)]
    beside: BesideArgs,
    /// Write the reports into this directory too. Without it nothing is written.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Form of the report on stdout.
    #[arg(long, value_enum, default_value = "terminal")]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct StackArgs {
    /// Address of the Prometheus API.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    prometheus: SocketAddr,
    /// Address of the Loki API.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3100")]
    loki: SocketAddr,
    /// Address of the Tempo API.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3200")]
    tempo: SocketAddr,
    /// Address of the OTLP/gRPC receiver.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4317")]
    otlp_grpc: SocketAddr,
    /// Address of the OTLP/HTTP receiver.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4318")]
    otlp_http: SocketAddr,
    /// Scrape this, every second: URL, or JOB=URL.
    #[arg(long, value_name = "URL")]
    scrape: Vec<String>,
    /// Show this evidence of an old run (its directory, or its `evidence/`) and take nothing new.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["scrape", "record"])]
    data: Option<PathBuf>,
    /// Record what is taken into this directory, for `--data` later.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Memory that each of the three stores may take, in MiB; what does not fit is refused.
    #[arg(long, value_name = "MIB", default_value = "1024")]
    memory: NonZeroU32,
    /// Size that each of the three files of `--record` may have, in MiB.
    #[arg(long, value_name = "MIB", default_value = "1024", requires = "record")]
    disk: NonZeroU32,
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            let _ = error.print();
            return code.into();
        }
    };
    let filter = EnvFilter::try_from_env("HARNESS_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    // The only error is that a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match execute(cli.command) {
        Ok(code) => code.into(),
        Err(Failure::Config(message)) => complain(&message, EXIT_USAGE),
        Err(Failure::Internal(message)) => complain(&message, EXIT_INTERNAL),
    }
}

fn complain(message: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "harness: {}", message.trim_end());
    code.into()
}

fn execute(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Run(args) => in_runtime(run::run((*args).into())),
        Command::Judge(args) => judge(&args),
        Command::Merge(args) => in_runtime(merge::merge(*args)),
        Command::Attack(args) => in_runtime(attack::attack(&args)),
        Command::Init(args) => {
            let files = init::init(&args)?;
            let [scenario, slo] = files.map(|file| file.display().to_string());
            let text = format!(
                "{scenario}\n{slo}\nnext: harness check {scenario}, then harness run {scenario}\n"
            );
            print_out(&text)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "harness", &mut script);
            print_out(&String::from_utf8_lossy(&script))
        }
        Command::Schedule(args) => show::show(&args.into(), &mut std::io::stdout()).map(|()| 0),
        Command::Compare { runs, format } => compare::compare(&runs, format),
        Command::Report(args) => finished::report(&args),
        Command::Publish(args) => in_runtime(publish::run(args)),
        Command::Explain(args) => finished::explain(&args),
        Command::Doctor(args) => in_runtime(doctor::run(args)),
        Command::Check(args) => check::run(&CheckOptions {
            files: args.files,
            against: args.against,
            strict: args.strict,
        }),
        Command::Test(args) => in_runtime(slo_test::run(TestOptions {
            files: args.files,
            filter: args.run,
            form: args.format,
            junit: args.junit,
        })),
        Command::Stack(args) => in_runtime(stack::run(args.into())),
        Command::Export {
            what: Export::Rules { slos, out },
        } => export::rules(&slos, out.as_deref()),
        Command::Schema { format } => {
            let schema = match format {
                SchemaOf::Scenario => harness_core::scenario::Scenario::schema(),
                SchemaOf::Report => harness_core::report::schema(),
                SchemaOf::Comparison => harness_core::report::comparison_schema(),
                SchemaOf::Slo => harness_core::objective::schema(),
            };
            let text = serde_json::to_string_pretty(&schema)
                .map_err(|e| Failure::Internal(e.to_string()))?;
            writeln!(std::io::stdout(), "{text}").map_err(|e| Failure::Internal(e.to_string()))?;
            Ok(0)
        }
    }
}

fn print_out(text: &str) -> Result<u8, Failure> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map(|()| 0)
        .map_err(|error| Failure::Internal(format!("stdout: {error}")))
}

fn in_runtime<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Internal(format!("no runtime: {error}")))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

impl From<RunArgs> for RunOptions {
    fn from(args: RunArgs) -> Self {
        Self {
            scenario: args.scenario,
            overrides: Overrides {
                slo: args.slo,
                prometheus: args.prometheus,
                loki: args.loki,
                tempo: args.tempo,
                otlp: args.otlp,
                set: args.over.set,
                env: args.over.env,
                grafana: args.grafana,
            },
            out: args.out,
            baselines: args.beside.baseline,
            strict: args.beside.strict,
            retries: args.retries,
            production: args
                .production_query
                .map(Production::Query)
                .or(args.beside.production_rate.map(Production::Rate)),
            shard: args.shard,
            start_at: args.start_at,
            results: args.results.map(|place| (place, args.start_within.0)),
            quiet: args.quiet,
            format: args.format,
            publish: args.publish.into(),
        }
    }
}

impl From<ScheduleArgs> for ShowOptions {
    fn from(args: ScheduleArgs) -> Self {
        Self {
            scenario: args.scenario,
            overrides: Overrides {
                set: args.over.set,
                env: args.over.env,
                ..Overrides::default()
            },
            form: args.format,
            limit: args.limit,
            shard: args.shard,
        }
    }
}

impl From<StackArgs> for StackOptions {
    fn from(args: StackArgs) -> Self {
        Self {
            prometheus: args.prometheus,
            loki: args.loki,
            tempo: args.tempo,
            otlp_grpc: args.otlp_grpc,
            otlp_http: args.otlp_http,
            scrape: args.scrape,
            data: args.data,
            record: args.record,
            memory_mib: args.memory,
            disk_mib: args.disk,
        }
    }
}

/// Puts what other objectives ask beyond the recorded answers to the run's own evidence.
fn ask_anew(
    finished: &mut FinishedRun,
    dir: &Path,
    others: &[(String, String)],
) -> Result<(), Failure> {
    let asking = async {
        let asked = rejudge::ask(finished, dir, others).await;
        asked.map_err(Failure::Internal)
    };
    match in_runtime(asking)? {
        0 => {}
        asked => drop(writeln!(
            std::io::stderr(),
            "harness: {asked} new questions were put to the run's embedded evidence"
        )),
    }
    Ok(())
}

fn judge(args: &JudgeArgs) -> Result<u8, Failure> {
    let mut finished = match finished::read(&args.run)? {
        Ok(finished) => finished,
        Err(code) => return Ok(code),
    };
    let others = if args.slo.is_empty() {
        None
    } else {
        Some(
            inputs::read_slos(&args.slo)
                .map_err(|wrong| Failure::Config(wrong.to_string()))?
                .0,
        )
    };
    if let Some(others) = &others {
        ask_anew(&mut finished, &args.run, others)?;
    }
    let context = &mut finished.facts.context;
    context.strict |= args.beside.strict;
    if let Some(rate) = args.beside.production_rate {
        context.production = Some(Production::Rate(rate));
    }
    if !args.beside.baseline.is_empty() {
        finished.baselines = Some(other_baselines(args, &finished, others.as_deref())?);
    }
    let report = output::judge_finished(&finished, others.as_deref()).map_err(Failure::Internal)?;
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out)
            .map_err(|error| Failure::Config(format!("{}: {error}", out.display())))?;
        if let Some(baselines) = &finished.baselines {
            run_dir::write_baselines(out, baselines)
                .map_err(|error| Failure::Internal(error.to_string()))?;
        }
        output::write_reports(out, &report).map_err(Failure::Internal)?;
    }
    output::print(&report, args.format).map_err(Failure::Internal)?;
    Ok(report.exit_code)
}

/// Other baselines than those of the run, if it had any.
fn other_baselines(
    args: &JudgeArgs,
    finished: &FinishedRun,
    slos: Option<&[(String, String)]>,
) -> Result<Baselines, Failure> {
    let objectives = harness_core::objective::parse(slos.unwrap_or(&finished.slos))
        .map_err(|wrong| Failure::Config(wrong.to_string()))?;
    let wanted = BaselineWanted {
        scenario_sha256: &finished.facts.scenario_sha256,
        files: &finished.facts.context.files,
        run_id: &finished.facts.run_id,
        service: &finished.facts.service,
        objectives: &objectives,
    };
    Ok(baseline::take(&args.beside.baseline, &wanted))
}
