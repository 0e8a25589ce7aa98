//! The report as GitHub-flavoured Markdown, for job summaries and comments on changes.

mod beside;

use std::fmt::Write as _;

use super::figures;
use super::model::{Gate, Link, ObjectiveResult, Report, RequestDetail, Tail, Verdict};
use super::summary;
use super::text;

/// Requests shown in full.
const MOST_REQUESTS: usize = 5;

/// Stages shown for one missed objective.
const MOST_STAGES: usize = 8;

/// Spans and log lines shown for one request.
const MOST_LINES: usize = 20;

/// The report as GitHub-flavoured Markdown, ending with a newline.
///
/// Text from outside can neither mark up nor link nor mention anybody.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    // Writing into a `String` cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    let word = report.verdict.word().to_uppercase();
    writeln!(
        out,
        "## {} {word} · {}\n",
        sign(report.verdict),
        escape(&summary::headline(report))
    )?;
    writeln!(out, "{}\n", summary::meaning(report.verdict))?;
    for reason in &report.reasons {
        writeln!(out, "- {}", escape(&text::line(reason)))?;
    }
    out.push('\n');
    objectives(out, report)?;
    coverage(out, report)?;
    validity(out, report)?;
    why(out, report)?;
    beside::write(out, report);
    requests(out, report)?;
    footer(out, report)
}

fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "✅",
        Verdict::Fail => "❌",
        Verdict::Inconclusive => "❔",
        Verdict::Invalid => "⚠️",
    }
}

fn objectives(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.objectives.is_empty() {
        return writeln!(out, "No objectives.\n");
    }
    if report.verdict == Verdict::Invalid {
        writeln!(out, "**{}**\n", summary::DISTRUST)?;
    }
    writeln!(
        out,
        "| Signal | Objective | Source | Value | Target | Interval | Samples | Verdict |"
    )?;
    writeln!(out, "|---|---|---|---:|---:|---:|---:|---|")?;
    for (signal, objectives) in summary::by_signal(report) {
        for objective in objectives {
            row(out, signal.title(), objective)?;
        }
    }
    out.push('\n');
    for objective in &report.objectives {
        if objective.verdict != Verdict::Pass && !summary::told(report, objective) {
            let (title, why) = (summary::title(objective), text::line(&objective.reason));
            writeln!(out, "- **{}**: {}", escape(&title), escape(&why))?;
        }
    }
    out.push('\n');
    Ok(())
}

fn row(out: &mut String, signal: &str, objective: &ObjectiveResult) -> std::fmt::Result {
    let advisory = if objective.gate == Gate::Advisory {
        " (advisory)"
    } else {
        ""
    };
    writeln!(
        out,
        "| {signal} | {}{advisory} | {} | {} | {} | {} | {} | {} {} |",
        escape(&summary::title(objective)),
        figures::source(objective.source),
        escape(&figures::value(objective)),
        escape(&figures::target(objective)),
        figures::interval(objective),
        figures::samples(objective),
        sign(objective.verdict),
        objective.verdict.word(),
    )
}

fn coverage(out: &mut String, report: &Report) -> std::fmt::Result {
    let (sent, answered) = (report.coverage.sent, report.coverage.answered);
    let (sent, answered) = (figures::count(sent), figures::count(answered));
    writeln!(
        out,
        "**Coverage**: {sent} requests sent, {answered} answered\n"
    )?;
    for source in &report.coverage.sources {
        let (kind, backend) = figures::backend(source.backend);
        let state = if source.complete {
            Verdict::Pass
        } else {
            Verdict::Inconclusive
        };
        let since = match source.missing_since {
            Some(at) if !source.complete => format!(", missing since {}", figures::seconds(at)),
            _ => String::new(),
        };
        writeln!(
            out,
            "- {} {kind} ({backend}): {}{since}. {}",
            sign(state),
            summary::found(source),
            escape(&text::line(&source.reason))
        )?;
    }
    out.push('\n');
    Ok(())
}

fn validity(out: &mut String, report: &Report) -> std::fmt::Result {
    if summary::doubts(report).next().is_none() {
        let held: Vec<String> = report
            .validity
            .iter()
            .map(|check| escape(&text::name(&check.name)))
            .collect();
        return writeln!(out, "**Run valid**: {}\n", held.join(", "));
    }
    writeln!(out, "**Checks of the run that did not hold**\n")?;
    for check in summary::doubts(report) {
        let unknown = if check.ok.is_none() {
            " (could not be told)"
        } else {
            ""
        };
        let remedy = check.remedy.as_deref().map_or_else(String::new, |remedy| {
            format!(" **{}**", escape(text::line(remedy).trim()))
        });
        writeln!(
            out,
            "- **{}**{unknown}: {}; limit: {}.{remedy}",
            escape(&text::name(&check.name)),
            escape(&text::line(&check.value)),
            escape(&text::line(&check.limit)),
        )?;
    }
    out.push('\n');
    Ok(())
}

/// How objectives were missed and where the time went, what moved first, what disagrees.
fn why(out: &mut String, report: &Report) -> std::fmt::Result {
    for explanation in &report.why {
        let known = report
            .objectives
            .iter()
            .find(|o| o.name == explanation.objective);
        let title = known.map_or_else(|| text::name(&explanation.objective), summary::title);
        let mut told = format!("**Behind {}**", escape(&title));
        if !explanation.misses.is_empty() {
            let ways: Vec<String> = explanation
                .misses
                .iter()
                .map(|m| {
                    format!(
                        "{} {}",
                        figures::count(m.count),
                        escape(&text::name(&m.how))
                    )
                })
                .collect();
            told.push_str(&format!(": {}", ways.join("; ")));
        }
        writeln!(out, "{told}\n")?;
        if let Some(tail) = &explanation.tail {
            attribution(out, tail)?;
        }
        if let Some(known) = known
            && !known.links.is_empty()
        {
            writeln!(out, "{}\n", links(&known.links))?;
        }
    }
    if report.verdict != Verdict::Pass
        && let Some(onset) = &report.onset
    {
        writeln!(
            out,
            "**What moved first**: {}\n",
            escape(&text::line(&onset.said))
        )?;
    }
    for finding in &report.findings {
        writeln!(out, "- **Finding**: {}", escape(&text::line(&finding.said)))?;
    }
    if !report.findings.is_empty() {
        out.push('\n');
    }
    Ok(())
}

fn attribution(out: &mut String, tail: &Tail) -> std::fmt::Result {
    writeln!(out, "- slow: {}", escape(&summary::group(&tail.slow)))?;
    writeln!(
        out,
        "- typical: {}\n",
        escape(&summary::group(&tail.typical))
    )?;
    if let Some(missing) = &tail.missing {
        let missing = escape(&text::line(missing));
        return writeln!(out, "Where their time went cannot be told: {missing}\n");
    }
    writeln!(out, "| Stage | Slow | Typical | Excess | Share of it |")?;
    writeln!(out, "|---|---:|---:|---:|---:|")?;
    for stage in tail.stages.iter().take(MOST_STAGES) {
        let share = stage
            .share
            .map_or_else(|| figures::NONE.to_owned(), figures::share);
        writeln!(
            out,
            "| {} | {} | {} | {} | {share} |",
            escape(&text::name(&stage.name)),
            figures::seconds(stage.slow),
            figures::seconds(stage.typical),
            figures::seconds(stage.excess),
        )?;
    }
    out.push('\n');
    Ok(())
}

/// Links to http and https pages; in what they may hold there is nothing that ends them.
fn links(links: &[Link]) -> String {
    let made: Vec<String> = links
        .iter()
        .take(10)
        .filter_map(|link| {
            let url = summary::safe_url(&link.url)?;
            Some(format!("[{}]({url})", escape(&text::name(&link.label))))
        })
        .collect();
    made.join(" · ")
}

/// Requests behind missed objectives, folded away.
fn requests(out: &mut String, report: &Report) -> std::fmt::Result {
    let missed = || {
        report
            .objectives
            .iter()
            .filter(|o| o.verdict == Verdict::Fail)
    };
    let behind: Vec<&RequestDetail> = report
        .requests
        .iter()
        .filter(|request| missed().any(|o| o.evidence.contains(&request.id)))
        .take(MOST_REQUESTS)
        .collect();
    for request in behind {
        writeln!(
            out,
            "<details><summary>{} after {}: trace <code>{}</code></summary>\n",
            figures::ending(request.outcome, request.status),
            figures::seconds(request.latency),
            request.trace,
        )?;
        // Every line inside begins with a number, so that none can end the block.
        writeln!(out, "```text")?;
        let end = figures::seconds(request.latency);
        writeln!(out, "{:>10} {end:>10}  client: due to done", "0 ms")?;
        for span in request.spans.iter().take(MOST_LINES) {
            let indent = "  ".repeat(span.depth.min(20) as usize + 1);
            let mark = if span.error { " (error)" } else { "" };
            let (start, duration) = (
                figures::seconds(span.start),
                figures::seconds(span.duration),
            );
            writeln!(
                out,
                "{start:>10} {duration:>10}  {indent}{}{mark}",
                text::name(&span.name)
            )?;
        }
        for log in request.logs.iter().take(MOST_LINES) {
            let severity = log.severity.as_deref().map_or_else(String::new, text::name);
            let at = figures::seconds(log.at);
            writeln!(out, "{at:>10} {severity:>10}  {}", text::line(&log.line))?;
        }
        writeln!(out, "```\n")?;
        let missing = [
            &request.detail,
            &request.spans_missing,
            &request.logs_missing,
        ];
        for why in missing.into_iter().flatten() {
            writeln!(out, "{}\n", escape(&text::line(why)))?;
        }
        if !request.links.is_empty() {
            writeln!(out, "{}\n", links(&request.links))?;
        }
        writeln!(out, "</details>\n")?;
    }
    Ok(())
}

fn footer(out: &mut String, report: &Report) -> std::fmt::Result {
    for note in &report.notes {
        writeln!(out, "- {}", escape(&text::line(note)))?;
    }
    if !report.notes.is_empty() {
        out.push('\n');
    }
    let versions: Vec<String> = report
        .run
        .versions
        .iter()
        .map(|version| escape(&text::name(version)))
        .collect();
    writeln!(
        out,
        "<sub>run <code>{}</code> · service {} {} · seed {} · started {} · exit {}</sub>",
        escape(&text::name(&report.run.id)),
        escape(&text::name(&report.run.service)),
        versions.join(", "),
        report.run.seed,
        escape(&text::name(&report.run.started_at)),
        report.exit_code,
    )
}

/// Text that stays what it is: nothing in it is markup, HTML, a link, a mention or a reference.
///
/// A backslash is enough for markup. GitHub finds mentions, references and bare links after the
/// markup is gone, so these are broken by a zero-width space, as dependency bots do.
pub(super) fn escape(plain: &str) -> String {
    const GAP: &str = "&#8203;";
    let mut out = String::with_capacity(plain.len() + plain.len() / 8);
    for c in plain.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str(&format!("@{GAP}")),
            '#' => out.push_str(&format!("\\#{GAP}")),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '+' | '-' | '!' | '|' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out.replace("://", &format!(":{GAP}//"))
        .replace("www.", &format!("www{GAP}."))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn the_samples() {
        insta::assert_snapshot!("pass", markdown(&samples::pass()));
        insta::assert_snapshot!("fail", markdown(&samples::fail()));
        insta::assert_snapshot!("inconclusive", markdown(&samples::inconclusive()));
        insta::assert_snapshot!("invalid", markdown(&samples::invalid()));
    }

    #[test]
    fn outside_text_is_only_text() {
        assert_eq!(escape("a|b`c`"), "a\\|b\\`c\\`");
        assert_eq!(escape("<b>&amp;"), "&lt;b&gt;&amp;amp;");
        assert_eq!(escape("@team #12"), "@&#8203;team \\#&#8203;12");
        assert_eq!(escape("https://x www.y"), "https:&#8203;//x www&#8203;.y");
        assert_eq!(escape("[a](b)"), "\\[a\\](b)");
    }

    #[test]
    fn hostile_text_stays_in_its_cell_and_block() {
        let shown = markdown(&samples::hostile());
        assert!(shown.chars().all(|c| c == '\n' || !c.is_control()));
        let mut fenced = false;
        for line in shown.lines() {
            if line.starts_with("```") {
                fenced = !fenced;
            } else if fenced {
                assert!(
                    line.starts_with([' ', '−', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']),
                    "{line}"
                );
            } else {
                let own = [
                    "<details>",
                    "<summary>",
                    "</summary>",
                    "</details>",
                    "<code>",
                    "</code>",
                    "<sub>",
                    "</sub>",
                ];
                let rest = own
                    .iter()
                    .fold(line.to_owned(), |rest, tag| rest.replace(tag, ""));
                assert!(!rest.contains('<') && !rest.contains("@everyone"), "{line}");
                if line.starts_with("| ") {
                    // Objectives have eight columns, stages five.
                    let bars = rest.replace("\\|", "").matches('|').count();
                    assert!(bars == 9 || bars == 6, "{line}");
                }
            }
        }
        assert!(!fenced);
    }
}
