//! The workers: threads that take batches from the queue and run the model on them.
//!
//! [`Pool`] is for encoders, whose documents are done in one go; [`Writers`] are for causal models, whose texts
//! grow token by token.
//!
//! A model is anything that implements [`Infer`](crate::model::Infer); [`scripted`] is one whose
//! behaviour tests can write down.

mod desk;
mod generate;
mod pool;
pub mod scripted;

pub use desk::SubmitError;
pub use generate::{Broken, Event, Finish, Prompt, WriterSettings, Writers, Writing};
pub use pool::{Answer, Batch, Outcome, Pool, Reply, Settings, Ticket, Timing};
