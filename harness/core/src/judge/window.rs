//! The judgement window as each kind of backend can be asked about it.
//!
//! `$window` is the measured phase, up to the drain when no other phase follows it. Counters are read
//! at scrapes: the first inside the phase, and the last (the first after the drain when nothing
//! follows, else the last inside). Log lines are counted over `(start, end]`. Spans are counted over
//! whole seconds, rounded outwards only where no other phase's requests can lie.

use super::RunRecord;
use super::coverage::{Scrapes, Survey};
use super::names::{followed, length, until};
use crate::units::{Phase, UnixNanos};

const SECOND: u64 = 1_000_000_000;
/// A log line may be written a little after the answer was read: so much later it still belongs to the
/// window, where nothing follows.
const LOG_SLACK: u64 = SECOND;

/// Two scrapes, milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edges {
    pub(super) first: i64,
    pub(super) last: i64,
    /// Step that visits every scrape between, milliseconds.
    pub(super) step: u64,
}

impl Edges {
    pub(super) fn first_at(self) -> UnixNanos {
        instant(self.first)
    }

    pub(super) fn last_at(self) -> UnixNanos {
        instant(self.last)
    }
}

fn instant(ms: i64) -> UnixNanos {
    UnixNanos(u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000))
}

/// The scrapes that counters are read at, or why there are none.
pub(super) fn edges(record: &RunRecord, survey: &Survey) -> Result<Edges, String> {
    let (start, end) = record
        .facts
        .window()
        .ok_or("the scenario has no measured phase")?;
    let scrapes = survey
        .scrapes
        .as_ref()
        .ok_or("the service was never scraped")?;
    let start = record.facts.wall(start).0;
    let first = first_from(scrapes, start);
    let last = if followed(record.facts) {
        last_until(scrapes, record.facts.wall(end).0)
    } else {
        first_from(scrapes, record.facts.wall(record.facts.drained).0)
    };
    match (first, last) {
        (Some(first), Some(last)) if first < last => Ok(Edges {
            first,
            last,
            step: step(first, last, scrapes.interval_ms),
        }),
        (None, _) => Err("no scrape from the measured phase on".into()),
        (_, None) => Err("no scrape at the end of the measured phase".into()),
        _ => Err("the measured phase holds fewer than two scrapes".into()),
    }
}

/// Half an interval, so that no scrape is stepped over by jitter; longer where that would be more
/// points than Prometheus answers (11,000 a series). Restarts are seen in the raw samples all the same.
fn step(first: i64, last: i64, interval_ms: u64) -> u64 {
    const POINTS: u64 = 10_000;
    let span = u64::try_from(last.saturating_sub(first)).unwrap_or(0);
    (interval_ms / 2).max(span.div_ceil(POINTS)).max(1)
}

/// When every instance has been scraped at or after `from`: the latest of their first scrapes since.
fn first_from(scrapes: &Scrapes, from: u64) -> Option<i64> {
    let firsts = scrapes.instances.values().map(|times| {
        let place = times.partition_point(|ms| instant(*ms).0 < from);
        times.get(place).copied()
    });
    firsts.collect::<Option<Vec<i64>>>()?.into_iter().max()
}

/// The latest scrape of any instance at or before `until`.
fn last_until(scrapes: &Scrapes, until: u64) -> Option<i64> {
    let lasts = scrapes.instances.values().filter_map(|times| {
        let place = times.partition_point(|ms| instant(*ms).0 <= until);
        place.checked_sub(1).map(|p| times[p])
    });
    lasts.max()
}

/// Instant and `$window` of PromQL evaluated once: the last edge, back to the start of the phase.
pub(super) fn metrics(record: &RunRecord, edges: Edges) -> Result<(UnixNanos, String), String> {
    let (start, _) = record
        .facts
        .window()
        .ok_or("the scenario has no measured phase")?;
    let back = edges.last_at().0.saturating_sub(record.facts.wall(start).0);
    Ok((edges.last_at(), length(back)))
}

/// Instant and `$window` of LogQL.
pub(super) fn logs(record: &RunRecord) -> Result<(UnixNanos, String), String> {
    let facts = record.facts;
    let (start, end) = facts.window().ok_or("the scenario has no measured phase")?;
    let start = facts.wall(start).0;
    let end = if followed(facts) {
        facts.wall(end).0
    } else {
        // A whole number of seconds where that does not reach past what may be asked about.
        let end = (facts.wall(facts.drained).0 + LOG_SLACK).min(until(facts).0);
        let rounded = start + end.saturating_sub(start).div_ceil(SECOND) * SECOND;
        if rounded <= until(facts).0 {
            rounded
        } else {
            end
        }
    };
    let ms = end.saturating_sub(start) / 1_000_000;
    if ms == 0 {
        return Err("the measured phase is empty".into());
    }
    Ok((UnixNanos(start + ms * 1_000_000), length(ms * 1_000_000)))
}

/// Start and end, Unix seconds, of TraceQL metrics; the end is excluded.
pub(super) fn traces(record: &RunRecord) -> Result<(u64, u64), String> {
    let facts = record.facts;
    let (start, end) = facts.window().ok_or("the scenario has no measured phase")?;
    let preceded = facts
        .stretches
        .iter()
        .any(|s| s.phase != Phase::Measure && s.start < start && s.end > s.start);
    let start_ns = facts.wall(start).0;
    let start_s = if preceded {
        start_ns.div_ceil(SECOND)
    } else {
        start_ns / SECOND
    };
    let end_s = if followed(facts) {
        facts.wall(end).0 / SECOND
    } else {
        facts.wall(facts.drained).0.div_ceil(SECOND)
    };
    if end_s <= start_s {
        return Err(
            "the measured phase holds no whole second, and spans are counted by whole seconds"
                .into(),
        );
    }
    Ok((start_s, end_s))
}
