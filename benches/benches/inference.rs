//! The hot path of a request to the bundled encoder: tokenise, forward for batches of 1, 8 and 32,
//! and both together as one request takes them; the weighted-words model for comparison.
//!
//! One thread, as a worker has: run with `CANDLE_NUM_THREADS=1 RAYON_NUM_THREADS=1`.
//! Throughput is in tokens, or in documents where the whole request is measured.

// The macros of criterion make public functions without documentation.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use target_service::model::{self, Encoded};

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

criterion_group!(benches, tokenise, forward, request);
criterion_main!(benches);
