//! Work on label sets, done once and found again by the set's address.
//!
//! The same series come back at every step of a range query, and what is asked of their labels (the
//! set without a name, the group, the match) is the same every time. Comparing an address is some
//! fifty times cheaper than building or hashing a label set.

use crate::store::metrics::{Labels, METRIC_NAME};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Entries after which a memo starts anew: label sets made afresh at every step never come back.
const MOST_ENTRIES: usize = 1 << 18;

/// Hashes an address. Its lowest bits are always 0, so they are moved away.
#[derive(Default)]
pub(super) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // Fibonacci hashing; the table takes its bucket from the low bits and its tag from the high.
        self.0 = (self.0 ^ n)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
}

pub(super) type AddressMap<K, V> = HashMap<K, V, BuildHasherDefault<AddressHasher>>;

/// A value for each label set seen. The sets are kept, so that no address is used twice.
pub(super) struct Memo<T>(AddressMap<usize, (Labels, T)>);

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Memo(AddressMap::default())
    }
}

impl<T> Memo<T> {
    pub(super) fn get(&mut self, labels: &Labels, make: impl FnOnce(&Labels) -> T) -> &T {
        if self.0.len() >= MOST_ENTRIES {
            self.0.clear();
        }
        let entry = self.0.entry(labels.address());
        &entry.or_insert_with(|| (labels.clone(), make(labels))).1
    }
}

/// Numbers label sets: equal sets have equal numbers.
#[derive(Default)]
pub(super) struct Numbered {
    by_labels: HashMap<Labels, u32>,
    pub(super) all: Vec<Labels>,
}

impl Numbered {
    pub(super) fn number(&mut self, labels: Labels) -> u32 {
        let all = &mut self.all;
        *self.by_labels.entry(labels).or_insert_with_key(|labels| {
            all.push(labels.clone());
            // A query is bounded to far fewer label sets than that.
            u32::try_from(all.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

/// Numbers of the label sets that a projection makes.
#[derive(Default)]
pub(super) struct Projected {
    memo: Memo<u32>,
    pub(super) made: Numbered,
}

impl Projected {
    pub(super) fn number(&mut self, of: &Labels, project: impl FnOnce(&Labels) -> Labels) -> u32 {
        let made = &mut self.made;
        *self.memo.get(of, |labels| made.number(project(labels)))
    }
}

/// Label sets without the metric's name.
#[derive(Default)]
pub(super) struct Nameless {
    memo: Memo<(Labels, u32)>,
    names: HashMap<String, u32>,
}

impl Nameless {
    /// The set without a name, and a number for the name.
    pub(super) fn of(&mut self, labels: &Labels) -> (Labels, u32) {
        let names = &mut self.names;
        let (nameless, name) = self.memo.get(labels, |labels| {
            let name = labels.get(METRIC_NAME).unwrap_or("").to_owned();
            let next = u32::try_from(names.len()).unwrap_or(u32::MAX);
            let number = *names.entry(name).or_insert(next);
            (labels.without_name(), number)
        });
        (nameless.clone(), *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_at_other_addresses_have_one_number() {
        let set = |v: &str| Labels::new([("a", v), ("b", "x")]).expect("valid");
        let (one, again, other) = (set("1"), set("1"), set("2"));
        let mut projected = Projected::default();
        let mut number = |l: &Labels| projected.number(l, |l| l.filtered(|n| n == "a"));
        assert_eq!(number(&one), number(&again));
        assert_ne!(number(&one), number(&other));
        assert_eq!(number(&one), number(&one.clone()));
    }
}
