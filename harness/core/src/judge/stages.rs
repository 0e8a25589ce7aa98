//! The stages of one request, from its row and its trace: they add up to its latency.
//!
//! `due → sent` is the generator's; of `sent → done` opening a connection, where none was free, is told
//! by the row, and what else the service's span does not cover is network and proxies; the service's span is parted among it and the spans under it. At
//! each instant the time belongs to the spans that run and have nothing running below them, in equal
//! parts where several do. So every span gets its own time without that of its children, parallel
//! children share, and nothing is counted twice. Only lengths are taken from the service, so a clock
//! that is off moves nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::RunRecord;
use super::reading::Missing;
use super::spans::{Span, spans};
use crate::observation::Observation;
use crate::report::model::StageKind;
use crate::units::{Nanos, SpanId};

/// Most spans of a trace that are parted: the sweep is quadratic in those that run at once.
const MOST_SPANS: usize = 1_000;
/// Most bytes of a span's name that tell stages apart.
const MOST_NAME: usize = 120;

/// One stage of one request: kind, name, nanoseconds.
pub(super) type Part = (StageKind, String, f64);

/// The span under the generator's own one: the service's, or that of whatever stands before it.
pub(super) fn server_span<'a>(
    record: &RunRecord,
    row: &Observation,
    all: &'a [Span],
) -> Option<&'a Span> {
    let under = || all.iter().filter(|s| s.parent == Some(row.span));
    under()
        .find(|s| s.service == record.facts.service)
        .or_else(|| under().next())
}

/// All stages of a request whose trace is whole.
///
/// # Errors
/// Why its trace does not tell them.
pub(super) fn stages(record: &RunRecord, row: &Observation) -> Result<Vec<Part>, Missing> {
    let all = spans(record.answers, row.trace)?;
    let lacking = |why: &str| Missing::Because(why.to_owned());
    if all.len() > MOST_SPANS {
        return Err(lacking("its trace has more spans than are looked through"));
    }
    let sent = row.sent().ok_or_else(|| lacking("it was never sent"))?;
    let root = server_span(record, row, &all)
        .ok_or_else(|| lacking("its trace lacks the service's span under ours"))?;
    let ids: BTreeSet<SpanId> = all.iter().map(|s| s.id).collect();
    let orphan = |s: &Span| {
        s.parent
            .is_some_and(|p| p != row.span && !ids.contains(&p) && p != s.id)
    };
    if all.iter().any(orphan) {
        return Err(lacking("a span of its trace lacks its parent"));
    }
    let service = row.done.since(sent).0;
    // A client that gave up waits no longer, whatever the service still does.
    let connecting = row
        .connected()
        .map_or(0, |at| at.since(sent).0.min(service));
    let served = root
        .end
        .saturating_sub(root.start)
        .min(service - connecting);
    let mut parts = vec![
        (
            StageKind::Generator,
            "generator, before sending".to_owned(),
            row.lateness().0 as f64,
        ),
        (
            StageKind::Network,
            "outside the service's span".to_owned(),
            (service - connecting - served) as f64,
        ),
    ];
    if connecting > 0 {
        let name = "opening a connection".to_owned();
        parts.push((StageKind::Connection, name, connecting as f64));
    }
    parts.extend(own_times(record, root, served, &all));
    Ok(parts)
}

/// The first `length` nanoseconds of `root`, parted among it and all spans below it.
fn own_times(record: &RunRecord, root: &Span, length: u64, all: &[Span]) -> Vec<Part> {
    let end = root.start.saturating_add(length);
    let tree = tree(root, all);
    let mut events = Vec::new();
    for (place, (span, _)) in tree.iter().enumerate() {
        let (from, to) = (span.start.max(root.start), span.end.min(end));
        if from < to {
            events.extend([(from, true, place), (to, false, place)]);
        }
    }
    // At one instant ends sort before starts.
    events.sort_unstable();
    let mut running: BTreeSet<usize> = BTreeSet::new();
    let mut below = vec![0_u32; tree.len()];
    let mut own = vec![0.0_f64; tree.len()];
    let mut before = root.start;
    for (at, starts, place) in events {
        let leaves: Vec<usize> = running.iter().copied().filter(|p| below[*p] == 0).collect();
        for leaf in &leaves {
            own[*leaf] += (at - before) as f64 / leaves.len() as f64;
        }
        before = at;
        if starts {
            running.insert(place);
        } else {
            running.remove(&place);
        }
        let mut up = tree[place].1;
        while let Some(parent) = up {
            below[parent] = if starts {
                below[parent] + 1
            } else {
                below[parent].saturating_sub(1)
            };
            up = tree[parent].1;
        }
    }
    tree.iter()
        .zip(own)
        .map(|((span, _), own)| {
            let itself = std::ptr::eq(*span, root);
            let (kind, name) = name(record, span, itself);
            (kind, name, own)
        })
        .collect()
}

/// A span and all below it, each with the place of its parent.
fn tree<'a>(root: &'a Span, all: &'a [Span]) -> Vec<(&'a Span, Option<usize>)> {
    let mut children: BTreeMap<SpanId, Vec<&Span>> = BTreeMap::new();
    for span in all {
        if let Some(parent) = span.parent {
            children.entry(parent).or_default().push(span);
        }
    }
    let mut seen = BTreeSet::from([root.id]);
    let mut tree = vec![(root, None)];
    let mut next = 0;
    while next < tree.len() {
        let id = tree[next].0.id;
        for child in children.get(&id).into_iter().flatten() {
            // Ids that repeat or run in a circle must not keep us here.
            if seen.insert(child.id) {
                tree.push((child, Some(next)));
            }
        }
        next += 1;
    }
    tree
}

fn name(record: &RunRecord, span: &Span, itself: bool) -> (StageKind, String) {
    let queue = span.name.to_ascii_lowercase().contains("queue");
    let mut name = if span.service == record.facts.service {
        span.name.clone()
    } else {
        format!("{}: {}", span.service, span.name)
    };
    name.truncate(name.floor_char_boundary(MOST_NAME));
    if itself {
        name.push_str(" (itself)");
    }
    let kind = if queue {
        StageKind::Queue
    } else {
        StageKind::Span
    };
    (kind, name)
}

/// Nanoseconds in all.
#[cfg(test)]
fn sum(parts: &[Part]) -> f64 {
    parts.iter().map(|(.., nanos)| nanos).sum()
}

/// `Nanos` of a float that is one.
pub(super) fn seconds(nanos: f64) -> f64 {
    Nanos(nanos.max(0.0) as u64).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Run;
    use super::*;

    fn span(id: u8, parent: u8, name: &str, start: u64, end: u64) -> Span {
        Span {
            id: SpanId([id; 8]),
            parent: Some(SpanId([parent; 8])),
            service: "target-service".into(),
            version: None,
            name: name.into(),
            start,
            end,
            error: false,
            status: None,
        }
    }

    fn own(spans: &[Span], length: u64) -> Vec<(String, f64)> {
        let run = Run::healthy();
        let answers = crate::record::AnswerBook::default();
        let record = run.record(&answers);
        own_times(&record, &spans[0], length, spans)
            .into_iter()
            .map(|(_, name, own)| (name, own))
            .collect()
    }

    fn named(parts: &[(&str, f64)]) -> Vec<(String, f64)> {
        parts.iter().map(|(n, t)| ((*n).to_owned(), *t)).collect()
    }

    #[test]
    fn a_span_gets_its_time_without_that_of_its_children() {
        let spans = [
            span(1, 9, "server", 1_000, 1_100),
            span(2, 1, "queue", 1_010, 1_050),
            span(3, 1, "inference", 1_050, 1_090),
            span(4, 3, "kernel", 1_060, 1_080),
        ];
        assert_eq!(
            own(&spans, 100),
            named(&[
                ("server (itself)", 20.0),
                ("queue", 40.0),
                ("inference", 20.0),
                ("kernel", 20.0)
            ])
        );
    }

    #[test]
    fn parallel_children_share_and_stragglers_are_cut_so_that_the_sum_is_the_server_span() {
        let spans = [
            span(1, 9, "server", 0, 100),
            span(2, 1, "a", 0, 60),
            span(3, 1, "b", 20, 80),
            span(4, 2, "outlives its parent", 50, 400),
        ];
        let parts = own(&spans, 100);
        let sum: f64 = parts.iter().map(|(_, t)| t).sum();
        assert!((sum - 100.0).abs() < 1e-9, "{parts:?}");
        assert_eq!(parts[1], ("a".into(), 20.0 + 15.0));
    }

    #[test]
    fn spans_that_run_in_a_circle_or_repeat_end() {
        let mut spans = vec![
            span(1, 9, "server", 0, 100),
            span(2, 1, "a", 0, 50),
            span(2, 2, "a", 0, 50),
            span(1, 2, "again", 0, 100),
        ];
        spans[3].parent = Some(SpanId([2; 8]));
        let parts = own(&spans, 100);
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn stages_add_up_to_the_latency_and_a_lost_parent_is_no_whole_trace() {
        let run = Run::healthy();
        let answers = run.answered();
        let record = run.record(&answers);
        let row = &run.rows[100];
        let parts = stages(&record, row).unwrap();
        assert!(
            (sum(&parts) - row.latency().0 as f64).abs() < 1.0,
            "{parts:?}"
        );
        assert!(parts.iter().any(|(_, n, t)| n == "inference" && *t > 0.0));

        let mut run = Run::healthy();
        run.tamper(|query, answer| {
            if matches!(query, crate::query::Query::TempoTrace { .. }) {
                answer.body = answer.body.replace(
                    "\"parentSpanId\":\"0900000000000001\"",
                    "\"parentSpanId\":\"0800000000000001\"",
                );
            }
        });
        let answers = run.answered();
        let record = run.record(&answers);
        let why = stages(&record, row).unwrap_err();
        assert!(why.to_string().contains("lacks its parent"), "{why}");
    }
}
