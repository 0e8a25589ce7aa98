//! The small texts of a scenario: durations, rates and shares. Each is read exactly or refused,
//! and written so that reading it back gives the same value.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration such as `250ms`, `10s`, `1m30s`: whole numbers with the units `h`, `m`, `s`, `ms`,
/// `us`, `ns`, from large to small, each at most once. Below 2^64 nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dur(pub Duration);

/// A rate such as `20/s` or `90/m`, kept as a rational number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Events.
    pub events: u64,
    /// In this many nanoseconds, at least 1.
    pub per_nanos: u64,
}

/// A share such as `1%` or `0.01`, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(pub f64);

const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Slowest rate: one event in a thousand hours. Keeps the schedule's integer arithmetic in range.
const LONGEST_PERIOD: u64 = 3_600_000_000_000_000;
/// Digits that a rate may have after the point.
const RATE_DECIMALS: usize = 6;

impl FromStr for Dur {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("`{text}` is not a duration{why}: write for instance 250ms, 10s, 1m30s or 1h")
        };
        let mut rest = text;
        let mut nanos: u64 = 0;
        let mut next_unit = 0;
        while !rest.is_empty() || next_unit == 0 {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest[..digits].parse().map_err(|_| wrong(""))?;
            rest = &rest[digits..];
            if rest.starts_with('.') {
                return Err(wrong(" (whole numbers only)"));
            }
            let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = rest.split_at(letters);
            if unit.is_empty() {
                return Err(wrong(" (a unit is missing)"));
            }
            let place = UNITS
                .iter()
                .position(|(name, _)| *name == unit)
                .ok_or_else(|| wrong(&format!(" (the unit `{unit}` is unknown)")))?;
            if place < next_unit {
                return Err(wrong(" (units run from large to small)"));
            }
            nanos = number
                .checked_mul(UNITS[place].1)
                .and_then(|part| nanos.checked_add(part))
                .ok_or_else(|| wrong(" (too long)"))?;
            next_unit = place + 1;
            rest = after;
        }
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Dur {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in UNITS {
            let size = u128::from(size);
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl Dur {
    /// Whole nanoseconds; saturates at `u64::MAX`.
    #[must_use]
    pub fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Rate {
    /// Events a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.events as f64 * 1e9 / self.per_nanos as f64
    }

    /// Whole events in `nanos`, rounded down.
    #[must_use]
    pub fn events_in(self, nanos: u64) -> u128 {
        u128::from(self.events) * u128::from(nanos) / u128::from(self.per_nanos.max(1))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("`{text}` is not a rate{why}: write for instance 20/s, 0.5/s, 90/m or 1200/h")
        };
        let (number, period) = text
            .split_once('/')
            .ok_or_else(|| wrong(" (the period is missing)"))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || number.ends_with('.')
        {
            return Err(wrong(""));
        }
        if fraction.len() > RATE_DECIMALS {
            return Err(wrong(" (at most six digits after the point)"));
        }
        let period = match UNITS.iter().find(|(unit, _)| *unit == period) {
            Some((_, nanos)) => *nanos,
            None => period.parse::<Dur>().map_err(|_| wrong(""))?.nanos(),
        };
        let too_large = || wrong(" (out of range)");
        let events: u64 = format!("{whole}{fraction}")
            .parse()
            .map_err(|_| too_large())?;
        let scale = 10_u64.pow(fraction.len() as u32);
        let per_nanos = period.checked_mul(scale).ok_or_else(too_large)?;
        if per_nanos == 0 {
            return Err(wrong(" (the period is zero)"));
        }
        let shared = gcd(events, per_nanos);
        let rate = Self {
            events: events / shared,
            per_nanos: per_nanos / shared,
        };
        if rate.per_nanos > LONGEST_PERIOD {
            return Err(wrong(" (slower or finer than one in a thousand hours)"));
        }
        Ok(rate)
    }
}

impl fmt::Display for Rate {
    /// As a decimal a second, minute or hour where that is exact, else per nanoseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, size) in [UNITS[2], UNITS[1], UNITS[0]] {
            let per = u128::from(self.per_nanos.max(1));
            let scaled =
                u128::from(self.events) * u128::from(size) * 10_u128.pow(RATE_DECIMALS as u32);
            if scaled.is_multiple_of(per) {
                let digits = format!("{:0>width$}", scaled / per, width = RATE_DECIMALS + 1);
                let (whole, fraction) = digits.split_at(digits.len() - RATE_DECIMALS);
                let fraction = fraction.trim_end_matches('0');
                let point = if fraction.is_empty() { "" } else { "." };
                return write!(f, "{whole}{point}{fraction}/{unit}");
            }
        }
        write!(f, "{}/{}ns", self.events, self.per_nanos)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "`{text}` is not a share{why}: write for instance 1% or 0.01, from 0 to 1 (100%)"
            )
        };
        let (number, exponent) = match text.strip_suffix('%') {
            Some(number) => (number.trim_end(), "e-2"),
            None => (text, ""),
        };
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if !plain || !number.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(wrong(""));
        }
        // The exponent is read together with the digits: 7% is the double next to 0.07, not 7/100 rounded twice.
        let value: f64 = format!("{number}{exponent}")
            .parse()
            .map_err(|_| wrong(""))?;
        if !(0.0..=1.0).contains(&value) {
            return Err(wrong(" (out of range)"));
        }
        Ok(Self(value))
    }
}

impl fmt::Display for Share {
    /// In per cent where that reads back as the same number, else as a plain number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent: f64 = format!("{}e2", self.0).parse().unwrap_or(f64::NAN);
        let text = format!("{percent}%");
        if text.parse::<Self>() == Ok(*self) {
            f.write_str(&text)
        } else {
            write!(f, "{}", self.0)
        }
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    };
}
as_text!(Dur);
as_text!(Rate);

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Share;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share such as 1% or 0.01")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Share, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Share, E> {
                if (0.0..=1.0).contains(&value) {
                    Ok(Share(value))
                } else {
                    Err(E::invalid_value(Unexpected::Float(value), &self))
                }
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Share, E> {
                self.visit_f64(value as f64)
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Share, E> {
                self.visit_f64(value as f64)
            }
        }

        deserializer.deserialize_any(Text)
    }
}

impl JsonSchema for Dur {
    fn schema_name() -> Cow<'static, str> {
        "Dur".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration: whole numbers with units from large to small, such as 250ms, 10s, 1m30s.",
            "pattern": "^([0-9]+(h|m|s|ms|us|ns))+$",
        })
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A rate such as 20/s, 0.5/s, 90/m or 1200/h.",
            "pattern": "^[0-9]+(\\.[0-9]{1,6})?/([0-9]*(h|m|s|ms|us|ns))+$",
        })
    }
}

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A share from 0 to 1, such as 1% or 0.01.",
            "anyOf": [
                { "type": "string", "pattern": "^[0-9]+(\\.[0-9]*)?%?$" },
                { "type": "number", "minimum": 0, "maximum": 1 },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_exactly_or_refused() {
        let nanos = |text: &str| text.parse::<Dur>().map(Dur::nanos);
        assert_eq!(nanos("250ms"), Ok(250_000_000));
        assert_eq!(nanos("1m30s"), Ok(90_000_000_000));
        assert_eq!(nanos("1h"), Ok(3_600_000_000_000));
        for wrong in [
            "",
            "10",
            "s",
            "1.5s",
            "10 s",
            "1s1m",
            "1s1s",
            "10sec",
            "-1s",
            "99999999999h",
            "10s ",
        ] {
            let error = nanos(wrong).unwrap_err();
            assert!(error.contains("1m30s"), "{wrong}: {error}");
        }
    }

    #[test]
    fn rates_are_rational() {
        let rate = |text: &str| text.parse::<Rate>().map(|r| (r.events, r.per_nanos));
        assert_eq!(rate("20/s"), Ok((1, 50_000_000)));
        assert_eq!(rate("0.5/s"), Ok((1, 2_000_000_000)));
        assert_eq!(rate("90/m"), Ok((3, 2_000_000_000)));
        assert_eq!(rate("1200/h"), Ok((1, 3_000_000_000)));
        assert_eq!(rate("0/s").map(|r| r.0), Ok(0));
        for wrong in [
            "20",
            "/s",
            "20/",
            "20/x",
            "-1/s",
            "1e3/s",
            "1./s",
            ".5/s",
            "0.1234567/s",
            "1/0s",
        ] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!("90/m".parse::<Rate>().unwrap().to_string(), "1.5/s");
        assert_eq!("100/m".parse::<Rate>().unwrap().to_string(), "100/m");
    }

    #[test]
    fn shares_are_the_nearest_double_and_stay_in_range() {
        let share = |text: &str| text.parse::<Share>().map(|s| s.0);
        assert_eq!(share("7%"), Ok(0.07));
        assert_eq!(share("99.9%"), Ok(0.999));
        assert_eq!(share("0.01"), Ok(0.01));
        assert_eq!(share("100%"), Ok(1.0));
        for wrong in ["", "%", "101%", "1.1", "-1%", "one", "1%%", "NaN", "inf"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        assert_eq!(serde_json::from_str::<Share>("0.01").unwrap(), Share(0.01));
        assert_eq!(serde_json::to_string(&Share(0.01)).unwrap(), "\"1%\"");
        assert!(serde_json::from_str::<Share>("2").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(nanos in any::<u64>(), events in 0_u64..100_000_000, per in 1_u64..4_000_000_000, share in 0.0_f64..=1.0) {
            let dur = Dur(Duration::from_nanos(nanos));
            prop_assert_eq!(dur.to_string().parse::<Dur>(), Ok(dur));
            let shared = gcd(events, per);
            let rate = Rate { events: events / shared, per_nanos: per / shared };
            prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
            prop_assert_eq!(Share(share).to_string().parse::<Share>(), Ok(Share(share)));
        }
    }
}
