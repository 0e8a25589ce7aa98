//! From label sets to series, and from matchers to the series that may satisfy them.

use super::{Labels, MatchOp, Matcher};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

type Postings = BTreeMap<Arc<str>, Vec<u32>>;

#[derive(Default)]
pub(super) struct Index {
    by_labels: HashMap<Labels, u32>,
    by_pair: HashMap<Arc<str>, Postings>,
    strings: HashSet<Arc<str>>,
}

impl Index {
    pub(super) fn find(&self, labels: &Labels) -> Option<usize> {
        self.by_labels.get(labels).map(|&id| id as usize)
    }

    /// Enters a new series and returns its label set with interned strings.
    pub(super) fn insert(&mut self, labels: &Labels, id: usize) -> Labels {
        // Each series costs hundreds of bytes: four thousand million of them fit in no memory limit.
        let id = u32::try_from(id).unwrap_or(u32::MAX);
        let pairs: Vec<_> = labels
            .pairs()
            .iter()
            .map(|(n, v)| (self.intern(n), self.intern(v)))
            .collect();
        for (n, v) in &pairs {
            self.by_pair
                .entry(Arc::clone(n))
                .or_default()
                .entry(Arc::clone(v))
                .or_default()
                .push(id);
        }
        let labels = Labels::from_sorted(pairs);
        self.by_labels.insert(labels.clone(), id);
        labels
    }

    fn intern(&mut self, s: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.strings.get(s) {
            return Arc::clone(known);
        }
        self.strings.insert(Arc::clone(s));
        Arc::clone(s)
    }

    /// Series that may satisfy the matchers: by the most selective one that needs its label to be
    /// there, all series when none does. The caller checks every matcher.
    pub(super) fn candidates(&self, matchers: &[Matcher], all: usize) -> Vec<usize> {
        let mut best: Option<Vec<u32>> = None;
        for m in matchers {
            let ids = match m.op {
                MatchOp::Equal if !m.value.is_empty() => self.ids(&m.name, |p| {
                    p.get(m.value.as_str()).cloned().unwrap_or_default()
                }),
                MatchOp::Regex if !m.matches("") => self.ids(&m.name, |p| {
                    let mut v: Vec<u32> = p
                        .iter()
                        .filter(|(value, _)| m.matches(value))
                        .flat_map(|(_, ids)| ids.iter().copied())
                        .collect();
                    v.sort_unstable();
                    v
                }),
                _ => continue,
            };
            if best.as_ref().is_none_or(|b| ids.len() < b.len()) {
                best = Some(ids);
            }
        }
        match best {
            Some(ids) => ids.into_iter().map(|i| i as usize).collect(),
            None => (0..all).collect(),
        }
    }

    fn ids(&self, name: &str, f: impl Fn(&Postings) -> Vec<u32>) -> Vec<u32> {
        self.by_pair.get(name).map(f).unwrap_or_default()
    }
}
