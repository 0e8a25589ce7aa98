//! Expressions over one span, made ready to run.

use std::cmp::Ordering;

use crate::go_regex;
use regex::Regex;

use super::field::{self, Val};
use super::tree::Tree;
use crate::traceql::TraceQlError;
use crate::traceql::ast::{Attribute, Expr, Op, Scope, Static};

/// An expression with its patterns compiled.
#[derive(Debug)]
pub(crate) enum Cond {
    Static(Static),
    Attribute(Attribute),
    Not(Box<Cond>),
    Neg(Box<Cond>),
    Binary(Op, Box<Cond>, Box<Cond>),
    Test(Test),
    /// An expression against a pattern; true when they must not match.
    Match(Box<Cond>, Regex, bool),
}

/// An attribute against a literal, the form nearly every condition has.
///
/// It differs from the general comparison in that every value of an attribute with several is
/// looked at, and in that an integer attribute never equals a float literal nor the other way round:
/// the real server keeps them in different columns and looks into one.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) attribute: Attribute,
    op: Op,
    literal: Static,
    pattern: Option<Regex>,
}

impl Test {
    /// Whether one value satisfies it.
    pub(crate) fn holds(&self, value: &Val<'_>) -> bool {
        if let Some(pattern) = &self.pattern {
            return match value {
                Val::Str(text) => pattern.is_match(text) == (self.op == Op::Re),
                _ => false,
            };
        }
        let typed = matches!(self.attribute, Attribute::Named(..));
        match (value, &self.literal) {
            (Val::Int(_), Static::Float(_)) | (Val::Float(_), Static::Int(_)) if typed => false,
            _ => compare(self.op, value, &of_static(&self.literal)),
        }
    }

    fn on(&self, tree: &Tree<'_>, local: u32) -> bool {
        match (&self.literal, self.op) {
            (Static::Nil, Op::Eq) => !field::any(tree, local, &self.attribute, &mut |_| true),
            (Static::Nil, _) => field::any(tree, local, &self.attribute, &mut |_| true),
            (_, Op::Ne | Op::NotRe) if !self.of_many_parts() => {
                // All elements of an array have to differ, and there has to be one.
                let mut any = false;
                let equal = field::any(tree, local, &self.attribute, &mut |value| {
                    any = true;
                    !self.holds(&value)
                });
                any && !equal
            }
            _ => field::any(tree, local, &self.attribute, &mut |value| {
                self.holds(&value)
            }),
        }
    }

    /// Events and links are several things, each tested for itself; an array is one.
    fn of_many_parts(&self) -> bool {
        matches!(
            self.attribute,
            Attribute::Named(Scope::Event | Scope::Link | Scope::Any, _)
        )
    }
}

/// Makes an expression ready to run.
///
/// # Errors
/// When a pattern is not a regular expression.
pub(crate) fn compile(expr: &Expr) -> Result<Cond, TraceQlError> {
    let boxed = |e: &Expr| compile(e).map(Box::new);
    Ok(match expr {
        Expr::Static(value) => Cond::Static(value.clone()),
        Expr::Attribute(attribute) => Cond::Attribute(attribute.clone()),
        Expr::Not(inner) => Cond::Not(boxed(inner)?),
        Expr::Neg(inner) => Cond::Neg(boxed(inner)?),
        Expr::Binary(op, a, b) => match (op, &**a, &**b) {
            (op, Expr::Attribute(attribute), Expr::Static(literal)) if op.is_comparison() => {
                Cond::Test(Test {
                    attribute: attribute.clone(),
                    op: *op,
                    literal: literal.clone(),
                    pattern: pattern(*op, literal)?,
                })
            }
            (op, Expr::Static(literal), Expr::Attribute(attribute)) if op.is_comparison() => {
                Cond::Test(Test {
                    attribute: attribute.clone(),
                    op: mirrored(*op),
                    literal: literal.clone(),
                    pattern: None,
                })
            }
            (Op::Re | Op::NotRe, a, Expr::Static(literal)) => match pattern(*op, literal)? {
                Some(pattern) => Cond::Match(boxed(a)?, pattern, *op == Op::NotRe),
                None => Cond::Static(Static::Bool(false)),
            },
            (op, a, b) => Cond::Binary(*op, boxed(a)?, boxed(b)?),
        },
    })
}

/// Patterns match the whole value, and `.` matches a newline too.
fn pattern(op: Op, literal: &Static) -> Result<Option<Regex>, TraceQlError> {
    match (op, literal) {
        (Op::Re | Op::NotRe, Static::String(text)) => go_regex::whole(text)
            .map(Some)
            .map_err(|_| TraceQlError::Meaning(format!("invalid regex: `{text}`"))),
        _ => Ok(None),
    }
}

fn mirrored(op: Op) -> Op {
    match op {
        Op::Gt => Op::Lt,
        Op::Ge => Op::Le,
        Op::Lt => Op::Gt,
        Op::Le => Op::Ge,
        same => same,
    }
}

impl Cond {
    /// Whether a span satisfies it; only the boolean true does.
    pub(crate) fn holds(&self, tree: &Tree<'_>, local: u32) -> bool {
        match self {
            Self::Binary(Op::And, a, b) => a.holds(tree, local) && b.holds(tree, local),
            Self::Binary(Op::Or, a, b) => a.holds(tree, local) || b.holds(tree, local),
            Self::Test(test) => test.on(tree, local),
            other => other.value(tree, local) == Val::Bool(true),
        }
    }

    pub(crate) fn value<'t>(&self, tree: &Tree<'t>, local: u32) -> Val<'t> {
        match self {
            Self::Static(value) => owned(value),
            Self::Attribute(attribute) => field::first(tree, local, attribute),
            Self::Not(inner) => match inner.value(tree, local) {
                Val::Bool(v) => Val::Bool(!v),
                _ => Val::Nil,
            },
            Self::Neg(inner) => match inner.value(tree, local) {
                Val::Int(v) => v.checked_neg().map_or(Val::Nil, Val::Int),
                Val::Duration(v) => v.checked_neg().map_or(Val::Nil, Val::Duration),
                Val::Float(v) => Val::Float(-v),
                _ => Val::Nil,
            },
            Self::Binary(Op::And | Op::Or, ..) | Self::Test(_) => {
                Val::Bool(self.holds(tree, local))
            }
            Self::Binary(op @ (Op::Eq | Op::Ne), of, nil)
            | Self::Binary(op @ (Op::Eq | Op::Ne), nil, of)
                if matches!(**nil, Self::Static(Static::Nil)) =>
            {
                Val::Bool((of.value(tree, local) == Val::Nil) == (*op == Op::Eq))
            }
            Self::Binary(op, a, b) => {
                let (a, b) = (a.value(tree, local), b.value(tree, local));
                if op.is_arithmetic() {
                    arithmetic(*op, &a, &b)
                } else {
                    Val::Bool(compare(*op, &a, &b))
                }
            }
            Self::Match(of, pattern, negated) => match of.value(tree, local) {
                Val::Str(text) => Val::Bool(pattern.is_match(&text) != *negated),
                _ => Val::Bool(false),
            },
        }
    }

    /// Every attribute read, with the test it is read by, if by one.
    pub(crate) fn reads<'c>(&'c self, see: &mut dyn FnMut(&'c Attribute, Option<&'c Test>)) {
        match self {
            Self::Static(_) => {}
            Self::Attribute(attribute) => see(attribute, None),
            Self::Not(inner) | Self::Neg(inner) | Self::Match(inner, ..) => inner.reads(see),
            Self::Binary(_, a, b) => {
                a.reads(see);
                b.reads(see);
            }
            Self::Test(test) => {
                // `!= nil` asks for the attribute, whatever its value.
                let test_of = (test.literal != Static::Nil).then_some(test);
                see(&test.attribute, test_of);
            }
        }
    }
}

fn of_static(value: &Static) -> Val<'_> {
    match value {
        Static::Nil | Static::Array(_) => Val::Nil,
        Static::String(text) => Val::Str(text.as_str().into()),
        Static::Int(v) => Val::Int(*v),
        Static::Float(v) => Val::Float(*v),
        Static::Bool(v) => Val::Bool(*v),
        Static::Duration(v) => Val::Duration(*v),
        Static::Status(v) => Val::Status(*v),
        Static::Kind(v) => Val::Kind(*v),
    }
}

fn owned<'t>(value: &Static) -> Val<'t> {
    match value {
        Static::String(text) => Val::Str(text.clone().into()),
        Static::Nil | Static::Array(_) => Val::Nil,
        Static::Int(v) => Val::Int(*v),
        Static::Float(v) => Val::Float(*v),
        Static::Bool(v) => Val::Bool(*v),
        Static::Duration(v) => Val::Duration(*v),
        Static::Status(v) => Val::Status(*v),
        Static::Kind(v) => Val::Kind(*v),
    }
}

/// Compares values. Of different types, or when one is missing, nothing holds, not even `!=`.
pub(crate) fn compare(op: Op, a: &Val<'_>, b: &Val<'_>) -> bool {
    let order = match (a, b) {
        (Val::Nil, _) | (_, Val::Nil) => return false,
        (Val::Str(a), Val::Str(b)) => Some(a.cmp(b)),
        (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
        (Val::Status(a), Val::Status(b)) | (Val::Kind(a), Val::Kind(b)) => Some(a.cmp(b)),
        (Val::Int(a) | Val::Duration(a), Val::Int(b) | Val::Duration(b)) => Some(a.cmp(b)),
        _ => match (a.number(), b.number()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => return false,
        },
    };
    match op {
        Op::Eq => order == Some(Ordering::Equal),
        Op::Ne => order != Some(Ordering::Equal),
        Op::Gt => order == Some(Ordering::Greater),
        Op::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        Op::Lt => order == Some(Ordering::Less),
        Op::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        _ => false,
    }
}

/// Arithmetic. Integers stay integers except in division; what overflows or is not defined has no
/// value, so that no comparison with it holds.
///
/// A power of two integers has its sides exchanged: `2 ^ 3` is 9 in Tempo 3.0.3, as observed, while
/// `2.0 ^ 3` is 8. A gate over traces has to see what the real server sees, so it is 9 here too.
fn arithmetic<'t>(op: Op, a: &Val<'_>, b: &Val<'_>) -> Val<'t> {
    let is_duration = matches!(a, Val::Duration(_)) || matches!(b, Val::Duration(_));
    if let (Val::Int(x) | Val::Duration(x), Val::Int(y) | Val::Duration(y)) = (a, b) {
        let whole = match op {
            Op::Add => x.checked_add(*y),
            Op::Sub => x.checked_sub(*y),
            Op::Mul => x.checked_mul(*y),
            Op::Mod => x.checked_rem(*y),
            Op::Pow if !is_duration => u32::try_from(*x).ok().and_then(|x| y.checked_pow(x)),
            _ => None,
        };
        if let Some(v) = whole {
            return if is_duration {
                Val::Duration(v)
            } else {
                Val::Int(v)
            };
        }
        if op != Op::Div && (op != Op::Pow || !is_duration) {
            return Val::Nil;
        }
    }
    let (Some(x), Some(y)) = (a.number(), b.number()) else {
        return Val::Nil;
    };
    let v = match op {
        Op::Add => x + y,
        Op::Sub => x - y,
        Op::Mul => x * y,
        Op::Div => x / y,
        Op::Mod => x % y,
        _ => x.powf(y),
    };
    if v.is_finite() {
        Val::Float(v)
    } else {
        Val::Nil
    }
}
