//! Names and values of OTLP in Prometheus' terms.

use base64::Engine as _;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

/// `http.server.request.duration` in `s` is `http_server_request_duration_seconds`; a counter ends
/// in `_total`, a gauge of unit `1` in `_ratio`.
pub(super) fn metric_name(name: &str, unit: &str, counter: bool, gauge: bool) -> String {
    let split = |s: &str| -> Vec<String> {
        s.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':'))
            .filter(|t| !t.is_empty())
            .map(String::from)
            .collect()
    };
    let mut tokens = split(name);
    let (main, per) = unit.split_once('/').map_or((unit, ""), |(m, p)| (m, p));
    let (main, per) = (main.trim(), per.trim());
    if !main.contains(['{', '}']) {
        for word in split(unit_name(main)) {
            if !tokens.contains(&word) {
                tokens.push(word);
            }
        }
    }
    if !per.is_empty() && !per.contains(['{', '}']) {
        let word = per_name(per).to_string();
        if !tokens.contains(&word) {
            tokens.push("per".into());
            tokens.extend(split(&word));
        }
    }
    if counter {
        tokens.retain(|t| t != "total");
        tokens.push("total".into());
    }
    if gauge && unit == "1" {
        tokens.retain(|t| t != "ratio");
        tokens.push("ratio".into());
    }
    let joined = tokens.join("_");
    if joined.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{joined}")
    } else {
        joined
    }
}

fn unit_name(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

fn per_name(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

/// Every character that a label name may not have becomes `_`.
pub(super) fn label_name(key: &str) -> String {
    let clean: String = key
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if clean.starts_with(|c: char| c.is_ascii_digit()) {
        format!("key_{clean}")
    } else if clean.starts_with('_') && !clean.starts_with("__") {
        format!("key{clean}")
    } else {
        clean
    }
}

/// An attribute's value as text; lists and maps as JSON.
pub(super) fn attribute_text(a: &KeyValue) -> String {
    match json(a.value.as_ref()) {
        serde_json::Value::String(s) => s,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn json(v: Option<&AnyValue>) -> serde_json::Value {
    match v.and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(s)) => s.clone().into(),
        Some(Value::BoolValue(b)) => (*b).into(),
        Some(Value::IntValue(i)) => (*i).into(),
        Some(Value::DoubleValue(d)) => (*d).into(),
        Some(Value::ArrayValue(a)) => a.values.iter().map(|v| json(Some(v))).collect(),
        Some(Value::KvlistValue(l)) => {
            let pairs = l
                .values
                .iter()
                .map(|p| (p.key.clone(), json(p.value.as_ref())));
            serde_json::Value::Object(pairs.collect())
        }
        Some(Value::BytesValue(b)) => base64::engine::general_purpose::STANDARD.encode(b).into(),
        _ => serde_json::Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_translation_rules() {
        for (name, unit, counter, gauge, want) in [
            (
                "http.server.request.duration",
                "s",
                false,
                false,
                "http_server_request_duration_seconds",
            ),
            ("queue.depth", "{request}", false, true, "queue_depth"),
            ("requests_total", "1", true, false, "requests_total"),
            ("cpu.utilization", "1", false, true, "cpu_utilization_ratio"),
            ("net.io", "By/s", false, true, "net_io_bytes_per_second"),
            ("io.bytes", "By", true, false, "io_bytes_total"),
            ("3d.views", "", false, true, "_3d_views"),
        ] {
            assert_eq!(metric_name(name, unit, counter, gauge), want, "{name}");
        }
        assert_eq!(label_name("http.route"), "http_route");
        assert_eq!(label_name("1st"), "key_1st");
        assert_eq!(label_name("_x"), "key_x");
    }
}
