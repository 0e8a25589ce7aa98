//! Any text is a TraceQL query or an error: no panic, no exhausted stack.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|query: &str| {
    let _ = harness_evidence::traceql::validate(query);
});
