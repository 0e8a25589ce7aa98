//! Scales, axes and paths of a chart.

use std::fmt::Write as _;

use maud::{Markup, html};

/// Size of every chart, in its own units; the page scales it.
pub(in crate::report) const WIDTH: f64 = 640.0;
pub(in crate::report) const HEIGHT: f64 = 250.0;

const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 36.0;

/// Maps values to places along one axis.
#[derive(Clone, Copy)]
pub(in crate::report) struct Scale {
    from: f64,
    to: f64,
    log: bool,
    first: f64,
    last: f64,
}

impl Scale {
    fn new(from: f64, to: f64, log: bool, first: f64, last: f64) -> Self {
        let to = if to > from {
            to
        } else {
            from + if log { from } else { 1.0 }
        };
        Self {
            from,
            to,
            log,
            first,
            last,
        }
    }

    /// Along the bottom, `from` at the left.
    pub(in crate::report) fn across(from: f64, to: f64) -> Self {
        Self::new(from, to, false, LEFT, WIDTH - RIGHT)
    }

    /// Along the bottom, logarithmic; both ends above 0.
    pub(in crate::report) fn across_log(from: f64, to: f64) -> Self {
        Self::new(from, to, true, LEFT, WIDTH - RIGHT)
    }

    /// Upwards from 0 to a round number at or above `most`.
    pub(in crate::report) fn up(most: f64) -> Self {
        let most = if most.is_finite() && most > 0.0 {
            most
        } else {
            1.0
        };
        let step = round_step(most / 4.0);
        Self::new(
            0.0,
            (most / step).ceil() * step,
            false,
            HEIGHT - BOTTOM,
            TOP,
        )
    }

    /// Upwards, logarithmic; both ends above 0.
    pub(in crate::report) fn up_log(from: f64, to: f64) -> Self {
        Self::new(from, to, true, HEIGHT - BOTTOM, TOP)
    }

    /// Where a value lies; values beyond the ends lie on them.
    pub(in crate::report) fn at(&self, value: f64) -> f64 {
        let share = if self.log {
            let value = value.max(f64::MIN_POSITIVE);
            (value / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        let share = if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self.first + share * (self.last - self.first)
    }

    /// Whether a value lies between the ends.
    pub(in crate::report) fn holds(&self, value: f64) -> bool {
        value >= self.from && value <= self.to
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            self.log_ticks()
        } else {
            self.linear_ticks()
        }
    }

    fn linear_ticks(&self) -> Vec<f64> {
        let step = round_step((self.to - self.from) / 5.0);
        let first = (self.from / step).ceil() as i64;
        (first..first + 20)
            .map(|n| n as f64 * step)
            .take_while(|t| *t <= self.to * 1.000_001)
            .collect()
    }

    /// Powers of ten, and with room 2 and 5 times them.
    fn log_ticks(&self) -> Vec<f64> {
        let decades = (self.to / self.from).log10();
        let steps: &[f64] = if decades > 3.5 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let first = self.from.log10().floor() as i32;
        (first..first + 16)
            .flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)))
            .filter(|tick| *tick >= self.from * 0.999 && *tick <= self.to * 1.001)
            .collect()
    }
}

/// The least of 1, 2, 5 times a power of ten that is not less than `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-12).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|round| *round >= step * 0.999_999)
        .unwrap_or(power * 10.0)
}

/// A path through the points that are there, with gaps where they are not.
pub(in crate::report) fn line(points: impl IntoIterator<Item = Option<(f64, f64)>>) -> String {
    let mut out = String::new();
    let mut pen = 'M';
    for point in points {
        match point {
            Some((x, y)) => {
                let _ = write!(out, "{pen}{x:.1} {y:.1}");
                // A point with a gap on both sides would be drawn as nothing; round caps show this.
                if pen == 'M' {
                    out.push_str("h0");
                }
                pen = 'L';
            }
            None => pen = 'M',
        }
    }
    out
}

/// One column of a staircase: left, right, bottom and top edge.
pub(in crate::report) type Step = (f64, f64, f64, f64);

/// Filled columns.
pub(in crate::report) fn steps(steps: &[Step]) -> String {
    let mut out = String::new();
    for (from, to, bottom, top) in steps.iter().filter(|(_, _, bottom, top)| bottom > top) {
        let _ = write!(out, "M{from:.1} {bottom:.1}V{top:.1}H{to:.1}V{bottom:.1}Z");
    }
    out
}

/// The outline of a staircase, going down to the bottom where columns are missing.
pub(in crate::report) fn stairs(steps: &[Step]) -> String {
    let mut out = String::new();
    let mut end: Option<f64> = None;
    for (from, to, bottom, top) in steps {
        match end {
            None => {
                let _ = write!(out, "M{from:.1} {bottom:.1}");
            }
            Some(end) if (from - end).abs() > 0.05 => {
                let _ = write!(out, "V{bottom:.1}H{from:.1}");
            }
            Some(_) => {}
        }
        let _ = write!(out, "V{top:.1}H{to:.1}");
        end = Some(*to);
    }
    if !steps.is_empty() {
        let _ = write!(out, "V{:.1}", floor());
    }
    out
}

/// Bottom of the drawing.
pub(in crate::report) fn floor() -> f64 {
    HEIGHT - BOTTOM
}

/// Grid, ticks and names of both axes.
pub(in crate::report) fn axes(
    x: &Scale,
    y: &Scale,
    across: impl Fn(f64) -> String,
    up: impl Fn(f64) -> String,
    name: &str,
) -> Markup {
    html! {
        g.grid aria-hidden="true" {
            @for tick in y.ticks() {
                line x1=(LEFT) x2=(WIDTH - RIGHT) y1=(px(y.at(tick))) y2=(px(y.at(tick))) {}
                text.y x=(LEFT - 8.0) y=(px(y.at(tick) + 4.0)) { (up(tick)) }
            }
            line.floor x1=(LEFT) x2=(WIDTH - RIGHT) y1=(floor()) y2=(floor()) {}
            @for tick in spread(x) {
                line.tick x1=(px(x.at(tick))) x2=(px(x.at(tick))) y1=(floor()) y2=(floor() + 4.0) {}
                text.x x=(px(x.at(tick))) y=(floor() + 17.0) { (across(tick)) }
            }
            text.x x=((LEFT + WIDTH - RIGHT) / 2.0) y=(HEIGHT - 3.0) { (name) }
        }
    }
}

/// Ticks that leave room for their labels.
fn spread(x: &Scale) -> Vec<f64> {
    let mut kept: Vec<f64> = Vec::new();
    for tick in x.ticks() {
        if kept
            .last()
            .is_none_or(|last| (x.at(tick) - x.at(*last)).abs() >= 52.0)
        {
            kept.push(tick);
        }
    }
    kept
}

/// A shaded stretch with its name.
pub(in crate::report) fn stretch(x: &Scale, from: f64, to: f64, name: &str) -> Markup {
    let (left, right) = (x.at(from), x.at(to));
    html! {
        rect.stretch x=(px(left)) y=(TOP) width=(px((right - left).max(0.0))) height=(px(floor() - TOP)) {}
        @if right - left > 50.0 { text.stretch x=(px(left + 5.0)) y=(TOP - 7.0) { (name) } }
    }
}

/// A level drawn across, with its name.
pub(in crate::report) fn level(y: &Scale, value: f64, name: &str) -> Markup {
    let at = y.at(value);
    html! {
        line.limit x1=(LEFT) x2=(WIDTH - RIGHT) y1=(px(at)) y2=(px(at)) {}
        text.limit.end x=(WIDTH - RIGHT - 4.0) y=(px(at - 5.0)) { (name) }
    }
}

/// An instant or a value drawn upright, with its name.
pub(in crate::report) fn upright(x: &Scale, value: f64, name: &str) -> Markup {
    let at = x.at(value);
    let late = at > WIDTH * 0.62;
    html! {
        line.limit x1=(px(at)) x2=(px(at)) y1=(TOP) y2=(floor()) {}
        text.limit.end[late] x=(px(if late { at - 5.0 } else { at + 5.0 })) y=(TOP - 7.0) { (name) }
    }
}

/// A coordinate with a tenth of a unit.
pub(in crate::report) fn px(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_map_their_ends_and_keep_within_them() {
        let x = Scale::across(0.0, 10.0);
        assert_eq!((x.at(0.0), x.at(10.0)), (LEFT, WIDTH - RIGHT));
        assert_eq!(x.at(99.0), WIDTH - RIGHT);
        assert_eq!(x.at(f64::NAN), LEFT);
        let y = Scale::up_log(0.001, 1.0);
        assert!((y.at(0.031_622_776) - (HEIGHT - BOTTOM + TOP) / 2.0).abs() < 0.01);
        assert_eq!(Scale::up(0.0).ticks().last(), Some(&1.0));
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(Scale::up(37.0).ticks(), [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(
            Scale::up_log(0.001, 0.01).ticks(),
            [0.001, 0.002, 0.005, 0.01]
        );
        for most in [1e-9, 0.3, 7.0, 1e12] {
            let ticks = Scale::up(most).ticks();
            assert!((2..=8).contains(&ticks.len()), "{most}: {ticks:?}");
        }
    }

    #[test]
    fn lines_have_gaps_where_values_are_missing() {
        let path = line([Some((0.0, 1.0)), Some((1.0, 1.0)), None, Some((3.0, 2.0))]);
        assert_eq!(path, "M0.0 1.0h0L1.0 1.0M3.0 2.0h0");
    }
}
