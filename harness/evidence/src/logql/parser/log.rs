//! Selectors and pipelines.

use super::super::ast::{
    CompareOp, Conversion, Extraction, FilterValue, FormatSource, LabelFilter, LabelFormat,
    LineFilter, LineOp, LineText, LogExpr, MatchOp, Matcher, NameMatch, Stage, Unwrap,
};
use super::super::lexer::Token;
use super::{Parsed, Parser};

impl Parser<'_> {
    /// `{a="b", c=~"d"}`
    pub(super) fn selector(&mut self) -> Parsed<Vec<Matcher>> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        if self.eat("}") {
            return Ok(matchers);
        }
        loop {
            if !matches!(self.peek(), Token::Ident(_)) {
                return Err(self.unexpected(&["IDENTIFIER", "}"]));
            }
            let name = self.ident()?;
            let Some(op) = self.match_op() else {
                return Err(self.unexpected(&["=", "!=", "=~", "!~"]));
            };
            let value = self.text()?;
            matchers.push(Matcher { name, op, value });
            if self.eat("}") {
                return Ok(matchers);
            }
            if !self.eat(",") {
                return Err(self.unexpected(&["}", ","]));
            }
            // A comma may stand before the closing brace.
            if self.eat("}") {
                return Ok(matchers);
            }
        }
    }

    fn match_op(&mut self) -> Option<MatchOp> {
        let op = match self.peek() {
            Token::Symbol("=") => MatchOp::Equal,
            Token::Symbol("!=") => MatchOp::NotEqual,
            Token::Symbol("=~") => MatchOp::Regex,
            Token::Symbol("!~") => MatchOp::NotRegex,
            _ => return None,
        };
        self.next();
        Some(op)
    }

    /// A selector and all stages behind it.
    pub(super) fn log_expr(&mut self) -> Parsed<LogExpr> {
        let matchers = self.selector()?;
        let mut stages = Vec::new();
        while let Some(stage) = self.stage()? {
            stages.push(stage);
        }
        if self.at_unwrap() {
            self.next();
            return Err(self.error("syntax error: unexpected unwrap"));
        }
        Ok(LogExpr { matchers, stages })
    }

    /// Whether `| unwrap` follows.
    pub(super) fn at_unwrap(&self) -> bool {
        self.is("|") && matches!(self.peek_at(1), Token::Ident(w) if w == "unwrap")
    }

    /// The next stage, if one follows; `unwrap` is none, since only a range may have it.
    pub(super) fn stage(&mut self) -> Parsed<Option<Stage>> {
        if let Some(filter) = self.line_filter()? {
            return Ok(Some(Stage::Line(filter)));
        }
        if !self.is("|") || self.at_unwrap() {
            return Ok(None);
        }
        self.next();
        self.piped_stage().map(Some)
    }

    fn line_filter(&mut self) -> Parsed<Option<LineFilter>> {
        let op = match self.peek() {
            Token::Symbol("|=") => LineOp::Contains,
            Token::Symbol("!=") => LineOp::NotContains,
            Token::Symbol("|~") => LineOp::Regex,
            Token::Symbol("!~") => LineOp::NotRegex,
            Token::Symbol("|>") => LineOp::Pattern,
            Token::Symbol("!>") => LineOp::NotPattern,
            _ => return Ok(None),
        };
        // `{…} != 5` is a comparison that went astray; it is reported where comparisons are read.
        if op == LineOp::NotContains && !self.line_text_at(1) {
            return Ok(None);
        }
        self.next();
        let mut any = vec![self.line_text()?];
        while self.is_word("or") && self.line_text_at(1) {
            self.next();
            any.push(self.line_text()?);
        }
        Ok(Some(LineFilter { op, any }))
    }

    fn line_text_at(&self, ahead: usize) -> bool {
        match self.peek_at(ahead) {
            Token::Text(_) => true,
            Token::Ident(word) => word == "ip" && self.is_at(ahead + 1, "("),
            _ => false,
        }
    }

    fn line_text(&mut self) -> Parsed<LineText> {
        if self.is_word("ip") && self.is_at(1, "(") {
            return self.ip_pattern().map(LineText::Ip);
        }
        self.text().map(LineText::Text)
    }

    fn ip_pattern(&mut self) -> Parsed<String> {
        self.next();
        self.expect("(")?;
        let pattern = self.text()?;
        self.expect(")")?;
        Ok(pattern)
    }

    /// What follows a `|`.
    fn piped_stage(&mut self) -> Parsed<Stage> {
        let Token::Ident(word) = self.peek().clone() else {
            return self.label_filter().map(Stage::Label);
        };
        // A label may be called like a stage: `| pattern="x"`.
        if self.comparison_at(1) {
            return self.label_filter().map(Stage::Label);
        }
        match word.as_str() {
            "json" => {
                self.next();
                self.extractions().map(Stage::Json)
            }
            "logfmt" => {
                self.next();
                self.logfmt()
            }
            "regexp" => {
                self.next();
                self.text().map(Stage::Regexp)
            }
            "pattern" => {
                self.next();
                self.text().map(Stage::Pattern)
            }
            "line_format" => {
                self.next();
                self.text().map(Stage::LineFormat)
            }
            "unpack" => {
                self.next();
                Ok(Stage::Unpack)
            }
            "decolorize" => {
                self.next();
                Ok(Stage::Decolorize)
            }
            "label_format" => {
                self.next();
                self.label_formats().map(Stage::LabelFormat)
            }
            "drop" => {
                self.next();
                self.name_matches().map(Stage::Drop)
            }
            "keep" => {
                self.next();
                self.name_matches().map(Stage::Keep)
            }
            _ => self.label_filter().map(Stage::Label),
        }
    }

    /// `a="b.c", d` behind `json` or `logfmt`; none is fine.
    fn extractions(&mut self) -> Parsed<Vec<Extraction>> {
        let mut out = Vec::new();
        while let Token::Ident(label) = self.peek().clone() {
            // In `| json and …` nothing is extracted; `offset` belongs to a range.
            if out.is_empty() && matches!(label.as_str(), "and" | "or" | "unless" | "offset") {
                break;
            }
            self.next();
            let path = if self.eat("=") {
                self.text()?
            } else {
                label.clone()
            };
            out.push(Extraction { label, path });
            if !self.eat(",") {
                return Ok(out);
            }
        }
        if out.is_empty() {
            Ok(out)
        } else {
            Err(self.unexpected(&["IDENTIFIER"]))
        }
    }

    fn logfmt(&mut self) -> Parsed<Stage> {
        let (mut strict, mut keep_empty) = (false, false);
        while let Token::Flag(flag) = self.peek() {
            match flag.as_str() {
                "--strict" => strict = true,
                "--keep-empty" => keep_empty = true,
                other => {
                    let message =
                        format!("unknown flag {other}; logfmt has --strict and --keep-empty");
                    return Err(self.error(&message));
                }
            }
            self.next();
        }
        Ok(Stage::Logfmt {
            strict,
            keep_empty,
            extractions: self.extractions()?,
        })
    }

    fn label_formats(&mut self) -> Parsed<Vec<LabelFormat>> {
        let mut out: Vec<LabelFormat> = Vec::new();
        loop {
            let at = self.error("");
            let target = self.ident()?;
            if out.iter().any(|f| f.target == target) {
                let message = format!("label_format sets {target} more than once");
                return Err(match at {
                    super::QueryError::Syntax { line, col, .. } => {
                        super::QueryError::Syntax { line, col, message }
                    }
                    other => other,
                });
            }
            self.expect("=")?;
            let source = match self.peek().clone() {
                Token::Ident(name) => {
                    self.next();
                    FormatSource::Rename(name)
                }
                Token::Text(template) => {
                    self.next();
                    FormatSource::Template(template)
                }
                _ => return Err(self.unexpected(&["IDENTIFIER", "STRING"])),
            };
            out.push(LabelFormat { target, source });
            if !self.eat(",") {
                return Ok(out);
            }
        }
    }

    fn name_matches(&mut self) -> Parsed<Vec<NameMatch>> {
        let mut out = Vec::new();
        loop {
            let name = self.ident()?;
            let value = match self.match_op() {
                Some(op) => Some((op, self.text()?)),
                None => None,
            };
            out.push(NameMatch { name, value });
            if !self.eat(",") {
                return Ok(out);
            }
        }
    }

    /// `a or b and c`; `and` binds closer. A comma or nothing at all between two is `and` too.
    pub(super) fn label_filter(&mut self) -> Parsed<LabelFilter> {
        let mut left = self.label_filter_and()?;
        while self.eat_word("or") {
            self.count_operator()?;
            let right = self.label_filter_and()?;
            left = LabelFilter::Or(Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn label_filter_and(&mut self) -> Parsed<LabelFilter> {
        let mut left = self.label_filter_unit()?;
        loop {
            let joined = self.eat_word("and") || self.eat(",");
            let follows = self.is("(") || self.comparison_at(1);
            if !joined && !follows {
                return Ok(left);
            }
            self.count_operator()?;
            let right = self.label_filter_unit()?;
            left = LabelFilter::And(Box::new(left), Box::new(right));
        }
    }

    fn comparison_at(&self, ahead: usize) -> bool {
        const OPS: [&str; 9] = ["=", "!=", "=~", "!~", "==", ">", ">=", "<", "<="];
        matches!(self.peek(), Token::Ident(_)) && OPS.iter().any(|op| self.is_at(ahead, op))
    }

    fn label_filter_unit(&mut self) -> Parsed<LabelFilter> {
        if self.eat("(") {
            let inner = self.nested(Self::label_filter)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let name = self.ident()?;
        if matches!(self.peek(), Token::Ident(_)) && name == "distinct" {
            return Err(self.error("syntax error: the stage distinct is not supported"));
        }
        let Token::Symbol(symbol) = *self.peek() else {
            return Err(self.unexpected(&[]));
        };
        if !self.comparison_symbol(symbol) {
            return Err(self.unexpected(&[]));
        }
        self.next();
        self.label_filter_value(name, symbol)
    }

    fn comparison_symbol(&self, symbol: &str) -> bool {
        match_op(symbol).is_some() || compare_op(symbol).is_some()
    }

    fn label_filter_value(&mut self, name: String, symbol: &str) -> Parsed<LabelFilter> {
        if let Some(op) = match_op(symbol) {
            if let Token::Text(value) = self.peek().clone() {
                self.next();
                return Ok(LabelFilter::Text(Matcher { name, op, value }));
            }
            let negated = op == MatchOp::NotEqual;
            if self.is_word("ip") && (negated || op == MatchOp::Equal) {
                let pattern = self.ip_pattern()?;
                return Ok(LabelFilter::Ip {
                    name,
                    negated,
                    pattern,
                });
            }
        }
        let Some(op) = compare_op(symbol) else {
            return Err(self.unexpected(&["STRING"]));
        };
        let negative = self.is("-");
        if negative || self.is("+") {
            self.next();
        }
        let value = match *self.peek() {
            Token::Number(value) => FilterValue::Number(if negative { -value } else { value }),
            Token::Duration(ns) => FilterValue::Duration(if negative { -ns } else { ns }),
            Token::Bytes(bytes) if !negative => FilterValue::Bytes(bytes),
            _ => return Err(self.unexpected(&[])),
        };
        self.next();
        Ok(LabelFilter::Value { name, op, value })
    }

    /// `| unwrap duration(a) | b="c"`; the `|` is the next token.
    pub(super) fn unwrap(&mut self) -> Parsed<Unwrap> {
        self.expect("|")?;
        self.next();
        let word = self.ident()?;
        let (label, conversion) = if self.is("(") {
            let conversion = match word.as_str() {
                "duration" => Conversion::Duration,
                "duration_seconds" => Conversion::DurationSeconds,
                "bytes" => Conversion::Bytes,
                other => {
                    let message = format!(
                        "unwrap knows no conversion {other}(); it has duration(), duration_seconds() and bytes()"
                    );
                    return Err(self.error(&message));
                }
            };
            self.next();
            let label = self.ident()?;
            self.expect(")")?;
            (label, conversion)
        } else {
            (word, Conversion::Number)
        };
        let mut filters = Vec::new();
        while self.eat("|") {
            filters.push(self.label_filter()?);
        }
        Ok(Unwrap {
            label,
            conversion,
            filters,
        })
    }
}

fn match_op(symbol: &str) -> Option<MatchOp> {
    Some(match symbol {
        "=" => MatchOp::Equal,
        "!=" => MatchOp::NotEqual,
        "=~" => MatchOp::Regex,
        "!~" => MatchOp::NotRegex,
        _ => return None,
    })
}

/// A comparison by its symbol; `=` compares numbers too.
pub(super) fn compare_op(symbol: &str) -> Option<CompareOp> {
    Some(match symbol {
        "=" | "==" => CompareOp::Equal,
        "!=" => CompareOp::NotEqual,
        ">" => CompareOp::Greater,
        ">=" => CompareOp::GreaterEqual,
        "<" => CompareOp::Less,
        "<=" => CompareOp::LessEqual,
        _ => return None,
    })
}
