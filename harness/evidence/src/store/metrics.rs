//! Float samples by label set, in memory.
//!
//! One lock guards everything: a scrape is written under one write lock and a query copies what it
//! selects under one read lock, so no query can see half of a scrape (a ratio of two counters taken
//! from different scrapes would be a wrong reading). Copies are short; evaluation holds no lock.

mod index;
mod journal;
mod labels;
mod matcher;
mod metadata;
mod otlp;

pub use labels::{LabelError, Labels, METRIC_NAME};
pub use matcher::{MatchOp, Matcher};
pub use metadata::{Metadata, MetadataBook};

use super::segment::Sink;
use crate::receive::scrape::TargetBook;
use index::Index;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Bits of the NaN that marks a series as gone (Prometheus' `value.StaleNaN`).
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker as a value.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether a value is the stale marker; an ordinary NaN is not.
pub fn is_stale(v: f64) -> bool {
    v.to_bits() == STALE_NAN_BITS
}

/// Default bound on the memory that samples and series may take: 1 GiB.
pub const DEFAULT_MEMORY_LIMIT: usize = 1 << 30;

/// Why a sample was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Older than the series' newest sample.
    #[error("out of order sample for {labels}: {t_ms} ms is before the newest, {newest_ms} ms")]
    OutOfOrder {
        /// The series.
        labels: Labels,
        /// The refused sample's time, Unix milliseconds.
        t_ms: i64,
        /// The newest stored time, Unix milliseconds.
        newest_ms: i64,
    },
    /// Same time as the newest sample, another value.
    #[error("duplicate sample for timestamp {t_ms} ms of {labels}: another value is stored")]
    Duplicate {
        /// The series.
        labels: Labels,
        /// The time, Unix milliseconds.
        t_ms: i64,
    },
    /// Too far ahead of the clock, or too far behind the newest sample of the whole store.
    #[error("out of bounds: {labels} at {t_ms} ms is {why}")]
    OutOfBounds {
        /// The series.
        labels: Labels,
        /// The refused sample's time, Unix milliseconds.
        t_ms: i64,
        /// Which of the two.
        why: &'static str,
    },
    /// The store is full.
    #[error("metric store is full: {bytes} of {limit} bytes are in use; new samples are refused")]
    Full {
        /// Bytes in use.
        bytes: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// The store's segment takes nothing more.
    #[error("the sample is not recorded: {0}")]
    NotRecorded(String),
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Samples stored (an exact repetition counts as stored).
    pub accepted: u64,
    /// Samples refused.
    pub rejected: u64,
    /// The first refusal.
    pub first_error: Option<AppendError>,
}

/// The store's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetricStats {
    /// Series known.
    pub series: usize,
    /// Samples held.
    pub samples: u64,
    /// Bytes taken by samples, label sets and the index (estimated).
    pub bytes: usize,
    /// The limit on these bytes.
    pub limit: usize,
    /// Samples refused because they were out of order.
    pub out_of_order: u64,
    /// Samples refused because their time was taken by another value.
    pub duplicates: u64,
    /// Samples refused because the store was full.
    pub over_limit: u64,
    /// Samples refused because their time was too far ahead of the clock or behind the newest sample.
    pub out_of_bounds: u64,
    /// Data points refused because they lack something or are of an unsupported kind, and requests
    /// that could not be read.
    pub refused_invalid: u64,
    /// Samples refused because they could not be recorded on disk, or the store was closed.
    pub not_recorded: u64,
}

impl MetricStats {
    /// Samples refused for any reason. Not 0 means that the evidence is incomplete.
    #[must_use]
    pub fn refused(&self) -> u64 {
        let received = self.out_of_order + self.duplicates + self.out_of_bounds;
        received + self.refused_invalid + self.over_limit + self.not_recorded
    }
}

impl MetricStats {
    fn count(&mut self, error: &AppendError, samples: u64) {
        match error {
            AppendError::OutOfOrder { .. } => self.out_of_order += samples,
            AppendError::Duplicate { .. } => self.duplicates += samples,
            AppendError::OutOfBounds { .. } => self.out_of_bounds += samples,
            AppendError::Full { .. } => self.over_limit += samples,
            AppendError::NotRecorded(_) => self.not_recorded += samples,
        }
    }
}

/// One selected series with its samples, times ascending.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesData {
    /// The series.
    pub labels: Labels,
    /// Unix milliseconds.
    pub times: Vec<i64>,
    /// Values; may hold stale markers.
    pub values: Vec<f64>,
}

struct Series {
    labels: Labels,
    times: Vec<i64>,
    values: Vec<f64>,
}

#[derive(Default)]
struct Inner {
    series: Vec<Series>,
    index: Index,
    stats: MetricStats,
    /// Newest time of any sample, Unix milliseconds; 0 before the first.
    newest_ms: i64,
    /// Latest time that the batch under way may have.
    latest_ms: Option<i64>,
    /// What the batch under way has added, when it is to be recorded.
    pending: Option<journal::Batch>,
}

/// Metric samples by label set. Shared by reference; every method takes `&self`.
pub struct MetricStore {
    /// Taken before `inner` and held for a batch: batches are recorded in the order they were stored.
    sink: Mutex<Sink>,
    inner: RwLock<Inner>,
    /// Whether samples are held against the clock, as Prometheus holds them.
    time_rules: bool,
    /// Types and help texts, for `/api/v1/metadata`.
    pub metadata: MetadataBook,
    /// What the scrapers know of their targets, for `/api/v1/targets`.
    pub targets: TargetBook,
}

impl Default for MetricStore {
    fn default() -> Self {
        Self::with_memory_limit(DEFAULT_MEMORY_LIMIT)
    }
}

impl MetricStore {
    /// An empty store that refuses samples beyond `bytes`.
    pub fn with_memory_limit(bytes: usize) -> Self {
        let mut inner = Inner::default();
        inner.stats.limit = bytes;
        MetricStore {
            sink: Mutex::default(),
            inner: RwLock::new(inner),
            time_rules: false,
            metadata: MetadataBook::default(),
            targets: TargetBook::default(),
        }
    }

    /// Holds samples against the clock as Prometheus 3 does: what is more than 10 minutes ahead of it,
    /// or more than an hour behind the newest sample, is out of bounds. Without this the times of
    /// samples may be any, as for recorded data.
    #[must_use]
    pub fn with_time_rules(mut self) -> Self {
        self.time_rules = true;
        self
    }

    /// Stores one sample; `t_ms` is Unix milliseconds.
    ///
    /// # Errors
    /// When the sample is out of order, contradicts a stored one, or the store is full. Each is
    /// counted in [`MetricStore::stats`].
    pub fn append(&self, labels: &Labels, t_ms: i64, v: f64) -> Result<(), AppendError> {
        self.batch(|inner| inner.append(labels, t_ms, v))
            .unwrap_or_else(|why| {
                self.write().stats.not_recorded += 1;
                Err(AppendError::NotRecorded(why))
            })
    }

    /// Stores samples so that no query sees only part of them.
    pub fn append_batch(
        &self,
        samples: impl IntoIterator<Item = (Labels, i64, f64)>,
    ) -> BatchOutcome {
        let mut out = BatchOutcome::default();
        let mut samples = samples.into_iter();
        let stored = self.batch(|inner| {
            for (labels, t, v) in samples.by_ref() {
                match inner.append(&labels, t, v) {
                    Ok(()) => out.accepted += 1,
                    Err(e) => {
                        out.rejected += 1;
                        out.first_error.get_or_insert(e);
                    }
                }
            }
        });
        if let Err(why) = stored {
            let lost = out.accepted + samples.count() as u64;
            self.write().stats.not_recorded += lost;
            out.accepted = 0;
            out.rejected += lost;
            out.first_error = Some(AppendError::NotRecorded(why));
        }
        out
    }

    /// Counts items that a receiver could not read.
    pub(crate) fn count_invalid(&self, items: u64) {
        self.write().stats.refused_invalid += items;
    }

    /// Stores all of these samples or, as Prometheus does with a remote write, none of them.
    ///
    /// # Errors
    /// The first sample that cannot be stored, why, and that it and all others are counted as refused.
    pub fn append_all(&self, samples: &[(Labels, i64, f64)]) -> Result<(), AppendError> {
        let stored = self.batch(|inner| {
            inner.check_all(samples)?;
            let mut each = samples.iter();
            each.try_for_each(|(labels, t, v)| inner.append(labels, *t, *v))
        });
        stored.unwrap_or_else(|why| {
            self.write().stats.not_recorded += samples.len() as u64;
            Err(AppendError::NotRecorded(why))
        })
    }

    /// The counters at this moment.
    pub fn stats(&self) -> MetricStats {
        self.read_lock().stats
    }

    /// A consistent view: nothing is written while it lives, so keep it short.
    pub fn read(&self) -> MetricReader<'_> {
        MetricReader(self.read_lock())
    }

    // A panic inside the lock leaves at worst one series half appended by one sample, and both
    // columns are pushed without a fallible step between; the data stays usable.
    fn read_lock(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn append(&mut self, labels: &Labels, t_ms: i64, v: f64) -> Result<(), AppendError> {
        if let Err(e) = self.within_bounds(labels, t_ms) {
            self.stats.out_of_bounds += 1;
            return Err(e);
        }
        let id = match self.index.find(labels) {
            Some(id) => id,
            None => self.new_series(labels)?,
        };
        let s = &mut self.series[id];
        if let (Some(&newest_ms), Some(&last)) = (s.times.last(), s.values.last()) {
            match follows(&s.labels, (newest_ms, last), (t_ms, v)) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(e) => {
                    self.stats.count(&e, 1);
                    return Err(e);
                }
            }
        }
        let growth = growth_of(&s.times);
        if growth > 0 {
            full(&mut self.stats, growth)?;
            // Growth by a quarter: doubling would leave up to half of the limit unused.
            let more = growth / BYTES_PER_SAMPLE;
            s.times.reserve_exact(more);
            s.values.reserve_exact(more);
        }
        if let Some(batch) = &mut self.pending {
            batch.push(id, t_ms, v, s.values.last().copied());
        }
        s.times.push(t_ms);
        s.values.push(v);
        self.stats.samples += 1;
        self.newest_ms = self.newest_ms.max(t_ms);
        Ok(())
    }

    fn within_bounds(&self, labels: &Labels, t_ms: i64) -> Result<(), AppendError> {
        let Some(latest_ms) = self.latest_ms else {
            return Ok(());
        };
        let why = if t_ms > latest_ms {
            "more than 10 minutes ahead of the clock"
        } else if t_ms < self.newest_ms.saturating_sub(MOST_BEHIND_MS) {
            "more than an hour behind the newest sample"
        } else {
            return Ok(());
        };
        Err(AppendError::OutOfBounds {
            labels: labels.clone(),
            t_ms,
            why,
        })
    }

    /// Whether all of these can be stored, one after another. Room is not part of it: a store that is
    /// full is incomplete whichever samples it holds.
    fn check_all(&mut self, samples: &[(Labels, i64, f64)]) -> Result<(), AppendError> {
        let mut newest: HashMap<&Labels, (i64, f64)> = HashMap::new();
        for (labels, t_ms, v) in samples {
            let stored = || {
                let series = &self.series[self.index.find(labels)?];
                Some((*series.times.last()?, *series.values.last()?))
            };
            let last = newest.get(labels).copied().or_else(stored);
            let fits = self.within_bounds(labels, *t_ms).and_then(|()| match last {
                Some(last) => follows(labels, last, (*t_ms, *v)).map(drop),
                None => Ok(()),
            });
            if let Err(e) = fits {
                self.stats.count(&e, samples.len() as u64);
                return Err(e);
            }
            newest.insert(labels, (*t_ms, *v));
        }
        Ok(())
    }

    /// A series without samples yet; room for the first ones is paid for.
    fn new_series(&mut self, labels: &Labels) -> Result<usize, AppendError> {
        let text: usize = labels.iter().map(|(n, v)| n.len() + v.len()).sum();
        // Beside the text: two shared pointers a pair, the series, its map entry and one posting a pair.
        let cost = text + labels.len() * 48 + 160 + FIRST_CAPACITY * BYTES_PER_SAMPLE;
        full(&mut self.stats, cost)?;
        let id = self.series.len();
        let labels = self.index.insert(labels, id);
        self.series.push(Series {
            labels,
            times: Vec::with_capacity(FIRST_CAPACITY),
            values: Vec::with_capacity(FIRST_CAPACITY),
        });
        self.stats.series = self.series.len();
        Ok(id)
    }
}

/// Whether a sample comes after the last one of its series (`false`: it is that one again).
fn follows(
    labels: &Labels,
    (newest_ms, last): (i64, f64),
    (t_ms, v): (i64, f64),
) -> Result<bool, AppendError> {
    let labels = || labels.clone();
    match t_ms.cmp(&newest_ms) {
        Ordering::Greater => Ok(true),
        Ordering::Equal if last.to_bits() == v.to_bits() => Ok(false),
        Ordering::Equal => Err(AppendError::Duplicate {
            labels: labels(),
            t_ms,
        }),
        Ordering::Less => Err(AppendError::OutOfOrder {
            labels: labels(),
            t_ms,
            newest_ms,
        }),
    }
}

/// Prometheus' bounds: how far a sample may be ahead of the clock, and behind the newest one (half of
/// the two hours that its head block spans).
const MOST_AHEAD_MS: i64 = 10 * 60_000;
const MOST_BEHIND_MS: i64 = 60 * 60_000;

const BYTES_PER_SAMPLE: usize = 16;
const FIRST_CAPACITY: usize = 8;

fn growth_of(times: &Vec<i64>) -> usize {
    if times.len() < times.capacity() {
        0
    } else {
        (times.len() / 4).max(FIRST_CAPACITY) * BYTES_PER_SAMPLE
    }
}

fn full(stats: &mut MetricStats, cost: usize) -> Result<(), AppendError> {
    if stats.bytes + cost > stats.limit {
        stats.over_limit += 1;
        return Err(AppendError::Full {
            bytes: stats.bytes,
            limit: stats.limit,
        });
    }
    stats.bytes += cost;
    Ok(())
}

/// A consistent view of the store.
pub struct MetricReader<'a>(RwLockReadGuard<'a, Inner>);

impl MetricReader<'_> {
    /// The series that satisfy all matchers and have a sample in `[from_ms, to_ms]`, with those
    /// samples, sorted by labels. `budget` is the number of samples that may still be copied.
    ///
    /// # Errors
    /// The number of samples found so far, when it exceeds the budget.
    pub fn select(
        &self,
        matchers: &[Matcher],
        from_ms: i64,
        to_ms: i64,
        budget: &mut usize,
    ) -> Result<Vec<SeriesData>, usize> {
        let mut out = Vec::new();
        for (s, range) in self.matching(matchers, from_ms, to_ms) {
            if range.len() > *budget {
                return Err(range.len());
            }
            *budget -= range.len();
            out.push(SeriesData {
                labels: s.labels.clone(),
                times: s.times[range.clone()].to_vec(),
                values: s.values[range].to_vec(),
            });
        }
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(out)
    }

    /// The label sets of the series that satisfy all matchers and have a sample in the range, sorted.
    pub fn label_sets(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Vec<Labels> {
        let mut out: Vec<Labels> = self
            .matching(matchers, from_ms, to_ms)
            .map(|(s, _)| s.labels.clone())
            .collect();
        out.sort();
        out
    }

    fn matching<'b>(
        &'b self,
        matchers: &'b [Matcher],
        from_ms: i64,
        to_ms: i64,
    ) -> impl Iterator<Item = (&'b Series, std::ops::Range<usize>)> {
        let inner = &*self.0;
        inner
            .index
            .candidates(matchers, inner.series.len())
            .into_iter()
            .filter_map(move |id| {
                let s = &inner.series[id];
                let ok = matchers
                    .iter()
                    .all(|m| m.matches(s.labels.get(&m.name).unwrap_or("")));
                if !ok {
                    return None;
                }
                let a = s.times.partition_point(|&t| t < from_ms);
                let b = s.times.partition_point(|&t| t <= to_ms);
                (a < b).then_some((s, a..b))
            })
    }
}

#[cfg(test)]
mod tests;
