//! Runs conformance scripts: `conformance promql DIR [-v]`.
//!
//! Prints per file how many evaluations passed, failed and were refused as unsupported; with `-v`
//! every evaluation that did not pass. The last line is `N passed, N failed, N refused`. The exit
//! status is 1 when any failed and 2 when the arguments or the directory cannot be read.

use harness_evidence::promql::testing;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["promql", dir] => promql(dir, false),
        ["promql", dir, "-v"] => promql(dir, true),
        _ => {
            eprintln!("usage: conformance promql DIR [-v]");
            ExitCode::from(2)
        }
    }
}

fn promql(dir: &str, verbose: bool) -> ExitCode {
    let files = match scripts(dir) {
        Ok(files) => files,
        Err(e) => {
            eprintln!("{dir}: {e}");
            return ExitCode::from(2);
        }
    };
    let (mut passed, mut failed, mut refused) = (0, 0, 0);
    for path in files {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) => {
                eprintln!("{}: {e}", path.display());
                return ExitCode::from(2);
            }
        };
        let r = testing::run(&text);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        println!(
            "{name:<28} {:>5} passed {:>5} failed {:>5} refused",
            r.passed,
            r.failed.len(),
            r.refused.len()
        );
        if verbose {
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
    ExitCode::from(u8::from(failed > 0))
}

fn scripts(dir: &str) -> std::io::Result<Vec<PathBuf>> {
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
