//! The same histograms and the same queries to a real Prometheus and to the embedded one, over HTTP on
//! loopback: `cargo run --release -p harness-benches --example prometheus_peer [PATH_OF_PROMETHEUS]`.
//!
//! 5,000 bucket series with 200 samples each come in by remote write. Each query is asked of both in
//! turn, the answers are compared, and the medians and their ratio are printed. Needs a `prometheus`
//! of version 2.25 or later; its process and data are gone afterwards.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use harness_evidence::Evidence;
use harness_evidence::receive::remote_write::{HEADERS, TimeSeries, WriteRequest, pack};
use harness_evidence::serve::{Listeners, serve};
use serde_json::Value;
use tokio::net::TcpListener;

const ROUTES: usize = 250;
const BUCKETS: usize = 20;
const SAMPLES: i64 = 200;
const EVERY_MS: i64 = 15_000;
const STEPS: i64 = 100;
const ROUNDS: usize = 21;

/// All series at one time, as one request. Observations of a route pile up below its own speed.
fn request(n: i64, timestamp: i64) -> Vec<u8> {
    let one = |route: usize, bucket: usize| {
        let le = if bucket + 1 == BUCKETS {
            "+Inf".to_owned()
        } else {
            // Written with a point, so that both versions of Prometheus keep it as it is.
            format!("{:?}", 0.001 * 1.5_f64.powi(bucket as i32))
        };
        let share = (bucket + 1).min(8 + route % 12) as f64 / (8 + route % 12) as f64;
        let route = format!("/route/{route}");
        let labels = [
            ("__name__", "request_duration_seconds_bucket"),
            ("le", le.as_str()),
            ("route", route.as_str()),
        ];
        TimeSeries::new(labels, [(timestamp, (share * 1000.0).floor() * n as f64)])
    };
    let all = (0..ROUTES).flat_map(|route| (0..BUCKETS).map(move |bucket| one(route, bucket)));
    pack(&WriteRequest {
        timeseries: all.collect(),
    })
    .expect("snappy packs anything")
}

/// Ends the peer however this program ends.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_prometheus(program: &str, dir: &std::path::Path, port: u16) -> Peer {
    let config = dir.join("prometheus.yml");
    std::fs::write(&config, "global: {scrape_interval: 1h}\n").expect("a config");
    let child = Command::new(program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            dir.join("data").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--web.enable-remote-write-receiver", "--log.level=error"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    Peer(child)
}

async fn ready(client: &reqwest::Client, url: &str) {
    for _ in 0..300 {
        let answer = client.get(format!("{url}/-/ready")).send().await;
        if answer.is_ok_and(|a| a.status().is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{url} is not ready after 30 s");
}

/// The result and how long it took to come, whole.
async fn ask(client: &reqwest::Client, url: &str, params: &[(&str, String)]) -> (Value, Duration) {
    let began = Instant::now();
    let answer = client
        .get(format!("{url}/api/v1/query_range"))
        .query(params)
        .send()
        .await
        .expect("an answer");
    let body = answer.bytes().await.expect("a body");
    let took = began.elapsed();
    let value: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(value["status"], "success", "{value}");
    (value["data"]["result"].clone(), took)
}

/// Points of two results that differ by more than rounding. The oldest window may: version 2 takes its
/// left end in, version 3 does not; these windows have no sample there.
fn differing(a: &Value, b: &Value) -> usize {
    let sorted = |v: &Value| {
        let mut all = v.as_array().cloned().unwrap_or_default();
        all.sort_by_key(|s| s["metric"].to_string());
        all
    };
    let (a, b) = (sorted(a), sorted(b));
    assert_eq!(a.len(), b.len(), "series");
    let number = |v: &Value| v[1].as_str().and_then(|t| t.parse::<f64>().ok());
    let mut found = 0;
    for (a, b) in a.iter().zip(&b) {
        let (a, b) = (a["values"].as_array(), b["values"].as_array());
        let (Some(a), Some(b)) = (a, b) else {
            return usize::MAX;
        };
        assert_eq!(a.len(), b.len(), "points");
        found += a
            .iter()
            .zip(b)
            .filter(|(a, b)| match (number(a), number(b)) {
                (Some(x), Some(y)) => (x - y).abs() > 1e-9 * x.abs().max(y.abs()),
                _ => true,
            })
            .count();
    }
    found
}

#[tokio::main]
async fn main() {
    let program = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "prometheus".into());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let dir = tempfile::tempdir().expect("a directory");
    let bind = || async { TcpListener::bind("127.0.0.1:0").await.expect("a port") };

    let ours = bind().await;
    let our_url = format!("http://{}", ours.local_addr().expect("an address"));
    let listeners = Listeners {
        prometheus: Some(ours),
        ..Listeners::default()
    };
    tokio::spawn(serve(
        Evidence::default(),
        listeners,
        std::future::pending(),
    ));
    // Free a moment ago; nothing else asks for ports in between.
    let port = bind().await.local_addr().expect("an address").port();
    let _peer = start_prometheus(&program, dir.path(), port);
    let their_url = format!("http://127.0.0.1:{port}");
    ready(&client, &their_url).await;

    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let end = (now.as_millis() as i64 - 60_000) / EVERY_MS * EVERY_MS;
    let mut spent = [Duration::ZERO; 2];
    for n in 0..SAMPLES {
        let body = request(n, end - (SAMPLES - 1 - n) * EVERY_MS);
        for (url, spent) in [&our_url, &their_url].into_iter().zip(&mut spent) {
            let mut post = client
                .post(format!("{url}/api/v1/write"))
                .body(body.clone());
            for (name, value) in HEADERS {
                post = post.header(name, value);
            }
            let began = Instant::now();
            let answer = post.send().await.expect("an answer");
            *spent += began.elapsed();
            assert!(answer.status().is_success(), "{url}: {}", answer.status());
        }
    }
    let samples = (ROUTES * BUCKETS) as f64 * SAMPLES as f64;
    let rate = |d: Duration| samples / d.as_secs_f64() / 1000.0;
    println!(
        "remote write   ours {:8.0}k samples/s   prometheus {:8.0}k samples/s",
        rate(spent[0]),
        rate(spent[1])
    );

    // One millisecond off the samples, so that no window begins on one.
    let (start, end) = (end - (STEPS - 1) * EVERY_MS + 1, end + 1);
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1000, ms % 1000);
    println!(
        "{:<72} {:>9} {:>12} {:>7}",
        "query, 5,000 series, 100 steps", "ours", "prometheus", "ratio"
    );
    for query in [
        "histogram_quantile(0.99, sum by (le) (rate(request_duration_seconds_bucket[1m])))",
        "histogram_quantile(0.99, sum by (le, route) (rate(request_duration_seconds_bucket[1m])))",
        "histogram_quantile(0.99, rate(request_duration_seconds_bucket[5m]))",
        "sum(increase(request_duration_seconds_bucket{le=\"+Inf\"}[5m]))",
    ] {
        let params = [
            ("query", query.to_owned()),
            ("start", seconds(start)),
            ("end", seconds(end)),
            ("step", seconds(EVERY_MS)),
        ];
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let (a, t) = ask(&client, &our_url, &params).await;
            times[0].push(t);
            let (b, t) = ask(&client, &their_url, &params).await;
            times[1].push(t);
            assert_eq!(differing(&a, &b), 0, "{query}");
        }
        let [a, b] = times.map(|mut t| {
            t.sort();
            t[t.len() / 2].as_secs_f64() * 1000.0
        });
        println!("{query:<72} {a:>6.1} ms {b:>9.1} ms {:>7.2}", a / b);
    }
}
