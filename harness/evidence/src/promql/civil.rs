//! Dates in UTC: Unix time to calendar and back, and RFC 3339.

/// Days since 1970 to year, month, day in the proleptic Gregorian calendar, counted in 400-year eras
/// that begin on 1 March, so that the leap day is the last of its year.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, doy - (153 * mp + 2) / 5 + 1)
}

/// Days since 1970 of a date; the inverse of [`civil`].
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn to_rfc3339(unix_ms: i64) -> String {
    let (day, ms) = (
        unix_ms.div_euclid(86_400_000),
        unix_ms.rem_euclid(86_400_000),
    );
    let (y, mo, d) = civil(day);
    let (h, mi, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!(
        "{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{:03}Z",
        ms % 1000
    )
}

/// RFC 3339 in UTC, whole seconds.
pub(crate) fn rfc3339_seconds(unix_s: i64) -> String {
    let mut text = to_rfc3339(unix_s.saturating_mul(1000));
    text.truncate(text.len() - ".000Z".len());
    text + "Z"
}

/// Unix milliseconds of an RFC 3339 time; further digits of the second are cut off.
pub(crate) fn from_rfc3339(text: &str) -> Option<i64> {
    let b = text.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if b.len() < 20 || !text.is_ascii() || !separators.iter().all(|&(i, c)| b[i] == c) {
        return None;
    }
    if !matches!(b[10], b'T' | b't') {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = &text[range];
        digits
            .bytes()
            .all(|c| c.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let (y, mo, d) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (h, mi, s) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let days = days_from_civil(y, mo, d);
    if !(1..=12).contains(&mo) || civil(days) != (y, mo, d) || h > 23 || mi > 59 || s > 60 {
        return None;
    }
    let mut rest = &text[19..];
    let mut ms = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let n = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if n == 0 {
            return None;
        }
        let padded = format!("{:0<3}", &fraction[..n]);
        ms = padded[..3].parse().ok()?;
        rest = &fraction[n..];
    }
    let zone = if rest.eq_ignore_ascii_case("z") {
        0
    } else {
        let sign = match rest.as_bytes().first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let (zh, zm) = rest[1..].split_once(':')?;
        if zh.len() != 2 || zm.len() != 2 {
            return None;
        }
        sign * (zh.parse::<i64>().ok()? * 60 + zm.parse::<i64>().ok()?)
    };
    let minutes = (days * 24 + h) * 60 + mi - zone;
    Some((minutes * 60 + s) * 1000 + ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_zones_and_fractions_and_refuses_the_rest() {
        assert_eq!(from_rfc3339("1970-01-01T00:00:01Z"), Some(1000));
        assert_eq!(from_rfc3339("1970-01-01T01:00:00.5+01:00"), Some(500));
        assert_eq!(
            from_rfc3339("2026-11-22T12:36:58.347454977Z"),
            Some(1_795_351_018_347)
        );
        for bad in [
            "2026-02-30T00:00:00Z",
            "2026-11-22",
            "2026-11-22T12:36:58",
            "yesterday",
            "2026-11-22T12:36:58.Z",
            "+026-11-22T12:36:58Z",
        ] {
            assert_eq!(from_rfc3339(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn civil_dates_round_trip(days in -2_000_000_i64..2_000_000) {
            let (y, m, d) = civil(days);
            prop_assert!((1..=12).contains(&m) && (1..=31).contains(&d));
            prop_assert_eq!(days_from_civil(y, m, d), days);
        }

        #[test]
        fn rfc3339_round_trips(ms in 0_i64..4_000_000_000_000) {
            prop_assert_eq!(from_rfc3339(&to_rfc3339(ms)), Some(ms));
        }

        #[test]
        fn reading_never_panics(text in "[0-9TZ:.+-]{0,32}") {
            let _ = from_rfc3339(&text);
        }
    }
}
