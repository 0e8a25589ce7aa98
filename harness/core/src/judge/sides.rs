//! Client, service and traces on the same request: what each says, and where they disagree beyond what
//! their clocks may err.
//!
//! Lengths are compared, which a clock that is off does not change; places in time only after the
//! service's clock has been set right by its median offset.

use std::collections::BTreeSet;

use super::RunRecord;
use super::coverage::Survey;
use super::spans::{Span, spans};
use super::stages::server_span;
use crate::observation::Observation;
use crate::query::Query;
use crate::report::model::{Finding, Sides};
use crate::units::RequestId;

/// How far two measurements of one length may lie apart, seconds: spans are stamped by wall clocks,
/// which are slewed, and rows by a monotonic one.
const CLOCK_ERROR: f64 = 0.002;
/// Time outside the service's span that is worth a finding when it is also half of the whole, seconds.
const MUCH_OUTSIDE: f64 = 0.05;
/// Share of the requests looked at that must show a disagreement about time for it to be one.
const LEAST_SHARE: f64 = 0.01;
/// Requests named by a finding.
const NAMED: usize = 5;

/// What each side says of one request; `None` when its trace is not there.
pub(super) fn of(record: &RunRecord, row: &Observation) -> Option<Sides> {
    let all = spans(record.answers, row.trace).ok()?;
    Some(sides(record, row, &all))
}

fn length(span: &Span) -> f64 {
    span.end.saturating_sub(span.start) as f64 / 1e9
}

fn sides(record: &RunRecord, row: &Observation, all: &[Span]) -> Sides {
    let taken = row.service_time().map(|time| time.as_secs_f64());
    let server = server_span(record, row, all).map(length);
    Sides {
        row: taken,
        client_span: all.iter().find(|s| s.id == row.span).map(length),
        server_span: server,
        outside: taken.zip(server).map(|(taken, server)| taken - server),
    }
}

/// One kind of disagreement while it is looked for.
struct Hunt {
    code: &'static str,
    seen: usize,
    /// By how much, and which.
    hits: Vec<(f64, RequestId)>,
}

impl Hunt {
    fn new(code: &'static str) -> Self {
        Self {
            code,
            seen: 0,
            hits: Vec::new(),
        }
    }

    /// `by` is how much more than allowed two sides differ; `None` where one of them says nothing.
    fn look(&mut self, row: &Observation, by: Option<f64>, most: f64) {
        let Some(by) = by else { return };
        self.seen += 1;
        if by > most {
            self.hits.push((by, row.id));
        }
    }

    fn finding(mut self, least: f64, say: impl Fn(usize, usize, f64) -> String) -> Option<Finding> {
        if self.hits.is_empty() || (self.hits.len() as f64) < self.seen as f64 * least {
            return None;
        }
        self.hits
            .sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let worst = self.hits[0].0;
        Some(Finding {
            code: self.code.to_owned(),
            said: say(self.hits.len(), self.seen, worst),
            requests: self.hits.iter().take(NAMED).map(|(_, id)| *id).collect(),
        })
    }
}

/// All disagreements, over every request whose trace was looked up.
pub(super) fn findings(record: &RunRecord, survey: &Survey) -> Vec<Finding> {
    let asked: BTreeSet<_> = record
        .answers
        .iter()
        .filter_map(|answer| match answer.query {
            Query::TempoTrace { trace } => Some(trace),
            _ => None,
        })
        .collect();
    let mut client = Hunt::new("client_span_differs");
    let mut longer = Hunt::new("server_longer_than_client");
    let mut outside = Hunt::new("much_outside_the_service");
    let mut apart = Hunt::new("server_span_outside_request");
    let mut status = Hunt::new("status_differs");
    let offset = survey.clock_offset.unwrap_or_default();
    for row in record.rows.iter().filter(|r| asked.contains(&r.trace)) {
        let Ok(all) = spans(record.answers, row.trace) else {
            continue;
        };
        let found = sides(record, row, &all);
        let differ = found.row.zip(found.client_span).map(|(a, b)| (a - b).abs());
        client.look(row, differ, CLOCK_ERROR);
        // One that gave up waiting is rightly shorter than what the service went on to do.
        let answered = found.outside.filter(|_| row.outcome.answered());
        longer.look(row, answered.map(|gap| -gap), CLOCK_ERROR);
        let most = found
            .row
            .map_or(MUCH_OUTSIDE, |r| (r / 2.0).max(MUCH_OUTSIDE));
        outside.look(row, answered, most);
        let server = server_span(record, row, &all);
        apart.look(
            row,
            server.and_then(|s| beyond(record, row, s, offset)),
            CLOCK_ERROR,
        );
        let said = server.and_then(|s| s.status).zip(row.status);
        status.look(row, said.map(|(a, b)| f64::from(u8::from(a != b))), 0.0);
    }
    let at = crate::report::seconds;
    [
        status.finding(0.0, |n, of, _| {
            format!("{n} of {of} requests were answered with another status than their span in the trace says: something between client and service answers, or the span is not of this request")
        }),
        longer.finding(LEAST_SHARE, |n, of, by| {
            format!("for {n} of {of} requests the service's span is longer than the client waited, by up to {}: a clock was set during the run, or the span is not of this request", at(by))
        }),
        client.finding(LEAST_SHARE, |n, of, by| {
            format!("for {n} of {of} requests the generator's own span is not as long as its row says, by up to {}: the generator's wall clock was set during the run", at(by))
        }),
        apart.finding(LEAST_SHARE, |n, of, by| {
            format!("for {n} of {of} requests the service's span lies outside the request's own times, by up to {} after the median offset of {} is taken off: the clocks drift against each other", at(by), at(offset))
        }),
        outside.finding(LEAST_SHARE, |n, of, by| {
            format!("{n} of {of} requests spent half of their time or more, and up to {}, outside the service's span: in connecting, the network, a proxy, or before the service began its span", at(by))
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Seconds by which the service's span lies outside the request's own times, its clock set right.
fn beyond(record: &RunRecord, row: &Observation, span: &Span, offset: f64) -> Option<f64> {
    // What the service does after the client gave up is not outside by a clock's fault.
    row.outcome.answered().then_some(())?;
    let sent = record.facts.wall(row.sent()?).0 as i128;
    let done = record.facts.wall(row.done).0 as i128;
    let offset = (offset * 1e9) as i128;
    let early = sent - (i128::from(span.start) - offset);
    let late = i128::from(span.end) - offset - done;
    Some(early.max(late).max(0) as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Run;
    use crate::query::Query;
    use crate::report::model::Report;

    fn codes(report: &Report) -> Vec<&str> {
        report.findings.iter().map(|f| f.code.as_str()).collect()
    }

    #[test]
    fn three_witnesses_that_agree_are_no_finding_and_are_shown_side_by_side() {
        let report = Run::healthy().judged();
        assert_eq!(codes(&report), Vec::<&str>::new());
        let sides = report.requests[0].sides.as_ref().unwrap();
        // Sent 0.1 ms after due, done 8 ms after it; the service's span is a millisecond shorter at each end.
        assert!((sides.row.unwrap() - 0.0079).abs() < 1e-9);
        assert!((sides.server_span.unwrap() - 0.0059).abs() < 1e-9);
        assert!((sides.outside.unwrap() - 0.002).abs() < 1e-9);
        assert_eq!(sides.client_span, None);
    }

    #[test]
    fn a_service_that_measures_less_than_its_users_wait_is_a_finding() {
        let mut run = Run::healthy();
        // The world (and so the spans) keeps 8 ms; the client waits a tenth of a second.
        let slow = run.rows.len();
        for row in run.rows.iter_mut().take(slow) {
            row.done = crate::units::Nanos(row.done.0 + 100_000_000);
        }
        let report = run.judged();
        assert!(
            codes(&report).contains(&"much_outside_the_service"),
            "{:?}",
            report.findings
        );
    }

    #[test]
    fn a_span_that_outlasts_its_request_is_a_finding() {
        let mut run = Run::healthy();
        for row in &mut run.world {
            row.done = crate::units::Nanos(row.done.0 + 40_000_000);
        }
        let report = run.judged();
        assert!(
            codes(&report).contains(&"server_longer_than_client"),
            "{:?}",
            report.findings
        );
    }

    #[test]
    fn another_status_in_the_trace_is_a_finding() {
        let mut run = Run::healthy();
        run.tamper(|query, answer| {
            if matches!(query, Query::TempoTrace { .. }) {
                let attributes = r#""name":"POST /predict","attributes":[{"key":"http.response.status_code","value":{"intValue":"500"}}]"#;
                answer.body = answer.body.replace(r#""name":"POST /predict""#, attributes);
            }
        });
        let report = run.judged();
        assert!(
            codes(&report).contains(&"status_differs"),
            "{:?}",
            report.findings
        );
        assert_eq!(report.findings[0].requests.len(), 5);
    }
}
