//! The entries of one stream.

use super::entries::Entries;
use super::labels::Labels;
use std::sync::Arc;

/// One stored log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Nanoseconds since the Unix epoch.
    pub ts: i64,
    /// The line as received.
    pub line: Arc<str>,
    /// Structured metadata, `detected_level` among it.
    pub metadata: Labels,
}

/// How many entries the head holds before it is sealed. A query copies the head while it holds the
/// stream's lock, so this bounds how long a writer waits for a reader.
const HEAD_ENTRIES: usize = 2048;

/// Entries sorted by time; among equal times in the order of arrival.
///
/// Sealed chunks never change and are shared with running queries, so a query holds no lock while
/// it filters lines.
#[derive(Default)]
pub(crate) struct StreamData {
    sealed: Vec<Arc<[Entry]>>,
    head: Vec<Entry>,
    /// Oldest and newest time stored.
    span: Option<(i64, i64)>,
    pub(crate) entries: u64,
    pub(crate) line_bytes: u64,
}

impl StreamData {
    /// Whether this very entry is stored already: same time, same line, same metadata.
    pub(crate) fn contains(&self, entry: &Entry) -> bool {
        // Lines mostly arrive in order, and what is newer than all is new.
        if self.newest().is_none_or(|newest| newest < entry.ts) {
            return false;
        }
        self.sealed
            .iter()
            .map(|chunk| &**chunk)
            .chain([&self.head[..]])
            .any(|sorted| {
                let from = sorted.partition_point(|e| e.ts < entry.ts);
                sorted[from..]
                    .iter()
                    .take_while(|e| e.ts == entry.ts)
                    .any(|e| e == entry)
            })
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        let (oldest, newest) = self.span.unwrap_or((entry.ts, entry.ts));
        self.span = Some((oldest.min(entry.ts), newest.max(entry.ts)));
        self.entries += 1;
        self.line_bytes += entry.line.len() as u64;
        // Lines mostly arrive in order, so the search from the back ends at once.
        let at = self
            .head
            .iter()
            .rposition(|e| e.ts <= entry.ts)
            .map_or(0, |before| before + 1);
        self.head.insert(at, entry);
        if self.head.len() >= HEAD_ENTRIES {
            self.sealed.push(std::mem::take(&mut self.head).into());
        }
    }

    /// The newest time stored.
    pub(crate) fn newest(&self) -> Option<i64> {
        self.span.map(|(_, newest)| newest)
    }

    /// Whether any entry may lie in `[start, end)`.
    pub(crate) fn overlaps(&self, start: i64, end: i64) -> bool {
        self.span
            .is_some_and(|(oldest, newest)| oldest < end && newest >= start)
    }

    /// The entries in `[start, end)`, sorted by time.
    pub(crate) fn range(&self, start: i64, end: i64) -> Entries {
        let part = |sorted: &[Entry]| {
            let from = sorted.partition_point(|e| e.ts < start);
            from..sorted.partition_point(|e| e.ts < end).max(from)
        };
        let head = part(&self.head);
        let head: Arc<[Entry]> = self.head[head].into();
        let mut out = Entries::default();
        let mut newest = i64::MIN;
        let mut in_order = true;
        for (chunk, part) in self
            .sealed
            .iter()
            .map(|chunk| (chunk, part(chunk)))
            .chain([(&head, 0..head.len())])
        {
            if let (Some(first), Some(last)) = (chunk.get(part.start), chunk[part.clone()].last()) {
                in_order &= newest <= first.ts;
                newest = newest.max(last.ts);
                out.push(chunk.clone(), part);
            }
        }
        if in_order {
            return out;
        }
        let mut sorted: Vec<Entry> = out.iter().cloned().collect();
        sorted.sort_by_key(|e| e.ts);
        sorted.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ts: i64, line: &str) -> Entry {
        Entry {
            ts,
            line: line.into(),
            metadata: Labels::default(),
        }
    }

    #[test]
    fn entries_come_out_sorted_whatever_the_order_of_arrival() {
        let mut data = StreamData::default();
        let count = HEAD_ENTRIES as i64 * 2 + 7;
        // Two interleaved passes, so that chunks overlap.
        for ts in (0..count).step_by(2).chain((1..count).step_by(2)) {
            data.push(entry(ts, "x"));
        }
        let got: Vec<i64> = data.range(0, count).iter().map(|e| e.ts).collect();
        assert_eq!(got, (0..count).collect::<Vec<_>>());
        assert!(data.contains(&entry(1, "x")) && !data.contains(&entry(1, "y")));
    }

    #[test]
    fn a_range_has_its_start_and_lacks_its_end() {
        let mut data = StreamData::default();
        for ts in [10, 20, 30] {
            data.push(entry(ts, "x"));
        }
        let got: Vec<i64> = data.range(10, 30).iter().map(|e| e.ts).collect();
        assert_eq!(got, [10, 20]);
        assert!(data.overlaps(30, 31) && !data.overlaps(31, 40) && !data.overlaps(0, 10));
    }

    #[test]
    fn ties_keep_the_order_of_arrival() {
        let mut data = StreamData::default();
        for line in ["b", "a", "c"] {
            data.push(entry(5, line));
        }
        let got: Vec<String> = data
            .range(0, 9)
            .iter()
            .map(|e| e.line.to_string())
            .collect();
        assert_eq!(got, ["b", "a", "c"]);
    }
}
