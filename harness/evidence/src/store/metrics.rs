//! Float samples by label set, in memory.
//!
//! One lock guards everything: a scrape is written under one write lock and a query copies what it
//! selects under one read lock, so no query can see half of a scrape (a ratio of two counters taken
//! from different scrapes would be a wrong reading). Copies are short; evaluation holds no lock.

mod index;
mod labels;
mod matcher;
mod otlp;

pub use labels::{LabelError, Labels, METRIC_NAME};
pub(crate) use matcher::anchored;
pub use matcher::{MatchOp, Matcher};

use crate::receive::scrape::TargetBook;
use index::Index;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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
    #[error("duplicate sample for {labels} at {t_ms} ms with a different value")]
    Duplicate {
        /// The series.
        labels: Labels,
        /// The time, Unix milliseconds.
        t_ms: i64,
    },
    /// The store is full.
    #[error("metric store is full: {bytes} of {limit} bytes are in use; new samples are refused")]
    Full {
        /// Bytes in use.
        bytes: usize,
        /// The limit, bytes.
        limit: usize,
    },
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
}

/// Metric samples by label set. Shared by reference; every method takes `&self`.
pub struct MetricStore {
    inner: RwLock<Inner>,
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
            inner: RwLock::new(inner),
            targets: TargetBook::default(),
        }
    }

    /// Stores one sample; `t_ms` is Unix milliseconds.
    ///
    /// # Errors
    /// When the sample is out of order, contradicts a stored one, or the store is full. Each is
    /// counted in [`MetricStore::stats`].
    pub fn append(&self, labels: &Labels, t_ms: i64, v: f64) -> Result<(), AppendError> {
        self.write().append(labels, t_ms, v)
    }

    /// Stores samples so that no query sees only part of them.
    pub fn append_batch(
        &self,
        samples: impl IntoIterator<Item = (Labels, i64, f64)>,
    ) -> BatchOutcome {
        let mut out = BatchOutcome::default();
        let mut inner = self.write();
        for (labels, t, v) in samples {
            match inner.append(&labels, t, v) {
                Ok(()) => out.accepted += 1,
                Err(e) => {
                    out.rejected += 1;
                    out.first_error.get_or_insert(e);
                }
            }
        }
        out
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
        let Some(id) = self.index.find(labels) else {
            return self.first_sample(labels, t_ms, v);
        };
        let s = &mut self.series[id];
        if let (Some(&newest_ms), Some(&last)) = (s.times.last(), s.values.last()) {
            let labels = || s.labels.clone();
            if t_ms < newest_ms {
                self.stats.out_of_order += 1;
                return Err(AppendError::OutOfOrder {
                    labels: labels(),
                    t_ms,
                    newest_ms,
                });
            }
            if t_ms == newest_ms {
                if last.to_bits() == v.to_bits() {
                    return Ok(());
                }
                self.stats.duplicates += 1;
                return Err(AppendError::Duplicate {
                    labels: labels(),
                    t_ms,
                });
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
        s.times.push(t_ms);
        s.values.push(v);
        self.stats.samples += 1;
        Ok(())
    }

    fn first_sample(&mut self, labels: &Labels, t_ms: i64, v: f64) -> Result<(), AppendError> {
        let text: usize = labels.iter().map(|(n, v)| n.len() + v.len()).sum();
        // Beside the text: two shared pointers a pair, the series, its map entry and one posting a pair.
        let cost = text + labels.len() * 48 + 160 + FIRST_CAPACITY * BYTES_PER_SAMPLE;
        full(&mut self.stats, cost)?;
        let labels = self.index.insert(labels, self.series.len());
        let mut s = Series {
            labels,
            times: Vec::with_capacity(FIRST_CAPACITY),
            values: Vec::with_capacity(FIRST_CAPACITY),
        };
        s.times.push(t_ms);
        s.values.push(v);
        self.series.push(s);
        self.stats.series = self.series.len();
        self.stats.samples += 1;
        Ok(())
    }
}

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
