//! A light scan of the query text, before and beside the parser.
//!
//! The parser gives neither positions nor, in some places, an honest answer: it drops duration parts
//! that overflow, aborts on durations beyond its range and refuses backslashes in raw strings. The
//! scan refuses the first two by name, rewrites the third, names the experimental syntax that the
//! parser does not know, and gives every function and selector its place in the text.

use super::error::{QueryError, position};

/// The longest query accepted, bytes.
pub(super) const MAX_QUERY: usize = 64 << 10;
/// The most operators and brackets in one query: they bound the depth of the tree.
const MAX_OPERATORS: usize = 1000;
/// The longest duration Prometheus accepts (int64 nanoseconds), seconds.
const MAX_SECONDS: f64 = 9_223_372_036.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Word,
    Number,
    Text,
    Mark(u8),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl Token<'_> {
    fn is(&self, mark: u8) -> bool {
        self.kind == Kind::Mark(mark)
    }
}

pub(super) fn tokens(query: &str) -> Vec<Token<'_>> {
    let b = query.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while i < b.len() {
        let start = i;
        let kind = match b[i] {
            c if c.is_ascii_whitespace() => {
                i += 1;
                continue;
            }
            b'#' => {
                while i < b.len() && b[i] != b'\n' {
                    i += 1;
                }
                continue;
            }
            q @ (b'"' | b'\'' | b'`') => {
                i += 1;
                while i < b.len() && b[i] != q {
                    i += if b[i] == b'\\' && q != b'`' { 2 } else { 1 };
                }
                i = (i + 1).min(b.len());
                Kind::Text
            }
            c if c.is_ascii_alphabetic() || c == b'_' || c == b':' && !in_brackets(&out) => {
                while i < b.len() && (b[i].is_ascii_alphanumeric() || matches!(b[i], b'_' | b':')) {
                    i += 1;
                }
                Kind::Word
            }
            c if c.is_ascii_digit() || c == b'.' => {
                while i < b.len() && (b[i].is_ascii_alphanumeric() || b[i] == b'.') {
                    let exponent = matches!(b[i], b'e' | b'E')
                        && !query[start..i].starts_with("0x")
                        && matches!(b.get(i + 1), Some(b'+' | b'-'));
                    i += if exponent { 2 } else { 1 };
                }
                Kind::Number
            }
            c => {
                // A byte of a multi-byte character stays with its character.
                i += query[i..].chars().next().map_or(1, char::len_utf8);
                Kind::Mark(c)
            }
        };
        out.push(Token {
            kind,
            text: &query[start..i],
            at: start,
        });
    }
    out
}

fn in_brackets(tokens: &[Token<'_>]) -> bool {
    let last = tokens.iter().rev().find(|t| t.is(b'[') || t.is(b']'));
    last.is_some_and(|t| t.is(b'['))
}

/// Refuses what the parser would get wrong or could not name.
pub(super) fn check(query: &str, tokens: &[Token<'_>]) -> Result<(), QueryError> {
    if query.len() > MAX_QUERY {
        return Err(QueryError::parse(
            "1:1",
            format!("query is longer than {MAX_QUERY} bytes"),
        ));
    }
    let operators = tokens.iter().filter(|t| matches!(t.kind, Kind::Mark(_)));
    if operators.clone().count() > MAX_OPERATORS {
        return Err(QueryError::parse(
            "1:1",
            format!("query has more than {MAX_OPERATORS} operators and brackets"),
        ));
    }
    let mut bracket = false;
    for (i, t) in tokens.iter().enumerate() {
        let at = || position(query, t.at);
        let before = i.checked_sub(1).map(|j| &tokens[j]);
        match t.kind {
            Kind::Mark(b'[') => bracket = true,
            Kind::Mark(b']') => bracket = false,
            Kind::Mark(b':') if bracket => {}
            Kind::Number => {
                let offset = starts_offset(tokens, i);
                check_number(t, bracket, offset).map_err(|m| QueryError::parse(at(), m))?;
            }
            Kind::Mark(_) | Kind::Word if bracket => {
                return Err(QueryError::unsupported(at(), "duration expressions"));
            }
            Kind::Word | Kind::Mark(b'(') if starts_offset(tokens, i) => {
                return Err(QueryError::unsupported(at(), "duration expressions"));
            }
            Kind::Word => {
                if let Some(what) = experimental_word(tokens, i) {
                    return Err(QueryError::unsupported(at(), &what));
                }
            }
            // `</` and `>/` trim native histograms.
            Kind::Mark(b'/') if before.is_some_and(|p| p.is(b'<') || p.is(b'>')) => {
                return Err(QueryError::unsupported(at(), "a native histogram operator"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the token is where the duration of an `offset` begins, after its sign if there is one.
fn starts_offset(tokens: &[Token<'_>], i: usize) -> bool {
    let word = |j: Option<usize>| j.is_some_and(|j| is_word(&tokens[j], "offset"));
    let signed = i >= 1 && (tokens[i - 1].is(b'-') || tokens[i - 1].is(b'+'));
    word(i.checked_sub(1)) || signed && word(i.checked_sub(2))
}

/// Experimental syntax that the parser does not know.
fn experimental_word(tokens: &[Token<'_>], i: usize) -> Option<String> {
    let name = tokens[i].text.to_ascii_lowercase();
    let called = tokens.get(i + 1).is_some_and(|n| n.is(b'('));
    if called && name == "info" {
        return Some("the experimental function \"info\"".into());
    }
    let before = &tokens[i.checked_sub(1)?];
    let operator = ["and", "or", "unless", "atan2", "bool"];
    let after_selector = match before.kind {
        Kind::Word => !operator.iter().any(|w| is_word(before, w)),
        Kind::Number => true,
        Kind::Text => false,
        Kind::Mark(m) => matches!(m, b']' | b'}' | b')'),
    };
    let modifier = name == "anchored" || name == "smoothed";
    (modifier && after_selector && !called).then(|| format!("the modifier {name:?}"))
}

fn is_word(t: &Token<'_>, w: &str) -> bool {
    t.kind == Kind::Word && t.text.eq_ignore_ascii_case(w)
}

fn check_number(t: &Token<'_>, bracket: bool, offset: bool) -> Result<(), String> {
    let has_unit = t
        .text
        .bytes()
        .last()
        .is_some_and(|c| b"smhdwy".contains(&c))
        && !t.text.starts_with("0x");
    if has_unit {
        let seconds = unit_seconds(t.text)
            .ok_or_else(|| format!("not a valid duration string: {:?}", t.text))?;
        if seconds > MAX_SECONDS {
            return Err("duration out of range".into());
        }
        if bracket && seconds == 0.0 {
            return Err("duration must be greater than 0".into());
        }
        return Ok(());
    }
    if bracket || offset {
        let seconds: f64 = t
            .text
            .parse()
            .map_err(|_| format!("not a valid duration string: {:?}", t.text))?;
        if seconds.is_nan() || seconds > MAX_SECONDS {
            return Err("duration out of range".into());
        }
        if bracket && seconds < 0.001 {
            return Err("duration must be greater than 0".into());
        }
    }
    Ok(())
}

/// Seconds of `1h30m`; `None` when it is not such a string or a part does not fit the parser's 32 bits.
fn unit_seconds(s: &str) -> Option<f64> {
    let mut total = 0.0;
    let mut rest = s;
    while !rest.is_empty() {
        let n = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value: u32 = rest[..n].parse().ok()?;
        let unit_len = rest[n..]
            .bytes()
            .take_while(u8::is_ascii_alphabetic)
            .count();
        let unit = match &rest[n..n + unit_len] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            "w" => 7.0 * 86400.0,
            "y" => 365.0 * 86400.0,
            _ => return None,
        };
        total += f64::from(value) * unit;
        rest = &rest[n + unit_len..];
    }
    Some(total)
}

/// The query with raw strings written as quoted ones and without zero offsets given in units, both of
/// which the parser refuses although they are valid.
pub(super) fn rewrite(query: &str, tokens: &[Token<'_>]) -> String {
    let mut out = String::with_capacity(query.len());
    let mut done = 0;
    for (i, t) in tokens.iter().enumerate() {
        let zero =
            t.kind == Kind::Number && unit_seconds(t.text) == Some(0.0) && i > 0 && t.text != "0";
        let raw = t.kind == Kind::Text
            && t.text.len() >= 2
            && t.text.starts_with('`')
            && t.text.ends_with('`');
        if !zero && !raw {
            continue;
        }
        out.push_str(&query[done..t.at]);
        if zero {
            out.push('0');
        } else {
            out.push('"');
            for c in t.text[1..t.text.len() - 1].chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    c => out.push(c),
                }
            }
            out.push('"');
        }
        done = t.at + t.text.len();
    }
    out.push_str(&query[done..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(q: &str) -> String {
        check(q, &tokens(q)).expect_err(q).to_string()
    }

    #[test]
    fn refuses_by_name_and_place_what_the_parser_gets_wrong() {
        for (q, want) in [
            ("rate(a[1h5000000000ms])", "1:8"),
            ("a[1e30]", "1:3: parse error: duration out of range"),
            ("a offset 1e30", "duration out of range"),
            ("a[5m] offset -400y", "duration out of range"),
            ("a[1m+2m]", "1:5: duration expressions"),
            ("a[step()]", "1:3: duration expressions"),
            ("rate(a[5m] anchored)", "1:12: the modifier \"anchored\""),
            ("\nrate(a[5m] smoothed)", "2:12: the modifier \"smoothed\""),
            ("a[0]", "duration must be greater than 0"),
        ] {
            assert!(refused(q).contains(want), "{q}: {}", refused(q));
        }
        let deep = "(".repeat(2000);
        assert!(check(&deep, &tokens(&deep)).is_err());
    }

    #[test]
    fn accepts_valid_durations_and_colons_in_names() {
        for q in [
            "rate(job:x:rate5m[1h30m])",
            "a[5m:30s]",
            "a[300:]",
            "a offset 5m",
            "0x1fs",
            "a{b=\"[x\"}",
            "1e+5",
        ] {
            check(q, &tokens(q)).expect(q);
        }
    }

    #[test]
    fn raw_strings_become_quoted_ones() {
        let q = "a{b=~`x\\.\"y`} offset 0s";
        assert_eq!(rewrite(q, &tokens(q)), "a{b=~\"x\\\\.\\\"y\"} offset 0");
    }
}
