//! Which sequences of a causal model are computed together, token by token. Pure, as its parent is.
//!
//! A sequence reads its prompt and then writes, a token a step. The rules:
//! 1. At most [`Limits::places`] sequences are under way; the others wait in order of arrival, at most
//!    [`Limits::capacity`] of them, and whoever comes beyond that is refused ([`Refusal::Full`]).
//! 2. If by the measured pace the first token would come after the deadline, the request is refused at the
//!    door ([`Refusal::TooLate`]). What waits until that is so leaves as expired.
//! 3. Every step computes the next token of all that write, and beside them at most [`Limits::chunk`] tokens
//!    of prompts, the oldest first ([`plan`]). So a long prompt delays the others' next token by a bounded
//!    time, and short requests are not held up behind long ones: each has its token every step.

use std::collections::VecDeque;
use std::time::Duration;

use super::{EntryId, Pace, Refusal};

/// The bounds. Counts are at least 1; zero is read as 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests waiting, at most.
    pub capacity: usize,
    /// Sequences under way, at most, of all workers together.
    pub places: usize,
    /// Tokens of prompts in one step, at most.
    pub chunk: usize,
    /// Workers; only used to foresee the wait.
    pub workers: usize,
}

/// The size of a request, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// To be read.
    pub prompt: usize,
    /// To be written, at most.
    pub most: usize,
}

/// A waiting request.
#[derive(Debug)]
pub struct Entry<T> {
    /// Its name.
    pub id: EntryId,
    /// Its size.
    pub want: Want,
    /// When it joined.
    pub enqueued: Duration,
    /// After this instant nobody wants the answer.
    pub deadline: Duration,
    /// What the caller attached.
    pub item: T,
    /// Came when nothing was ahead of it: computed whatever was measured before.
    probe: bool,
}

/// What a worker with free places is to do.
#[derive(Debug)]
pub struct Taken<T> {
    /// To be begun. They are under way until [`Turns::left`].
    pub begun: Vec<Entry<T>>,
    /// To be told that they cannot be answered in time.
    pub expired: Vec<Entry<T>>,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    id: EntryId,
    /// Tokens of the prompt that are still to be read.
    unread: usize,
    written: usize,
    most: usize,
}

/// Requests waiting and sequences under way.
#[derive(Debug)]
pub struct Turns<T> {
    limits: Limits,
    waiting: VecDeque<Entry<T>>,
    running: Vec<Running>,
    next_id: u64,
    pace: Pace,
    /// Tokens that a sequence writes, a mean in which the newest is an eighth; `None` before the first.
    length: Option<f64>,
}

impl<T> Turns<T> {
    /// Nobody yet.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits {
            capacity: limits.capacity.max(1),
            places: limits.places.max(1),
            chunk: limits.chunk.max(1),
            workers: limits.workers.max(1),
        };
        Turns {
            limits,
            waiting: VecDeque::new(),
            running: Vec::new(),
            next_id: 0,
            pace: Pace::default(),
            length: None,
        }
    }

    /// The bounds in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Requests waiting.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences under way.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether a request would be let in now.
    ///
    /// # Errors
    /// [`Refusal::Full`] at capacity, [`Refusal::TooLate`] when its first token would come too late.
    pub fn admits(&self, now: Duration, want: Want, deadline: Duration) -> Result<(), Refusal> {
        let patience = deadline.saturating_sub(now);
        if self.waiting.len() >= self.limits.capacity {
            let nothing = Want { prompt: 0, most: 0 };
            let backlog = self.until_first(nothing);
            return Err(Refusal::Full { backlog });
        }
        // An idle service tries whatever was measured before; see `batch`.
        let expected = match self.is_idle() {
            true => Duration::ZERO,
            false => self.until_first(want),
        };
        if patience.is_zero() || expected > patience {
            return Err(Refusal::TooLate { expected });
        }
        Ok(())
    }

    /// Lets a request in, or says why not and gives it back.
    ///
    /// # Errors
    /// As [`Turns::admits`].
    pub fn offer(
        &mut self,
        now: Duration,
        deadline: Duration,
        want: Want,
        item: T,
    ) -> Result<EntryId, (Refusal, T)> {
        if let Err(refusal) = self.admits(now, want, deadline) {
            return Err((refusal, item));
        }
        let id = EntryId(self.next_id);
        self.next_id += 1;
        let probe = self.is_idle();
        self.waiting.push_back(Entry {
            id,
            want,
            enqueued: now,
            deadline,
            item,
            probe,
        });
        Ok(id)
    }

    /// Takes out a request that nobody waits for any more. `None` when it has left already.
    pub fn cancel(&mut self, id: EntryId) -> Option<T> {
        // Ids grow along the queue, so a binary search finds it.
        let at = self
            .waiting
            .binary_search_by_key(&id, |entry| entry.id)
            .ok()?;
        self.waiting.remove(at).map(|entry| entry.item)
    }

    /// What a worker that could begin `free` sequences is to do now.
    pub fn take(&mut self, now: Duration, free: usize) -> Taken<T> {
        let (mut begun, mut expired) = (Vec::new(), Vec::new());
        while begun.len() < free {
            let Some(entry) = self.waiting.pop_front() else {
                break;
            };
            let steps = entry.want.prompt.div_ceil(self.limits.chunk);
            let end = now.saturating_add(self.pace.estimate(steps, entry.want.prompt));
            if entry.deadline <= now || (!entry.probe && end > entry.deadline) {
                expired.push(entry);
                continue;
            }
            self.running.push(Running {
                id: entry.id,
                unread: entry.want.prompt,
                written: 0,
                most: entry.want.most,
            });
            begun.push(entry);
        }
        Taken { begun, expired }
    }

    /// Tells that a step of `tokens` in all took `took`, in which `read` tokens of each sequence's prompt
    /// were read, or a token written where that is zero.
    pub fn stepped(&mut self, tokens: usize, took: Duration, sequences: &[(EntryId, usize)]) {
        self.pace.observe(tokens, took);
        for (id, read) in sequences {
            let Some(running) = self.running.iter_mut().find(|running| running.id == *id) else {
                continue;
            };
            running.unread = running.unread.saturating_sub(*read);
            // The step that reads the last of a prompt gives the first token.
            running.written += usize::from(running.unread == 0);
        }
    }

    /// Tells that a sequence is over.
    pub fn left(&mut self, id: EntryId) {
        let Some(at) = self.running.iter().position(|running| running.id == id) else {
            return;
        };
        let written = self.running.swap_remove(at).written as f64;
        self.length = Some(
            self.length
                .map_or(written, |mean| (mean * 7.0 + written) / 8.0),
        );
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// How long until the first token of one more request, if it joined now: until a place is free, by the
    /// tokens that those ahead are expected to write still, and until all prompts ahead and its own are
    /// read, a chunk a step beside those that write.
    fn until_first(&self, want: Want) -> Duration {
        let Limits { places, chunk, .. } = self.limits;
        let ahead = self.running.len() + self.waiting.len();
        let waiting: usize = self.waiting.iter().map(|entry| entry.want.prompt).sum();
        let unread: usize = self.running.iter().map(|running| running.unread).sum();
        let prompts = unread + waiting + want.prompt;
        let steps = prompts.div_ceil(chunk);
        let beside = steps * ahead.min(places);
        let workers = u32::try_from(self.limits.workers).unwrap_or(u32::MAX);
        let reading = self.pace.estimate(steps, prompts + beside) / workers;
        if ahead < places {
            return reading;
        }
        let expected = |most: usize| {
            self.length
                .map_or(most as f64, |mean| mean.min(most as f64))
        };
        let running = self.running.iter().map(|running| {
            let rest = running.most.saturating_sub(running.written);
            (expected(running.most) - running.written as f64).clamp(1.0, rest.max(1) as f64)
        });
        let waiting = self.waiting.iter().map(|entry| expected(entry.want.most));
        let tokens: f64 = running.chain(waiting).sum();
        // So many must leave before a place is free, of `ahead` that share `tokens`.
        let share = (ahead + 1 - places) as f64 / ahead as f64;
        let step = self.pace.estimate(1, places.div_ceil(self.limits.workers));
        reading.saturating_add(step.mul_f64(tokens * share / places as f64))
    }
}

/// How many tokens of each sequence are computed in the next step. `unread` says how many of each one's prompt
/// are left, in order of arrival; zero is a sequence that writes.
pub fn plan(unread: &[usize], chunk: usize) -> Vec<usize> {
    let mut left = chunk.max(1);
    let mut next = |unread: &usize| match *unread {
        0 => 1,
        unread => {
            let read = unread.min(left);
            left -= read;
            read
        }
    };
    unread.iter().map(&mut next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn turns(capacity: usize, places: usize) -> Turns<u32> {
        Turns::new(Limits {
            capacity,
            places,
            chunk: 8,
            workers: 1,
        })
    }

    /// Teaches a pace of 10 ms a step and 1 ms a token.
    fn teach(turns: &mut Turns<u32>) {
        for at in 0..20 {
            let tokens = 1 + at % 8;
            turns.stepped(tokens as usize, ms(10 + tokens), &[]);
        }
    }

    const SMALL: Want = Want {
        prompt: 8,
        most: 10,
    };

    #[test]
    fn a_step_has_a_token_of_each_that_writes_and_a_chunk_of_prompts() {
        assert_eq!(plan(&[0, 20, 0, 5], 8), [1, 8, 1, 0]);
        assert_eq!(plan(&[3, 20, 0], 8), [3, 5, 1]);
        assert_eq!(plan(&[0, 0], 8), [1, 1]);
        assert_eq!(plan(&[5], 0), [1], "no chunk at all would never end");
    }

    #[test]
    fn more_than_may_wait_are_refused() {
        let mut turns = turns(2, 1);
        let mut offer = |item| turns.offer(ms(0), ms(1000), SMALL, item);
        offer(1).unwrap();
        offer(2).unwrap();
        assert!(matches!(offer(3), Err((Refusal::Full { .. }, 3))));
        let begun = turns.take(ms(0), 1).begun;
        assert_eq!(begun[0].item, 1);
        turns.offer(ms(0), ms(1000), SMALL, 3).unwrap();
        assert_eq!((turns.waiting(), turns.running()), (2, 1));
    }

    #[test]
    fn who_would_wait_too_long_for_the_first_token_is_refused() {
        let mut turns = turns(100, 1);
        teach(&mut turns);
        // Idle: let in whatever was measured.
        turns.offer(ms(0), ms(1), SMALL, 1).unwrap();
        let begun = turns.take(ms(0), 1).begun;
        assert_eq!(begun.len(), 1);
        // Ten tokens of 11 ms each must be written before the place is free, and 16 be read in between.
        let refused = turns.offer(ms(0), ms(120), SMALL, 2);
        let Err((Refusal::TooLate { expected }, 2)) = refused else {
            panic!("{refused:?}");
        };
        assert!((ms(130)..ms(170)).contains(&expected), "{expected:?}");
        turns.offer(ms(0), ms(170), SMALL, 2).unwrap();
    }

    #[test]
    fn texts_that_end_early_are_learned_from() {
        let mut turns = turns(100, 1);
        teach(&mut turns);
        let long = Want {
            prompt: 8,
            most: 1000,
        };
        for _ in 0..30 {
            let id = turns.offer(ms(0), ms(100_000), long, 0).unwrap();
            turns.take(ms(0), 1);
            turns.stepped(8, ms(18), &[(id, 8)]);
            turns.stepped(1, ms(11), &[(id, 0)]);
            turns.left(id);
        }
        turns.offer(ms(0), ms(100_000), long, 0).unwrap();
        turns.take(ms(0), 1);
        let expected = turns.until_first(SMALL);
        assert!(
            expected < ms(100),
            "two tokens are usual, not 1000: {expected:?}"
        );
    }

    #[test]
    fn what_cannot_be_answered_any_more_expires_and_costs_nothing() {
        let mut turns = turns(100, 2);
        teach(&mut turns);
        turns.offer(ms(0), ms(1000), SMALL, 1).unwrap();
        turns.offer(ms(0), ms(500), SMALL, 2).unwrap();
        turns.offer(ms(0), ms(1000), SMALL, 3).unwrap();
        let taken = turns.take(ms(490), 2);
        let items = |entries: &[Entry<u32>]| entries.iter().map(|e| e.item).collect::<Vec<_>>();
        assert_eq!(items(&taken.begun), [1, 3]);
        assert_eq!(items(&taken.expired), [2]);
    }

    #[test]
    fn a_place_can_be_given_up() {
        let mut turns = turns(100, 1);
        let first = turns.offer(ms(0), ms(1000), SMALL, 1).unwrap();
        let second = turns.offer(ms(0), ms(1000), SMALL, 2).unwrap();
        assert_eq!(turns.cancel(first), Some(1));
        assert_eq!(turns.cancel(first), None);
        let taken = turns.take(ms(0), 4);
        assert_eq!(taken.begun[0].id, second);
        turns.left(second);
        assert_eq!((turns.waiting(), turns.running()), (0, 0));
    }
}
