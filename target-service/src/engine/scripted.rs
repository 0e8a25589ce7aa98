//! A model whose behaviour is written down beforehand, for tests and demonstrations.
//!
//! The label is decided by the first byte of the text, so that a test knows the answer. It can be
//! held at a gate: a gated model computes nothing until the gate opens, which lets a test build up
//! a queue without sleeping.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::model::{Encoded, Infer, ModelError, Prediction, Preprocess, Stage};

/// Labels of the scripted model.
pub const LABELS: [&str; 2] = ["even", "odd"];
/// A text that starts with this byte fails, and its neighbours do not.
pub const FAIL: char = '!';
/// A text that starts with this byte makes the engine panic on every batch it is in.
pub const PANIC: char = '#';

/// Counts batches and holds them until opened.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    closed: bool,
    entered: usize,
    sizes: Vec<usize>,
}

impl Gate {
    /// An open gate.
    pub fn open() -> Arc<Self> {
        Arc::default()
    }

    /// A closed gate.
    pub fn closed() -> Arc<Self> {
        let gate = Gate::default();
        gate.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        Arc::new(gate)
    }

    /// Lets all through from now on.
    pub fn release(&self) {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = false;
        self.changed.notify_all();
    }

    /// Blocks until `batches` have reached the gate.
    pub fn wait_for(&self, batches: usize) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(state, |s| s.entered < batches));
    }

    /// Sizes of the batches that reached the gate, in order.
    pub fn sizes(&self) -> Vec<usize> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sizes
            .clone()
    }

    fn pass(&self, size: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.entered += 1;
        state.sizes.push(size);
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |s| s.closed));
    }
}

/// One token a byte.
#[derive(Debug, Default)]
pub struct Bytes;

impl Preprocess for Bytes {
    fn encode_timed(&self, text: &str) -> Result<(Encoded, Vec<Stage>), ModelError> {
        let start = Instant::now();
        let ids = text.bytes().map(u32::from).collect();
        let stage = Stage {
            name: self.stages()[0],
            start,
            end: Instant::now(),
        };
        Ok((
            Encoded {
                ids,
                weights: Vec::new(),
            },
            vec![stage],
        ))
    }

    fn stages(&self) -> &'static [&'static str] {
        &["tokenize"]
    }
}

/// The model.
#[derive(Debug)]
pub struct Scripted {
    gate: Arc<Gate>,
}

impl Scripted {
    /// A model behind `gate`.
    pub fn new(gate: Arc<Gate>) -> Self {
        Scripted { gate }
    }
}

impl Infer for Scripted {
    fn infer(&mut self, batch: &[&Encoded]) -> Vec<Result<Prediction, ModelError>> {
        self.gate.pass(batch.len());
        let first = |e: &Encoded| e.ids.first().copied().unwrap_or(0);
        assert!(
            !batch.iter().any(|e| first(e) == u32::from(PANIC)),
            "the script says to panic"
        );
        let judge = |document: &&Encoded| {
            let scores = match first(document) {
                byte if byte == u32::from(FAIL) => {
                    let why = "the script says to fail".to_owned();
                    return Err(ModelError::Mismatch(why));
                }
                byte if byte % 2 == 0 => vec![0.75, 0.25],
                _ => vec![0.25, 0.75],
            };
            let embedding = vec![0.6, if scores[0] > 0.5 { 0.8 } else { -0.8 }];
            Ok(Prediction { scores, embedding })
        };
        batch.iter().map(judge).collect()
    }
}
