//! How the requests that an objective counts hang together.
//!
//! The client's rows give the correlation of its own figures. Counters, log lines and spans of the
//! service count the same requests, which stood in the same queue, in the same order; no backend
//! keeps that order, so the rows' correlation stands for theirs, too. Where a backend counts several
//! events a request (spans, tokens), those of one request are taken as one: they are worth no more
//! than the requests are.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::RunRecord;
use super::client;
use super::limits;
use super::stat::Correlation;
use super::stat::correlation;
use super::stat::pace::{Paces, Slowest};
use super::tally;
use crate::objective::{ClientFigure, Indicator, Metric, Objective, Part, Time, Wanted};
use crate::observation::Observation;

/// Which rows, and which of their times.
type Stream = (Option<String>, Time);

/// Correlation times of a run's requests, each estimated once.
pub(super) struct Streams<'a> {
    record: &'a RunRecord<'a>,
    /// Rows of the measured phase in the order in which they were due, by request name.
    orders: BTreeMap<Option<String>, Rc<Vec<&'a Observation>>>,
    known: BTreeMap<Stream, f64>,
    paces: BTreeMap<Stream, Rc<Option<Paces>>>,
    failures: Option<f64>,
}

impl<'a> Streams<'a> {
    pub(super) fn new(record: &'a RunRecord<'a>) -> Self {
        Self {
            record,
            orders: BTreeMap::new(),
            known: BTreeMap::new(),
            paces: BTreeMap::new(),
            failures: None,
        }
    }

    /// The correlation of the events that an objective counts, `total` in number.
    pub(super) fn of(&mut self, objective: &Objective, total: u64) -> Correlation {
        let (metric, threshold) = match &objective.indicator {
            Indicator::Ratio { part, .. } => (part, None),
            Indicator::Threshold { metric, op, value } => (metric, Some((*op, *value))),
        };
        let Metric::Client(metric) = metric else {
            return self.of_backend(objective, total);
        };
        let rows = self.by_due(metric.request.as_deref());
        let confidence = objective.confidence;
        let time = match &metric.figure {
            // Whether an answer is right has to do with the document asked about, not with the queue.
            ClientFigure::Accuracy => {
                let right = rows.iter().filter_map(|row| row.correct);
                let right: Vec<bool> = right.collect();
                let count = right.len();
                let time = correlation::of_events(right);
                let n = self.series(total, count);
                return self.worth(Correlation::new(time, n, confidence), total, count);
            }
            ClientFigure::Quantile { time, .. } => *time,
            ClientFigure::Count {
                limit: Some(limit), ..
            } => limit.time,
            _ => Time::Latency,
        };
        let counts = |row: &Observation| match (&metric.figure, threshold) {
            (ClientFigure::Quantile { time, .. }, Some((op, limit))) => {
                op.holds(client::seconds_of(row, *time), limit)
            }
            (figure, _) => client::counts(row, figure),
        };
        let bad_count = matches!(
            objective.indicator,
            Indicator::Ratio {
                part_is: Part::Bad,
                ..
            }
        );
        let own = correlation::of_events(rows.iter().map(|row| counts(row)));
        let latency = self.latency(metric.request.clone(), time);
        let stream = (metric.request.clone(), time);
        let of_rows = Correlation {
            slowest: self.slowest(objective, stream, |row| counts(row) == bad_count),
            ..Correlation::new(own.max(latency), self.series(total, rows.len()), confidence)
        };
        self.worth(of_rows, total, rows.len())
    }

    /// What all requests are worth, of which these rows may be a sample.
    fn worth(&self, of_rows: Correlation, total: u64, rows: usize) -> Correlation {
        match tally::of(self.record) {
            Some(_) => tally::worth(of_rows, total, rows),
            None => of_rows,
        }
    }

    /// Length of the series that a correlation was estimated from.
    fn series(&self, total: u64, rows: usize) -> f64 {
        match tally::of(self.record) {
            Some(_) => rows as f64,
            None => total as f64,
        }
    }

    /// What the rows are worth for an objective at their slowest pace.
    fn slowest(
        &mut self,
        objective: &Objective,
        stream: Stream,
        is_bad: impl Fn(&Observation) -> bool,
    ) -> Option<Slowest> {
        let limit = limits::seconds(self.record, objective)?;
        let rows = self.by_due(stream.0.as_deref());
        let time = stream.1;
        let paces = self.paces.entry(stream).or_insert_with(|| {
            let times = rows.iter().map(|row| client::seconds_of(row, time));
            Rc::new(Paces::of(&times.collect::<Vec<f64>>()))
        });
        let paces = paces.as_ref().as_ref()?;
        Some(paces.against(|i| is_bad(rows[i]), limit, objective.confidence))
    }

    fn of_backend(&mut self, objective: &Objective, total: u64) -> Correlation {
        let rows = self.by_due(None);
        let failed = |row: &Observation| {
            let figure = ClientFigure::Count {
                outcome: Wanted::Failed,
                limit: None,
            };
            client::counts(row, &figure)
        };
        let failures = *self
            .failures
            .get_or_insert_with(|| correlation::of_events(rows.iter().map(|row| failed(row))));
        let lost = rows.iter().filter(|row| failed(row)).count() as f64;
        let rows = rows.len() as f64;
        let time = failures.max(self.latency(None, Time::Latency));
        let requests = Correlation::new(time, rows, objective.confidence);
        let slowest = self.slowest(objective, (None, Time::Latency), failed);
        let events = (total as f64 / rows.max(1.0)).max(1.0);
        Correlation {
            time: requests.time * events,
            at_most: requests.at_most * events,
            n: requests.n * events,
            slowest: slowest.map(|slowest| slowest.of_events(total as f64, rows, lost)),
        }
    }

    fn latency(&mut self, request: Option<String>, time: Time) -> f64 {
        let rows = self.by_due(request.as_deref());
        *self.known.entry((request, time)).or_insert_with(|| {
            let times = rows.iter().map(|row| client::seconds_of(row, time));
            correlation::of_latencies(&times.collect::<Vec<f64>>())
        })
    }

    fn by_due(&mut self, request: Option<&str>) -> Rc<Vec<&'a Observation>> {
        let record = self.record;
        let order = self
            .orders
            .entry(request.map(str::to_owned))
            .or_insert_with(|| {
                let mut rows: Vec<&Observation> = client::rows(record, request).collect();
                rows.sort_by_key(|row| (row.due, row.id));
                Rc::new(rows)
            });
        Rc::clone(order)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Run;
    use super::*;
    use crate::record::AnswerBook;
    use crate::units::Nanos;

    /// A counter of one route among several: all requests that would be bad may be of that route.
    #[test]
    fn a_backend_that_counts_a_part_may_count_all_that_would_be_bad() {
        let mut run = Run::healthy();
        // A hundredth comes so near the bucket's 250 ms that a slower pace would take it beyond.
        run.each(|n, row| {
            // The machine becomes a fourth slower meanwhile.
            let took = if n < 900 { 4_000_000 } else { 5_000_000 };
            let long = if n.is_multiple_of(100) {
                240_000_000
            } else {
                0
            };
            row.done = Nanos(row.sent().unwrap_or_default().0 + took + long);
        });
        let answers = AnswerBook::default();
        let record = run.record(&answers);
        let objective = record
            .objectives
            .iter()
            .find(|o| o.name == "server-latency");
        let objective = objective.unwrap();
        let mut streams = Streams::new(&record);
        let rows = streams.by_due(None).len() as u64;
        let mut bad = |total: u64| streams.of(objective, total).slowest.unwrap().more_bad;
        let (all, part) = (bad(rows), bad(rows / 10));
        assert!((0.005..0.02).contains(&all), "{all}");
        assert!((part / all - 10.0).abs() < 0.2, "{part} of {all}");
    }
}
