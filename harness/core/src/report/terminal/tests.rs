use super::super::samples;
use super::*;

fn reports() -> Vec<Report> {
    vec![
        samples::pass(),
        samples::fail(),
        samples::inconclusive(),
        samples::invalid(),
        samples::hostile(),
    ]
}

#[test]
fn the_samples_at_eighty_columns() {
    insta::assert_snapshot!("pass", terminal(&samples::pass(), 80, false));
    insta::assert_snapshot!("fail", terminal(&samples::fail(), 80, false));
    insta::assert_snapshot!(
        "inconclusive",
        terminal(&samples::inconclusive(), 80, false)
    );
    insta::assert_snapshot!("invalid", terminal(&samples::invalid(), 80, false));
}

#[test]
fn a_wide_terminal_gets_one_line_an_objective() {
    insta::assert_snapshot!("fail_wide", terminal(&samples::fail(), 130, false));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [0, 60, 80, 81, 100, 120, 200] {
        for report in reports() {
            for line in terminal(&report, width, false).lines() {
                assert!(text::width(line) <= width.max(NARROWEST), "{width}: {line}");
                assert_eq!(line, line.trim_end());
            }
        }
    }
}

#[test]
fn an_explanation_fits_and_is_inert() {
    assert_eq!(explain(&samples::fail(), "no such", 80, false), None);
    let shown = explain(&samples::fail(), "answers-in-time", 80, false).unwrap();
    insta::assert_snapshot!("explain", shown);
    let hostile = samples::hostile();
    let name = hostile.objectives[0].name.clone();
    for (report, name) in [
        (samples::fail(), "answers-in-time"),
        (hostile, name.as_str()),
    ] {
        let shown = explain(&report, name, 80, false).unwrap();
        // Addresses stay whole, or they could not be followed.
        let lines = shown.lines().filter(|line| !line.starts_with("  http"));
        lines.for_each(|line| assert!(text::width(line) <= 80, "{line}"));
        assert!(
            shown
                .chars()
                .all(|c| c == '\n' || !(c.is_control() || text::is_hidden(c)))
        );
        assert!(!shown.contains("javascript:<"));
    }
}

#[test]
fn the_verdict_is_the_first_and_the_last_line() {
    for (report, word) in
        reports()
            .iter()
            .zip([" PASS ", " FAIL ", " INCONCLUSIVE ", " INVALID ", " FAIL "])
    {
        let shown = terminal(report, 80, false);
        let (first, last) = (shown.lines().next().unwrap(), shown.lines().last().unwrap());
        assert!(first.starts_with(word), "{first}");
        assert_eq!(first, last);
    }
}

#[test]
fn outside_text_cannot_steer_the_terminal() {
    let plain = terminal(&samples::hostile(), 80, false);
    assert!(plain.chars().all(|c| c == '\n' || !c.is_control()));
    assert!(!plain.contains('\u{202e}'));
    let colored = terminal(&samples::hostile(), 80, true);
    let own = regex::Regex::new("\x1b\\[[0-9;]+m").unwrap();
    assert!(own.is_match(&colored));
    assert_eq!(own.replace_all(&colored, ""), plain);
}

#[test]
fn missing_values_are_not_shown_as_numbers() {
    let shown = terminal(&samples::inconclusive(), 200, false);
    let row = shown
        .lines()
        .find(|l| l.contains("Requests without a server error"))
        .unwrap();
    let figures: Vec<&str> = row
        .split_whitespace()
        .skip_while(|w| *w != "Prometheus")
        .collect();
    assert_eq!(
        figures,
        [
            "Prometheus",
            "–",
            "≥",
            "99.5",
            "%",
            "–",
            "–",
            "?",
            "inconclusive"
        ]
    );
}

#[test]
fn a_report_with_nothing_in_it_is_still_drawn() {
    let mut report = samples::invalid();
    report.objectives.clear();
    report.coverage.sources.clear();
    report.validity.clear();
    report.requests.clear();
    report.notes.clear();
    let shown = terminal(&report, 80, false);
    assert!(shown.contains("No objectives"));
    assert!(shown.contains("no telemetry was asked for"));
}
