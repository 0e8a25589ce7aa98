//! The meaning of a query's text, and how each part is written.

use std::fmt;

/// A whole query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Query {
    /// What selects spans.
    pub(crate) pipeline: Pipeline,
    /// What makes numbers of them, for a metrics query.
    pub(crate) metric: Option<Metric>,
    /// `with (…)`, in the order written.
    pub(crate) hints: Vec<(String, Static)>,
}

impl Query {
    /// A hint's value, if it is a boolean; Tempo ignores hints of another type and unknown ones.
    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        let found = self.hints.iter().rev().find(|(key, _)| key == name)?;
        match found.1 {
            Static::Bool(on) => Some(on),
            _ => None,
        }
    }
}

/// Stages, each fed with the spansets that the one before lets through.
pub(crate) type Pipeline = Vec<Stage>;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Stage {
    Spans(Spanset),
    /// `count() > 2`.
    Aggregate {
        aggregate: Aggregate,
        op: Op,
        value: Static,
    },
    By(Expr),
    Select(Vec<Attribute>),
    Coalesce,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Spanset {
    /// `{ … }`; `None` for `{}`.
    Filter(Option<Expr>),
    /// `(pipeline)` with more than one stage.
    Pipeline(Pipeline),
    Op(SpansetOp, Box<Spanset>, Box<Spanset>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpansetOp {
    And,
    Or,
    /// A relation between a span on the left and one on the right.
    Structural {
        relation: Relation,
        /// `!>`: the spans on the right that do not stand in it.
        negated: bool,
        /// `&>`: the spans of both sides that do.
        union: bool,
    },
}

/// Where the right span stands, seen from the left one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Child,
    Descendant,
    Parent,
    Ancestor,
    Sibling,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Aggregate {
    Count,
    Over(Fold, Expr),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fold {
    Min,
    Max,
    Avg,
    Sum,
}

/// An expression over one span.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Static(Static),
    Attribute(Attribute),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Binary(Op, Box<Expr>, Box<Expr>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    And,
    Or,
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    Re,
    NotRe,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

impl Op {
    pub(crate) fn is_arithmetic(self) -> bool {
        matches!(
            self,
            Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Mod | Self::Pow
        )
    }

    pub(crate) fn is_comparison(self) -> bool {
        !self.is_arithmetic() && !matches!(self, Self::And | Self::Or)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Static {
    Nil,
    String(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// Nanoseconds.
    Duration(i64),
    /// OTLP's number: 0 unset, 1 ok, 2 error.
    Status(u8),
    /// OTLP's number, 0..=5.
    Kind(u8),
    /// Several values of one attribute; only in answers, no literal is written so.
    Array(Vec<Static>),
}

/// Names of [`Static::Status`], by its number.
pub(crate) const STATUSES: [&str; 3] = ["unset", "ok", "error"];
/// Names of [`Static::Kind`], by its number.
pub(crate) const KINDS: [&str; 6] = [
    "unspecified",
    "internal",
    "server",
    "client",
    "producer",
    "consumer",
];

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Attribute {
    Named(Scope, String),
    Intrinsic(Intrinsic),
    /// `parent.…`, which parses and is refused.
    OfParent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// `.name`: the span's, else the resource's, else an event's, a link's or the library's.
    Any,
    Span,
    Resource,
    Event,
    Link,
    Instrumentation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Intrinsic {
    Duration,
    Name,
    Status,
    StatusMessage,
    Kind,
    ChildCount,
    SpanId,
    ParentId,
    Parent,
    NestedSetLeft,
    NestedSetRight,
    NestedSetParent,
    TraceId,
    TraceDuration,
    RootName,
    RootService,
    EventName,
    EventTimeSinceStart,
    LinkTraceId,
    LinkSpanId,
    InstrumentationName,
    InstrumentationVersion,
}

impl Intrinsic {
    /// Every way of writing each; the first one is how it is written in answers.
    pub(crate) const NAMES: &[(Self, &[&str])] = &[
        (Self::Duration, &["duration", "span:duration"]),
        (Self::Name, &["name", "span:name"]),
        (Self::Status, &["status", "span:status"]),
        (
            Self::StatusMessage,
            &["statusMessage", "span:statusMessage"],
        ),
        (Self::Kind, &["kind", "span:kind"]),
        (Self::ChildCount, &["span:childCount"]),
        (Self::SpanId, &["span:id"]),
        (Self::ParentId, &["span:parentID"]),
        (Self::Parent, &["parent"]),
        (Self::NestedSetLeft, &["nestedSetLeft"]),
        (Self::NestedSetRight, &["nestedSetRight"]),
        (Self::NestedSetParent, &["nestedSetParent"]),
        (Self::TraceId, &["trace:id"]),
        (Self::TraceDuration, &["traceDuration", "trace:duration"]),
        (Self::RootName, &["rootName", "trace:rootName"]),
        (Self::RootService, &["rootServiceName", "trace:rootService"]),
        (Self::EventName, &["event:name"]),
        (Self::EventTimeSinceStart, &["event:timeSinceStart"]),
        (Self::LinkTraceId, &["link:traceID"]),
        (Self::LinkSpanId, &["link:spanID"]),
        (Self::InstrumentationName, &["instrumentation:name"]),
        (Self::InstrumentationVersion, &["instrumentation:version"]),
    ];

    pub(crate) fn named(text: &str) -> Option<Self> {
        let found = Self::NAMES
            .iter()
            .find(|(_, names)| names.contains(&text))?;
        Some(found.0)
    }

    pub(crate) fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(which, _)| *which == self);
        found.map_or("", |(_, names)| names[0])
    }
}

/// What a metrics query computes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metric {
    pub(crate) function: Function,
    pub(crate) by: Vec<Attribute>,
    pub(crate) then: Vec<Then>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Function {
    Rate,
    CountOverTime,
    Fold(Fold, Attribute),
    Quantile(Attribute, Vec<f64>),
    Histogram(Attribute),
    Compare {
        selection: Box<Spanset>,
        /// How many values of each attribute are kept.
        top: i64,
        /// The selection's own window in nanoseconds since the Unix epoch, 0 for the query's.
        window: (i64, i64),
        /// Line and column of its name.
        place: (usize, usize),
    },
}

/// What is done to the series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Then {
    Top(usize),
    Bottom(usize),
    Keep(Op, f64),
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::And => "&&",
            Self::Or => "||",
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Re => "=~",
            Self::NotRe => "!~",
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
        })
    }
}

impl fmt::Display for Static {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::String(text) => write!(f, "`{text}`"),
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{v}"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Duration(ns) => f.write_str(&go_duration(*ns)),
            Self::Status(code) => f.write_str(STATUSES[usize::from(*code) % STATUSES.len()]),
            Self::Kind(code) => f.write_str(KINDS[usize::from(*code) % KINDS.len()]),
            Self::Array(all) => {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", all.join(","))
            }
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intrinsic(which) => f.write_str(which.name()),
            Self::OfParent => f.write_str("parent"),
            Self::Named(scope, name) => {
                let scope = match scope {
                    Scope::Any => "",
                    Scope::Span => "span",
                    Scope::Resource => "resource",
                    Scope::Event => "event",
                    Scope::Link => "link",
                    Scope::Instrumentation => "instrumentation",
                };
                write!(f, "{scope}.{name}")
            }
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |e: &Expr| match e {
            Expr::Binary(..) => format!("({e})"),
            _ => e.to_string(),
        };
        match self {
            Self::Static(value) => value.fmt(f),
            Self::Attribute(attribute) => attribute.fmt(f),
            Self::Not(of) => write!(f, "!{}", inner(of)),
            Self::Neg(of) => write!(f, "-{}", inner(of)),
            Self::Binary(op, a, b) => write!(f, "{} {op} {}", inner(a), inner(b)),
        }
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Min => "min",
            Self::Max => "max",
            Self::Avg => "avg",
            Self::Sum => "sum",
        })
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => f.write_str("count()"),
            Self::Over(fold, of) => write!(f, "{fold}({of})"),
        }
    }
}

/// A duration as Go prints it: `68.666666ms`, `1m30s`.
pub(crate) fn go_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let total = ns.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let text = format!("{}.{:0digits$}", value / unit, value % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match total {
        0 => "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(total, 1_000_000)),
        _ => {
            let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
            let seconds = format!("{}s", fraction(rest, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, m) => format!("{m}m{seconds}"),
                (h, m) => format!("{h}h{m}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}
