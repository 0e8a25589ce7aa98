//! Copies what all selectors of a query need, under one lock.

use super::Options;
use super::error::QueryError;
use super::eval::Span;
use super::plan::{At, Kind, Node, Plan, When};
use crate::store::metrics::{Labels, MetricStore, is_stale};
use std::rc::Rc;

/// The series of each selector of a plan.
pub(super) type Data = Vec<Rc<Vec<Loaded>>>;

/// A series ready for evaluation.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) labels: Labels,
    /// Only in results of subqueries with delayed name removal.
    pub(super) drop_name: bool,
    pub(super) times: Vec<i64>,
    /// Without stale markers when loaded for a range selector.
    pub(super) values: Vec<f64>,
}

impl Loaded {
    /// How many samples lie at or before `t`, when those before `from` are known to.
    pub(super) fn after(&self, from: usize, t: i64) -> usize {
        let rest = &self.times[from..];
        // A step usually moves by a few samples; the first step may skip many.
        match rest.iter().take(8).position(|&x| x > t) {
            Some(n) => from + n,
            None => from + rest.partition_point(|&x| x <= t),
        }
    }

    /// The samples in `(from, to]`.
    pub(super) fn window(&self, from: i64, to: i64) -> (&[i64], &[f64]) {
        let a = self.times.partition_point(|&t| t <= from);
        let b = a + self.times[a..].partition_point(|&t| t <= to);
        (&self.times[a..b], &self.values[a..b])
    }
}

impl When {
    /// The instant meant when the evaluation is at `t`.
    pub(super) fn resolve(self, t: i64, query: Span) -> i64 {
        let base = match self.at {
            At::EvaluationTime => t,
            At::QueryStart => query.start,
            At::QueryEnd => query.end,
            At::Time(t) => t,
        };
        base.saturating_sub(self.offset)
    }
}

/// The data of all selectors, and how many samples of the budget are left.
pub(super) fn load(
    store: &MetricStore,
    plan: &Plan,
    query: Span,
    options: &Options,
) -> Result<(Data, usize), QueryError> {
    let mut windows = vec![(0, -1); plan.selectors.len()];
    let lookback = i64::try_from(options.lookback.as_millis()).unwrap_or(i64::MAX);
    reach(
        &plan.root,
        plan,
        query,
        lookback,
        (query.start, query.end),
        &mut windows,
    );
    let reader = store.read();
    let mut budget = options.max_samples;
    let mut out = Vec::with_capacity(plan.selectors.len());
    for (s, (from, to)) in plan.selectors.iter().zip(windows) {
        let series = reader
            .select(&s.matchers, from, to, &mut budget)
            .map_err(|_| QueryError::TooManySamples(options.max_samples))?;
        let loaded = series.into_iter().map(|d| {
            let (mut times, mut values) = (d.times, d.values);
            if s.range.is_some() && values.iter().any(|&v| is_stale(v)) {
                (times, values) = times
                    .into_iter()
                    .zip(values)
                    .filter(|&(_, v)| !is_stale(v))
                    .unzip();
            }
            Loaded {
                labels: d.labels,
                drop_name: false,
                times,
                values,
            }
        });
        out.push(Rc::new(loaded.collect()));
    }
    Ok((out, budget))
}

/// Finds for every selector the range of times (inclusive) that the evaluation can look at.
fn reach(
    node: &Node,
    plan: &Plan,
    query: Span,
    lookback: i64,
    (lo, hi): (i64, i64),
    windows: &mut [(i64, i64)],
) {
    let mut below = |n: &Node, w| reach(n, plan, query, lookback, w, windows);
    match &node.kind {
        Kind::Number(_) | Kind::Text(_) => {}
        Kind::Select(i) => {
            let s = &plan.selectors[*i];
            let back = s.range.unwrap_or(lookback);
            let from = s.when.resolve(lo, query).saturating_sub(back);
            windows[*i] = (from.saturating_add(1), s.when.resolve(hi, query));
        }
        Kind::Subquery(s) => {
            let from = s.when.resolve(lo, query).saturating_sub(s.range);
            below(&s.inner, (from, s.when.resolve(hi, query)));
        }
        Kind::Negate(n) => below(n, (lo, hi)),
        Kind::Call(_, args) => args.iter().for_each(|a| below(a, (lo, hi))),
        Kind::Aggregate(a) => {
            a.param.iter().for_each(|p| below(p, (lo, hi)));
            below(&a.inner, (lo, hi));
        }
        Kind::Binary(b) => {
            below(&b.lhs, (lo, hi));
            below(&b.rhs, (lo, hi));
        }
    }
}
