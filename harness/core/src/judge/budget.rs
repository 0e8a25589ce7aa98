//! The error budget of an SLO's period: how fast would this build burn it?
//!
//! Budget `b = 1 - target` is the share of events that may be bad, `p` the share that is. The burn rate
//! is `p / b` (Google SRE workbook, chapter 5): at 1 the period's budget lasts the period exactly. It
//! does not depend on how much traffic there is; the number of bad events does. That production's
//! traffic is of the same kind as the scenario's is an assumption, and said.

use super::RunRecord;
use super::decide::number;
use super::names::grouped;
use super::reading::one;
use crate::objective::{Indicator, Objective};
use crate::query::{Backend, Query};
use crate::record::context::Production;
use crate::report::model::{BudgetResult, ObjectiveResult, ProductionBudget};

/// The question for production's traffic.
pub(super) fn query(record: &RunRecord) -> Option<Query> {
    match &record.facts.context.production {
        Some(Production::Query(query))
            if record.facts.backends.contains_key(&Backend::Prometheus) =>
        {
            Some(Query::PromInstant {
                query: query.clone(),
                time: record.facts.started,
            })
        }
        _ => None,
    }
}

/// Production's traffic in events a second and where that is from; `None` when nobody said; an error
/// in words when it was to be measured and could not be.
pub(super) fn production(record: &RunRecord) -> Result<Option<(f64, String)>, String> {
    match &record.facts.context.production {
        None => Ok(None),
        Some(Production::Rate(rate)) => Ok(Some((*rate, "given".into()))),
        Some(Production::Query(text)) => {
            let query = query(record).ok_or("prometheus was not read in this run")?;
            let rate = one(record.answers, &query).map_err(|missing| missing.to_string())?;
            if rate > 0.0 {
                Ok(Some((rate, text.clone())))
            } else {
                Err(format!("it is {rate} a second"))
            }
        }
    }
}

/// The budget of one objective; `None` where it has none (no period, no share of events) or its
/// share is not known.
pub(super) fn budget(
    record: &RunRecord,
    objective: &Objective,
    result: &ObjectiveResult,
    production: Option<&(f64, String)>,
) -> Option<BudgetResult> {
    let window = objective.time_window.as_ref()?;
    // What follows reckons in events; a budget of slices would be burnt by time.
    if objective.budgeting.slice().is_some() {
        return None;
    }
    let Indicator::Ratio { target, .. } = objective.indicator else {
        return None;
    };
    let (good, [low, high]) = (result.value?, result.interval?);
    let budget = ((1.0 - target) * 1e12).round() / 1e12;
    if budget <= 0.0 {
        return None;
    }
    let rate_of = |good: f64| ((1.0 - good) / budget).max(0.0);
    let (burn_rate, lower, upper) = (rate_of(good), rate_of(high), rate_of(low));
    let days = window.seconds as f64 / 86_400.0;
    let lasts = |burn: f64| (burn > 1.0).then(|| days / burn);
    let events = |rate: f64| rate * window.seconds as f64;
    let production = production.map(|(rate, source)| ProductionBudget {
        rate: *rate,
        source: source.clone(),
        budget_events: budget * events(*rate),
        bad_events: (1.0 - good) * events(*rate),
        times_the_run: run_rate(record).map(|run| rate / run),
    });
    let mut found = BudgetResult {
        window: window.text.clone(),
        days,
        budget,
        burn_rate,
        lower,
        upper,
        days_to_exhaustion: lasts(burn_rate),
        days_at_worst: lasts(upper),
        production,
        summary: String::new(),
    };
    found.summary = summary(&found);
    Some(found)
}

/// Requests due a second in the measured phase.
fn run_rate(record: &RunRecord) -> Option<f64> {
    let (start, end) = record.facts.window()?;
    let seconds = end.since(start).as_secs_f64();
    let due = super::client::measured(record);
    (seconds > 0.0 && due > 0).then(|| due as f64 / seconds)
}

fn summary(found: &BudgetResult) -> String {
    let percent = |rate: f64| format!("{} %", figure(rate * 100.0));
    let mut text = format!(
        "at this share of bad events a period of {} burns {} of its error budget (between {} and {})",
        found.window,
        percent(found.burn_rate),
        percent(found.lower),
        percent(found.upper)
    );
    if let Some(production) = &found.production {
        text.push_str(&format!(
            ": {} of {} bad events at {}/s",
            grouped(production.bad_events.round() as u64),
            grouped(production.budget_events.round() as u64),
            figure(production.rate)
        ));
    }
    match (found.days_to_exhaustion, found.days_at_worst) {
        (Some(days), _) => text.push_str(&format!("; used up after {} days", figure(days))),
        (None, Some(days)) => text.push_str(&format!(
            "; it lasts, though the evidence allows that it is used up after {} days",
            figure(days)
        )),
        (None, None) => text.push_str("; it lasts"),
    }
    text
}

/// Three significant digits.
fn figure(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return number(value);
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
