//! Numbers for people: units a reader thinks in, as many digits as the question needs and no more.

use super::model::{ObjectiveResult, Signal, Source, Threshold, Verdict};
use crate::observation::Outcome;
use crate::query::Backend;

/// What stands where there is no value. Never a zero.
pub(super) const NONE: &str = "–";

/// Decimals beyond which two numbers are called equal.
const MOST_DECIMALS: usize = 9;

/// Least decimals, from `least` on, at which `value` does not look like any of `others` that it
/// differs from. 98.9996 % beside a target of 99 % must not be shown as 99 %.
fn decimals(value: f64, others: &[f64], least: usize) -> usize {
    (least..MOST_DECIMALS)
        .find(|&d| {
            others
                .iter()
                .all(|&other| value == other || format!("{value:.d$}") != format!("{other:.d$}"))
        })
        .unwrap_or(MOST_DECIMALS)
}

/// `value` with at most `d` decimals, without trailing zeros, thousands set apart.
fn trimmed(value: f64, d: usize) -> String {
    if value.is_nan() {
        return "not a number".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.to_owned();
    }
    if value.abs() >= 1e15 {
        return format!("{value:.3e}").replace('-', "−");
    }
    let text = format!("{value:.d$}");
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) if digits != "0" => ("−", digits),
        Some(digits) => ("", digits),
        None => ("", text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", thousands(whole))
}

fn thousands(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count, thousands set apart by commas.
pub(super) fn count(value: u64) -> String {
    thousands(&value.to_string())
}

/// Decimals that show three significant digits of `value`.
fn three_digits(value: f64) -> usize {
    if value == 0.0 || !value.is_finite() {
        return 0;
    }
    (2 - value.abs().log10().floor() as i64).clamp(0, MOST_DECIMALS as i64) as usize
}

/// A share as percent, told apart from `beside`, from 0 % and from 100 %.
pub(super) fn percent(share: f64, beside: Option<f64>) -> String {
    let others = [0.0, 100.0, beside.map_or(0.0, |b| b * 100.0)];
    let value = share * 100.0;
    format!("{} %", trimmed(value, decimals(value, &others, 2)))
}

/// A share of a difference, which may be negative or beyond one, in whole percent.
pub(super) fn share(share: f64) -> String {
    let percent = share * 100.0;
    if !percent.is_finite() {
        return NONE.to_owned();
    }
    let text = format!("{percent:.0} %");
    if text == "-0 %" {
        "0 %".to_owned()
    } else {
        text.replace('-', "−")
    }
}

/// Seconds in the unit that suits them: µs, ms, s, min.
pub(crate) fn seconds(value: f64) -> String {
    let (factor, unit) = time_scale(value);
    format!(
        "{} {unit}",
        trimmed(value * factor, three_digits(value * factor))
    )
}

/// Factor and unit in which a time of this size is read best.
fn time_scale(seconds: f64) -> (f64, &'static str) {
    match seconds.abs() {
        0.0 => (1e3, "ms"),
        s if s < 1e-3 => (1e6, "µs"),
        s if s < 1.0 => (1e3, "ms"),
        s if s < 120.0 => (1.0, "s"),
        _ => (1.0 / 60.0, "min"),
    }
}

/// A rate a second.
pub(super) fn rate(value: f64) -> String {
    format!("{}/s", trimmed(value, three_digits(value)))
}

/// Bytes in binary multiples.
pub(super) fn bytes(value: f64) -> String {
    let (factor, unit) = byte_scale(value);
    format!(
        "{} {unit}",
        trimmed(value / factor, three_digits(value / factor))
    )
}

fn byte_scale(value: f64) -> (f64, &'static str) {
    const KIB: f64 = 1024.0;
    match value.abs() {
        b if b < KIB => (1.0, "B"),
        b if b < KIB * KIB => (KIB, "KiB"),
        b if b < KIB * KIB * KIB => (KIB * KIB, "MiB"),
        _ => (KIB * KIB * KIB, "GiB"),
    }
}

/// `value` in `unit`, in the scale of `beside` (a limit that stands in the same row) and told apart
/// from it. Units are UCUM-like (`s`, `ms`, `By`, `1`), `ratio` and `/s`; others are shown as they are.
pub(super) fn quantity(value: f64, unit: Option<&str>, beside: Option<f64>) -> String {
    let size = beside
        .filter(|b| *b != 0.0 && b.is_finite())
        .unwrap_or(value);
    let (factor, suffix) = match unit.unwrap_or("1").trim() {
        "ratio" => return percent(value, beside),
        "s" | "seconds" => {
            let (factor, unit) = time_scale(size);
            (factor, format!(" {unit}"))
        }
        "By" | "bytes" => {
            let (factor, unit) = byte_scale(size);
            (1.0 / factor, format!(" {unit}"))
        }
        "1" | "" => (1.0, String::new()),
        "1/s" | "{request}/s" => (1.0, "/s".to_owned()),
        other if other.starts_with('/') => (1.0, super::text::safe(other, 40)),
        other => (1.0, format!(" {}", super::text::safe(other, 40))),
    };
    let shown = value * factor;
    let others: Vec<f64> = beside.iter().map(|b| b * factor).collect();
    format!(
        "{}{suffix}",
        trimmed(shown, decimals(shown, &others, three_digits(shown)))
    )
}

/// An objective's value, told apart from what it is held against.
pub(super) fn value(result: &ObjectiveResult) -> String {
    match result.value {
        None => NONE.to_owned(),
        Some(value) => quantity(value, unit_of(result), limit(result)),
    }
}

/// What the value is held against, as a number.
pub(super) fn limit(result: &ObjectiveResult) -> Option<f64> {
    result.threshold.as_ref().map(|t| t.value).or(result.target)
}

/// The unit of value and limit: that of the report, or `ratio` for ratio objectives.
pub(super) fn unit_of(result: &ObjectiveResult) -> Option<&str> {
    match (&result.unit, &result.threshold) {
        (Some(unit), _) => Some(unit),
        (None, None) => Some("ratio"),
        (None, Some(_)) => None,
    }
}

/// `≥ 99 %`, `≤ 800 ms`.
pub(super) fn target(result: &ObjectiveResult) -> String {
    match (&result.threshold, result.target) {
        (Some(Threshold { op, value }), _) => {
            format!(
                "{} {}",
                operator(op),
                quantity(*value, unit_of(result), None)
            )
        }
        (None, Some(target)) => format!("≥ {}", percent(target, None)),
        (None, None) => NONE.to_owned(),
    }
}

fn operator(op: &str) -> String {
    match op {
        "lte" => "≤".to_owned(),
        "gte" => "≥".to_owned(),
        "lt" => "<".to_owned(),
        "gt" => ">".to_owned(),
        other => super::text::safe(other, 10),
    }
}

/// `99.41 – 99.97 %`.
pub(super) fn interval(result: &ObjectiveResult) -> String {
    match result.interval {
        None => NONE.to_owned(),
        Some([low, high]) => {
            let low = percent(low, limit(result));
            format!(
                "{} – {}",
                low.trim_end_matches(" %"),
                percent(high, limit(result))
            )
        }
    }
}

/// Events judged, and how many independent ones they are worth at least where that is less.
pub(super) fn samples(result: &ObjectiveResult) -> String {
    match (result.samples, effective(result)) {
        (None, _) => NONE.to_owned(),
        (Some(all), Some(worth)) => format!("{} (eff. {worth})", count(all)),
        (Some(all), None) => count(all),
    }
}

/// How many independent events the samples are worth at least, where that is fewer than there are.
pub(super) fn effective(result: &ObjectiveResult) -> Option<String> {
    let (all, worth) = (result.samples?, result.effective_samples?);
    let worth = worth.max(0.0).floor() as u64;
    (worth < all).then(|| count(worth))
}

impl Verdict {
    /// The word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Fail => "fail",
            Self::Invalid => "invalid",
        }
    }

    /// A sign that stands for it, so that it is not told by colour alone.
    pub(super) fn sign(self) -> char {
        match self {
            Self::Pass => '✓',
            Self::Inconclusive => '?',
            Self::Fail => '✗',
            Self::Invalid => '!',
        }
    }
}

impl Signal {
    /// The order in which signals are shown.
    pub(super) const ALL: [Self; 4] =
        [Self::Latency, Self::Traffic, Self::Errors, Self::Saturation];

    /// As a heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Latency => "Latency",
            Self::Traffic => "Traffic",
            Self::Errors => "Errors",
            Self::Saturation => "Saturation",
        }
    }
}

/// `client`, `Prometheus`, `Loki`, `Tempo`.
pub(super) fn source(source: Source) -> &'static str {
    match source {
        Source::Client => "client",
        Source::Prometheus => "Prometheus",
        Source::Loki => "Loki",
        Source::Tempo => "Tempo",
    }
}

/// What a backend holds, and its name.
pub(super) fn backend(backend: Backend) -> (&'static str, &'static str) {
    match backend {
        Backend::Prometheus => ("metrics", "Prometheus"),
        Backend::Loki => ("logs", "Loki"),
        Backend::Tempo => ("traces", "Tempo"),
    }
}

/// How a request ended, in words, with its status where that says more.
pub(crate) fn ending(outcome: Outcome, status: Option<u16>) -> String {
    let name = outcome_name(outcome);
    match (outcome, status) {
        (Outcome::UnexpectedStatus, Some(status)) => format!("{name} {status}"),
        (Outcome::Expected | Outcome::WrongAnswer, Some(status)) => format!("{name} ({status})"),
        _ => name.to_owned(),
    }
}

/// An outcome in words.
pub(super) fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Expected => "as expected",
        Outcome::UnexpectedStatus => "unexpected status",
        Outcome::WrongAnswer => "wrong answer",
        Outcome::Timeout => "timed out",
        Outcome::ConnectTimeout => "timed out connecting",
        Outcome::FirstByteTimeout => "timed out without a byte",
        Outcome::ConnectionRefused => "connection refused",
        Outcome::ConnectionReset => "connection reset",
        Outcome::ConnectionClosed => "connection closed early",
        Outcome::StreamReset => "stream reset",
        Outcome::GoAway => "sent away (GOAWAY)",
        Outcome::DnsFailure => "name not resolved",
        Outcome::TlsFailure => "TLS failed",
        Outcome::ProtocolError => "protocol error",
        Outcome::Dropped => "never sent",
        Outcome::Unfinished => "unfinished at the end",
        Outcome::TooSlow => "right, but too slow",
        Outcome::NotReached => "never reached in its flow",
        Outcome::GeneratorFailed => "generator could not send",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_never_crosses_the_limit_nor_claims_all_or_none() {
        assert_eq!(percent(0.99, Some(0.99)), "99 %");
        assert_eq!(percent(0.989_999, Some(0.99)), "98.9999 %");
        assert_eq!(percent(0.999_999, None), "99.9999 %");
        assert_eq!(percent(0.000_001, None), "0.0001 %");
        assert_eq!(percent(0.29, None), "29 %");
        assert_eq!(quantity(0.250_04, Some("s"), Some(0.25)), "250.04 ms");
        assert_eq!(quantity(0.25, Some("s"), Some(0.25)), "250 ms");
    }

    #[test]
    fn values_take_the_scale_of_their_limit() {
        assert_eq!(quantity(1.5, Some("s"), Some(0.25)), "1,500 ms");
        assert_eq!(
            quantity(512.0 * 1024.0, Some("By"), Some(1024.0 * 1024.0)),
            "0.5 MiB"
        );
        assert_eq!(quantity(39.84, Some("/s"), Some(35.0)), "39.8/s");
        assert_eq!(quantity(0.731, Some("1"), None), "0.731");
        assert_eq!(quantity(3.0, Some("furlong"), None), "3 furlong");
    }

    #[test]
    fn times_are_read_in_their_own_unit() {
        assert_eq!(seconds(0.0), "0 ms");
        assert_eq!(seconds(0.000_012_34), "12.3 µs");
        assert_eq!(seconds(0.0123), "12.3 ms");
        assert_eq!(seconds(2.0), "2 s");
        assert_eq!(seconds(-0.002), "−2 ms");
        assert_eq!(seconds(600.0), "10 min");
    }

    #[test]
    fn odd_numbers_are_named() {
        assert_eq!(quantity(f64::NAN, Some("s"), Some(1.0)), "not a number s");
        assert_eq!(quantity(f64::INFINITY, None, Some(1.0)), "∞");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(1_536.0), "1.5 KiB");
        assert_eq!(rate(39.84), "39.8/s");
    }
}
