//! Vector aggregations.

use super::super::ast::{Grouping, VectorAgg, VectorOp};
use super::super::error::QueryError;
use super::super::query::Sample;
use super::Prepared;
use super::over_time::{mean, sum, variance};
use crate::store::logs::Labels;
use std::cmp::Ordering;
use std::collections::HashMap;

/// A vector aggregation with its input.
pub(in super::super) struct Aggregation {
    op: VectorOp,
    k: usize,
    grouping: Option<Grouping>,
    inner: Prepared,
}

/// The labels that a grouping leaves.
pub(super) fn project(labels: &Labels, grouping: &Grouping) -> Labels {
    let named = |name: &str| grouping.labels.iter().any(|wanted| wanted == name);
    Labels::from_pairs(
        labels
            .pairs()
            .iter()
            .filter(|(name, _)| named(name) != grouping.without)
            .cloned()
            .collect(),
    )
}

impl Aggregation {
    pub(super) fn new(agg: &VectorAgg, inner: Prepared) -> Self {
        Self {
            op: agg.op,
            k: agg.param.unwrap_or(0),
            grouping: agg.grouping.clone(),
            inner,
        }
    }

    pub(super) fn at(&self, at: i64) -> Result<Vec<Sample>, QueryError> {
        let mut samples = self.inner.at(at)?;
        if matches!(self.op, VectorOp::Sort | VectorOp::SortDesc) {
            samples.sort_by(|a, b| {
                let rising = self.op == VectorOp::Sort;
                by_value(a.value, b.value, rising)
            });
            return Ok(samples);
        }
        let mut groups: Vec<(Labels, Vec<Sample>)> = Vec::new();
        let mut index: HashMap<Labels, usize> = HashMap::new();
        for sample in samples {
            let labels = match &self.grouping {
                Some(grouping) => project(&sample.labels, grouping),
                None => Labels::default(),
            };
            let slot = *index.entry(labels.clone()).or_insert_with(|| {
                groups.push((labels, Vec::new()));
                groups.len() - 1
            });
            groups[slot].1.push(sample);
        }
        groups.sort_by(|a, b| a.0.cmp(&b.0));
        let mut out = Vec::new();
        for (labels, members) in groups {
            if matches!(self.op, VectorOp::Topk | VectorOp::Bottomk) {
                out.extend(self.extremes(members));
            } else {
                let value = self.reduce(&members);
                out.push(Sample { labels, value });
            }
        }
        Ok(out)
    }

    fn extremes(&self, mut members: Vec<Sample>) -> Vec<Sample> {
        // Stable, so that of equal values those with the lesser labels stay.
        members.sort_by(|a, b| by_value(a.value, b.value, self.op == VectorOp::Bottomk));
        members.truncate(self.k);
        members
    }

    fn reduce(&self, members: &[Sample]) -> f64 {
        let values = members.iter().map(|sample| sample.value);
        match self.op {
            VectorOp::Sum => sum(values),
            VectorOp::Avg => mean(values),
            VectorOp::Count => members.len() as f64,
            VectorOp::Stdvar => variance(values),
            VectorOp::Stddev => variance(values).sqrt(),
            VectorOp::Min => values
                .reduce(|a, b| if b < a || a.is_nan() { b } else { a })
                .unwrap_or(f64::NAN),
            _ => values
                .reduce(|a, b| if b > a || a.is_nan() { b } else { a })
                .unwrap_or(f64::NAN),
        }
    }
}

/// NaN comes last whichever way.
fn by_value(a: f64, b: f64, rising: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) if rising => a.total_cmp(&b),
        (false, false) => b.total_cmp(&a),
    }
}
