//! What came from the environment is not kept.

use harness_core::record::{AnswerBook, RunFacts, Stop};

/// Takes values that came from the environment out of a text. The version may stay, which is there
/// to be shown.
pub(crate) fn hide(text: &mut String, version: Option<&str>, secrets: &[String]) {
    for secret in secrets
        .iter()
        .filter(|s| !s.is_empty() && Some(s.as_str()) != version)
    {
        *text = text.replace(secret, "[redacted]");
    }
}

/// Takes values that came from the environment out of everything of ours that is kept: addresses,
/// and the sentences of errors, which quote them. Bodies of answers stay as they came.
pub(crate) fn redact(facts: &mut RunFacts, answers: AnswerBook, secrets: &[String]) -> AnswerBook {
    let version = facts.expect_version.clone();
    let hide = |text: &mut String| hide(text, version.as_deref(), secrets);
    hide(&mut facts.target.url);
    facts
        .backends
        .values_mut()
        .for_each(|used| hide(&mut used.url));
    match &mut facts.stop {
        Some(
            Stop::Interrupted(why)
            | Stop::AbortRule(why)
            | Stop::TargetUnreachable(why)
            | Stop::BackendUnreachable(why)
            | Stop::CannotRecord(why)
            | Stop::NotStarted(why),
        ) => hide(why),
        None => {}
    }
    let faults = facts.faults.iter_mut();
    faults.filter_map(|f| f.error.as_mut()).for_each(hide);
    facts.settled.missing.iter_mut().for_each(hide);
    let redacted = answers.iter().cloned().map(|mut answer| {
        if let Some(error) = &mut answer.error {
            hide(error);
        }
        answer
    });
    redacted.collect()
}
