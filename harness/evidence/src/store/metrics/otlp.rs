//! OTLP metrics, translated to Prometheus' names and labels
//! (<https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>).
//!
//! Cumulative sums, gauges, explicit histograms and summaries are stored. Delta temporality and
//! exponential histograms are refused by name: adding deltas up here would hide a lost one.

mod names;

use super::{AppendError, Labels, METRIC_NAME, MetricStore, stale_nan};
use crate::Ingested;
use crate::receive::exposition::open_metrics_float;
use names::{attribute_text, label_name, metric_name};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, DataPointFlags, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, SummaryDataPoint, metric::Data, number_data_point::Value,
};
use std::collections::BTreeMap;

/// One data point: its samples are stored all or its rejection is counted once.
type Point = Result<Vec<(Labels, i64, f64)>, String>;

impl MetricStore {
    /// Stores OTLP metrics; no query sees only part of a payload.
    pub fn ingest_otlp(&self, payload: Vec<ResourceMetrics>) -> Ingested {
        let mut points: Vec<Point> = Vec::new();
        for r in &payload {
            translate_resource(r, &mut points);
        }
        let mut out = Ingested::default();
        let all = points.len() as u64;
        let stored = self.batch(|inner| {
            for point in points {
                inner.stats.refused_invalid += u64::from(point.is_err());
                let stored = point.and_then(|samples| {
                    let results = samples.iter().map(|(l, t, v)| inner.append(l, *t, *v));
                    // Every sample is tried: a histogram with one contradicted bucket keeps the
                    // others, as it would when scraped.
                    let errors: Vec<AppendError> = results.filter_map(Result::err).collect();
                    errors.first().map_or(Ok(()), |e| Err(e.to_string()))
                });
                match stored {
                    Ok(()) => out.accepted += 1,
                    Err(why) => {
                        out.rejected += 1;
                        if out.message.is_empty() {
                            out.message = why;
                        }
                    }
                }
            }
        });
        if let Err(why) = stored {
            self.write().stats.not_recorded += all;
            out = Ingested {
                accepted: 0,
                rejected: all,
                message: why,
                out_of_room: true,
            };
        }
        out
    }
}

fn translate_resource(r: &ResourceMetrics, points: &mut Vec<Point>) {
    let attributes = r.resource.as_ref().map_or(&[][..], |r| &r.attributes);
    let find = |key: &str| {
        let found = attributes.iter().find(|a| a.key == key);
        found.map(attribute_text).filter(|v| !v.is_empty())
    };
    let mut identity: BTreeMap<String, String> = BTreeMap::new();
    if let Some(name) = find("service.name") {
        let job = find("service.namespace").map_or(name.clone(), |ns| format!("{ns}/{name}"));
        identity.insert("job".into(), job);
    }
    if let Some(instance) = find("service.instance.id") {
        identity.insert("instance".into(), instance);
    }
    let before = points.len();
    for metric in r.scope_metrics.iter().flat_map(|s| &s.metrics) {
        translate(metric, &identity, points);
    }
    let newest = points[before..]
        .iter()
        .flatten()
        .flatten()
        .map(|(_, t, _)| *t)
        .max();
    if let (Some(t), false) = (newest, identity.is_empty()) {
        let own = ["service.name", "service.namespace", "service.instance.id"];
        let rest = attributes.iter().filter(|a| !own.contains(&a.key.as_str()));
        let info = labels(&identity, "target_info", rest, None);
        // It belongs to no data point of the payload, so it travels with the last one.
        if info.as_ref().is_ok_and(|l| l.len() > identity.len() + 1)
            && let (Ok(info), Some(Ok(last))) = (info, points.last_mut())
        {
            last.push((info, t, 1.0));
        }
    }
}

fn translate(metric: &Metric, identity: &BTreeMap<String, String>, points: &mut Vec<Point>) {
    let refuse = |n: usize, what: &str| {
        let why = format!("metric {:?}: {what} is not supported", metric.name);
        std::iter::repeat_n(Err(why), n)
    };
    let cumulative = AggregationTemporality::Cumulative as i32;
    match &metric.data {
        None => {}
        Some(Data::Gauge(g)) => {
            let name = metric_name(&metric.name, &metric.unit, false, true);
            points.extend(g.data_points.iter().map(|p| number(p, &name, identity)));
        }
        Some(Data::Sum(s)) if s.aggregation_temporality == cumulative => {
            let name = metric_name(&metric.name, &metric.unit, s.is_monotonic, false);
            points.extend(s.data_points.iter().map(|p| number(p, &name, identity)));
        }
        Some(Data::Sum(s)) => {
            points.extend(refuse(s.data_points.len(), "a sum that is not cumulative"));
        }
        Some(Data::Histogram(h)) if h.aggregation_temporality == cumulative => {
            let name = metric_name(&metric.name, &metric.unit, false, false);
            points.extend(h.data_points.iter().map(|p| histogram(p, &name, identity)));
        }
        Some(Data::Histogram(h)) => {
            points.extend(refuse(
                h.data_points.len(),
                "a histogram that is not cumulative",
            ));
        }
        Some(Data::ExponentialHistogram(h)) => {
            points.extend(refuse(h.data_points.len(), "an exponential histogram"));
        }
        Some(Data::Summary(s)) => {
            let name = metric_name(&metric.name, &metric.unit, false, false);
            points.extend(s.data_points.iter().map(|p| summary(p, &name, identity)));
        }
    }
}

/// The labels of one series: attributes, identity, name and perhaps `le` or `quantile`.
fn labels<'a>(
    identity: &BTreeMap<String, String>,
    name: &str,
    attributes: impl IntoIterator<Item = &'a KeyValue>,
    extra: Option<(&str, String)>,
) -> Result<Labels, String> {
    let mut sorted: Vec<&KeyValue> = attributes.into_iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for a in sorted {
        let text = attribute_text(a);
        // Keys that fall together after translation share a label.
        all.entry(label_name(&a.key))
            .and_modify(|v| *v = format!("{v};{text}"))
            .or_insert(text);
    }
    all.extend(identity.iter().map(|(k, v)| (k.clone(), v.clone())));
    all.extend(extra.map(|(k, v)| (k.to_string(), v)));
    all.insert(METRIC_NAME.into(), name.into());
    Labels::new(all).map_err(|e| format!("metric {name:?}: {e}"))
}

fn time(nanos: u64, name: &str) -> Result<i64, String> {
    if nanos == 0 {
        return Err(format!("metric {name:?}: a data point has no time"));
    }
    i64::try_from(nanos / 1_000_000).map_err(|e| format!("metric {name:?}: {e}"))
}

/// Whether the point says that there is no value.
fn absent(flags: u32) -> bool {
    flags & DataPointFlags::NoRecordedValueMask as u32 != 0
}

fn number(p: &NumberDataPoint, name: &str, identity: &BTreeMap<String, String>) -> Point {
    let value = match (absent(p.flags), p.value) {
        (true, _) => stale_nan(),
        (false, Some(Value::AsDouble(v))) => v,
        (false, Some(Value::AsInt(v))) => v as f64,
        (false, None) => return Err(format!("metric {name:?}: a data point has no value")),
    };
    let labels = labels(identity, name, &p.attributes, None)?;
    Ok(vec![(labels, time(p.time_unix_nano, name)?, value)])
}

fn histogram(p: &HistogramDataPoint, name: &str, identity: &BTreeMap<String, String>) -> Point {
    let t = time(p.time_unix_nano, name)?;
    if p.bucket_counts.len() != p.explicit_bounds.len() + 1 && !p.bucket_counts.is_empty() {
        return Err(format!(
            "metric {name:?}: {} bounds need {} bucket counts, got {}",
            p.explicit_bounds.len(),
            p.explicit_bounds.len() + 1,
            p.bucket_counts.len()
        ));
    }
    let gone = absent(p.flags);
    let value = |v: f64| if gone { stale_nan() } else { v };
    let series =
        |suffix: &str, extra| labels(identity, &format!("{name}_{suffix}"), &p.attributes, extra);
    let mut out = Vec::with_capacity(p.bucket_counts.len() + 3);
    let mut below = 0_u64;
    for (bound, count) in p.explicit_bounds.iter().zip(&p.bucket_counts) {
        below = below.saturating_add(*count);
        // Written as a scrape would normalise it, so that both roads lead to one series.
        let le = series("bucket", Some(("le", open_metrics_float(*bound))))?;
        out.push((le, t, value(below as f64)));
    }
    out.push((
        series("bucket", Some(("le", "+Inf".into())))?,
        t,
        value(p.count as f64),
    ));
    out.push((series("count", None)?, t, value(p.count as f64)));
    if let Some(sum) = p.sum {
        out.push((series("sum", None)?, t, value(sum)));
    }
    Ok(out)
}

fn summary(p: &SummaryDataPoint, name: &str, identity: &BTreeMap<String, String>) -> Point {
    let t = time(p.time_unix_nano, name)?;
    let gone = absent(p.flags);
    let value = |v: f64| if gone { stale_nan() } else { v };
    let mut out = Vec::with_capacity(p.quantile_values.len() + 2);
    for q in &p.quantile_values {
        let extra = Some(("quantile", open_metrics_float(q.quantile)));
        out.push((
            labels(identity, name, &p.attributes, extra)?,
            t,
            value(q.value),
        ));
    }
    for (suffix, v) in [("count", p.count as f64), ("sum", p.sum)] {
        let series = labels(identity, &format!("{name}_{suffix}"), &p.attributes, None)?;
        out.push((series, t, value(v)));
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
