//! `spec.timeWindow`: the period that an error budget is for.

use serde_json::Value;

/// The period of an error budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeWindow {
    /// As written, e.g. `28d`.
    pub text: String,
    /// Its length in seconds; a month counts as 30 days, a quarter as 90, a year as 365.
    pub seconds: u64,
    /// Rolling; otherwise aligned with the calendar.
    pub rolling: bool,
}

const DAY: u64 = 86_400;

/// Reads OpenSLO's `timeWindow`, a list of one; `None` without one.
///
/// # Errors
/// What is wrong with it, for people.
pub(super) fn read(value: Option<&Value>) -> Result<Option<TimeWindow>, String> {
    let Some(value) = value else {
        return Ok(None);
    };
    let windows = value.as_array().ok_or("is no list")?;
    let window = match windows.as_slice() {
        [] => return Ok(None),
        [window] => window.as_object().ok_or("its entry is no mapping")?,
        several => return Err(format!("has {} entries, OpenSLO takes one", several.len())),
    };
    let text = window
        .get("duration")
        .and_then(Value::as_str)
        .ok_or("has no `duration`")?;
    let seconds = length(text).ok_or_else(|| format!("`{text}` is no duration"))?;
    let rolling = match window.get("isRolling") {
        None => window.get("calendar").is_none(),
        Some(Value::Bool(rolling)) => *rolling,
        Some(other) => return Err(format!("`isRolling: {other}` is neither true nor false")),
    };
    Ok(Some(TimeWindow {
        text: text.to_owned(),
        seconds,
        rolling,
    }))
}

/// OpenSLO's duration shorthand: a whole number and `m`, `h`, `d`, `w`, `M`, `Q` or `Y`.
fn length(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits.parse().ok().filter(|count| *count > 0)?;
    let unit = match &text[digits.len()..] {
        "m" => 60,
        "h" => 3_600,
        "d" => DAY,
        "w" => 7 * DAY,
        "M" => 30 * DAY,
        "Q" => 90 * DAY,
        "Y" => 365 * DAY,
        _ => return None,
    };
    count.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn windows_are_read() {
        let read = |value: Value| read(Some(&value));
        let found = read(json!([{"duration": "28d", "isRolling": true}])).unwrap();
        let found = found.unwrap();
        assert_eq!((found.seconds, found.rolling), (28 * DAY, true));
        let calendar = json!([{"duration": "1M", "calendar": {"startTime": "2026-01-01 00:00:00", "timeZone": "UTC"}}]);
        let found = read(calendar).unwrap().unwrap();
        assert_eq!((found.seconds, found.rolling), (30 * DAY, false));
        assert_eq!(read(json!([])), Ok(None));
        for wrong in [
            json!("28d"),
            json!([{"isRolling": true}]),
            json!([{"duration": "28"}]),
            json!([{"duration": "0d"}]),
            json!([{"duration": "d"}]),
            json!([{"duration": "-1d"}]),
            json!([{"duration": "28ß"}]),
            json!([{"duration": "99999999999999999999d"}]),
            json!([{"duration": "28d", "isRolling": "yes"}]),
            json!([{"duration": "1d"}, {"duration": "2d"}]),
        ] {
            assert!(read(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
