//! The log store's segment.
//!
//! Bodies, in the terms of [`segment`](crate::store::segment):
//!
//! ```text
//! batch  = 1 record*
//! record = 1 k (k: name value)                          a stream's labels; streams are numbered
//!                                                       from 0 in the order they appear
//!        | 2 stream:number time:signed line k (k: name value)    a line with its metadata
//! ```
//!
//! A time is nanoseconds since the Unix epoch, minus the time of the line before in the batch, from 0.

use super::{Entry, Labels, LogLimits, LogStore, Stream, lock};
use crate::Ingested;
use crate::store::segment::codec::{Put, Take};
use crate::store::segment::{self, SegmentError, SegmentReport, Signal, Sink, Source};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

const BATCH: u8 = 1;
const STREAM: u8 = 1;
const ENTRY: u8 = 2;

/// One batch under way: what became of it, and its body when it is to be recorded.
pub(super) struct Batch {
    pub(super) done: Ingested,
    /// The clock, when lines are held against it; nanoseconds since the Unix epoch.
    pub(super) now: Option<i64>,
    body: Option<Put>,
    time: i64,
    /// Streams with staged entries; some may be here twice.
    touched: Vec<Arc<Stream>>,
}

impl Batch {
    fn new(recorded: bool, now: Option<i64>) -> Self {
        Self {
            done: Ingested::default(),
            now,
            body: recorded.then(|| Put::new(BATCH)),
            time: 0,
            touched: Vec::new(),
        }
    }

    /// Whether its lines are staged until they are recorded.
    pub(super) fn recorded(&self) -> bool {
        self.body.is_some()
    }

    pub(super) fn stream(&mut self, labels: &Labels) {
        if let Some(put) = &mut self.body {
            put.byte(STREAM);
            pairs(put, labels);
        }
    }

    pub(super) fn entry(&mut self, stream: &Arc<Stream>, entry: &Entry) {
        if let Some(put) = &mut self.body {
            put.byte(ENTRY);
            put.number(stream.number as u64);
            put.signed(entry.ts.wrapping_sub(self.time));
            put.text(&entry.line);
            pairs(put, &entry.metadata);
            self.time = entry.ts;
            let last = self.touched.last();
            if last.is_none_or(|last| !Arc::ptr_eq(last, stream)) {
                self.touched.push(stream.clone());
            }
        }
    }
}

fn pairs(put: &mut Put, labels: &Labels) {
    put.number(labels.len() as u64);
    for (name, value) in labels.iter() {
        put.text(name);
        put.text(value);
    }
}

impl LogStore {
    /// Stores a batch of `lines` by `work`, once it is recorded where that is asked for: no answer
    /// counts a line that its sender was told is refused.
    pub(super) fn batch(&self, lines: u64, work: impl FnOnce(&mut Batch)) -> Ingested {
        let mut sink = lock(&self.sink);
        if let Some(why) = sink.closed() {
            return self.lost(lines, why.to_owned());
        }
        let now = self.limits.time_rules.then(super::age::now);
        let mut batch = Batch::new(sink.records(), now);
        if !sink.records() {
            drop(sink);
            work(&mut batch);
            return batch.done;
        }
        work(&mut batch);
        let written = match &batch.body {
            Some(Put(body)) if body.len() > 1 => sink.append(body),
            _ => Ok(()),
        };
        match written {
            Ok(()) => {
                for stream in &batch.touched {
                    lock(&stream.data).keep_staged();
                }
                batch.done
            }
            Err(why) => {
                let streams = batch.touched.iter();
                let dropped: Vec<Entry> = streams
                    .flat_map(|stream| lock(&stream.data).drop_staged())
                    .collect();
                // A new set of metadata keeps its place in the interner.
                let bytes = dropped.iter().map(|e| super::entry_cost(e, false)).sum();
                self.counters.memory.fetch_sub(bytes, Relaxed);
                // The others of the batch are counted already, for what is wrong with them.
                Ingested {
                    rejected: lines,
                    ..self.lost(dropped.len() as u64, why)
                }
            }
        }
    }

    fn lost(&self, lines: u64, why: String) -> Ingested {
        self.counters.not_recorded.fetch_add(lines, Relaxed);
        Ingested {
            accepted: 0,
            rejected: lines,
            message: format!("not recorded: {why}"),
            out_of_room: true,
        }
    }

    /// Begins to record into `dir`.
    pub(crate) fn record(&self, dir: &Path, most_bytes: u64) -> Result<(), SegmentError> {
        let mut sink = lock(&self.sink);
        if self.stats().streams > 0 || sink.records() {
            return Err(SegmentError::NotEmpty(Signal::Logs));
        }
        *sink = Sink::create(dir, Signal::Logs, most_bytes)?;
        Ok(())
    }

    /// Ends recording; nothing new is taken afterwards.
    pub(crate) fn close(&self) -> Result<(), SegmentError> {
        let mut sink = lock(&self.sink);
        let stats = self.stats();
        sink.close(stats.entries, stats.refused())
    }

    /// Reads a segment into a store that takes nothing new.
    pub(crate) fn open(from: Source<'_>) -> Result<(Self, SegmentReport), SegmentError> {
        let store = Self::new(LogLimits {
            memory_bytes: u64::MAX,
            ..LogLimits::default()
        });
        let mut streams: Vec<Arc<Stream>> = Vec::new();
        let report = segment::read(from, Signal::Logs, |body| store.replay(body, &mut streams))?;
        *lock(&store.sink) = Sink::Closed("this evidence was opened to be read".into());
        Ok((store, report))
    }

    fn replay(&self, body: &[u8], streams: &mut Vec<Arc<Stream>>) -> Result<u64, String> {
        let mut take = Take::new(body);
        match take.byte()? {
            BATCH => {}
            other => return Err(format!("kind {other} is unknown")),
        }
        let mut ts = 0_i64;
        let mut held = 0;
        while !take.is_empty() {
            match take.byte()? {
                STREAM => {
                    let labels = self.take_pairs(&mut take)?;
                    let stream = self.stream(&labels, &mut Batch::new(false, None));
                    if stream.number != streams.len() {
                        return Err(format!("stream {labels} is there twice"));
                    }
                    streams.push(stream);
                }
                ENTRY => {
                    let number: usize = take.small()?;
                    let stream = streams
                        .get(number)
                        .ok_or_else(|| format!("there is no stream {number}"))?;
                    ts = ts.wrapping_add(take.signed()?);
                    let line = Arc::from(take.text()?);
                    let metadata = self.take_pairs(&mut take)?;
                    let (metadata, new_set) = lock(&self.interner).set(metadata);
                    let entry = Entry { ts, line, metadata };
                    let cost = super::entry_cost(&entry, new_set);
                    self.counters.memory.fetch_add(cost, Relaxed);
                    lock(&stream.data).push(entry);
                    held += 1;
                }
                other => return Err(format!("record {other} is unknown")),
            }
        }
        Ok(held)
    }

    fn take_pairs(&self, take: &mut Take<'_>) -> Result<Labels, String> {
        let mut interner = self.interner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        for _ in 0..take.count()? {
            out.push((interner.text(take.text()?), interner.text(take.text()?)));
        }
        Ok(Labels::from_pairs(out))
    }
}
