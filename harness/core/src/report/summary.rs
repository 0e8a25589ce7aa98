//! What every form says in the same words: the headline, what was missed, where to look.

use super::figures;
use super::model::{
    Explanation, Gate, Group, ObjectiveResult, Report, Signal, SourceCoverage, Tail, Verdict,
};
use super::text;

/// The verdict as the first and last line say it: `overload: 2 of 6 objectives missed`.
pub(super) fn headline(report: &Report) -> String {
    format!("{}: {}", text::name(&report.run.scenario), finding(report))
}

/// The same without the scenario's name.
pub(super) fn finding(report: &Report) -> String {
    let required: Vec<&ObjectiveResult> = report
        .objectives
        .iter()
        .filter(|o| o.gate == Gate::Required)
        .collect();
    let of = |verdict| required.iter().filter(|o| o.verdict == verdict).count();
    let all = text::plural(required.len(), "objective", "objectives");
    match report.verdict {
        Verdict::Pass => format!("{all} met"),
        Verdict::Fail => format!("{} of {all} missed", of(Verdict::Fail)),
        Verdict::Inconclusive => {
            let open = required
                .iter()
                .filter(|o| o.verdict != Verdict::Pass)
                .count();
            let blind = report.coverage.sources.iter().any(|s| !s.complete);
            let evidence = if blind { "telemetry incomplete, " } else { "" };
            match (required.is_empty(), open) {
                (true, _) => "nothing was required, so nothing was decided".to_owned(),
                (false, 0) => format!("{evidence}{all} met but not proven"),
                (false, open) => format!("{evidence}{open} of {all} undecided"),
            }
        }
        Verdict::Invalid => match &report.reason_code {
            Some(code) => format!("the run cannot be trusted ({})", text::name(code)),
            None => "the run cannot be trusted".to_owned(),
        },
    }
}

/// What the verdict means for whoever acts on it.
pub(super) fn meaning(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "Every required objective is met, with enough evidence to say so.",
        Verdict::Fail => {
            "At least one required objective is missed, with enough evidence to say so."
        }
        Verdict::Inconclusive => {
            "The run was sound, but the evidence does not decide. This is not a pass."
        }
        Verdict::Invalid => {
            "The run itself cannot be trusted: its figures say nothing of the service."
        }
    }
}

/// Stands over results of a run that cannot be trusted, so that none of them is taken for a pass.
pub(super) const DISTRUST: &str =
    "The run is invalid: the results below are shown, but they decide nothing.";

/// Name for people, falling back to the name in the file.
pub(super) fn title(objective: &ObjectiveResult) -> String {
    let name = match objective.display_name.trim() {
        "" => &objective.name,
        display => display,
    };
    text::name(name)
}

/// Objectives by golden signal, signals without any left out.
pub(super) fn by_signal(report: &Report) -> Vec<(Signal, Vec<&ObjectiveResult>)> {
    Signal::ALL
        .into_iter()
        .map(|signal| {
            (
                signal,
                report
                    .objectives
                    .iter()
                    .filter(|o| o.signal == signal)
                    .collect(),
            )
        })
        .filter(|(_, objectives): &(_, Vec<_>)| !objectives.is_empty())
        .collect()
}

/// Whether some line of `reasons` says the objective's own reason already.
pub(super) fn told(report: &Report, objective: &ObjectiveResult) -> bool {
    report
        .reasons
        .iter()
        .any(|reason| reason.contains(&objective.reason))
}

/// `1,254 of 1,254 (100 %)`, or that it could not be told.
pub(super) fn found(source: &SourceCoverage) -> String {
    let expected = figures::count(source.expected);
    match source.found {
        None => format!("unknown of {expected}"),
        Some(found) if source.expected == 0 => format!("{} of none", figures::count(found)),
        Some(found) => {
            let share = found as f64 / source.expected as f64;
            let share = figures::percent(share, Some(source.limit));
            format!("{} of {expected} ({share})", figures::count(found))
        }
    }
}

/// Checks of the run that did not hold or could not be made.
pub(super) fn doubts(report: &Report) -> impl Iterator<Item = &super::model::ValidityCheck> {
    report
        .validity
        .iter()
        .filter(|check| check.ok != Some(true))
}

/// Which requests, how many, how long, and how many of them have whole traces.
pub(super) fn group(group: &Group) -> String {
    let mean = group.latency.map_or_else(String::new, |latency| {
        format!(", {} on average", figures::seconds(latency))
    });
    format!(
        "{}: {}{mean}; {} of {} traces whole",
        text::name(&group.what),
        text::plural_count(group.requests, "request", "requests"),
        group.traced,
        group.looked_up,
    )
}

/// What is known of why an objective was missed.
pub(super) fn explanation<'a>(
    report: &'a Report,
    objective: &ObjectiveResult,
) -> Option<&'a Explanation> {
    let mut all = report.why.iter();
    all.find(|explanation| explanation.objective == objective.name)
}

/// The stage that accounts for most of the slow requests' excess: `queue, 92 % of the excess`.
pub(super) fn most(tail: &Tail) -> Option<String> {
    let stage = tail.stages.first()?;
    let share = stage.share.filter(|share| *share > 0.0)?;
    let (name, share) = (text::name(&stage.name), figures::share(share));
    Some(format!(
        "{name}, {share} of the excess over typical requests"
    ))
}

/// The links of a list that a page may show: to http and https alone.
pub(super) fn safe_url(url: &str) -> Option<&str> {
    let web = url.starts_with("http://") || url.starts_with("https://");
    let plain = url
        .bytes()
        .all(|b| b.is_ascii_graphic() && !b"\"'<>\\^`{|}()[]*".contains(&b));
    (web && plain).then_some(url)
}
