//! Request parameters, from the URL and from a posted form.

use super::super::form::pairs;
use super::Failure;
use crate::promql::civil;
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// The form's parameters come before those of the URL, as in Go's `Request.FormValue`.
    pub(super) fn read(query: Option<&str>, form: &[u8]) -> Result<Self, Failure> {
        let mut all = Vec::new();
        for part in [form, query.unwrap_or("").as_bytes()] {
            let pairs = pairs(part).map_err(|name| {
                Failure::parameter(&name, "1:1: parse error: invalid UTF-8 rune")
            })?;
            all.extend(pairs);
        }
        Ok(Params(all))
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// A time in Unix milliseconds; `None` when the parameter is absent or empty.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, Failure> {
        let Some(text) = self.first(name).filter(|t| !t.is_empty()) else {
            return Ok(None);
        };
        parse_time(text).map(Some).ok_or_else(|| {
            Failure::parameter(
                name,
                format!(
                    "Invalid time value for '{name}': cannot parse {text:?} to a valid timestamp"
                ),
            )
        })
    }

    pub(super) fn required_time(&self, name: &str) -> Result<i64, Failure> {
        let text = self.first(name).unwrap_or("");
        parse_time(text).ok_or_else(|| {
            Failure::parameter(name, format!("cannot parse {text:?} to a valid timestamp"))
        })
    }

    /// Milliseconds; `None` when the parameter is absent or empty.
    pub(super) fn optional_duration(&self, name: &str) -> Result<Option<i64>, Failure> {
        match self.first(name) {
            None | Some("") => Ok(None),
            Some(_) => self.required_duration(name).map(Some),
        }
    }

    pub(super) fn required_duration(&self, name: &str) -> Result<i64, Failure> {
        let text = self.first(name).unwrap_or("");
        parse_duration(text).ok_or_else(|| {
            Failure::parameter(name, format!("cannot parse {text:?} to a valid duration"))
        })
    }
}

pub(super) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

fn parse_time(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) => seconds_to_ms(seconds),
        Err(_) => civil::from_rfc3339(text),
    }
}

fn seconds_to_ms(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1000.0).round();
    (ms.is_finite() && ms.abs() < 9.0e15).then_some(ms as i64)
}

/// Milliseconds of plain seconds or of `1h30m`.
fn parse_duration(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return seconds_to_ms(seconds);
    }
    let mut total = 0_i64;
    let mut rest = text;
    // Units come from large to small, each at most once.
    let mut units: &[(&str, i64)] = &[
        ("y", 31_536_000_000),
        ("w", 604_800_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    while !rest.is_empty() {
        let n = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value: i64 = rest[..n].parse().ok()?;
        let u = rest[n..]
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let i = units
            .iter()
            .position(|(name, _)| *name == &rest[n..n + u])?;
        total = total.checked_add(value.checked_mul(units[i].1)?)?;
        units = &units[i + 1..];
        rest = &rest[n + u..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_durations() {
        assert_eq!(parse_time("1795351016.057"), Some(1_795_351_016_057));
        assert_eq!(parse_time("1970-01-01T00:00:02Z"), Some(2000));
        assert_eq!(parse_time("NaN"), None);
        assert_eq!(parse_duration("1h30m"), Some(5_400_000));
        assert_eq!(parse_duration("0.5"), Some(500));
        for bad in ["", "5", "m5", "1m1h", "1x", "99999999999999999y", "é"] {
            let want = (bad == "5").then_some(5000);
            assert_eq!(parse_duration(bad), want, "{bad}");
        }
    }
}
