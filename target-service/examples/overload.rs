//! The overload curve of a running service: answers in time a second, at rates from a quarter of its
//! capacity to four times that.
//!
//! ```text
//! target-service --listen 127.0.0.1:3010 &
//! cargo run --release -p target-service --example overload -- --url 127.0.0.1:3010 \
//!     --documents scenarios/data/documents.jsonl
//! ```
//! Capacity is what a few callers that never pause get answered. Then requests come at random (Poisson) at
//! each rate, whatever becomes of the earlier ones, each with `x-request-timeout`. An answer counts if it
//! is a 200 within that time of when the request was due.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::net::TcpStream;

#[derive(Debug, Parser)]
struct Args {
    /// Address of the service.
    #[arg(long, default_value = "127.0.0.1:3010")]
    url: String,
    /// JSON lines with a field `text`.
    #[arg(long)]
    documents: std::path::PathBuf,
    /// Where to send them: /predict or /embed.
    #[arg(long, default_value = "/predict")]
    path: String,
    /// How long each caller waits, milliseconds.
    #[arg(long, default_value_t = 500)]
    timeout: u64,
    /// Seconds at each rate.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Callers that find the capacity out.
    #[arg(long, default_value_t = 16)]
    callers: usize,
    /// Rates, as parts of the capacity.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0.25,0.5,0.75,0.9,1,1.25,1.5,2,3,4"
    )]
    factors: Vec<f64>,
}

type Connection = SendRequest<Full<Bytes>>;

struct Client {
    args: Args,
    texts: Vec<Bytes>,
    idle: Mutex<Vec<Connection>>,
}

impl Client {
    async fn connection(&self) -> Result<Connection> {
        // Not in the condition of a loop, where the lock would be held over the body.
        let next = || self.idle.lock().map(|mut idle| idle.pop()).ok().flatten();
        while let Some(connection) = next() {
            if connection.is_ready() {
                return Ok(connection);
            }
        }
        let stream = TcpStream::connect(&self.args.url).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn send(&self, text: usize, timeout: Duration) -> Result<StatusCode> {
        let request = Request::post(&self.args.path)
            .header("host", &self.args.url)
            .header("content-type", "text/plain")
            .header("x-request-timeout", format!("{}ms", timeout.as_millis()))
            .body(Full::new(self.texts[text % self.texts.len()].clone()))?;
        let mut connection = self.connection().await?;
        let response = connection.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(connection);
        }
        Ok(status)
    }
}

/// How the requests at one rate ended.
#[derive(Debug, Default)]
struct Ends {
    in_time: Vec<Duration>,
    late: usize,
    refused: usize,
    failed: usize,
}

/// What `callers` that never pause get answered, a second.
async fn capacity(client: &Arc<Client>) -> Result<f64> {
    let (callers, time) = (
        client.args.callers,
        Duration::from_secs(client.args.seconds),
    );
    let start = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let client = client.clone();
            tokio::spawn(async move {
                let (mut sent, mut answered) = (caller, 0u32);
                while start.elapsed() < time {
                    let status = client.send(sent, Duration::from_secs(60)).await?;
                    answered += u32::from(status == StatusCode::OK);
                    sent += client.args.callers;
                }
                anyhow::Ok(answered)
            })
        })
        .collect();
    let mut answered = 0;
    for task in tasks {
        answered += task.await??;
    }
    Ok(f64::from(answered) / start.elapsed().as_secs_f64())
}

async fn at_rate(client: &Arc<Client>, rate: f64, seed: u64) -> Result<Ends> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let timeout = Duration::from_millis(client.args.timeout);
    let ends = Arc::new(Mutex::new(Ends::default()));
    let (start, mut due) = (tokio::time::Instant::now(), Duration::ZERO);
    let mut tasks = tokio::task::JoinSet::new();
    while due < Duration::from_secs(client.args.seconds) {
        tokio::time::sleep_until(start + due).await;
        let (client, ends, at) = (client.clone(), ends.clone(), start + due);
        let text = rng.random_range(0..client.texts.len());
        tasks.spawn(async move {
            let status = client.send(text, timeout).await;
            let took = at.elapsed();
            let Ok(mut ends) = ends.lock() else { return };
            match status {
                Ok(StatusCode::OK) if took <= timeout => ends.in_time.push(took),
                Ok(StatusCode::OK) => ends.late += 1,
                Ok(StatusCode::SERVICE_UNAVAILABLE) => ends.refused += 1,
                _ => ends.failed += 1,
            }
        });
        due += Duration::from_secs_f64(-f64::ln(1.0 - rng.random::<f64>()) / rate);
    }
    while let Some(task) = tasks.join_next().await {
        task?;
    }
    let mut ends = std::mem::take(
        &mut *ends
            .lock()
            .map_err(|_| anyhow::anyhow!("a task panicked"))?,
    );
    ends.in_time.sort();
    Ok(ends)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let lines = std::fs::read_to_string(&args.documents)
        .with_context(|| format!("cannot read {}", args.documents.display()))?;
    let mut texts = Vec::new();
    for line in lines.lines() {
        let row: serde_json::Value = serde_json::from_str(line)?;
        texts.push(Bytes::from(
            row["text"]
                .as_str()
                .context("a row without text")?
                .to_owned(),
        ));
    }
    if texts.is_empty() {
        bail!("{} has no documents", args.documents.display());
    }
    let client = Arc::new(Client {
        args,
        texts,
        idle: Mutex::default(),
    });
    let capacity = capacity(&client).await?;
    println!(
        "capacity {capacity:.0}/s; {} ms of patience",
        client.args.timeout
    );
    println!(
        "| offered | of capacity | in time | of best | late | refused | failed | p50 ms | p99 ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut best = 0.0;
    for (at, factor) in client.args.factors.iter().enumerate() {
        let ends = at_rate(&client, capacity * factor, at as u64).await?;
        let seconds = client.args.seconds as f64;
        let good = ends.in_time.len() as f64 / seconds;
        best = f64::max(best, good);
        let quantile = |share: f64| {
            let rank = (ends.in_time.len() as f64 * share) as usize;
            ends.in_time
                .get(rank)
                .map_or(f64::NAN, |t| t.as_secs_f64() * 1e3)
        };
        println!(
            "| {:.0}/s | {factor} | {good:.1}/s | {:.2} | {:.1}/s | {:.1}/s | {:.1}/s | {:.1} | {:.1} |",
            capacity * factor,
            good / best,
            ends.late as f64 / seconds,
            ends.refused as f64 / seconds,
            ends.failed as f64 / seconds,
            quantile(0.5),
            quantile(0.99)
        );
    }
    Ok(())
}
