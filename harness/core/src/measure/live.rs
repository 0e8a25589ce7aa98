//! Figures while a run goes on.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;

use super::{shown_latency, timeout};
use crate::observation::{Observation, Outcome};
use crate::scenario::Scenario;
use crate::units::{Nanos, Phase};

/// Range and resolution of the histograms, microseconds: 1 µs to 1 h, three significant digits.
const LOWEST: u64 = 1;
const HIGHEST: u64 = 3_600_000_000;
const DIGITS: u8 = 3;
/// Seconds that the live figures look back, the running one included.
const RECENT: usize = 5;
const SECOND: u64 = 1_000_000_000;

/// Latency (from due) and service time (from sent) of one phase, request and outcome, in µs.
/// Values outside 1 µs to 1 h are taken as the nearest of the two.
#[derive(Debug, Clone)]
pub struct Pair {
    /// From due to done, as [`shown_latency`] has it.
    pub latency: Histogram<u64>,
    /// From sent to done; requests never sent are not in it.
    pub service_time: Histogram<u64>,
    /// From due to the first byte of an answer; requests without one are not in it.
    pub first_byte: Histogram<u64>,
    /// Of streamed answers, where there was any.
    pub stream: Option<Stream>,
}

/// Times of streamed answers, in µs.
#[derive(Debug, Clone)]
pub struct Stream {
    /// From due to the first event.
    pub first_event: Histogram<u64>,
    /// Between one event and the next, all of all answers.
    pub gap: Histogram<u64>,
}

impl Pair {
    fn new() -> Self {
        Self {
            latency: fine(),
            service_time: fine(),
            first_byte: fine(),
            stream: None,
        }
    }

    fn record(&mut self, row: &Observation, latency: u64) {
        self.latency.saturating_record(latency);
        if let Some(service) = row.service_time() {
            self.service_time.saturating_record(micros(service));
        }
        if let Some(at) = row.first_byte() {
            self.first_byte.saturating_record(micros(at.since(row.due)));
        }
        if let Some(at) = row.first_event() {
            let stream = self.stream.get_or_insert_with(|| Stream {
                first_event: fine(),
                gap: fine(),
            });
            stream
                .first_event
                .saturating_record(micros(at.since(row.due)));
            for gap in row.gaps() {
                stream.gap.saturating_record(micros(*gap));
            }
        }
    }

    /// All histograms with their names.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        let whole = [
            ("latency", &self.latency),
            ("service", &self.service_time),
            ("first_byte", &self.first_byte),
        ];
        let stream = self
            .stream
            .iter()
            .flat_map(|stream| [("first_event", &stream.first_event), ("gap", &stream.gap)]);
        whole.into_iter().chain(stream)
    }
}

/// What has been measured so far. HDR histograms are for showing; what objectives judge is counted
/// from the rows.
#[derive(Debug, Clone)]
pub struct Measurements {
    timeout: Nanos,
    recent: [Second; RECENT],
    done: u64,
    failed: u64,
    histograms: BTreeMap<(Phase, u16, Outcome), Pair>,
}

/// What was done in one second.
#[derive(Debug, Clone)]
struct Second {
    second: u64,
    done: u64,
    latency: Histogram<u32>,
}

impl Measurements {
    /// Nothing measured yet.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            timeout: timeout(scenario),
            recent: std::array::from_fn(|_| Second {
                second: 0,
                done: 0,
                latency: coarse(),
            }),
            done: 0,
            failed: 0,
            histograms: BTreeMap::new(),
        }
    }

    /// Takes in one outcome.
    pub fn record(&mut self, row: &Observation) {
        let latency = micros(shown_latency(row, self.timeout));
        self.done += 1;
        self.failed += u64::from(row.outcome != Outcome::Expected);
        let key = (row.phase, row.request, row.outcome);
        let pair = self.histograms.entry(key).or_insert_with(Pair::new);
        pair.record(row, latency);
        let second = row.done.0 / SECOND;
        let slot = &mut self.recent[(second % RECENT as u64) as usize];
        if second > slot.second {
            *slot = Second {
                second,
                done: 0,
                latency: std::mem::replace(&mut slot.latency, coarse()),
            };
            slot.latency.reset();
        }
        // An outcome reported seconds late belongs to a second that is shown no more.
        if second == slot.second {
            slot.done += 1;
            slot.latency.saturating_record(latency);
        }
    }

    /// The figures of the last seconds. `in_flight` is the caller's, who sends.
    #[must_use]
    pub fn snapshot(&self, now: Nanos, in_flight: impl Into<u64>) -> Snapshot {
        let this = now.0 / SECOND;
        let oldest = this.saturating_sub(RECENT as u64 - 1);
        let mut latency = coarse();
        let mut done = 0;
        for slot in self
            .recent
            .iter()
            .filter(|slot| (oldest..=this).contains(&slot.second))
        {
            done += slot.done;
            // Both have the same bounds, so nothing can be out of range.
            let _ = latency.add(&slot.latency);
        }
        let seconds = (now.0 - oldest * SECOND) as f64 / SECOND as f64;
        let at = |q| (!latency.is_empty()).then(|| Nanos(latency.value_at_quantile(q) * 1_000));
        Snapshot {
            rate: if seconds > 0.0 {
                done as f64 / seconds
            } else {
                0.0
            },
            in_flight: in_flight.into(),
            p50: at(0.5),
            p99: at(0.99),
            done: self.done,
            failed: self.failed,
        }
    }

    /// All histograms so far, by phase, index of the request and outcome.
    pub fn histograms(&self) -> impl Iterator<Item = (Phase, u16, Outcome, &Pair)> {
        self.histograms
            .iter()
            .map(|((phase, request, outcome), pair)| (*phase, *request, *outcome, pair))
    }
}

/// Figures of the last seconds, for a progress line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    /// Outcomes a second over the last five seconds.
    pub rate: f64,
    /// Requests out.
    pub in_flight: u64,
    /// Median latency from due over the last five seconds, to two digits.
    pub p50: Option<Nanos>,
    /// 99th percentile likewise.
    pub p99: Option<Nanos>,
    /// Outcomes since the start.
    pub done: u64,
    /// Of these, other than expected.
    pub failed: u64,
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7.1}/s  out {:<4} p50 ", self.rate, self.in_flight)?;
        millis(f, self.p50)?;
        f.write_str("  p99 ")?;
        millis(f, self.p99)?;
        write!(f, "  failed {} of {}", self.failed, self.done)
    }
}

fn millis(f: &mut fmt::Formatter<'_>, value: Option<Nanos>) -> fmt::Result {
    match value {
        Some(value) => write!(f, "{:6.1} ms", value.0 as f64 / 1e6),
        None => f.write_str("     – ms"),
    }
}

fn micros(value: Nanos) -> u64 {
    (value.0 / 1_000).max(LOWEST)
}

fn fine() -> Histogram<u64> {
    Histogram::new_with_bounds(LOWEST, HIGHEST, DIGITS)
        .expect("the bounds are constants that the histogram takes")
}

fn coarse() -> Histogram<u32> {
    Histogram::new_with_bounds(LOWEST, HIGHEST, 2)
        .expect("the bounds are constants that the histogram takes")
}
