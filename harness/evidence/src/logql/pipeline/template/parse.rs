//! Template text to nodes.

use super::functions::{self, Value};

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range {
        variables: Vec<String>,
        over: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

#[derive(Debug)]
pub(super) struct Pipe {
    /// `$x :=` or `$x =`
    pub(super) variable: Option<String>,
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

/// A function with arguments, or a lone argument.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) function: Option<String>,
    pub(super) arguments: Vec<Argument>,
}

#[derive(Debug)]
pub(super) enum Argument {
    Value(Value),
    /// `.a.b`; the dot alone is empty.
    Field(Vec<String>),
    /// `$x.a`
    Variable(String, Vec<String>),
    Pipe(Pipe),
    /// A function as an argument, which takes none itself.
    Call(Command),
}

const MOST_NESTING: usize = 32;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// Starts with a dot; the parts behind it.
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Text(String),
    Int(i64),
    Float(f64),
    Symbol(&'static str),
}

/// The template cut into texts and the tokens of actions.
enum Piece {
    Text(String),
    Action(Vec<Token>),
}

/// Reads a template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, String> {
    let mut parser = Nodes {
        pieces: pieces(text)?.into_iter(),
        depth: 0,
    };
    let (nodes, end) = parser.until_end()?;
    match end {
        None => Ok(nodes),
        Some(End::End) => Err("unexpected {{end}}".to_owned()),
        Some(End::Else(_)) => Err("unexpected {{else}}".to_owned()),
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    while let Some(open) = rest.find("{{") {
        let mut before = &rest[..open];
        let mut inner = &rest[open + 2..];
        if trim_next {
            before = before.trim_start();
        }
        if let Some(trimmed) = inner.strip_prefix("- ") {
            before = before.trim_end();
            inner = trimmed;
        }
        if !before.is_empty() {
            out.push(Piece::Text(before.to_owned()));
        }
        let comment = inner.trim_start().strip_prefix("/*");
        if let Some(comment) = comment {
            let (_, after) = comment.split_once("*/").ok_or("unclosed comment")?;
            let (gap, after) = after.split_once("}}").ok_or("unclosed comment")?;
            trim_next = gap.ends_with('-');
            rest = after;
            continue;
        }
        let (tokens, trim, tail) = action(inner)?;
        out.push(Piece::Action(tokens));
        trim_next = trim;
        rest = tail;
    }
    let last = if trim_next { rest.trim_start() } else { rest };
    if !last.is_empty() {
        out.push(Piece::Text(last.to_owned()));
    }
    Ok(out)
}

/// The tokens of an action, whether it trims what follows, and what follows.
fn action(text: &str) -> Result<(Vec<Token>, bool, &str), String> {
    const UNCLOSED: &str = "unclosed action";
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        let blank = rest.len() - rest.trim_start().len();
        rest = rest.trim_start();
        if let Some(tail) = rest.strip_prefix("}}") {
            return Ok((tokens, false, tail));
        }
        if blank > 0
            && let Some(tail) = rest.strip_prefix("-}}")
        {
            return Ok((tokens, true, tail));
        }
        let first = rest.chars().next().ok_or(UNCLOSED)?;
        let (token, tail) = match first {
            '"' => quoted(rest).ok_or("unterminated quoted string")?,
            '`' => {
                let (body, tail) = rest[1..]
                    .split_once('`')
                    .ok_or("unterminated raw quoted string")?;
                (Token::Text(body.to_owned()), tail)
            }
            '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let (path, tail) = fields(rest);
                (Token::Field(path), tail)
            }
            '$' => {
                let (name, tail) = word(&rest[1..]);
                let (path, tail) = if tail.starts_with('.') {
                    fields(tail)
                } else {
                    (Vec::new(), tail)
                };
                (Token::Variable(name.to_owned(), path), tail)
            }
            '-' | '+' | '.' | '0'..='9' => number(rest)?,
            c if c == '_' || c.is_alphabetic() => {
                let (name, tail) = word(rest);
                (Token::Word(name.to_owned()), tail)
            }
            _ => {
                let symbol = [":=", "=", "|", "(", ")", ","]
                    .into_iter()
                    .find(|s| rest.starts_with(*s))
                    .ok_or_else(|| format!("unexpected {first:?} in action"))?;
                (Token::Symbol(symbol), &rest[symbol.len()..])
            }
        };
        tokens.push(token);
        rest = tail;
    }
}

fn word(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| c != '_' && !c.is_alphanumeric())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn fields(text: &str) -> (Vec<String>, &str) {
    let mut path = Vec::new();
    let mut rest = text;
    while let Some(tail) = rest.strip_prefix('.') {
        let (name, tail) = word(tail);
        rest = tail;
        if name.is_empty() {
            break;
        }
        path.push(name.to_owned());
    }
    (path, rest)
}

fn quoted(text: &str) -> Option<(Token, &str)> {
    let mut escaped = false;
    let end = text[1..].bytes().position(|byte| {
        let end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        end
    })?;
    let body = serde_json::from_str(&text[..end + 2]).ok()?;
    Some((Token::Text(body), &text[end + 2..]))
}

fn number(text: &str) -> Result<(Token, &str), String> {
    let end = text[1..]
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '.')
        .map_or(text.len(), |at| at + 1);
    let (digits, tail) = text.split_at(end);
    let token = match digits.parse::<i64>() {
        Ok(int) => Token::Int(int),
        Err(_) => Token::Float(
            digits
                .parse()
                .map_err(|_| format!("bad number syntax: {digits:?}"))?,
        ),
    };
    Ok((token, tail))
}

enum End {
    End,
    /// What follows the `else`.
    Else(Vec<Token>),
}

struct Nodes {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

impl Nodes {
    /// Nodes up to an `end` or `else` or the end of the text.
    fn until_end(&mut self) -> Result<(Vec<Node>, Option<End>), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            let keyword = match tokens.first() {
                Some(Token::Word(word)) => word.as_str(),
                _ => "",
            };
            match keyword {
                "end" => return Ok((nodes, Some(End::End))),
                "else" => return Ok((nodes, Some(End::Else(tokens[1..].to_vec())))),
                "if" | "with" | "range" => nodes.push(self.block(&tokens)?),
                "define" | "template" | "block" | "break" | "continue" => {
                    return Err(format!("{{{{{keyword}}}}} is not supported"));
                }
                _ => nodes.push(Node::Action(pipe(&tokens)?)),
            }
        }
        Ok((nodes, None))
    }

    /// An `if`, `with` or `range`, whose tokens (keyword first) have been read.
    fn block(&mut self, tokens: &[Token]) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > MOST_NESTING {
            return Err(format!("nested more than {MOST_NESTING} deep"));
        }
        let (variables, head) = match tokens.first() {
            Some(Token::Word(word)) if word == "range" => range_variables(&tokens[1..]),
            _ => (Vec::new(), &tokens[1..]),
        };
        let head = pipe(head)?;
        let (body, end) = self.until_end()?;
        let otherwise = match end {
            None => return Err("unexpected EOF".to_owned()),
            Some(End::End) => Vec::new(),
            Some(End::Else(more)) if more.is_empty() => match self.until_end()? {
                (nodes, Some(End::End)) => nodes,
                (_, Some(End::Else(_))) => return Err("unexpected {{else}}".to_owned()),
                (_, None) => return Err("unexpected EOF".to_owned()),
            },
            Some(End::Else(more)) => vec![self.block(&more)?],
        };
        self.depth -= 1;
        Ok(match tokens.first() {
            Some(Token::Word(word)) if word == "if" => Node::If(head, body, otherwise),
            Some(Token::Word(word)) if word == "with" => Node::With(head, body, otherwise),
            Some(Token::Word(word)) if word == "range" => Node::Range {
                variables,
                over: head,
                body,
                otherwise,
            },
            _ => return Err("expected if, with or range behind {{else}}".to_owned()),
        })
    }
}

/// `$k, $v :=` or `$v :=` of a `range`, and what is ranged over.
fn range_variables(tokens: &[Token]) -> (Vec<String>, &[Token]) {
    match tokens {
        [
            Token::Variable(index, _),
            Token::Symbol(","),
            Token::Variable(value, _),
            Token::Symbol(":="),
            rest @ ..,
        ] => (vec![index.clone(), value.clone()], rest),
        [Token::Variable(value, _), Token::Symbol(":="), rest @ ..] => (vec![value.clone()], rest),
        _ => (Vec::new(), tokens),
    }
}

fn pipe(tokens: &[Token]) -> Result<Pipe, String> {
    let mut reader = Reader {
        tokens,
        at: 0,
        depth: 0,
    };
    let pipe = reader.pipe()?;
    match reader.peek() {
        None => Ok(pipe),
        Some(token) => Err(format!("unexpected {token:?} in action")),
    }
}

struct Reader<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn pipe(&mut self) -> Result<Pipe, String> {
        let mut variable = None;
        let mut declares = false;
        if let (Some(Token::Variable(name, _)), Some(Token::Symbol(symbol @ (":=" | "=")))) =
            (self.peek(), self.tokens.get(self.at + 1))
        {
            variable = Some(name.clone());
            declares = *symbol == ":=";
            self.at += 2;
        }
        let mut commands = vec![self.command()?];
        while self.peek() == Some(&Token::Symbol("|")) {
            self.at += 1;
            commands.push(self.command()?);
        }
        Ok(Pipe {
            variable,
            declares,
            commands,
        })
    }

    fn command(&mut self) -> Result<Command, String> {
        let function = match self.peek() {
            Some(Token::Word(word)) if !is_constant(word) => {
                let name = word.clone();
                functions::check(&name)?;
                self.at += 1;
                Some(name)
            }
            _ => None,
        };
        let mut arguments = Vec::new();
        while let Some(argument) = self.argument()? {
            arguments.push(argument);
        }
        if function.is_none() && arguments.is_empty() {
            return Err("missing value for command".to_owned());
        }
        if function.is_none() && arguments.len() > 1 {
            return Err("can't give argument to non-function".to_owned());
        }
        Ok(Command {
            function,
            arguments,
        })
    }

    fn argument(&mut self) -> Result<Option<Argument>, String> {
        let Some(token) = self.peek().cloned() else {
            return Ok(None);
        };
        let argument = match token {
            Token::Field(path) => Argument::Field(path),
            Token::Variable(name, path) => Argument::Variable(name, path),
            Token::Text(text) => Argument::Value(Value::Text(text)),
            Token::Int(int) => Argument::Value(Value::Int(int)),
            Token::Float(float) => Argument::Value(Value::Float(float)),
            Token::Word(word) => match word.as_str() {
                "true" => Argument::Value(Value::Bool(true)),
                "false" => Argument::Value(Value::Bool(false)),
                "nil" => Argument::Value(Value::Nil),
                _ => {
                    functions::check(&word)?;
                    Argument::Call(Command {
                        function: Some(word),
                        arguments: Vec::new(),
                    })
                }
            },
            Token::Symbol("(") => return self.parenthesis().map(Some),
            Token::Symbol(_) => return Ok(None),
        };
        self.at += 1;
        Ok(Some(argument))
    }

    /// `(pipeline)`, perhaps with `.field` behind it.
    fn parenthesis(&mut self) -> Result<Argument, String> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MOST_NESTING {
            return Err(format!("nested more than {MOST_NESTING} deep"));
        }
        let mut inner = self.pipe()?;
        self.depth -= 1;
        if self.peek() != Some(&Token::Symbol(")")) {
            return Err("unclosed left paren".to_owned());
        }
        self.at += 1;
        // `(f x).a` and `(f x) .a` look alike here; the second is rare and means the same only
        // where nothing else follows, so only a closing one is read as a field.
        let fields = match (self.peek(), self.tokens.get(self.at + 1)) {
            (Some(Token::Field(path)), None) if !path.is_empty() => path.clone(),
            _ => Vec::new(),
        };
        if !fields.is_empty() {
            self.at += 1;
            inner.commands.push(Command {
                function: Some("__field__".to_owned()),
                arguments: fields
                    .into_iter()
                    .map(|f| Argument::Value(Value::Text(f)))
                    .collect(),
            });
        }
        Ok(Argument::Pipe(inner))
    }
}

fn is_constant(word: &str) -> bool {
    matches!(word, "true" | "false" | "nil")
}
