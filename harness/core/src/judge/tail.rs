//! Where the time of the slow requests went: the stages of some slow and some typical ones, and what
//! share of the difference each stage accounts for.
//!
//! Traces are looked up for a bounded, even sample of both groups. Requests whose traces are not
//! whole are counted and left out; with too few whole ones nothing is said, rather than that a stage
//! took no time.

use std::cmp::Reverse;

use super::RunRecord;
use super::client;
use super::stages::{Part, seconds, stages};
use crate::measure::shown_latency;
use crate::objective::{ClientFigure, Limit};
use crate::objective::{ClientMetric, Indicator, Metric, Objective, Part as Side, Time};
use crate::observation::{Observation, Outcome};
use crate::query::{Backend, Query};
use crate::report::model::{Group, Stage, StageKind, Tail};
use crate::units::Nanos;

/// Traces looked up of each group.
const SAMPLE: usize = 50;
/// Fewest whole traces of each group.
const FEWEST: usize = 5;
/// Most missed objectives that get a table of their own; the others have that of the whole run.
pub(super) const MOST_OBJECTIVES: usize = 3;
/// Stages named; the rest are summed.
const MOST_STAGES: usize = 15;

/// Slow and typical requests, each group by latency.
pub(super) struct Groups<'a> {
    slow: Vec<&'a Observation>,
    typical: Vec<&'a Observation>,
    slow_what: String,
    typical_what: String,
}

/// Whether a row's time says something of how slow the service is: not so for one that was refused.
fn waited(row: &Observation) -> bool {
    row.sent().is_some()
        && (row.outcome.answered() || matches!(row.outcome, Outcome::Timeout | Outcome::Unfinished))
}

fn by_latency(rows: &mut [&Observation]) {
    rows.sort_by_key(|r| (r.latency(), r.id));
}

/// The middle fifth of rows sorted by latency.
fn middle<'a>(sorted: &[&'a Observation]) -> Vec<&'a Observation> {
    let (from, to) = (sorted.len() * 2 / 5, (sorted.len() * 3).div_ceil(5));
    sorted[from..to].to_vec()
}

impl<'a> Groups<'a> {
    /// The slowest 1 % of the measured phase (20 at least, of small runs a tenth) against the middle fifth.
    pub(super) fn of_run(record: &RunRecord<'a>) -> Option<Self> {
        let mut rows: Vec<&Observation> =
            client::rows(record, None).filter(|r| waited(r)).collect();
        by_latency(&mut rows);
        let slow = (rows.len() / 100).max((rows.len() / 10).min(20));
        if slow == 0 {
            return None;
        }
        // Where most are refused the middle one is a refusal, which is no time to hold others against.
        let fine: Vec<&Observation> = rows
            .iter()
            .copied()
            .filter(|r| r.outcome == Outcome::Expected)
            .collect();
        let (typical, typical_what) = if fine.len() < FEWEST {
            (middle(&rows), "the middle fifth")
        } else {
            (
                middle(&fine),
                "the middle fifth of those answered as expected",
            )
        };
        Some(Self {
            typical,
            slow: rows.split_off(rows.len() - slow),
            slow_what: "the slowest".into(),
            typical_what: typical_what.into(),
        })
    }

    /// The requests over an objective's limit on time against the middle fifth of those within it.
    /// `None` for an objective that the client's rows do not tell, or that no request missed by time.
    pub(super) fn of_objective(record: &RunRecord<'a>, objective: &Objective) -> Option<Self> {
        let (metric, limit) = limit(objective)?;
        let over = |row: &Observation| match limit.time {
            Time::ServiceTime => row.service_time().is_some_and(|t| beyond(t, limit)),
            Time::FirstByte if row.first_byte().is_some() => row
                .first_byte()
                .is_some_and(|at| beyond(at.since(row.due), limit)),
            Time::FirstEvent | Time::InterEvent => {
                client::time(row, limit.time).is_none_or(|took| beyond(took, limit))
            }
            Time::Latency | Time::FirstByte => beyond(row.latency(), limit),
        };
        let of_name = || client::rows(record, metric.request.as_deref()).filter(|r| waited(r));
        let mut slow: Vec<&Observation> = of_name().filter(|r| over(r)).collect();
        if slow.is_empty() {
            return None;
        }
        let mut fine: Vec<&Observation> = of_name()
            .filter(|r| !over(r) && r.outcome == Outcome::Expected)
            .collect();
        by_latency(&mut slow);
        by_latency(&mut fine);
        let bound = crate::report::seconds(limit.at_most.0.as_secs_f64());
        let mut typical_what = format!("the middle fifth of those within {bound}");
        if fine.len() < FEWEST {
            fine = outside_measured(record, metric, over);
            typical_what = format!(
                "the middle fifth of those within {bound} before or after the measured phase, since hardly any was in it"
            );
        }
        Some(Self {
            typical: middle(&fine),
            slow,
            slow_what: format!("those over {bound}"),
            typical_what,
        })
    }

    /// A typical request with a trace to look at.
    pub(super) fn example(&self) -> Option<&'a Observation> {
        let sample = sample(&self.typical);
        sample.get(sample.len() / 2).copied()
    }

    /// Trace questions of both samples.
    pub(super) fn queries(&self) -> impl Iterator<Item = Query> + '_ {
        let rows = sample(&self.slow).into_iter().chain(sample(&self.typical));
        rows.map(|row| Query::TempoTrace { trace: row.trace })
    }
}

fn beyond(took: Nanos, limit: Limit) -> bool {
    let took = took.as_duration();
    took > limit.at_most.0 || (limit.strictly && took == limit.at_most.0)
}

/// Rows within the limit from other phases, where the measured one has none to compare with.
fn outside_measured<'a>(
    record: &RunRecord<'a>,
    metric: &ClientMetric,
    over: impl Fn(&Observation) -> bool,
) -> Vec<&'a Observation> {
    let requests = &record.scenario.spec.requests;
    let named = |row: &Observation| {
        let name = requests.get(usize::from(row.request)).map(|r| &r.name);
        metric.request.is_none() || name == metric.request.as_ref()
    };
    let mut rows: Vec<&Observation> = record
        .rows
        .iter()
        .filter(|r| r.phase != crate::units::Phase::Measure)
        .filter(|r| waited(r) && named(r) && !over(r) && r.outcome == Outcome::Expected)
        .collect();
    by_latency(&mut rows);
    rows
}

/// The limit on time of an objective over the client's rows.
fn limit(objective: &Objective) -> Option<(&ClientMetric, Limit)> {
    let (Metric::Client(metric), value) = (match &objective.indicator {
        Indicator::Ratio { part, part_is, .. } if *part_is == Side::Good => (part, None),
        Indicator::Ratio { .. } => return None,
        Indicator::Threshold { metric, value, .. } => (metric, Some(*value)),
    }) else {
        return None;
    };
    match (&metric.figure, value) {
        (ClientFigure::Count { limit, .. }, None) => limit.map(|limit| (metric, limit)),
        (ClientFigure::Quantile { time, .. }, Some(value)) => {
            let at_most = std::time::Duration::try_from_secs_f64(value).ok()?;
            let limit = Limit {
                time: *time,
                at_most: crate::scenario::Dur(at_most),
                strictly: false,
            };
            Some((metric, limit))
        }
        _ => None,
    }
}

/// At most [`SAMPLE`] rows that asked to be traced, evenly over their latencies, the ends included.
fn sample<'a>(sorted: &[&'a Observation]) -> Vec<&'a Observation> {
    let traced: Vec<&Observation> = sorted.iter().copied().filter(|r| r.sampled).collect();
    if traced.len() <= SAMPLE {
        return traced;
    }
    (0..SAMPLE)
        .map(|i| traced[i * (traced.len() - 1) / (SAMPLE - 1)])
        .collect()
}

/// The attribution, from whatever traces are recorded.
pub(super) fn attribute(record: &RunRecord, groups: &Groups) -> Tail {
    let timeout = Nanos(record.scenario.spec.target.timeout.nanos());
    let (slow, slow_parts) = group(record, &groups.slow, &groups.slow_what, timeout);
    let (typical, typical_parts) = group(record, &groups.typical, &groups.typical_what, timeout);
    let missing = missing(record, &slow, &typical);
    let excess = slow
        .traced_latency
        .zip(typical.traced_latency)
        .map(|(slow, typical)| slow - typical)
        .filter(|_| missing.is_none());
    let stages = match excess {
        Some(excess) => table(&slow_parts, &typical_parts, excess),
        None => Vec::new(),
    };
    Tail {
        slow,
        typical,
        excess,
        stages,
        missing,
    }
}

/// What is told of one group, and the stages of each of its requests that has a whole trace.
fn group(
    record: &RunRecord,
    rows: &[&Observation],
    what: &str,
    timeout: Nanos,
) -> (Group, Vec<Vec<Part>>) {
    let sample = sample(rows);
    let whole: Vec<(&Observation, Vec<Part>)> = sample
        .iter()
        .filter_map(|row| Some((*row, stages(record, row).ok()?)))
        .collect();
    let mean = |rows: &mut dyn Iterator<Item = f64>| {
        let (sum, n) = rows.fold((0.0, 0_u64), |(sum, n), v| (sum + v, n + 1));
        (n > 0).then(|| sum / n as f64)
    };
    let all = &mut rows.iter().map(|r| shown_latency(r, timeout).as_secs_f64());
    let traced = &mut whole.iter().map(|(r, _)| r.latency().as_secs_f64());
    let group = Group {
        what: what.to_owned(),
        requests: rows.len() as u64,
        latency: mean(all),
        looked_up: sample.len() as u64,
        traced: whole.len() as u64,
        traced_latency: mean(traced),
    };
    (group, whole.into_iter().map(|(_, parts)| parts).collect())
}

fn missing(record: &RunRecord, slow: &Group, typical: &Group) -> Option<String> {
    if !super::coverage::backends(record).contains(&Backend::Tempo) {
        return Some("no traces were read in this run".into());
    }
    for group in [slow, typical] {
        if group.traced < FEWEST as u64 {
            let asked = if group.looked_up < group.requests {
                format!("{} looked up", group.looked_up)
            } else {
                "all looked up".into()
            };
            return Some(format!(
                "{} of {} requests ({}; {asked}) have a whole trace, and {FEWEST} are needed of each group",
                group.traced, group.requests, group.what
            ));
        }
    }
    None
}

/// Means by stage, the greatest excess first.
fn table(slow: &[Vec<Part>], typical: &[Vec<Part>], whole: f64) -> Vec<Stage> {
    let mut sums: Vec<(StageKind, &str, [f64; 2])> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for (side, requests) in [slow, typical].into_iter().enumerate() {
        for (kind, name, nanos) in requests.iter().flatten() {
            let place = *places.entry(name.as_str()).or_insert_with(|| {
                sums.push((*kind, name, [0.0; 2]));
                sums.len() - 1
            });
            sums[place].2[side] += nanos / requests.len() as f64;
        }
    }
    let mut stages: Vec<Stage> = sums
        .into_iter()
        .map(|(kind, name, [slow, typical])| {
            stage(
                kind,
                name.to_owned(),
                seconds(slow),
                seconds(typical),
                whole,
            )
        })
        .collect();
    stages.sort_by(|a, b| {
        let key = |s: &Stage| Reverse((s.excess * 1e9) as i64);
        (key(a), &a.name).cmp(&(key(b), &b.name))
    });
    if stages.len() > MOST_STAGES {
        // What helped least either way is summed.
        stages.sort_by(|a, b| b.excess.abs().total_cmp(&a.excess.abs()));
        let rest = stages.split_off(MOST_STAGES - 1);
        stages.sort_by(|a, b| b.excess.total_cmp(&a.excess));
        let sum = |of: fn(&Stage) -> f64| rest.iter().map(of).sum();
        let name = format!("{} other stages", rest.len());
        stages.push(stage(
            StageKind::Span,
            name,
            sum(|s| s.slow),
            sum(|s| s.typical),
            whole,
        ));
    }
    stages
}

fn stage(kind: StageKind, name: String, slow: f64, typical: f64, whole: f64) -> Stage {
    let excess = slow - typical;
    Stage {
        name,
        kind,
        slow,
        typical,
        excess,
        share: (whole > 0.0).then(|| excess / whole),
    }
}

#[cfg(test)]
mod tests;
