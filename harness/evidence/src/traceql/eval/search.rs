//! Searching traces.

use std::collections::{BTreeMap, BTreeSet};

use super::field::{self, Val};
use super::pipeline::{Plan, Read, Set, shown};
use super::tree::Tree;
use super::{for_each_trace, overlapping};
use crate::store::traces::{NO_SPAN, TraceStore};
use crate::traceql::TraceQlError;
use crate::traceql::ast::{Attribute, Intrinsic, Query, Static};

/// What bounds a search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Window in nanoseconds since the Unix epoch, ends included; traces that reach into it count.
    pub(crate) window: Option<(u64, u64)>,
    /// Traces shown at most, the newest.
    pub(crate) traces: usize,
    /// Spans shown at most of each set.
    pub(crate) spans: usize,
    /// Length a trace must have, in nanoseconds.
    pub(crate) duration: (u64, u64),
}

#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) id: u128,
    /// Service and name of the root, when it was received.
    pub(crate) root: Option<(String, String)>,
    /// Nanoseconds since the Unix epoch.
    pub(crate) start: u64,
    /// Nanoseconds.
    pub(crate) duration: u64,
    pub(crate) sets: Vec<FoundSet>,
    /// Spans and failed spans of each service.
    pub(crate) services: BTreeMap<String, (u64, u64)>,
}

#[derive(Debug)]
pub(crate) struct FoundSet {
    /// Spans in the set, shown or not.
    pub(crate) matched: usize,
    pub(crate) spans: Vec<FoundSpan>,
    pub(crate) attributes: Vec<(String, Static)>,
}

#[derive(Debug)]
pub(crate) struct FoundSpan {
    pub(crate) id: u64,
    /// The name, when the query names it.
    pub(crate) name: Option<String>,
    pub(crate) start: u64,
    pub(crate) duration: u64,
    pub(crate) attributes: Vec<(String, Static)>,
}

/// The newest traces that a query finds, newest first.
///
/// # Errors
/// When the query cannot be made ready to run.
pub(crate) fn search(
    store: &TraceStore,
    query: &Query,
    bounds: &Bounds,
) -> Result<Vec<Found>, TraceQlError> {
    let plan = Plan::new(&query.pipeline)?;
    let reads = plan.reads();
    let mut traces = overlapping(store, bounds.window);
    traces.sort_by(|a, b| b.cmp(a));
    let traces: Vec<u32> = traces.into_iter().map(|(_, at)| at).collect();
    let mut found = Vec::new();
    for_each_trace(store, &traces, |_, tree| {
        let duration = tree.trace.end.saturating_sub(tree.trace.start);
        if (bounds.duration.0..=bounds.duration.1).contains(&duration) {
            let sets = plan.run(tree);
            if !sets.is_empty() {
                found.push(describe(tree, sets, &reads, bounds.spans));
            }
        }
        found.len() < bounds.traces
    })?;
    Ok(found)
}

fn describe(tree: &Tree<'_>, sets: Vec<Set>, reads: &[Read<'_>], spans: usize) -> Found {
    let tables = tree.tables;
    let text = |id| tables.strings.get(id).to_owned();
    let service = |resource: u32| text(tables.resources[resource as usize].service);
    let root = (tree.trace.root != NO_SPAN).then(|| {
        let root = &tables.spans[tree.trace.root as usize];
        (service(root.resource), text(root.name))
    });
    let mut services: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for local in 0..tree.len() {
        let span = tree.span(local);
        let count = services.entry(service(span.resource)).or_default();
        count.0 += 1;
        count.1 += u64::from(span.status == 2);
    }
    let set = |mut set: Set| {
        set.spans
            .sort_by_key(|local| (tree.span(*local).start, *local));
        FoundSet {
            matched: set.spans.len(),
            spans: set
                .spans
                .iter()
                .take(spans)
                .map(|at| show(tree, *at, reads))
                .collect(),
            attributes: set.attributes,
        }
    };
    Found {
        id: tree.trace.id,
        root,
        start: tree.trace.start,
        duration: tree.trace.end.saturating_sub(tree.trace.start),
        sets: sets.into_iter().map(set).collect(),
        services,
    }
}

fn show(tree: &Tree<'_>, local: u32, reads: &[Read<'_>]) -> FoundSpan {
    let row = tree.span(local);
    let mut span = FoundSpan {
        id: row.id,
        name: None,
        start: row.start,
        duration: row.duration(),
        attributes: Vec::new(),
    };
    let mut seen = BTreeSet::new();
    for read in reads {
        let key = match read.attribute {
            Attribute::Named(_, name) => name.clone(),
            Attribute::Intrinsic(which) if HAS_A_PLACE.contains(which) => continue,
            Attribute::Intrinsic(which) => which.name().to_owned(),
            Attribute::OfParent => continue,
        };
        if seen.contains(&key) {
            continue;
        }
        let whole = || field::array(tree, local, read.attribute);
        if let Some(array) = read.test.is_none().then(whole).flatten() {
            span.attributes.push((key.clone(), array));
            seen.insert(key);
            continue;
        }
        let Some(value) = shown(tree, local, read).or_else(|| absent(read)) else {
            continue;
        };
        if let (Attribute::Intrinsic(Intrinsic::Name), Val::Str(name)) = (read.attribute, &value) {
            span.name = Some(name.clone().into_owned());
        } else {
            span.attributes.push((key.clone(), value.to_static()));
        }
        seen.insert(key);
    }
    span
}

/// What stands for an event or link that a span does not have, when it was selected: Tempo shows the
/// zero value of each.
fn absent(read: &Read<'_>) -> Option<Val<'static>> {
    let Attribute::Intrinsic(which) = read.attribute else {
        return None;
    };
    let value = match which {
        Intrinsic::EventName | Intrinsic::LinkTraceId => Val::Str("".into()),
        Intrinsic::EventTimeSinceStart => Val::Duration(0),
        Intrinsic::LinkSpanId => Val::Str("0000000000000000".into()),
        _ => return None,
    };
    read.test.is_none().then_some(value)
}

/// What an answer shows in a place of its own, and so never among a span's attributes.
const HAS_A_PLACE: &[Intrinsic] = &[
    Intrinsic::Duration,
    Intrinsic::TraceDuration,
    Intrinsic::RootName,
    Intrinsic::RootService,
    Intrinsic::TraceId,
    Intrinsic::SpanId,
];
