//! Prometheus: the service's own counter against the client's count, scrape by scrape.
//!
//! A range selector in an instant query returns the raw samples with their times, so that counts are
//! exact differences with resets handled, and a missed scrape shows.

use std::collections::BTreeMap;

use super::{Gaps, Survey, clock, floor, since_start, source};
use crate::judge::RunRecord;
use crate::judge::names::{grouped, length, of_job, request_counter, until};
use crate::judge::reading::{Missing, Reading, Series, series};
use crate::query::{Backend, Query};
use crate::report::model::SourceCoverage;
use crate::units::UnixNanos;

/// Reach back before the load, for the samples that counters start from: Prometheus' own lookback.
const BEFORE_NS: u64 = 300_000_000_000;
/// A pause between two good scrapes longer than this many intervals is a gap.
const GAP_INTERVALS: f64 = 2.5;

/// The good scrapes of the service, per instance, milliseconds since the epoch, ascending.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::judge) struct Scrapes {
    pub(in crate::judge) instances: BTreeMap<String, Vec<i64>>,
    /// Distance of two scrapes, milliseconds, at least 1.
    pub(in crate::judge) interval_ms: u64,
    /// When (milliseconds since the epoch) a counter fell or a process started anew during the load.
    pub(in crate::judge) restarts: Vec<i64>,
}

enum Ask {
    Counter,
    Up,
    TargetInfo,
    Started,
}

fn query(record: &RunRecord, ask: &Ask) -> Query {
    let until = until(record.facts);
    let reach = until.0.saturating_sub(record.facts.started.0) + BEFORE_NS;
    // Whole seconds: the reach back need not be exact.
    let reach = length(reach.div_ceil(1_000_000_000) * 1_000_000_000);
    let selector = match ask {
        Ask::Counter => request_counter(record),
        Ask::Up => of_job(record, "up"),
        Ask::TargetInfo => of_job(record, "target_info"),
        Ask::Started => of_job(record, "process_start_time_seconds"),
    };
    Query::PromInstant {
        query: format!("{selector}[{reach}]"),
        time: until,
    }
}

pub(super) fn queries(record: &RunRecord) -> Vec<Query> {
    [Ask::Counter, Ask::Up, Ask::TargetInfo, Ask::Started]
        .iter()
        .map(|ask| query(record, ask))
        .collect()
}

pub(super) fn survey(record: &RunRecord, survey: &mut Survey) -> SourceCoverage {
    let ask = |ask: Ask| series(record.answers, &query(record, &ask));
    let limit = record.scenario.spec.validity.metric_coverage.0;
    let (answered, sent) = (survey.coverage.answered, survey.coverage.sent);
    let mut gaps = Gaps::default();
    versions(record, ask(Ask::TargetInfo), survey);
    let mut scrapes = match ask(Ask::Up) {
        Ok(up) => good_scrapes(record, &up),
        Err(missing) => {
            gaps.add(format!("scrapes unknown: {missing}"));
            Scrapes::default()
        }
    };
    let whole = scrapes_whole(record, &scrapes, &mut gaps);
    clock::of_backend(record, Backend::Prometheus, &mut gaps, survey);
    let lives = ask(Ask::Started).unwrap_or_default();
    let counter = ask(Ask::Counter);
    let read = |all: &Vec<Series>| counted(record, all, &scrapes, &lives);
    let found = match counter.as_ref().map_err(Clone::clone).and_then(read) {
        Ok(counted) => {
            scrapes.restarts = counted.resets;
            Some(counted.requests)
        }
        Err(missing) => {
            gaps.add(format!(
                "the service's request counter is unknown: {missing}"
            ));
            None
        }
    };
    scrapes.restarts.extend(restarts(record, &lives));
    scrapes.restarts.sort_unstable();
    scrapes.restarts.dedup();
    if let Some(at) = scrapes.restarts.first() {
        let at = since_start(record, ns(*at));
        survey.notes.push(format!(
            "the target restarted during the load, seen at {at:.1} s"
        ));
    }
    if let Some(found) = found {
        if found < floor(limit, answered) {
            gaps.add(format!(
                "the service's counter shows {} of {} answered requests",
                grouped(found),
                grouped(answered)
            ));
        }
        survey.counted.insert(Backend::Prometheus, found);
        let counter = counter.unwrap_or_default();
        let interval = scrapes.interval_ms;
        clock::of_scrapes(record, &counter, found, interval, &mut gaps, survey);
    }
    if answered == 0 {
        gaps.add("no request was answered, so there is nothing to find");
    }
    let fine = format!(
        "the service's counter shows {} requests of {} sent and {} answered; {whole}",
        grouped(found.unwrap_or(0)),
        grouped(sent),
        grouped(answered),
    );
    let canary = found.is_some_and(|f| f > 0);
    if !scrapes.instances.is_empty() {
        survey.scrapes = Some(scrapes);
    }
    source(
        Backend::Prometheus,
        answered,
        found,
        limit,
        canary,
        gaps,
        fine,
    )
}

fn ns(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000)
}

fn versions(record: &RunRecord, info: Reading<Vec<Series>>, survey: &mut Survey) {
    for series in info.unwrap_or_default() {
        let in_run = series
            .points
            .iter()
            .any(|(at, _)| ns(*at) >= record.facts.started.0);
        if let (true, Some(version)) = (in_run, series.labels.get("service_version")) {
            survey.versions.insert(version.clone());
        }
    }
}

fn instance(series: &Series) -> String {
    series.labels.get("instance").cloned().unwrap_or_default()
}

/// Times of scrapes that worked, of instances still scraped when the load began.
fn good_scrapes(record: &RunRecord, up: &[Series]) -> Scrapes {
    let mut instances: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut gaps_seen = Vec::new();
    for series in up {
        gaps_seen.extend(series.points.windows(2).map(|w| w[1].0 - w[0].0));
        let in_run = series
            .points
            .iter()
            .any(|(at, _)| ns(*at) >= record.facts.started.0);
        if in_run {
            let good = series
                .points
                .iter()
                .filter(|(_, v)| *v == 1.0)
                .map(|(at, _)| *at);
            instances.entry(instance(series)).or_default().extend(good);
        }
    }
    instances
        .values_mut()
        .for_each(|times| times.sort_unstable());
    Scrapes {
        instances,
        interval_ms: interval(record, gaps_seen),
        restarts: Vec::new(),
    }
}

/// The scrape interval: as the scenario configures it, else the median distance seen.
fn interval(record: &RunRecord, mut seen: Vec<i64>) -> u64 {
    let embedded = record
        .facts
        .backends
        .get(&Backend::Prometheus)
        .is_some_and(|b| b.embedded);
    let jobs = record
        .scenario
        .spec
        .telemetry
        .embedded
        .iter()
        .flat_map(|e| &e.scrape);
    let configured = jobs
        .filter(|job| embedded && job.job == record.facts.service)
        .map(|job| u64::try_from(job.every.0.as_millis()).unwrap_or(u64::MAX))
        .next();
    seen.sort_unstable();
    let median = seen
        .get(seen.len() / 2)
        .and_then(|ms| u64::try_from(*ms).ok());
    configured.or(median).unwrap_or(15_000).max(1)
}

/// Notes gaps between scrapes from the measured phase to the drain, and a missing last scrape.
/// Gives a clause for the case that all is well.
fn scrapes_whole(record: &RunRecord, scrapes: &Scrapes, gaps: &mut Gaps) -> String {
    let facts = record.facts;
    let Some((window_start, _)) = facts.window() else {
        return "no measured phase".into();
    };
    let (start, drained) = (facts.wall(window_start).0, facts.wall(facts.drained).0);
    let until = until(facts).0;
    let longest = (scrapes.interval_ms as f64 * GAP_INTERVALS * 1e6) as u64;
    if scrapes.instances.is_empty() && gaps.why.is_empty() {
        gaps.add(format!("no scrape of job `{}`", facts.service));
        gaps.since(0.0);
    }
    let mut total = 0;
    for (instance, times) in &scrapes.instances {
        let mut last = start;
        let missed = |from: u64, gaps: &mut Gaps| {
            let since = since_start(
                record,
                from.saturating_add(scrapes.interval_ms.saturating_mul(1_000_000)),
            );
            gaps.add(format!("scrapes of {instance} are missing"));
            gaps.since(since);
        };
        let times = times.iter().map(|ms| ns(*ms));
        let mut gap = false;
        for at in times.filter(|at| at.saturating_add(longest) >= start) {
            total += 1;
            if at > last.saturating_add(longest) && last < drained && !gap {
                missed(last, gaps);
                gap = true;
            }
            last = last.max(at);
        }
        if last < drained && !gap {
            if until > last.saturating_add(longest) {
                missed(last, gaps);
            } else {
                gaps.add(format!("no scrape of {instance} after the last answer yet"));
            }
        }
    }
    format!("{total} scrapes, no gap")
}

struct Counted {
    requests: u64,
    resets: Vec<i64>,
}

/// Requests that the service counted from the start of the load to the last scrape.
fn counted(
    record: &RunRecord,
    all: &[Series],
    scrapes: &Scrapes,
    lives: &[Series],
) -> Reading<Counted> {
    if all.is_empty() {
        return Err(Missing::Because(format!(
            "no series matches {}",
            request_counter(record)
        )));
    }
    let started = (record.facts.started.0 / 1_000_000) as i64;
    let mut sum = 0.0;
    let mut resets = Vec::new();
    for series in all {
        if let Some((_, odd)) = series
            .points
            .iter()
            .find(|(_, v)| v.fract() != 0.0 || *v < 0.0 || !v.is_finite())
        {
            return Err(Missing::Because(format!(
                "the counter holds {odd}, which is no count"
            )));
        }
        let first_in_run = series.points.partition_point(|(at, _)| *at <= started);
        let Some(first) = series.points.get(first_in_run) else {
            continue;
        };
        let mut last = match first_in_run.checked_sub(1) {
            Some(before) if succeeded(record, lives, series, series.points[before], *first) => 0.0,
            Some(before) => series.points[before].1,
            None if born(record, scrapes, series, first.0) => 0.0,
            None => first.1,
        };
        for (at, value) in &series.points[first_in_run..] {
            if *value < last {
                resets.push(*at);
                last = 0.0;
            }
            sum += value - last;
            last = *value;
        }
    }
    Ok(Counted {
        requests: sum as u64,
        resets,
    })
}

/// Whether a series without a sample before the load began at 0 within it: the target is ours, or it
/// was scraped before without this series.
fn born(record: &RunRecord, scrapes: &Scrapes, series: &Series, first: i64) -> bool {
    let earlier = |times: &Vec<i64>| times.first().is_some_and(|t| *t < first);
    record.facts.target.started
        || scrapes
            .instances
            .get(&instance(series))
            .is_some_and(earlier)
}

/// Whether the process changed between the last sample before the load and the first within it, and
/// the new one began before the load: a Prometheus that outlives runs still holds the target of the
/// run before under the same address, which is neither this run's count nor a restart of its target.
fn succeeded(
    record: &RunRecord,
    lives: &[Series],
    series: &Series,
    before: (i64, f64),
    first: (i64, f64),
) -> bool {
    // Samples of one scrape carry one time.
    let began = |at: i64| {
        let same = lives.iter().filter(|l| instance(l) == instance(series));
        same.flat_map(|life| &life.points)
            .find(|point| point.0 == at)
            .map(|point| point.1)
    };
    match (began(before.0), began(first.0)) {
        (Some(old), Some(new)) => old != new && began_before_load(record, new),
        // A service that does not say when it began: the one started for this run began before it.
        _ => record.facts.target.started && first.1 < before.1,
    }
}

/// Whether a `process_start_time_seconds` lies before the load.
fn began_before_load(record: &RunRecord, seconds: f64) -> bool {
    seconds * 1e9 < record.facts.started.0 as f64
}

/// Processes that started anew while the load ran. A new process that began before the load is the one
/// under test: it is only seen later, at its first scrape.
fn restarts(record: &RunRecord, lives: &[Series]) -> Vec<i64> {
    let load = UnixNanos(record.facts.started.0);
    let changes = lives.iter().flat_map(|s| s.points.windows(2));
    changes
        .filter(|w| w[1].1 != w[0].1 && ns(w[1].0) >= load.0)
        .filter(|w| !began_before_load(record, w[1].1))
        .map(|w| w[1].0)
        .collect()
}
