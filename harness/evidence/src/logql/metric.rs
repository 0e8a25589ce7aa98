//! Metric expressions: the lines of each window are read once, then every instant is computed from
//! them.

mod binary;
mod over_time;
mod read;
mod vector;

use super::ast::{
    Conversion, Grouping, LabelReplace, MatchOp, RangeAgg, RangeOp, SampleExpr, VectorOp,
};
use super::error::QueryError;
use super::pipeline::{LabelView, Pipeline};
use super::query::{QueryLimits, Sample, Steps};
use super::units;
use crate::go_regex;
use crate::store::logs::{Labels, LogStore};
use regex::Regex;

/// A metric expression whose lines have been read.
pub(super) enum Prepared {
    Scalar(f64),
    Constant(f64),
    Range(Box<Window>),
    Vector(Box<vector::Aggregation>),
    Binary(Box<binary::Operation>),
    Replace(Box<Replacement>),
}

/// A range aggregation with its samples.
pub(super) struct Window {
    op: RangeOp,
    param: f64,
    range: i64,
    offset: i64,
    unwrapped: bool,
    series: Vec<Read>,
    /// What `absent_over_time` answers with.
    absent: Labels,
}

/// What was read of one series.
struct Read {
    labels: Labels,
    /// By time; of equal times in the order of reading.
    samples: Vec<(i64, f64)>,
    /// Times of all its lines, for [`counts_lines`].
    lines: Vec<i64>,
}

pub(super) struct Replacement {
    inner: Prepared,
    target: String,
    replacement: String,
    source: String,
    regex: Regex,
}

impl Prepared {
    /// Compiles everything without reading a line.
    pub(super) fn check(expr: &SampleExpr) -> Result<(), QueryError> {
        let empty = LogStore::default();
        let nowhere = Steps {
            start: 0,
            end: 0,
            step: 1,
        };
        Self::new(expr, &empty, nowhere, &QueryLimits::default()).map(|_| ())
    }

    /// Reads the lines that the instants need.
    pub(super) fn new(
        expr: &SampleExpr,
        store: &LogStore,
        steps: Steps,
        limits: &QueryLimits,
    ) -> Result<Self, QueryError> {
        Ok(match expr {
            SampleExpr::Literal(value) => Self::Scalar(*value),
            SampleExpr::Constant(value) => Self::Constant(*value),
            SampleExpr::Range(agg) => {
                let keep = agg.grouping.as_ref();
                Self::Range(Box::new(Window::read(agg, keep, store, steps, limits)?))
            }
            SampleExpr::Vector(agg) => {
                let inner = match (&agg.inner, agg.op) {
                    // Sums of sums need no series for every label set in between: a trace id in
                    // the metadata would make each line a series of its own.
                    (SampleExpr::Range(range), VectorOp::Sum) if adds_up(range.op) => {
                        let all = Grouping {
                            without: false,
                            labels: Vec::new(),
                        };
                        let keep = Some(agg.grouping.as_ref().unwrap_or(&all));
                        Self::Range(Box::new(Window::read(range, keep, store, steps, limits)?))
                    }
                    (inner, _) => Self::new(inner, store, steps, limits)?,
                };
                Self::Vector(Box::new(vector::Aggregation::new(agg, inner)))
            }
            SampleExpr::Binary(operation) => {
                let left = Self::new(&operation.left, store, steps, limits)?;
                let right = Self::new(&operation.right, store, steps, limits)?;
                binary::prepare(operation, left, right)
            }
            SampleExpr::LabelReplace(replace) => {
                Self::Replace(Box::new(replacement(replace, store, steps, limits)?))
            }
        })
    }

    /// The value of an expression of numbers alone.
    pub(super) fn scalar(&self) -> Option<f64> {
        match self {
            Self::Scalar(value) => Some(*value),
            _ => None,
        }
    }

    /// The samples at one instant, by labels unless an aggregation orders them.
    pub(super) fn at(&self, at: i64) -> Result<Vec<Sample>, QueryError> {
        match self {
            Self::Scalar(value) | Self::Constant(value) => Ok(vec![Sample {
                labels: Labels::default(),
                value: *value,
            }]),
            Self::Range(window) => Ok(window.at(at)),
            Self::Vector(aggregation) => aggregation.at(at),
            Self::Binary(operation) => operation.at(at),
            Self::Replace(replacement) => replacement.at(at),
        }
    }
}

fn adds_up(op: RangeOp) -> bool {
    matches!(
        op,
        RangeOp::Rate | RangeOp::Count | RangeOp::BytesRate | RangeOp::Bytes | RangeOp::Sum
    )
}

impl Window {
    fn read(
        agg: &RangeAgg,
        keep: Option<&Grouping>,
        store: &LogStore,
        steps: Steps,
        limits: &QueryLimits,
    ) -> Result<Self, QueryError> {
        let selector = Pipeline::new(&agg.log)?.selector;
        // The window (t - range, t] in whole nanoseconds is [t - range + 1, t + 1).
        let shifted = |t: i64| t.saturating_sub(agg.offset).saturating_add(1);
        let start = shifted(steps.start).saturating_sub(agg.range);
        let end = shifted(steps.end);
        let selected = store.select(start, end, |labels| selector.fits(labels));
        let mut series = read::all(agg, keep, &selected, limits)?;
        for each in &mut series {
            each.samples.sort_by_key(|(ts, _)| *ts);
            each.lines.sort_unstable();
        }
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Self {
            op: agg.op,
            param: agg.param.unwrap_or(0.0),
            range: agg.range,
            offset: agg.offset,
            unwrapped: agg.unwrap.is_some(),
            series,
            absent: absent_labels(agg),
        })
    }

    fn at(&self, at: i64) -> Vec<Sample> {
        let end = at.saturating_sub(self.offset);
        let start = end.saturating_sub(self.range);
        let within = |samples: &[(i64, f64)]| -> (usize, usize) {
            let from = samples.partition_point(|(ts, _)| *ts <= start);
            let to = samples.partition_point(|(ts, _)| *ts <= end);
            (from, to)
        };
        if self.op == RangeOp::Absent {
            let any = self.series.iter().any(|each| {
                let (from, to) = within(&each.samples);
                from < to
            });
            return if any {
                Vec::new()
            } else {
                vec![Sample {
                    labels: self.absent.clone(),
                    value: 1.0,
                }]
            };
        }
        let mut out = Vec::new();
        for each in &self.series {
            let (from, to) = within(&each.samples);
            if from == to {
                continue;
            }
            let lines = each.lines.partition_point(|ts| *ts <= end)
                - each.lines.partition_point(|ts| *ts <= start);
            let window = over_time::Samples {
                samples: &each.samples[from..to],
                lines,
                start,
                end,
            };
            if let Some(value) = window.value(self.op, self.param, self.unwrapped) {
                out.push(Sample {
                    labels: each.labels.clone(),
                    value,
                });
            }
        }
        out
    }
}

/// Whether an average is taken over all lines, those without a value among them.
///
/// Loki computes `avg_over_time` with a grouping as `sum_over_time` over `count_over_time`, and the
/// count is of lines, unwrapped or not: a line that lacks the label draws the average down. The
/// recorded answers have it so, and so has this.
fn counts_lines(agg: &RangeAgg) -> bool {
    agg.op == RangeOp::Avg && agg.grouping.is_some()
}

/// The value of a line; `None` when it has none to unwrap. A value that is no number marks the
/// line, so that a filter can decide.
fn value_of(agg: &RangeAgg, line: &str, view: &mut LabelView) -> Option<f64> {
    let Some(unwrap) = &agg.unwrap else {
        return Some(match agg.op {
            RangeOp::Bytes | RangeOp::BytesRate => line.len() as f64,
            _ => 1.0,
        });
    };
    let text = view.get(&unwrap.label)?;
    let converted = match unwrap.conversion {
        Conversion::Number => super::pipeline::number(text),
        Conversion::Duration | Conversion::DurationSeconds => units::duration(text)
            .map(|ns| ns as f64 / 1e9)
            .ok_or_else(|| format!("time: invalid duration {text:?}")),
        Conversion::Bytes => units::bytes(text)
            .map(|bytes| bytes as f64)
            .ok_or_else(|| format!("invalid size {text:?}")),
    };
    match converted {
        Ok(value) => Some(value),
        Err(details) => {
            view.fail("SampleExtractionErr", &details);
            Some(0.0)
        }
    }
}

/// The labels of a line's series. The unwrapped label is the value and no longer a label.
fn series_labels(agg: &RangeAgg, keep: Option<&Grouping>, view: &LabelView) -> Labels {
    let unwrapped = agg.unwrap.as_ref().map(|unwrap| unwrap.label.as_str());
    match keep {
        None => view.labels_without(unwrapped),
        Some(grouping) if grouping.without => {
            vector::project(&view.labels_without(unwrapped), grouping)
        }
        Some(grouping) => grouping
            .labels
            .iter()
            .filter(|name| agg.grouping.is_some() || Some(name.as_str()) != unwrapped)
            .filter_map(|name| Some((name.as_str(), view.get(name)?)))
            .collect(),
    }
}

/// Labels that the matchers fix to one value.
fn absent_labels(agg: &RangeAgg) -> Labels {
    let matchers = &agg.log.matchers;
    matchers
        .iter()
        .filter(|m| {
            m.op == MatchOp::Equal && matchers.iter().filter(|o| o.name == m.name).count() == 1
        })
        .map(|m| (m.name.as_str(), m.value.as_str()))
        .collect()
}

fn replacement(
    replace: &LabelReplace,
    store: &LogStore,
    steps: Steps,
    limits: &QueryLimits,
) -> Result<Replacement, QueryError> {
    let legal = !replace.target.is_empty()
        && crate::store::logs::sanitize_name(&replace.target) == replace.target;
    if !legal {
        return Err(QueryError::invalid(format!(
            "invalid label name in label_replace: {:?}",
            replace.target
        )));
    }
    let regex = go_regex::whole(&replace.regex).map_err(|_| {
        QueryError::invalid(format!(
            "invalid regex in label_replace: {:?}",
            replace.regex
        ))
    })?;
    Ok(Replacement {
        inner: Prepared::new(&replace.inner, store, steps, limits)?,
        target: replace.target.clone(),
        replacement: replace.replacement.clone(),
        source: replace.source.clone(),
        regex,
    })
}

impl Replacement {
    fn at(&self, at: i64) -> Result<Vec<Sample>, QueryError> {
        let mut samples = self.inner.at(at)?;
        for sample in &mut samples {
            let source = sample.labels.get(&self.source).unwrap_or("");
            let Some(found) = self.regex.captures(source) else {
                continue;
            };
            let mut value = String::new();
            found.expand(&self.replacement, &mut value);
            sample.labels = sample
                .labels
                .iter()
                .filter(|(name, _)| *name != self.target)
                .chain([(self.target.as_str(), value.as_str())])
                .collect();
        }
        let mut seen = std::collections::HashSet::new();
        if samples.iter().all(|s| seen.insert(s.labels.clone())) {
            return Ok(samples);
        }
        Err(QueryError::Execution(
            "vector cannot contain metrics with the same labelset".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests;
