//! From OpenSLO text to objectives, collecting everything that is wrong on the way: documents here,
//! then `annotations`, `sli` and `target` in the order of an SLO's keys, and `kinds` for the rest.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::annotations::{self, Annotations};
use super::criteria;
use super::kinds;
use super::signal::inferred;
use super::sli::{self, Measured};
use super::target;
use super::window::{self, TimeWindow};
use super::yaml::{DataSource, Document, Head, Sli, Slo, Target};
use super::{Objective, Place, Written};
use crate::problem::{Problem, Problems};

/// Line and column.
pub(super) type At = Option<(usize, usize)>;

/// Line and column of a location, where there is one.
pub(super) fn place(location: Location) -> At {
    let line = usize::try_from(location.line()).ok().filter(|l| *l > 0)?;
    Some((line, usize::try_from(location.column()).unwrap_or(1)))
}

/// What is gathered while reading.
#[derive(Default)]
pub(super) struct Reader {
    /// The file that problems are put down to.
    pub(super) file: String,
    objectives: Vec<Objective>,
    problems: Vec<Problem>,
    pub(super) notes: Vec<String>,
    /// Where each name was first used, by kind.
    names: BTreeMap<(&'static str, String), String>,
    /// SLIs by name, for `indicatorRef`.
    slis: BTreeMap<String, (String, Spanned<Sli>)>,
    /// Data sources by name, for `metricSourceRef`.
    pub(super) sources: BTreeMap<String, Spanned<String>>,
    /// References of alerting to be looked up when everything is read: kind, name and file with place.
    pub(super) references: Vec<(&'static str, Spanned<String>, String)>,
}

impl Reader {
    pub(super) fn problem(&mut self, at: At, key: &str, message: impl Into<String>, hint: &str) {
        self.problems.push(Problem {
            file: self.file.clone(),
            at,
            key: key.to_owned(),
            message: message.into(),
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        });
    }

    /// `FILE:LINE`, or the file alone.
    pub(super) fn here(&self, at: At) -> String {
        match at {
            Some((line, _)) => format!("{}:{line}", self.file),
            None => self.file.clone(),
        }
    }

    /// A name, which has to be one and of its kind's only one over all files.
    pub(super) fn name(&mut self, kind: &'static str, name: &Spanned<String>) {
        let at = place(name.referenced);
        if name.value.trim().is_empty() {
            let hint = "every object has a name of its own";
            self.problem(at, "metadata.name", "is empty", hint);
        }
        let key = (kind, name.value.clone());
        if let Some(first) = self.names.get(&key) {
            let message = format!(
                "a second {kind} named `{}`; the first is at {first}",
                name.value
            );
            let hint = "names are unique over all files of a run";
            self.problem(at, "metadata.name", message, hint);
        } else {
            let here = self.here(at);
            self.names.insert(key, here);
        }
    }

    fn place(&self, location: Location) -> Option<Place> {
        place(location).map(|(line, column)| Place {
            file: self.file.clone(),
            line,
            column,
        })
    }
}

const NO_SLO: &str = "at least one document with `kind: SLO`; documents that SLOs refer to are given together with them, as a directory or as several files";

/// One YAML document with its place, so that lines count from the file's first.
struct Chunk {
    text: String,
}

/// Reads all files; SLIs first, since an SLO may refer to one of a later file.
pub(super) fn files(
    files: &[(String, String)],
    slo_needed: bool,
) -> Result<(Vec<Objective>, Vec<String>), Problems> {
    let mut reader = Reader::default();
    let mut slos = Vec::new();
    for (file, text) in files {
        reader.file.clone_from(file);
        let chunks = documents(text);
        if chunks.is_empty() {
            let message = "holds no SLO, nor any other document";
            reader.problem(None, "", message, NO_SLO);
        }
        for chunk in chunks {
            if let Some(slo) = document(&mut reader, &chunk) {
                slos.push((file.clone(), slo));
            }
        }
    }
    // Other kinds may have files of their own, beside those of SLOs.
    if let (true, true, Some((file, _))) = (
        slo_needed && slos.is_empty(),
        reader.problems.is_empty(),
        files.first(),
    ) {
        reader.file.clone_from(file);
        let message = match files.len() {
            1 => "holds no SLO".to_owned(),
            several => format!("holds no SLO, nor do the {} others", several - 1),
        };
        reader.problem(None, "", message, NO_SLO);
    }
    if files.is_empty() {
        reader.file = "objectives".into();
        reader.problem(
            None,
            "",
            "no SLO file was given",
            "name files or directories with OpenSLO documents in the scenario's `spec.slo` or with --slo",
        );
    }
    for (file, slo) in slos {
        reader.file = file;
        objectives(&mut reader, slo);
    }
    unresolved(&mut reader);
    if reader.problems.is_empty() {
        Ok((reader.objectives, reader.notes))
    } else {
        Err(Problems(reader.problems))
    }
}

/// Splits at document markers. A marker at the start of a line ends a document wherever it stands,
/// so no YAML is misread; blank lines in front keep the line numbers right.
fn documents(text: &str) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut current = String::new();
    for (number, line) in text.lines().enumerate() {
        let marker = line == "---" || line.starts_with("--- ");
        if marker {
            chunks.push(std::mem::take(&mut current));
            current = "\n".repeat(number);
            current.push_str(line.strip_prefix("---").unwrap_or_default());
            current.push('\n');
        } else {
            current.push_str(line);
            current.push('\n');
        }
    }
    chunks.push(current);
    chunks
        .into_iter()
        .filter(|text| {
            text.lines()
                .any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        })
        .map(|text| Chunk { text })
        .collect()
}

fn parsed<T: DeserializeOwned>(reader: &mut Reader, chunk: &Chunk) -> Option<T> {
    match serde_saphyr::from_str::<T>(&chunk.text) {
        Ok(value) => Some(value),
        Err(error) => {
            let at = error.location().and_then(place);
            let message = error.without_snippet().to_string();
            let hint = if message.contains("unknown field") {
                "keys are those of OpenSLO v1 and no others; extensions go into metadata.annotations and metricSource.spec"
            } else {
                ""
            };
            reader.problem(at, "", message, hint);
            None
        }
    }
}

/// Reads one document as far as its own text goes. Gives back an SLO to be resolved later.
fn document(reader: &mut Reader, chunk: &Chunk) -> Option<Document<Slo>> {
    let head: Head = parsed(reader, chunk)?;
    let Some(version) = head.api_version else {
        reader.problem(
            None,
            "apiVersion",
            "is missing",
            "write `apiVersion: openslo/v1`",
        );
        return None;
    };
    if version.value != "openslo/v1" {
        let message = format!("`{}` is not read", version.value);
        reader.problem(
            place(version.referenced),
            "apiVersion",
            message,
            "write `apiVersion: openslo/v1`",
        );
        return None;
    }
    let Some(kind) = head.kind else {
        reader.problem(None, "kind", "is missing", "write `kind: SLO`");
        return None;
    };
    match kind.value.as_str() {
        "SLO" => parsed(reader, chunk),
        "SLI" => {
            let sli: Document<Spanned<Sli>> = parsed(reader, chunk)?;
            kinds::metadata(reader, "SLI", &sli.metadata);
            let entry = (reader.file.clone(), sli.spec);
            reader.slis.insert(sli.metadata.name.value, entry);
            None
        }
        "DataSource" => {
            let source: Document<DataSource> = parsed(reader, chunk)?;
            kinds::data_source(reader, source);
            None
        }
        "Service" => {
            let document = parsed(reader, chunk)?;
            kinds::service(reader, &document);
            None
        }
        "AlertPolicy" => {
            let document = parsed(reader, chunk)?;
            kinds::alert_policy(reader, &document);
            None
        }
        "AlertCondition" => {
            let document = parsed(reader, chunk)?;
            kinds::alert_condition(reader, &document);
            None
        }
        "AlertNotificationTarget" => {
            let document = parsed(reader, chunk)?;
            kinds::notification_target(reader, &document);
            None
        }
        other => {
            let message = format!("unknown kind `{other}`");
            reader.problem(
                place(kind.referenced),
                "kind",
                message,
                "the kinds of openslo/v1 are SLO, SLI, DataSource, Service, AlertPolicy, AlertCondition and AlertNotificationTarget",
            );
            None
        }
    }
}

/// Says of references of alerting that they lead nowhere: a note, since alerts are not used.
fn unresolved(reader: &mut Reader) {
    for (kind, name, file) in std::mem::take(&mut reader.references) {
        if !reader.names.contains_key(&(kind, name.value.clone())) {
            let here = match place(name.referenced) {
                Some((line, _)) => format!("{file}:{line}"),
                None => file,
            };
            reader.notes.push(format!(
                "{here}: no {kind} named `{}` in these files; alerts are not used",
                name.value
            ));
        }
    }
}

/// Turns an SLO into its objectives.
fn objectives(reader: &mut Reader, slo: Document<Slo>) {
    let Document { metadata, spec, .. } = slo;
    kinds::metadata(reader, "SLO", &metadata);
    kinds::description(reader, spec.description.as_ref());
    kinds::policies(reader, &metadata.name.value, spec.alert_policies.as_deref());
    let at = place(metadata.name.referenced);
    let notes = annotations::annotations(reader, &metadata.annotations);
    let method = target::method(reader, spec.budgeting_method.as_ref(), at);
    if spec.objectives.value.is_empty() {
        reader.problem(
            place(spec.objectives.referenced),
            "spec.objectives",
            "is empty",
            "at least one objective, such as `- {displayName: 99 % good, target: 0.99}`",
        );
    }
    let common = Common {
        time_window: time_window(reader, spec.time_window.as_ref()),
        metadata,
        notes,
        method,
        service: spec.service,
    };
    let entries = &spec.objectives.value;
    let composite = spec.indicator.is_none()
        && spec.indicator_ref.is_none()
        && entries
            .iter()
            .any(|e| e.value.indicator.is_some() || e.value.indicator_ref.is_some());
    let shared = if composite {
        None
    } else {
        let Some(found) = indicator(reader, spec.indicator, spec.indicator_ref, at, "spec") else {
            return;
        };
        Some(measured(reader, &found))
    };
    if let (Some(Some(one)), 2..) = (&shared, entries.len())
        && one.is_threshold()
    {
        reader.problem(
            place(spec.objectives.referenced),
            "spec.objectives",
            "are several, and OpenSLO allows a thresholdMetric only one",
            "write an SLO for each limit; both may refer to one SLI by `indicatorRef`",
        );
    }
    for (index, entry) in entries.iter().enumerate() {
        let key = format!("spec.objectives[{index}]");
        let own = match &shared {
            Some(shared) => {
                target::not_composite(reader, &entry.value, &key);
                shared.clone()
            }
            None => part(reader, &entry.value, place(entry.referenced), &key),
        };
        target::weight(reader, &entry.value, &key);
        let number = (entries.len() > 1).then_some(index + 1);
        if let Some(own) = own {
            objective(reader, &common, &own, entry, (number, &key));
        }
    }
}

/// The indicator of one part of a composite SLO.
fn part(reader: &mut Reader, entry: &Target, at: At, key: &str) -> Option<Measured> {
    let found = indicator(
        reader,
        entry.indicator.clone(),
        entry.indicator_ref.clone(),
        at,
        key,
    )?;
    measured(reader, &found)
}

/// Reads what an indicator measures; problems are put down to the file it stands in.
fn measured(reader: &mut Reader, (file, sli): &(String, Spanned<Sli>)) -> Option<Measured> {
    let before = std::mem::replace(&mut reader.file, file.clone());
    let measured = sli::measured(reader, sli);
    reader.file = before;
    measured
}

/// What the objectives of one SLO share.
struct Common {
    metadata: super::yaml::Metadata,
    notes: Annotations,
    method: Option<target::Method>,
    service: Option<String>,
    time_window: Option<TimeWindow>,
}

/// One entry of `spec.objectives`.
fn objective(
    reader: &mut Reader,
    common: &Common,
    measured: &Measured,
    entry: &Spanned<Target>,
    (number, key): (Option<usize>, &str),
) {
    let Common {
        metadata,
        notes,
        method,
        ..
    } = common;
    let at = place(entry.referenced);
    let budgeting =
        method.and_then(|m| target::budgeting(reader, m, notes, measured, &entry.value, (at, key)));
    let Some((indicator, raw)) = target::indicator(reader, measured, &entry.value, at, key) else {
        return;
    };
    let warn = criterion(reader, "warn", notes.warn.as_ref(), |text| {
        criteria::warn(text, &indicator)
    });
    let baseline = criterion(reader, "baseline", notes.baseline.as_ref(), |text| {
        criteria::baseline(text, &indicator)
    });
    let Some(budgeting) = budgeting else {
        return;
    };
    let sliced = budgeting.slice().is_some();
    let unfit = [
        ("warn", &notes.warn, sliced && measured.is_threshold()),
        ("baseline", &notes.baseline, sliced),
    ];
    for (name, text, unfit) in unfit {
        if let (true, Some(text)) = (unfit, text) {
            let key = format!("metadata.annotations.harness/{name}");
            let hint = "leave it out, or use budgetingMethod: Occurrences";
            let message = "is not built for what is judged slice by slice";
            reader.problem(place(text.referenced), &key, message, hint);
        }
    }
    let name = match number {
        Some(number) => format!("{}/{number}", metadata.name.value),
        None => metadata.name.value.clone(),
    };
    let display = entry.value.display_name.as_ref();
    let display = display.or(metadata.display_name.as_ref()).unwrap_or(&name);
    let (metric, total) = measured.places();
    reader.objectives.push(Objective {
        signal: notes
            .signal
            .unwrap_or_else(|| inferred(&metadata.name.value, &indicator)),
        display_name: display.clone(),
        name,
        file: reader.file.clone(),
        at: place(metadata.name.referenced),
        gate: notes.gate,
        confidence: notes.confidence,
        min_samples: notes.min_samples,
        empty_as: notes.empty_as,
        unit: notes.unit.clone(),
        warn,
        baseline,
        service: common.service.clone(),
        time_window: common.time_window.clone(),
        indicator,
        raw,
        budgeting,
        written: Written {
            metric,
            total,
            target: reader.place(entry.referenced),
        },
    });
}

/// The period of the error budget, if there is one.
fn time_window(reader: &mut Reader, value: Option<&Spanned<Value>>) -> Option<TimeWindow> {
    let value = value?;
    window::read(Some(&value.value)).unwrap_or_else(|message| {
        let hint = "a list of one, such as `[{duration: 28d, isRolling: true}]`";
        reader.problem(place(value.referenced), "spec.timeWindow", message, hint);
        None
    })
}

/// Reads an annotation whose meaning depends on the objective.
fn criterion<T>(
    reader: &mut Reader,
    name: &str,
    text: Option<&Spanned<String>>,
    read: impl Fn(&str) -> Result<T, criteria::Wrong>,
) -> Option<T> {
    let text = text?;
    match read(&text.value) {
        Ok(criterion) => Some(criterion),
        Err((message, hint)) => {
            let key = format!("metadata.annotations.harness/{name}");
            reader.problem(place(text.referenced), &key, message, hint);
            None
        }
    }
}

/// The indicator, written inside or referred to, with the file it stands in.
fn indicator(
    reader: &mut Reader,
    inline: Option<super::yaml::Indicator>,
    reference: Option<Spanned<String>>,
    at: At,
    under: &str,
) -> Option<(String, Spanned<Sli>)> {
    match (inline, reference) {
        (Some(inline), None) => Some((reader.file.clone(), inline.spec)),
        (None, Some(reference)) => {
            if let Some((file, sli)) = reader.slis.get(&reference.value) {
                return Some((file.clone(), sli.clone()));
            }
            let message = format!("no SLI named `{}` in these files", reference.value);
            reader.problem(
                place(reference.referenced),
                &format!("{under}.indicatorRef"),
                message,
                "give the file of the SLI too, or write the indicator inside the SLO",
            );
            None
        }
        (Some(_), Some(reference)) => {
            reader.problem(
                place(reference.referenced),
                &format!("{under}.indicatorRef"),
                "stands beside an inline indicator",
                "leave out one of the two",
            );
            None
        }
        (None, None) => {
            reader.problem(
                at,
                &format!("{under}.indicator"),
                "is missing",
                "say what is measured: `indicator: {metadata: …, spec: {ratioMetric: …}}`",
            );
            None
        }
    }
}
