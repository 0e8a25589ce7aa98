//! Writes sample reports in every form, and the schema, into a directory, to be looked at.
//!
//! `cargo run --example sample_report -- DIR`

// An example is no part of the pure core: it exists to write files.
#![allow(clippy::disallowed_methods)]

#[path = "../src/report/samples.rs"]
#[allow(
    unreachable_pub,
    reason = "the library's test module, where these are shared"
)]
mod samples;

use std::path::PathBuf;

use harness_core::report;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or("usage: sample_report DIR")?;
    std::fs::create_dir_all(&dir)?;
    for (name, sample) in [
        ("pass", samples::pass()),
        ("fail", samples::fail()),
        ("inconclusive", samples::inconclusive()),
        ("invalid", samples::invalid()),
        ("hostile", samples::hostile()),
    ] {
        let write =
            |ending: &str, text: String| std::fs::write(dir.join(format!("{name}.{ending}")), text);
        write("html", report::html(&sample))?;
        write("json", report::json(&sample))?;
        write("xml", report::junit(&sample)?)?;
        write("md", report::markdown(&sample))?;
        write("annotations.txt", report::github(&sample))?;
        write("terminal.txt", report::terminal(&sample, 100, true))?;
    }
    std::fs::write(
        dir.join("report.schema.json"),
        format!("{:#}\n", report::schema()),
    )?;
    Ok(())
}
