//! Runs side by side: deltas with intervals, and whether they may be compared at all.

use super::RunRecord;
use super::baseline::compare::compare as beside;
use super::baseline::figure::{self, Salt};
use super::baseline::other_file;
use super::client;
use super::coverage::{self, Survey};
use super::tally;
use crate::measure;
use crate::objective::{
    Allowance, Baseline, ClientFigure, ClientMetric, Indicator, Time, Wanted, Worse,
};
use crate::observation::Outcome;
use crate::record::baseline::Figure;
use crate::report::model::{
    COMPARISON_SCHEMA, Change, ComparedRun, Comparison, Delta, DeltaOf, Pair, Report, Verdict,
};

/// Confidence of each two-sided interval.
const CONFIDENCE: f64 = 0.95;
/// Rates may differ by so much before they are called different.
const RATE: f64 = 0.1;
/// Quantiles compared.
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
];

/// A run to be compared.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// Its directory, as named.
    pub dir: &'a str,
    /// What it recorded.
    pub record: RunRecord<'a>,
    /// Its report.
    pub report: &'a Report,
}

/// Compares each run with the first.
#[must_use]
pub fn compare(sides: &[Side]) -> Comparison {
    let runs: Vec<ComparedRun> = sides.iter().enumerate().map(run).collect();
    let not_comparable = differences(sides, &runs);
    let profiles: Vec<Vec<Compared>> = sides
        .iter()
        .enumerate()
        .map(|(place, side)| profile(side, place))
        .collect();
    let pairs = profiles
        .iter()
        .zip(&runs)
        .skip(1)
        .map(|(profile, run)| Pair {
            base: runs[0].label.clone(),
            other: run.label.clone(),
            deltas: deltas(&profiles[0], profile),
        });
    Comparison {
        schema: COMPARISON_SCHEMA.into(),
        comparable: not_comparable.is_empty(),
        not_comparable,
        confidence: CONFIDENCE,
        pairs: pairs.collect(),
        runs: runs.clone(),
    }
}

fn label(place: usize) -> String {
    u8::try_from(place)
        .ok()
        .filter(|place| *place < 26)
        .map_or_else(
            || format!("run {}", place + 1),
            |place| char::from(b'A' + place).to_string(),
        )
}

fn run((place, side): (usize, &Side)) -> ComparedRun {
    let (record, facts) = (&side.record, side.record.facts);
    ComparedRun {
        label: label(place),
        dir: side.dir.to_owned(),
        run: facts.run_id.clone(),
        scenario: facts.scenario.clone(),
        scenario_sha256: facts.scenario_sha256.clone(),
        started_at: facts.started.rfc3339(),
        service: facts.service.clone(),
        versions: side.report.run.versions.clone(),
        verdict: side.report.verdict,
        requests: client::measured(record),
        seconds: facts
            .window()
            .map_or(0.0, |(start, end)| end.since(start).as_secs_f64()),
        distribution: measure::distribution(record.scenario, facts, record.rows),
    }
}

/// Why the runs may not be compared.
fn differences(sides: &[Side], runs: &[ComparedRun]) -> Vec<String> {
    let mut found = Vec::new();
    let Some(first) = runs.first() else {
        return found;
    };
    for (run, side) in runs.iter().zip(sides) {
        if run.verdict == Verdict::Invalid {
            let code = side
                .report
                .reason_code
                .as_deref()
                .unwrap_or("no reason given");
            found.push(format!(
                "{} is invalid ({code}): its figures say nothing of the service",
                run.label
            ));
        }
    }
    for (run, side) in runs.iter().zip(sides).skip(1) {
        let (a, b) = (&first.label, &run.label);
        let mut differ = |what: &str, left: &str, right: &str| {
            if left != right {
                found.push(format!("{a} and {b} differ in {what}: {left} and {right}"));
            }
        };
        let short = |digest: &str| digest.chars().take(12).collect::<String>();
        differ(
            "scenario (SHA-256)",
            &short(&first.scenario_sha256),
            &short(&run.scenario_sha256),
        );
        differ("service", &first.service, &run.service);
        let rate = |run: &ComparedRun| run.requests as f64 / run.seconds.max(f64::MIN_POSITIVE);
        let (left, right) = (rate(first), rate(run));
        if (left - right).abs() > RATE * left.max(right) {
            found.push(format!(
                "{a} and {b} differ in rate: {left:.1}/s and {right:.1}/s"
            ));
        }
        let files = |side: &Side| side.record.facts.context.files.clone();
        if let Some(file) = other_file(&files(&sides[0]), &files(side)) {
            found.push(format!(
                "{a} and {b} sent other data: {file} is not the same file"
            ));
        }
        if first.run == run.run {
            found.push(format!("{a} and {b} are the same run"));
        }
    }
    found
}

/// One figure of a run, and how it is compared.
struct Compared {
    of: DeltaOf,
    name: String,
    unit: Option<String>,
    worse: Worse,
    figure: Figure,
    /// What is measured: figures of one name that measure different things are not compared.
    measures: Option<Indicator>,
}

fn profile(side: &Side, place: usize) -> Vec<Compared> {
    let record = &side.record;
    let survey = coverage::survey(record);
    let salt = Salt(place as u64);
    let mut all: Vec<Compared> = QUANTILES
        .iter()
        .map(|(name, q)| Compared {
            of: DeltaOf::Latency,
            name: (*name).to_owned(),
            unit: Some("s".into()),
            worse: Worse::Higher,
            figure: latency(record, *q, name, salt),
            measures: None,
        })
        .collect();
    all.push(Compared {
        of: DeltaOf::Errors,
        name: "bad".into(),
        unit: Some("ratio".into()),
        worse: Worse::Higher,
        figure: errors(record),
        measures: None,
    });
    all.push(Compared {
        of: DeltaOf::Throughput,
        name: "answers".into(),
        unit: Some("1/s".into()),
        worse: Worse::Lower,
        figure: throughput(record, salt),
        measures: None,
    });
    all.extend(objectives(side, &survey, salt));
    all
}

fn whole(figure: ClientFigure) -> ClientMetric {
    ClientMetric {
        request: None,
        figure,
    }
}

fn latency(record: &RunRecord, q: f64, name: &str, salt: Salt) -> Figure {
    let metric = whole(ClientFigure::Quantile {
        time: Time::Latency,
        q,
    });
    let times = client::times(record, &metric, Time::Latency);
    let value = client::nearest_rank(times, q).filter(|v| v.is_finite());
    figure::sampled_quantile(record, &metric, value, salt.seed(name))
}

fn errors(record: &RunRecord) -> Figure {
    let (total, bad) = match tally::of(record) {
        Some(sampled) => sampled.measured().fold((0, 0), |(total, bad), cell| {
            let good = cell.outcomes.get(&Outcome::Expected).copied();
            let all = cell.requests();
            (total + all, bad + all - good.unwrap_or(0))
        }),
        None => client::rows(record, None).fold((0, 0), |(total, bad), row| {
            (total + 1, bad + u64::from(row.outcome != Outcome::Expected))
        }),
    };
    if total == 0 {
        return Figure::Missing {
            why: "no request was due".into(),
        };
    }
    Figure::Share {
        bad,
        total,
        unseen: 0,
        effective: figure::effective(record, None),
    }
}

fn throughput(record: &RunRecord, salt: Salt) -> Figure {
    let outcome = Wanted::Any;
    let metric = whole(ClientFigure::Rate { outcome });
    match client::rate(record, &metric, outcome) {
        Some(value) => figure::sampled_rate(record, &metric, value, salt.seed("answers")),
        None => Figure::Missing {
            why: "the measured phase has no length".into(),
        },
    }
}

fn objectives(side: &Side, survey: &Survey, salt: Salt) -> Vec<Compared> {
    let results = side.record.objectives.iter().zip(&side.report.objectives);
    results
        .map(|(objective, result)| Compared {
            of: DeltaOf::Objective,
            name: objective.name.clone(),
            unit: result.unit.clone(),
            worse: Worse::of(&objective.indicator),
            figure: figure::figure(&side.record, survey, objective, salt),
            measures: Some(objective.indicator.clone()),
        })
        .collect()
}

fn deltas(base: &[Compared], other: &[Compared]) -> Vec<Delta> {
    let twin = |one: &Compared| other.iter().find(|o| o.of == one.of && o.name == one.name);
    base.iter().map(|one| delta(one, twin(one))).collect()
}

fn value(figure: &Figure) -> Option<f64> {
    let value = match figure {
        Figure::Share { bad, total, .. } => *bad as f64 / *total as f64,
        Figure::Sampled { value, .. } | Figure::Value { value, .. } => *value,
        Figure::Missing { .. } => return None,
    };
    value.is_finite().then_some(value)
}

fn delta(base: &Compared, other: Option<&Compared>) -> Delta {
    let positive = |figure: &Figure| value(figure).is_some_and(|v| v > 0.0);
    let shares = matches!(base.figure, Figure::Share { .. });
    let relative = !shares && positive(&base.figure) && other.is_some_and(|o| positive(&o.figure));
    let (then, now) = (value(&base.figure), other.and_then(|o| value(&o.figure)));
    let mut delta = Delta {
        of: base.of,
        name: base.name.clone(),
        unit: base.unit.clone(),
        base: then,
        other: now,
        relative,
        change: then.zip(now).map(|(then, now)| match relative {
            true => now / then - 1.0,
            false => now - then,
        }),
        lower: None,
        upper: None,
        says: Change::Unknown,
        note: String::new(),
    };
    let same = |other: &&Compared| match (&base.measures, &other.measures) {
        (Some(a), Some(b)) => super::baseline::measures_alike(a, b),
        _ => true,
    };
    let Some(other) = other.filter(same) else {
        delta.note = "the other run has no such objective, or another one of this name".into();
        delta.change = None;
        return delta;
    };
    let criterion = Baseline {
        allowance: if relative {
            Allowance::Relative(0.0)
        } else {
            Allowance::Absolute(0.0)
        },
        worse: base.worse,
    };
    let each = 1.0 - (1.0 - CONFIDENCE) / 2.0;
    match beside(&other.figure, &[&base.figure], &criterion, each) {
        Err(why) => delta.note = why,
        Ok(found) => {
            [delta.lower, delta.upper] = found.bounds.map(|v| v.is_finite().then_some(v));
            let (up, down) = (found.bounds[0] > 0.0, found.bounds[1] < 0.0);
            delta.says = match (up, down, base.worse) {
                (true, _, Worse::Higher) | (_, true, Worse::Lower) => Change::Worse,
                (true, _, Worse::Lower) | (_, true, Worse::Higher) => Change::Better,
                _ => Change::Same,
            };
            delta.note = found.how;
        }
    }
    delta
}
