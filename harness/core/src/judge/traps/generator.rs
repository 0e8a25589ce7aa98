//! The generator, the run and the target: what makes a run not what it claims to be.

use std::time::Duration;

use super::{Trap, gone, where_asked};
use crate::observation::Outcome;
use crate::query::Backend;
use crate::record::clock::ClockSeen;
use crate::record::context::ShardRun;
use crate::record::together::StartedTogether;
use crate::record::{FaultApplied, Generator, Stop};
use crate::report::model::Gate;
use crate::report::model::Verdict::{Fail, Inconclusive, Invalid, Pass};
use crate::scenario::{Dur, Fault, FaultKind};
use crate::schedule::Shard;
use crate::units::{Nanos, Phase};

const CLASS: &str = "Generator, run and target";

pub(super) fn fault() -> Fault {
    Fault {
        at: Dur(Duration::from_secs(1)),
        length: Dur(Duration::from_secs(1)),
        kind: FaultKind::Stall,
        add: None,
        share: None,
    }
}

pub(super) fn traps() -> Vec<Trap> {
    [run(), load(), streams(), shards(), met_wrongly()]
        .into_iter()
        .flatten()
        .collect()
}

fn run() -> Vec<Trap> {
    let invalid = |name, code, spoil| Trap::new(CLASS, name, Invalid, code, spoil);
    vec![
        invalid("the generator sends late", "late_sends", |r| {
            r.each(|n, row| {
                if n % 10 == 0 {
                    row.set_sent(Some(Nanos(row.due.0 + 11_000_000)));
                    row.done.0 += 11_000_000;
                }
            });
        })
        .wrong("fail: the service was slow; or pass, with latency from when it was sent")
        .why("the delay is the generator's own, so the run says nothing of the service"),
        invalid("rows are missing", "schedule_complete", |r| r.rows.truncate(1_000))
            .wrong("pass on the rows that are left")
            .why("what is missing may be what failed"),
        invalid("a row twice in place of another", "schedule_complete", |r| {
            let first = r.rows[100].clone();
            r.rows[101] = first;
        })
        .wrong("pass: as many rows as requests")
        .why("each request has to be there once"),
        invalid("nothing was measured", "no_requests", |r| {
            r.rows.retain(|row| row.phase != Phase::Measure);
            r.facts.generator.scheduled = r.rows.len() as u64;
        })
        .wrong("pass: no request missed a limit")
        .why("only the measured phase is judged, and it is empty"),
        invalid("the wrong build answered", "expected_version", |r| {
            r.facts.expect_version = Some("2.0".into());
        })
        .why("the verdict would be another build's"),
        invalid("two builds answered", "expected_version", |r| {
            where_asked(r, "target_info", |a| a.body = a.body.replace("1.0\"", "1.1\""));
        })
        .why("every instance's `service.version` has to be the expected one"),
        Trap::new(CLASS, "no build is named in the telemetry", Inconclusive, "validity_unknown", |r| {
            r.tamper(|_, a| {
                a.body = a.body.replace("service_version", "x").replace("service.version", "x");
            });
        })
        .why("which build answered is not known"),
        invalid("others use the same service", "foreign_traffic", |r| {
            let mut others: Vec<_> = r.world.iter().take(600).cloned().collect();
            others.iter_mut().for_each(|o| o.done.0 += 3_000_000_000);
            r.world.extend(others);
        })
        .why("the service counted more requests than were sent, so neither load nor ratio is ours"),
        invalid("a fault that was never put on", "faults_applied", |r| {
            r.scenario.spec.faults.push(fault());
        })
        .wrong("pass: the service bears the fault")
        .why("it was judged without the fault that it was to be judged under"),
        invalid("a fault that the target refused", "faults_applied", |r| {
            r.scenario.spec.faults.push(fault());
            r.facts.faults.push(FaultApplied {
                kind: "stall".into(),
                at: None,
                error: Some("404".into()),
            });
        })
        .wrong("pass: the service bears the fault")
        .why("it was judged without the fault that it was to be judged under"),
        invalid("the run was interrupted", "interrupted", |r| {
            r.facts.stop = Some(Stop::Interrupted("SIGINT".into()));
        })
        .wrong("pass on what was measured")
        .why("exit 130, and what was measured is in the report"),
        invalid("an abort rule ended the run", "abort_rule", |r| {
            r.facts.stop = Some(Stop::AbortRule("error_ratio > 0.5".into()));
        })
        .wrong("pass on what was measured")
        .why("exit 15, and what was measured is in the report"),
        Trap::new(CLASS, "the target died after it was measured", Inconclusive, "target_exited", |r| {
            r.facts.target.exited = Some("signal: 11 (SIGSEGV)".into());
        })
        .why("a build that crashes does not pass"),
        Trap::new(CLASS, "every objective is advisory", Inconclusive, "no_required_objectives", |r| {
            r.objectives.iter_mut().for_each(|o| o.gate = Gate::Advisory);
        })
        .wrong("pass: no required objective is missed")
        .why("there is nothing to pass"),
        Trap::new(CLASS, "failures in the cooldown only", Pass, "", |r| {
            for rows in [&mut r.rows, &mut r.world] {
                rows.iter_mut().filter(|row| row.phase == Phase::Cooldown).for_each(|row| {
                    row.status = Some(500);
                    row.outcome = Outcome::UnexpectedStatus;
                });
            }
        })
        .base(super::super::testing::Run::cool_down)
        .wrong("fail: errors were counted")
        .why("only the measured phase is judged; counters are read at its last scrape, not after the cooldown")
        .naively(|_, report| {
            let bad = |l: &&crate::report::model::LoadSummary| l.phase == Phase::Cooldown;
            report.load.iter().find(bad).is_some_and(|l| {
                l.outcomes.iter().any(|(o, n)| *o == Outcome::UnexpectedStatus && *n > 0)
            })
        }),
        Trap::new(CLASS, "a cooldown dilutes the failures of the measured phase", Fail, "objective_missed", |r| {
            r.each(|n, row| {
                if n % 40 == 0 {
                    row.status = Some(500);
                    row.outcome = Outcome::UnexpectedStatus;
                }
            });
        })
        .base(super::super::testing::Run::cool_down)
        .wrong("pass: few failures of all requests")
        .why("requests of other phases do not count"),
    ]
}

fn load() -> Vec<Trap> {
    let fails = |name, spoil| Trap::new(CLASS, name, Fail, "objective_missed", spoil);
    vec![
        fails("slow answers", |r| {
            r.each(|n, row| {
                if n % 20 == 0 {
                    row.done.0 += 600_000_000;
                }
            });
        })
        .wrong("pass: the mean and the median are fine")
        .why("5 % over the limit where 1 % may be"),
        fails("timeouts", |r| {
            r.each(|n, row| {
                if n % 20 == 0 {
                    row.outcome = Outcome::Timeout;
                    row.status = None;
                }
            });
        })
        .wrong("pass: every answer was quick")
        .why("a request without an answer is not a good one"),
        fails("drops, which are quick", |r| {
            r.each(|n, row| {
                if n % 20 == 0 {
                    row.outcome = Outcome::Dropped;
                    row.set_sent(None);
                    row.done = row.due;
                    row.status = None;
                }
            });
        })
        .wrong("pass: what was sent was answered")
        .why("with `maxInFlight` requests out, a request that is due is the service's failure"),
        fails("requests still out when the run ended", |r| {
            r.each(|n, row| {
                if n % 20 == 0 {
                    row.outcome = Outcome::Unfinished;
                    row.status = None;
                }
            });
        })
        .wrong("pass: every answer was quick")
        .why("they count with the time that they had waited"),
        fails("wrong answers, quick and 200", |r| {
            r.each(|n, row| {
                if n % 20 == 0 {
                    row.outcome = Outcome::WrongAnswer;
                }
            });
        })
        .wrong("pass: status 200")
        .why("the scenario says what the answer should be"),
        fails("nothing answered at all", |r| {
            r.each(|_, row| {
                row.outcome = Outcome::ConnectionRefused;
                row.status = None;
            });
        })
        .wrong("pass: no latency over the limit")
        .why("every request failed, which the client alone proves"),
        fails("a miss that the rows prove, beside metrics that are gone", |r| {
            r.spoil(Backend::Prometheus, gone);
            r.each(|n, row| {
                if n % 20 == 0 {
                    row.outcome = Outcome::Timeout;
                    row.status = None;
                }
            });
        })
        .wrong("inconclusive: evidence is missing")
        .why("missing evidence forbids a pass; it does not hide a failure that other evidence proves"),
        fails("the service dies half-way", |r| {
            r.each(|n, row| {
                if n >= 600 {
                    row.outcome = Outcome::ConnectionRefused;
                    row.status = None;
                }
            });
        })
        .wrong("inconclusive: one outage is one event")
        .why("half of all requests is too much even for a single event where 1 % may miss"),
    ]
}

/// Answers are streams of four events, 5 ms apart, and this is what is good of them.
fn streamed(r: &mut super::Run, good: &str) {
    r.slo(&format!(
        "apiVersion: openslo/v1\nkind: SLO\nmetadata: {{name: stream, annotations: {{harness/signal: latency}}}}\n\
         spec:\n  service: s\n  indicator:\n    metadata: {{name: stream}}\n    spec:\n      ratioMetric:\n        \
         counter: true\n        \
         good: {{metricSource: {{type: LoadClient, spec: {{request: classify, {good}}}}}}}\n        \
         total: {{metricSource: {{type: LoadClient, spec: {{request: classify}}}}}}\n  \
         timeWindow: [{{duration: 28d, isRolling: true}}]\n  budgetingMethod: Occurrences\n  \
         objectives: [{{displayName: stream, target: 0.99}}]\n",
    ));
    r.each(|_, row| {
        row.set_events(
            Some(Nanos(row.due.0 + 5_000_000)),
            vec![Nanos(5_000_000); 3],
        );
    });
}

fn streams() -> Vec<Trap> {
    vec![
        Trap::new(CLASS, "no answer was read as a stream", Inconclusive, "evidence_missing", |r| {
            r.each(|_, row| row.set_events(None, Vec::new()));
        })
        .base(|r| streamed(r, "first_event: \"<= 300ms\""))
        .wrong("pass: no first event was late; or fail: none came in time")
        .why("answers that are not read as streams say nothing of their events"),
        Trap::new(CLASS, "answers that end before their first event", Fail, "objective_missed", |r| {
            r.each(|n, row| {
                if n % 20 == 0 {
                    row.set_events(None, Vec::new());
                }
            });
        })
        .base(|r| streamed(r, "first_event: \"<= 300ms\""))
        .wrong("pass: every first event that came was quick")
        .why("an event that never came is later than any limit"),
        Trap::new(CLASS, "one long gap among many short ones", Fail, "objective_missed", |r| {
            r.each(|n, row| {
                if n % 20 == 0 {
                    let mut gaps = vec![Nanos(1_000_000); 500];
                    gaps[250] = Nanos(900_000_000);
                    row.set_events(row.first_event(), gaps);
                }
            });
        })
        .base(|r| streamed(r, "inter_event: \"<= 80ms\""))
        .wrong("pass: of all gaps of all answers hardly one in a thousand is long")
        .why("a reader waits through the longest gap of an answer, and it is the answer that is counted"),
        Trap::new(CLASS, "more gaps than are kept, all that are kept short", Fail, "objective_missed", |r| {
            r.each(|n, row| {
                if n % 20 == 0 {
                    row.set_events(row.first_event(), vec![Nanos(1_000_000); crate::observation::MOST_GAPS]);
                }
            });
        })
        .base(|r| streamed(r, "inter_event: \"<= 80ms\""))
        .wrong("pass: no gap is over the limit")
        .why("what was not kept may be longer"),
    ]
}

fn shard(index: u32) -> Shard {
    format!("{index}/2").parse().unwrap()
}

fn is_of(r: &super::Run, row: &crate::observation::Observation, index: u32) -> bool {
    Shard::of_request(&r.scenario, row.id, 2) == shard(index)
}

/// The same run, merged from two shards.
fn merged(r: &mut super::Run) {
    r.facts.context.shards = [0, 1]
        .map(|index| ShardRun {
            shard: shard(index),
            run_id: format!("shard-{index}"),
            manifest_sha256: String::new(),
            started: r.facts.started,
            drained: r.facts.drained,
            start: None,
            generator: Generator {
                scheduled: r.rows.iter().filter(|row| is_of(r, row, index)).count() as u64,
                ..r.facts.generator.clone()
            },
            counts: None,
        })
        .to_vec();
}

/// The same, of shards that met before they began.
fn met(r: &mut super::Run) {
    merged(r);
    let clock = ClockSeen {
        answers: 5,
        least_ms: -20,
        most_ms: 20,
    };
    let at = r.facts.started;
    for run in &mut r.facts.context.shards {
        run.start = Some(StartedTogether {
            at,
            before: clock,
            after: Some(clock),
        });
    }
}

fn start(r: &mut super::Run) -> &mut StartedTogether {
    r.facts.context.shards[1].start.as_mut().unwrap()
}

fn moved(clock: &mut ClockSeen, ms: i64) {
    clock.least_ms += ms;
    clock.most_ms += ms;
}

fn met_wrongly() -> Vec<Trap> {
    let invalid = |name, spoil| {
        Trap::new(CLASS, name, Invalid, "shard_clocks", spoil)
            .base(met)
            .wrong("pass: every shard has all of its rows")
    };
    vec![
        Trap::new(
            CLASS,
            "a shard whose clock is ten seconds behind, begun at the right instant",
            Invalid,
            "shards",
            |r| {
                moved(&mut start(r).before, 10_000);
                moved(start(r).after.as_mut().unwrap(), 10_000);
                r.facts.context.shards[1].started.0 -= 10_000_000_000;
            },
        )
        .base(met)
        .wrong("pass: the barrier reckons with the offset")
        .why("its spans and the windows that are asked for are by different clocks"),
        invalid(
            "a shard whose clock is just under half a second behind, give or take",
            |r| {
                moved(&mut start(r).before, 490);
                moved(start(r).after.as_mut().unwrap(), 490);
                r.facts.context.shards[1].started.0 -= 490_000_000;
            },
        )
        .why("with what is not known of the two it may be more than half a second"),
        invalid("a shard's clock was set while the load went on", |r| {
            moved(start(r).after.as_mut().unwrap(), 2_000);
        })
        .why("what it dated before and after does not fit together"),
        invalid("a shard's clock was not seen again after its load", |r| {
            start(r).after = None;
        })
        .why("what is not known is no evidence that it held"),
        invalid("a shard's clock is known within a second only", |r| {
            start(r).before.least_ms -= 1_000;
        })
        .why("it may have begun a second from the others"),
        invalid("one shard did not meet the others", |r| {
            r.facts.context.shards[1].start = None;
        })
        .why("when it began is its own word alone"),
        invalid("a shard of another start", |r| {
            start(r).at.0 += 60_000_000_000;
        })
        .why("the service never bore both halves at once"),
    ]
}

fn shards() -> Vec<Trap> {
    let invalid = |name, code, spoil| Trap::new(CLASS, name, Invalid, code, spoil).base(merged);
    vec![
        Trap::new(
            CLASS,
            "one shard of two, all of whose requests were answered well",
            Inconclusive,
            "one_shard",
            |r| {
                r.facts.context.shard = Some(shard(0));
            },
        )
        .wrong("pass: every objective is met")
        .why("it sent half of the load; what the other half met with is not known"),
        Trap::new(
            CLASS,
            "one shard of two, at half the rate that an objective asks for",
            Inconclusive,
            "one_shard",
            |r| {
                r.facts.context.shard = Some(shard(0));
                let half = |r: &mut super::Run| {
                    let keep: Vec<_> = r.rows.iter().map(|row| is_of(r, row, 0)).collect();
                    let mut keep = keep.into_iter();
                    r.rows.retain(|_| keep.next().unwrap());
                };
                half(r);
                r.facts.generator.scheduled = r.rows.len() as u64;
            },
        )
        .wrong("fail: too few answers a second; or invalid: the service counted others' requests")
        .why("the rest of the rate, and of what was counted, is the other shard's"),
        invalid("shards that ran one after the other", "shards", |r| {
            r.facts.context.shards[1].started.0 += 60_000_000_000;
        })
        .wrong("pass on the sum of the two")
        .why("the service never bore more than half of the load"),
        invalid("the same shard twice", "shards", |r| {
            r.facts.context.shards[1] = r.facts.context.shards[0].clone();
        })
        .why("half of the load is missing"),
        invalid("a shard's rows under another's number", "shards", |r| {
            let [a, b] = &mut r.facts.context.shards[..] else {
                unreachable!()
            };
            a.generator.scheduled += 10;
            b.generator.scheduled -= 10;
        })
        .wrong("pass: as many rows as were scheduled")
        .why("each shard has to hold its own rows, all of them"),
        invalid("one shard of two sends late", "late_sends", |r| {
            let late: Vec<_> = r
                .rows
                .iter()
                .filter(|row| row.phase == Phase::Measure && is_of(r, row, 1))
                .take(9)
                .map(|row| row.id)
                .collect();
            r.each(|_, row| {
                if late.contains(&row.id) {
                    row.set_sent(Some(Nanos(row.due.0 + 11_000_000)));
                    row.done.0 += 11_000_000;
                }
            });
        })
        .wrong("pass: fewer than 1 % of all were late")
        .why("each generator has to keep its schedule; the others' requests do not excuse it"),
    ]
}
