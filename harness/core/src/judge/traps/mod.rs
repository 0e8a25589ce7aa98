//! Traps: what may be wrong with a run or its evidence so that a naive gate gives a wrong answer, and
//! what ours is.
//!
//! One table over several files by theme. Each trap first shows that the wrong answer was possible:
//! the same run without the trap is judged otherwise, or a naive reading of the very same answers says
//! something else. `docs/TRAPS.md` is written from this table and held to it by a test.

use super::testing::Run;
use crate::query::Answer;
use crate::report::model::{Report, Verdict};

use Verdict::{Fail, Inconclusive, Invalid, Pass};

mod checks;
mod clocks;
mod generator;
mod logs;
mod metrics;
mod published;
mod sampled;
mod statistics;
mod traces;

/// How it is shown that the wrong answer was possible.
enum Shown {
    /// The run without the trap is judged so: what the trap hides or fakes would decide.
    Without(Verdict),
    /// A naive reading of the trapped run's own report gives the wrong answer: `true` when it does.
    Naively(fn(&Run, &Report) -> bool),
}

/// One trap.
struct Trap {
    name: &'static str,
    class: &'static str,
    /// The wrong answer, and who would give it.
    wrong: &'static str,
    verdict: Verdict,
    /// The report's `reason_code`; none for a pass.
    code: Option<&'static str>,
    why: &'static str,
    /// What holds with and without the trap.
    base: Option<fn(&mut Run)>,
    spoil: fn(&mut Run),
    shown: Shown,
    /// What the report must say somewhere, for traps that share a verdict with others.
    says: &'static str,
}

impl Trap {
    /// A trap in a run that passes without it.
    fn new(
        class: &'static str,
        name: &'static str,
        verdict: Verdict,
        code: &'static str,
        spoil: fn(&mut Run),
    ) -> Self {
        Self {
            name,
            class,
            wrong: "pass",
            verdict,
            code: (!code.is_empty()).then_some(code),
            why: "",
            base: None,
            spoil,
            shown: Shown::Without(Pass),
            says: "",
        }
    }

    fn wrong(mut self, wrong: &'static str) -> Self {
        self.wrong = wrong;
        self
    }

    fn why(mut self, why: &'static str) -> Self {
        self.why = why;
        self
    }

    fn base(mut self, base: fn(&mut Run)) -> Self {
        self.base = Some(base);
        self
    }

    fn without(mut self, verdict: Verdict) -> Self {
        self.shown = Shown::Without(verdict);
        self
    }

    fn naively(mut self, wrong: fn(&Run, &Report) -> bool) -> Self {
        self.shown = Shown::Naively(wrong);
        self
    }

    fn says(mut self, text: &'static str) -> Self {
        self.says = text;
        self
    }
}

/// All traps.
fn traps() -> Vec<Trap> {
    [
        metrics::traps(),
        logs::traps(),
        traces::traps(),
        clocks::of_backends(),
        generator::traps(),
        statistics::traps(),
        sampled::traps(),
        published::traps(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn told(report: &Report) -> String {
    format!(
        "{:?} {:?}\n{}",
        report.verdict,
        report.reason_code,
        report.reasons.join("\n")
    )
}

fn everything_said(report: &Report) -> String {
    let reasons = report.objectives.iter().map(|o| o.reason.clone());
    let coverage = report.coverage.sources.iter().map(|s| s.reason.clone());
    let all = report.reasons.iter().cloned().chain(reasons);
    let all = all.chain(coverage).chain(report.notes.iter().cloned());
    all.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_trap_was_possible_and_none_catches_us() {
    let mut problems = Vec::new();
    let healthy = Run::healthy().judged();
    for trap in traps() {
        let mut run = Run::healthy();
        let mut before = None;
        if let Some(base) = trap.base {
            base(&mut run);
            before = Some(run.judged());
        }
        let before = before.as_ref().unwrap_or(&healthy);
        (trap.spoil)(&mut run);
        let report = run.judged();
        match trap.shown {
            Shown::Without(verdict) => {
                assert_ne!(verdict, trap.verdict, "{} shows nothing", trap.name);
                if before.verdict != verdict {
                    let told = told(before);
                    problems.push(format!("{} without the trap: {told}", trap.name));
                }
            }
            Shown::Naively(wrong) if !wrong(&run, &report) => {
                problems.push(format!("{}: no naive reading is wrong", trap.name));
            }
            Shown::Naively(_) => {}
        }
        if report.verdict != trap.verdict || report.reason_code.as_deref() != trap.code {
            problems.push(format!(
                "{}: expected {:?} {:?}, got {}",
                trap.name,
                trap.verdict,
                trap.code,
                told(&report)
            ));
        } else if !everything_said(&report).contains(trap.says) {
            let said = everything_said(&report);
            problems.push(format!(
                "{}: `{}` is not said in {said}",
                trap.name, trap.says
            ));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// The table for people, in Markdown.
fn page() -> String {
    let traps = traps();
    let mut out = String::from(include_str!("head.md"));
    let count = |verdict| traps.iter().filter(|t| t.verdict == verdict).count();
    out.push_str(&format!(
        "\n{} traps: {} are inconclusive, {} invalid, {} fail and {} pass.\n",
        traps.len(),
        count(Inconclusive),
        count(Invalid),
        count(Fail),
        count(Pass),
    ));
    let mut class = "";
    for trap in &traps {
        if trap.class != class {
            class = trap.class;
            out.push_str(&format!(
                "\n## {class}\n| trap | a naive gate says | harness says | because |\n|---|---|---|---|\n"
            ));
        }
        let verdict = match trap.verdict {
            Pass => "pass",
            Fail => "fail",
            Inconclusive => "inconclusive",
            Invalid => "invalid",
        };
        let code = trap.code.map(|c| format!(" `{c}`")).unwrap_or_default();
        out.push_str(&format!(
            "| {} | {} | {verdict}{code} | {} |\n",
            trap.name, trap.wrong, trap.why
        ));
    }
    out
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "the test reads, and on demand writes, the page"
)]
fn the_page_of_traps_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/TRAPS.md");
    if std::env::var_os("HARNESS_WRITE_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        there == page(),
        "write it anew: HARNESS_WRITE_DOCS=1 cargo test -p harness-core --lib the_page_of_traps"
    );
}

#[test]
fn every_trap_has_a_name_of_its_own_a_reason_and_a_row() {
    let traps = traps();
    assert!(traps.len() >= 60, "{}", traps.len());
    let mut names: Vec<&str> = traps.iter().map(|t| t.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), traps.len());
    for trap in &traps {
        assert!(!trap.why.is_empty(), "{}", trap.name);
        let texts = [trap.name, trap.wrong, trap.why];
        let plain = |text: &&str| !text.contains(['|', '\n']);
        assert!(texts.iter().all(plain), "{} breaks its row", trap.name);
    }
}

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

/// The connection broke in the middle of the body.
fn cut_short(answer: &mut Answer) {
    let half = answer.body.len() / 2;
    answer.body.truncate(half);
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

/// Changes an answer as JSON.
fn edit(answer: &mut Answer, change: impl FnOnce(&mut serde_json::Value)) {
    let mut value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    change(&mut value);
    answer.body = value.to_string();
}

const EMPTY: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
const EMPTY_LINES: &str = r#"{"status":"success","data":{"resultType":"streams","result":[]}}"#;
const NO_TRACE: &str = r#"{"trace":{},"metrics":{}}"#;
