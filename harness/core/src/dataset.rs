//! Files of rows: JSONL, CSV and text. Whatever is wrong is found by line, before it is used.

use serde_json::{Map, Value};

use crate::problem::Problem;
use crate::scenario::DataFormat;

/// Problems of one dataset that are shown one by one; the rest are counted.
const SHOWN: usize = 10;
/// The only field of a text file's rows.
pub(crate) const LINE: &str = "line";

/// A row with the line it stands on, from 1.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) line: usize,
    pub(crate) fields: Map<String, Value>,
}

/// Reads all rows. Blank lines are passed over, except in text files, where they are rows.
pub(crate) fn rows(file: &str, text: &str, format: DataFormat) -> Result<Vec<Row>, Vec<Problem>> {
    let mut wrong = Vec::new();
    let rows = match format {
        DataFormat::Jsonl => jsonl(file, text, &mut wrong),
        DataFormat::Csv => csv(file, text, &mut wrong),
        DataFormat::Text => (1..)
            .zip(text.lines())
            .map(|(line, content)| Row {
                line,
                fields: Map::from_iter([(LINE.to_owned(), Value::String(content.to_owned()))]),
            })
            .collect(),
    };
    if wrong.is_empty() && rows.is_empty() {
        let hint = match format {
            DataFormat::Jsonl => "one JSON object a line",
            DataFormat::Csv => "a line of field names, and then one row a line",
            DataFormat::Text => "one row a line",
        };
        wrong.push(Problem {
            at: None,
            ..problem(file, 1, "the dataset has no rows", hint)
        });
    }
    if wrong.is_empty() {
        Ok(rows)
    } else {
        Err(wrong)
    }
}

fn jsonl(file: &str, text: &str, wrong: &mut Vec<Problem>) -> Vec<Row> {
    let mut rows = Vec::new();
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
    rows
}

fn csv(file: &str, text: &str, wrong: &mut Vec<Problem>) -> Vec<Row> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(false)
        .from_reader(text.as_bytes());
    let names: Vec<String> = match reader.headers() {
        Ok(names) => names.iter().map(|name| name.trim().to_owned()).collect(),
        Err(error) => {
            wrong.push(csv_problem(file, &error));
            return Vec::new();
        }
    };
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() || names[..index].contains(name) {
            let message = format!("the field name `{name}` is empty or there twice");
            wrong.push(problem(
                file,
                1,
                &message,
                "the first line names each field once",
            ));
        }
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, |at| at.line() as usize);
                let fields = names.iter().zip(&record);
                let fields = fields.map(|(name, value)| (name.clone(), value.into()));
                rows.push(Row {
                    line,
                    fields: fields.collect(),
                });
            }
            Err(error) => wrong.push(csv_problem(file, &error)),
        }
    }
    rows
}

fn csv_problem(file: &str, error: &csv::Error) -> Problem {
    let line = error.position().map_or(1, |at| at.line() as usize);
    let message = match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("the row has {len} fields, the first line {expected_len}"),
        _ => format!("the row is not CSV: {error}"),
    };
    let hint =
        "as many fields as the first line, quoted where they hold a comma, quote or line end";
    problem(file, line, &message, hint)
}

pub(crate) fn problem(file: &str, line: usize, message: &str, hint: &str) -> Problem {
    Problem {
        file: file.to_owned(),
        at: Some((line, 1)),
        key: String::new(),
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
    }
}

/// A file that the shell did not hand over.
pub(crate) fn unread(file: &str) -> Problem {
    Problem {
        file: file.to_owned(),
        at: None,
        key: String::new(),
        message: "the dataset was not read".into(),
        hint: Some("its path is relative to the scenario file".into()),
    }
}

/// Keeps the first problems and counts the rest, so that a wrong field name in a large dataset
/// does not bury everything else.
pub(crate) fn shorten(mut problems: Vec<Problem>) -> Vec<Problem> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str, format: DataFormat) -> String {
        let problems = rows("d", text, format).unwrap_err();
        let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
        all.join("\n")
    }

    #[test]
    fn csv_is_read_with_quotes_and_lines() {
        let text = "id, text\n1,\"a, \"\"b\"\"\nc\"\n2,ü\n";
        let read = rows("d.csv", text, DataFormat::Csv).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].fields["text"], "a, \"b\"\nc");
        assert_eq!(
            (read[1].line, &read[1].fields["id"]),
            (4, &Value::from("2"))
        );
    }

    #[test]
    fn csv_that_is_none_is_refused_by_line() {
        let short = wrong("a,b\n1,2\n3\n", DataFormat::Csv);
        assert!(
            short.starts_with("d:3:1: the row has 1 fields, the first line 2"),
            "{short}"
        );
        let twice = wrong("a,a\n1,2\n", DataFormat::Csv);
        assert!(twice.contains("`a` is empty or there twice"), "{twice}");
        assert!(wrong("a,b\n", DataFormat::Csv).contains("has no rows"));
        assert!(wrong("", DataFormat::Csv).contains("has no rows"));
    }

    #[test]
    fn text_files_have_a_row_a_line() {
        let read = rows("d.txt", "one\n\ntwo", DataFormat::Text).unwrap();
        let lines: Vec<&Value> = read.iter().map(|row| &row.fields[LINE]).collect();
        assert_eq!(lines, ["one", "", "two"]);
        assert!(wrong("", DataFormat::Text).contains("has no rows"));
    }
}
