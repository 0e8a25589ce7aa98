//! Where observations end up: the row log, the live figures, the span exporter and the abort rules.
//! All of it on a thread of its own, since a disk may block.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use harness_core::judge::tally::Tally;
use harness_core::measure::{AbortWatch, Measurements};
use harness_core::observation::Observation;
use harness_core::record::Stop;
use harness_core::record::sampled::Sampled;
use harness_core::units::Nanos;

use crate::clock::Clock;
use crate::run_dir::{Log, RunDirError};
use crate::trace::{SpanMaker, SpanQueue};

/// Longest a row waits in memory before the operating system has it.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// How long a disk that takes nothing is offered the rest again when the load is over.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that one observation is handed to.
pub struct Recorder {
    /// The row log.
    pub log: Log,
    /// Counts of all requests, and the choice of those whose rows are kept.
    pub tally: Tally,
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
    /// How long it is offered them: [`PATIENCE`].
    pub patience: Duration,
}

/// What a recorder leaves, beside the rows in the log.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// Requests recorded.
    pub rows: u64,
    /// What was counted, where not all of them keep their rows; the log holds more rows than those that do.
    pub sampled: Option<Sampled>,
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
                if let Stop::CannotRecord(why) = &stop {
                    tracing::error!(%why, "the load is ended; rows are offered to the disk again");
                }
                end(stop);
            }
        }
        self.close()?;
        recorded.sampled = self.tally.sampled();
        Ok(recorded)
    }

    fn take(&mut self, batch: &[Observation], recorded: &mut Recorded) -> Result<(), RunDirError> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut refused = Ok(());
        for seen in batch {
            if self.tally.record(seen) {
                refused = refused.and(self.log.append_row(seen));
            }
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
        let until = Instant::now() + self.patience;
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

#[cfg(test)]
mod tests {
    use std::io::{self, Write};

    use harness_core::observation::{Line, Outcome};
    use harness_core::scenario::Scenario;
    use harness_core::units::{Phase, RequestId, SpanId, TraceId};

    use super::*;
    use crate::run_dir::LogFile;

    /// A disk that is full and stays so.
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl LogFile for Full {
        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn row(n: u64) -> Observation {
        Line {
            id: RequestId(n),
            request: 0,
            load: 0,
            phase: Phase::Measure,
            due: Nanos(n),
            sent: Some(Nanos(n)),
            first_byte: None,
            done: Nanos(n + 1),
            outcome: Outcome::Expected,
            status: Some(200),
            bytes: 2,
            connected: None,
            first_event: None,
            gaps: Vec::new(),
            trace: TraceId([1; 16]),
            span: SpanId([1; 8]),
            sampled: false,
            correct: None,
            detail: None,
        }
        .into()
    }

    #[test]
    fn a_disk_that_stays_full_ends_the_load_once_and_its_rows_are_saved_elsewhere() {
        let scenario = Scenario::parse(
            "apiVersion: harness/v1\nkind: Scenario\nmetadata: {name: full}\nspec:\n  seed: 1\n  \
             target: {url: \"http://127.0.0.1:1\"}\n  requests: [{name: ping, method: GET, path: /}]\n  \
             loads: [{name: l, mix: {ping: 1}, executor: constant-vus, vus: 1, stages: [{phase: measure, for: 1s}]}]\n",
            "full.yaml",
        )
        .unwrap();
        let keep = tempfile::tempdir().unwrap();
        let rescue = keep.path().join("rest.jsonl");
        let recorder = Recorder {
            log: Log::over(PathBuf::from("requests.jsonl"), Box::new(Full)),
            tally: Tally::new(&scenario, &[]),
            live: Arc::new(Mutex::new(Measurements::new(&scenario))),
            spans: None,
            abort: AbortWatch::new(&scenario),
            clock: Clock::starting_in(Duration::ZERO),
            rescue: rescue.clone(),
            patience: Duration::ZERO,
        };
        let (rows, batches) = std::sync::mpsc::channel();
        let (ended, stops) = std::sync::mpsc::channel();
        // More than is collected before the disk is asked, twice.
        rows.send((0..2_000).map(row).collect()).unwrap();
        rows.send((2_000..2_500).map(row).collect()).unwrap();
        drop(rows);
        let error = recorder
            .run(&batches, |stop| ended.send(stop).unwrap())
            .unwrap_err()
            .to_string();
        drop(ended);
        let stops: Vec<Stop> = stops.iter().collect();
        assert!(matches!(stops[..], [Stop::CannotRecord(_)]), "{stops:?}");
        let name = rescue.display().to_string();
        assert!(
            error.contains("requests.jsonl") && error.contains(&name),
            "{error}"
        );
        let saved = std::fs::read_to_string(&rescue).unwrap();
        assert_eq!(saved.lines().count(), 2_500);
    }
}
