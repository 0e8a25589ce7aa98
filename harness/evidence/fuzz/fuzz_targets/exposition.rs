//! Any text is an exposition or an error at one of its lines; what is one is written as lines that read
//! back the same.
#![no_main]

use harness_evidence::receive::exposition::{Format, parse};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/exposition.rs"]
mod support;

fuzz_target!(|text: &str| {
    for format in [Format::Text, Format::OpenMetrics] {
        match parse(text, format) {
            Ok(samples) => support::reads_back(&samples),
            Err(e) => assert!((1..=text.split('\n').count()).contains(&e.line), "{e}"),
        }
    }
});
