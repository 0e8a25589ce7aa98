//! The requests behind a verdict: which are shown, and their spans and log lines.

use std::collections::{BTreeMap, BTreeSet};

use super::RunRecord;
use super::client;
use super::coverage;
use super::names::trace_log;
use super::reading::{Missing, Reading, json};
use super::spans::{Span, spans};
use super::why::Missed;
use super::{links, sides};
use crate::objective::{Indicator, Metric, Objective, Part};
use crate::observation::{Observation, Outcome};
use crate::query::{Backend, Query};
use crate::report::model::{
    LogDetail, ObjectiveResult, RequestDetail, Signal, SpanDetail, Verdict,
};
use crate::units::{Nanos, SpanId, UnixNanos};

/// Requests shown for each missed objective, and of the slowest.
const SHOWN: usize = 3;
/// Most log lines shown of a request.
const LINES: u32 = 50;
/// Most spans shown of a request.
const SPANS: usize = 200;
/// Most bytes shown of a line.
const LINE_BYTES: usize = 2_000;
/// Most bytes shown of a severity.
const SEVERITY_BYTES: usize = 60;
/// Log lines are looked for from this long before a request was due, and after it was done.
const AROUND: u64 = 2_000_000_000;

/// Chooses the requests to show, and writes into each missed objective which are behind it.
pub(super) fn chosen<'a>(
    record: &RunRecord<'a>,
    results: &mut [ObjectiveResult],
    missed: &[Missed<'a>],
) -> Vec<(&'a Observation, &'static str)> {
    let mut chosen: Vec<(&Observation, &'static str)> = Vec::new();
    let mut add = |row: &'a Observation, why: &'static str| {
        if !chosen.iter().any(|(c, _)| c.id == row.id) {
            chosen.push((row, why));
        }
    };
    let why = |row: &Observation| match row.outcome {
        Outcome::Expected => "slowest",
        _ => "failed",
    };
    let failed = results.iter_mut().filter(|r| r.verdict == Verdict::Fail);
    for (result, missed) in failed.zip(missed) {
        for row in &missed.worst {
            result.evidence.push(row.id);
            add(row, why(row));
        }
    }
    for row in worst(client::rows(record, None).filter(|r| r.outcome.answered())) {
        add(row, why(row));
    }
    for row in missed.iter().filter_map(|missed| missed.typical) {
        add(row, "typical");
    }
    chosen
}

/// The worst of some rows: those that were sent (they have a trace) before those that were not, then
/// the slowest first.
fn worst<'a>(rows: impl Iterator<Item = &'a Observation>) -> Vec<&'a Observation> {
    let mut rows: Vec<&Observation> = rows.collect();
    rows.sort_by_key(|r| (r.sent().is_none(), std::cmp::Reverse(r.latency()), r.id));
    rows.truncate(SHOWN);
    rows
}

/// The requests behind a missed objective: those it counts against itself where it is the client's,
/// else the failed ones for errors and the slowest for the rest.
pub(super) fn behind<'a>(record: &RunRecord<'a>, objective: &Objective) -> Vec<&'a Observation> {
    let metric = match &objective.indicator {
        Indicator::Ratio { part, .. } => part,
        Indicator::Threshold { metric, .. } => metric,
    };
    let Metric::Client(metric) = metric else {
        let failed = worst(client::rows(record, None).filter(|r| r.outcome != Outcome::Expected));
        return if objective.signal == Signal::Errors && !failed.is_empty() {
            failed
        } else {
            worst(client::rows(record, None))
        };
    };
    let rows = client::rows(record, metric.request.as_deref());
    match &objective.indicator {
        Indicator::Ratio { part_is, .. } => {
            let good = *part_is == Part::Good;
            worst(rows.filter(|r| client::counts(r, &metric.figure) != good))
        }
        Indicator::Threshold { .. } => worst(rows),
    }
}

/// The questions about one request.
fn questions(record: &RunRecord, row: &Observation) -> (Query, Query) {
    let start = record.facts.wall(row.due).0.saturating_sub(AROUND);
    let end = record.facts.wall(row.done).0.saturating_add(AROUND);
    let lines = Query::LokiLines {
        query: trace_log(record, row.trace),
        start: UnixNanos(start),
        end: UnixNanos(end),
        limit: LINES,
        backward: false,
    };
    (Query::TempoTrace { trace: row.trace }, lines)
}

/// The questions about these requests, of the backends in use.
pub(super) fn queries(record: &RunRecord, shown: &[RequestDetail]) -> Vec<Query> {
    let backends = coverage::backends(record);
    let ids: BTreeSet<_> = shown.iter().map(|r| r.id).collect();
    let rows = record
        .rows
        .iter()
        .filter(|r| ids.contains(&r.id) && r.sent().is_some());
    rows.flat_map(|row| {
        let (trace, lines) = questions(record, row);
        [trace, lines]
    })
    .filter(|query| backends.contains(&query.backend()))
    .collect()
}

/// One request with whatever its answers hold.
pub(super) fn detail(record: &RunRecord, row: &Observation, why: &str) -> RequestDetail {
    let backends = coverage::backends(record);
    let (_, lines) = questions(record, row);
    let (spans, spans_missing) = match unasked(row, &backends, Backend::Tempo) {
        Some(why) => (Vec::new(), Some(why)),
        None => told(waterfall(record, row), "no span of it was found"),
    };
    let (logs, logs_missing) = match unasked(row, &backends, Backend::Loki) {
        Some(why) => (Vec::new(), Some(why)),
        None => told(
            log_lines(record, row, &lines),
            "no log line carries its trace id",
        ),
    };
    let name = record.scenario.spec.requests.get(usize::from(row.request));
    RequestDetail {
        id: row.id,
        request: name.map_or_else(|| format!("#{}", row.request), |r| r.name.clone()),
        why: why.into(),
        trace: row.trace,
        outcome: row.outcome,
        status: row.status,
        due: row.due,
        lateness: row.sent().map(|sent| sent.since(row.due).as_secs_f64()),
        latency: row.latency().as_secs_f64(),
        detail: row.detail().map(str::to_owned),
        spans,
        spans_missing,
        logs,
        logs_missing,
        sides: sides::of(record, row),
        links: links::of_request(record, row),
    }
}

fn unasked(row: &Observation, backends: &BTreeSet<Backend>, backend: Backend) -> Option<String> {
    if row.sent().is_none() {
        Some("it was never sent".into())
    } else if !backends.contains(&backend) {
        Some(format!("{backend} was not read in this run"))
    } else if backend == Backend::Tempo && !row.sampled {
        Some("its trace was not asked to be recorded".into())
    } else {
        None
    }
}

fn told<T>(read: Reading<Vec<T>>, empty: &str) -> (Vec<T>, Option<String>) {
    match read {
        Ok(list) if list.is_empty() => (list, Some(empty.into())),
        Ok(list) => (list, None),
        Err(Missing::Empty) => (Vec::new(), Some(empty.into())),
        Err(missing) => (Vec::new(), Some(missing.to_string())),
    }
}

/// Spans, parents before children and siblings by start, with times since the request was due.
fn waterfall(record: &RunRecord, row: &Observation) -> Reading<Vec<SpanDetail>> {
    let mut all = spans(record.answers, row.trace)?;
    all.sort_by_key(|s| (s.start, std::cmp::Reverse(s.end), s.id));
    let ids: BTreeSet<SpanId> = all.iter().map(|s| s.id).collect();
    let mut children: BTreeMap<Option<SpanId>, Vec<&Span>> = BTreeMap::new();
    for span in &all {
        // A span whose parent is not there is a root: the parent may be the caller's.
        let parent = span.parent.filter(|p| ids.contains(p) && *p != span.id);
        children.entry(parent).or_default().push(span);
    }
    let due = record.facts.wall(row.due).0;
    let mut out = Vec::new();
    let mut seen = BTreeSet::new();
    let mut stack: Vec<(&Span, u32)> = Vec::new();
    let push = |stack: &mut Vec<_>, parent: Option<SpanId>, depth: u32| {
        let list = children.get(&parent).into_iter().flatten().rev();
        stack.extend(list.map(|s| (*s, depth)));
    };
    push(&mut stack, None, 0);
    while let Some((span, depth)) = stack.pop() {
        if out.len() >= SPANS || !seen.insert(span.id) {
            continue;
        }
        out.push(SpanDetail {
            id: span.id,
            service: span.service.clone(),
            name: span.name.clone(),
            depth,
            start: since(due, span.start),
            duration: span.end.saturating_sub(span.start) as f64 / 1e9,
            error: span.error,
        });
        push(&mut stack, Some(span.id), depth + 1);
    }
    Ok(out)
}

/// Seconds from `due` to `at`, negative when it is earlier.
fn since(due: u64, at: u64) -> f64 {
    if at >= due {
        Nanos(at - due).as_secs_f64()
    } else {
        -Nanos(due - at).as_secs_f64()
    }
}

fn log_lines(record: &RunRecord, row: &Observation, query: &Query) -> Reading<Vec<LogDetail>> {
    let value = json(record.answers, query)?;
    let due = record.facts.wall(row.due).0;
    let streams = value.get("data").and_then(|d| d.get("result")?.as_array());
    let streams =
        streams.ok_or_else(|| Missing::Because("loki's answer holds no log lines".into()))?;
    let mut lines = Vec::new();
    for stream in streams {
        let label = |key: &str| stream.get("stream")?.get(key)?.as_str();
        let severity = ["severity_text", "level", "detected_level"]
            .into_iter()
            .find_map(label)
            .map(|severity| cut(severity, SEVERITY_BYTES));
        for entry in stream
            .get("values")
            .and_then(|v| v.as_array())
            .into_iter()
            .flatten()
        {
            let at = entry.get(0).and_then(|t| t.as_str()?.parse::<u64>().ok());
            let text = entry.get(1).and_then(|t| t.as_str());
            if let (Some(at), Some(text)) = (at, text) {
                lines.push((at, severity.clone(), cut(text, LINE_BYTES)));
            }
        }
    }
    lines.sort();
    Ok(lines
        .into_iter()
        .map(|(at, severity, line)| LogDetail {
            at: since(due, at),
            severity,
            line,
        })
        .collect())
}

/// At most `most` bytes of a text, and a mark where it was cut.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most - '…'.len_utf8());
    format!("{}…", &text[..end])
}
