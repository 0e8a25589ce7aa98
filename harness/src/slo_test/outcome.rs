//! What came of the tests, for people and for CI.

use std::io::Write as _;

use clap::ValueEnum;
use harness_core::report::model::Verdict;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

/// Forms of the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A line a test.
    Terminal,
    /// JUnit XML.
    Junit,
}

/// The tests of one file.
pub(super) struct FileOutcome {
    pub(super) file: String,
    pub(super) cases: Vec<Case>,
}

/// One test.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) line: Option<usize>,
    /// How many expectations it has.
    pub(super) expected: usize,
    /// Line and sentence of each that is not met.
    pub(super) unmet: Vec<(Option<usize>, String)>,
}

/// A verdict in the words of the format.
pub(super) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Invalid => "invalid",
    }
}

/// Untrusted text (reasons quote answers) on one line of a terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn placed(file: &str, line: Option<usize>) -> String {
    line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"))
}

fn text(outcomes: &[FileOutcome]) -> String {
    let mut out = String::new();
    let (mut tests, mut failed) = (0, 0);
    for file in outcomes {
        out.push_str(&format!("{}\n", file.file));
        for case in &file.cases {
            tests += 1;
            if case.unmet.is_empty() {
                let count = case.expected;
                let s = if count == 1 { "" } else { "s" };
                out.push_str(&format!(
                    "  ✓ {} ({count} expectation{s})\n",
                    plain(&case.name)
                ));
                continue;
            }
            failed += 1;
            out.push_str(&format!("  ✗ {}\n", plain(&case.name)));
            for (line, why) in &case.unmet {
                let place = placed(&file.file, line.or(case.line));
                out.push_str(&format!("      {place}: {}\n", plain(why)));
            }
        }
    }
    let s = if tests == 1 { "" } else { "s" };
    out.push_str(&format!("{tests} test{s}, {failed} failed\n"));
    out
}

/// JUnit XML: a suite a file, a case a test.
pub(super) fn junit(outcomes: &[FileOutcome]) -> Result<String, String> {
    let mut report = Report::new("harness test");
    for file in outcomes {
        let mut suite = TestSuite::new(file.file.as_str());
        for case in &file.cases {
            let status = if case.unmet.is_empty() {
                TestCaseStatus::success()
            } else {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                let lines: Vec<String> = case
                    .unmet
                    .iter()
                    .map(|(line, why)| {
                        format!("{}: {}", placed(&file.file, line.or(case.line)), plain(why))
                    })
                    .collect();
                status.set_message(format!("{} expectations are not met", case.unmet.len()));
                status.set_description(lines.join("\n"));
                status
            };
            let mut junit = TestCase::new(plain(&case.name), status);
            junit.set_classname(file.file.as_str());
            suite.add_test_case(junit);
        }
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|error| error.to_string())
}

/// Prints the outcome to stdout.
pub(super) fn print(outcomes: &[FileOutcome], form: Form) -> Result<(), String> {
    let text = match form {
        Form::Terminal => text(outcomes),
        Form::Junit => junit(outcomes)?,
    };
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("the outcome cannot be printed: {error}"))
}
