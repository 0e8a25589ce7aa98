//! Closed loads: users who wait for the answer, think, and send again.

use super::random::{Purpose, Stream};
use super::{Arrival, Mix, Shard, id};
use crate::record::Stretch;
use crate::scenario::{Executor, Load, Lognormal, Scenario, Stage, ThinkTime};
use crate::units::{Nanos, Phase};

/// The users of one closed load, as a state machine: it holds no clock and no request, and is fed
/// with completions. Each user has at most one request (or flow) out.
///
/// When a request is due follows from when the one before was done; all else (think times, the
/// choice from the mix, the row of the dataset) follows from the seed and the user alone. Only where
/// users share iterations do rows follow the order in which these are begun.
#[derive(Debug, Clone)]
pub struct Closed {
    load: u16,
    think: Option<ThinkTime>,
    stages: Vec<Stretch>,
    /// Users of the whole load, of which this shard has some.
    all_users: u64,
    users: Vec<User>,
    shard: Shard,
    mix: Mix,
    rule: Rule,
    started: bool,
    /// Users before this place have no iteration left.
    used_up: usize,
}

/// What limits how many requests users make.
#[derive(Debug, Clone)]
enum Rule {
    /// The load's time.
    Time,
    /// The number of users follows this course.
    Ramp(Vec<Leg>),
    /// So many each.
    Each(u64),
    /// So many in all: left to this shard, and begun by it.
    Shared { left: u64, begun: u64 },
    /// The users begin together, each time the last of them is done.
    Together { done_at: Nanos },
}

/// Users run linearly from one number to another.
#[derive(Debug, Clone, Copy)]
struct Leg {
    start: u64,
    end: u64,
    from: u64,
    to: u64,
}

#[derive(Debug, Clone)]
struct User {
    vu: u32,
    think: Stream,
    choices: Stream,
    /// Requests begun, and by entry of the mix.
    begun: u64,
    drawn: Box<[u64]>,
    out: bool,
}

impl Closed {
    /// The users of load number `load` of the scenario. Not of a closed load: no users, no arrivals.
    #[must_use]
    pub fn new(scenario: &Scenario, load: u16) -> Self {
        Self::of_shard(scenario, load, Shard::WHOLE)
    }

    /// The users of load number `load` that this shard takes: those whose number leaves the shard's
    /// own when divided. Shared iterations are split in the same way.
    #[must_use]
    pub fn of_shard(scenario: &Scenario, load: u16, shard: Shard) -> Self {
        let seed = scenario.spec.seed;
        let spec = scenario
            .spec
            .loads
            .get(usize::from(load))
            .filter(|spec| !spec.executor.is_open());
        let mix = spec.map_or_else(Mix::default, |spec| Mix::new(scenario, spec));
        let stages: Vec<Stretch> = super::stretches(scenario)
            .into_iter()
            .filter(|stage| stage.load == load)
            .collect();
        let stream = |vu: u32| (u64::from(load) << 32) | u64::from(vu);
        let all_users = spec.map_or(0, Load::users);
        let mine = (0..all_users).filter(|vu| shard.takes(u64::from(*vu)));
        let users = mine.map(|vu| User {
            vu,
            think: Stream::new(seed, Purpose::Think, stream(vu)),
            // The high bit keeps these apart from the streams of open loads' mixes.
            choices: Stream::new(seed, Purpose::Mix, (1 << 63) | stream(vu)),
            begun: 0,
            drawn: vec![0; mix.len()].into(),
            out: false,
        });
        Self {
            load,
            think: spec.and_then(|spec| spec.think_time),
            users: users.collect(),
            all_users: u64::from(all_users),
            rule: spec.map_or(Rule::Time, |spec| rule(spec, &stages, shard)),
            stages,
            shard,
            mix,
            started: false,
            used_up: 0,
        }
    }

    /// The first request of each user: due at the load's start, or when the user comes in on a ramp.
    /// A second call gives none.
    pub fn start(&mut self) -> Vec<Arrival> {
        let mut first = Vec::new();
        let Some(start) = self.stages.first().map(|stage| stage.start) else {
            return first;
        };
        if !std::mem::replace(&mut self.started, true) {
            for place in 0..self.users.len() {
                first.extend(self.arrival(place, start));
            }
        }
        first
    }

    /// User `vu`'s request was done at `at`, with whatever outcome. What follows is added to `next`:
    /// the user's next request, due when the think time is over; of users who wait for each other
    /// none, or one for each. None when that lies at or past the load's end, when the iterations are
    /// used up, or when the user had no request out.
    pub fn completed(&mut self, vu: u32, at: Nanos, next: &mut Vec<Arrival>) {
        // Users of a shard are every `of`-th.
        let place = (u64::from(vu) / u64::from(self.shard.of())) as usize;
        let think = self.think;
        let user = self.users.get_mut(place);
        let Some(user) = user.filter(|user| user.vu == vu && user.out) else {
            return;
        };
        user.out = false;
        if let Rule::Together { done_at } = &mut self.rule {
            *done_at = (*done_at).max(at);
            let due = *done_at;
            if self.outstanding() == 0 {
                for place in 0..self.users.len() {
                    next.extend(self.arrival(place, due));
                }
            }
            return;
        }
        let pause = think.map_or(0, |law| pause(law, &mut user.think));
        next.extend(self.arrival(place, Nanos(at.0.saturating_add(pause))));
    }

    /// An iteration that the load's time did not suffice for: due at the end, never sent. To be
    /// asked when all users are done, until there is none. Of loads that end with their time: none.
    pub fn left_over(&mut self) -> Option<Arrival> {
        let end = self.stages.last().map(|stage| (stage.end, stage.phase))?;
        let place = match &self.rule {
            Rule::Time | Rule::Ramp(_) | Rule::Together { .. } => return None,
            Rule::Shared { .. } => 0,
            Rule::Each(most) => {
                let left = |user: &User| user.begun < *most;
                while self.users.get(self.used_up).is_some_and(|user| !left(user)) {
                    self.used_up += 1;
                }
                self.used_up
            }
        };
        self.issue(place, end.0, end.1)
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

    fn arrival(&mut self, place: usize, due: Nanos) -> Option<Arrival> {
        let due = match &self.rule {
            Rule::Ramp(legs) => present(legs, u64::from(self.users.get(place)?.vu), due)?,
            _ => due,
        };
        let phase = self.stages.iter().find(|stage| due < stage.end)?.phase;
        let arrival = self.issue(place, due, phase)?;
        self.users[place].out = true;
        Some(arrival)
    }

    /// Begins an iteration of a user, if there is one left.
    fn issue(&mut self, place: usize, due: Nanos, phase: Phase) -> Option<Arrival> {
        let user = self.users.get_mut(place)?;
        let n = match &mut self.rule {
            Rule::Each(most) if user.begun >= *most => return None,
            Rule::Shared { left: 0, .. } => return None,
            Rule::Shared { left, begun } => {
                *left -= 1;
                *begun += 1;
                self.shard.nth(*begun - 1)
            }
            _ => user.begun * self.all_users + u64::from(user.vu),
        };
        user.begun += 1;
        let entry = self.mix.choose(&mut user.choices)?;
        let drawn = &mut user.drawn[entry];
        *drawn += 1;
        let nth = match self.rule {
            Rule::Shared { .. } => self.shard.nth(self.mix.count(entry)),
            _ => (*drawn - 1) * self.all_users + u64::from(user.vu),
        };
        let (request, flow) = self.mix.entry(entry);
        Some(Arrival {
            id: id(self.load, n),
            load: self.load,
            request,
            flow,
            step: 0,
            nth,
            phase,
            due,
            vu: Some(user.vu),
        })
    }
}

fn rule(load: &Load, stages: &[Stretch], shard: Shard) -> Rule {
    let iterations = load.iterations.unwrap_or(0);
    match load.executor {
        Executor::RampingVus => Rule::Ramp(legs(load, stages)),
        Executor::PerVuIterations => Rule::Each(iterations),
        Executor::SharedIterations | Executor::Offline => Rule::Shared {
            left: shard.share_of(iterations),
            begun: 0,
        },
        Executor::MultiStream => Rule::Together { done_at: Nanos(0) },
        _ => Rule::Time,
    }
}

fn legs(load: &Load, stages: &[Stretch]) -> Vec<Leg> {
    let mut from = u64::from(load.vus.unwrap_or(0));
    let leg = |(stretch, stage): (&Stretch, &Stage)| {
        let to = stage.vus.map_or(from, u64::from);
        let leg = Leg {
            start: stretch.start.0,
            end: stretch.end.0,
            from,
            to,
        };
        from = to;
        leg
    };
    stages.iter().zip(&load.stages).map(leg).collect()
}

/// The first instant from `from` on at which user `vu` is there: when the number of users, which runs
/// linearly in each leg, is `vu + 1` or more.
fn present(legs: &[Leg], vu: u64, from: Nanos) -> Option<Nanos> {
    let wanted = vu + 1;
    legs.iter().find_map(|leg| {
        let at = from.0.max(leg.start);
        if at >= leg.end {
            return None;
        }
        // In whole numbers: users · length = from · length + (to - from) · elapsed.
        let length = i128::from(leg.end - leg.start);
        let rise = i128::from(leg.to) - i128::from(leg.from);
        let needed = (i128::from(wanted) - i128::from(leg.from)) * length;
        if rise * i128::from(at - leg.start) >= needed {
            return Some(Nanos(at));
        }
        if rise <= 0 {
            return None;
        }
        let elapsed = u64::try_from((needed + rise - 1) / rise).ok()?;
        let at = leg.start.saturating_add(elapsed);
        (at < leg.end).then_some(Nanos(at))
    })
}

/// Draws a pause, nanoseconds.
fn pause(law: ThinkTime, stream: &mut Stream) -> u64 {
    match law {
        ThinkTime::Constant(pause) => pause.nanos(),
        ThinkTime::Uniform(low, high) => {
            let width = high.nanos().saturating_sub(low.nanos()).saturating_add(1);
            low.nanos().saturating_add(stream.below(width))
        }
        // Casts of floats saturate.
        ThinkTime::Exponential(mean) => (mean.nanos() as f64 * stream.exponential()) as u64,
        ThinkTime::Lognormal(Lognormal { median, sigma }) => {
            (median.nanos() as f64 * libm::exp(sigma * stream.normal())) as u64
        }
    }
}
