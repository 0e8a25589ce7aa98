//! Open loads: arrivals that wait for no answer.
//!
//! Let `L(t)` be the integral of the scenario's rate from the load's start. Evenly spaced arrivals
//! lie where `L` reaches 0, 1, 2, …; those of a renewal process where `L` reaches the sums of gaps of
//! mean 1: exponential for a Poisson process, gamma for a burstier or an evener one. All hold for
//! constant, ramping and swinging rates, and need only the inverse of `L` within one piece of it. The
//! n-th arrival follows from the piece's start, never from a chain of sleeps.

use std::sync::Arc;

use super::random::{Purpose, Stream};
use super::shape::{FRACTION_BITS, Segment, segments};
use super::tape::{Tape, Tapes};
use super::{Arrival, Mix, id};
use crate::scenario::{Executor, Load, Scenario, Spacing};
use crate::units::{Nanos, Phase};

/// All arrivals of the scenario's open loads, in order of `due` (then of load), in O(1) memory. A
/// load that replays instants has none: see [`open_with`].
#[must_use]
pub fn open(scenario: &Scenario) -> Open {
    open_with(scenario, &Tapes::default())
}

/// All arrivals of the scenario's open loads, those replayed included. Beside the tapes, which are
/// the files, in O(1) memory.
#[must_use]
pub fn open_with(scenario: &Scenario, tapes: &Tapes) -> Open {
    let loads = (0_u16..).zip(&scenario.spec.loads);
    let mut loads: Vec<(Option<Arrival>, OpenLoad)> = loads
        .filter(|(_, load)| load.executor.is_open())
        .map(|(index, load)| (None, OpenLoad::new(scenario, index, load, tapes)))
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
    instants: Instants,
    mix: Mix,
    choices: Stream,
    n: u64,
    /// Rounding on a ramp could step back by a nanosecond; arrivals never do.
    last: Nanos,
}

#[derive(Debug, Clone)]
enum Instants {
    Paced {
        pieces: std::vec::IntoIter<Segment>,
        now: Option<Segment>,
        points: Points,
    },
    Replayed {
        tape: Arc<Tape>,
        place: usize,
        /// Ends of the stages, with their phases.
        stages: Vec<(Nanos, Phase)>,
    },
}

impl OpenLoad {
    fn new(scenario: &Scenario, index: u16, load: &Load, tapes: &Tapes) -> Self {
        let seed = scenario.spec.seed;
        let stream = u64::from(index);
        let instants = if load.executor == Executor::Replay {
            let stretches = super::stretches(scenario).into_iter();
            Instants::Replayed {
                tape: tapes.of(index),
                place: 0,
                stages: stretches
                    .filter(|stretch| stretch.load == index)
                    .map(|stretch| (stretch.end, stretch.phase))
                    .collect(),
            }
        } else {
            let start = scenario.load_start(usize::from(index)).0;
            let mut pieces = segments(load, start).into_iter();
            Instants::Paced {
                now: pieces.next(),
                pieces,
                points: Points::new(load.spacing(), seed, stream),
            }
        };
        Self {
            load: index,
            instants,
            mix: Mix::new(scenario, load),
            choices: Stream::new(seed, Purpose::Mix, stream),
            n: 0,
            last: Nanos(0),
        }
    }

    fn next(&mut self) -> Option<Arrival> {
        let (due, phase, entry) = self.instants.next()?;
        let drawn = match entry {
            Some(entry) => self.mix.take(entry)?,
            None => self.mix.draw(&mut self.choices)?,
        };
        let due = due.max(self.last);
        let n = self.n;
        self.n += 1;
        self.last = due;
        Some(Arrival {
            id: id(self.load, n),
            load: self.load,
            request: drawn.request,
            flow: drawn.flow,
            step: 0,
            nth: drawn.nth,
            phase,
            due,
            vu: None,
        })
    }
}

impl Instants {
    fn next(&mut self) -> Option<(Nanos, Phase, Option<u16>)> {
        match self {
            Self::Paced {
                pieces,
                now,
                points,
            } => loop {
                let piece = now.as_ref()?;
                if let Some(due) = points.next_in(piece) {
                    return Some((due, piece.phase, None));
                }
                *now = pieces.next();
            },
            Self::Replayed {
                tape,
                place,
                stages,
            } => {
                let (due, entry) = tape.get(*place)?;
                *place += 1;
                let phase = stages.iter().find(|(end, _)| due < *end)?.1;
                Some((due, phase, entry))
            }
        }
    }
}

/// The values of the rate's integral at which requests are due.
#[derive(Debug, Clone)]
enum Points {
    Even {
        /// The next request's number, which is the value of the integral at which it is due.
        next: u128,
        /// The integral up to the current piece, in 2^-32 requests.
        before: u128,
    },
    Renewal {
        /// What the integral has to grow by, from the current piece's start to the next request.
        next: f64,
        timing: Box<Stream>,
        /// Shape of gamma gaps; none for exponential ones.
        shape: Option<f64>,
    },
}

impl Points {
    fn new(spacing: Spacing, seed: u64, stream: u64) -> Self {
        let shape = match spacing {
            Spacing::Even => return Self::Even { next: 0, before: 0 },
            Spacing::Poisson => None,
            Spacing::Gamma(shape) => Some(shape),
        };
        let mut timing = Box::new(Stream::new(seed, Purpose::Timing, stream));
        Self::Renewal {
            next: gap(&mut timing, shape),
            timing,
            shape,
        }
    }

    /// The next request due in this piece; `None` moves on to the next one.
    fn next_in(&mut self, piece: &Segment) -> Option<Nanos> {
        match self {
            Self::Even { next, before } => {
                let grown = (*next << FRACTION_BITS) - *before;
                let integral = piece.integral();
                if grown >= integral {
                    *before += integral;
                    return None;
                }
                *next += 1;
                Some(piece.due(grown))
            }
            Self::Renewal {
                next,
                timing,
                shape,
            } => {
                let integral = piece.integral() as f64 / (1_u64 << FRACTION_BITS) as f64;
                if *next >= integral {
                    *next -= integral;
                    return None;
                }
                let due = piece.due_at(*next);
                *next += gap(timing, *shape);
                Some(due)
            }
        }
    }
}

/// A gap of mean 1.
fn gap(timing: &mut Stream, shape: Option<f64>) -> f64 {
    match shape {
        None => timing.exponential(),
        Some(shape) => timing.gamma(shape),
    }
}
