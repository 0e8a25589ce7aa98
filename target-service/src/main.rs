//! A document classification service on candle.
fn main() {}
