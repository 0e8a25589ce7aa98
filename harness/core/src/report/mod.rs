//! A judged run in the forms people and programs read.
//!
//! Every form is a pure function of one [`Report`](model::Report). Text in a report may come from the
//! service under test, its logs or a backend, so every form neutralises it in its own way; no form
//! shows a missing value as a number.

mod beside;
pub mod checkup;
mod comparison;
mod figures;
mod github;
mod html;
mod json;
mod junit;
mod markdown;
pub mod model;
#[cfg(test)]
mod samples;
mod summary;
mod terminal;
mod text;

pub use comparison::{
    comparison_html, comparison_json, comparison_markdown, comparison_schema, comparison_terminal,
};
pub(crate) use figures::{ending, seconds};
pub use github::github;
pub use html::html;
pub use json::{inert, json, schema};
pub use junit::{JunitError, junit};
pub use markdown::markdown;
pub use terminal::{explain, terminal};
#[cfg(test)]
pub(crate) use text::is_hidden;
