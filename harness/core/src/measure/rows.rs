//! Figures of a report, from all rows of a run.

use std::collections::BTreeMap;

use super::{nearest_rank, quantiles, shown_latency, timeout};
use crate::observation::{Observation, Outcome};
use crate::record::RunFacts;
use crate::record::sampled::Cell;
use crate::report::model::{Bin, LoadSummary, SecondPoint};
use crate::scenario::Scenario;
use crate::units::{Nanos, Phase, Ratio};

const SECOND: u64 = 1_000_000_000;
/// Points that [`series`] draws at most, one a second: the longest load, and an hour. What lies
/// beyond (only in rows that were tampered with) counts in the last point.
const MOST_SECONDS: u64 = 30 * 86_400 + 3_600;
/// Bins of [`distribution`] in a factor of ten.
const BINS_A_DECADE: i32 = 20;
/// Decades that bins span: 1 µs to 100,000 s.
const DECADES: i32 = 11;

/// Counts and latencies by phase, then request name in the order of the scenario. Every pair that
/// was planned has an entry, with 0 requests if none came about.
#[must_use]
pub fn summaries(scenario: &Scenario, facts: &RunFacts, rows: &[Observation]) -> Vec<LoadSummary> {
    let mut groups: BTreeMap<(Phase, u16), Group> = BTreeMap::new();
    for stretch in &facts.stretches {
        let mix = scenario
            .spec
            .loads
            .get(usize::from(stretch.load))
            .map(|load| &load.mix);
        for (index, request) in (0_u16..).zip(&scenario.spec.requests) {
            if mix.is_some_and(|mix| mix.get(&request.name).is_some_and(|weight| *weight > 0)) {
                groups.entry((stretch.phase, index)).or_default();
            }
        }
    }
    let timeout = timeout(scenario);
    for row in rows {
        groups
            .entry((row.phase, row.request))
            .or_default()
            .add(row, timeout);
    }
    if let Some(sampled) = &facts.context.sampled {
        for cell in &sampled.cells {
            groups
                .entry((cell.phase, cell.request))
                .or_default()
                .counted(cell);
        }
    }
    let summary = |((phase, request), group): ((Phase, u16), Group)| {
        let name = scenario.spec.requests.get(usize::from(request));
        let name = name.map_or_else(
            || format!("request {request}"),
            |request| request.name.clone(),
        );
        group.summary(phase, name, length(facts, phase))
    };
    groups.into_iter().map(summary).collect()
}

/// What one phase and request came to. Beside the rows, two numbers for each are held.
#[derive(Default)]
struct Group {
    /// All requests, where not all have a row.
    all: Option<u64>,
    outcomes: BTreeMap<Outcome, u64>,
    latency: Vec<Nanos>,
    service: Vec<Nanos>,
    /// Answers that had a truth, and those of them that agreed with it.
    scored: u64,
    right: u64,
    bytes: u64,
}

impl Group {
    fn add(&mut self, row: &Observation, timeout: Nanos) {
        *self.outcomes.entry(row.outcome).or_default() += 1;
        self.latency.push(shown_latency(row, timeout));
        self.service.extend(row.service_time());
        self.scored += u64::from(row.correct.is_some());
        self.right += u64::from(row.correct == Some(true));
        self.bytes = self.bytes.saturating_add(row.bytes.into());
    }

    /// Takes the counts of all requests instead of those of the rows.
    fn counted(&mut self, cell: &Cell) {
        self.all = Some(cell.requests());
        self.outcomes = cell.outcomes.clone();
        (self.scored, self.right, self.bytes) = (cell.scored, cell.right, cell.bytes);
    }

    fn summary(mut self, phase: Phase, request: String, seconds: f64) -> LoadSummary {
        let answered = self
            .outcomes
            .iter()
            .filter(|(outcome, _)| outcome.answered());
        let answered: u64 = answered.map(|(_, count)| count).sum();
        LoadSummary {
            phase,
            request,
            scheduled: self.all.unwrap_or(self.latency.len() as u64),
            rate: if seconds > 0.0 {
                answered as f64 / seconds
            } else {
                0.0
            },
            latency: quantiles(&mut self.latency),
            service_time: quantiles(&mut self.service),
            outcomes: self.outcomes.into_iter().collect(),
            accuracy: (self.scored > 0).then_some(Ratio {
                good: self.right,
                total: self.scored,
            }),
            bytes: self.bytes,
        }
    }
}

/// Seconds from the earliest start to the latest end of a phase, as far as the run came.
fn length(facts: &RunFacts, phase: Phase) -> f64 {
    let of_phase = || {
        facts
            .stretches
            .iter()
            .filter(|stretch| stretch.phase == phase)
    };
    let (Some(start), Some(end)) = (
        of_phase().map(|s| s.start).min(),
        of_phase().map(|s| s.end).max(),
    ) else {
        return 0.0;
    };
    let end = if facts.stop.is_some() {
        end.min(facts.drained)
    } else {
        end
    };
    end.since(start).as_secs_f64()
}

/// One point for each second from the start of the load to the last outcome.
#[must_use]
pub fn series(scenario: &Scenario, facts: &RunFacts, rows: &[Observation]) -> Vec<SecondPoint> {
    let timeout = timeout(scenario);
    let last = rows
        .iter()
        .map(|row| row.done.max(row.due).0 / SECOND)
        .max();
    let sampled = facts.context.sampled.as_ref();
    let counted = sampled.and_then(|sampled| (sampled.seconds.len() as u64).checked_sub(1));
    let last = last.max(counted);
    let Some(last) = last.map(|last| last.min(MOST_SECONDS - 1)) else {
        return Vec::new();
    };
    let place = |at: Nanos| (at.0 / SECOND).min(last) as usize;
    let mut points: Vec<SecondPoint> = (0..=last).map(|second| point(second, facts)).collect();
    for row in rows {
        points[place(row.due)].due += 1;
        let done = &mut points[place(row.done)];
        done.done += 1;
        done.failed += u64::from(row.outcome != Outcome::Expected);
    }
    // Latencies by second, in one piece of memory: a counting sort.
    let mut latencies = vec![Nanos(0); rows.len()];
    let mut ends: Vec<usize> = Vec::with_capacity(points.len());
    for point in &points {
        ends.push(ends.last().copied().unwrap_or(0) + point.due as usize);
    }
    let mut free = ends.clone();
    for row in rows {
        let slot = &mut free[place(row.due)];
        *slot -= 1;
        latencies[*slot] = shown_latency(row, timeout);
    }
    for ((point, start), end) in points.iter_mut().zip(free).zip(ends) {
        let sorted = &mut latencies[start..end];
        sorted.sort_unstable();
        let at = |q| nearest_rank(sorted, q).map(Nanos::as_secs_f64);
        (point.p50, point.p99, point.max) = (at(0.5), at(0.99), at(1.0));
    }
    drop(latencies);
    in_flight(rows, &mut points, place);
    if let Some(sampled) = sampled {
        for (point, second) in points.iter_mut().zip(&sampled.seconds) {
            (point.due, point.done, point.failed) = (second.due, second.done, second.failed);
            point.in_flight = point.in_flight.saturating_mul(sampled.one_in);
        }
    }
    points
}

fn point(second: u64, facts: &RunFacts) -> SecondPoint {
    let start = Nanos(second * SECOND);
    let mut first_load = facts.stretches.iter().filter(|stretch| stretch.load == 0);
    let phase = first_load
        .clone()
        .find(|stretch| start < stretch.end)
        .or_else(|| first_load.next_back());
    SecondPoint {
        second: u32::try_from(second).unwrap_or(u32::MAX),
        phase: phase.map_or(Phase::Measure, |stretch| stretch.phase),
        due: 0,
        done: 0,
        failed: 0,
        in_flight: 0,
        p50: None,
        p99: None,
        max: None,
    }
}

/// Sweeps over sends and outcomes for the most requests out at once in each second.
fn in_flight(rows: &[Observation], points: &mut [SecondPoint], place: impl Fn(Nanos) -> usize) {
    let sent = || rows.iter().filter(|row| row.sent().is_some());
    let mut starts: Vec<Nanos> = sent().filter_map(Observation::sent).collect();
    let end = |row: &Observation| Some(row.done.max(row.sent()?));
    let mut ends: Vec<Nanos> = sent().filter_map(end).collect();
    starts.sort_unstable();
    ends.sort_unstable();
    let (mut starts, mut ends) = (starts.into_iter().peekable(), ends.into_iter().peekable());
    let mut out = 0_i64;
    let mut second = 0;
    while let Some(end) = ends.peek().copied() {
        // At one instant ends come before starts: a user's next request is not beside the one before.
        let started = starts.next_if(|start| *start < end);
        let at = started.unwrap_or(end);
        let here = place(at);
        for point in points.iter_mut().take(here + 1).skip(second + 1) {
            point.in_flight = out.max(0) as u64;
        }
        second = here;
        match started {
            Some(_) => out += 1,
            None => {
                ends.next();
                out -= 1;
            }
        }
        points[here].in_flight = points[here].in_flight.max(out.max(0) as u64);
    }
}

/// Latencies and service times of the measured phase in log-spaced bins, twenty to a factor of ten,
/// from the first to the last that holds any. Latencies up to 1 µs are in the first.
#[must_use]
pub fn distribution(scenario: &Scenario, _facts: &RunFacts, rows: &[Observation]) -> Vec<Bin> {
    let timeout = timeout(scenario);
    let edge = |bin: i32| libm::exp10(f64::from(bin) / f64::from(BINS_A_DECADE) - 6.0);
    let edges: Vec<Nanos> = (0..=BINS_A_DECADE * DECADES)
        .map(|bin| Nanos((edge(bin) * 1e9).round() as u64))
        .collect();
    let mut bins: Vec<Bin> = edges
        .iter()
        .enumerate()
        .map(|(index, high)| Bin {
            low: index
                .checked_sub(1)
                .map_or(0.0, |before| edges[before].as_secs_f64()),
            high: high.as_secs_f64(),
            expected: 0,
            other: 0,
            service_time: 0,
        })
        .collect();
    let place = |value: Nanos| {
        edges
            .partition_point(|edge| *edge < value)
            .min(edges.len() - 1)
    };
    for row in rows.iter().filter(|row| row.phase == Phase::Measure) {
        let bin = &mut bins[place(shown_latency(row, timeout))];
        if row.outcome == Outcome::Expected {
            bin.expected += 1;
        } else {
            bin.other += 1;
        }
        if let Some(service) = row.service_time() {
            bins[place(service)].service_time += 1;
        }
    }
    let holds = |bin: &Bin| bin.expected + bin.other + bin.service_time > 0;
    let Some(first) = bins.iter().position(holds) else {
        return Vec::new();
    };
    let end = bins.iter().rposition(holds).map_or(first, |last| last + 1);
    bins.drain(first..end).collect()
}
