//! Traces: spans that are dropped, doubled, sampled, late, or of another clock.

use super::{NO_TRACE, Trap, body, cut_short, edit, gone, status, where_asked};
use crate::query::{Backend, Query};
use crate::report::model::Source;
use crate::report::model::Verdict::{Inconclusive, Invalid, Pass};

use super::super::testing::Run;
use Backend::Tempo;

const CLASS: &str = "Traces";

const PARTS: &str =
    r#"{"series":[{"labels":[],"value":1000}],"metrics":{"completedJobs":1,"totalJobs":2}}"#;

/// Loses the traces whose number in the run is so.
fn lose(run: &mut Run, lost: fn(u64) -> bool) {
    run.tamper(move |query, answer| {
        if let Query::TempoTrace { trace } = query {
            let mut number = [0; 8];
            number.copy_from_slice(&trace.0[8..]);
            if lost(u64::from_be_bytes(number)) {
                answer.body = NO_TRACE.into();
            }
        }
    });
}

/// Sets the number that metrics over traces give for what the coverage counts.
pub(super) fn count_spans(run: &mut Run, spans: u64) {
    where_asked(run, "kind=server", move |a| {
        edit(a, |v| v["series"][0]["value"] = spans.into());
    });
}

pub(super) fn traps() -> Vec<Trap> {
    let lost = |name, spoil| Trap::new(CLASS, name, Inconclusive, "telemetry_incomplete", spoil);
    let missing = |name, spoil| Trap::new(CLASS, name, Inconclusive, "evidence_missing", spoil);
    vec![
        lost("401 from the trace store", |r| {
            r.spoil(Tempo, status(401, "no org id"))
        })
        .why("no answer is no evidence"),
        lost("404 with a text from the trace store", |r| {
            r.spoil(Tempo, status(404, "404 page not found"));
        })
        .why("a wrong path, not an unknown trace"),
        lost(
            "500 `empty ring`: metrics over traces are not enabled",
            |r| {
                r.tamper(|query, answer| {
                    if matches!(query, Query::TempoMetrics { .. }) {
                        status(500, "empty ring")(answer);
                    }
                });
            },
        )
        .why("traces are found by id; objectives over them are not answered"),
        lost("an array where an answer should be", |r| {
            r.spoil(Tempo, body("[]"))
        })
        .why("it is not an answer of this API"),
        lost("a trace cut short on the way", |r| {
            r.spoil(Tempo, cut_short)
        })
        .why("half a JSON document is read as none"),
        lost(
            "the trace store is unreachable once the load is over",
            |r| r.spoil(Tempo, gone),
        )
        .why("a backend that is lost leaves its objectives open"),
        lost("the wrong tenant of traces: 200 and empty", |r| {
            r.spoil(Tempo, body(NO_TRACE))
        })
        .wrong("pass: no slow span was found")
        .why("the run's own traces are looked up by id"),
        lost("half of the traces are dropped", |r| {
            lose(r, |n| n % 2 == 0)
        })
        .wrong("pass on the other half")
        .why("the dropped ones may be the slow ones"),
        lost(
            "the service keeps one trace in ten, although asked for all",
            |r| {
                lose(r, |n| n % 10 != 0);
            },
        )
        .wrong("pass on a tenth")
        .why("a sampler that prefers anything makes the tenth another population"),
        Trap::new(
            CLASS,
            "the scenario itself asks for one trace in three",
            Pass,
            "",
            |r| {
                for rows in [&mut r.rows, &mut r.world] {
                    rows.iter_mut()
                        .for_each(|row| row.sampled = row.id.0 % 3 == 0);
                }
            },
        )
        .wrong("inconclusive: two thirds are missing")
        .why("only the traces asked for are expected, and their number is what the bounds rest on")
        .naively(|_, report| {
            let mut traced = report
                .objectives
                .iter()
                .filter(|o| o.source == Source::Tempo);
            traced.all(|o| o.samples < Some(500))
        }),
        lost(
            "more traces than are looked up, and one in thirty of those lost",
            |r| {
                r.objectives.retain(|o| o.source() != Source::Tempo);
                lose(r, |n| n % 30 == 0);
            },
        )
        .wrong("pass: the first hundred were found")
        .why("an even sample over the whole run is looked up, and is short of the limit"),
        lost(
            "more traces than are looked up, and the sample's bound is under the limit",
            |r| {
                r.objectives.retain(|o| o.source() != Source::Tempo);
                let asked: Vec<u64> = (0..500).map(|i| i * 1_249 / 499).collect();
                let gone = [asked[100], asked[200], asked[300], asked[400]];
                r.tamper(move |query, answer| {
                    if let Query::TempoTrace { trace } = query
                        && gone.contains(&u64::from(u16::from_be_bytes([trace.0[14], trace.0[15]])))
                    {
                        answer.body = NO_TRACE.into();
                    }
                });
            },
        )
        .wrong("pass: 496 of 500 are over 99 %")
        .why("a sample of 500 with 4 lost does not show that 99 % of all are there"),
        lost(
            "more traces than are looked up, and the lost ones are not in the sample",
            |r| {
                count_spans(r, 1_200);
            },
        )
        .wrong("pass: all that were looked up were found")
        .why("where an objective reads traces, all of the service's spans are counted, too"),
        lost("another service's spans", |r| {
            r.spoil(Tempo, |a| {
                a.body = a.body.replace("target-service", "other-service")
            });
        })
        .why("a span of this service has to hang under the client's"),
        lost("every span is exported twice", |r| {
            r.tamper(|query, answer| {
                if matches!(query, Query::TempoMetrics { .. }) {
                    edit(answer, |v| {
                        let n = v["series"][0]["value"].as_u64().unwrap();
                        v["series"][0]["value"] = (2 * n).into();
                    });
                }
            });
        })
        .wrong("pass, with twice the samples")
        .why("more of the service's spans than requests were sent"),
        lost("traces can be found, metrics over them not yet", |r| {
            where_asked(
                r,
                "kind=server",
                body(r#"{"series":[{"labels":[]}],"metrics":{}}"#),
            );
        })
        .wrong("pass: no slow span was counted")
        .why("Tempo hides fresh data from metrics; a series without a value is empty, not 0"),
        missing("metrics over a part of the traces", |r| {
            where_asked(r, "duration <=", body(PARTS))
        })
        .why("the answer says that one of two parts was not searched"),
        missing(
            "metrics over none of the traces yet, whose count protobuf leaves out",
            |r| {
                where_asked(r, "duration <=", |a| {
                    a.body = a.body.replace("\"completedJobs\":1,", "")
                });
            },
        )
        .why("no `completedJobs` beside `totalJobs` is none of them"),
        missing("more good spans than spans", |r| {
            where_asked(r, "duration <=", |a| {
                edit(a, |v| v["series"][0]["value"] = 5_000.into())
            });
        })
        .wrong("pass at over 100 %")
        .why("the two queries do not count the same events"),
        missing(
            "the backend that an objective needs was not used in the run",
            |r| {
                r.facts.backends.remove(&Tempo);
            },
        )
        .why("an objective that was not asked is not met"),
        missing("an answer that was never recorded", |r| {
            r.tamper(|query, answer| {
                if matches!(query, Query::TempoMetrics { query, .. } if query.contains("queue")) {
                    answer.query = Query::TempoMetrics {
                        query: "another".into(),
                        start_s: 0,
                        end_s: 1,
                    };
                }
            });
        })
        .why("judged offline, a question that was not asked in the run has no answer"),
        Trap::new(
            CLASS,
            "the service's clock is 30 s ahead",
            Invalid,
            "clocks",
            |r| {
                r.spoil(Tempo, |a| {
                    a.body = a.body.replace("\"17953519", "\"17953819")
                });
            },
        )
        .why("windows and waterfalls rest on clocks that agree within a second"),
        Trap::new(
            CLASS,
            "the service's clock is 30 s behind",
            Invalid,
            "clocks",
            |r| {
                r.spoil(Tempo, |a| {
                    a.body = a.body.replace("\"17953519", "\"17953490");
                });
            },
        )
        .why("windows and waterfalls rest on clocks that agree within a second"),
    ]
}
