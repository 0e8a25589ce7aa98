//! Answers in Loki's shapes.

use crate::logql::{Answer, FoundLine, QueryError};
use crate::store::logs::Labels;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Number, Value, json};
use std::collections::HashMap;
use std::time::Instant;

/// A request that failed: status and text.
pub(super) struct Failure {
    status: StatusCode,
    message: String,
}

impl Failure {
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        let status = match error {
            // Loki answers vectors that do not match with 500.
            QueryError::Execution(_) => StatusCode::INTERNAL_SERVER_ERROR,
            QueryError::Timeout => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        };
        Self {
            status,
            message: error.to_string(),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        plain(self.status, &self.message)
    }
}

/// A plain text, as Loki answers errors.
pub(super) fn plain(status: StatusCode, text: &str) -> Response {
    (
        status,
        [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ],
        text.to_owned(),
    )
        .into_response()
}

/// A JSON body.
pub(super) fn json(body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (
            [(header::CONTENT_TYPE, "application/json; charset=UTF-8")],
            bytes,
        )
            .into_response(),
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// `{"status":"success","data":…}`
pub(super) fn json_data(data: &impl Serialize) -> Response {
    json(&json!({"status": "success", "data": data}))
}

/// A label set as a JSON object.
pub(super) fn label_map(labels: &Labels) -> Map<String, Value> {
    labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

/// The answer to a query.
pub(super) fn answer(answer: &Answer, at: i64, categorize: bool, started: Instant) -> Response {
    let (kind, result) = match answer {
        Answer::Lines(lines) => ("streams", streams(lines, categorize)),
        Answer::Scalar(value) => ("scalar", json!([seconds(at), number(*value)])),
        Answer::Vector(samples) => {
            let each = samples.iter().map(|s| {
                let value = json!([seconds(at), number(s.value)]);
                json!({"metric": label_map(&s.labels), "value": value})
            });
            ("vector", each.collect())
        }
        Answer::Matrix(series) => {
            let each = series.iter().map(|s| {
                let point = |(t, v): &(i64, f64)| json!([seconds(*t), number(*v)]);
                let values: Vec<Value> = s.points.iter().map(point).collect();
                json!({"metric": label_map(&s.labels), "values": values})
            });
            ("matrix", each.collect())
        }
    };
    let returned = result.as_array().map_or(0, Vec::len);
    let mut data = Map::new();
    data.insert("resultType".to_owned(), kind.into());
    if categorize && kind == "streams" {
        data.insert("encodingFlags".to_owned(), json!(["categorize-labels"]));
    }
    data.insert("result".to_owned(), result);
    let stats = json!({"summary": {
        "execTime": started.elapsed().as_secs_f64(), "totalEntriesReturned": returned,
    }});
    data.insert("stats".to_owned(), stats);
    json_data(&data)
}

/// Lines grouped by their labels; the groups in the order of labels, the lines in their own.
fn streams(lines: &[FoundLine], categorize: bool) -> Value {
    let mut groups: Vec<(&Labels, Vec<Value>)> = Vec::new();
    let mut index: HashMap<&Labels, usize> = HashMap::new();
    for line in lines {
        let key = if categorize {
            &line.labels.stream
        } else {
            &line.labels.all
        };
        let slot = *index.entry(key).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        let mut value = vec![Value::from(line.ts.to_string()), line.line.as_str().into()];
        if categorize {
            value.push(categories(line));
        }
        groups[slot].1.push(value.into());
    }
    groups.sort_by(|a, b| a.0.cmp(b.0));
    groups
        .into_iter()
        .map(|(labels, values)| json!({"stream": label_map(labels), "values": values}))
        .collect()
}

fn categories(line: &FoundLine) -> Value {
    let mut out = Map::new();
    for (name, labels) in [
        ("structuredMetadata", &line.labels.metadata),
        ("parsed", &line.labels.parsed),
    ] {
        if !labels.is_empty() {
            out.insert(name.to_owned(), label_map(labels).into());
        }
    }
    out.into()
}

/// Nanoseconds as seconds, to the millisecond.
fn seconds(ns: i64) -> Value {
    let ms = ns.div_euclid(1_000_000);
    if ms % 1_000 == 0 {
        return (ms / 1_000).into();
    }
    Number::from_f64(ms as f64 / 1_000.0).map_or(Value::Null, Value::Number)
}

/// A value as Go writes it: never in scientific notation.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string()
    }
}
