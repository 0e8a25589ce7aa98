//! A document classification service on candle.

pub mod model;
