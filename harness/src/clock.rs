//! The run's clock: monotonic, read against the wall clock once.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness_core::units::{Nanos, UnixNanos};

/// The instant `Nanos(0)` on the monotonic clock and on the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    zero: Instant,
    wall: UnixNanos,
}

impl Clock {
    /// A clock whose zero lies `lead` from now, so that everything is in place when it comes.
    #[must_use]
    pub fn starting_in(lead: Duration) -> Self {
        let zero = now() + lead;
        let wall = UnixNanos(wall_now().0 + Nanos::from_duration(lead).0);
        Self { zero, wall }
    }

    /// A clock whose zero is an instant of the wall clock still to come; `None` when it has passed.
    #[must_use]
    pub fn starting_at(wall: UnixNanos) -> Option<Self> {
        let (zero, now) = (now(), wall_now());
        let lead = wall.0.checked_sub(now.0)?;
        Some(Self {
            zero: zero + Nanos(lead).as_duration(),
            wall,
        })
    }

    /// A clock whose zero is the first whole second of the wall clock at least `lead` from now. Tempo
    /// counts spans by whole seconds: what was asked of the target before zero, to see whether it is
    /// ready, is then never counted with the load, and phases of whole seconds are counted whole.
    #[must_use]
    pub fn starting_on_a_second(lead: Duration) -> Self {
        const SECOND: u64 = 1_000_000_000;
        let (zero, at) = (now(), wall_now().0);
        let wall = (at + Nanos::from_duration(lead).0).div_ceil(SECOND) * SECOND;
        Self {
            zero: zero + Duration::from_nanos(wall - at),
            wall: UnixNanos(wall),
        }
    }

    /// Time since zero; zero before it.
    #[must_use]
    pub fn now(&self) -> Nanos {
        Nanos::from_duration(now().saturating_duration_since(self.zero))
    }

    /// How long until `at`; zero when it is past.
    #[must_use]
    pub fn until(&self, at: Nanos) -> Duration {
        self.instant(at).saturating_duration_since(now())
    }

    /// `at` as an instant of the monotonic clock.
    #[must_use]
    pub fn instant(&self, at: Nanos) -> Instant {
        self.zero + at.as_duration()
    }

    /// Wall-clock time of zero.
    #[must_use]
    pub fn started(&self) -> UnixNanos {
        self.wall
    }
}

/// The monotonic clock now. It is the system's; in a runtime whose time is paused, as tests pause it,
/// it is the runtime's.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock now.
#[must_use]
pub fn wall_now() -> UnixNanos {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixNanos(Nanos::from_duration(since).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_begins_on_a_whole_second_not_sooner_than_asked() {
        let soonest = wall_now().0 + 200_000_000;
        let clock = Clock::starting_on_a_second(Duration::from_millis(200));
        assert_eq!(clock.started().0 % 1_000_000_000, 0);
        assert!(clock.started().0 >= soonest);
    }
}
