//! Float samples.
/// Metric samples by label set.
#[derive(Default)]
pub struct MetricStore {}
