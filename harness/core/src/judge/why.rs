//! Why objectives were missed: how the requests that count against them ended, which to look at, and
//! where the time of the slow ones went.

use std::collections::BTreeMap;

use super::RunRecord;
use super::client;
use super::tail::{self, Groups};
use crate::objective::{ClientFigure, ClientMetric, Indicator, Metric, Objective, Part};
use crate::observation::Observation;
use crate::query::Query;
use crate::report::model::{Explanation, Miss, ObjectiveResult, Verdict};

/// Ways to end that are named; further ones are summed.
const MOST_WAYS: usize = 8;

/// A missed objective with the requests that stand for it.
pub(super) struct Missed<'a> {
    name: String,
    objective: &'a Objective,
    groups: Option<Groups<'a>>,
    /// The worst that count against it.
    pub(super) worst: Vec<&'a Observation>,
    /// A typical one to hold them against.
    pub(super) typical: Option<&'a Observation>,
}

/// All missed objectives, in their order. `whole` are the groups of the run.
pub(super) fn missed<'a>(
    record: &RunRecord<'a>,
    results: &[ObjectiveResult],
    whole: Option<&Groups<'a>>,
) -> Vec<Missed<'a>> {
    let mut with_tail = 0;
    let failed = record
        .objectives
        .iter()
        .zip(results)
        .filter(|(_, result)| result.verdict == Verdict::Fail);
    failed
        .map(|(objective, result)| {
            let groups = (with_tail < tail::MOST_OBJECTIVES)
                .then(|| Groups::of_objective(record, objective))
                .flatten();
            with_tail += usize::from(groups.is_some());
            Missed {
                name: result.name.clone(),
                objective,
                worst: super::details::behind(record, objective),
                typical: groups.as_ref().or(whole).and_then(Groups::example),
                groups,
            }
        })
        .collect()
}

impl Missed<'_> {
    /// Trace questions for the attribution.
    pub(super) fn queries(&self) -> impl Iterator<Item = Query> + '_ {
        self.groups.iter().flat_map(Groups::queries)
    }

    /// Everything that is told of it.
    pub(super) fn explanation(&self, record: &RunRecord) -> Explanation {
        Explanation {
            objective: self.name.clone(),
            misses: misses(record, self.objective),
            worst: self.worst.iter().map(|row| row.id).collect(),
            typical: self.typical.iter().map(|row| row.id).collect(),
            tail: self
                .groups
                .as_ref()
                .map(|groups| tail::attribute(record, groups)),
        }
    }
}

/// How the requests that count against an objective over the client's rows ended.
fn misses(record: &RunRecord, objective: &Objective) -> Vec<Miss> {
    let Indicator::Ratio {
        part: Metric::Client(metric),
        part_is,
        ..
    } = &objective.indicator
    else {
        return Vec::new();
    };
    let good = *part_is == Part::Good;
    let mut ways: BTreeMap<String, u64> = BTreeMap::new();
    for row in client::rows(record, metric.request.as_deref()) {
        let compared = metric.figure != ClientFigure::Accuracy || row.correct.is_some();
        if compared && client::counts(row, &metric.figure) != good {
            *ways.entry(way(row, metric)).or_default() += 1;
        }
    }
    let mut misses: Vec<Miss> = ways
        .into_iter()
        .map(|(how, count)| Miss { how, count })
        .collect();
    misses.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.how.cmp(&b.how)));
    if misses.len() > MOST_WAYS {
        let rest = misses.split_off(MOST_WAYS - 1);
        misses.push(Miss {
            how: "in other ways".into(),
            count: rest.iter().map(|miss| miss.count).sum(),
        });
    }
    misses
}

/// In which way one row counts against its objective.
fn way(row: &Observation, metric: &ClientMetric) -> String {
    match &metric.figure {
        ClientFigure::Accuracy => "answered with another label than the true one".into(),
        ClientFigure::Count {
            outcome,
            limit: Some(limit),
        } if client::wants(*outcome, row.outcome) && row.outcome.answered() => format!(
            "answered, but not within {}",
            crate::report::seconds(limit.at_most.0.as_secs_f64())
        ),
        _ => crate::report::ending(row.outcome, row.status),
    }
}
