//! The scenarios and objectives that the format's specification gives as examples are read, checked
//! and fit together. They lie outside the repository: in `formats/` of the directory that
//! `HARNESS_SHARED` names, else of `shared` beside it.

// The core does no IO; these tests of it read the examples.
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;

use harness_core::objective;
use harness_core::scenario::Scenario;

/// The text of an example; `None`, and said so, where the examples are not there.
fn example(file: &str) -> Option<String> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let shared = std::env::var_os("HARNESS_SHARED").map_or_else(beside, PathBuf::from);
    let formats = shared.join("formats");
    if !formats.is_dir() {
        println!("skipped: there is no {}", formats.display());
        return None;
    }
    // The directory is there: a file that is not is an error, not an absence.
    let text = std::fs::read_to_string(formats.join(file));
    Some(text.unwrap_or_else(|error| panic!("{file}: {error}")))
}

fn scenario(file: &str) -> Option<Scenario> {
    let parsed = Scenario::parse(&example(file)?, file);
    let parsed = parsed.unwrap_or_else(|problems| panic!("{problems}"));
    let (resolved, _) = parsed
        .resolve(file, &|name| (name == "BUILD").then(|| "1.0.0".into()))
        .unwrap_or_else(|problems| panic!("{problems}"));
    Some(resolved)
}

#[test]
fn the_open_scenario_is_read() {
    let Some(scenario) = scenario("scenario.yaml") else {
        return;
    };
    assert_eq!(scenario.metadata.name, "classify-steady");
    // 10 s at 20/s and 60 s at 100/s, Poisson: 6,200 arrivals expected, ten deviations either way.
    let arrivals = harness_core::schedule::open(&scenario).count();
    assert!((5_400..7_000).contains(&arrivals), "{arrivals}");
}

#[test]
fn the_closed_scenario_is_read() {
    let Some(scenario) = scenario("scenario-closed.yaml") else {
        return;
    };
    assert_eq!(scenario.metadata.name, "seed-locust");
    assert_eq!(harness_core::schedule::closed_loads(&scenario), [0]);
    assert_eq!(harness_core::schedule::open(&scenario).count(), 0);
}

#[test]
fn the_objectives_are_read_and_fit_the_open_scenario() {
    let Some(text) = example("slo.yaml") else {
        return;
    };
    let documents = text.lines().filter(|line| line.starts_with("kind: SLO"));
    let documents = documents.count();
    let objectives = objective::parse(&[("slo.yaml".to_owned(), text)])
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert!(
        documents > 0 && objectives.len() >= documents,
        "{documents} documents gave {} objectives",
        objectives.len()
    );
    let Some(scenario) = scenario("scenario.yaml") else {
        return;
    };
    let misfits: Vec<String> = objectives
        .iter()
        .flat_map(|objective| objective.check(&scenario))
        .map(|problem| problem.to_string())
        .collect();
    assert_eq!(misfits, [""; 0]);
}
