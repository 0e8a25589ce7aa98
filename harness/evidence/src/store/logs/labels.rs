//! Label sets: small, sorted, shared.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// A set of label names and values, sorted by name, without empty values (in Loki an empty value
/// is the same as no label). Clones share the pairs.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The set of these pairs. A later pair of the same name replaces an earlier one; pairs with
    /// an empty value are left out.
    pub fn from_pairs(mut pairs: Vec<(Arc<str>, Arc<str>)>) -> Self {
        // Stable, so that among equal names the last one given stays last.
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        let mut out: Vec<(Arc<str>, Arc<str>)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match out.last_mut() {
                Some(last) if last.0 == pair.0 => *last = pair,
                _ => out.push(pair),
            }
        }
        out.retain(|(_, value)| !value.is_empty());
        Self(out.into())
    }

    /// The value of a label; `None` when the set lacks it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .binary_search_by(|(key, _)| (**key).cmp(name))
            .ok()
            .map(|at| &*self.0[at].1)
    }

    /// Names and values in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The shared pairs themselves, in the order of names.
    pub fn pairs(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.0
    }

    /// Whether both share their pairs; sets that do not may be equal all the same.
    pub(crate) fn shares(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of names and values, for accounting.
    pub(crate) fn text_bytes(&self) -> usize {
        self.0.iter().map(|(n, v)| n.len() + v.len()).sum()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::from(Vec::new()))
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Labels {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        Self::from_pairs(
            pairs
                .into_iter()
                .map(|(n, v)| (Arc::from(n), Arc::from(v)))
                .collect(),
        )
    }
}

/// `{app="api", level="error"}`, as Loki writes a series in its error texts.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (name, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={}", quote(value))?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A string in double quotes with Go's escapes, as LogQL writes it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            // `\x` writes a byte, and beyond ASCII a byte alone is no character.
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A name as Loki stores it: every character outside `[a-zA-Z0-9_]` becomes `_`, and a leading
/// digit gets a `_` before it.
pub(crate) fn sanitize_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    out.extend(name.chars().map(|c| {
        if c.is_ascii_alphanumeric() || c == '_' {
            c
        } else {
            '_'
        }
    }));
    out
}

/// Whether a name is one that a stream's label may have.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && sanitize_name(name) == name
}

/// Shares equal strings and equal label sets among entries.
///
/// Bounded: trace ids never repeat, so a table that only grew would end up holding every one of
/// them; when full it is emptied, which costs sharing and nothing else.
#[derive(Default)]
pub(crate) struct Interner {
    strings: HashSet<Arc<str>>,
    sets: HashSet<Labels>,
}

impl Interner {
    const MOST: usize = 1 << 16;

    pub(crate) fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(text) {
            return known.clone();
        }
        if self.strings.len() >= Self::MOST {
            self.strings.clear();
        }
        let new: Arc<str> = Arc::from(text);
        self.strings.insert(new.clone());
        new
    }

    /// The shared copy of a set, and whether it is new (and so costs memory).
    pub(crate) fn set(&mut self, set: Labels) -> (Labels, bool) {
        if let Some(known) = self.sets.get(&set) {
            return (known.clone(), false);
        }
        if self.sets.len() >= Self::MOST {
            self.sets.clear();
        }
        self.sets.insert(set.clone());
        (set, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_sorted_the_last_of_a_name_wins_and_empty_is_absent() {
        let set: Labels = [("b", "1"), ("a", "x"), ("b", "2"), ("c", "")]
            .into_iter()
            .collect();
        assert_eq!(set.to_string(), r#"{a="x", b="2"}"#);
        assert_eq!(set.get("b"), Some("2"));
        assert_eq!(set.get("c"), None);
    }

    #[test]
    fn names_are_made_legal() {
        assert_eq!(sanitize_name("http.route"), "http_route");
        assert_eq!(sanitize_name("1st-é"), "_1st__");
    }

    #[test]
    fn the_interner_shares_and_stays_bounded() {
        let mut interner = Interner::default();
        let first = interner.text("x");
        assert!(Arc::ptr_eq(&first, &interner.text("x")));
        for n in 0..Interner::MOST + 10 {
            interner.text(&n.to_string());
        }
        assert!(interner.strings.len() <= Interner::MOST);
    }
}
