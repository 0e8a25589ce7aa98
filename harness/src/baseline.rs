//! Reads earlier runs that a run is compared with, and runs that lie beside it.

use std::path::{Path, PathBuf};

use harness_core::judge::{self, BaselineWanted, RunRecord};
use harness_core::objective;
use harness_core::record::baseline::{BASELINE_SCHEMA, BaselineRun, Baselines};
use harness_core::record::context::Beside;
use harness_core::report::model::Verdict;
use harness_core::scenario::Scenario;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::run_dir;

/// Most directories looked at beside a run.
const MOST_SIBLINGS: usize = 2_000;
/// Most earlier runs that a report names.
const MOST_BESIDE: usize = 50;
/// Most bytes read of a file that is only looked into.
const MOST_BYTES: u64 = 256 << 20;

/// Takes what is needed of each directory. One that cannot be used is kept with the reason: the
/// objectives that need it are then not decided.
#[must_use]
pub fn take(dirs: &[PathBuf], wanted: &BaselineWanted) -> Baselines {
    let runs = dirs.iter().enumerate().map(|(place, dir)| {
        let mut run = one(dir, wanted, place).unwrap_or_else(|why| BaselineRun {
            unusable: Some(why),
            ..BaselineRun::default()
        });
        run.dir = dir.display().to_string();
        run
    });
    Baselines {
        schema: BASELINE_SCHEMA.into(),
        runs: runs.collect(),
    }
}

fn one(dir: &Path, wanted: &BaselineWanted, place: usize) -> Result<BaselineRun, String> {
    let manifest = run_dir::manifest_sha256(dir).map_err(|error| error.to_string())?;
    let finished = run_dir::read(dir).map_err(|error| error.to_string())?;
    let scenario =
        Scenario::parse(&finished.scenario, "scenario.yaml").map_err(|wrong| wrong.to_string())?;
    let objectives = objective::parse(&finished.slos).map_err(|wrong| wrong.to_string())?;
    let record = RunRecord {
        scenario: &scenario,
        objectives: &objectives,
        facts: &finished.facts,
        rows: &finished.rows,
        answers: &finished.answers,
        baselines: finished.baselines.as_ref(),
    };
    let report = judge::judge(&record);
    let mut run = judge::baseline_run(wanted, &record, &report, place);
    run.manifest_sha256 = Some(manifest);
    Ok(run)
}

/// Enough of `run.json`.
#[derive(Deserialize)]
struct Facts {
    run_id: String,
    scenario_sha256: String,
    started: harness_core::units::UnixNanos,
}

/// Enough of `report.json`.
#[derive(Deserialize)]
struct Report {
    verdict: Verdict,
    reason_code: Option<String>,
    run: ReportRun,
}

#[derive(Deserialize)]
struct ReportRun {
    versions: Vec<String>,
}

/// Runs of the same scenario in the directory that `out` lies in, oldest first, at most fifty of the
/// latest. A run that was never finished is among them: that, too, is a run that was not shown.
#[must_use]
pub fn beside(out: &Path, scenario_sha256: &str) -> Vec<Beside> {
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let own = out.file_name();
    let mut found: Vec<Beside> = directories(parent)
        .into_iter()
        .filter(|dir| dir.file_name() != own)
        .flat_map(|dir| {
            // A run with `--retries` keeps its attempts in directories of their own.
            let attempts = directories(&dir)
                .into_iter()
                .filter(|inner| name(inner).starts_with("attempt-"));
            std::iter::once(dir.clone())
                .chain(attempts)
                .collect::<Vec<_>>()
        })
        .filter_map(|dir| seen(parent, &dir, scenario_sha256))
        .collect();
    found.sort_by(|a, b| (&a.started_at, &a.dir).cmp(&(&b.started_at, &b.dir)));
    let first = found.len().saturating_sub(MOST_BESIDE);
    found.split_off(first)
}

fn name(dir: &Path) -> String {
    dir.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn directories(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .take(MOST_SIBLINGS)
        .collect();
    found.sort();
    found
}

fn seen(parent: &Path, dir: &Path, scenario_sha256: &str) -> Option<Beside> {
    let facts: Option<Facts> = peek(&dir.join("run.json"));
    let same = match &facts {
        Some(facts) => facts.scenario_sha256 == scenario_sha256,
        None => {
            let scenario = text(&dir.join("scenario.yaml"))?;
            run_dir::sha256(&scenario) == scenario_sha256
        }
    };
    if !same {
        return None;
    }
    let report: Option<Report> = facts.as_ref().and_then(|_| peek(&dir.join("report.json")));
    let shown = dir.strip_prefix(parent).unwrap_or(dir);
    Some(Beside {
        dir: shown.display().to_string(),
        run_id: facts.as_ref().map(|facts| facts.run_id.clone()),
        started_at: facts.map(|facts| facts.started.rfc3339()),
        versions: report
            .as_ref()
            .map_or_else(Vec::new, |report| report.run.versions.clone()),
        verdict: report.as_ref().map(|report| report.verdict),
        reason_code: report.and_then(|report| report.reason_code),
    })
}

fn text(path: &Path) -> Option<String> {
    let length = std::fs::metadata(path).ok()?.len();
    (length <= MOST_BYTES)
        .then(|| std::fs::read_to_string(path).ok())
        .flatten()
}

fn peek<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&text(path)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lay(dir: &Path, run_id: &str, scenario: &str, verdict: Option<&str>) {
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join("scenario.yaml"), scenario).unwrap();
        let sha = run_dir::sha256(scenario);
        let facts = format!(r#"{{"run_id":"{run_id}","scenario_sha256":"{sha}","started":1}}"#);
        let Some(verdict) = verdict else { return };
        std::fs::write(dir.join("run.json"), facts).unwrap();
        let report =
            format!(r#"{{"verdict":"{verdict}","reason_code":null,"run":{{"versions":["1.0"]}}}}"#);
        std::fs::write(dir.join("report.json"), report).unwrap();
    }

    #[test]
    fn runs_of_the_scenario_are_found_finished_or_not() {
        let keep = tempfile::tempdir().unwrap();
        let at = |name: &str| keep.path().join(name);
        lay(&at("one"), "r1", "a: 1", Some("fail"));
        lay(&at("other"), "r2", "a: 2", Some("pass"));
        lay(&at("killed"), "r3", "a: 1", None);
        lay(&at("tried/attempt-1"), "r4", "a: 1", Some("inconclusive"));
        lay(&at("own"), "r5", "a: 1", Some("pass"));
        std::fs::write(at("file"), "no directory").unwrap();
        let found = beside(&at("own"), &run_dir::sha256("a: 1"));
        let told: Vec<_> = found.iter().map(|b| (b.dir.as_str(), b.verdict)).collect();
        assert_eq!(
            told,
            [
                ("killed", None),
                ("one", Some(Verdict::Fail)),
                ("tried/attempt-1", Some(Verdict::Inconclusive)),
            ]
        );
        assert_eq!(beside(&at("nowhere/own"), "x"), []);
    }
}
