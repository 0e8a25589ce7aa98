//! The generator, the run and the target: what makes a run not what it claims to be.

use std::time::Duration;

use super::{Trap, gone, where_asked};
use crate::observation::Outcome;
use crate::query::Backend;
use crate::record::{FaultApplied, Stop};
use crate::report::model::Gate;
use crate::report::model::Verdict::{Fail, Inconclusive, Invalid, Pass};
use crate::scenario::{Dur, Fault, FaultKind};
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
    [run(), load()].into_iter().flatten().collect()
}

fn run() -> Vec<Trap> {
    let invalid = |name, code, spoil| Trap::new(CLASS, name, Invalid, code, spoil);
    vec![
        invalid("the generator sends late", "late_sends", |r| {
            r.each(|n, row| {
                if n % 10 == 0 {
                    row.sent = Some(Nanos(row.due.0 + 11_000_000));
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
                    row.sent = None;
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
