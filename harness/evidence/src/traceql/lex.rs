//! Text into tokens.

use winnow::ascii::{digit1, multispace1};
use winnow::combinator::{alt, not, opt, preceded, repeat};
use winnow::prelude::*;
use winnow::stream::{LocatingSlice, Location};
use winnow::token::{any, none_of, one_of, take_until, take_while};

use super::TraceQlError;

/// A token with the byte offset at which it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spanned {
    pub(super) at: usize,
    pub(super) token: Token,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// An operator or a bracket.
    Sign(&'static str),
    /// A bare word.
    Word(String),
    /// `scope.name`; the scope is empty for `.name`.
    Attribute(String, String),
    /// `scope:name`.
    Scoped(String, String),
    String(String),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    End,
}

/// Longest first, so that none hides another.
const SIGNS: &[&str] = &[
    "!>>", "!<<", "&>>", "&<<", "&&", "||", "!=", "!~", "!>", "!<", "=~", ">=", "<=", ">>", "<<",
    "&>", "&<", "&~", "{", "}", "(", ")", ",", "|", "!", "=", ">", "<", "~", "+", "-", "*", "/",
    "%", "^",
];

/// Words after which `.` or `:` makes an attribute of what follows.
const SCOPES: &[&str] = &[
    "span",
    "resource",
    "event",
    "link",
    "instrumentation",
    "parent",
    "trace",
];

type Input<'a> = LocatingSlice<&'a str>;

/// All tokens of a text, [`Token::End`] last.
pub(super) fn tokens(text: &str) -> Result<Vec<Spanned>, TraceQlError> {
    let mut input = LocatingSlice::new(text);
    let mut all = Vec::new();
    loop {
        skip_blank(&mut input);
        let at = input.current_token_start();
        if input.is_empty() {
            all.push(Spanned {
                at,
                token: Token::End,
            });
            return Ok(all);
        }
        if text[at..].starts_with("/*") {
            return Err(error(
                text,
                at,
                "syntax error: comment not terminated".into(),
            ));
        }
        let token = alt((number, string, attribute, word, sign)).parse_next(&mut input);
        let token = token.map_err(|_| match text[at..].chars().next() {
            Some('"' | '`') => error(text, at, "syntax error: literal not terminated".into()),
            Some('.') => error(
                text,
                at,
                "syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER".into(),
            ),
            Some(c) if c.is_ascii_digit() => error(
                text,
                at,
                "syntax error: a number or duration out of range".into(),
            ),
            other => {
                let odd = other.unwrap_or_default();
                error(text, at, format!("syntax error: unexpected {odd:?}"))
            }
        })?;
        all.push(Spanned { at, token });
    }
}

/// Skips blanks and comments, `//` to the end of the line and `/* … */`.
fn skip_blank(input: &mut Input<'_>) {
    let line = ("//", take_while(0.., |c| c != '\n')).void();
    let block = ("/*", take_until(0.., "*/"), "*/").void();
    let _: winnow::Result<()> =
        repeat(0.., alt((multispace1.void(), line, block))).parse_next(input);
}

/// A syntax error at a byte offset.
pub(super) fn error(text: &str, at: usize, what: String) -> TraceQlError {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let col = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    TraceQlError::Syntax { line, col, what }
}

fn sign(input: &mut Input<'_>) -> winnow::Result<Token> {
    for sign in SIGNS {
        let found: winnow::Result<Option<&str>> = opt(*sign).parse_next(input);
        if found?.is_some() {
            return Ok(Token::Sign(sign));
        }
    }
    Err(winnow::error::ContextError::new())
}

fn word(input: &mut Input<'_>) -> winnow::Result<Token> {
    name.map(|w: &str| Token::Word(w.to_owned()))
        .parse_next(input)
}

fn name<'a>(input: &mut Input<'a>) -> winnow::Result<&'a str> {
    let start = |c: char| c == '_' || c.is_alphabetic();
    (
        one_of(start),
        take_while(0.., |c: char| c == '_' || c.is_alphanumeric()),
    )
        .take()
        .parse_next(input)
}

/// `.name`, `scope.name` and `scope:name`. A word that is no scope is left to [`word`].
fn attribute(input: &mut Input<'_>) -> winnow::Result<Token> {
    let scope = alt((
        name.verify(|w: &str| SCOPES.contains(&w)),
        winnow::combinator::empty.value(""),
    ));
    let (scope, sign) = (scope, one_of(['.', ':'])).parse_next(input)?;
    if sign == ':' {
        let name = name.parse_next(input)?;
        return Ok(Token::Scoped(scope.to_owned(), name.to_owned()));
    }
    let parts: Vec<String> =
        repeat(1.., alt((quoted, bare_part.map(str::to_owned)))).parse_next(input)?;
    Ok(Token::Attribute(scope.to_owned(), parts.concat()))
}

/// The unquoted part of an attribute's name. `+`, `-`, `*` and `/` belong to it: Tempo reads
/// `span.a*2` as the attribute named `a*2`, and so must we.
fn bare_part<'a>(input: &mut Input<'a>) -> winnow::Result<&'a str> {
    let ends = |c: char| c.is_whitespace() || "{}()=~!<>&|^,\"`".contains(c);
    take_while(1.., move |c| !ends(c)).parse_next(input)
}

fn string(input: &mut Input<'_>) -> winnow::Result<Token> {
    let raw = ('`', take_while(0.., |c| c != '`'), '`').map(|(_, s, _): (_, &str, _)| s.to_owned());
    alt((quoted, raw)).map(Token::String).parse_next(input)
}

/// A double-quoted string with the escapes of Go.
fn quoted(input: &mut Input<'_>) -> winnow::Result<String> {
    let plain = none_of(['"', '\\', '\n']);
    let hex = |digits: usize| {
        take_while(digits..=digits, |c: char| c.is_ascii_hexdigit())
            .verify_map(|h: &str| char::from_u32(u32::from_str_radix(h, 16).ok()?))
    };
    let escape = preceded(
        '\\',
        alt((
            preceded('u', hex(4)),
            preceded('U', hex(8)),
            preceded('x', hex(2)),
            any.verify_map(|c| match c {
                'n' => Some('\n'),
                't' => Some('\t'),
                'r' => Some('\r'),
                'a' => Some('\x07'),
                'b' => Some('\x08'),
                'f' => Some('\x0c'),
                'v' => Some('\x0b'),
                '\\' | '"' | '\'' => Some(c),
                _ => None,
            }),
        )),
    );
    let (_, text, _) = ('"', repeat(0.., alt((escape, plain))), '"').parse_next(input)?;
    Ok(text)
}

fn number(input: &mut Input<'_>) -> winnow::Result<Token> {
    alt((duration, float, integer)).parse_next(input)
}

/// One or more numbers with units, as in `1h30m` and `1.5s`.
fn duration(input: &mut Input<'_>) -> winnow::Result<Token> {
    let unit = alt((
        "ns".value(1.0),
        alt(("us", "µs", "μs")).value(1e3),
        "ms".value(1e6),
        "s".value(1e9),
        "m".value(60e9),
        "h".value(3600e9),
    ));
    let part = (decimal, unit).map(|(n, unit): (&str, f64)| Some((n.parse::<f64>().ok()?, unit)));
    let parts: Vec<Option<(f64, f64)>> = repeat(1.., part).parse_next(input)?;
    not(one_of(|c: char| c == '_' || c.is_alphanumeric())).parse_next(input)?;
    let total: Option<f64> = parts.into_iter().map(|p| p.map(|(n, unit)| n * unit)).sum();
    match total {
        // The largest double below 2^63.
        Some(ns) if ns <= 9_223_372_036_854_774_784.0 => Ok(Token::Duration(ns.round() as i64)),
        _ => Err(winnow::error::ContextError::new()),
    }
}

fn decimal<'a>(input: &mut Input<'a>) -> winnow::Result<&'a str> {
    alt((
        (digit1, opt(('.', winnow::ascii::digit0))).take(),
        ('.', digit1).take(),
    ))
    .parse_next(input)
}

fn float(input: &mut Input<'_>) -> winnow::Result<Token> {
    (
        decimal,
        opt((one_of(['e', 'E']), opt(one_of(['+', '-'])), digit1)),
    )
        .take()
        .verify(|text: &str| text.contains(['.', 'e', 'E']))
        .verify_map(|text: &str| text.parse().ok().map(Token::Float))
        .parse_next(input)
}

fn integer(input: &mut Input<'_>) -> winnow::Result<Token> {
    digit1
        .verify_map(|text: &str| text.parse().ok().map(Token::Int))
        .parse_next(input)
}
