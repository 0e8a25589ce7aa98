//! Counting all requests as they are recorded, for a run that keeps the rows of a part of them only.
//!
//! What an objective judges is counted here of every request, exactly; nothing is scaled up from rows.
//! What it is *worth* (how neighbours hang together) is estimated from the rows that are kept, and as if
//! only they had been sent. That is on the safe side: of a stationary series with autocorrelation time
//! `τ = 1 + 2 Σ ρ(k)`, a share `p` kept at random has `τ' = 1 + p (τ - 1)`, so its effective size
//! `p n / τ'` is at most `n / τ`, that of the whole.

use super::RunRecord;
use super::client;
use super::reading::{Missing, Reading};
use super::stat::Correlation;
use crate::objective::{
    ClientFigure, ClientMetric, Indicator, Metric, Objective, Op, Time, Wanted,
};
use crate::observation::{Observation, Outcome};
use crate::record::sampled::{LoadEnd, Sampled, level};
use crate::scenario::Scenario;
use crate::schedule::stretches;
use crate::units::{Nanos, Phase};

/// What an objective asks of one request.
#[derive(Debug, Clone)]
enum Ask {
    Counts(ClientMetric),
    Within(ClientMetric, Time, Op, f64),
    Ended(ClientMetric, Wanted),
}

/// Counts requests, and chooses those whose rows are kept.
#[derive(Debug)]
pub struct Tally {
    late_over: std::time::Duration,
    /// Names and questions; the indices of the requests asked about.
    figures: Vec<(Ask, Option<u16>, u64)>,
    window_end: Option<Nanos>,
    found: Sampled,
    most: u64,
    /// Rows kept by their [`level`], which is 64 at most.
    levels: [u64; 65],
    /// By phase, then request: the place of its counts.
    places: Vec<[Option<usize>; 3]>,
}

impl Tally {
    /// Nothing counted yet. At most `spec.record.rows` rows are kept.
    #[must_use]
    pub fn new(scenario: &Scenario, objectives: &[Objective]) -> Self {
        let measured = stretches(scenario).into_iter();
        let measured = measured.filter(|stretch| stretch.phase == Phase::Measure);
        let requests = &scenario.spec.requests;
        let index = |metric: &ClientMetric| {
            let name = metric.request.as_ref()?;
            let place = requests.iter().position(|request| request.name == *name);
            // One that there is not counts nothing.
            Some(
                place
                    .and_then(|n| u16::try_from(n).ok())
                    .unwrap_or(u16::MAX),
            )
        };
        let asks = objectives.iter().flat_map(asked);
        let figures = asks.map(|ask| {
            let of = index(ask.metric());
            (ask, of, 0)
        });
        Self {
            late_over: scenario.spec.validity.late_sends.over.0,
            figures: figures.collect(),
            window_end: measured.map(|stretch| stretch.end).max(),
            found: Sampled {
                one_in: 1,
                loads: vec![LoadEnd::default(); scenario.spec.loads.len()],
                ..Sampled::default()
            },
            most: scenario.spec.record.rows,
            levels: [0; 65],
            places: vec![[None; 3]; requests.len()],
        }
    }

    /// Counts one request. Whether its row is kept: for now, since later ones may be too many.
    pub fn record(&mut self, row: &Observation) -> bool {
        self.count(row);
        let level = level(row.id);
        if level < self.found.one_in.ilog2() {
            return false;
        }
        self.levels[level as usize] += 1;
        self.found.rows += 1;
        while self.found.rows > self.most && self.found.one_in < 1 << 62 {
            self.found.rows -= self.levels[self.found.one_in.ilog2() as usize];
            self.found.one_in *= 2;
        }
        level >= self.found.one_in.ilog2()
    }

    fn count(&mut self, row: &Observation) {
        let found = &mut self.found;
        found.requests += 1;
        let answered = row.outcome.answered();
        let failed = row.outcome != Outcome::Expected;
        found.second(row.due).due += 1;
        if let Some(sent) = row.sent() {
            found.second(sent).sent += 1;
        }
        let done = found.second(row.done);
        done.done += 1;
        done.answered += u64::from(answered);
        done.failed += u64::from(failed);
        if let Some(load) = found.loads.get_mut(usize::from(row.load)) {
            load.last = load.last.max(row.done);
            load.dropped += u64::from(row.outcome == Outcome::Dropped);
        }
        if row.outcome == Outcome::GeneratorFailed && found.generator_failed.is_none() {
            found.generator_failed = row.detail().map(str::to_owned);
        }
        let cell = match self.places.get_mut(usize::from(row.request)) {
            Some(places) => {
                let place = &mut places[row.phase as usize];
                let at = *place.get_or_insert_with(|| {
                    found.cell(row.phase, row.request);
                    found.cells.len() - 1
                });
                &mut found.cells[at]
            }
            None => found.cell(row.phase, row.request),
        };
        *cell.outcomes.entry(row.outcome).or_default() += 1;
        if let Some(status) = row.status {
            *cell.statuses.entry(status).or_default() += 1;
        }
        cell.sent += u64::from(row.sent().is_some());
        cell.late += u64::from(row.lateness().as_duration() > self.late_over);
        cell.latest = cell.latest.max(row.lateness());
        cell.traced += u64::from(answered && row.sampled);
        cell.scored += u64::from(row.correct.is_some());
        cell.right += u64::from(row.correct == Some(true));
        cell.streamed += u64::from(row.first_event().is_some());
        cell.bytes = cell.bytes.saturating_add(row.bytes.into());
        if row.phase == Phase::Measure {
            for (ask, of, count) in &mut self.figures {
                if of.is_none_or(|of| of == row.request) && ask.takes(row, self.window_end) {
                    *count += 1;
                }
            }
        }
    }

    /// What was counted; `None` where every request has its row, which then says it all.
    #[must_use]
    pub fn sampled(self) -> Option<Sampled> {
        (self.found.one_in > 1).then(|| self.counted())
    }

    /// What was counted, whether or not every request has its row.
    #[must_use]
    pub fn counted(mut self) -> Sampled {
        let figures = self.figures.into_iter();
        let named = figures.map(|(ask, _, count)| (ask.name(self.window_end), count));
        self.found.figures = named.collect();
        self.found
    }
}

impl Ask {
    fn metric(&self) -> &ClientMetric {
        let (Self::Counts(metric) | Self::Within(metric, ..) | Self::Ended(metric, _)) = self;
        metric
    }

    fn takes(&self, row: &Observation, window_end: Option<Nanos>) -> bool {
        match self {
            Self::Counts(metric) => client::counts(row, &metric.figure),
            Self::Within(_, time, op, limit) => op.holds(client::seconds_of(row, *time), *limit),
            Self::Ended(_, wanted) => {
                window_end.is_some_and(|end| row.done <= end) && client::ended(row, *wanted)
            }
        }
    }

    /// The question in words: what was counted for one objective serves every other that asks the same.
    fn name(&self, window_end: Option<Nanos>) -> String {
        let metric = self.metric();
        let of = metric.request.as_deref().unwrap_or("*");
        match self {
            Self::Counts(_) => format!("{of}: {:?}", metric.figure),
            Self::Within(_, time, op, limit) => {
                format!("{of}: {} {} {limit} s", time.name(), op.text())
            }
            Self::Ended(_, wanted) => {
                let end = window_end.unwrap_or_default().0;
                format!("{of}: {wanted:?} done by {end} ns")
            }
        }
    }
}

/// What an objective asks of the client's requests.
fn asked(objective: &Objective) -> Vec<Ask> {
    let of = |metric: &Metric| match metric {
        Metric::Client(metric) => Some(metric.clone()),
        _ => None,
    };
    match &objective.indicator {
        Indicator::Ratio { part, total, .. } => [part, total]
            .into_iter()
            .filter_map(of)
            .map(Ask::Counts)
            .collect(),
        Indicator::Threshold { metric, op, value } => of(metric)
            .map(|metric| match metric.figure {
                ClientFigure::Quantile { time, .. } => Ask::Within(metric, time, *op, *value),
                ClientFigure::Rate { outcome } => Ask::Ended(metric, outcome),
                _ => Ask::Counts(metric),
            })
            .into_iter()
            .collect(),
    }
}

/// What was counted of all requests, where the rows are a sample.
pub(super) fn of<'a>(record: &RunRecord<'a>) -> Option<&'a Sampled> {
    record.facts.context.sampled.as_ref()
}

/// What was counted for a question, by its words.
fn looked_up(record: &RunRecord, sampled: &Sampled, ask: &Ask) -> Reading<u64> {
    let end = record.facts.window().map(|(_, end)| end);
    sampled.figures.get(&ask.name(end)).copied().ok_or_else(|| {
        Missing::Because(format!(
            "one request in {} has its row, and this was not counted of all of them as they were recorded: judge by the objectives that the run was made with, or raise spec.record.rows",
            sampled.one_in
        ))
    })
}

/// Rows that a figure counts, of all requests.
pub(super) fn count(record: &RunRecord, sampled: &Sampled, metric: &ClientMetric) -> Reading<u64> {
    let cells = || cells(record, sampled, metric);
    match &metric.figure {
        ClientFigure::Count {
            outcome,
            limit: None,
        } => Ok(cells()
            .flat_map(|cell| &cell.outcomes)
            .filter(|(of, _)| client::wants(*outcome, **of))
            .map(|(_, count)| count)
            .sum()),
        ClientFigure::Accuracy => Ok(cells().map(|cell| cell.right).sum()),
        _ => looked_up(record, sampled, &Ask::Counts(metric.clone())),
    }
}

/// Answers that had a truth.
pub(super) fn compared(record: &RunRecord, sampled: &Sampled, metric: &ClientMetric) -> u64 {
    cells(record, sampled, metric).map(|cell| cell.scored).sum()
}

/// Whether any answer held an event of a stream.
pub(super) fn streamed(record: &RunRecord, sampled: &Sampled, metric: &ClientMetric) -> bool {
    cells(record, sampled, metric).any(|cell| cell.streamed > 0)
}

/// All requests that a metric is about.
pub(super) fn all(record: &RunRecord, sampled: &Sampled, metric: &ClientMetric) -> u64 {
    let cells = cells(record, sampled, metric);
    cells.map(crate::record::sampled::Cell::requests).sum()
}

/// Requests with a time within a quantile's limit.
pub(super) fn within(
    record: &RunRecord,
    sampled: &Sampled,
    metric: &ClientMetric,
    (time, op, limit): (Time, Op, f64),
) -> Reading<u64> {
    let ask = Ask::Within(metric.clone(), time, op, limit);
    looked_up(record, sampled, &ask)
}

/// Requests that ended as wanted within the measured window.
pub(super) fn ended(
    record: &RunRecord,
    sampled: &Sampled,
    metric: &ClientMetric,
    wanted: Wanted,
) -> Reading<u64> {
    looked_up(record, sampled, &Ask::Ended(metric.clone(), wanted))
}

fn cells<'a>(
    record: &'a RunRecord,
    sampled: &'a Sampled,
    metric: &'a ClientMetric,
) -> impl Iterator<Item = &'a crate::record::sampled::Cell> {
    let requests = &record.scenario.spec.requests;
    sampled.measured().filter(move |cell| {
        let of = requests.get(usize::from(cell.request));
        let named = |name: &String| of.is_some_and(|request| request.name == *name);
        metric.request.as_ref().is_none_or(named)
    })
}

/// The correlation of `total` requests of which `rows` have a row, from that of these rows: all are
/// worth what they are.
pub(super) fn worth(of_rows: Correlation, total: u64, rows: usize) -> Correlation {
    let each = (total as f64 / (rows as f64).max(1.0)).max(1.0);
    Correlation {
        time: of_rows.time * each,
        at_most: of_rows.at_most * each,
        n: total as f64,
        slowest: of_rows.slowest.map(|slowest| super::stat::pace::Slowest {
            at_most: slowest.at_most * each,
            ..slowest
        }),
    }
}

/// Whether the rows are those of the sample that the record says, and no more than were counted.
pub(super) fn fits(record: &RunRecord, sampled: &Sampled) -> Result<(), String> {
    let rows = record.rows;
    if rows.len() as u64 != sampled.rows {
        return Err(format!(
            "{} rows where {} were kept",
            rows.len(),
            sampled.rows
        ));
    }
    if !sampled.one_in.is_power_of_two() {
        return Err(format!("one in {} is no sample", sampled.one_in));
    }
    let stray = |row: &&Observation| !crate::record::sampled::keeps(row.id, sampled.one_in);
    if let Some(row) = rows.iter().find(stray) {
        return Err(format!("request {} is not of the sample", row.id.0));
    }
    let mut counted = std::collections::BTreeMap::new();
    for row in rows {
        let key = (row.phase, row.request, row.outcome);
        *counted.entry(key).or_insert(0_u64) += 1;
    }
    for ((phase, request, outcome), rows) in counted {
        let cell =
            |cell: &&crate::record::sampled::Cell| cell.phase == phase && cell.request == request;
        let all = sampled.cells.iter().find(cell);
        let all = all.and_then(|cell| cell.outcomes.get(&outcome));
        if all.is_none_or(|all| *all < rows) {
            return Err(format!(
                "more rows are {} than requests were counted as",
                outcome.name()
            ));
        }
    }
    let all: u64 = sampled
        .cells
        .iter()
        .map(crate::record::sampled::Cell::requests)
        .sum();
    if all != sampled.requests {
        return Err(format!(
            "{all} requests by their outcomes and {} in all",
            sampled.requests
        ));
    }
    Ok(())
}
