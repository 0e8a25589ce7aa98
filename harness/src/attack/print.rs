//! What an attack prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use harness_core::observation::{Observation, Outcome};
use harness_core::report::model::{Bin, LoadSummary, Quantiles, Report, Verdict};
use harness_core::units::Phase;

use crate::run_dir::FinishedRun;

/// Rows and columns of the histogram.
const BINS: usize = 12;
const BAR: usize = 40;
/// Kinds of failure that are shown with an example.
const KINDS: usize = 8;

/// Figures of the measured phase, and the verdict where there was anything to judge.
pub(super) fn text(run: &FinishedRun, report: &Report, judged: bool, color: bool) -> String {
    let mut text = String::new();
    let rows: Vec<&Observation> = run
        .rows
        .iter()
        .filter(|row| row.phase == Phase::Measure)
        .collect();
    let measured = report.load.iter().find(|load| load.phase == Phase::Measure);
    if let Some(load) = measured.filter(|load| load.scheduled > 0) {
        summary(&mut text, load, &rows, run);
        histogram(&mut text, &report.distribution);
        statuses(&mut text, &rows, run);
        failures(&mut text, load, &rows);
    }
    if !rows.is_empty() {
        generator(&mut text, report);
    }
    conclusion(&mut text, report, judged, color);
    text
}

fn summary(text: &mut String, load: &LoadSummary, rows: &[&Observation], run: &FinishedRun) {
    let answered: u64 = load
        .outcomes
        .iter()
        .filter(|(outcome, _)| outcome.answered())
        .map(|(_, n)| n)
        .sum();
    let expected: u64 = load
        .outcomes
        .iter()
        .filter(|(outcome, _)| *outcome == Outcome::Expected)
        .map(|(_, n)| n)
        .sum();
    let first = rows.iter().map(|row| row.due).min().unwrap_or_default();
    let last = rows.iter().map(|row| row.done).max().unwrap_or_default();
    let seconds = last.since(first).as_secs_f64();
    let _ = writeln!(
        text,
        "Requests   {} due, {answered} answered, {expected} as expected",
        load.scheduled
    );
    let _ = writeln!(
        text,
        "Rate       {:.1} answers/s over {seconds:.2} s",
        answered as f64 / seconds.max(1e-9)
    );
    let _ = writeln!(text, "Bytes      {} of answers", load.bytes);
    let _ = writeln!(text, "Target     {}\n", run.facts.target.url);
    let _ = writeln!(text, "           {:>16} {:>16}", "latency", "service time");
    let _ = writeln!(text, "           {:>16} {:>16}", "from due", "from sent");
    let read: [(&str, Figure); 8] = [
        ("min", |q| q.min),
        ("mean", |q| q.mean),
        ("p50", |q| q.p50),
        ("p90", |q| q.p90),
        ("p95", |q| q.p95),
        ("p99", |q| q.p99),
        ("p99.9", |q| q.p999),
        ("max", |q| q.max),
    ];
    for (name, figure) in read {
        let shown =
            |quantiles: Option<Quantiles>| quantiles.map_or("–".to_owned(), |q| time(figure(&q)));
        let _ = writeln!(
            text,
            "{name:10} {:>16} {:>16}",
            shown(load.latency),
            shown(load.service_time)
        );
    }
}

/// One figure out of many, in seconds.
type Figure = fn(&Quantiles) -> f64;

/// Seconds in the unit that reads best.
fn time(seconds: f64) -> String {
    if seconds >= 1.0 {
        format!("{seconds:.3} s")
    } else if seconds >= 1e-3 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{:.0} µs", seconds * 1e6)
    }
}

fn histogram(text: &mut String, bins: &[Bin]) {
    let each = bins.len().div_ceil(BINS).max(1);
    let groups: Vec<(f64, u64)> = bins
        .chunks(each)
        .map(|group| {
            let count = group.iter().map(|bin| bin.expected + bin.other).sum();
            (group.last().map_or(0.0, |bin| bin.high), count)
        })
        .collect();
    let most = groups.iter().map(|(_, count)| *count).max().unwrap_or(0);
    if most == 0 {
        return;
    }
    let _ = writeln!(text, "\nLatency from due, up to");
    for (high, count) in groups {
        let length = (count as u128 * BAR as u128).div_ceil(u128::from(most)) as usize;
        let _ = writeln!(
            text,
            "{:>10} {:<BAR$} {count}",
            time(high),
            "■".repeat(length)
        );
    }
}

fn statuses(text: &mut String, rows: &[&Observation], run: &FinishedRun) {
    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
    let rows = rows.iter().filter_map(|row| Some((row.status?, 1)));
    let counted = match &run.facts.context.sampled {
        Some(sampled) => sampled
            .measured()
            .flat_map(|cell| cell.statuses.clone())
            .collect(),
        None => rows.collect::<Vec<_>>(),
    };
    for (status, count) in counted {
        *statuses.entry(status).or_default() += count;
    }
    if !statuses.is_empty() {
        let _ = writeln!(text, "\nStatus");
    }
    for (status, count) in statuses {
        let _ = writeln!(text, "{status:>10} {count}");
    }
}

fn failures(text: &mut String, load: &LoadSummary, rows: &[&Observation]) {
    let failed = load
        .outcomes
        .iter()
        .filter(|(outcome, _)| *outcome != Outcome::Expected);
    let mut failed: Vec<(Outcome, u64)> = failed.copied().collect();
    failed.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    if failed.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nNot as expected");
    for (outcome, count) in failed.iter().take(KINDS) {
        let name = serde_json::to_value(outcome).ok();
        let name = name
            .as_ref()
            .and_then(|name| name.as_str())
            .unwrap_or_default();
        let example = rows.iter().find(|row| row.outcome == *outcome);
        let detail = example.and_then(|row| row.detail()).unwrap_or_default();
        // Untrusted text: nothing in it may steer the terminal.
        let detail: String = detail
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let _ = writeln!(text, "{count:>10} {name}: {detail}");
    }
}

fn generator(text: &mut String, report: &Report) {
    let late = report
        .validity
        .iter()
        .find(|check| check.name == "late_sends");
    let _ = writeln!(text, "\nGenerator");
    if let Some(late) = late {
        let _ = writeln!(text, "           {}", late.value);
    }
    if let Some(cpu) = report.run.generator_cpu {
        let _ = writeln!(text, "           {:.0} % of a core", cpu * 100.0);
    }
}

fn conclusion(text: &mut String, report: &Report, judged: bool, color: bool) {
    let _ = writeln!(text);
    if report.verdict == Verdict::Invalid {
        // The first says what to do; that nothing was to be judged is no news.
        if let Some(reason) = report.reasons.first() {
            let _ = writeln!(
                text,
                "{}",
                paint("33", &format!("Invalid run: {reason}"), color)
            );
        }
        let _ = writeln!(
            text,
            "These figures say nothing reliable of the service. exit {}",
            report.exit_code
        );
        return;
    }
    if !judged {
        let _ = writeln!(
            text,
            "Nothing was judged: no objective was given. Give one, for instance --p99 250ms or --success 99.9%."
        );
        return;
    }
    for objective in &report.objectives {
        let (mark, tint) = match objective.verdict {
            Verdict::Pass => ("met", "32"),
            Verdict::Fail => ("missed", "31"),
            _ => ("undecided", "33"),
        };
        let _ = writeln!(
            text,
            "{} {}: {}",
            paint(tint, &format!("{mark:>9}"), color),
            objective.display_name,
            objective.reason
        );
    }
    let (word, tint) = match report.verdict {
        Verdict::Pass => ("PASS", "32"),
        Verdict::Fail => ("FAIL", "31"),
        Verdict::Inconclusive => ("INCONCLUSIVE", "33"),
        Verdict::Invalid => ("INVALID", "33"),
    };
    let _ = writeln!(
        text,
        "{} exit {}",
        paint(tint, word, color),
        report.exit_code
    );
}

fn paint(tint: &str, text: &str, color: bool) -> String {
    if color {
        format!("\u{1b}[{tint}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}
