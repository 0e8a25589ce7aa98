//! `harness doctor`: is everything that a scenario needs there, as it must be?
//!
//! It brings up what a run would, sends a handful of probing requests, and looks for them in every
//! backend by the very questions that a run is judged by: what the doctor calls well is what the judge
//! will find.

mod limits;
mod probe;
mod reach;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use harness_core::report::checkup::{Checkup, State};
use rand::RngExt as _;

use crate::cli::OverArgs;
use crate::inputs::{self, Inputs, Overrides};
use crate::output;
use crate::progress::Progress;
use crate::run::{self, Failure};
use crate::stage::Stage;

/// Exit code when a backend cannot be reached.
const EXIT_BACKEND: u8 = 13;
/// Exit code when the target cannot be reached.
const EXIT_TARGET: u8 = 14;

/// What `harness doctor` was asked.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// The scenario file.
    scenario: PathBuf,
    /// OpenSLO files or directories, instead of those the scenario names.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    slo: Vec<PathBuf>,
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
    /// Keep what a started target prints in this directory, as a run does in its own: a collector that
    /// tails `target.stdout.log` finds it there. Otherwise in one that is removed.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Form of what is printed.
    #[arg(long, value_enum, default_value = "text")]
    format: CheckupFormat,
    /// No progress on stderr.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    over: OverArgs,
}

/// Forms of a checkup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckupFormat {
    /// For a terminal.
    Text,
    /// As JSON.
    Json,
}

/// A directory for the embedded evidence and for what a started target prints; gone when this is.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let name = format!("harness-doctor-{:016x}", rand::rng().random::<u64>());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir)
            .map_err(|error| Failure::Internal(format!("{}: {error}", dir.display())))?;
        Ok(Self(dir))
    }
}

/// Where things are kept meanwhile.
#[derive(Clone, Copy)]
struct Dirs<'a> {
    evidence: &'a Path,
    logs: &'a Path,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Makes all checks and prints them; gives the exit code.
///
/// # Errors
/// When scenario or objectives are wrong, or nothing could be started.
pub async fn run(args: DoctorArgs) -> Result<u8, Failure> {
    let overrides = Overrides {
        slo: args.slo,
        prometheus: args.prometheus,
        loki: args.loki,
        tempo: args.tempo,
        otlp: args.otlp,
        grafana: None,
        set: args.over.set,
        env: args.over.env,
    };
    let mut inputs = inputs::load(&args.scenario, &overrides)
        .map_err(|wrong| Failure::Config(wrong.to_string()))?;
    // Every probe is to be found in every backend.
    inputs.scenario.spec.trace.sampled = 1.0;
    let progress = Progress::new(args.quiet);
    let scratch = Scratch::new()?;
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out)
            .map_err(|error| Failure::Config(format!("{}: {error}", out.display())))?;
    }
    let dirs = Dirs {
        evidence: &scratch.0,
        logs: args.out.as_deref().unwrap_or(&scratch.0),
    };
    let mut checkup = Checkup::new(&inputs.scenario.metadata.name);
    limits::check(&inputs.scenario, &mut checkup);

    let mut stage = Stage::new().map_err(Failure::Internal)?;
    let examined = examine(&inputs, &mut stage, dirs, &mut checkup, &progress).await;
    progress.moving("stopping".into());
    let mut facts = run::first_facts(&inputs, "doctor", &stage);
    let stopped = stage.stop(&mut facts).await;
    progress.finish();
    examined?;
    stopped.map_err(Failure::Internal)?;

    let text = match args.format {
        CheckupFormat::Json => checkup.json(),
        CheckupFormat::Text => {
            let (columns, color) = output::terminal();
            checkup.text(columns, color)
        }
    };
    output::put(&text).map_err(Failure::Internal)?;
    Ok(checkup.exit_code)
}

/// Everything that needs something to be up.
async fn examine(
    inputs: &Inputs,
    stage: &mut Stage,
    dirs: Dirs<'_>,
    checkup: &mut Checkup,
    progress: &Progress,
) -> Result<(), Failure> {
    progress.moving("looking for the backends".into());
    if let Err(stop) = stage.start_evidence(&inputs.scenario, dirs.evidence).await {
        return unreachable(checkup, "evidence", EXIT_BACKEND, run::why(&stop));
    }
    let reached = reach::backends(stage, checkup).await;
    if reached.len() < stage.used.len() {
        checkup.exit_code = EXIT_BACKEND;
    }
    progress.moving("starting the target".into());
    if let Err(stop) = stage.start_target(&inputs.scenario, dirs.logs).await {
        return unreachable(checkup, "target", EXIT_TARGET, run::why(&stop));
    }
    let url = crate::backends::without_credentials(&stage.target.url);
    let how = if stage.target.started {
        "started, at"
    } else {
        "at"
    };
    checkup.add(
        "target",
        "reachable",
        State::Ok,
        format!("{how} {url}"),
        None,
    );
    reach::clock_of_target(stage, checkup).await;
    if let Err(stop) = stage.start_scraping(&inputs.scenario) {
        return unreachable(checkup, "prometheus", EXIT_BACKEND, run::why(&stop));
    }
    probe::check(inputs, stage, &reached, checkup, progress).await
}

fn unreachable(checkup: &mut Checkup, area: &str, code: u8, why: &str) -> Result<(), Failure> {
    let hint = match code {
        EXIT_TARGET => "check spec.target: a run could not begin",
        _ => "check the address under spec.telemetry and whether it is up: a run could not begin",
    };
    checkup.add(area, "reachable", State::Fail, why.to_owned(), Some(hint));
    checkup.exit_code = checkup.exit_code.max(code);
    Ok(())
}

/// A time for people.
fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}
