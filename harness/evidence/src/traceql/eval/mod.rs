//! Evaluation over the trace store.
//!
//! [`tree`] shows one trace with its family relations, [`field`] reads one attribute of one span,
//! [`cond`] decides an expression, [`pipeline`] works on sets of spans of one trace; [`search`] and
//! [`metrics`] run over all traces.

pub(crate) mod cond;
pub(crate) mod field;
mod kin;
pub(crate) mod metrics;
pub(crate) mod pipeline;
pub(crate) mod search;
pub(crate) mod series;
pub(crate) mod tags;
mod tree;

use std::time::{Duration, Instant};

use super::TraceQlError;
use crate::store::traces::{Tables, TraceStore};
use tree::Tree;

/// Longest time for one query.
const MOST_TIME: Duration = Duration::from_secs(60);

/// Traces evaluated under one hold of the store's lock. Receivers wait that long: well under a
/// millisecond of simple conditions, and the lock is not what a query spends its time on.
const PIECE: usize = 256;

/// Shows every given trace to `each`, letting receivers in between, until it says stop.
///
/// # Errors
/// When that takes longer than [`MOST_TIME`]: part of an answer would pass for the whole.
fn for_each_trace(
    store: &TraceStore,
    traces: &[u32],
    each: impl FnMut(&Tables, &Tree<'_>) -> bool,
) -> Result<(), TraceQlError> {
    until(Instant::now() + MOST_TIME, store, traces, each)
}

fn until(
    end: Instant,
    store: &TraceStore,
    traces: &[u32],
    mut each: impl FnMut(&Tables, &Tree<'_>) -> bool,
) -> Result<(), TraceQlError> {
    for piece in traces.chunks(PIECE) {
        let tables = store.read();
        for at in piece {
            if Instant::now() >= end {
                return Err(TraceQlError::Timeout);
            }
            if !each(&tables, &Tree::new(&tables, *at)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The traces that have any part in a window of nanoseconds, ends included, in order of arrival.
fn overlapping(store: &TraceStore, window: Option<(u64, u64)>) -> Vec<(u64, u32)> {
    let tables = store.read();
    let all = tables.traces.iter().enumerate();
    all.filter(|(_, t)| t.count > 0)
        .filter(|(_, t)| window.is_none_or(|(start, end)| t.start <= end && t.end >= start))
        .map(|(at, t)| (t.start, at as u32))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_out_of_time_is_an_error_and_not_half_an_answer() {
        let store = TraceStore::default();
        let mut seen = 0;
        let done = until(Instant::now(), &store, &[0], |_, _| {
            seen += 1;
            true
        });
        assert_eq!((done, seen), (Err(TraceQlError::Timeout), 0));
        assert_eq!(for_each_trace(&store, &[], |_, _| true), Ok(()));
    }
}
