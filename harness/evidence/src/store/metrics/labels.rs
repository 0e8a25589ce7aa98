//! Label sets: sorted, without empty values, cheap to clone.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The label that carries the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// Why a set of labels was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// One name was given twice; which value was meant cannot be known.
    #[error("label name {0:?} is given twice in one label set")]
    Duplicate(String),
    /// A label without a name.
    #[error("label with the value {0:?} has an empty name")]
    EmptyName(String),
}

/// A set of labels, sorted by name. An empty value means that the label is absent, as in the
/// Prometheus data model, so none is kept. Clones share the storage.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Default for Labels {
    fn default() -> Self {
        Labels(Arc::from(Vec::new()))
    }
}

impl Labels {
    /// Builds a set from pairs in any order; pairs with an empty value are left out.
    ///
    /// # Errors
    /// When a name is empty or given twice.
    pub fn new<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut v: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for (name, value) in pairs {
            let (name, value) = (name.as_ref(), value.as_ref());
            if name.is_empty() {
                return Err(LabelError::EmptyName(value.to_string()));
            }
            v.push((Arc::from(name), Arc::from(value)));
        }
        v.sort_by(|a, b| a.0.cmp(&b.0));
        if let Some(w) = v.windows(2).find(|w| w[0].0 == w[1].0) {
            return Err(LabelError::Duplicate(w[0].0.to_string()));
        }
        v.retain(|(_, value)| !value.is_empty());
        Ok(Labels(Arc::from(v)))
    }

    /// From pairs that are sorted, distinct and without empty values already.
    pub(crate) fn from_sorted(v: Vec<(Arc<str>, Arc<str>)>) -> Self {
        debug_assert!(v.windows(2).all(|w| w[0].0 < w[1].0));
        Labels(Arc::from(v))
    }

    /// The value of a label, `None` when it is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_shared(name).map(|v| &**v)
    }

    pub(crate) fn get_shared(&self, name: &str) -> Option<&Arc<str>> {
        self.0
            .binary_search_by(|(n, _)| (**n).cmp(name))
            .ok()
            .map(|i| &self.0[i].1)
    }

    /// The metric's name, empty when there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// All pairs in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (&**n, &**v))
    }

    pub(crate) fn pairs(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.0
    }

    /// Where the storage lies: the same for clones of one set, and for no other set that is alive.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>() as usize
    }

    /// How many labels there are, the metric's name among them.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set without the metric's name.
    #[must_use]
    pub fn without_name(&self) -> Self {
        if self.get(METRIC_NAME).is_none() {
            return self.clone();
        }
        self.filtered(|n| n != METRIC_NAME)
    }

    /// The set reduced to the labels whose name satisfies `keep`.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        Labels(self.0.iter().filter(|(n, _)| keep(n)).cloned().collect())
    }

    /// The set with one label set to `value`; an empty value removes it.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut v: Vec<_> = self.0.to_vec();
        match v.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(i) if value.is_empty() => {
                v.remove(i);
            }
            Ok(i) => v[i].1 = Arc::from(value),
            Err(_) if value.is_empty() => {}
            Err(i) => v.insert(i, (Arc::from(name), Arc::from(value))),
        }
        Labels(Arc::from(v))
    }
}

impl Borrow<[(Arc<str>, Arc<str>)]> for Labels {
    fn borrow(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.0
    }
}

/// As Prometheus prints a label set in its errors: `{__name__="up", job="x"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (n, v)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_plain_label_name(n) {
                write!(f, "{n}={v:?}")?;
            } else {
                write!(f, "{n:?}={v:?}")?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whether a label name may be written without quotes: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn is_plain_label_name(s: &str) -> bool {
    let mut bytes = s.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorts_drops_empty_values_and_refuses_duplicates() {
        let l = Labels::new([("b", "2"), ("__name__", "up"), ("c", "")]).expect("valid");
        assert_eq!(l.to_string(), r#"{__name__="up", b="2"}"#);
        assert_eq!(l.metric_name(), "up");
        assert_eq!(l.get("c"), None);
        assert_eq!(
            Labels::new([("a", "1"), ("a", "2")]),
            Err(LabelError::Duplicate("a".into()))
        );
        assert_eq!(
            Labels::new([("", "x")]),
            Err(LabelError::EmptyName("x".into()))
        );
    }

    #[test]
    fn with_sets_replaces_and_removes() {
        let l = Labels::new([("a", "1")]).expect("valid");
        assert_eq!(l.with("b", "2").to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(l.with("a", "9").to_string(), r#"{a="9"}"#);
        assert!(l.with("a", "").is_empty());
        assert_eq!(l.with("zz", ""), l);
    }
}
