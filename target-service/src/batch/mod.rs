//! Queue, limits and now, to batches. Pure: no clock, no thread, no IO, so that every decision can
//! be tested by giving it a time.
//!
//! The rules, in the order in which a request meets them:
//! 1. A full queue refuses ([`Refusal::Full`]); capacity counts those waiting, not those computed.
//! 2. If what is ahead of a request would, by the measured pace, take until after its deadline, it
//!    is refused at the door ([`Refusal::TooLate`]): an early refusal lets the caller try elsewhere.
//! 3. A worker that is free takes a batch at once. There is no wait for company: batches grow by
//!    themselves while all workers are busy, and an idle service answers at the model's own speed.
//! 4. A batch is in order of arrival, at most `max_batch` requests and `max_batch_tokens` tokens. A
//!    request larger than the token budget makes a batch of its own, or it would wait for ever.
//! 5. A request whose deadline has passed leaves as expired; it never costs the model time.
//!
//! Times are `Duration`s since an instant of the caller's choosing.

mod pace;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

pub use pace::Pace;

/// The bounds of a queue. All at least 1; zero is read as 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests in one batch, at most.
    pub max_batch: usize,
    /// Tokens in one batch, at most, unless a single request has more.
    pub max_batch_tokens: usize,
    /// Requests waiting, at most.
    pub capacity: usize,
    /// Workers that take batches at the same time; only used to foresee the wait.
    pub workers: usize,
}

/// Names a waiting request for [`Queue::cancel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(u64);

/// A waiting request.
#[derive(Debug)]
pub struct Entry<T> {
    /// Its name.
    pub id: EntryId,
    /// Its size.
    pub tokens: usize,
    /// When it joined.
    pub enqueued: Duration,
    /// After this instant nobody wants the answer.
    pub deadline: Duration,
    /// What the caller attached.
    pub item: T,
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// As many wait as may.
    Full {
        /// How long, by the measured pace, until what waits now is done; zero when unknown.
        backlog: Duration,
    },
    /// It would be answered after its deadline.
    TooLate {
        /// How long, by the measured pace, until it would be answered.
        expected: Duration,
    },
}

/// What a free worker is to do.
#[derive(Debug)]
pub struct Taken<T> {
    /// To be computed together; empty when nothing waits.
    pub batch: Vec<Entry<T>>,
    /// To be told that their deadline has passed.
    pub expired: Vec<Entry<T>>,
}

impl<T> Taken<T> {
    /// Tokens of the batch.
    pub fn tokens(&self) -> usize {
        self.batch.iter().map(|e| e.tokens).sum()
    }
}

/// A bounded first-in-first-out queue that hands out batches.
#[derive(Debug)]
pub struct Queue<T> {
    limits: Limits,
    waiting: VecDeque<Entry<T>>,
    waiting_tokens: usize,
    in_flight_tokens: usize,
    next_id: u64,
    pace: Pace,
}

impl<T> Queue<T> {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits {
            max_batch: limits.max_batch.max(1),
            max_batch_tokens: limits.max_batch_tokens.max(1),
            capacity: limits.capacity.max(1),
            workers: limits.workers.max(1),
        };
        Queue {
            limits,
            waiting: VecDeque::with_capacity(limits.capacity.min(4096)),
            waiting_tokens: 0,
            in_flight_tokens: 0,
            next_id: 0,
            pace: Pace::default(),
        }
    }

    /// Requests waiting.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The bounds in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Lets a request in, or says why not and gives it back.
    ///
    /// # Errors
    /// [`Refusal::Full`] at capacity, [`Refusal::TooLate`] when its deadline cannot be met.
    pub fn offer(
        &mut self,
        now: Duration,
        tokens: usize,
        deadline: Duration,
        item: T,
    ) -> Result<EntryId, (Refusal, T)> {
        if self.waiting.len() >= self.limits.capacity {
            let backlog = self.wait_for(self.waiting_tokens + self.in_flight_tokens);
            return Err((Refusal::Full { backlog }, item));
        }
        let expected = self.expected_wait(tokens);
        if deadline <= now || now.saturating_add(expected) > deadline {
            return Err((Refusal::TooLate { expected }, item));
        }
        let id = EntryId(self.next_id);
        self.next_id += 1;
        self.waiting_tokens += tokens;
        self.waiting.push_back(Entry {
            id,
            tokens,
            enqueued: now,
            deadline,
            item,
        });
        Ok(id)
    }

    /// Takes a request out that nobody waits for any more. `None` when it has left already.
    pub fn cancel(&mut self, id: EntryId) -> Option<T> {
        // Ids grow along the queue, so a binary search finds it.
        let at = self.waiting.binary_search_by_key(&id, |e| e.id).ok()?;
        let entry = self.waiting.remove(at)?;
        self.waiting_tokens -= entry.tokens;
        Some(entry.item)
    }

    /// What a free worker is to do now. The batch counts as in flight until [`Queue::finished`].
    pub fn take(&mut self, now: Duration) -> Taken<T> {
        let mut taken = Taken {
            batch: Vec::new(),
            expired: Vec::new(),
        };
        let mut tokens = 0usize;
        while let Some(head) = self.waiting.front() {
            let late = head.deadline <= now;
            let fits = taken.batch.is_empty()
                || (taken.batch.len() < self.limits.max_batch
                    && tokens.saturating_add(head.tokens) <= self.limits.max_batch_tokens);
            if !late && !fits {
                break;
            }
            let Some(entry) = self.waiting.pop_front() else {
                break;
            };
            self.waiting_tokens -= entry.tokens;
            if late {
                taken.expired.push(entry);
            } else {
                tokens += entry.tokens;
                taken.batch.push(entry);
            }
        }
        self.in_flight_tokens += tokens;
        taken
    }

    /// Tells that a batch of `tokens` left a worker after `took`. `learn` is false when the time
    /// says nothing of the model's pace (it failed).
    pub fn finished(&mut self, tokens: usize, took: Duration, learn: bool) {
        self.in_flight_tokens = self.in_flight_tokens.saturating_sub(tokens);
        if learn {
            self.pace.observe(tokens, took);
        }
    }

    /// How long a request of `tokens` would wait for its answer if it joined now. Zero for an idle
    /// service: there the request is tried whatever was measured before, so that a pace measured
    /// in a bad moment cannot shut the door for good.
    fn expected_wait(&self, tokens: usize) -> Duration {
        if self.waiting.is_empty() && self.in_flight_tokens == 0 {
            return Duration::ZERO;
        }
        let ahead = self.wait_for(self.waiting_tokens + self.in_flight_tokens);
        ahead.saturating_add(self.pace.estimate(tokens))
    }

    fn wait_for(&self, tokens: usize) -> Duration {
        let workers = u32::try_from(self.limits.workers).unwrap_or(u32::MAX);
        self.pace.estimate(tokens) / workers
    }
}
