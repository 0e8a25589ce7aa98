//! Tokens to a syntax tree: one function a grammar rule, deciding by the next token.
//!
//! Written out by hand over the tokens (which winnow makes) because the answers to a wrong query
//! are part of the API: they name the token found and those that would have been right, which
//! alternatives tried in turn cannot.

mod log;
mod metric;

pub(super) use metric::{RANGE_OPS, VECTOR_OPS};

use super::ast::{Expr, Grouping};
use super::error::QueryError;
use super::lexer::{Spanned, Token, lex, syntax_at};

/// How deep a query may nest and how many operators it may chain. Both are walked recursively, and
/// no query may take the stack of its thread.
const MOST_NESTING: usize = 64;
const MOST_OPERATORS: usize = 256;
/// Longest query, in bytes.
const MOST_BYTES: usize = 128 * 1024;

type Parsed<T> = Result<T, QueryError>;

/// The syntax tree of a query.
///
/// # Errors
/// When the text is no LogQL, or uses what is not supported; the text says where.
pub fn parse(query: &str) -> Result<Expr, QueryError> {
    let mut parser = Parser::new(query)?;
    if *parser.peek() == Token::End {
        return Err(QueryError::invalid("syntax error: unexpected $end"));
    }
    let expr = parser.expr()?;
    parser.end()?;
    Ok(expr)
}

/// A stream selector alone, as `match[]` and the labels of a push are written.
///
/// # Errors
/// When the text is no selector.
pub fn parse_selector(query: &str) -> Result<Vec<super::ast::Matcher>, QueryError> {
    let mut parser = Parser::new(query)?;
    let matchers = parser.selector()?;
    parser.end()?;
    Ok(matchers)
}

struct Parser<'q> {
    query: &'q str,
    tokens: Vec<Spanned>,
    at: usize,
    nesting: usize,
    operators: usize,
}

impl<'q> Parser<'q> {
    fn new(query: &'q str) -> Parsed<Self> {
        if query.len() > MOST_BYTES {
            return Err(QueryError::invalid(format!(
                "the query has {} bytes; at most {MOST_BYTES} are read",
                query.len()
            )));
        }
        Ok(Self {
            query,
            tokens: lex(query)?,
            at: 0,
            nesting: 0,
            operators: 0,
        })
    }

    fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    /// The token `ahead` of the next one; past the last it is still the last, `End`.
    fn peek_at(&self, ahead: usize) -> &Token {
        let at = (self.at + ahead).min(self.tokens.len() - 1);
        &self.tokens[at].token
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn is(&self, symbol: &str) -> bool {
        self.is_at(0, symbol)
    }

    fn is_at(&self, ahead: usize, symbol: &str) -> bool {
        matches!(self.peek_at(ahead), Token::Symbol(s) if *s == symbol)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Ident(w) if w == word)
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.next();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        if self.eat(symbol) {
            Ok(())
        } else {
            Err(self.unexpected(&[symbol]))
        }
    }

    fn end(&mut self) -> Parsed<()> {
        match self.peek() {
            Token::End => Ok(()),
            _ => Err(self.unexpected(&[])),
        }
    }

    fn ident(&mut self) -> Parsed<String> {
        match self.peek() {
            Token::Ident(name) => {
                let name = name.clone();
                self.next();
                Ok(name)
            }
            _ => Err(self.unexpected(&["IDENTIFIER"])),
        }
    }

    fn text(&mut self) -> Parsed<String> {
        match self.peek() {
            Token::Text(text) => {
                let text = text.clone();
                self.next();
                Ok(text)
            }
            _ => Err(self.unexpected(&["STRING"])),
        }
    }

    /// A number with an optional sign.
    fn number(&mut self) -> Parsed<f64> {
        let sign = if self.eat("-") {
            -1.0
        } else {
            self.eat("+");
            1.0
        };
        match *self.peek() {
            Token::Number(value) => {
                self.next();
                Ok(sign * value)
            }
            _ => Err(self.unexpected(&["NUMBER"])),
        }
    }

    /// The error that the next token is not one of these.
    fn unexpected(&self, expecting: &[&str]) -> QueryError {
        let mut message = format!("syntax error: unexpected {}", self.peek().name());
        if !expecting.is_empty() {
            message.push_str(", expecting ");
            message.push_str(&expecting.join(" or "));
        }
        self.error(&message)
    }

    /// An error at the next token.
    fn error(&self, message: &str) -> QueryError {
        let at = self.tokens[self.at.min(self.tokens.len() - 1)].at;
        syntax_at(self.query, at, message)
    }

    fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting >= MOST_NESTING {
            return Err(self.error(&format!("nested more than {MOST_NESTING} deep")));
        }
        self.nesting += 1;
        let result = rule(self);
        self.nesting -= 1;
        result
    }

    fn count_operator(&mut self) -> Parsed<()> {
        self.operators += 1;
        if self.operators > MOST_OPERATORS {
            return Err(self.error(&format!("more than {MOST_OPERATORS} operators")));
        }
        Ok(())
    }

    /// `(a, b)`, perhaps empty.
    fn names(&mut self) -> Parsed<Vec<String>> {
        self.expect("(")?;
        let mut names = Vec::new();
        while !self.is(")") {
            names.push(self.ident()?);
            if !self.eat(",") && !self.is(")") {
                return Err(self.unexpected(&[",", ")"]));
            }
        }
        self.expect(")")?;
        Ok(names)
    }

    /// `by (…)` or `without (…)`, if there.
    fn grouping(&mut self) -> Parsed<Option<Grouping>> {
        let without = if self.eat_word("without") {
            true
        } else if self.eat_word("by") {
            false
        } else {
            return Ok(None);
        };
        Ok(Some(Grouping {
            without,
            labels: self.names()?,
        }))
    }
}

#[cfg(test)]
mod tests;
