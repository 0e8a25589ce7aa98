//! Operators between scalars and vectors, with label matching.

use super::error::QueryError;
use super::eval::{Eval, Evaluated, Frame, Sample};
use super::memo::{AddressMap, Numbered, Projected};
use super::plan::{BinOp, Binary, Grouping, Node, Side, Type};
use crate::store::metrics::{Labels, METRIC_NAME};
use std::collections::{HashMap, HashSet};

/// An arithmetic operator's value, or 1 and 0 for a comparison.
pub(super) fn scalars(op: BinOp, l: f64, r: f64) -> f64 {
    match op {
        BinOp::Add => l + r,
        BinOp::Sub => l - r,
        BinOp::Mul => l * r,
        BinOp::Div => l / r,
        BinOp::Mod => l % r,
        BinOp::Pow => l.powf(r),
        BinOp::Atan2 => l.atan2(r),
        BinOp::And | BinOp::Or | BinOp::Unless => f64::NAN,
        comparison => f64::from(u8::from(compare(comparison, l, r))),
    }
}

fn compare(op: BinOp, l: f64, r: f64) -> bool {
    match op {
        BinOp::Eq => l == r,
        BinOp::Ne => l != r,
        BinOp::Gt => l > r,
        BinOp::Lt => l < r,
        BinOp::Ge => l >= r,
        BinOp::Le => l <= r,
        _ => false,
    }
}

/// The value of one pair; `None` when a comparison filters it out.
fn element(b: &Binary, l: f64, r: f64) -> Option<f64> {
    if !b.op.is_comparison() {
        return Some(scalars(b.op, l, r));
    }
    let holds = compare(b.op, l, r);
    if b.returns_bool {
        return Some(f64::from(u8::from(holds)));
    }
    holds.then_some(l)
}

/// Labels of matches and of their results, worked out once.
#[derive(Default)]
pub(super) struct Matches {
    keys: Projected,
    /// By the addresses of both sides' labels, which are kept: the result's labels and their number.
    results: AddressMap<(usize, usize), ([Labels; 3], u32)>,
    made: Numbered,
}

/// Pairs after which the results are worked out anew.
const MOST_RESULTS: usize = 1 << 18;

impl Matches {
    fn key(&mut self, b: &Binary, s: &Sample) -> u32 {
        self.keys.number(&s.labels, |labels| b.matching.key(labels))
    }

    fn keys(&mut self, b: &Binary, v: &[Sample]) -> HashSet<u32> {
        v.iter().map(|s| self.key(b, s)).collect()
    }

    /// The labels that two samples give together, and their number.
    fn result(
        &mut self,
        many: &Labels,
        one: &Labels,
        make: impl FnOnce() -> Labels,
    ) -> (Labels, u32) {
        if self.results.len() >= MOST_RESULTS {
            self.results.clear();
        }
        let made = &mut self.made;
        let (labels, number) = self
            .results
            .entry((many.address(), one.address()))
            .or_insert_with(|| {
                let labels = make();
                let number = made.number(labels.clone());
                ([many.clone(), one.clone(), labels], number)
            });
        (labels[2].clone(), *number)
    }
}

impl Eval<'_> {
    pub(super) fn binary(
        &self,
        node: &Node,
        b: &Binary,
        frame: &Frame,
        t: i64,
    ) -> Evaluated<Vec<Sample>> {
        match (b.lhs.ty, b.rhs.ty) {
            (Type::Scalar, Type::Vector) => {
                let l = self.scalar(&b.lhs, frame, t)?;
                let v = self.vector(&b.rhs, frame, t)?;
                self.with_scalar(b, v, |x| {
                    // A filter keeps the vector's value, whichever side it stands on.
                    let kept = element(b, l, x)?;
                    Some(if b.op.is_comparison() && !b.returns_bool {
                        x
                    } else {
                        kept
                    })
                })
            }
            (Type::Vector, Type::Scalar) => {
                let v = self.vector(&b.lhs, frame, t)?;
                let r = self.scalar(&b.rhs, frame, t)?;
                self.with_scalar(b, v, |x| element(b, x, r))
            }
            (Type::Scalar, Type::Scalar) => {
                let l = self.scalar(&b.lhs, frame, t)?;
                let r = self.scalar(&b.rhs, frame, t)?;
                Ok(vec![Sample::new(Labels::default(), scalars(b.op, l, r))])
            }
            _ => {
                let l = self.vector(&b.lhs, frame, t)?;
                let r = self.vector(&b.rhs, frame, t)?;
                let mut caches = frame.caches.borrow_mut();
                let known = caches.matches.entry(node.id).or_default();
                if b.op.is_set() {
                    return Ok(set(known, b, l, r));
                }
                self.matched(known, b, l, r)
            }
        }
    }

    fn with_scalar(
        &self,
        b: &Binary,
        v: Vec<Sample>,
        f: impl Fn(f64) -> Option<f64>,
    ) -> Evaluated<Vec<Sample>> {
        let kept = v
            .into_iter()
            .filter_map(|s| f(s.v).map(|v| Sample { v, ..s }))
            .collect();
        if b.op.is_comparison() && !b.returns_bool {
            Ok(kept)
        } else {
            self.without_names(kept)
        }
    }

    fn matched(
        &self,
        known: &mut Matches,
        b: &Binary,
        l: Vec<Sample>,
        r: Vec<Sample>,
    ) -> Evaluated<Vec<Sample>> {
        if l.is_empty() || r.is_empty() {
            return Ok(Vec::new());
        }
        // "one" is the side on which a match must be unique.
        let swapped = matches!(b.side, Side::OneToMany(_));
        let (many, ones) = if swapped { (r, l) } else { (l, r) };
        let one = unique_matches(known, b, ones, if swapped { "left" } else { "right" })?;
        let mut used: HashSet<u32> = HashSet::new();
        let mut out = Vec::new();
        for m in many {
            let key = known.key(b, &m);
            let Some(o) = one.get(&key) else { continue };
            let (lv, rv) = if swapped { (o.v, m.v) } else { (m.v, o.v) };
            let Some(v) = element(b, lv, rv) else {
                continue;
            };
            let (labels, number) = known.result(&m.labels, &o.labels, || {
                self.result_labels(b, &m.labels, &o.labels)
            });
            let (fresh, clash) = match b.side {
                Side::OneToOne => (
                    used.insert(key),
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)",
                ),
                _ => (
                    used.insert(number),
                    "multiple matches for labels: grouping labels must ensure unique matches",
                ),
            };
            if !fresh {
                return Err(QueryError::Execution(clash.into()));
            }
            out.push(Sample {
                labels,
                drop_name: b.returns_bool && self.options.delayed_name_removal,
                v,
            });
        }
        Ok(out)
    }

    fn result_labels(&self, b: &Binary, many: &Labels, one: &Labels) -> Labels {
        let drops_name =
            !b.op.is_comparison() || b.returns_bool && !self.options.delayed_name_removal;
        let mut labels = if drops_name {
            many.without_name()
        } else {
            many.clone()
        };
        match &b.side {
            Side::OneToOne => match &b.matching {
                Grouping::By(names) => labels = labels.filtered(|n| names.iter().any(|x| x == n)),
                Grouping::Without(names) => {
                    labels = labels.filtered(|n| !names.iter().any(|x| x == n));
                }
            },
            Side::ManyToOne(include) | Side::OneToMany(include) => {
                for name in include {
                    labels = labels.with(name, one.get(name).unwrap_or(""));
                }
            }
        }
        labels
    }
}

fn unique_matches(
    known: &mut Matches,
    b: &Binary,
    v: Vec<Sample>,
    side: &str,
) -> Evaluated<HashMap<u32, Sample>> {
    let mut out: HashMap<u32, Sample> = HashMap::with_capacity(v.len());
    for s in v {
        let key = known.key(b, &s);
        if let Some(first) = out.get(&key) {
            let group = match &b.matching {
                Grouping::By(_) => known.keys.made.all[key as usize].clone(),
                Grouping::Without(names) => s
                    .labels
                    .filtered(|n| n != METRIC_NAME && !names.iter().any(|x| x == n)),
            };
            return Err(QueryError::Execution(format!(
                "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                first.labels, s.labels
            )));
        }
        out.insert(key, s);
    }
    Ok(out)
}

fn set(known: &mut Matches, b: &Binary, l: Vec<Sample>, r: Vec<Sample>) -> Vec<Sample> {
    match b.op {
        BinOp::Or => {
            let left = known.keys(b, &l);
            let mut out = l;
            out.extend(r.into_iter().filter(|s| !left.contains(&known.key(b, s))));
            out
        }
        op => {
            let right = known.keys(b, &r);
            let wanted = op == BinOp::And;
            l.into_iter()
                .filter(|s| right.contains(&known.key(b, s)) == wanted)
                .collect()
        }
    }
}
