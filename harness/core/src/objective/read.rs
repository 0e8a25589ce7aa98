//! From OpenSLO text to objectives, collecting everything that is wrong on the way.
//!
//! One file because it is one walk over one document: every step adds to the same list of problems and
//! needs the same positions, and the order of the functions is the order of the document's keys.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::client::{self, Place};
use super::criteria;
use super::window::{self, TimeWindow};
use super::yaml::{Document, Head, MetricSource, RatioMetric, Sli, Slo, Target};
use super::{
    ClientFigure, ClientMetric, DEFAULT_CONFIDENCE, Indicator, Limit, Metric, Objective, Op, Part,
    Wanted,
};
use crate::problem::{Problem, Problems};
use crate::report::model::{Gate, Signal};

/// OpenSLO v1 kinds that carry nothing to judge.
const UNUSED_KINDS: [&str; 6] = [
    "Service",
    "DataSource",
    "AlertPolicy",
    "AlertCondition",
    "AlertNotificationTarget",
    "BudgetAdjustment",
];

type At = Option<(usize, usize)>;

fn place(location: Location) -> At {
    let line = usize::try_from(location.line()).ok().filter(|l| *l > 0)?;
    Some((line, usize::try_from(location.column()).unwrap_or(1)))
}

/// What is gathered while reading.
#[derive(Default)]
struct Reader {
    file: String,
    objectives: Vec<Objective>,
    problems: Vec<Problem>,
    notes: Vec<String>,
    /// Where each SLO name was first used.
    names: BTreeMap<String, String>,
    /// SLIs by name, for `indicatorRef`.
    slis: BTreeMap<String, (String, Spanned<Sli>)>,
}

impl Reader {
    fn problem(&mut self, at: At, key: &str, message: impl Into<String>, hint: &str) {
        self.problems.push(Problem {
            file: self.file.clone(),
            at,
            key: key.to_owned(),
            message: message.into(),
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        });
    }
}

/// One YAML document with its place, so that lines count from the file's first.
struct Chunk {
    text: String,
}

/// Reads all files; SLIs first, since an SLO may refer to one of a later file.
pub(super) fn files(files: &[(String, String)]) -> Result<(Vec<Objective>, Vec<String>), Problems> {
    let mut reader = Reader::default();
    let mut slos = Vec::new();
    for (file, text) in files {
        reader.file.clone_from(file);
        let before = (slos.len(), reader.problems.len());
        for chunk in documents(text) {
            if let Some(slo) = document(&mut reader, &chunk) {
                slos.push((file.clone(), slo));
            }
        }
        if (slos.len(), reader.problems.len()) == before {
            reader.problem(
                None,
                "",
                "holds no SLO",
                "an SLO file has at least one document with `kind: SLO`",
            );
        }
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
            let name = sli.metadata.name.value.clone();
            let at = place(sli.metadata.name.referenced);
            let entry = (reader.file.clone(), sli.spec);
            if reader.slis.insert(name.clone(), entry).is_some() {
                let message = format!("a second SLI named `{name}`");
                reader.problem(
                    at,
                    "metadata.name",
                    message,
                    "names are unique over all files",
                );
            }
            None
        }
        other if UNUSED_KINDS.contains(&other) => {
            let note = format!("{}: {other} is accepted and not used", reader.file);
            reader.notes.push(note);
            None
        }
        other => {
            let message = format!("unknown kind `{other}`");
            reader.problem(
                place(kind.referenced),
                "kind",
                message,
                "SLO or SLI; Service, DataSource and the Alert kinds are accepted and not used",
            );
            None
        }
    }
}

/// What the `harness/*` annotations say.
struct Annotations {
    gate: Gate,
    confidence: f64,
    min_samples: Option<u64>,
    empty_as: Option<f64>,
    signal: Option<Signal>,
    unit: Option<String>,
    /// Their texts: what they mean depends on the objective.
    warn: Option<Spanned<String>>,
    baseline: Option<Spanned<String>>,
}

fn annotations(reader: &mut Reader, from: &BTreeMap<String, Spanned<Value>>) -> Annotations {
    let mut found = Annotations {
        gate: Gate::Required,
        confidence: DEFAULT_CONFIDENCE,
        min_samples: None,
        empty_as: None,
        signal: None,
        unit: None,
        warn: None,
        baseline: None,
    };
    for (key, value) in from {
        let Some(name) = key.strip_prefix("harness/") else {
            continue;
        };
        let text = match &value.value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            other => other.to_string(),
        };
        let spanned = || Spanned::new(text.clone(), value.referenced, value.defined);
        match name {
            "warn" => found.warn = Some(spanned()),
            "baseline" => found.baseline = Some(spanned()),
            _ => {}
        }
        if let Err(hint) = annotation(&mut found, name, &text) {
            let message = match hint {
                UNKNOWN => "unknown annotation".to_owned(),
                NOT_BUILT => "is not built yet".to_owned(),
                _ => format!("`{text}` cannot be read"),
            };
            let key = format!("metadata.annotations.{key}");
            reader.problem(place(value.referenced), &key, message, hint);
        }
    }
    found
}

const UNKNOWN: &str = "the annotations are harness/gate, harness/confidence, harness/min-samples, harness/empty-as, harness/warn, harness/baseline, harness/signal and harness/unit";
const NOT_BUILT: &str = "leave it out: a judgement without it would be another one than asked for";

/// Takes one annotation; the error is a hint.
fn annotation(found: &mut Annotations, name: &str, text: &str) -> Result<(), &'static str> {
    match name {
        "gate" => {
            found.gate = match text {
                "required" => Gate::Required,
                "advisory" => Gate::Advisory,
                _ => return Err("`required` or `advisory`"),
            };
        }
        "confidence" => {
            found.confidence = number(text)
                .filter(|c| (0.5..1.0).contains(c))
                .ok_or("a number from 0.5 to less than 1, such as \"0.95\"")?;
        }
        "min-samples" => {
            let hint = "a whole number, at least 1, such as \"1000\"";
            found.min_samples = Some(text.parse().ok().filter(|n| *n > 0).ok_or(hint)?);
        }
        "empty-as" => {
            found.empty_as = Some(number(text).ok_or("a number, such as \"0\"")?);
        }
        "signal" => {
            found.signal = Some(match text {
                "latency" => Signal::Latency,
                "traffic" => Signal::Traffic,
                "errors" => Signal::Errors,
                "saturation" => Signal::Saturation,
                _ => return Err("`latency`, `traffic`, `errors` or `saturation`"),
            });
        }
        "unit" => found.unit = Some(text.to_owned()),
        // Read with each objective, see `criterion`.
        "warn" | "baseline" => {}
        "slice" => return Err(NOT_BUILT),
        _ => return Err(UNKNOWN),
    }
    Ok(())
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|n| n.is_finite())
}

/// Turns an SLO into its objectives.
fn objectives(reader: &mut Reader, slo: Document<Slo>) {
    let Document { metadata, spec, .. } = slo;
    let at = place(metadata.name.referenced);
    let name = metadata.name.value;
    if name.trim().is_empty() {
        reader.problem(
            at,
            "metadata.name",
            "is empty",
            "every SLO has a name of its own",
        );
    }
    let here = match at {
        Some((line, _)) => format!("{}:{line}", reader.file),
        None => reader.file.clone(),
    };
    if let Some(first) = reader.names.insert(name.clone(), here) {
        let message = format!("a second SLO named `{name}`; the first is at {first}");
        reader.problem(
            at,
            "metadata.name",
            message,
            "names are unique over all files of a run",
        );
        reader.names.insert(name.clone(), first);
    }
    let notes = annotations(reader, &metadata.annotations);
    budgeting(reader, &spec.budgeting_method);
    let Some((sli_file, sli)) = indicator(reader, spec.indicator, spec.indicator_ref, at) else {
        return;
    };
    if spec.objectives.value.is_empty() {
        reader.problem(
            place(spec.objectives.referenced),
            "spec.objectives",
            "is empty",
            "at least one objective, such as `- {displayName: 99 % good, target: 0.99}`",
        );
    }
    let slo_file = std::mem::replace(&mut reader.file, sli_file);
    let measured = measured(reader, &sli);
    reader.file = slo_file;
    let time_window = time_window(reader, spec.time_window.as_ref());
    let several = spec.objectives.value.len() > 1;
    for (index, target) in spec.objectives.value.iter().enumerate() {
        let key = format!("spec.objectives[{index}]");
        let Some(indicator) = with_target(reader, measured.as_ref(), target, at, &key) else {
            continue;
        };
        let warn = criterion(reader, "warn", notes.warn.as_ref(), |text| {
            criteria::warn(text, &indicator)
        });
        let baseline = criterion(reader, "baseline", notes.baseline.as_ref(), |text| {
            criteria::baseline(text, &indicator)
        });
        let full = if several {
            format!("{name}/{}", index + 1)
        } else {
            name.clone()
        };
        let display = [&target.display_name, &metadata.display_name]
            .into_iter()
            .flatten()
            .next()
            .cloned()
            .unwrap_or_else(|| full.clone());
        reader.objectives.push(Objective {
            signal: notes.signal.unwrap_or_else(|| inferred(&name, &indicator)),
            name: full,
            display_name: display,
            file: reader.file.clone(),
            at,
            gate: notes.gate,
            confidence: notes.confidence,
            min_samples: notes.min_samples,
            empty_as: notes.empty_as,
            unit: notes.unit.clone(),
            warn,
            baseline,
            service: spec.service.clone(),
            time_window: time_window.clone(),
            indicator,
        });
    }
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

fn budgeting(reader: &mut Reader, method: &Spanned<String>) {
    let message = match method.value.as_str() {
        "Occurrences" => return,
        known @ ("Timeslices" | "RatioTimeslices") => format!("`{known}` is not built yet"),
        other => format!("unknown method `{other}`"),
    };
    reader.problem(
        place(method.referenced),
        "spec.budgetingMethod",
        message,
        "use `Occurrences`",
    );
}

/// The indicator, written inside or referred to, with the file it stands in.
fn indicator(
    reader: &mut Reader,
    inline: Option<super::yaml::Indicator>,
    reference: Option<Spanned<String>>,
    at: At,
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
                "spec.indicatorRef",
                message,
                "give the file of the SLI too, or write the indicator inside the SLO",
            );
            None
        }
        (Some(_), Some(reference)) => {
            reader.problem(
                place(reference.referenced),
                "spec.indicatorRef",
                "stands beside an inline indicator",
                "leave out one of the two",
            );
            None
        }
        (None, None) => {
            reader.problem(
                at,
                "spec.indicator",
                "is missing",
                "say what is measured: `indicator: {metadata: …, spec: {ratioMetric: …}}`",
            );
            None
        }
    }
}

/// An indicator before its target is known.
enum Measured {
    Ratio {
        part_is: Part,
        part: Metric,
        total: Metric,
        counter: bool,
    },
    Threshold(Metric),
}

fn measured(reader: &mut Reader, sli: &Spanned<Sli>) -> Option<Measured> {
    let at = place(sli.referenced);
    match (&sli.value.ratio_metric, &sli.value.threshold_metric) {
        (Some(ratio), None) => measured_ratio(reader, ratio, at),
        (None, Some(threshold)) => {
            let key = "thresholdMetric.metricSource";
            metric(reader, &threshold.metric_source, Place::Threshold, key).map(Measured::Threshold)
        }
        _ => {
            reader.problem(
                at,
                "indicator.spec",
                "needs exactly one of `ratioMetric` and `thresholdMetric`",
                "",
            );
            None
        }
    }
}

fn measured_ratio(reader: &mut Reader, ratio: &RatioMetric, at: At) -> Option<Measured> {
    if ratio.raw.is_some() || ratio.raw_type.is_some() {
        reader.problem(
            at,
            "ratioMetric.raw",
            "is not built yet",
            "use `good` or `bad` with `total`: counts say how sure a ratio is, a raw ratio does not",
        );
        return None;
    }
    let (part_is, part) = match (&ratio.good, &ratio.bad) {
        (Some(good), None) => (Part::Good, good),
        (None, Some(bad)) => (Part::Bad, bad),
        _ => {
            reader.problem(
                at,
                "ratioMetric",
                "needs exactly one of `good` and `bad`",
                "",
            );
            return None;
        }
    };
    let Some(total) = &ratio.total else {
        reader.problem(
            at,
            "ratioMetric.total",
            "is missing",
            "the count of all events",
        );
        return None;
    };
    let Some(counter) = ratio.counter else {
        reader.problem(
            at,
            "ratioMetric.counter",
            "is missing",
            "`counter: true` for counters that only grow, `counter: false` for counts over the window",
        );
        return None;
    };
    let (place, key) = match part_is {
        Part::Good => (Place::Good, "ratioMetric.good.metricSource"),
        Part::Bad => (Place::Bad, "ratioMetric.bad.metricSource"),
    };
    let part = metric(reader, &part.metric_source, place, key);
    let key = "ratioMetric.total.metricSource";
    let total = metric(reader, &total.metric_source, Place::Total, key);
    let (part, total) = (part?, total?);
    if let Err((message, hint)) = matching(&part, &total, counter) {
        reader.problem(at, "ratioMetric", message, hint);
        return None;
    }
    Some(Measured::Ratio {
        part_is,
        part,
        total,
        counter,
    })
}

/// Whether the two sides of a ratio count the same kind of event the same way.
fn matching(
    part: &Metric,
    total: &Metric,
    counter: bool,
) -> Result<(), (&'static str, &'static str)> {
    match (part, total) {
        (Metric::Client(part), Metric::Client(total)) => {
            if part.request != total.request {
                return Err((
                    "the two sides count requests of different names",
                    "write the same `request` in both",
                ));
            }
            let accuracy = |m: &ClientMetric| m.figure == ClientFigure::Accuracy;
            if accuracy(part) != accuracy(total) {
                return Err((
                    "`metric: accuracy` stands on one side only",
                    "write it on both: its total is the answers that have a truth",
                ));
            }
            Ok(())
        }
        (Metric::Prometheus(_), Metric::Prometheus(_)) => Ok(()),
        (Metric::Loki(a), Metric::Loki(b)) => {
            if counter {
                return Err((
                    "log lines are no counter",
                    "write `counter: false`; each side is a count over the window",
                ));
            }
            if !a.contains("$window") || !b.contains("$window") {
                return Err((
                    "a Loki side does not count over the window",
                    "use the range [$window]: sum(count_over_time({…} [$window]))",
                ));
            }
            Ok(())
        }
        (Metric::Tempo(_), Metric::Tempo(_)) if counter => Err((
            "spans are no counter",
            "write `counter: false`; each side is a count over the window",
        )),
        (Metric::Tempo(_), Metric::Tempo(_)) => Ok(()),
        _ => Err((
            "the two sides come from different sources",
            "a share of one source's count in another's proves nothing; take both from one",
        )),
    }
}

fn metric(
    reader: &mut Reader,
    source: &Spanned<MetricSource>,
    side: Place,
    key: &str,
) -> Option<Metric> {
    const TYPES: &str = "`type` is one of Prometheus, Loki, Tempo, LoadClient";
    let at = place(source.referenced);
    let source = &source.value;
    if source.metric_source_ref.is_some() {
        let key = format!("{key}.metricSourceRef");
        reader.problem(
            at,
            &key,
            "is not built yet",
            "write `type` and `spec` in its place",
        );
        return None;
    }
    let Some(kind) = &source.kind else {
        reader.problem(at, key, "has no `type`", TYPES);
        return None;
    };
    let Some(spec) = &source.spec else {
        reader.problem(
            at,
            key,
            "has no `spec`",
            "`spec: {query: …}`, or the LoadClient keys",
        );
        return None;
    };
    let make = match kind.value.as_str() {
        "Prometheus" => Metric::Prometheus,
        "Loki" => Metric::Loki,
        "Tempo" => Metric::Tempo,
        "LoadClient" => {
            return match client::metric(&spec.value, side) {
                Ok(metric) => Some(Metric::Client(metric)),
                Err(wrong) => {
                    let dot = if wrong.key.is_empty() { "" } else { "." };
                    let key = format!("{key}.spec{dot}{}", wrong.key);
                    reader.problem(place(spec.referenced), &key, wrong.message, &wrong.hint);
                    None
                }
            };
        }
        other => {
            let message = format!("unknown source `{other}`");
            let key = format!("{key}.type");
            reader.problem(place(kind.referenced), &key, message, TYPES);
            return None;
        }
    };
    let at = place(spec.referenced);
    let key = format!("{key}.spec");
    for unknown in spec.value.keys().filter(|k| *k != "query") {
        let message = format!("unknown key `{unknown}`");
        reader.problem(at, &key, message, "the only key is `query`");
    }
    match spec.value.get("query").and_then(Value::as_str) {
        Some(query) if !query.trim().is_empty() => Some(make(query.trim().to_owned())),
        _ => {
            reader.problem(
                at,
                &key,
                "has no `query`",
                "`query: '…'`, a text that is not empty",
            );
            None
        }
    }
}

/// Joins what is measured with one entry of `spec.objectives`.
fn with_target(
    reader: &mut Reader,
    measured: Option<&Measured>,
    target: &Target,
    at: At,
    key: &str,
) -> Option<Indicator> {
    let not_built = [
        ("timeSliceTarget", &target.time_slice_target),
        ("timeSliceWindow", &target.time_slice_window),
        ("indicator", &target.indicator),
        ("indicatorRef", &target.indicator_ref),
        ("compositeWeight", &target.composite_weight),
    ];
    for (name, value) in not_built {
        if let Some(value) = value {
            let key = format!("{key}.{name}");
            let hint = "leave it out; write one SLO for each indicator";
            reader.problem(place(value.referenced), &key, "is not built yet", hint);
        }
    }
    let share = share(reader, target, at, key);
    match measured? {
        Measured::Ratio {
            part_is,
            part,
            total,
            counter,
        } => {
            if let Some(op) = &target.op {
                let hint =
                    "a ratioMetric has only `target`; `op` and `value` go with a thresholdMetric";
                reader.problem(
                    place(op.referenced),
                    &format!("{key}.op"),
                    "has no meaning here",
                    hint,
                );
                return None;
            }
            Some(Indicator::Ratio {
                part_is: *part_is,
                part: part.clone(),
                total: total.clone(),
                counter: *counter,
                target: share?,
            })
        }
        Measured::Threshold(metric) => threshold(reader, metric, target, at, key),
    }
}

/// `target` or `targetPercent`, in `[0, 1)`. A threshold's is checked and not used.
fn share(reader: &mut Reader, target: &Target, at: At, key: &str) -> Option<f64> {
    const HINT: &str = "a share of at least 0 and less than 1, such as 0.99; no number of requests could prove 1, and OpenSLO forbids it";
    let (share, at, name) = match (&target.target, &target.target_percent) {
        (Some(share), None) => (share.value, place(share.referenced), "target"),
        (None, Some(percent)) => (
            percent.value / 100.0,
            place(percent.referenced),
            "targetPercent",
        ),
        (None, None) => {
            reader.problem(at, &format!("{key}.target"), "is missing", HINT);
            return None;
        }
        (Some(_), Some(percent)) => {
            let at = place(percent.referenced);
            let key = format!("{key}.targetPercent");
            reader.problem(
                at,
                &key,
                "stands beside `target`",
                "leave out one of the two",
            );
            return None;
        }
    };
    if (0.0..1.0).contains(&share) {
        return Some(share);
    }
    let message = format!("{share} is out of range");
    reader.problem(at, &format!("{key}.{name}"), message, HINT);
    None
}

fn threshold(
    reader: &mut Reader,
    metric: &Metric,
    target: &Target,
    at: At,
    key: &str,
) -> Option<Indicator> {
    let hint = "a thresholdMetric needs `op` (lte, gte, lt, gt) and `value`";
    let (Some(op), Some(value)) = (&target.op, &target.value) else {
        reader.problem(at, key, "has no `op` or no `value`", hint);
        return None;
    };
    let op_at = place(op.referenced);
    let op = match op.value.as_str() {
        "lte" => Op::Lte,
        "gte" => Op::Gte,
        "lt" => Op::Lt,
        "gt" => Op::Gt,
        other => {
            let message = format!("unknown operator `{other}`");
            reader.problem(op_at, &format!("{key}.op"), message, hint);
            return None;
        }
    };
    if !value.value.is_finite() {
        let key = format!("{key}.value");
        reader.problem(place(value.referenced), &key, "is not a finite number", "");
        return None;
    }
    let wrong_way = match metric {
        Metric::Client(ClientMetric {
            figure: ClientFigure::Quantile { .. },
            ..
        }) if matches!(op, Op::Gte | Op::Gt) => Some("a quantile of a time needs `lte` or `lt`"),
        Metric::Client(ClientMetric {
            figure: ClientFigure::Accuracy,
            ..
        }) if op != Op::Gte || !(0.0..1.0).contains(&value.value) => {
            Some("accuracy needs `gte` and a value of at least 0 and less than 1")
        }
        _ => None,
    };
    if let Some(hint) = wrong_way {
        let message = format!("`{} {}` cannot be decided here", op.text(), value.value);
        reader.problem(op_at, &format!("{key}.op"), message, hint);
        return None;
    }
    Some(Indicator::Threshold {
        metric: metric.clone(),
        op,
        value: value.value,
    })
}

/// The golden signal where no annotation names it. The client's figures say it themselves; for the
/// others the first group decides whose words occur in the SLO's name or its queries.
fn inferred(name: &str, indicator: &Indicator) -> Signal {
    let metric = match indicator {
        Indicator::Ratio { part, .. } => part,
        Indicator::Threshold { metric, .. } => metric,
    };
    if let Metric::Client(client) = metric {
        return match client.figure {
            ClientFigure::Quantile { .. } => Signal::Latency,
            ClientFigure::Count {
                limit: Some(Limit { .. }),
                ..
            } => Signal::Latency,
            ClientFigure::Rate {
                outcome: Wanted::Failed,
            }
            | ClientFigure::Count { .. }
            | ClientFigure::Accuracy => Signal::Errors,
            ClientFigure::Rate { .. } => Signal::Traffic,
        };
    }
    let text = format!("{name} {}", metric.query().unwrap_or_default()).to_lowercase();
    let groups: [(Signal, &[&str]); 3] = [
        (
            Signal::Errors,
            &["error", "status_code", "\"5", "fault", "fail"],
        ),
        (
            Signal::Saturation,
            &[
                "saturation",
                "queue",
                "capacity",
                "cpu",
                "memory",
                "active_requests",
                "in_flight",
            ],
        ),
        (
            Signal::Latency,
            &["latency", "duration", "seconds_bucket", "le="],
        ),
    ];
    groups
        .into_iter()
        .find(|(_, words)| words.iter().any(|word| text.contains(word)))
        .map_or(Signal::Traffic, |(signal, _)| signal)
}
