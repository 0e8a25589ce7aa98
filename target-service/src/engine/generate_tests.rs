//! Writers with a model that is written down: what it says, when it may go on.

use std::time::Duration;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::mpsc;

use super::*;
use crate::batch::Refusal;
use crate::model::causal::tests::{END, loaded};

/// Says `a`, `b`, `c`… by the number of tokens before, and the end at `ends`; each step waits for a word.
struct Slow {
    steps: mpsc::Receiver<()>,
    seen: mpsc::Sender<Vec<usize>>,
    ends: usize,
    positions: VecDeque<usize>,
}

impl Decode for Slow {
    fn step(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        let counts = parts.iter().map(|part| part.tokens.len()).collect();
        let _ = self.seen.send(counts);
        let _ = self.steps.recv();
        assert!(
            !parts
                .iter()
                .any(|part| part.tokens.contains(&u32::from(b'#'))),
            "the script says to panic"
        );
        let scores = parts.iter().map(|part| {
            let mut scores = vec![0.0; 260];
            self.positions.push_back(part.tokens.len());
            let said = match part.tokens.last() {
                Some(last) if *last as usize >= usize::from(b'a') + self.ends => END,
                Some(last) => last + 1,
                None => END,
            };
            scores[said as usize] = 1.0;
            if part.scores { scores } else { Vec::new() }
        });
        Ok(scores.collect())
    }
}

struct Fixture {
    writers: Writers,
    go: mpsc::Sender<()>,
    seen: mpsc::Receiver<Vec<usize>>,
    metrics: Arc<Metrics>,
}

fn start(capacity: usize, sequences: usize) -> Fixture {
    let (go, steps) = mpsc::channel();
    let (sender, seen) = mpsc::channel();
    let metrics = Arc::new(Metrics::for_tests());
    let engine = Slow {
        steps,
        seen: sender,
        ends: 5,
        positions: VecDeque::new(),
    };
    let settings = WriterSettings {
        capacity,
        sequences,
        chunk: 4,
    };
    let faults = Arc::new(Faults::default());
    let text = loaded().text;
    let writers = Writers::start(
        vec![Box::new(engine)],
        text,
        settings,
        metrics.clone(),
        faults,
    );
    Fixture {
        writers: writers.unwrap(),
        go,
        seen,
        metrics,
    }
}

fn prompt(text: &str, most: usize) -> Prompt {
    Prompt {
        tokens: text.bytes().map(u32::from).collect(),
        most,
        sampling: Sampling {
            temperature: 0.0,
            top_p: 1.0,
            seed: 0,
        },
        stops: vec!["zz".to_owned()],
    }
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

async fn next(writing: &mut Writing) -> Event {
    poll_fn(|context| writing.poll_next(context)).await
}

/// The text, how it ended, and in how many tokens.
async fn read(mut writing: Writing) -> (String, Result<Finish, Broken>, usize) {
    let (mut all, mut tokens) = (String::new(), 0);
    loop {
        match next(&mut writing).await {
            Event::Begun { .. } => {}
            Event::Token { text, .. } => {
                tokens += 1;
                all.push_str(&text);
            }
            Event::Done {
                text,
                finish,
                ended,
                ..
            } => return (all + &text, Ok(finish), tokens + usize::from(ended)),
            Event::Broken(why) => return (all, Err(why), tokens),
        }
    }
}

impl Fixture {
    /// Lets all steps through from now on.
    fn release(self) -> (Writers, Arc<Metrics>) {
        for _ in 0..1000 {
            let _ = self.go.send(());
        }
        (self.writers, self.metrics)
    }
}

#[tokio::test]
async fn a_text_is_written_to_its_end_or_to_its_length() {
    let fixture = start(8, 2);
    let whole = fixture.writers.submit(prompt("a", 100), later()).unwrap();
    let cut = fixture.writers.submit(prompt("a", 3), later()).unwrap();
    let (writers, metrics) = fixture.release();
    assert_eq!(read(whole).await, ("bcdef".to_owned(), Ok(Finish::Stop), 6));
    assert_eq!(read(cut).await, ("bcd".to_owned(), Ok(Finish::Length), 3));
    writers.close();
    assert_eq!((metrics.sequences.get(), metrics.queue_depth.get()), (0, 0));
    let closed = writers.submit(prompt("a", 3), later());
    assert!(matches!(closed, Err(SubmitError::Closed)));
}

#[tokio::test]
async fn prompts_are_read_in_chunks_beside_those_that_write() {
    let fixture = start(8, 4);
    let first = fixture.writers.submit(prompt("a", 100), later()).unwrap();
    let mut steps = vec![fixture.seen.recv().unwrap()];
    let second = fixture
        .writers
        .submit(prompt("bbbbbbbbba", 1), later())
        .unwrap();
    for _ in 0..4 {
        fixture.go.send(()).unwrap();
        steps.push(fixture.seen.recv().unwrap());
    }
    assert_eq!(
        steps,
        [vec![1], vec![1, 4], vec![1, 4], vec![1, 2], vec![1]]
    );
    fixture.release();
    assert_eq!(read(first).await.0, "bcdef");
    assert_eq!(read(second).await.0, "b");
}

#[tokio::test]
async fn who_leaves_is_let_go_and_its_place_taken() {
    let fixture = start(1, 1);
    let mut first = fixture.writers.submit(prompt("a", 100), later()).unwrap();
    assert!(matches!(next(&mut first).await, Event::Begun { .. }));
    let waits = fixture.writers.submit(prompt("a", 1), later()).unwrap();
    let full = fixture.writers.submit(prompt("a", 1), later());
    assert!(matches!(
        full,
        Err(SubmitError::Refused(Refusal::Full { .. }))
    ));
    assert_eq!(fixture.metrics.queue_depth.get(), 1);
    drop(waits);
    assert_eq!(fixture.metrics.queue_depth.get(), 0);
    let third = fixture.writers.submit(prompt("c", 1), later()).unwrap();
    drop(first);
    let (writers, _) = fixture.release();
    assert_eq!(read(third).await.0, "d");
    writers.close();
}

#[tokio::test]
async fn beyond_its_deadline_nothing_is_written() {
    let fixture = start(8, 1);
    let soon = Instant::now() + Duration::from_millis(30);
    let begun = fixture.writers.submit(prompt("a", 100), soon).unwrap();
    fixture.seen.recv().unwrap();
    // The step ends after the deadline, whatever this machine does.
    tokio::time::sleep_until((soon + Duration::from_millis(1)).into()).await;
    fixture.go.send(()).unwrap();
    let (_, end, _) = read(begun).await;
    assert_eq!(end, Err(Broken::TooLate));
    let past = fixture.writers.submit(prompt("a", 1), soon);
    assert!(matches!(
        past,
        Err(SubmitError::Refused(Refusal::TooLate { .. }))
    ));
}

#[tokio::test]
async fn a_panic_of_the_model_fails_those_in_the_step_and_nobody_after() {
    let fixture = start(8, 1);
    let bad = fixture.writers.submit(prompt("#", 1), later()).unwrap();
    let good = fixture.writers.submit(prompt("a", 1), later()).unwrap();
    let (writers, _) = fixture.release();
    assert!(matches!(read(bad).await.1, Err(Broken::Failed(_))));
    assert_eq!(read(good).await.0, "b");
    writers.close();
}
