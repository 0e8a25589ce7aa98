//! Warnings on PromQL.

use std::time::Duration;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::token::{T_BOTTOMK, T_COUNT_VALUES, T_LOR, T_TOPK};
use promql_parser::parser::{self, AggregateExpr, Call, Expr, LabelModifier, VectorSelector};

use super::{Asked, Id, Role, WINDOW, Warning, with_window};
use harness_core::objective::{Indicator, Part};

/// Functions that look at the slope between samples of a range.
const SLOPES: [&str; 6] = ["rate", "increase", "delta", "irate", "idelta", "deriv"];
/// A range needs so many scrapes: a window of fewer than four may hold fewer than two samples when a
/// scrape is missed, and then answers nothing.
const SCRAPES: u32 = 4;

pub(super) fn lint(asked: &Asked) -> Vec<Warning> {
    let expr = match parse(asked.query) {
        Ok(expr) => expr,
        Err(why) => {
            let better =
                "correct it, or try it on the server: a query that is not answered decides nothing";
            let message = format!("the query does not parse as PromQL: {why}");
            return vec![asked.warn(Id::Unparsed, message, better)];
        }
    };
    let mut warnings = Vec::new();
    walk(&expr, &mut |e| {
        warnings.extend(or_vector(asked, e));
        warnings.extend(no_le(asked, e));
        warnings.extend(short_window(asked, e));
    });
    for selector in selectors(&expr) {
        warnings.extend(matchers(selector).find_map(|m| asked.run_id(&m.name)));
    }
    warnings.extend(empty_bad(asked, &expr));
    warnings.extend(time(asked, &expr));
    if !single(&expr) {
        warnings.push(asked.warn(
            Id::ManySeries,
            "answers with a series for each set of labels, and from more than one number nothing is decided",
            "aggregate to one: sum(…), max(…), or `sum by (le)` inside histogram_quantile",
        ));
    }
    warnings
}

/// Parses; the parser is foreign code and its panic must stay an error.
fn parse(query: &str) -> Result<Expr, String> {
    let text = with_window(query);
    std::panic::catch_unwind(|| parser::parse(&text))
        .unwrap_or_else(|_| Err("the parser gave up on it".into()))
}

fn children(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Aggregate(a) => a.param.iter().chain([&a.expr]).map(|e| &**e).collect(),
        Expr::Unary(u) => vec![&u.expr],
        Expr::Binary(b) => vec![&b.lhs, &b.rhs],
        Expr::Paren(p) => vec![&p.expr],
        Expr::Subquery(s) => vec![&s.expr],
        Expr::Call(c) => c.args.args.iter().map(|e| &**e).collect(),
        _ => Vec::new(),
    }
}

fn walk<'a>(expr: &'a Expr, visit: &mut impl FnMut(&'a Expr)) {
    visit(expr);
    for child in children(expr) {
        walk(child, visit);
    }
}

fn selectors(expr: &Expr) -> Vec<&VectorSelector> {
    let mut found = Vec::new();
    walk(expr, &mut |e| match e {
        Expr::VectorSelector(s) => found.push(s),
        Expr::MatrixSelector(m) => found.push(&m.vs),
        _ => {}
    });
    found
}

fn matchers(selector: &VectorSelector) -> impl Iterator<Item = &Matcher> {
    let or = selector.matchers.or_matchers.iter().flatten();
    selector.matchers.matchers.iter().chain(or)
}

fn bare(mut expr: &Expr) -> &Expr {
    while let Expr::Paren(inner) = expr {
        expr = &inner.expr;
    }
    expr
}

/// `X or vector(0)`, or any other constant: it answers where there is no telemetry at all.
fn or_vector(asked: &Asked, expr: &Expr) -> Option<Warning> {
    let Expr::Binary(binary) = expr else {
        return None;
    };
    (binary.op.id() == T_LOR && selectors(&binary.rhs).is_empty()).then(|| {
        asked.warn(
            Id::OrVector,
            format!("`or {}` answers also when the service is not scraped at all: dead telemetry becomes a number", binary.rhs),
            "`or 0 * sum(TOTAL)`, which is 0 while the service is scraped and empty when it is not",
        )
    })
}

/// `histogram_quantile` over classic buckets that have lost their `le`.
fn no_le(asked: &Asked, expr: &Expr) -> Option<Warning> {
    let Expr::Call(Call { func, args }) = expr else {
        return None;
    };
    let buckets = args
        .args
        .get(1)
        .filter(|_| func.name == "histogram_quantile")?;
    let classic = selectors(buckets)
        .iter()
        .any(|s| s.name.as_ref().is_some_and(|n| n.ends_with("_bucket")));
    let Expr::Aggregate(aggregate) = bare(buckets) else {
        return None;
    };
    (classic && !keeps(aggregate, "le")).then(|| {
        asked.warn(
            Id::NoLe,
            "histogram_quantile gets buckets whose `le` was summed away: it has nothing to read",
            "keep it: histogram_quantile(φ, sum by (le) (rate(…_bucket[…])))",
        )
    })
}

fn keeps(aggregate: &AggregateExpr, label: &str) -> bool {
    let has = |labels: &[String]| labels.iter().any(|l| l == label);
    match &aggregate.modifier {
        None => false,
        Some(LabelModifier::Include(labels)) => has(&labels.labels),
        Some(LabelModifier::Exclude(labels)) => !has(&labels.labels),
    }
}

/// A slope over fewer than four scrapes.
fn short_window(asked: &Asked, expr: &Expr) -> Option<Warning> {
    let Expr::Call(Call { func, args }) = expr else {
        return None;
    };
    let range = match bare(args.args.first()?) {
        Expr::MatrixSelector(matrix) => matrix.range,
        _ => return None,
    };
    let every = asked.context.scrape_interval()?;
    let short = SLOPES.contains(&func.name) && range != WINDOW && range < every * SCRAPES;
    short.then(|| {
        asked.warn(
            Id::ShortRateWindow,
            format!(
                "{}(…[{range:?}]) spans fewer than four scrapes of {every:?}: one missed scrape leaves it without an answer",
                func.name
            ),
            format!("a range of at least {:?}", every * SCRAPES),
        )
    })
}

/// A bad side that is empty while nothing is bad.
fn empty_bad(asked: &Asked, expr: &Expr) -> Option<Warning> {
    if asked.role != Role::Part(Part::Bad) || !asked.empty_when_well() {
        return None;
    }
    // A difference such as `sum(total) - sum(good)` has its series whenever the total has.
    if !matches!(
        bare(expr),
        Expr::Aggregate(_) | Expr::VectorSelector(_) | Expr::Call(_)
    ) {
        return None;
    }
    let mut guarded = false;
    walk(expr, &mut |e| {
        guarded |= matches!(e, Expr::Binary(b) if b.op.id() == T_LOR);
    });
    let Indicator::Ratio { total, .. } = &asked.objective.indicator else {
        return None;
    };
    let total_query = total.query()?;
    let total = parse(total_query).ok()?;
    let known: Vec<&Matcher> = selectors(&total).into_iter().flat_map(matchers).collect();
    let narrower = selectors(expr)
        .into_iter()
        .flat_map(matchers)
        .any(|m| !known.contains(&m) && !matches!(&m.op, MatchOp::NotEqual if m.value.is_empty()));
    (narrower && !guarded).then(|| {
        asked.warn(
            Id::EmptyBad,
            "a series of bad events appears with the first bad event: while nothing is bad the answer is empty, and the objective is not decided",
            format!("{} or 0 * {total_query}", asked.query),
        )
    })
}

/// What time the query looks at.
fn time(asked: &Asked, expr: &Expr) -> Option<Warning> {
    let (mut ranges, mut slope): (Vec<Duration>, Option<&str>) = (Vec::new(), None);
    walk(expr, &mut |e| match e {
        Expr::MatrixSelector(m) => ranges.push(m.range),
        Expr::Subquery(s) => ranges.push(s.range),
        Expr::Call(c) if SLOPES.contains(&c.func.name) => slope = Some(c.func.name),
        _ => {}
    });
    if asked.counter() {
        return slope.map(|name| {
            asked.warn(
                Id::CounterRate,
                format!("`counter: true` reads the counter itself at both edges of the window; {name}() extrapolates and gives no whole numbers"),
                "the counter alone, such as sum(requests_total{…})",
            )
        });
    }
    if selectors(expr).is_empty() {
        return None;
    }
    if ranges.is_empty() {
        return Some(asked.warn(
            Id::OneInstant,
            "looks at one instant, the last scrape of the run; what was before is not judged",
            "look at the whole window: max_over_time((…)[$window:1s]), or increase(…[$window])",
        ));
    }
    (!ranges.contains(&WINDOW)).then(|| {
        asked.warn(
            Id::WindowMismatch,
            format!("its longest range is {:?} and not [$window], so it looks at another time than the run's", ranges.iter().max().unwrap_or(&Duration::ZERO)),
            "write [$window] for the outermost range",
        )
    })
}

/// Whether the answer has one series at most, as far as the query tells.
fn single(expr: &Expr) -> bool {
    match expr {
        Expr::Paren(p) => single(&p.expr),
        Expr::Unary(u) => single(&u.expr),
        Expr::Subquery(s) => single(&s.expr),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => true,
        Expr::Aggregate(a) => {
            let many = [T_TOPK, T_BOTTOMK, T_COUNT_VALUES].contains(&a.op.id());
            !many && grouping(a).is_some_and(<[String]>::is_empty)
        }
        Expr::Binary(b) => {
            let scalar = |e: &Expr| matches!(bare(e), Expr::NumberLiteral(_));
            if b.op.is_set_operator() || scalar(&b.lhs) || scalar(&b.rhs) {
                single(&b.lhs) && single(&b.rhs)
            } else {
                // Matched one to one, each side has no more series than the other.
                single(&b.lhs) || single(&b.rhs)
            }
        }
        Expr::Call(c) => call_is_single(c),
        _ => false,
    }
}

/// The labels that an aggregation groups by; `None` for `without`.
fn grouping(aggregate: &AggregateExpr) -> Option<&[String]> {
    match &aggregate.modifier {
        None => Some(&[]),
        Some(LabelModifier::Include(labels)) => Some(&labels.labels),
        Some(LabelModifier::Exclude(_)) => None,
    }
}

fn call_is_single(call: &Call) -> bool {
    let args = &call.args.args;
    match call.func.name {
        "vector" | "scalar" | "time" | "pi" | "absent" | "absent_over_time" => true,
        "histogram_quantile" | "histogram_fraction" => {
            args.last().is_some_and(|buckets| match bare(buckets) {
                Expr::Aggregate(a) => {
                    grouping(a).is_some_and(|labels| labels.iter().all(|l| l == "le"))
                }
                other => single(other),
            })
        }
        _ => args
            .iter()
            .filter(|a| !matches!(***a, Expr::NumberLiteral(_) | Expr::StringLiteral(_)))
            .all(|a| single(a)),
    }
}
