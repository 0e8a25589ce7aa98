//! `harness test`: objectives tested like code. A test writes down telemetry and says what has to be
//! concluded from it; the judge, the query languages and the HTTP road are those of a run.

mod format;
mod outcome;
mod spans;
mod world;

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness_core::judge::{self, RunRecord};
use harness_core::objective::Objective;
use harness_core::problem::Problems;
use harness_core::query::Backend;
use harness_core::record::{
    AnswerBook, BackendUsed, Generator, RUN_SCHEMA, RunFacts, Settled, Target,
};
use harness_core::report::model::Report;
use harness_core::scenario::BackendAddress;
use harness_core::schedule::stretches;
use harness_core::units::Seed;
use harness_evidence::Evidence;

pub use outcome::Form;

use crate::backends::Backends;
use crate::embedded::Embedded;
use crate::inputs;
use crate::run::Failure;
use format::{Expect, Test, TestFile, at};
use outcome::{Case, FileOutcome};
use world::World;

/// Exit code when an expectation is not met: what was to hold does not.
pub const EXIT_UNMET: u8 = 10;
/// How long the questions of one test may take.
const QUESTIONS: Duration = Duration::from_secs(60);
const BACKENDS: [Backend; 3] = [Backend::Prometheus, Backend::Loki, Backend::Tempo];

/// What `harness test` was asked.
#[derive(Debug, Clone)]
pub struct TestOptions {
    /// Test files, directories of them, or globs.
    pub files: Vec<PathBuf>,
    /// Only tests whose name contains this.
    pub filter: Option<String>,
    /// Form of the outcome on stdout.
    pub form: Form,
    /// Write JUnit XML here too.
    pub junit: Option<PathBuf>,
}

/// Runs all tests; 0 when all expectations are met, 10 when one is not.
///
/// # Errors
/// [`Failure::Config`] when a file cannot be read or there is no test to run.
pub async fn run(options: TestOptions) -> Result<u8, Failure> {
    let wrong = |problems: Problems| Failure::Config(problems.to_string());
    let mut outcomes = Vec::new();
    for path in &options.files {
        for file in inputs::yaml_files(path).map_err(|one| wrong(Problems(vec![one])))? {
            outcomes.push(run_file(&file, options.filter.as_deref()).await?);
        }
    }
    let cases = outcomes.iter().map(|file| file.cases.len()).sum::<usize>();
    if cases == 0 {
        // To find nothing to test must not look like success.
        let what = options.filter.map_or_else(
            || "there is no test in these files".to_owned(),
            |filter| format!("no test's name contains `{filter}`"),
        );
        return Err(Failure::Config(what));
    }
    if let Some(path) = &options.junit {
        let text = outcome::junit(&outcomes).map_err(Failure::Internal)?;
        crate::run_dir::write_whole(path, text.as_bytes())
            .map_err(|error| Failure::Config(error.to_string()))?;
    }
    outcome::print(&outcomes, options.form).map_err(Failure::Internal)?;
    let met = outcomes
        .iter()
        .flat_map(|f| &f.cases)
        .all(|c| c.unmet.is_empty());
    Ok(if met { 0 } else { EXIT_UNMET })
}

async fn run_file(file: &Path, filter: Option<&str>) -> Result<FileOutcome, Failure> {
    let wrong = |problems: Problems| Failure::Config(problems.to_string());
    let name = file.display().to_string();
    let text = inputs::read_text(file).map_err(|one| wrong(Problems(vec![one])))?;
    let tests = format::parse(&text, &name).map_err(wrong)?;
    let base = file.parent().unwrap_or(Path::new(""));
    let paths: Vec<PathBuf> = tests.slo_files.iter().map(|slo| base.join(slo)).collect();
    let (_, objectives) = inputs::read_slos(&paths).map_err(wrong)?;
    known(&name, &tests, &objectives).map_err(wrong)?;
    let mut cases = Vec::new();
    for (index, test) in tests.tests.iter().enumerate() {
        let title = test
            .value
            .name
            .clone()
            .unwrap_or_else(|| format!("test {}", index + 1));
        if filter.is_some_and(|wanted| !title.contains(wanted)) {
            continue;
        }
        let report = judged(&name, &tests, (index, &test.value), &objectives).await?;
        cases.push(Case {
            line: at(test).map(|(line, _)| line),
            unmet: unmet(&test.value, &report),
            expected: test.value.expect.len() + usize::from(test.value.verdict.is_some()),
            name: title,
        });
    }
    Ok(FileOutcome { file: name, cases })
}

/// Every objective that is expected something of exists.
fn known(file: &str, tests: &TestFile, objectives: &[Objective]) -> Result<(), Problems> {
    let mut problems = Vec::new();
    for (index, test) in tests.tests.iter().enumerate() {
        for expect in &test.value.expect {
            let slo = &expect.value.slo;
            if !objectives.iter().any(|o| o.name == slo.value) {
                let names: Vec<&str> = objectives.iter().map(|o| o.name.as_str()).collect();
                problems.push(harness_core::problem::Problem {
                    file: file.to_owned(),
                    at: at(slo),
                    key: format!("tests[{index}].expect.slo"),
                    message: format!("there is no objective `{}`", slo.value),
                    hint: Some(format!("one of {}", names.join(", "))),
                });
            }
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problems(problems))
    }
}

/// Judges one written-down run: fresh stores, served on loopback, asked by the client of real runs.
async fn judged(
    file: &str,
    tests: &TestFile,
    test: (usize, &Test),
    objectives: &[Objective],
) -> Result<Report, Failure> {
    let evidence = Evidence::default();
    let served = Embedded::serve(evidence.clone()).await;
    let embedded = served.map_err(Failure::Internal)?;
    let report = async {
        let world = world::build(file, tests, test, &evidence)
            .map_err(|wrong| Failure::Config(wrong.to_string()))?;
        let mut backends = Backends::none();
        for backend in BACKENDS {
            let address = BackendAddress {
                url: embedded.urls.get(&backend).cloned().unwrap_or_default(),
                tenant: None,
                bearer: None,
                ca: None,
            };
            backends.add(backend, &address).map_err(Failure::Internal)?;
        }
        let facts = facts(&world, &embedded, &evidence);
        Ok(ask_and_judge(&world, &facts, objectives, &backends).await)
    }
    .await;
    embedded.stop().await.map_err(Failure::Internal)?;
    report
}

async fn ask_and_judge(
    world: &World,
    facts: &RunFacts,
    objectives: &[Objective],
    backends: &Backends,
) -> Report {
    let mut answers = AnswerBook::default();
    for ask in [judge::coverage_queries, judge::objective_queries] {
        let queries = ask(&record(world, facts, objectives, &answers));
        let enough = tokio::time::sleep(QUESTIONS);
        let answered = backends.ask_all(queries, enough).await;
        answered
            .into_iter()
            .for_each(|answer| answers.insert(answer));
    }
    judge::judge(&record(world, facts, objectives, &answers))
}

fn record<'a>(
    world: &'a World,
    facts: &'a RunFacts,
    objectives: &'a [Objective],
    answers: &'a AnswerBook,
) -> RunRecord<'a> {
    RunRecord {
        scenario: &world.scenario,
        objectives,
        facts,
        rows: &world.rows,
        answers,
        baselines: None,
    }
}

/// The facts of a run in which nothing went wrong with the generator.
fn facts(world: &World, embedded: &Embedded, evidence: &Evidence) -> RunFacts {
    let refused = |backend| match backend {
        Backend::Prometheus => evidence.metrics.stats().refused(),
        Backend::Loki => evidence.logs.stats().refused(),
        Backend::Tempo => evidence.traces.stats().refused(),
    };
    let used = |backend: Backend| BackendUsed {
        url: embedded.urls.get(&backend).cloned().unwrap_or_default(),
        embedded: true,
        refused: refused(backend),
        clock: None,
    };
    RunFacts {
        schema: RUN_SCHEMA.into(),
        run_id: "test".into(),
        harness_version: env!("CARGO_PKG_VERSION").into(),
        scenario: world.scenario.metadata.name.clone(),
        scenario_sha256: String::new(),
        seed: Seed(world.scenario.spec.seed),
        started: world.started,
        drained: world.drained,
        stretches: stretches(&world.scenario),
        generator: Generator {
            scheduled: world.rows.len() as u64,
            wall_seconds: world.length.as_secs_f64(),
            cores: 1,
            ..Generator::default()
        },
        target: Target {
            started: true,
            ..Target::default()
        },
        service: world::SERVICE.into(),
        expect_version: None,
        backends: BACKENDS.into_iter().map(|b| (b, used(b))).collect(),
        settled: Settled {
            until: world.until,
            ..Settled::default()
        },
        faults: Vec::new(),
        stop: None,
        context: harness_core::record::context::Context::default(),
        grafana: None,
        slo_files: std::collections::BTreeMap::new(),
    }
}

/// What was expected and is not so, one sentence each, with the line it is written on.
fn unmet(test: &Test, report: &Report) -> Vec<(Option<usize>, String)> {
    let mut unmet = Vec::new();
    for expect in &test.expect {
        let line = at(expect).map(|(line, _)| line);
        let found = report
            .objectives
            .iter()
            .find(|o| o.name == expect.value.slo.value);
        let Some(found) = found else {
            unmet.push((line, format!("{}: was not judged", expect.value.slo.value)));
            continue;
        };
        unmet.extend(
            differences(&expect.value, found)
                .into_iter()
                .map(|why| (line, why)),
        );
    }
    if let Some(wanted) = &test.verdict
        && wanted.value != report.verdict
    {
        let why = format!(
            "the run: expected {}, got {}: {}",
            outcome::word(wanted.value),
            outcome::word(report.verdict),
            report.reasons.join("; ")
        );
        unmet.push((at(wanted).map(|(line, _)| line), why));
    }
    unmet
}

fn differences(
    expect: &Expect,
    found: &harness_core::report::model::ObjectiveResult,
) -> Vec<String> {
    let mut all = Vec::new();
    let name = &found.name;
    if expect.verdict != found.verdict {
        all.push(format!(
            "{name}: expected {}, got {}: {}",
            outcome::word(expect.verdict),
            outcome::word(found.verdict),
            found.reason
        ));
    }
    if let Some(wanted) = expect.value {
        let near = |got: f64| (got - wanted).abs() <= wanted.abs().max(1e-9) * 1e-6;
        match found.value {
            Some(got) if near(got) => {}
            Some(got) => all.push(format!("{name}: expected the value {wanted}, got {got}")),
            None => all.push(format!(
                "{name}: expected the value {wanted}, got none: {}",
                found.reason
            )),
        }
    }
    if let Some(wanted) = expect.samples
        && found.samples != Some(wanted)
    {
        let got = found
            .samples
            .map_or_else(|| "none".to_owned(), |n| n.to_string());
        all.push(format!("{name}: expected {wanted} samples, got {got}"));
    }
    for text in expect
        .reason
        .iter()
        .filter(|text| !found.reason.contains(text))
    {
        all.push(format!(
            "{name}: the reason does not contain `{text}`: {}",
            found.reason
        ));
    }
    all
}
