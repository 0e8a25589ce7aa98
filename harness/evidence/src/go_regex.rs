//! Regular expressions as Go's `regexp` reads them, which is what Prometheus, Loki and Tempo do: RE2's
//! syntax after <https://pkg.go.dev/regexp/syntax>.
//!
//! The crate `regex` is a close relative that differs in what is easily written: `\d`, `\w`, `\s` and
//! `\b` mean Unicode there and ASCII in Go, a brace that begins no repetition is an error there and a
//! brace in Go, `[a[b]` and `[a&&b]` are sets of sets there. So a pattern is read by Go's rules and
//! written anew by the crate's; what Go refuses is refused with Go's words.

use regex::Regex;

/// A pattern that may be found anywhere in a text.
///
/// # Errors
/// Go's sentence, such as ``error parsing regexp: missing closing ): `(` ``.
pub(crate) fn anywhere(pattern: &str) -> Result<Regex, String> {
    compiled(&translated(pattern).map_err(|e| e.of(pattern))?, pattern)
}

/// A pattern that has to match a text from its start to its end, with `.` for newlines too: label
/// matchers since Prometheus 3, and those of Loki and Tempo.
///
/// # Errors
/// As [`anywhere`].
pub(crate) fn whole(pattern: &str) -> Result<Regex, String> {
    let inner = translated(pattern).map_err(|e| e.of(pattern))?;
    compiled(&format!("^(?s:{inner})$"), pattern)
}

fn compiled(rust: &str, pattern: &str) -> Result<Regex, String> {
    // What is left are limits of size and names that only Go knows.
    Regex::new(rust).map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default();
        let reason = reason.trim_start_matches("error: ");
        format!("error parsing regexp: {reason}: `{pattern}`")
    })
}

/// Why Go refuses a pattern; `None` names all of it.
#[derive(Debug, PartialEq, Eq)]
struct Refused<'p> {
    why: &'static str,
    part: Option<&'p str>,
}

impl Refused<'_> {
    fn of(&self, pattern: &str) -> String {
        let part = self.part.unwrap_or(pattern);
        format!("error parsing regexp: {}: `{part}`", self.why)
    }
}

fn refuse<'p, T>(why: &'static str, part: &'p str) -> Result<T, Refused<'p>> {
    Err(Refused {
        why,
        part: Some(part),
    })
}

const ESCAPE: &str = "invalid escape sequence";
const RANGE: &str = "invalid character class range";

/// The pattern in the syntax of the crate `regex`.
fn translated(pattern: &str) -> Result<String, Refused<'_>> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    let mut open = 0_usize;
    // Whether there is something to repeat, and where a repetition began that ends here.
    let mut operand = false;
    let mut repeated: Option<&str> = None;
    while let Some(first) = rest.chars().next() {
        let before = rest;
        let mut repetition = None;
        rest = &before[first.len_utf8()..];
        match first {
            '(' => {
                let (written, tail) = group(before)?;
                out.push_str(&written);
                // Flags for what follows open no group.
                open += usize::from(!written.ends_with(')') && !written.is_empty());
                operand &= written.is_empty();
                rest = tail;
            }
            ')' => {
                open = open.checked_sub(1).ok_or(Refused {
                    why: "unexpected )",
                    part: None,
                })?;
                out.push(')');
                operand = true;
            }
            '|' => {
                out.push('|');
                operand = false;
            }
            '*' | '+' | '?' => repetition = Some((first.to_string(), rest)),
            '{' => match counted(before) {
                Some((counts, tail)) => {
                    repetition = Some((before[..before.len() - tail.len()].to_owned(), tail));
                    let (least, most) = counts;
                    if least > 1000 || most.is_some_and(|most| most > 1000 || most < least) {
                        let part = &before[..before.len() - tail.len()];
                        return refuse("invalid repeat count", part);
                    }
                }
                None => {
                    out.push_str("\\{");
                    operand = true;
                }
            },
            '[' => {
                rest = class(before, &mut out)?;
                operand = true;
            }
            '\\' => {
                rest = escaped(before, &mut out)?;
                operand = true;
            }
            other => {
                out.push(other);
                operand = true;
            }
        }
        if let Some((written, mut tail)) = repetition.take() {
            out.push_str(&written);
            if let Some(lazy) = tail.strip_prefix('?') {
                out.push('?');
                tail = lazy;
            }
            if let Some(earlier) = repeated {
                let part = &earlier[..earlier.len() - tail.len()];
                return refuse("invalid nested repetition operator", part);
            }
            if !operand {
                let part = &before[..before.len() - tail.len()];
                return refuse("missing argument to repetition operator", part);
            }
            rest = tail;
            repeated = Some(before);
        } else {
            repeated = None;
        }
    }
    if open > 0 {
        return Err(Refused {
            why: "missing closing )",
            part: None,
        });
    }
    Ok(out)
}

/// What begins with `(`: how it is written, and what follows. Nothing, or what ends with `)`, opens no
/// group.
fn group(text: &str) -> Result<(String, &str), Refused<'_>> {
    let Some(special) = text.strip_prefix("(?") else {
        return Ok(("(".to_owned(), &text[1..]));
    };
    for begin in ["P<", "<"] {
        if let Some(name) = special.strip_prefix(begin) {
            let end = name.find('>');
            let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
            return match end {
                Some(end) if end > 0 && name[..end].chars().all(word) => {
                    Ok((format!("(?P<{}>", &name[..end]), &name[end + 1..]))
                }
                Some(end) => {
                    let upto = text.len() - name.len() + end + 1;
                    refuse("invalid named capture", &text[..upto])
                }
                None => refuse("invalid named capture", text),
            };
        }
    }
    let mut negated = None;
    for (at, c) in special.char_indices() {
        let upto = &text[..2 + at + c.len_utf8()];
        let unsupported = || refuse("invalid or unsupported Perl syntax", upto);
        match c {
            'i' | 'm' | 's' | 'U' => {}
            '-' if negated.is_none() => negated = Some(at),
            ':' | ')' if negated.is_some_and(|dash| dash + 1 == at) => return unsupported(),
            ')' if at == 0 => return Ok((String::new(), &special[1..])),
            ':' | ')' => return Ok((upto.to_owned(), &special[at + 1..])),
            _ => return unsupported(),
        }
    }
    Err(Refused {
        why: "missing closing )",
        part: None,
    })
}

/// `{n}`, `{n,}` or `{n,m}` and what follows; anything else is a brace.
fn counted(text: &str) -> Option<((u32, Option<u32>), &str)> {
    let (body, tail) = text.strip_prefix('{')?.split_once('}')?;
    let number = |digits: &str| -> Option<u32> {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let leading = digits.len() > 1 && digits.starts_with('0');
        // What is too large for a number is too large for a count.
        (plain && !leading).then(|| digits.parse().unwrap_or(u32::MAX))
    };
    let counts = match body.split_once(',') {
        None => {
            let n = number(body)?;
            (n, Some(n))
        }
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((counts, tail))
}

/// What begins with a backslash outside of a class; gives what follows.
fn escaped<'p>(text: &'p str, out: &mut String) -> Result<&'p str, Refused<'p>> {
    let tail = &text[1..];
    let mut chars = tail.chars();
    let Some(name) = chars.next() else {
        return refuse("trailing backslash at end of expression", "");
    };
    let after = chars.as_str();
    match name {
        'A' | 'z' => {
            out.push('\\');
            out.push(name);
        }
        'b' | 'B' => {
            out.push_str("(?-u:\\");
            out.push(name);
            out.push(')');
        }
        'Q' => {
            let (literal, after) = after.split_once("\\E").unwrap_or((after, ""));
            literal.chars().for_each(|c| push_char(c, out));
            return Ok(after);
        }
        _ => {
            if let Some(set) = perl_class(name) {
                out.push('[');
                out.push_str(if set.1 { "^" } else { "" });
                out.push_str(set.0);
                out.push(']');
            } else if let 'p' | 'P' = name {
                return unicode_class(text, out);
            } else {
                let (c, after) = escaped_char(text)?;
                push_char(c, out);
                return Ok(after);
            }
        }
    }
    Ok(after)
}

/// The members of `\d` and its like, and whether they are those left out.
fn perl_class(name: char) -> Option<(&'static str, bool)> {
    let members = match name.to_ascii_lowercase() {
        'd' => "0-9",
        's' => "\\t\\n\\f\\r\\x20",
        'w' => "0-9A-Za-z_",
        _ => return None,
    };
    Some((members, name.is_ascii_uppercase()))
}

/// `\pN` or `\p{Greek}`, and their opposites; gives what follows.
fn unicode_class<'p>(text: &'p str, out: &mut String) -> Result<&'p str, Refused<'p>> {
    let negated = text.starts_with("\\P");
    let tail = &text[2..];
    let (name, after) = match tail.strip_prefix('{') {
        Some(named) => match named.split_once('}') {
            Some(parts) => parts,
            None => return refuse(RANGE, text),
        },
        None => tail.split_at(tail.chars().next().map_or(0, char::len_utf8)),
    };
    let (name, inverse) = match name.strip_prefix('^') {
        Some(name) => (name, true),
        None => (name, false),
    };
    if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) {
        return refuse(RANGE, &text[..text.len() - after.len()]);
    }
    let sign = if negated == inverse { 'p' } else { 'P' };
    out.push_str(&format!("\\{sign}{{{name}}}"));
    Ok(after)
}

/// The character that an escape stands for, in a class or outside, and what follows.
fn escaped_char(text: &str) -> Result<(char, &str), Refused<'_>> {
    let mut chars = text[1..].chars();
    let Some(name) = chars.next() else {
        return refuse("trailing backslash at end of expression", "");
    };
    let after = chars.as_str();
    let invalid = |after: &str| refuse(ESCAPE, &text[..text.len() - after.len()]);
    let c = match name {
        'a' => '\x07',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'x' => return hexadecimal(text, after),
        '0'..='7' => {
            let more = after
                .bytes()
                .take(2)
                .take_while(|b| matches!(b, b'0'..=b'7'));
            let more = more.count();
            if name != '0' && more == 0 {
                return invalid(after);
            }
            let digits = &text[1..2 + more];
            let c = u32::from_str_radix(digits, 8).ok().and_then(char::from_u32);
            return c.map_or_else(|| invalid(after), |c| Ok((c, &after[more..])));
        }
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => other,
        _ => return invalid(after),
    };
    Ok((c, after))
}

/// `\x41` or `\x{263a}`; `after` is what follows the `x`.
fn hexadecimal<'p>(text: &'p str, after: &'p str) -> Result<(char, &'p str), Refused<'p>> {
    let (digits, tail) = match after.strip_prefix('{') {
        Some(braced) => braced.split_once('}').unwrap_or((braced, "")),
        None => {
            let two: usize = after.chars().take(2).map(char::len_utf8).sum();
            after.split_at(two)
        }
    };
    let braced = after.starts_with('{');
    let right = digits.bytes().all(|b| b.is_ascii_hexdigit())
        && if braced {
            !digits.is_empty()
        } else {
            digits.len() == 2
        };
    let value = u32::from_str_radix(digits, 16).ok().filter(|_| right);
    match value.and_then(char::from_u32) {
        Some(c) => Ok((c, tail)),
        None => refuse(ESCAPE, &text[..text.len() - tail.len()]),
    }
}

const POSIX: &[&str] = &[
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// What begins with `[`; gives what follows.
fn class<'p>(text: &'p str, out: &mut String) -> Result<&'p str, Refused<'p>> {
    let mut rest = &text[1..];
    out.push('[');
    if let Some(tail) = rest.strip_prefix('^') {
        out.push('^');
        rest = tail;
    }
    let mut first = true;
    while first || !rest.starts_with(']') {
        first = false;
        if let Some(named) = rest.strip_prefix("[:")
            && let Some((name, tail)) = named.split_once(":]")
        {
            if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
                return refuse(RANGE, &rest[..rest.len() - tail.len()]);
            }
            out.push_str(&rest[..rest.len() - tail.len()]);
            rest = tail;
            continue;
        }
        if rest.starts_with("\\p") || rest.starts_with("\\P") {
            rest = unicode_class(rest, out)?;
            continue;
        }
        if let Some(name) = rest.strip_prefix('\\').and_then(|t| t.chars().next())
            && let Some((members, negated)) = perl_class(name)
        {
            if negated {
                out.push_str(&format!("[^{members}]"));
            } else {
                out.push_str(members);
            }
            rest = &rest[2..];
            continue;
        }
        let range = rest;
        let (low, tail) = class_char(range, text)?;
        push_char(low, out);
        rest = tail;
        if let Some(tail) = rest.strip_prefix('-')
            && !tail.is_empty()
            && !tail.starts_with(']')
        {
            let (high, tail) = class_char(tail, text)?;
            if high < low {
                return refuse(RANGE, &range[..range.len() - tail.len()]);
            }
            out.push('-');
            push_char(high, out);
            rest = tail;
        }
    }
    out.push(']');
    Ok(&rest[1..])
}

fn class_char<'p>(text: &'p str, class: &'p str) -> Result<(char, &'p str), Refused<'p>> {
    if text.starts_with('\\') {
        return escaped_char(text);
    }
    let mut chars = text.chars();
    match chars.next() {
        Some(c) => Ok((c, chars.as_str())),
        None => refuse("missing closing ]", class),
    }
}

/// A character that stands for itself.
fn push_char(c: char, out: &mut String) {
    if c.is_alphanumeric() || c == '_' {
        out.push(c);
    } else {
        out.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go 1.19 (in Prometheus 2.42) and Go 1.25 (in Loki 3.7) answer.
    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, found, not) in [
            (r"^\d+$", "42", "٤٢"),
            (r"^\D$", "٤", "4"),
            (r"^\w+$", "a_1", "é"),
            (r"^\W$", "é", "e"),
            (r"^\s$", "\n", "\u{a0}"),
            (r"^\S$", "\u{b}", " "),
            (r"\bx", "éx", "ax"),
            (r"^a\B", "ab", "aé"),
            ("{\"a\":[0-9]+}", "{\"a\":1}", "\"a\":1"),
            ("^a{,2}$", "a{,2}", "aa"),
            ("^a{2}$", "aa", "a{2}"),
            ("^a{02}$", "a{02}", "aa"),
            ("^[a[b]+$", "[ab", "]"),
            ("^[a&&b]+$", "a&b", "c"),
            ("^[]a]+$", "]a", "b"),
            ("^[^]a]$", "b", "]"),
            ("^[a-]+$", "a-", "b"),
            ("^[--0]+$", "./-", "1"),
            (r"^[\d\-x]+$", "4-x", "٤"),
            (r"^[^\d\s]+$", "ab", "a b"),
            (r"^[\D]+$", "ab", "1"),
            (r"^[x\W]+$", "x!", "y"),
            ("^[[:alpha:]_]+$", "a_", "é"),
            ("^[[:^alpha:]]+$", "1é", "a"),
            (r"^\Qa.b*\E+$", "a.b**", "axb"),
            (r"^\Q(", "(x", "x("),
            (r"^\x41\x{1F600}\101\n$", "A😀A\n", "A"),
            (r"^\_\<\ \/$", "_< /", "x"),
            (r"^\pL\p{Greek}\P{Greek}\p{^Greek}$", "aαaa", "aaaa"),
            (
                "(?i)^straße$",
                "STRASSE".replace("SS", "ß").leak(),
                "strase",
            ),
            ("(?U)^a+$", "aa", "b"),
            ("(?)a", "a", "b"),
            ("(?<x>a)(?P<y>b)", "ab", "ba"),
            ("(?i:A)b", "ab", "aB"),
            ("a.b", "axb", "a\nb"),
            ("(?s)a.b", "a\nb", "ab"),
            ("(?m)^b$", "a\nb", "ab"),
            ("a$", "a", "a\n"),
            ("()*|x", "", "unused: all match"),
            ("a#b c~d", "a#b c~d", "a"),
        ] {
            let regex = anywhere(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert!(regex.is_match(found), "{pattern} in {found:?}");
            assert!(
                not.contains("unused") || !regex.is_match(not),
                "{pattern} in {not:?}"
            );
        }
        let regex = whole("a.b|c").expect("compiles");
        assert!(regex.is_match("a\nb") && !regex.is_match("cc") && !regex.is_match("xc"));
    }

    #[test]
    fn what_go_refuses_is_refused_in_its_words() {
        for (pattern, said) in [
            ("(", "missing closing ): `(`"),
            ("a(b", "missing closing ): `a(b`"),
            ("(?i", "missing closing ): `(?i`"),
            ("a)|(b", "unexpected ): `a)|(b`"),
            ("x[a", "missing closing ]: `[a`"),
            ("[]", "missing closing ]: `[]`"),
            ("[a-", "missing closing ]: `[a-`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("a|*?b", "missing argument to repetition operator: `*?`"),
            ("({2})", "missing argument to repetition operator: `{2}`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("a{2}{3}b", "invalid nested repetition operator: `{2}{3}`"),
            ("a+?*", "invalid nested repetition operator: `+?*`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("a{3,2}?b", "invalid repeat count: `{3,2}`"),
            ("a{99999999999}", "invalid repeat count: `{99999999999}`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
            (r"\p{L", r"invalid character class range: `\p{L`"),
            (r"a\", "trailing backslash at end of expression: ``"),
            (r"\y", r"invalid escape sequence: `\y`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"\u0041", r"invalid escape sequence: `\u`"),
            (r"\x4", r"invalid escape sequence: `\x4`"),
            (r"\x{110000}", r"invalid escape sequence: `\x{110000}`"),
            (r"[a-\d]", r"invalid escape sequence: `\d`"),
            (r"\é", r"invalid escape sequence: `\é`"),
            ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
            ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
            ("(?P<>a)", "invalid named capture: `(?P<>`"),
            ("(?P<a.b>a)", "invalid named capture: `(?P<a.b>`"),
            ("(?P<a", "invalid named capture: `(?P<a`"),
        ] {
            let error = anywhere(pattern).expect_err(pattern);
            assert_eq!(error, format!("error parsing regexp: {said}"), "{pattern}");
            assert_eq!(whole(pattern).expect_err(pattern), error);
        }
    }

    proptest::proptest! {
        /// Whatever reads as a pattern of Go's compiles, but for its size.
        #[test]
        fn what_is_translated_compiles(parts in proptest::collection::vec(proptest::sample::select(&[
            "a", "é", "[", "]", "^", "-", "(", ")", "(?i)", "(?:", "|", "*", "+", "?", "{", "}", "{2}", ",",
            "\\d", "\\W", "\\b", "\\pL", "\\x41", "\\", ".", "$", "&&", "~", "[:alpha:]", "\\Q", "\\E", "#", " ",
        ][..]), 0..12)) {
            let pattern = parts.concat();
            if let Ok(rust) = translated(&pattern) {
                let compiled = Regex::new(&rust);
                proptest::prop_assert!(compiled.is_ok(), "{} as {}: {:?}", pattern, rust, compiled);
            }
        }
    }
}
