//! Closed loads: users who wait for the answer, think, and send again.

use std::time::Duration;

use super::random::{Purpose, Stream};
use super::{Arrival, Mix, id};
use crate::record::Stretch;
use crate::scenario::{Dur, Scenario, ThinkTime};
use crate::units::Nanos;

/// The users of one closed load, as a state machine: it holds no clock and no request, and is fed
/// with completions. Each user has at most one request out.
///
/// When a request is due follows from when the one before was done; all else (think times, the
/// choice from the mix) follows from the seed and the user alone.
#[derive(Debug, Clone)]
pub struct Closed {
    load: u16,
    think: ThinkTime,
    stages: Vec<Stretch>,
    users: Vec<User>,
    mix: Mix,
    n: u64,
}

#[derive(Debug, Clone)]
struct User {
    think: Stream,
    choices: Stream,
    out: bool,
}

impl Closed {
    /// The users of load number `load` of the scenario. Not of a closed load: no users, no arrivals.
    #[must_use]
    pub fn new(scenario: &Scenario, load: u16) -> Self {
        let seed = scenario.spec.seed;
        let spec = scenario
            .spec
            .loads
            .get(usize::from(load))
            .filter(|spec| !spec.executor.is_open());
        let stream = |vu: u32| (u64::from(load) << 32) | u64::from(vu);
        let users = (0..spec.and_then(|spec| spec.vus).unwrap_or(0)).map(|vu| User {
            think: Stream::new(seed, Purpose::Think, stream(vu)),
            // The high bit keeps these apart from the streams of open loads' mixes.
            choices: Stream::new(seed, Purpose::Mix, (1 << 63) | stream(vu)),
            out: false,
        });
        let none = Mix {
            entries: Vec::new(),
            total: 0,
        };
        let stages = super::stretches(scenario)
            .into_iter()
            .filter(|stage| stage.load == load);
        Self {
            load,
            think: spec
                .and_then(|spec| spec.think_time)
                .unwrap_or(ThinkTime::Constant(Dur(Duration::ZERO))),
            stages: stages.collect(),
            users: users.collect(),
            mix: spec.map_or(none, |spec| Mix::new(scenario, spec)),
            n: 0,
        }
    }

    /// The first request of each user, all due at the load's start. A second call gives none.
    pub fn start(&mut self) -> Vec<Arrival> {
        match self.stages.first().map(|stage| stage.start) {
            Some(start) if self.n == 0 => {
                let users = 0..self.users.len() as u32;
                users.filter_map(|vu| self.arrival(vu, start)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// User `vu`'s request was done at `at`, with whatever outcome: the user's next request, due
    /// when the think time is over. `None` when that lies at or past the load's end (the user is
    /// finished), or when the user had no request out.
    pub fn completed(&mut self, vu: u32, at: Nanos) -> Option<Arrival> {
        let think = self.think;
        let user = self.users.get_mut(vu as usize).filter(|user| user.out)?;
        user.out = false;
        let pause = match think {
            ThinkTime::Constant(pause) => pause.nanos(),
            ThinkTime::Uniform(low, high) => {
                let width = high.nanos().saturating_sub(low.nanos()).saturating_add(1);
                low.nanos().saturating_add(user.think.below(width))
            }
        };
        self.arrival(vu, Nanos(at.0.saturating_add(pause)))
    }

    /// When the load ends: no request is due at or after it.
    #[must_use]
    pub fn end(&self) -> Nanos {
        self.stages.last().map_or(Nanos(0), |stage| stage.end)
    }

    /// Users with a request out.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.users.iter().filter(|user| user.out).count()
    }

    fn arrival(&mut self, vu: u32, due: Nanos) -> Option<Arrival> {
        let phase = self.stages.iter().find(|stage| due < stage.end)?.phase;
        let user = self.users.get_mut(vu as usize)?;
        let (request, nth) = self.mix.draw(&mut user.choices)?;
        user.out = true;
        let n = self.n;
        self.n += 1;
        Some(Arrival {
            id: id(self.load, n),
            load: self.load,
            request,
            nth,
            phase,
            due,
            vu: Some(vu),
        })
    }
}
