//! The rules of the module's head, each by itself, then all together on random histories, and an
//! overloaded worker in simulated time.

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
        max_hold: Duration::ZERO,
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn items(taken: &Taken<u32>) -> Vec<u32> {
    taken.batch.iter().map(|e| e.item).collect()
}

/// Offers one document.
fn offer(
    q: &mut Queue<u32>,
    now: Duration,
    tokens: usize,
    deadline: Duration,
    item: u32,
) -> Result<EntryId, (Refusal, u32)> {
    match q.offer(now, deadline, vec![(tokens, item)]) {
        Ok(ids) => Ok(ids[0]),
        Err((refusal, back)) => Err((refusal, back[0].1)),
    }
}

/// Tells a pace of `fixed` ms a batch and 1 ms a token.
fn teach(q: &mut Queue<u32>, fixed: u64) {
    for at in 0..32 {
        let tokens = 1 + at % 8;
        q.finished(FAR, tokens, ms(fixed + tokens as u64), true);
    }
}

#[test]
fn an_idle_worker_gets_a_lone_request_at_once() {
    let mut q = Queue::new(limits(8, 1000, 4));
    offer(&mut q, ms(5), 10, FAR, 7).unwrap();
    let taken = q.take(ms(5));
    assert_eq!(items(&taken), [7]);
    assert!(q.is_empty());
}

#[test]
fn the_door_closes_at_capacity_and_gives_the_item_back() {
    let mut q = Queue::new(limits(8, 1000, 2));
    offer(&mut q, ms(0), 1, FAR, 1).unwrap();
    offer(&mut q, ms(0), 1, FAR, 2).unwrap();
    let (refusal, item) = offer(&mut q, ms(0), 1, FAR, 3).unwrap_err();
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
    offer(&mut q, ms(0), 1, FAR, 3).expect("room again once a worker took the batch");
}

#[test]
fn batches_keep_to_count_and_tokens() {
    let mut q = Queue::new(limits(3, 100, 16));
    for (item, tokens) in [(1, 40), (2, 40), (3, 40), (4, 5), (5, 5), (6, 5)] {
        offer(&mut q, ms(0), tokens, FAR, item).unwrap();
    }
    assert_eq!(
        items(&q.take(ms(0))),
        [1, 2, 4],
        "3 would pass the token budget, 5 the count"
    );
    assert_eq!(items(&q.take(ms(0))), [3, 5, 6]);
}

#[test]
fn a_request_over_the_token_budget_goes_alone() {
    let mut q = Queue::new(limits(8, 100, 16));
    offer(&mut q, ms(0), 500, FAR, 1).unwrap();
    offer(&mut q, ms(0), 1, FAR, 2).unwrap();
    assert_eq!(items(&q.take(ms(0))), [1]);
    assert_eq!(items(&q.take(ms(0))), [2]);
}

#[test]
fn the_expired_leave_without_costing_the_batch() {
    let mut q = Queue::new(limits(1, 100, 16));
    offer(&mut q, ms(0), 10, ms(20), 1).unwrap();
    offer(&mut q, ms(0), 10, FAR, 2).unwrap();
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
    offer(&mut q, ms(0), 100, FAR, 0).unwrap();
    let first = q.take(ms(0));
    q.finished(ms(0), first.tokens(), ms(100), true); // 1 ms a token
    offer(&mut q, ms(100), 100, FAR, 1).expect("idle: tried whatever was measured");
    let (refusal, _) = offer(&mut q, ms(100), 100, ms(250), 2).unwrap_err();
    assert_eq!(refusal, Refusal::TooLate { expected: ms(200) });
    offer(&mut q, ms(100), 100, ms(300), 3).expect("just in time");
    let (refusal, _) = offer(&mut q, ms(100), 1, ms(100), 4).unwrap_err();
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
    offer(&mut q, ms(0), 100, FAR, 0).unwrap();
    q.take(ms(0));
    q.finished(ms(0), 100, ms(100), true);
    offer(&mut q, ms(0), 100, FAR, 1).unwrap();
    offer(&mut q, ms(0), 100, ms(150), 2).expect("50 ms for the one ahead and 100 of its own");
}

#[test]
fn one_stalled_batch_does_not_shut_the_door() {
    let mut q = Queue::new(limits(8, 1000, 16));
    for _ in 0..5 {
        q.finished(FAR, 100, ms(10), true);
    }
    q.finished(FAR, 100, Duration::from_secs(60), true);
    offer(&mut q, ms(0), 100, FAR, 1).unwrap();
    offer(&mut q, ms(0), 100, ms(50), 2)
        .expect("the median is still a tenth of a millisecond a token");
}

#[test]
fn the_cancelled_leave_and_make_room() {
    let mut q = Queue::new(limits(8, 1000, 2));
    let first = offer(&mut q, ms(0), 1, FAR, 1).unwrap();
    offer(&mut q, ms(0), 1, FAR, 2).unwrap();
    assert_eq!(q.cancel(first), Some(1));
    assert_eq!(q.cancel(first), None);
    offer(&mut q, ms(0), 1, FAR, 3).unwrap();
    assert_eq!(items(&q.take(ms(0))), [2, 3]);
}

#[test]
fn short_documents_pass_a_long_one_that_does_not_fit_and_it_comes_next() {
    let mut q = Queue::new(limits(8, 100, 16));
    for (item, tokens) in [(1, 60), (2, 90), (3, 30), (4, 80), (5, 10)] {
        offer(&mut q, ms(0), tokens, FAR, item).unwrap();
    }
    assert_eq!(items(&q.take(ms(0))), [1, 3, 5]);
    assert_eq!(items(&q.take(ms(0))), [2], "whoever was passed is next");
    assert_eq!(items(&q.take(ms(0))), [4]);
}

#[test]
fn a_batch_is_no_larger_than_its_fixed_cost_is_worth() {
    let mut q = Queue::new(limits(64, 10_000, 64));
    teach(&mut q, 5);
    for item in 0..30 {
        offer(&mut q, ms(0), 10, FAR, item).unwrap();
    }
    assert_eq!(q.take(ms(0)).tokens(), 100, "20 times 5 ms at 1 ms a token");
    let mut q = Queue::new(limits(64, 10_000, 64));
    teach(&mut q, 0);
    offer(&mut q, ms(0), 10, FAR, 0).unwrap();
    offer(&mut q, ms(0), 10, FAR, 1).unwrap();
    assert_eq!(
        items(&q.take(ms(0))),
        [0],
        "nothing is shared, so nobody waits for another"
    );
}

#[test]
fn a_request_goes_in_whole_or_not_at_all() {
    let mut q = Queue::new(limits(8, 1000, 4));
    offer(&mut q, ms(0), 1, FAR, 0).unwrap();
    let four = (1..5).map(|item| (1, item)).collect();
    let (refusal, back) = q.offer(ms(0), FAR, four).unwrap_err();
    assert!(matches!(refusal, Refusal::Full { .. }));
    assert_eq!((back.len(), q.len()), (4, 1));
    let ids = q.offer(ms(0), FAR, vec![(1, 1), (1, 2), (1, 3)]).unwrap();
    assert_eq!((ids.len(), q.len()), (3, 4));
}

#[test]
fn one_who_cannot_be_answered_in_time_any_more_is_not_computed() {
    let mut q = Queue::new(limits(1, 1000, 16));
    teach(&mut q, 5);
    offer(&mut q, ms(0), 10, FAR, 0).unwrap();
    offer(&mut q, ms(0), 10, ms(60), 1).unwrap();
    offer(&mut q, ms(0), 10, FAR, 2).unwrap();
    assert_eq!(items(&q.take(ms(0))), [0]);
    let taken = q.take(ms(46));
    let expired: Vec<u32> = taken.expired.iter().map(|e| e.item).collect();
    assert_eq!(
        (expired, items(&taken)),
        (vec![1], vec![2]),
        "it would end at 61 ms"
    );
}

#[test]
fn whoever_is_in_a_hurry_is_not_made_late_by_company() {
    let mut q = Queue::new(limits(8, 1000, 16));
    teach(&mut q, 50);
    offer(&mut q, ms(0), 10, FAR, 0).unwrap();
    q.take(ms(0));
    q.finished(ms(0), 10, ms(60), true);
    offer(&mut q, ms(100), 10, ms(165), 1).unwrap();
    offer(&mut q, ms(100), 10, FAR, 2).unwrap();
    offer(&mut q, ms(100), 5, FAR, 3).unwrap();
    assert_eq!(
        items(&q.take(ms(100))),
        [1, 3],
        "with 2 it would end at 170 ms"
    );
    assert_eq!(items(&q.take(ms(100))), [2]);
}

#[test]
fn an_idle_service_tries_what_was_once_too_slow() {
    let mut q = Queue::new(limits(8, 1000, 16));
    q.finished(FAR, 1, Duration::from_secs(60), true);
    offer(&mut q, ms(0), 1, ms(10), 1).unwrap();
    assert_eq!(items(&q.take(ms(1))), [1]);
}

/// A worker is held for company only while that is expected within the fixed cost it saves.
#[test]
fn company_is_waited_for_when_it_is_near_and_worth_it() {
    let holding = |every: u64, fixed: u64, now: u64| {
        let mut q = Queue::new(Limits {
            max_hold: ms(7),
            ..limits(8, 1000, 64)
        });
        teach(&mut q, fixed);
        for at in 0..20 {
            offer(&mut q, ms(at * every), 1, FAR, 0).unwrap();
            q.take(ms(at * every));
            q.running.clear();
        }
        let last = 20 * every;
        offer(&mut q, ms(last), 1, FAR, 1).unwrap();
        q.hold(ms(last + now)).map(|until| until - ms(last))
    };
    assert_eq!(
        holding(2, 50, 0),
        Some(ms(2)),
        "the next comes in 2 ms, and saves 50"
    );
    assert_eq!(holding(2, 50, 2), None, "it did not come");
    assert_eq!(holding(60, 50, 0), None, "it is too far away");
    assert_eq!(holding(2, 4, 0), None, "it saves too little");
    assert_eq!(holding(20, 50, 0), Some(ms(7)), "no longer than the bound");
    assert_eq!(holding(20, 50, 7), None);
}

#[test]
fn without_a_bound_nobody_is_held() {
    let mut q = Queue::new(limits(8, 1000, 64));
    teach(&mut q, 50);
    for at in 0..20 {
        offer(&mut q, ms(at), 1, FAR, 0).unwrap();
    }
    assert_eq!(q.hold(ms(20)), None);
}

/// One worker in simulated time: a batch costs 8 ms and 0.1 ms a token; documents of 4 to 200 tokens come
/// at random with 300 ms of patience. Returns answers in time a second.
fn goodput(rate: f64, max_hold: Duration) -> f64 {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
    let mut q = Queue::new(Limits {
        max_hold,
        ..limits(32, 4096, 256)
    });
    let seconds = 60.0;
    let (mut next, mut good) = (0.0, 0u32);
    // When the worker may take its next batch, and the one it computes until then.
    let (mut free, mut running) = (Duration::ZERO, None);
    while next < seconds {
        let arrival = Duration::from_secs_f64(next);
        if arrival > free
            && let Some((since, tokens, took)) = running.take()
        {
            q.finished(since, tokens, took, true);
        }
        if arrival <= free || q.is_empty() {
            let tokens = rng.random_range(4..200);
            let _ = offer(&mut q, arrival, tokens, arrival + ms(300), 0);
            next += -f64::ln(1.0 - rng.random::<f64>()) / rate;
            free = if running.is_none() {
                free.max(arrival)
            } else {
                free
            };
            continue;
        }
        let now = free;
        if let Some(until) = q.hold(now) {
            free = until;
            continue;
        }
        let taken = q.take(now);
        if !taken.batch.is_empty() {
            let took = ms(8) + Duration::from_micros(100) * taken.tokens() as u32;
            free = now + took;
            good += taken.batch.iter().filter(|e| e.deadline >= free).count() as u32;
            running = Some((now, taken.tokens(), took));
        }
    }
    f64::from(good) / seconds
}

/// Beyond capacity the service answers about as many in time as it ever could.
#[test]
fn overload_does_not_eat_goodput() {
    for max_hold in [Duration::ZERO, ms(5)] {
        let at = |rate| goodput(rate, max_hold);
        let below = at(40.0);
        assert!(
            (below - 40.0).abs() < 2.0,
            "below capacity all are answered: {below}"
        );
        let best = [60.0, 80.0, 100.0, 120.0]
            .map(at)
            .into_iter()
            .fold(0.0, f64::max);
        for rate in [200.0, 400.0, 1000.0] {
            let there = at(rate);
            assert!(
                there >= 0.9 * best,
                "{there}/s at {rate}/s, {best}/s at best"
            );
        }
    }
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
    /// Whatever happens: every document let in leaves exactly once; the bounds hold; batches are in
    /// order of arrival and begin with the oldest; nobody is computed who would be late by the pace,
    /// nobody is given up who would not; and a free worker never goes away empty-handed.
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
        let mut running: Vec<(Duration, usize)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait { ms: n } => now += ms(n),
                Step::Offer { tokens, patience } => {
                    let deadline = now + ms(patience);
                    let was_full = inside.len() == capacity;
                    match offer(&mut q, now, tokens, deadline, next) {
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
                    let before = q.len();
                    let oldest = q.waiting.front().map(|e| e.item);
                    let taken = q.take(now);
                    prop_assert!(before == 0 || !taken.batch.is_empty() || !taken.expired.is_empty());
                    let left = |item| taken.batch.iter().chain(&taken.expired).any(|e| Some(e.item) == item);
                    prop_assert!(oldest.is_none() || left(oldest), "the oldest leaves");
                    prop_assert!(taken.batch.len() <= max_batch);
                    prop_assert!(taken.batch.len() <= 1 || taken.tokens() <= max_tokens);
                    prop_assert!(taken.batch.windows(2).all(|w| w[0].item < w[1].item));
                    let end = now + q.pace.estimate(1, taken.tokens());
                    for entry in &taken.batch {
                        let (_, deadline) = inside.remove(&entry.item).expect("left twice");
                        prop_assert!(deadline > now && (entry.probe || end <= deadline));
                    }
                    for entry in &taken.expired {
                        let (_, deadline) = inside.remove(&entry.item).expect("left twice");
                        prop_assert!(deadline <= now || now + q.pace.estimate(1, entry.tokens) > deadline);
                    }
                    if !taken.batch.is_empty() {
                        running.push((now, taken.tokens()));
                    }
                }
                Step::Finish { took } => if let Some((since, tokens)) = running.pop() {
                    q.finished(since, tokens, ms(took), true);
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
            let inside: usize = q.running.iter().map(|r| r.tokens).sum();
            prop_assert_eq!(inside, running.iter().map(|r| r.1).sum::<usize>());
        }
    }
}
