//! The indicator: what is measured, and from which source.

use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use super::client;
use super::read::{At, Reader, place};
use super::yaml::{MetricHolder, MetricSource, RatioMetric, Sli};
use super::{ClientFigure, ClientMetric, Metric, Part, Place};
use crate::objective::client::Place as Side;
use crate::objective::kinds;

/// A metric and where it is written.
#[derive(Clone)]
pub(super) struct Placed {
    pub(super) metric: Metric,
    pub(super) place: Option<Place>,
}

/// An indicator before its target is known.
#[derive(Clone)]
pub(super) enum Measured {
    Ratio {
        part_is: Part,
        part: Placed,
        total: Placed,
        counter: bool,
    },
    /// A share that was computed elsewhere, of good or of bad events.
    Raw(Part, Placed),
    Threshold(Placed),
}

impl Measured {
    pub(super) fn is_threshold(&self) -> bool {
        matches!(self, Self::Threshold(_))
    }

    /// Where the value (or the part) and the total are written.
    pub(super) fn places(&self) -> (Option<Place>, Option<Place>) {
        match self {
            Self::Ratio { part, total, .. } => (part.place.clone(), total.place.clone()),
            Self::Raw(_, one) | Self::Threshold(one) => (one.place.clone(), None),
        }
    }
}

pub(super) fn measured(reader: &mut Reader, sli: &Spanned<Sli>) -> Option<Measured> {
    let at = place(sli.referenced);
    kinds::description(reader, sli.value.description.as_ref());
    match (&sli.value.ratio_metric, &sli.value.threshold_metric) {
        (Some(ratio), None) => {
            let at = place(ratio.referenced).or(at);
            if ratio.value.raw.is_some() || ratio.value.raw_type.is_some() {
                raw(reader, &ratio.value, at)
            } else {
                measured_ratio(reader, &ratio.value, at)
            }
        }
        (None, Some(threshold)) => {
            let key = "thresholdMetric.metricSource";
            metric(reader, &threshold.metric_source, Side::Threshold, key).map(Measured::Threshold)
        }
        _ => {
            reader.problem(
                at,
                "indicator.spec",
                "needs exactly one of `ratioMetric` and `thresholdMetric`",
                "`ratioMetric: {counter: …, good: …, total: …}` or `thresholdMetric: {metricSource: …}`",
            );
            None
        }
    }
}

/// A share computed elsewhere.
fn raw(reader: &mut Reader, ratio: &RatioMetric, at: At) -> Option<Measured> {
    let (Some(holder), Some(raw_type)) = (&ratio.raw, &ratio.raw_type) else {
        let hint = "`rawType: success` (good/total) or `rawType: failure` (bad/total), and `raw: {metricSource: …}`";
        reader.problem(at, "ratioMetric", "needs both `raw` and `rawType`", hint);
        return None;
    };
    if ratio.good.is_some() || ratio.bad.is_some() || ratio.total.is_some() {
        let hint = "write either `raw` or `good` (or `bad`) with `total`";
        reader.problem(
            at,
            "ratioMetric.raw",
            "stands beside good, bad or total",
            hint,
        );
        return None;
    }
    let part = match raw_type.value.as_str() {
        "success" => Part::Good,
        "failure" => Part::Bad,
        other => {
            let message = format!("unknown type `{other}`");
            let at = place(raw_type.referenced);
            reader.problem(at, "ratioMetric.rawType", message, "`success` or `failure`");
            return None;
        }
    };
    let key = "ratioMetric.raw.metricSource";
    let one = metric(reader, &holder.metric_source, Side::Threshold, key)?;
    if matches!(one.metric, Metric::Client(_)) {
        let hint = "use `good` or `bad` with `total`: the generator has the counts";
        let at = place(holder.metric_source.referenced);
        reader.problem(at, key, "the generator computes no ratio beforehand", hint);
        return None;
    }
    Some(Measured::Raw(part, one))
}

fn measured_ratio(reader: &mut Reader, ratio: &RatioMetric, at: At) -> Option<Measured> {
    let (part_is, part) = match (&ratio.good, &ratio.bad) {
        (Some(good), None) => (Part::Good, good),
        (None, Some(bad)) => (Part::Bad, bad),
        _ => {
            let hint = "one of the two as a count; harness takes the other from `total`";
            reader.problem(
                at,
                "ratioMetric",
                "needs exactly one of `good` and `bad`",
                hint,
            );
            return None;
        }
    };
    let Some(total) = &ratio.total else {
        let hint = "the count of all events: `total: {metricSource: …}`";
        reader.problem(at, "ratioMetric.total", "is missing", hint);
        return None;
    };
    let (side, key) = match part_is {
        Part::Good => (Side::Good, "ratioMetric.good.metricSource"),
        Part::Bad => (Side::Bad, "ratioMetric.bad.metricSource"),
    };
    let part = side_of(reader, part, side, key);
    let key = "ratioMetric.total.metricSource";
    let total = side_of(reader, total, Side::Total, key);
    let Some(counter) = ratio.counter else {
        let hint = "`counter: true` for counters that only grow, `counter: false` for counts over the window";
        reader.problem(at, "ratioMetric.counter", "is missing", hint);
        return None;
    };
    let (part, total) = (part?, total?);
    if let Err((message, hint)) = matching(&part.metric, &total.metric, counter) {
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

fn side_of(reader: &mut Reader, holder: &MetricHolder, side: Side, key: &str) -> Option<Placed> {
    metric(reader, &holder.metric_source, side, key)
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

const TYPES: &str = "`type` is one of Prometheus, Loki, Tempo, LoadClient";

/// The type of a source, written or by its data source.
fn kind(reader: &mut Reader, source: &Spanned<MetricSource>, key: &str) -> Option<Spanned<String>> {
    let written = source.value.kind.clone();
    let Some(reference) = &source.value.metric_source_ref else {
        if written.is_none() {
            let hint = "`type` is one of Prometheus, Loki, Tempo, LoadClient; it may be left out with `metricSourceRef`";
            reader.problem(place(source.referenced), key, "has no `type`", hint);
        }
        return written;
    };
    let at = place(reference.referenced);
    let key = format!("{key}.metricSourceRef");
    let Some(found) = reader.sources.get(&reference.value).cloned() else {
        let message = format!("no DataSource named `{}` in these files", reference.value);
        let hint = "give the file of the DataSource too, or write `type` in its place";
        reader.problem(at, &key, message, hint);
        return None;
    };
    match written {
        Some(written) if written.value != found.value => {
            let message = format!(
                "the DataSource `{}` is of type {}, and `type` says {}",
                reference.value, found.value, written.value
            );
            reader.problem(
                at,
                &key,
                message,
                "leave out `type`: it follows from the DataSource",
            );
            None
        }
        // The place where the type would stand, if it is the DataSource's.
        _ => Some(Spanned::new(
            found.value,
            reference.referenced,
            reference.defined,
        )),
    }
}

fn metric(
    reader: &mut Reader,
    source: &Spanned<MetricSource>,
    side: Side,
    key: &str,
) -> Option<Placed> {
    let kind = kind(reader, source, key)?;
    let make = match kind.value.as_str() {
        "Prometheus" => Some(Metric::Prometheus as fn(String) -> Metric),
        "Loki" => Some(Metric::Loki as fn(String) -> Metric),
        "Tempo" => Some(Metric::Tempo as fn(String) -> Metric),
        "LoadClient" => None,
        other => {
            let message = format!("unknown source `{other}`");
            let key = format!("{key}.type");
            reader.problem(place(kind.referenced), &key, message, TYPES);
            return None;
        }
    };
    let Some(spec) = &source.value.spec else {
        let hint = "`spec: {query: …}`, or the LoadClient keys";
        reader.problem(place(source.referenced), key, "has no `spec`", hint);
        return None;
    };
    let at = place(spec.referenced);
    let here = |at: At, file: &str| {
        at.map(|(line, column)| Place {
            file: file.to_owned(),
            line,
            column,
        })
    };
    let Some(make) = make else {
        let plain: Map<String, Value> = spec
            .value
            .iter()
            .map(|(name, value)| (name.clone(), value.value.clone()))
            .collect();
        return match client::metric(&plain, side) {
            Ok(metric) => Some(Placed {
                metric: Metric::Client(metric),
                place: here(at, &reader.file),
            }),
            Err(wrong) => {
                let dot = if wrong.key.is_empty() { "" } else { "." };
                let at = spec
                    .value
                    .get(wrong.key)
                    .map_or(at, |v| place(v.referenced));
                let key = format!("{key}.spec{dot}{}", wrong.key);
                reader.problem(at, &key, wrong.message, &wrong.hint);
                None
            }
        };
    };
    let key = format!("{key}.spec");
    for (unknown, value) in spec.value.iter().filter(|(name, _)| *name != "query") {
        let message = format!("unknown key `{unknown}`");
        reader.problem(
            place(value.referenced),
            &key,
            message,
            "the only key is `query`",
        );
    }
    let query = spec.value.get("query");
    match query.and_then(|q| Some((q, q.value.as_str()?.trim()))) {
        Some((query, text)) if !text.is_empty() => Some(Placed {
            metric: make(text.to_owned()),
            place: here(place(query.referenced), &reader.file),
        }),
        _ => {
            let at = query.map_or(at, |q| place(q.referenced));
            let hint = "`query: '…'`, a text that is not empty";
            reader.problem(at, &key, "has no `query`", hint);
            None
        }
    }
}
