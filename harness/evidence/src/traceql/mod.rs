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
