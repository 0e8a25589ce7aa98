//! A judged run in the forms people and programs read.

pub mod model;
