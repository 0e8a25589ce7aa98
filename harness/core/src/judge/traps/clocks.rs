//! Clocks of the backends, and of what they hold, that differ from the client's.

use super::{Trap, edit};
use crate::query::{Backend, Query};
use crate::record::clock::ClockSeen;
use crate::report::model::Verdict::{Inconclusive, Pass};

use super::super::testing::Run;

const CLASS: &str = "Clocks of the backends";

/// The answers of a backend carry dates that put its clock so far ahead of ours, by 40 answers.
fn dated(run: &mut Run, backend: Backend, ahead_ms: i64) {
    let used = run.facts.backends.get_mut(&backend).unwrap();
    used.clock = Some(ClockSeen {
        answers: 40,
        least_ms: ahead_ms - 15,
        most_ms: ahead_ms + 15,
    });
}

/// Dates the lines of the request log so much later.
fn lines_later(run: &mut Run, by_ns: i64) {
    run.tamper(move |query, answer| {
        if matches!(query, Query::LokiLines { .. }) {
            edit(answer, |v| {
                for stream in v["data"]["result"].as_array_mut().unwrap() {
                    let at = stream["values"][0][0].as_str().unwrap();
                    let at = at.parse::<i64>().unwrap() + by_ns;
                    stream["values"][0][0] = at.to_string().into();
                }
            });
        }
    });
}

fn lost(name: &'static str, spoil: fn(&mut Run)) -> Trap {
    let code = "telemetry_incomplete";
    Trap::new(CLASS, name, Inconclusive, code, spoil)
}

pub(super) fn of_backends() -> Vec<Trap> {
    let moved = "windows are asked for by the client's clock: another stretch of time is judged than the measured phase";
    vec![
        lost("scrapes are dated two seconds late", |r| {
            r.scrapes_ahead = 2_000_000_000;
        })
        .why("counters at the edges are those of two seconds before: warm-up is judged, and the end is not; the client's own times of sending show it")
        .says("dated 2.0 s late at least"),
        lost("scrapes are dated three seconds early", |r| {
            r.scrapes_ahead = -3_000_000_000;
        })
        .why("the first seconds of the measured phase are not judged; more requests are counted than were sent by then")
        .says("early at least"),
        Trap::new(
            CLASS,
            "scrapes are dated a third of a second late",
            Pass,
            "",
            |r| r.scrapes_ahead = 333_000_000,
        )
        .wrong("inconclusive")
        .why("less than the edges of a window bear, which lie between two scrapes; it is a finding")
        .naively(|_, report| report.findings.iter().any(|f| f.code == "scrapes_dated_apart")),
        lost("the clock of Prometheus is a minute ahead", |r| {
            dated(r, Backend::Prometheus, 60_000);
        })
        .why(moved)
        .says("the clock of prometheus is 60.0 s ahead"),
        lost("the clock of Loki is five seconds behind", |r| {
            dated(r, Backend::Loki, -5_000);
        })
        .why("lines that it dates itself, or refuses as too new, are missed by windows of the client's clock")
        .says("the clock of loki is 5.0 s behind"),
        lost("the clock of Tempo is two seconds ahead", |r| {
            dated(r, Backend::Tempo, 2_000);
        })
        .why("what it hides as too fresh, and where its blocks are cut, goes by its own clock"),
        lost("two machines with clocks ten seconds apart answer as one Prometheus", |r| {
            let used = r.facts.backends.get_mut(&Backend::Prometheus).unwrap();
            used.clock = Some(ClockSeen {
                answers: 40,
                least_ms: 5_000,
                most_ms: -5_000,
            });
        })
        .why("each was held against ours by its own answers")
        .says("in others"),
        Trap::new(
            CLASS,
            "the clock of a backend is a fifth of a second ahead",
            Pass,
            "",
            |r| dated(r, Backend::Loki, 200),
        )
        .wrong("inconclusive")
        .why("less than the edges of a window bear; it is a finding")
        .naively(|_, report| report.findings.iter().any(|f| f.code == "backend_clock_differs")),
        lost("log lines are dated five seconds late", |r| {
            lines_later(r, 5_000_000_000);
        })
        .wrong("pass: no error line within the window")
        .why("lines of the last seconds fall out of the window, those of warm-up into it; the line of the run's last request shows it")
        .says("5.0 s after its answer"),
        lost("log lines are dated five seconds early", |r| {
            lines_later(r, -5_000_000_000);
        })
        .wrong("pass: no error line within the window")
        .why("lines of the first seconds fall out of the window")
        .says("before it was sent"),
    ]
}
