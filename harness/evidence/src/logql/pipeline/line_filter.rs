//! Line filters.

use super::super::ast::{LineFilter, LineOp, LineText};
use super::ip::IpMatch;
use super::lanes::Lanes;
use super::pattern::Pattern;
use crate::go_regex;
use crate::store::logs::Entry;
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
    /// Reads many lines at once, where that is of use; made with the first many.
    lanes: Option<Option<Box<Lanes>>>,
}

/// Lines that are worth an automaton of their own.
const MANY: usize = 512;

impl CompiledLineFilter {
    pub(super) fn new(filter: &LineFilter) -> Result<Self, String> {
        let look = |text: &LineText| -> Result<Look, String> {
            Ok(match (filter.op, text) {
                (LineOp::Contains | LineOp::NotContains, LineText::Text(text)) => {
                    Look::Text(text.clone())
                }
                (LineOp::Regex | LineOp::NotRegex, LineText::Text(text)) => {
                    Look::Regex(go_regex::anywhere(text)?)
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
            lanes: None,
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

    /// Keeps the places of those lines that pass, in their order.
    pub(super) fn narrow(&mut self, entries: &[Entry], places: &mut Vec<usize>) {
        if let [Look::Regex(regex)] = &self.any[..]
            && places.len() >= MANY
            && let slot = self
                .lanes
                .get_or_insert_with(|| Lanes::of(regex.as_str()).map(Box::new))
            && let Some(lanes) = slot
        {
            let mut passing = Vec::with_capacity(places.len());
            let lines = places.iter().map(|place| (*place, &*entries[*place].line));
            let told = lanes.search(lines, |place, found| {
                if found != self.negated {
                    passing.push(place);
                }
            });
            if let Err(left) = told {
                *slot = None;
                let passes = |place: &usize| self.passes(&entries[*place].line);
                passing.extend(left.into_iter().filter(passes));
            }
            passing.sort_unstable();
            *places = passing;
        } else {
            places.retain(|place| self.passes(&entries[*place].line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::logs::Labels;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Many lines narrowed together are those that pass alone.
        #[test]
        fn many_lines_are_narrowed_as_each_alone(
            lines in prop::collection::vec("[ab=\n 0-9é]{0,10}", MANY - 5..MANY + 300),
            op in prop::sample::select(&[LineOp::Regex, LineOp::NotRegex][..]),
            any in prop::collection::vec(prop::sample::select(&["[ab]=[0-4]", "^[^a]+$", "a.b", "", "9|é|$", "ab="][..]), 1..3),
        ) {
            let any: Vec<LineText> = any.iter().map(|p| LineText::Text((*p).to_owned())).collect();
            let mut filter = CompiledLineFilter::new(&LineFilter { op, any }).expect("compiles");
            let entry = |line: &String| Entry { ts: 0, line: line.as_str().into(), metadata: Labels::default() };
            let entries: Vec<Entry> = lines.iter().map(entry).collect();
            let all: Vec<usize> = (0..entries.len()).collect();
            let alone = |places: &[usize]| -> Vec<usize> {
                places.iter().copied().filter(|p| filter.passes(&lines[*p])).collect()
            };
            let wanted = alone(&all);
            let mut got = all;
            filter.narrow(&entries, &mut got);
            prop_assert_eq!(got, wanted);
        }
    }
}
