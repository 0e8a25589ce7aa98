//! Requests that are wrong in every layer, from the bytes of a connection to the shape of a body, at a
//! running service: whatever comes, it must answer the next one, and never with 500.
//!
//! ```text
//! target-service --listen 127.0.0.1:3010 &
//! cargo run --release -p target-service --example hostile -- --url 127.0.0.1:3010 --requests 1000000
//! ```

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[derive(Debug, Clone, Parser)]
struct Args {
    /// Address of the service.
    #[arg(long, default_value = "127.0.0.1:3010")]
    url: String,
    /// How many, in all.
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// Connections at the same time.
    #[arg(long, default_value_t = 4)]
    threads: u64,
    /// Where the random numbers begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Answers by status; 0 for a connection that was closed without one.
type Tally = BTreeMap<u16, u64>;

const PATHS: &[&str] = &[
    "/predict",
    "/embed",
    "/v1/embeddings",
    "/v1/models",
    "/v2/models/bert/infer",
    "/v2/models/bert",
    "/v2/models/%00/infer",
    "/healthz",
    "/openapi.json",
    "/..//%ff?x=%",
];

const BODIES: &[&str] = &[
    "The pitcher threw a curveball",
    r#"{"text": "The goalie"}"#,
    r#"{"texts": ["a", "", "b\u0000"]}"#,
    r#"{"model": "bert", "input": ["a", 5], "encoding_format": "base64"}"#,
    r#"{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [["x"]]}]}"#,
    r#"{"inputs": [{"name": "text", "shape": [-1, 1e99], "datatype": "BYTES", "data": {}}]}"#,
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "\u{feff}{\"text\": \"\\ud800\"}",
    "",
];

const HEADERS: &[&str] = &[
    "content-type: application/json",
    "content-type: text/plain; charset=utf-7",
    "content-type: \u{1}",
    "content-encoding: gzip",
    "x-request-timeout: 5ms",
    "x-request-timeout: 99999999999999999999s",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "traceparent: 00-00000000000000000000000000000000-0000000000000000-zz",
    "baggage: =;,=",
    "expect: 100-continue",
    "transfer-encoding: gzip",
    "upgrade: h2c",
    "host: ",
];

struct Attacker {
    args: Args,
    rng: ChaCha8Rng,
    tally: Tally,
}

impl Attacker {
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.rng.random_range(0..of.len())]
    }

    fn noise(&mut self, most: usize) -> Vec<u8> {
        let length = self.rng.random_range(0..=most);
        (0..length).map(|_| self.rng.random()).collect()
    }

    /// Flips, cuts, doubles or inserts.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.rng.random_range(1..4) {
            let at = self.rng.random_range(0..=bytes.len());
            match self.rng.random_range(0..4) {
                0 if at < bytes.len() => bytes[at] = self.rng.random(),
                1 => bytes.truncate(at),
                2 => {
                    let tail = bytes[at..].to_vec();
                    bytes.extend(tail);
                }
                _ => {
                    let noise = self.noise(8);
                    bytes.splice(at..at, noise);
                }
            }
        }
    }

    fn body(&mut self) -> Vec<u8> {
        let mut body = self.one(BODIES).as_bytes().to_vec();
        if self.rng.random_bool(0.7) {
            self.damage(&mut body);
        }
        body
    }

    fn head(&mut self, length: Option<usize>) -> Vec<u8> {
        let method = self.one(&["POST", "POST", "POST", "GET", "BREW", "PRI", "CONNECT"]);
        let mut head = format!("{method} {} HTTP/1.1\r\nhost: x\r\n", self.one(PATHS));
        for _ in 0..self.rng.random_range(0..3) {
            head += self.one(HEADERS);
            head += "\r\n";
        }
        if let Some(length) = length {
            head += &format!("content-length: {length}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    /// The bytes of one attempt.
    fn attempt(&mut self) -> Vec<u8> {
        let mut bytes = match self.rng.random_range(0..6) {
            // Bytes of no protocol.
            0 => return self.noise(200),
            // A head that is damaged.
            1 => {
                let mut head = self.head(Some(3));
                self.damage(&mut head);
                head.extend(b"abc");
                return head;
            }
            // A length that is not the body's.
            2 => {
                let length = self.rng.random_range(0..40);
                self.head(Some(length))
            }
            // Chunks that are damaged.
            3 => {
                let mut head = self.head(None);
                head.truncate(head.len() - 2);
                head.extend(b"transfer-encoding: chunked\r\n\r\n");
                let mut chunks = b"5\r\nhello\r\n0\r\n\r\n".to_vec();
                self.damage(&mut chunks);
                head.extend(chunks);
                return head;
            }
            // HTTP/2 with frames of noise.
            4 => {
                let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
                bytes.extend(self.noise(120));
                return bytes;
            }
            // A sound frame around a body that is wrong.
            _ => {
                let body = self.body();
                let mut bytes = self.head(Some(body.len()));
                bytes.extend(body);
                return bytes;
            }
        };
        bytes.extend(self.body());
        bytes
    }

    /// Sends one attempt on a connection of its own and reads what comes until it is closed.
    fn send(&mut self) -> Result<()> {
        let bytes = self.attempt();
        let mut stream =
            TcpStream::connect(&self.args.url).context("it does not accept any more")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // The service may close before it has read all.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            let silent = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
            ensure!(
                !silent.contains(&error.kind()),
                "no end of the answer in 10 s to {:?}",
                String::from_utf8_lossy(&bytes)
            );
        }
        let status = answer
            .strip_prefix(b"HTTP/1.")
            .and_then(|rest| std::str::from_utf8(rest.get(2..5)?).ok()?.parse().ok())
            .unwrap_or(0);
        *self.tally.entry(status).or_default() += 1;
        ensure!(
            status != 500,
            "{:?} was answered {:?}",
            String::from_utf8_lossy(&bytes),
            String::from_utf8_lossy(&answer)
        );
        Ok(())
    }
}

/// A proper request gets a proper answer.
fn probe(url: &str) -> Result<()> {
    let mut stream = TcpStream::connect(url)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(
        b"POST /predict HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 11\r\n\r\nThe pitcher",
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200") {
        bail!("a proper request was answered {answer:?}");
    }
    Ok(())
}

fn main() -> Result<()> {
    let args = Args::parse();
    probe(&args.url).context("the service is not as it should be before it begins")?;
    let start = Instant::now();
    let each = args.requests.div_ceil(args.threads.max(1));
    let tallies: Vec<Result<Tally>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..args.threads)
            .map(|thread| {
                let args = args.clone();
                scope.spawn(move || {
                    let rng = ChaCha8Rng::seed_from_u64(args.seed + thread);
                    let mut attacker = Attacker {
                        args,
                        rng,
                        tally: Tally::new(),
                    };
                    for at in 0..each {
                        attacker.send()?;
                        if at % 1000 == 0 {
                            probe(&attacker.args.url)?;
                        }
                    }
                    Ok(attacker.tally)
                })
            })
            .collect();
        let panicked = |_| Err(anyhow::anyhow!("the attacker panicked"));
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(panicked))
            .collect()
    });
    let mut all = Tally::new();
    for tally in tallies {
        for (status, count) in tally? {
            *all.entry(status).or_default() += count;
        }
    }
    probe(&args.url).context("the service is not as it should be afterwards")?;
    let sent: u64 = all.values().sum();
    println!(
        "{sent} requests in {:.0} s; answers by status (0: closed without): {all:?}",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
