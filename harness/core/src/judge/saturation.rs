//! Saturation signals over time, for the charts: shown where the service has them, never judged here.

use super::RunRecord;
use super::coverage::Survey;
use super::names::{length, of_job, until};
use super::reading::series;
use crate::query::Query;
use crate::report::model::TimeSeries;

/// Prometheus' default is 11,000 points a series; so many are enough for a chart.
const POINTS: u64 = 1_000;

/// Names and questions; none without scrapes.
fn asked(record: &RunRecord, survey: &Survey) -> Vec<(&'static str, Query)> {
    let Some(scrapes) = &survey.scrapes else {
        return Vec::new();
    };
    let (start, end) = (record.facts.started, until(record.facts));
    let span_ms = end.0.saturating_sub(start.0) / 1_000_000;
    let step_ms = scrapes.interval_ms.max(span_ms / POINTS + 1);
    let rate = length(
        scrapes
            .interval_ms
            .saturating_mul(4_000_000)
            .max(10_000_000_000),
    );
    let sum = |metric: &str| format!("sum({})", of_job(record, metric));
    let cpu = format!(
        "sum(rate({}[{rate}]))",
        of_job(record, "process_cpu_seconds_total")
    );
    [
        ("inference_queue_depth", sum("inference_queue_depth")),
        ("inference_queue_capacity", sum("inference_queue_capacity")),
        (
            "http_server_active_requests",
            sum("http_server_active_requests"),
        ),
        ("cores used by the service", cpu),
    ]
    .into_iter()
    .map(|(name, query)| {
        let query = Query::PromRange {
            query,
            start,
            end,
            step_ms,
        };
        (name, query)
    })
    .collect()
}

pub(super) fn queries(record: &RunRecord, survey: &Survey) -> Vec<Query> {
    asked(record, survey).into_iter().map(|(_, q)| q).collect()
}

/// The series that were answered, and notes on those that were not.
pub(super) fn charts(record: &RunRecord, survey: &Survey) -> (Vec<TimeSeries>, Vec<String>) {
    let started_ms = record.facts.started.0 as f64 / 1e6;
    let (mut charts, mut notes) = (Vec::new(), Vec::new());
    for (name, query) in asked(record, survey) {
        match series(record.answers, &query) {
            Ok(found) => {
                charts.extend(found.into_iter().filter(|s| !s.points.is_empty()).map(|s| {
                    let points = s.points.into_iter().filter(|(_, v)| v.is_finite());
                    TimeSeries {
                        name: name.into(),
                        unit: "1".into(),
                        points: points
                            .map(|(at, v)| ((at as f64 - started_ms) / 1e3, v))
                            .collect(),
                    }
                }))
            }
            Err(missing) => notes.push(format!("no chart of {name}: {missing}")),
        }
    }
    (charts, notes)
}
