//! A question to a telemetry backend, and the raw answer it got.
//!
//! Questions are data: the judge derives them from objectives and run facts, the shell asks them,
//! and the answers are kept byte for byte. Judging again offline asks the same questions of the kept
//! answers, so a question is identified by what is asked and by nothing else.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{TraceId, UnixNanos};

/// A kind of telemetry backend, by the API it answers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Metrics.
    Prometheus,
    /// Logs.
    Loki,
    /// Traces.
    Tempo,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prometheus => "prometheus",
            Self::Loki => "loki",
            Self::Tempo => "tempo",
        })
    }
}

/// What is asked.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Query {
    /// `GET /api/v1/query`: PromQL at one instant.
    PromInstant {
        /// PromQL, `$window` already replaced.
        query: String,
        /// The instant.
        time: UnixNanos,
    },
    /// `GET /api/v1/query_range`: PromQL at equal steps.
    PromRange {
        /// PromQL.
        query: String,
        /// First instant.
        start: UnixNanos,
        /// Last instant at most.
        end: UnixNanos,
        /// Distance of two instants in milliseconds, at least 1.
        step_ms: u64,
    },
    /// `GET /loki/api/v1/query`: a LogQL metric query at one instant.
    LokiInstant {
        /// LogQL.
        query: String,
        /// The instant; the query's range reaches back from here.
        time: UnixNanos,
    },
    /// `GET /loki/api/v1/query_range`: log lines in `[start, end)`.
    LokiLines {
        /// LogQL log query.
        query: String,
        /// Earliest instant, included.
        start: UnixNanos,
        /// Latest instant, excluded.
        end: UnixNanos,
        /// Most lines to return, 1 to 5000.
        limit: u32,
        /// Newest first instead of oldest first.
        backward: bool,
    },
    /// `GET /api/metrics/query`: TraceQL metrics over `[start, end)`, whole seconds.
    TempoMetrics {
        /// TraceQL metrics query.
        query: String,
        /// Start, Unix seconds.
        start_s: u64,
        /// End, Unix seconds, after `start_s`.
        end_s: u64,
    },
    /// `GET /api/v2/traces/{id}`: one whole trace.
    TempoTrace {
        /// Which.
        trace: TraceId,
    },
}

impl Query {
    /// Which backend answers it.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match self {
            Self::PromInstant { .. } | Self::PromRange { .. } => Backend::Prometheus,
            Self::LokiInstant { .. } | Self::LokiLines { .. } => Backend::Loki,
            Self::TempoMetrics { .. } | Self::TempoTrace { .. } => Backend::Tempo,
        }
    }

    /// Path and query parameters of the HTTP GET that asks it.
    #[must_use]
    pub fn http(&self) -> (String, Vec<(&'static str, String)>) {
        match self {
            Self::PromInstant { query, time } => (
                "/api/v1/query".into(),
                vec![("query", query.clone()), ("time", seconds(*time))],
            ),
            Self::PromRange {
                query,
                start,
                end,
                step_ms,
            } => (
                "/api/v1/query_range".into(),
                vec![
                    ("query", query.clone()),
                    ("start", seconds(*start)),
                    ("end", seconds(*end)),
                    ("step", format!("{}.{:03}", step_ms / 1000, step_ms % 1000)),
                ],
            ),
            Self::LokiInstant { query, time } => (
                "/loki/api/v1/query".into(),
                vec![("query", query.clone()), ("time", time.0.to_string())],
            ),
            Self::LokiLines {
                query,
                start,
                end,
                limit,
                backward,
            } => (
                "/loki/api/v1/query_range".into(),
                vec![
                    ("query", query.clone()),
                    ("start", start.0.to_string()),
                    ("end", end.0.to_string()),
                    ("limit", limit.to_string()),
                    (
                        "direction",
                        if *backward { "backward" } else { "forward" }.into(),
                    ),
                ],
            ),
            Self::TempoMetrics {
                query,
                start_s,
                end_s,
            } => (
                "/api/metrics/query".into(),
                vec![
                    ("q", query.clone()),
                    ("start", start_s.to_string()),
                    ("end", end_s.to_string()),
                ],
            ),
            Self::TempoTrace { trace } => (format!("/api/v2/traces/{trace}"), Vec::new()),
        }
    }
}

/// Unix seconds with milliseconds, as Prometheus takes and keeps them.
fn seconds(time: UnixNanos) -> String {
    let ms = time.0 / 1_000_000;
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// The answer to one [`Query`], as it came. A row of the run directory's `answers.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// What was asked.
    pub query: Query,
    /// When the answer was complete.
    pub at: UnixNanos,
    /// HTTP status; `None` when no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The body, byte for byte (invalid UTF-8 replaced). Untrusted.
    #[serde(default)]
    pub body: String,
    /// Why there is no answer or no whole one: refused, timed out, too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
