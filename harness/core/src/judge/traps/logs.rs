//! Logs: lines that are dropped, doubled, another's, or that no query can read.

use super::{EMPTY, EMPTY_LINES, Trap, body, cut_short, edit, gone, status, where_asked};
use crate::query::{Backend, Query};
use crate::report::model::Verdict::{Fail, Inconclusive};

use super::super::testing::Run;
use Backend::Loki;

const CLASS: &str = "Logs";

/// Sets the number that the request log is counted at.
fn count_lines(run: &mut Run, lines: u64) {
    run.tamper(move |query, answer| {
        if matches!(query, Query::LokiInstant { query, .. } if query.contains("completed")) {
            edit(answer, |v| {
                v["data"]["result"][0]["value"][1] = lines.to_string().into();
            });
        }
    });
}

pub(super) fn traps() -> Vec<Trap> {
    let lost = |name, spoil| Trap::new(CLASS, name, Inconclusive, "telemetry_incomplete", spoil);
    let missing = |name, spoil| Trap::new(CLASS, name, Inconclusive, "evidence_missing", spoil);
    vec![
        lost("500 from the log store", |r| r.spoil(Loki, status(500, "boom")))
            .wrong("pass: no error line was found")
            .why("no answer is no evidence"),
        lost("429 from the log store: too many queries", |r| r.spoil(Loki, status(429, "")))
            .wrong("pass: no error line was found")
            .why("no answer is no evidence"),
        lost("a JSON document that is no answer", |r| r.spoil(Loki, body("{}")))
            .wrong("pass: no error line was found")
            .why("an answer without `data` holds nothing"),
        lost("a log answer cut short on the way", |r| r.spoil(Loki, cut_short))
            .wrong("pass: no error line was found")
            .why("half a JSON document is read as none"),
        lost("the log store is unreachable once the load is over", |r| r.spoil(Loki, gone))
            .wrong("pass: no error line was found")
            .why("a backend that is lost leaves its objectives open"),
        lost("the wrong tenant: 200 and empty", |r| {
            r.tamper(|query, answer| match query {
                Query::LokiLines { .. } => answer.body = EMPTY_LINES.into(),
                Query::LokiInstant { .. } => answer.body = EMPTY.into(),
                _ => {}
            });
        })
        .wrong("pass: no error line was found")
        .why("the run's own last request has to be found by its trace id"),
        lost("other people's lines only", |r| where_asked(r, "trace_id", body(EMPTY_LINES)))
            .wrong("pass: as many lines as requests")
            .why("the run's own last request is not among them"),
        lost("half of the lines are dropped", |r| count_lines(r, 625))
            .wrong("pass: no error line in what is there")
            .why("fewer lines than answered requests"),
        lost("the newest lines come late", |r| count_lines(r, 1_200))
            .wrong("pass: no error line in what is there")
            .why("settling waits for as many lines as were answered, and the judge asks again"),
        Trap::new(CLASS, "a few lines are lost, within the limit of coverage", Inconclusive, "undecided", |r| count_lines(r, 1_245))
            .wrong("pass: 99 % of the lines are there, and no error line among them")
            .why("the five lines that are missing may be error lines, and none is allowed")
            .says("lacks 5"),
        lost("every line is collected twice", |r| count_lines(r, 2_500))
            .wrong("pass, with twice the samples")
            .why("more lines than requests were sent: two collectors, or not ours"),
        missing("one line that cannot be parsed makes the whole query fail", |r| {
            where_asked(r, "ERROR", status(400, "pipeline error: JSONParserErr"));
        })
        .wrong("pass: 0 where the answer is an error")
        .why("a failed query has no value"),
        Trap::new(CLASS, "a negative count", Inconclusive, "undecided", |r| {
            where_asked(r, "ERROR", body(
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"-3"]}]}}"#,
            ));
        })
        .wrong("pass: under any limit")
        .why("no count is negative"),
        Trap::new(CLASS, "one error line", Fail, "objective_missed", |r| {
            where_asked(r, "ERROR", body(
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}"#,
            ));
        })
        .why("none is allowed, and all lines are there"),
        lost("the embedded store refused data", |r| {
            r.facts.backends.get_mut(&Loki).unwrap().refused = 1;
        })
        .why("what was refused may be what mattered"),
    ]
}
