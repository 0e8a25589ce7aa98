//! Figures of a report, from all rows of a run.

use std::collections::BTreeMap;

use super::{nearest_rank, quantiles, shown_latency, timeout};
use crate::observation::{Observation, Outcome};
use crate::record::RunFacts;
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
    let mut groups: BTreeMap<(Phase, u16), Vec<&Observation>> = BTreeMap::new();
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
    for row in rows {
        groups
            .entry((row.phase, row.request))
            .or_default()
            .push(row);
    }
    let summary = |((phase, request), rows): ((Phase, u16), Vec<&Observation>)| {
        let name = scenario.spec.requests.get(usize::from(request));
        let name = name.map_or_else(
            || format!("request {request}"),
            |request| request.name.clone(),
        );
        summarise(phase, name, &rows, length(facts, phase), timeout(scenario))
    };
    groups.into_iter().map(summary).collect()
}

fn summarise(
    phase: Phase,
    request: String,
    rows: &[&Observation],
    seconds: f64,
    timeout: Nanos,
) -> LoadSummary {
    let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
    rows.iter()
        .for_each(|row| *outcomes.entry(row.outcome).or_default() += 1);
    let answered = rows.iter().filter(|row| row.outcome.answered()).count();
    let mut latency: Vec<Nanos> = rows.iter().map(|row| shown_latency(row, timeout)).collect();
    let mut service: Vec<Nanos> = rows.iter().filter_map(|row| row.service_time()).collect();
    let scored = rows.iter().filter(|row| row.correct.is_some()).count() as u64;
    let good = rows.iter().filter(|row| row.correct == Some(true)).count() as u64;
    LoadSummary {
        phase,
        request,
        scheduled: rows.len() as u64,
        outcomes: outcomes.into_iter().collect(),
        rate: if seconds > 0.0 {
            answered as f64 / seconds
        } else {
            0.0
        },
        latency: quantiles(&mut latency),
        service_time: quantiles(&mut service),
        accuracy: (scored > 0).then_some(Ratio {
            good,
            total: scored,
        }),
        bytes: rows
            .iter()
            .fold(0, |sum, row| sum.saturating_add(row.bytes)),
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
    let Some(last) = last.map(|last| last.min(MOST_SECONDS - 1)) else {
        return Vec::new();
    };
    let place = |at: Nanos| (at.0 / SECOND).min(last) as usize;
    let mut points: Vec<SecondPoint> = (0..=last).map(|second| point(second, facts)).collect();
    let mut latencies: Vec<(usize, Nanos)> = Vec::with_capacity(rows.len());
    for row in rows {
        points[place(row.due)].due += 1;
        let done = &mut points[place(row.done)];
        done.done += 1;
        done.failed += u64::from(row.outcome != Outcome::Expected);
        latencies.push((place(row.due), shown_latency(row, timeout)));
    }
    latencies.sort_unstable();
    for group in latencies.chunk_by(|a, b| a.0 == b.0) {
        let sorted: Vec<Nanos> = group.iter().map(|(_, latency)| *latency).collect();
        let point = &mut points[group[0].0];
        let at = |q| nearest_rank(&sorted, q).map(Nanos::as_secs_f64);
        (point.p50, point.p99, point.max) = (at(0.5), at(0.99), at(1.0));
    }
    in_flight(rows, &mut points, place);
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
    let sent = rows
        .iter()
        .filter_map(|row| row.sent.map(|sent| (sent, row.done.max(sent))));
    // At one instant ends sort before starts: a user's next request is not beside the one before.
    let mut events: Vec<(Nanos, i64)> = sent
        .flat_map(|(sent, done)| [(sent, 1), (done, -1)])
        .collect();
    events.sort_unstable();
    let mut out = 0_i64;
    let mut second = 0;
    for (at, change) in events {
        let here = place(at);
        for point in points.iter_mut().take(here + 1).skip(second + 1) {
            point.in_flight = out.max(0) as u64;
        }
        second = here;
        out += change;
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
