//! A timer finer than the runtime's, which counts in milliseconds.

use std::io;
use std::time::Instant;

/// Waits for instants, on Linux by a kernel timer (`timerfd`) that the event loop waits for together
/// with its sockets; elsewhere by the runtime's own, which is a millisecond coarse.
#[derive(Debug)]
pub(crate) struct Alarm {
    #[cfg(target_os = "linux")]
    timer: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
    #[cfg(target_os = "linux")]
    set: Option<Instant>,
}

#[cfg(target_os = "linux")]
impl Alarm {
    /// A timer that is not set. Needs a runtime around it.
    ///
    /// # Errors
    /// When the system gives none.
    #[allow(
        deprecated,
        reason = "unsound for what lends its descriptor only; this one owns it, and its successor is unsafe to call"
    )]
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self {
            timer: tokio::io::unix::AsyncFd::new(timer)?,
            set: None,
        })
    }

    /// Returns at `instant`, or at once when it is past. May be given up and called again.
    pub(crate) async fn at(&mut self, instant: Instant) {
        loop {
            let left = instant.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if self.set != Some(instant) && self.arm(left).is_err() {
                return tokio::time::sleep_until(instant.into()).await;
            }
            self.set = Some(instant);
            match self.timer.readable().await {
                // The count of expirations is not read: setting the timer again clears it, and the
                // event loop hears of expirations, not of counts.
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return tokio::time::sleep_until(instant.into()).await,
            }
        }
    }

    fn arm(&self, left: std::time::Duration) -> io::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let time = Itimerspec {
            it_interval: zero,
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &time)?;
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// The runtime's timer.
    ///
    /// # Errors
    /// None here.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Returns at `instant`, or at once when it is past.
    pub(crate) async fn at(&mut self, instant: Instant) {
        tokio::time::sleep_until(instant.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn it_rings_again_and_again_and_never_early() {
        let mut alarm = Alarm::new().unwrap();
        for _ in 0..20 {
            let instant = Instant::now() + Duration::from_micros(300);
            alarm.at(instant).await;
            assert!(Instant::now() >= instant);
        }
        alarm.at(Instant::now()).await;
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_does_not_spoil_the_next() {
        let mut alarm = Alarm::new().unwrap();
        let far = Instant::now() + Duration::from_secs(3600);
        tokio::select! {
            () = alarm.at(far) => panic!("an hour is not over"),
            () = tokio::task::yield_now() => {}
        }
        let near = Instant::now() + Duration::from_millis(1);
        alarm.at(near).await;
        assert!(Instant::now() >= near);
    }
}
