//! Threads that compute one batch together, a few times a layer in step.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Looks at the others this often before it lets the system run something else.
const SPINS: usize = 4096;

/// Where `parties` threads wait for each other. They wait busily at first, since the others are
/// microseconds away and being woken takes tens; then they give their time away, since there may be
/// fewer processors than threads.
pub(super) struct Barrier {
    parties: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
    broken: AtomicBool,
}

impl Barrier {
    pub(super) fn new(parties: usize) -> Self {
        Self {
            parties,
            arrived: AtomicUsize::new(0),
            round: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// Returns when all have called it.
    ///
    /// # Panics
    /// When one of them panicked, since it would be waited for in vain.
    pub(super) fn wait(&self) {
        if self.parties == 1 {
            return;
        }
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.parties {
            self.arrived.store(0, Ordering::Release);
            self.round.fetch_add(1, Ordering::AcqRel);
            return;
        }
        let mut spins = 0;
        while self.round.load(Ordering::Acquire) == round {
            assert!(
                !self.broken.load(Ordering::Acquire),
                "another thread of this batch panicked"
            );
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// To be held while computing: tells the others if this thread panics.
    pub(super) fn watch(&self) -> Watch<'_> {
        Watch(self)
    }
}

pub(super) struct Watch<'a>(&'a Barrier);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_before_all_have_come() {
        let barrier = Barrier::new(3);
        let come = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 1..=50 {
                        come.fetch_add(1, Ordering::AcqRel);
                        barrier.wait();
                        assert!(come.load(Ordering::Acquire) >= 3 * round);
                        barrier.wait();
                    }
                });
            }
        });
        assert_eq!(come.into_inner(), 150);
    }

    #[test]
    fn a_panic_frees_those_who_wait() {
        let barrier = Barrier::new(2);
        let failed = std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                let _watch = barrier.watch();
                barrier.wait();
            });
            let panics = scope.spawn(|| {
                let _watch = barrier.watch();
                panic!("as the test asks");
            });
            (waits.join().is_err(), panics.join().is_err())
        });
        assert_eq!(failed, (true, true));
    }
}
