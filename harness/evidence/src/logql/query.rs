//! A query over the store.

use super::ast::{Expr, LogExpr, SampleExpr};
use super::error::QueryError;
use super::metric::Prepared;
use super::parser::parse;
use super::pipeline::{Category, LabelView, Pipeline};
use crate::store::logs::{Entry, Labels, LogStore, Selected};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// What a query may cost.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    /// When to give up.
    pub deadline: Option<Instant>,
    /// Most series in an answer.
    pub series: usize,
    /// Most series while the answer is computed.
    pub inner_series: usize,
}

impl Default for QueryLimits {
    /// No deadline; 500 series as Loki ships it; half a million on the way.
    fn default() -> Self {
        Self {
            deadline: None,
            series: 500,
            inner_series: 500_000,
        }
    }
}

impl QueryLimits {
    pub(super) fn check_time(&self) -> Result<(), QueryError> {
        match self.deadline {
            Some(deadline) if Instant::now() > deadline => Err(QueryError::Timeout),
            _ => Ok(()),
        }
    }

    fn check_series(&self, count: usize) -> Result<(), QueryError> {
        if count <= self.series {
            return Ok(());
        }
        Err(QueryError::Limit(format!(
            "maximum number of series ({}) reached for a single query; consider reducing query \
             cardinality by adding more specific stream selectors, reducing the time range, or \
             aggregating results with functions like sum(), count() or topk()",
            self.series
        )))
    }
}

/// In which order lines are read, and so which of them a limit keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// Which lines a log query wants.
#[derive(Clone, Copy, Debug)]
pub struct LogRange {
    /// First time, in nanoseconds.
    pub start: i64,
    /// The time after the last, in nanoseconds.
    pub end: i64,
    /// Most lines.
    pub limit: usize,
    /// Which lines when there are more.
    pub direction: Direction,
    /// Only lines at least this many nanoseconds apart; 0 for all.
    pub interval: i64,
}

/// The instants of a metric query over a range.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// First instant, in nanoseconds.
    pub start: i64,
    /// No instant is later, in nanoseconds.
    pub end: i64,
    /// Nanoseconds between instants; at least 1.
    pub step: i64,
}

/// Where a label of an answered line comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineLabels {
    /// All labels of the line.
    pub all: Labels,
    /// Those of the stream.
    pub stream: Labels,
    /// Those that came with the line.
    pub metadata: Labels,
    /// Those that the pipeline set.
    pub parsed: Labels,
}

/// A line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLine {
    /// Nanoseconds since the epoch.
    pub ts: i64,
    /// The line, as the pipeline left it.
    pub line: String,
    /// Its labels.
    pub labels: Arc<LineLabels>,
}

/// One value of an instant query.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The series.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

/// A series of a range query: nanoseconds and values.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The series.
    pub labels: Labels,
    /// Instants at which it has a value.
    pub points: Vec<(i64, f64)>,
}

/// What a query gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Lines in the order asked for.
    Lines(Vec<FoundLine>),
    /// The value of an expression of numbers alone.
    Scalar(f64),
    /// Values at one instant.
    Vector(Vec<Sample>),
    /// Values over time.
    Matrix(Vec<Series>),
}

/// A query that has been parsed and checked.
pub struct Query {
    expr: Expr,
}

impl Query {
    /// Parses a query and checks all its parts.
    ///
    /// # Errors
    /// When it is malformed or unsupported.
    pub fn new(text: &str) -> Result<Self, QueryError> {
        let expr = parse(text)?;
        match &expr {
            Expr::Log(log) => Pipeline::new(log).map(|_| ())?,
            Expr::Sample(sample) => Prepared::check(sample)?,
        }
        Ok(Self { expr })
    }

    /// Whether the query selects lines rather than computing numbers.
    pub fn is_log(&self) -> bool {
        matches!(self.expr, Expr::Log(_))
    }

    /// The longest window that the query looks back over, in nanoseconds; 0 of a log query.
    pub(crate) fn longest_window(&self) -> i64 {
        fn of(expr: &SampleExpr) -> i64 {
            match expr {
                SampleExpr::Range(agg) => agg.range,
                SampleExpr::Vector(agg) => of(&agg.inner),
                SampleExpr::Binary(binary) => of(&binary.left).max(of(&binary.right)),
                SampleExpr::LabelReplace(replace) => of(&replace.inner),
                SampleExpr::Literal(_) | SampleExpr::Constant(_) => 0,
            }
        }
        match &self.expr {
            Expr::Sample(expr) => of(expr),
            Expr::Log(_) => 0,
        }
    }

    /// The query as LogQL text.
    pub fn text(&self) -> String {
        super::display::expr(&self.expr)
    }

    /// The lines a log query finds.
    ///
    /// # Errors
    /// When it is no log query, or takes too long.
    pub fn lines(
        &self,
        store: &LogStore,
        range: LogRange,
        limits: &QueryLimits,
    ) -> Result<Answer, QueryError> {
        match &self.expr {
            Expr::Log(log) => lines(store, log, range, limits).map(Answer::Lines),
            Expr::Sample(_) => Err(QueryError::invalid("a metric query selects no lines")),
        }
    }

    /// The values of a metric query at one instant (nanoseconds).
    ///
    /// # Errors
    /// When it is a log query, a line cannot be processed, vectors do not match, or a limit is
    /// reached.
    pub fn instant(
        &self,
        store: &LogStore,
        at: i64,
        limits: &QueryLimits,
    ) -> Result<Answer, QueryError> {
        let steps = Steps {
            start: at,
            end: at,
            step: 1,
        };
        let prepared = self.prepare(store, steps, limits)?;
        if let Some(value) = prepared.scalar() {
            return Ok(Answer::Scalar(value));
        }
        let samples = prepared.at(at)?;
        limits.check_series(samples.len())?;
        Ok(Answer::Vector(samples))
    }

    /// The values of a metric query over a range.
    ///
    /// # Errors
    /// As [`Self::instant`].
    pub fn range(
        &self,
        store: &LogStore,
        steps: Steps,
        limits: &QueryLimits,
    ) -> Result<Answer, QueryError> {
        let prepared = self.prepare(store, steps, limits)?;
        let mut order: HashMap<Labels, usize> = HashMap::new();
        let mut series: Vec<Series> = Vec::new();
        let mut at = steps.start;
        while at <= steps.end {
            limits.check_time()?;
            let samples = match prepared.scalar() {
                Some(value) => vec![Sample {
                    labels: Labels::default(),
                    value,
                }],
                None => prepared.at(at)?,
            };
            for sample in samples {
                let slot = *order.entry(sample.labels.clone()).or_insert_with(|| {
                    series.push(Series {
                        labels: sample.labels,
                        points: Vec::new(),
                    });
                    series.len() - 1
                });
                series[slot].points.push((at, sample.value));
            }
            limits.check_series(series.len())?;
            let Some(next) = at.checked_add(steps.step.max(1)) else {
                break;
            };
            at = next;
        }
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Answer::Matrix(series))
    }

    fn prepare(
        &self,
        store: &LogStore,
        steps: Steps,
        limits: &QueryLimits,
    ) -> Result<Prepared, QueryError> {
        match &self.expr {
            Expr::Sample(sample) => Prepared::new(sample, store, steps, limits),
            Expr::Log(_) => Err(QueryError::invalid(
                "log queries are not supported as an instant query type, please change your query \
                 to a range query type",
            )),
        }
    }
}

/// Merges the streams by time and takes lines until there are enough, so that a query with a limit
/// does not process lines that nobody asked for.
fn lines(
    store: &LogStore,
    log: &LogExpr,
    range: LogRange,
    limits: &QueryLimits,
) -> Result<Vec<FoundLine>, QueryError> {
    let pipeline = Pipeline::new(log)?;
    let streams = store.select(range.start, range.end, |labels| {
        pipeline.selector.fits(labels)
    });
    let forward = range.direction == Direction::Forward;
    let entry = |stream: &Selected, n: usize| -> Option<Entry> {
        let at = if forward {
            n
        } else {
            stream.entries.len().checked_sub(n + 1)?
        };
        stream.entries.get(at).cloned()
    };
    let key = |ts: i64| if forward { ts } else { -ts };
    let mut heap: BinaryHeap<Reverse<(i64, usize, usize)>> = streams
        .iter()
        .enumerate()
        .filter_map(|(s, stream)| Some(Reverse((key(entry(stream, 0)?.ts), s, 0))))
        .collect();
    let mut out: Vec<FoundLine> = Vec::new();
    let mut last: Option<i64> = None;
    let mut seen = 0_u32;
    while out.len() < range.limit {
        let Some(Reverse((_, s, n))) = heap.pop() else {
            break;
        };
        let stream = &streams[s];
        if let Some(next) = entry(stream, n + 1) {
            heap.push(Reverse((key(next.ts), s, n + 1)));
        }
        let Some(found) = entry(stream, n) else {
            continue;
        };
        seen = seen.wrapping_add(1);
        if seen.is_multiple_of(1024) {
            limits.check_time()?;
        }
        if let Some(line) = found_line(&pipeline, stream, &found) {
            // Over all streams together, as recorded.
            let close = last.is_some_and(|t| (line.ts - t).abs() < range.interval);
            if range.interval > 0 && close {
                continue;
            }
            last = Some(line.ts);
            out.push(line);
        }
    }
    Ok(out)
}

fn found_line(pipeline: &Pipeline, stream: &Selected, entry: &Entry) -> Option<FoundLine> {
    let mut view = LabelView::new(&stream.labels, &entry.metadata);
    let mut line = Cow::Borrowed(&*entry.line);
    if !pipeline.process(entry.ts, &mut line, &mut view) {
        return None;
    }
    let all = view.all();
    let of = |wanted: Category| -> Labels {
        all.iter()
            .filter(|(_, _, category)| *category == wanted)
            .map(|(name, value, _)| (*name, *value))
            .collect()
    };
    let labels = LineLabels {
        all: view.labels(),
        stream: of(Category::Stream),
        metadata: of(Category::Metadata),
        parsed: of(Category::Parsed),
    };
    Some(FoundLine {
        ts: entry.ts,
        line: line.into_owned(),
        labels: Arc::new(labels),
    })
}
