//! Functions of the samples in a range.

use super::error::QueryError;
use super::eval::{Eval, Evaluated, Frame, Sample};
use super::num::{self, Kahan, Mean};
use super::plan::{Kind, Node, OverFn};
use crate::store::metrics::{Labels, METRIC_NAME, MatchOp, Matcher};

/// The samples of one series in `(from, to]`, milliseconds; at least one.
pub(super) struct Window<'a> {
    pub(super) times: &'a [i64],
    pub(super) values: &'a [f64],
    pub(super) from: i64,
    pub(super) to: i64,
    /// The step that is evaluated; `offset` and `@` move the window away from it.
    pub(super) at: i64,
}

impl Eval<'_> {
    pub(super) fn over(
        &self,
        f: OverFn,
        arg: &Node,
        frame: &Frame,
        t: i64,
    ) -> Evaluated<Vec<Sample>> {
        if matches!(f, OverFn::Rate | OverFn::Increase) {
            self.note_gauge(arg, frame, t)?;
        }
        let v = self.each_window(arg, frame, t, &|w| apply(f, w))?;
        if f.keeps_name() {
            Ok(v)
        } else {
            self.without_names(v)
        }
    }

    pub(super) fn quantile_over_time(
        &self,
        q: &Node,
        arg: &Node,
        frame: &Frame,
        t: i64,
    ) -> Evaluated<Vec<Sample>> {
        let qv = self.scalar(q, frame, t)?;
        self.check_quantile(q, qv);
        let fixed = matches!(q.kind, Kind::Number(_));
        let v = self.each_range(arg, frame, t, fixed, &|w| {
            Some(num::quantile(qv, &mut w.values.to_vec()))
        })?;
        self.without_names(v)
    }

    pub(super) fn predict_linear(
        &self,
        arg: &Node,
        ahead: &Node,
        frame: &Frame,
        t: i64,
    ) -> Evaluated<Vec<Sample>> {
        let seconds = self.scalar(ahead, frame, t)?;
        let fixed = matches!(ahead.kind, Kind::Number(_));
        let v = self.each_range(arg, frame, t, fixed, &|w| {
            if w.values.len() < 2 {
                return None;
            }
            let (slope, intercept) = num::regression(w.times, w.values, w.at);
            Some(slope * seconds + intercept)
        })?;
        self.without_names(v)
    }

    pub(super) fn absent_over_time(
        &self,
        arg: &Node,
        frame: &Frame,
        t: i64,
    ) -> Evaluated<Vec<Sample>> {
        let present = self.each_window(arg, frame, t, &|_| Some(1.0))?;
        Ok(self.absent_unless(!present.is_empty(), arg))
    }

    /// The vector of `absent`: one element with the labels that the selector fixes, or none.
    pub(super) fn absent_unless(&self, present: bool, arg: &Node) -> Vec<Sample> {
        if present {
            return Vec::new();
        }
        let labels = match arg.kind {
            Kind::Select(i) => fixed_labels(&self.plan.selectors[i].matchers),
            _ => Labels::default(),
        };
        vec![Sample::new(labels, 1.0)]
    }

    /// As [`Eval::each_window`]; when `f` is another at every step (not `fixed`), without a block.
    fn each_range(
        &self,
        arg: &Node,
        frame: &Frame,
        t: i64,
        fixed: bool,
        f: &dyn Fn(&Window<'_>) -> Option<f64>,
    ) -> Evaluated<Vec<Sample>> {
        if fixed {
            return self.each_window(arg, frame, t, f);
        }
        let r = self.ranges(arg, frame, t)?;
        let mut out = Vec::with_capacity(r.series.len());
        for s in r.series.iter() {
            let (times, values) = s.window(r.from, r.to);
            if times.is_empty() {
                continue;
            }
            let w = Window {
                times,
                values,
                from: r.from,
                to: r.to,
                at: t,
            };
            if let Some(v) = f(&w) {
                out.push(Sample {
                    labels: s.labels.clone(),
                    drop_name: s.drop_name,
                    v,
                });
            }
        }
        self.spend(0)?;
        Ok(out)
    }

    fn note_gauge(&self, arg: &Node, frame: &Frame, t: i64) -> Result<(), QueryError> {
        let r = self.ranges(arg, frame, t)?;
        let first = r
            .series
            .iter()
            .find(|s| !s.window(r.from, r.to).0.is_empty());
        let name = first.map_or("", |s| s.labels.metric_name());
        let counter = ["_total", "_sum", "_count", "_bucket"]
            .iter()
            .any(|e| name.ends_with(e));
        if !name.is_empty() && !counter {
            self.inform(
                arg,
                &format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name:?}"),
            );
        }
        Ok(())
    }
}

/// Labels that equality matchers fix; a label named by several matchers is not fixed.
fn fixed_labels(matchers: &[Matcher]) -> Labels {
    let mut out = Labels::default();
    let mut seen: Vec<&str> = Vec::new();
    for m in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        let again = seen.contains(&m.name.as_str());
        let fixes = m.op == MatchOp::Equal && !again;
        out = out.with(&m.name, if fixes { &m.value } else { "" });
        seen.push(&m.name);
    }
    out
}

fn apply(f: OverFn, w: &Window<'_>) -> Option<f64> {
    let v = w.values;
    let (first, last) = (*v.first()?, *v.last()?);
    Some(match f {
        OverFn::Rate => extrapolated(w, true)? / ((w.to - w.from) as f64 / 1000.0),
        OverFn::Increase => extrapolated(w, true)?,
        OverFn::Delta => extrapolated(w, false)?,
        OverFn::Irate => {
            let (dv, dt, prev) = last_two(w)?;
            (if dv < 0.0 || last < prev { last } else { dv }) / dt
        }
        OverFn::Idelta => last_two(w)?.0,
        OverFn::Deriv => {
            if v.len() < 2 {
                return None;
            }
            num::regression(w.times, v, w.times[0]).0
        }
        OverFn::Resets => v.windows(2).filter(|p| p[1] < p[0]).count() as f64,
        OverFn::Changes => {
            let changed = |p: &&[f64]| p[1] != p[0] && !(p[0].is_nan() && p[1].is_nan());
            v.windows(2).filter(changed).count() as f64
        }
        OverFn::Avg => {
            let mut m = Mean::new(first);
            v[1..].iter().for_each(|&x| m.add(x));
            m.value()
        }
        OverFn::Sum => {
            let mut k = Kahan::default();
            v.iter().for_each(|&x| k.add(x));
            k.value()
        }
        OverFn::Min => v
            .iter()
            .fold(first, |a, &b| if b < a || a.is_nan() { b } else { a }),
        OverFn::Max => v
            .iter()
            .fold(first, |a, &b| if b > a || a.is_nan() { b } else { a }),
        OverFn::Count => v.len() as f64,
        OverFn::Last => last,
        OverFn::First => first,
        OverFn::Present => 1.0,
        OverFn::Stddev => num::variance(v.iter().copied()).sqrt(),
        OverFn::Stdvar => num::variance(v.iter().copied()),
    })
}

/// Difference, distance in seconds, and the value before the last.
fn last_two(w: &Window<'_>) -> Option<(f64, f64, f64)> {
    let n = w.values.len();
    if n < 2 {
        return None;
    }
    let (a, b) = (w.values[n - 2], w.values[n - 1]);
    let ms = w.times[n - 1] - w.times[n - 2];
    (ms != 0).then_some((b - a, ms as f64 / 1000.0, a))
}

/// The growth over the whole range, from that between the first and the last sample: stretched to an
/// edge of the range that is nearer than 1.1 average intervals, else by half an interval, and for a
/// counter never to below zero.
fn extrapolated(w: &Window<'_>, counter: bool) -> Option<f64> {
    let v = w.values;
    if v.len() < 2 {
        return None;
    }
    let (first_t, last_t) = (w.times[0], w.times[v.len() - 1]);
    let mut result = v[v.len() - 1] - v[0];
    if counter {
        result = v
            .windows(2)
            .filter(|p| p[1] < p[0])
            .fold(result, |r, p| r + p[0]);
    }
    let mut to_start = (first_t - w.from) as f64 / 1000.0;
    let mut to_end = (w.to - last_t) as f64 / 1000.0;
    let sampled = (last_t - first_t) as f64 / 1000.0;
    let interval = sampled / (v.len() - 1) as f64;
    if to_start >= interval * 1.1 {
        to_start = interval / 2.0;
    }
    if counter {
        let mut to_zero = to_start;
        if result > 0.0 && v[0] >= 0.0 {
            to_zero = sampled * (v[0] / result);
        }
        to_start = to_start.min(to_zero);
    }
    if to_end >= interval * 1.1 {
        to_end = interval / 2.0;
    }
    Some(result * ((sampled + to_start + to_end) / sampled))
}
