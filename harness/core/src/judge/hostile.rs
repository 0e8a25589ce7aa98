//! A service that writes to whoever reads the report: everything it can say is turned against each form,
//! from the answer of a backend to the page.

use super::testing::Run;
use crate::query::Query;
use crate::report::{self, model::Report};

/// Markup, terminal escapes (also the C1 one), direction and zero-width marks, ends of CDATA, workflow
/// commands, what breaks Markdown tables, and a line break.
const EVIL: &str = concat!(
    "<script>alert(1)</script>\"><img src=x onerror=alert(2)>",
    "\u{1b}[2J\u{1b}]8;;http://evil\u{7}\u{9b}31m",
    "\u{202e}\u{2066}\u{200b}\u{feff}\u{e0041}",
    "]]>&lt;%0A::error::owned|`@everyone`|[x](javascript:alert(3))\r\n::stop-commands::x",
);

/// 1 MiB of it.
fn megabyte() -> String {
    EVIL.repeat((1 << 20) / EVIL.len() + 1)
}

fn judged() -> Report {
    let mut run = Run::healthy();
    run.each(|n, row| {
        if n.is_multiple_of(5) {
            row.done = crate::units::Nanos(row.done.0 + 900_000_000);
            row.set_detail(Some(crate::request::detail(EVIL)));
        }
    });
    run.facts.scenario = EVIL.into();
    run.facts.service = "target-service".into();
    run.facts.target.url = EVIL.into();
    run.objectives[0].name = EVIL.into();
    run.objectives[0].display_name = megabyte();
    run.objectives[0].file = EVIL.into();
    let evil = serde_json::to_string(&megabyte()).unwrap();
    let short = serde_json::to_string(EVIL).unwrap();
    run.tamper(move |query, answer| match query {
        Query::TempoTrace { trace } => {
            // A megabyte in some, or hundreds of traces of it take a minute to read.
            let long = trace.0[15].is_multiple_of(64);
            let evil = if long { &evil } else { &short };
            answer.body = answer
                .body
                .replace("\"inference\"", evil)
                .replace("\"1.0\"", evil);
        }
        Query::LokiLines { .. } => {
            answer.body = answer
                .body
                .replace("\"request completed\"", &evil)
                .replace("\"INFO\"", &evil);
        }
        _ => {}
    });
    run.judged()
}

fn forms(report: &Report) -> Vec<(&'static str, String)> {
    vec![
        ("terminal", report::terminal(report, 80, false)),
        ("explain", report::explain(report, EVIL, 80, false).unwrap()),
        ("json", report::json(report)),
        ("junit", report::junit(report).unwrap()),
        ("markdown", report::markdown(report)),
        ("github", report::github(report)),
        ("html", report::html(report)),
    ]
}

/// What is not between fences, where nothing is markup. Every line between them begins with a number, so
/// that none can be a fence.
fn outside_fences(markdown: &str) -> String {
    markdown.split("\n```").step_by(2).collect()
}

#[test]
fn what_a_service_says_is_inert_and_bounded_in_every_form() {
    let report = judged();
    let shown = report.requests.iter().find(|r| !r.logs.is_empty()).unwrap();
    assert!(shown.logs[0].line.contains("<script>") && shown.logs[0].line.len() <= 2_000);
    assert!(
        shown
            .spans
            .iter()
            .any(|s| s.name.contains("<script>") && s.name.len() <= 500)
    );
    assert!(report.run.versions.iter().all(|v| v.len() <= 500));
    for (form, text) in forms(&report) {
        // The sign of a warning is our own: an emoji with its variation selector.
        let text = text.replace('\u{fe0f}', if form == "markdown" { "" } else { "\u{fe0f}" });
        let acts = |c: char| c != '\n' && (c.is_control() || report::is_hidden(c));
        assert!(
            !text.chars().any(acts),
            "{form}: {:?}",
            text.chars().find(|c| acts(*c))
        );
        // Each form shows some hundred strings of at most 2,000 bytes; the display name in JSON is the
        // SLO file's own and whole.
        let most = if form == "json" { 4 << 20 } else { 2 << 20 };
        assert!(text.len() < most, "{form}: {} bytes", text.len());
        // JSON and text are no markup; wherever markup counts it must not be one.
        let text = match form {
            "markdown" => outside_fences(&text),
            _ => text,
        };
        if ["junit", "html", "markdown"].contains(&form) {
            assert!(
                !text.contains("<script") && !text.contains("<img"),
                "{form}"
            );
        }
    }
}

#[test]
fn no_line_of_it_is_a_workflow_command_of_its_own() {
    let report = judged();
    for (form, text) in forms(&report) {
        for line in text.lines() {
            let command = line.trim_start().starts_with("::");
            let ours = ["::error ", "::warning ", "::notice "]
                .iter()
                .any(|head| line.starts_with(head));
            assert!(
                !command || (form == "github" && ours),
                "{form}: {line:.200}"
            );
        }
    }
}

#[test]
fn junit_reads_back_and_markdown_tables_keep_their_columns() {
    let report = judged();
    let read = quick_junit::Report::deserialize_from_str(&report::junit(&report).unwrap()).unwrap();
    assert_eq!(read.test_suites.len(), 5);
    let markdown = report::markdown(&report);
    for row in markdown.lines().filter(|line| line.starts_with("| ")) {
        let bars = row.replace("\\|", "").matches('|').count();
        assert!(bars == 9 || bars == 6, "{bars}: {row:.300}");
    }
    // The bracket before it is escaped.
    let outside = outside_fences(&markdown);
    assert!(!outside.replace("\\]", "").contains("](javascript:"));
}
