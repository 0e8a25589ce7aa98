//! From what the evidence says to each objective's verdict. One file because the bounds, the correction
//! over all objectives and the sentence that tells of them have to agree.

use std::collections::BTreeMap;

use super::RunRecord;
use super::attempts;
use super::baseline;
use super::client;
use super::coverage::Survey;
use super::evaluate::{self, Said};
use super::links;
use super::names::grouped;
use super::reading::Reading;
use super::stat::{self, Correlation};
use super::streams::Streams;
use super::tiers;
use crate::objective::{Budgeting, ClientFigure, Indicator, Metric, Objective, Time};
use crate::query::Query;
use crate::record::context::Counted;
use crate::report::model::{Gate, ObjectiveResult, Place, Threshold, Verdict};

/// A share to be tested against the least one.
struct Test {
    good: u64,
    total: u64,
    unseen: u64,
    target: f64,
    /// How they hang together.
    correlation: Correlation,
    /// What the good ones are, for the reason.
    good_are: String,
    how: String,
}

/// One objective on its way to a verdict.
struct Case<'a> {
    objective: &'a Objective,
    result: ObjectiveResult,
    /// What is still to be tested; without it the result's verdict stands.
    test: Option<Test>,
}

/// The results of all objectives, in their order.
pub(super) fn results(record: &RunRecord, survey: &Survey) -> Vec<ObjectiveResult> {
    let mut streams = Streams::new(record);
    let mut cases: Vec<Case> = record
        .objectives
        .iter()
        .map(|objective| case(record, survey, &mut streams, objective))
        .collect();
    let compared = baseline::outcomes(record, survey);
    let warns: Vec<Option<tiers::Criterion>> = cases
        .iter()
        .map(|c| tiers::criterion(record, c.objective, c.hanging(), &c.result))
        .collect();
    // A fail needs only one criterion to be missed, so the misses are corrected for the number of
    // required ones; a pass needs all of them, each at its full confidence (intersection-union).
    let with = |holds: &dyn Fn(usize) -> bool| -> Vec<usize> {
        let is_required = |i: &usize| cases[*i].objective.gate == Gate::Required;
        (0..cases.len())
            .filter(is_required)
            .filter(|i| holds(*i))
            .collect()
    };
    let required = with(&|i| cases[i].test.is_some());
    let against = with(&|i| baseline::counts(cases[i].objective, &compared[i]));
    let strict = with(&|i| record.facts.context.strict && warns[i].is_some());
    let missed = |case: &Case| {
        case.test.as_ref().map_or(1.0, |t| {
            stat::p_missed_by(t.good, t.total, t.target, t.correlation)
        })
    };
    let p: Vec<f64> = cases.iter().map(missed).collect();
    let p_worse: Vec<f64> = compared.iter().map(baseline::p_worse).collect();
    let p_warn: Vec<f64> = warns
        .iter()
        .map(|w| w.as_ref().map_or(1.0, tiers::Criterion::p_missed))
        .collect();
    let mut raw: Vec<f64> = required.iter().map(|i| p[*i]).collect();
    raw.extend(against.iter().map(|i| p_worse[*i]));
    raw.extend(strict.iter().map(|i| p_warn[*i]));
    let mut corrected = stat::holm(&raw).into_iter();
    let mut put = |places: &[usize], raw: &[f64]| {
        let mut adjusted = raw.to_vec();
        for (place, value) in places.iter().zip(corrected.by_ref()) {
            adjusted[*place] = value;
        }
        adjusted
    };
    let adjusted = put(&required, &p);
    let worse = put(&against, &p_worse);
    let warned = put(&strict, &p_warn);
    let criteria = required.len() + against.len() + strict.len();
    for (index, case) in cases.iter_mut().enumerate() {
        decide(record, case, p[index], adjusted[index], criteria);
        let confidence = case.objective.confidence;
        case.result.warn = warns[index]
            .as_ref()
            .map(|warn| warn.result(confidence, warned[index], case.result.value));
        let compared = &compared[index];
        case.result.baseline = baseline::result(record, case.objective, compared, worse[index]);
        if let Some(found) = &case.result.baseline {
            case.result.verdict = baseline::joint(case.result.verdict, found.verdict);
            case.result.reason = format!("{}; {}", case.result.reason, found.reason);
        }
    }
    cases.into_iter().map(|case| case.result).collect()
}

/// The counts that a run's objectives are tested on, by name, where its evidence is complete.
pub(super) fn counted(record: &RunRecord) -> BTreeMap<String, Counted> {
    let survey = super::coverage::survey(record);
    let mut streams = Streams::new(record);
    record
        .objectives
        .iter()
        .filter_map(|objective| {
            let counted = case(record, &survey, &mut streams, objective).counted()?;
            Some((objective.name.clone(), counted))
        })
        .collect()
}

impl Case<'_> {
    fn counted(&self) -> Option<Counted> {
        self.test.as_ref().map(|test| Counted {
            good: test.good,
            total: test.total,
            unseen: test.unseen,
        })
    }

    /// The counts, and how they hang together.
    fn hanging(&self) -> Option<(Counted, Correlation)> {
        let correlation = self.test.as_ref()?.correlation;
        Some((self.counted()?, correlation))
    }

    /// Adds what attempts before this one counted.
    fn pool(&mut self, record: &RunRecord) {
        let (more, runs) = attempts::pooled(record, &self.objective.name);
        let Some(test) = self.test.as_mut().filter(|_| runs > 0) else {
            return;
        };
        test.how = format!(
            "{}; with {} of {} of {runs} earlier attempts, in this one {} of {}",
            test.how,
            grouped(more.good),
            grouped(more.total),
            grouped(test.good),
            grouped(test.total)
        );
        // How near its limit this attempt came says nothing of those before it.
        test.correlation.slowest = None;
        test.good += more.good;
        test.total += more.total;
        test.unseen += more.unseen;
        self.result.good = Some(test.good);
        self.result.samples = Some(test.total);
        if self.result.threshold.is_none() {
            self.result.value = Some(test.good as f64 / (test.total as f64).max(1.0));
        }
    }
}

fn case<'a>(
    record: &RunRecord,
    survey: &Survey,
    streams: &mut Streams,
    objective: &'a Objective,
) -> Case<'a> {
    let queries = evaluate::queries(record, survey, objective);
    let mut case = Case {
        objective,
        result: blank(record, objective, &queries),
        test: None,
    };
    let said = evaluate::said(record, survey, objective);
    take(record, &mut case, said, streams);
    incomplete(survey, &mut case);
    case.pool(record);
    case
}

fn blank(record: &RunRecord, objective: &Objective, queries: &[Query]) -> ObjectiveResult {
    let (target, threshold) = match &objective.indicator {
        _ if objective.sliced_threshold().is_some() => (objective.sliced_threshold(), None),
        Indicator::Ratio { target, .. } => (Some(*target), None),
        Indicator::Threshold { op, value, .. } => (
            None,
            Some(Threshold {
                op: op.text().into(),
                value: *value,
            }),
        ),
    };
    let mut texts: Vec<String> = queries
        .iter()
        .map(|q| match q {
            Query::PromInstant { query, .. }
            | Query::PromRange { query, .. }
            | Query::LokiInstant { query, .. }
            | Query::LokiLines { query, .. }
            | Query::TempoMetrics { query, .. } => query.clone(),
            Query::TempoTrace { trace } => trace.to_string(),
        })
        .collect();
    texts.dedup();
    ObjectiveResult {
        name: objective.name.clone(),
        display_name: objective.display_name.clone(),
        source: objective.source(),
        signal: objective.signal,
        gate: objective.gate,
        value: None,
        unit: objective.unit.clone().or_else(|| unit(objective)),
        good: None,
        samples: None,
        effective_samples: None,
        target,
        threshold,
        limit_seconds: limit_seconds(objective),
        interval: None,
        confidence: objective.confidence,
        margin: None,
        verdict: Verdict::Inconclusive,
        reason: String::new(),
        queries: texts,
        place: Some(place(record, objective)),
        links: links::of_queries(record, queries),
        evidence: Vec::new(),
        warn: None,
        baseline: None,
        budget: None,
    }
}

/// Where the objective stands in the files that the run was made with.
fn place(record: &RunRecord, objective: &Objective) -> Place {
    let named = record.facts.slo_files.get(&objective.file);
    Place {
        file: named.unwrap_or(&objective.file).clone(),
        line: objective.at.map(|(line, _)| line),
    }
}

/// The unit where no annotation names one.
fn unit(objective: &Objective) -> Option<String> {
    let unit = match &objective.indicator {
        Indicator::Ratio { .. } => "ratio",
        _ if objective.sliced_threshold().is_some() || objective.raw.is_some() => "ratio",
        Indicator::Threshold {
            metric: Metric::Client(client),
            ..
        } => match client.figure {
            ClientFigure::Accuracy => "ratio",
            ClientFigure::Rate { .. } => "1/s",
            ClientFigure::Quantile { .. } => "s",
            ClientFigure::Count { .. } => return None,
        },
        Indicator::Threshold { .. } => return None,
    };
    Some(unit.into())
}

fn limit_seconds(objective: &Objective) -> Option<f64> {
    match &objective.indicator {
        Indicator::Ratio {
            part: Metric::Client(client),
            ..
        } => match client.figure {
            ClientFigure::Count {
                limit: Some(limit), ..
            } if limit.time == Time::Latency => Some(limit.at_most.0.as_secs_f64()),
            _ => None,
        },
        Indicator::Threshold {
            metric: Metric::Client(client),
            value,
            ..
        } => match client.figure {
            ClientFigure::Quantile {
                time: Time::Latency,
                ..
            } => Some(*value),
            _ => None,
        },
        _ => None,
    }
}

/// Puts what was said into the result, and decides what no statistics are needed for.
fn take(record: &RunRecord, case: &mut Case, said: Reading<Said>, streams: &mut Streams) {
    let result = &mut case.result;
    match (said, &case.objective.indicator) {
        (Err(missing), _) => result.reason = format!("not known: {missing}"),
        (
            Ok(Said::Share {
                good,
                total,
                unseen,
                how,
            }),
            indicator,
        ) => {
            result.good = Some(good);
            result.samples = Some(total);
            result.value = (total > 0).then(|| good as f64 / total as f64);
            let target = match indicator {
                Indicator::Ratio { target, .. } => *target,
                Indicator::Threshold { value, .. } => {
                    case.objective.sliced_threshold().unwrap_or(*value)
                }
            };
            case.test = Some(Test {
                good,
                total,
                unseen,
                target,
                correlation: match case.objective.budgeting {
                    Budgeting::Timeslices { .. } => {
                        streams.of(case.objective, total).of_blocks(total as f64)
                    }
                    // A mean of slices weighs requests by their slice; how many more would be bad at
                    // the slowest pace is known of requests alike.
                    Budgeting::RatioTimeslices { .. } => Correlation {
                        slowest: None,
                        ..streams.of(case.objective, total)
                    },
                    Budgeting::Occurrences => streams.of(case.objective, total),
                },
                good_are: "good".into(),
                how,
            });
        }
        (
            Ok(Said::Quantile { good, total, value }),
            Indicator::Threshold {
                metric: Metric::Client(client),
                op,
                value: limit,
            },
        ) => {
            let ClientFigure::Quantile { q, .. } = client.figure else {
                return;
            };
            result.good = Some(good);
            result.samples = Some(total);
            result.value = value;
            result.margin = value.map(|v| limit - v);
            let none = if total > 0 && value.is_none() {
                ", and the quantile falls among requests without an answer"
            } else {
                ""
            };
            case.test = Some(Test {
                good,
                total,
                unseen: 0,
                target: q,
                correlation: streams.of(case.objective, total),
                good_are: format!("{} {limit} s", op.sign()),
                how: format!("judged as a share of every request due{none}"),
            });
        }
        (
            Ok(Said::Value { value, how, open }),
            Indicator::Threshold {
                op, value: limit, ..
            },
        ) => {
            result.value = Some(value);
            result.margin = Some(if op.sign().starts_with('<') {
                limit - value
            } else {
                value - limit
            });
            let measured = client::measured(record);
            if let Some(floor) = case.objective.min_samples
                && measured < floor
            {
                result.reason = format!(
                    "only {} requests in the measured phase, and harness/min-samples asks for {}",
                    grouped(measured),
                    grouped(floor)
                );
                return;
            }
            if let Some(open) = open {
                result.reason = format!(
                    "{} against {} {}, {how}; {open}",
                    number(value),
                    op.sign(),
                    number(*limit)
                );
                return;
            }
            let holds = op.holds(value, *limit);
            result.verdict = if holds { Verdict::Pass } else { Verdict::Fail };
            result.reason = format!(
                "{} is {}{} {}, {how}; `value` decides, `target` is not used",
                number(value),
                if holds { "" } else { "not " },
                op.sign(),
                number(*limit)
            );
        }
        (Ok(_), _) => result.reason = "not known: the evidence does not fit the objective".into(),
    }
}

/// Incomplete evidence decides nothing, whatever it says; what it says is still shown.
fn incomplete(survey: &Survey, case: &mut Case) {
    let Some(backend) = evaluate::backend(case.objective.source()) else {
        return;
    };
    let Some(source) = survey.source(backend).filter(|s| !s.complete) else {
        return;
    };
    let lead = format!("the evidence in {backend} is incomplete: {}", source.reason);
    case.result.reason = if case.test.is_none() && case.result.verdict == Verdict::Inconclusive {
        format!("{lead}; {}", case.result.reason)
    } else {
        lead
    };
    case.result.verdict = Verdict::Inconclusive;
    case.test = None;
}

/// Decides a share. `p` and `adjusted`: chance of so few good ones at the target, as it is and
/// corrected for the number of required objectives.
fn decide(record: &RunRecord, case: &mut Case, p: f64, adjusted: f64, required: usize) {
    let Some(test) = &case.test else {
        return;
    };
    let (good, total, target) = (test.good as f64, test.total as f64, test.target);
    let confidence = case.objective.confidence;
    let alpha = 1.0 - confidence;
    let bounds = stat::bounds_by(test.good, test.total, confidence, test.correlation);
    let is_ratio = case.result.target.is_some() || case.result.unit.as_deref() == Some("ratio");
    if test.total > 0 {
        case.result.effective_samples = Some(test.worth(confidence).0);
        if is_ratio {
            case.result.interval = Some([bounds.lower, bounds.upper]);
            case.result.margin = Some(good / total - target);
        }
    }
    let floor = case.objective.min_samples.unwrap_or(1).max(1);
    let found = format!(
        "{} of {} {} ({})",
        grouped(test.good),
        grouped(test.total),
        test.good_are,
        percent(good / total.max(1.0)),
    );
    let sure = percent(confidence);
    let how = format!("{}{}", test.how, worth(test, confidence));
    let met = stat::p_met_by(test.good, test.total, test.unseen, target, test.correlation) <= alpha;
    let more = |confidence| {
        let more = stat::more_to_decide(
            test.good,
            test.total,
            test.unseen,
            target,
            confidence,
            test.correlation,
        );
        further(record, more, test.total)
    };
    let (verdict, reason) = if test.total < floor {
        let asked = match case.objective.min_samples {
            Some(floor) => format!(", and harness/min-samples asks for {}", grouped(floor)),
            None => String::new(),
        };
        let reason = format!("only {} events{asked}; {how}", grouped(test.total));
        (Verdict::Inconclusive, reason)
    } else if met {
        let reason = format!(
            "{found}; at {sure} confidence at least {}, target {}; {how}",
            percent(bounds.lower),
            percent(target),
        );
        (Verdict::Pass, reason)
    } else if adjusted < alpha {
        let reason = format!(
            "{found}; at {sure} confidence at most {}, target {}; {how}",
            percent(bounds.upper),
            percent(target),
        );
        (Verdict::Fail, reason)
    } else if p < alpha {
        let reason = format!(
            "{found}: under the target {} at {sure} confidence alone, not when corrected for {required} required criteria: {}; {how}",
            percent(target),
            more(1.0 - alpha / required.max(1) as f64),
        );
        (Verdict::Inconclusive, reason)
    } else {
        let reason = format!(
            "{found}; at {sure} confidence between {} and {}, target {}: {}; {how}",
            percent(bounds.lower),
            percent(bounds.upper),
            percent(target),
            more(confidence),
        );
        (Verdict::Inconclusive, reason)
    };
    case.result.verdict = verdict;
    case.result.reason = reason;
}

impl Test {
    /// How many independent events these are worth at least, and how many more are taken as bad at the run's
    /// slowest pace, if a pass rests on that.
    fn worth(&self, confidence: f64) -> (f64, Option<u64>) {
        let total = self.total as f64;
        match self
            .correlation
            .rests_on_slowest(self.good as f64, total, confidence)
        {
            Some(slowest) => {
                let more_bad = (slowest.more_bad * total).round() as u64;
                (total / slowest.at_most, Some(more_bad))
            }
            None => (total / self.correlation.at_most, None),
        }
    }
}

/// A clause on how much correlated events are worth; empty where it is all but their number.
fn worth(test: &Test, confidence: f64) -> String {
    let (least, slowest) = test.worth(confidence);
    if least >= 0.9 * test.total as f64 {
        return String::new();
    }
    if least < 1.0 {
        return "; neighbours are alike, so that all of them may be worth no more than one".into();
    }
    let least = grouped(least.floor() as u64);
    match slowest {
        None => {
            format!("; neighbours are alike, so they are worth at least {least} independent ones")
        }
        Some(more_bad) => format!(
            "; neighbours are alike, so they are worth at least {least} independent ones, taken at the run's slowest pace throughout{}",
            match more_bad {
                0 => String::new(),
                more => format!(", at which {} more would be bad", grouped(more)),
            }
        ),
    }
}

/// What more of the same would take, in events and in time at the rate at which they came.
fn further(record: &RunRecord, more: Option<u64>, total: u64) -> String {
    let Some(more) = more else {
        return "no number of further requests at this share would decide".into();
    };
    let length = record
        .facts
        .window()
        .map_or(0.0, |(start, end)| end.since(start).as_secs_f64());
    let time = more as f64 * length / (total as f64).max(1.0);
    let time = if length <= 0.0 || total == 0 {
        String::new()
    } else if time < 120.0 {
        format!(" ({:.0} s at this rate)", time.ceil())
    } else {
        format!(" ({:.0} minutes at this rate)", (time / 60.0).ceil())
    };
    format!(
        "about {} more at this share{time} would decide",
        grouped(more)
    )
}

/// A share for people, never rounded up to 100 % nor down to 0 %.
pub(super) fn percent(share: f64) -> String {
    let text = |share: f64| {
        let text = format!("{:.3}", share * 100.0);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let shown = text(share);
    if share < 1.0 && shown == "100" {
        "over 99.999 %".into()
    } else if share > 0.0 && shown == "0" {
        "under 0.001 %".into()
    } else {
        format!("{shown} %")
    }
}

/// A number for people, at most six decimals.
pub(super) fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        format!("{value}")
    } else {
        let text = format!("{value:.6}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}
