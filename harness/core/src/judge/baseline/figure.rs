//! What one run's evidence says of one objective, with the noise within the run.

use super::super::RunRecord;
use super::super::client;
use super::super::coverage::Survey;
use super::super::evaluate::{self, Said};
use super::super::stat::correlation;
use super::super::tally;
use crate::noise::bootstrap::{self, Replicates};
use crate::objective::{ClientFigure, ClientMetric, Indicator, Metric, Objective, Time, Wanted};
use crate::observation::Outcome;
use crate::record::baseline::Figure;

const SECOND: u64 = 1_000_000_000;

/// Tells the draws for one run from those for another, so that the two are independent.
#[derive(Debug, Clone, Copy)]
pub(in crate::judge) struct Salt(pub(in crate::judge) u64);

impl Salt {
    /// Draws differ by what is drawn for and by run, and by nothing else (FNV-1a).
    pub(in crate::judge) fn seed(self, name: &str) -> u64 {
        let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        name.bytes()
            .chain(self.0.to_le_bytes())
            .fold(0xcbf2_9ce4_8422_2325, fnv)
    }
}

/// The figure of an objective in this run.
pub(in crate::judge) fn figure(
    record: &RunRecord,
    survey: &Survey,
    objective: &Objective,
    salt: Salt,
) -> Figure {
    let missing = |why: String| Figure::Missing { why };
    if let Some(backend) = evaluate::backend(objective.source())
        && let Some(source) = survey.source(backend).filter(|s| !s.complete)
    {
        return missing(format!(
            "the evidence in {backend} is incomplete: {}",
            source.reason
        ));
    }
    match evaluate::said(record, survey, objective) {
        Err(why) => missing(format!("not known: {why}")),
        Ok(Said::Share {
            good,
            total,
            unseen,
            ..
        }) if total > 0 => Figure::Share {
            bad: total - good,
            total,
            unseen,
            effective: effective(record, request(objective)),
        },
        Ok(Said::Share { .. }) => missing("no event was counted".into()),
        Ok(Said::Quantile { value, .. }) => match own(objective) {
            Some(metric) => sampled_quantile(record, metric, value, salt.seed(&objective.name)),
            None => missing("the evidence does not fit the objective".into()),
        },
        Ok(Said::Value { value, .. }) => match own(objective) {
            Some(metric) => sampled_rate(record, metric, value, salt.seed(&objective.name)),
            None => Figure::Value {
                value,
                why: "a backend's one value shows no noise within the run".into(),
            },
        },
    }
}

/// The client's own metric of a threshold.
fn own(objective: &Objective) -> Option<&ClientMetric> {
    match &objective.indicator {
        Indicator::Threshold {
            metric: Metric::Client(metric),
            ..
        } => Some(metric),
        _ => None,
    }
}

/// The request that an objective of the client's is about.
fn request(objective: &Objective) -> Option<&str> {
    objective.metrics().find_map(|metric| match metric {
        Metric::Client(client) => client.request.as_deref(),
        _ => None,
    })
}

/// As how large a share of their number requests count: by their latencies, and by how failures come
/// in bunches. Where rows are a sample, all requests are worth no more than these.
pub(in crate::judge) fn effective(record: &RunRecord, request: Option<&str>) -> f64 {
    let mut rows: Vec<_> = client::rows(record, request).collect();
    rows.sort_by_key(|row| (row.due, row.id));
    let latency: Vec<f64> = rows
        .iter()
        .map(|row| client::seconds_of(row, Time::Latency))
        .collect();
    let failed = rows.iter().map(|row| row.outcome != Outcome::Expected);
    let kept = tally::of(record).map_or(1.0, |sampled| 1.0 / sampled.one_in as f64);
    kept / correlation::of_latencies(&latency).max(correlation::of_events(failed))
}

/// A quantile with its replicates.
pub(in crate::judge) fn sampled_quantile(
    record: &RunRecord,
    metric: &ClientMetric,
    value: Option<f64>,
    seed: u64,
) -> Figure {
    let ClientFigure::Quantile { time, q } = metric.figure else {
        return Figure::Missing {
            why: "the evidence does not fit the objective".into(),
        };
    };
    let times = client::times_in_order(record, metric, time);
    let value = value.unwrap_or(f64::INFINITY);
    sampled(value, bootstrap::quantile(&times, q, seed))
}

/// Answers a second: counted second by second of the measured window.
pub(in crate::judge) fn sampled_rate(
    record: &RunRecord,
    metric: &ClientMetric,
    value: f64,
    seed: u64,
) -> Figure {
    let ClientFigure::Rate { outcome } = metric.figure else {
        return Figure::Missing {
            why: "the evidence does not fit the objective".into(),
        };
    };
    if let Some(sampled) = tally::of(record) {
        return Figure::Missing {
            why: format!(
                "the noise of a rate needs every row, and one in {} is kept: raise spec.record.rows",
                sampled.one_in
            ),
        };
    }
    let Some((start, end)) = record.facts.window() else {
        return Figure::Missing {
            why: "the scenario has no measured phase".into(),
        };
    };
    let seconds = (end.since(start).0 / SECOND) as usize;
    let mut counts = vec![0.0; seconds];
    for row in client::rows(record, metric.request.as_deref()) {
        let second = (row.done.since(start).0 / SECOND) as usize;
        let counted = client::counts(row, &metric.figure)
            && (outcome != Wanted::Any || row.outcome.answered());
        if row.done >= start && row.done <= end && counted && second < seconds {
            counts[second] += 1.0;
        }
    }
    sampled(value, bootstrap::mean(&counts, seed))
}

fn sampled(value: f64, replicates: Result<Replicates, String>) -> Figure {
    match replicates {
        Ok(Replicates { values, block }) => Figure::Sampled {
            value,
            replicates: values,
            block,
        },
        Err(why) if value.is_finite() => Figure::Value { value, why },
        Err(why) => Figure::Missing { why },
    }
}
