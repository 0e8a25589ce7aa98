//! Clocks of the backends, and of what they hold, against ours. Windows are asked for by our clock: where
//! samples or lines are dated by another one, other requests than those of the measured phase are counted.
//!
//! Up to [`LIMIT`] the edges of windows bear it, as they bear whole seconds and scrape intervals; it is
//! then a finding. Beyond, nothing of that backend is judged.

use super::{Gaps, Survey};
use crate::judge::RunRecord;
use crate::judge::reading::Series;
use crate::judge::tally;
use crate::observation::Observation;
use crate::query::Backend;
use crate::record::sampled::{Cell, SecondCount};
use crate::report::model::Finding;
use crate::units::Nanos;

/// Largest difference of clocks that windows and waterfalls can bear, seconds.
pub const LIMIT: f64 = 1.0;
/// Least difference worth a finding, seconds.
const WORTH: f64 = 0.1;

/// Keeps a difference as a finding, and as a gap where it is too large.
fn differs(apart: f64, code: &str, said: String, gaps: &mut Gaps, survey: &mut Survey) {
    if apart > LIMIT {
        gaps.add(format!(
            "{said}; windows bear {LIMIT:.0} s: synchronise the clocks (NTP)"
        ));
    }
    if apart >= WORTH {
        survey.findings.push(Finding {
            code: code.to_owned(),
            said,
            requests: Vec::new(),
        });
    }
}

/// What the backend's own answers tell of its clock.
pub(super) fn of_backend(
    record: &RunRecord,
    backend: Backend,
    gaps: &mut Gaps,
    survey: &mut Survey,
) {
    let used = record.facts.backends.get(&backend);
    if let Some(clock) = used.and_then(|used| used.clock) {
        let said = format!(
            "the clock of {backend} {clock}, by the Date of {} answers",
            clock.answers
        );
        differs(clock.apart(), "backend_clock_differs", said, gaps, survey);
    }
}

/// What the samples of the request counter tell of the clock that dates scrapes.
///
/// When a scrape shows `c` requests, the `c`-th must have been sent, and the one after it cannot have
/// been answered: so the client knows between which instants of its own the counter was read. Only for a
/// service of one instance, whose counter never fell. Requests that the counter lacks or has beyond those
/// answered may have been any, so all instants are moved by their number.
pub(super) fn of_scrapes(
    record: &RunRecord,
    counter: &[Series],
    counted: u64,
    interval_ms: u64,
    gaps: &mut Gaps,
    survey: &mut Survey,
) {
    let Some((ahead, behind)) = dated(record, counter, counted, interval_ms) else {
        return;
    };
    let said = if ahead >= behind {
        format!(
            "scrapes are dated {ahead:.1} s late at least: they show fewer requests than were answered by then, so the clock that dates them is ahead of ours"
        )
    } else {
        format!(
            "scrapes are dated {behind:.1} s early at least: they show requests that were not sent by then, so the clock that dates them is behind ours"
        )
    };
    differs(ahead.max(behind), "scrapes_dated_apart", said, gaps, survey);
}

/// Seconds by which the clock that dates scrapes is ahead and behind at least.
fn dated(
    record: &RunRecord,
    counter: &[Series],
    counted: u64,
    interval_ms: u64,
) -> Option<(f64, f64)> {
    let first = counter.first()?.labels.get("instance");
    if counter.iter().any(|s| s.labels.get("instance") != first) {
        return None;
    }
    let instants = Instants::of(record);
    let expected = instants.answered;
    let lacking = usize::try_from(expected.saturating_sub(counted)).ok()?;
    let beyond = usize::try_from(counted.saturating_sub(expected)).ok()?;
    let wall = |at: Nanos| i128::from(record.facts.wall(at).0);
    let grown = growth(record, counter)?;
    // Followed otherwise than the requests were counted: another process before the load, for one.
    if grown.last()?.1 as u64 != counted {
        return None;
    }
    let (mut ahead, mut behind) = (Vec::new(), Vec::new());
    for (at, count) in grown {
        let at = i128::from(at) * 1_000_000;
        // Read before the next was answered …
        if let Some(next) = instants.done(count.saturating_add(lacking)) {
            ahead.push(at - wall(next));
        }
        // … and after the last was sent; a scrape is dated when it begins and may take an interval.
        let last = count.checked_sub(beyond + 1);
        if let Some(last) = last.and_then(|n| instants.sent(n)) {
            behind.push(wall(last) - i128::from(interval_ms) * 1_000_000 - at);
        }
    }
    // The median: a service may count an answer a moment after it was read, on a machine that stalls.
    let shown = |mut bounds: Vec<i128>| {
        bounds.sort_unstable();
        bounds.get(bounds.len() / 2).map_or(0, |ns| *ns.max(&0)) as f64 / 1e9
    };
    Some((shown(ahead), shown(behind)))
}

/// When the n-th request was sent, and when the n-th answer was there.
struct Instants<'a> {
    sent: Vec<Nanos>,
    done: Vec<Nanos>,
    answered: u64,
    /// Where not all requests have a row: the second of each is known.
    seconds: Option<&'a [SecondCount]>,
}

impl<'a> Instants<'a> {
    fn of(record: &RunRecord<'a>) -> Self {
        if let Some(sampled) = tally::of(record) {
            return Self {
                sent: Vec::new(),
                done: Vec::new(),
                answered: sampled.cells.iter().map(Cell::answered).sum(),
                seconds: Some(&sampled.seconds),
            };
        }
        let answered = record.rows.iter().filter(|row| row.outcome.answered());
        let mut sent: Vec<Nanos> = record.rows.iter().filter_map(Observation::sent).collect();
        let mut done: Vec<Nanos> = answered.map(|row| row.done).collect();
        sent.sort_unstable();
        done.sort_unstable();
        Self {
            answered: done.len() as u64,
            sent,
            done,
            seconds: None,
        }
    }

    /// At the earliest.
    fn sent(&self, n: usize) -> Option<Nanos> {
        match self.seconds {
            Some(seconds) => second_of(seconds, n, |second| second.sent),
            None => self.sent.get(n).copied(),
        }
    }

    /// At the latest.
    fn done(&self, n: usize) -> Option<Nanos> {
        match self.seconds {
            Some(seconds) => second_of(seconds, n, |second| second.answered)
                .map(|second| Nanos(second.0 + 1_000_000_000)),
            None => self.done.get(n).copied(),
        }
    }
}

/// The beginning of the second that holds the `n`-th, from 0.
fn second_of(
    seconds: &[SecondCount],
    n: usize,
    count: impl Fn(&SecondCount) -> u64,
) -> Option<Nanos> {
    let mut before = 0;
    let place = seconds.iter().position(|second| {
        before += count(second);
        before > n as u64
    })?;
    Some(Nanos(place as u64 * 1_000_000_000))
}

/// Times of scrapes during the load, milliseconds, and how far the counter had grown by then; `None`
/// where it fell or cannot be followed.
fn growth(record: &RunRecord, counter: &[Series]) -> Option<Vec<(i64, usize)>> {
    let started = i64::try_from(record.facts.started.0 / 1_000_000).ok()?;
    let times: std::collections::BTreeSet<i64> = counter
        .iter()
        .flat_map(|s| s.points.iter().map(|(at, _)| *at))
        .collect();
    let value = |at: i64| {
        counter
            .iter()
            .filter_map(|s| {
                let place = s.points.partition_point(|(t, _)| *t <= at);
                place.checked_sub(1).map(|p| s.points[p].1)
            })
            .sum::<f64>()
    };
    let fell = |s: &Series| s.points.windows(2).any(|w| w[1].1 < w[0].1);
    if counter.iter().any(fell) {
        return None;
    }
    // A fresh process begins at 0; one that ran before, at its last scrape before the load.
    let before = times.range(..=started).next_back().map(|at| value(*at));
    let base = match before {
        Some(base) => base,
        None if record.facts.target.started => 0.0,
        None => return None,
    };
    let during = times.range(started + 1..);
    Some(
        during
            .map(|at| (*at, (value(*at) - base).max(0.0) as usize))
            .collect(),
    )
}

/// What one line of the request log tells of the clock that dates lines: it was written while its request
/// was out, or soon after.
pub(super) fn of_line(
    record: &RunRecord,
    row: &Observation,
    line_ns: u64,
    gaps: &mut Gaps,
    survey: &mut Survey,
) {
    let Some(sent) = row.sent() else { return };
    let line = i128::from(line_ns);
    let early = (i128::from(record.facts.wall(sent).0) - line) as f64 / 1e9;
    let late = (line - i128::from(record.facts.wall(row.done).0)) as f64 / 1e9;
    let said = if early > late {
        format!(
            "the log line of the run's last request is dated {early:.1} s before it was sent: the clock that dates lines is behind ours"
        )
    } else {
        format!(
            "the log line of the run's last request is dated {late:.1} s after its answer: the clock that dates lines is ahead of ours, or the collector dates them when it reads them"
        )
    };
    differs(early.max(late), "lines_dated_apart", said, gaps, survey);
}
