//! Where observations end up: the row log, the live figures, the span exporter and the abort rules.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness_core::measure::{AbortWatch, Measurements};
use harness_core::observation::Observation;
use harness_core::units::Nanos;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::clock::Clock;
use crate::run_dir::{Log, RunDirError};
use crate::trace::{SpanMaker, SpanQueue};

/// Longest a row waits in memory before the operating system has it.
const FLUSH_EVERY: Duration = Duration::from_millis(500);

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
}

/// What a recorder leaves.
pub struct Recorded {
    /// All rows, in the order in which their outcomes were known.
    pub rows: Vec<Observation>,
    /// When the last outcome was known.
    pub drained: Nanos,
}

impl Recorder {
    /// Records until every sender is gone. `aborted` is called once, when an abort rule holds.
    ///
    /// # Errors
    /// When the disk does not take the rows: a run that cannot be kept is no run.
    pub async fn run(
        mut self,
        mut observed: UnboundedReceiver<Observation>,
        aborted: impl Fn(String),
    ) -> Result<Recorded, RunDirError> {
        let mut rows = Vec::new();
        let mut told = false;
        let mut tick = tokio::time::interval(FLUSH_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                seen = observed.recv() => {
                    let Some(seen) = seen else { break };
                    self.log.append(&seen)?;
                    self.live.lock().unwrap_or_else(std::sync::PoisonError::into_inner).record(&seen);
                    self.abort.record(&seen);
                    if let Some((maker, queue)) = &self.spans
                        && let Some(span) = maker.span(&seen)
                    {
                        queue.offer(span);
                    }
                    rows.push(seen);
                }
                _ = tick.tick() => {
                    self.log.flush()?;
                    if let Some(why) = self.abort.check(self.clock.now()).filter(|_| !told) {
                        told = true;
                        aborted(why);
                    }
                }
            }
        }
        self.log.close()?;
        let drained = rows.iter().map(|row| row.done).max().unwrap_or_default();
        Ok(Recorded { rows, drained })
    }
}
