//! The course of an open load's rate, in pieces whose integral has an inverse.

use crate::scenario::{Executor, Load, Rate, Spike, Stage};
use crate::units::{Nanos, Phase};

/// Bits after the point in which the integral of the rate is carried from piece to piece. Rounding
/// down by less than 2^-32 of a request moves no arrival across a border, since an arrival at the
/// border belongs to the next piece.
pub(super) const FRACTION_BITS: u32 = 32;

const NOTHING: Rate = Rate {
    events: 0,
    per_nanos: 1,
};

/// A stretch of time with one formula for the rate.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) phase: Phase,
    /// Nanoseconds since the start of the run.
    pub(super) start: u64,
    pub(super) length: u64,
    course: Course,
}

#[derive(Debug, Clone)]
enum Course {
    /// From the first rate to the second, linearly.
    Linear(Rate, Rate),
    /// `mean + amplitude · sin(2π · t / period)`.
    Sine {
        mean: Rate,
        amplitude: Rate,
        period: u64,
    },
}

/// The pieces of an open load that starts at `start`.
pub(super) fn segments(load: &Load, start: u64) -> Vec<Segment> {
    let mut all = Pieces {
        all: Vec::new(),
        start,
    };
    let mut before = NOTHING;
    for stage in &load.stages {
        // A stage without a rate, of a load that has rates, is refused by the scenario's checks.
        let to = stage.rate.unwrap_or(NOTHING);
        if load.executor == Executor::RampingArrivalRate {
            all.push(stage, stage.length.nanos(), Course::Linear(before, to));
        } else if let Some(sine) = &stage.sine {
            let course = Course::Sine {
                mean: to,
                amplitude: sine.amplitude,
                period: sine.period.nanos().max(1),
            };
            all.push(stage, stage.length.nanos(), course);
        } else if let Some(spike) = &stage.spike {
            all.spike(stage, to, spike);
        } else {
            all.push(stage, stage.length.nanos(), Course::Linear(to, to));
        }
        before = to;
    }
    all.all
}

struct Pieces {
    all: Vec<Segment>,
    start: u64,
}

impl Pieces {
    fn push(&mut self, stage: &Stage, length: u64, course: Course) {
        if length == 0 {
            return;
        }
        self.all.push(Segment {
            phase: stage.phase,
            start: self.start,
            length,
            course,
        });
        self.start = self.start.saturating_add(length);
    }

    fn spike(&mut self, stage: &Stage, base: Rate, spike: &Spike) {
        let ramp = spike.ramp.map_or(0, |ramp| ramp.nanos());
        let (at, full) = (spike.at.nanos(), spike.length.nanos());
        let used = at
            .saturating_add(full)
            .saturating_add(ramp.saturating_mul(2));
        self.push(stage, at, Course::Linear(base, base));
        self.push(stage, ramp, Course::Linear(base, spike.to));
        self.push(stage, full, Course::Linear(spike.to, spike.to));
        self.push(stage, ramp, Course::Linear(spike.to, base));
        let rest = stage.length.nanos().saturating_sub(used);
        self.push(stage, rest, Course::Linear(base, base));
    }
}

fn per_nano(rate: Rate) -> f64 {
    rate.events as f64 / rate.per_nanos as f64
}

impl Segment {
    /// The integral of the rate over the piece, in 2^-32 requests, rounded down. Exact where the
    /// piece holds a whole number of requests at a constant rate.
    pub(super) fn integral(&self) -> u128 {
        match &self.course {
            Course::Linear(from, to) if from == to => area(*to, self.length),
            Course::Linear(from, to) => (area(*from, self.length) + area(*to, self.length)) / 2,
            Course::Sine {
                mean,
                amplitude,
                period,
            } => {
                let swung = swing(*amplitude, *period, self.length as f64);
                area(*mean, self.length) + (swung * (1_u64 << FRACTION_BITS) as f64) as u128
            }
        }
    }

    /// When the integral has grown by `grown` 2^-32 requests since the piece's start: in whole
    /// numbers, rounded down, at a constant rate; else as floats.
    pub(super) fn due(&self, grown: u128) -> Nanos {
        if let Course::Linear(from, to) = &self.course
            && from == to
            && let Some(product) = grown.checked_mul(u128::from(to.per_nanos))
        {
            let nanos = (product / u128::from(to.events.max(1))) >> FRACTION_BITS;
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            return Nanos(self.start + nanos.min(self.length.saturating_sub(1)));
        }
        self.due_at(grown as f64 / (1_u64 << FRACTION_BITS) as f64)
    }

    /// When the integral has grown by `requests` since the piece's start, kept inside the piece.
    pub(super) fn due_at(&self, requests: f64) -> Nanos {
        // A cast of a float saturates; NaN gives 0.
        let nanos = self.after(requests) as u64;
        Nanos(self.start + nanos.min(self.length.saturating_sub(1)))
    }

    /// Nanoseconds after the piece's start at which the integral has grown by `requests`.
    fn after(&self, requests: f64) -> f64 {
        match &self.course {
            Course::Linear(from, to) if from == to => requests / per_nano(*to),
            Course::Linear(from, to) => {
                let (from, to) = (per_nano(*from), per_nano(*to));
                // The root of `from·t + slope·t²/2 = requests` in the form that loses no digits, for
                // rising and falling rates alike. Square root and division are exact in IEEE 754.
                let slope = (to - from) / self.length as f64;
                let under = from * from + 2.0 * slope * requests;
                2.0 * requests / (from + under.max(0.0).sqrt())
            }
            Course::Sine {
                mean,
                amplitude,
                period,
            } => {
                let mean = per_nano(*mean);
                let most = swing(*amplitude, *period, *period as f64 / 2.0);
                // The swing adds from 0 to `most` requests, which bounds the root; the integral
                // never falls, so halving finds it.
                let mut low = ((requests - most) / mean).max(0.0);
                let mut high = (requests / mean).min(self.length as f64);
                while high - low > 0.5 {
                    let middle = low + (high - low) / 2.0;
                    if mean * middle + swing(*amplitude, *period, middle) < requests {
                        low = middle;
                    } else {
                        high = middle;
                    }
                }
                high
            }
        }
    }
}

/// Requests that the swing has added `nanos` after its start:
/// `amplitude · period / 2π · (1 - cos(2π · t / period))`, from 0 to `amplitude · period / π`.
fn swing(amplitude: Rate, period: u64, nanos: f64) -> f64 {
    let period = period as f64;
    // The remainder is exact in IEEE 754, so that a whole number of swings adds nothing at all.
    let turn = std::f64::consts::TAU * ((nanos % period) / period);
    per_nano(amplitude) * period / std::f64::consts::TAU * (1.0 - libm::cos(turn))
}

fn area(rate: Rate, length: u64) -> u128 {
    let product = u128::from(rate.events) * u128::from(length);
    let per = u128::from(rate.per_nanos);
    ((product / per) << FRACTION_BITS) + ((product % per) << FRACTION_BITS) / per
}
