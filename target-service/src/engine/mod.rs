//! The workers: threads that take batches from the queue and run the model on them.
//!
//! A model is anything that implements [`Infer`](crate::model::Infer); [`scripted`] is one whose
//! behaviour tests can write down.

mod pool;
pub mod scripted;

pub use pool::{Answer, Batch, Outcome, Pool, Reply, Settings, SubmitError, Ticket, Timing};
