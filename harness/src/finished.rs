//! `harness report` and `harness explain`: what a finished run left, in the form that is asked for.
//!
//! Both judge the run again from its directory, as `harness judge` does, so that they say nothing that
//! the record does not hold.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use harness_core::report;
use harness_core::scenario::Grafana;
use serde::Serialize;

use crate::backends::without_credentials;
use crate::cli::EXIT_INVALID;
use crate::output::{self, Format};
use crate::run::Failure;
use crate::run_dir::{self, FinishedRun, RunDirError};

/// What `harness report` was asked.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// The run directory.
    run: PathBuf,
    /// Form of the report.
    #[arg(long, value_enum, default_value = "terminal")]
    format: Format,
    /// Write it into this file instead of stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A Grafana that the report links into, instead of the one of the run.
    #[arg(long, value_name = "URL")]
    grafana: Option<String>,
}

/// What `harness explain` was asked.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// The run directory.
    run: PathBuf,
    /// Name of the objective.
    objective: String,
    /// Form of the answer.
    #[arg(long, value_enum, default_value = "text")]
    format: ExplainFormat,
    /// A Grafana to link into, instead of the one of the run.
    #[arg(long, value_name = "URL")]
    grafana: Option<String>,
}

/// Forms of an explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// For a terminal.
    Text,
    /// As JSON, in the words of `report.json`.
    Json,
}

/// Reads a finished run. One that was never finished or was changed is no run that can be trusted: it
/// is said, and the exit code is that of an invalid run.
///
/// # Errors
/// When there is no such run or it cannot be read.
pub fn read(dir: &Path) -> Result<Result<FinishedRun, u8>, Failure> {
    match run_dir::read(dir) {
        Ok(finished) => Ok(Ok(finished)),
        Err(error @ (RunDirError::Unfinished { .. } | RunDirError::Changed { .. })) => {
            let _ = writeln!(std::io::stderr(), "harness: invalid run: {error}");
            Ok(Err(EXIT_INVALID))
        }
        Err(error) => Err(Failure::Config(error.to_string())),
    }
}

/// Puts another Grafana's address over the recorded one.
fn link_into(run: &mut FinishedRun, url: Option<&str>) -> Result<(), Failure> {
    let Some(url) = url else { return Ok(()) };
    let url = grafana_address(url).map_err(Failure::Config)?;
    match &mut run.facts.grafana {
        Some(grafana) => grafana.url = url,
        none => *none = Some(Grafana::at(&url)),
    }
    Ok(())
}

/// An address to link to, without a user and password.
///
/// # Errors
/// When it is no http or https URL.
pub fn grafana_address(url: &str) -> Result<String, String> {
    let parsed = url::Url::parse(url).map_err(|error| format!("--grafana: no URL: {error}"))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err("--grafana: must begin with http:// or https://".into());
    }
    Ok(without_credentials(url))
}

/// Writes the report. Its exit code is 0 whatever the verdict: it is `harness run` and `harness judge`
/// that gate.
///
/// # Errors
/// When the run cannot be read or the report cannot be written.
pub fn report(args: &ReportArgs) -> Result<u8, Failure> {
    let mut run = match read(&args.run)? {
        Ok(run) => run,
        Err(code) => return Ok(code),
    };
    link_into(&mut run, args.grafana.as_deref())?;
    let report = output::judge_finished(&run, None).map_err(Failure::Internal)?;
    match &args.out {
        None => output::print(&report, args.format).map_err(Failure::Internal)?,
        Some(file) => {
            let text = output::text(&report, args.format, output::FILE_COLUMNS, false)
                .map_err(Failure::Internal)?;
            run_dir::write_whole(file, text.as_bytes())
                .map_err(|error| Failure::Config(error.to_string()))?;
        }
    }
    Ok(0)
}

/// One objective as JSON, with everything of the report that bears on it.
#[derive(Serialize)]
struct Explained<'a> {
    schema: &'a str,
    run: &'a str,
    verdict: report::model::Verdict,
    objective: &'a report::model::ObjectiveResult,
    why: Option<&'a report::model::Explanation>,
    tail: Option<&'a report::model::Tail>,
    onset: Option<&'a report::model::Onset>,
    requests: Vec<&'a report::model::RequestDetail>,
    findings: &'a [report::model::Finding],
}

/// Version of what `harness explain --format json` prints.
pub const EXPLAIN_SCHEMA: &str = "harness.explain/v1";

/// Says why one objective is as it is.
///
/// # Errors
/// When the run cannot be read, or it has no such objective (which names those it has).
pub fn explain(args: &ExplainArgs) -> Result<u8, Failure> {
    let mut run = match read(&args.run)? {
        Ok(run) => run,
        Err(code) => return Ok(code),
    };
    link_into(&mut run, args.grafana.as_deref())?;
    let report = output::judge_finished(&run, None).map_err(Failure::Internal)?;
    let Some(objective) = report.objectives.iter().find(|o| o.name == args.objective) else {
        let names: Vec<&str> = report.objectives.iter().map(|o| o.name.as_str()).collect();
        return Err(Failure::Config(format!(
            "the run has no objective `{}`\n  hint: one of {}",
            args.objective,
            names.join(", ")
        )));
    };
    let text = match args.format {
        ExplainFormat::Text => {
            let (columns, color) = output::terminal();
            report::explain(&report, &args.objective, columns, color).unwrap_or_default()
        }
        ExplainFormat::Json => {
            let why = report.why.iter().find(|w| w.objective == objective.name);
            let ids =
                |w: &report::model::Explanation| [w.worst.clone(), w.typical.clone()].concat();
            let mine = why.map(ids);
            report::inert(&Explained {
                schema: EXPLAIN_SCHEMA,
                run: &report.run.id,
                verdict: report.verdict,
                objective,
                why,
                tail: report.tail.as_ref(),
                onset: report.onset.as_ref(),
                requests: report
                    .requests
                    .iter()
                    .filter(|r| mine.as_ref().is_none_or(|mine| mine.contains(&r.id)))
                    .collect(),
                findings: &report.findings,
            })
        }
    };
    output::put(&text).map_err(Failure::Internal)?;
    Ok(0)
}
