//! `harness export`: objectives in forms that other systems take.

use std::io::Write;
use std::path::{Path, PathBuf};

use harness_core::rules;

use crate::inputs;
use crate::run::Failure;
use crate::run_dir::write_whole;

/// Writes the Prometheus rules of these SLO files to `out`, or to stdout, and says on stderr what was
/// left out and why.
///
/// # Errors
/// When the files cannot be read, hold nothing that can be exported, or the rules cannot be written.
pub fn rules(slos: &[PathBuf], out: Option<&Path>) -> Result<u8, Failure> {
    let (_, objectives) =
        inputs::read_slos(slos).map_err(|wrong| Failure::Config(wrong.to_string()))?;
    let exported = rules::rules(&objectives);
    let mut stderr = std::io::stderr().lock();
    for (name, why) in &exported.left_out {
        let _ = writeln!(stderr, "harness: {name} is not exported: {why}");
    }
    for note in &exported.notes {
        let _ = writeln!(stderr, "harness: {note}");
    }
    if exported.exported.is_empty() {
        return Err(Failure::Config(
            "none of these objectives can be exported as Prometheus rules".into(),
        ));
    }
    match out {
        Some(out) => write_whole(out, exported.yaml.as_bytes())
            .map_err(|error| Failure::Config(error.to_string()))?,
        None => std::io::stdout()
            .write_all(exported.yaml.as_bytes())
            .map_err(|error| Failure::Internal(error.to_string()))?,
    }
    Ok(0)
}
