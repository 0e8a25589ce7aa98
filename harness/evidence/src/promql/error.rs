//! Why a query was not answered.

/// A query that was not answered. Its text says what was wrong and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The text is not a valid query. HTTP 400 `bad_data`.
    #[error("{position}: parse error: {message}")]
    Parse {
        /// `line:column`, both from 1.
        position: String,
        /// What was found and what was expected.
        message: String,
    },
    /// A valid query that needs what is not built here. HTTP 400 `bad_data`.
    #[error("{position}: {what} is not supported by the embedded evaluator")]
    Unsupported {
        /// `line:column`, both from 1.
        position: String,
        /// The function, modifier or kind of data.
        what: String,
    },
    /// The query is valid, its evaluation met data it cannot combine. HTTP 422 `execution`.
    #[error("{0}")]
    Execution(String),
    /// The time allowed ran out. HTTP 503 `timeout`.
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// The query would load or make too many samples. HTTP 422 `execution`.
    #[error(
        "query processing would load too many samples into memory in query execution (limit {0})"
    )]
    TooManySamples(usize),
}

impl QueryError {
    pub(super) fn parse(position: impl Into<String>, message: impl Into<String>) -> Self {
        QueryError::Parse {
            position: position.into(),
            message: message.into(),
        }
    }

    pub(super) fn unsupported(position: impl Into<String>, what: &str) -> Self {
        QueryError::Unsupported {
            position: position.into(),
            what: what.into(),
        }
    }
}

/// `line:column` of a byte offset, both counted from 1.
pub(super) fn position(query: &str, offset: usize) -> String {
    let before = &query[..offset.min(query.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.len() - before.rfind('\n').map_or(0, |i| i + 1) + 1;
    format!("{line}:{column}")
}
