//! Abort rules: whether to end a run that has already answered its question.

use std::collections::VecDeque;

use crate::observation::{Observation, Outcome};
use crate::scenario::{AbortRule, Condition, Scenario};
use crate::schedule::stretches;
use crate::units::Nanos;

/// A rule is silent below this many outcomes in its window. Fewer say little of a ratio: of 20
/// requests of a service that fails one in ten, more than half fail once in a million windows.
pub const ABORT_FLOOR: u64 = 20;
/// Parts that a window slides by: it is up to one part longer than the rule says.
const PARTS: u64 = 100;

/// Watches the abort rules of a scenario over sliding windows. Time is an argument.
#[derive(Debug, Clone)]
pub struct AbortWatch {
    rules: Vec<Rule>,
    /// The end of the schedule: what fails while the last requests are drained ends nothing early, since
    /// nothing is left to be sent.
    until: Nanos,
}

#[derive(Debug, Clone)]
struct Rule {
    text: AbortRule,
    condition: Condition,
    /// Length of a part, nanoseconds.
    part: u64,
    parts: VecDeque<Part>,
}

#[derive(Debug, Clone)]
struct Part {
    number: u64,
    /// Requests that count against the rule.
    bad: u64,
    total: u64,
}

impl AbortWatch {
    /// Nothing seen yet. Rules that the scenario's checks refuse are not watched.
    #[must_use]
    pub fn new(scenario: &Scenario) -> Self {
        let rules = scenario.spec.abort.iter().filter_map(|rule| {
            Some(Rule {
                condition: rule.condition().ok()?,
                part: rule.over.nanos().div_ceil(PARTS).max(1),
                text: rule.clone(),
                parts: VecDeque::new(),
            })
        });
        let ends = stretches(scenario).into_iter().map(|stretch| stretch.end);
        Self {
            rules: rules.collect(),
            until: ends.max().unwrap_or_default(),
        }
    }

    /// Takes in one outcome, at the instant at which it was known.
    pub fn record(&mut self, row: &Observation) {
        for rule in &mut self.rules {
            let bad = u64::from(match rule.condition {
                Condition::Errors(_) => row.outcome != Outcome::Expected,
                Condition::Dropped(_) => row.outcome == Outcome::Dropped,
                Condition::Slow { over, .. } => {
                    !row.outcome.answered() || row.latency().0 > over.nanos()
                }
            });
            let number = row.done.0 / rule.part;
            // Outcomes come nearly in order: look from the end.
            let place = rule.parts.iter().rposition(|part| part.number <= number);
            match place {
                Some(place) if rule.parts[place].number == number => {
                    rule.parts[place].bad += bad;
                    rule.parts[place].total += 1;
                }
                _ => {
                    let at = place.map_or(0, |place| place + 1);
                    rule.parts.insert(
                        at,
                        Part {
                            number,
                            bad,
                            total: 1,
                        },
                    );
                }
            }
            while rule.parts.len() as u64 > 4 * PARTS {
                rule.parts.pop_front();
            }
        }
    }

    /// The first rule that holds at `now`, in words. A rule holds when a whole window has passed
    /// since the start of the load, at least [`ABORT_FLOOR`] requests ended in it, and the share
    /// of them that count against it exceeds the rule's limit. None holds once the schedule is over: the
    /// run is complete then, whatever becomes of the requests still out.
    pub fn check(&mut self, now: Nanos) -> Option<String> {
        if now >= self.until {
            return None;
        }
        self.rules.iter_mut().find_map(|rule| rule.check(now))
    }
}

impl Rule {
    fn check(&mut self, now: Nanos) -> Option<String> {
        let this = now.0 / self.part;
        if now.0 < self.text.over.nanos() {
            return None;
        }
        let first = this.saturating_sub(PARTS);
        while self.parts.front().is_some_and(|part| part.number < first) {
            self.parts.pop_front();
        }
        let inside = self.parts.iter().filter(|part| part.number <= this);
        let (bad, total) = inside.fold((0, 0), |(bad, total), part| {
            (bad + part.bad, total + part.total)
        });
        let (limit, what) = match self.condition {
            Condition::Errors(limit) => (limit, "failed"),
            Condition::Dropped(limit) => (limit, "were dropped"),
            Condition::Slow { share, .. } => (share, "took longer"),
        };
        let holds = total >= ABORT_FLOOR && bad as f64 > limit * total as f64;
        holds.then(|| {
            let AbortRule { when, over } = &self.text;
            format!("{when}: {bad} of {total} requests {what} in the last {over}")
        })
    }
}
