//! `harness check`: scenario and SLO files, read and looked at without running anything.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use harness_core::objective;
use harness_core::problem::Problems;

use crate::inputs::{self, Overrides};
use crate::lint::{self, Context, Warning};
use crate::run::Failure;
use crate::run_dir;

/// What `harness check` was asked.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// Scenario files, SLO files, directories or globs of them.
    pub files: Vec<PathBuf>,
    /// An earlier run to hold the queries against.
    pub against: Option<PathBuf>,
    /// Warnings make the exit code 2.
    pub strict: bool,
}

/// What was found in one file or directory that is well.
struct Checked {
    line: String,
    notes: Vec<String>,
    warnings: Vec<Warning>,
}

/// Checks every file as what it says it is, and says everything that is wrong.
///
/// # Errors
/// [`Failure::Config`] with all problems; with `strict` also when there is a warning.
pub fn run(options: &CheckOptions) -> Result<u8, Failure> {
    let run = match &options.against {
        None => None,
        Some(dir) => {
            let read = run_dir::read(dir).map_err(|error| Failure::Config(error.to_string()))?;
            Some(read)
        }
    };
    let mut wrong = Vec::new();
    let mut good = Vec::new();
    for file in &options.files {
        match check(file, run.as_ref()) {
            Ok(checked) => good.push(checked),
            Err(Problems(problems)) => wrong.extend(problems),
        }
    }
    if !wrong.is_empty() {
        return Err(Failure::Config(Problems(wrong).to_string()));
    }
    let mut out = String::new();
    for checked in &good {
        out.push_str(&checked.line);
        out.push('\n');
        for note in &checked.notes {
            out.push_str(&format!("  note: {note}\n"));
        }
        for warning in &checked.warnings {
            out.push_str(&format!("{warning}\n"));
        }
    }
    std::io::stdout()
        .write_all(out.as_bytes())
        .map_err(|error| Failure::Internal(error.to_string()))?;
    let warnings = good
        .iter()
        .map(|checked| checked.warnings.len())
        .sum::<usize>();
    if options.strict && warnings > 0 {
        let s = if warnings == 1 { "" } else { "s" };
        let what = format!("{warnings} warning{s}, and --strict takes none");
        return Err(Failure::Config(what));
    }
    Ok(0)
}

fn is_scenario(file: &Path) -> Result<bool, Problems> {
    if !file.is_file() {
        return Ok(false);
    }
    let text = inputs::read_text(file).map_err(|one| Problems(vec![one]))?;
    let kind = |line: &str| line.trim_start().starts_with("apiVersion: harness/");
    Ok(text.lines().any(kind))
}

fn check(file: &Path, run: Option<&run_dir::FinishedRun>) -> Result<Checked, Problems> {
    let (texts, scenario, kind) = if is_scenario(file)? {
        let inputs = inputs::load(file, &Overrides::default())?;
        (inputs.slos, Some(inputs.scenario), "scenario, ")
    } else {
        (inputs::slo_texts(&[file.to_owned()])?, None, "")
    };
    let (objectives, notes) = objective::parse_documents(&texts)?;
    let s = if objectives.len() == 1 { "" } else { "s" };
    let what = format!("{kind}{} objective{s}", objectives.len());
    let context = Context {
        scenario: scenario.as_ref(),
    };
    let mut checked = Checked {
        line: format!("{}: {what}, ok", file.display()),
        notes,
        warnings: Vec::new(),
    };
    for objective in &objectives {
        checked.warnings.extend(lint::lint(objective, context));
        if let Some(scenario) = &scenario {
            checked.warnings.extend(lint::load(objective, scenario));
        }
    }
    if let Some(run) = run {
        match lint::against(&objectives, run) {
            Ok((warnings, unasked)) => {
                checked.warnings.extend(warnings);
                checked.notes.extend(
                    unasked
                        .iter()
                        .map(|name| format!("run {} was not asked about {name}", run.facts.run_id)),
                );
            }
            Err(why) => checked.notes.push(why),
        }
    }
    checked.warnings.sort_by_key(|w| {
        let place = w.place.as_ref();
        place.map(|p| (p.file.clone(), p.line, p.column, w.id))
    });
    Ok(checked)
}
