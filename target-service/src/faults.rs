//! Faults on request, so that those who watch the service can be shown what they must notice.
//!
//! Off unless the process was started with `--allow-faults`. A fault is asked for on the admin
//! listener, lasts a stated time and ends by itself. Which requests it strikes is decided by
//! counting, not by chance: a share of 0.3 strikes 3 of every 10 requests, evenly spread, so that a
//! short run sees the share it asked for.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A fault lasts at most this long, so that one forgotten does not outlive an evening.
pub const MAX_DURATION: Duration = Duration::from_secs(3600);
/// Latency added to a request, at most.
pub const MAX_LATENCY: Duration = Duration::from_secs(60);
/// Faults active at the same time, at most.
const MAX_ACTIVE: usize = 32;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Answers are late by `add_ms`.
    Latency,
    /// Requests are answered 500.
    Errors,
    /// Workers take no batch; the queue fills.
    Stall,
    /// The answer names another label than the model chose.
    WrongAnswers,
    /// `/metrics` answers 503, and no span or log record leaves.
    TelemetryCut,
}

impl Kind {
    /// The name used in requests, logs and span attributes.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Latency => "latency",
            Kind::Errors => "errors",
            Kind::Stall => "stall",
            Kind::WrongAnswers => "wrong_answers",
            Kind::TelemetryCut => "telemetry_cut",
        }
    }

    fn strikes_requests(self) -> bool {
        matches!(self, Kind::Latency | Kind::Errors | Kind::WrongAnswers)
    }
}

/// A fault as asked for. `share` is in (0, 1] and defaults to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What goes wrong.
    pub kind: Kind,
    /// For `latency` only: milliseconds added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_ms: Option<u64>,
    /// For faults that strike requests: which share of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// How long it lasts, milliseconds.
    pub for_ms: u64,
}

/// Why a fault was not accepted.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum Rejected {
    /// Needs or must not have a field, or the field is out of range.
    #[error("{0}")]
    Field(String),
    /// Too many at the same time.
    #[error("{MAX_ACTIVE} faults are active already; DELETE /faults clears them")]
    TooMany,
}

/// An active fault, as listed.
#[derive(Debug, Clone, Serialize)]
pub struct Active {
    /// Names it.
    pub id: u64,
    /// What was asked for.
    #[serde(flatten)]
    pub request: Request,
    /// Milliseconds until it ends.
    pub remaining_ms: u64,
    /// Requests it has struck.
    pub struck: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    request: Request,
    ends: Instant,
    seen: u64,
    struck: u64,
}

/// What faults do to one request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Verdict {
    /// Answer later by this much.
    pub delay: Duration,
    /// Answer 500.
    pub fail: bool,
    /// Answer another label.
    pub lie: bool,
}

#[derive(Debug, Default)]
struct Table {
    entries: Vec<Entry>,
    last_id: u64,
}

/// The faults in force. Shared by the request path, the workers and the exporters.
#[derive(Debug, Default)]
pub struct Faults {
    // Read on each request and span: without faults, nobody takes the lock.
    any: AtomicBool,
    table: Mutex<Table>,
}

impl Faults {
    /// Starts a fault at `now` and returns its id.
    ///
    /// # Errors
    /// What about the request cannot be done.
    pub fn start(&self, now: Instant, request: Request) -> Result<u64, Rejected> {
        check(&request)?;
        let mut table = self.lock();
        table.entries.retain(|e| e.ends > now);
        if table.entries.len() >= MAX_ACTIVE {
            return Err(Rejected::TooMany);
        }
        table.last_id += 1;
        let id = table.last_id;
        let ends = now + Duration::from_millis(request.for_ms);
        table.entries.push(Entry {
            id,
            request,
            ends,
            seen: 0,
            struck: 0,
        });
        self.any.store(true, Ordering::Release);
        Ok(id)
    }

    /// Ends all faults and returns how many there were.
    pub fn clear(&self, now: Instant) -> usize {
        let mut table = self.lock();
        let active = table.entries.iter().filter(|e| e.ends > now).count();
        table.entries.clear();
        self.any.store(false, Ordering::Release);
        active
    }

    /// The faults active at `now`.
    pub fn list(&self, now: Instant) -> Vec<Active> {
        let table = self.lock();
        let active = table.entries.iter().filter(|e| e.ends > now);
        active
            .map(|e| Active {
                id: e.id,
                request: e.request.clone(),
                remaining_ms: u64::try_from((e.ends - now).as_millis()).unwrap_or(u64::MAX),
                struck: e.struck,
            })
            .collect()
    }

    /// Decides what happens to the request being handled. Counts it.
    pub fn strike(&self, now: Instant) -> Verdict {
        let mut verdict = Verdict::default();
        if !self.any.load(Ordering::Acquire) {
            return verdict;
        }
        let mut table = self.lock();
        for entry in table.entries.iter_mut().filter(|e| e.ends > now) {
            if !entry.request.kind.strikes_requests() {
                continue;
            }
            entry.seen += 1;
            // The n-th request is struck when the running share passes a whole number.
            let due = entry.seen as f64 * entry.request.share.unwrap_or(1.0);
            if due + 1e-9 < (entry.struck + 1) as f64 {
                continue;
            }
            entry.struck += 1;
            match entry.request.kind {
                Kind::Latency => {
                    verdict.delay += Duration::from_millis(entry.request.add_ms.unwrap_or(0));
                }
                Kind::Errors => verdict.fail = true,
                Kind::WrongAnswers => verdict.lie = true,
                Kind::Stall | Kind::TelemetryCut => {}
            }
        }
        verdict
    }

    /// How much longer workers are to take nothing, if at all.
    pub fn stalled_for(&self, now: Instant) -> Option<Duration> {
        self.remaining(Kind::Stall, now)
    }

    /// Whether telemetry is to vanish.
    pub fn telemetry_is_cut(&self, now: Instant) -> bool {
        self.remaining(Kind::TelemetryCut, now).is_some()
    }

    fn remaining(&self, kind: Kind, now: Instant) -> Option<Duration> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let table = self.lock();
        let of_kind = table
            .entries
            .iter()
            .filter(|e| e.request.kind == kind && e.ends > now);
        of_kind.map(|e| e.ends - now).max()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        // A panic while holding it leaves a table that is still a table.
        self.table
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Whether a fault makes sense.
///
/// # Errors
/// Which field does not, and what would.
pub fn check(request: &Request) -> Result<(), Rejected> {
    let field = |text: String| Err(Rejected::Field(text));
    let kind = request.kind.as_str();
    let longest = MAX_DURATION.as_millis() as u64;
    if request.for_ms == 0 || request.for_ms > longest {
        return field(format!(
            "for_ms is {}; it must be 1 to {longest}",
            request.for_ms
        ));
    }
    let most = MAX_LATENCY.as_millis() as u64;
    match (request.kind, request.add_ms) {
        (Kind::Latency, None) => return field("latency needs add_ms, in milliseconds".to_owned()),
        (Kind::Latency, Some(ms)) if ms == 0 || ms > most => {
            return field(format!("add_ms is {ms}; it must be 1 to {most}"));
        }
        (Kind::Latency, Some(_)) | (_, None) => {}
        (_, Some(_)) => return field(format!("add_ms belongs to latency, not to {kind}")),
    }
    match request.share {
        Some(_) if !request.kind.strikes_requests() => field(format!(
            "share belongs to faults of single requests, not to {kind}"
        )),
        Some(share) if !(share > 0.0 && share <= 1.0) => field(format!(
            "share is {share}; it must be above 0 and at most 1"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: Kind, add_ms: Option<u64>, share: Option<f64>, for_ms: u64) -> Request {
        Request {
            kind,
            add_ms,
            share,
            for_ms,
        }
    }

    #[test]
    fn a_share_strikes_evenly_and_exactly() {
        let faults = Faults::default();
        let now = Instant::now();
        faults
            .start(now, request(Kind::Errors, None, Some(0.3), 1000))
            .unwrap();
        let struck: Vec<bool> = (0..100).map(|_| faults.strike(now).fail).collect();
        assert_eq!(struck.iter().filter(|s| **s).count(), 30);
        for tenth in struck.chunks(10) {
            assert_eq!(tenth.iter().filter(|s| **s).count(), 3);
        }
    }

    #[test]
    fn faults_add_up_and_end_by_themselves() {
        let faults = Faults::default();
        let now = Instant::now();
        faults
            .start(now, request(Kind::Latency, Some(100), None, 50))
            .unwrap();
        faults
            .start(now, request(Kind::Latency, Some(20), None, 5000))
            .unwrap();
        faults
            .start(now, request(Kind::WrongAnswers, None, None, 5000))
            .unwrap();
        let both = faults.strike(now);
        assert_eq!(
            both,
            Verdict {
                delay: Duration::from_millis(120),
                fail: false,
                lie: true
            }
        );
        let later = now + Duration::from_millis(50);
        assert_eq!(faults.strike(later).delay, Duration::from_millis(20));
        assert_eq!(faults.list(later).len(), 2);
        assert_eq!(faults.clear(later), 2);
        assert_eq!(faults.strike(later), Verdict::default());
    }

    #[test]
    fn stall_and_cut_strike_no_request_but_their_own_targets() {
        let faults = Faults::default();
        let now = Instant::now();
        faults
            .start(now, request(Kind::Stall, None, None, 1000))
            .unwrap();
        assert_eq!(faults.strike(now), Verdict::default());
        assert_eq!(faults.stalled_for(now), Some(Duration::from_secs(1)));
        assert!(!faults.telemetry_is_cut(now));
        faults
            .start(now, request(Kind::TelemetryCut, None, None, 10))
            .unwrap();
        assert!(faults.telemetry_is_cut(now));
        assert!(!faults.telemetry_is_cut(now + Duration::from_millis(10)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_range() {
        let faults = Faults::default();
        let now = Instant::now();
        for (bad, word) in [
            (request(Kind::Latency, None, None, 10), "add_ms"),
            (request(Kind::Latency, Some(0), None, 10), "add_ms"),
            (request(Kind::Errors, Some(5), None, 10), "add_ms"),
            (request(Kind::Errors, None, Some(0.0), 10), "share"),
            (request(Kind::Errors, None, Some(f64::NAN), 10), "share"),
            (request(Kind::Errors, None, Some(1.5), 10), "share"),
            (request(Kind::Stall, None, Some(0.5), 10), "share"),
            (request(Kind::Stall, None, None, 0), "for_ms"),
            (request(Kind::Stall, None, None, u64::MAX), "for_ms"),
        ] {
            let refused = faults.start(now, bad).unwrap_err().to_string();
            assert!(refused.contains(word), "{refused}");
        }
        assert!(faults.list(now).is_empty());
        for _ in 0..MAX_ACTIVE {
            faults
                .start(now, request(Kind::Stall, None, None, 10))
                .unwrap();
        }
        let one_more = faults.start(now, request(Kind::Stall, None, None, 10));
        assert_eq!(one_more, Err(Rejected::TooMany));
    }
}
