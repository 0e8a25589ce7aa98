//! LogQL text to tokens.

use super::error::QueryError;
use super::units;
use winnow::ascii::multispace1;
use winnow::combinator::{alt, fail, repeat};
use winnow::error::{ContextError, ErrMode};
use winnow::prelude::*;
use winnow::stream::LocatingSlice;
use winnow::token::{any, take_till, take_while};

type Input<'a> = LocatingSlice<&'a str>;
type Lexed<T> = Result<T, ErrMode<ContextError>>;

/// A piece of a query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    Text(String),
    Number(f64),
    /// Nanoseconds.
    Duration(i64),
    Bytes(u64),
    /// `[5m]`, nanoseconds.
    Range(i64),
    /// `--strict`
    Flag(String),
    Symbol(&'static str),
    End,
}

impl Token {
    /// How an error names it; the names are those of Loki's errors.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Ident(word) if is_keyword(word) => word,
            Self::Ident(_) => "IDENTIFIER",
            Self::Text(_) => "STRING",
            Self::Number(_) => "NUMBER",
            Self::Duration(_) => "DURATION",
            Self::Bytes(_) => "BYTES",
            Self::Range(_) => "RANGE",
            Self::Flag(_) => "PARSER_FLAG",
            Self::Symbol(text) => text,
            Self::End => "$end",
        }
    }
}

fn is_keyword(word: &str) -> bool {
    const WORDS: [&str; 24] = [
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
        "and",
        "or",
        "unless",
        "offset",
        "unwrap",
        "json",
        "logfmt",
        "regexp",
        "pattern",
        "unpack",
        "line_format",
        "label_format",
        "decolorize",
        "drop",
        "keep",
        "vector",
        "label_replace",
    ];
    WORDS.contains(&word)
}

/// A token and the byte at which it starts.
#[derive(Clone, Debug)]
pub(crate) struct Spanned {
    pub(crate) token: Token,
    pub(crate) at: usize,
}

/// The longer ones first, since the first that fits is taken.
const SYMBOLS: [&str; 27] = [
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "{", "}", "(", ")", "[", "]", ",",
    "|", "=", ">", "<", "+", "-", "*", "/", "%", "^",
];

/// All tokens of a query, the last being `End`.
pub(crate) fn lex(query: &str) -> Result<Vec<Spanned>, QueryError> {
    let mut input = LocatingSlice::new(query);
    let mut tokens = Vec::new();
    loop {
        skip_blank(&mut input);
        let at = offset(query, &input);
        if input.is_empty() {
            tokens.push(Spanned {
                token: Token::End,
                at,
            });
            return Ok(tokens);
        }
        let token = token(query, &mut input, at)?;
        tokens.push(Spanned { token, at });
    }
}

fn offset(query: &str, input: &Input<'_>) -> usize {
    query.len() - input.len()
}

fn skip_blank(input: &mut Input<'_>) {
    let blank = multispace1.void();
    let comment = ('#', take_till(0.., '\n')).void();
    // Zero repetitions are fine, so this cannot fail.
    let _: Lexed<()> = repeat(0.., alt((blank, comment))).parse_next(input);
}

fn token(query: &str, input: &mut Input<'_>, at: usize) -> Result<Token, QueryError> {
    let rest = &query[at..];
    let first = rest.chars().next().unwrap_or_default();
    match first {
        '"' | '`' => text(input).map_err(|_| syntax_at(query, at, "literal not terminated")),
        '[' => range(query, input, at),
        '0'..='9' | '.' => measure(query, input, at),
        '-' if rest.starts_with("--") => flag(input)
            .map_err(|_| syntax_at(query, at, "syntax error: expecting a flag behind --")),
        c if c == '_' || c.is_ascii_alphabetic() => {
            let mut word = take_while(1.., |c: char| c == '_' || c.is_ascii_alphanumeric());
            let word: Lexed<&str> = word.parse_next(input);
            let word = word.map_err(|_| syntax_at(query, at, "syntax error"))?;
            Ok(Token::Ident(word.to_owned()))
        }
        _ => {
            let symbol = SYMBOLS.into_iter().find(|s| rest.starts_with(s));
            let Some(symbol) = symbol else {
                let message = format!("syntax error: unexpected character {first:?}");
                return Err(syntax_at(query, at, &message));
            };
            let mut literal = symbol;
            let taken: Lexed<&str> = literal.parse_next(input);
            taken
                .map(|_| Token::Symbol(symbol))
                .map_err(|_| syntax_at(query, at, "syntax error"))
        }
    }
}

fn flag(input: &mut Input<'_>) -> Lexed<Token> {
    (
        "--",
        take_while(1.., |c: char| c == '-' || c.is_ascii_alphabetic()),
    )
        .take()
        .map(|flag: &str| Token::Flag(flag.to_owned()))
        .parse_next(input)
}

fn text(input: &mut Input<'_>) -> Lexed<Token> {
    alt((raw_text, quoted_text))
        .map(Token::Text)
        .parse_next(input)
}

fn raw_text(input: &mut Input<'_>) -> Lexed<String> {
    ('`', take_till(0.., '`'), '`')
        .map(|(_, body, _): (_, &str, _)| body.to_owned())
        .parse_next(input)
}

fn quoted_text(input: &mut Input<'_>) -> Lexed<String> {
    '"'.parse_next(input)?;
    let mut out: Vec<u8> = Vec::new();
    loop {
        match any.parse_next(input)? {
            '"' => return String::from_utf8(out).or_else(|_| fail.parse_next(input)),
            '\n' => return fail.parse_next(input),
            '\\' => escape(input, &mut out)?,
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Go's escapes, those of a string in double quotes.
fn escape(input: &mut Input<'_>, out: &mut Vec<u8>) -> Lexed<()> {
    let plain = match any.parse_next(input)? {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'v' => '\u{b}',
        c @ ('\\' | '"' | '\'') => c,
        'x' => {
            let byte = u8::try_from(hex(input, 2)?);
            out.push(byte.or_else(|_| fail.parse_next(input))?);
            return Ok(());
        }
        'u' => unicode(input, 4)?,
        'U' => unicode(input, 8)?,
        _ => return fail.parse_next(input),
    };
    out.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(())
}

fn unicode(input: &mut Input<'_>, digits: usize) -> Lexed<char> {
    let code = hex(input, digits)?;
    match char::from_u32(code) {
        Some(c) => Ok(c),
        None => fail.parse_next(input),
    }
}

fn hex(input: &mut Input<'_>, digits: usize) -> Lexed<u32> {
    take_while(digits, |c: char| c.is_ascii_hexdigit())
        .try_map(|text: &str| u32::from_str_radix(text, 16))
        .parse_next(input)
}

/// A number, a duration such as `1h30m`, or a size such as `1.5MB`.
fn measure(query: &str, input: &mut Input<'_>, at: usize) -> Result<Token, QueryError> {
    let word: Lexed<&str> = take_while(1.., |c: char| {
        c == '.' || c == 'µ' || c == 'μ' || c.is_ascii_alphanumeric()
    })
    .parse_next(input);
    let word = word.map_err(|_| syntax_at(query, at, "syntax error"))?;
    let exponent = word.ends_with(['e', 'E']) && input.starts_with(['+', '-']);
    let word = if exponent {
        // `1e-3`: the sign belongs to the number.
        let tail: Lexed<&str> = (any, take_while(1.., |c: char| c.is_ascii_digit()))
            .take()
            .parse_next(input);
        let tail = tail.map_err(|_| syntax_at(query, at, "syntax error: malformed exponent"))?;
        format!("{word}{tail}")
    } else {
        word.to_owned()
    };
    let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    if let Some(value) = hex.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        return Ok(Token::Number(value.into()));
    }
    let number = if word.contains(|c: char| c.is_ascii_alphabetic() && c != 'e' && c != 'E') {
        None
    } else {
        word.parse().ok().filter(|n: &f64| n.is_finite())
    };
    number
        .map(Token::Number)
        .or_else(|| units::duration(&word).map(Token::Duration))
        .or_else(|| units::bytes(&word).map(Token::Bytes))
        .ok_or_else(|| {
            let message = format!("syntax error: {word:?} is no number, duration or size");
            syntax_at(query, at, &message)
        })
}

fn range(query: &str, input: &mut Input<'_>, at: usize) -> Result<Token, QueryError> {
    let body: Lexed<(char, &str, char)> = ('[', take_till(0.., ']'), ']').parse_next(input);
    let (_, body, _) = body.map_err(|_| syntax_at(query, at, "missing closing ']' in duration"))?;
    let body = body.trim();
    units::duration(body)
        .filter(|ns| *ns > 0)
        .map(Token::Range)
        .ok_or_else(|| syntax_at(query, at, &range_error(body)))
}

fn range_error(body: &str) -> String {
    let units = body
        .split(|c: char| c.is_ascii_digit() || c == '.')
        .find(|unit| !unit.is_empty() && units::duration(&format!("1{unit}")).is_none());
    match units {
        Some(unit) => format!("unknown unit {unit:?} in duration {body:?}"),
        None => format!("not a valid duration: {body:?}"),
    }
}

/// A syntax error at a byte of the query.
pub(crate) fn syntax_at(query: &str, at: usize, message: &str) -> QueryError {
    let before = &query[..at];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    QueryError::Syntax {
        line: before.matches('\n').count() + 1,
        col: before[line_start..].chars().count() + 1,
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(query: &str) -> Vec<Token> {
        lex(query).unwrap().into_iter().map(|s| s.token).collect()
    }

    #[test]
    fn tokens_of_a_query() {
        assert_eq!(
            tokens("{a=~`x.*`} |= \"q\\\"\\u00e9\\x41\" # why\n[5m] --strict 1.5KiB 1e-3 90s 0x10"),
            [
                Token::Symbol("{"),
                Token::Ident("a".into()),
                Token::Symbol("=~"),
                Token::Text("x.*".into()),
                Token::Symbol("}"),
                Token::Symbol("|="),
                Token::Text("q\"éA".into()),
                Token::Range(300_000_000_000),
                Token::Flag("--strict".into()),
                Token::Bytes(1536),
                Token::Number(0.001),
                Token::Duration(90_000_000_000),
                Token::Number(16.0),
                Token::End,
            ]
        );
    }

    #[test]
    fn errors_name_line_and_column() {
        let text = |query: &str| lex(query).unwrap_err().to_string();
        assert_eq!(
            text("rate({app=\"api\"}[5x])"),
            "parse error at line 1, col 17: unknown unit \"x\" in duration \"5x\""
        );
        assert_eq!(
            text("{a=\"é\"}\n  |= \"x"),
            "parse error at line 2, col 6: literal not terminated"
        );
        assert_eq!(
            text("a ; b"),
            "parse error at line 1, col 3: syntax error: unexpected character ';'"
        );
    }
}
