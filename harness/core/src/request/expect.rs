//! What a right answer is: templates over a dataset's row, compared with values found by JSONPath.

use std::sync::Arc;

use serde_json::{Map, Value};
use serde_json_path::JsonPath;

/// What is wrong, with the row's index where it is wrong in one row.
pub(super) type Wrong = (Option<usize>, String);

/// One comparison: what the path finds must equal the value.
pub(super) struct Check {
    path: JsonPath,
    text: String,
    wanted: Wanted,
}

enum Wanted {
    Always(Value),
    /// By row of the dataset. Shared: rows have few distinct labels, and many rows.
    ByRow(Vec<Arc<Value>>),
}

impl Check {
    /// Compiles a comparison and fills its template with every row.
    ///
    /// # Errors
    /// With the row's index, what is wrong with the template there; without one, what is wrong
    /// with the path or the template itself.
    pub(super) fn new(
        path: &str,
        wanted: &Value,
        rows: Option<&[&Map<String, Value>]>,
    ) -> Result<Self, Vec<Wrong>> {
        let whole = |message: String| vec![(None, message)];
        let compiled =
            JsonPath::parse(path).map_err(|e| whole(format!("`{path}` is not a JSONPath: {e}")))?;
        let template = match wanted {
            Value::String(text) => Template::parse(text).map_err(whole)?,
            _ => None,
        };
        let wanted = match (template, rows) {
            (None, _) => Wanted::Always(wanted.clone()),
            (Some(_), None) => {
                return Err(whole(format!(
                    "`{wanted}` takes a field of a row, and the body has no dataset"
                )));
            }
            (Some(template), Some(rows)) => Wanted::ByRow(by_row(&template, rows)?),
        };
        Ok(Self {
            path: compiled,
            text: path.to_owned(),
            wanted,
        })
    }

    /// `Ok` when exactly one value is found and equals the wanted one; else what is wrong.
    pub(super) fn holds(&self, answer: &Value, row: Option<usize>) -> Result<(), String> {
        let wanted = match &self.wanted {
            Wanted::Always(value) => value,
            Wanted::ByRow(values) => row
                .and_then(|row| values.get(row))
                .ok_or_else(|| format!("{}: no row to compare with", self.text))?,
        };
        let found = self.path.query(answer).all();
        match found.as_slice() {
            [value] if same(value, wanted) => Ok(()),
            [value] => Err(format!("{} is {value}, not {wanted}", self.text)),
            [] => Err(format!("{} is not in the answer", self.text)),
            many => Err(format!("{} is there {} times", self.text, many.len())),
        }
    }
}

fn by_row(
    template: &Template,
    rows: &[&Map<String, Value>],
) -> Result<Vec<Arc<Value>>, Vec<Wrong>> {
    let mut values: Vec<Arc<Value>> = Vec::with_capacity(rows.len());
    let mut wrong = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        match template.fill(row) {
            Ok(value) => {
                let known = values
                    .iter()
                    .rev()
                    .take(16)
                    .find(|known| ***known == value)
                    .cloned();
                values.push(known.unwrap_or_else(|| Arc::new(value)));
            }
            Err(message) => wrong.push((Some(index), message)),
        }
    }
    if wrong.is_empty() {
        Ok(values)
    } else {
        Err(wrong)
    }
}

/// Equal as JSON; numbers by value, so that 1 equals 1.0.
fn same(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || (a.as_f64().is_some() && a.as_f64() == b.as_f64())
        }
        _ => found == wanted,
    }
}

/// A text with `{{ field }}` in it.
#[derive(Debug, PartialEq, Eq)]
struct Template(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    /// `None` for a text without fields.
    fn parse(text: &str) -> Result<Option<Self>, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            let (name, after) = rest[open + 2..]
                .split_once("}}")
                .ok_or_else(|| format!("`{text}` has `{{{{` without `}}}}`"))?;
            let name = name.trim();
            let plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!("`{name}` in `{text}` is not the name of a field"));
            }
            parts.push(Part::Field(name.to_owned()));
            rest = after;
        }
        if parts.is_empty() {
            return Ok(None);
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Some(Self(parts)))
    }

    /// A template that is one field alone keeps the field's type; else a text.
    fn fill(&self, row: &Map<String, Value>) -> Result<Value, String> {
        let field = |name: &str| {
            row.get(name)
                .ok_or_else(|| format!("the row has no field `{name}`"))
        };
        if let [Part::Field(name)] = self.0.as_slice() {
            return field(name).cloned();
        }
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Field(name) => match field(name)? {
                    Value::String(value) => text.push_str(value),
                    other => text.push_str(&other.to_string()),
                },
            }
        }
        Ok(Value::String(text))
    }
}
