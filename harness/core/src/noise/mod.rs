//! How much two runs differ by chance alone: what a comparison of runs rests on.
//!
//! | what is compared | noise within one run | module |
//! |---|---|---|
//! | a quantile or mean of requests in the order they were due | circular block bootstrap | [`bootstrap`] |
//! | counts of bad events | exact, on counts made smaller for their dependence | [`counts`] |
//! | anything, of several runs | spread between the runs, Student's t | [`between`] |
//!
//! Requests that meet in one queue are not independent, and treating them so makes a comparison too
//! sure; [`dependence`] estimates over how many requests they depend on each other. Everything is
//! seeded: the same values give the same answer, byte for byte.

pub(crate) mod between;
pub(crate) mod bootstrap;
#[cfg(test)]
mod calibration;
pub(crate) mod counts;
pub(crate) mod dependence;
