//! General HTTP clients as load generators: what a request costs when a library sends it. Closed loop,
//! one thread, the headers that the harness sends.
//!
//! `clients reqwest|hyper URL SECONDS CONNECTIONS` prints `{"requests":N,"seconds":S,"failed":F}`;
//! `benches/peers/run.py` reads the CPU time off the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Sends one request; whether it was answered with 200.
trait Send: Clone + 'static {
    async fn send(&self, url: &str) -> bool;
}

#[derive(Clone)]
struct Reqwest(reqwest::Client);

impl Send for Reqwest {
    async fn send(&self, url: &str) -> bool {
        let request = self
            .0
            .get(url)
            .header("traceparent", TRACE)
            .header("baggage", "harness.run.id=peers");
        match request.send().await {
            Ok(answer) => answer.status() == 200 && answer.bytes().await.is_ok(),
            Err(_) => false,
        }
    }
}

#[derive(Clone)]
struct Pooled(Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>);

impl Send for Pooled {
    async fn send(&self, url: &str) -> bool {
        let request = http::Request::get(url)
            .header("traceparent", TRACE)
            .header("baggage", "harness.run.id=peers")
            .body(Full::new(Bytes::new()));
        let Ok(request) = request else { return false };
        match self.0.request(request).await {
            Ok(answer) => answer.status() == 200 && answer.into_body().collect().await.is_ok(),
            Err(_) => false,
        }
    }
}

async fn load(client: impl Send, url: Arc<str>, length: Duration, connections: usize) {
    let begun = Instant::now();
    let counts = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let users: Vec<_> = (0..connections)
        .map(|_| {
            let (client, url, counts) = (client.clone(), Arc::clone(&url), Arc::clone(&counts));
            tokio::task::spawn_local(async move {
                while begun.elapsed() < length {
                    let well = client.send(&url).await;
                    counts.0.fetch_add(1, Ordering::Relaxed);
                    counts.1.fetch_add(u64::from(!well), Ordering::Relaxed);
                }
            })
        })
        .collect();
    for user in users {
        // A task that panicked has said so.
        let _ = user.await;
    }
    let (requests, failed) = (
        counts.0.load(Ordering::Relaxed),
        counts.1.load(Ordering::Relaxed),
    );
    let seconds = begun.elapsed().as_secs_f64();
    println!("{{\"requests\":{requests},\"seconds\":{seconds},\"failed\":{failed}}}");
}

fn main() -> std::io::Result<()> {
    // reqwest takes whatever provider the process has; without one it does not start.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let usage = || std::io::Error::other("usage: clients reqwest|hyper URL SECONDS CONNECTIONS");
    let mut args = std::env::args().skip(1);
    let kind = args.next().ok_or_else(usage)?;
    let url: Arc<str> = args.next().ok_or_else(usage)?.into();
    let mut number = || args.next()?.parse::<u32>().ok();
    let (seconds, connections) = number().zip(number()).ok_or_else(usage)?;
    let (length, connections) = (Duration::from_secs(seconds.into()), connections as usize);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match kind.as_str() {
            "reqwest" => {
                let client = reqwest::Client::builder().no_proxy().build();
                let client = client.map_err(std::io::Error::other)?;
                load(Reqwest(client), url, length, connections).await;
            }
            "hyper" => {
                let client = Client::builder(TokioExecutor::new()).build_http();
                load(Pooled(client), url, length, connections).await;
            }
            _ => return Err(usage()),
        }
        Ok(())
    })
}
