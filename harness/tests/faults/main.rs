//! What can go wrong between the generator and its target, each with a real socket on loopback: every
//! fault has an outcome of its own, none is retried, and all of them together are the schedule.

mod http1;
mod http2;
mod peer;
mod restart;
mod streams;
mod tls;
