//! The JSON Schema of OpenSLO v1 documents as harness reads them, for editors.
//!
//! Written out by hand: most of it is the standard's grammar, and its worth is in the descriptions, which
//! an editor shows where they are needed. It knows shapes; what depends on other documents (references,
//! unique names, `warn` against the target) it does not.

use serde_json::{Value, json};

/// The JSON Schema of one OpenSLO v1 document; a file holds several of them.
#[must_use]
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "OpenSLO v1 as harness reads it",
        "description": "OpenSLO v1, unchanged, with annotations `harness/*` and the metric sources Prometheus, Loki, Tempo and LoadClient.",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": "openslo/v1"},
            "kind": {"enum": ["SLO", "SLI", "DataSource", "Service", "AlertPolicy", "AlertCondition", "AlertNotificationTarget"]},
            "metadata": {"$ref": "#/$defs/metadata"},
            "spec": {"type": "object"}
        },
        "additionalProperties": false,
        "allOf": [
            of_kind("SLO", "slo"),
            of_kind("SLI", "sli"),
            of_kind("DataSource", "dataSource"),
            of_kind("Service", "service"),
            of_kind("AlertPolicy", "alertPolicy"),
            of_kind("AlertCondition", "alertCondition"),
            of_kind("AlertNotificationTarget", "alertNotificationTarget")
        ],
        "$defs": definitions(),
    })
}

fn of_kind(kind: &str, definition: &str) -> Value {
    json!({
        "if": {"properties": {"kind": {"const": kind}}},
        "then": {"properties": {"spec": {"$ref": format!("#/$defs/{definition}")}}}
    })
}

fn definitions() -> Value {
    let mut all = json!({
        "metadata": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "minLength": 1, "description": "Unique among objects of its kind over all files of a run."},
                "displayName": {"type": "string"},
                "labels": {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}},
                "annotations": {"$ref": "#/$defs/annotations"}
            },
            "additionalProperties": false
        },
        "annotations": annotations(),
        "description": {"type": "string", "maxLength": 1050},
        "duration": {"type": "string", "pattern": "^[0-9]+[mhdwMQY]$", "description": "A whole number and m, h, d, w, M, Q or Y. OpenSLO knows no seconds."},
        "service": {"type": "object", "properties": {"description": {"$ref": "#/$defs/description"}}, "additionalProperties": false},
        "dataSource": {
            "type": "object",
            "required": ["type"],
            "properties": {
                "description": {"$ref": "#/$defs/description"},
                "type": {"type": "string", "examples": ["Prometheus", "Loki", "Tempo", "LoadClient"]},
                "connectionDetails": {"description": "Not used: addresses and credentials come from the scenario. Leave out secrets."}
            },
            "additionalProperties": false
        },
        "sli": {
            "type": "object",
            "properties": {
                "description": {"$ref": "#/$defs/description"},
                "ratioMetric": {"$ref": "#/$defs/ratioMetric"},
                "thresholdMetric": {"$ref": "#/$defs/metric", "description": "One value over the judgement window, compared with `op` and `value`."}
            },
            "oneOf": [{"required": ["ratioMetric"]}, {"required": ["thresholdMetric"]}],
            "additionalProperties": false
        },
        "indicator": {
            "type": "object",
            "required": ["spec"],
            "properties": {"metadata": {"type": "object"}, "spec": {"$ref": "#/$defs/sli"}},
            "additionalProperties": false
        },
        "metric": {
            "type": "object",
            "required": ["metricSource"],
            "properties": {"metricSource": {"$ref": "#/$defs/metricSource"}},
            "additionalProperties": false
        },
        "ratioMetric": ratio_metric(),
        "metricSource": metric_source(),
        "loadClient": load_client(),
        "slo": slo(),
        "objective": objective(),
    });
    if let (Some(all), Value::Object(alerts)) = (all.as_object_mut(), alerting()) {
        all.extend(alerts);
    }
    all
}

fn annotations() -> Value {
    json!({
        "type": "object",
        "description": "`harness/*` is read; annotations of others are ignored.",
        "properties": {
            "harness/gate": {"enum": ["required", "advisory"], "default": "required", "description": "An advisory objective is reported and decides nothing."},
            "harness/warn": {"type": ["string", "number"], "description": "A stricter criterion short of failing. Ratio: a share above the target (\"0.995\", \"99.5%\"). Threshold: a tighter limit (\"<= 200ms\", \"0.2\")."},
            "harness/confidence": {"type": ["string", "number"], "default": "0.95", "description": "Confidence of each one-sided bound, from 0.5 to below 1."},
            "harness/min-samples": {"type": ["string", "integer"], "pattern": "^[1-9][0-9]*$", "minimum": 1, "description": "With fewer events nothing is decided."},
            "harness/empty-as": {"type": ["string", "number"], "description": "What an empty answer counts as, when the source is known to hold the whole run. Never for a total."},
            "harness/baseline": {"type": "string", "pattern": "^\\s*[+-][0-9.]", "description": "How much worse than earlier runs is still well: \"+10%\", \"+5ms\", \"+0.002\"; with `-` where less is worse. Of a ratio the share of bad events is compared."},
            "harness/slice": {"type": "string", "pattern": "^([0-9]+(h|m|s|ms|us|ns))+$", "description": "Length of a slice for Timeslices and RatioTimeslices, in place of timeSliceWindow, which knows no seconds: \"5s\"."},
            "harness/signal": {"enum": ["latency", "traffic", "errors", "saturation"], "description": "The golden signal it is grouped under; inferred without it."},
            "harness/unit": {"type": "string", "description": "Unit of the value, for people."}
        },
        "patternProperties": {"^(?!harness/)": true},
        "additionalProperties": false
    })
}

fn ratio_metric() -> Value {
    json!({
        "type": "object",
        "properties": {
            "counter": {"type": "boolean", "description": "true: counters that only grow, read at both edges of the window and subtracted. false: counts over the window."},
            "good": {"$ref": "#/$defs/metric"},
            "bad": {"$ref": "#/$defs/metric"},
            "total": {"$ref": "#/$defs/metric"},
            "rawType": {"enum": ["success", "failure"], "description": "success: good/total; failure: bad/total."},
            "raw": {"$ref": "#/$defs/metric", "description": "A share computed elsewhere, from 0 to 1. It does not say of how many events, so there is no interval."}
        },
        "oneOf": [
            {"required": ["counter", "good", "total"], "not": {"anyOf": [{"required": ["bad"]}, {"required": ["raw"]}, {"required": ["rawType"]}]}},
            {"required": ["counter", "bad", "total"], "not": {"anyOf": [{"required": ["good"]}, {"required": ["raw"]}, {"required": ["rawType"]}]}},
            {"required": ["raw", "rawType"], "not": {"anyOf": [{"required": ["good"]}, {"required": ["bad"]}, {"required": ["total"]}]}}
        ],
        "additionalProperties": false
    })
}

fn metric_source() -> Value {
    let query = |what: &str| {
        json!({
            "type": "object",
            "required": ["query"],
            "properties": {"query": {"type": "string", "minLength": 1, "description": what}},
            "additionalProperties": false
        })
    };
    let of_type = |kind: &str, spec: Value| {
        json!({
            "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
            "then": {"properties": {"spec": spec}}
        })
    };
    json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "metricSourceRef": {"type": "string", "description": "Name of a DataSource, whose type is taken."},
            "type": {"enum": ["Prometheus", "Loki", "Tempo", "LoadClient"]},
            "spec": {"type": "object"}
        },
        "anyOf": [{"required": ["type"]}, {"required": ["metricSourceRef"]}],
        "additionalProperties": false,
        "allOf": [
            of_type("Prometheus", query("PromQL; `$window` stands for the measured phase (or the slice).")),
            of_type("Loki", query("A LogQL metric query; write its range as [$window].")),
            of_type("Tempo", query("A TraceQL metrics query, asked over the measured phase (or the slice).")),
            of_type("LoadClient", json!({"$ref": "#/$defs/loadClient"}))
        ]
    })
}

fn load_client() -> Value {
    let limit = |what: &str| json!({"type": "string", "pattern": "^<=?", "description": what});
    json!({
        "type": "object",
        "description": "The generator's own rows of the measured phase, dropped and timed-out requests included.",
        "properties": {
            "request": {"type": "string", "description": "A request name of the scenario; all without it."},
            "outcome": {"enum": ["expected", "failed", "any"]},
            "latency": limit("Time from due to done, e.g. `<= 250ms`."),
            "service_time": limit("Time from sent to done, e.g. `<= 250ms`."),
            "first_byte": limit("Time from due to the head of the answer, e.g. `<= 250ms`."),
            "first_event": limit("Time from due to the first event of a streamed answer, e.g. `<= 250ms`."),
            "inter_event": limit("The longest gap between two events of a streamed answer, e.g. `<= 80ms`."),
            "metric": {"type": "string", "description": "accuracy; for a thresholdMetric also rate, or a quantile such as latency_p99."}
        },
        "additionalProperties": {"type": "string"}
    })
}

fn slo() -> Value {
    json!({
        "type": "object",
        "required": ["budgetingMethod", "objectives"],
        "properties": {
            "description": {"$ref": "#/$defs/description"},
            "service": {"type": "string"},
            "indicator": {"$ref": "#/$defs/indicator"},
            "indicatorRef": {"type": "string", "description": "Name of an SLI in these files."},
            "timeWindow": {
                "type": "array",
                "maxItems": 1,
                "items": {
                    "type": "object",
                    "required": ["duration"],
                    "properties": {
                        "duration": {"$ref": "#/$defs/duration"},
                        "isRolling": {"type": "boolean"},
                        "calendar": {
                            "type": "object",
                            "properties": {"startTime": {"type": "string"}, "timeZone": {"type": "string"}},
                            "additionalProperties": false
                        }
                    },
                    "additionalProperties": false
                }
            },
            "budgetingMethod": {
                "enum": ["Occurrences", "Timeslices", "RatioTimeslices"],
                "description": "Occurrences: share of good events. Timeslices: share of good slices of time. RatioTimeslices: mean of the slices' shares."
            },
            "objectives": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/objective"}},
            "alertPolicies": {
                "description": "Accepted and not used.",
                "anyOf": [{"type": "null"}, {"type": "array", "items": {"type": "object"}}]
            }
        },
        "additionalProperties": false
    })
}

fn objective() -> Value {
    json!({
        "type": "object",
        "properties": {
            "displayName": {"type": "string"},
            "op": {"enum": ["lte", "gte", "lt", "gt"], "description": "Of a thresholdMetric."},
            "value": {"type": "number", "description": "Of a thresholdMetric: the limit, which decides."},
            "target": {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "description": "Least share of good events or slices. Not used with a thresholdMetric budgeted by Occurrences."},
            "targetPercent": {"type": "number", "minimum": 0, "exclusiveMaximum": 100},
            "timeSliceTarget": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "description": "With Timeslices: least share of good events that makes a slice a good one."},
            "timeSliceWindow": {"anyOf": [{"$ref": "#/$defs/duration"}, {"type": "number", "exclusiveMinimum": 0}], "description": "Length of a slice; a number means minutes. `harness/slice` overrides it."},
            "indicator": {"$ref": "#/$defs/indicator", "description": "Of a composite SLO: what this part measures."},
            "indicatorRef": {"type": "string", "description": "Likewise, by name."},
            "compositeWeight": {"const": 1, "description": "Only 1: every part has to hold by its own target."}
        },
        "oneOf": [{"required": ["target"]}, {"required": ["targetPercent"]}],
        "additionalProperties": false
    })
}

/// The alert kinds: checked, and not used.
fn alerting() -> Value {
    json!({
        "alertPolicy": {
            "type": "object",
            "description": "Accepted and not used.",
            "required": ["conditions", "notificationTargets"],
            "properties": {
                "description": {"$ref": "#/$defs/description"},
                "alertWhenNoData": {"type": "boolean"},
                "alertWhenResolved": {"type": "boolean"},
                "alertWhenBreaching": {"type": "boolean"},
                "conditions": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "object"}},
                "notificationTargets": {"type": "array", "items": {"type": "object"}}
            },
            "additionalProperties": false
        },
        "alertCondition": {
            "type": "object",
            "description": "Accepted and not used.",
            "required": ["severity", "condition"],
            "properties": {
                "description": {"$ref": "#/$defs/description"},
                "severity": {"type": "string"},
                "condition": {
                    "type": "object",
                    "required": ["op", "threshold", "lookbackWindow"],
                    "properties": {
                        "kind": {"const": "burnrate"},
                        "op": {"enum": ["lte", "gte", "lt", "gt"]},
                        "threshold": {"type": "number"},
                        "lookbackWindow": {"$ref": "#/$defs/duration"},
                        "alertAfter": {"$ref": "#/$defs/duration"}
                    },
                    "additionalProperties": false
                }
            },
            "additionalProperties": false
        },
        "alertNotificationTarget": {
            "type": "object",
            "description": "Accepted and not used.",
            "required": ["target"],
            "properties": {"description": {"$ref": "#/$defs/description"}, "target": {"type": "string"}},
            "additionalProperties": false
        }
    })
}
