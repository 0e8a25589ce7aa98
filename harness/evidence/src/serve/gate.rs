//! How many queries run at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Queries that run at once, as Prometheus ships it.
const RUNNING: usize = 20;
/// Queries that wait, as Tempo ships it for one tenant.
const WAITING: usize = 2_000;

/// Lets a bounded number of queries of one API run, and a bounded number wait for a bounded time. Beyond
/// that the caller is told, in the API's own words: memory and threads have an end, and an answer that
/// comes after everybody has gone helps nobody.
#[derive(Clone)]
pub(super) struct Gate {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Why a query may not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Busy {
    /// As many wait as may.
    Full,
    /// It waited for as long as it may take.
    Late,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(RUNNING, WAITING)
    }
}

impl Gate {
    pub(super) fn new(running: usize, waiting: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running)),
            waiting: Arc::new(Semaphore::new(waiting)),
        }
    }

    /// Waits until the query may run. It runs for as long as what this gives is held.
    pub(super) async fn enter(&self, patience: Duration) -> Result<OwnedSemaphorePermit, Busy> {
        if let Ok(permit) = self.running.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _place = self.waiting.try_acquire().map_err(|_| Busy::Full)?;
        let freed = self.running.clone().acquire_owned();
        match tokio::time::timeout(patience, freed).await {
            Ok(Ok(permit)) => Ok(permit),
            // Nothing closes it.
            Ok(Err(_)) | Err(_) => Err(Busy::Late),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn who_comes_late_waits_and_who_comes_later_is_told() {
        let gate = Gate::new(1, 1);
        let first = gate.enter(LONG).await.expect("a free gate");
        assert_eq!(gate.enter(Duration::ZERO).await.err(), Some(Busy::Late));
        let mut second = Box::pin(gate.enter(LONG));
        tokio::select! {
            biased;
            _ = &mut second => panic!("two at once"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(gate.enter(LONG).await.err(), Some(Busy::Full));
        drop(first);
        let second = second.await.expect("its turn");
        assert_eq!(gate.enter(Duration::ZERO).await.err(), Some(Busy::Late));
        drop(second);
        assert!(gate.enter(Duration::ZERO).await.is_ok());
    }
}
