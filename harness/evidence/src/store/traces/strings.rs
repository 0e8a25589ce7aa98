//! Every string once.

use std::collections::HashMap;
use std::sync::Arc;

/// Index of a string in [`Strings`]. Equal ids mean equal strings and the other way round.
pub(crate) type StrId = u32;

/// Strings by id and ids by string. Id 0 is the empty string.
pub(crate) struct Strings {
    all: Vec<Arc<str>>,
    index: HashMap<Arc<str>, StrId>,
    bytes: usize,
}

impl Default for Strings {
    fn default() -> Self {
        let mut new = Self {
            all: Vec::new(),
            index: HashMap::new(),
            bytes: 0,
        };
        new.intern("");
        new
    }
}

impl Strings {
    /// Beside its text a string costs two pointers of 16 bytes, the counts of the `Arc`, the id and
    /// its share of the map.
    const OVERHEAD: usize = 16 * 2 + 16 + 8;

    pub(crate) fn intern(&mut self, text: &str) -> StrId {
        if let Some(id) = self.index.get(text) {
            return *id;
        }
        // u32 ids end after four billion strings; the memory limit comes long before.
        let id = self.all.len() as StrId;
        let text: Arc<str> = text.into();
        self.bytes += text.len() + Self::OVERHEAD;
        self.all.push(text.clone());
        self.index.insert(text, id);
        id
    }

    pub(crate) fn get(&self, id: StrId) -> &str {
        &self.all[id as usize]
    }

    /// The id of a string, when any stored span has it.
    pub(crate) fn find(&self, text: &str) -> Option<StrId> {
        self.index.get(text).copied()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
