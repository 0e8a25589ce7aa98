//! The golden signal of an objective whose annotations do not name it.

use super::{ClientFigure, Indicator, Limit, Metric, Wanted};
use crate::report::model::Signal;

/// The golden signal where no annotation names it. The client's figures say it themselves; for the
/// others the first group decides whose words occur in the SLO's name or its queries.
pub(super) fn inferred(name: &str, indicator: &Indicator) -> Signal {
    let metric = match indicator {
        Indicator::Ratio { part, .. } => part,
        Indicator::Threshold { metric, .. } => metric,
    };
    if let Metric::Client(client) = metric {
        return match client.figure {
            ClientFigure::Quantile { .. } => Signal::Latency,
            ClientFigure::Count {
                limit: Some(Limit { .. }),
                ..
            } => Signal::Latency,
            ClientFigure::Rate {
                outcome: Wanted::Failed,
            }
            | ClientFigure::Count { .. }
            | ClientFigure::Accuracy => Signal::Errors,
            ClientFigure::Rate { .. } => Signal::Traffic,
        };
    }
    let text = format!("{name} {}", metric.query().unwrap_or_default()).to_lowercase();
    let groups: [(Signal, &[&str]); 3] = [
        (
            Signal::Errors,
            &["error", "status_code", "\"5", "fault", "fail"],
        ),
        (
            Signal::Saturation,
            &[
                "saturation",
                "queue",
                "capacity",
                "cpu",
                "memory",
                "active_requests",
                "in_flight",
            ],
        ),
        (
            Signal::Latency,
            &["latency", "duration", "seconds_bucket", "le="],
        ),
    ];
    groups
        .into_iter()
        .find(|(_, words)| words.iter().any(|word| text.contains(word)))
        .map_or(Signal::Traffic, |(signal, _)| signal)
}
