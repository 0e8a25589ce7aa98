//! The report as GitHub workflow commands, which show up as annotations of a workflow run.

use super::figures;
use super::model::{Gate, ObjectiveResult, Place, Report, Verdict};
use super::summary;
use super::text;

/// One `::error`, `::warning` or `::notice` command a line: the verdict first, since GitHub shows
/// ten of each kind, then objectives, checks and sources that did not hold. Print it to stdout.
///
/// Everything that does not pass closes the gate, so the verdict is an error unless it is a pass.
#[must_use]
pub fn github(report: &Report) -> String {
    let mut out = String::new();
    let level = if report.verdict == Verdict::Pass {
        "notice"
    } else {
        "error"
    };
    let mut why = summary::headline(report);
    for reason in &report.reasons {
        why.push('\n');
        why.push_str(&text::line(reason));
    }
    command(
        &mut out,
        level,
        &format!("harness: {}", report.verdict.word()),
        &why,
    );
    for check in summary::doubts(report) {
        let level = if check.ok.is_some() {
            "error"
        } else {
            "warning"
        };
        let mut what = format!(
            "{}; limit: {}",
            text::line(&check.value),
            text::line(&check.limit)
        );
        if let Some(remedy) = &check.remedy {
            what.push('\n');
            what.push_str(&text::line(remedy));
        }
        command(
            &mut out,
            level,
            &format!("run check {}", text::name(&check.name)),
            &what,
        );
    }
    for objective in report
        .objectives
        .iter()
        .filter(|o| o.verdict != Verdict::Pass)
    {
        one(&mut out, report, objective);
    }
    for warning in &report.warnings {
        command(&mut out, "warning", "warning", &text::line(warning));
    }
    for source in report
        .coverage
        .sources
        .iter()
        .filter(|source| !source.complete)
    {
        let (kind, backend) = figures::backend(source.backend);
        let what = format!("{}: {}", summary::found(source), text::line(&source.reason));
        command(
            &mut out,
            "warning",
            &format!("{kind} in {backend} incomplete"),
            &what,
        );
    }
    out
}

fn one(out: &mut String, report: &Report, objective: &ObjectiveResult) {
    let level = match (objective.gate, objective.verdict) {
        (Gate::Advisory, _) => "notice",
        (Gate::Required, Verdict::Fail) => "error",
        (Gate::Required, _) => "warning",
    };
    let mut what = format!(
        "{}: {} (target {}). {}",
        figures::source(objective.source),
        figures::value(objective),
        figures::target(objective),
        text::line(&objective.reason),
    );
    if let Some(explanation) = summary::explanation(report, objective) {
        for miss in explanation.misses.iter().take(3) {
            let (count, how) = (figures::count(miss.count), text::name(&miss.how));
            what.push_str(&format!("\n{count} {how}"));
        }
        if let Some(most) = explanation.tail.as_ref().and_then(summary::most) {
            what.push_str(&format!("\nslow by: {most}"));
        }
    }
    let behind = |id| report.requests.iter().find(|request| request.id == id);
    for request in objective.evidence.iter().filter_map(|id| behind(*id)) {
        what.push_str(&format!(
            "\ntrace {}: {} after {}",
            request.trace,
            figures::ending(request.outcome, request.status),
            figures::seconds(request.latency),
        ));
    }
    let state = if objective.verdict == Verdict::Fail {
        "missed"
    } else {
        "undecided"
    };
    at(
        out,
        level,
        objective.place.as_ref(),
        &format!("objective {state}: {}", summary::title(objective)),
        &what,
    );
}

fn command(out: &mut String, level: &str, title: &str, message: &str) {
    at(out, level, None, title, message);
}

/// `::level file=…,line=…,title=…::message`. With a file GitHub shows it on that line of the change.
fn at(out: &mut String, level: &str, place: Option<&Place>, title: &str, message: &str) {
    let mut properties = String::new();
    if let Some(place) = place {
        properties.push_str(&format!("file={},", property(&text::name(&place.file))));
        if let Some(line) = place.line {
            properties.push_str(&format!("line={line},"));
        }
    }
    let (title, message) = (property(title), data(message));
    out.push_str(&format!("::{level} {properties}title={title}::{message}\n"));
}

/// Line breaks would end a command, `,` and `:` a property of it.
fn property(plain: &str) -> String {
    data(plain).replace(':', "%3A").replace(',', "%2C")
}

fn data(plain: &str) -> String {
    plain
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn the_samples() {
        insta::assert_snapshot!("pass", github(&samples::pass()));
        insta::assert_snapshot!("fail", github(&samples::fail()));
        insta::assert_snapshot!("inconclusive", github(&samples::inconclusive()));
        insta::assert_snapshot!("invalid", github(&samples::invalid()));
    }

    #[test]
    fn outside_text_cannot_issue_commands() {
        for line in github(&samples::hostile()).lines() {
            let rest = line.strip_prefix("::").unwrap();
            let (head, message) = rest.split_once("::").unwrap();
            let (level, properties) = head.split_once(' ').unwrap();
            assert!(["error", "warning", "notice"].contains(&level), "{line}");
            assert!(!properties.contains(':'), "{line}");
            let keys: Vec<&str> = properties
                .split(',')
                .map(|property| property.split_once('=').unwrap().0)
                .collect();
            assert!(
                keys == ["title"] || keys == ["file", "line", "title"],
                "{line}"
            );
            assert!(!message.is_empty() && !line.contains('\u{1b}'), "{line}");
            assert!(line.len() < 50_000, "{}", line.len());
        }
    }

    #[test]
    fn percent_signs_survive() {
        assert_eq!(data("50 %0A\r\n"), "50 %250A%0D%0A");
    }
}
