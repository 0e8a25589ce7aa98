//! Series of numbers from spans.

use std::collections::{BTreeMap, HashMap};

use super::field::{self, Val};
use super::pipeline::Plan;
use super::series::{Exemplar, Seen, Series, bucket, by_labels, quantile, then};
use super::tree::Tree;
use super::{for_each_trace, overlapping};
use crate::store::traces::TraceStore;
use crate::traceql::TraceQlError;
use crate::traceql::ast::{Attribute, Function, Intrinsic, Metric, Query, Static};

/// The steps of a metrics query. A span belongs to the step in which it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Steps {
    /// One step: start included, end excluded, nanoseconds since the Unix epoch.
    Instant { start: u64, end: u64 },
    /// Steps that end at `first`, `first + step`, …: each excludes its start and includes its end.
    Range { first: u64, step: u64, count: usize },
}

impl Steps {
    /// The steps of a range query: widened to multiples of the step.
    pub(crate) fn range(start: u64, end: u64, step: u64) -> Self {
        let first = start / step * step;
        let last = end.div_ceil(step).saturating_mul(step);
        Self::Range {
            first,
            step,
            count: ((last - first) / step) as usize + 1,
        }
    }

    fn count(self) -> usize {
        match self {
            Self::Instant { .. } => 1,
            Self::Range { count, .. } => count,
        }
    }

    fn of(self, time: u64) -> Option<usize> {
        match self {
            Self::Instant { start, end } => (start..end).contains(&time).then_some(0),
            Self::Range { first, step, count } => {
                let earliest = first.checked_sub(step)?;
                let past = time.checked_sub(earliest).filter(|past| *past > 0)?;
                let at = usize::try_from((past - 1) / step).ok()?;
                (at < count).then_some(at)
            }
        }
    }

    /// All times that any step covers, ends included.
    fn window(self) -> (u64, u64) {
        match self {
            Self::Instant { start, end } => (start, end),
            Self::Range { first, step, count } => (
                first.saturating_sub(step),
                first + step * (count as u64 - 1),
            ),
        }
    }

    /// Length of a step in seconds.
    fn seconds(self) -> f64 {
        match self {
            Self::Instant { start, end } => end.saturating_sub(start) as f64 / 1e9,
            Self::Range { step, .. } => step as f64 / 1e9,
        }
    }

    /// Where each step ends, in nanoseconds since the Unix epoch.
    pub(crate) fn ends(self) -> Vec<u64> {
        match self {
            Self::Instant { end, .. } => vec![end],
            Self::Range { first, step, count } => {
                (0..count as u64).map(|i| first + i * step).collect()
            }
        }
    }
}

/// Computes the series of a metrics query.
///
/// # Errors
/// When the query is not a metrics query, or uses a function that is not supported.
pub(crate) fn evaluate(
    store: &TraceStore,
    query: &Query,
    steps: Steps,
    exemplars: usize,
) -> Result<Vec<Series>, TraceQlError> {
    let refuse = |why: &str| Err(TraceQlError::Meaning(why.into()));
    let Some(metric) = &query.metric else {
        return refuse("not a metrics query");
    };
    let read = match &metric.function {
        Function::Rate | Function::CountOverTime => None,
        Function::Fold(_, of) | Function::Quantile(of, _) | Function::Histogram(of) => Some(of),
        // Its answers depend on how the real server lays out its blocks: attributes that have a
        // column of their own are counted as `nil` where they are missing, others are not.
        Function::Compare {
            place: (line, col), ..
        } => {
            return refuse(&format!(
                "line {line}, col {col}: compare() is not supported by the embedded evaluator"
            ));
        }
    };
    if read == Some(&Attribute::Intrinsic(Intrinsic::TraceDuration)) {
        return refuse("traceDuration is not supported in functions over time, only in conditions");
    }
    let plan = Plan::new(&query.pipeline)?;
    let mut table = Collected {
        metric,
        steps,
        exemplars,
        rows: HashMap::new(),
    };
    let traces: Vec<u32> = overlapping(store, Some(steps.window()))
        .into_iter()
        .map(|(_, at)| at)
        .collect();
    for_each_trace(store, &traces, |_, tree| {
        match plan.single() {
            // The usual case needs no sets.
            Some(condition) => {
                for local in 0..tree.len() {
                    let Some(step) = steps.of(tree.span(local).start) else {
                        continue;
                    };
                    if condition.is_none_or(|c| c.holds(tree, local)) {
                        table.observe(tree, local, step, read);
                    }
                }
            }
            None => {
                for local in plan.run(tree).into_iter().flat_map(|set| set.spans) {
                    if let Some(step) = steps.of(tree.span(local).start) {
                        table.observe(tree, local, step, read);
                    }
                }
            }
        }
        true
    })?;
    let mut series = then(table.into_series(), &metric.then);
    series.sort_by(by_labels);
    Ok(series)
}

/// What was collected under one set of labels.
enum Row {
    Counts(Vec<u64>),
    Folds(Vec<Seen>),
    /// By bucket, the counts of each step.
    Buckets(BTreeMap<u64, Vec<u64>>),
}

struct Collected<'q> {
    metric: &'q Metric,
    steps: Steps,
    /// Exemplars still wanted.
    exemplars: usize,
    rows: HashMap<Vec<Key>, (Vec<Static>, Row, Vec<Exemplar>)>,
}

/// A label value as a key: floats by their bits.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Text(String),
    Number(u8, u64),
}

fn key(value: &Val<'_>) -> Key {
    match value {
        Val::Nil => Key::Number(0, 0),
        Val::Str(text) => Key::Text(text.clone().into_owned()),
        Val::Int(v) => Key::Number(1, *v as u64),
        Val::Float(v) => Key::Number(2, v.to_bits()),
        Val::Bool(v) => Key::Number(3, (*v).into()),
        Val::Duration(v) => Key::Number(4, *v as u64),
        Val::Status(v) => Key::Number(5, (*v).into()),
        Val::Kind(v) => Key::Number(6, (*v).into()),
    }
}

impl Collected<'_> {
    fn observe(&mut self, tree: &Tree<'_>, local: u32, step: usize, read: Option<&Attribute>) {
        // A span without the number, or with something else under its name, has nothing to observe.
        let value = match read.map(|of| field::first(tree, local, of)) {
            None => None,
            Some(value) => match observed(&self.metric.function, read, &value) {
                None => return,
                found => found,
            },
        };
        let labels: Vec<Val<'_>> = self
            .metric
            .by
            .iter()
            .map(|of| field::first(tree, local, of))
            .collect();
        let count = self.steps.count();
        let function = &self.metric.function;
        let (_, row, exemplars) = self
            .rows
            .entry(labels.iter().map(key).collect())
            .or_insert_with(|| {
                let row = match function {
                    Function::Fold(..) => Row::Folds(vec![Seen::default(); count]),
                    Function::Quantile(..) | Function::Histogram(_) => {
                        Row::Buckets(BTreeMap::new())
                    }
                    _ => Row::Counts(vec![0; count]),
                };
                (labels.iter().map(Val::to_static).collect(), row, Vec::new())
            });
        match (row, value) {
            (Row::Counts(counts), _) => counts[step] += 1,
            (Row::Folds(folds), Some(value)) => folds[step].add(value),
            (Row::Buckets(buckets), Some(value)) => {
                buckets
                    .entry(value as u64)
                    .or_insert_with(|| vec![0; count])[step] += 1;
            }
            (_, None) => return,
        }
        if self.exemplars > 0 && exemplars.iter().all(|e| e.step != step) {
            self.exemplars -= 1;
            let shown = match function {
                Function::Quantile(..) | Function::Histogram(_) => {
                    let is_duration = is_duration(read);
                    let raw = read.and_then(|of| field::first(tree, local, of).number());
                    raw.map(|v| if is_duration { v / 1e9 } else { v })
                }
                _ => value,
            };
            exemplars.push(Exemplar {
                trace: tree.trace.id,
                value: shown,
                step,
                time: tree.span(local).start,
            });
        }
    }

    fn into_series(self) -> Vec<Series> {
        let Self {
            metric,
            steps,
            rows,
            ..
        } = self;
        let mut all = Vec::new();
        for (_, (values, row, exemplars)) in rows {
            let labels: Vec<(String, Static)> = metric
                .by
                .iter()
                .map(ToString::to_string)
                .zip(values)
                .collect();
            finish(metric, steps, labels, row, exemplars, &mut all);
        }
        let name = function_name(&metric.function);
        if all.is_empty() && metric.by.is_empty() && counts(&metric.function) {
            // Without labels there is always a series, and its zero is one of counting.
            all.push(Series {
                labels: Vec::new(),
                values: vec![Some(0.0); steps.count()],
                exemplars: Vec::new(),
            });
        }
        for series in &mut all {
            if series.labels.is_empty() {
                series
                    .labels
                    .push(("__name__".into(), Static::String(name.into())));
            }
        }
        all
    }
}

fn counts(function: &Function) -> bool {
    matches!(function, Function::Rate | Function::CountOverTime)
}

fn is_duration(read: Option<&Attribute>) -> bool {
    read == Some(&Attribute::Intrinsic(Intrinsic::Duration))
}

/// The number a function sees. Only the span's own duration is turned into seconds; other durations
/// stay nanoseconds, as in the real server.
fn observed(function: &Function, read: Option<&Attribute>, value: &Val<'_>) -> Option<f64> {
    match function {
        Function::Quantile(..) | Function::Histogram(_) => match value {
            // Buckets are made of whole numbers; floats have none, in the real server too.
            Val::Int(v) | Val::Duration(v) => bucket(u64::try_from(*v).ok()?).map(|b| b as f64),
            _ => None,
        },
        _ if is_duration(read) => value.number().map(|ns| ns / 1e9),
        _ => value.number(),
    }
}

fn finish(
    metric: &Metric,
    steps: Steps,
    labels: Vec<(String, Static)>,
    row: Row,
    exemplars: Vec<Exemplar>,
    all: &mut Vec<Series>,
) {
    let read = match &metric.function {
        Function::Quantile(of, _) | Function::Histogram(of) => Some(of),
        _ => None,
    };
    let unit = if is_duration(read) { 1e9 } else { 1.0 };
    let with = |name: &str, value: f64| {
        let mut labels = labels.clone();
        labels.push((name.into(), Static::Float(value)));
        labels
    };
    match (&metric.function, row) {
        (Function::Fold(fold, _), Row::Folds(folds)) => {
            let values = folds.iter().map(|seen| seen.result(*fold)).collect();
            all.push(Series {
                labels,
                values,
                exemplars,
            });
        }
        (Function::Quantile(_, quantiles), Row::Buckets(buckets)) => {
            for q in quantiles {
                let at = |step: usize| {
                    let here: Vec<(f64, u64)> = buckets
                        .iter()
                        .map(|(upper, counts)| (*upper as f64 / unit, counts[step]))
                        .filter(|(_, count)| *count > 0)
                        .collect();
                    Some(quantile(*q, &here).unwrap_or(0.0))
                };
                let values = (0..steps.count()).map(at).collect();
                let exemplars = exemplars.clone();
                all.push(Series {
                    labels: with("p", *q),
                    values,
                    exemplars,
                });
            }
        }
        (Function::Histogram(_), Row::Buckets(buckets)) => {
            for (upper, counts) in buckets {
                let exemplars = exemplars
                    .iter()
                    .filter(|e| e.value.and_then(|v| bucket((v * unit) as u64)) == Some(upper))
                    .cloned()
                    .collect();
                let values = counts.iter().map(|c| Some(*c as f64)).collect();
                all.push(Series {
                    labels: with("__bucket", upper as f64 / unit),
                    values,
                    exemplars,
                });
            }
        }
        (function, Row::Counts(counts)) => {
            let per = if *function == Function::Rate {
                steps.seconds()
            } else {
                1.0
            };
            let values = counts.iter().map(|c| Some(*c as f64 / per)).collect();
            all.push(Series {
                labels,
                values,
                exemplars,
            });
        }
        // A row is made to fit its function.
        _ => {}
    }
}

fn function_name(function: &Function) -> &'static str {
    use crate::traceql::ast::Fold;
    match function {
        Function::Rate => "rate",
        Function::CountOverTime => "count_over_time",
        Function::Fold(Fold::Min, _) => "min_over_time",
        Function::Fold(Fold::Max, _) => "max_over_time",
        Function::Fold(Fold::Avg, _) => "avg_over_time",
        Function::Fold(Fold::Sum, _) => "sum_over_time",
        Function::Quantile(..) => "quantile_over_time",
        Function::Histogram(_) => "histogram_over_time",
        Function::Compare { .. } => "compare",
    }
}
