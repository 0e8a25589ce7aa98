//! The OpenSLO v1 grammar as it is written. Unknown keys are errors.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// Enough of a document to tell what it is.
#[derive(Clone, Deserialize)]
pub(super) struct Head {
    #[serde(rename = "apiVersion")]
    pub(super) api_version: Option<Spanned<String>>,
    pub(super) kind: Option<Spanned<String>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Document<S> {
    #[serde(rename = "apiVersion")]
    pub(super) _api_version: Option<Value>,
    #[serde(rename = "kind")]
    pub(super) _kind: Option<Value>,
    pub(super) metadata: Metadata,
    pub(super) spec: S,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: Spanned<String>,
    pub(super) display_name: Option<String>,
    #[serde(rename = "labels")]
    pub(super) _labels: Option<Value>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, Spanned<Value>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Slo {
    #[serde(rename = "description")]
    pub(super) _description: Option<String>,
    pub(super) service: Option<String>,
    pub(super) indicator: Option<Indicator>,
    pub(super) indicator_ref: Option<Spanned<String>>,
    pub(super) time_window: Option<Spanned<Value>>,
    pub(super) budgeting_method: Spanned<String>,
    pub(super) objectives: Spanned<Vec<Target>>,
    #[serde(rename = "alertPolicies")]
    pub(super) _alert_policies: Option<Value>,
}

/// An indicator written inside an SLO.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Indicator {
    #[serde(rename = "metadata")]
    pub(super) _metadata: Option<Value>,
    pub(super) spec: Spanned<Sli>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Sli {
    #[serde(rename = "description")]
    pub(super) _description: Option<String>,
    pub(super) ratio_metric: Option<RatioMetric>,
    pub(super) threshold_metric: Option<MetricHolder>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RatioMetric {
    pub(super) counter: Option<bool>,
    pub(super) good: Option<MetricHolder>,
    pub(super) bad: Option<MetricHolder>,
    pub(super) total: Option<MetricHolder>,
    pub(super) raw_type: Option<Value>,
    pub(super) raw: Option<Value>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct MetricHolder {
    pub(super) metric_source: Spanned<MetricSource>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct MetricSource {
    pub(super) metric_source_ref: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<Spanned<String>>,
    pub(super) spec: Option<Spanned<Map<String, Value>>>,
}

/// One entry of `spec.objectives`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Target {
    pub(super) display_name: Option<String>,
    pub(super) op: Option<Spanned<String>>,
    pub(super) value: Option<Spanned<f64>>,
    pub(super) target: Option<Spanned<f64>>,
    pub(super) target_percent: Option<Spanned<f64>>,
    pub(super) time_slice_target: Option<Spanned<Value>>,
    pub(super) time_slice_window: Option<Spanned<Value>>,
    pub(super) indicator: Option<Spanned<Value>>,
    pub(super) indicator_ref: Option<Spanned<Value>>,
    pub(super) composite_weight: Option<Spanned<Value>>,
}
