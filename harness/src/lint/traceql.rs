//! Warnings on TraceQL.

use harness_evidence::traceql::{Computes, Shape, shape};

use super::{Asked, Id, Warning, with_window};

pub(super) fn lint(asked: &Asked) -> Vec<Warning> {
    let shape = match shape(&with_window(asked.query)) {
        Ok(shape) => shape,
        Err(why) => {
            let better =
                "correct it, or try it on the server: a query that is not answered decides nothing";
            let message = format!("the query does not parse as TraceQL: {why}");
            return vec![asked.warn(Id::Unparsed, message, better)];
        }
    };
    let Shape {
        computes,
        by,
        attributes,
    } = shape;
    let mut warnings = Vec::new();
    match computes {
        None => {
            return vec![asked.warn(
                Id::TempoSearch,
                "is a search, which finds at most 20 traces and 3 spans of each unless told otherwise, and says nothing of the rest",
                format!("count: {} | count_over_time()", asked.query),
            )];
        }
        Some(Computes::Quantile | Computes::Histogram) => warnings.push(asked.warn(
            Id::TempoQuantile,
            "Tempo estimates quantiles from power-of-two buckets, which may be wrong by half",
            "a ratio of counts, which are exact: {… && duration <= LIMIT} | count_over_time() over {…} | count_over_time()",
        )),
        Some(_) => {}
    }
    if by {
        warnings.push(asked.warn(
            Id::ManySeries,
            "`by (…)` answers with a series for each value, and from more than one number nothing is decided",
            "leave out `by`",
        ));
    }
    warnings.extend(attributes.iter().find_map(|name| asked.run_id(name)));
    if asked.empty_when_well() && counting(computes) {
        warnings.push(asked.warn(
            Id::EmptyBad,
            "no matching span gives no value rather than 0: while nothing is bad the objective is not decided",
            "add the annotation harness/empty-as: \"0\", which holds only when the run's own traces were found; or write the good side",
        ));
    }
    warnings
}

fn counting(computes: Option<Computes>) -> bool {
    matches!(computes, Some(Computes::Count | Computes::Rate))
}

/// Whether a query is a count or rate of spans, which is never negative.
pub(super) fn counts(query: &str) -> bool {
    shape(&with_window(query)).is_ok_and(|shape| counting(shape.computes))
}
