//! `harness run --retries N`: which attempts are made again, and what the next one stands on. The rule
//! and its guarantee are in `harness_core::judge`'s module `attempts` and in ARCHITECTURE.md.

use std::path::{Path, PathBuf};

use harness_core::record::context::{Attempt, EarlierAttempt};
use harness_core::report::model::{Report, Verdict};

/// Where an attempt goes: a run of one attempt is its own directory.
#[must_use]
pub fn place(out: &Path, number: u32, most: u32) -> PathBuf {
    if most == 1 {
        out.to_owned()
    } else {
        out.join(name(number))
    }
}

/// The name of an attempt's directory.
#[must_use]
pub fn name(number: u32) -> String {
    format!("attempt-{number}")
}

/// What an attempt is told; `None` where there is only one.
#[must_use]
pub fn attempt(number: u32, most: u32, earlier: &[EarlierAttempt]) -> Option<Attempt> {
    (most > 1).then(|| Attempt {
        number,
        most,
        earlier: earlier.to_vec(),
    })
}

/// Whether an attempt is made again: only one that says nothing (invalid by the run's own checks) or
/// not enough (inconclusive). Never after a pass or a fail, nor after an interruption, an abort rule,
/// or a target or backend that could not be reached.
#[must_use]
pub fn again(report: &Report, number: u32, most: u32) -> bool {
    let undecided = match report.verdict {
        Verdict::Inconclusive => true,
        Verdict::Invalid => report.exit_code == crate::cli::EXIT_INVALID,
        Verdict::Pass | Verdict::Fail => false,
    };
    undecided && number < most
}
