//! `json` and `unpack`.
//!
//! A scanner rather than a validating parser: what stands before a fault is extracted and the fault
//! is marked, which is what Loki does and what makes a cut-off line useful still.

use super::LabelView;
use crate::store::logs::sanitize_name;
use std::borrow::Cow;

const ERROR_KIND: &str = "JSONParserErr";
const OPEN_OBJECT: &str = "Value looks like object, but can't find closing '}' symbol";
const OPEN_ARRAY: &str = "Value is array, but can't find closing ']' symbol";
const OPEN_STRING: &str = "Value is string, but can't find closing '\"' symbol";
const UNKNOWN_VALUE: &str = "Unknown value type";
const MALFORMED: &str = "Malformed JSON error";
/// Objects deeper than this are left as they are.
const MOST_NESTING: usize = 64;

/// One step of a path such as `a.b[0]["c d"]`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum PathPart {
    Key(String),
    Index(usize),
}

/// A JSON value as it stands in the line.
#[derive(Clone, Copy, Debug)]
enum Raw<'a> {
    /// Between the quotes, escapes and all.
    Text(&'a str),
    Object(&'a str),
    Array(&'a str),
    /// A number or `true` or `false`.
    Plain(&'a str),
    Null,
}

impl<'a> Raw<'a> {
    /// As the value of a label.
    fn label(self) -> Cow<'a, str> {
        match self {
            Self::Text(text) => unescape(text),
            Self::Object(text) | Self::Array(text) | Self::Plain(text) => Cow::Borrowed(text),
            Self::Null => Cow::Borrowed(""),
        }
    }
}

/// Sets a label for every leaf that is no array, the keys of nested objects joined by `_`.
pub(super) fn all(line: &str, view: &mut LabelView) {
    if let Err(error) = flatten(line, "", 0, view) {
        view.fail(ERROR_KIND, error);
    }
}

fn flatten(
    text: &str,
    prefix: &str,
    depth: usize,
    view: &mut LabelView,
) -> Result<(), &'static str> {
    each_member(text, |key, value| {
        let name = if prefix.is_empty() {
            sanitize_name(&key)
        } else {
            // Behind a prefix a leading digit is legal and gets no `_` of its own.
            sanitize_name(&format!("{prefix}_{key}"))
        };
        match value {
            Raw::Object(inner) if depth < MOST_NESTING => flatten(inner, &name, depth + 1, view),
            Raw::Array(_) | Raw::Null | Raw::Object(_) => Ok(()),
            scalar => {
                view.extract(&name, &scalar.label());
                Ok(())
            }
        }
    })
}

/// Sets the wanted labels; what the line lacks stays unset.
pub(super) fn some(line: &str, wanted: &[(String, Vec<PathPart>)], view: &mut LabelView) {
    for (label, path) in wanted {
        match find(line, path) {
            Ok(Some(value)) => view.extract(label, &value.label()),
            Ok(None) => {}
            Err(error) => return view.fail(ERROR_KIND, error),
        }
    }
}

fn find<'a>(text: &'a str, path: &[PathPart]) -> Result<Option<Raw<'a>>, &'static str> {
    let mut at = match value(text.trim_start())? {
        (value @ Raw::Object(_), _) => value,
        _ => return Err(OPEN_OBJECT),
    };
    for part in path {
        let inner = match (part, at) {
            (PathPart::Key(wanted), Raw::Object(object)) => {
                let mut found = None;
                each_member(object, |key, value| {
                    if found.is_none() && key == wanted.as_str() {
                        found = Some(value);
                    }
                    Ok(())
                })?;
                found
            }
            (PathPart::Index(wanted), Raw::Array(array)) => element(array, *wanted)?,
            _ => None,
        };
        match inner {
            Some(inner) => at = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn element(array: &str, wanted: usize) -> Result<Option<Raw<'_>>, &'static str> {
    let mut rest = array[1..].trim_start();
    let mut index = 0;
    while !rest.starts_with(']') {
        let (found, tail) = value(rest)?;
        if index == wanted {
            return Ok(Some(found));
        }
        index += 1;
        let tail = tail.trim_start();
        rest = tail.strip_prefix(',').unwrap_or(tail).trim_start();
        if rest.is_empty() {
            return Err(OPEN_ARRAY);
        }
    }
    Ok(None)
}

/// Sets a label for every text member, but `_entry` replaces the line.
pub(super) fn unpack(line: &mut Cow<'_, str>, view: &mut LabelView) {
    if !line.trim_start().starts_with('{') {
        return view.fail(ERROR_KIND, "expecting json object(6), but it is not");
    }
    let mut entry = None;
    let done = each_member(line, |key, value| {
        if let Raw::Text(_) = value {
            if key == "_entry" {
                entry = Some(value.label().into_owned());
            } else {
                view.extract_raw(&key, &value.label());
            }
        }
        Ok(())
    });
    if let Err(error) = done {
        view.fail(ERROR_KIND, error);
    }
    if let Some(entry) = entry {
        *line = Cow::Owned(entry);
    }
}

/// Calls `visit` for every member of the object that the text is.
fn each_member<'a>(
    text: &'a str,
    mut visit: impl FnMut(Cow<'a, str>, Raw<'a>) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let mut rest = text
        .trim_start()
        .strip_prefix('{')
        .ok_or(OPEN_OBJECT)?
        .trim_start();
    if rest.starts_with('}') {
        return Ok(());
    }
    loop {
        if rest.is_empty() {
            return Err(OPEN_OBJECT);
        }
        let inner = rest.strip_prefix('"').ok_or(MALFORMED)?;
        let end = string_end(inner).ok_or(OPEN_STRING)?;
        let key = unescape(&inner[..end]);
        let tail = inner[end + 1..].trim_start();
        let tail = tail.strip_prefix(':').ok_or(MALFORMED)?;
        let (found, tail) = value(tail.trim_start())?;
        visit(key, found)?;
        let tail = tail.trim_start();
        if tail.starts_with('}') {
            return Ok(());
        }
        rest = tail.strip_prefix(',').ok_or(OPEN_OBJECT)?.trim_start();
    }
}

/// The value at the start of the text, and what follows it.
fn value(text: &str) -> Result<(Raw<'_>, &str), &'static str> {
    match text.as_bytes().first() {
        None => Err(OPEN_OBJECT),
        Some(b'"') => {
            let end = string_end(&text[1..]).ok_or(OPEN_STRING)?;
            Ok((Raw::Text(&text[1..=end]), &text[end + 2..]))
        }
        Some(b'{') => {
            let end = block_end(text, b'{', b'}').ok_or(OPEN_OBJECT)?;
            Ok((Raw::Object(&text[..end]), &text[end..]))
        }
        Some(b'[') => {
            let end = block_end(text, b'[', b']').ok_or(OPEN_ARRAY)?;
            Ok((Raw::Array(&text[..end]), &text[end..]))
        }
        Some(_) => {
            let end = text
                .find(|c: char| matches!(c, ',' | '}' | ']') || c.is_ascii_whitespace())
                .unwrap_or(text.len());
            let (word, tail) = text.split_at(end);
            let raw = match word {
                "null" => Raw::Null,
                "true" | "false" => Raw::Plain(word),
                number if is_number(number) => Raw::Plain(number),
                _ => return Err(UNKNOWN_VALUE),
            };
            Ok((raw, tail))
        }
    }
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) && word.parse::<f64>().is_ok()
}

/// Where the closing quote is.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    })
}

/// Just behind the closing bracket; brackets in strings do not count.
fn block_end(text: &str, open: u8, close: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at += string_end(&text[at + 1..])? + 1,
            byte if byte == open => depth += 1,
            byte if byte == close => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    // The quotes were found by hand; the escapes are left to the JSON library.
    serde_json::from_str(&format!("\"{text}\"")).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Reads a path such as `a.b[0]["c d"]`.
pub(super) fn path(text: &str) -> Result<Vec<PathPart>, String> {
    let fault = |what: &str| format!("cannot parse expression [{text}]: syntax error: {what}");
    let mut parts = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(fault("unexpected $end"));
    }
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            if let Some(quoted) = inner.strip_prefix('"') {
                let end = string_end(quoted).ok_or_else(|| fault("literal not terminated"))?;
                parts.push(PathPart::Key(unescape(&quoted[..end]).into_owned()));
                rest = quoted[end + 1..]
                    .strip_prefix(']')
                    .ok_or_else(|| fault("expecting ]"))?;
            } else {
                let end = inner
                    .find(']')
                    .ok_or_else(|| fault("unexpected $end, expecting STRING or INDEX"))?;
                let index = inner[..end].trim().parse();
                parts.push(PathPart::Index(
                    index.map_err(|_| fault("expecting STRING or INDEX between [ and ]"))?,
                ));
                rest = &inner[end + 1..];
            }
            continue;
        }
        if !parts.is_empty() {
            rest = rest
                .strip_prefix('.')
                .ok_or_else(|| fault("expecting . or ["))?;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        if end == 0 {
            return Err(fault("expecting FIELD"));
        }
        parts.push(PathPart::Key(rest[..end].to_owned()));
        rest = &rest[end..];
    }
    Ok(parts)
}
