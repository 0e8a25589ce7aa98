//! Stages over sets of spans of one trace.

use super::cond::{Cond, Test, compare, compile};
use super::field::{self, Val};
use super::kin::Kin;
use super::tree::Tree;
use crate::traceql::TraceQlError;
use crate::traceql::ast::{
    Aggregate, Attribute, Expr, Fold, Op, Spanset, SpansetOp, Stage, Static,
};

/// Spans of one trace (local numbers) and what was computed of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Set {
    pub(crate) spans: Vec<u32>,
    /// Results of `by` and of aggregates, by the text of their expression.
    pub(crate) attributes: Vec<(String, Static)>,
}

/// A pipeline made ready to run.
#[derive(Debug)]
pub(crate) struct Plan {
    stages: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Spans(Choice),
    Aggregate {
        label: String,
        fold: Option<(Fold, Cond)>,
        op: Op,
        value: Static,
    },
    By {
        label: String,
        key: Cond,
    },
    Select(Vec<Attribute>),
    Coalesce,
}

#[derive(Debug)]
enum Choice {
    All,
    If(Cond),
    Plan(Plan),
    Op(SpansetOp, Box<Choice>, Box<Choice>),
}

/// An attribute a query reads, and the test by which, if by one.
pub(crate) struct Read<'p> {
    pub(crate) attribute: &'p Attribute,
    pub(crate) test: Option<&'p Test>,
}

impl Plan {
    /// Makes a pipeline ready to run.
    ///
    /// # Errors
    /// When a pattern is not a regular expression.
    pub(crate) fn new(stages: &[Stage]) -> Result<Self, TraceQlError> {
        let stages = stages.iter().map(step).collect::<Result<_, _>>()?;
        Ok(Self { stages })
    }

    /// The sets that come out at the end; none is empty.
    pub(crate) fn run(&self, tree: &Tree<'_>) -> Vec<Set> {
        let all = (0..tree.len()).collect();
        self.run_on(
            tree,
            vec![Set {
                spans: all,
                attributes: Vec::new(),
            }],
        )
    }

    fn run_on(&self, tree: &Tree<'_>, mut sets: Vec<Set>) -> Vec<Set> {
        for stage in &self.stages {
            if sets.is_empty() {
                break;
            }
            sets = stage.run(tree, sets);
        }
        sets
    }

    /// Whether one span passes, for a plan that asks only that: a single condition.
    pub(crate) fn single(&self) -> Option<Option<&Cond>> {
        match self.stages.as_slice() {
            [Step::Spans(Choice::All)] => Some(None),
            [Step::Spans(Choice::If(cond))] => Some(Some(cond)),
            _ => None,
        }
    }

    /// Every attribute the query names, for showing with the spans found.
    pub(crate) fn reads(&self) -> Vec<Read<'_>> {
        let mut all = Vec::new();
        for stage in &self.stages {
            let mut see = |attribute, test| all.push(Read { attribute, test });
            match stage {
                Step::Spans(choice) => choice.reads(&mut see),
                Step::Aggregate {
                    fold: Some((_, cond)),
                    ..
                } => cond.reads(&mut see),
                Step::By { key, .. } => key.reads(&mut see),
                Step::Select(attributes) => attributes.iter().for_each(|a| see(a, None)),
                Step::Aggregate { .. } | Step::Coalesce => {}
            }
        }
        all
    }
}

fn step(stage: &Stage) -> Result<Step, TraceQlError> {
    Ok(match stage {
        Stage::Spans(set) => Step::Spans(choice(set)?),
        Stage::Aggregate {
            aggregate,
            op,
            value,
        } => Step::Aggregate {
            label: aggregate.to_string(),
            fold: match aggregate {
                Aggregate::Count => None,
                Aggregate::Over(fold, of) => Some((*fold, compile(of)?)),
            },
            op: *op,
            value: value.clone(),
        },
        Stage::By(key) => Step::By {
            label: by_label(key),
            key: compile(key)?,
        },
        Stage::Select(attributes) => Step::Select(attributes.clone()),
        Stage::Coalesce => Step::Coalesce,
    })
}

fn by_label(key: &Expr) -> String {
    format!("by({key})")
}

fn choice(set: &Spanset) -> Result<Choice, TraceQlError> {
    Ok(match set {
        Spanset::Filter(None) => Choice::All,
        Spanset::Filter(Some(condition)) => Choice::If(compile(condition)?),
        Spanset::Pipeline(stages) => Choice::Plan(Plan::new(stages)?),
        Spanset::Op(op, a, b) => Choice::Op(*op, Box::new(choice(a)?), Box::new(choice(b)?)),
    })
}

impl Step {
    fn run(&self, tree: &Tree<'_>, sets: Vec<Set>) -> Vec<Set> {
        match self {
            Self::Spans(choice) => sets
                .into_iter()
                .map(|set| Set {
                    spans: choice.of(tree, set.spans),
                    ..set
                })
                .filter(|set| !set.spans.is_empty())
                .collect(),
            Self::Aggregate {
                label,
                fold,
                op,
                value,
            } => sets
                .into_iter()
                .filter_map(|mut set| {
                    let result = aggregate(tree, &set.spans, fold.as_ref())?;
                    let limit = Cond::Static(value.clone()).value(tree, 0);
                    if !compare(*op, &result, &limit) {
                        return None;
                    }
                    set.attributes.retain(|(key, _)| key != label);
                    set.attributes.push((label.clone(), result.to_static()));
                    Some(set)
                })
                .collect(),
            Self::By { label, key } => sets
                .into_iter()
                .flat_map(|set| group(tree, set, label, key))
                .collect(),
            Self::Select(_) => sets,
            Self::Coalesce => {
                let spans = sorted(sets.into_iter().flat_map(|set| set.spans).collect());
                vec![Set {
                    spans,
                    attributes: Vec::new(),
                }]
            }
        }
    }
}

impl Choice {
    fn of(&self, tree: &Tree<'_>, mut spans: Vec<u32>) -> Vec<u32> {
        match self {
            Self::All => spans,
            Self::If(cond) => {
                spans.retain(|local| cond.holds(tree, *local));
                spans
            }
            Self::Plan(plan) => {
                let sets = plan.run_on(
                    tree,
                    vec![Set {
                        spans,
                        attributes: Vec::new(),
                    }],
                );
                sorted(sets.into_iter().flat_map(|set| set.spans).collect())
            }
            Self::Op(op, a, b) => {
                let left = a.of(tree, spans.clone());
                let right = b.of(tree, spans);
                combine(tree, *op, left, right)
            }
        }
    }

    fn reads<'c>(&'c self, see: &mut dyn FnMut(&'c Attribute, Option<&'c Test>)) {
        match self {
            Self::All => {}
            Self::If(cond) => cond.reads(see),
            Self::Plan(plan) => plan
                .reads()
                .into_iter()
                .for_each(|r| see(r.attribute, r.test)),
            Self::Op(_, a, b) => {
                a.reads(see);
                b.reads(see);
            }
        }
    }
}

fn sorted(mut spans: Vec<u32>) -> Vec<u32> {
    spans.sort_unstable();
    spans.dedup();
    spans
}

fn combine(tree: &Tree<'_>, op: SpansetOp, left: Vec<u32>, right: Vec<u32>) -> Vec<u32> {
    match op {
        SpansetOp::And if left.is_empty() || right.is_empty() => Vec::new(),
        SpansetOp::And | SpansetOp::Or => sorted([left, right].concat()),
        SpansetOp::Structural {
            relation,
            negated,
            union,
        } => {
            let kin = Kin::new(tree, relation, &left);
            let mut found: Vec<u32> = right
                .iter()
                .copied()
                .filter(|span| kin.has(tree, *span) != negated)
                .collect();
            if union {
                let kin = Kin::new(tree, relation.inverse(), &right);
                found.extend(left.iter().copied().filter(|span| kin.has(tree, *span)));
            }
            sorted(found)
        }
    }
}

fn group(tree: &Tree<'_>, set: Set, label: &str, key: &Cond) -> Vec<Set> {
    let mut groups: Vec<(Static, Vec<u32>)> = Vec::new();
    for local in set.spans {
        let value = key.value(tree, local).to_static();
        match groups.iter_mut().find(|(known, _)| *known == value) {
            Some((_, spans)) => spans.push(local),
            None => groups.push((value, vec![local])),
        }
    }
    let one = |(value, spans)| {
        let mut attributes = set.attributes.clone();
        attributes.push((label.to_owned(), value));
        Set { spans, attributes }
    };
    groups.into_iter().map(one).collect()
}

/// The aggregate's value; `None` when no span has a number to contribute.
fn aggregate(tree: &Tree<'_>, spans: &[u32], fold: Option<&(Fold, Cond)>) -> Option<Val<'static>> {
    let Some((fold, of)) = fold else {
        return Some(Val::Int(spans.len() as i64));
    };
    let values: Vec<Val<'_>> = spans
        .iter()
        .map(|local| of.value(tree, *local))
        .filter(|v| v.number().is_some())
        .collect();
    let number = |v: &Val<'_>| v.number().unwrap_or_default();
    let by_size = |a: &&Val<'_>, b: &&Val<'_>| number(a).total_cmp(&number(b));
    let sum = || values.iter().map(number).sum::<f64>();
    let sample = values.first()?;
    let of_the_same_kind = |v: f64| match sample {
        Val::Duration(_) => Val::Duration(v as i64),
        Val::Int(_) if v.fract() == 0.0 => Val::Int(v as i64),
        _ => Val::Float(v),
    };
    let found = match fold {
        Fold::Min => number(values.iter().min_by(by_size)?),
        Fold::Max => number(values.iter().max_by(by_size)?),
        Fold::Sum => sum(),
        Fold::Avg => sum() / values.len() as f64,
    };
    Some(match (fold, sample) {
        (Fold::Avg, Val::Int(_)) => Val::Float(found),
        _ => of_the_same_kind(found),
    })
}

/// The value of an attribute to show with a span that was found: the one that satisfied the
/// condition it was named in.
pub(crate) fn shown<'t>(tree: &Tree<'t>, local: u32, read: &Read<'_>) -> Option<Val<'t>> {
    let mut found = None;
    field::any(tree, local, read.attribute, &mut |value| {
        if read.test.is_none_or(|test| test.holds(&value)) {
            found = Some(value);
        }
        found.is_some()
    });
    found
}
