//! Metadata, and the kinds that nothing is judged by: checked as OpenSLO has them, and said to be
//! unused by name, since what looks like an alert and is none would be trusted.

use serde_json::Value;
use serde_saphyr::Spanned;

use super::read::{Reader, place};
use super::yaml::{
    AlertCondition, AlertNotificationTarget, AlertPolicy, DataSource, Document, Metadata,
    PolicyHolder, Service,
};

/// OpenSLO's limit.
const DESCRIPTION: usize = 1050;

/// A description is at most 1050 characters long.
pub(super) fn description(reader: &mut Reader, text: Option<&Spanned<String>>) {
    let Some(text) = text else { return };
    let length = text.value.chars().count();
    if length > DESCRIPTION {
        let message = format!("has {length} characters");
        let hint = "OpenSLO allows at most 1050";
        reader.problem(place(text.referenced), "spec.description", message, hint);
    }
}

/// Name and labels.
pub(super) fn metadata(reader: &mut Reader, kind: &'static str, metadata: &Metadata) {
    reader.name(kind, &metadata.name);
    for (key, value) in &metadata.labels {
        let is_text = |v: &Value| matches!(v, Value::String(_) | Value::Number(_) | Value::Bool(_));
        let well = match &value.value {
            Value::Array(all) => all.iter().all(is_text),
            one => is_text(one),
        };
        if !well {
            let key = format!("metadata.labels.{key}");
            let message = "is neither a text nor a list of texts";
            reader.problem(place(value.referenced), &key, message, "write `key: value`");
        }
    }
}

fn unused(reader: &mut Reader, kind: &str, name: &Spanned<String>, why: &str) {
    let here = reader.here(place(name.referenced));
    let note = format!(
        "{here}: {kind} `{}` is accepted and not used{why}",
        name.value
    );
    reader.notes.push(note);
}

pub(super) fn service(reader: &mut Reader, document: &Document<Service>) {
    metadata(reader, "Service", &document.metadata);
    description(reader, document.spec.description.as_ref());
    unused(reader, "Service", &document.metadata.name, "");
}

/// Remembers a data source for `metricSourceRef`.
pub(super) fn data_source(reader: &mut Reader, document: Document<DataSource>) {
    metadata(reader, "DataSource", &document.metadata);
    description(reader, document.spec.description.as_ref());
    let name = document.metadata.name;
    if let Some(details) = &document.spec.connection_details {
        let here = reader.here(place(details.referenced));
        reader.notes.push(format!(
            "{here}: connectionDetails of DataSource `{}` is not used: addresses and credentials come from the scenario; \
             SLO files are kept with the run as they are, so leave out secrets",
            name.value
        ));
    }
    reader.sources.insert(name.value, document.spec.kind);
}

const ALERTS: &str = ": harness judges runs and sends no alerts";

pub(super) fn alert_policy(reader: &mut Reader, document: &Document<AlertPolicy>) {
    metadata(reader, "AlertPolicy", &document.metadata);
    policy(reader, &document.spec);
    unused(reader, "AlertPolicy", &document.metadata.name, ALERTS);
}

pub(super) fn alert_condition(reader: &mut Reader, document: &Document<AlertCondition>) {
    metadata(reader, "AlertCondition", &document.metadata);
    condition(reader, &document.spec);
    unused(reader, "AlertCondition", &document.metadata.name, ALERTS);
}

pub(super) fn notification_target(
    reader: &mut Reader,
    document: &Document<AlertNotificationTarget>,
) {
    metadata(reader, "AlertNotificationTarget", &document.metadata);
    description(reader, document.spec.description.as_ref());
    let name = &document.metadata.name;
    unused(reader, "AlertNotificationTarget", name, ALERTS);
}

/// `spec.alertPolicies` of an SLO.
pub(super) fn policies(reader: &mut Reader, slo: &str, all: Option<&[Spanned<PolicyHolder>]>) {
    let all = all.unwrap_or_default();
    for holder in all {
        let PolicyHolder {
            alert_policy_ref,
            kind,
            spec,
            metadata,
            ..
        } = &holder.value;
        let at = place(holder.referenced);
        one_of(
            reader,
            at,
            ("alertPolicies", "alertPolicyRef"),
            alert_policy_ref.as_ref(),
            spec.is_some(),
        );
        inline(reader, "AlertPolicy", kind.as_ref(), metadata.as_ref());
        refer(reader, "AlertPolicy", alert_policy_ref.as_ref());
        if let Some(spec) = spec {
            policy(reader, spec);
        }
    }
    if let Some(first) = all.first() {
        let here = reader.here(place(first.referenced));
        reader.notes.push(format!(
            "{here}: alertPolicies of SLO `{slo}` are accepted and not used{ALERTS}"
        ));
    }
}

fn policy(reader: &mut Reader, policy: &AlertPolicy) {
    description(reader, policy.description.as_ref());
    if policy.conditions.value.len() != 1 {
        let message = format!("has {} entries", policy.conditions.value.len());
        let hint = "OpenSLO allows exactly one condition";
        reader.problem(
            place(policy.conditions.referenced),
            "spec.conditions",
            message,
            hint,
        );
    }
    for holder in &policy.conditions.value {
        let at = place(holder.referenced);
        let one = &holder.value;
        one_of(
            reader,
            at,
            ("conditions", "conditionRef"),
            one.condition_ref.as_ref(),
            one.spec.is_some(),
        );
        inline(
            reader,
            "AlertCondition",
            one.kind.as_ref(),
            one.metadata.as_ref(),
        );
        refer(reader, "AlertCondition", one.condition_ref.as_ref());
        if let Some(spec) = &one.spec {
            condition(reader, spec);
        }
    }
    for holder in &policy.notification_targets {
        let at = place(holder.referenced);
        let one = &holder.value;
        one_of(
            reader,
            at,
            ("notificationTargets", "targetRef"),
            one.target_ref.as_ref(),
            one.spec.is_some(),
        );
        inline(
            reader,
            "AlertNotificationTarget",
            one.kind.as_ref(),
            one.metadata.as_ref(),
        );
        refer(reader, "AlertNotificationTarget", one.target_ref.as_ref());
        description(
            reader,
            one.spec.as_ref().and_then(|s| s.description.as_ref()),
        );
    }
}

/// An entry is either a reference or written out.
fn one_of(
    reader: &mut Reader,
    at: super::read::At,
    (key, reference_key): (&str, &str),
    reference: Option<&Spanned<String>>,
    inline: bool,
) {
    if reference.is_some() == inline {
        let message = format!("needs exactly one of `{reference_key}` and `spec`");
        reader.problem(at, key, message, "refer to an object, or write it out here");
    }
}

/// An object written inside another says of which kind it is, or nothing.
fn inline(
    reader: &mut Reader,
    wanted: &str,
    kind: Option<&Spanned<String>>,
    _metadata: Option<&Metadata>,
) {
    if let Some(kind) = kind.filter(|kind| kind.value != wanted) {
        let message = format!("`{}` stands where {wanted} belongs", kind.value);
        reader.problem(place(kind.referenced), "kind", message, "");
    }
}

fn refer(reader: &mut Reader, kind: &'static str, name: Option<&Spanned<String>>) {
    if let Some(name) = name {
        let file = reader.file.clone();
        reader.references.push((kind, name.clone(), file));
    }
}

fn condition(reader: &mut Reader, spec: &AlertCondition) {
    description(reader, spec.description.as_ref());
    let condition = &spec.condition.value;
    if let Some(kind) = condition
        .kind
        .as_ref()
        .filter(|kind| kind.value != "burnrate")
    {
        let message = format!("unknown kind `{}`", kind.value);
        let hint = "the only one is `burnrate`";
        reader.problem(place(kind.referenced), "spec.condition.kind", message, hint);
    }
    if !["lte", "gte", "lt", "gt"].contains(&condition.op.value.as_str()) {
        let message = format!("unknown operator `{}`", condition.op.value);
        let hint = "one of lte, gte, lt, gt";
        reader.problem(
            place(condition.op.referenced),
            "spec.condition.op",
            message,
            hint,
        );
    }
    if !condition.threshold.value.is_finite() {
        let at = place(condition.threshold.referenced);
        reader.problem(at, "spec.condition.threshold", "is not a finite number", "");
    }
    let windows = [
        ("lookbackWindow", Some(&condition.lookback_window)),
        ("alertAfter", condition.alert_after.as_ref()),
    ];
    for (key, window) in windows {
        let Some(window) = window else { continue };
        // `alertAfter` may be `0m`.
        if shorthand(&window.value).is_none() {
            let key = format!("spec.condition.{key}");
            let message = format!("`{}` is no duration", window.value);
            reader.problem(place(window.referenced), &key, message, SHORTHAND);
        }
    }
}

pub(super) const SHORTHAND: &str =
    "a whole number and one of m, h, d, w, M, Q, Y, such as 1m or 4w; OpenSLO knows no seconds";

/// OpenSLO's duration shorthand in seconds; a month counts as 30 days, a quarter as 90, a year as 365.
pub(super) fn shorthand(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (count, unit) = text.split_at(digits.len());
    if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    const DAY: u64 = 86_400;
    let unit = match unit {
        "m" => 60,
        "h" => 3_600,
        "d" => DAY,
        "w" => 7 * DAY,
        "M" => 30 * DAY,
        "Q" => 90 * DAY,
        "Y" => 365 * DAY,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(unit)
}
