//! What stands beside the targets, in the same words for every form: warn criteria, earlier runs compared
//! with, error budgets, runs of the same build found beside this one, attempts.

use super::figures;
use super::model::{BaselineUsed, EarlierRun, ObjectiveResult, Report, Verdict};
use super::summary;
use super::text;

/// Earlier runs named one by one.
const MOST_RUNS: usize = 20;

/// A part of a report: a heading and its lines. All text in it is safe to show.
pub(super) struct Section {
    /// For links: letters and hyphens.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// The gist, or an explanation.
    pub(super) lead: String,
    pub(super) lines: Vec<Line>,
}

/// One line, with a verdict where it has one.
pub(super) struct Line {
    pub(super) verdict: Option<Verdict>,
    pub(super) text: String,
}

fn line(verdict: impl Into<Option<Verdict>>, what: &str) -> Line {
    Line {
        verdict: verdict.into(),
        text: text::line(what),
    }
}

/// The sections that have something to say.
pub(super) fn sections(report: &Report) -> Vec<Section> {
    [
        attempts(report),
        warnings(report),
        baselines(report),
        budgets(report),
        earlier(report),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn warnings(report: &Report) -> Option<Section> {
    let with = report
        .objectives
        .iter()
        .filter_map(|o| Some((o, o.warn.as_ref()?)));
    let lines: Vec<Line> = with
        // One that is missed altogether is told as that.
        .filter(|(o, warn)| o.verdict != Verdict::Fail && warn.verdict != Verdict::Pass)
        .map(|(o, warn)| {
            line(
                warn.verdict,
                &format!("{}: {}", summary::title(o), warn.reason),
            )
        })
        .collect();
    let count = report.warnings.len();
    let lead = match (count, report.strict) {
        (0, _) => "no warning; what is not decided is named".to_owned(),
        (_, true) => format!(
            "{}; --strict lets warnings of required objectives fail the run",
            plural(count)
        ),
        (_, false) => format!("{}; they fail nothing without --strict", plural(count)),
    };
    (!lines.is_empty()).then_some(Section {
        id: "warnings",
        title: "Warnings",
        lead,
        lines,
    })
}

fn plural(count: usize) -> String {
    text::plural(count, "warning", "warnings")
}

fn baselines(report: &Report) -> Option<Section> {
    let objectives: Vec<&ObjectiveResult> = report
        .objectives
        .iter()
        .filter(|o| o.baseline.is_some())
        .collect();
    if objectives.is_empty() && report.baselines.is_empty() {
        return None;
    }
    let mut lines: Vec<Line> = objectives
        .iter()
        .filter_map(|o| Some((o, o.baseline.as_ref()?)))
        .map(|(o, found)| {
            line(
                found.verdict,
                &format!("{}: {}", summary::title(o), found.reason),
            )
        })
        .collect();
    lines.extend(report.baselines.iter().take(MOST_RUNS).map(baseline));
    Some(Section {
        id: "baseline",
        title: "Against earlier runs",
        lead: format!(
            "{} compared, {} named",
            text::plural(objectives.len(), "objective", "objectives"),
            text::plural(report.baselines.len(), "earlier run", "earlier runs")
        ),
        lines,
    })
}

fn baseline(run: &BaselineUsed) -> Line {
    let name = run.run.as_deref().unwrap_or(&run.dir);
    match &run.unusable {
        Some(why) => line(
            Verdict::Inconclusive,
            &format!("{name} cannot be used: {why}"),
        ),
        None => {
            let verdict = run.verdict.map_or(figures::NONE, Verdict::word);
            let started = run.started_at.as_deref().unwrap_or(figures::NONE);
            let digest: String = run
                .manifest_sha256
                .iter()
                .flat_map(|d| d.chars())
                .take(12)
                .collect();
            line(
                None,
                &format!(
                    "{name}: {}, itself {verdict}, of {started}, manifest {digest}",
                    versions(&run.versions)
                ),
            )
        }
    }
}

fn versions(versions: &[String]) -> String {
    if versions.is_empty() {
        "version unknown".into()
    } else {
        format!("version {}", versions.join(", "))
    }
}

fn budgets(report: &Report) -> Option<Section> {
    let with: Vec<_> = report
        .objectives
        .iter()
        .filter_map(|o| Some((o, o.budget.as_ref()?)))
        .collect();
    let lines: Vec<Line> = with
        .iter()
        .map(|(o, budget)| line(None, &format!("{}: {}", summary::title(o), budget.summary)))
        .collect();
    let mut lead = "what this build would do to the period's error budget, were production's traffic of this kind".to_owned();
    let far = with
        .iter()
        .filter_map(|(_, budget)| budget.production.as_ref()?.times_the_run)
        .find(|times| *times > 1.5);
    if let Some(times) = far {
        lead.push_str(&format!(
            "; production has {times:.1} times the traffic of this run, and under more load a service may do worse"
        ));
    }
    (!lines.is_empty()).then_some(Section {
        id: "budget",
        title: "Error budgets",
        lead,
        lines,
    })
}

fn earlier(report: &Report) -> Option<Section> {
    let shown: Vec<&EarlierRun> = report
        .earlier
        .iter()
        .filter(|run| run.same_build != Some(false))
        .collect();
    if shown.is_empty() {
        return None;
    }
    let of = |verdict| shown.iter().filter(|run| run.verdict == verdict).count();
    let counts: Vec<String> = [
        (Some(Verdict::Pass), "passed"),
        (Some(Verdict::Fail), "failed"),
        (Some(Verdict::Inconclusive), "inconclusive"),
        (Some(Verdict::Invalid), "invalid"),
        (None, "without a report"),
    ]
    .into_iter()
    .map(|(verdict, word)| (of(verdict), word))
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    let lines = shown.iter().rev().take(MOST_RUNS).map(|run| {
        let verdict = run.verdict.map_or("no report", Verdict::word);
        let code = run
            .reason_code
            .as_ref()
            .map_or_else(String::new, |code| format!(" ({code})"));
        let started = run.started_at.as_deref().unwrap_or("never finished");
        let build = match run.same_build {
            Some(_) => String::new(),
            None => ", build unknown".into(),
        };
        line(
            run.verdict,
            &format!("{}: {verdict}{code}, {started}{build}", run.dir),
        )
    });
    Some(Section {
        id: "earlier",
        title: "Runs before this one",
        lead: format!(
            "{} of this scenario and build beside this run: {}",
            text::plural(shown.len(), "earlier run", "earlier runs"),
            counts.join(", ")
        ),
        lines: lines.collect(),
    })
}

fn attempts(report: &Report) -> Option<Section> {
    let attempts = report.attempts.as_ref()?;
    let lines = attempts.earlier.iter().map(|earlier| {
        let code = earlier
            .reason_code
            .as_ref()
            .map_or_else(String::new, |code| format!(" ({code})"));
        let counted = if earlier.pooled {
            "its counts are added to this one's"
        } else {
            "it says nothing, and nothing of it is used"
        };
        line(
            earlier.verdict,
            &format!(
                "attempt {}, {}: {}{code}; {counted}",
                earlier.number,
                earlier.dir,
                earlier.verdict.word()
            ),
        )
    });
    Some(Section {
        id: "attempts",
        title: "Attempts",
        lead: text::line(&format!(
            "attempt {} of at most {}; {}",
            attempts.number, attempts.most, attempts.rule
        )),
        lines: lines.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{github, html, json, junit, markdown, samples, terminal};

    #[test]
    fn every_form_tells_of_what_stands_beside() {
        let report = samples::beside();
        let forms = [
            ("terminal", terminal(&report, 100, false)),
            (
                "markdown",
                markdown(&report).replace('\\', "").replace("&#8203;", ""),
            ),
            ("html", html(&report)),
            ("json", json(&report)),
            ("junit", junit(&report).unwrap()),
        ];
        for (form, text) in forms {
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for told in [
                "the warn criterion ≥ 99.9 % is missed",
                "worse than +10% of the baseline",
                "of its error budget",
                "baseline-two",
                "earlier-one",
                "attempt-1",
            ] {
                assert!(text.contains(told), "{form} lacks `{told}`: {text}");
            }
        }
        let annotations = github(&report);
        assert!(
            annotations.contains("::warning title=warning"),
            "{annotations}"
        );
    }

    #[test]
    fn outside_text_in_them_is_only_text() {
        let report = samples::beside_hostile();
        let page = html(&report);
        assert!(!page.contains("<script"), "{page}");
        assert!(!terminal(&report, 80, false).contains('\u{1b}'));
        for line in terminal(&report, 80, false).lines() {
            assert!(super::text::width(line) <= 80, "{line}");
        }
        assert!(!markdown(&report).contains("<script"));
    }
}
