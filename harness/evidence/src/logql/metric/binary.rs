//! Operators between numbers and vectors.

use super::super::ast::{Binary, BinaryOp, Card, Grouping};
use super::super::error::QueryError;
use super::super::pipeline::holds;
use super::super::query::Sample;
use super::Prepared;
use super::vector::project;
use crate::store::logs::Labels;
use std::collections::{HashMap, HashSet};

/// An operation with both sides prepared.
pub(in super::super) struct Operation {
    op: BinaryOp,
    bool_result: bool,
    matching: Option<Grouping>,
    card: Card,
    include: Vec<String>,
    left: Prepared,
    right: Prepared,
}

/// The operation; at once computed when both sides are numbers.
pub(super) fn prepare(operation: &Binary, left: Prepared, right: Prepared) -> Prepared {
    if let (Some(a), Some(b)) = (left.scalar(), right.scalar()) {
        return Prepared::Scalar(match operation.op {
            BinaryOp::Compare(op) => f64::from(holds(op, a.partial_cmp(&b))),
            op => arithmetic(op, a, b),
        });
    }
    Prepared::Binary(Box::new(Operation {
        op: operation.op,
        bool_result: operation.bool_result,
        matching: operation.matching.clone(),
        card: operation.card,
        include: operation.include.clone(),
        left,
        right,
    }))
}

impl Operation {
    pub(super) fn at(&self, at: i64) -> Result<Vec<Sample>, QueryError> {
        if let Some(number) = self.left.scalar() {
            let right = self.right.at(at)?;
            return Ok(self.with_number(right, |value| (number, value)));
        }
        if let Some(number) = self.right.scalar() {
            let left = self.left.at(at)?;
            return Ok(self.with_number(left, |value| (value, number)));
        }
        let (left, right) = (self.left.at(at)?, self.right.at(at)?);
        match self.op {
            BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => Ok(self.set(left, right)),
            _ => self.matched(left, right),
        }
    }

    /// A comparison with a number keeps the vector's own value, whichever side the number is on.
    fn with_number(&self, vector: Vec<Sample>, sides: impl Fn(f64) -> (f64, f64)) -> Vec<Sample> {
        vector
            .into_iter()
            .filter_map(|sample| {
                let (a, b) = sides(sample.value);
                let value = self.compute(a, b, sample.value)?;
                Some(Sample { value, ..sample })
            })
            .collect()
    }

    /// The result of one pair; `None` when a comparison filters it out.
    fn compute(&self, a: f64, b: f64, kept: f64) -> Option<f64> {
        match self.op {
            BinaryOp::Compare(op) => {
                let holds = holds(op, a.partial_cmp(&b));
                if self.bool_result {
                    Some(f64::from(holds))
                } else {
                    holds.then_some(kept)
                }
            }
            op => Some(arithmetic(op, a, b)),
        }
    }

    fn signature(&self, labels: &Labels) -> Labels {
        match &self.matching {
            Some(grouping) => project(labels, grouping),
            None => labels.clone(),
        }
    }

    fn set(&self, left: Vec<Sample>, right: Vec<Sample>) -> Vec<Sample> {
        let signatures = |samples: &[Sample]| -> HashSet<Labels> {
            samples.iter().map(|s| self.signature(&s.labels)).collect()
        };
        match self.op {
            BinaryOp::Or => {
                let known = signatures(&left);
                let more = right
                    .into_iter()
                    .filter(|s| !known.contains(&self.signature(&s.labels)));
                left.into_iter().chain(more).collect()
            }
            op => {
                let known = signatures(&right);
                left.into_iter()
                    .filter(|s| known.contains(&self.signature(&s.labels)) == (op == BinaryOp::And))
                    .collect()
            }
        }
    }

    fn matched(&self, left: Vec<Sample>, right: Vec<Sample>) -> Result<Vec<Sample>, QueryError> {
        let swapped = self.card == Card::Right;
        let (many, one) = if swapped {
            (right, left)
        } else {
            (left, right)
        };
        let side = if swapped { "left" } else { "right" };
        let mut by_signature: HashMap<Labels, Sample> = HashMap::new();
        for sample in one {
            let signature = self.signature(&sample.labels);
            if by_signature.insert(signature, sample).is_some() {
                return Err(QueryError::Execution(format!(
                    "found duplicate series on the {side} hand-side;many-to-many matching not \
                     allowed: matching labels must be unique on one side"
                )));
            }
        }
        let mut seen: HashSet<Labels> = HashSet::new();
        let mut out = Vec::new();
        for sample in many {
            let signature = self.signature(&sample.labels);
            let Some(other) = by_signature.get(&signature) else {
                continue;
            };
            let (a, b) = if swapped {
                (other.value, sample.value)
            } else {
                (sample.value, other.value)
            };
            let labels = self.result_labels(&sample.labels, &other.labels, &signature);
            let new = match self.card {
                Card::One => seen.insert(signature),
                Card::Left | Card::Right => seen.insert(labels.clone()),
            };
            if !new {
                return Err(QueryError::Execution(
                    "multiple matches for labels: many-to-one matching must be explicit \
                     (group_left/group_right)"
                        .to_owned(),
                ));
            }
            if let Some(value) = self.compute(a, b, a) {
                out.push(Sample { labels, value });
            }
        }
        Ok(out)
    }

    fn result_labels(&self, many: &Labels, one: &Labels, signature: &Labels) -> Labels {
        if self.card == Card::One {
            return match &self.matching {
                Some(_) => signature.clone(),
                None => many.clone(),
            };
        }
        let copied = |name: &str| self.include.iter().any(|wanted| wanted == name);
        many.iter()
            .filter(|(name, _)| !copied(name))
            .chain(one.iter().filter(|(name, _)| copied(name)))
            .collect()
    }
}

/// Division and remainder by 0 are NaN, as in Loki (in PromQL a division by 0 is infinite).
fn arithmetic(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div if b == 0.0 => f64::NAN,
        BinaryOp::Div => a / b,
        BinaryOp::Mod if b == 0.0 => f64::NAN,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Compare(_) | BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => f64::NAN,
    }
}
