//! The OTLP roads and the serving itself, over real sockets.

use std::io::Write;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding::Gzip;

use super::{Listeners, ServeError, serve};
use crate::Evidence;

const TRACES: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"shop"}}]},
 "scopeSpans":[{"scope":{"name":"lib"},"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174",
 "name":"op","kind":2,"startTimeUnixNano":"1544712660000000000","endTimeUnixNano":"1544712661000000000","status":{}}]}]}]}"#;
const TRACE_ID: u128 = 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c;

struct Running {
    evidence: Evidence,
    http: String,
    grpc: String,
    stop: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

async fn running() -> Running {
    let bind = || async { TcpListener::bind("127.0.0.1:0").await.expect("a free port") };
    let (http, grpc) = (bind().await, bind().await);
    let url = |l: &TcpListener| format!("http://{}", l.local_addr().expect("an address"));
    let (http_url, grpc_url) = (url(&http), url(&grpc));
    let evidence = Evidence::default();
    let stop = CancellationToken::new();
    let listeners = Listeners {
        otlp_http: Some(http),
        otlp_grpc: Some(grpc),
        ..Listeners::default()
    };
    let served = tokio::spawn(serve(
        evidence.clone(),
        listeners,
        stop.clone().cancelled_owned(),
    ));
    Running {
        evidence,
        http: http_url,
        grpc: grpc_url,
        stop,
        served,
    }
}

/// The client refuses to start without a TLS provider, plain HTTP or not.
fn client() -> reqwest::Client {
    // Another test of this process may have installed it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

async fn post(url: &str, kind: &str, gzip: bool, body: Vec<u8>) -> (u16, String, Vec<u8>) {
    let mut request = client().post(url).header("content-type", kind).body(body);
    if gzip {
        request = request.header("content-encoding", "gzip");
    }
    let answer = request.send().await.expect("an answer");
    let kind = answer.headers()["content-type"]
        .to_str()
        .expect("ASCII")
        .to_owned();
    let status = answer.status().as_u16();
    (status, kind, answer.bytes().await.expect("a body").into())
}

fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(body).expect("memory does not fail");
    out.finish().expect("memory does not fail")
}

fn request() -> ExportTraceServiceRequest {
    serde_json::from_str(TRACES).expect("valid OTLP/JSON")
}

#[tokio::test]
async fn otlp_json_is_stored_with_hex_ids() {
    let run = running().await;
    let url = format!("{}/v1/traces", run.http);
    let answer = post(
        &url,
        "application/json; charset=utf-8",
        false,
        TRACES.into(),
    )
    .await;
    assert_eq!(
        answer,
        (
            200,
            "application/json".into(),
            br#"{"partialSuccess":{}}"#.to_vec()
        )
    );
    let stored = run
        .evidence
        .traces
        .trace(TRACE_ID)
        .expect("the trace is stored");
    assert_eq!(stored, request().resource_spans);
}

#[tokio::test]
async fn protobuf_is_taken_plain_and_gzipped_and_answered_in_protobuf() {
    let run = running().await;
    let url = format!("{}/v1/traces", run.http);
    let body = request().encode_to_vec();
    for (gzip, body) in [(false, body.clone()), (true, gzipped(&body))] {
        let answer = post(&url, "application/x-protobuf", gzip, body).await;
        assert_eq!(answer, (200, "application/x-protobuf".into(), Vec::new()));
    }
    let stats = run.evidence.traces.stats();
    assert_eq!((stats.spans, stats.duplicates), (1, 1));
}

#[tokio::test]
async fn grpc_is_taken_gzipped() {
    let run = running().await;
    let client = TraceServiceClient::connect(run.grpc.clone())
        .await
        .expect("a connection");
    let answer = client
        .send_compressed(Gzip)
        .export(request())
        .await
        .expect("an answer");
    assert_eq!(answer.into_inner().partial_success, None);
    assert_eq!(run.evidence.traces.trace_ids(), [TRACE_ID]);
}

#[tokio::test]
async fn refused_spans_are_told_to_the_sender() {
    let run = running().await;
    let mut bad = request();
    bad.resource_spans[0].scope_spans[0].spans[0]
        .span_id
        .clear();
    let mut client = TraceServiceClient::connect(run.grpc.clone())
        .await
        .expect("a connection");
    let answer = client.export(bad).await.expect("an answer").into_inner();
    let partial = answer.partial_success.expect("a partial success");
    assert_eq!(partial.rejected_spans, 1);
    assert_eq!(
        partial.error_message,
        "span id of span \"op\" has 0 bytes where 8 are right"
    );
}

#[tokio::test]
async fn unreadable_payloads_get_the_protocols_kind_of_error() {
    let run = running().await;
    let url = format!("{}/v1/traces", run.http);
    let json = |body: &[u8]| -> serde_json::Value {
        serde_json::from_slice(body).expect("an error in the request's encoding")
    };

    let (status, kind, body) = post(&url, "application/json", false, b"{nope".to_vec()).await;
    assert_eq!((status, kind.as_str()), (400, "application/json"));
    assert_eq!(json(&body)["code"], 3);

    let base64_id = TRACES.replace("5b8efff798038103d269b633813fc60c", "abcd");
    let (status, _, body) = post(&url, "application/json", false, base64_id.into()).await;
    assert_eq!(status, 400);
    let message = json(&body)["message"]
        .as_str()
        .expect("a message")
        .to_owned();
    assert!(
        message.contains("traceId of span \"op\": length mismatch"),
        "{message}"
    );

    let (status, kind, body) = post(&url, "text/plain", false, b"x".to_vec()).await;
    assert_eq!((status, kind.as_str()), (415, "text/plain"));
    assert_eq!(
        body,
        b"415 unsupported media type, supported: [application/json, application/x-protobuf]"
    );

    let (status, kind, _) = post(&url, "application/x-protobuf", true, b"not gzip".to_vec()).await;
    assert_eq!((status, kind.as_str()), (400, "application/x-protobuf"));
    assert_eq!(run.evidence.traces.stats().spans, 0);
}

/// A message of bytes as they are, so that it can be none.
#[derive(Clone, Default)]
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(
        &mut self,
        item: Vec<u8>,
        to: &mut tonic::codec::EncodeBuf<'_>,
    ) -> Result<(), tonic::Status> {
        bytes::BufMut::put_slice(to, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn decode(
        &mut self,
        from: &mut tonic::codec::DecodeBuf<'_>,
    ) -> Result<Option<Vec<u8>>, tonic::Status> {
        let len = bytes::Buf::remaining(from);
        Ok(Some(bytes::Buf::copy_to_bytes(from, len).into()))
    }
}

/// Whatever a payload held that is not read is missing from the evidence, on every road.
#[tokio::test]
async fn payloads_that_cannot_be_read_are_counted_as_refused() {
    let run = running().await;
    let refused = || {
        let of = &run.evidence;
        let stats = (of.metrics.stats(), of.logs.stats(), of.traces.stats());
        [stats.0.refused(), stats.1.refused(), stats.2.refused()]
    };
    let endpoint = tonic::transport::Endpoint::from_shared(run.grpc.clone()).expect("a URL");
    let channel = endpoint.connect().await.expect("a connection");
    let mut grpc = tonic::client::Grpc::new(channel);
    for service in [
        "metrics.v1.MetricsService",
        "logs.v1.LogsService",
        "trace.v1.TraceService",
    ] {
        let path = format!("/opentelemetry.proto.collector.{service}/Export");
        for body in [
            b"no message".to_vec(),
            vec![0; super::otlp::MAX_PAYLOAD_BYTES + 1],
        ] {
            grpc.ready().await.expect("a connection");
            let path = path.parse().expect("a path");
            let sent = grpc.unary(tonic::Request::new(body), path, Raw);
            sent.await.expect_err("an error");
        }
    }
    assert_eq!(refused(), [2, 2, 2]);
    for signal in ["metrics", "logs", "traces"] {
        let url = format!("{}/v1/{signal}", run.http);
        for (kind, gzip, body) in [
            ("application/json", false, b"{nope".to_vec()),
            ("application/x-protobuf", true, b"not gzip".to_vec()),
            ("text/plain", false, b"x".to_vec()),
        ] {
            let (status, ..) = post(&url, kind, gzip, body).await;
            assert!(status >= 400, "{kind}: {status}");
        }
    }
    assert_eq!(refused(), [5, 5, 5]);
    let answer = client().get(format!("{}/v1/traces", run.http)).send().await;
    assert_eq!(answer.expect("an answer").status().as_u16(), 405);
    assert_eq!(refused(), [5, 5, 5]);
}

#[tokio::test]
async fn a_gzip_bomb_is_refused() {
    let run = running().await;
    let url = format!("{}/v1/traces", run.http);
    let bomb = gzipped(&vec![0; super::otlp::MAX_PAYLOAD_BYTES + 1]);
    let (status, ..) = post(&url, "application/x-protobuf", true, bomb).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn serving_ends_when_asked_to() {
    let run = running().await;
    run.stop.cancel();
    run.served.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn a_panicking_handler_is_answered_500_with_its_message() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let router = axum::Router::new().fallback(|| async {
        if std::hint::black_box(true) {
            panic!("broken on purpose");
        }
        "unreachable"
    });
    let stop = CancellationToken::new();
    let ended = stop.clone().cancelled_owned();
    let served = tokio::spawn(async move {
        axum::serve(listener, super::guarded(router))
            .with_graceful_shutdown(ended)
            .await
    });
    let (status, _, body) = post(&url, "text/plain", false, Vec::new()).await;
    assert_eq!(
        (status, body),
        (500, b"internal error: broken on purpose\n".to_vec())
    );
    stop.cancel();
    served
        .await
        .expect("no panic in the server")
        .expect("a clean end");
}
