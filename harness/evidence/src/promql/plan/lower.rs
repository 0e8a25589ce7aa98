//! The parser's tree, checked and turned into ours.

use super::super::error::{QueryError, position};
use super::super::scan::{self, Token};
use super::{
    AggOp, Aggregate, At, BinOp, Binary, Grouping, Kind, Node, Plan, Selector, Side, Subquery,
    Type, When, funcs,
};
use crate::store::metrics::{METRIC_NAME, MatchOp, Matcher};
use promql_parser::label as pl;
use promql_parser::parser as pp;
use promql_parser::parser::value::ValueType;
use std::time::{Duration, UNIX_EPOCH};

/// Deeper trees could exhaust the stack.
const MAX_DEPTH: usize = 200;

pub(super) fn lower(query: &str, tokens: &[Token<'_>], expr: pp::Expr) -> Result<Plan, QueryError> {
    let mut l = Lower {
        query,
        tokens,
        next: 0,
        selectors: Vec::new(),
        nodes: 0,
        depth: 0,
    };
    let root = l.node(expr)?;
    Ok(Plan {
        root,
        selectors: l.selectors,
    })
}

struct Lower<'q> {
    query: &'q str,
    tokens: &'q [Token<'q>],
    /// Tokens before this one belong to nodes already visited: the walk goes left to right.
    next: usize,
    selectors: Vec<Selector>,
    nodes: usize,
    depth: usize,
}

type Lowered<T = Node> = Result<T, QueryError>;

impl Lower<'_> {
    fn node(&mut self, expr: pp::Expr) -> Lowered {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(QueryError::parse(
                "1:1",
                format!("query is nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        let node = match expr {
            pp::Expr::Paren(p) => self.node(*p.expr),
            pp::Expr::NumberLiteral(n) => {
                let at = self.seek(|t, _| t.kind == scan::Kind::Number || is_number_word(t));
                Ok(self.make(at, Type::Scalar, Kind::Number(n.val)))
            }
            pp::Expr::StringLiteral(s) => {
                let at = self.seek(|t, _| t.kind == scan::Kind::Text);
                Ok(self.make(at, Type::Text, Kind::Text(s.val)))
            }
            pp::Expr::VectorSelector(v) => self.selector(v, None),
            pp::Expr::MatrixSelector(m) => self.selector(m.vs, Some(millis(m.range))),
            pp::Expr::Unary(u) => self.negation(*u.expr),
            pp::Expr::Subquery(s) => self.subquery(s),
            pp::Expr::Call(c) => self.call(c),
            pp::Expr::Aggregate(a) => self.aggregate(a),
            pp::Expr::Binary(b) => self.binary(b),
            pp::Expr::Extension(e) => Err(QueryError::unsupported("1:1", e.expr.name())),
        }?;
        self.depth -= 1;
        Ok(node)
    }

    fn make(&mut self, at: usize, ty: Type, kind: Kind) -> Node {
        self.nodes += 1;
        Node {
            id: self.nodes - 1,
            at,
            ty,
            kind,
        }
    }

    fn pos(&self, at: usize) -> String {
        position(self.query, at)
    }

    /// Byte offset of the next token that fits, given the token and the one after it.
    fn seek(&mut self, fits: impl Fn(&Token<'_>, Option<&Token<'_>>) -> bool) -> usize {
        for i in self.next..self.tokens.len() {
            if fits(&self.tokens[i], self.tokens.get(i + 1)) {
                self.next = i + 1;
                return self.tokens[i].at;
            }
        }
        self.tokens.get(self.next).map_or(0, |t| t.at)
    }

    fn seek_word(&mut self, name: &str) -> usize {
        self.seek(|t, _| t.kind == scan::Kind::Word && t.text.eq_ignore_ascii_case(name))
    }

    fn negation(&mut self, inner: pp::Expr) -> Lowered {
        let at = self.seek(|t, _| t.kind == scan::Kind::Mark(b'-'));
        let inner = self.node(inner)?;
        match inner.ty {
            Type::Scalar | Type::Vector => {
                let ty = inner.ty;
                Ok(self.make(at, ty, Kind::Negate(Box::new(inner))))
            }
            other => Err(QueryError::parse(
                self.pos(at),
                format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                    other.documented()
                ),
            )),
        }
    }

    fn selector(&mut self, v: pp::VectorSelector, range: Option<i64>) -> Lowered {
        let at = match &v.name {
            Some(name) => self.seek(|t, _| t.kind == scan::Kind::Word && t.text == name),
            None => self.seek(|t, _| t.kind == scan::Kind::Mark(b'{')),
        };
        if !v.matchers.or_matchers.is_empty() {
            return Err(QueryError::parse(
                self.pos(at),
                "unexpected \"or\" in label matching, expected \",\" or \"}\"",
            ));
        }
        let mut matchers = Vec::with_capacity(v.matchers.matchers.len() + 1);
        let bad = |e: String| QueryError::parse(position(self.query, at), e);
        if let Some(name) = &v.name {
            matchers.push(Matcher::new(METRIC_NAME, MatchOp::Equal, name).map_err(bad)?);
        }
        for m in v.matchers.matchers {
            let op = match m.op {
                pl::MatchOp::Equal => MatchOp::Equal,
                pl::MatchOp::NotEqual => MatchOp::NotEqual,
                pl::MatchOp::Re(_) => MatchOp::Regex,
                pl::MatchOp::NotRe(_) => MatchOp::NotRegex,
            };
            matchers.push(Matcher::new(&m.name, op, &m.value).map_err(bad)?);
        }
        if matchers.iter().all(|m| m.matches("")) {
            return Err(QueryError::parse(
                self.pos(at),
                "vector selector must contain at least one non-empty matcher",
            ));
        }
        let when = self.when(v.at, v.offset);
        self.selectors.push(Selector {
            matchers,
            when,
            range,
        });
        let ty = if range.is_some() {
            Type::Matrix
        } else {
            Type::Vector
        };
        Ok(self.make(at, ty, Kind::Select(self.selectors.len() - 1)))
    }

    fn when(&self, at: Option<pp::AtModifier>, offset: Option<pp::Offset>) -> When {
        When {
            at: match at {
                None => At::EvaluationTime,
                Some(pp::AtModifier::Start) => At::QueryStart,
                Some(pp::AtModifier::End) => At::QueryEnd,
                Some(pp::AtModifier::At(t)) => At::Time(match t.duration_since(UNIX_EPOCH) {
                    Ok(d) => millis(d),
                    Err(e) => -millis(e.duration()),
                }),
            },
            offset: match offset {
                None => 0,
                Some(pp::Offset::Pos(d)) => millis(d),
                Some(pp::Offset::Neg(d)) => -millis(d),
            },
        }
    }

    fn subquery(&mut self, s: pp::SubqueryExpr) -> Lowered {
        let inner = self.node(*s.expr)?;
        let at = inner.at;
        if inner.ty != Type::Vector {
            return Err(QueryError::parse(
                self.pos(at),
                format!(
                    "subquery is only allowed on instant vector, got {} instead",
                    inner.ty.documented()
                ),
            ));
        }
        let sub = Subquery {
            inner,
            range: millis(s.range),
            step: s.step.map(millis),
            when: self.when(s.at, s.offset),
        };
        Ok(self.make(at, Type::Matrix, Kind::Subquery(Box::new(sub))))
    }

    fn call(&mut self, c: pp::Call) -> Lowered {
        let name = c.func.name;
        let at = self.seek(|t, after| {
            t.text == name && after.is_some_and(|a| a.kind == scan::Kind::Mark(b'('))
        });
        let pos = self.pos(at);
        if c.func.experimental {
            return Err(QueryError::unsupported(
                pos,
                &format!("the experimental function {name:?}"),
            ));
        }
        let Some(func) = funcs::by_name(name) else {
            return Err(QueryError::unsupported(
                pos,
                &format!("the native histogram function {name:?}"),
            ));
        };
        let mut args = Vec::with_capacity(c.args.args.len());
        for (i, arg) in c.args.args.into_iter().enumerate() {
            let arg = self.node(*arg)?;
            let wants = c.func.arg_types.get(i).or(c.func.arg_types.last());
            if let Some(want) = wants.copied().map(of_value_type)
                && want != arg.ty
            {
                return Err(QueryError::parse(
                    self.pos(arg.at),
                    format!(
                        "expected type {} in call to function {name:?}, got {}",
                        want.documented(),
                        arg.ty.documented()
                    ),
                ));
            }
            args.push(arg);
        }
        Ok(self.make(
            at,
            of_value_type(c.func.return_type),
            Kind::Call(func, args),
        ))
    }

    fn aggregate(&mut self, a: pp::AggregateExpr) -> Lowered {
        let name = a.op.to_string();
        let at = self.seek_word(&name);
        let Some(op) = agg_op(&name) else {
            return Err(QueryError::unsupported(
                self.pos(at),
                &format!("the experimental aggregation {name:?}"),
            ));
        };
        let param = a.param.map(|p| self.node(*p)).transpose()?;
        if let Some(p) = &param {
            let want = if op == AggOp::CountValues {
                Type::Text
            } else {
                Type::Scalar
            };
            self.expect(p, want, "aggregation parameter")?;
        }
        let inner = self.node(*a.expr)?;
        self.expect(&inner, Type::Vector, "aggregation expression")?;
        let grouping = match a.modifier {
            None => Grouping::By(Vec::new()),
            Some(m) => grouping(m),
        };
        let agg = Aggregate {
            op,
            param,
            inner,
            grouping,
        };
        Ok(self.make(at, Type::Vector, Kind::Aggregate(Box::new(agg))))
    }

    fn expect(&self, node: &Node, want: Type, place: &str) -> Lowered<()> {
        if node.ty == want {
            return Ok(());
        }
        Err(QueryError::parse(
            self.pos(node.at),
            format!(
                "expected type {} in {place}, got {}",
                want.documented(),
                node.ty.documented()
            ),
        ))
    }

    fn binary(&mut self, b: pp::BinaryExpr) -> Lowered {
        let text = b.op.to_string();
        let lhs = self.node(*b.lhs)?;
        let at = lhs.at;
        let Some(op) = bin_op(&text) else {
            return Err(QueryError::parse(
                self.pos(at),
                format!("binary expression does not support operator {text:?}"),
            ));
        };
        // Past the operator and its labels, so that `on (x) x` finds the right `x`.
        self.seek(|t, _| t.text.eq_ignore_ascii_case(&text) || text.starts_with(t.text));
        let modifier = b.modifier.unwrap_or_default();
        if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
            let at = self.seek(|t, _| t.text.to_ascii_lowercase().starts_with("fill"));
            return Err(QueryError::unsupported(
                self.pos(at),
                "the experimental modifier \"fill\"",
            ));
        }
        let rhs = self.node(*b.rhs)?;
        for side in [&lhs, &rhs] {
            if !matches!(side.ty, Type::Scalar | Type::Vector) {
                return Err(QueryError::parse(
                    self.pos(side.at),
                    "binary expression must contain only scalar and instant vector types",
                ));
            }
        }
        let ty = if lhs.ty == Type::Scalar && rhs.ty == Type::Scalar {
            Type::Scalar
        } else {
            Type::Vector
        };
        let side = match modifier.card {
            pp::VectorMatchCardinality::ManyToOne(l) => Side::ManyToOne(l.labels),
            pp::VectorMatchCardinality::OneToMany(l) => Side::OneToMany(l.labels),
            _ => Side::OneToOne,
        };
        let binary = Binary {
            op,
            lhs,
            rhs,
            returns_bool: modifier.return_bool,
            matching: modifier
                .matching
                .map_or(Grouping::Without(Vec::new()), grouping),
            side,
        };
        Ok(self.make(at, ty, Kind::Binary(Box::new(binary))))
    }
}

fn grouping(m: pp::LabelModifier) -> Grouping {
    match m {
        pp::LabelModifier::Include(l) => Grouping::By(l.labels),
        pp::LabelModifier::Exclude(l) => Grouping::Without(l.labels),
    }
}

fn is_number_word(t: &Token<'_>) -> bool {
    t.kind == scan::Kind::Word
        && ["inf", "nan"]
            .iter()
            .any(|w| t.text.eq_ignore_ascii_case(w))
}

fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

fn of_value_type(v: ValueType) -> Type {
    match v {
        ValueType::Scalar => Type::Scalar,
        ValueType::String => Type::Text,
        ValueType::Vector => Type::Vector,
        ValueType::Matrix => Type::Matrix,
    }
}

fn agg_op(name: &str) -> Option<AggOp> {
    Some(match name {
        "sum" => AggOp::Sum,
        "avg" => AggOp::Avg,
        "min" => AggOp::Min,
        "max" => AggOp::Max,
        "count" => AggOp::Count,
        "group" => AggOp::Group,
        "stddev" => AggOp::Stddev,
        "stdvar" => AggOp::Stdvar,
        "topk" => AggOp::Topk,
        "bottomk" => AggOp::Bottomk,
        "quantile" => AggOp::Quantile,
        "count_values" => AggOp::CountValues,
        _ => return None,
    })
}

fn bin_op(text: &str) -> Option<BinOp> {
    Some(match text {
        "+" => BinOp::Add,
        "-" => BinOp::Sub,
        "*" => BinOp::Mul,
        "/" => BinOp::Div,
        "%" => BinOp::Mod,
        "^" => BinOp::Pow,
        "atan2" => BinOp::Atan2,
        "==" => BinOp::Eq,
        "!=" => BinOp::Ne,
        ">" => BinOp::Gt,
        "<" => BinOp::Lt,
        ">=" => BinOp::Ge,
        "<=" => BinOp::Le,
        "and" => BinOp::And,
        "or" => BinOp::Or,
        "unless" => BinOp::Unless,
        _ => return None,
    })
}

/// The parser's message, with a place found by the word it names and in Prometheus' terms.
pub(super) fn parse_error(query: &str, tokens: &[Token<'_>], message: &str) -> QueryError {
    let at_end = message.contains("end of input")
        || message.contains("unclosed")
        || message.contains("at the end");
    if message.starts_with("no expression found") || tokens.is_empty() {
        return QueryError::parse("1:1", "no expression found in input");
    }
    if at_end {
        return QueryError::parse(position(query, query.len()), message);
    }
    if message == "invalid promql query" {
        return QueryError::parse("1:1", "the query does not follow the grammar of PromQL");
    }
    if message.starts_with("unexpected character") {
        // The parser's texts are Prometheus' own here, quotes included.
        return QueryError::parse("1:1", message);
    }
    let named = message.split('\'').nth(1).unwrap_or("");
    let found = tokens.iter().position(|t| t.text == named);
    let mut at = found.map_or(0, |i| tokens[i].at);
    if message.contains("in call to function") {
        // The fault is in the argument.
        at = found.and_then(|i| tokens.get(i + 2)).map_or(at, |t| t.at);
    }
    let message = message
        .replace('\'', "\"")
        .replace("type vector", "type instant vector")
        .replace("type matrix", "type range vector")
        .replace("got vector", "got instant vector")
        .replace("got matrix", "got range vector");
    QueryError::parse(position(query, at), message)
}
