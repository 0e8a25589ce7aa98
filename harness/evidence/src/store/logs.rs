//! Log lines.
/// Log lines by stream.
#[derive(Default)]
pub struct LogStore {}

impl LogStore {
    /// Not built yet: everything is refused.
    pub fn ingest_otlp(
        &self,
        data: Vec<opentelemetry_proto::tonic::logs::v1::ResourceLogs>,
    ) -> crate::Ingested {
        crate::Ingested {
            rejected: data.len() as u64,
            message: "this signal is not stored yet".into(),
            ..crate::Ingested::default()
        }
    }
}
