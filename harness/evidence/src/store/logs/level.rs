//! `detected_level`: the severity of a line, from what came with it or else from its text.
//!
//! Loki's documentation names the sources (OTLP severity, a label or metadata called `level` and
//! the like, a field of a JSON or logfmt line, a keyword in the line) and the levels; the keyword
//! rule here (the first whole word that names a level) agrees with the recorded answers, and is
//! ours where they are silent.

use super::Labels;

const NAMES: [&str; 9] = [
    "detected_level",
    "level",
    "lvl",
    "severity",
    "severity_text",
    "loglevel",
    "log_level",
    "levelname",
    "level_extracted",
];

/// What a line is when nothing says its level.
pub(super) const UNKNOWN: &str = "unknown";

fn is_level_name(name: &str) -> bool {
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The level a word names, or `None`.
pub(super) fn normal(word: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 17] = [
        ("trace", "trace"),
        ("trc", "trace"),
        ("debug", "debug"),
        ("dbg", "debug"),
        ("info", "info"),
        ("inf", "info"),
        ("information", "info"),
        ("informational", "info"),
        ("warn", "warn"),
        ("wrn", "warn"),
        ("warning", "warn"),
        ("error", "error"),
        ("err", "error"),
        ("critical", "critical"),
        ("fatal", "fatal"),
        ("panic", "fatal"),
        ("emergency", "fatal"),
    ];
    WORDS
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(word))
        .map(|(_, level)| *level)
}

/// The level an OTLP severity number stands for (1–4 trace … 21–24 fatal); `None` for 0.
pub(super) fn from_severity(number: i32) -> Option<&'static str> {
    Some(match number {
        1..=4 => "trace",
        5..=8 => "debug",
        9..=12 => "info",
        13..=16 => "warn",
        17..=20 => "error",
        21..=24 => "fatal",
        _ => return None,
    })
}

/// The level by a stream's labels. A label such as `level` decides even when its value names no
/// level we know: then the line is `unknown`.
pub(super) fn from_labels(labels: &Labels) -> Option<&'static str> {
    labels
        .iter()
        .find(|(name, _)| is_level_name(name))
        .map(|(_, value)| normal(value).unwrap_or(UNKNOWN))
}

/// The level by structured metadata.
pub(super) fn from_pairs(pairs: &[(String, String)]) -> Option<&'static str> {
    pairs
        .iter()
        .find(|(name, _)| is_level_name(name))
        .map(|(_, value)| normal(value).unwrap_or(UNKNOWN))
}

/// The level by a line's text.
pub(super) fn from_line(line: &str) -> &'static str {
    let fields = if line.trim_start().starts_with('{') {
        from_json(line)
    } else {
        None
    };
    fields.or_else(|| from_words(line)).unwrap_or(UNKNOWN)
}

fn from_json(line: &str) -> Option<&'static str> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).ok()?;
    let (_, value) = object.iter().find(|(name, _)| is_level_name(name))?;
    normal(value.as_str()?)
}

/// The value of a `level=` field before any other word, since `level=info msg="error budget ok"` is
/// not an error.
fn from_words(line: &str) -> Option<&'static str> {
    let words = || line.split(|c: char| !c.is_alphanumeric() && c != '_');
    let field = words()
        .zip(words().skip(1))
        .filter(|(name, _)| is_level_name(name))
        .find_map(|(_, value)| normal(value));
    field.or_else(|| words().find_map(normal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_its_level() {
        for (line, level) in [
            (r#"{"msg":"error in sight","level":"INFO"}"#, "info"),
            (r#"level=warn msg="error budget ok""#, "warn"),
            (r#"{"_entry":"level=info msg=packed n=1"}"#, "info"),
            ("2026 ERROR boom", "error"),
            ("[dbg] x", "debug"),
            ("\u{1b}[31mINFO\u{1b}[0m value=1", "unknown"),
            ("10.0.0.1 - \"GET /information_x\" 500", "unknown"),
            ("", "unknown"),
        ] {
            assert_eq!(from_line(line), level, "{line}");
        }
    }

    #[test]
    fn a_level_label_decides_even_when_unknown() {
        let labels = [("level", "banana")].into_iter().collect();
        assert_eq!(from_labels(&labels), Some("unknown"));
        assert_eq!(from_labels(&[("app", "x")].into_iter().collect()), None);
    }
}
