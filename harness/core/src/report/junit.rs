//! The report as JUnit XML, which CI systems show as test results.
//!
//! | report | JUnit |
//! |---|---|
//! | objective met | success |
//! | objective missed | `failure`, type `missed` |
//! | objective undecided | `error`, type `inconclusive` |
//! | source of telemetry incomplete | `error`, type `inconclusive` |
//! | check of the run not held | `error`, type `invalid run` |
//! | invalid run | every case but the checks that held is an `error`, type `invalid run` |
//!
//! A suite `run` with one case `verdict` shows the verdict also where no single objective does. Advisory
//! objectives are in a suite of their own, `advisory`: what they miss or leave undecided is said as of
//! any other, never skipped, though it does not gate. Outside that suite there is a failure or an error
//! exactly when there is no pass; a system that gates on the file instead of the exit code makes
//! advisory objectives required.

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::beside::sections;
use super::figures;
use super::model::{Gate, ObjectiveResult, Report, SourceCoverage, ValidityCheck, Verdict};
use super::summary;
use super::text;

/// Why a report could not be written as JUnit XML.
#[derive(Debug, thiserror::Error)]
#[error("the report could not be written as JUnit XML: {0}")]
pub struct JunitError(#[from] quick_junit::SerializeError);

/// The report as JUnit XML. Characters that XML cannot hold are made visible, none is passed on.
///
/// # Errors
/// When the XML writer refuses, which no text in a report is known to cause.
pub fn junit(report: &Report) -> Result<String, JunitError> {
    let mut out = Junit::new(format!("harness {}", text::name(&report.run.scenario)));
    out.add_test_suite(run(report));
    out.add_test_suite(objectives(report, Gate::Required));
    if report.objectives.iter().any(|o| o.gate == Gate::Advisory) {
        out.add_test_suite(objectives(report, Gate::Advisory));
    }
    out.add_test_suite(coverage(report));
    out.add_test_suite(validity(report));
    Ok(out.to_string()?)
}

fn error(kind: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type(kind).set_message(message);
    status
}

/// What every case of a run that cannot be trusted says.
fn invalid(report: &Report) -> Option<TestCaseStatus> {
    (report.verdict == Verdict::Invalid).then(|| error("invalid run", &summary::finding(report)))
}

fn case(report: &Report, suite: &str, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(text::name(name), status);
    case.set_classname(format!("{}.{suite}", text::name(&report.run.scenario)));
    case
}

fn run(report: &Report) -> TestSuite {
    let reasons: Vec<String> = report
        .reasons
        .iter()
        .map(|reason| text::line(reason))
        .collect();
    let finding = summary::finding(report);
    let mut status = match report.verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Fail => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type("missed").set_message(finding.as_str());
            status
        }
        Verdict::Inconclusive => error("inconclusive", &finding),
        Verdict::Invalid => error("invalid run", &finding),
    };
    status.set_description(reasons.join("\n"));
    let mut suite = TestSuite::new("run");
    let summary = &report.run;
    let versions: Vec<String> = summary.versions.iter().map(|v| text::name(v)).collect();
    for (name, value) in [
        ("verdict", report.verdict.word().to_owned()),
        ("exit_code", report.exit_code.to_string()),
        (
            "reason_code",
            report
                .reason_code
                .as_deref()
                .map(text::name)
                .unwrap_or_default(),
        ),
        ("run", text::name(&summary.id)),
        ("seed", summary.seed.to_string()),
        ("started_at", text::name(&summary.started_at)),
        ("service", text::name(&summary.service)),
        ("versions", versions.join(", ")),
        ("harness_version", text::name(&summary.harness_version)),
    ] {
        suite.add_property((name, value.as_str()));
    }
    let mut case = case(report, "run", "verdict", status);
    let beside = beside(report);
    if !beside.is_empty() {
        case.set_system_out(beside);
    }
    suite.add_test_case(case);
    suite
}

/// What stands beside the targets, for `system-out`.
fn beside(report: &Report) -> String {
    let mut out = String::new();
    for section in sections(report) {
        out.push_str(&format!("{}: {}\n", section.title, section.lead));
        for line in section.lines {
            let verdict = line.verdict.map_or("-", Verdict::word);
            out.push_str(&format!("  {verdict}: {}\n", line.text));
        }
    }
    out
}

/// The objectives of a tier, a case each.
fn objectives(report: &Report, gate: Gate) -> TestSuite {
    let name = match gate {
        Gate::Required => "objectives",
        Gate::Advisory => "advisory",
    };
    let mut suite = TestSuite::new(name);
    suite.add_property(("verdict", report.verdict.word()));
    for objective in report.objectives.iter().filter(|o| o.gate == gate) {
        let status = invalid(report).unwrap_or_else(|| objective_status(report, objective));
        let group = format!("{name}.{}", objective.signal.title().to_lowercase());
        let mut case = case(report, &group, &objective.name, status);
        for (name, value) in [
            ("display_name", summary::title(objective)),
            ("source", figures::source(objective.source).to_owned()),
            ("value", figures::value(objective)),
            ("target", figures::target(objective)),
            ("interval", figures::interval(objective)),
            ("samples", figures::samples(objective)),
            ("verdict", objective.verdict.word().to_owned()),
        ] {
            case.add_property((name, value.as_str()));
        }
        suite.add_test_case(case);
    }
    suite
}

fn objective_status(report: &Report, objective: &ObjectiveResult) -> TestCaseStatus {
    let reason = text::line(&objective.reason);
    let reason = match objective.gate {
        Gate::Required => reason,
        Gate::Advisory => format!("advisory, does not gate: {reason}"),
    };
    let mut status = match objective.verdict {
        Verdict::Pass => return TestCaseStatus::success(),
        Verdict::Fail => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type("missed").set_message(reason);
            status
        }
        Verdict::Inconclusive => error("inconclusive", &reason),
        Verdict::Invalid => error("invalid run", &reason),
    };
    let mut lines = vec![format!(
        "value {}, target {}, interval {}, samples {}",
        figures::value(objective),
        figures::target(objective),
        figures::interval(objective),
        figures::samples(objective),
    )];
    lines.extend(
        objective
            .queries
            .iter()
            .map(|query| format!("query: {}", text::line(query))),
    );
    if let Some(explanation) = summary::explanation(report, objective) {
        for miss in &explanation.misses {
            let (count, how) = (figures::count(miss.count), text::name(&miss.how));
            lines.push(format!("counted against it: {count} {how}"));
        }
        if let Some(most) = explanation.tail.as_ref().and_then(summary::most) {
            lines.push(format!("slow by: {most}"));
        }
    }
    let behind = |id| report.requests.iter().find(|request| request.id == id);
    for request in objective.evidence.iter().filter_map(|id| behind(*id)) {
        lines.push(format!(
            "trace {}: {} after {}",
            request.trace,
            figures::ending(request.outcome, request.status),
            figures::seconds(request.latency),
        ));
    }
    status.set_description(lines.join("\n"));
    status
}

fn coverage(report: &Report) -> TestSuite {
    let status = |source: &SourceCoverage| match source.complete {
        true => TestCaseStatus::success(),
        false => error(
            "inconclusive",
            &format!("{}: {}", summary::found(source), text::line(&source.reason)),
        ),
    };
    let mut suite = TestSuite::new("coverage");
    for source in &report.coverage.sources {
        let (kind, backend) = figures::backend(source.backend);
        let status = invalid(report).unwrap_or_else(|| status(source));
        suite.add_test_case(case(
            report,
            "coverage",
            &format!("{kind} in {backend}"),
            status,
        ));
    }
    suite
}

fn validity(report: &Report) -> TestSuite {
    let mut suite = TestSuite::new("validity");
    for check in &report.validity {
        suite.add_test_case(case(
            report,
            "validity",
            &check.name,
            check_status(report, check),
        ));
    }
    suite
}

fn check_status(report: &Report, check: &ValidityCheck) -> TestCaseStatus {
    let remedy = check
        .remedy
        .as_deref()
        .map_or_else(String::new, |remedy| format!("; {remedy}"));
    let message = text::line(&format!("{}, limit {}{remedy}", check.value, check.limit));
    match (check.ok, report.verdict) {
        (Some(true), _) => TestCaseStatus::success(),
        (Some(false), _) => error("invalid run", &message),
        // The judge passed the run without this check, so it must not turn the file red.
        (None, Verdict::Pass) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(format!("could not be told: {message}"));
            status
        }
        (None, _) => error("inconclusive", &format!("could not be told: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    /// Written, read back by a parser, as `suite/case → status`.
    fn read(report: &Report) -> (Junit, Vec<String>) {
        let parsed = Junit::deserialize_from_str(&junit(report).unwrap()).unwrap();
        let mut lines = Vec::new();
        for suite in &parsed.test_suites {
            for case in &suite.test_cases {
                let status = match &case.status {
                    TestCaseStatus::Success { .. } => "ok".to_owned(),
                    TestCaseStatus::Skipped { .. } => "skipped".to_owned(),
                    TestCaseStatus::NonSuccess { kind, ty, .. } => {
                        let ty = ty.as_ref().map(|t| t.as_str()).unwrap_or_default();
                        format!("{kind:?} {ty}").to_lowercase()
                    }
                };
                lines.push(format!(
                    "{}/{} → {status}",
                    suite.name.as_str(),
                    case.name.as_str()
                ));
            }
        }
        (parsed, lines)
    }

    #[test]
    fn statuses_follow_the_table() {
        insta::assert_snapshot!("fail", read(&samples::fail()).1.join("\n"));
        insta::assert_snapshot!("inconclusive", read(&samples::inconclusive()).1.join("\n"));
        insta::assert_snapshot!("invalid", read(&samples::invalid()).1.join("\n"));
    }

    #[test]
    fn all_but_what_is_advisory_is_green_exactly_on_a_pass() {
        let mut bare = samples::inconclusive();
        bare.objectives.clear();
        bare.coverage.sources.clear();
        let mut unknown = samples::pass();
        unknown.validity[2].ok = None;
        for (report, green) in [
            (samples::pass(), true),
            (unknown, true),
            (samples::fail(), false),
            (samples::inconclusive(), false),
            (samples::invalid(), false),
            (bare, false),
        ] {
            let (parsed, lines) = read(&report);
            let gating = |suite: &&TestSuite| suite.name.as_str() != "advisory";
            let suites = parsed.test_suites.iter().filter(gating);
            let red: usize = suites.map(|suite| suite.failures + suite.errors).sum();
            assert_eq!(red == 0, green, "{lines:?}");
        }
    }

    #[test]
    fn an_undecided_advisory_objective_is_an_error_never_skipped() {
        for (verdict, status) in [
            (Verdict::Pass, "ok"),
            (Verdict::Fail, "failure missed"),
            (Verdict::Inconclusive, "error inconclusive"),
            (Verdict::Invalid, "error invalid run"),
        ] {
            let mut report = samples::pass();
            report.objectives[0].gate = Gate::Advisory;
            report.objectives[0].verdict = verdict;
            let (_, lines) = read(&report);
            let line = format!("advisory/{} → {status}", report.objectives[0].name);
            assert!(lines.contains(&line), "{line}: {lines:?}");
            assert!(
                lines.iter().all(|line| !line.contains("skipped")),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn what_xml_cannot_hold_is_not_written() {
        let xml = junit(&samples::hostile()).unwrap();
        let legal = |c: char| matches!(c, '\n' | '\t' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        assert!(xml.chars().all(legal));
        assert!(!xml.contains("<script"));
        let (parsed, _) = read(&samples::hostile());
        assert_eq!(
            parsed.test_suites.len(),
            5,
            "one of them of advisory objectives"
        );
    }
}
