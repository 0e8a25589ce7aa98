//! One trace and the family relations of its spans.

use std::cell::OnceCell;
use std::collections::HashMap;

use crate::store::traces::{SpanRow, Tables, TraceRow};

/// Spans of one trace by local number, in order of arrival.
pub(crate) struct Tree<'t> {
    pub(crate) tables: &'t Tables,
    pub(crate) trace: &'t TraceRow,
    spans: Vec<u32>,
    // Most queries ask for no relations at all.
    family: OnceCell<Vec<Place>>,
}

/// Where a span stands in its trace.
///
/// The nested set model numbers a walk through the tree: a span's descendants are those whose `left`
/// lies between its own `left` and `right`. Spans that no chain of received parents ties to a root
/// have 0 everywhere and no relatives but their direct ones.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    pub(crate) left: u32,
    pub(crate) right: u32,
    /// `left` of the parent; -1 for a root.
    pub(crate) parent_left: i64,
    /// Local number of the parent, when it was received.
    pub(crate) parent: Option<u32>,
    pub(crate) children: u32,
}

impl<'t> Tree<'t> {
    pub(crate) fn new(tables: &'t Tables, at: u32) -> Self {
        let trace = &tables.traces[at as usize];
        Self {
            tables,
            trace,
            spans: tables.spans_of(trace).collect(),
            family: OnceCell::new(),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.spans.len() as u32
    }

    pub(crate) fn span(&self, local: u32) -> &'t SpanRow {
        &self.tables.spans[self.spans[local as usize] as usize]
    }

    pub(crate) fn place(&self, local: u32) -> Place {
        self.family()[local as usize]
    }

    fn family(&self) -> &[Place] {
        self.family.get_or_init(|| {
            let by_id: HashMap<u64, u32> = (0..self.len())
                .map(|local| (self.span(local).id, local))
                .collect();
            let mut places = vec![Place::default(); self.spans.len()];
            let mut children: Vec<Vec<u32>> = vec![Vec::new(); self.spans.len()];
            let mut roots = Vec::new();
            for local in 0..self.len() {
                let parent = self.span(local).parent;
                if parent == 0 {
                    roots.push(local);
                } else if let Some(parent) = by_id.get(&parent).copied().filter(|p| *p != local) {
                    places[local as usize].parent = Some(parent);
                    children[parent as usize].push(local);
                }
            }
            for (local, of) in children.iter().enumerate() {
                places[local].children = of.len() as u32;
            }
            number(&mut places, &children, &roots);
            places
        })
    }
}

/// Numbers the walk. By a stack of its own: a trace may be deeper than the thread's stack.
fn number(places: &mut [Place], children: &[Vec<u32>], roots: &[u32]) {
    let mut counter = 0;
    let mut step = || {
        counter += 1;
        counter
    };
    for root in roots {
        places[*root as usize].parent_left = -1;
        places[*root as usize].left = step();
        let mut open = vec![(*root as usize, 0)];
        while let Some((at, done)) = open.pop() {
            let Some(child) = children[at].get(done) else {
                places[at].right = step();
                continue;
            };
            open.push((at, done + 1));
            let child = *child as usize;
            places[child].parent_left = places[at].left.into();
            places[child].left = step();
            open.push((child, 0));
        }
    }
}
