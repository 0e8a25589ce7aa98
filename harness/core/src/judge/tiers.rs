//! Warn criteria: stricter than the target, short of failing.
//!
//! A warn criterion is judged as a target would be, with the same evidence at the same confidence:
//! shown to be met, shown to be missed (that is the warning), or neither. `--strict` takes it for a
//! target: missed fails the run, undecided forbids a pass.

use super::RunRecord;
use super::client;
use super::decide::{number, percent};
use super::stat::{self, Correlation};
use crate::objective::{ClientFigure, Indicator, Metric, Objective, Op, Warn};
use crate::record::context::Counted;
use crate::report::model::{Gate, ObjectiveResult, Verdict, WarnResult};

/// A warn criterion on its way to a verdict.
pub(super) struct Criterion {
    /// Counts and the least share of good ones, where there are counts.
    test: Option<(Counted, f64)>,
    /// How what is counted hangs together.
    correlation: Correlation,
    /// How an uncounted value stands to the limit; `None` when it is not known.
    holds: Option<bool>,
    shown: String,
    limit: f64,
}

/// The warn criterion of an objective. `counted`: what its target is tested on, if that is counts, and how
/// that hangs together.
pub(super) fn criterion(
    record: &RunRecord,
    objective: &Objective,
    counted: Option<(Counted, Correlation)>,
    result: &ObjectiveResult,
) -> Option<Criterion> {
    let correlation = counted.map_or(Correlation::none(0.0), |(_, correlation)| correlation);
    let counted = counted.map(|(counted, _)| counted);
    let criterion = match objective.warn? {
        Warn::Share(share) => Criterion {
            test: counted.map(|counted| (counted, share)),
            correlation,
            holds: None,
            shown: format!("≥ {}", percent(share)),
            limit: share,
        },
        Warn::Limit { op, value } => Criterion {
            test: counted.and_then(|counted| limit_test(record, objective, counted, op, value)),
            // What the run is worth at its slowest pace was found for the objective's own limit.
            correlation: Correlation {
                slowest: None,
                ..correlation
            },
            holds: match counted {
                Some(_) => None,
                // What was taken from incomplete evidence decides nothing, here as for the target.
                None if result.verdict == Verdict::Inconclusive => None,
                None => result.value.map(|found| op.holds(found, value)),
            },
            shown: format!("{} {}", sign(op), number(value)),
            limit: value,
        },
    };
    Some(criterion)
}

fn sign(op: Op) -> &'static str {
    match op {
        Op::Lte => "≤",
        Op::Gte => "≥",
        Op::Lt => "<",
        Op::Gt => ">",
    }
}

/// Counts within a tighter limit, of what is judged as counts although it is a threshold.
fn limit_test(
    record: &RunRecord,
    objective: &Objective,
    counted: Counted,
    op: Op,
    limit: f64,
) -> Option<(Counted, f64)> {
    let Indicator::Threshold {
        metric: Metric::Client(metric),
        ..
    } = &objective.indicator
    else {
        return None;
    };
    match metric.figure {
        ClientFigure::Quantile { time, q } => {
            let times = client::times(record, metric, time);
            let good = times.iter().filter(|t| op.holds(**t, limit)).count() as u64;
            let total = times.len() as u64;
            // With the counts of other attempts there are more than these rows.
            (total == counted.total).then_some((
                Counted {
                    good,
                    total,
                    unseen: 0,
                },
                q,
            ))
        }
        ClientFigure::Accuracy => Some((counted, limit)),
        _ => None,
    }
}

impl Criterion {
    /// Chance of so few good ones if the share were exactly the warn criterion's; 1 without a test.
    pub(super) fn p_missed(&self) -> f64 {
        self.test.map_or(1.0, |(counted, share)| {
            stat::p_missed_by(counted.good, counted.total, share, self.correlation)
        })
    }

    /// The result for the report. `adjusted`: [`Criterion::p_missed`], corrected for their number.
    pub(super) fn result(&self, confidence: f64, adjusted: f64, value: Option<f64>) -> WarnResult {
        let alpha = 1.0 - confidence;
        let verdict = match (&self.test, self.holds) {
            (Some((counted, share)), _) => {
                let (good, total, unseen) = (counted.good, counted.total, counted.unseen);
                let met = stat::p_met_by(good, total, unseen, *share, self.correlation) <= alpha;
                if counted.total == 0 {
                    Verdict::Inconclusive
                } else if met {
                    Verdict::Pass
                } else if adjusted < alpha {
                    Verdict::Fail
                } else {
                    Verdict::Inconclusive
                }
            }
            (None, Some(true)) => Verdict::Pass,
            (None, Some(false)) => Verdict::Fail,
            (None, None) => Verdict::Inconclusive,
        };
        let found = match (&self.test, value) {
            (Some((counted, _)), _) => format!(
                "{} of {} ({})",
                super::names::grouped(counted.good),
                super::names::grouped(counted.total),
                percent(counted.good as f64 / (counted.total as f64).max(1.0))
            ),
            (None, Some(value)) => number(value),
            (None, None) => "no value".into(),
        };
        let stands = match verdict {
            Verdict::Pass => "is met",
            Verdict::Fail => "is missed",
            _ => "is not decided",
        };
        let reason = format!("the warn criterion {} {stands}: {found}", self.shown);
        WarnResult {
            criterion: self.shown.clone(),
            limit: self.limit,
            verdict,
            reason,
        }
    }
}

/// Warnings for the report: objectives that do not fail and miss their warn criterion.
pub(super) fn warnings(results: &[ObjectiveResult]) -> Vec<String> {
    results
        .iter()
        .filter(|r| r.verdict != Verdict::Fail)
        .filter_map(|r| Some((r, r.warn.as_ref()?)))
        .filter(|(_, warn)| warn.verdict == Verdict::Fail)
        .map(|(r, warn)| format!("{}: {}", r.name, warn.reason))
        .collect()
}

/// What a strict judgement makes of required objectives' warn criteria: missed ones, undecided ones.
pub(super) fn strict(results: &[ObjectiveResult]) -> (Vec<String>, Vec<String>) {
    let of = |verdict| {
        results
            .iter()
            .filter(|r| r.gate == Gate::Required)
            .filter_map(|r| Some((r, r.warn.as_ref()?)))
            .filter(|(_, warn)| warn.verdict == verdict)
            .map(|(r, warn)| format!("{} by --strict: {}", r.name, warn.reason))
            .collect()
    };
    (of(Verdict::Fail), of(Verdict::Inconclusive))
}
