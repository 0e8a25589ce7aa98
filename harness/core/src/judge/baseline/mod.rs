//! Against earlier runs: is an objective no worse than it was, beyond what chance explains?
//!
//! [`figure`] is what one run's evidence says, with the noise within it; [`compare`] sets one beside
//! those of earlier runs. What is compared with comes from [`Baselines`], which the shell takes from
//! the directories of earlier runs before this one begins and seals into this run's own.

use std::collections::BTreeMap;

use super::RunRecord;
use super::coverage::{self, Survey};
use crate::objective::{Allowance, Indicator, Metric, Objective};
use crate::record::baseline::{BaselineRun, Baselines, Figure, Kept};
use crate::report::model::{BaselineResult, BaselineUsed, Gate, Report, Verdict};

pub(crate) mod compare;
pub(super) mod figure;
#[cfg(test)]
mod tests;

use compare::{Compared, compare};
use figure::Salt;

/// Salts of the draws: now and then must be independent, and so must several baseline runs.
const NOW: Salt = Salt(0);
const THEN: u64 = 1;

/// What an earlier run must agree with to be compared with.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// SHA-256 of the scenario.
    pub scenario_sha256: &'a str,
    /// SHA-256 of the files that the scenario names, by path.
    pub files: &'a BTreeMap<String, String>,
    /// Run id of the run that is to be judged; a run is no baseline of itself.
    pub run_id: &'a str,
    /// Name of the service.
    pub service: &'a str,
    /// The objectives that are to be judged.
    pub objectives: &'a [Objective],
}

/// What is kept of an earlier run: `record` and `report` are its own, `place` is its number among
/// the baselines, from 0.
#[must_use]
pub fn baseline_run(
    wanted: &Wanted,
    record: &RunRecord,
    report: &Report,
    place: usize,
) -> BaselineRun {
    let unusable = unusable(wanted, record, report);
    let survey = coverage::survey(record);
    let figures = match unusable {
        Some(_) => BTreeMap::new(),
        None => wanted
            .objectives
            .iter()
            .filter(|objective| objective.baseline.is_some())
            .map(|objective| {
                let kept = Kept {
                    measured: measured(&objective.indicator),
                    figure: figure_then(record, &survey, objective, place),
                };
                (objective.name.clone(), kept)
            })
            .collect(),
    };
    BaselineRun {
        dir: String::new(),
        run_id: Some(record.facts.run_id.clone()),
        started_at: Some(record.facts.started.rfc3339()),
        manifest_sha256: None,
        versions: report.run.versions.clone(),
        verdict: Some(report.verdict),
        unusable,
        figures,
    }
}

/// Why a run is not compared with at all.
fn unusable(wanted: &Wanted, record: &RunRecord, report: &Report) -> Option<String> {
    let facts = record.facts;
    if facts.run_id == wanted.run_id {
        return Some("it is this very run".into());
    }
    if facts.scenario_sha256 != wanted.scenario_sha256 {
        return Some(format!(
            "it ran another scenario: `{}` with SHA-256 {}",
            facts.scenario,
            short(&facts.scenario_sha256)
        ));
    }
    if let Some(file) = other_file(&facts.context.files, wanted.files) {
        return Some(format!("it sent other data: {file} is not the same file"));
    }
    if facts.service != wanted.service {
        return Some(format!(
            "it ran against another service, `{}`",
            facts.service
        ));
    }
    if let Some(shard) = super::shards::alone(record) {
        return Some(format!("it is shard {shard} alone"));
    }
    (report.verdict == Verdict::Invalid).then(|| {
        let code = report.reason_code.as_deref().unwrap_or("no reason given");
        format!("it is invalid ({code})")
    })
}

/// A file that two runs of one scenario do not have in common.
pub(super) fn other_file<'f>(
    a: &'f BTreeMap<String, String>,
    b: &'f BTreeMap<String, String>,
) -> Option<&'f str> {
    a.keys()
        .chain(b.keys())
        .find(|file| a.get(*file) != b.get(*file))
        .map(String::as_str)
}

fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

fn figure_then(record: &RunRecord, survey: &Survey, objective: &Objective, place: usize) -> Figure {
    let same = record
        .objectives
        .iter()
        .find(|own| own.name == objective.name);
    match same {
        None => Figure::Missing {
            why: "it did not judge this objective".into(),
        },
        Some(own) if !measures_alike(&own.indicator, &objective.indicator) => Figure::Missing {
            why: "its objective of this name measured something else".into(),
        },
        Some(_) => figure::figure(record, survey, objective, Salt(THEN + place as u64)),
    }
}

/// Whether two objectives measure the same, whatever they ask of it.
pub(super) fn measures_alike(a: &Indicator, b: &Indicator) -> bool {
    match (a, b) {
        (
            Indicator::Ratio {
                part_is,
                part,
                total,
                counter,
                ..
            },
            Indicator::Ratio {
                part_is: other_is,
                part: other_part,
                total: other_total,
                counter: other_counter,
                ..
            },
        ) => (part_is, part, total, counter) == (other_is, other_part, other_total, other_counter),
        (Indicator::Threshold { metric, .. }, Indicator::Threshold { metric: other, .. }) => {
            metric == other
        }
        _ => a == b,
    }
}

/// What an objective measures, in words that differ when it does.
fn measured(indicator: &Indicator) -> String {
    let metric = |metric: &Metric| match metric {
        Metric::Client(client) => format!("client {:?} {:?}", client.request, client.figure),
        Metric::Prometheus(query) => format!("prometheus {query}"),
        Metric::Loki(query) => format!("loki {query}"),
        Metric::Tempo(query) => format!("tempo {query}"),
    };
    match indicator {
        Indicator::Ratio {
            part_is,
            part,
            total,
            counter,
            ..
        } => format!(
            "{part_is:?} of counter {counter}: {}; total: {}",
            metric(part),
            metric(total)
        ),
        Indicator::Threshold { metric: of, .. } => format!("value: {}", metric(of)),
    }
}

/// One objective's comparison; `None` where none was asked for.
pub(super) type Outcome = Option<Result<Compared, String>>;

/// Compares every objective that asks for it, in their order.
pub(super) fn outcomes<'a>(record: &RunRecord<'a>, survey: &Survey) -> Vec<Outcome> {
    let one = |objective: &Objective| {
        objective.baseline.map(|criterion| {
            let baselines = record
                .baselines
                .ok_or("no baseline was given; name earlier runs with --baseline".to_owned())?;
            usable(baselines)?;
            let wanted = measured(&objective.indicator);
            let kept = |run: &'a BaselineRun| match run.figures.get(&objective.name) {
                None => Err(format!("nothing of it was kept of {}", name(run))),
                Some(kept) if kept.measured != wanted => Err(format!(
                    "what was kept of {} is of an objective of this name that measured something else",
                    name(run)
                )),
                Some(kept) => Ok(&kept.figure),
            };
            let figures: Vec<&Figure> = baselines
                .runs
                .iter()
                .map(kept)
                .collect::<Result<_, _>>()?;
            let now = figure::figure(record, survey, objective, NOW);
            compare(&now, &figures, &criterion, objective.confidence)
        })
    };
    record.objectives.iter().map(one).collect()
}

/// Every run named must be of use, and none twice: to leave out what cannot be read would let
/// whoever removes a run choose what is compared with.
fn usable(baselines: &Baselines) -> Result<(), String> {
    for (place, run) in baselines.runs.iter().enumerate() {
        if let Some(why) = &run.unusable {
            return Err(format!("the baseline {} cannot be used: {why}", run.dir));
        }
        let twin = baselines.runs[..place]
            .iter()
            .find(|other| other.run_id == run.run_id);
        if let Some(twin) = twin {
            return Err(format!(
                "the baselines {} and {} are the same run",
                twin.dir, run.dir
            ));
        }
    }
    Ok(())
}

fn name(run: &BaselineRun) -> &str {
    run.run_id.as_deref().unwrap_or(&run.dir)
}

/// Chance that a finding "worse" is wrong; 1 where nothing was found.
pub(super) fn p_worse(outcome: &Outcome) -> f64 {
    match outcome {
        Some(Ok(compared)) => compared.p_worse,
        _ => 1.0,
    }
}

/// The result for the report. `adjusted` is the chance of a wrong "worse", corrected for the
/// number of findings.
pub(super) fn result(
    record: &RunRecord,
    objective: &Objective,
    outcome: &Outcome,
    adjusted: f64,
) -> Option<BaselineResult> {
    let criterion = objective.baseline?;
    let relative = matches!(criterion.allowance, Allowance::Relative(_));
    let runs = record.baselines.map_or(0, |b| b.runs.len());
    let mut result = BaselineResult {
        allowance: criterion.text(),
        value: None,
        now: None,
        limit: None,
        relative,
        change: None,
        lower: None,
        upper: None,
        runs,
        verdict: Verdict::Inconclusive,
        reason: String::new(),
    };
    let compared = match outcome.as_ref()? {
        Err(why) => {
            result.reason = format!("not compared with a baseline: {why}");
            return Some(result);
        }
        Ok(compared) => compared,
    };
    let finite = |v: f64| v.is_finite().then_some(v);
    let (then, now) = (compared.then, compared.now);
    result.value = finite(then);
    result.now = finite(now);
    result.limit = finite(criterion.limit(then));
    result.change = finite(if relative {
        now / then - 1.0
    } else {
        now - then
    });
    [result.lower, result.upper] = compared.bounds.map(finite);
    let alpha = 1.0 - objective.confidence;
    let said = said(objective, compared, relative);
    (result.verdict, result.reason) = if compared.p_no_worse <= alpha {
        (
            Verdict::Pass,
            format!("no worse than {} of the baseline: {said}", result.allowance),
        )
    } else if adjusted < alpha {
        (
            Verdict::Fail,
            format!("worse than {} of the baseline: {said}", result.allowance),
        )
    } else if compared.p_worse < alpha {
        let why = "not when corrected for the number of required criteria";
        (
            Verdict::Inconclusive,
            format!(
                "worse than {} of the baseline at this confidence alone, {why}: {said}",
                result.allowance
            ),
        )
    } else {
        let more = advice(&objective.indicator, compared, relative);
        (
            Verdict::Inconclusive,
            format!(
                "not decided against {} of the baseline: {said}{more}",
                result.allowance
            ),
        )
    };
    Some(result)
}

fn said(objective: &Objective, compared: &Compared, relative: bool) -> String {
    let ratio = matches!(objective.indicator, Indicator::Ratio { .. });
    let value = |v: f64| match ratio {
        true => super::decide::percent(v),
        false if v.is_infinite() => "unanswered".into(),
        false => super::decide::number(v),
    };
    let change = |v: f64| match (relative, ratio) {
        (_, _) if v.is_infinite() => "unbounded".into(),
        (true, _) => format!("{:+.1} %", v * 100.0),
        (false, true) => format!("{:+.3} points", v * 100.0),
        (false, false) => format!("{v:+.6}"),
    };
    let what = if ratio { "bad share " } else { "" };
    format!(
        "{what}{} beside {}, at {} confidence each a change between {} and {} ({})",
        value(compared.now),
        value(compared.then),
        super::decide::percent(objective.confidence),
        change(compared.bounds[0]),
        change(compared.bounds[1]),
        compared.how
    )
}

fn advice(indicator: &Indicator, compared: &Compared, relative: bool) -> &'static str {
    match indicator {
        Indicator::Ratio { .. } if relative && compared.now.max(compared.then) < 0.01 => {
            "; so few bad events say little of a percentage of them: allow an absolute share, such as +0.002, or run longer"
        }
        _ => "; a longer run or more baseline runs would tell them apart",
    }
}

/// An objective's verdict with its baseline: both must hold for a pass, and either may fail it.
pub(super) fn joint(target: Verdict, baseline: Verdict) -> Verdict {
    match (target, baseline) {
        (Verdict::Fail, _) | (_, Verdict::Fail) => Verdict::Fail,
        (Verdict::Pass, Verdict::Pass) => Verdict::Pass,
        _ => Verdict::Inconclusive,
    }
}

/// The runs compared with, for the report.
pub(super) fn used(record: &RunRecord) -> Vec<BaselineUsed> {
    let runs = record.baselines.map_or(&[][..], |b| &b.runs);
    runs.iter()
        .map(|run| BaselineUsed {
            dir: run.dir.clone(),
            run: run.run_id.clone(),
            started_at: run.started_at.clone(),
            manifest_sha256: run.manifest_sha256.clone(),
            versions: run.versions.clone(),
            verdict: run.verdict,
            unusable: run.unusable.clone(),
        })
        .collect()
}

/// Whether a comparison counts among the criteria that can fail a run.
pub(super) fn counts(objective: &Objective, outcome: &Outcome) -> bool {
    objective.gate == Gate::Required && matches!(outcome, Some(Ok(_)))
}
