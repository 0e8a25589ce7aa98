//! How often pacing may wake: one wake for several requests where they come thick.

use crate::units::Nanos;

/// Wakes at full precision that are saved up while few are needed. A Poisson process at half the rate
/// of `1 / slack` uses more than these less than once in ten thousand requests.
const SPARE: u64 = 16;

/// A limit on wakes, as a virtual scheduling algorithm (ITU-T I.371, the generic cell rate algorithm):
/// on average one in `slack`, and `SPARE` more that were not needed before.
///
/// A wake costs a generator more than the request it wakes for: the processor leaves its idle state,
/// the timer is programmed, caches are cold. Beyond `1 / slack` requests a second one wake therefore
/// serves all that became due since the one before. None is sent before it is due, none later than
/// `slack` after, and below that rate each is woken for as it is due.
#[derive(Debug, Clone, Copy)]
pub struct Wakes {
    slack: u64,
    /// When the next wake would come if they came evenly.
    even: u64,
}

impl Wakes {
    /// Wakes that may come up to `slack` late; zero: each to the instant.
    #[must_use]
    pub fn new(slack: Nanos) -> Self {
        Self {
            slack: slack.0,
            even: 0,
        }
    }

    /// When to wake for what is due at `due`: then, or at most the slack later.
    #[must_use]
    pub fn at(&self, due: Nanos) -> Nanos {
        let earliest = self.even.saturating_sub(SPARE.saturating_mul(self.slack));
        Nanos(earliest.clamp(due.0, due.0.saturating_add(self.slack)))
    }

    /// A timer rang at `at`.
    pub fn woke(&mut self, at: Nanos) {
        self.even = self.even.max(at.0).saturating_add(self.slack);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    /// Instants of sending, and how many wakes they took, of a generator that takes no time itself.
    fn sent(dues: &[u64], slack: u64) -> (Vec<u64>, usize) {
        let mut wakes = Wakes::new(Nanos(slack));
        let (mut now, mut count, mut sent) = (0, 0, Vec::new());
        for due in dues {
            if *due > now {
                now = wakes.at(Nanos(*due)).0;
                wakes.woke(Nanos(now));
                count += 1;
            }
            sent.push(now);
        }
        (sent, count)
    }

    #[test]
    fn a_low_rate_is_sent_to_the_instant() {
        let dues: Vec<u64> = (1..5_000).map(|n| n * MS).collect();
        assert_eq!(sent(&dues, MS), (dues.clone(), dues.len()));
        // Ten at nearly the same time, every 20 ms.
        let bursts: Vec<u64> = (0..5_000)
            .map(|n| (n / 10 + 1) * 20 * MS + n % 10 * 1_000)
            .collect();
        assert_eq!(sent(&bursts, MS), (bursts.clone(), bursts.len()));
    }

    #[test]
    fn a_high_rate_takes_one_wake_in_a_slack() {
        let dues: Vec<u64> = (1..50_000).map(|n| n * MS / 5).collect();
        let (sent, wakes) = sent(&dues, MS);
        assert!((9_990..10_030).contains(&wakes), "{wakes}");
        let late: u64 = dues.iter().zip(&sent).map(|(due, sent)| sent - due).sum();
        assert!(late / 50_000 < MS / 2, "{late}");
    }

    #[test]
    fn without_slack_each_is_woken_for() {
        let dues: Vec<u64> = (1..5_000).collect();
        assert_eq!(sent(&dues, 0), (dues.clone(), dues.len()));
    }

    proptest! {
        #[test]
        fn never_early_and_never_later_than_the_slack(
            gaps in prop::collection::vec(0_u64..3_000_000, 1..400),
            slack in 0_u64..2_000_000,
        ) {
            let dues: Vec<u64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let (sent, wakes) = sent(&dues, slack);
            for (due, sent) in dues.iter().zip(&sent) {
                prop_assert!(sent >= due && sent - due <= slack);
            }
            let most = dues[dues.len() - 1] / slack.max(1) + 2 + SPARE;
            prop_assert!(slack == 0 || wakes as u64 <= most);
        }
    }
}
