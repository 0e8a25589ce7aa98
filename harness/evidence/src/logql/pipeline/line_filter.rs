//! Line filters.

use super::super::ast::{LineFilter, LineOp, LineText};
use super::ip::IpMatch;
use super::pattern::Pattern;
use super::regex;
use regex::Regex;

enum Look {
    Text(String),
    Regex(Regex),
    Pattern(Pattern),
    Ip(IpMatch),
}

/// A line filter, compiled: whether any alternative is found, or none.
pub(super) struct CompiledLineFilter {
    any: Vec<Look>,
    negated: bool,
}

impl CompiledLineFilter {
    pub(super) fn new(filter: &LineFilter) -> Result<Self, String> {
        let look = |text: &LineText| -> Result<Look, String> {
            Ok(match (filter.op, text) {
                (LineOp::Contains | LineOp::NotContains, LineText::Text(text)) => {
                    Look::Text(text.clone())
                }
                (LineOp::Regex | LineOp::NotRegex, LineText::Text(text)) => {
                    Look::Regex(regex(text, text)?)
                }
                (LineOp::Pattern | LineOp::NotPattern, LineText::Text(text)) => {
                    Look::Pattern(Pattern::filter(text)?)
                }
                (LineOp::Contains | LineOp::NotContains, LineText::Ip(pattern)) => {
                    Look::Ip(pattern.parse()?)
                }
                (_, LineText::Ip(_)) => {
                    return Err("ip: only |= and != take an address".to_owned());
                }
            })
        };
        Ok(Self {
            any: filter.any.iter().map(look).collect::<Result<_, _>>()?,
            negated: matches!(
                filter.op,
                LineOp::NotContains | LineOp::NotRegex | LineOp::NotPattern
            ),
        })
    }

    pub(super) fn passes(&self, line: &str) -> bool {
        let found = self.any.iter().any(|look| match look {
            Look::Text(text) => line.contains(text.as_str()),
            Look::Regex(regex) => regex.is_match(line),
            Look::Pattern(pattern) => pattern.fits(line),
            Look::Ip(ip) => ip.in_line(line),
        });
        found != self.negated
    }
}
