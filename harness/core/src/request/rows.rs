//! Which row of a dataset a request takes, and whether there are enough of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::problem::{Problem, Problems};
use crate::scenario::{Executor, Load, Order, Scenario};
use crate::schedule::random::{mix, permute, unit};
use crate::schedule::{Tapes, open_with};

/// The rows of one dataset, shared by all requests that take them.
pub(super) type Fields = Arc<[Map<String, Value>]>;

/// The order in which a request takes rows.
#[derive(Debug, Clone)]
pub(super) enum Ordering {
    Sequential,
    Shuffled,
    /// Sums of the weights up to and including each row.
    Zipf(Arc<[f64]>),
}

impl Ordering {
    pub(super) fn new(order: Order, rows: usize) -> Self {
        match order {
            Order::Sequential => Self::Sequential,
            Order::Shuffled => Self::Shuffled,
            Order::Zipf(exponent) => {
                let mut sum = 0.0;
                let weights = (1..=rows).map(|rank| {
                    sum += libm::pow(rank as f64, -exponent);
                    sum
                });
                Self::Zipf(weights.collect())
            }
        }
    }

    /// The row, of `rows`, of the `nth` request; `key` is from the seed. In order or shuffled, each
    /// pass over the dataset meets every row once.
    pub(super) fn row(&self, nth: u64, rows: u64, key: u64) -> usize {
        let place = nth % rows.max(1);
        let row = match self {
            Self::Sequential => place,
            Self::Shuffled => permute(place, rows, mix(key.wrapping_add(nth / rows))),
            Self::Zipf(sums) => {
                let total = sums.last().copied().unwrap_or(0.0);
                let ticket = unit(mix(key ^ mix(nth))) * total;
                let row = sums.partition_point(|sum| *sum <= ticket);
                return row.min(sums.len().saturating_sub(1));
            }
        };
        row as usize
    }
}

/// Refuses datasets whose rows may be used once only, and that end before the schedule does.
pub(super) fn check(
    scenario: &Scenario,
    rows: &BTreeMap<&str, usize>,
    files: &BTreeMap<String, String>,
) -> Result<(), Problems> {
    let mut problems = Vec::new();
    for (index, request) in scenario.spec.requests.iter().enumerate() {
        let Some(data) = request.data().filter(|data| !data.reuse) else {
            continue;
        };
        let there = rows.get(data.dataset).copied().unwrap_or(0) as u64;
        let part = if request.data.is_some() {
            "data"
        } else {
            "body"
        };
        if let Err((message, hint)) = enough(scenario, &request.name, there, files) {
            problems.push(Problem {
                file: data.dataset.to_owned(),
                at: None,
                key: format!("spec.requests[{index}].{part}"),
                message,
                hint: Some(hint),
            });
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Problems(problems))
    }
}

fn enough(
    scenario: &Scenario,
    request: &str,
    there: u64,
    files: &BTreeMap<String, String>,
) -> Result<(), (String, String)> {
    let spec = &scenario.spec;
    let mut uses: Vec<(usize, &str)> = Vec::new();
    for (index, load) in spec.loads.iter().enumerate() {
        for name in load
            .mix
            .iter()
            .filter(|(_, weight)| **weight > 0)
            .map(|(name, _)| name)
        {
            let flow = spec.flows.iter().find(|flow| flow.name == *name);
            let steps = flow.map_or(1, |flow| {
                flow.steps.iter().filter(|s| *s == request).count()
            });
            if name == request || flow.is_some() {
                uses.extend(std::iter::repeat_n((index, name.as_str()), steps));
            }
        }
    }
    let [(index, entry)] = uses.as_slice() else {
        if uses.is_empty() {
            return Ok(());
        }
        return Err((
            "is used in several places, each of which begins with the first row, so rows would be used again".into(),
            "use it in one load, or set reuse: true".into(),
        ));
    };
    let load = &spec.loads[*index];
    let needed = needed(scenario, *index, load, entry, files)?;
    if needed > there {
        return Err((
            format!(
                "the dataset ends too early: it has {there} rows, and the schedule needs {needed}"
            ),
            "add rows, shorten the load, or set reuse: true".into(),
        ));
    }
    Ok(())
}

/// Rows that a load's entry needs at most.
fn needed(
    scenario: &Scenario,
    index: usize,
    load: &Load,
    entry: &str,
    files: &BTreeMap<String, String>,
) -> Result<u64, (String, String)> {
    let iterations = load.iterations.unwrap_or(0);
    match load.executor {
        Executor::PerVuIterations => return Ok(iterations * u64::from(load.users())),
        Executor::SharedIterations | Executor::Offline => return Ok(iterations),
        executor if !executor.is_open() => {
            return Err((
                format!(
                    "how many rows {} needs depends on the answers",
                    executor.name()
                ),
                "use an executor with iterations or a rate, or set reuse: true".into(),
            ));
        }
        _ => {}
    }
    let spec = &scenario.spec;
    let request = spec
        .requests
        .iter()
        .position(|request| request.name == entry);
    let flow = spec.flows.iter().position(|flow| flow.name == entry);
    // What is wrong with the tapes is said where they are read.
    let tapes = Tapes::read(scenario, files).unwrap_or_default();
    let arrivals = open_with(scenario, &tapes).filter(|arrival| {
        let same = match arrival.flow {
            Some(taken) => flow == Some(usize::from(taken)),
            None => request == Some(usize::from(arrival.request)),
        };
        same && usize::from(arrival.load) == index
    });
    Ok(arrivals.count() as u64)
}
