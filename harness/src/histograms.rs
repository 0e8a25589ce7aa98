//! `latency.hlog`: HDR histograms of a run in the HdrHistogram log format, version 1.3 (V2 compressed
//! histograms), which HdrHistogram's own tools and plotters read.
//!
//! One line for each phase, request, outcome and time, tagged `PHASE/REQUEST/OUTCOME/TIME` with TIME
//! one of `latency` (from due), `service` (from sent), `first_byte` and `first_event` (from due) and
//! `gap` (between events). Microseconds, 1 µs to 1 h, three significant digits. For showing: what
//! objectives judge is counted from the rows.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use harness_core::measure::Measurements;
use harness_core::record::RunFacts;
use harness_core::scenario::Scenario;
use harness_core::units::Nanos;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::run_dir::{RunDirError, write_whole};

/// Writes all histograms.
///
/// # Errors
/// When the disk does not take them.
pub fn write(
    path: &Path,
    scenario: &Scenario,
    facts: &RunFacts,
    measured: &Measurements,
) -> Result<(), RunDirError> {
    let bytes = log(scenario, facts, measured).map_err(|error| RunDirError::Io {
        path: path.to_owned(),
        source: io::Error::other(error),
    })?;
    write_whole(path, &bytes)
}

fn log(scenario: &Scenario, facts: &RunFacts, measured: &Measurements) -> Result<Vec<u8>, String> {
    let started = SystemTime::UNIX_EPOCH + Duration::from_nanos(facts.started.0);
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("harness: HDR histograms, microseconds")
        .with_start_time(started)
        .with_base_time(started)
        .begin_log_with(&mut bytes, &mut serializer)
        .map_err(|error| error.to_string())?;
    for (phase, request, outcome, times) in measured.histograms() {
        let name = scenario.spec.requests.get(usize::from(request));
        let name = name.map_or("unknown", |request| &request.name);
        let of_phase = || {
            facts
                .stretches
                .iter()
                .filter(|stretch| stretch.phase == phase)
        };
        let start = of_phase().map(|stretch| stretch.start).min();
        let end = of_phase().map(|stretch| stretch.end).max();
        let start = start.unwrap_or(Nanos(0));
        let length = end.unwrap_or(facts.drained).since(start).as_duration();
        for (time, histogram) in times.all() {
            let tag = format!("{phase}/{name}/{}/{time}", outcome.name()).replace([',', ' '], "_");
            put(&mut writer, &tag, start.as_duration(), length, histogram)?;
        }
    }
    drop(writer);
    Ok(bytes)
}

fn put<W: io::Write>(
    writer: &mut hdrhistogram::serialization::interval_log::IntervalLogWriter<
        '_,
        '_,
        W,
        V2DeflateSerializer,
    >,
    tag: &str,
    start: Duration,
    length: Duration,
    histogram: &Histogram<u64>,
) -> Result<(), String> {
    if histogram.is_empty() {
        return Ok(());
    }
    let tag = Tag::new(tag).ok_or_else(|| format!("`{tag}` cannot be a tag"))?;
    writer
        .write_histogram(histogram, start, length, Some(tag))
        .map_err(|error| format!("{error:?}"))
}
