//! Range aggregations, vector aggregations and operators.

use super::super::ast::{
    Binary, BinaryOp, Card, Expr, Grouping, LabelReplace, LogExpr, RangeAgg, RangeOp, SampleExpr,
    Unwrap, VectorAgg, VectorOp,
};
use super::super::error::QueryError;
use super::super::lexer::Token;
use super::log::compare_op;
use super::{Parsed, Parser};

/// What the parentheses of a range aggregation hold, as far as it has been read.
#[derive(Default)]
struct LogRange {
    log: Option<LogExpr>,
    unwrap: Option<Unwrap>,
    /// Window and offset in nanoseconds.
    range: Option<(i64, i64)>,
}

impl Parser<'_> {
    /// A whole expression.
    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.nested(|p| p.binary(0))
    }

    /// An expression of operators that bind at least as closely as `least`.
    fn binary(&mut self, least: u8) -> Parsed<Expr> {
        let mut left = self.operand()?;
        while let Some((op, level)) = self.binary_op().filter(|(_, level)| *level >= least) {
            self.count_operator()?;
            let symbol = self.peek().name().to_owned();
            self.next();
            let (bool_result, matching, card, include) = self.modifiers(op)?;
            // `^` is right-associative.
            let next = if op == BinaryOp::Pow {
                level
            } else {
                level + 1
            };
            let right = self.nested(|p| p.binary(next))?;
            let left_sample = leg(left, "left", &symbol, op)?;
            let right_sample = leg(right, "right", &symbol, op)?;
            left = Expr::Sample(SampleExpr::Binary(Box::new(Binary {
                op,
                left: left_sample,
                right: right_sample,
                bool_result,
                matching,
                card,
                include,
            })));
        }
        Ok(left)
    }

    /// The operator that follows and how closely it binds.
    fn binary_op(&self) -> Option<(BinaryOp, u8)> {
        Some(match self.peek() {
            Token::Ident(word) => match word.as_str() {
                "or" => (BinaryOp::Or, 1),
                "and" => (BinaryOp::And, 2),
                "unless" => (BinaryOp::Unless, 2),
                _ => return None,
            },
            Token::Symbol(symbol) => match *symbol {
                "+" => (BinaryOp::Add, 4),
                "-" => (BinaryOp::Sub, 4),
                "*" => (BinaryOp::Mul, 5),
                "/" => (BinaryOp::Div, 5),
                "%" => (BinaryOp::Mod, 5),
                "^" => (BinaryOp::Pow, 6),
                "=" => return None,
                other => (BinaryOp::Compare(compare_op(other)?), 3),
            },
            _ => return None,
        })
    }

    fn modifiers(&mut self, op: BinaryOp) -> Parsed<(bool, Option<Grouping>, Card, Vec<String>)> {
        let bool_result = self.is_word("bool");
        if bool_result {
            if !matches!(op, BinaryOp::Compare(_)) {
                return Err(self.unexpected(&[]));
            }
            self.next();
        }
        let without = self.is_word("ignoring");
        if !without && !self.is_word("on") {
            return Ok((bool_result, None, Card::One, Vec::new()));
        }
        self.next();
        let matching = Some(Grouping {
            without,
            labels: self.names()?,
        });
        let card = match self.peek() {
            Token::Ident(word) if word == "group_left" => Card::Left,
            Token::Ident(word) if word == "group_right" => Card::Right,
            _ => return Ok((bool_result, matching, Card::One, Vec::new())),
        };
        if op.is_set() {
            return Err(self.error("grouping modifiers are not allowed for and, or, unless"));
        }
        self.next();
        // `group_left (sum(x))` is a group without labels before a parenthesis; a list holds only
        // names.
        let list = self.is("(")
            && (self.is_at(1, ")")
                || (matches!(self.peek_at(1), Token::Ident(_))
                    && (self.is_at(2, ",") || self.is_at(2, ")"))));
        let include = if list { self.names()? } else { Vec::new() };
        Ok((bool_result, matching, card, include))
    }

    fn operand(&mut self) -> Parsed<Expr> {
        match self.peek().clone() {
            Token::Symbol("{") => self.log_expr().map(Expr::Log),
            Token::Symbol("(") => self.parenthesis(),
            Token::Symbol("-" | "+") | Token::Number(_) => {
                self.number().map(|n| Expr::Sample(SampleExpr::Literal(n)))
            }
            Token::Ident(word) => self.function(&word).map(Expr::Sample),
            _ => Err(self.unexpected(&[])),
        }
    }

    fn parenthesis(&mut self) -> Parsed<Expr> {
        self.expect("(")?;
        let inner = self.expr()?;
        self.expect(")")?;
        let Expr::Log(mut log) = inner else {
            return Ok(inner);
        };
        while let Some(stage) = self.stage()? {
            log.stages.push(stage);
        }
        Ok(Expr::Log(log))
    }

    fn function(&mut self, word: &str) -> Parsed<SampleExpr> {
        if let Some(op) = range_op(word) {
            self.next();
            return self.range_agg(op, word);
        }
        if let Some(op) = vector_op(word) {
            self.next();
            return self.vector_agg(op, word);
        }
        match word {
            "vector" => {
                self.next();
                self.expect("(")?;
                let value = self.number()?;
                self.expect(")")?;
                Ok(SampleExpr::Constant(value))
            }
            "label_replace" => {
                self.next();
                self.label_replace()
            }
            "approx_topk" => Err(self.error("approx_topk is not supported; topk is exact")),
            _ if self.is_at(1, "(") => {
                Err(self.error(&format!("syntax error: unknown function {word}")))
            }
            _ => Err(self.unexpected(&[])),
        }
    }

    fn range_agg(&mut self, op: RangeOp, word: &str) -> Parsed<SampleExpr> {
        self.expect("(")?;
        let number = matches!(self.peek(), Token::Number(_)) || self.is("-") || self.is("+");
        let param = if number {
            let param = self.number()?;
            self.expect(",")?;
            Some(param)
        } else {
            None
        };
        let mut read = LogRange::default();
        self.log_range(&mut read)?;
        self.expect(")")?;
        let grouping = self.grouping()?;
        let (Some(log), Some((range, offset))) = (read.log, read.range) else {
            return Err(self.unexpected(&["RANGE", "|"]));
        };
        let agg = RangeAgg {
            op,
            param,
            log,
            unwrap: read.unwrap,
            range,
            offset,
            grouping,
        };
        check_range(&agg, word)?;
        Ok(SampleExpr::Range(Box::new(agg)))
    }

    /// `{…} | stages | unwrap x [5m] offset 1m`; the range may also come before the stages.
    fn log_range(&mut self, read: &mut LogRange) -> Parsed<()> {
        if self.eat("(") {
            self.nested(|p| p.log_range_inner(read))?;
            self.expect(")")?;
        } else {
            let matchers = self.selector()?;
            read.log = Some(LogExpr {
                matchers,
                stages: Vec::new(),
            });
        }
        self.log_range_tail(read)?;
        if read.range.is_none() {
            return Err(self.unexpected(&["RANGE", "|"]));
        }
        Ok(())
    }

    /// Within parentheses the range may be missing: it can stand behind them.
    fn log_range_inner(&mut self, read: &mut LogRange) -> Parsed<()> {
        if self.eat("(") {
            self.nested(|p| p.log_range_inner(read))?;
            self.expect(")")?;
        } else {
            let matchers = self.selector()?;
            read.log = Some(LogExpr {
                matchers,
                stages: Vec::new(),
            });
        }
        self.log_range_tail(read)
    }

    fn log_range_tail(&mut self, read: &mut LogRange) -> Parsed<()> {
        loop {
            if let Token::Range(range) = *self.peek() {
                if read.range.is_some() {
                    return Err(self.unexpected(&[]));
                }
                self.next();
                read.range = Some((range, self.offset()?));
            } else if self.at_unwrap() && read.unwrap.is_none() {
                read.unwrap = Some(self.unwrap()?);
            } else if read.unwrap.is_some() {
                return Ok(());
            } else {
                let Some(stage) = self.stage()? else {
                    return Ok(());
                };
                if let Some(log) = &mut read.log {
                    log.stages.push(stage);
                }
            }
        }
    }

    fn offset(&mut self) -> Parsed<i64> {
        if !self.eat_word("offset") {
            return Ok(0);
        }
        let negative = self.eat("-");
        match *self.peek() {
            Token::Duration(ns) => {
                self.next();
                Ok(if negative { -ns } else { ns })
            }
            _ => Err(self.unexpected(&["DURATION"])),
        }
    }

    fn vector_agg(&mut self, op: VectorOp, word: &str) -> Parsed<SampleExpr> {
        let mut grouping = self.grouping()?;
        self.expect("(")?;
        let wants_param = matches!(op, VectorOp::Topk | VectorOp::Bottomk);
        let param = match *self.peek() {
            Token::Number(k) if wants_param && self.is_at(1, ",") => {
                self.next();
                self.next();
                Some(k)
            }
            _ => None,
        };
        let inner = match self.expr()? {
            Expr::Sample(inner) => inner,
            Expr::Log(_) => {
                return Err(self.error(&format!(
                    "syntax error: {word} needs a metric query, such as rate({{…}}[5m]), not a log query"
                )));
            }
        };
        self.expect(")")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let param = match (wants_param, param) {
            (true, None) => {
                return Err(QueryError::invalid(format!(
                    "parameter required for operation {word}"
                )));
            }
            (true, Some(k)) if k < 1.0 || k.fract() != 0.0 || k > 1e9 => {
                return Err(QueryError::invalid(format!(
                    "invalid parameter (must be greater than 0) {word}({k}"
                )));
            }
            (_, k) => k.map(|k| k as usize),
        };
        let sorts = matches!(op, VectorOp::Sort | VectorOp::SortDesc);
        if sorts && grouping.is_some() {
            return Err(QueryError::invalid(format!(
                "grouping not allowed for {word} aggregation"
            )));
        }
        Ok(SampleExpr::Vector(Box::new(VectorAgg {
            op,
            param,
            inner,
            grouping,
        })))
    }

    fn label_replace(&mut self) -> Parsed<SampleExpr> {
        self.expect("(")?;
        let Expr::Sample(inner) = self.expr()? else {
            return Err(self.error("syntax error: label_replace needs a metric query"));
        };
        let mut texts = Vec::with_capacity(4);
        for _ in 0..4 {
            self.expect(",")?;
            texts.push(self.text()?);
        }
        self.expect(")")?;
        let mut texts = texts.into_iter();
        let mut text = || texts.next().unwrap_or_default();
        Ok(SampleExpr::LabelReplace(Box::new(LabelReplace {
            inner,
            target: text(),
            replacement: text(),
            source: text(),
            regex: text(),
        })))
    }
}

/// One side of an operator, which must compute numbers, and for a set operator series.
fn leg(expr: Expr, side: &str, symbol: &str, op: BinaryOp) -> Parsed<SampleExpr> {
    match expr {
        Expr::Log(_) => Err(QueryError::invalid(format!(
            "unexpected type for {side} leg of binary operation ({symbol}): a log query"
        ))),
        Expr::Sample(SampleExpr::Literal(value)) if op.is_set() => {
            Err(QueryError::invalid(format!(
                "unexpected literal for {side} leg of logical/set binary operation ({symbol}): {value:.6}"
            )))
        }
        Expr::Sample(sample) => Ok(sample),
    }
}

/// The rules about which aggregation goes with unwrap, with a parameter, with grouping.
fn check_range(agg: &RangeAgg, word: &str) -> Parsed<()> {
    use RangeOp as Op;
    let invalid = |message: String| Err(QueryError::invalid(message));
    let groupable = matches!(
        agg.op,
        Op::Avg | Op::Min | Op::Max | Op::Stddev | Op::Stdvar | Op::Quantile | Op::First | Op::Last
    );
    if agg.grouping.is_some() && !groupable {
        return invalid(format!("grouping not allowed for {word} aggregation"));
    }
    if agg.op == Op::Quantile && agg.param.is_none() {
        return invalid(format!("parameter required for operation {word}"));
    }
    if agg.op != Op::Quantile && agg.param.is_some() {
        return invalid(format!("parameter not supported for operation {word}"));
    }
    let needs_unwrap = groupable || matches!(agg.op, Op::Sum | Op::RateCounter);
    let takes_unwrap = needs_unwrap || matches!(agg.op, Op::Rate | Op::Absent);
    match agg.unwrap {
        None if needs_unwrap => invalid(format!("invalid aggregation {word} without unwrap")),
        Some(_) if !takes_unwrap => invalid(format!("invalid aggregation {word} with unwrap")),
        _ => Ok(()),
    }
}

fn range_op(word: &str) -> Option<RangeOp> {
    RANGE_OPS
        .iter()
        .find(|(name, _)| *name == word)
        .map(|o| o.1)
}

fn vector_op(word: &str) -> Option<VectorOp> {
    VECTOR_OPS
        .iter()
        .find(|(name, _)| *name == word)
        .map(|o| o.1)
}

/// Range aggregations by name.
pub(in super::super) const RANGE_OPS: [(&str, RangeOp); 15] = [
    ("rate", RangeOp::Rate),
    ("rate_counter", RangeOp::RateCounter),
    ("count_over_time", RangeOp::Count),
    ("bytes_rate", RangeOp::BytesRate),
    ("bytes_over_time", RangeOp::Bytes),
    ("absent_over_time", RangeOp::Absent),
    ("sum_over_time", RangeOp::Sum),
    ("avg_over_time", RangeOp::Avg),
    ("min_over_time", RangeOp::Min),
    ("max_over_time", RangeOp::Max),
    ("stddev_over_time", RangeOp::Stddev),
    ("stdvar_over_time", RangeOp::Stdvar),
    ("quantile_over_time", RangeOp::Quantile),
    ("first_over_time", RangeOp::First),
    ("last_over_time", RangeOp::Last),
];

/// Vector aggregations by name.
pub(in super::super) const VECTOR_OPS: [(&str, VectorOp); 11] = [
    ("sum", VectorOp::Sum),
    ("avg", VectorOp::Avg),
    ("min", VectorOp::Min),
    ("max", VectorOp::Max),
    ("count", VectorOp::Count),
    ("stddev", VectorOp::Stddev),
    ("stdvar", VectorOp::Stdvar),
    ("topk", VectorOp::Topk),
    ("bottomk", VectorOp::Bottomk),
    ("sort", VectorOp::Sort),
    ("sort_desc", VectorOp::SortDesc),
];
