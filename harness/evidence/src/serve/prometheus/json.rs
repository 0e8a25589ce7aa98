//! Answers as Prometheus writes them. Written by hand because a value is a string in Go's notation
//! and a time a number with at most three decimals, neither of which a JSON library would produce.

use crate::promql::{Answer, QueryValue, civil, format_value};
use crate::receive::scrape::TargetStatus;
use crate::store::metrics::Metadata;
use crate::store::metrics::{Labels, SeriesData};
use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

/// A JSON string.
pub(super) fn text(s: &str) -> String {
    serde_json::Value::from(s).to_string()
}

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

pub(super) fn labels(l: &Labels) -> String {
    let pairs: Vec<String> = l
        .iter()
        .map(|(n, v)| format!("{}:{}", text(n), text(v)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

/// Unix seconds with milliseconds when there are any.
fn time(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let (s, f) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
    if f == 0 {
        format!("{sign}{s}")
    } else {
        format!("{sign}{s}.{f:03}")
    }
}

fn point(out: &mut String, t_ms: i64, v: f64) {
    let _ = write!(out, "[{},\"{}\"]", time(t_ms), format_value(v));
}

/// A whole response body; `t_ms` is the time of the instant query.
pub(super) fn answer(a: &Answer, t_ms: i64) -> String {
    let mut out = String::from("{\"status\":\"success\",\"data\":{\"resultType\":");
    match &a.value {
        QueryValue::Scalar(v) => {
            out.push_str("\"scalar\",\"result\":");
            point(&mut out, t_ms, *v);
        }
        QueryValue::Text(s) => {
            let _ = write!(out, "\"string\",\"result\":[{},{}]", time(t_ms), text(s));
        }
        QueryValue::Vector(v) => {
            out.push_str("\"vector\",\"result\":[");
            for (i, s) in v.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                let _ = write!(out, "{comma}{{\"metric\":{},\"value\":", labels(&s.labels));
                point(&mut out, t_ms, s.value);
                out.push('}');
            }
            out.push(']');
        }
        QueryValue::Matrix(m) => {
            out.push_str("\"matrix\",\"result\":[");
            for (i, s) in m.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                series(&mut out, s);
            }
            out.push(']');
        }
    }
    out.push('}');
    for (name, notes) in [("warnings", &a.warnings), ("infos", &a.infos)] {
        if !notes.is_empty() {
            let _ = write!(out, ",\"{name}\":{}", list(notes.iter().map(|n| text(n))));
        }
    }
    out.push('}');
    out
}

fn series(out: &mut String, s: &SeriesData) {
    let _ = write!(out, "{{\"metric\":{},\"values\":[", labels(&s.labels));
    for (i, (&t, &v)) in s.times.iter().zip(&s.values).enumerate() {
        if i > 0 {
            out.push(',');
        }
        point(out, t, v);
    }
    out.push_str("]}");
}

/// The language's version first: clients choose their queries by it.
pub(super) fn build_info() -> String {
    format!(
        "{{\"version\":\"3.0.0+harness-evidence.{}\",\"revision\":\"\",\"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}}",
        env!("CARGO_PKG_VERSION")
    )
}

pub(super) fn metadata<'a>(all: impl Iterator<Item = (&'a String, &'a Metadata)>) -> String {
    let one = |(name, m): (&String, &Metadata)| {
        format!(
            "{}:[{{\"type\":{},\"help\":{},\"unit\":{}}}]",
            text(name),
            text(&m.kind),
            text(&m.help),
            text(&m.unit)
        )
    };
    format!("{{{}}}", all.map(one).collect::<Vec<_>>().join(","))
}

pub(super) fn targets(all: &[TargetStatus]) -> String {
    let active = list(all.iter().map(target));
    format!("{{\"activeTargets\":{active},\"droppedTargets\":[],\"droppedTargetCounts\":{{}}}}")
}

fn target(t: &TargetStatus) -> String {
    let health = match t.up {
        None => "unknown",
        Some(true) => "up",
        Some(false) => "down",
    };
    let last = t
        .last_scrape
        .map_or("0001-01-01T00:00:00Z".to_string(), |at| {
            let ms = at.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
            civil::to_rfc3339(i64::try_from(ms).unwrap_or(i64::MAX))
        });
    let url = text(t.url.as_str());
    let (every, timeout) = (duration(t.every), duration(t.timeout));
    let port = t.url.port_or_known_default().unwrap_or(80);
    let address = format!("{}:{port}", t.url.host_str().unwrap_or(""));
    format!(
        "{{\"discoveredLabels\":{{\"__address__\":{},\"__metrics_path__\":{},\"__scheme__\":{},\"__scrape_interval__\":\"{every}\",\"__scrape_timeout__\":\"{timeout}\",\"job\":{job}}},\"labels\":{},\"scrapePool\":{job},\"scrapeUrl\":{url},\"globalUrl\":{url},\"lastError\":{},\"lastScrape\":\"{last}\",\"lastScrapeDuration\":{},\"health\":\"{health}\",\"scrapeInterval\":\"{every}\",\"scrapeTimeout\":\"{timeout}\"}}",
        text(&address),
        text(t.url.path()),
        text(t.url.scheme()),
        labels(&t.labels),
        text(&t.last_error),
        t.last_duration.as_secs_f64(),
        job = text(&t.job),
    )
}

/// As Prometheus prints a duration: the largest whole units, `1m30s`, `500ms`.
fn duration(d: Duration) -> String {
    let mut ms = d.as_millis();
    let mut out = String::new();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ] {
        if ms >= size {
            let _ = write!(out, "{}{unit}", ms / size);
            ms %= size;
        }
    }
    if out.is_empty() { "0s".into() } else { out }
}
