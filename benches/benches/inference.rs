//! The hot path of a request to the bundled encoder: tokenise, pack (documents to batches; nothing is padded),
//! forward for batches of 1, 8 and 32, tokenise and forward together as one request takes them, and the whole of it
//! over HTTP; the weighted-words model for comparison. Pooling and head are part of forward, and at most what
//! a document of one token takes. all-MiniLM-L6-v2 for batches of 1, 8 and 32 of 16, 64 and 256 tokens, where it was fetched
//! (`target-service/models/fetch-minilm.sh`). One thread, as a worker has.
//!
//! Throughput is in tokens, or in documents where the whole request is measured.

// The macros of criterion make public functions without documentation.
#![allow(missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use target_service::batch::{Limits, Queue};
use target_service::config::{ConnectionLimits, Drain, LogRoute, RequestLimits, TelemetryConfig};
use target_service::engine::{Pool, Settings};
use target_service::faults::Faults;
use target_service::model::{self, Encoded};
use target_service::serve::{self, Listeners, Loaded, PREDICT, Service, Workers};
use target_service::telemetry::{Identity, Telemetry};
use tokio::net::{TcpListener, TcpStream};

/// The texts that the scenarios send, with the corpus' length curve.
fn documents() -> Vec<String> {
    harness_benches::documents()
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).expect("a row of JSON");
            row["text"].as_str().expect("a text").to_owned()
        })
        .collect()
}

fn tokenise(c: &mut Criterion) {
    let mut documents = documents();
    documents.sort_by_key(String::len);
    let preprocess = model::bundled("bert").expect("bundled").preprocess();
    let mut group = c.benchmark_group("tokenise");
    for (name, share) in [("p50", 50), ("p95", 95), ("p99", 99)] {
        let text = &documents[documents.len() * share / 100];
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| preprocess.encode(black_box(text)).expect("encodes"));
        });
    }
    group.finish();
}

/// A full queue of documents of the corpus' lengths comes in and leaves in batches.
fn pack(c: &mut Criterion) {
    let preprocess = model::bundled("bert").expect("bundled").preprocess();
    let lengths: Vec<usize> = documents()
        .iter()
        .take(64)
        .map(|text| preprocess.encode(text).expect("encodes").cost())
        .collect();
    let limits = Limits {
        max_batch: 8,
        max_batch_tokens: 2048,
        capacity: lengths.len(),
        workers: 1,
        max_hold: Duration::ZERO,
    };
    let mut group = c.benchmark_group("pack");
    group.throughput(Throughput::Elements(lengths.len() as u64));
    group.bench_function(BenchmarkId::from_parameter(lengths.len()), |b| {
        b.iter(|| {
            let mut queue = Queue::new(limits);
            for length in &lengths {
                let documents = vec![(*length, ())];
                let admitted = queue.offer(Duration::ZERO, Duration::from_secs(5), documents);
                admitted.expect("there is room");
            }
            let mut batches = 0;
            while !queue.is_empty() {
                let taken = queue.take(Duration::ZERO);
                let took = Duration::from_millis(2);
                queue.finished(Duration::ZERO, taken.tokens(), took, true);
                batches += 1;
            }
            black_box(batches)
        });
    });
    group.finish();
}

fn forward(c: &mut Criterion) {
    let model = model::bundled("bert").expect("bundled");
    let preprocess = model.preprocess();
    let encoded: Vec<Encoded> = documents()
        .iter()
        .take(32)
        .map(|text| preprocess.encode(text).expect("encodes"))
        .collect();
    let mut engine = model.engine(1);
    let mut group = c.benchmark_group("forward");
    let shortest = Encoded {
        ids: encoded[0].ids[..1].to_vec(),
        weights: Vec::new(),
    };
    group.bench_function("one token", |b| {
        b.iter(|| engine.infer(black_box(&[&shortest])));
    });
    for size in [1, 8, 32] {
        let batch: Vec<&Encoded> = encoded.iter().take(size).collect();
        let tokens: usize = batch.iter().map(|d| d.cost()).sum();
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::new("batch", size), |b| {
            b.iter(|| engine.infer(black_box(&batch)));
        });
    }
    group.finish();
}

/// Documents of one length, as tables of other engines have them.
fn minilm(c: &mut Criterion) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target-service/models");
    let directory = models.join("all-MiniLM-L6-v2");
    if !directory.join("model.safetensors").exists() {
        eprintln!("SKIPPED: {} is not there", directory.display());
        return;
    }
    let model = model::load(&directory).expect("loads");
    let mut engine = model.engine(1);
    let mut group = c.benchmark_group("minilm");
    // The largest takes seconds.
    group.sample_size(20);
    for tokens in [16, 64, 256] {
        for size in [1, 8, 32] {
            let document = |at: usize| Encoded {
                ids: (0..tokens)
                    .map(|i| 1000 + ((at * 7919 + i * 104_729) % 28_000) as u32)
                    .collect(),
                weights: Vec::new(),
            };
            let documents: Vec<Encoded> = (0..size).map(document).collect();
            let batch: Vec<&Encoded> = documents.iter().collect();
            group.throughput(Throughput::Elements((tokens * size) as u64));
            group.bench_function(BenchmarkId::new(format!("{tokens} tokens"), size), |b| {
                b.iter(|| engine.infer(black_box(&batch)));
            });
        }
    }
    group.finish();
}

/// Each iteration takes the next document, so that the figure is the mean over the length curve.
fn request(c: &mut Criterion) {
    let documents = documents();
    let mut group = c.benchmark_group("request");
    group.throughput(Throughput::Elements(1));
    for name in model::BUNDLED {
        let model = model::bundled(name).expect("bundled");
        let preprocess = model.preprocess();
        let mut engine = model.engine(1);
        let mut next = documents.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                let text = next.next().expect("a cycle has no end");
                let encoded = preprocess.encode(text).expect("encodes");
                engine.infer(&[&encoded]).remove(0).expect("infers").best()
            });
        });
    }
    group.finish();
}

/// The bundled encoder behind its listener, everything but the export of telemetry as in life.
async fn service() -> TcpStream {
    let faults = Arc::new(Faults::default());
    let config = TelemetryConfig {
        traces: None,
        logs: LogRoute::None,
        baggage: Vec::new(),
    };
    let identity = Identity::resolve(&|_| None, "bench").expect("resolves");
    let telemetry = Telemetry::start(&config, identity, &faults).expect("starts");
    let metrics = telemetry.metrics.clone();
    let limits = RequestLimits {
        deadline: Duration::from_secs(60),
        max_body: 1 << 20,
        max_documents: 32,
        connections: ConnectionLimits {
            most: 16,
            idle: Duration::from_secs(600),
        },
    };
    let service = Service::new(telemetry, faults.clone(), limits, false);
    let model = model::bundled("bert").expect("bundled");
    let settings = Settings {
        max_batch: 8,
        max_batch_tokens: 2048,
        capacity: 64,
        max_hold: Duration::ZERO,
    };
    let pool = Pool::start(vec![model.engine(1)], settings, metrics, faults).expect("starts");
    service.make_ready(Loaded {
        workers: Workers::Encoder {
            pool,
            preprocess: model.preprocess(),
        },
        info: model.info,
        load: Duration::ZERO,
    });
    let http = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let admin = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = http.local_addr().expect("bound");
    let drain = Drain {
        grace: Duration::ZERO,
        timeout: Duration::from_secs(1),
    };
    let listeners = Listeners { http, admin };
    tokio::spawn(serve::run(
        service,
        listeners,
        drain,
        std::future::pending(),
    ));
    let stream = TcpStream::connect(address).await.expect("connects");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

fn over_http(c: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut sender = runtime.block_on(async {
        let io = TokioIo::new(service().await);
        let (sender, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .expect("HTTP");
        tokio::spawn(connection);
        sender
    });
    let documents: Vec<Bytes> = documents().into_iter().map(Bytes::from).collect();
    let mut next = documents.iter().cycle();
    let mut group = c.benchmark_group("over http");
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::from_parameter("bert"), |b| {
        b.iter(|| {
            let body = next.next().expect("a cycle has no end").clone();
            let request = http::Request::post(PREDICT)
                .header("host", "bench")
                .body(Full::new(body))
                .expect("a request");
            runtime.block_on(async {
                sender.ready().await.expect("the connection stays open");
                let response = sender.send_request(request).await.expect("an answer");
                assert_eq!(response.status(), 200);
                response
                    .into_body()
                    .collect()
                    .await
                    .expect("a body")
                    .to_bytes()
            })
        });
    });
    group.finish();
}

criterion_group!(benches, tokenise, pack, forward, minilm, request, over_http);
criterion_main!(benches);
