//! Lines too old, too new or too far behind, as Loki 3 ships its limits and words its refusals
//! (recorded: `loki_err_push_too_old`, `loki_err_push_future`, `loki_ooo_2h`).

use super::{Stream, lock};
use crate::promql::civil;
use std::time::{SystemTime, UNIX_EPOCH};

const SECOND: i64 = 1_000_000_000;
/// `reject_old_samples_max_age`.
const MOST_AGE: i64 = 7 * 24 * 3600 * SECOND;
/// `creation_grace_period`.
const MOST_AHEAD: i64 = 600 * SECOND;
/// Half of `max_chunk_age`.
const MOST_BEHIND: i64 = 3600 * SECOND;

/// Nanoseconds since the Unix epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

/// Why Loki would not take a line of this time.
pub(super) fn refusal(stream: &Stream, ts: i64, now: i64) -> Option<String> {
    let labels = &stream.labels;
    let oldest = now.saturating_sub(MOST_AGE);
    if ts < oldest {
        return Some(format!(
            "entry for stream '{labels}' has timestamp too old: {}, oldest acceptable timestamp is: {}",
            shown(ts),
            shown(oldest)
        ));
    }
    if ts > now.saturating_add(MOST_AHEAD) {
        let at = shown(ts);
        return Some(format!(
            "entry for stream '{labels}' has timestamp too new: {at}"
        ));
    }
    let newest = lock(&stream.data).newest()?;
    let oldest = newest.saturating_sub(MOST_BEHIND);
    (ts < oldest).then(|| {
        format!(
            "entry too far behind, entry timestamp is: {}, oldest acceptable timestamp is: {}, for stream: {labels}",
            shown(ts),
            shown(oldest)
        )
    })
}

fn shown(ns: i64) -> String {
    civil::rfc3339_seconds(ns.div_euclid(SECOND))
}
