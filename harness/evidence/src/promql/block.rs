//! What selectors and functions of ranges give, series by series for many steps at once.
//!
//! A query over a range asks the same series for the next window at every step. Here each series is
//! walked once for a whole block of steps: its window moves forward with two indices, so no sample is
//! looked for again, and its samples stay in the processor's cache while its steps are computed.

use super::eval::{Eval, Evaluated, Frame, Sample};
use super::load::Loaded;
use super::over_time::Window;
use super::plan::{Kind, Node, When};
use crate::store::metrics::{is_stale, stale_nan};
use std::rc::Rc;

/// Steps of one block: enough to walk forward, few enough to be small beside the samples themselves.
const STEPS: usize = 64;

/// Values of all series for some steps. Where a series has none stands the stale marker, which no
/// query ever sees as a value.
pub(super) struct Block {
    series: Rc<Vec<Loaded>>,
    first: i64,
    steps: usize,
    /// The steps of the first series, then those of the second …
    values: Vec<f64>,
}

impl Block {
    fn step(&self, t: i64, step: i64) -> Option<usize> {
        let k = usize::try_from(t.checked_sub(self.first)? / step).ok()?;
        (t >= self.first && k < self.steps).then_some(k)
    }
}

/// The series a node reads, its shift in time and the length of its window.
struct Source {
    series: Rc<Vec<Loaded>>,
    when: When,
    /// Milliseconds; an instant selector's is the lookback.
    range: i64,
}

/// One step of a block.
struct Step {
    /// When it is evaluated, milliseconds.
    at: i64,
    /// Its window is `(from, to]`; `offset` and `@` move it.
    from: i64,
    to: i64,
}

/// Fills in the values of one series, one for each step.
type Fill<'f> = &'f dyn Fn(&Loaded, &[Step], &mut [f64]);

impl Eval<'_> {
    fn source(&self, node: &Node, frame: &Frame) -> Evaluated<Option<Source>> {
        Ok(match &node.kind {
            Kind::Select(i) => {
                let s = &self.plan.selectors[*i];
                Some(Source {
                    series: Rc::clone(&self.data[*i]),
                    when: s.when,
                    range: s.range.unwrap_or(self.lookback),
                })
            }
            Kind::Subquery(s) => Some(Source {
                series: self.subquery(node.id, s, frame)?,
                when: s.when,
                range: s.range,
            }),
            _ => None,
        })
    }

    /// At `t`, the value of `f` for the window of every series of a range selector or subquery. `f`
    /// must give the same for the same window, at whatever step it is asked.
    pub(super) fn each_window(
        &self,
        node: &Node,
        frame: &Frame,
        t: i64,
        f: &dyn Fn(&Window<'_>) -> Option<f64>,
    ) -> Evaluated<Vec<Sample>> {
        self.in_block(node, frame, t, &|s, steps, out| {
            let (mut a, mut b) = (0, 0);
            for (step, out) in steps.iter().zip(out) {
                let &Step { at, from, to } = step;
                (a, b) = (s.after(a, from), s.after(b, to));
                if a < b {
                    let w = Window {
                        times: &s.times[a..b],
                        values: &s.values[a..b],
                        from,
                        to,
                        at,
                    };
                    if let Some(v) = f(&w) {
                        *out = v;
                    }
                }
            }
        })
    }

    /// At `t`, the newest value of every series of an instant selector.
    pub(super) fn newest(&self, node: &Node, frame: &Frame, t: i64) -> Evaluated<Vec<Sample>> {
        self.in_block(node, frame, t, &|s, steps, out| {
            let mut next = 0;
            for (step, out) in steps.iter().zip(out) {
                next = s.after(next, step.to);
                let Some(i) = next.checked_sub(1) else {
                    continue;
                };
                if s.times[i] > step.from && !is_stale(s.values[i]) {
                    *out = s.values[i];
                }
            }
        })
    }

    /// The values at `t` out of the block that holds it, which is computed when there is none yet.
    fn in_block(
        &self,
        node: &Node,
        frame: &Frame,
        t: i64,
        fill: Fill<'_>,
    ) -> Evaluated<Vec<Sample>> {
        self.spend(0)?;
        let step = frame.span.step;
        let known = |b: &Block| b.step(t, step);
        let found = frame.blocks.borrow().get(&node.id).and_then(known);
        if found.is_none() {
            let Some(source) = self.source(node, frame)? else {
                return Err(super::eval::bug("selector"));
            };
            let ends: Vec<Step> = frame
                .span
                .steps_from(t)
                .take(STEPS)
                .map(|at| {
                    let to = source.when.resolve(at, self.query);
                    let from = to.saturating_sub(source.range);
                    Step { at, from, to }
                })
                .collect();
            let steps = ends.len();
            let mut values = vec![stale_nan(); steps * source.series.len()];
            let places = values.chunks_mut(steps.max(1));
            for (i, (s, out)) in source.series.iter().zip(places).enumerate() {
                fill(s, &ends, out);
                if i % 256 == 255 {
                    self.spend(0)?;
                }
            }
            let block = Block {
                series: source.series,
                first: t,
                steps,
                values,
            };
            frame.blocks.borrow_mut().insert(node.id, block);
        }
        let blocks = frame.blocks.borrow();
        let (Some(block), k) = (blocks.get(&node.id), found.unwrap_or(0)) else {
            return Err(super::eval::bug("selector"));
        };
        let mut out = Vec::with_capacity(block.series.len());
        for (s, values) in block.series.iter().zip(block.values.chunks(block.steps)) {
            if !is_stale(values[k]) {
                out.push(Sample {
                    labels: s.labels.clone(),
                    drop_name: s.drop_name,
                    v: values[k],
                });
            }
        }
        Ok(out)
    }
}
