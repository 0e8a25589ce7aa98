//! The files of a run, read and checked before anything starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use harness_core::objective::{self, Objective};
use harness_core::problem::{Problem, Problems};
use harness_core::scenario::Scenario;

use crate::set::{self, Set};

use crate::send::SendOptions;

/// Most bytes of one input file.
const MAX_FILE: u64 = 256 << 20;

/// A scenario with everything it names.
pub struct Inputs {
    /// The scenario with `${NAME}` still in it: what is stored.
    pub text: String,
    /// The scenario with environment variables put in: what is run.
    pub scenario: Scenario,
    /// Values that came from the environment and must not be printed.
    pub secrets: Vec<String>,
    /// SLO files.
    pub slos: Vec<(String, String)>,
    /// Their objectives.
    pub objectives: Vec<Objective>,
    /// Datasets, and instants to replay, by the path the scenario uses.
    pub datasets: BTreeMap<String, String>,
    /// The directory that paths in the scenario are relative to.
    pub base: PathBuf,
}

/// A problem of a whole file.
#[must_use]
pub fn file_problem(file: &Path, message: String, hint: Option<&str>) -> Problem {
    Problem {
        file: file.display().to_string(),
        at: None,
        key: String::new(),
        message,
        hint: hint.map(str::to_owned),
    }
}

/// Reads a text file.
///
/// # Errors
/// When it cannot be read, is not UTF-8, or is larger than 256 MiB.
pub fn read_text(path: &Path) -> Result<String, Problem> {
    let read = || {
        let length = std::fs::metadata(path)?.len();
        if length > MAX_FILE {
            let what = format!("has {length} bytes, at most {MAX_FILE} are read");
            return Err(std::io::Error::other(what));
        }
        std::fs::read_to_string(path)
    };
    read().map_err(|error| file_problem(path, format!("cannot be read: {error}"), None))
}

/// The YAML files that a path means: itself, those in a directory, or those that a glob matches, by name.
///
/// # Errors
/// When there is none.
pub fn yaml_files(path: &Path) -> Result<Vec<PathBuf>, Problem> {
    if !path.exists() && path.to_string_lossy().contains(['*', '?', '[']) {
        return globbed(path);
    }
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path)
        .map_err(|error| file_problem(path, format!("cannot be read: {error}"), None))?;
    let is_yaml = |file: &PathBuf| {
        file.extension()
            .is_some_and(|end| end == "yaml" || end == "yml")
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_yaml)
        .collect();
    files.sort();
    if files.is_empty() {
        let hint = "an SLO directory holds OpenSLO v1 files that end in .yaml or .yml";
        return Err(file_problem(path, "holds no SLO files".into(), Some(hint)));
    }
    Ok(files)
}

/// The files that a glob such as `slo/**/*.yaml` matches, by name.
fn globbed(pattern: &Path) -> Result<Vec<PathBuf>, Problem> {
    let text = pattern.to_string_lossy();
    let matched = glob::glob(&text)
        .map_err(|error| file_problem(pattern, format!("is no glob: {error}"), None))?;
    let mut files = Vec::new();
    for found in matched {
        let file = found.map_err(|error| file_problem(pattern, error.to_string(), None))?;
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(file_problem(pattern, "matches no file".into(), None));
    }
    Ok(files)
}

/// Names and texts of SLO files, and the objectives in them.
pub type Slos = (Vec<(String, String)>, Vec<Objective>);

/// Reads SLO files and directories.
///
/// # Errors
/// Everything wrong with any of them.
pub fn read_slos(paths: &[PathBuf]) -> Result<Slos, Problems> {
    let texts = slo_texts(paths)?;
    let objectives = objective::parse(&texts)?;
    Ok((texts, objectives))
}

/// Names and texts of the SLO files that these paths mean.
///
/// # Errors
/// What cannot be read.
pub fn slo_texts(paths: &[PathBuf]) -> Result<Vec<(String, String)>, Problems> {
    let mut problems = Vec::new();
    let mut texts = Vec::new();
    for path in paths {
        match yaml_files(path) {
            Ok(files) => {
                for file in files {
                    match read_text(&file) {
                        Ok(text) => texts.push((file.display().to_string(), text)),
                        Err(problem) => problems.push(problem),
                    }
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(texts)
    } else {
        Err(Problems(problems))
    }
}

/// What the command line puts over the scenario's own words.
#[derive(Debug, Default, Clone)]
pub struct Overrides {
    /// SLO files instead of the scenario's.
    pub slo: Vec<PathBuf>,
    /// Addresses of real backends.
    pub prometheus: Option<String>,
    /// Likewise.
    pub loki: Option<String>,
    /// Likewise.
    pub tempo: Option<String>,
    /// OTLP/gRPC endpoint for real backends.
    pub otlp: Option<String>,
    /// Values instead of the scenario's.
    pub set: Vec<Set>,
    /// Environment variables of the scenario, before the process' own.
    pub env: Vec<(String, String)>,
    /// A Grafana to link to.
    pub grafana: Option<String>,
}

impl Overrides {
    /// A variable of the scenario: as given, else of the environment.
    fn variable(&self, name: &str) -> Option<String> {
        let mut given = self.env.iter().rev();
        let given = given.find(|(given, _)| given == name);
        given.map_or_else(
            || std::env::var(name).ok(),
            |(_, value)| Some(value.clone()),
        )
    }

    fn apply(&self, scenario: &mut Scenario) {
        let telemetry = &mut scenario.spec.telemetry;
        let put = |slot: &mut Option<harness_core::scenario::BackendAddress>,
                   url: &Option<String>| {
            let Some(url) = url else { return };
            let before = slot.take();
            *slot = Some(harness_core::scenario::BackendAddress {
                url: url.clone(),
                tenant: before.as_ref().and_then(|b| b.tenant.clone()),
                bearer: before.as_ref().and_then(|b| b.bearer.clone()),
                ca: before.and_then(|b| b.ca),
            });
        };
        put(&mut telemetry.prometheus, &self.prometheus);
        put(&mut telemetry.loki, &self.loki);
        put(&mut telemetry.tempo, &self.tempo);
        if self.otlp.is_some() {
            telemetry.otlp.clone_from(&self.otlp);
        }
        if let Some(url) = &self.grafana {
            match &mut telemetry.grafana {
                Some(grafana) => grafana.url.clone_from(url),
                none => *none = Some(harness_core::scenario::Grafana::at(url)),
            }
        }
    }
}

/// A scenario as read.
pub struct ScenarioRead {
    /// Its text with `${NAME}` still in it, and with the values of `--set`: what is stored.
    pub text: String,
    /// With environment variables put in: what is run.
    pub scenario: Scenario,
    /// Values that came from the environment and must not be printed.
    pub secrets: Vec<String>,
}

/// Reads a scenario, puts the command line's words over its own, and checks it.
///
/// # Errors
/// Everything wrong that was found.
pub fn scenario(path: &Path, overrides: &Overrides) -> Result<ScenarioRead, Problems> {
    let text = read_text(path).map_err(|problem| Problems(vec![problem]))?;
    let name = path.display().to_string();
    let text = set::apply(&text, &name, &overrides.set)?;
    let parsed = Scenario::parse(&text, &name)?;
    let (mut scenario, secrets) =
        parsed.resolve(&name, &|variable| overrides.variable(variable))?;
    overrides.apply(&mut scenario);
    Ok(ScenarioRead {
        text,
        scenario,
        secrets,
    })
}

/// Reads files that a scenario names, by the path it uses.
///
/// # Errors
/// Each that cannot be read.
pub fn files<'a>(
    scenario: &Path,
    names: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>, Problems> {
    let base = scenario.parent().unwrap_or(Path::new(""));
    let mut files = BTreeMap::new();
    let mut problems = Vec::new();
    for file in names {
        match read_text(&base.join(file)) {
            Ok(text) => drop(files.insert(file.to_owned(), text)),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(files)
    } else {
        Err(Problems(problems))
    }
}

/// Reads a scenario and everything it names, and checks all of it.
///
/// # Errors
/// Everything wrong that was found.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Inputs, Problems> {
    let name = path.display().to_string();
    let ScenarioRead {
        text,
        scenario,
        secrets,
    } = scenario(path, overrides)?;
    let base = path.parent().unwrap_or(Path::new(""));

    let mut problems = Vec::new();
    let paths: Vec<PathBuf> = if overrides.slo.is_empty() {
        scenario.spec.slo.iter().map(|slo| base.join(slo)).collect()
    } else {
        overrides.slo.clone()
    };
    if paths.is_empty() {
        problems.push(Problem {
            file: name.clone(),
            at: None,
            key: "spec.slo".into(),
            message: "names no objectives, so there would be nothing to judge".into(),
            hint: Some("name OpenSLO files here, or give them with --slo".into()),
        });
    }
    if let Some(Err(wrong)) = overrides
        .grafana
        .as_deref()
        .map(crate::finished::grafana_address)
    {
        problems.push(file_problem(path, wrong, None));
    }
    problems.extend(unexported_traces(&scenario, &name));
    let (slos, objectives) = read_slos(&paths).unwrap_or_else(|wrong| {
        problems.extend(wrong.0);
        Default::default()
    });
    problems.extend(
        objectives
            .iter()
            .flat_map(|objective| objective.check(&scenario)),
    );
    let datasets = files(path, scenario.files().into_iter()).unwrap_or_else(|wrong| {
        problems.extend(wrong.0);
        BTreeMap::new()
    });
    if problems.is_empty() {
        problems.extend(misfits(&scenario, &datasets));
        let sending = SendOptions::of(&scenario, base).and_then(|options| options.check());
        problems.extend(sending.err().map(|message| Problem {
            file: name.clone(),
            at: None,
            key: "spec.target.tls".into(),
            message,
            hint: Some("name PEM files, relative to the scenario file".into()),
        }));
    }
    if problems.is_empty() {
        Ok(Inputs {
            text,
            scenario,
            secrets,
            slos,
            objectives,
            datasets,
            base: base.to_owned(),
        })
    } else {
        Err(Problems(problems))
    }
}

/// Inputs that no file of the user's holds: a scenario without datasets, and its objectives. `name` is
/// what problems call the scenario.
///
/// # Errors
/// Everything wrong that was found.
pub fn of_texts(name: &str, text: String, slos: Vec<(String, String)>) -> Result<Inputs, Problems> {
    let parsed = Scenario::parse(&text, name)?;
    let (scenario, secrets) = parsed.resolve(name, &|variable| std::env::var(variable).ok())?;
    let objectives = objective::parse(&slos)?;
    let datasets = BTreeMap::new();
    let mut problems: Vec<Problem> = objectives
        .iter()
        .flat_map(|objective| objective.check(&scenario))
        .collect();
    problems.extend(misfits(&scenario, &datasets));
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    Ok(Inputs {
        text,
        scenario,
        secrets,
        slos,
        objectives,
        datasets,
        base: PathBuf::new(),
    })
}

/// Scenario and objectives of a run that was made already, to ask its backends about it. Its datasets
/// are not needed for that.
///
/// # Errors
/// Everything wrong that was found.
pub fn of_shard(
    text: String,
    slos: Vec<(String, String)>,
    overrides: &Overrides,
) -> Result<Inputs, Problems> {
    let name = "scenario.yaml";
    let resolved = Scenario::parse(&text, name)?;
    let (mut scenario, secrets) =
        resolved.resolve(name, &|variable| overrides.variable(variable))?;
    overrides.apply(&mut scenario);
    Ok(Inputs {
        objectives: objective::parse(&slos)?,
        text,
        scenario,
        secrets,
        slos,
        datasets: BTreeMap::new(),
        base: PathBuf::new(),
    })
}

/// What is wrong with datasets and with instants to replay.
fn misfits(scenario: &Scenario, datasets: &BTreeMap<String, String>) -> Vec<Problem> {
    // The planner checks every row against every template; its trace ids do not matter here.
    let planner = harness_core::request::Planner::new(scenario, datasets, 0).err();
    let tapes = harness_core::schedule::Tapes::read(scenario, datasets).err();
    let wrong = planner.into_iter().chain(tapes);
    wrong.flat_map(|problems| problems.0).collect()
}

/// A started target has to be told where its traces go when Tempo is a real one; otherwise every run
/// would end as inconclusive, with nothing to see why.
fn unexported_traces(scenario: &Scenario, file: &str) -> Option<Problem> {
    let telemetry = &scenario.spec.telemetry;
    scenario.spec.target.start.as_ref()?;
    let told = telemetry.otlp.is_some() || crate::stage::exports_by_itself(scenario);
    (telemetry.tempo.is_some() && !told).then(|| Problem {
        file: file.to_owned(),
        at: None,
        key: "spec.telemetry.otlp".into(),
        message: "Tempo is a real one, and the started target is not told where to send its traces"
            .into(),
        hint: Some(
            "name an OTLP/gRPC endpoint here or with --otlp, e.g. http://127.0.0.1:4317".into(),
        ),
    })
}
