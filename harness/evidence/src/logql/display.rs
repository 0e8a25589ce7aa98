//! A syntax tree as LogQL text, as `format_query` answers it and as errors quote a stage. What is
//! written reads back as the same tree.

use super::ast::{
    Binary, BinaryOp, Card, CompareOp, Conversion, Expr, Extraction, FilterValue, FormatSource,
    Grouping, LabelFilter, LineFilter, LineOp, LineText, LogExpr, MatchOp, Matcher, NameMatch,
    RangeAgg, SampleExpr, Stage, VectorAgg,
};
use super::parser::{RANGE_OPS, VECTOR_OPS};
use super::units::{go_duration, range_duration};
use crate::store::logs::quote;

/// The text of a query.
pub(crate) fn expr(expr: &Expr) -> String {
    match expr {
        Expr::Log(log) => log_expr(log),
        Expr::Sample(sample) => sample_expr(sample),
    }
}

fn log_expr(log: &LogExpr) -> String {
    let matchers: Vec<String> = log.matchers.iter().map(matcher).collect();
    let mut out = format!("{{{}}}", matchers.join(", "));
    for each in &log.stages {
        out.push(' ');
        out.push_str(&stage(each));
    }
    out
}

fn sample_expr(sample: &SampleExpr) -> String {
    match sample {
        SampleExpr::Literal(value) => value.to_string(),
        SampleExpr::Constant(value) => format!("vector({value:.6})"),
        SampleExpr::Range(agg) => range_agg(agg),
        SampleExpr::Vector(agg) => vector_agg(agg),
        SampleExpr::Binary(operation) => binary(operation),
        SampleExpr::LabelReplace(replace) => format!(
            "label_replace({},{},{},{},{})",
            sample_expr(&replace.inner),
            quote(&replace.target),
            quote(&replace.replacement),
            quote(&replace.source),
            quote(&replace.regex)
        ),
    }
}

fn range_agg(agg: &RangeAgg) -> String {
    let name = RANGE_OPS
        .iter()
        .find(|(_, op)| *op == agg.op)
        .map_or("", |(name, _)| name);
    let param = agg.param.map_or(String::new(), |p| format!("{p},"));
    let mut inner = log_expr(&agg.log);
    if let Some(unwrap) = &agg.unwrap {
        let label = &unwrap.label;
        inner.push_str(" | unwrap ");
        inner.push_str(&match unwrap.conversion {
            Conversion::Number => label.clone(),
            Conversion::Duration => format!("duration({label})"),
            Conversion::DurationSeconds => format!("duration_seconds({label})"),
            Conversion::Bytes => format!("bytes({label})"),
        });
        for filter in &unwrap.filters {
            inner.push_str(" | ");
            inner.push_str(&label_filter(filter));
        }
    }
    let offset = match agg.offset {
        0 => String::new(),
        ns if ns < 0 => format!(" offset -{}", range_duration(-ns)),
        ns => format!(" offset {}", range_duration(ns)),
    };
    let range = range_duration(agg.range);
    let grouping = agg.grouping.as_ref().map(grouping).unwrap_or_default();
    format!("{name}({param}{inner}[{range}]{offset}){grouping}")
}

fn vector_agg(agg: &VectorAgg) -> String {
    let name = VECTOR_OPS
        .iter()
        .find(|(_, op)| *op == agg.op)
        .map_or("", |(name, _)| name);
    let grouping = agg.grouping.as_ref().map(grouping).unwrap_or_default();
    let param = agg.param.map_or(String::new(), |k| format!("{k},"));
    format!("{name}{grouping}({param}{})", sample_expr(&agg.inner))
}

fn grouping(grouping: &Grouping) -> String {
    let word = if grouping.without { "without" } else { "by" };
    format!(" {word} ({})", grouping.labels.join(","))
}

fn binary(operation: &Binary) -> String {
    let mut op = match operation.op {
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::Mod => "%",
        BinaryOp::Pow => "^",
        BinaryOp::Compare(op) => compare_op(op),
        BinaryOp::And => "and",
        BinaryOp::Or => "or",
        BinaryOp::Unless => "unless",
    }
    .to_owned();
    if operation.bool_result {
        op.push_str(" bool");
    }
    if let Some(matching) = &operation.matching {
        let word = if matching.without { "ignoring" } else { "on" };
        op.push_str(&format!(" {word} ({})", matching.labels.join(",")));
        let include = operation.include.join(",");
        match operation.card {
            Card::One => {}
            Card::Left => op.push_str(&format!(" group_left ({include})")),
            Card::Right => op.push_str(&format!(" group_right ({include})")),
        }
    }
    let (left, right) = (sample_expr(&operation.left), sample_expr(&operation.right));
    format!("({left} {op} {right})")
}

pub(super) fn compare_op(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Equal => "==",
        CompareOp::NotEqual => "!=",
        CompareOp::Greater => ">",
        CompareOp::GreaterEqual => ">=",
        CompareOp::Less => "<",
        CompareOp::LessEqual => "<=",
    }
}

fn match_op(op: MatchOp) -> &'static str {
    match op {
        MatchOp::Equal => "=",
        MatchOp::NotEqual => "!=",
        MatchOp::Regex => "=~",
        MatchOp::NotRegex => "!~",
    }
}

fn matcher(matcher: &Matcher) -> String {
    let Matcher { name, op, value } = matcher;
    format!("{name}{}{}", match_op(*op), quote(value))
}

/// One stage with its leading `|`.
pub(super) fn stage(stage: &Stage) -> String {
    let list = |items: Vec<String>| items.join(",");
    match stage {
        Stage::Line(filter) => line_filter(filter),
        Stage::Json(extractions) => format!("| json{}", extraction_list(extractions)),
        Stage::Logfmt {
            strict,
            keep_empty,
            extractions,
        } => format!(
            "| logfmt{}{}{}",
            if *strict { " --strict" } else { "" },
            if *keep_empty { " --keep-empty" } else { "" },
            extraction_list(extractions)
        ),
        Stage::Regexp(text) => format!("| regexp {}", quote(text)),
        Stage::Pattern(text) => format!("| pattern {}", quote(text)),
        Stage::Unpack => "| unpack".to_owned(),
        Stage::Decolorize => "| decolorize".to_owned(),
        Stage::LineFormat(text) => format!("| line_format {}", quote(text)),
        Stage::LabelFormat(formats) => {
            let each = formats.iter().map(|f| match &f.source {
                FormatSource::Rename(from) => format!("{}={from}", f.target),
                FormatSource::Template(text) => format!("{}={}", f.target, quote(text)),
            });
            format!("| label_format {}", list(each.collect()))
        }
        Stage::Label(filter) => format!("| {}", label_filter(filter)),
        Stage::Drop(names) => format!("| drop {}", list(names.iter().map(name_match).collect())),
        Stage::Keep(names) => format!("| keep {}", list(names.iter().map(name_match).collect())),
    }
}

fn extraction_list(extractions: &[Extraction]) -> String {
    let each: Vec<String> = extractions
        .iter()
        .map(|e| format!("{}={}", e.label, quote(&e.path)))
        .collect();
    if each.is_empty() {
        String::new()
    } else {
        format!(" {}", each.join(","))
    }
}

fn name_match(name: &NameMatch) -> String {
    match &name.value {
        None => name.name.clone(),
        Some((op, value)) => format!("{}{}{}", name.name, match_op(*op), quote(value)),
    }
}

fn line_filter(filter: &LineFilter) -> String {
    let op = match filter.op {
        LineOp::Contains => "|=",
        LineOp::NotContains => "!=",
        LineOp::Regex => "|~",
        LineOp::NotRegex => "!~",
        LineOp::Pattern => "|>",
        LineOp::NotPattern => "!>",
    };
    let any: Vec<String> = filter
        .any
        .iter()
        .map(|text| match text {
            LineText::Text(text) => quote(text),
            LineText::Ip(pattern) => format!("ip({})", quote(pattern)),
        })
        .collect();
    format!("{op} {}", any.join(" or "))
}

fn label_filter(filter: &LabelFilter) -> String {
    match filter {
        LabelFilter::Text(text) => matcher(text),
        LabelFilter::Value { name, op, value } => {
            let value = match value {
                FilterValue::Number(n) => n.to_string(),
                FilterValue::Duration(ns) => go_duration(*ns),
                FilterValue::Bytes(bytes) => format!("{bytes}B"),
            };
            format!("{name}{}{value}", compare_op(*op))
        }
        LabelFilter::Ip {
            name,
            negated,
            pattern,
        } => {
            let op = if *negated { "!=" } else { "=" };
            format!("{name}{op}ip({})", quote(pattern))
        }
        LabelFilter::And(left, right) => {
            format!("({} and {})", label_filter(left), label_filter(right))
        }
        LabelFilter::Or(left, right) => {
            format!("({} or {})", label_filter(left), label_filter(right))
        }
    }
}
