//! The rules of the module's head, each by itself and then all together on random histories.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const FAR: Duration = Duration::from_secs(3600);

fn limits(max_batch: usize, max_batch_tokens: usize, capacity: usize) -> Limits {
    Limits {
        max_batch,
        max_batch_tokens,
        capacity,
        workers: 1,
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn items(taken: &Taken<u32>) -> Vec<u32> {
    taken.batch.iter().map(|e| e.item).collect()
}

#[test]
fn an_idle_worker_gets_a_lone_request_at_once() {
    let mut q = Queue::new(limits(8, 1000, 4));
    q.offer(ms(5), 10, FAR, 7).unwrap();
    let taken = q.take(ms(5));
    assert_eq!(items(&taken), [7]);
    assert!(q.is_empty());
}

#[test]
fn the_door_closes_at_capacity_and_gives_the_item_back() {
    let mut q = Queue::new(limits(8, 1000, 2));
    q.offer(ms(0), 1, FAR, 1).unwrap();
    q.offer(ms(0), 1, FAR, 2).unwrap();
    let (refusal, item) = q.offer(ms(0), 1, FAR, 3).unwrap_err();
    assert_eq!(
        (refusal, item),
        (
            Refusal::Full {
                backlog: Duration::ZERO
            },
            3
        )
    );
    q.take(ms(0));
    q.offer(ms(0), 1, FAR, 3)
        .expect("room again once a worker took the batch");
}

#[test]
fn batches_keep_to_count_and_tokens() {
    let mut q = Queue::new(limits(3, 100, 16));
    for (item, tokens) in [(1, 40), (2, 40), (3, 40), (4, 5), (5, 5), (6, 5)] {
        q.offer(ms(0), tokens, FAR, item).unwrap();
    }
    assert_eq!(
        items(&q.take(ms(0))),
        [1, 2],
        "a third would pass the token budget"
    );
    assert_eq!(
        items(&q.take(ms(0))),
        [3, 4, 5],
        "a fourth would pass the count"
    );
    assert_eq!(items(&q.take(ms(0))), [6]);
}

#[test]
fn a_request_over_the_token_budget_goes_alone() {
    let mut q = Queue::new(limits(8, 100, 16));
    q.offer(ms(0), 500, FAR, 1).unwrap();
    q.offer(ms(0), 1, FAR, 2).unwrap();
    assert_eq!(items(&q.take(ms(0))), [1]);
    assert_eq!(items(&q.take(ms(0))), [2]);
}

#[test]
fn the_expired_leave_without_costing_the_batch() {
    let mut q = Queue::new(limits(1, 100, 16));
    q.offer(ms(0), 10, ms(20), 1).unwrap();
    q.offer(ms(0), 10, FAR, 2).unwrap();
    let taken = q.take(ms(20));
    assert_eq!(items(&taken), [2]);
    assert_eq!(
        taken.expired.iter().map(|e| e.item).collect::<Vec<_>>(),
        [1]
    );
    assert_eq!(taken.tokens(), 10);
}

#[test]
fn a_request_that_cannot_be_in_time_is_refused_at_the_door() {
    let mut q = Queue::new(limits(8, 1000, 16));
    q.offer(ms(0), 100, FAR, 0).unwrap();
    let first = q.take(ms(0));
    q.finished(first.tokens(), ms(100), true); // 1 ms a token
    q.offer(ms(100), 100, FAR, 1)
        .expect("idle: tried whatever was measured");
    let (refusal, _) = q.offer(ms(100), 100, ms(250), 2).unwrap_err();
    assert_eq!(refusal, Refusal::TooLate { expected: ms(200) });
    q.offer(ms(100), 100, ms(300), 3).expect("just in time");
    let (refusal, _) = q.offer(ms(100), 1, ms(100), 4).unwrap_err();
    assert!(
        matches!(refusal, Refusal::TooLate { .. }),
        "its deadline is now"
    );
}

#[test]
fn two_workers_halve_the_wait_foreseen() {
    let mut q = Queue::new(Limits {
        workers: 2,
        ..limits(8, 1000, 16)
    });
    q.offer(ms(0), 100, FAR, 0).unwrap();
    q.take(ms(0));
    q.finished(100, ms(100), true);
    q.offer(ms(0), 100, FAR, 1).unwrap();
    q.offer(ms(0), 100, ms(150), 2)
        .expect("50 ms for the one ahead and 100 of its own");
}

#[test]
fn one_stalled_batch_does_not_shut_the_door() {
    let mut q = Queue::new(limits(8, 1000, 16));
    for _ in 0..5 {
        q.finished(100, ms(10), true);
    }
    q.finished(100, Duration::from_secs(60), true);
    q.offer(ms(0), 100, FAR, 1).unwrap();
    q.offer(ms(0), 100, ms(50), 2)
        .expect("the median is still a tenth of a millisecond a token");
}

#[test]
fn the_cancelled_leave_and_make_room() {
    let mut q = Queue::new(limits(8, 1000, 2));
    let first = q.offer(ms(0), 1, FAR, 1).unwrap();
    q.offer(ms(0), 1, FAR, 2).unwrap();
    assert_eq!(q.cancel(first), Some(1));
    assert_eq!(q.cancel(first), None);
    q.offer(ms(0), 1, FAR, 3).unwrap();
    assert_eq!(items(&q.take(ms(0))), [2, 3]);
}

#[derive(Debug, Clone)]
enum Step {
    Offer { tokens: usize, patience: u64 },
    Take,
    Finish { took: u64 },
    Cancel { nth: usize },
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..300, 0u64..400).prop_map(|(tokens, patience)| Step::Offer { tokens, patience }),
        2 => Just(Step::Take),
        2 => (0u64..200).prop_map(|took| Step::Finish { took }),
        1 => (0usize..20).prop_map(|nth| Step::Cancel { nth }),
        1 => (0u64..100).prop_map(|ms| Step::Wait { ms }),
    ]
}

proptest! {
    /// Whatever happens: every request let in leaves exactly once; the bounds hold; batches are in
    /// order of arrival; nobody is computed after the deadline, nobody expires before it; and a
    /// free worker never goes away empty while someone who can be served waits.
    #[test]
    fn every_history_keeps_the_rules(
        steps in prop::collection::vec(step(), 1..200),
        max_batch in 1usize..6, max_tokens in 1usize..500, capacity in 1usize..12,
    ) {
        let bounds = limits(max_batch, max_tokens, capacity);
        let mut q = Queue::new(bounds);
        let mut now = Duration::ZERO;
        let mut next = 0u32;
        let mut inside: BTreeMap<u32, (EntryId, Duration)> = BTreeMap::new();
        let mut running: Vec<usize> = Vec::new();
        for step in steps {
            match step {
                Step::Wait { ms: n } => now += ms(n),
                Step::Offer { tokens, patience } => {
                    let deadline = now + ms(patience);
                    let was_full = inside.len() == capacity;
                    match q.offer(now, tokens, deadline, next) {
                        Ok(id) => {
                            prop_assert!(!was_full && deadline > now);
                            inside.insert(next, (id, deadline));
                        }
                        Err((refusal, back)) => {
                            prop_assert_eq!(back, next);
                            prop_assert_eq!(was_full, matches!(refusal, Refusal::Full { .. }));
                        }
                    }
                    next += 1;
                }
                Step::Take => {
                    let servable = inside.values().any(|(_, deadline)| *deadline > now);
                    let oldest = inside.iter().find(|(_, (_, d))| *d > now).map(|(k, _)| *k);
                    let taken = q.take(now);
                    prop_assert_eq!(servable, !taken.batch.is_empty());
                    prop_assert_eq!(oldest, taken.batch.first().map(|e| e.item));
                    prop_assert!(taken.batch.len() <= max_batch);
                    prop_assert!(taken.batch.len() == 1 || taken.tokens() <= max_tokens);
                    prop_assert!(taken.batch.windows(2).all(|w| w[0].item < w[1].item));
                    for entry in &taken.batch {
                        let (_, deadline) = inside.remove(&entry.item).expect("left twice");
                        prop_assert!(deadline > now);
                    }
                    for entry in &taken.expired {
                        let (_, deadline) = inside.remove(&entry.item).expect("left twice");
                        prop_assert!(deadline <= now);
                    }
                    if !taken.batch.is_empty() {
                        running.push(taken.tokens());
                    }
                }
                Step::Finish { took } => if let Some(tokens) = running.pop() {
                    q.finished(tokens, ms(took), true);
                },
                Step::Cancel { nth } => if let Some((item, (id, _))) =
                    inside.iter().nth(nth).map(|(k, v)| (*k, *v)) {
                    inside.remove(&item);
                    prop_assert_eq!(q.cancel(id), Some(item));
                },
            }
            prop_assert_eq!(q.len(), inside.len());
            prop_assert!(q.len() <= capacity);
            prop_assert_eq!(q.waiting_tokens, q.waiting.iter().map(|e| e.tokens).sum::<usize>());
            prop_assert_eq!(q.in_flight_tokens, running.iter().sum::<usize>());
        }
    }
}
