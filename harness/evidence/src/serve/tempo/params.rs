//! Query parameters.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{FromRequest, Request};
use axum::http::Method;
use bytes::Bytes;

use super::super::form::pairs;
use super::ApiError;

/// The parameters of a request, in its address or posted as a form; of a repeated one the first counts,
/// those of the form before those of the address, and an empty one is absent.
pub(super) struct Params(HashMap<String, String>);

impl<S: Send + Sync> FromRequest<S> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let form = if request.method() == Method::POST {
            let body = Bytes::from_request(request, state).await;
            body.map_err(|e| ApiError {
                status: e.status(),
                text: e.body_text(),
            })?
        } else {
            Bytes::new()
        };
        Self::new(&form, &query)
    }
}

impl Params {
    fn new(form: &[u8], query: &str) -> Result<Self, ApiError> {
        let mut all = HashMap::new();
        for part in [form, query.as_bytes()] {
            let pairs = pairs(part).map_err(|name| {
                ApiError::bad(format!(
                    "invalid TraceQL query: parse error : invalid UTF-8 encoding in {name:?}"
                ))
            })?;
            for (key, value) in pairs {
                if !value.is_empty() {
                    all.entry(key).or_insert(value);
                }
            }
        }
        Ok(Self(all))
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// An integer, worded on failure as the Go function of that name words it.
    pub(super) fn integer<T: std::str::FromStr>(
        &self,
        key: &str,
        go_function: &str,
    ) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                ApiError::bad(format!(
                    "invalid {key}: strconv.{go_function}: parsing {text:?}: invalid syntax"
                ))
            })
        };
        self.get(key).map(parse).transpose()
    }

    /// A time in whole seconds since the Unix epoch.
    pub(super) fn seconds(&self, key: &str) -> Result<Option<u64>, ApiError> {
        self.integer(key, "ParseUint")
    }

    /// A duration: a number with units, or a bare number of seconds.
    pub(super) fn duration(&self, key: &str) -> Result<Option<Duration>, ApiError> {
        let parse = |text: &str| {
            duration(text).ok_or_else(|| {
                ApiError::bad(format!("invalid {key}: time: invalid duration {text:?}"))
            })
        };
        self.get(key).map(parse).transpose()
    }

    /// The window of a metrics query in nanoseconds since the Unix epoch: `start` and `end` in
    /// seconds or nanoseconds, or the time `since`, or the last hour.
    pub(super) fn metrics_window(&self) -> Result<(u64, u64), ApiError> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let end = self.instant("end")?.unwrap_or(now);
        let since = self.duration("since")?.unwrap_or(Duration::from_secs(3600));
        let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let start = match self.instant("start")? {
            Some(start) => start,
            None => end.saturating_sub(since),
        };
        Ok((start, end))
    }

    /// A time in seconds (with a fraction perhaps) or in nanoseconds since the Unix epoch; told apart
    /// by size, as nobody asks about the year 300,000,000.
    fn instant(&self, key: &str) -> Result<Option<u64>, ApiError> {
        let parse = |text: &str| {
            let bad = || ApiError::bad(format!("invalid {key}: {text:?} is not a Unix time"));
            if let Ok(whole) = text.parse::<u64>() {
                let nanos = if whole < 10_000_000_000_000 {
                    whole.checked_mul(1_000_000_000)
                } else {
                    Some(whole)
                };
                return nanos.ok_or_else(bad);
            }
            let seconds = text.parse::<f64>().map_err(|_| bad())?;
            let whole = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
            u64::try_from(whole.as_nanos()).map_err(|_| bad())
        };
        self.get(key).map(parse).transpose()
    }
}

/// `1m30s`, `500ms`, `0.5s`; a bare number is seconds; `d` is 24 hours.
fn duration(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        total += value
            * match &rest[..letters] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
        rest = &rest[letters..];
    }
    Duration::try_from_secs_f64(total).ok()
}
