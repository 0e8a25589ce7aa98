//! Segments put together by hand after the format that `store/segment.rs` documents, so that what is
//! inside a frame can be anything and its checksum still right.

use harness_evidence::Evidence;
use harness_evidence::logql::{self, Direction, LogRange, QueryLimits};
use harness_evidence::promql;
use harness_evidence::store::segment::Signal;

/// The 16 bytes that a segment begins with.
pub(crate) fn header(signal: Signal) -> Vec<u8> {
    let number = match signal {
        Signal::Metrics => 1,
        Signal::Logs => 2,
        Signal::Traces => 3,
    };
    let mut out = b"HEVSEG".to_vec();
    out.extend([1, number, 0, 0, 0, 0]);
    out.extend(crc32fast::hash(&out).to_le_bytes());
    out
}

/// A segment of these bodies, none of them packed.
pub(crate) fn of_bodies<'a>(signal: Signal, bodies: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = header(signal);
    for (number, body) in bodies.into_iter().enumerate() {
        let length = u32::try_from(body.len() + 1).expect("a short body");
        let mut crc = crc32fast::Hasher::new();
        crc.update(&(number as u64).to_le_bytes());
        crc.update(&length.to_le_bytes());
        crc.update(&[0]);
        crc.update(body);
        out.extend(length.to_le_bytes());
        out.extend(crc.finalize().to_le_bytes());
        out.push(0);
        out.extend(body);
    }
    out
}

/// The bodies of a whole segment, unpacked.
pub(crate) fn bodies(segment: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = &segment[16..];
    while let Some((head, tail)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let (payload, tail) = tail.split_at(length);
        out.push(match payload.split_first() {
            Some((1, packed)) => snap::raw::Decoder::new()
                .decompress_vec(packed)
                .expect("snappy"),
            Some((_, plain)) => plain.to_vec(),
            None => Vec::new(),
        });
        rest = tail;
    }
    out
}

/// Asks a little of everything that is in there; what a hostile segment holds may be refused when it is
/// read, but must not break a query afterwards.
pub(crate) fn ask(evidence: &Evidence) {
    let at = 1_800_000_000_000;
    let options = promql::Options::default();
    let _ = promql::instant(
        &evidence.metrics,
        "sum by (le) (rate({__name__=~\".+\"}[1h]))",
        at,
        &options,
    );
    let lines = logql::Query::new("{service_name=~\".+\"} | logfmt").expect("a query");
    let range = LogRange {
        start: i64::MIN,
        end: i64::MAX,
        limit: 100,
        direction: Direction::Forward,
        interval: 0,
    };
    let _ = lines.lines(&evidence.logs, range, &QueryLimits::default());
    for id in evidence.traces.trace_ids() {
        assert!(
            evidence.traces.trace(id).is_some(),
            "trace {id:032x} is gone"
        );
    }
}
