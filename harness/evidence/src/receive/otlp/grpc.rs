//! The three collector services of OTLP over gRPC.

use axum::body::Body;
use axum::extract::{Request as HttpRequest, State};
use axum::middleware::{self, Next};
use axum::response::Response as HttpResponse;
use axum::routing::post;
use bytes::{Buf, Bytes};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
    logs_service_server::{LogsService, LogsServiceServer},
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    metrics_service_server::{MetricsService, MetricsServiceServer},
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::BoxFuture;
use tonic::server::UnaryService;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::{MAX_PAYLOAD_BYTES, NotStored, Payload, ingest};
use crate::store::segment::Signal;
use crate::{Evidence, Ingested};

/// The trace, logs and metrics services, accepting gzip and payloads up to [`MAX_PAYLOAD_BYTES`].
///
/// `Routes::into_axum_router` turns them into a router that any HTTP/2 server can carry.
#[must_use]
pub fn grpc_services(evidence: Evidence) -> Routes {
    let counted = middleware::from_fn_with_state(evidence.clone(), count_unread);
    let exporter = Exporter(evidence);
    let of_traces = exporter.clone();
    let routes = Routes::new(
        LogsServiceServer::new(exporter.clone())
            .accept_compressed(Gzip)
            .max_decoding_message_size(MAX_PAYLOAD_BYTES),
    )
    .add_service(
        MetricsServiceServer::new(exporter)
            .accept_compressed(Gzip)
            .max_decoding_message_size(MAX_PAYLOAD_BYTES),
    );
    routes
        .into_axum_router()
        .route(
            TRACES,
            post(move |request| traces(of_traces.clone(), request)),
        )
        .layer(counted)
        .into()
}

/// Counts every export that is answered with an error: it was too long, packed in an unknown way or no
/// message, so nothing of it is stored, and the evidence must not look whole. Such an answer has its
/// status among the headers; one with a message has it behind.
async fn count_unread(
    State(to): State<Evidence>,
    request: HttpRequest,
    next: Next,
) -> HttpResponse {
    let signal = match request.uri().path() {
        TRACES => Some(Signal::Traces),
        LOGS => Some(Signal::Logs),
        METRICS => Some(Signal::Metrics),
        _ => None,
    };
    let response = next.run(request).await;
    let failed = response
        .headers()
        .get("grpc-status")
        .is_some_and(|status| status != "0");
    if let Some(signal) = signal
        && (failed || !response.status().is_success())
    {
        to.count_unreadable(signal);
    }
    response
}

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

#[derive(Clone)]
struct Exporter(Evidence);

impl Exporter {
    async fn store(&self, payload: Payload) -> Result<Ingested, Status> {
        ingest(self.0.clone(), payload).await.map_err(|e| match e {
            // The code that tonic answers what it cannot decode with.
            NotStored::Malformed(why) | NotStored::Broken(why) => Status::internal(why),
        })
    }
}

/// Takes the bytes of spans as they are: see [`wire`](super::wire).
async fn traces(exporter: Exporter, request: HttpRequest) -> HttpResponse {
    let mut grpc = tonic::server::Grpc::new(Spans)
        .accept_compressed(Gzip)
        .max_decoding_message_size(MAX_PAYLOAD_BYTES);
    grpc.unary(exporter, request).await.map(Body::new)
}

impl UnaryService<Bytes> for Exporter {
    type Response = ExportTraceServiceResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let exporter = self.clone();
        Box::pin(async move {
            let done = exporter.store(Payload::Spans(request.into_inner())).await?;
            Ok(Response::new(ExportTraceServiceResponse {
                partial_success: refused(&done).map(|(rejected_spans, error_message)| {
                    ExportTracePartialSuccess {
                        rejected_spans,
                        error_message,
                    }
                }),
            }))
        })
    }
}

/// Leaves a request's message in its bytes.
struct Spans;

impl Codec for Spans {
    type Encode = ExportTraceServiceResponse;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Spans {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn encode(&mut self, item: Self::Item, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(to).map_err(|e| Status::internal(e.to_string()))
    }
}

impl Decoder for Spans {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = from.remaining();
        Ok(Some(from.copy_to_bytes(len)))
    }
}

#[tonic::async_trait]
impl LogsService for Exporter {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let logs = request.into_inner().resource_logs;
        let done = self.store(Payload::Logs(logs)).await?;
        Ok(Response::new(ExportLogsServiceResponse {
            partial_success: refused(&done).map(|(rejected_log_records, error_message)| {
                ExportLogsPartialSuccess {
                    rejected_log_records,
                    error_message,
                }
            }),
        }))
    }
}

#[tonic::async_trait]
impl MetricsService for Exporter {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let metrics = request.into_inner().resource_metrics;
        let done = self.store(Payload::Metrics(metrics)).await?;
        Ok(Response::new(ExportMetricsServiceResponse {
            partial_success: refused(&done).map(|(rejected_data_points, error_message)| {
                ExportMetricsPartialSuccess {
                    rejected_data_points,
                    error_message,
                }
            }),
        }))
    }
}

/// A partial success is sent only when there is something to say: an SDK logs a warning for any.
fn refused(done: &Ingested) -> Option<(i64, String)> {
    (done.rejected > 0 || !done.message.is_empty()).then(|| {
        (
            i64::try_from(done.rejected).unwrap_or(i64::MAX),
            done.message.clone(),
        )
    })
}
