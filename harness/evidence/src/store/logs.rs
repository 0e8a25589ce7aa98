//! Log lines by stream.
//!
//! A stream is the lines that share a label set. What else came with a line (trace id, attributes)
//! is its structured metadata. As in Loki, the same time, line and metadata in the same stream is
//! stored once, so a sender that retries does not count twice.

mod age;
mod entries;
mod journal;
mod labels;
mod level;
mod otlp;
mod stream;

pub use entries::Entries;
pub use labels::Labels;
pub(crate) use labels::{quote, sanitize_name};
pub use stream::Entry;

use super::segment::Sink;
use crate::Ingested;
use journal::Batch;
use labels::{Interner, is_label_name};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use stream::StreamData;

/// What a store accepts before it refuses.
#[derive(Clone, Debug)]
pub struct LogLimits {
    /// Estimated bytes in memory, over all streams.
    pub memory_bytes: u64,
    /// Longest line, in bytes.
    pub line_bytes: usize,
    /// Most labels of one stream, `service_name` when added by the store not counted.
    pub labels: usize,
    /// Whether lines are held against the clock and their stream as Loki 3 ships: more than 7 days old
    /// or 10 minutes ahead, or more than an hour behind the stream's newest line, is refused. Without
    /// it the times of lines may be any, as for recorded data.
    pub time_rules: bool,
}

impl Default for LogLimits {
    /// 1 GiB and any time; the others as Loki 3 ships them.
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            line_bytes: 256 * 1024,
            labels: 15,
            time_rules: false,
        }
    }
}

/// What a store holds and has refused since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Label sets with at least one line.
    pub streams: u64,
    /// Lines held.
    pub entries: u64,
    /// Bytes of the lines held, without labels and metadata.
    pub line_bytes: u64,
    /// Estimated bytes in memory.
    pub memory_bytes: u64,
    /// Lines received again with the same time, line and metadata; held once.
    pub duplicates: u64,
    /// Lines refused because they broke a limit on their own (length, labels, time).
    pub refused_invalid: u64,
    /// Lines refused because the memory limit was reached. Not 0 means that counts over this store
    /// are too low.
    pub refused_memory: u64,
    /// Lines refused because they could not be recorded on disk, or the store was closed.
    pub not_recorded: u64,
}

impl LogStats {
    /// Lines refused for any reason. Not 0 means that the evidence is incomplete.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused_invalid + self.refused_memory + self.not_recorded
    }
}

/// Names and values, in any order.
pub type Pairs = Vec<(String, String)>;

/// Lines of one stream, as a push carries them.
#[derive(Clone, Debug, Default)]
pub struct PushStream {
    /// Labels of the stream.
    pub labels: Pairs,
    /// Nanoseconds since the epoch, line, structured metadata.
    pub entries: Vec<(i64, String, Pairs)>,
}

/// The part of one stream that a query reads.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Labels of the stream.
    pub labels: Labels,
    /// Entries sorted by time; equal times in the order of arrival.
    pub entries: Entries,
}

struct Stream {
    labels: Labels,
    /// Place in [`Streams::ordered`].
    number: usize,
    data: Mutex<StreamData>,
}

#[derive(Default)]
struct Streams {
    by_labels: HashMap<Labels, Arc<Stream>>,
    /// In the order of their first line, so that answers do not depend on a hash seed.
    ordered: Vec<Arc<Stream>>,
}

#[derive(Default)]
struct Counters {
    memory: AtomicU64,
    duplicates: AtomicU64,
    invalid: AtomicU64,
    full: AtomicU64,
    not_recorded: AtomicU64,
}

/// Log lines by stream, in memory. Writers and readers work at the same time: a reader copies what
/// it needs stream by stream and filters without a lock.
#[derive(Default)]
pub struct LogStore {
    limits: LogLimits,
    /// Held for a whole batch when it is recorded, so that lines are recorded in the order they were
    /// stored; else let go at once.
    sink: Mutex<Sink>,
    streams: RwLock<Streams>,
    interner: Mutex<Interner>,
    counters: Counters,
}

/// A panic under one of these locks leaves at worst one line unstored; refusing all telemetry
/// afterwards would be the greater harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogStore {
    /// An empty store with these limits.
    pub fn new(limits: LogLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Stores what a Loki push carried. A stream without `service_name` gets one as in Loki: from
    /// the first of some customary labels (`app`, `container`, `job` …), else `unknown_service`.
    pub fn ingest_push(&self, streams: Vec<PushStream>) -> Ingested {
        let lines = streams.iter().map(|s| s.entries.len() as u64).sum();
        self.batch(lines, |batch| self.take_push(streams, batch))
    }

    fn take_push(&self, streams: Vec<PushStream>, batch: &mut Batch) {
        for pushed in streams {
            let count = pushed.entries.len() as u64;
            if pushed.labels.len() > self.limits.labels {
                self.refuse(&mut batch.done, count, || {
                    format!(
                        "entry for stream '{}' has {} label names; limit {}",
                        labels_of(&pushed.labels),
                        pushed.labels.len(),
                        self.limits.labels
                    )
                });
                continue;
            }
            if let Some((name, _)) = pushed.labels.iter().find(|(n, _)| !is_label_name(n)) {
                self.refuse(&mut batch.done, count, || {
                    format!("couldn't parse labels: {name:?} is not a label name")
                });
                continue;
            }
            let labels = with_service_name(labels_of(&pushed.labels));
            let from_labels = level::from_labels(&labels);
            let stream = self.stream(&labels, batch);
            for (ts, line, metadata) in pushed.entries {
                let mut pairs = self.intern_pairs(&metadata);
                if !metadata.iter().any(|(name, _)| name == "detected_level") {
                    let level = from_labels
                        .or_else(|| level::from_pairs(&metadata))
                        .unwrap_or_else(|| level::from_line(&line));
                    pairs.push((Arc::from("detected_level"), Arc::from(level)));
                }
                self.append(&stream, ts, &line, pairs, batch);
            }
        }
    }

    /// The entries in `[start, end)` (nanoseconds) of every stream whose labels satisfy `wanted`,
    /// in the order in which the streams first appeared. Streams without such entries are left out.
    pub fn select(&self, start: i64, end: i64, wanted: impl Fn(&Labels) -> bool) -> Vec<Selected> {
        self.matching(start, end, wanted)
            .into_iter()
            .map(|stream| Selected {
                labels: stream.labels.clone(),
                entries: lock(&stream.data).range(start, end),
            })
            .filter(|selected| !selected.entries.is_empty())
            .collect()
    }

    /// The label sets that satisfy `wanted` and may have entries in `[start, end)`.
    pub fn series(&self, start: i64, end: i64, wanted: impl Fn(&Labels) -> bool) -> Vec<Labels> {
        self.matching(start, end, wanted)
            .into_iter()
            .map(|stream| stream.labels.clone())
            .collect()
    }

    /// Counters of the whole store.
    pub fn stats(&self) -> LogStats {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let mut stats = LogStats {
            memory_bytes: self.counters.memory.load(Relaxed),
            duplicates: self.counters.duplicates.load(Relaxed),
            refused_invalid: self.counters.invalid.load(Relaxed),
            refused_memory: self.counters.full.load(Relaxed),
            not_recorded: self.counters.not_recorded.load(Relaxed),
            ..LogStats::default()
        };
        for stream in &streams.ordered {
            let data = lock(&stream.data);
            stats.streams += u64::from(data.entries > 0);
            stats.entries += data.entries;
            stats.line_bytes += data.line_bytes;
        }
        stats
    }

    fn matching(&self, start: i64, end: i64, wanted: impl Fn(&Labels) -> bool) -> Vec<Arc<Stream>> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams
            .ordered
            .iter()
            .filter(|s| wanted(&s.labels) && lock(&s.data).overlaps(start, end))
            .cloned()
            .collect()
    }

    fn stream(&self, labels: &Labels, batch: &mut Batch) -> Arc<Stream> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = streams.by_labels.get(labels) {
            return known.clone();
        }
        drop(streams);
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        // Another writer may have come first between the two locks.
        if let Some(known) = streams.by_labels.get(labels) {
            return known.clone();
        }
        let new = Arc::new(Stream {
            labels: labels.clone(),
            number: streams.ordered.len(),
            data: Mutex::default(),
        });
        batch.stream(labels);
        streams.by_labels.insert(labels.clone(), new.clone());
        streams.ordered.push(new.clone());
        self.counters
            .memory
            .fetch_add(256 + labels.text_bytes() as u64, Relaxed);
        new
    }

    fn intern_pairs(&self, pairs: &[(String, String)]) -> Vec<(Arc<str>, Arc<str>)> {
        let mut interner = lock(&self.interner);
        pairs
            .iter()
            .map(|(name, value)| (interner.text(&sanitize_name(name)), interner.text(value)))
            .collect()
    }

    /// Stores one line, or counts why not.
    fn append(
        &self,
        stream: &Arc<Stream>,
        ts: i64,
        line: &str,
        metadata: Vec<(Arc<str>, Arc<str>)>,
        batch: &mut Batch,
    ) {
        let done = &mut batch.done;
        if line.len() > self.limits.line_bytes {
            return self.refuse(done, 1, || {
                format!(
                    "max entry size '{}' bytes exceeded for stream '{}' while adding an entry with length '{}' bytes",
                    self.limits.line_bytes,
                    stream.labels,
                    line.len()
                )
            });
        }
        if let Some(now) = batch.now
            && let Some(why) = age::refusal(stream, ts, now)
        {
            return self.refuse(done, 1, || why);
        }
        let (metadata, new_set) = lock(&self.interner).set(Labels::from_pairs(metadata));
        let entry = Entry {
            ts,
            line: Arc::from(line),
            metadata,
        };
        let cost = entry_cost(&entry, new_set);
        if self.counters.memory.fetch_add(cost, Relaxed) + cost > self.limits.memory_bytes {
            self.counters.memory.fetch_sub(cost, Relaxed);
            self.counters.full.fetch_add(1, Relaxed);
            done.rejected += 1;
            done.out_of_room = true;
            done.message = format!(
                "log store is full: its memory limit is {} bytes; new lines are refused",
                self.limits.memory_bytes
            );
            return;
        }
        done.accepted += 1;
        let mut data = lock(&stream.data);
        if data.contains(&entry) {
            self.counters.memory.fetch_sub(cost, Relaxed);
            self.counters.duplicates.fetch_add(1, Relaxed);
        } else if batch.recorded() {
            batch.entry(stream, &entry);
            data.stage(entry);
        } else {
            data.push(entry);
        }
    }

    /// Counts items that a receiver could not read.
    pub(crate) fn count_invalid(&self, items: u64) {
        self.counters.invalid.fetch_add(items, Relaxed);
    }

    fn refuse(&self, done: &mut Ingested, count: u64, why: impl FnOnce() -> String) {
        self.counters.invalid.fetch_add(count, Relaxed);
        done.rejected += count;
        if done.message.is_empty() {
            done.message = why();
        }
    }
}

/// Estimated bytes an entry costs: itself, its line, and its metadata when no other entry has it.
fn entry_cost(entry: &Entry, new_set: bool) -> u64 {
    const ALLOCATION: usize = 16;
    let own = size_of::<Entry>() + entry.line.len() + ALLOCATION;
    let set = entry.metadata.len() * 32 + entry.metadata.text_bytes() / 2 + ALLOCATION;
    (own + if new_set { set } else { 0 }) as u64
}

fn labels_of(pairs: &[(String, String)]) -> Labels {
    pairs
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect()
}

/// Labels that Loki takes a missing `service_name` from, in this order (its documented default of
/// `discover_service_name`).
const SERVICE_NAME_FROM: [&str; 12] = [
    "service",
    "app",
    "application",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "k8s_container_name",
    "component",
    "workload",
    "job",
    "k8s_job_name",
];

fn with_service_name(labels: Labels) -> Labels {
    if labels.get("service_name").is_some() {
        return labels;
    }
    let service = SERVICE_NAME_FROM
        .iter()
        .find_map(|name| labels.get(name))
        .unwrap_or("unknown_service");
    labels.iter().chain([("service_name", service)]).collect()
}

#[cfg(test)]
mod tests;
