//! Templates with their names looked up once, and filled for each request.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::scenario::template::{Own, Part, Template};

/// Values captured by earlier steps of a flow, by name.
pub type Captured = BTreeMap<String, Value>;

/// A template that knows where each of its names is found.
#[derive(Debug, Clone)]
pub(super) struct Filling(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Field(String),
    Captured(String),
    Own(Own),
}

/// What a request has of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnValues {
    pub(super) id: u64,
    pub(super) nth: u64,
    pub(super) vu: u32,
    /// 128 and 32 random bits.
    pub(super) uuid: [u64; 2],
    pub(super) random: u32,
}

/// Where names are found when a template is filled.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub(super) row: Option<&'a Map<String, Value>>,
    pub(super) captured: &'a Captured,
    pub(super) own: OwnValues,
}

/// How values are written into a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// As they are.
    None,
    /// Percent-encoded, all but RFC 3986's unreserved characters.
    Percent,
}

impl Filling {
    /// Looks names up: those captured somewhere in the scenario, all others fields of rows. A name
    /// that is both is found where the flow captures it, so it may not be a field as well.
    pub(super) fn new(text: &str, captured: &BTreeSet<&str>) -> Result<Self, String> {
        let pieces = Template::parse(text)?.0.into_iter().map(|part| match part {
            Part::Text(text) => Piece::Text(text),
            Part::Name(name) if captured.contains(name.as_str()) => Piece::Captured(name),
            Part::Name(name) => Piece::Field(name),
            Part::Own(own) => Piece::Own(own),
        });
        Ok(Self(pieces.collect()))
    }

    /// The text, when it is the same for every request.
    pub(super) fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it follows from the row alone.
    pub(super) fn only_fields(&self) -> bool {
        let fixed = |piece: &Piece| matches!(piece, Piece::Text(_) | Piece::Field(_));
        self.0.iter().all(fixed)
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// As a value: a template that is one name alone keeps the value's type; else a text.
    pub(super) fn value(&self, values: &Values<'_>) -> Result<Value, String> {
        match self.0.as_slice() {
            [Piece::Field(name)] => values.field(name).cloned(),
            [Piece::Captured(name)] => values.captured(name).cloned(),
            _ => self.text(values, Escape::None).map(Value::String),
        }
    }

    /// As a text.
    pub(super) fn text(&self, values: &Values<'_>, escape: Escape) -> Result<String, String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Field(name) => push(&mut text, values.field(name)?, escape),
                Piece::Captured(name) => push(&mut text, values.captured(name)?, escape),
                Piece::Own(own) => text.push_str(&values.own.text(*own)),
            }
        }
        Ok(text)
    }
}

impl Values<'_> {
    fn field(&self, name: &str) -> Result<&Value, String> {
        let field = self.row.and_then(|row| row.get(name));
        field.ok_or_else(|| format!("the row has no field `{name}`"))
    }

    fn captured(&self, name: &str) -> Result<&Value, String> {
        let value = self.captured.get(name);
        value.ok_or_else(|| format!("`{name}` was not captured"))
    }
}

impl OwnValues {
    fn text(&self, own: Own) -> String {
        match own {
            Own::Id => self.id.to_string(),
            Own::Nth => self.nth.to_string(),
            Own::Vu => self.vu.to_string(),
            Own::Random => self.random.to_string(),
            Own::Uuid => {
                // Version 4, variant 1 of RFC 9562.
                let high = (self.uuid[0] & !0xf000) | 0x4000;
                let low = (self.uuid[1] & (u64::MAX >> 2)) | (1 << 63);
                format!(
                    "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
                    high >> 32,
                    (high >> 16) & 0xffff,
                    high & 0xffff,
                    low >> 48,
                    low & 0xffff_ffff_ffff
                )
            }
        }
    }
}

fn push(text: &mut String, value: &Value, escape: Escape) {
    let written;
    let plain = match value {
        Value::String(plain) => plain,
        other => {
            written = other.to_string();
            &written
        }
    };
    match escape {
        Escape::None => text.push_str(plain),
        Escape::Percent => percent(text, plain),
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(super) fn percent(text: &mut String, plain: &str) {
    for byte in plain.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// JSON whose texts are templates.
#[derive(Debug, Clone)]
pub(super) enum JsonFilling {
    Fixed(Value),
    Text(Filling),
    Array(Vec<JsonFilling>),
    Object(Vec<(String, JsonFilling)>),
}

impl JsonFilling {
    pub(super) fn new(value: &Value, captured: &BTreeSet<&str>) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::Text(Filling::new(text, captured)?),
            Value::Array(items) => Self::Array(
                items
                    .iter()
                    .map(|item| Self::new(item, captured))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(entries) => Self::Object(
                entries
                    .iter()
                    .map(|(name, item)| Ok((name.clone(), Self::new(item, captured)?)))
                    .collect::<Result<_, String>>()?,
            ),
            other => Self::Fixed(other.clone()),
        })
    }

    pub(super) fn fields(&self, all: &mut BTreeSet<String>) {
        match self {
            Self::Fixed(_) => {}
            Self::Text(text) => all.extend(text.fields().map(str::to_owned)),
            Self::Array(items) => items.iter().for_each(|item| item.fields(all)),
            Self::Object(entries) => entries.iter().for_each(|(_, item)| item.fields(all)),
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        match self {
            Self::Fixed(_) => true,
            Self::Text(text) => text.plain().is_some(),
            Self::Array(items) => items.iter().all(Self::is_plain),
            Self::Object(entries) => entries.iter().all(|(_, item)| item.is_plain()),
        }
    }

    pub(super) fn value(&self, values: &Values<'_>) -> Result<Value, String> {
        Ok(match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(text) => text.value(values)?,
            Self::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| item.value(values))
                    .collect::<Result<_, _>>()?,
            ),
            Self::Object(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(name, item)| Ok((name.clone(), item.value(values)?)))
                    .collect::<Result<_, String>>()?,
            ),
        })
    }
}
