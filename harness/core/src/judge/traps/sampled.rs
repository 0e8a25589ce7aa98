//! Runs of more requests than rows are kept of: what the rows do not show, the counts do.

use super::super::testing::Run;
use super::Trap;
use super::metrics::only;
use super::traces::count_spans;
use crate::observation::{Observation, Outcome};
use crate::record::sampled::keeps;
use crate::report::model::Verdict::{Fail, Inconclusive, Invalid};
use crate::units::Phase;

const CLASS: &str = "Rows that are a sample";

fn half(run: &mut Run) {
    run.keep_rows(700);
}

/// Changes every twentieth of the measured requests that have no row, and records all anew.
fn spoil_others(run: &mut Run, change: impl Fn(&mut Observation)) {
    let others = run.world.iter_mut();
    let others = others.filter(|row| row.phase == Phase::Measure && !keeps(row.id, 2));
    others.step_by(20).for_each(change);
    half(run);
}

pub(super) fn traps() -> Vec<Trap> {
    let invalid = |name, spoil| {
        Trap::new(CLASS, name, Invalid, "schedule_complete", spoil)
            .base(half)
            .says("not the sample that was kept")
    };
    vec![
        Trap::new(CLASS, "failed requests, none of which keeps its row", Fail, "objective_missed", |r| {
            spoil_others(r, |row| {
                row.outcome = Outcome::UnexpectedStatus;
                row.status = Some(500);
            });
        })
        .base(|r| {
            only(r, "answers");
            half(r);
        })
        .wrong("pass: every row is of a good answer")
        .why("what is judged is counted of every request as it is recorded"),
        Trap::new(CLASS, "slow requests, none of which keeps its row", Fail, "objective_missed", |r| {
            spoil_others(r, |row| row.done.0 += 600_000_000);
        })
        .base(|r| {
            only(r, "latency");
            half(r);
        })
        .wrong("pass: every row is in time")
        .why("requests over the objective's limit are counted as they are recorded"),
        Trap::new(CLASS, "late sends, none of which keeps its row", Invalid, "late_sends", |r| {
            spoil_others(r, |row| {
                let sent = row.sent().map(|at| crate::units::Nanos(at.0 + 50_000_000));
                row.set_sent(sent);
                row.done.0 += 50_000_000;
            });
        })
        .base(half)
        .why("lateness is counted of every request"),
        Trap::new(CLASS, "requests that the generator could not send, none of which keeps its row", Invalid, "generator_able", |r| {
            spoil_others(r, |row| row.outcome = Outcome::GeneratorFailed);
        })
        .base(half)
        .why("one of them is too many, wherever it is counted"),
        invalid("a row of the sample that is gone", |r| {
            r.rows.remove(7);
        })
        .why("the record says how many there were"),
        invalid("a row in the place of one that was kept", |r| {
            let other = r.world.iter().find(|row| !keeps(row.id, 2)).cloned();
            r.rows[7] = other.unwrap();
        })
        .why("which requests keep their rows follows from their ids; a choice would be no sample"),
        invalid("a row that is worse than any request was counted as", |r| {
            r.rows[7].outcome = Outcome::Timeout;
        })
        .wrong("pass by the counts")
        .why("rows and counts are of the same requests"),
        invalid("counts that are not all counts", |r| {
            let sampled = r.facts.context.sampled.as_mut().unwrap();
            let cell = sampled.cells.iter_mut().find(|cell| cell.phase == Phase::Warmup);
            cell.unwrap().outcomes.insert(Outcome::Expected, 60);
        })
        .why("they add up to the requests, or something was changed"),
        Trap::new(CLASS, "counts of fewer requests than were scheduled", Invalid, "schedule_complete", |r| {
            r.facts.generator.scheduled += 1;
        })
        .base(half)
        .why("one request left no trace of its end"),
        Trap::new(CLASS, "a limit that nobody counted while the load went on", Inconclusive, "evidence_missing", |r| {
            r.facts.context.sampled.as_mut().unwrap().figures.clear();
        })
        .base(|r| {
            only(r, "latency");
            half(r);
        })
        .wrong("pass by the share of the rows, scaled up")
        .says("raise spec.record.rows")
        .why("a count is never read out of a sample"),
        Trap::new(CLASS, "1,200 good requests of which some 150 have rows, against 99 %", Inconclusive, "undecided", |r| {
            r.keep_rows(200);
        })
        .base(|r| {
            only(r, "latency");
            // So few traces to look up show no more of all of them.
            r.scenario.spec.validity.trace_coverage.0 = 0.95;
        })
        .wrong("pass: 1,200 without a miss are more than the 299 that decide")
        .why("how requests hang together is known of the rows alone, so that all are worth no more than these"),
        Trap::new(CLASS, "spans of as many requests as have rows, of twice as many", Inconclusive, "telemetry_incomplete", |r| {
            let rows = r.rows.len() as u64;
            count_spans(r, rows);
        })
        .base(|r| {
            only(r, "queue-wait");
            half(r);
        })
        .wrong("pass: no trace of a row is missing")
        .says("of 1,250 requests")
        .why("how many asked to be recorded is counted of all requests, not of the rows"),
        Trap::new(CLASS, "slices of the client's requests", Inconclusive, "evidence_missing", half)
            .base(|r| {
                only(r, "answers");
                r.objectives[0].budgeting = crate::objective::Budgeting::Timeslices {
                    slice: crate::scenario::Dur(std::time::Duration::from_secs(1)),
                    slice_target: 0.5,
                    target: 0.5,
                };
            })
            .wrong("pass by the slices of the sample")
            .naively(|run, _| run.rows.iter().all(|row| row.outcome == Outcome::Expected))
            .says("spec.record.rows")
            .why("a slice's count would be an estimate"),
    ]
}

#[test]
fn a_run_whose_rows_are_a_sample_is_judged_on_the_counts_of_all() {
    let mut run = Run::healthy();
    half(&mut run);
    let report = run.judged();
    assert_eq!(report.exit_code, 0, "{:?}", report.reasons);
    assert!(run.rows.len() < 700);
    let load: u64 = report.load.iter().map(|load| load.scheduled).sum();
    assert_eq!(load, 1_250);
    let due: u64 = report.series.iter().map(|second| second.due).sum();
    assert_eq!(due, 1_250);
    let latency = report.objectives.iter().find(|o| o.name == "latency");
    let latency = latency.unwrap();
    assert_eq!(latency.samples, Some(1_200));
    let measured = run.rows.iter().filter(|row| row.phase == Phase::Measure);
    let effective = latency.effective_samples.unwrap();
    assert!(effective <= measured.count() as f64, "{effective}");
    let note = report.notes.iter().find(|note| note.contains("one in 2"));
    assert!(note.is_some(), "{:?}", report.notes);
    // Nothing is said of a sample where all keep their rows.
    run.keep_rows(1_250);
    assert_eq!(run.facts.context.sampled, None);
    assert_eq!(run.rows.len(), 1_250);
}
