//! Float samples.
/// Metric samples by label set.
#[derive(Default)]
pub struct MetricStore {}

impl MetricStore {
    /// Not built yet: everything is refused.
    pub fn ingest_otlp(
        &self,
        data: Vec<opentelemetry_proto::tonic::metrics::v1::ResourceMetrics>,
    ) -> crate::Ingested {
        crate::Ingested {
            rejected: data.len() as u64,
            message: "this signal is not stored yet".into(),
            ..crate::Ingested::default()
        }
    }
}
