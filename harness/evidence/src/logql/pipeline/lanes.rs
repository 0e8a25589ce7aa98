//! Whether lines match a regular expression that begins with nothing a prefilter could look for.
//!
//! An automaton reads one byte after the other, and each step waits for the one before: the processor
//! mostly idles. Several lines at once are several chains of steps that do not wait for each other, so
//! four of them take hardly longer than one. Only whether there is a match is asked, so the automaton
//! need not run on for a match's end, nor back for its start.

use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::util::prefilter::Prefilter;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind};
use regex_syntax::hir::{Hir, HirKind};

/// How many lines are read side by side.
const LANES: usize = 4;

/// What the automaton may take; a pattern that needs more states is left to the crate `regex`, whose
/// engines have other ways.
const CACHE: usize = 2 << 20;

/// A text of so many bytes is rare enough in lines to be looked for first. Of two bytes, such as `=4`,
/// it is not: each place where it stands costs a search back and forth.
const SELECTIVE: usize = 3;

/// An automaton that is built while lines are read.
pub(super) struct Lanes {
    dfa: DFA,
    cache: Cache,
}

/// A line under way.
#[derive(Clone, Copy)]
struct Lane<'l> {
    line: usize,
    rest: &'l [u8],
    state: LazyStateID,
}

/// The automaton has too many states for its cache.
struct TooLarge;

impl Lanes {
    /// An automaton of a pattern that compiles, if reading lines side by side is of use: not where there
    /// is a text to look for first (finding that is faster), and not where the empty text may match
    /// (between two bytes of a character it must not, and no automaton over bytes knows).
    pub(super) fn of(pattern: &str) -> Option<Self> {
        let hir = syntax::parse(pattern).ok()?;
        let prefix = Prefilter::from_hir_prefix(MatchKind::LeftmostFirst, &hir);
        let selective = prefix.is_some_and(|p| p.is_fast() && p.max_needle_len() >= SELECTIVE);
        if selective || has_text(&hir) {
            return None;
        }
        let config = DFA::config()
            .cache_capacity(CACHE)
            // States of other lanes would lose their meaning.
            .minimum_cache_clear_count(Some(0));
        let dfa = DFA::builder()
            .configure(config)
            .syntax(syntax::Config::new())
            .build(pattern)
            .ok()?;
        if dfa.get_nfa().has_empty() {
            return None;
        }
        let cache = dfa.create_cache();
        Some(Self { dfa, cache })
    }

    /// Calls `found` with the number of each line and whether it matches, in any order.
    ///
    /// # Errors
    /// With the numbers of lines that were not told, when the automaton grew too large.
    pub(super) fn search<'l>(
        &mut self,
        lines: impl Iterator<Item = (usize, &'l str)>,
        mut found: impl FnMut(usize, bool),
    ) -> Result<(), Vec<usize>> {
        let mut lines = lines.fuse();
        // Nothing is forgotten, so what a line begins in is the same for all.
        let start = self
            .dfa
            .start_state_forward(&mut self.cache, &Input::new(""));
        let Ok(state) = start else {
            return Err(lines.map(|(line, _)| line).collect());
        };
        let mut lanes: Vec<Lane<'l>> = Vec::with_capacity(LANES);
        loop {
            while lanes.len() < LANES
                && let Some((line, text)) = lines.next()
            {
                let rest = text.as_bytes();
                lanes.push(Lane { line, rest, state });
            }
            if lanes.is_empty() {
                return Ok(());
            }
            let together = <&mut [Lane<'l>; LANES]>::try_from(&mut lanes[..]);
            let ended = together.is_ok_and(|lanes| self.stride(lanes));
            let mut at = 0;
            while let Some(lane) = lanes.get_mut(at) {
                if ended && !lane.rest.is_empty() {
                    at += 1;
                    continue;
                }
                match self.step(lane) {
                    Ok(None) => at += 1,
                    Ok(Some(matched)) => {
                        found(lane.line, matched);
                        lanes.swap_remove(at);
                    }
                    Err(TooLarge) => {
                        let open = lanes.iter().map(|lane| lane.line);
                        return Err(open.chain(lines.map(|(line, _)| line)).collect());
                    }
                }
            }
        }
    }

    /// All lines together, to where the first one meets its end (`true`) or something to look into.
    fn stride(&self, lanes: &mut [Lane<'_>; LANES]) -> bool {
        if lanes.iter().any(|lane| lane.state.is_tagged()) {
            return false;
        }
        let steps = lanes.iter().map(|lane| lane.rest.len()).min().unwrap_or(0);
        let [a, b, c, d] = lanes.map(|lane| &lane.rest[..steps]);
        let mut states = lanes.map(|lane| lane.state);
        let mut done = 0;
        let step = |state, byte: &u8| self.dfa.next_state_untagged(&self.cache, state, *byte);
        // Side by side by iterators, which check no bounds.
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            let next = [
                step(states[0], a),
                step(states[1], b),
                step(states[2], c),
                step(states[3], d),
            ];
            if next.iter().any(|state| state.is_tagged()) {
                break;
            }
            states = next;
            done += 1;
        }
        for (lane, state) in lanes.iter_mut().zip(states) {
            lane.rest = &lane.rest[done..];
            lane.state = state;
        }
        done == steps
    }

    /// One byte, or the end, of one line; whether it matches once that is known.
    fn step(&mut self, lane: &mut Lane<'_>) -> Result<Option<bool>, TooLarge> {
        let Some((byte, rest)) = lane.rest.split_first() else {
            let last = self.dfa.next_eoi_state(&mut self.cache, lane.state);
            return Ok(Some(last.map_err(|_| TooLarge)?.is_match()));
        };
        let next = self.dfa.next_state(&mut self.cache, lane.state, *byte);
        lane.state = next.map_err(|_| TooLarge)?;
        lane.rest = rest;
        Ok(if lane.state.is_match() {
            Some(true)
        } else if lane.state.is_dead() {
            Some(false)
        } else if lane.state.is_quit() {
            return Err(TooLarge);
        } else {
            None
        })
    }
}

/// Whether every match has one and the same text in it.
fn has_text(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(text) => text.0.len() >= SELECTIVE,
        HirKind::Capture(inner) => has_text(&inner.sub),
        HirKind::Concat(parts) => parts.iter().any(has_text),
        HirKind::Repetition(times) => times.min > 0 && has_text(&times.sub),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;

    fn side_by_side(lanes: &mut Lanes, lines: &[String]) -> Option<Vec<bool>> {
        let mut told: Vec<Option<bool>> = vec![None; lines.len()];
        let numbered = lines.iter().enumerate().map(|(n, line)| (n, line.as_str()));
        let left = lanes.search(numbered, |line, matched| {
            assert_eq!(
                told[line].replace(matched),
                None,
                "line {line} is told twice"
            );
        });
        match left {
            Ok(()) => Some(told.into_iter().map(|t| t.expect("told")).collect()),
            Err(left) => {
                let untold: Vec<usize> = (0..lines.len()).filter(|n| told[*n].is_none()).collect();
                let mut left = left;
                left.sort_unstable();
                assert_eq!(left, untold);
                None
            }
        }
    }

    #[test]
    fn a_pattern_with_a_literal_is_left_to_the_search_for_it() {
        assert!(Lanes::of("[a-z]+ status=5[0-9]{2}").is_none());
        assert!(Lanes::of("(error|fatal): [a-z]+").is_none());
        assert!(Lanes::of("(a|b)*").is_none());
        assert!(Lanes::of("[a-z]+=[45][0-9]{2} ").is_some());
    }

    /// What does not fit is given back to the last line.
    #[test]
    fn an_automaton_that_grows_too_large_gives_up() {
        let lines: Vec<String> = (0..20_000_u32)
            .map(|n| {
                let bits = n.wrapping_mul(2_654_435_761).rotate_left(7);
                format!("{bits:032b}{n:032b}")
            })
            .collect();
        let mut lanes = Lanes::of("[1-9][01]{24}[2-9]").expect("of use");
        assert_eq!(side_by_side(&mut lanes, &lines), None);
    }

    const PARTS: &[&str] = &[
        "a",
        "b",
        "[ab]",
        "[^a]",
        ".",
        "(?s:.)",
        "^",
        "$",
        "(?m:^)",
        "(?m:$)",
        "(?-u:\\b)",
        "(?-u:\\B)",
        "a*",
        "b+",
        "(a|bc)",
        "(|c)",
        "\\n",
        "é",
        "[é-ü]",
        "(?i:A)",
        "(",
        ")",
        "|",
        "{2}",
        "?",
        "[0-9]",
    ];

    proptest! {
        /// Reading side by side answers as one search a line does.
        #[test]
        fn lines_side_by_side_are_lines_alone(
            parts in prop::collection::vec(prop::sample::select(PARTS), 1..8),
            lines in prop::collection::vec("[abcé\n 01]{0,12}", 0..40),
        ) {
            let pattern = parts.concat();
            let Ok(regex) = Regex::new(&pattern) else { return Ok(()) };
            let Some(mut lanes) = Lanes::of(&pattern) else { return Ok(()) };
            let alone: Vec<bool> = lines.iter().map(|line| regex.is_match(line)).collect();
            prop_assert_eq!(side_by_side(&mut lanes, &lines), Some(alone), "{}", pattern);
        }
    }
}
