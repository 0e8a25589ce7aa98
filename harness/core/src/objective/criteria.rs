//! Criteria beside the target: `harness/warn`, a stricter one short of failing, and
//! `harness/baseline`, one against earlier runs.

use super::{Indicator, Op};
use crate::scenario::Dur;

/// A second, stricter criterion: short of it an objective that is met is warned about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Warn {
    /// Of a ratio: least share of good events, above the target and below 1.
    Share(f64),
    /// Of a threshold: a tighter limit, in the unit of the value.
    Limit {
        /// Same direction as the objective's own.
        op: Op,
        /// The limit.
        value: f64,
    },
}

/// How much worse than the baseline a value may be: `harness/baseline`.
///
/// What is compared is, of a ratio, the share of *bad* events, and of a threshold the value itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Baseline {
    /// How far it may move for the worse.
    pub allowance: Allowance,
    /// Which way is worse.
    pub worse: Worse,
}

/// How far a value may move from the baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowance {
    /// As a share of the baseline's value: 0.1 for `+10%`. Not negative.
    Relative(f64),
    /// In the unit of the value (seconds for `+5ms`). Not negative.
    Absolute(f64),
}

/// Which way a value gets worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worse {
    /// Higher: times, error shares, everything under a limit.
    Higher,
    /// Lower: everything that has to reach a limit.
    Lower,
}

impl Baseline {
    /// The worst value that is still no worse than allowed, seen from the baseline's value.
    #[must_use]
    pub fn limit(&self, baseline: f64) -> f64 {
        let room = match self.allowance {
            Allowance::Relative(share) => baseline.abs() * share,
            Allowance::Absolute(amount) => amount,
        };
        match self.worse {
            Worse::Higher => baseline + room,
            Worse::Lower => baseline - room,
        }
    }

    /// As it is written: `+10%`.
    #[must_use]
    pub fn text(&self) -> String {
        let sign = match self.worse {
            Worse::Higher => '+',
            Worse::Lower => '-',
        };
        match self.allowance {
            // A tenth of a thousandth of a percent is more than anybody asks for.
            Allowance::Relative(share) => {
                let percent = format!("{:.5}", share * 100.0);
                format!(
                    "{sign}{}%",
                    percent.trim_end_matches('0').trim_end_matches('.')
                )
            }
            Allowance::Absolute(amount) => format!("{sign}{amount}"),
        }
    }
}

impl Worse {
    /// Of this indicator's value (for a ratio, of its bad share).
    #[must_use]
    pub fn of(indicator: &Indicator) -> Self {
        match indicator {
            Indicator::Threshold {
                op: Op::Gte | Op::Gt,
                ..
            } => Self::Lower,
            Indicator::Threshold { .. } | Indicator::Ratio { .. } => Self::Higher,
        }
    }
}

/// What is wrong with a criterion, and what would be right.
pub(super) type Wrong = (String, &'static str);

const WARN_SHARE: &str = "a share above the target and below 1, such as \"0.995\" or \"99.5%\"";
const WARN_LIMIT: &str =
    "a limit tighter than the objective's, such as \"<= 200ms\", \"<= 0.2\" or \"0.2\"";
const BASELINE: &str = "how much worse than the baseline is still well: \"+10%\", \"+5ms\" or \"+0.002\"; with `-` where less is worse";

/// Reads `harness/warn` for one objective.
pub(super) fn warn(text: &str, indicator: &Indicator) -> Result<Warn, Wrong> {
    match indicator {
        Indicator::Ratio { target, .. } => {
            let share = share(text).ok_or_else(|| unread(text, WARN_SHARE))?;
            if share <= *target || share >= 1.0 {
                let message = format!("{share} is not stricter than the target {target}");
                return Err((message, WARN_SHARE));
            }
            Ok(Warn::Share(share))
        }
        Indicator::Threshold { op: own, value, .. } => {
            let (op, rest) = operator(text.trim());
            let op = op.unwrap_or(*own);
            let limit = amount(rest.trim()).ok_or_else(|| unread(text, WARN_LIMIT))?;
            let upper = |op| matches!(op, Op::Lte | Op::Lt);
            let tighter = if upper(*own) {
                limit < *value
            } else {
                limit > *value
            };
            if upper(op) != upper(*own) || !tighter {
                let message = format!(
                    "`{text}` is not stricter than the objective's `{} {value}`",
                    own.sign()
                );
                return Err((message, WARN_LIMIT));
            }
            Ok(Warn::Limit { op, value: limit })
        }
    }
}

/// Reads `harness/baseline` for one objective.
pub(super) fn baseline(text: &str, indicator: &Indicator) -> Result<Baseline, Wrong> {
    let worse = Worse::of(indicator);
    let (written, rest) = match text.trim().split_at_checked(1) {
        Some(("+", rest)) => (Worse::Higher, rest),
        Some(("-", rest)) => (Worse::Lower, rest),
        _ => return Err(unread(text, BASELINE)),
    };
    if written != worse {
        let message = format!("`{text}` allows to get better, which is always well");
        return Err((message, BASELINE));
    }
    let not_negative = |number: f64| (number >= 0.0).then_some(number);
    let allowance = match rest.strip_suffix('%') {
        Some(percent) => number(percent.trim()).map(|p| Allowance::Relative(p / 100.0)),
        None => match (indicator, number(rest)) {
            (Indicator::Ratio { .. }, amount) => amount.filter(|a| *a < 1.0),
            (Indicator::Threshold { .. }, _) => amount(rest),
        }
        .map(Allowance::Absolute),
    };
    let allowance = allowance.filter(|a| match a {
        Allowance::Relative(n) | Allowance::Absolute(n) => not_negative(*n).is_some(),
    });
    Ok(Baseline {
        allowance: allowance.ok_or_else(|| unread(text, BASELINE))?,
        worse,
    })
}

fn unread(text: &str, hint: &'static str) -> Wrong {
    (format!("`{text}` cannot be read"), hint)
}

fn operator(text: &str) -> (Option<Op>, &str) {
    [Op::Lte, Op::Gte, Op::Lt, Op::Gt]
        .into_iter()
        .find_map(|op| Some((Some(op), text.strip_prefix(op.sign())?)))
        .unwrap_or((None, text))
}

fn number(text: &str) -> Option<f64> {
    // Rust reads `inf`, `nan` and a second sign, too.
    text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        .then(|| text.parse().ok())?
        .filter(|n: &f64| n.is_finite())
}

fn share(text: &str) -> Option<f64> {
    let text = text.trim();
    match text.strip_suffix('%') {
        Some(percent) => number(percent.trim()).map(|p| p / 100.0),
        None => number(text),
    }
}

/// A number in the value's own unit, or a length of time in seconds.
fn amount(text: &str) -> Option<f64> {
    let signed = || match text.strip_prefix('-') {
        Some(rest) => number(rest).map(|n| -n),
        None => number(text),
    };
    let duration = || text.parse::<Dur>().ok().map(|d| d.0.as_secs_f64());
    signed().or_else(duration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::{Metric, Part};

    fn ratio(target: f64) -> Indicator {
        let metric = || Metric::Prometheus("x".into());
        Indicator::Ratio {
            part_is: Part::Good,
            part: metric(),
            total: metric(),
            counter: true,
            target,
        }
    }

    fn threshold(op: Op, value: f64) -> Indicator {
        Indicator::Threshold {
            metric: Metric::Prometheus("x".into()),
            op,
            value,
        }
    }

    #[test]
    fn a_warning_is_stricter_than_the_objective() {
        let (ratio, upper, lower) = (
            ratio(0.99),
            threshold(Op::Lte, 0.25),
            threshold(Op::Gte, 35.0),
        );
        assert_eq!(warn("0.995", &ratio), Ok(Warn::Share(0.995)));
        assert_eq!(warn("99.5%", &ratio), Ok(Warn::Share(0.995)));
        let limit = |op, value| Ok(Warn::Limit { op, value });
        assert_eq!(warn("<= 200ms", &upper), limit(Op::Lte, 0.2));
        assert_eq!(warn("< 0.2", &upper), limit(Op::Lt, 0.2));
        assert_eq!(warn("0.2", &upper), limit(Op::Lte, 0.2));
        assert_eq!(warn("40", &lower), limit(Op::Gte, 40.0));
        for (text, indicator) in [
            ("0.99", &ratio),
            ("0.9", &ratio),
            ("1", &ratio),
            ("<= 0.995", &ratio),
            ("NaN", &ratio),
            (">= 0.2", &upper),
            ("0.25", &upper),
            ("0.3", &upper),
            ("<= inf", &upper),
            ("<= 200 ms", &upper),
            ("35", &lower),
            ("<= 40", &lower),
            ("", &lower),
        ] {
            assert!(warn(text, indicator).is_err(), "{text}");
        }
    }

    #[test]
    fn a_baseline_says_how_much_worse_is_still_well() {
        let (ratio, upper, lower) = (
            ratio(0.99),
            threshold(Op::Lte, 0.25),
            threshold(Op::Gte, 35.0),
        );
        let read = |text, indicator| baseline(text, indicator).unwrap();
        assert!((read("+10%", &upper).limit(0.2) - 0.22).abs() < 1e-12);
        assert!((read("+5ms", &upper).limit(0.2) - 0.205).abs() < 1e-12);
        assert!((read("+0.01", &upper).limit(0.2) - 0.21).abs() < 1e-12);
        assert!((read("-5%", &lower).limit(40.0) - 38.0).abs() < 1e-12);
        assert!((read("+0.002", &ratio).limit(0.001) - 0.003).abs() < 1e-12);
        assert_eq!(read("+0%", &ratio).limit(0.001), 0.001);
        // Of a negative baseline a share is still room for the worse.
        assert!((read("+10%", &upper).limit(-1.0) + 0.9).abs() < 1e-12);
        assert_eq!(read("+12.5%", &upper).text(), "+12.5%");
        for (text, indicator) in [
            ("10%", &upper),
            ("-10%", &upper),
            ("+10%", &lower),
            ("+-5%", &upper),
            ("+", &upper),
            ("", &upper),
            ("+5ms", &ratio),
            ("+1", &ratio),
            ("+inf", &upper),
            ("+nan%", &upper),
            ("+ü", &upper),
        ] {
            assert!(baseline(text, indicator).is_err(), "{text}");
        }
    }
}
