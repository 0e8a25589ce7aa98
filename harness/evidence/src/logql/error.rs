//! What can go wrong with a query.

use std::fmt;

/// A failed query. Its text is what the HTTP API answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryError {
    /// The text is no LogQL, at this line and column (both from 1; the column counts characters).
    Syntax {
        /// Line.
        line: usize,
        /// Column.
        col: usize,
        /// What was found and what would have been right.
        message: String,
    },
    /// Well written but not sensible, or not supported.
    Invalid(String),
    /// A line could not be processed in a metric query; the labels name it.
    Pipeline {
        /// `JSONParserErr` and the like.
        kind: String,
        /// The series in which it happened.
        series: String,
    },
    /// Vectors could not be matched.
    Execution(String),
    /// A bound was reached: result size or work.
    Limit(String),
    /// The query took too long.
    Timeout,
}

impl QueryError {
    /// A well-written query that cannot be run.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, col, message } => {
                write!(f, "parse error at line {line}, col {col}: {message}")
            }
            Self::Invalid(message) => write!(f, "parse error : {message}"),
            Self::Pipeline { kind, series } => write!(
                f,
                "pipeline error: '{kind}' for series: '{series}'.\n\
                 Use a label filter to intentionally skip this error. (e.g | __error__!=\"{kind}\").\n\
                 To skip all potential errors you can match empty errors.(e.g __error__=\"\")\n\
                 The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
            ),
            Self::Execution(message) | Self::Limit(message) => f.write_str(message),
            Self::Timeout => f.write_str("context deadline exceeded: the query took too long"),
        }
    }
}

impl std::error::Error for QueryError {}
