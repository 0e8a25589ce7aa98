//! Walks the tree, one step of the query at a time.

use super::binary::Matches;
use super::block::Block;
use super::error::{QueryError, position};
use super::load::{self, Loaded};
use super::memo::{AddressMap, Memo, Nameless, Projected};
use super::plan::{Func, Kind, Node, Plan, Subquery, Type};
use super::{Answer, Options, QueryValue, VectorSample};
use crate::store::metrics::{Labels, MetricStore, SeriesData, is_stale};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::time::Instant;

/// The steps of a query, milliseconds, both ends included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) step: i64,
}

impl Span {
    fn steps(self) -> impl Iterator<Item = i64> {
        self.steps_from(self.start)
    }

    /// The steps from one of them on.
    pub(super) fn steps_from(self, t: i64) -> impl Iterator<Item = i64> {
        std::iter::successors(Some(t), move |t| t.checked_add(self.step))
            .take_while(move |&t| t <= self.end)
    }
}

/// The steps an expression is evaluated at, with the results of the subqueries below it, which are
/// computed once for all of these steps.
pub(super) struct Frame {
    pub(super) span: Span,
    subqueries: RefCell<HashMap<usize, Rc<Vec<Loaded>>>>,
    /// By node, the values of the steps that are evaluated now.
    pub(super) blocks: RefCell<HashMap<usize, Block>>,
    pub(super) caches: RefCell<Caches>,
}

/// By node, what has been worked out about labels.
#[derive(Default)]
pub(super) struct Caches {
    pub(super) groups: HashMap<usize, Projected>,
    pub(super) matches: HashMap<usize, Matches>,
    /// The bound of a bucket, and the histogram it belongs to.
    pub(super) buckets: HashMap<usize, (Memo<Option<f64>>, Projected)>,
}

impl Frame {
    fn new(span: Span) -> Self {
        Frame {
            span,
            subqueries: RefCell::default(),
            blocks: RefCell::default(),
            caches: RefCell::default(),
        }
    }
}

/// One element of a vector under evaluation.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) labels: Labels,
    /// The name is to be dropped at the end of the query.
    pub(super) drop_name: bool,
    pub(super) v: f64,
}

impl Sample {
    pub(super) fn new(labels: Labels, v: f64) -> Self {
        Sample {
            labels,
            drop_name: false,
            v,
        }
    }
}

/// A range per series: `series` cut to `(from, to]`.
pub(super) struct Ranges {
    pub(super) series: Rc<Vec<Loaded>>,
    pub(super) from: i64,
    pub(super) to: i64,
}

#[derive(Default)]
struct Notes {
    warnings: BTreeSet<String>,
    infos: BTreeSet<String>,
}

pub(super) struct Eval<'a> {
    text: &'a str,
    pub(super) plan: &'a Plan,
    pub(super) options: &'a Options,
    pub(super) data: load::Data,
    pub(super) query: Span,
    pub(super) lookback: i64,
    deadline: Instant,
    budget: Cell<usize>,
    notes: RefCell<Notes>,
    nameless: RefCell<Nameless>,
    /// The labels that were found to be distinct last.
    distinct: RefCell<Vec<Labels>>,
}

pub(super) type Evaluated<T> = Result<T, QueryError>;

impl<'a> Eval<'a> {
    pub(super) fn new(
        store: &MetricStore,
        text: &'a str,
        plan: &'a Plan,
        query: Span,
        options: &'a Options,
        began: Instant,
    ) -> Evaluated<Self> {
        let (data, budget) = load::load(store, plan, query, options)?;
        Ok(Eval {
            text,
            plan,
            options,
            data,
            query,
            lookback: i64::try_from(options.lookback.as_millis()).unwrap_or(i64::MAX),
            deadline: began + options.timeout,
            budget: Cell::new(budget),
            notes: RefCell::default(),
            nameless: RefCell::default(),
            distinct: RefCell::default(),
        })
    }

    pub(super) fn instant(self) -> Evaluated<Answer> {
        let t = self.query.start;
        let frame = Frame::new(self.query);
        let root = &self.plan.root;
        let value = match root.ty {
            Type::Scalar => QueryValue::Scalar(self.scalar(root, &frame, t)?),
            Type::Text => QueryValue::Text(text(root).to_string()),
            Type::Vector => {
                let v = self.finished(self.vector(root, &frame, t)?)?;
                QueryValue::Vector(
                    v.into_iter()
                        .map(|s| VectorSample {
                            labels: s.labels,
                            value: s.v,
                        })
                        .collect(),
                )
            }
            Type::Matrix => QueryValue::Matrix(self.raw(root, &frame, t)?),
        };
        Ok(self.answer(value))
    }

    pub(super) fn range(self) -> Evaluated<Answer> {
        let frame = Frame::new(self.query);
        let root = &self.plan.root;
        let value = match root.ty {
            Type::Scalar => {
                let times: Vec<i64> = self.query.steps().collect();
                let values: Result<Vec<f64>, _> = times
                    .iter()
                    .map(|&t| self.scalar(root, &frame, t))
                    .collect();
                vec![SeriesData {
                    labels: Labels::default(),
                    times,
                    values: values?,
                }]
            }
            Type::Vector => {
                let series = self.stepped(root, &frame, true)?;
                series
                    .into_iter()
                    .map(|l| SeriesData {
                        labels: l.labels,
                        times: l.times,
                        values: l.values,
                    })
                    .collect()
            }
            Type::Text | Type::Matrix => {
                let got = if root.ty == Type::Text {
                    "string"
                } else {
                    "range vector"
                };
                return Err(QueryError::parse(
                    "1:1",
                    format!(
                        "invalid expression type {got:?} for range query, must be Scalar or instant Vector"
                    ),
                ));
            }
        };
        Ok(self.answer(QueryValue::Matrix(value)))
    }

    fn answer(self, value: QueryValue) -> Answer {
        let notes = self.notes.into_inner();
        Answer {
            value,
            warnings: notes.warnings.into_iter().collect(),
            infos: notes.infos.into_iter().collect(),
        }
    }

    /// Evaluates a vector at every step of the frame and gathers it by series, sorted by labels.
    fn stepped(&self, node: &Node, frame: &Frame, finish: bool) -> Evaluated<Vec<Loaded>> {
        let mut out: Vec<Loaded> = Vec::new();
        let mut by_labels: HashMap<(Labels, bool), usize> = HashMap::new();
        // The same, found by the address of labels that come back at every step.
        let mut by_address: AddressMap<(usize, u32), (Labels, usize)> = AddressMap::default();
        for t in frame.span.steps() {
            let mut v = self.vector(node, frame, t)?;
            if finish {
                v = self.finished(v)?;
            }
            self.spend(v.len())?;
            for s in v {
                let key = (s.labels.address(), u32::from(s.drop_name));
                let place = match by_address.get(&key) {
                    Some((_, place)) => *place,
                    None => {
                        let place = *by_labels
                            .entry((s.labels.clone(), s.drop_name))
                            .or_insert_with_key(|(labels, drop_name)| {
                                out.push(Loaded {
                                    labels: labels.clone(),
                                    drop_name: *drop_name,
                                    times: Vec::new(),
                                    values: Vec::new(),
                                });
                                out.len() - 1
                            });
                        // Labels made anew at every step never come back; keep few of them.
                        if by_address.len() < 2 * by_labels.len() + 64 {
                            by_address.insert(key, (s.labels, place));
                        }
                        place
                    }
                };
                out[place].times.push(t);
                out[place].values.push(s.v);
            }
        }
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }

    /// Raw samples of a range selector or the steps of a subquery.
    fn raw(&self, node: &Node, frame: &Frame, t: i64) -> Evaluated<Vec<SeriesData>> {
        let r = self.ranges(node, frame, t)?;
        let mut out = Vec::new();
        for s in r.series.iter() {
            let (times, values) = s.window(r.from, r.to);
            if times.is_empty() {
                continue;
            }
            let labels = if s.drop_name {
                s.labels.without_name()
            } else {
                s.labels.clone()
            };
            out.push(SeriesData {
                labels,
                times: times.to_vec(),
                values: values.to_vec(),
            });
        }
        Ok(out)
    }

    /// Checks the clock and takes `n` samples from the budget.
    pub(super) fn spend(&self, n: usize) -> Evaluated<()> {
        let left = self.budget.get();
        if n > left {
            return Err(QueryError::TooManySamples(self.options.max_samples));
        }
        self.budget.set(left - n);
        if Instant::now() >= self.deadline {
            return Err(QueryError::Timeout);
        }
        Ok(())
    }

    pub(super) fn warn(&self, node: &Node, message: &str) {
        let place = position(self.text, node.at);
        let text = format!("PromQL warning: {message} ({place})");
        self.notes.borrow_mut().warnings.insert(text);
    }

    pub(super) fn inform(&self, node: &Node, message: &str) {
        let place = position(self.text, node.at);
        let text = format!("PromQL info: {message} ({place})");
        self.notes.borrow_mut().infos.insert(text);
    }

    pub(super) fn is_range_query(&self) -> bool {
        self.query.start != self.query.end
    }

    pub(super) fn scalar(&self, node: &Node, frame: &Frame, t: i64) -> Evaluated<f64> {
        self.spend(0)?;
        Ok(match &node.kind {
            Kind::Number(v) => *v,
            Kind::Negate(n) => -self.scalar(n, frame, t)?,
            Kind::Binary(b) => {
                let l = self.scalar(&b.lhs, frame, t)?;
                let r = self.scalar(&b.rhs, frame, t)?;
                super::binary::scalars(b.op, l, r)
            }
            Kind::Call(Func::Time, _) => t as f64 / 1000.0,
            Kind::Call(Func::Pi, _) => std::f64::consts::PI,
            Kind::Call(Func::Scalar, args) => match self.vector(&args[0], frame, t)?.as_slice() {
                [one] => one.v,
                _ => f64::NAN,
            },
            _ => return Err(bug("scalar")),
        })
    }

    pub(super) fn vector(&self, node: &Node, frame: &Frame, t: i64) -> Evaluated<Vec<Sample>> {
        self.spend(0)?;
        match &node.kind {
            Kind::Select(_) => self.newest(node, frame, t),
            Kind::Negate(n) => {
                let mut v = self.vector(n, frame, t)?;
                v.iter_mut().for_each(|s| s.v = -s.v);
                self.without_names(v)
            }
            Kind::Call(f, args) => self.call(node, *f, args, frame, t),
            Kind::Aggregate(a) => self.aggregate(node, a, frame, t),
            Kind::Binary(b) => self.binary(node, b, frame, t),
            _ => Err(bug("instant vector")),
        }
    }

    /// The newest sample of every series of an instant selector, with its own time.
    pub(super) fn select(&self, i: usize, t: i64) -> impl Iterator<Item = (&Labels, i64, f64)> {
        let at = self.plan.selectors[i].when.resolve(t, self.query);
        let after = at.saturating_sub(self.lookback);
        self.data[i].iter().filter_map(move |s| {
            let k = s.times.partition_point(|&x| x <= at).checked_sub(1)?;
            let (time, v) = (s.times[k], s.values[k]);
            (time > after && !is_stale(v)).then_some((&s.labels, time, v))
        })
    }

    pub(super) fn ranges(&self, node: &Node, frame: &Frame, t: i64) -> Evaluated<Ranges> {
        self.spend(0)?;
        match &node.kind {
            Kind::Select(i) => {
                let s = &self.plan.selectors[*i];
                let to = s.when.resolve(t, self.query);
                Ok(Ranges {
                    series: Rc::clone(&self.data[*i]),
                    from: to.saturating_sub(s.range.unwrap_or(0)),
                    to,
                })
            }
            Kind::Subquery(s) => {
                let to = s.when.resolve(t, self.query);
                Ok(Ranges {
                    series: self.subquery(node.id, s, frame)?,
                    from: to.saturating_sub(s.range),
                    to,
                })
            }
            _ => Err(bug("range vector")),
        }
    }

    pub(super) fn subquery(
        &self,
        id: usize,
        s: &Subquery,
        frame: &Frame,
    ) -> Evaluated<Rc<Vec<Loaded>>> {
        if let Some(done) = frame.subqueries.borrow().get(&id) {
            return Ok(Rc::clone(done));
        }
        let default = i64::try_from(self.options.default_step.as_millis()).unwrap_or(i64::MAX);
        let step = s.step.unwrap_or(default).max(1);
        let before = s
            .when
            .resolve(frame.span.start, self.query)
            .saturating_sub(s.range);
        // Steps are multiples of the step since 1970, whatever the query's own times are.
        let mut start = step * (before / step);
        if start <= before {
            start += step;
        }
        let end = s.when.resolve(frame.span.end, self.query);
        let inner = Frame::new(Span { start, end, step });
        let series = Rc::new(self.stepped(&s.inner, &inner, false)?);
        frame.subqueries.borrow_mut().insert(id, Rc::clone(&series));
        Ok(series)
    }

    /// Drops the metric's name of every element, now or at the end of the query.
    pub(super) fn without_names(&self, mut v: Vec<Sample>) -> Evaluated<Vec<Sample>> {
        if self.options.delayed_name_removal {
            v.iter_mut().for_each(|s| s.drop_name = true);
            return Ok(v);
        }
        let mut known = self.nameless.borrow_mut();
        let mut first = None;
        let mut same_name = true;
        for s in &mut v {
            let (labels, name) = known.of(&s.labels);
            s.labels = labels;
            same_name &= *first.get_or_insert(name) == name;
        }
        if same_name { Ok(v) } else { self.unique(v) }
    }

    /// Refuses two elements of equal labels.
    pub(super) fn unique(&self, v: Vec<Sample>) -> Evaluated<Vec<Sample>> {
        if v.len() < 2 {
            return Ok(v);
        }
        let mut before = self.distinct.borrow_mut();
        let same = |(s, l): (&Sample, &Labels)| s.labels.address() == l.address();
        if before.len() == v.len() && v.iter().zip(before.iter()).all(same) {
            return Ok(v);
        }
        let mut seen = HashSet::with_capacity(v.len());
        if !v.iter().all(|s| seen.insert(&s.labels)) {
            return Err(QueryError::Execution(
                "vector cannot contain metrics with the same labelset".into(),
            ));
        }
        *before = v.iter().map(|s| s.labels.clone()).collect();
        Ok(v)
    }

    /// Drops the names that are still to be dropped.
    fn finished(&self, mut v: Vec<Sample>) -> Evaluated<Vec<Sample>> {
        let mut known = self.nameless.borrow_mut();
        for s in v.iter_mut().filter(|s| s.drop_name) {
            s.labels = known.of(&s.labels).0;
            s.drop_name = false;
        }
        self.unique(v)
    }
}

/// The text of a string literal.
pub(super) fn text(node: &Node) -> &str {
    match &node.kind {
        Kind::Text(s) => s,
        _ => "",
    }
}

/// The plan checks types, so this is never seen; it is an error and not a panic all the same.
pub(super) fn bug(want: &str) -> QueryError {
    QueryError::Execution(format!(
        "internal error: expected an expression of type {want}"
    ))
}
