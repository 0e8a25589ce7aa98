//! A judged run on paper: the report's files and what the command prints.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;

use clap::ValueEnum;
use harness_core::judge::{self, RunRecord};
use harness_core::objective;
use harness_core::record::context::Counted;
use harness_core::report::{self, model::Report};
use harness_core::scenario::Scenario;

use crate::clock::wall_now;
use crate::run_dir::{self, FinishedRun, RunDirError};

/// Forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for a terminal.
    Terminal,
    /// The whole report as JSON.
    Json,
    /// JUnit XML.
    Junit,
    /// GitHub-flavoured Markdown.
    Markdown,
    /// A self-contained page.
    Html,
    /// GitHub Actions annotations.
    Github,
}

/// Judges a finished run, by its own objectives or by others.
///
/// # Errors
/// A sentence when the recorded scenario or objectives cannot be read.
pub fn judge_finished(
    run: &FinishedRun,
    slos: Option<&[(String, String)]>,
) -> Result<Report, String> {
    let scenario =
        Scenario::parse(&run.scenario, "scenario.yaml").map_err(|wrong| wrong.to_string())?;
    let objectives =
        objective::parse(slos.unwrap_or(&run.slos)).map_err(|wrong| wrong.to_string())?;
    let mut report = judge::judge(&RunRecord {
        scenario: &scenario,
        objectives: &objectives,
        facts: &run.facts,
        rows: &run.rows,
        answers: &run.answers,
        baselines: run.baselines.as_ref(),
    });
    report.judged_at = wall_now().rfc3339();
    Ok(report)
}

/// This run's own counts, for an attempt after it.
///
/// # Errors
/// A sentence when the recorded scenario or objectives cannot be read.
pub fn counts(run: &FinishedRun) -> Result<BTreeMap<String, Counted>, String> {
    let scenario =
        Scenario::parse(&run.scenario, "scenario.yaml").map_err(|wrong| wrong.to_string())?;
    let objectives = objective::parse(&run.slos).map_err(|wrong| wrong.to_string())?;
    Ok(judge::counts(&RunRecord {
        scenario: &scenario,
        objectives: &objectives,
        facts: &run.facts,
        rows: &run.rows,
        answers: &run.answers,
        baselines: None,
    }))
}

/// Writes `report.json`, `report.html`, `report.md` and `junit.xml`.
///
/// # Errors
/// When a file cannot be written or JUnit cannot be made.
pub fn write_reports(dir: &Path, report: &Report) -> Result<(), String> {
    let put = |name: &str, text: String| {
        run_dir::write_whole(&dir.join(name), text.as_bytes())
            .map_err(|error: RunDirError| error.to_string())
    };
    put("report.json", report::json(report))?;
    put("report.md", report::markdown(report))?;
    put(
        "junit.xml",
        report::junit(report).map_err(|error| format!("junit.xml: {error}"))?,
    )?;
    put("report.html", report::html(report))
}

/// Columns of a terminal report that goes into a file.
pub const FILE_COLUMNS: usize = 100;

/// A report in one form; `columns` and `color` are for the terminal's alone.
///
/// # Errors
/// When the form cannot be made.
pub fn text(
    report: &Report,
    format: Format,
    columns: usize,
    color: bool,
) -> Result<String, String> {
    Ok(match format {
        Format::Terminal => report::terminal(report, columns, color),
        Format::Json => report::json(report),
        Format::Junit => report::junit(report).map_err(|error| error.to_string())?,
        Format::Markdown => report::markdown(report),
        Format::Html => report::html(report),
        Format::Github => report::github(report),
    })
}

/// Prints a report to stdout.
///
/// # Errors
/// When stdout cannot be written to or the form cannot be made.
pub fn print(report: &Report, format: Format) -> Result<(), String> {
    let (columns, color) = terminal();
    put(&text(report, format, columns, color)?)
}

/// Puts text on stdout, whole.
///
/// # Errors
/// When stdout cannot be written to.
pub fn put(text: &str) -> Result<(), String> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("the report cannot be printed: {error}"))
}

/// Columns of stdout, and whether it shows colours: only a terminal does, and only while `NO_COLOR`
/// is not set to anything (<https://no-color.org>).
#[must_use]
pub fn terminal() -> (usize, bool) {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    (width(), std::io::stdout().is_terminal() && !plain)
}

/// Columns of the terminal; 100 where there is none.
pub(crate) fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let columns = size
        .map(|size| usize::from(size.ws_col))
        .filter(|&columns| columns > 0);
    columns
        .or_else(|| std::env::var("COLUMNS").ok()?.parse().ok())
        .unwrap_or(100)
}
