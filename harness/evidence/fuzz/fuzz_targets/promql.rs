//! Any text is a PromQL query or an error with a place: no panic, no exhausted stack.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| {
    let _ = harness_evidence::promql::check(query);
    let _ = harness_evidence::promql::parse_selector(query);
});
