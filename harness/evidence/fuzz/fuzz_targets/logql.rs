//! Any text is a LogQL query or an error; what is one is written as a text that reads back the same.
#![no_main]

use harness_evidence::logql::{Query, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(query) = Query::new(text) {
        let written = query.text();
        assert_eq!(parse(&written), parse(text), "{written}");
    }
});
