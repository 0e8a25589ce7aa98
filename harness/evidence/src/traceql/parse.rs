//! Tokens into a query, by recursive descent. One file because the rules call one another in a circle:
//! the grammar is read top to bottom.

use super::TraceQlError;
use super::ast::{
    Aggregate, Attribute, Expr, Fold, Function, Intrinsic, KINDS, Metric, Op, Pipeline, Query,
    Relation, STATUSES, Scope, Spanset, SpansetOp, Stage, Static, Then,
};
use super::lex::{Spanned, Token, error, tokens};

/// Brackets deeper than this are refused: recursion must end before the stack does.
const MAX_DEPTH: usize = 64;

/// Operators of one query: each may be a level of the tree, which is walked recursively too.
const MAX_OPERATORS: usize = 512;

/// Longest query, bytes.
const MAX_BYTES: usize = 128 * 1024;

/// `compare()` keeps this many values of each attribute when not told otherwise.
const COMPARE_TOP: i64 = 10;

pub(super) fn query(text: &str) -> Result<Query, TraceQlError> {
    if text.len() > MAX_BYTES {
        return Err(error(
            text,
            0,
            format!("the query is longer than {MAX_BYTES} bytes"),
        ));
    }
    let mut parser = Parser {
        text,
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
        operators: 0,
    };
    let query = parser.query()?;
    match parser.peek() {
        Token::End => Ok(query),
        _ => Err(parser.unexpected("")),
    }
}

/// An attribute alone, as in a request for its values. Columns count from a bracket put before it,
/// as the real server's do.
pub(super) fn attribute(text: &str) -> Result<Attribute, TraceQlError> {
    let text = format!("{{{text}}}");
    let mut parser = Parser {
        text: &text,
        tokens: tokens(&text)?,
        at: 1,
        depth: 0,
        operators: 0,
    };
    let attribute = parser.attribute()?;
    parser.expect_close()?;
    Ok(attribute)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
    operators: usize,
}

type Parsed<T> = Result<T, TraceQlError>;

impl Parser<'_> {
    fn peek(&self) -> &Token {
        // The last token is `End` and is never stepped over.
        &self.tokens[self.at].token
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        if found {
            self.at += 1;
        }
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(w) if w == word);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Parsed<()> {
        if self.take(sign) {
            Ok(())
        } else {
            Err(self.unexpected(sign))
        }
    }

    fn fail(&self, what: String) -> TraceQlError {
        error(self.text, self.tokens[self.at].at, what)
    }

    fn unexpected(&self, expecting: &str) -> TraceQlError {
        let found = match self.peek() {
            Token::End => "$end".to_owned(),
            Token::Sign(sign) => (*sign).to_owned(),
            Token::Word(word) if is_known(word) => word.clone(),
            Token::Word(_) => "IDENTIFIER".to_owned(),
            Token::Attribute(scope, _) | Token::Scoped(scope, _) => format!("{scope}."),
            Token::String(_) => "STRING".to_owned(),
            Token::Int(_) => "INTEGER".to_owned(),
            Token::Float(_) => "FLOAT".to_owned(),
            Token::Duration(_) => "DURATION".to_owned(),
        };
        let expecting = match expecting {
            "" => String::new(),
            what => format!(", expecting {what}"),
        };
        self.fail(format!("syntax error: unexpected {found}{expecting}"))
    }

    /// Counts an operator that was just read.
    fn operator(&mut self) -> Parsed<()> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return Err(self.fail(format!("more than {MAX_OPERATORS} operators")));
        }
        Ok(())
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAX_DEPTH {
            return Err(self.fail(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    // ---- the query

    fn query(&mut self) -> Parsed<Query> {
        let mut query = Query {
            pipeline: vec![self.stage()?],
            metric: None,
            hints: Vec::new(),
        };
        while self.take("|") {
            if let Some(function) = self.function()? {
                query.metric = Some(self.metric(function)?);
                break;
            }
            query.pipeline.push(self.stage()?);
        }
        if self.take_word("with") {
            query.hints = self.hints()?;
        }
        Ok(query)
    }

    fn pipeline(&mut self) -> Parsed<Pipeline> {
        let mut stages = vec![self.stage()?];
        while self.take("|") {
            stages.push(self.stage()?);
        }
        Ok(stages)
    }

    fn stage(&mut self) -> Parsed<Stage> {
        let word = match self.peek() {
            Token::Word(word) => word.clone(),
            _ => return Ok(Stage::Spans(self.spanset()?)),
        };
        match word.as_str() {
            "by" => {
                self.at += 1;
                self.expect("(")?;
                let key = self.expr()?;
                self.expect(")")?;
                Ok(Stage::By(key))
            }
            "select" => {
                self.at += 1;
                self.expect("(")?;
                Ok(Stage::Select(self.attributes()?))
            }
            "coalesce" => {
                self.at += 1;
                self.expect("(")?;
                self.expect(")")?;
                Ok(Stage::Coalesce)
            }
            _ => self.aggregate_filter(),
        }
    }

    fn aggregate_filter(&mut self) -> Parsed<Stage> {
        let Token::Word(word) = self.peek().clone() else {
            return Err(self.unexpected(""));
        };
        let fold = match word.as_str() {
            "count" => None,
            "min" => Some(Fold::Min),
            "max" => Some(Fold::Max),
            "avg" => Some(Fold::Avg),
            "sum" => Some(Fold::Sum),
            _ => return Err(self.unexpected("")),
        };
        self.at += 1;
        self.expect("(")?;
        let aggregate = match fold {
            None => Aggregate::Count,
            Some(fold) => Aggregate::Over(fold, self.expr()?),
        };
        self.expect(")")?;
        if matches!(self.peek(), Token::Sign("+" | "-" | "*" | "/" | "%" | "^")) {
            let why = "scalar filter lhs of type (%v) not yet supported";
            return Err(TraceQlError::Meaning(why.into()));
        }
        let Some(op) = self.comparison() else {
            return Err(self.unexpected(""));
        };
        let value = self.scalar()?;
        Ok(Stage::Aggregate {
            aggregate,
            op,
            value,
        })
    }

    fn comparison(&mut self) -> Option<Op> {
        let op = match self.peek() {
            Token::Sign(sign) => match *sign {
                "=" => Op::Eq,
                "!=" => Op::Ne,
                ">" => Op::Gt,
                ">=" => Op::Ge,
                "<" => Op::Lt,
                "<=" => Op::Le,
                _ => return None,
            },
            _ => return None,
        };
        self.at += 1;
        Some(op)
    }

    /// A number or duration, with a sign perhaps.
    fn scalar(&mut self) -> Parsed<Static> {
        let negative = self.take("-");
        let value = match self.peek() {
            Token::Int(v) => Static::Int(if negative { -v } else { *v }),
            Token::Float(v) => Static::Float(if negative { -v } else { *v }),
            Token::Duration(v) => Static::Duration(if negative { -v } else { *v }),
            _ => return Err(self.unexpected("")),
        };
        self.at += 1;
        Ok(value)
    }

    fn hints(&mut self) -> Parsed<Vec<(String, Static)>> {
        self.expect("(")?;
        let mut all = Vec::new();
        loop {
            let Token::Word(name) = self.peek().clone() else {
                return Err(self.unexpected("IDENTIFIER"));
            };
            self.at += 1;
            self.expect("=")?;
            let Expr::Static(value) = self.unary()? else {
                return Err(self.fail(format!("the hint {name} needs a literal")));
            };
            all.push((name, value));
            if !self.take(",") {
                break;
            }
        }
        self.expect(")")?;
        Ok(all)
    }

    // ---- sets of spans

    fn spanset(&mut self) -> Parsed<Spanset> {
        let mut left = self.structural()?;
        let mut before: Option<&str> = None;
        loop {
            let sign = match self.peek() {
                Token::Sign(sign @ ("&&" | "||")) => *sign,
                _ => return Ok(left),
            };
            if before == Some("||") && sign == "&&" {
                return Err(self.mixed());
            }
            self.at += 1;
            self.operator()?;
            let op = if sign == "&&" {
                SpansetOp::And
            } else {
                SpansetOp::Or
            };
            left = Spanset::Op(op, Box::new(left), Box::new(self.structural()?));
            before = Some(sign);
        }
    }

    /// `a || b && c` is read by most as `a || (b && c)`; the real server gives both operators the
    /// same rank. A gate must not depend on who is right.
    fn mixed(&self) -> TraceQlError {
        self.fail("&& after || needs parentheses to say which is meant first".into())
    }

    fn structural(&mut self) -> Parsed<Spanset> {
        let mut left = self.spanset_primary()?;
        while let Some(op) = self.structural_op() {
            self.operator()?;
            left = Spanset::Op(op, Box::new(left), Box::new(self.spanset_primary()?));
        }
        Ok(left)
    }

    fn structural_op(&mut self) -> Option<SpansetOp> {
        let Token::Sign(sign) = self.peek() else {
            return None;
        };
        let (negated, union) = (sign.starts_with('!'), sign.starts_with('&'));
        let relation = match sign.trim_start_matches(['!', '&']) {
            ">" => Relation::Child,
            ">>" => Relation::Descendant,
            "<" => Relation::Parent,
            "<<" => Relation::Ancestor,
            "~" => Relation::Sibling,
            _ => return None,
        };
        self.at += 1;
        Some(SpansetOp::Structural {
            relation,
            negated,
            union,
        })
    }

    fn spanset_primary(&mut self) -> Parsed<Spanset> {
        if self.take("{") {
            if self.take("}") {
                return Ok(Spanset::Filter(None));
            }
            let condition = self.expr()?;
            self.expect_close()?;
            return Ok(Spanset::Filter(Some(condition)));
        }
        if self.take("(") {
            let mut inner = self.deeper(Self::pipeline)?;
            self.expect(")")?;
            return Ok(match inner.pop() {
                Some(Stage::Spans(only)) if inner.is_empty() => only,
                Some(last) => {
                    inner.push(last);
                    Spanset::Pipeline(inner)
                }
                None => Spanset::Filter(None),
            });
        }
        let after_operator =
            self.at > 0 && !matches!(self.tokens[self.at - 1].token, Token::Sign("|" | "("));
        Err(self.unexpected(if after_operator { "{ or (" } else { "" }))
    }

    fn expect_close(&mut self) -> Parsed<()> {
        if self.take("}") {
            Ok(())
        } else {
            Err(self.unexpected(""))
        }
    }

    // ---- expressions over a span

    fn expr(&mut self) -> Parsed<Expr> {
        self.deeper(|p| {
            let mut left = p.comparing()?;
            let mut before: Option<Op> = None;
            loop {
                let op = match p.peek() {
                    Token::Sign("&&") => Op::And,
                    Token::Sign("||") => Op::Or,
                    _ => return Ok(left),
                };
                if before == Some(Op::Or) && op == Op::And {
                    return Err(p.mixed());
                }
                p.at += 1;
                p.operator()?;
                left = Expr::Binary(op, Box::new(left), Box::new(p.comparing()?));
                before = Some(op);
            }
        })
    }

    fn comparing(&mut self) -> Parsed<Expr> {
        let mut left = self.sum()?;
        loop {
            let op = match self.comparison() {
                Some(op) => op,
                None if self.take("=~") => Op::Re,
                None if self.take("!~") => Op::NotRe,
                None => return Ok(left),
            };
            self.operator()?;
            left = Expr::Binary(op, Box::new(left), Box::new(self.sum()?));
        }
    }

    fn sum(&mut self) -> Parsed<Expr> {
        let mut left = self.product()?;
        loop {
            let op = match self.peek() {
                Token::Sign("+") => Op::Add,
                Token::Sign("-") => Op::Sub,
                _ => return Ok(left),
            };
            self.at += 1;
            self.operator()?;
            left = Expr::Binary(op, Box::new(left), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Parsed<Expr> {
        let mut left = self.power()?;
        loop {
            let op = match self.peek() {
                Token::Sign("*") => Op::Mul,
                Token::Sign("/") => Op::Div,
                Token::Sign("%") => Op::Mod,
                _ => return Ok(left),
            };
            self.at += 1;
            self.operator()?;
            left = Expr::Binary(op, Box::new(left), Box::new(self.power()?));
        }
    }

    fn power(&mut self) -> Parsed<Expr> {
        let base = self.unary()?;
        if !self.take("^") {
            return Ok(base);
        }
        let exponent = self.deeper(Self::power)?;
        Ok(Expr::Binary(Op::Pow, Box::new(base), Box::new(exponent)))
    }

    fn unary(&mut self) -> Parsed<Expr> {
        if self.take("!") {
            return Ok(Expr::Not(Box::new(self.deeper(Self::unary)?)));
        }
        if self.take("-") {
            return Ok(match self.deeper(Self::unary)? {
                Expr::Static(Static::Int(v)) => Expr::Static(Static::Int(-v)),
                Expr::Static(Static::Float(v)) => Expr::Static(Static::Float(-v)),
                Expr::Static(Static::Duration(v)) => Expr::Static(Static::Duration(-v)),
                other => Expr::Neg(Box::new(other)),
            });
        }
        if self.take("(") {
            let inner = self.expr()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let value = match self.peek().clone() {
            Token::String(text) => Static::String(text),
            Token::Int(v) => Static::Int(v),
            Token::Float(v) => Static::Float(v),
            Token::Duration(v) => Static::Duration(v),
            Token::Word(word) => match keyword(&word) {
                Some(value) => value,
                None => return self.attribute().map(Expr::Attribute),
            },
            _ => return self.attribute().map(Expr::Attribute),
        };
        self.at += 1;
        Ok(Expr::Static(value))
    }

    /// Up to and including the closing bracket.
    fn attributes(&mut self) -> Parsed<Vec<Attribute>> {
        let mut all = vec![self.attribute()?];
        loop {
            if self.take(")") {
                return Ok(all);
            }
            if !self.take(",") {
                return Err(self.unexpected(") or ,"));
            }
            all.push(self.attribute()?);
        }
    }

    fn attribute(&mut self) -> Parsed<Attribute> {
        let attribute = match self.peek() {
            Token::Attribute(scope, name) => {
                let scope = match scope.as_str() {
                    "" => Scope::Any,
                    "span" => Scope::Span,
                    "resource" => Scope::Resource,
                    "event" => Scope::Event,
                    "link" => Scope::Link,
                    "instrumentation" => Scope::Instrumentation,
                    "parent" => {
                        self.at += 1;
                        return Ok(Attribute::OfParent);
                    }
                    _ => return Err(self.fail(format!("unknown identifier: {scope}"))),
                };
                Attribute::Named(scope, name.clone())
            }
            Token::Scoped(scope, name) => {
                let Some(which) = Intrinsic::named(&format!("{scope}:{name}")) else {
                    return Err(self.fail(format!("unknown identifier: {scope}:{name}")));
                };
                Attribute::Intrinsic(which)
            }
            Token::Word(word) => match Intrinsic::named(word) {
                Some(which) => Attribute::Intrinsic(which),
                None if is_known(word) => return Err(self.unexpected("")),
                None => return Err(self.fail(format!("unknown identifier: {word}"))),
            },
            _ => return Err(self.unexpected("")),
        };
        self.at += 1;
        Ok(attribute)
    }

    // ---- metrics

    /// The function of a metrics query, or nothing if the next stage is another.
    fn function(&mut self) -> Parsed<Option<Function>> {
        let Token::Word(word) = self.peek().clone() else {
            return Ok(None);
        };
        if !FUNCTIONS.contains(&word.as_str()) {
            return Ok(None);
        }
        self.at += 1;
        self.expect("(")?;
        let over = |p: &mut Self, fold| Ok(Function::Fold(fold, p.attribute()?));
        let function = match word.as_str() {
            "rate" => Function::Rate,
            "count_over_time" => Function::CountOverTime,
            "min_over_time" => over(self, Fold::Min)?,
            "max_over_time" => over(self, Fold::Max)?,
            "avg_over_time" => over(self, Fold::Avg)?,
            "sum_over_time" => over(self, Fold::Sum)?,
            "histogram_over_time" => Function::Histogram(self.attribute()?),
            "quantile_over_time" => {
                let of = self.attribute()?;
                let mut quantiles = Vec::new();
                self.expect(",")?;
                loop {
                    quantiles.push(match self.next() {
                        Token::Int(v) => v as f64,
                        Token::Float(v) => v,
                        _ => {
                            self.at -= 1;
                            return Err(self.unexpected("INTEGER or FLOAT"));
                        }
                    });
                    if !self.take(",") {
                        break;
                    }
                }
                Function::Quantile(of, quantiles)
            }
            _ => self.compare()?,
        };
        self.expect(")")?;
        Ok(Some(function))
    }

    fn compare(&mut self) -> Parsed<Function> {
        // The name and its bracket have been read.
        let place = match error(self.text, self.tokens[self.at - 2].at, String::new()) {
            TraceQlError::Syntax { line, col, .. } => (line, col),
            TraceQlError::Meaning(_) | TraceQlError::Timeout => (1, 1),
        };
        if !matches!(self.peek(), Token::Sign("{")) {
            return Err(self.unexpected("{"));
        }
        let selection = Box::new(self.spanset_primary()?);
        let mut numbers = Vec::new();
        while numbers.len() < 3 && self.take(",") {
            let Token::Int(v) = *self.peek() else {
                return Err(self.unexpected("INTEGER"));
            };
            self.at += 1;
            numbers.push(v);
        }
        let number = |i: usize| numbers.get(i).copied();
        let window = (number(1).unwrap_or(0), number(2).unwrap_or(0));
        Ok(Function::Compare {
            selection,
            top: number(0).unwrap_or(COMPARE_TOP),
            window,
            place,
        })
    }

    fn metric(&mut self, function: Function) -> Parsed<Metric> {
        let mut metric = Metric {
            function,
            by: Vec::new(),
            then: Vec::new(),
        };
        let compares = matches!(metric.function, Function::Compare { .. });
        if compares && matches!(self.peek(), Token::Word(w) if w == "by") {
            return Err(self.unexpected("with"));
        }
        if self.take_word("by") {
            self.expect("(")?;
            metric.by = self.attributes()?;
        }
        loop {
            if let Some(op) = self.comparison() {
                let number = matches!(
                    self.peek(),
                    Token::Int(_) | Token::Float(_) | Token::Duration(_)
                );
                if !number && !matches!(self.peek(), Token::Sign("-")) {
                    return Err(self.unexpected("INTEGER or FLOAT or DURATION or -"));
                }
                let value = match self.scalar()? {
                    Static::Int(v) => v as f64,
                    Static::Float(v) => v,
                    // Series of durations are in seconds.
                    Static::Duration(ns) => ns as f64 / 1e9,
                    _ => return Err(self.unexpected("")),
                };
                metric.then.push(Then::Keep(op, value));
            } else if self.take("|") {
                metric.then.push(self.ranking()?);
            } else {
                return Ok(metric);
            }
        }
    }

    fn ranking(&mut self) -> Parsed<Then> {
        let make: fn(usize) -> Then = match self.peek() {
            Token::Word(w) if w == "topk" => Then::Top,
            Token::Word(w) if w == "bottomk" => Then::Bottom,
            _ => return Err(self.unexpected("topk or bottomk")),
        };
        self.at += 1;
        self.expect("(")?;
        let Token::Int(limit) = *self.peek() else {
            return Err(self.unexpected("INTEGER"));
        };
        let limit = usize::try_from(limit)
            .ok()
            .filter(|n| *n > 0)
            .ok_or_else(|| self.fail("topk and bottomk need a limit greater than 0".into()))?;
        self.at += 1;
        self.expect(")")?;
        Ok(make(limit))
    }
}

const FUNCTIONS: &[&str] = &[
    "rate",
    "count_over_time",
    "min_over_time",
    "max_over_time",
    "avg_over_time",
    "sum_over_time",
    "quantile_over_time",
    "histogram_over_time",
    "compare",
];

fn keyword(word: &str) -> Option<Static> {
    let number = |names: &[&str]| names.iter().position(|n| *n == word).map(|i| i as u8);
    match word {
        "true" => Some(Static::Bool(true)),
        "false" => Some(Static::Bool(false)),
        "nil" => Some(Static::Nil),
        _ => number(&STATUSES)
            .map(Static::Status)
            .or_else(|| number(&KINDS).map(Static::Kind)),
    }
}

fn is_known(word: &str) -> bool {
    const OTHERS: &[&str] = &[
        "by", "select", "coalesce", "with", "count", "min", "max", "avg", "sum", "topk", "bottomk",
    ];
    OTHERS.contains(&word)
        || FUNCTIONS.contains(&word)
        || keyword(word).is_some()
        || Intrinsic::named(word).is_some()
}
