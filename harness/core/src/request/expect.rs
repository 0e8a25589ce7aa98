//! What a right answer is: what the scenario expects, compared with what came.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::bytes::Regex;
use serde_json::Value;
use serde_json_path::JsonPath;

use super::fill::{Captured, Filling, OwnValues, Values};
use super::rows::Fields;
use crate::scenario::{Capture, Expect, HeaderValue, Size};

/// An answer, as far as it is looked at.
#[derive(Clone, Copy)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// The first value of a header; names are in lower case.
    pub header: &'a dyn Fn(&str) -> Option<String>,
    /// The whole body.
    pub body: &'a [u8],
    /// Time from due to done.
    pub latency: crate::units::Nanos,
}

impl std::fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What is wrong, with the row's index where it is wrong in one row.
pub(super) type Wrong = (Option<usize>, String);

/// One comparison: what is found must equal the value.
#[derive(Debug)]
pub(super) struct Check {
    place: Found,
    text: String,
    wanted: Wanted,
}

#[derive(Debug)]
enum Found {
    Json(JsonPath),
    Header(String),
}

#[derive(Debug)]
enum Wanted {
    Always(Value),
    /// By row of the dataset. Shared: rows have few distinct labels, and many rows.
    ByRow(Vec<Arc<Value>>),
    /// Filled for each request when it is planned: place in the plan's wanted values.
    ByRequest(usize),
}

/// Templates that are filled for each request, in the order of [`Wanted::ByRequest`].
pub(super) type Dynamic = Vec<Filling>;

impl Check {
    /// What a JSONPath finds must equal a value, or a template if that is a text.
    ///
    /// # Errors
    /// With the row's index, what is wrong with the template there; without one, what is wrong
    /// with the path or the template itself.
    pub(super) fn json(
        path: &str,
        wanted: &Value,
        rows: Option<&Fields>,
        captured: &BTreeSet<&str>,
        dynamic: &mut Dynamic,
    ) -> Result<Self, Vec<Wrong>> {
        let compiled =
            JsonPath::parse(path).map_err(|e| whole(format!("`{path}` is not a JSONPath: {e}")))?;
        let wanted = match wanted {
            Value::String(text) => Wanted::new(text, rows, captured, dynamic)?,
            other => Wanted::Always(other.clone()),
        };
        Ok(Self {
            place: Found::Json(compiled),
            text: path.to_owned(),
            wanted,
        })
    }

    /// A header must equal a template.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub(super) fn header(
        name: &str,
        wanted: &str,
        rows: Option<&Fields>,
        captured: &BTreeSet<&str>,
        dynamic: &mut Dynamic,
    ) -> Result<Self, Vec<Wrong>> {
        Ok(Self {
            place: Found::Header(name.to_ascii_lowercase()),
            text: format!("the header {name}"),
            wanted: Wanted::new(wanted, rows, captured, dynamic)?,
        })
    }

    fn is_json(&self) -> bool {
        matches!(self.place, Found::Json(_))
    }

    /// `Ok` when exactly one value is found and equals the wanted one; else what is wrong.
    fn holds(&self, got: &Got<'_>) -> Result<(), String> {
        let wanted = match &self.wanted {
            Wanted::Always(value) => value,
            Wanted::ByRow(values) => got
                .row
                .and_then(|row| values.get(row))
                .ok_or_else(|| format!("{}: no row to compare with", self.text))?,
            Wanted::ByRequest(place) => got
                .wanted
                .get(*place)
                .ok_or_else(|| format!("{}: nothing to compare with", self.text))?,
        };
        match &self.place {
            Found::Json(path) => {
                let found = path.query(got.json()?).all();
                match found.as_slice() {
                    [value] if same(value, wanted) => Ok(()),
                    [value] => Err(format!("{} is {value}, not {wanted}", self.text)),
                    [] => Err(format!("{} is not in the answer", self.text)),
                    many => Err(format!("{} is there {} times", self.text, many.len())),
                }
            }
            Found::Header(name) => {
                let wanted = match wanted {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                match (got.answer.header)(name) {
                    Some(value) if value == wanted => Ok(()),
                    Some(value) => Err(format!("{} is `{value}`, not `{wanted}`", self.text)),
                    None => Err(format!("{} is not in the answer", self.text)),
                }
            }
        }
    }
}

impl Wanted {
    fn new(
        text: &str,
        rows: Option<&Fields>,
        captured: &BTreeSet<&str>,
        dynamic: &mut Dynamic,
    ) -> Result<Self, Vec<Wrong>> {
        let filling = Filling::new(text, captured).map_err(whole)?;
        if let Some(plain) = filling.plain() {
            return Ok(Self::Always(plain.into()));
        }
        match rows {
            Some(rows) if filling.only_fields() => by_row(&filling, rows).map(Self::ByRow),
            _ => {
                dynamic.push(filling);
                Ok(Self::ByRequest(dynamic.len() - 1))
            }
        }
    }
}

fn whole(message: String) -> Vec<Wrong> {
    vec![(None, message)]
}

fn by_row(filling: &Filling, rows: &Fields) -> Result<Vec<Arc<Value>>, Vec<Wrong>> {
    let mut values: Vec<Arc<Value>> = Vec::with_capacity(rows.len());
    let mut wrong = Vec::new();
    let captured = Captured::new();
    let own = OwnValues {
        id: 0,
        nth: 0,
        vu: 0,
        uuid: [0; 2],
        random: 0,
    };
    for (index, row) in rows.iter().enumerate() {
        let filled = filling.value(&Values {
            row: Some(row),
            captured: &captured,
            own,
        });
        match filled {
            Ok(value) => {
                let known = values.iter().rev().take(16);
                let known = known.into_iter().find(|known| ***known == value).cloned();
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

/// An answer with what it is compared with.
pub(super) struct Got<'a> {
    pub(super) answer: &'a Answer<'a>,
    /// The body read as JSON, where anything asks for it.
    pub(super) json: Option<Result<Value, String>>,
    pub(super) row: Option<usize>,
    pub(super) wanted: &'a [Value],
}

impl Got<'_> {
    fn json(&self) -> Result<&Value, String> {
        match &self.json {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(format!("the answer is not JSON: {error}")),
            None => Err("the answer was not read as JSON".into()),
        }
    }
}

/// All that is expected of an answer beside its status, compiled.
#[derive(Debug)]
pub(super) struct Expectations {
    checks: Vec<Check>,
    score: Vec<Check>,
    headers: Vec<(String, Regex)>,
    regex: Option<Regex>,
    size: Option<Size>,
    captures: Vec<Capturing>,
}

impl Expectations {
    pub(super) fn new(
        checks: Vec<Check>,
        score: Vec<Check>,
        expect: &Expect,
        captures: Vec<Capturing>,
    ) -> Result<Self, String> {
        let mut headers = Vec::new();
        for (name, value) in &expect.headers {
            if let HeaderValue::Matches { regex } = value {
                headers.push((name.to_ascii_lowercase(), compile(regex)?));
            }
        }
        Ok(Self {
            checks,
            score,
            headers,
            regex: expect.regex.as_deref().map(compile).transpose()?,
            size: expect.size,
            captures,
        })
    }

    /// Whether anything asks for the body as JSON.
    pub(super) fn reads_json(&self) -> bool {
        let json = |checks: &[Check]| checks.iter().any(Check::is_json);
        json(&self.checks) || json(&self.score) || self.captures.iter().any(|c| c.json.is_some())
    }

    /// Whether the answer agrees with the truth; `None` when that is not asked.
    pub(super) fn correct(&self, got: &Got<'_>) -> Option<bool> {
        let mut score = self.score.iter();
        (!self.score.is_empty()).then(|| score.all(|check| check.holds(got).is_ok()))
    }

    /// Everything that is expected, the cheap first; the first thing wrong.
    pub(super) fn hold(&self, got: &Got<'_>) -> Result<(), String> {
        let bytes = got.answer.body.len() as u64;
        if let Some(Size { at_least, at_most }) = self.size {
            if at_least.is_some_and(|least| bytes < least) {
                return Err(format!(
                    "the body has {bytes} bytes, fewer than {}",
                    at_least.unwrap_or(0)
                ));
            }
            if at_most.is_some_and(|most| bytes > most) {
                return Err(format!(
                    "the body has {bytes} bytes, more than {}",
                    at_most.unwrap_or(0)
                ));
            }
        }
        for (name, regex) in &self.headers {
            match (got.answer.header)(name) {
                Some(value) if regex.is_match(value.as_bytes()) => {}
                Some(value) => {
                    return Err(format!(
                        "the header {name} is `{value}`, which {regex} does not match"
                    ));
                }
                None => return Err(format!("the header {name} is not in the answer")),
            }
        }
        if let Some(regex) = &self.regex
            && !regex.is_match(got.answer.body)
        {
            return Err(format!("{regex} does not match the body"));
        }
        self.checks.iter().try_for_each(|check| check.holds(got))
    }

    /// The values that later steps use.
    pub(super) fn capture(&self, got: &Got<'_>) -> Result<Vec<(String, Value)>, String> {
        self.captures
            .iter()
            .map(|capturing| Ok((capturing.name.clone(), capturing.value(got)?)))
            .collect()
    }
}

/// Where a value is found.
#[derive(Debug)]
pub(super) struct Capturing {
    name: String,
    json: Option<JsonPath>,
    header: Option<String>,
    regex: Option<Regex>,
}

impl Capturing {
    pub(super) fn new(name: &str, capture: &Capture) -> Result<Self, String> {
        let path = capture.json.as_deref().map(JsonPath::parse).transpose();
        Ok(Self {
            name: name.to_owned(),
            json: path.map_err(|error| error.to_string())?,
            header: capture
                .header
                .as_ref()
                .map(|name| name.to_ascii_lowercase()),
            regex: capture.regex.as_deref().map(compile).transpose()?,
        })
    }

    fn value(&self, got: &Got<'_>) -> Result<Value, String> {
        let lacks = |what: &str| format!("no value for `{}`: {what}", self.name);
        let value = match (&self.json, &self.header) {
            (Some(path), _) => {
                let found = path.query(got.json().map_err(|error| lacks(&error))?).all();
                match found.as_slice() {
                    [value] => Some((*value).clone()),
                    [] => return Err(lacks("its path finds nothing")),
                    many => return Err(lacks(&format!("its path finds {} values", many.len()))),
                }
            }
            (None, Some(name)) => {
                let value = (got.answer.header)(name);
                Some(
                    value
                        .ok_or_else(|| lacks(&format!("there is no header {name}")))?
                        .into(),
                )
            }
            (None, None) => None,
        };
        let Some(regex) = &self.regex else {
            return value.ok_or_else(|| lacks("it says not where"));
        };
        let text = match &value {
            Some(Value::String(text)) => text.as_bytes().to_vec(),
            Some(other) => other.to_string().into_bytes(),
            None => got.answer.body.to_vec(),
        };
        let found = regex
            .captures(&text)
            .ok_or_else(|| lacks("its expression matches nothing"))?;
        let part = found.get(1).or_else(|| found.get(0));
        let part = part.map_or(&[][..], |part| part.as_bytes());
        Ok(String::from_utf8_lossy(part).into_owned().into())
    }
}

fn compile(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("`{text}` is not a regular expression: {error}"))
}
