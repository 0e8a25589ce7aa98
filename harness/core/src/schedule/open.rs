//! Open loads: arrivals that wait for no answer.
//!
//! Let `L(t)` be the integral of the scenario's rate from the load's start. Evenly spaced arrivals
//! lie where `L` reaches 0, 1, 2, …; a Poisson process where `L` reaches the sums of exponential
//! gaps of mean 1. Both hold for constant and for ramping rates, and need only the inverse of `L`
//! within one stage. The n-th arrival follows from the stage's start, never from a chain of sleeps.

use super::random::{Purpose, Stream};
use super::{Arrival, Mix, id};
use crate::scenario::{Executor, Load, Rate, Scenario, Spacing};
use crate::units::{Nanos, Phase};

/// Bits after the point in which the integral of the rate is carried from stage to stage. Rounding
/// down by less than 2^-32 of a request moves no arrival across a stage's border, since an arrival
/// at the border belongs to the next stage.
const FRACTION_BITS: u32 = 32;

/// All arrivals of the scenario's open loads, in order of `due` (then of load). O(1) memory.
#[must_use]
pub fn open(scenario: &Scenario) -> Open {
    let loads = (0_u16..).zip(&scenario.spec.loads);
    let mut loads: Vec<(Option<Arrival>, OpenLoad)> = loads
        .filter(|(_, load)| load.executor.is_open())
        .map(|(index, load)| (None, OpenLoad::new(scenario, index, load)))
        .collect();
    for (next, load) in &mut loads {
        *next = load.next();
    }
    Open { loads }
}

/// See [`open`].
#[derive(Debug, Clone)]
pub struct Open {
    loads: Vec<(Option<Arrival>, OpenLoad)>,
}

impl Iterator for Open {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let due = |entry: &(Option<Arrival>, OpenLoad)| {
            entry.0.map(|arrival| (arrival.due, arrival.load))
        };
        let earliest = self
            .loads
            .iter_mut()
            .filter(|e| e.0.is_some())
            .min_by_key(|e| due(e))?;
        let arrival = earliest.0.take();
        earliest.0 = earliest.1.next();
        arrival
    }
}

/// One open load's arrivals.
#[derive(Debug, Clone)]
struct OpenLoad {
    load: u16,
    stages: std::vec::IntoIter<Segment>,
    now: Option<Segment>,
    spacing: Points,
    mix: Mix,
    choices: Stream,
    n: u64,
    /// Rounding on a ramp could step back by a nanosecond; arrivals never do.
    last: Nanos,
}

impl OpenLoad {
    fn new(scenario: &Scenario, index: u16, load: &Load) -> Self {
        let seed = scenario.spec.seed;
        let stream = u64::from(index);
        let mut stages = segments(load).into_iter();
        let spacing = match load.spacing {
            Some(Spacing::Poisson) => {
                let mut timing = Box::new(Stream::new(seed, Purpose::Timing, stream));
                Points::Poisson {
                    next: timing.exponential(),
                    timing,
                }
            }
            // Gamma is refused by the scenario's checks.
            _ => Points::Even { next: 0, before: 0 },
        };
        Self {
            load: index,
            now: stages.next(),
            stages,
            spacing,
            mix: Mix::new(scenario, load),
            choices: Stream::new(seed, Purpose::Mix, stream),
            n: 0,
            last: Nanos(0),
        }
    }

    fn next(&mut self) -> Option<Arrival> {
        loop {
            let segment = self.now.as_ref()?;
            if let Some(due) = self.spacing.next_in(segment) {
                let phase = segment.phase;
                let (request, nth) = self.mix.draw(&mut self.choices)?;
                let n = self.n;
                let due = due.max(self.last);
                self.n += 1;
                self.last = due;
                return Some(Arrival {
                    id: id(self.load, n),
                    load: self.load,
                    request,
                    nth,
                    phase,
                    due,
                    vu: None,
                });
            }
            self.now = self.stages.next();
        }
    }
}

/// A stage with the rates at its ends.
#[derive(Debug, Clone)]
struct Segment {
    phase: Phase,
    start: u64,
    length: u64,
    /// Rate at its start.
    from: Rate,
    /// Rate at its end.
    to: Rate,
}

fn segments(load: &Load) -> Vec<Segment> {
    let mut start = load.start().0;
    let mut before = Rate {
        events: 0,
        per_nanos: 1,
    };
    let mut all = Vec::new();
    for stage in &load.stages {
        // A stage of an open load without a rate is refused by the scenario's checks.
        let to = stage.rate.unwrap_or(Rate {
            events: 0,
            per_nanos: 1,
        });
        let from = if load.executor == Executor::RampingArrivalRate {
            before
        } else {
            to
        };
        let length = stage.length.nanos();
        all.push(Segment {
            phase: stage.phase,
            start,
            length,
            from,
            to,
        });
        start = start.saturating_add(length);
        before = to;
    }
    all
}

impl Segment {
    /// The integral of the rate over the stage, in 2^-32 requests, rounded down. Exact where the
    /// stage holds a whole number of requests at a constant rate.
    fn integral(&self) -> u128 {
        if self.from == self.to {
            return area(self.to, self.length);
        }
        (area(self.from, self.length) + area(self.to, self.length)) / 2
    }

    /// Nanoseconds after the stage's start at which the integral has grown by `requests`.
    fn after(&self, requests: f64) -> f64 {
        let rate = |rate: Rate| rate.events as f64 / rate.per_nanos as f64;
        let (from, to) = (rate(self.from), rate(self.to));
        if self.from == self.to {
            return requests / to;
        }
        // The root of `from·t + slope·t²/2 = requests` in the form that loses no digits, for
        // rising and falling rates alike. Square root and division are exact in IEEE 754.
        let slope = (to - from) / self.length as f64;
        let under = from * from + 2.0 * slope * requests;
        2.0 * requests / (from + under.max(0.0).sqrt())
    }

    /// The instant `nanos` after the start, kept inside the stage.
    fn at(&self, nanos: f64) -> Nanos {
        // A cast of a float saturates; NaN gives 0.
        Nanos(self.start + (nanos as u64).min(self.length.saturating_sub(1)))
    }
}

fn area(rate: Rate, length: u64) -> u128 {
    let product = u128::from(rate.events) * u128::from(length);
    let per = u128::from(rate.per_nanos);
    ((product / per) << FRACTION_BITS) + ((product % per) << FRACTION_BITS) / per
}

/// The values of the rate's integral at which requests are due.
#[derive(Debug, Clone)]
enum Points {
    Even {
        /// The next request's number, which is the value of the integral at which it is due.
        next: u128,
        /// The integral up to the current stage, in 2^-32 requests.
        before: u128,
    },
    Poisson {
        /// What the integral has to grow by, from the current stage's start to the next request.
        next: f64,
        timing: Box<Stream>,
    },
}

impl Points {
    /// The next request due in this stage; `None` moves on to the next stage.
    fn next_in(&mut self, stage: &Segment) -> Option<Nanos> {
        match self {
            Self::Even { next, before } => {
                let grown = (*next << FRACTION_BITS) - *before;
                let integral = stage.integral();
                if grown >= integral {
                    *before += integral;
                    return None;
                }
                *next += 1;
                Some(even_due(stage, grown))
            }
            Self::Poisson { next, timing } => {
                let integral = stage.integral() as f64 / (1_u64 << FRACTION_BITS) as f64;
                if *next >= integral {
                    *next -= integral;
                    return None;
                }
                let due = stage.at(stage.after(*next));
                *next += timing.exponential();
                Some(due)
            }
        }
    }
}

/// When the integral has grown by `grown` 2^-32 requests since the stage's start: in whole
/// numbers, rounded down, at a constant rate; as floats on a ramp.
fn even_due(stage: &Segment, grown: u128) -> Nanos {
    let per = u128::from(stage.to.per_nanos);
    let exact = (stage.from == stage.to)
        .then(|| grown.checked_mul(per))
        .flatten()
        .map(|product| (product / u128::from(stage.to.events.max(1))) >> FRACTION_BITS)
        .and_then(|nanos| u64::try_from(nanos).ok());
    match exact {
        Some(nanos) => Nanos(stage.start + nanos.min(stage.length.saturating_sub(1))),
        None => stage.at(stage.after(grown as f64 / (1_u64 << FRACTION_BITS) as f64)),
    }
}
