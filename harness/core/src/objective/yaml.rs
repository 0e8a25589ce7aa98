//! The OpenSLO v1 grammar as it is written. Unknown keys are errors.
//!
//! Keys that nothing is read from have names with an underscore: they are there to be allowed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
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
    #[serde(default)]
    pub(super) labels: BTreeMap<String, Spanned<Value>>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, Spanned<Value>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Slo {
    pub(super) description: Option<Spanned<String>>,
    pub(super) service: Option<String>,
    pub(super) indicator: Option<Indicator>,
    pub(super) indicator_ref: Option<Spanned<String>>,
    pub(super) time_window: Option<Spanned<Value>>,
    pub(super) budgeting_method: Option<Spanned<String>>,
    pub(super) objectives: Spanned<Vec<Spanned<Target>>>,
    pub(super) alert_policies: Option<Vec<Spanned<PolicyHolder>>>,
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
    pub(super) description: Option<Spanned<String>>,
    pub(super) ratio_metric: Option<Spanned<RatioMetric>>,
    pub(super) threshold_metric: Option<MetricHolder>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RatioMetric {
    pub(super) counter: Option<bool>,
    pub(super) good: Option<MetricHolder>,
    pub(super) bad: Option<MetricHolder>,
    pub(super) total: Option<MetricHolder>,
    pub(super) raw_type: Option<Spanned<String>>,
    pub(super) raw: Option<MetricHolder>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct MetricHolder {
    pub(super) metric_source: Spanned<MetricSource>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct MetricSource {
    pub(super) metric_source_ref: Option<Spanned<String>>,
    #[serde(rename = "type")]
    pub(super) kind: Option<Spanned<String>>,
    pub(super) spec: Option<Spanned<BTreeMap<String, Spanned<Value>>>>,
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
    pub(super) time_slice_target: Option<Spanned<f64>>,
    pub(super) time_slice_window: Option<Spanned<Value>>,
    /// Of a composite SLO: the indicator of this part.
    pub(super) indicator: Option<Indicator>,
    pub(super) indicator_ref: Option<Spanned<String>>,
    pub(super) composite_weight: Option<Spanned<f64>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DataSource {
    pub(super) description: Option<Spanned<String>>,
    #[serde(rename = "type")]
    pub(super) kind: Spanned<String>,
    pub(super) connection_details: Option<Spanned<Value>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Service {
    pub(super) description: Option<Spanned<String>>,
}

/// An alert policy, or a reference to one.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PolicyHolder {
    pub(super) alert_policy_ref: Option<Spanned<String>>,
    #[serde(rename = "apiVersion")]
    pub(super) _api_version: Option<Value>,
    pub(super) kind: Option<Spanned<String>>,
    pub(super) metadata: Option<Metadata>,
    pub(super) spec: Option<AlertPolicy>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AlertPolicy {
    pub(super) description: Option<Spanned<String>>,
    #[serde(rename = "alertWhenNoData")]
    pub(super) _when_no_data: Option<bool>,
    #[serde(rename = "alertWhenResolved")]
    pub(super) _when_resolved: Option<bool>,
    #[serde(rename = "alertWhenBreaching")]
    pub(super) _when_breaching: Option<bool>,
    pub(super) conditions: Spanned<Vec<Spanned<ConditionHolder>>>,
    pub(super) notification_targets: Vec<Spanned<TargetHolder>>,
}

/// An alert condition, or a reference to one.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ConditionHolder {
    pub(super) condition_ref: Option<Spanned<String>>,
    #[serde(rename = "apiVersion")]
    pub(super) _api_version: Option<Value>,
    pub(super) kind: Option<Spanned<String>>,
    pub(super) metadata: Option<Metadata>,
    pub(super) spec: Option<AlertCondition>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AlertCondition {
    pub(super) description: Option<Spanned<String>>,
    #[serde(rename = "severity")]
    pub(super) _severity: String,
    pub(super) condition: Spanned<Condition>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Condition {
    pub(super) kind: Option<Spanned<String>>,
    pub(super) op: Spanned<String>,
    pub(super) threshold: Spanned<f64>,
    pub(super) lookback_window: Spanned<String>,
    pub(super) alert_after: Option<Spanned<String>>,
}

/// A notification target, or a reference to one.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TargetHolder {
    pub(super) target_ref: Option<Spanned<String>>,
    #[serde(rename = "apiVersion")]
    pub(super) _api_version: Option<Value>,
    pub(super) kind: Option<Spanned<String>>,
    pub(super) metadata: Option<Metadata>,
    pub(super) spec: Option<AlertNotificationTarget>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AlertNotificationTarget {
    pub(super) description: Option<Spanned<String>>,
    #[serde(rename = "target")]
    pub(super) _target: String,
}
