//! New questions to an old run: what other objectives ask beyond its recorded answers is asked of the
//! evidence that the embedded backends left in its directory, over the same HTTP as in the run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use harness_core::judge::{self, RunRecord};
use harness_core::objective::{self, Objective};
use harness_core::query::{Answer, Backend, Query};
use harness_core::scenario::{BackendAddress, Scenario};
use harness_evidence::store::segment::{SegmentReport, Signal};
use harness_evidence::{Evidence, Opened};

use crate::backends::Backends;
use crate::clock::wall_now;
use crate::embedded::{EVIDENCE_DIR, Embedded};
use crate::run_dir::FinishedRun;

/// Adds what the evidence answers to the run's answers; how many questions that were.
///
/// What only a real backend could answer stays unasked, and so is missing as "not recorded". Evidence
/// with a damaged or missing end is not asked either: its answers might be too small, and say so.
///
/// # Errors
/// A sentence when the scenario, the objectives or the evidence cannot be read.
pub(crate) async fn ask(
    run: &mut FinishedRun,
    dir: &Path,
    slos: &[(String, String)],
) -> Result<usize, String> {
    let scenario =
        Scenario::parse(&run.scenario, "scenario.yaml").map_err(|wrong| wrong.to_string())?;
    let objectives = objective::parse(slos).map_err(|wrong| wrong.to_string())?;
    let kept = dir.join(EVIDENCE_DIR);
    let embedded: BTreeSet<Backend> = run
        .facts
        .backends
        .iter()
        .filter(|(_, used)| used.embedded)
        .map(|(backend, _)| *backend)
        .collect();
    let first = |record: &RunRecord<'_>| {
        let mut queries = judge::coverage_queries(record);
        queries.extend(judge::objective_queries(record));
        queries
    };
    let mut asked = new(first(&record(run, &scenario, &objectives)), run, &embedded);
    if asked.is_empty() || !kept.is_dir() {
        return Ok(0);
    }
    let opened = Evidence::open(&kept).map_err(|error| error.to_string())?;
    let damaged = damaged(&opened);
    let stack = Embedded::serve(opened.evidence).await?;
    let mut backends = Backends::none();
    for (backend, url) in &stack.urls {
        let address = BackendAddress {
            url: url.clone(),
            tenant: None,
            bearer: None,
            ca: None,
        };
        backends.add(*backend, &address)?;
    }
    let mut count = 0;
    // The second round is for what the judgement wants shown.
    for round in 0..2 {
        count += asked.len();
        let (lost, whole): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .partition(|query| damaged.contains_key(&query.backend()));
        let answers = backends.ask_all(whole, std::future::pending()).await;
        let lost = lost.into_iter().map(|query| Answer {
            error: Some(damaged[&query.backend()].clone()),
            query,
            at: wall_now(),
            status: None,
            body: String::new(),
        });
        answers
            .into_iter()
            .chain(lost)
            .for_each(|answer| run.answers.insert(answer));
        asked = Vec::new();
        if round == 0 {
            let record = record(run, &scenario, &objectives);
            let report = judge::judge(&record);
            asked = new(judge::detail_queries(&record, &report), run, &embedded);
        }
    }
    stack.stop().await?;
    Ok(count)
}

fn record<'a>(
    run: &'a FinishedRun,
    scenario: &'a Scenario,
    objectives: &'a [Objective],
) -> RunRecord<'a> {
    RunRecord {
        scenario,
        objectives,
        facts: &run.facts,
        rows: &run.rows,
        answers: &run.answers,
        baselines: run.baselines.as_ref(),
    }
}

/// The questions that were not asked in the run and that the evidence can answer.
fn new(mut queries: Vec<Query>, run: &FinishedRun, embedded: &BTreeSet<Backend>) -> Vec<Query> {
    queries.sort();
    queries.dedup();
    queries.retain(|query| embedded.contains(&query.backend()) && run.answers.get(query).is_none());
    queries
}

/// Why the evidence of a backend cannot be asked. What a store refused while the run went on is not
/// damage: the run's facts say it, and the judge counts it against completeness.
fn damaged(opened: &Opened) -> BTreeMap<Backend, String> {
    let broken = |report: &&SegmentReport| report.loss.is_some() || !report.closed;
    let reports = opened.reports.iter().filter(broken);
    reports
        .filter_map(|report| {
            let backend = match report.signal {
                Signal::Metrics => Backend::Prometheus,
                Signal::Logs => Backend::Loki,
                Signal::Traces => Backend::Tempo,
            };
            let why = report.incomplete()?;
            Some((
                backend,
                format!("the recorded evidence is not whole: {why}"),
            ))
        })
        .collect()
}
