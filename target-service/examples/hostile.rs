//! Requests that are wrong in every layer, from the bytes of a connection to the shape of a body, at a
//! running service: whatever comes, it must answer the next one, and never with 500.
//!
//! ```text
//! target-service --listen 127.0.0.1:3010 &
//! cargo run --release -p target-service --example hostile -- --url 127.0.0.1:3010 --requests 1000000
//! ```
//!
//! With `--writes MODEL` at a service whose model, of that name, writes texts.

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
    /// The service's model has this name and writes texts: most requests are for those.
    #[arg(long, value_name = "MODEL")]
    writes: Option<String>,
    /// Where the random numbers begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Answers by status; 0 for a connection that was closed without one, 2 for an HTTP/2 status that is not
/// in its static table.
type Tally = BTreeMap<u16, u64>;

/// How long damaged frames may leave a connection silent: they may have promised more than they hold.
const PATIENCE: Duration = Duration::from_millis(20);

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

/// Of one token each where they are sound, since those cost the service time. `m` stands for the model.
const PROMPTS: &[&str] = &[
    r#"{"model": "m", "prompt": "The capital", "max_tokens": 1}"#,
    r#"{"model": "m", "prompt": [504, 3575, 99999999], "max_tokens": 1, "stream": true}"#,
    r#"{"model": "m", "prompt": "a", "max_tokens": 1, "stream": true, "stream_options": {"include_usage": 1}}"#,
    r#"{"model": "m", "prompt": ["a", "b"], "n": 2, "max_tokens": 1, "best_of": -1}"#,
    r#"{"model": "m", "prompt": "\ud83d", "stop": ["", "x", 5], "max_tokens": 1, "temperature": 1e39}"#,
    r#"{"model": "m", "prompt": "", "max_tokens": 18446744073709551616, "top_p": -0.0, "seed": 1.5}"#,
    r#"{"model": "m", "prompt": "a", "max_tokens": 1, "logit_bias": {"1": 100}, "echo": true}"#,
    r#"{"prompt": {"text": "a"}, "max_tokens": "1", "stream": "yes"}"#,
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
        let model = self.args.writes.clone();
        let body = match model.filter(|_| self.rng.random_bool(0.8)) {
            Some(model) => self.one(PROMPTS).replace(r#""m""#, &format!("{model:?}")),
            None => self.one(BODIES).to_owned(),
        };
        let mut body = body.into_bytes();
        if self.rng.random_bool(0.7) {
            self.damage(&mut body);
        }
        body
    }

    fn path(&mut self) -> &'static str {
        match self.args.writes.is_some() && self.rng.random_bool(0.8) {
            true => "/v1/completions",
            false => self.one(PATHS),
        }
    }

    /// A request as HTTP/2 has it, its frames mostly damaged, and how long to wait for an answer.
    fn frames(&mut self) -> (Vec<u8>, Duration) {
        let body = self.body();
        let mut frames = request_frames(self.path(), &body);
        if self.rng.random_bool(0.2) {
            return (frames, Duration::from_secs(10));
        }
        self.damage(&mut frames);
        (frames, PATIENCE)
    }

    fn head(&mut self, length: Option<usize>) -> Vec<u8> {
        let method = self.one(&["POST", "POST", "POST", "GET", "BREW", "PRI", "CONNECT"]);
        let mut head = format!("{method} {} HTTP/1.1\r\nhost: x\r\n", self.path());
        for _ in 0..self.rng.random_range(0..3) {
            head += self.one(HEADERS);
            head += "\r\n";
        }
        if let Some(length) = length {
            head += &format!("content-length: {length}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    /// The bytes of one attempt, but for those of [`Attacker::frames`].
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
        let mut stream =
            TcpStream::connect(&self.args.url).context("it does not accept any more")?;
        if self.rng.random_range(0..7) == 0 {
            let (bytes, patience) = self.frames();
            let status = frames_answer(&mut stream, &bytes, patience)?;
            return self.count(status, &bytes, b"over HTTP/2");
        }
        let bytes = self.attempt();
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
        self.count(status, &bytes, &answer)
    }

    fn count(&mut self, status: u16, bytes: &[u8], answer: &[u8]) -> Result<()> {
        *self.tally.entry(status).or_default() += 1;
        ensure!(
            status != 500,
            "{:?} was answered {:?}",
            String::from_utf8_lossy(bytes),
            String::from_utf8_lossy(answer)
        );
        Ok(())
    }
}

/// A frame of stream 1 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags, 0, 0, 0, 1]);
    bytes.extend(payload);
    bytes
}

/// POST, http, then path and a content type as literals that nothing remembers (RFC 7541), and the body.
fn request_frames(path: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = vec![0x83, 0x86];
    for (name, value) in [(&[0x04][..], path), (&[0x0f, 31 - 15], "application/json")] {
        fields.extend(name);
        fields.push(u8::try_from(value.len()).unwrap_or(0));
        fields.extend(value.as_bytes());
    }
    [frame(1, 4, &fields), frame(0, 1, body)].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Sends the preface and frames, and reads frames until an answer ends, the connection does, or nothing comes for
/// `patience`: the status of the answer, if there was one.
fn frames_answer(stream: &mut TcpStream, frames: &[u8], patience: Duration) -> Result<u16> {
    stream.set_read_timeout(Some(patience))?;
    let _ = stream.write_all(&[PREFACE, frames].concat());
    let (mut bytes, mut status) = (Vec::new(), 0);
    let mut chunk = [0; 4096];
    loop {
        while let Some((frame, rest)) = split_frame(&bytes) {
            let (kind, flags, payload) = (frame[3], frame[4], &frame[9..]);
            if kind == 1 {
                status = status_of(payload);
            }
            // The end of an answer, a stream's end, or the connection's.
            if (matches!(kind, 0 | 1) && flags & 1 != 0) || matches!(kind, 3 | 7) {
                return Ok(status);
            }
            bytes = rest.to_vec();
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return Ok(status),
            Ok(read) => bytes.extend(&chunk[..read]),
        }
    }
}

fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = bytes.get(..3)?;
    let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
    bytes.split_at_checked(9 + length)
}

/// The status that a block of fields begins with, where it is one of the static table.
fn status_of(block: &[u8]) -> u16 {
    // Changes of the table's size may come before it.
    match block.iter().find(|byte| **byte & 0xe0 != 0x20) {
        Some(0x88) => 200,
        Some(0x8c) => 400,
        Some(0x8d) => 404,
        Some(0x8e) => 500,
        _ => 2,
    }
}

/// A proper request gets a proper answer.
fn probe(args: &Args) -> Result<()> {
    let (path, body) = match &args.writes {
        Some(model) => {
            let body = format!(r#"{{"model": {model:?}, "prompt": "A", "max_tokens": 1}}"#);
            ("/v1/completions", body)
        }
        None => ("/predict", r#"{"text": "The pitcher"}"#.to_owned()),
    };
    let mut stream = TcpStream::connect(&args.url)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all((head + &body).as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 200") {
        bail!("a proper request was answered {answer:?}");
    }
    let mut stream = TcpStream::connect(&args.url)?;
    let frames = request_frames(path, body.as_bytes());
    let status = frames_answer(&mut stream, &frames, Duration::from_secs(10))?;
    ensure!(
        status == 200,
        "a proper request over HTTP/2 was answered {status}"
    );
    Ok(())
}

fn main() -> Result<()> {
    let args = Args::parse();
    probe(&args).context("the service is not as it should be before it begins")?;
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
                            probe(&attacker.args)?;
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
    probe(&args).context("the service is not as it should be afterwards")?;
    let sent: u64 = all.values().sum();
    println!(
        "{sent} requests in {:.0} s; answers by status (0: closed without): {all:?}",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
