//! `harness schedule`: what a scenario will send, without sending it.

use std::fmt::Write as _;
use std::io::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use harness_core::scenario::{Load, Scenario};
use harness_core::schedule::{Arrival, Shard, Tapes, open_with, stretches};
use serde_json::json;

use crate::inputs::{self, Overrides};
use crate::run::Failure;

/// Arrivals that a table shows when `--limit` does not say.
const TABLE_ROWS: u64 = 20;
/// Columns and rows of a plot.
const COLUMNS: usize = 72;
const ROWS: usize = 10;
/// Parts of a character cell, from empty to full.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Forms of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Counts for each load and phase, and the first arrivals.
    Table,
    /// All arrivals, one a line.
    Csv,
    /// All arrivals, one JSON object a line.
    Json,
    /// Arrivals over time, drawn.
    Plot,
}

/// What `harness schedule` was asked.
#[derive(Debug)]
pub struct ShowOptions {
    /// The scenario file.
    pub scenario: PathBuf,
    /// What the command line says over the file.
    pub overrides: Overrides,
    /// In which form.
    pub form: Form,
    /// At most so many arrivals.
    pub limit: Option<u64>,
    /// Which part.
    pub shard: Shard,
}

/// Prints the schedule of open loads. That of closed loads follows from answers, which there are none
/// of: their users are shown.
///
/// # Errors
/// What is wrong with the scenario or the files that it replays; when stdout cannot be written to.
pub fn show(options: &ShowOptions, out: &mut impl Write) -> Result<(), Failure> {
    let read = inputs::scenario(&options.scenario, &options.overrides);
    let scenario = read
        .map_err(|wrong| Failure::Config(wrong.to_string()))?
        .scenario;
    let replayed = scenario
        .spec
        .loads
        .iter()
        .filter_map(|load| load.replay.as_ref());
    let replayed: Vec<&str> = replayed.map(|replay| replay.file.as_str()).collect();
    let files = inputs::files(&options.scenario, replayed.into_iter());
    let tapes = files.and_then(|files| Tapes::read(&scenario, &files));
    let tapes = tapes.map_err(|wrong| Failure::Config(wrong.to_string()))?;
    let shard = options.shard;
    let arrivals = open_with(&scenario, &tapes).filter(move |a| shard.takes(a.id.0));
    let printed = match options.form {
        Form::Table => table(&scenario, arrivals, options, out),
        Form::Csv => csv(&scenario, limited(arrivals, options.limit), out),
        Form::Json => lines(&scenario, limited(arrivals, options.limit), out),
        Form::Plot => plot(&scenario, limited(arrivals, options.limit), shard, out),
    };
    match printed {
        // The reader of a pipe, such as head, may have seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Failure::Internal(format!("stdout: {error}"))),
    }
}

fn limited(
    arrivals: impl Iterator<Item = Arrival>,
    limit: Option<u64>,
) -> impl Iterator<Item = Arrival> {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    arrivals.take(limit.unwrap_or(usize::MAX))
}

/// The name of what an arrival sends.
fn name<'a>(scenario: &'a Scenario, arrival: &Arrival) -> &'a str {
    let spec = &scenario.spec;
    match arrival.flow {
        Some(flow) => &spec.flows[usize::from(flow)].name,
        None => &spec.requests[usize::from(arrival.request)].name,
    }
}

fn csv(
    scenario: &Scenario,
    arrivals: impl Iterator<Item = Arrival>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(out);
    writeln!(out, "id,due_ns,phase,load,request,nth")?;
    for arrival in arrivals {
        let load = &scenario.spec.loads[usize::from(arrival.load)].name;
        let (load, request) = (quoted(load), quoted(name(scenario, &arrival)));
        let Arrival {
            id,
            due,
            phase,
            nth,
            ..
        } = arrival;
        writeln!(out, "{},{},{phase},{load},{request},{nth}", id.0, due.0)?;
    }
    out.flush()
}

/// A field of RFC 4180.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn lines(
    scenario: &Scenario,
    arrivals: impl Iterator<Item = Arrival>,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(out);
    for arrival in arrivals {
        let line = json!({
            "id": arrival.id,
            "due_ns": arrival.due,
            "phase": arrival.phase,
            "load": scenario.spec.loads[usize::from(arrival.load)].name,
            "request": name(scenario, &arrival),
            "nth": arrival.nth,
        });
        writeln!(out, "{line}")?;
    }
    out.flush()
}

fn table(
    scenario: &Scenario,
    arrivals: impl Iterator<Item = Arrival>,
    options: &ShowOptions,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let stretches = stretches(scenario);
    let mut counts = vec![0_u64; stretches.len()];
    let mut first = Vec::new();
    let rows = options.limit.unwrap_or(TABLE_ROWS);
    let mut all = 0_u64;
    for arrival in arrivals {
        all += 1;
        if (first.len() as u64) < rows {
            first.push(arrival);
        }
        let stage = stretches.iter().position(|stretch| {
            stretch.load == arrival.load && (stretch.start..stretch.end).contains(&arrival.due)
        });
        if let Some(stage) = stage {
            counts[stage] += 1;
        }
    }
    let shard = options.shard;
    if shard != Shard::WHOLE {
        writeln!(out, "shard {shard} of the schedule\n")?;
    }
    writeln!(
        out,
        "{:20} {:22} {:9} {:>19} {:>11} {:>9}",
        "load", "executor", "phase", "from – to s", "requests", "per s"
    )?;
    for (stretch, count) in stretches.iter().zip(&counts) {
        let load = &scenario.spec.loads[usize::from(stretch.load)];
        let (from, to) = (stretch.start.as_secs_f64(), stretch.end.as_secs_f64());
        let span = format!("{from:.1} – {to:.1}");
        write!(
            out,
            "{:20} {:22} {:9} {span:>19} ",
            load.name,
            load.executor.name(),
            stretch.phase.to_string()
        )?;
        if load.executor.is_open() {
            writeln!(out, "{count:>11} {:>9.1}", *count as f64 / (to - from))?;
        } else {
            writeln!(out, "  {}", users(load, shard))?;
        }
    }
    if !first.is_empty() {
        writeln!(
            out,
            "\n{:>20} {:>14} {:9} {:20} request",
            "id", "due s", "phase", "load"
        )?;
    }
    for arrival in &first {
        writeln!(
            out,
            "{:>20} {:>14.6} {:9} {:20} {}",
            arrival.id.0,
            arrival.due.as_secs_f64(),
            arrival.phase.to_string(),
            scenario.spec.loads[usize::from(arrival.load)].name,
            name(scenario, arrival)
        )?;
    }
    let more = all - first.len() as u64;
    if more > 0 && !first.is_empty() {
        writeln!(out, "… and {more} more")?;
    }
    Ok(())
}

/// The users of a closed load in words.
fn users(load: &Load, shard: Shard) -> String {
    let mine = (0..load.users())
        .filter(|vu| shard.takes(u64::from(*vu)))
        .count();
    let iterations = load
        .iterations
        .map(|n| format!(", {n} iterations"))
        .unwrap_or_default();
    format!("{mine} users{iterations}; when follows from answers")
}

fn plot(
    scenario: &Scenario,
    arrivals: impl Iterator<Item = Arrival>,
    shard: Shard,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let end = stretches(scenario)
        .iter()
        .map(|stretch| stretch.end.0)
        .max();
    let end = end.unwrap_or(0).max(1);
    let mut bins = vec![vec![0_u64; COLUMNS]; scenario.spec.loads.len()];
    for arrival in arrivals {
        let column = u128::from(arrival.due.0) * COLUMNS as u128 / u128::from(end);
        bins[usize::from(arrival.load)][(column as usize).min(COLUMNS - 1)] += 1;
    }
    let seconds = end as f64 / 1e9;
    let bin = seconds / COLUMNS as f64;
    for (load, bins) in scenario.spec.loads.iter().zip(&bins) {
        if !load.executor.is_open() {
            writeln!(
                out,
                "{} ({}): {}\n",
                load.name,
                load.executor.name(),
                users(load, shard)
            )?;
            continue;
        }
        let most = bins.iter().copied().max().unwrap_or(0);
        writeln!(
            out,
            "{} ({}): {} requests, at most {:.1}/s",
            load.name,
            load.executor.name(),
            bins.iter().sum::<u64>(),
            most as f64 / bin
        )?;
        write!(out, "{}", bars(bins, most))?;
        writeln!(out, "└{}", "─".repeat(COLUMNS))?;
        writeln!(out, "0 s{:>width$.1} s\n", seconds, width = COLUMNS - 4)?;
    }
    Ok(())
}

/// Bars of eighths of a cell, the highest `ROWS` cells high.
fn bars(bins: &[u64], most: u64) -> String {
    let mut text = String::new();
    for row in (0..ROWS).rev() {
        text.push('│');
        for count in bins {
            let eighths =
                (u128::from(*count) * (ROWS * 8) as u128).div_ceil(u128::from(most.max(1)));
            let here = (eighths as usize).saturating_sub(row * 8).min(8);
            text.push(BLOCKS[here]);
        }
        let line = text.trim_end_matches(' ').len();
        text.truncate(line);
        let _ = writeln!(text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"apiVersion: harness/v1
kind: Scenario
metadata: {name: shown}
spec:
  seed: 1
  target: {url: "http://127.0.0.1:1"}
  requests:
    - {name: "a,b", method: GET, path: /}
  loads:
    - {name: open, mix: {"a,b": 1}, executor: constant-arrival-rate, stages: [{phase: warmup, rate: 1/s, for: 2s}, {phase: measure, rate: 10/s, for: 1s}]}
    - {name: users, mix: {"a,b": 1}, executor: constant-vus, vus: 3, stages: [{phase: measure, for: 1s}]}
"#;

    fn shown(form: Form, limit: Option<u64>, shard: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let scenario = dir.path().join("s.yaml");
        std::fs::write(&scenario, TEXT).unwrap();
        let options = ShowOptions {
            scenario,
            overrides: Overrides::default(),
            form,
            limit,
            shard: shard.parse().unwrap(),
        };
        let mut out = Vec::new();
        show(&options, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_arrival_is_a_line_of_csv_and_of_json() {
        let csv = shown(Form::Csv, None, "0/1");
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 13);
        assert_eq!(lines[0], "id,due_ns,phase,load,request,nth");
        assert_eq!(lines[1], "0,0,warmup,open,\"a,b\",0");
        assert_eq!(lines[12], "11,2900000000,measure,open,\"a,b\",11");
        let json = shown(Form::Json, Some(3), "0/1");
        assert_eq!(json.lines().count(), 3);
        let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
        assert_eq!(last["due_ns"], 2_000_000_000_u64);
    }

    #[test]
    fn shards_are_disjoint_and_together_the_whole() {
        let mut parts: Vec<String> = Vec::new();
        for shard in ["0/3", "1/3", "2/3"] {
            parts.extend(
                shown(Form::Csv, None, shard)
                    .lines()
                    .skip(1)
                    .map(str::to_owned),
            );
        }
        let mut whole: Vec<String> = shown(Form::Csv, None, "0/1")
            .lines()
            .skip(1)
            .map(str::to_owned)
            .collect();
        parts.sort();
        whole.sort();
        assert_eq!(parts, whole);
    }

    #[test]
    fn tables_and_plots_say_what_they_show() {
        let table = shown(Form::Table, Some(2), "0/1");
        assert!(table.contains("… and 10 more"), "{table}");
        assert!(
            table.contains("3 users; when follows from answers"),
            "{table}"
        );
        let plot = shown(Form::Plot, None, "0/1");
        assert!(
            plot.contains("open (constant-arrival-rate): 12 requests"),
            "{plot}"
        );
        assert!(plot.contains('█') && plot.contains("3.0 s"), "{plot}");
    }
}
