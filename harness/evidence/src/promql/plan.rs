//! From query text to a checked tree that the evaluator walks.

mod funcs;
mod lower;

pub(super) use funcs::{DateFn, Func, OverFn, clamp};

use super::error::{QueryError, position};
use super::scan;
use crate::store::metrics::Matcher;

/// A checked query.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) root: Node,
    pub(super) selectors: Vec<Selector>,
}

/// A vector or range selector. Several nodes never share one.
#[derive(Debug)]
pub(super) struct Selector {
    pub(super) matchers: Vec<Matcher>,
    pub(super) when: When,
    /// Length of a range selector, milliseconds; `None` for an instant selector.
    pub(super) range: Option<i64>,
}

/// `@` and `offset`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct When {
    pub(super) at: At,
    /// Milliseconds into the past.
    pub(super) offset: i64,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) enum At {
    #[default]
    EvaluationTime,
    QueryStart,
    QueryEnd,
    Time(i64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Scalar,
    Text,
    Vector,
    Matrix,
}

impl Type {
    fn documented(self) -> &'static str {
        match self {
            Type::Scalar => "scalar",
            Type::Text => "string",
            Type::Vector => "instant vector",
            Type::Matrix => "range vector",
        }
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: usize,
    /// Byte offset in the query.
    pub(super) at: usize,
    pub(super) ty: Type,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Number(f64),
    Text(String),
    /// An instant or range selector, by its index in the plan.
    Select(usize),
    Subquery(Box<Subquery>),
    Negate(Box<Node>),
    Call(Func, Vec<Node>),
    Aggregate(Box<Aggregate>),
    Binary(Box<Binary>),
}

#[derive(Debug)]
pub(super) struct Subquery {
    pub(super) inner: Node,
    pub(super) range: i64,
    /// Milliseconds; `None` takes the default step.
    pub(super) step: Option<i64>,
    pub(super) when: When,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AggOp {
    Sum,
    Avg,
    Min,
    Max,
    Count,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Quantile,
    CountValues,
}

#[derive(Debug)]
pub(super) struct Aggregate {
    pub(super) op: AggOp,
    pub(super) param: Option<Node>,
    pub(super) inner: Node,
    pub(super) grouping: Grouping,
}

/// Which labels a group or match is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grouping {
    /// `by` or `on`
    By(Vec<String>),
    /// `without` or `ignoring`; the metric's name is left out too.
    Without(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BinOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    And,
    Or,
    Unless,
}

impl BinOp {
    pub(super) fn is_comparison(self) -> bool {
        use BinOp::{Eq, Ge, Gt, Le, Lt, Ne};
        matches!(self, Eq | Ne | Gt | Lt | Ge | Le)
    }

    pub(super) fn is_set(self) -> bool {
        matches!(self, BinOp::And | BinOp::Or | BinOp::Unless)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    OneToOne,
    /// `group_left`, with the labels taken from the right.
    ManyToOne(Vec<String>),
    /// `group_right`, with the labels taken from the left.
    OneToMany(Vec<String>),
}

#[derive(Debug)]
pub(super) struct Binary {
    pub(super) op: BinOp,
    pub(super) lhs: Node,
    pub(super) rhs: Node,
    pub(super) returns_bool: bool,
    pub(super) matching: Grouping,
    pub(super) side: Side,
}

/// Parses and checks a query.
pub(super) fn plan(query: &str) -> Result<Plan, QueryError> {
    let tokens = scan::tokens(query);
    scan::check(query, &tokens)?;
    let text = scan::rewrite(query, &tokens);
    // The parser is foreign code and text comes from outside: its panic must stay an error.
    let parsed = std::panic::catch_unwind(|| promql_parser::parser::parse(&text))
        .unwrap_or_else(|_| Err("the parser gave up on this query".into()));
    let expr = parsed.map_err(|m| lower::parse_error(query, &tokens, &m))?;
    lower::lower(query, &tokens, expr)
}

/// Parses one series selector such as `up{job="x"}`, as `match[]` carries them.
pub(super) fn selector(text: &str) -> Result<Vec<Matcher>, QueryError> {
    let mut plan = plan(text)?;
    match (&plan.root.kind, plan.selectors.pop()) {
        (Kind::Select(_), Some(s)) if s.range.is_none() && s.when.offset == 0 => Ok(s.matchers),
        _ => Err(QueryError::parse(
            position(text, 0),
            "expected a series selector such as up{job=\"x\"}",
        )),
    }
}
