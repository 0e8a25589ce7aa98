//! How fast an encoder computes batches, for `benches/peers/onnx_runtime.py`, which puts the same to ONNX Runtime.
//!
//! Reads documents as lists of token ids, a JSON list of them in a file; prints a line of JSON a measurement,
//! and what it says of each document.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use serde_json::json;
use target_service::model::{self, Device, Encoded, Infer};

#[derive(Debug, Parser)]
struct Args {
    /// Directory of the model.
    #[arg(long)]
    model: PathBuf,
    /// Documents as token ids.
    #[arg(long)]
    documents: PathBuf,
    /// Threads that compute a batch.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// By candle's operators in place of our own kernels, in batches of at most four documents: what
    /// text-embeddings-inference does on a processor.
    #[arg(long)]
    operators: bool,
    /// Tokens of the batches of one length are from 1,000 to this many more.
    #[arg(long, default_value_t = 28_000)]
    span: usize,
    /// Milliseconds at least of each measurement.
    #[arg(long, default_value_t = 1000)]
    time: u64,
}

fn encoded(ids: Vec<u32>) -> Encoded {
    Encoded {
        ids,
        weights: Vec::new(),
    }
}

/// Milliseconds that each of several calls took.
fn times(
    engine: &mut dyn Infer,
    batch: &[&Encoded],
    most: usize,
    least: Duration,
) -> Result<Vec<f64>> {
    let (start, mut all) = (Instant::now(), Vec::new());
    while start.elapsed() < least || all.len() < 3 {
        let one = Instant::now();
        for batch in batch.chunks(most) {
            for answer in engine.infer(batch) {
                answer?;
            }
        }
        all.push(one.elapsed().as_secs_f64() * 1e3);
    }
    Ok(all)
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (device, most) = match args.operators {
        true => (Device::Candle(candle_core::Device::Cpu), 4),
        false => (Device::Cpu, usize::MAX),
    };
    let model = model::load_on(&args.model, &device)?;
    let mut engine = model.engine(args.threads);
    let least = Duration::from_millis(args.time);
    for tokens in [16usize, 64, 256] {
        for size in [1usize, 8, 32] {
            let id = |at: usize, i: usize| 1000 + ((at * 7919 + i * 104_729) % args.span) as u32;
            let documents: Vec<Encoded> = (0..size)
                .map(|at| encoded((0..tokens).map(|i| id(at, i)).collect()))
                .collect();
            let batch: Vec<&Encoded> = documents.iter().collect();
            times(engine.as_mut(), &batch, most, Duration::ZERO)?;
            let times = times(engine.as_mut(), &batch, most, least)?;
            println!("{}", json!({ "tokens": tokens, "size": size, "ms": times }));
        }
    }
    let documents: Vec<Vec<u32>> =
        serde_json::from_str(&std::fs::read_to_string(&args.documents)?)?;
    let documents: Vec<Encoded> = documents.into_iter().map(encoded).collect();
    for size in [1, 8, 32] {
        let start = Instant::now();
        for batch in documents.chunks(size.min(most)) {
            for answer in engine.infer(&batch.iter().collect::<Vec<_>>()) {
                answer?;
            }
        }
        let rate = documents.len() as f64 / start.elapsed().as_secs_f64();
        println!(
            "{}",
            json!({ "documents": documents.len(), "size": size, "rate": rate })
        );
    }
    for document in &documents {
        let answer = engine.infer(&[document]).remove(0)?;
        println!(
            "{}",
            json!({ "embedding": answer.embedding, "scores": answer.scores })
        );
    }
    Ok(())
}
