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
    /// Of the batch under way, sorted as the head is; no query sees them before they are recorded.
    staged: Vec<Entry>,
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
            .chain([&self.head[..], &self.staged[..]])
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
        insert(&mut self.head, entry);
        if self.head.len() >= HEAD_ENTRIES {
            self.sealed.push(std::mem::take(&mut self.head).into());
        }
    }

    /// Takes an entry that is still to be recorded.
    pub(crate) fn stage(&mut self, entry: Entry) {
        insert(&mut self.staged, entry);
    }

    /// Stores what is staged, now that it is recorded.
    pub(crate) fn keep_staged(&mut self) {
        for entry in std::mem::take(&mut self.staged) {
            self.push(entry);
        }
    }

    /// Forgets what is staged, since it could not be recorded.
    pub(crate) fn drop_staged(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.staged)
    }

    /// The newest time stored or staged.
    pub(crate) fn newest(&self) -> Option<i64> {
        let stored = self.span.map(|(_, newest)| newest);
        stored.max(self.staged.last().map(|e| e.ts))
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

/// Puts an entry behind those of its time and before. Lines mostly arrive in order, so the search from
/// the back ends at once.
fn insert(sorted: &mut Vec<Entry>, entry: Entry) {
    let before = sorted.iter().rposition(|e| e.ts <= entry.ts);
    sorted.insert(before.map_or(0, |before| before + 1), entry);
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
    fn what_is_staged_is_known_but_not_read_before_it_is_kept() {
        let mut data = StreamData::default();
        data.push(entry(10, "x"));
        data.stage(entry(30, "z"));
        data.stage(entry(20, "y"));
        let times =
            |data: &StreamData| -> Vec<i64> { data.range(0, 99).iter().map(|e| e.ts).collect() };
        assert_eq!((times(&data), data.newest()), (vec![10], Some(30)));
        assert!(data.contains(&entry(20, "y")) && !data.overlaps(11, 99));
        assert_eq!(data.drop_staged().len(), 2);
        assert_eq!((data.newest(), data.entries), (Some(10), 1));
        data.stage(entry(20, "y"));
        data.keep_staged();
        assert_eq!((times(&data), data.entries), (vec![10, 20], 2));
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
