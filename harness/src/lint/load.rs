//! Whether objectives can be decided under a scenario's load at all.

use harness_core::objective::{Budgeting, ClientFigure, Indicator, Metric, Objective};
use harness_core::scenario::{Executor, Scenario};
use harness_core::units::Phase;

use super::{Id, Warning};

/// Warnings on what the load is too short or too thin for.
#[must_use]
pub fn load(objective: &Objective, scenario: &Scenario) -> Vec<Warning> {
    let warn = |id, message: String, better: String| Warning {
        id,
        place: objective.written.target.clone(),
        objective: objective.name.clone(),
        message,
        better,
    };
    let mut warnings = Vec::new();
    let window = window(scenario);
    let share = match &objective.indicator {
        Indicator::Ratio { target, .. } => Some(*target),
        Indicator::Threshold {
            metric: Metric::Client(client),
            value,
            ..
        } => match client.figure {
            ClientFigure::Quantile { q, .. } => Some(q),
            ClientFigure::Accuracy => Some(*value),
            _ => None,
        },
        Indicator::Threshold { .. } => None,
    };
    if let Some(slice) = objective.budgeting.slice() {
        let slice = slice.0.as_secs_f64();
        let whole = (window / slice + 1e-9).floor();
        let rest = window - whole * slice;
        if whole < 1.0 {
            warnings.push(warn(
                Id::Undecidable,
                format!("the measured phase of {window} s holds no whole slice of {slice} s"),
                "a longer measured phase, or shorter slices by harness/slice".into(),
            ));
            return warnings;
        }
        if rest > 1e-6 {
            warnings.push(warn(
                Id::SliceRest,
                format!("the last {rest:.3} s of the measured phase of {window} s are less than a slice of {slice} s, and belong to none"),
                "a measured phase that is a multiple of the slice".into(),
            ));
        }
    }
    let Some(share) = share.filter(|s| *s > 0.0) else {
        return warnings;
    };
    if let Budgeting::Timeslices { slice, .. } = objective.budgeting {
        let slices = (window / slice.0.as_secs_f64() + 1e-9).floor();
        let needed = floor(share, objective.confidence);
        if slices < needed {
            warnings.push(warn(
                Id::Undecidable,
                format!("{share} of slices at {} confidence takes {needed} slices without a bad one, and the measured phase holds {slices}", objective.confidence),
                format!("a measured phase of {:.0} s, or slices of {:.3} s", needed * slice.0.as_secs_f64(), window / needed),
            ));
        }
        return warnings;
    }
    let Some(expected) = requests(objective, scenario) else {
        return warnings;
    };
    let least = floor(share, objective.confidence);
    let asked = objective.min_samples.unwrap_or(0) as f64;
    let needed = least.max(asked);
    if expected < needed {
        let why = if asked > least {
            format!("harness/min-samples asks for {asked}")
        } else {
            format!(
                "{share} at {} confidence takes {needed} without a miss",
                objective.confidence
            )
        };
        warnings.push(warn(
            Id::Undecidable,
            format!("the scenario makes about {expected:.0} such requests in its measured phase, and {why}: it cannot be decided"),
            format!("a measured phase of {:.0} s at this rate, or {:.1} times the rate in this time", window * needed / expected.max(1e-9), needed / expected.max(1e-9)),
        ));
    }
    warnings
}

/// Fewest events without a miss that show a share: the least n with share^n <= 1 - confidence.
fn floor(share: f64, confidence: f64) -> f64 {
    // The tolerance keeps an exact power from being rounded up.
    ((1.0 - confidence).ln() / share.ln() - 1e-9)
        .ceil()
        .max(1.0)
}

/// Seconds of the measured phase.
fn window(scenario: &Scenario) -> f64 {
    let stretches = harness_core::schedule::stretches(scenario);
    let measured = || stretches.iter().filter(|s| s.phase == Phase::Measure);
    let start = measured().map(|s| s.start).min();
    let end = measured().map(|s| s.end).max();
    match (start, end) {
        (Some(start), Some(end)) => end.since(start).as_secs_f64(),
        _ => 0.0,
    }
}

/// Requests in the measured phase that an objective can see; `None` where that depends on the service
/// (closed loads).
fn requests(objective: &Objective, scenario: &Scenario) -> Option<f64> {
    let name = match objective.metrics().next() {
        Some(Metric::Client(client)) => client.request.as_deref(),
        _ => None,
    };
    let open = [Executor::ConstantArrivalRate, Executor::RampingArrivalRate];
    if scenario
        .spec
        .loads
        .iter()
        .any(|l| !open.contains(&l.executor))
    {
        return None;
    }
    let wanted: Vec<bool> = scenario
        .spec
        .requests
        .iter()
        .map(|request| name.is_none_or(|name| name == request.name))
        .collect();
    let seen = harness_core::schedule::open(scenario).filter(|arrival| {
        arrival.phase == Phase::Measure && wanted.get(usize::from(arrival.request)) == Some(&true)
    });
    Some(seen.count() as f64)
}
