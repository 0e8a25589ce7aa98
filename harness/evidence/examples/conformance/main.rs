//! Conformance runner.
//!
//! ```text
//! conformance promql DIR [-v] [--url URL [--restart COMMAND]]
//! conformance replay [--data DIR] --cases FILE [-v] [--url URL [--otlp URL]]
//! conformance parse promql|logql|traceql
//! ```
//!
//! `promql` runs a folder of Prometheus' test scripts and prints per file how many evaluations passed,
//! failed and were refused as unsupported. `replay` loads recorded data, puts recorded questions and
//! compares the answers with the recorded ones. With `--url` a server answers instead of this crate;
//! `replay` then sends it the data only when `--data` is given. `-v` shows every case that did not
//! pass. `parse` reads queries, one JSON string a line, and writes for each what is wrong with it, if
//! anything. Exit status: 1 when any failed, 2 when arguments or files cannot be read. The last line is
//! `N passed, N failed, N refused`; what differs because version 2 of Prometheus was recorded and 3 is
//! followed is counted apart.

mod compare;
mod feed;
mod remote_write;
mod replay;
mod scripts;

use harness_evidence::promql::testing;
use replay::{Miss, Server, Tally};
use scripts::OverHttp;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: conformance promql DIR [-v] [--url URL [--restart COMMAND]]
       conformance replay [--data DIR] --cases FILE [-v] [--url URL [--otlp URL]]
       conformance parse promql|logql|traceql";

/// Arguments as they are written.
#[derive(Default)]
struct Args {
    free: Vec<String>,
    verbose: bool,
    url: Option<String>,
    otlp: Option<String>,
    restart: Option<String>,
    data: Option<PathBuf>,
    cases: Option<PathBuf>,
}

impl Args {
    fn read(all: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut out = Self::default();
        let mut all = all.into_iter();
        while let Some(arg) = all.next() {
            let mut value = || all.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "-v" => out.verbose = true,
                "--url" => out.url = Some(value()?),
                "--otlp" => out.otlp = Some(value()?),
                "--restart" => out.restart = Some(value()?),
                "--data" => out.data = Some(value()?.into()),
                "--cases" => out.cases = Some(value()?.into()),
                flag if flag.starts_with('-') => return Err(format!("unknown option {flag}")),
                _ => out.free.push(arg),
            }
        }
        Ok(out)
    }
}

fn main() -> ExitCode {
    let done = Args::read(std::env::args().skip(1)).and_then(|args| {
        let free: Vec<&str> = args.free.iter().map(String::as_str).collect();
        match (free.as_slice(), &args.cases) {
            (["promql", dir], None) => promql(Path::new(dir), &args),
            (["replay"], Some(cases)) => replayed(cases, &args),
            (["parse", language], None) => parsed(language),
            _ => Err(USAGE.to_owned()),
        }
    });
    match done {
        Ok(failed) => ExitCode::from(u8::from(failed)),
        Err(e) => {
            eprintln!("{e}");
            ExitCode::from(2)
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())
}

/// Runs every script of a folder; whether anything failed.
fn promql(dir: &Path, args: &Args) -> Result<bool, String> {
    let mut server = match &args.url {
        Some(url) => Some(OverHttp::new(runtime()?, url, args.restart.clone())),
        None => None,
    };
    let (mut passed, mut failed, mut refused) = (0, 0, 0);
    for path in files(dir).map_err(|e| format!("{}: {e}", dir.display()))? {
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let r = match &mut server {
            None => testing::run(&text),
            Some(engine) => {
                testing::Engine::clear(engine).map_err(|e| format!("{name}: {e}"))?;
                testing::run_on(engine, &text)
            }
        };
        println!(
            "{name:<28} {:>5} passed {:>5} failed {:>5} refused",
            r.passed,
            r.failed.len(),
            r.refused.len()
        );
        if args.verbose {
            for (kind, misses) in [("FAILED", &r.failed), ("refused", &r.refused)] {
                for m in misses {
                    println!("  {kind} {name}:{}: {}\n      {}", m.line, m.query, m.why);
                }
            }
        }
        passed += r.passed;
        failed += r.failed.len();
        refused += r.refused.len();
    }
    println!("{passed} passed, {failed} failed, {refused} refused");
    Ok(failed > 0)
}

fn files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "test") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(std::io::Error::other("no *.test file in it"));
    }
    Ok(files)
}

/// Replays one file of cases; whether anything failed.
fn replayed(cases: &Path, args: &Args) -> Result<bool, String> {
    let text = std::fs::read_to_string(cases).map_err(|e| format!("{}: {e}", cases.display()))?;
    let backend = backend(&text)?;
    let tally = runtime()?.block_on(async {
        let server = match (&args.url, &args.data) {
            (None, None) => return Err(format!("--data or --url is needed\n{USAGE}")),
            (None, Some(data)) => feed::embedded(&backend, data).await?,
            (Some(url), data) => {
                let server = Server::at(url);
                let otlp = args.otlp.as_deref().map(Server::at);
                if let Some(data) = data {
                    feed::send(&server, &backend, data, otlp.as_ref()).await?;
                }
                server
            }
        };
        replay::replay(&server, &text).await
    })?;
    print(&tally, args.verbose);
    Ok(!tally.failed.is_empty())
}

/// Reads queries and says of each whether it is one.
fn parsed(language: &str) -> Result<bool, String> {
    let check: fn(&str) -> Option<String> = match language {
        "promql" => |q| {
            harness_evidence::promql::check(q)
                .err()
                .map(|e| e.to_string())
        },
        "logql" => |q| {
            harness_evidence::logql::Query::new(q)
                .err()
                .map(|e| e.to_string())
        },
        "traceql" => |q| {
            harness_evidence::traceql::validate(q)
                .err()
                .map(|e| e.to_string())
        },
        _ => return Err(USAGE.to_owned()),
    };
    for line in std::io::stdin().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let query: String = serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?;
        println!(
            "{}",
            serde_json::json!({ "query": query, "error": check(&query) })
        );
    }
    Ok(false)
}

/// The backend that the cases were recorded from.
fn backend(cases: &str) -> Result<String, String> {
    let first = cases.lines().next().unwrap_or("");
    let first: serde_json::Value =
        serde_json::from_str(first).map_err(|e| format!("the first line is no case: {e}"))?;
    let name = first["backend"]
        .as_str()
        .ok_or("a case without a backend")?;
    Ok(name.to_owned())
}

fn print(tally: &Tally, verbose: bool) {
    for (category, (passed, not)) in &tally.categories {
        println!("{category:<20} {passed:>5} as recorded {not:>5} not");
    }
    let show = |kind: &str, all: &[Miss]| {
        for m in all {
            println!("  {kind} {}: {}\n      {}", m.id, m.query, m.why);
        }
    };
    show("FAILED", &tally.failed);
    if verbose {
        show("refused", &tally.refused);
        show("version", &tally.by_version);
        show("text", &tally.other_texts);
    }
    println!(
        "error texts as recorded: {} of {}",
        tally.texts.0, tally.texts.1
    );
    println!(
        "{} differ between Prometheus 2 (recorded) and 3",
        tally.by_version.len()
    );
    println!(
        "{} passed, {} failed, {} refused",
        tally.passed,
        tally.failed.len(),
        tally.refused.len()
    );
}
