//! Refuses queries that parse but mean nothing, or something that is not supported.

use super::TraceQlError;
use super::ast::{
    Aggregate, Attribute, Expr, Function, Intrinsic, Op, Query, Spanset, Stage, Static,
};

type Checked = Result<(), TraceQlError>;

/// What the real server allows in `by (…)`; more labels than that are a mistake or a flood.
const MAX_LABELS: usize = 5;

fn refuse<T>(why: impl Into<String>) -> Result<T, TraceQlError> {
    Err(TraceQlError::Meaning(why.into()))
}

pub(super) fn query(query: &Query) -> Checked {
    pipeline(&query.pipeline)?;
    let Some(metric) = &query.metric else {
        return Ok(());
    };
    if metric.by.len() > MAX_LABELS {
        return refuse(format!(
            "metrics group by {} values not yet supported",
            metric.by.len()
        ));
    }
    metric.by.iter().try_for_each(attribute)?;
    match &metric.function {
        Function::Rate | Function::CountOverTime => Ok(()),
        Function::Fold(_, of) | Function::Histogram(of) => attribute(of),
        Function::Quantile(of, quantiles) => {
            attribute(of)?;
            match quantiles.iter().find(|q| !(0.0..=1.0).contains(*q)) {
                Some(q) => refuse(format!("quantile must be between 0 and 1: {q}")),
                None => Ok(()),
            }
        }
        Function::Compare {
            selection,
            top,
            window,
            ..
        } => {
            spanset(selection)?;
            if *top <= 0 {
                return refuse("compare() top number of values must be integer greater than 0");
            }
            if *window != (0, 0) && (window.0 <= 0 || window.1 <= window.0) {
                return refuse("compare() timestamps must be positive, the end after the start");
            }
            Ok(())
        }
    }
}

fn pipeline(stages: &[Stage]) -> Checked {
    stages.iter().try_for_each(|stage| match stage {
        Stage::Spans(set) => spanset(set),
        Stage::Aggregate {
            aggregate: Aggregate::Count,
            ..
        }
        | Stage::Coalesce => Ok(()),
        Stage::Aggregate {
            aggregate: Aggregate::Over(_, of),
            ..
        } => aggregated(of, stage),
        Stage::By(key) => expr(key).map(drop),
        Stage::Select(attributes) => attributes.iter().try_for_each(attribute),
    })
}

fn aggregated(of: &Expr, stage: &Stage) -> Checked {
    let Stage::Aggregate { aggregate, .. } = stage else {
        return Ok(());
    };
    let kind = expr(of)?;
    if !matches!(kind, Kind::Number | Kind::Unknown) {
        return refuse(format!(
            "aggregate field expressions must resolve to a number type: {aggregate}"
        ));
    }
    if !reads_span(of) {
        return refuse(format!(
            "aggregate field expressions must reference the span: {aggregate}"
        ));
    }
    Ok(())
}

fn reads_span(of: &Expr) -> bool {
    match of {
        Expr::Static(_) => false,
        Expr::Attribute(_) => true,
        Expr::Not(inner) | Expr::Neg(inner) => reads_span(inner),
        Expr::Binary(_, a, b) => reads_span(a) || reads_span(b),
    }
}

fn spanset(set: &Spanset) -> Checked {
    match set {
        Spanset::Filter(None) => Ok(()),
        Spanset::Filter(Some(condition)) => match expr(condition)? {
            Kind::Bool | Kind::Unknown => Ok(()),
            _ => refuse(format!(
                "span filter field expressions must resolve to a boolean: {{ {condition} }}"
            )),
        },
        Spanset::Pipeline(stages) => pipeline(stages),
        Spanset::Op(_, a, b) => spanset(a).and_then(|()| spanset(b)),
    }
}

/// What is known of a value before any span is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unknown,
    Nil,
    Number,
    Text,
    Bool,
    Status,
    /// Of a span: server, client and so on.
    Role,
}

fn attribute(of: &Attribute) -> Checked {
    match of {
        Attribute::OfParent => refuse("parent not yet supported"),
        Attribute::Intrinsic(Intrinsic::Parent) => refuse("intrinsic (parent) not yet supported"),
        _ => Ok(()),
    }
}

fn expr(of: &Expr) -> Result<Kind, TraceQlError> {
    match of {
        Expr::Static(value) => Ok(literal(value)),
        Expr::Attribute(which) => attribute(which).map(|()| known(which)),
        Expr::Not(inner) => match expr(inner)? {
            Kind::Bool | Kind::Unknown => Ok(Kind::Bool),
            _ => refuse(format!("illegal operation for the given type: {of}")),
        },
        Expr::Neg(inner) => match expr(inner)? {
            Kind::Number | Kind::Unknown => Ok(Kind::Number),
            _ => refuse(format!("illegal operation for the given type: {of}")),
        },
        Expr::Binary(op, a, b) => binary(of, *op, (a, expr(a)?), (b, expr(b)?)),
    }
}

fn binary(
    whole: &Expr,
    op: Op,
    (left_expr, left): (&Expr, Kind),
    (right_expr, right): (&Expr, Kind),
) -> Result<Kind, TraceQlError> {
    if let (Op::Eq, Expr::Attribute(of @ Attribute::Intrinsic(_)), Expr::Static(Static::Nil))
    | (Op::Eq, Expr::Static(Static::Nil), Expr::Attribute(of @ Attribute::Intrinsic(_))) =
        (op, left_expr, right_expr)
    {
        return refuse(format!(
            "{of}=nil is not valid because intrinsics cannot be nil"
        ));
    }
    let open = |kind| matches!(kind, Kind::Unknown | Kind::Nil);
    if !open(left) && !open(right) && left != right {
        return refuse(format!(
            "binary operations must operate on the same type: {whole}"
        ));
    }
    let fits = |kind| {
        open(kind)
            || match op {
                Op::And | Op::Or => kind == Kind::Bool,
                Op::Eq | Op::Ne => true,
                Op::Re | Op::NotRe => kind == Kind::Text,
                Op::Gt | Op::Ge | Op::Lt | Op::Le => matches!(kind, Kind::Number | Kind::Text),
                _ => kind == Kind::Number,
            }
    };
    if !fits(left) || !fits(right) {
        return refuse(format!("illegal operation for the given types: {whole}"));
    }
    if matches!(op, Op::Re | Op::NotRe) {
        match right_expr {
            Expr::Static(Static::String(pattern)) => {
                if crate::go_regex::whole(pattern).is_err() {
                    return refuse(format!("invalid regex: `{pattern}`"));
                }
            }
            _ => return refuse(format!("a regular expression must be a literal: {whole}")),
        }
    }
    Ok(if op.is_arithmetic() {
        Kind::Number
    } else {
        Kind::Bool
    })
}

fn literal(value: &Static) -> Kind {
    match value {
        Static::Nil | Static::Array(_) => Kind::Nil,
        Static::String(_) => Kind::Text,
        Static::Int(_) | Static::Float(_) | Static::Duration(_) => Kind::Number,
        Static::Bool(_) => Kind::Bool,
        Static::Status(_) => Kind::Status,
        Static::Kind(_) => Kind::Role,
    }
}

fn known(attribute: &Attribute) -> Kind {
    let Attribute::Intrinsic(which) = attribute else {
        return Kind::Unknown;
    };
    match which {
        Intrinsic::Duration
        | Intrinsic::TraceDuration
        | Intrinsic::EventTimeSinceStart
        | Intrinsic::ChildCount
        | Intrinsic::NestedSetLeft
        | Intrinsic::NestedSetRight
        | Intrinsic::NestedSetParent => Kind::Number,
        Intrinsic::Status => Kind::Status,
        Intrinsic::Kind => Kind::Role,
        Intrinsic::Parent => Kind::Nil,
        _ => Kind::Text,
    }
}
