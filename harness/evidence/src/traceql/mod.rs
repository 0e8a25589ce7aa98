//! TraceQL: syntax, checking and evaluation over a [`TraceStore`](crate::store::traces::TraceStore).
//!
//! Read in this order: `lex` and `parse` make an `ast`, `check` refuses what has no meaning,
//! `eval` answers. Language: <https://grafana.com/docs/tempo/latest/traceql/>; where the
//! documentation is silent, the recorded answers of a real server decide. What is not supported is
//! refused by name; nothing is ever read as something similar.

pub(crate) mod ast;
mod check;
pub(crate) mod eval;
mod lex;
mod parse;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod tests;

pub(crate) use ast::Query;

/// What is wrong with a query, worded as Tempo words it where it can be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceQlError {
    /// The text is not TraceQL.
    #[error("parse error at line {line}, col {col}: {what}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        col: usize,
        /// What was found there, and what would be right.
        what: String,
    },
    /// The text is TraceQL, but has no meaning or is not supported.
    #[error("{0}")]
    Meaning(String),
    /// The query took too long.
    #[error("context deadline exceeded: the query took longer than 60 s")]
    Timeout,
}

/// Parses and checks a query.
///
/// # Errors
/// With the position when the text is not TraceQL; with the offending expression when it compares
/// things that cannot be compared, or uses a part of the language that is not supported.
pub(crate) fn parse(text: &str) -> Result<Query, TraceQlError> {
    let query = parse::query(text)?;
    check::query(&query)?;
    Ok(query)
}

/// Parses an attribute alone: `span.http.route`, `status`, `.k8s.pod.name`.
///
/// # Errors
/// When the text is not the name of one.
pub(crate) fn parse_attribute(text: &str) -> Result<ast::Attribute, TraceQlError> {
    parse::attribute(text)
}

/// Whether a text is a query this crate can answer, and of which kind.
///
/// # Errors
/// What is wrong with it, see [`TraceQlError`].
pub fn validate(text: &str) -> Result<QueryKind, TraceQlError> {
    let query = parse(text)?;
    Ok(match query.metric {
        Some(_) => QueryKind::Metrics,
        None => QueryKind::Search,
    })
}

/// The two kinds of query; each has its own endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryKind {
    /// Finds spans.
    Search,
    /// Computes series of numbers.
    Metrics,
}

/// What a query asks for, for those that only want to look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// What a metrics query computes; `None` for a search.
    pub computes: Option<Computes>,
    /// Whether it computes a series for each value of some attributes.
    pub by: bool,
    /// Every attribute and intrinsic it names, as it is written in answers.
    pub attributes: Vec<String>,
}

/// What a metrics query computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Computes {
    /// `rate()`
    Rate,
    /// `count_over_time()`
    Count,
    /// `min_over_time(…)` and its kin, which are exact.
    Fold,
    /// `quantile_over_time(…)`, from power-of-two buckets.
    Quantile,
    /// `histogram_over_time(…)`, likewise.
    Histogram,
    /// `compare(…)`
    Compare,
}

/// Reads what a query asks for.
///
/// # Errors
/// What is wrong with it, see [`TraceQlError`].
pub fn shape(text: &str) -> Result<Shape, TraceQlError> {
    use ast::Function;
    let query = parse(text)?;
    let metric = query.metric.as_ref();
    let computes = metric.map(|metric| match &metric.function {
        Function::Rate => Computes::Rate,
        Function::CountOverTime => Computes::Count,
        Function::Fold(..) => Computes::Fold,
        Function::Quantile(..) => Computes::Quantile,
        Function::Histogram(..) => Computes::Histogram,
        Function::Compare { .. } => Computes::Compare,
    });
    let mut attributes = Vec::new();
    in_pipeline(&query.pipeline, &mut attributes);
    for by in metric.iter().flat_map(|metric| &metric.by) {
        attributes.push(by.to_string());
    }
    Ok(Shape {
        computes,
        by: metric.is_some_and(|metric| !metric.by.is_empty()),
        attributes,
    })
}

fn in_pipeline(pipeline: &ast::Pipeline, found: &mut Vec<String>) {
    use ast::{Aggregate, Stage};
    for stage in pipeline {
        match stage {
            Stage::Spans(spans) => in_spanset(spans, found),
            Stage::Aggregate {
                aggregate: Aggregate::Over(_, of),
                ..
            } => in_expr(of, found),
            Stage::By(of) => in_expr(of, found),
            Stage::Select(all) => found.extend(all.iter().map(ToString::to_string)),
            Stage::Aggregate { .. } | Stage::Coalesce => {}
        }
    }
}

fn in_spanset(spans: &ast::Spanset, found: &mut Vec<String>) {
    use ast::Spanset;
    match spans {
        Spanset::Filter(filter) => filter.iter().for_each(|f| in_expr(f, found)),
        Spanset::Pipeline(pipeline) => in_pipeline(pipeline, found),
        Spanset::Op(_, left, right) => {
            in_spanset(left, found);
            in_spanset(right, found);
        }
    }
}

fn in_expr(expr: &ast::Expr, found: &mut Vec<String>) {
    use ast::Expr;
    match expr {
        Expr::Static(_) => {}
        Expr::Attribute(attribute) => found.push(attribute.to_string()),
        Expr::Not(of) | Expr::Neg(of) => in_expr(of, found),
        Expr::Binary(_, a, b) => {
            in_expr(a, found);
            in_expr(b, found);
        }
    }
}
