//! Queue, limits and now, to batches. Pure: no clock, no thread, no IO, so that every decision can
//! be tested by giving it a time.
//!
//! The rules, in the order in which documents meet them:
//! 1. A full queue refuses ([`Refusal::Full`]); capacity counts those waiting, not those computed.
//! 2. If by the measured pace a request would be answered after its deadline, it is refused at the
//!    door ([`Refusal::TooLate`]): an early refusal lets the caller try elsewhere. The documents of one
//!    request go in together or not at all.
//! 3. A free worker takes a batch at once, unless company is on its way and worth waiting for
//!    ([`Queue::hold`]). An idle service never waits; a busy one needs not, since batches grow by
//!    themselves while all workers are busy.
//! 4. The oldest document is in every batch; then come, in order of arrival, those that fit: at most
//!    `max_batch` documents and `max_batch_tokens` tokens, and not more tokens than it takes to spread
//!    a batch's fixed cost thin ([`SHARED`]), since everybody in a batch waits for its end. A document that
//!    does not fit keeps its place. So the `n`-th in the queue is in one of the next `n` batches,
//!    however long it is, and short ones are not held up by a long one that fills the budget.
//! 5. A document that cannot be answered in time any more leaves as expired; it never costs the model
//!    time. One that would make a batch too late for another in it is left for the next.
//!
//! There is no padding here: the models take documents of any lengths together at the cost of their
//! tokens, so that there is nothing to be gained by sorting them.
//!
//! Sequences of a causal model are batched by rules of their own: [`turns`].
//!
//! Times are `Duration`s since an instant of the caller's choosing.

mod pace;
#[cfg(test)]
mod tests;
pub mod turns;

use std::collections::VecDeque;
use std::time::Duration;

pub use pace::{Arrivals, Pace};

/// A batch is large enough when its fixed cost is this part of the cost of its tokens: 5 %.
pub const SHARED: f64 = 20.0;

/// The bounds of a queue. Counts are at least 1; zero is read as 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Documents in one batch, at most.
    pub max_batch: usize,
    /// Tokens in one batch, at most, unless a single document has more.
    pub max_batch_tokens: usize,
    /// Documents waiting, at most.
    pub capacity: usize,
    /// Workers that take batches at the same time; only used to foresee the wait.
    pub workers: usize,
    /// How long the oldest may wait for company while a worker is free. Zero: never.
    pub max_hold: Duration,
}

/// Names a waiting document for [`Queue::cancel`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(u64);

/// A waiting document.
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
    /// Came when nothing was ahead of it: computed whatever was measured before.
    probe: bool,
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

/// Why a request was not let in, and its documents back.
pub type Refused<T> = (Refusal, Vec<(usize, T)>);

/// What a free worker is to do.
#[derive(Debug)]
pub struct Taken<T> {
    /// To be computed together; empty when nothing can be.
    pub batch: Vec<Entry<T>>,
    /// To be told that they cannot be answered in time.
    pub expired: Vec<Entry<T>>,
}

impl<T> Taken<T> {
    /// Tokens of the batch.
    pub fn tokens(&self) -> usize {
        self.batch.iter().map(|e| e.tokens).sum()
    }
}

/// A batch being computed.
#[derive(Debug, Clone, Copy)]
struct Running {
    since: Duration,
    tokens: usize,
}

/// A bounded queue that hands out batches.
#[derive(Debug)]
pub struct Queue<T> {
    limits: Limits,
    waiting: VecDeque<Entry<T>>,
    waiting_tokens: usize,
    running: Vec<Running>,
    next_id: u64,
    pace: Pace,
    arrivals: Arrivals,
}

impl<T> Queue<T> {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        let limits = Limits {
            max_batch: limits.max_batch.max(1),
            max_batch_tokens: limits.max_batch_tokens.max(1),
            capacity: limits.capacity.max(1),
            workers: limits.workers.max(1),
            max_hold: limits.max_hold,
        };
        Queue {
            limits,
            waiting: VecDeque::with_capacity(limits.capacity.min(4096)),
            waiting_tokens: 0,
            running: Vec::with_capacity(limits.workers.min(1024)),
            next_id: 0,
            pace: Pace::default(),
            arrivals: Arrivals::default(),
        }
    }

    /// Documents waiting.
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

    /// Whether `documents` of `tokens` in all would be let in now.
    ///
    /// # Errors
    /// [`Refusal::Full`] at capacity, [`Refusal::TooLate`] when the deadline cannot be met.
    pub fn admits(
        &self,
        now: Duration,
        documents: usize,
        tokens: usize,
        deadline: Duration,
    ) -> Result<(), Refusal> {
        if self.waiting.len().saturating_add(documents) > self.limits.capacity {
            let backlog = self.wait_for(now, 0, 0);
            return Err(Refusal::Full { backlog });
        }
        // An idle service tries whatever was measured before, so that a pace measured in a bad
        // moment cannot shut the door for good.
        let expected = if self.is_idle() {
            Duration::ZERO
        } else {
            self.wait_for(now, documents, tokens)
        };
        // Whoever comes to the front with barely time for itself forbids company, and an overloaded
        // service would end up computing one at a time. So time for a whole batch is kept, but no
        // more than a quarter of the caller's patience.
        let patience = deadline.saturating_sub(now);
        let spare = if self.is_idle() {
            Duration::ZERO
        } else {
            self.whole_batch()
                .saturating_sub(self.backlog(documents, tokens))
                .min(patience / 4)
        };
        if patience.is_zero() || expected.saturating_add(spare) > patience {
            return Err(Refusal::TooLate { expected });
        }
        Ok(())
    }

    /// Lets a request's documents in, each with its tokens, or says why not and gives them back.
    ///
    /// # Errors
    /// As [`Queue::admits`].
    pub fn offer(
        &mut self,
        now: Duration,
        deadline: Duration,
        documents: Vec<(usize, T)>,
    ) -> Result<Vec<EntryId>, Refused<T>> {
        let tokens = documents.iter().map(|(tokens, _)| tokens).sum();
        if let Err(refusal) = self.admits(now, documents.len(), tokens, deadline) {
            return Err((refusal, documents));
        }
        self.arrivals.observe(now);
        let probe = self.is_idle();
        self.waiting_tokens += tokens;
        let mut ids = Vec::with_capacity(documents.len());
        for (tokens, item) in documents {
            let id = EntryId(self.next_id);
            self.next_id += 1;
            ids.push(id);
            self.waiting.push_back(Entry {
                id,
                tokens,
                enqueued: now,
                deadline,
                item,
                probe,
            });
        }
        Ok(ids)
    }

    /// Takes a document out that nobody waits for any more. `None` when it has left already.
    pub fn cancel(&mut self, id: EntryId) -> Option<T> {
        // Ids grow along the queue, so a binary search finds it.
        let at = self.waiting.binary_search_by_key(&id, |e| e.id).ok()?;
        let entry = self.waiting.remove(at)?;
        self.waiting_tokens -= entry.tokens;
        Some(entry.item)
    }

    /// Until when a free worker should wait for more documents before it takes a batch; `None` to take
    /// what is there now.
    ///
    /// If the next document comes after `gap` and the `n` that wait are computed first, it waits for a
    /// batch of its own, whose fixed cost `fixed` it then pays; if they wait for it, each loses `gap` and
    /// the time of its tokens. So waiting pays when `gap + n · (gap + its tokens' time) < fixed`: never
    /// when requests are rare, and less the more wait already. The next one's size is taken to be the
    /// mean of those waiting.
    pub fn hold(&self, now: Duration) -> Option<Duration> {
        let oldest = self.waiting.front()?;
        let waiting = self.waiting.len();
        if self.limits.max_hold.is_zero()
            || waiting >= self.limits.max_batch
            || self.waiting_tokens >= self.budget()
        {
            return None;
        }
        let (fixed, gap) = (self.pace.fixed()?, self.arrivals.gap(now)?);
        let company = self.waiting_tokens / waiting;
        let n = u32::try_from(waiting).unwrap_or(u32::MAX);
        let tokens = self.pace.estimate(0, company);
        if gap.saturating_add(gap.saturating_add(tokens).saturating_mul(n)) >= fixed {
            return None;
        }
        // The one who is most in a hurry must still be answered, with company.
        let most = self.pace.estimate(1, self.waiting_tokens + company);
        let hurry = self.waiting.iter().map(|e| e.deadline).min()?;
        let until = self
            .arrivals
            .next()?
            .min(oldest.enqueued.saturating_add(self.limits.max_hold))
            .min(hurry.saturating_sub(most));
        (until > now).then_some(until)
    }

    /// What a free worker is to do now. The batch counts as running until [`Queue::finished`].
    pub fn take(&mut self, now: Duration) -> Taken<T> {
        let mut taken = Taken {
            batch: Vec::new(),
            expired: Vec::new(),
        };
        let budget = self.budget();
        let (mut tokens, mut hurry) = (0usize, Duration::MAX);
        let mut at = 0;
        while taken.batch.len() < self.limits.max_batch {
            let Some(entry) = self.waiting.get(at) else {
                break;
            };
            let end = |tokens| now.saturating_add(self.pace.estimate(1, tokens));
            let late =
                entry.deadline <= now || (!entry.probe && end(entry.tokens) > entry.deadline);
            let together = tokens.saturating_add(entry.tokens);
            let fits = taken.batch.is_empty()
                || (together <= budget && end(together) <= hurry.min(entry.deadline));
            if !late && !fits {
                if tokens >= budget {
                    break;
                }
                at += 1;
                continue;
            }
            let Some(entry) = self.waiting.remove(at) else {
                break;
            };
            self.waiting_tokens -= entry.tokens;
            if late {
                taken.expired.push(entry);
            } else {
                (tokens, hurry) = (together, hurry.min(entry.deadline));
                taken.batch.push(entry);
            }
        }
        if !taken.batch.is_empty() {
            self.running.push(Running { since: now, tokens });
        }
        taken
    }

    /// Tells that a batch of `tokens`, taken at `since`, left a worker after `took`. `learn` is false
    /// when the time says nothing of the model's pace (it failed).
    pub fn finished(&mut self, since: Duration, tokens: usize, took: Duration, learn: bool) {
        let found = |r: &Running| r.since == since && r.tokens == tokens;
        if let Some(at) = self.running.iter().position(found) {
            self.running.swap_remove(at);
        }
        if learn {
            self.pace.observe(tokens, took);
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Tokens in the next batch, at most.
    fn budget(&self) -> usize {
        let shared = self.pace.worth_sharing(SHARED).unwrap_or(usize::MAX);
        self.limits.max_batch_tokens.min(shared.max(1))
    }

    /// Time of a batch as large as may be; zero while its size is not bounded by what was measured.
    fn whole_batch(&self) -> Duration {
        match self.pace.worth_sharing(SHARED) {
            Some(_) => self.pace.estimate(1, self.budget()),
            None => Duration::ZERO,
        }
    }

    /// How long until `documents` more of `tokens` would be answered if they joined now.
    fn wait_for(&self, now: Duration, documents: usize, tokens: usize) -> Duration {
        let running: Duration = self
            .running
            .iter()
            .map(|r| {
                let whole = self.pace.estimate(1, r.tokens);
                whole.saturating_sub(now.saturating_sub(r.since))
            })
            .sum();
        let ahead = self.backlog(self.waiting.len(), self.waiting_tokens);
        let own = self.backlog(documents, tokens);
        let workers = u32::try_from(self.limits.workers).unwrap_or(u32::MAX);
        (running + ahead) / workers + own
    }

    /// Time that so many documents and tokens take one worker, in batches as large as may be.
    fn backlog(&self, documents: usize, tokens: usize) -> Duration {
        let by_count = documents.div_ceil(self.limits.max_batch);
        let by_tokens = tokens.div_ceil(self.budget()).min(documents);
        self.pace.estimate(by_count.max(by_tokens), tokens)
    }
}
