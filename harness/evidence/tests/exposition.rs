//! Texts of metrics, as a scrape meets them.

use harness_evidence::receive::exposition::{Format, parse};
use proptest::prelude::*;

#[path = "support/exposition.rs"]
mod support;

/// Parts of the two formats, so that a mixture of them is often nearly one.
const PARTS: &[&str] = &[
    "# TYPE ",
    "# HELP ",
    "# UNIT ",
    "# EOF",
    "\n",
    " ",
    "\t",
    "x_bucket",
    "up",
    "_total",
    "{",
    "}",
    "le",
    "quantile",
    "=",
    "\"",
    "\\",
    "\\n",
    "\\\"",
    ",",
    "1",
    "0.5",
    "-3",
    "+Inf",
    "NaN",
    "1e99",
    "1700000000000",
    " # {",
    "histogram",
    "summary",
    "counter",
    "untyped",
    "é",
    "__name__",
    "a=\"b\"",
    "{\"dotted.name\"",
    "\r",
    "\0",
];

proptest! {
    /// Any mixture is an exposition whose samples are written and read back the same, or an error at one
    /// of its lines.
    #[test]
    fn samples_are_written_and_read_back(
        parts in prop::collection::vec(prop::sample::select(PARTS), 0..40),
        lines in prop::collection::vec("[a-z]{1,4}(\\{[a-z]{1,3}=\"[^\"\\\\\n]{0,5}\",?\\})? (-?[0-9]{1,3}(\\.[0-9])?|NaN|[+-]Inf)( [0-9]{1,4})?", 0..4),
    ) {
        let text = format!("{}\n{}", lines.join("\n"), parts.concat());
        for text in [text.clone(), lines.join("\n"), format!("{}\n# EOF", lines.join("\n"))] {
            for format in [Format::Text, Format::OpenMetrics] {
                match parse(&text, format) {
                    Ok(samples) => support::reads_back(&samples),
                    Err(e) => prop_assert!((1..=text.split('\n').count()).contains(&e.line), "{}", e),
                }
            }
        }
    }
}
