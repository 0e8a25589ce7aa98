//! The metric store's segment.
//!
//! Bodies, in the terms of [`segment`](crate::store::segment):
//!
//! ```text
//! samples  = 1 n (n: series) m (m: id) (m: time) (m: value)
//! series   = k (k: name value)          texts; series are numbered from 0 in the order they appear
//! id       = signed: minus the id before, from 0
//! time     = signed: Unix milliseconds, minus the time before, from 0
//! value    = the bits of the double, exclusive-or those of the series' sample before (0 for the
//!            first), bytes reversed: what stays the same is one byte, small counts are a few
//! metadata = 2 n (n: name kind help unit)
//! ```

use super::{Inner, Labels, Metadata, MetricStore};
use crate::store::segment::codec::{Put, Take};
use crate::store::segment::{self, SegmentError, SegmentReport, Signal, Sink, Source};
use std::path::Path;
use std::sync::{MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

const SAMPLES: u8 = 1;
const METADATA: u8 = 2;

/// What one batch added.
#[derive(Default)]
pub(super) struct Batch {
    /// Series before the batch.
    first_new: usize,
    /// Newest time before the batch.
    newest_ms: i64,
    samples: Vec<(usize, i64, u64)>,
}

impl Batch {
    pub(super) fn push(&mut self, series: usize, t_ms: i64, v: f64, before: Option<f64>) {
        let bits = v.to_bits() ^ before.map_or(0, f64::to_bits);
        self.samples.push((series, t_ms, bits.swap_bytes()));
    }

    fn body(&self, inner: &Inner) -> Vec<u8> {
        let mut put = Put::new(SAMPLES);
        let new = &inner.series[self.first_new..];
        put.number(new.len() as u64);
        for series in new {
            put.number(series.labels.len() as u64);
            for (name, value) in series.labels.iter() {
                put.text(name);
                put.text(value);
            }
        }
        put.number(self.samples.len() as u64);
        let (mut id_before, mut t_before) = (0, 0);
        for (id, ..) in &self.samples {
            put.signed(*id as i64 - id_before);
            id_before = *id as i64;
        }
        for (_, t, _) in &self.samples {
            put.signed(t.wrapping_sub(t_before));
            t_before = *t;
        }
        for (.., value) in &self.samples {
            put.number(*value);
        }
        put.0
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

impl MetricStore {
    /// Stores a batch by `work` and records it before any query sees it: no answer counts a sample that
    /// its sender was told is refused.
    ///
    /// # Errors
    /// Why the batch is not recorded. `work` may not have been called then; what it stored is gone again.
    pub(super) fn batch<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> Result<T, String> {
        let mut sink = self.sink();
        if let Some(why) = sink.closed() {
            return Err(why.to_owned());
        }
        let mut inner = self.write();
        inner.latest_ms = self
            .time_rules
            .then(|| now_ms().saturating_add(super::MOST_AHEAD_MS));
        if sink.records() {
            inner.pending = Some(Batch {
                first_new: inner.series.len(),
                newest_ms: inner.newest_ms,
                samples: Vec::new(),
            });
        }
        let done = work(&mut inner);
        if let Some(batch) = inner.pending.take() {
            let nothing = batch.samples.is_empty() && batch.first_new == inner.series.len();
            if !nothing && let Err(why) = sink.append(&batch.body(&inner)) {
                inner.forget(&batch);
                return Err(why);
            }
        }
        Ok(done)
    }

    /// Keeps types and help texts.
    pub(crate) fn learn(&self, told: impl IntoIterator<Item = (String, Metadata)>) {
        let mut sink = self.sink();
        let new = self.metadata.learn(told);
        if new.is_empty() || !sink.records() {
            return;
        }
        let mut put = Put::new(METADATA);
        put.number(new.len() as u64);
        for (name, metadata) in &new {
            for text in [name, &metadata.kind, &metadata.help, &metadata.unit] {
                put.text(text);
            }
        }
        // A failure closes the sink, and the next batch says so.
        let _ = sink.append(&put.0);
    }

    /// Begins to record into `dir`.
    pub(crate) fn record(&self, dir: &Path, most_bytes: u64) -> Result<(), SegmentError> {
        let mut sink = self.sink();
        if self.stats().series > 0 || sink.records() {
            return Err(SegmentError::NotEmpty(Signal::Metrics));
        }
        *sink = Sink::create(dir, Signal::Metrics, most_bytes)?;
        Ok(())
    }

    /// Ends recording; nothing new is taken afterwards.
    pub(crate) fn close(&self) -> Result<(), SegmentError> {
        let mut sink = self.sink();
        let stats = self.stats();
        sink.close(stats.samples, stats.refused())
    }

    /// Reads a segment into a store that takes nothing new.
    pub(crate) fn open(from: Source<'_>) -> Result<(Self, SegmentReport), SegmentError> {
        let store = Self::with_memory_limit(usize::MAX);
        let report = segment::read(from, Signal::Metrics, |body| store.replay(body))?;
        *store.sink() = Sink::Closed("this evidence was opened to be read".into());
        Ok((store, report))
    }

    fn replay(&self, body: &[u8]) -> Result<u64, String> {
        let mut take = Take::new(body);
        let held = match take.byte()? {
            SAMPLES => self.write().replay(&mut take)?,
            METADATA => {
                for _ in 0..take.count()? {
                    let name = take.text()?.to_owned();
                    let mut text = || take.text().map(str::to_owned);
                    let (kind, help, unit) = (text()?, text()?, text()?);
                    self.metadata.learn([(name, Metadata { kind, help, unit })]);
                }
                0
            }
            other => return Err(format!("kind {other} is unknown")),
        };
        take.end().map(|()| held)
    }

    fn sink(&self) -> MutexGuard<'_, Sink> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes out what a batch stored. Its new series stay, without a sample, and so are in no answer.
    fn forget(&mut self, batch: &Batch) {
        for (id, ..) in &batch.samples {
            let series = &mut self.series[*id];
            series.times.pop();
            series.values.pop();
        }
        self.stats.samples -= batch.samples.len() as u64;
        self.stats.series = batch.first_new;
        self.newest_ms = batch.newest_ms;
    }

    fn replay(&mut self, take: &mut Take<'_>) -> Result<u64, String> {
        for _ in 0..take.count()? {
            let mut pairs = Vec::new();
            for _ in 0..take.count()? {
                pairs.push((take.text()?, take.text()?));
            }
            let labels = Labels::new(pairs).map_err(|e| e.to_string())?;
            if self.index.find(&labels).is_some() {
                return Err(format!("series {labels} is there twice"));
            }
            self.new_series(&labels).map_err(|e| e.to_string())?;
        }
        let n = take.count()?;
        let mut samples = Vec::with_capacity(n);
        let (mut id, mut t) = (0_i64, 0_i64);
        for _ in 0..n {
            id = id.wrapping_add(take.signed()?);
            let at = usize::try_from(id)
                .ok()
                .filter(|at| *at < self.series.len());
            samples.push((at.ok_or_else(|| format!("there is no series {id}"))?, 0));
        }
        for (_, time) in &mut samples {
            t = t.wrapping_add(take.signed()?);
            *time = t;
        }
        for (id, t) in samples {
            let bits = take.number()?.swap_bytes();
            let series = &self.series[id];
            let before = series.values.last().map_or(0, |v| v.to_bits());
            if series.times.last().is_some_and(|newest| *newest >= t) {
                return Err(format!("a sample of {} is out of order", series.labels));
            }
            let labels = series.labels.clone();
            let stored = self.append(&labels, t, f64::from_bits(bits ^ before));
            stored.map_err(|e| e.to_string())?;
        }
        Ok(n as u64)
    }
}
