//! Which spans stand in a relation to any of a set of spans.

use std::collections::{HashMap, HashSet};

use super::tree::Tree;
use crate::traceql::ast::Relation;

impl Relation {
    /// The relation seen from the other side.
    pub(super) fn inverse(self) -> Self {
        match self {
            Self::Child => Self::Parent,
            Self::Parent => Self::Child,
            Self::Descendant => Self::Ancestor,
            Self::Ancestor => Self::Descendant,
            Self::Sibling => Self::Sibling,
        }
    }
}

/// A set of spans, arranged so that one look-up answers for all of them: traces of 100,000 spans
/// exist, and comparing each span with each would take minutes.
pub(super) enum Kin {
    /// Is its parent one of these?
    ChildrenOf(HashSet<u32>),
    /// Is it one of these, the parents of the set?
    ParentsOf(HashSet<u32>),
    /// By `left`, the greatest `right` of the spans up to there. Spans are nested or apart, never
    /// across, so that one of them holds a `left` exactly if the greatest `right` lies behind it.
    Under(Vec<(u32, u32)>),
    /// `left` of each, sorted.
    Over(Vec<u32>),
    /// How many of the set each parent has, and the set.
    SiblingsOf(HashMap<u32, u32>, HashSet<u32>),
}

impl Kin {
    pub(super) fn new(tree: &Tree<'_>, relation: Relation, set: &[u32]) -> Self {
        let parents = || set.iter().filter_map(|of| tree.place(*of).parent);
        let numbered = || set.iter().map(|of| tree.place(*of)).filter(|p| p.left > 0);
        match relation {
            Relation::Child => Self::ChildrenOf(set.iter().copied().collect()),
            Relation::Parent => Self::ParentsOf(parents().collect()),
            Relation::Descendant => {
                let mut all: Vec<(u32, u32)> = numbered().map(|p| (p.left, p.right)).collect();
                all.sort_unstable();
                let mut greatest = 0;
                for (_, right) in &mut all {
                    greatest = greatest.max(*right);
                    *right = greatest;
                }
                Self::Under(all)
            }
            Relation::Ancestor => {
                let mut all: Vec<u32> = numbered().map(|p| p.left).collect();
                all.sort_unstable();
                Self::Over(all)
            }
            Relation::Sibling => {
                let mut count = HashMap::new();
                parents().for_each(|p| *count.entry(p).or_default() += 1);
                Self::SiblingsOf(count, set.iter().copied().collect())
            }
        }
    }

    /// Whether `span` is the child (parent, …) of any span of the set.
    pub(super) fn has(&self, tree: &Tree<'_>, span: u32) -> bool {
        let place = tree.place(span);
        match self {
            Self::ChildrenOf(set) => place.parent.is_some_and(|p| set.contains(&p)),
            Self::ParentsOf(set) => set.contains(&span),
            Self::Under(all) => {
                let before = all.partition_point(|(left, _)| *left < place.left);
                before > 0 && all[before - 1].1 > place.left
            }
            Self::Over(all) => {
                let next = all.partition_point(|left| *left <= place.left);
                all.get(next).is_some_and(|left| *left < place.right)
            }
            Self::SiblingsOf(count, set) => {
                let of_parent = place.parent.and_then(|p| count.get(&p)).copied();
                of_parent.unwrap_or(0) > u32::from(set.contains(&span))
            }
        }
    }
}
