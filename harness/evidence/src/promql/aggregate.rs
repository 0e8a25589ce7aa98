//! Aggregations over the elements of a vector.

use super::error::QueryError;
use super::eval::{Eval, Evaluated, Frame, Sample, text};
use super::instant_fn::by_value;
use super::memo::Projected;
use super::num::{self, Kahan, Mean};
use super::plan::{AggOp, Aggregate, Grouping, Node};
use crate::store::metrics::{Labels, METRIC_NAME};
use std::collections::HashMap;

struct Group {
    labels: Labels,
    drop_name: bool,
    members: Vec<Sample>,
}

impl Grouping {
    /// The labels of the group or match that a label set falls into.
    pub(super) fn key(&self, labels: &Labels) -> Labels {
        match self {
            Grouping::By(names) if names.is_empty() => Labels::default(),
            Grouping::By(names) => labels.filtered(|n| names.iter().any(|x| x == n)),
            Grouping::Without(names) => {
                labels.filtered(|n| n != METRIC_NAME && !names.iter().any(|x| x == n))
            }
        }
    }
}

impl Eval<'_> {
    pub(super) fn aggregate(
        &self,
        node: &Node,
        a: &Aggregate,
        frame: &Frame,
        t: i64,
    ) -> Evaluated<Vec<Sample>> {
        let number = match &a.param {
            Some(p) if a.op != AggOp::CountValues => self.scalar(p, frame, t)?,
            _ => 0.0,
        };
        let input = self.vector(&a.inner, frame, t)?;
        let mut caches = frame.caches.borrow_mut();
        let known = caches.groups.entry(node.id).or_default();
        match a.op {
            AggOp::Topk | AggOp::Bottomk => {
                let k = whole(number)?;
                if k < 1 || input.is_empty() {
                    return Ok(Vec::new());
                }
                Ok(ranked(
                    groups(known, &a.grouping, input),
                    k,
                    a.op == AggOp::Topk,
                ))
            }
            AggOp::CountValues => {
                let label = a.param.as_ref().map_or("", text);
                if label.is_empty() {
                    return Err(QueryError::Execution(format!(
                        "invalid label name {label:?}"
                    )));
                }
                self.unique(count_values(groups(known, &a.grouping, input), label))
            }
            op => {
                if op == AggOp::Quantile {
                    self.check_quantile(a.param.as_ref().unwrap_or(node), number);
                }
                let reduced = groups(known, &a.grouping, input)
                    .into_iter()
                    .map(|g| Sample {
                        v: reduce(op, number, &g.members),
                        labels: g.labels,
                        drop_name: g.drop_name,
                    });
                Ok(reduced.collect())
            }
        }
    }
}

/// The number of elements `topk` and `bottomk` ask for.
fn whole(k: f64) -> Evaluated<i64> {
    if k.is_nan() {
        return Err(QueryError::Execution("Parameter value is NaN".into()));
    }
    // -2^63 is a float, 2^63 - 1 is not: the upper bound is therefore open.
    let limit = 9_223_372_036_854_775_808.0;
    if k >= limit {
        return Err(QueryError::Execution(format!(
            "Scalar value {k} overflows int64"
        )));
    }
    if k < -limit {
        return Err(QueryError::Execution(format!(
            "Scalar value {k} underflows int64"
        )));
    }
    Ok(k as i64)
}

fn groups(known: &mut Projected, grouping: &Grouping, input: Vec<Sample>) -> Vec<Group> {
    let mut out: Vec<Group> = Vec::new();
    // By the number of the group's labels, its place in `out`.
    let mut places: Vec<Option<usize>> = vec![None; known.made.all.len()];
    for s in input {
        let number = known.number(&s.labels, |labels| grouping.key(labels)) as usize;
        if places.len() <= number {
            places.resize(number + 1, None);
        }
        let place = *places[number].get_or_insert_with(|| {
            out.push(Group {
                labels: known.made.all[number].clone(),
                drop_name: s.drop_name,
                members: Vec::new(),
            });
            out.len() - 1
        });
        out[place].members.push(s);
    }
    out
}

fn reduce(op: AggOp, param: f64, members: &[Sample]) -> f64 {
    let values = || members.iter().map(|s| s.v);
    let first = members.first().map_or(f64::NAN, |s| s.v);
    match op {
        AggOp::Sum => {
            let mut k = Kahan::default();
            values().for_each(|v| k.add(v));
            k.value()
        }
        AggOp::Avg => {
            let mut m = Mean::new(first);
            values().skip(1).for_each(|v| m.add(v));
            m.value()
        }
        AggOp::Min => values().fold(first, |a, b| if b < a || a.is_nan() { b } else { a }),
        AggOp::Max => values().fold(first, |a, b| if b > a || a.is_nan() { b } else { a }),
        AggOp::Count => members.len() as f64,
        AggOp::Stddev => num::variance(values()).sqrt(),
        AggOp::Stdvar => num::variance(values()),
        AggOp::Quantile => num::quantile(param, &mut values().collect::<Vec<_>>()),
        // The others are handled before this; `group` is 1 by definition.
        AggOp::Group | AggOp::Topk | AggOp::Bottomk | AggOp::CountValues => 1.0,
    }
}

fn ranked(groups: Vec<Group>, k: i64, largest: bool) -> Vec<Sample> {
    let mut out = Vec::new();
    for mut g in groups {
        // Stable, and NaN last: it is neither among the largest nor the smallest.
        g.members.sort_by(|a, b| by_value(a.v, b.v, largest));
        g.members.truncate(usize::try_from(k).unwrap_or(usize::MAX));
        out.append(&mut g.members);
    }
    out
}

fn count_values(groups: Vec<Group>, label: &str) -> Vec<Sample> {
    let mut out: Vec<Sample> = Vec::new();
    for g in groups {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for s in &g.members {
            let shown = num::format_plain(s.v);
            let i = *seen.entry(shown).or_insert_with_key(|shown| {
                out.push(Sample {
                    labels: g.labels.with(label, shown),
                    drop_name: g.drop_name && label != METRIC_NAME,
                    v: 0.0,
                });
                out.len() - 1
            });
            out[i].v += 1.0;
        }
    }
    out
}
