//! `metadata.annotations`: what `harness/*` says of an SLO.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_saphyr::Spanned;

use super::DEFAULT_CONFIDENCE;
use super::read::{Reader, place};
use crate::report::model::{Gate, Signal};
use crate::scenario::Dur;

/// What the `harness/*` annotations say.
pub(super) struct Annotations {
    pub(super) gate: Gate,
    pub(super) confidence: f64,
    pub(super) min_samples: Option<u64>,
    pub(super) empty_as: Option<f64>,
    pub(super) signal: Option<Signal>,
    pub(super) unit: Option<String>,
    /// Their texts: what they mean depends on the objective.
    pub(super) warn: Option<Spanned<String>>,
    pub(super) baseline: Option<Spanned<String>>,
    /// Overrides `timeSliceWindow`, which knows no seconds.
    pub(super) slice: Option<Spanned<Dur>>,
}

/// Reads them; what is wrong goes to the reader's problems.
pub(super) fn annotations(
    reader: &mut Reader,
    from: &BTreeMap<String, Spanned<Value>>,
) -> Annotations {
    let mut found = Annotations {
        gate: Gate::Required,
        confidence: DEFAULT_CONFIDENCE,
        min_samples: None,
        empty_as: None,
        signal: None,
        unit: None,
        warn: None,
        baseline: None,
        slice: None,
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
            "slice" => match slice(&text) {
                Some(length) => {
                    found.slice = Some(Spanned::new(length, value.referenced, value.defined));
                }
                None => {
                    let key = format!("metadata.annotations.{key}");
                    let message = format!("`{text}` cannot be read");
                    reader.problem(place(value.referenced), &key, message, SLICE);
                }
            },
            _ => {}
        }
        if let Err(hint) = annotation(&mut found, name, &text) {
            let message = match hint {
                UNKNOWN => "unknown annotation".to_owned(),
                _ => format!("`{text}` cannot be read"),
            };
            let key = format!("metadata.annotations.{key}");
            reader.problem(place(value.referenced), &key, message, hint);
        }
    }
    found
}

const UNKNOWN: &str = "the annotations are harness/gate, harness/confidence, harness/min-samples, harness/empty-as, harness/warn, harness/baseline, harness/slice, harness/signal and harness/unit";

const SLICE: &str = "a length of time such as \"5s\", \"500ms\" or \"1m\"";

fn slice(text: &str) -> Option<Dur> {
    text.parse().ok().filter(|length: &Dur| !length.0.is_zero())
}

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
        // Read above, and with each objective.
        "warn" | "baseline" | "slice" => {}
        _ => return Err(UNKNOWN),
    }
    Ok(())
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|n| n.is_finite())
}
