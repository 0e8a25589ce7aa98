//! The quantities everything else is written in.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Nanoseconds on the monotonic clock since the start of the load. 0 is the instant at which the
/// schedule begins; one `u64` lasts 584 years.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The instant `duration` after the start; saturates at `u64::MAX` nanoseconds.
    #[must_use]
    pub fn from_duration(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The time since the start of the load.
    #[must_use]
    pub fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Seconds since the start of the load.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// `self - earlier`, or zero when `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// Nanoseconds since the Unix epoch, UTC. Used only where backends need wall-clock time.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct UnixNanos(pub u64);

impl UnixNanos {
    /// The wall-clock instant `offset` after `self`.
    #[must_use]
    pub fn plus(self, offset: Nanos) -> Self {
        Self(self.0.saturating_add(offset.0))
    }

    /// RFC 3339 in UTC, to the second, e.g. `2026-11-22T14:54:52Z`; a count of nanoseconds beyond
    /// the calendar's range is written as it is.
    #[must_use]
    pub fn rfc3339(self) -> String {
        i64::try_from(self.0 / 1_000_000_000)
            .ok()
            .and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0))
            .map_or_else(
                || format!("{} ns", self.0),
                |time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            )
    }

    /// An instant as RFC 3339, with any offset and up to nanoseconds; `None` for anything else, and
    /// before 1970.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        u64::try_from(time.timestamp_nanos_opt()?).ok().map(Self)
    }

    /// Seconds since the epoch; exact to about 0.2 µs in this century.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

/// The place of a request in the schedule, counted from 0 over all loads of a scenario.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// What all random choices of a run derive from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Seed(pub u64);

/// A part of a run. Only [`Phase::Measure`] is judged; all are reported.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the measured part: caches fill, connections open.
    Warmup,
    /// The part that objectives are judged on.
    Measure,
    /// After the measured part, under load still.
    Cooldown,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warmup => "warmup",
            Self::Measure => "measure",
            Self::Cooldown => "cooldown",
        })
    }
}

/// A count of good events among all events, kept as integers. `good <= total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ratio {
    /// Events that met the objective.
    pub good: u64,
    /// All events.
    pub total: u64,
}

impl Ratio {
    /// `good / total`, or `None` when there were no events.
    #[must_use]
    pub fn value(self) -> Option<f64> {
        (self.total > 0).then(|| self.good as f64 / self.total as f64)
    }
}

/// A W3C trace id: 16 bytes, not all zero; 32 lower-case hex digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId(pub [u8; 16]);

/// A W3C parent (span) id: 8 bytes, not all zero; 16 lower-case hex digits in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId(pub [u8; 8]);

macro_rules! hex_id {
    ($name:ident, $bytes:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = String;

            /// Takes hex digits of either case; leading zeros may be missing, as Tempo leaves them out.
            fn from_str(text: &str) -> Result<Self, String> {
                let wrong = || format!("`{text}` is not an id of up to {} hex digits", $bytes * 2);
                if text.is_empty() || text.len() > $bytes * 2 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(wrong());
                }
                let padded = format!("{text:0>width$}", width = $bytes * 2);
                let mut id = [0_u8; $bytes];
                for (place, byte) in id.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&padded[place * 2..place * 2 + 2], 16).map_err(|_| wrong())?;
                }
                Ok(Self(id))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]+$" })
            }
        }
    };
}
hex_id!(TraceId, 16);
hex_id!(SpanId, 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_what_they_write_and_what_tempo_strips() {
        let id: TraceId = "00ab3b66aa149527fa5af0b238faa873".parse().unwrap();
        assert_eq!(id.to_string(), "00ab3b66aa149527fa5af0b238faa873");
        assert_eq!(
            "ab3b66aa149527fa5af0b238faa873".parse::<TraceId>().unwrap(),
            id
        );
        assert!("".parse::<TraceId>().is_err());
        assert!("xyz".parse::<SpanId>().is_err());
        assert!("0123456789abcdef0".parse::<SpanId>().is_err());
    }

    #[test]
    fn wall_clock_times_read_as_rfc_3339() {
        assert_eq!(
            UnixNanos(1_795_359_292_999_999_999).rfc3339(),
            "2026-11-22T14:54:52Z"
        );
        assert_eq!(UnixNanos(0).rfc3339(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn no_events_have_no_ratio() {
        assert_eq!(Ratio { good: 0, total: 0 }.value(), None);
        assert_eq!(Ratio { good: 1, total: 4 }.value(), Some(0.25));
    }
}
