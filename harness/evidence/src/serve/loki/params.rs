//! Parameters of a request, from the address and from a form body alike.

use super::super::form::pairs;
use super::respond::Failure;
use super::{Direction, MOST_LINES};
use crate::logql::duration;
use std::time::{SystemTime, UNIX_EPOCH};

const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3_600 * SECOND;

/// Names and values in the order given.
pub(super) struct Params(Vec<(String, String)>);

/// Nanoseconds since the epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
}

impl Params {
    pub(super) fn new(raw: Option<String>, body: &[u8]) -> Result<Self, Failure> {
        let mut all = Vec::new();
        for part in [body, raw.unwrap_or_default().as_bytes()] {
            let pairs = pairs(part).map_err(|name| {
                Failure::bad(format!("parse error : invalid UTF-8 encoding in {name:?}"))
            })?;
            all.extend(pairs);
        }
        Ok(Self(all))
    }

    /// The first value of a name; an empty one is none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, v)| n == name && !v.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// All values of these names.
    pub(super) fn all(&self, names: &[&str]) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(n, v)| names.contains(&n.as_str()) && !v.is_empty())
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// A time: nanoseconds, seconds (up to ten digits, or with a fraction) or RFC 3339.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        time(text).map(Some).ok_or_else(|| {
            Failure::bad(format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax"
            ))
        })
    }

    /// `start` and `end`; without them the hour (or `since`) before now.
    pub(super) fn bounds(&self) -> Result<(i64, i64), Failure> {
        let end = self.time("end")?;
        let since = self.duration("since")?.unwrap_or(HOUR);
        let latest = end.unwrap_or_else(now);
        let start = self.time("start")?.unwrap_or(latest.saturating_sub(since));
        Ok((start, latest))
    }

    pub(super) fn limit(&self) -> Result<usize, Failure> {
        let Some(text) = self.get("limit") else {
            return Ok(100);
        };
        let limit: i64 = text
            .parse()
            .map_err(|_| Failure::bad(format!("strconv.Atoi: parsing {text:?}: invalid syntax")))?;
        match usize::try_from(limit) {
            Ok(limit) if limit > MOST_LINES => Err(Failure::bad(format!(
                "max entries limit per query exceeded, limit > max_entries_limit_per_query \
                 ({limit} > {MOST_LINES})"
            ))),
            Ok(limit) if limit > 0 => Ok(limit),
            _ => Err(Failure::bad("limit must be a positive value")),
        }
    }

    pub(super) fn direction(&self) -> Result<Direction, Failure> {
        match self
            .get("direction")
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            None | Some("backward") => Ok(Direction::Backward),
            Some("forward") => Ok(Direction::Forward),
            Some(other) => Err(Failure::bad(format!("invalid direction '{other}'"))),
        }
    }

    /// Seconds as a number, or a duration, in nanoseconds.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let seconds = text.parse::<f64>().ok().filter(|s| s.abs() < 9e9);
        let ns = match seconds {
            Some(seconds) => Some((seconds * 1e9) as i64),
            None => duration(text),
        };
        ns.map(Some)
            .ok_or_else(|| Failure::bad(format!("cannot parse {text:?} to a valid duration")))
    }

    /// The step; when not given, the range in 250 parts, at least a second, as Loki does.
    pub(super) fn step(&self, start: i64, end: i64) -> Result<i64, Failure> {
        match self.duration("step")? {
            None => Ok((end.saturating_sub(start) / 250 / SECOND).max(1) * SECOND),
            Some(step) if step > 0 => Ok(step),
            Some(_) => Err(Failure::bad(
                "zero or negative query resolution step widths are not accepted. Try a positive \
                 integer",
            )),
        }
    }
}

fn time(text: &str) -> Option<i64> {
    if text.contains('.') && !text.contains('T') {
        // Not by way of a float: it has no room for nanoseconds of today.
        let (whole, fraction) = text.split_once('.')?;
        let digits: String = fraction.chars().take(9).collect();
        let part: i64 = format!("{digits:0<9}").parse().ok()?;
        let whole: i64 = whole.parse().ok()?;
        return whole.checked_mul(SECOND)?.checked_add(part);
    }
    if let Ok(number) = text.parse::<i64>() {
        return if text.trim_start_matches('-').len() <= 10 {
            number.checked_mul(SECOND)
        } else {
            Some(number)
        };
    }
    rfc3339(text)
}

/// `2026-11-22T13:31:00.5Z` or with an offset such as `+02:00`.
fn rfc3339(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let part = text.get(from..to)?;
        let digits = part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse().ok())?
    };
    let mark = |at: usize, wanted: &str| text.get(at..=at).filter(|m| wanted.contains(m));
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    mark(4, "-")?;
    mark(7, "-")?;
    mark(10, "Tt")?;
    mark(13, ":")?;
    mark(16, ":")?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let digits: String = fraction[..length].chars().take(9).collect();
        nanos = format!("{digits:0<9}").parse().ok()?;
        rest = &fraction[length..];
    }
    let offset = match rest {
        "Z" | "z" => 0,
        zone => {
            let at = text.len() - zone.len();
            mark(at + 3, ":")?;
            let seconds = (number(at + 1, at + 3)? * 60 + number(at + 4, at + 6)?) * 60;
            match (zone.len(), zone.as_bytes().first()?) {
                (6, b'+') => seconds,
                (6, b'-') => -seconds,
                _ => return None,
            }
        }
    };
    let days = crate::logql::days_since_epoch(year, month, day);
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    seconds.checked_mul(SECOND)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        for (text, ns) in [
            ("1795354260", Some(1_795_354_260_000_000_000)),
            ("1795354260123456789", Some(1_795_354_260_123_456_789)),
            ("1795354560.25", Some(1_795_354_560_250_000_000)),
            ("2026-11-22T13:31:00Z", Some(1_795_354_260_000_000_000)),
            (
                "2026-11-22T15:31:00.5+02:00",
                Some(1_795_354_260_500_000_000),
            ),
            ("nope", None),
            ("2026-13-22T13:31:00Z", None),
            ("2026-11-22T13:31:00", None),
            ("1.x", None),
            ("é026-11-22T13:31:00Z", None),
        ] {
            assert_eq!(time(text), ns, "{text}");
        }
    }
}
