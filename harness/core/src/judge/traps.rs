//! Traps: one healthy run that passes, and what may be wrong with it. None of these may pass.
//!
//! One long table on purpose: a trap is an entry, and what is missing is seen by reading down.

use std::time::Duration;

use super::testing::Run;
use crate::objective::{self, ClientFigure, Indicator, Metric, Wanted};
use crate::observation::Outcome;
use crate::query::{Answer, Backend, Query};
use crate::record::{FaultApplied, Stop};
use crate::report::model::{Gate, Report, Verdict};
use crate::scenario::{Dur, Fault, FaultKind};
use crate::units::Phase;

use Backend::{Loki, Prometheus, Tempo};
use Verdict::{Fail, Inconclusive, Invalid};

fn body(text: &'static str) -> impl Fn(&mut Answer) {
    move |answer| answer.body = text.into()
}

fn status(status: u16, text: &'static str) -> impl Fn(&mut Answer) {
    move |answer| {
        answer.status = Some(status);
        answer.body = text.into();
    }
}

fn gone(answer: &mut Answer) {
    answer.status = None;
    answer.body.clear();
    answer.error = Some("connection refused".into());
}

const EMPTY: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
const EMPTY_LINES: &str = r#"{"status":"success","data":{"resultType":"streams","result":[]}}"#;
const NAN: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}"#;
const INF: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"+Inf"]}]}}"#;
const TWO: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[1,"1"]},{"metric":{"a":"2"},"value":[1,"2"]}]}}"#;
const WARNED: &str = r#"{"status":"success","warnings":["a store is unreachable"],"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0"]}]}}"#;
const PARTS: &str =
    r#"{"series":[{"labels":[],"value":1000}],"metrics":{"completedJobs":1,"totalJobs":2}}"#;

const BEYOND_TIME: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[-1e300,"1"],[1e300,"1"]]}]}}"#;
const CENTURIES: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[0,"1"],[7258118400,"1"]]}]}}"#;

fn fault() -> Fault {
    Fault {
        at: Dur(Duration::from_secs(1)),
        length: Dur(Duration::from_secs(1)),
        kind: FaultKind::Stall,
        add: None,
        share: None,
    }
}

/// Spoils the answers to queries that hold this text.
fn where_asked(run: &mut Run, text: &'static str, spoil: impl Fn(&mut Answer) + 'static) {
    run.tamper(move |query, answer| {
        let (_, parameters) = query.http();
        if parameters.iter().any(|(_, value)| value.contains(text)) {
            spoil(answer);
        }
    });
}

/// Drops points of matrices after so many seconds of the run.
fn cut_scrapes(run: &mut Run, seconds: u64) {
    let from = (run.facts.started.0 / 1_000_000_000 + seconds) as f64;
    run.spoil(Prometheus, move |answer| {
        let mut value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        for series in value["data"]["result"].as_array_mut().unwrap() {
            if let Some(values) = series.get_mut("values").and_then(|v| v.as_array_mut()) {
                values.retain(|point| point[0].as_f64().unwrap() < from);
            }
        }
        answer.body = value.to_string();
    });
}

type Trap = (&'static str, Verdict, &'static str, fn(&mut Run));

/// Name, expected verdict, expected reason code, what is spoilt.
const TRAPS: &[Trap] = &[
    ("empty metrics", Inconclusive, "telemetry_incomplete", |r| {
        r.spoil(Prometheus, body(EMPTY))
    }),
    ("empty value", Inconclusive, "evidence_missing", |r| {
        where_asked(r, "max_over_time", body(EMPTY))
    }),
    ("NaN value", Inconclusive, "evidence_missing", |r| {
        where_asked(r, "max_over_time", body(NAN))
    }),
    ("infinite value", Inconclusive, "evidence_missing", |r| {
        where_asked(r, "max_over_time", body(INF))
    }),
    ("several series", Inconclusive, "evidence_missing", |r| {
        where_asked(r, "max_over_time", body(TWO))
    }),
    ("warned of a part", Inconclusive, "evidence_missing", |r| {
        where_asked(r, "max_over_time", body(WARNED))
    }),
    (
        "no bad series at the edges",
        Inconclusive,
        "evidence_missing",
        |r| where_asked(r, "5..", body(EMPTY)),
    ),
    (
        "scrapes fail half-way",
        Inconclusive,
        "telemetry_incomplete",
        |r| cut_scrapes(r, 20),
    ),
    (
        "no scrape after the drain",
        Inconclusive,
        "telemetry_incomplete",
        |r| cut_scrapes(r, 35),
    ),
    ("metrics 400", Inconclusive, "telemetry_incomplete", |r| {
        r.spoil(Prometheus, status(400, "bad_data"))
    }),
    ("metrics 503", Inconclusive, "telemetry_incomplete", |r| {
        r.spoil(Prometheus, status(503, ""))
    }),
    ("logs 500", Inconclusive, "telemetry_incomplete", |r| {
        r.spoil(Loki, status(500, "boom"))
    }),
    ("traces 401", Inconclusive, "telemetry_incomplete", |r| {
        r.spoil(Tempo, status(401, "no org id"))
    }),
    (
        "metrics garbage",
        Inconclusive,
        "telemetry_incomplete",
        |r| r.spoil(Prometheus, body("<html>login</html>")),
    ),
    ("logs garbage", Inconclusive, "telemetry_incomplete", |r| {
        r.spoil(Loki, body("{}"))
    }),
    (
        "traces garbage",
        Inconclusive,
        "telemetry_incomplete",
        |r| r.spoil(Tempo, body("[]")),
    ),
    (
        "metrics gone after the run",
        Inconclusive,
        "telemetry_incomplete",
        |r| r.spoil(Prometheus, gone),
    ),
    (
        "logs gone after the run",
        Inconclusive,
        "telemetry_incomplete",
        |r| r.spoil(Loki, gone),
    ),
    (
        "traces gone after the run",
        Inconclusive,
        "telemetry_incomplete",
        |r| r.spoil(Tempo, gone),
    ),
    (
        "half of the traces",
        Inconclusive,
        "telemetry_incomplete",
        |r| {
            r.tamper(|query, answer| {
                if let Query::TempoTrace { trace } = query
                    && trace.0[15] % 2 == 0
                {
                    answer.body = r#"{"trace":{},"metrics":{}}"#.into();
                }
            });
        },
    ),
    (
        "another service's spans",
        Inconclusive,
        "telemetry_incomplete",
        |r| {
            r.spoil(Tempo, |a| {
                a.body = a.body.replace("target-service", "other-service")
            });
        },
    ),
    (
        "traces findable, metrics over them not yet",
        Inconclusive,
        "telemetry_incomplete",
        |r| {
            where_asked(
                r,
                "kind=server",
                body(r#"{"series":[{"labels":[]}],"metrics":{}}"#),
            );
        },
    ),
    (
        "metrics over a part of the traces",
        Inconclusive,
        "evidence_missing",
        |r| where_asked(r, "duration <=", body(PARTS)),
    ),
    (
        "metrics over none of the traces yet, whose count protobuf leaves out",
        Inconclusive,
        "evidence_missing",
        |r| {
            where_asked(r, "duration <=", |a| {
                a.body = a.body.replace("\"completedJobs\":1,", "");
            });
        },
    ),
    (
        "metrics at times that no clock shows",
        Inconclusive,
        "telemetry_incomplete",
        |r| where_asked(r, "up{", body(BEYOND_TIME)),
    ),
    (
        "scrapes two centuries apart",
        Inconclusive,
        "evidence_missing",
        |r| {
            r.facts.backends.get_mut(&Prometheus).unwrap().embedded = false;
            where_asked(r, "up{", body(CENTURIES));
        },
    ),
    (
        "a fault that was never put on",
        Invalid,
        "faults_applied",
        |r| r.scenario.spec.faults.push(fault()),
    ),
    (
        "a fault that the target refused",
        Invalid,
        "faults_applied",
        |r| {
            r.scenario.spec.faults.push(fault());
            r.facts.faults.push(FaultApplied {
                kind: "stall".into(),
                at: None,
                error: Some("404".into()),
            });
        },
    ),
    (
        "wrong tenant of logs",
        Inconclusive,
        "telemetry_incomplete",
        |r| {
            r.tamper(|query, answer| match query {
                Query::LokiLines { .. } => answer.body = EMPTY_LINES.into(),
                Query::LokiInstant { .. } => answer.body = EMPTY.into(),
                _ => {}
            });
        },
    ),
    (
        "other people's log lines only",
        Inconclusive,
        "telemetry_incomplete",
        |r| where_asked(r, "trace_id", body(EMPTY_LINES)),
    ),
    (
        "wrong tenant of traces",
        Inconclusive,
        "telemetry_incomplete",
        |r| {
            r.spoil(Tempo, body(r#"{"trace":{},"metrics":{}}"#));
        },
    ),
    (
        "log lines twice",
        Inconclusive,
        "telemetry_incomplete",
        |r| {
            r.tamper(|query, answer| {
                if matches!(query, Query::LokiInstant { query, .. } if query.contains("completed"))
                {
                    answer.body = answer.body.replace("1250", "2500");
                }
            });
        },
    ),
    ("log query error", Inconclusive, "evidence_missing", |r| {
        where_asked(r, "ERROR", status(400, "pipeline error: JSONParserErr"))
    }),
    ("an error line", Fail, "objective_missed", |r| {
        where_asked(
            r,
            "ERROR",
            body(
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}"#,
            ),
        )
    }),
    (
        "embedded store refused data",
        Inconclusive,
        "telemetry_incomplete",
        |r| {
            r.facts.backends.get_mut(&Loki).unwrap().refused = 1;
        },
    ),
    (
        "a backend of the scenario not used",
        Inconclusive,
        "evidence_missing",
        |r| {
            r.facts.backends.remove(&Tempo);
        },
    ),
    (
        "answers not recorded",
        Inconclusive,
        "evidence_missing",
        |r| {
            r.tamper(|query, answer| {
                if matches!(query, Query::TempoMetrics { query, .. } if query.contains("queue")) {
                    answer.query = Query::TempoMetrics {
                        query: "another".into(),
                        start_s: 0,
                        end_s: 1,
                    };
                }
            });
        },
    ),
    ("wrong build", Invalid, "expected_version", |r| {
        r.facts.expect_version = Some("2.0".into())
    }),
    ("two builds", Invalid, "expected_version", |r| {
        where_asked(r, "target_info", |a| {
            a.body = a.body.replace("1.0\"", "1.1\"")
        })
    }),
    ("no build seen", Inconclusive, "validity_unknown", |r| {
        r.tamper(|_, a| {
            a.body = a
                .body
                .replace("service_version", "x")
                .replace("service.version", "x")
        });
    }),
    ("traffic of others", Invalid, "foreign_traffic", |r| {
        let mut others: Vec<_> = r.world.iter().take(600).cloned().collect();
        others.iter_mut().for_each(|o| o.done.0 += 3_000_000_000);
        r.world.extend(others);
    }),
    ("no measured requests", Invalid, "no_requests", |r| {
        r.rows.retain(|row| row.phase != Phase::Measure);
        r.facts.generator.scheduled = r.rows.len() as u64;
    }),
    ("rows missing", Invalid, "schedule_complete", |r| {
        r.rows.truncate(1_000)
    }),
    ("rows twice", Invalid, "schedule_complete", |r| {
        let first = r.rows[100].clone();
        r.rows[101] = first;
    }),
    ("late generator", Invalid, "late_sends", |r| {
        r.each(|n, row| {
            if n % 10 == 0 {
                row.sent = Some(crate::units::Nanos(row.due.0 + 11_000_000));
                row.done.0 += 11_000_000;
            }
        })
    }),
    ("clocks disagree", Invalid, "clocks", |r| {
        r.spoil(Tempo, |a| {
            a.body = a.body.replace("\"17953519", "\"17953819")
        });
    }),
    (
        "the target died after it was measured",
        Inconclusive,
        "target_exited",
        |r| r.facts.target.exited = Some("signal: 11 (SIGSEGV)".into()),
    ),
    ("interrupted", Invalid, "interrupted", |r| {
        r.facts.stop = Some(Stop::Interrupted("SIGINT".into()))
    }),
    ("aborted", Invalid, "abort_rule", |r| {
        r.facts.stop = Some(Stop::AbortRule("error_ratio > 0.5".into()))
    }),
    ("too few requests", Inconclusive, "undecided", |r| {
        r.rows
            .retain(|row| row.phase != Phase::Measure || row.id.0 < 300);
        r.world = r.rows.clone();
        r.facts.generator.scheduled = r.rows.len() as u64;
        r.objectives.retain(|o| o.name == "latency");
    }),
    (
        "no required objective",
        Inconclusive,
        "no_required_objectives",
        |r| {
            r.objectives
                .iter_mut()
                .for_each(|o| o.gate = Gate::Advisory);
        },
    ),
    (
        "no objective",
        Inconclusive,
        "no_required_objectives",
        |r| r.objectives.clear(),
    ),
    ("slow answers", Fail, "objective_missed", |r| {
        r.each(|n, row| {
            if n % 20 == 0 {
                row.done.0 += 600_000_000;
            }
        })
    }),
    ("timeouts", Fail, "objective_missed", |r| {
        r.each(|n, row| {
            if n % 20 == 0 {
                row.outcome = Outcome::Timeout;
                row.status = None;
            }
        })
    }),
    ("drops, which are quick", Fail, "objective_missed", |r| {
        r.each(|n, row| {
            if n % 20 == 0 {
                row.outcome = Outcome::Dropped;
                row.sent = None;
                row.done = row.due;
                row.status = None;
            }
        })
    }),
    (
        "wrong answers, quick and 200",
        Fail,
        "objective_missed",
        |r| {
            r.each(|n, row| {
                if n % 20 == 0 {
                    row.outcome = Outcome::WrongAnswer;
                }
            })
        },
    ),
    ("nothing answered", Fail, "objective_missed", |r| {
        r.each(|_, row| {
            row.outcome = Outcome::ConnectionRefused;
            row.status = None;
        })
    }),
    (
        "a miss that the evidence proves beside evidence that is gone",
        Fail,
        "objective_missed",
        |r| {
            r.spoil(Prometheus, gone);
            r.each(|n, row| {
                if n % 20 == 0 {
                    row.outcome = Outcome::Timeout;
                    row.status = None;
                }
            });
        },
    ),
];

fn told(report: &Report) -> String {
    format!(
        "{:?} {:?}\n{}",
        report.verdict,
        report.reason_code,
        report.reasons.join("\n")
    )
}

#[test]
fn the_healthy_run_passes() {
    let report = Run::healthy().judged();
    assert_eq!(report.verdict, Verdict::Pass, "{}", told(&report));
    assert_eq!(report.exit_code, 0);
    for objective in &report.objectives {
        assert_eq!(
            objective.verdict,
            Verdict::Pass,
            "{}: {}",
            objective.name,
            objective.reason
        );
        assert!(objective.value.is_some());
    }
    assert_eq!(report.coverage.sources.len(), 3);
    assert!(
        report
            .coverage
            .sources
            .iter()
            .all(|s| s.complete && s.canary)
    );
    assert_eq!(report.run.versions, ["1.0"]);
    let scheduled: u64 = report.load.iter().map(|l| l.scheduled).sum();
    assert_eq!(scheduled, 1_250);
    assert!(!report.series.is_empty() && !report.distribution.is_empty());
    let slowest = &report.requests[0];
    assert_eq!(
        (slowest.spans.len(), slowest.spans[1].depth),
        (2, 1),
        "{:?}",
        slowest.spans_missing
    );
    assert_eq!(slowest.logs.len(), 1, "{:?}", slowest.logs_missing);
}

#[test]
fn no_trap_passes() {
    let mut wrong = Vec::new();
    for (name, verdict, code, spoil) in TRAPS {
        let mut run = Run::healthy();
        spoil(&mut run);
        let report = run.judged();
        if report.verdict != *verdict || report.reason_code.as_deref() != Some(*code) {
            wrong.push(format!(
                "{name}: expected {verdict:?} {code}, got {}",
                told(&report)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn refused_requests_are_no_traffic_whatever_outcome_is_asked_for() {
    let slo = include_str!("../../../../slo/quickstart.yaml");
    let mut run = Run::healthy();
    run.objectives = objective::parse(&[("a.yaml".into(), slo.into())]).unwrap();
    run.objectives.retain_mut(|o| match &mut o.indicator {
        Indicator::Threshold {
            metric: Metric::Client(client),
            ..
        } => match &mut client.figure {
            ClientFigure::Rate { outcome } => {
                *outcome = Wanted::Any;
                true
            }
            _ => false,
        },
        _ => false,
    });
    assert_eq!(run.judged().objectives[0].verdict, Verdict::Pass);
    run.each(|_, row| {
        row.outcome = Outcome::ConnectionRefused;
        row.status = None;
    });
    let report = run.judged();
    assert_eq!(
        report.objectives[0].verdict,
        Verdict::Fail,
        "{}",
        told(&report)
    );
}

#[test]
fn an_applied_fault_is_no_trap() {
    let mut run = Run::healthy();
    run.scenario.spec.faults.push(fault());
    run.facts.faults.push(FaultApplied {
        kind: "stall".into(),
        at: Some(crate::units::Nanos(1)),
        error: None,
    });
    assert_eq!(run.judged().verdict, Verdict::Pass);
}

#[test]
fn judging_again_says_the_same() {
    let run = Run::healthy();
    assert_eq!(run.judged(), run.judged());
}

#[test]
fn evidence_that_stops_is_missing_since_then() {
    let mut run = Run::healthy();
    cut_scrapes(&mut run, 20);
    let report = run.judged();
    let metrics = &report.coverage.sources[0];
    let since = metrics.missing_since.unwrap();
    assert!((18.0..22.0).contains(&since), "{since}: {}", metrics.reason);
}

#[test]
fn files_that_judge_nothing_are_refused() {
    let good = include_str!("../../../../slo/seed-locust.yaml");
    let refused = |files: &[(&str, String)], word: &str| {
        let files: Vec<_> = files
            .iter()
            .map(|(n, t)| ((*n).to_owned(), t.clone()))
            .collect();
        let problems = objective::parse(&files).expect_err(word).to_string();
        assert!(problems.contains(word), "{problems}");
    };
    objective::parse(&[("a.yaml".into(), good.into())]).unwrap();
    refused(&[], "no SLO file");
    refused(&[("a.yaml", "# nothing\n".into())], "holds no SLO");
    let service = "apiVersion: openslo/v1\nkind: Service\nmetadata: {name: a}\nspec: {}\n";
    refused(&[("a.yaml", service.into())], "holds no SLO");
    refused(
        &[("a.yaml", good.into()), ("b.yaml", good.into())],
        "a second SLO named",
    );
    refused(
        &[("a.yaml", good.replacen("target: 0.99", "target: 1.0", 1))],
        "out of range",
    );
    refused(
        &[("a.yaml", good.replacen("type: Tempo", "type: Jaeger", 1))],
        "unknown source `Jaeger`",
    );
    refused(
        &[(
            "a.yaml",
            good.replacen("budgetingMethod", "budgetMethod", 1),
        )],
        "budgetMethod",
    );
    refused(
        &[("a.yaml", good.replacen("Occurrences", "Timeslices", 1))],
        "not built yet",
    );
    refused(
        &[("a.yaml", good.replacen("harness/gate", "harness/gait", 1))],
        "unknown annotation",
    );
    refused(
        &[("a.yaml", good.replacen("metric: rate", "metric: ratte", 1))],
        "unknown metric",
    );
    let cut = good.find("  objectives:").unwrap();
    refused(
        &[("a.yaml", format!("{}  objectives: []\n", &good[..cut]))],
        "is empty",
    );
}

#[test]
fn problems_name_the_line() {
    let good = include_str!("../../../../slo/seed-locust.yaml");
    let bad = good.replacen("type: Tempo", "type: Jaeger", 1);
    let line = 1 + bad.lines().position(|l| l.contains("Jaeger")).unwrap();
    let problems = objective::parse(&[("a.yaml".into(), bad)]).unwrap_err();
    assert_eq!(problems.0[0].at.unwrap().0, line, "{problems}");
}

#[test]
fn an_objective_on_an_unknown_request_is_refused() {
    let mut run = Run::healthy();
    assert!(
        run.objectives
            .iter()
            .all(|o| o.check(&run.scenario).is_empty())
    );
    run.scenario.spec.requests[0].name = "other".into();
    assert!(!run.objectives[0].check(&run.scenario).is_empty());
    run.scenario.spec.telemetry.embedded = None;
    let metrics = run
        .objectives
        .iter()
        .find(|o| o.name == "server-errors")
        .unwrap();
    assert!(
        metrics.check(&run.scenario)[0]
            .message
            .contains("prometheus")
    );
}
