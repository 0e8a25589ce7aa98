//! Any bytes are a segment, a damaged one that says so, or an error; what can be read of one can be
//! asked. The first byte says of which signal, and whether the rest is the file or bodies of frames,
//! each behind its length in two bytes: no fuzzer finds a checksum.
#![no_main]

use harness_evidence::Evidence;
use harness_evidence::store::segment::Signal;
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/segment.rs"]
#[allow(dead_code, reason = "the tests take segments apart too")]
mod support;

fuzz_target!(|data: &[u8]| {
    let Some((first, mut rest)) = data.split_first() else {
        return;
    };
    let signal = Signal::ALL[usize::from(first % 3)];
    let file = if first & 128 != 0 {
        [&support::header(signal), rest].concat()
    } else {
        let mut bodies = Vec::new();
        while let Some(([a, b], tail)) = rest.split_first_chunk::<2>() {
            let length = usize::from(u16::from_le_bytes([*a, *b])).min(tail.len());
            let (body, tail) = tail.split_at(length);
            bodies.push(body);
            rest = tail;
        }
        support::of_bodies(signal, bodies)
    };
    if let Ok(opened) = Evidence::open_bytes(&[(signal, &file)]) {
        support::ask(&opened.evidence);
    }
});
