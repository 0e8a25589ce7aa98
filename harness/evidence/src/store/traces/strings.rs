//! Every string once.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::chunks::grow;

/// Index of a string in [`Strings`]. Equal ids mean equal strings and the other way round.
pub(crate) type StrId = u32;

/// Strings by id and ids by string. Id 0 is the empty string.
pub(crate) struct Strings {
    all: Vec<Box<str>>,
    /// Ids alone: the text is looked up where it lies.
    index: HashTable<StrId>,
    hasher: DefaultHashBuilder,
    text_bytes: usize,
}

impl Default for Strings {
    fn default() -> Self {
        let mut new = Self {
            all: Vec::new(),
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            text_bytes: 0,
        };
        new.intern("");
        new
    }
}

impl Strings {
    pub(crate) fn intern(&mut self, text: &str) -> StrId {
        if text.is_empty() && !self.all.is_empty() {
            return 0;
        }
        let Self {
            all, index, hasher, ..
        } = self;
        let hash = hasher.hash_one(text);
        if let Some(id) = index.find(hash, |id| &*all[*id as usize] == text) {
            return *id;
        }
        // u32 ids end after four billion strings; the memory limit comes long before.
        let id = all.len() as StrId;
        grow(all, 1);
        all.push(text.into());
        index.insert_unique(hash, id, |id| hasher.hash_one(&*all[*id as usize]));
        self.text_bytes += allocation(text.len());
        id
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn get(&self, id: StrId) -> &str {
        &self.all[id as usize]
    }

    /// The id of a string, when any stored span has it.
    pub(crate) fn find(&self, text: &str) -> Option<StrId> {
        let hash = self.hasher.hash_one(text);
        let found = self.index.find(hash, |id| self.get(*id) == text);
        found.copied()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.text_bytes + self.all.capacity() * size_of::<Box<str>>() + self.index.allocation_size()
    }
}

/// Bytes that a usual allocator takes for a request of `len`: a word of its own, in steps of 16, 32 at
/// least; nothing for nothing.
pub(super) fn allocation(len: usize) -> usize {
    if len == 0 {
        return 0;
    }
    (len + 8).next_multiple_of(16).max(32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_share_an_id_across_growth() {
        let mut strings = Strings::default();
        let ids: Vec<StrId> = (0..5000).map(|n| strings.intern(&n.to_string())).collect();
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(strings.intern(&n.to_string()), *id);
            assert_eq!(strings.get(*id), n.to_string());
            assert_eq!(strings.find(&n.to_string()), Some(*id));
        }
        assert_eq!((strings.intern(""), strings.len()), (0, 5001));
        assert_eq!(strings.find("absent"), None);
    }
}
