//! The labels of one line while it goes through a pipeline.

use crate::store::logs::{Labels, sanitize_name};
use std::sync::Arc;

/// Where a label of a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Category {
    /// The stream.
    Stream,
    /// What came with the line.
    Metadata,
    /// The pipeline.
    Parsed,
}

pub(crate) const ERROR: &str = "__error__";
pub(crate) const ERROR_DETAILS: &str = "__error_details__";

/// Stream labels and metadata, borrowed, with the pipeline's changes on top.
pub(crate) struct LabelView<'a> {
    stream: &'a Labels,
    metadata: &'a Labels,
    /// The latest word on a name: a value, or that it is gone.
    changes: Vec<(String, Option<String>)>,
}

impl<'a> LabelView<'a> {
    pub(crate) fn new(stream: &'a Labels, metadata: &'a Labels) -> Self {
        Self {
            stream,
            metadata,
            changes: Vec::new(),
        }
    }

    /// What the line came with, while the pipeline has changed nothing of it.
    pub(crate) fn untouched(&self) -> Option<(&'a Labels, &'a Labels)> {
        self.changes
            .is_empty()
            .then_some((self.stream, self.metadata))
    }

    /// The value of a label now.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        match self.changes.iter().find(|(n, _)| n == name) {
            Some((_, value)) => value.as_deref(),
            None => self.original(name),
        }
    }

    fn original(&self, name: &str) -> Option<&str> {
        self.stream.get(name).or_else(|| self.metadata.get(name))
    }

    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.change(name, Some(value).filter(|v| !v.is_empty()));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if self.get(name).is_some() {
            self.change(name, None);
        }
    }

    fn change(&mut self, name: &str, value: Option<String>) {
        match self.changes.iter_mut().find(|(n, _)| n == name) {
            Some((_, slot)) => *slot = value,
            None => self.changes.push((name.to_owned(), value)),
        }
    }

    /// Sets what a parser found. A name that the stream or the metadata has already gets the
    /// suffix `_extracted`.
    pub(crate) fn extract(&mut self, name: &str, value: &str) {
        if name.is_empty() {
            return;
        }
        if self.original(name).is_some() {
            self.set(&format!("{name}_extracted"), value.to_owned());
        } else {
            self.set(name, value.to_owned());
        }
    }

    /// As [`Self::extract`], for a name that may hold characters no label may.
    pub(crate) fn extract_raw(&mut self, name: &str, value: &str) {
        self.extract(&sanitize_name(name), value);
    }

    /// Marks the line as one that could not be processed.
    pub(crate) fn fail(&mut self, kind: &str, details: &str) {
        self.set(ERROR, kind.to_owned());
        self.set(ERROR_DETAILS, details.to_owned());
    }

    /// The error of the line, if any.
    pub(crate) fn error(&self) -> Option<&str> {
        self.get(ERROR)
    }

    /// Removes all labels that `wanted` does not want. Errors stay: they may not be lost by
    /// accident.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&str, &str) -> bool) {
        let unwanted: Vec<String> = self
            .all()
            .into_iter()
            .filter(|(name, value, _)| {
                *name != ERROR && *name != ERROR_DETAILS && !wanted(name, value)
            })
            .map(|(name, _, _)| name.to_owned())
            .collect();
        for name in unwanted {
            self.change(&name, None);
        }
    }

    /// All labels with where they come from, unsorted.
    pub(crate) fn all(&self) -> Vec<(&str, &str, Category)> {
        let untouched = |name: &str| !self.changes.iter().any(|(n, _)| n == name);
        let stream = self.stream.iter().map(|(n, v)| (n, v, Category::Stream));
        // A name that the stream has too is the stream's.
        let metadata = self
            .metadata
            .iter()
            .filter(|(n, _)| self.stream.get(n).is_none())
            .map(|(n, v)| (n, v, Category::Metadata));
        let changed = self.changes.iter().filter_map(|(name, value)| {
            let value = value.as_deref()?;
            Some((name.as_str(), value, Category::Parsed))
        });
        stream
            .chain(metadata)
            .filter(|(name, _, _)| untouched(name))
            .chain(changed)
            .collect()
    }

    /// All labels as one set, but for one name.
    pub(crate) fn labels_without(&self, left_out: Option<&str>) -> Labels {
        let untouched =
            |name: &str| Some(name) != left_out && !self.changes.iter().any(|(n, _)| n == name);
        let shared = |from: &Labels| -> Vec<(Arc<str>, Arc<str>)> {
            from.pairs()
                .iter()
                .filter(|(name, _)| untouched(name))
                .cloned()
                .collect()
        };
        let mut pairs = shared(self.metadata);
        // Later pairs win, so the stream's come after the metadata's.
        pairs.extend(shared(self.stream));
        pairs.extend(self.changes.iter().filter_map(|(name, value)| {
            let value = value
                .as_deref()
                .filter(|_| Some(name.as_str()) != left_out)?;
            Some((Arc::from(name.as_str()), Arc::from(value)))
        }));
        Labels::from_pairs(pairs)
    }

    /// All labels as one set.
    pub(crate) fn labels(&self) -> Labels {
        self.labels_without(None)
    }
}
