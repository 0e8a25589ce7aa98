//! OTLP over gRPC and HTTP, for all three signals.
//!
//! Both roads end in `ingest`: the store's own account of what it took becomes OTLP's partial
//! success, so a sender learns of refused data in the answer and not only from a log.
//! Protocol: <https://opentelemetry.io/docs/specs/otlp/>.

mod grpc;
mod http;
mod ids;
mod wire;

pub use grpc::grpc_services;
pub use http::{http_router, json_logs, json_metrics, json_traces, metrics_router};

use bytes::Bytes;
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;

use crate::store::traces::TraceStore;
use crate::{Evidence, Ingested};

/// Largest payload taken, in bytes after decompression. Collectors default to 20 MiB on HTTP and
/// 4 MiB on gRPC; a load generator's batches are larger, and a bound is all that is needed here.
pub const MAX_PAYLOAD_BYTES: usize = 64 << 20;

/// What one request carried.
#[derive(Debug)]
enum Payload {
    Traces(Vec<ResourceSpans>),
    /// The bytes of an `ExportTraceServiceRequest`.
    Spans(Bytes),
    Logs(Vec<ResourceLogs>),
    Metrics(Vec<ResourceMetrics>),
}

/// Hands a payload to its store. Off the async threads: the stores take a lock that a running query
/// may hold, and an async thread that waits on it holds up every other connection it serves.
async fn ingest(evidence: Evidence, payload: Payload) -> Result<Ingested, NotStored> {
    let stored = tokio::task::spawn_blocking(move || {
        Ok(match payload {
            Payload::Traces(spans) => evidence.traces.ingest(spans),
            Payload::Spans(body) => {
                ingest_traces(&evidence.traces, &body).map_err(NotStored::Malformed)?
            }
            Payload::Logs(logs) => evidence.logs.ingest_otlp(logs),
            Payload::Metrics(metrics) => evidence.metrics.ingest_otlp(metrics),
        })
    });
    let broken = |e| NotStored::Broken(format!("storing the payload failed: {e}"));
    stored.await.map_err(broken)?
}

/// Stores the spans of an `ExportTraceServiceRequest` in protobuf. They go from its bytes into the store's
/// tables; nothing is copied in between.
///
/// # Errors
/// What is malformed; nothing of such a body is stored.
pub fn ingest_traces(store: &TraceStore, body: &[u8]) -> Result<Ingested, String> {
    wire::spans(body).map(|spans| store.ingest_payload(&spans))
}

/// Why nothing of a payload is stored.
enum NotStored {
    /// It is none.
    Malformed(String),
    /// A fault of this program.
    Broken(String),
}
