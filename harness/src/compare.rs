//! `harness compare A B…`: finished runs side by side.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use harness_core::judge::{self, RunRecord, Side};
use harness_core::objective::{self, Objective};
use harness_core::report::{self, model::Comparison, model::Report};
use harness_core::scenario::Scenario;

use crate::output;
use crate::run::Failure;
use crate::run_dir::{self, FinishedRun};

/// Exit code when the runs may not be compared.
const EXIT_NOT_COMPARABLE: u8 = 11;

/// Forms of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For a terminal.
    Terminal,
    /// As JSON (`harness schema comparison`).
    Json,
    /// GitHub-flavoured Markdown.
    Markdown,
    /// A self-contained page.
    Html,
}

/// A run read back, with what its files say.
struct Read {
    dir: String,
    finished: FinishedRun,
    scenario: Scenario,
    objectives: Vec<Objective>,
    report: Report,
}

impl Read {
    fn of(dir: &Path) -> Result<Self, String> {
        let finished = run_dir::read(dir).map_err(|error| error.to_string())?;
        let scenario = Scenario::parse(&finished.scenario, "scenario.yaml")
            .map_err(|wrong| format!("{}: {wrong}", dir.display()))?;
        let objectives = objective::parse(&finished.slos)
            .map_err(|wrong| format!("{}: {wrong}", dir.display()))?;
        let report = output::judge_finished(&finished, None)?;
        Ok(Self {
            dir: dir.display().to_string(),
            finished,
            scenario,
            objectives,
            report,
        })
    }

    fn side(&self) -> Side<'_> {
        Side {
            dir: &self.dir,
            record: RunRecord {
                scenario: &self.scenario,
                objectives: &self.objectives,
                facts: &self.finished.facts,
                rows: &self.finished.rows,
                answers: &self.finished.answers,
                baselines: self.finished.baselines.as_ref(),
            },
            report: &self.report,
        }
    }
}

/// Compares finished runs with the first of them and prints it; exit code 11 when they may not be
/// compared.
///
/// # Errors
/// When a run cannot be read or stdout not be written.
pub fn compare(runs: &[PathBuf], format: Format) -> Result<u8, Failure> {
    let read: Vec<Read> = runs
        .iter()
        .map(|dir| Read::of(dir))
        .collect::<Result<_, _>>()
        .map_err(Failure::Config)?;
    let sides: Vec<Side> = read.iter().map(Read::side).collect();
    let comparison = judge::compare(&sides);
    let text = form(&comparison, format);
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::Internal(format!("the comparison cannot be printed: {error}")))?;
    Ok(if comparison.comparable {
        0
    } else {
        EXIT_NOT_COMPARABLE
    })
}

fn form(comparison: &Comparison, format: Format) -> String {
    match format {
        Format::Terminal => {
            let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            report::comparison_terminal(comparison, output::width(), color)
        }
        Format::Json => report::comparison_json(comparison),
        Format::Markdown => report::comparison_markdown(comparison),
        Format::Html => report::comparison_html(comparison),
    }
}
