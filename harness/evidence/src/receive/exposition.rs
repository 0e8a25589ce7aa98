//! The text formats in which services expose metrics: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! Formats: <https://prometheus.io/docs/instrumenting/exposition_formats/> and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>. As in Prometheus one wrong line refuses
//! the whole text: half of a scrape would look like counters that vanished.

use crate::store::metrics::{Labels, METRIC_NAME, Metadata};
use std::collections::BTreeMap;

/// Which of the two formats a text is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4: timestamps are integer milliseconds.
    Text,
    /// OpenMetrics 1.0: timestamps are seconds with a fraction, `# EOF` ends the text.
    OpenMetrics,
}

impl Format {
    /// The format a `Content-Type` names.
    ///
    /// # Errors
    /// A sentence when it names neither; guessing could misread timestamps by a factor of 1000.
    pub fn of_content_type(value: Option<&str>) -> Result<Self, String> {
        let value = value.ok_or(
            "the answer has no Content-Type; expected text/plain or application/openmetrics-text",
        )?;
        let kind = value.split(';').next().unwrap_or("").trim();
        match kind.to_ascii_lowercase().as_str() {
            "text/plain" => Ok(Format::Text),
            "application/openmetrics-text" => Ok(Format::OpenMetrics),
            _ => Err(format!(
                "unsupported Content-Type {value:?}; expected text/plain or application/openmetrics-text"
            )),
        }
    }
}

/// One exposed sample.
#[derive(Debug, Clone, PartialEq)]
pub struct ExposedSample {
    /// The series, its name under `__name__`.
    pub labels: Labels,
    /// The value.
    pub value: f64,
    /// Unix milliseconds, when the text says so.
    pub t_ms: Option<i64>,
}

/// A line that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ExpositionError {
    /// Counted from 1.
    pub line: usize,
    /// What was found and what was expected.
    pub message: String,
}

/// What one text says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exposition {
    /// The samples, in the order of their lines.
    pub samples: Vec<ExposedSample>,
    /// Type, help and unit by metric family, of those that have any.
    pub metadata: BTreeMap<String, Metadata>,
}

/// Reads the samples of a whole text.
///
/// # Errors
/// The first line that does not follow the format, or a missing `# EOF` in OpenMetrics.
pub fn parse(text: &str, format: Format) -> Result<Vec<ExposedSample>, ExpositionError> {
    read(text, format).map(|exposition| exposition.samples)
}

/// Reads a whole text.
///
/// # Errors
/// As [`parse`].
pub fn read(text: &str, format: Format) -> Result<Exposition, ExpositionError> {
    let mut out = Exposition::default();
    let mut family = Family::default();
    let mut ended = false;
    let mut last_line = 0;
    for (i, line) in text.split('\n').enumerate() {
        last_line = i + 1;
        let at = |message: String| ExpositionError {
            line: i + 1,
            message,
        };
        if ended {
            if line.is_empty() {
                continue;
            }
            return Err(at("expected nothing after '# EOF'".into()));
        }
        if let Some(comment) = line.trim_start_matches([' ', '\t']).strip_prefix('#') {
            if format == Format::OpenMetrics && line == "# EOF" {
                ended = true;
            } else {
                family.read_comment(comment).map_err(at)?;
                told(comment, &mut out.metadata);
            }
            continue;
        }
        if line.trim_matches([' ', '\t']).is_empty() {
            continue;
        }
        out.samples.push(sample(line, format, &family).map_err(at)?);
    }
    if format == Format::OpenMetrics && !ended {
        return Err(ExpositionError {
            line: last_line,
            message: "the text is cut short: OpenMetrics must end with '# EOF'".into(),
        });
    }
    Ok(out)
}

/// What a comment that `read_comment` has taken says of its family.
fn told(comment: &str, all: &mut BTreeMap<String, Metadata>) {
    let comment = comment.trim_matches([' ', '\t']);
    let mut parts = comment.splitn(3, [' ', '\t']);
    let (Some(what), Some(name)) = (parts.next(), parts.next()) else {
        return;
    };
    let text = parts.next().unwrap_or("").trim_start_matches([' ', '\t']);
    if !matches!(what, "TYPE" | "HELP" | "UNIT") {
        return;
    }
    let name = name.trim_matches('"').to_owned();
    let of = all.entry(name).or_insert_with(|| Metadata {
        kind: "unknown".into(),
        ..Metadata::default()
    });
    match what {
        // What OpenMetrics calls unknown is untyped in the older format.
        "TYPE" if text == "untyped" => {}
        "TYPE" => of.kind = text.to_owned(),
        "UNIT" => of.unit = text.to_owned(),
        _ => of.help = unescaped(text),
    }
}

/// A help text, in which a newline and a backslash are escaped.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some(c @ ('\\' | '"')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            (c, false) => out.push(c),
        }
    }
    out
}

/// The family that the last `# TYPE` line opened; it decides which label holds a float.
#[derive(Default)]
struct Family {
    name: String,
    float_label: Option<&'static str>,
}

impl Family {
    fn read_comment(&mut self, comment: &str) -> Result<(), String> {
        let mut words = comment.split([' ', '\t']).filter(|w| !w.is_empty());
        if words.next() != Some("TYPE") {
            return Ok(());
        }
        let (Some(name), Some(kind)) = (words.next(), words.next()) else {
            return Err("expected '# TYPE <metric name> <type>'".into());
        };
        self.name = name.trim_matches('"').to_string();
        self.float_label = match kind {
            "histogram" | "gaugehistogram" => Some("le"),
            "summary" => Some("quantile"),
            "counter" | "gauge" | "untyped" | "unknown" | "info" | "stateset" => None,
            _ => {
                return Err(format!(
                    "unknown metric type {kind:?}; expected counter, gauge, histogram, gaugehistogram, summary, info, stateset, unknown or untyped"
                ));
            }
        };
        Ok(())
    }
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn skip_space(&mut self) -> bool {
        let trimmed = self.rest.trim_start_matches([' ', '\t']);
        let skipped = trimmed.len() < self.rest.len();
        self.rest = trimmed;
        skipped
    }

    fn eat(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(r) => {
                self.rest = r;
                true
            }
            None => false,
        }
    }

    fn name(&mut self, colon: bool) -> Option<&'a str> {
        let ok = |i: usize, b: u8| {
            b.is_ascii_alphabetic()
                || b == b'_'
                || (colon && b == b':')
                || (i > 0 && b.is_ascii_digit())
        };
        let n = self
            .rest
            .bytes()
            .enumerate()
            .take_while(|&(i, b)| ok(i, b))
            .count();
        let (name, rest) = self.rest.split_at(n);
        self.rest = rest;
        (n > 0).then_some(name)
    }

    fn quoted(&mut self) -> Result<Option<String>, String> {
        if !self.eat('"') {
            return Ok(None);
        }
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[i + 1..];
                    return Ok(Some(out));
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => out.push('\n'),
                    Some((_, c @ ('"' | '\\'))) => out.push(c),
                    Some((_, c)) => {
                        out.push('\\');
                        out.push(c);
                    }
                    None => break,
                },
                _ => out.push(c),
            }
        }
        Err("unterminated quoted string; expected a closing '\"'".into())
    }

    fn word(&mut self) -> &'a str {
        let n = self.rest.find([' ', '\t']).unwrap_or(self.rest.len());
        let (w, rest) = self.rest.split_at(n);
        self.rest = rest;
        w
    }

    fn found(&self) -> String {
        match self.rest.chars().next() {
            Some(c) => format!("{c:?}"),
            None => "the end of the line".into(),
        }
    }
}

fn sample(line: &str, format: Format, family: &Family) -> Result<ExposedSample, String> {
    let mut c = Cursor { rest: line };
    c.skip_space();
    let mut pairs: Vec<(String, String)> = Vec::new();
    if let Some(name) = c.name(true) {
        pairs.push((METRIC_NAME.into(), name.into()));
    }
    c.skip_space();
    if c.eat('{') {
        labels(&mut c, &mut pairs, true)?;
    }
    let Some(metric) = pairs.iter().find(|(n, _)| n == METRIC_NAME) else {
        return Err(format!("expected a metric name, found {}", c.found()));
    };
    let metric = metric.1.clone();
    c.skip_space();
    let word = c.word();
    let value = number(word)
        .ok_or_else(|| format!("expected a value after metric {metric:?}, found {word:?}"))?;
    let t_ms = timestamp(&mut c, format)?;
    if format == Format::OpenMetrics && c.rest.starts_with('#') {
        exemplar(&mut c)?;
    }
    if !c.rest.is_empty() {
        return Err(format!(
            "expected the end of the line after the sample of {metric:?}, found {:?}",
            c.rest
        ));
    }
    if let Some(label) = family.float_label
        && metric.starts_with(&family.name)
    {
        for (_, v) in pairs.iter_mut().filter(|(n, _)| n == label) {
            if let Some(f) = number(v) {
                *v = open_metrics_float(f);
            }
        }
    }
    let labels = Labels::new(pairs).map_err(|e| e.to_string())?;
    Ok(ExposedSample {
        labels,
        value,
        t_ms,
    })
}

/// `a="1",b="2"}`; with `quoted_name` also a metric's name in quotes (UTF-8 names).
fn labels(
    c: &mut Cursor<'_>,
    pairs: &mut Vec<(String, String)>,
    quoted_name: bool,
) -> Result<(), String> {
    loop {
        c.skip_space();
        if c.eat('}') {
            return Ok(());
        }
        let (name, quoted) = match c.quoted()? {
            Some(n) => (n, true),
            None => match c.name(false) {
                Some(n) => (n.to_string(), false),
                None => {
                    return Err(format!(
                        "expected a label name or '}}', found {}",
                        c.found()
                    ));
                }
            },
        };
        c.skip_space();
        if c.eat('=') {
            c.skip_space();
            let value = c.quoted()?.ok_or_else(|| {
                format!(
                    "expected a quoted value for label {name:?}, found {}",
                    c.found()
                )
            })?;
            pairs.push((name, value));
        } else if quoted && quoted_name && !pairs.iter().any(|(n, _)| n == METRIC_NAME) {
            pairs.push((METRIC_NAME.into(), name));
        } else {
            return Err(format!(
                "expected '=' after label {name:?}, found {}",
                c.found()
            ));
        }
        c.skip_space();
        if !c.eat(',') && !c.rest.starts_with('}') {
            return Err(format!(
                "expected ',' or '}}' after label, found {}",
                c.found()
            ));
        }
    }
}

fn timestamp(c: &mut Cursor<'_>, format: Format) -> Result<Option<i64>, String> {
    c.skip_space();
    if c.rest.is_empty() || (format == Format::OpenMetrics && c.rest.starts_with('#')) {
        return Ok(None);
    }
    let word = c.word();
    c.skip_space();
    match format {
        Format::Text => word
            .parse::<i64>()
            .map(Some)
            .map_err(|_| format!("expected a timestamp in whole milliseconds, found {word:?}")),
        Format::OpenMetrics => number(word)
            .filter(|s| s.is_finite() && s.abs() < 9.0e15)
            .map(|s| Some((s * 1000.0).round() as i64))
            .ok_or_else(|| format!("expected a timestamp in seconds, found {word:?}")),
    }
}

/// Exemplars are checked for their form and not kept.
fn exemplar(c: &mut Cursor<'_>) -> Result<(), String> {
    c.eat('#');
    c.skip_space();
    if !c.eat('{') {
        return Err(format!(
            "expected '{{' to open an exemplar, found {}",
            c.found()
        ));
    }
    labels(c, &mut Vec::new(), false)?;
    c.skip_space();
    let word = c.word();
    number(word).ok_or_else(|| format!("expected the exemplar's value, found {word:?}"))?;
    timestamp(c, Format::OpenMetrics).map(drop)
}

fn number(word: &str) -> Option<f64> {
    word.parse().ok()
}

/// A float as OpenMetrics writes it in `le` and `quantile`: always with a point or an exponent, so
/// that `le="1"` and `le="1.0"` are one series. Prometheus 3 does this at scrape.
pub(crate) fn open_metrics_float(f: f64) -> String {
    if f.is_nan() {
        return "NaN".into();
    }
    if f.is_infinite() {
        return if f > 0.0 {
            "+Inf".into()
        } else {
            "-Inf".into()
        };
    }
    let e = format!("{f:e}");
    let exponent: i32 = e
        .split_once('e')
        .and_then(|(_, x)| x.parse().ok())
        .unwrap_or(0);
    let s = if f != 0.0 && !(-4..21).contains(&exponent) {
        let (mantissa, _) = e.split_once('e').unwrap_or((&e, ""));
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{mantissa}e{sign}{:02}", exponent.abs())
    } else {
        f.to_string()
    };
    if s.contains(['.', 'e']) { s } else { s + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(text: &str, format: Format) -> String {
        match parse(text, format) {
            Ok(v) => v
                .iter()
                .map(|s| format!("{} {} {:?}", s.labels, s.value, s.t_ms))
                .collect::<Vec<_>>()
                .join("\n"),
            Err(e) => format!("ERROR {e}"),
        }
    }

    #[test]
    fn reads_text_with_types_escapes_and_timestamps() {
        let text = "# HELP x some \\n help\n# TYPE x histogram\nx_bucket{le=\"1\"} 3\nx_bucket{ le = \"+Inf\" , } 4 1700\n\nup 1\n{\"dotted.name\",a=\"q\\\"\\\\\\n\"} -Inf\n";
        assert_eq!(
            show(text, Format::Text),
            "{__name__=\"x_bucket\", le=\"1.0\"} 3 None\n{__name__=\"x_bucket\", le=\"+Inf\"} 4 Some(1700)\n{__name__=\"up\"} 1 None\n{__name__=\"dotted.name\", a=\"q\\\"\\\\\\n\"} -inf None"
        );
    }

    #[test]
    fn reads_open_metrics_with_exemplars_and_second_timestamps() {
        let text = "# TYPE r counter\n# UNIT r seconds\nr_total{a=\"b\"} 5 1.5 # {trace_id=\"ff\"} 0.3 1.2\nr_total 6 # {} 1\n# EOF\n";
        assert_eq!(
            show(text, Format::OpenMetrics),
            "{__name__=\"r_total\", a=\"b\"} 5 Some(1500)\n{__name__=\"r_total\"} 6 None"
        );
    }

    #[test]
    fn types_help_and_units_are_kept() {
        let text = "# HELP a_seconds How long\\nit took.\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n# a note\n# TYPE b untyped\n# EOF\n";
        let told = read(text, Format::OpenMetrics).expect("valid").metadata;
        let of = |kind: &str, help: &str, unit: &str| Metadata {
            kind: kind.into(),
            help: help.into(),
            unit: unit.into(),
        };
        assert_eq!(
            told["a_seconds"],
            of("histogram", "How long\nit took.", "seconds")
        );
        assert_eq!(told["b"], of("unknown", "", ""));
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn errors_name_the_line_and_what_was_expected() {
        for (text, format, want) in [
            (
                "up 1\nup{a=1} 1",
                Format::Text,
                "line 2: expected a quoted value for label \"a\", found '1'",
            ),
            (
                "up",
                Format::Text,
                "line 1: expected a value after metric \"up\", found \"\"",
            ),
            (
                "up 1 1.5",
                Format::Text,
                "line 1: expected a timestamp in whole milliseconds, found \"1.5\"",
            ),
            (
                "up 1 2 3",
                Format::Text,
                "line 1: expected the end of the line after the sample of \"up\", found \"3\"",
            ),
            (
                "up{a=\"1\",a=\"2\"} 1",
                Format::Text,
                "line 1: label name \"a\" is given twice in one label set",
            ),
            (
                "up{a=\"1} 1",
                Format::Text,
                "line 1: unterminated quoted string; expected a closing '\"'",
            ),
            (
                "{a=\"1\"} 1",
                Format::Text,
                "line 1: expected a metric name, found ' '",
            ),
            (
                "up 1\n",
                Format::OpenMetrics,
                "line 2: the text is cut short: OpenMetrics must end with '# EOF'",
            ),
            (
                "# EOF\nup 1",
                Format::OpenMetrics,
                "line 2: expected nothing after '# EOF'",
            ),
        ] {
            assert_eq!(show(text, format), format!("ERROR {want}"), "{text:?}");
        }
    }

    #[test]
    fn floats_in_labels_are_written_as_open_metrics_does() {
        for (f, want) in [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (0.005, "0.005"),
            (1e-5, "1e-05"),
            (2.5e21, "2.5e+21"),
            (1e6, "1000000.0"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(open_metrics_float(f), want);
        }
    }

    #[test]
    fn unknown_content_types_are_refused_by_name() {
        assert_eq!(
            Format::of_content_type(Some("text/plain; version=0.0.4")),
            Ok(Format::Text)
        );
        assert!(Format::of_content_type(Some("text/html")).is_err_and(|e| e.contains("text/html")));
        assert!(Format::of_content_type(None).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "[ -~\n\t\"{}#=,\\\\é]{0,80}", om in any::<bool>()) {
            let _ = parse(&text, if om { Format::OpenMetrics } else { Format::Text });
        }

        #[test]
        fn any_label_value_survives(value in ".{1,20}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let got = parse(&format!("m{{a=\"{quoted}\"}} 1"), Format::Text).expect("valid");
            prop_assert_eq!(got[0].labels.get("a"), Some(value.as_str()));
        }
    }
}
