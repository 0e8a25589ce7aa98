//! Prometheus rules from objectives: what was judged before the release, watched after it.
//!
//! For each ratio objective that Prometheus answers: recording rules of its error ratio over the windows
//! of the Google SRE workbook (chapter 5, "Alerting on SLOs"), and multi-window, multi-burn-rate
//! alerts on them. Names and shapes are those of Sloth, so that dashboards made for it work.
//!
//! The workbook's burn rates (14.4, 6, 3, 1) are those that use up 2, 5, 10 and 10 % of a 30-day
//! budget within the long window. For another period the shares are kept and the rates follow
//! (`alert::burn_rate`).

mod alert;
mod expr;
mod yaml;

use alert::{ALERTS, Alert, burn_rate};

use crate::objective::{Indicator, Metric, Objective, Part, TimeWindow};

/// What became of the objectives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The rule file; without an exportable objective it has no groups.
    pub yaml: String,
    /// Names of the objectives with rules.
    pub exported: Vec<String>,
    /// Objectives left out, and why.
    pub left_out: Vec<(String, String)>,
    /// What somebody who loads the file should know, one sentence each.
    pub notes: Vec<String>,
}

/// One objective in the terms of the rules.
struct Slo<'a> {
    objective: &'a Objective,
    window: &'a TimeWindow,
    target: f64,
    part_is: Part,
    part: Side<'a>,
    total: Side<'a>,
}

/// One side of a ratio.
struct Side<'a> {
    query: &'a str,
    counter: bool,
}

impl Slo<'_> {
    /// Least share of good events and what is left: the share that may be bad. The subtraction is
    /// rounded, so that 0.99 leaves 0.01 and not 0.010000000000000009.
    fn budget(&self) -> f64 {
        ((1.0 - self.target) * 1e12).round() / 1e12
    }

    /// The error ratio over a window.
    fn error_ratio(&self, window: &str) -> Result<String, String> {
        let part = self.part.over(window)?;
        let total = self.total.over(window)?;
        // A side without series is empty, and empty less anything is empty: without this, a service
        // whose every answer is bad would have no good series and raise no alert.
        let part = format!("({part} or 0 * {total})");
        Ok(match self.part_is {
            Part::Bad => format!("{part} / {total}"),
            Part::Good => format!("1 - {part} / {total}"),
        })
    }
}

impl Side<'_> {
    fn over(&self, window: &str) -> Result<String, String> {
        if self.counter {
            expr::rate(self.query, window)
        } else {
            expr::windowed(self.query, window)
        }
    }
}

/// The rule file for these objectives.
#[must_use]
pub fn rules(objectives: &[Objective]) -> Exported {
    let mut found = Exported {
        yaml: String::new(),
        exported: Vec::new(),
        left_out: Vec::new(),
        notes: Vec::new(),
    };
    let mut groups = Vec::new();
    for objective in objectives {
        match exportable(objective).and_then(|slo| group(&slo, &mut found.notes)) {
            Ok(made) => {
                groups.extend(made);
                found.exported.push(objective.name.clone());
            }
            Err(why) => found.left_out.push((objective.name.clone(), why)),
        }
    }
    found.yaml = yaml::file(&groups, &found.left_out);
    found
}

fn exportable(objective: &Objective) -> Result<Slo<'_>, String> {
    let Indicator::Ratio {
        part_is,
        part,
        total,
        counter,
        target,
    } = &objective.indicator
    else {
        return Err(
            "a thresholdMetric is one value, not a share of events: it has no error budget to burn"
                .into(),
        );
    };
    let (Metric::Prometheus(part), Metric::Prometheus(total)) = (part, total) else {
        let source = match objective.source() {
            crate::report::model::Source::Client => "the load generator, which production has not",
            crate::report::model::Source::Loki => "Loki, whose ruler takes other rules",
            crate::report::model::Source::Tempo => "Tempo, which has no rules",
            crate::report::model::Source::Prometheus => "more than one source",
        };
        return Err(format!("its events are counted by {source}"));
    };
    if objective.budgeting.slice().is_some() {
        return Err("its budget is of slices of time, and these rules count events".into());
    }
    let window = objective
        .time_window
        .as_ref()
        .ok_or("it has no timeWindow, so there is no period that its budget is for")?;
    let side = |query| Side {
        query,
        counter: *counter,
    };
    Ok(Slo {
        objective,
        window,
        target: *target,
        part_is: *part_is,
        part: side(part),
        total: side(total),
    })
}

fn group(slo: &Slo, notes: &mut Vec<String>) -> Result<[yaml::Group; 2], String> {
    let mut group = yaml::Group::new(&slo.objective.name);
    let labels = labels(slo);
    let mut windows: Vec<&str> = ALERTS
        .iter()
        .flat_map(|alert| [alert.short, alert.long])
        .collect();
    windows.sort_by_key(|window| alert::seconds(window));
    windows.dedup();
    for window in windows {
        let name = format!("slo:sli_error:ratio_rate{window}");
        group.record(&name, &slo.error_ratio(window)?, &labels);
    }
    let selector = selector(slo);
    let constant = |value: f64| format!("vector({value})");
    group.record("slo:objective:ratio", &constant(slo.target), &labels);
    group.record("slo:error_budget:ratio", &constant(slo.budget()), &labels);
    alerts(slo, &mut group, &selector, notes);
    Ok([group, whole_period(slo, &labels, &selector)?])
}

/// The period as a whole, seldom, since it reads a month of counters. Of the events themselves: a mean
/// of short ratios would count a quiet night as much as a busy day, and be lost on a night without any.
fn whole_period(
    slo: &Slo,
    labels: &[(&'static str, String)],
    selector: &str,
) -> Result<yaml::Group, String> {
    let mut group = yaml::Group::new(&format!("{}-period", slo.objective.name)).every("5m");
    let period = period(slo.window);
    let whole = format!("slo:sli_error:ratio_rate{period}");
    group.record(&whole, &slo.error_ratio(&period)?, labels);
    group.record(
        "slo:period_error_budget_remaining:ratio",
        &format!("1 - {whole}{selector} / {}", slo.budget()),
        labels,
    );
    Ok(group)
}

fn labels(slo: &Slo) -> Vec<(&'static str, String)> {
    let mut labels = vec![("slo", slo.objective.name.clone())];
    if let Some(service) = &slo.objective.service {
        labels.push(("slo_service", service.clone()));
    }
    labels
}

fn selector(slo: &Slo) -> String {
    format!("{{slo={}}}", yaml::quoted(&slo.objective.name))
}

/// The period as Prometheus writes it: whole days where there are any, else seconds.
fn period(window: &TimeWindow) -> String {
    match window.seconds {
        seconds if seconds.is_multiple_of(86_400) => format!("{}d", seconds / 86_400),
        seconds => format!("{seconds}s"),
    }
}

fn alerts(slo: &Slo, group: &mut yaml::Group, selector: &str, notes: &mut Vec<String>) {
    let budget = slo.budget();
    let name = &slo.objective.name;
    for severity in ["page", "ticket"] {
        let mut parts = Vec::new();
        for alert in ALERTS.iter().filter(|alert| alert.severity == severity) {
            match threshold(slo, alert) {
                Ok(factor) => parts.push(alert.expr(selector, factor, budget)),
                Err(why) => notes.push(format!(
                    "{name}: no alert over {} and {}: {why}",
                    alert.short, alert.long
                )),
            }
        }
        if !parts.is_empty() {
            let title = slo.objective.display_name.as_str();
            let summary = format!(
                "{title}: the error budget burns {} than it may",
                if severity == "page" {
                    "much faster"
                } else {
                    "faster"
                }
            );
            group.alert(
                "SLOErrorBudgetBurn",
                &parts.join("\nor\n"),
                severity,
                &labels(slo),
                &summary,
            );
        }
    }
    let sli = format!("slo:sli_error:ratio_rate1h{selector}");
    // Dead telemetry raises none of the alerts above: nothing is not more than anything.
    group.alert(
        "SLOWithoutData",
        &format!("absent({sli})\nor\n{sli} != {sli}"),
        "ticket",
        &labels(slo),
        &format!(
            "{}: nothing is measured, so its alerts cannot fire",
            slo.objective.display_name
        ),
    );
}

/// The burn rate of an alert, if it can fire at all.
fn threshold(slo: &Slo, alert: &Alert) -> Result<f64, String> {
    if alert::seconds(alert.long) > slo.window.seconds {
        return Err(format!("the period is {} only", slo.window.text));
    }
    let factor = burn_rate(alert, slo.window.seconds);
    if factor * slo.budget() >= 1.0 {
        return Err(format!(
            "{factor} times a budget of {} is more than everything; the slower alerts see it",
            slo.budget()
        ));
    }
    Ok(factor)
}

#[cfg(test)]
mod tests;
