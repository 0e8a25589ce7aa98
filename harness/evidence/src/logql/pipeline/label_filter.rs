//! Label filters.

use super::super::ast::{CompareOp, FilterValue, LabelFilter};
use super::super::units;
use super::ip::IpMatch;
use super::{LabelView, TextMatch};
use crate::store::logs::quote;

/// A label filter, compiled.
pub(crate) enum CompiledFilter {
    Text(String, TextMatch),
    Value(String, CompareOp, FilterValue),
    Ip(String, bool, IpMatch),
    And(Box<CompiledFilter>, Box<CompiledFilter>),
    Or(Box<CompiledFilter>, Box<CompiledFilter>),
}

impl CompiledFilter {
    /// # Errors
    /// When a regular expression or address is malformed.
    pub(crate) fn new(filter: &LabelFilter) -> Result<Self, String> {
        Ok(match filter {
            LabelFilter::Text(m) => Self::Text(m.name.clone(), TextMatch::new(m.op, &m.value)?),
            LabelFilter::Value { name, op, value } => Self::Value(name.clone(), *op, *value),
            LabelFilter::Ip {
                name,
                negated,
                pattern,
            } => Self::Ip(name.clone(), *negated, pattern.parse()?),
            LabelFilter::And(a, b) => Self::And(Box::new(Self::new(a)?), Box::new(Self::new(b)?)),
            LabelFilter::Or(a, b) => Self::Or(Box::new(Self::new(a)?), Box::new(Self::new(b)?)),
        })
    }

    /// Whether the line passes. A label that should be a number and is none marks the line as
    /// faulty and lets it pass, so that the fault is seen; an absent one does not pass.
    pub(crate) fn passes(&self, view: &mut LabelView) -> bool {
        match self {
            Self::Text(name, text) => text.fits(view.get(name).unwrap_or("")),
            Self::And(a, b) => a.passes(view) && b.passes(view),
            Self::Or(a, b) => a.passes(view) || b.passes(view),
            Self::Ip(name, negated, ip) => match view.get(name).map(|text| ip.fits(text)) {
                None => false,
                Some(Some(found)) => found != *negated,
                Some(None) => {
                    let text = quote(view.get(name).unwrap_or_default());
                    view.fail("LabelFilterErr", &format!("{text} is no IP address"));
                    true
                }
            },
            Self::Value(name, op, wanted) => {
                let Some(text) = view.get(name) else {
                    return false;
                };
                match compare(text, *op, *wanted) {
                    Ok(passes) => passes,
                    Err(details) => {
                        view.fail("LabelFilterErr", &details);
                        true
                    }
                }
            }
        }
    }
}

fn compare(text: &str, op: CompareOp, wanted: FilterValue) -> Result<bool, String> {
    let ordering = match wanted {
        FilterValue::Number(wanted) => number(text)?.partial_cmp(&wanted),
        FilterValue::Duration(wanted) => {
            let got = units::duration(text)
                .ok_or_else(|| format!("time: invalid duration {}", quote(text)))?;
            Some(got.cmp(&wanted))
        }
        FilterValue::Bytes(wanted) => {
            let got = units::bytes(text).ok_or_else(|| format!("invalid size {}", quote(text)))?;
            Some(got.cmp(&wanted))
        }
    };
    Ok(holds(op, ordering))
}

/// A number as a label holds it.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| {
        format!(
            "strconv.ParseFloat: parsing {}: invalid syntax",
            quote(text)
        )
    })
}

/// Whether a comparison holds; with NaN only `!=` does.
pub(crate) fn holds(op: CompareOp, ordering: Option<std::cmp::Ordering>) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match op {
        CompareOp::Equal => ordering == Some(Equal),
        CompareOp::NotEqual => ordering != Some(Equal),
        CompareOp::Greater => ordering == Some(Greater),
        CompareOp::GreaterEqual => matches!(ordering, Some(Greater | Equal)),
        CompareOp::Less => ordering == Some(Less),
        CompareOp::LessEqual => matches!(ordering, Some(Less | Equal)),
    }
}
