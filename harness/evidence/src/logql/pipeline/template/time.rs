//! Times by Go's reference layout (`2006-01-02T15:04:05.000Z07:00`), in UTC.

const NS: i64 = 1_000_000_000;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

/// Parts of a layout, a longer one before its own beginning.
const PARTS: [&str; 26] = [
    "January", "Monday", "2006", "Z07:00", "-07:00", "-0700", "Z0700", "MST", "Jan", "Mon", "01",
    "02", "03", "04", "05", "06", "15", "PM", "pm", "_2", "1", "2", "3", "4", "5", "002",
];

/// Civil date of a day since the epoch, by the usual era arithmetic.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

/// Days since the epoch of a civil date.
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// A time in this layout.
pub(super) fn format(layout: &str, ns: i64) -> String {
    let seconds = ns.div_euclid(NS);
    let nanos = ns.rem_euclid(NS);
    let day_count = seconds.div_euclid(86_400);
    let (year, month, day) = civil(day_count);
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let month_name = MONTHS[usize::try_from(month - 1).unwrap_or(0) % 12];
    let day_name = DAYS[usize::try_from(day_count.rem_euclid(7)).unwrap_or(0)];
    let mut out = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        if let Some((digits, trims)) = fraction(rest) {
            let text = format!("{nanos:09}");
            let mut shown = &text[..digits.min(9)];
            if trims {
                shown = shown.trim_end_matches('0');
            }
            if !shown.is_empty() {
                out.push('.');
                out.push_str(shown);
            }
            rest = &rest[digits + 1..];
            continue;
        }
        let Some(part) = PARTS.iter().find(|part| rest.starts_with(**part)) else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        rest = &rest[part.len()..];
        out.push_str(&match *part {
            "January" => month_name.to_owned(),
            "Jan" => month_name[..3].to_owned(),
            "Monday" => day_name.to_owned(),
            "Mon" => day_name[..3].to_owned(),
            "2006" => format!("{year:04}"),
            "06" => format!("{:02}", year.rem_euclid(100)),
            "01" => format!("{month:02}"),
            "1" => month.to_string(),
            "02" => format!("{day:02}"),
            "2" => day.to_string(),
            "_2" => format!("{day:2}"),
            "002" => format!("{:03}", day_count - days(year, 1, 1) + 1),
            "15" => format!("{hour:02}"),
            "03" => format!("{hour12:02}"),
            "3" => hour12.to_string(),
            "04" => format!("{minute:02}"),
            "4" => minute.to_string(),
            "05" => format!("{second:02}"),
            "5" => second.to_string(),
            "PM" => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            "pm" => if hour < 12 { "am" } else { "pm" }.to_owned(),
            "Z07:00" | "Z0700" => "Z".to_owned(),
            "-07:00" => "+00:00".to_owned(),
            "-0700" => "+0000".to_owned(),
            _ => "UTC".to_owned(),
        });
    }
    out
}

/// `.000` or `.999` at the start of a layout: how many digits, and whether zeros are left out.
fn fraction(layout: &str) -> Option<(usize, bool)> {
    let digits = layout.strip_prefix('.')?;
    let kind = digits.chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let count = digits.chars().take_while(|c| *c == kind).count();
    let ends = !digits[count..].starts_with(|c: char| c.is_ascii_digit());
    ends.then_some((count, kind == '9'))
}

/// Nanoseconds of a text in this layout; numeric parts and UTC only.
///
/// # Errors
/// When the text has another shape, or the layout has parts that are not read.
pub(super) fn parse(layout: &str, text: &str) -> Result<i64, String> {
    let wrong = || format!("parsing time {text:?} as {layout:?}: cannot parse");
    let (mut year, mut month, mut day, mut seconds, mut nanos) = (1970, 1, 1, 0, 0);
    let (mut layout_rest, mut rest) = (layout, text);
    while let Some(first) = layout_rest.chars().next() {
        if let Some((digits, _)) = fraction(layout_rest) {
            layout_rest = &layout_rest[digits + 1..];
            rest = rest.strip_prefix('.').ok_or_else(wrong)?;
            let (value, length) = leading_number(rest, 9).ok_or_else(wrong)?;
            nanos = value * 10_i64.pow(9 - u32::try_from(length).unwrap_or(9));
            rest = &rest[length..];
            continue;
        }
        let Some(part) = PARTS.iter().find(|part| layout_rest.starts_with(**part)) else {
            layout_rest = &layout_rest[first.len_utf8()..];
            rest = rest.strip_prefix(first).ok_or_else(wrong)?;
            continue;
        };
        layout_rest = &layout_rest[part.len()..];
        if matches!(*part, "Z07:00" | "Z0700") {
            rest = rest.strip_prefix('Z').ok_or_else(wrong)?;
            continue;
        }
        if matches!(*part, "Jan" | "January") {
            let length = |name: &str| if *part == "Jan" { 3 } else { name.len() };
            let at = MONTHS
                .iter()
                .position(|name| rest.starts_with(&name[..length(name)]))
                .ok_or_else(wrong)?;
            month = at as i64 + 1;
            rest = &rest[length(MONTHS[at])..];
            continue;
        }
        let most = if *part == "2006" { 4 } else { 2 };
        let (value, length) = leading_number(rest, most).ok_or_else(wrong)?;
        rest = &rest[length..];
        match *part {
            "2006" => year = value,
            "06" => year = if value < 69 { 2_000 } else { 1_900 } + value,
            "01" | "1" => month = value,
            "02" | "2" => day = value,
            "15" => seconds += value * 3_600,
            "04" | "4" => seconds += value * 60,
            "05" | "5" => seconds += value,
            other => return Err(format!("toDate does not read {other:?} of a layout")),
        }
    }
    if !rest.is_empty() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(wrong());
    }
    (days(year, month, day) * 86_400 + seconds)
        .checked_mul(NS)
        .and_then(|ns| ns.checked_add(nanos))
        .ok_or_else(wrong)
}

fn leading_number(text: &str, most: usize) -> Option<(i64, usize)> {
    let length = text
        .bytes()
        .take(most)
        .take_while(u8::is_ascii_digit)
        .count();
    let value = text[..length].parse().ok()?;
    Some((value, length))
}
