//! Warnings on LogQL.

use harness_core::objective::{Indicator, Part};
use harness_evidence::logql::ast::{
    Binary, BinaryOp, Expr, LabelFilter, LogExpr, MatchOp, RangeAgg, RangeOp, SampleExpr, Stage,
};
use harness_evidence::logql::parse;

use super::{Asked, Id, Role, WINDOW, Warning, with_window};

/// The label that a line carries when a stage could not work on it.
const ERROR: &str = "__error__";

pub(super) fn lint(asked: &Asked) -> Vec<Warning> {
    let sample = match parse(&with_window(asked.query)) {
        Ok(Expr::Sample(sample)) => sample,
        Ok(Expr::Log(_)) => {
            return vec![asked.warn(
                Id::NotAMetric,
                "selects lines, and an objective needs a number",
                format!("sum(count_over_time({} [$window]))", asked.query),
            )];
        }
        Err(why) => {
            let better =
                "correct it, or try it on the server: a query that is not answered decides nothing";
            let message = format!("the query does not parse as LogQL: {why}");
            return vec![asked.warn(Id::Unparsed, message, better)];
        }
    };
    let mut warnings = Vec::new();
    let mut ranges = Vec::new();
    walk(&sample, &mut |expr| match expr {
        SampleExpr::Range(range) => ranges.push(&**range),
        SampleExpr::Binary(binary) => warnings.extend(or_vector(asked, binary)),
        _ => {}
    });
    for range in &ranges {
        warnings.extend(errors(asked, range));
        warnings.extend(names(range).into_iter().find_map(|name| asked.run_id(name)));
    }
    warnings.extend(empty_bad(asked, &sample));
    let window = i64::try_from(WINDOW.as_nanos()).unwrap_or(i64::MAX);
    if !ranges.is_empty() && ranges.iter().all(|r| r.range != window) {
        warnings.push(asked.warn(
            Id::WindowMismatch,
            "its range is not [$window], so it counts over another time than the run's",
            "write [$window]",
        ));
    }
    if !single(&sample) {
        warnings.push(asked.warn(
            Id::ManySeries,
            "answers with a series for each set of labels and metadata, and from more than one number nothing is decided",
            "aggregate to one: sum(…)",
        ));
    }
    warnings
}

/// Whether a query is a count or rate of lines, which is never negative.
pub(super) fn counts(query: &str) -> bool {
    fn of(expr: &SampleExpr) -> bool {
        match expr {
            SampleExpr::Range(range) => {
                matches!(
                    range.op,
                    RangeOp::Count | RangeOp::Rate | RangeOp::Bytes | RangeOp::BytesRate
                ) && range.unwrap.is_none()
            }
            SampleExpr::Vector(vector) => of(&vector.inner),
            _ => false,
        }
    }
    matches!(parse(&with_window(query)), Ok(Expr::Sample(sample)) if of(&sample))
}

fn walk<'a>(expr: &'a SampleExpr, visit: &mut impl FnMut(&'a SampleExpr)) {
    visit(expr);
    match expr {
        SampleExpr::Vector(vector) => walk(&vector.inner, visit),
        SampleExpr::Binary(binary) => {
            walk(&binary.left, visit);
            walk(&binary.right, visit);
        }
        SampleExpr::LabelReplace(replace) => walk(&replace.inner, visit),
        SampleExpr::Range(_) | SampleExpr::Literal(_) | SampleExpr::Constant(_) => {}
    }
}

fn reads_lines(expr: &SampleExpr) -> bool {
    let mut reads = false;
    walk(expr, &mut |e| reads |= matches!(e, SampleExpr::Range(_)));
    reads
}

fn or_vector(asked: &Asked, binary: &Binary) -> Option<Warning> {
    (binary.op == BinaryOp::Or && !reads_lines(&binary.right)).then(|| {
        asked.warn(
            Id::OrVector,
            "`or` a constant answers also when no log arrives at all: dead telemetry becomes a number",
            "leave it out and set harness/empty-as, which holds only when the run's own lines were found",
        )
    })
}

/// Parsers and unwraps that may fail on a line.
fn errors(asked: &Asked, range: &RangeAgg) -> Option<Warning> {
    let stages = &range.log.stages;
    let what = stages.iter().find_map(|stage| match stage {
        Stage::Json(_) => Some("| json"),
        Stage::Unpack => Some("| unpack"),
        Stage::Logfmt { strict: true, .. } => Some("| logfmt --strict"),
        _ => None,
    });
    let what = what.or_else(|| range.unwrap.as_ref().map(|_| "| unwrap"))?;
    let behind = range.unwrap.iter().flat_map(|unwrap| &unwrap.filters);
    let filters: Vec<_> = labels(&range.log).chain(behind).collect();
    let about_errors = filters.iter().any(|f| mentions(f));
    if !about_errors {
        return Some(asked.warn(
            Id::LokiParserError,
            format!("`{what}` may fail on a line, and one such line makes the whole query fail: then nothing is known"),
            "filter for the lines that are meant before parsing (|= \"…\"), or drop the others with | __error__=\"\" and count those in an objective of their own",
        ));
    }
    let drops = filters.iter().any(|f| drops_errors(f));
    drops.then(|| {
        asked.warn(
            Id::LokiErrorDropped,
            "`| __error__=\"\"` leaves lines that cannot be parsed out of the count, and nobody hears of them",
            "count them in an objective of their own: sum(count_over_time({…} | json | __error__!=\"\" [$window])) with `op: lte`, `value: 0`",
        )
    })
}

fn labels(log: &LogExpr) -> impl Iterator<Item = &LabelFilter> {
    log.stages.iter().filter_map(|stage| match stage {
        Stage::Label(filter) => Some(filter),
        _ => None,
    })
}

fn mentions(filter: &LabelFilter) -> bool {
    filter_names(filter).contains(&ERROR)
}

fn drops_errors(filter: &LabelFilter) -> bool {
    match filter {
        LabelFilter::Text(m) => m.name == ERROR && m.op == MatchOp::Equal && m.value.is_empty(),
        LabelFilter::And(a, b) => drops_errors(a) || drops_errors(b),
        _ => false,
    }
}

fn filter_names(filter: &LabelFilter) -> Vec<&str> {
    match filter {
        LabelFilter::Text(m) => vec![&m.name],
        LabelFilter::Value { name, .. } | LabelFilter::Ip { name, .. } => vec![name],
        LabelFilter::And(a, b) | LabelFilter::Or(a, b) => {
            [filter_names(a), filter_names(b)].concat()
        }
    }
}

/// Every label that a query selects or groups by.
fn names(range: &RangeAgg) -> Vec<&str> {
    let mut names: Vec<&str> = range.log.matchers.iter().map(|m| m.name.as_str()).collect();
    names.extend(labels(&range.log).flat_map(filter_names));
    names
}

/// A count that has no series while there is nothing to count.
fn empty_bad(asked: &Asked, expr: &SampleExpr) -> Option<Warning> {
    let mut guarded = false;
    walk(expr, &mut |e| {
        guarded |= matches!(e, SampleExpr::Binary(b) if b.op == BinaryOp::Or);
    });
    if !asked.empty_when_well() || guarded || !reads_lines(expr) {
        return None;
    }
    let total = match &asked.objective.indicator {
        Indicator::Ratio { total, .. } if asked.role == Role::Part(Part::Bad) => total.query(),
        _ => None,
    };
    let better = match total {
        Some(total) => format!("{} or 0 * {total}, or the annotation harness/empty-as: \"0\"", asked.query),
        None => "add the annotation harness/empty-as: \"0\", which holds only when the run's own lines were found".into(),
    };
    Some(asked.warn(
        Id::EmptyBad,
        "no matching line gives no answer rather than 0: while nothing is bad the objective is not decided",
        better,
    ))
}

fn single(expr: &SampleExpr) -> bool {
    use harness_evidence::logql::ast::VectorOp;
    match expr {
        SampleExpr::Literal(_) | SampleExpr::Constant(_) => true,
        SampleExpr::Range(range) => {
            range.op == RangeOp::Absent
                || range
                    .grouping
                    .as_ref()
                    .is_some_and(|g| !g.without && g.labels.is_empty())
        }
        SampleExpr::Vector(vector) => {
            let many = matches!(
                vector.op,
                VectorOp::Topk | VectorOp::Bottomk | VectorOp::Sort | VectorOp::SortDesc
            );
            let grouped = vector.grouping.as_ref();
            !many && grouped.is_none_or(|g| !g.without && g.labels.is_empty())
        }
        SampleExpr::Binary(binary) => {
            let scalar = |e: &SampleExpr| matches!(e, SampleExpr::Literal(_));
            if binary.op.is_set() || scalar(&binary.left) || scalar(&binary.right) {
                single(&binary.left) && single(&binary.right)
            } else {
                single(&binary.left) || single(&binary.right)
            }
        }
        SampleExpr::LabelReplace(replace) => single(&replace.inner),
    }
}
