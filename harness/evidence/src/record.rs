//! Limits of a stack, its evidence on disk, and old evidence opened again.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use crate::Evidence;
use crate::store::logs::{LogLimits, LogStore};
use crate::store::metrics::MetricStore;
use crate::store::segment::{SegmentError, SegmentReport, Signal, Source};
use crate::store::traces::TraceStore;

/// What one stack may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of each of the three stores, bytes.
    pub memory_bytes: usize,
    /// Whether samples and lines are held against the clock as Prometheus and Loki hold them; see
    /// [`MetricStore::with_time_rules`] and [`LogLimits::time_rules`].
    pub time_rules: bool,
}

impl Default for Limits {
    /// 1 GiB each, held against the clock.
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            time_rules: true,
        }
    }
}

/// Evidence read back from a directory.
pub struct Opened {
    /// The stores; they take nothing new.
    pub evidence: Evidence,
    /// What was found, one a segment.
    pub reports: Vec<SegmentReport>,
}

impl Opened {
    /// Why the evidence may not hold all that was sent; empty when it does.
    pub fn incomplete(&self) -> Vec<String> {
        let reasons = self.reports.iter();
        reasons.filter_map(SegmentReport::incomplete).collect()
    }
}

impl Evidence {
    /// Empty stores that refuse new data beyond these limits. [`Evidence::default`] takes samples and
    /// lines of any time instead, as recorded data need it.
    pub fn with_limits(limits: Limits) -> Self {
        let mut metrics = MetricStore::with_memory_limit(limits.memory_bytes);
        if limits.time_rules {
            metrics = metrics.with_time_rules();
        }
        let logs = LogLimits {
            memory_bytes: limits.memory_bytes as u64,
            time_rules: limits.time_rules,
            ..LogLimits::default()
        };
        Self {
            metrics: Arc::new(metrics),
            logs: Arc::new(LogStore::new(logs)),
            traces: Arc::new(TraceStore::with_limit(limits.memory_bytes)),
        }
    }

    /// Counts a payload that could not be read: whatever was in it is missing from the evidence.
    pub(crate) fn count_unreadable(&self, signal: Signal) {
        match signal {
            Signal::Metrics => self.metrics.count_invalid(1),
            Signal::Logs => self.logs.count_invalid(1),
            Signal::Traces => self.traces.count_invalid(1),
        }
    }

    /// From now on everything that is taken is also written to `metrics.seg`, `logs.seg` and
    /// `traces.seg` in `dir` (made when it is not there), before its sender is answered. When a
    /// segment cannot be written (disk full, `segment_bytes` reached) its store takes nothing more:
    /// what is refused is counted, and the sender told.
    ///
    /// # Errors
    /// When the directory or a file cannot be made, a segment is there already, or a store is not
    /// empty.
    pub fn record(&self, dir: &Path, segment_bytes: u64) -> Result<(), SegmentError> {
        fs::create_dir_all(dir).map_err(|source| SegmentError::Io {
            path: dir.to_owned(),
            source,
        })?;
        self.metrics.record(dir, segment_bytes)?;
        self.logs.record(dir, segment_bytes)?;
        self.traces.record(dir, segment_bytes)
    }

    /// Ends recording: the segments get their ends and are synced. The stores take nothing new
    /// afterwards, and can still be asked.
    ///
    /// # Errors
    /// When a segment cannot be ended; it then reads as cut.
    pub fn close(&self, dir: &Path) -> Result<(), SegmentError> {
        let all = [
            self.metrics.close(),
            self.logs.close(),
            self.traces.close(),
            // The names are on disk only when their directory is.
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|source| SegmentError::Io {
                    path: dir.to_owned(),
                    source,
                }),
        ];
        all.into_iter().collect()
    }

    /// Reads what [`record`](Self::record) wrote, also when its process was killed or the tail of a
    /// file is torn: what is before the damage is there, [`Opened::incomplete`] says what is not.
    ///
    /// # Errors
    /// When a segment is missing, cannot be read, or is none of ours.
    pub fn open(dir: &Path) -> Result<Opened, SegmentError> {
        Self::opened(|signal| Source::file(dir.join(signal.file_name())).map(Some))
    }

    /// Reads segments that lie in memory, as [`open`](Self::open) reads those of a directory; of each
    /// signal the first one given. A signal of which none is given has an empty store and no report.
    ///
    /// # Errors
    /// When a segment is none of ours or not of its signal, or has a frame that makes no sense.
    pub fn open_bytes(segments: &[(Signal, &[u8])]) -> Result<Opened, SegmentError> {
        Self::opened(|signal| {
            let given = segments.iter().find(|(of, _)| *of == signal);
            Ok(given.map(|(_, bytes)| Source::bytes(signal, bytes)))
        })
    }

    fn opened<'a>(
        source: impl Fn(Signal) -> Result<Option<Source<'a>>, SegmentError>,
    ) -> Result<Opened, SegmentError> {
        let mut reports = Vec::new();
        let metrics = read(source(Signal::Metrics)?, MetricStore::open, &mut reports)?;
        let logs = read(source(Signal::Logs)?, LogStore::open, &mut reports)?;
        let traces = read(source(Signal::Traces)?, TraceStore::open, &mut reports)?;
        Ok(Opened {
            evidence: Self {
                metrics: Arc::new(metrics),
                logs: Arc::new(logs),
                traces: Arc::new(traces),
            },
            reports,
        })
    }
}

fn read<'a, T: Default>(
    source: Option<Source<'a>>,
    open: impl FnOnce(Source<'a>) -> Result<(T, SegmentReport), SegmentError>,
    reports: &mut Vec<SegmentReport>,
) -> Result<T, SegmentError> {
    let Some(source) = source else {
        return Ok(T::default());
    };
    let (store, report) = open(source)?;
    reports.push(report);
    Ok(store)
}
