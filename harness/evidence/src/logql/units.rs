//! Durations and sizes as they are written in queries and in log lines.

/// Nanoseconds of a duration: Go's form (`1h2m3.5s`, `-250ms`, `1µs`) and Prometheus' units `d`,
/// `w` and `y`. `None` when it is none or does not fit.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|at| *at > 0)?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        total = total.checked_add(scaled(number, unit_ns(unit)?)?)?;
        rest = tail;
    }
    let total = i64::try_from(total).ok()?;
    Some(if negative { -total } else { total })
}

fn unit_ns(unit: &str) -> Option<i128> {
    const SECOND: i128 = 1_000_000_000;
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3_600 * SECOND,
        "d" => 86_400 * SECOND,
        "w" => 7 * 86_400 * SECOND,
        "y" => 365 * 86_400 * SECOND,
        _ => return None,
    })
}

/// `number × unit` in integers, cutting what is under one nanosecond, as Go does.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.checked_mul(unit)?;
    let mut place = unit;
    let mut part: i128 = 0;
    let mut divisor: i128 = 1;
    for digit in fraction.chars().take(15) {
        divisor *= 10;
        part = part * 10 + i128::from(digit.to_digit(10)?);
    }
    place = place.checked_mul(part)?;
    total = total.checked_add(place / divisor)?;
    Some(total)
}

/// Bytes of a size such as `42MB`, `1.5 KiB` or `512`, as Go's humanize reads it: letters in any
/// case, `k` is 1000 and `Ki` 1024.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.replace(',', "").parse().ok()?;
    let scale: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "p" | "pb" => 1e15,
        "e" | "eb" => 1e18,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1_048_576.0,
        "gi" | "gib" => 1_073_741_824.0,
        "ti" | "tib" => 1_099_511_627_776.0,
        "pi" | "pib" => 1_125_899_906_842_624.0,
        "ei" | "eib" => 1_152_921_504_606_846_976.0,
        _ => return None,
    };
    let value = number * scale;
    (value < 1.844_674_407_370_955e19).then_some(value as u64)
}

/// A duration as Go prints it: `1m30s`, `1.5s`, `250ms`.
pub(crate) fn go_duration(ns: i64) -> String {
    if ns == 0 {
        return "0s".to_owned();
    }
    let sign = if ns < 0 { "-" } else { "" };
    let abs = ns.unsigned_abs();
    let fraction = |value: u64, unit: u64, name: &str| {
        let text = format!("{}", value as f64 / unit as f64);
        format!("{sign}{text}{name}")
    };
    if abs < 1_000 {
        return format!("{sign}{abs}ns");
    }
    if abs < 1_000_000 {
        return fraction(abs, 1_000, "µs");
    }
    if abs < 1_000_000_000 {
        return fraction(abs, 1_000_000, "ms");
    }
    let seconds = abs / 1_000_000_000;
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let rest = (abs - (seconds - seconds % 60) * 1_000_000_000) as f64 / 1e9;
    match (hours, minutes) {
        (0, 0) => format!("{sign}{rest}s"),
        (0, m) => format!("{sign}{m}m{rest}s"),
        (h, m) => format!("{sign}{h}h{m}m{rest}s"),
    }
}

/// A duration as Prometheus prints it: `1m30s`, `5m`, `1h`, `250ms`; a day and more as `1d`, `1w`.
pub(crate) fn range_duration(ns: i64) -> String {
    const UNITS: [(&str, i64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    if ns % 1_000_000 != 0 || ns <= 0 {
        return go_duration(ns);
    }
    let mut ms = ns / 1_000_000;
    let mut out = String::new();
    for (name, unit) in UNITS {
        // Years and weeks only when they come out even: `1d1h`, but never `1w1d`.
        if matches!(name, "y" | "w") && ms % unit != 0 {
            continue;
        }
        if ms >= unit {
            out.push_str(&format!("{}{name}", ms / unit));
            ms %= unit;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ns) in [
            ("5m", Some(300_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("82.3ms", Some(82_300_000)),
            ("12.5µs", Some(12_500)),
            ("1.06s", Some(1_060_000_000)),
            ("-2s", Some(-2_000_000_000)),
            ("1d", Some(86_400_000_000_000)),
            ("0", Some(0)),
            ("5", None),
            ("5x", None),
            ("", None),
            ("m", None),
            (".s", None),
            ("1..5s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text), ns, "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, size) in [
            ("877.6KiB", Some(898_662)),
            ("1MB", Some(1_000_000)),
            ("12B", Some(12)),
            ("7", Some(7)),
            ("1.5 kb", Some(1500)),
            ("x", None),
            ("1xb", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }

    #[test]
    fn durations_are_written() {
        assert_eq!(range_duration(90_000_000_000), "1m30s");
        assert_eq!(range_duration(3_600_000_000_000), "1h");
        assert_eq!(go_duration(1_590_000_000), "1.59s");
        assert_eq!(go_duration(90_000_000_000), "1m30s");
    }
}
