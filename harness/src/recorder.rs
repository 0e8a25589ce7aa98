//! Where observations end up: the row log, the live figures, the span exporter and the abort rules.
//! All of it on a thread of its own, since a disk may block.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use harness_core::measure::{AbortWatch, Measurements};
use harness_core::observation::Observation;
use harness_core::record::Stop;
use harness_core::units::Nanos;

use crate::clock::Clock;
use crate::run_dir::{Log, RunDirError};
use crate::trace::{SpanMaker, SpanQueue};

/// Longest a row waits in memory before the operating system has it.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// How long a disk that takes nothing is offered the rest again when the load is over.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that one observation is handed to.
pub struct Recorder {
    /// The row log.
    pub log: Log,
    /// Live figures, for the progress line.
    pub live: Arc<Mutex<Measurements>>,
    /// The exporter, when spans go anywhere.
    pub spans: Option<(SpanMaker, SpanQueue)>,
    /// Abort rules.
    pub abort: AbortWatch,
    /// The run's clock.
    pub clock: Clock,
    /// Where rows go that the run's own disk does not take in the end.
    pub rescue: PathBuf,
}

/// What a recorder leaves, beside the rows in the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Recorded {
    /// Rows recorded.
    pub rows: u64,
    /// When the last outcome was known.
    pub drained: Nanos,
}

impl Recorder {
    /// Records until every sender is gone. `end` is called once, when the load is to be ended: an
    /// abort rule holds, or the disk takes no more. Rows are kept in memory then, and offered to the
    /// disk again.
    ///
    /// # Errors
    /// When the disk does not take the rows in the end; the sentence says where they are instead.
    pub fn run(
        mut self,
        batches: &Receiver<Vec<Observation>>,
        end: impl Fn(Stop),
    ) -> Result<Recorded, RunDirError> {
        let mut recorded = Recorded::default();
        let mut ended = false;
        let mut tick = Instant::now() + FLUSH_EVERY;
        loop {
            let left = tick.saturating_duration_since(Instant::now());
            let refused = match batches.recv_timeout(left) {
                Ok(batch) => self.take(&batch, &mut recorded),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut why = refused.err();
            let mut stop = None;
            if Instant::now() >= tick {
                tick = Instant::now() + FLUSH_EVERY;
                why = self.log.flush().err().or(why);
                stop = self.abort.check(self.clock.now()).map(Stop::AbortRule);
            }
            let stop = why.map(|why| Stop::CannotRecord(why.to_string())).or(stop);
            if let Some(stop) = stop.filter(|_| !ended) {
                ended = true;
                end(stop);
            }
        }
        self.close()?;
        Ok(recorded)
    }

    fn take(&mut self, batch: &[Observation], recorded: &mut Recorded) -> Result<(), RunDirError> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut refused = Ok(());
        for seen in batch {
            refused = refused.and(self.log.append(seen));
            live.record(seen);
            self.abort.record(seen);
            if let Some((maker, queue)) = &self.spans
                && let Some(span) = maker.span(seen)
            {
                queue.offer(span);
            }
            recorded.rows += 1;
            recorded.drained = recorded.drained.max(seen.done);
        }
        refused
    }

    /// Offers the rest to the disk until it takes it or patience ends; then saves it elsewhere.
    fn close(&mut self) -> Result<(), RunDirError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.log.close() {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(self.save_elsewhere(error)),
                Err(_) => std::thread::sleep(FLUSH_EVERY),
            }
        }
    }

    fn save_elsewhere(&self, error: RunDirError) -> RunDirError {
        let rest = self.log.pending();
        let rescue = self.rescue.display();
        let said = match std::fs::write(&self.rescue, rest) {
            Ok(()) => format!("the {} bytes that are missing are in {rescue}", rest.len()),
            Err(other) => format!("{} bytes are lost, {rescue}: {other}", rest.len()),
        };
        match error {
            RunDirError::Io { path, source } => RunDirError::Io {
                path,
                source: std::io::Error::new(source.kind(), format!("{source}; {said}")),
            },
            other => other,
        }
    }
}
