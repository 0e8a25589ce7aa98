//! Datasets: JSONL, one object a row.

use serde_json::{Map, Value};

use crate::problem::Problem;

/// Problems of one dataset that are shown one by one; the rest are counted.
const SHOWN: usize = 10;

/// A row with the line it stands on, from 1.
pub(super) struct Row {
    pub(super) line: usize,
    pub(super) fields: Map<String, Value>,
}

/// Reads all rows. Blank lines are passed over.
pub(super) fn rows(file: &str, text: &str) -> Result<Vec<Row>, Vec<Problem>> {
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        if content.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(content) {
            Ok(Value::Object(fields)) => rows.push(Row { line, fields }),
            Ok(_) => wrong.push(problem(
                file,
                line,
                "the row is not a JSON object",
                "one object a line",
            )),
            Err(error) => {
                let message = format!("the row is not JSON: {error}");
                let mut problem = problem(file, line, &message, "one JSON object a line");
                problem.at = Some((line, error.column().max(1)));
                wrong.push(problem);
            }
        }
    }
    if wrong.is_empty() && rows.is_empty() {
        wrong.push(Problem {
            at: None,
            ..problem(file, 1, "the dataset has no rows", "one JSON object a line")
        });
    }
    if wrong.is_empty() {
        Ok(rows)
    } else {
        Err(wrong)
    }
}

pub(super) fn problem(file: &str, line: usize, message: &str, hint: &str) -> Problem {
    Problem {
        file: file.to_owned(),
        at: Some((line, 1)),
        key: String::new(),
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
    }
}

/// Keeps the first problems and counts the rest, so that a wrong field name in a large dataset
/// does not bury everything else.
pub(super) fn shorten(mut problems: Vec<Problem>) -> Vec<Problem> {
    if problems.len() > SHOWN {
        let more = problems.len() - SHOWN;
        problems.truncate(SHOWN);
        if let Some(last) = problems.last_mut() {
            last.message
                .push_str(&format!(" (and {more} more like it)"));
        }
    }
    problems
}
