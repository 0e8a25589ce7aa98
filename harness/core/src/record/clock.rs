//! Another machine's clock against ours, by the `Date` headers of its answers.
//!
//! A `Date` holds whole seconds, cut off, and was written between the sending of a question and the
//! coming of its answer. One of them places the other clock within a second and the way there and back;
//! many, asked at all fractions of a second, within some milliseconds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::UnixNanos;

const SECOND: u64 = 1_000_000_000;

/// Where a clock lies against ours: its reading minus ours, in milliseconds.
///
/// With one clock behind an address, the truth lies between the two limits. Where the lower one is over
/// the upper one, several clocks that differ answer there, and each limit was shown by one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClockSeen {
    /// Answers that carried a time.
    pub answers: u64,
    /// The greatest lower limit that an answer set.
    pub least_ms: i64,
    /// The smallest upper limit that an answer set.
    pub most_ms: i64,
}

impl ClockSeen {
    /// By one answer: its `Date`, and our time when the question was sent and when the answer was there.
    #[must_use]
    pub fn of(date: UnixNanos, sent: UnixNanos, received: UnixNanos) -> Self {
        Self::within(date, SECOND, sent, received)
    }

    /// By one reading that is cut off to a multiple of `grain` nanoseconds, made between these two of our
    /// instants.
    #[must_use]
    pub fn within(read: UnixNanos, grain: u64, sent: UnixNanos, received: UnixNanos) -> Self {
        let read = i128::from(read.0);
        let ms = |nanos: i128| i64::try_from(nanos.div_euclid(1_000_000)).unwrap_or(i64::MAX);
        Self {
            answers: 1,
            // Rounded outwards.
            least_ms: ms(read - i128::from(received.0)),
            most_ms: ms(read + i128::from(grain) - i128::from(sent.0)).saturating_add(1),
        }
    }

    /// By the answers of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            answers: self.answers.saturating_add(other.answers),
            least_ms: self.least_ms.max(other.least_ms),
            most_ms: self.most_ms.min(other.most_ms),
        }
    }

    /// Seconds by which it is ahead of ours at least; 0 where it may agree or be behind.
    #[must_use]
    pub fn ahead(&self) -> f64 {
        self.least_ms.max(0) as f64 / 1000.0
    }

    /// Seconds by which it is behind ours at least; 0 where it may agree or be ahead.
    #[must_use]
    pub fn behind(&self) -> f64 {
        self.most_ms.min(0).saturating_neg() as f64 / 1000.0
    }

    /// The larger of [`Self::ahead`] and [`Self::behind`].
    #[must_use]
    pub fn apart(&self) -> f64 {
        self.ahead().max(self.behind())
    }
}

impl std::fmt::Display for ClockSeen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.ahead(), self.behind()) {
            (0.0, 0.0) => write!(
                f,
                "may agree with ours (between {:.3} s behind and {:.3} s ahead)",
                self.least_ms.min(0).saturating_neg() as f64 / 1000.0,
                self.most_ms.max(0) as f64 / 1000.0
            ),
            (ahead, 0.0) => write!(f, "is {ahead:.1} s ahead of ours at least"),
            (0.0, behind) => write!(f, "is {behind:.1} s behind ours at least"),
            (ahead, behind) => write!(
                f,
                "is {ahead:.1} s ahead of ours in some answers and {behind:.1} s behind in others"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const AT: u64 = 784_111_777;

    /// An answer dated `AT` that took from `sent` to `received`, milliseconds after `AT`.
    fn seen(sent: i64, received: i64) -> ClockSeen {
        let at = |ms: i64| UnixNanos((AT * S).saturating_add_signed(ms * 1_000_000));
        ClockSeen::of(UnixNanos(AT * S), at(sent), at(received))
    }

    #[test]
    fn a_date_is_held_against_the_time_in_which_it_was_written() {
        assert_eq!(seen(400, 500).apart(), 0.0);
        assert_eq!(seen(990, 1_100).apart(), 0.0);
        assert_eq!(seen(4_000, 4_100).behind(), 2.999);
        assert_eq!(seen(4_000, 4_100).ahead(), 0.0);
        assert_eq!(seen(-8_200, -8_000).ahead(), 8.0);
    }

    #[test]
    fn many_answers_place_a_clock_more_narrowly_than_one() {
        // 0.4 s ahead: at our 0.1 s it shows 0.5, at our 0.6 s it is past the second.
        let one = seen(100, 110);
        assert_eq!((one.ahead(), one.behind()), (0.0, 0.0));
        let both = one.and(seen(-390, -380));
        assert_eq!(both.ahead(), 0.38);
        assert_eq!((both.answers, both.most_ms), (2, 901));
    }

    #[test]
    fn two_clocks_behind_one_address_are_both_held_against_ours() {
        let both = seen(-5_000, -4_990).and(seen(9_000, 9_010));
        assert_eq!((both.ahead(), both.behind()), (4.99, 7.999));
        assert!(both.to_string().contains("in others"), "{both}");
    }

    #[test]
    fn times_at_the_edge_of_what_can_be_held_break_nothing() {
        let far = ClockSeen::of(UnixNanos(u64::MAX), UnixNanos(0), UnixNanos(0));
        assert!(far.ahead() > 1e9);
        let none = ClockSeen::of(UnixNanos(0), UnixNanos(u64::MAX), UnixNanos(u64::MAX));
        assert!(none.behind() > 1e9 && none.and(far).apart() > 1e9);
    }
}
