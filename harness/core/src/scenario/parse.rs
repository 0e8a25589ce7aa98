//! Text → [`Scenario`], with the line, column and key of whatever is wrong.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};

use super::Scenario;
use super::check::Flaw;
use crate::problem::{Problem, Problems};

impl Scenario {
    /// Reads and checks a scenario. `file` is how the user named it. `${NAME}` may still stand in
    /// text values: see [`Scenario::resolve`].
    ///
    /// # Errors
    /// The first syntax error, or everything that makes the scenario impossible, each with line,
    /// column, key and what would be right.
    pub fn parse(text: &str, file: &str) -> Result<Self, Problems> {
        let places = Places::of(text);
        let scenario: Self = serde_saphyr::from_str(text)
            .map_err(|error| Problems(vec![places.problem_of(&error, file)]))?;
        let flaws = scenario.flaws();
        if flaws.is_empty() {
            return Ok(scenario);
        }
        Err(Problems(
            flaws
                .into_iter()
                .map(|flaw| places.problem(flaw, file))
                .collect(),
        ))
    }

    /// Checks a scenario that was not read from text (or was changed since): the checks of
    /// [`Scenario::parse`] without line and column.
    ///
    /// # Errors
    /// Everything that makes the scenario impossible.
    pub fn validate(&self, file: &str) -> Result<(), Problems> {
        let flaws = self.flaws();
        if flaws.is_empty() {
            return Ok(());
        }
        let nowhere = Places::default();
        Err(Problems(
            flaws
                .into_iter()
                .map(|flaw| nowhere.problem(flaw, file))
                .collect(),
        ))
    }

    /// The JSON Schema of scenario files, for editors. It knows the grammar; what
    /// [`Scenario::validate`] adds (names that must exist, parts not built yet) it does not.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        let mut schema = schemars::schema_for!(Self);
        schema.insert("title".into(), "harness scenario (harness/v1)".into());
        schema.to_value()
    }
}

/// Where each key of a document stands.
#[derive(Default)]
struct Places(Vec<Place>);

struct Place {
    key: String,
    /// Where the key is written (for an element: where it begins).
    at: (usize, usize),
    /// Where its value begins.
    value_at: (usize, usize),
}

impl Places {
    /// Places of a document; none when it is no YAML, as the typed reading will then say why.
    fn of(text: &str) -> Self {
        let mut places = Self::default();
        if let Ok(root) = serde_saphyr::from_str::<Spanned<Node>>(text) {
            places.collect("", &root.value);
        }
        places
    }

    fn collect(&mut self, prefix: &str, node: &Node) {
        match node {
            Node::Scalar => {}
            Node::Map(entries) => {
                for (name, value) in entries {
                    let dot = if prefix.is_empty() { "" } else { "." };
                    let key = format!("{prefix}{dot}{}", name.value);
                    self.add(key, place(name), place(value), &value.value);
                }
            }
            Node::Seq(items) => {
                for (index, value) in items.iter().enumerate() {
                    self.add(
                        format!("{prefix}[{index}]"),
                        place(value),
                        place(value),
                        &value.value,
                    );
                }
            }
        }
    }

    fn add(&mut self, key: String, at: (usize, usize), value_at: (usize, usize), node: &Node) {
        self.0.push(Place {
            key: key.clone(),
            at,
            value_at,
        });
        self.collect(&key, node);
    }

    /// Where `key` stands, or its nearest parent that is written.
    fn find(&self, key: &str) -> Option<(usize, usize)> {
        let mut key = key;
        loop {
            if let Some(place) = self.0.iter().find(|place| place.key == key) {
                return Some(place.at);
            }
            key = &key[..key.rfind(['.', '['])?];
        }
    }

    /// The key that a position belongs to: the one written or beginning there (the innermost),
    /// else the last one before it.
    fn key_at(&self, at: (usize, usize)) -> String {
        let exact = self.0.iter().rev().find(|p| p.at == at || p.value_at == at);
        let before = || self.0.iter().rev().find(|p| p.at <= at);
        exact
            .or_else(before)
            .map(|p| p.key.clone())
            .unwrap_or_default()
    }

    fn problem(&self, flaw: Flaw, file: &str) -> Problem {
        Problem {
            file: file.to_owned(),
            at: self.find(&flaw.key),
            key: flaw.key,
            message: flaw.message,
            hint: flaw.hint,
        }
    }

    fn problem_of(&self, error: &Error, file: &str) -> Problem {
        let error = error.without_snippet();
        let at = error
            .location()
            .map(|l| (to_usize(l.line()), to_usize(l.column())))
            .filter(|(line, _)| *line > 0);
        let key = at.map(|at| self.key_at(at)).unwrap_or_default();
        let (message, hint) = explain(error);
        Problem {
            file: file.to_owned(),
            at,
            key,
            message,
            hint,
        }
    }
}

/// Message and hint of a syntax or type error.
fn explain(error: &Error) -> (String, Option<String>) {
    match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => (
            format!("unknown key `{field}`"),
            Some(suggest(field, expected)),
        ),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => (
            format!("unknown value `{variant}`"),
            Some(suggest(variant, expected)),
        ),
        Error::SerdeMissingField { field, .. } => (
            format!("the key `{field}` is missing"),
            Some(format!("add `{field}:` here")),
        ),
        Error::DuplicateMappingKey { key: Some(key), .. } => (
            format!("the key `{key}` is given twice"),
            Some("keep one of the two".into()),
        ),
        Error::Message { msg, .. } if msg.contains("${") => (
            msg.clone(),
            Some(
                "variables stand in text values only, not in numbers, durations, rates or shares"
                    .into(),
            ),
        ),
        Error::Message { msg, .. } => (msg.clone(), None),
        other => {
            let text = other.to_string();
            let first = text.lines().next().unwrap_or_default();
            (first.to_owned(), None)
        }
    }
}

/// "did you mean", or all that is allowed.
fn suggest(given: &str, expected: &[&str]) -> String {
    let nearest = expected
        .iter()
        .map(|name| (distance(&given.to_lowercase(), &name.to_lowercase()), *name))
        .min()
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3));
    match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None if expected.is_empty() => "no key is allowed here".into(),
        None => format!("one of {}", expected.join(", ")),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn place<T>(spanned: &Spanned<T>) -> (usize, usize) {
    let location = spanned.referenced;
    (to_usize(location.line()), to_usize(location.column()))
}

/// A document with nothing but its shape: what [`Places`] is made from.
enum Node {
    Scalar,
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
    Seq(Vec<Spanned<Node>>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Shape;

        impl<'de> Visitor<'de> for Shape {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Map(entries))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::Seq(items))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_str<E>(self, _: &str) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_bytes<E>(self, _: &[u8]) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Scalar)
            }

            fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Node, D::Error> {
                Node::deserialize(inner)
            }
        }

        deserializer.deserialize_any(Shape)
    }
}
