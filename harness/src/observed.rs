//! Observations on their way from the thread that sends to the thread that records: in batches, so
//! that recording wakes a few times a second and not once a request.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use harness_core::observation::Observation;

/// Observations that are handed over at once.
const BATCH: usize = 256;
/// Longest that one waits for its batch to fill: the age of what the live line and abort rules see.
const LINGER: Duration = Duration::from_millis(50);

/// The sending end. What is left in it is handed over when the last one is dropped, which ends the
/// recording.
#[derive(Debug)]
pub struct Observed {
    batch: Mutex<Vec<Observation>>,
    out: Sender<Vec<Observation>>,
}

impl Observed {
    /// Both ends.
    #[must_use]
    pub fn channel() -> (Arc<Self>, Receiver<Vec<Observation>>) {
        let (out, batches) = mpsc::channel();
        let batch = Mutex::new(Vec::with_capacity(BATCH));
        (Arc::new(Self { batch, out }), batches)
    }

    /// Takes in an observation.
    pub fn push(&self, seen: Observation) {
        let mut batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
        batch.push(seen);
        if batch.len() >= BATCH {
            self.hand_over(&mut batch);
        }
    }

    fn hand_over(&self, batch: &mut Vec<Observation>) {
        if !batch.is_empty() {
            let whole = std::mem::replace(batch, Vec::with_capacity(BATCH));
            // Without a recorder there is nobody to tell; its own error says why it is gone.
            let _ = self.out.send(whole);
        }
    }

    /// Hands over what waits, again and again, until no sender is left.
    pub async fn keep_flushing(observed: Weak<Self>) {
        loop {
            tokio::time::sleep(LINGER).await;
            let Some(observed) = observed.upgrade() else {
                return;
            };
            observed.hand_over(
                &mut observed
                    .batch
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let batch = self.batch.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !batch.is_empty() {
            let _ = self.out.send(std::mem::take(batch));
        }
    }
}
