//! Instants of arrival read from files, for `replay`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::dataset::{self, Row};
use crate::problem::{Problem, Problems};
use crate::scenario::{DataFormat, Load, Replay, Scenario, TimeUnit};
use crate::units::{Nanos, Phase};

/// The instants of every load that replays a file. Eight bytes an arrival, ten where the file names
/// requests.
#[derive(Debug, Clone, Default)]
pub struct Tapes(BTreeMap<u16, Arc<Tape>>);

#[derive(Debug, Default)]
pub(super) struct Tape {
    /// Since the start of the run, in order.
    due: Vec<u64>,
    /// Which request or flow, where the file says: index into the requests, then the flows.
    entries: Option<Vec<u16>>,
}

impl Tape {
    pub(super) fn get(&self, place: usize) -> Option<(Nanos, Option<u16>)> {
        let due = self.due.get(place)?;
        let entry = self.entries.as_ref().and_then(|all| all.get(place));
        Some((Nanos(*due), entry.copied()))
    }
}

impl Tapes {
    pub(super) fn of(&self, load: u16) -> Arc<Tape> {
        self.0.get(&load).cloned().unwrap_or_default()
    }

    /// Reads the files that loads of the scenario replay. `files` holds the text of each by its path
    /// as the scenario has it ([`Scenario::files`]).
    ///
    /// # Errors
    /// A file that is missing, empty or malformed; instants that are none, or not in order of time;
    /// those past the end of the stages; a measured phase without any; names of no request of the
    /// mix. By file and line.
    pub fn read(scenario: &Scenario, files: &BTreeMap<String, String>) -> Result<Self, Problems> {
        let mut tapes = BTreeMap::new();
        let mut problems = Vec::new();
        for (index, load) in (0_u16..).zip(&scenario.spec.loads) {
            let Some(replay) = &load.replay else { continue };
            let reading = Reading {
                scenario,
                load,
                replay,
                start: scenario.load_start(usize::from(index)),
            };
            match reading.read(files.get(&replay.file)) {
                Ok(tape) => drop(tapes.insert(index, Arc::new(tape))),
                Err(wrong) => problems.extend(dataset::shorten(wrong)),
            }
        }
        if problems.is_empty() {
            Ok(Self(tapes))
        } else {
            Err(Problems(problems))
        }
    }
}

struct Reading<'a> {
    scenario: &'a Scenario,
    load: &'a Load,
    replay: &'a Replay,
    start: Nanos,
}

impl Reading<'_> {
    fn read(&self, text: Option<&String>) -> Result<Tape, Vec<Problem>> {
        let file = &self.replay.file;
        let Some(text) = text else {
            return Err(vec![dataset::unread(file)]);
        };
        let format = self.replay.format.unwrap_or_else(|| DataFormat::of(file));
        let rows = dataset::rows(file, text, format)?;
        let usual = match format {
            DataFormat::Text => dataset::LINE,
            _ => "timestamp",
        };
        let field = self.replay.time.as_deref().unwrap_or(usual);
        let mut wrong = Vec::new();
        let mut due = Vec::with_capacity(rows.len());
        let mut first = None;
        for row in &rows {
            match self.due(row, field, &mut first, due.last().copied()) {
                Ok(at) => due.push(at),
                Err((message, hint)) => {
                    wrong.push(dataset::problem(file, row.line, &message, &hint))
                }
            }
        }
        let entries = self.replay.request.as_ref().map(|field| {
            let entries = rows.iter().map(|row| {
                self.entry(row, field).unwrap_or_else(|(message, hint)| {
                    wrong.push(dataset::problem(file, row.line, &message, &hint));
                    0
                })
            });
            entries.collect()
        });
        if wrong.is_empty() {
            wrong.extend(self.unmeasured(&due));
        }
        if wrong.is_empty() {
            Ok(Tape { due, entries })
        } else {
            Err(wrong)
        }
    }

    /// When a row's request is due. `first` is the first row's instant, and set by it.
    fn due(
        &self,
        row: &Row,
        field: &str,
        first: &mut Option<i128>,
        before: Option<u64>,
    ) -> Result<u64, (String, String)> {
        let value = row.fields.get(field).ok_or_else(|| {
            let names: Vec<&str> = row.fields.keys().map(String::as_str).take(8).collect();
            (
                format!("the row has no field `{field}`"),
                format!(
                    "it has {}: name the one with the instant as `time`",
                    names.join(", ")
                ),
            )
        })?;
        let text = match value {
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        let at = instant(&text, self.replay.unit).ok_or_else(|| {
            (
                format!("`{text}` is not an instant"),
                "a number, or RFC 3339 such as 2026-11-26T03:00:00.5Z".to_owned(),
            )
        })?;
        let since = at - *first.get_or_insert(at);
        if since < 0 {
            return Err(unsorted());
        }
        let since = since as f64 / self.replay.speed_up;
        let due = self.start.0.saturating_add(since as u64);
        if before.is_some_and(|before| due < before) {
            return Err(unsorted());
        }
        let end = self.start.0.saturating_add(self.load.length());
        if due >= end {
            return Err((
                format!(
                    "lies {:.3} s after the first, and the stages end after {:.3} s",
                    since / 1e9,
                    self.load.length() as f64 / 1e9
                ),
                "lengthen the last stage, raise speedUp, or cut the file".to_owned(),
            ));
        }
        Ok(due)
    }

    fn entry(&self, row: &Row, field: &str) -> Result<u16, (String, String)> {
        let name = row.fields.get(field).and_then(Value::as_str);
        let spec = &self.scenario.spec;
        let requests = spec.requests.iter().map(|request| &request.name);
        let mut all = requests.chain(spec.flows.iter().map(|flow| &flow.name));
        let mixed = |name: &&str| self.load.mix.get(*name).is_some_and(|weight| *weight > 0);
        let index = name
            .filter(mixed)
            .and_then(|name| all.position(|known| known == name));
        index
            .and_then(|index| u16::try_from(index).ok())
            .ok_or_else(|| {
                let known: Vec<&str> = self.load.mix.keys().map(String::as_str).collect();
                (
                    format!(
                        "`{}` in `{field}` is not in the load's mix",
                        name.unwrap_or_default()
                    ),
                    format!("one of {}", known.join(", ")),
                )
            })
    }

    fn unmeasured(&self, due: &[u64]) -> Option<Problem> {
        let mut start = self.start.0;
        let mut measured = self.load.stages.iter().filter_map(|stage| {
            let from = start;
            start = start.saturating_add(stage.length.nanos());
            (stage.phase == Phase::Measure).then_some((from, start))
        });
        let (from, _) = measured.next()?;
        let end = measured.next_back().map_or(start, |(_, end)| end);
        let any = due.iter().any(|due| (from..end).contains(due));
        (!any).then(|| Problem {
            file: self.replay.file.clone(),
            at: None,
            key: String::new(),
            message: "has no instant in the measured phase: it ends too early".into(),
            hint: Some("shorten the warmup, or lower speedUp".into()),
        })
    }
}

fn unsorted() -> (String, String) {
    (
        "lies before the row above it".to_owned(),
        "sort the file by time".to_owned(),
    )
}

/// An instant in nanoseconds since some epoch: a decimal number in the unit, exactly, or RFC 3339.
fn instant(text: &str, unit: TimeUnit) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !whole.is_empty() && whole.len() <= 20 && all_digits(whole) && all_digits(fraction) {
        let unit = i128::from(unit.nanos());
        let whole: i128 = whole.parse().ok()?;
        // Beyond nanoseconds nothing is kept.
        let fraction = &fraction[..fraction.len().min(18)];
        let part: i128 = if fraction.is_empty() {
            0
        } else {
            fraction.parse::<i128>().ok()? * unit / 10_i128.pow(fraction.len() as u32)
        };
        let nanos = whole * unit + part;
        return Some(if negative { -nanos } else { nanos });
    }
    let time = chrono::DateTime::parse_from_rfc3339(text).ok()?;
    let nanos = i128::from(time.timestamp_subsec_nanos());
    Some(i128::from(time.timestamp()) * 1_000_000_000 + nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_exactly() {
        let at = |text| instant(text, TimeUnit::S);
        assert_eq!(at("1700000000.123456789"), Some(1_700_000_000_123_456_789));
        assert_eq!(at("0.5"), Some(500_000_000));
        assert_eq!(at("-1"), Some(-1_000_000_000));
        assert_eq!(instant("1.5", TimeUnit::Ms), Some(1_500_000));
        assert_eq!(instant("7", TimeUnit::Ns), Some(7));
        assert_eq!(at("1970-01-01T00:00:01.25+00:00"), Some(1_250_000_000));
        for wrong in ["", "1e3", "one", ".5", "1.2.3", "2026-11-26"] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }
}
