//! Filling the stores and reading much of them: a million spans and a million lines, beside what the
//! segments cost.

// The macros of criterion make public functions without documentation.
#![allow(missing_docs)]

#[path = "stores/spans.rs"]
mod spans;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use harness_evidence::Evidence;
use harness_evidence::logql::{self, QueryLimits};
use harness_evidence::receive::otlp::ingest_traces;
use harness_evidence::serve::{Listeners, serve};
use harness_evidence::store::logs::{LogStore, PushStream};
use harness_evidence::store::traces::TraceStore;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;

const SPANS: u64 = 1_000_000;
/// Spans of one batch: what an SDK's batch processor sends at most by default is 512.
const BATCH: u64 = 500;

/// The body of a request with spans.
fn body(first: u64) -> Bytes {
    let request = ExportTraceServiceRequest {
        resource_spans: vec![spans::batch(first, BATCH)],
    };
    request.encode_to_vec().into()
}

/// Time of ingesting spans out of the bytes that receivers get.
fn ingest_bytes(store: &TraceStore, spans: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for n in 0..spans / BATCH {
        let body = body(n * BATCH);
        let began = Instant::now();
        let taken = ingest_traces(store, &body).expect("spans");
        spent += began.elapsed();
        assert_eq!(taken.accepted, BATCH, "{}", taken.message);
    }
    spent
}

/// As [`ingest_bytes`], by the messages that prost decodes: what the receiver's own reader is held against.
fn ingest_decoded(store: &TraceStore, spans: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for n in 0..spans / BATCH {
        let body = body(n * BATCH);
        let began = Instant::now();
        let request = ExportTraceServiceRequest::decode(body).expect("a request");
        let taken = store.ingest(request.resource_spans);
        spent += began.elapsed();
        assert_eq!(taken.accepted, BATCH, "{}", taken.message);
    }
    spent
}

/// Time of ingesting a million spans, without making them; `dir` is where they are recorded.
fn ingest(dir: Option<&std::path::Path>) -> Duration {
    let evidence = Evidence::default();
    if let Some(dir) = dir {
        evidence.record(dir, u64::MAX).expect("recording");
    }
    let mut spent = Duration::ZERO;
    for n in 0..SPANS / BATCH {
        let batch = vec![spans::batch(n * BATCH, BATCH)];
        let began = Instant::now();
        let taken = evidence.traces.ingest(batch);
        spent += began.elapsed();
        assert_eq!(taken.accepted, BATCH, "{}", taken.message);
    }
    spent
}

fn traces(c: &mut Criterion) {
    let mut group = c.benchmark_group("ingest");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(SPANS));
    group.bench_function("1M spans", |b| {
        b.iter_custom(|times| (0..times).map(|_| ingest(None)).sum());
    });
    group.bench_function("1M spans, out of bytes", |b| {
        b.iter_custom(|times| {
            let one = |_| ingest_bytes(&TraceStore::default(), SPANS);
            (0..times).map(one).sum()
        });
    });
    group.bench_function("1M spans, out of bytes decoded by prost first", |b| {
        b.iter_custom(|times| {
            let one = |_| ingest_decoded(&TraceStore::default(), SPANS);
            (0..times).map(one).sum()
        });
    });
    group.bench_function("1M spans, out of bytes, recorded", |b| {
        b.iter_custom(|times| {
            let one = |_| {
                let dir = tempfile::tempdir().expect("a directory");
                let evidence = Evidence::default();
                evidence.record(dir.path(), u64::MAX).expect("recording");
                ingest_bytes(&evidence.traces, SPANS)
            };
            (0..times).map(one).sum()
        });
    });
    group.bench_function("1M spans, recorded", |b| {
        b.iter_custom(|times| {
            let one = |_| {
                let dir = tempfile::tempdir().expect("a directory");
                ingest(Some(dir.path()))
            };
            (0..times).map(one).sum()
        });
    });
    group.finish();
}

/// Sends messages that are bytes already: what is measured is the receiver, not protobuf's encoder.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
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

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = from.remaining();
        Ok(Some(from.copy_to_bytes(len)))
    }
}

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Over a loopback socket, client and server in this process: what is measured is both.
fn grpc(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    const TOTAL: u64 = 100_000;
    const AT_ONCE: u64 = 4;
    let batches: Vec<ExportTraceServiceRequest> = (0..TOTAL / BATCH)
        .map(|n| ExportTraceServiceRequest {
            resource_spans: vec![spans::batch(n * BATCH, BATCH)],
        })
        .collect();
    let packed: Vec<Bytes> = (0..TOTAL / BATCH).map(|n| body(n * BATCH)).collect();
    let send_all = async |packed: &[Bytes]| {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let evidence = Evidence::default();
        let stop = CancellationToken::new();
        let listeners = Listeners {
            otlp_grpc: Some(listener),
            ..Listeners::default()
        };
        let served = tokio::spawn(serve(
            evidence.clone(),
            listeners,
            stop.clone().cancelled_owned(),
        ));
        let endpoint = Endpoint::from_shared(url).expect("a URL");
        let channel = endpoint.connect().await.expect("a connection");
        let client = TraceServiceClient::new(channel.clone());
        let began = Instant::now();
        let senders = (0..AT_ONCE).map(|first| {
            let mut client = client.clone();
            let mut grpc = Grpc::new(channel.clone());
            let place = |n: &usize| n % AT_ONCE as usize == first as usize;
            let bodies: Vec<_> = (0..packed.len()).filter(place).collect();
            let bodies: Vec<_> = bodies.into_iter().map(|n| packed[n].clone()).collect();
            let whole = if packed.is_empty() { batches.len() } else { 0 };
            let mine: Vec<_> = (0..whole).filter(place).collect();
            let mine: Vec<_> = mine.into_iter().map(|n| batches[n].clone()).collect();
            tokio::spawn(async move {
                for body in bodies {
                    grpc.ready().await.expect("a connection");
                    let path = http::uri::PathAndQuery::from_static(EXPORT);
                    let sent = grpc.unary(tonic::Request::new(body), path, Raw).await;
                    assert!(sent.expect("taken").into_inner().is_empty());
                }
                for batch in mine {
                    let answer = client.export(batch).await.expect("taken").into_inner();
                    assert!(answer.partial_success.is_none(), "{answer:?}");
                }
            })
        });
        for sender in senders.collect::<Vec<_>>() {
            sender.await.expect("sent");
        }
        let spent = began.elapsed();
        assert_eq!(evidence.traces.stats().spans, TOTAL);
        drop(client);
        stop.cancel();
        served.await.expect("served").expect("served");
        spent
    };
    let mut group = c.benchmark_group("otlp");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(TOTAL));
    for (name, packed) in [
        ("grpc, loopback, 100k spans", &[][..]),
        ("grpc, loopback, 100k spans packed before", &packed),
    ] {
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let mut spent = Duration::ZERO;
                    for _ in 0..times {
                        spent += send_all(packed).await;
                    }
                    spent
                })
            });
        });
    }
    group.finish();
}

const LINES: i64 = 1_000_000;
const NANOS: i64 = 1_000_000_000;
const START: i64 = 1_800_000_000 * NANOS;

fn logs() -> LogStore {
    let store = LogStore::default();
    for pod in 0..4 {
        let entries = (0..LINES / 4).map(|n| {
            let status = if n % 10 == 0 { 503 } else { 200 };
            let line = format!(
                "level=info msg=\"request completed\" route=/predict status={status} duration_ms={} request={n}",
                n % 97
            );
            (START + n * 600 * NANOS / (LINES / 4), line, Vec::new())
        });
        let taken = store.ingest_push(vec![PushStream {
            labels: vec![
                ("service_name".into(), "shop".into()),
                ("pod".into(), format!("pod-{pod}")),
            ],
            entries: entries.collect(),
        }]);
        assert_eq!(taken.rejected, 0, "{}", taken.message);
    }
    store
}

fn regex(c: &mut Criterion) {
    let store = logs();
    let limits = QueryLimits::default();
    let end = START + 601 * NANOS;
    let mut group = c.benchmark_group("logs");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(LINES as u64));
    for (name, filter, wanted) in [
        ("text", "|= \"status=503\"", LINES / 10),
        (
            "regex",
            "|~ \"status=5[0-9]{2} duration_ms=[0-9]+\"",
            LINES / 10,
        ),
        (
            "regex without a literal",
            "|~ \"[a-z]+=[45][0-9]{2} \"",
            LINES / 10,
        ),
    ] {
        let text = format!("sum(count_over_time({{service_name=\"shop\"}} {filter} [30m]))");
        let query = logql::Query::new(&text).expect("a query");
        let found = query.instant(&store, end, &limits).expect("an answer");
        assert!(
            matches!(&found, logql::Answer::Vector(v) if v.len() == 1 && v[0].value == wanted as f64),
            "{name}: {found:?}"
        );
        group.bench_with_input(
            BenchmarkId::new("scan 1M lines", name),
            &query,
            |b, query| {
                b.iter(|| query.instant(black_box(&store), end, &limits));
            },
        );
    }
    group.finish();
}

/// What one of ten million spans costs; printed, since criterion measures time alone. Left out where the
/// command names other benches.
fn size(_: &mut Criterion) {
    let named: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    if !named.is_empty() && named.iter().all(|name| !name.contains("size")) {
        return;
    }
    let store = TraceStore::with_limit(4 << 30);
    let spent = ingest_bytes(&store, 10 * SPANS);
    let stats = store.stats();
    println!(
        "size/10M spans: {} bytes a span with its attributes, {} traces, {:.2} million spans a second",
        stats.bytes / stats.spans,
        stats.traces,
        stats.spans as f64 / spent.as_secs_f64() / 1e6
    );
}

criterion_group!(benches, traces, grpc, regex, size);
criterion_main!(benches);
