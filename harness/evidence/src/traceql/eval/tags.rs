//! Which attributes there are, and with which values.

use std::collections::{BTreeMap, BTreeSet};

use super::pipeline::Plan;
use super::{field, for_each_trace, overlapping};
use crate::store::traces::{SetId, TraceStore};
use crate::traceql::TraceQlError;
use crate::traceql::ast::{Attribute, Query};

/// The scopes attributes are listed under.
pub(crate) const SCOPES: [&str; 5] = ["resource", "span", "event", "link", "instrumentation"];

/// Names of attributes, by scope.
///
/// # Errors
/// When the query cannot be made ready to run.
pub(crate) fn names(
    store: &TraceStore,
    window: Option<(u64, u64)>,
    query: Option<&Query>,
) -> Result<BTreeMap<&'static str, BTreeSet<String>>, TraceQlError> {
    let mut sets: BTreeMap<&'static str, BTreeSet<SetId>> = BTreeMap::new();
    matching(store, window, query, |tree, local| {
        let tables = tree.tables;
        let span = tree.span(local);
        let mut add = |scope, set| {
            sets.entry(scope).or_default().insert(set);
        };
        add("span", span.attrs);
        add("resource", tables.resources[span.resource as usize].attrs);
        add("instrumentation", tables.scopes[span.scope as usize].attrs);
        if let Some(extra) = tables.extra(span) {
            for event in &extra.events {
                add("event", event.attrs);
            }
            for link in &extra.links {
                add("link", link.attrs);
            }
        }
        true
    })?;
    let tables = store.read();
    let named = sets.into_iter().map(|(scope, sets)| {
        let keys: BTreeSet<_> = sets
            .into_iter()
            .flat_map(|set| tables.sets.get(set).map(|(key, _)| key))
            .collect();
        let keys = keys
            .into_iter()
            .map(|key| tables.strings.get(key).to_owned());
        (scope, keys.collect::<BTreeSet<String>>())
    });
    Ok(named.filter(|(_, keys)| !keys.is_empty()).collect())
}

/// Values of one attribute with the name of their type, at most `limit` of them.
///
/// # Errors
/// When the query cannot be made ready to run.
pub(crate) fn values(
    store: &TraceStore,
    window: Option<(u64, u64)>,
    query: Option<&Query>,
    of: &Attribute,
    limit: usize,
) -> Result<BTreeSet<(&'static str, String)>, TraceQlError> {
    let mut found = BTreeSet::new();
    matching(store, window, query, |tree, local| {
        field::any(tree, local, of, &mut |value| {
            found.insert(value.to_tag());
            found.len() >= limit
        });
        found.len() < limit
    })?;
    Ok(found)
}

/// Shows every span that a query finds (every span at all, without one) until told to stop.
fn matching(
    store: &TraceStore,
    window: Option<(u64, u64)>,
    query: Option<&Query>,
    mut see: impl FnMut(&super::Tree<'_>, u32) -> bool,
) -> Result<(), TraceQlError> {
    let plan = query.map(|q| Plan::new(&q.pipeline)).transpose()?;
    let traces: Vec<u32> = overlapping(store, window)
        .into_iter()
        .map(|(_, at)| at)
        .collect();
    for_each_trace(store, &traces, |_, tree| {
        let spans: Vec<u32> = match &plan {
            Some(plan) => plan
                .run(tree)
                .into_iter()
                .flat_map(|set| set.spans)
                .collect(),
            None => (0..tree.len()).collect(),
        };
        spans.into_iter().all(|local| see(tree, local))
    })?;
    Ok(())
}
