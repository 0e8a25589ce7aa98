//! The pool with a gated engine: what waits, what is computed, what happens when things go wrong.

use super::*;
use crate::batch::Refusal;
use crate::engine::scripted::{Bytes, Gate, Scripted};
use crate::faults;
use crate::model::Preprocess;

fn pool(gate: &Arc<Gate>, capacity: usize, faults: Arc<Faults>) -> (Pool, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::for_tests());
    let engine: Box<dyn Infer> = Box::new(Scripted::new(gate.clone()));
    let settings = Settings {
        max_batch: 4,
        max_batch_tokens: 1000,
        capacity,
        max_hold: Duration::ZERO,
    };
    let pool = Pool::start(vec![engine], settings, metrics.clone(), faults).unwrap();
    (pool, metrics)
}

fn submit(pool: &Pool, text: &str) -> Result<Ticket, SubmitError> {
    let deadline = Instant::now() + Duration::from_secs(600);
    pool.submit(vec![Bytes.encode(text).unwrap()], deadline, None)
        .map(|mut tickets| tickets.remove(0))
}

async fn reply(mut ticket: Ticket) -> Reply {
    ticket.reply().await
}

fn label(reply: Reply) -> usize {
    match reply {
        Reply::Answered(Answer {
            outcome: Outcome::Predicted(prediction),
            ..
        }) => prediction.best(),
        other => panic!("no prediction: {other:?}"),
    }
}

#[tokio::test]
async fn while_the_worker_is_busy_the_next_batch_grows() {
    let gate = Gate::closed();
    let (pool, metrics) = pool(&gate, 10, Arc::default());
    let first = submit(&pool, "a").unwrap();
    gate.wait_for(1);
    let rest: Vec<Ticket> = ["b", "c", "d"].map(|t| submit(&pool, t).unwrap()).into();
    assert_eq!(metrics.queue_depth.get(), 3);
    gate.release();
    assert_eq!(label(reply(first).await), 1);
    let mut labels = Vec::new();
    for ticket in rest {
        labels.push(label(reply(ticket).await));
    }
    assert_eq!(labels, [0, 1, 0]);
    assert_eq!(gate.sizes(), [1, 3]);
    assert_eq!(metrics.queue_depth.get(), 0);
    assert_eq!(metrics.batch_size.get_sample_count(), 2);
    assert_eq!(metrics.queue_wait.get_sample_count(), 4);
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_dropped_ticket_makes_room() {
    let gate = Gate::closed();
    let (pool, metrics) = pool(&gate, 2, Arc::default());
    let busy = submit(&pool, "a").unwrap();
    gate.wait_for(1);
    let waiting = submit(&pool, "b").unwrap();
    let leaving = submit(&pool, "c").unwrap();
    let refused = submit(&pool, "d").err();
    assert!(
        matches!(refused, Some(SubmitError::Refused(Refusal::Full { .. }))),
        "{refused:?}"
    );
    drop(leaving);
    assert_eq!(metrics.queue_depth.get(), 1);
    let d = submit(&pool, "d").unwrap();
    gate.release();
    for (ticket, expected) in [(busy, 1), (waiting, 0), (d, 0)] {
        assert_eq!(label(reply(ticket).await), expected);
    }
    assert_eq!(gate.sizes(), [1, 2], "the one who left was not computed");
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_is_told_and_not_computed() {
    let gate = Gate::closed();
    let (pool, _) = pool(&gate, 4, Arc::default());
    let busy = submit(&pool, "a").unwrap();
    gate.wait_for(1);
    let soon = Instant::now() + Duration::from_millis(1);
    let late = pool.submit(vec![Bytes.encode("b").unwrap()], soon, None);
    while Instant::now() <= soon {
        tokio::task::yield_now().await;
    }
    gate.release();
    assert_eq!(label(reply(busy).await), 1);
    // Refused at the door when this thread was held up for a millisecond: also right.
    if let Ok(mut late) = late {
        assert!(matches!(reply(late.remove(0)).await, Reply::Expired));
    }
    pool.close();
    assert_eq!(gate.sizes(), [1]);
}

#[tokio::test]
async fn a_failing_and_a_panicking_batch_leave_the_worker_alive() {
    let gate = Gate::open();
    let (pool, _) = pool(&gate, 4, Arc::default());
    for (text, word) in [("!", "script says to fail"), ("#", "panicked")] {
        let told = reply(submit(&pool, text).unwrap()).await;
        let Reply::Answered(Answer {
            outcome: Outcome::Failed(why),
            ..
        }) = told
        else {
            panic!("{text}: {told:?}")
        };
        assert!(why.contains(word), "{why}");
    }
    assert_eq!(label(reply(submit(&pool, "b").unwrap()).await), 0);
}

#[tokio::test]
async fn closing_finishes_what_waits_and_lets_nothing_in() {
    let gate = Gate::closed();
    let (pool, _) = pool(&gate, 4, Arc::default());
    let busy = submit(&pool, "a").unwrap();
    gate.wait_for(1);
    let waiting = submit(&pool, "b").unwrap();
    pool.crew.desk.shut();
    assert_eq!(submit(&pool, "c").err(), Some(SubmitError::Closed));
    gate.release();
    pool.close();
    assert_eq!(label(reply(busy).await), 1);
    assert_eq!(label(reply(waiting).await), 0);
}

#[tokio::test]
async fn a_stall_holds_the_queue_until_it_is_called_off() {
    let faults = Arc::new(Faults::default());
    let stall = faults::Request {
        kind: faults::Kind::Stall,
        add_ms: None,
        share: None,
        for_ms: 600_000,
    };
    faults.start(Instant::now(), stall).unwrap();
    let gate = Gate::open();
    let (pool, metrics) = pool(&gate, 1, faults.clone());
    let ticket = submit(&pool, "b").unwrap();
    assert!(
        submit(&pool, "c").is_err(),
        "the stalled worker takes nothing, so the queue is full"
    );
    assert_eq!(metrics.queue_depth.get(), 1);
    faults.clear(Instant::now());
    assert_eq!(label(reply(ticket).await), 0);
}

#[tokio::test]
async fn a_document_that_fails_or_panics_leaves_its_neighbours_alone() {
    for (bad, word) in [("!", "script says to fail"), ("#", "panicked")] {
        let gate = Gate::closed();
        let (pool, _) = pool(&gate, 10, Arc::default());
        let busy = submit(&pool, "a").unwrap();
        gate.wait_for(1);
        let together: Vec<Encoded> = ["b", bad, "c"].map(|t| Bytes.encode(t).unwrap()).into();
        let deadline = Instant::now() + Duration::from_secs(600);
        let tickets = pool.submit(together, deadline, None).unwrap();
        gate.release();
        assert_eq!(label(reply(busy).await), 1);
        let mut replies = Vec::new();
        for ticket in tickets {
            replies.push(reply(ticket).await);
        }
        let failed = replies.remove(1);
        assert!(
            matches!(&failed, Reply::Answered(Answer { outcome: Outcome::Failed(why), .. }) if why.contains(word)),
            "{bad}: {failed:?}"
        );
        let labels: Vec<usize> = replies.into_iter().map(label).collect();
        assert_eq!(labels, [0, 1], "{bad}");
    }
}
