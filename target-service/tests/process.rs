//! The real executable: its first line, its signals, what it exports, and how it refuses.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::post;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const TEXT: &str =
    "The pitcher threw the baseball in the ninth inning and the batter hit a home run";

/// Unless a test says otherwise; clap takes a flag only once.
const DEFAULTS: [(&str, &str); 3] = [
    ("--listen", "127.0.0.1:0"),
    ("--metrics", "127.0.0.1:0"),
    ("--model", "tfidf"),
];

/// Variables of whoever runs the tests must not reach the service.
fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_target-service"));
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy().into_owned();
        if name.starts_with("OTEL_") || name.starts_with("TARGET_SERVICE_") {
            command.env_remove(key);
        }
    }
    for (flag, value) in DEFAULTS {
        if !args.contains(&flag) {
            command.args([flag, value]);
        }
    }
    command.args(args).envs(env.iter().copied());
    command
}

struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    first: Value,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Of use only when a test fails half-way; both fail harmlessly after an orderly end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(args: &[&str], env: &[(&str, &str)]) -> Running {
        let mut command = command(args, env);
        command.stdout(Stdio::piped()).stdin(Stdio::null());
        let mut child = command.spawn().expect("the executable starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = lines.next().expect("a first line").expect("readable");
        let first = serde_json::from_str(&first).expect("the first line is JSON");
        Running {
            child,
            lines,
            first,
        }
    }

    fn address(&self, which: &str) -> String {
        self.first[which].as_str().expect("an address").to_owned()
    }

    /// One exchange on a connection of its own: status and body.
    fn send(&self, which: &str, head: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address(which)).expect("listening");
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\
             traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\n\r\n{body}"
        )
        .expect("writable");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("an answer in UTF-8");
        let status = answer
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .expect("a status");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    /// Asks until the service is ready. Each question is an exchange, so this does not spin hot.
    fn until_ready(&self) {
        while self.send("metrics", "GET /readyz", "").0 != 200 {
            std::thread::yield_now();
        }
    }

    /// SIGTERM, then the exit code and what was still written to stdout.
    fn stop(mut self) -> (Option<i32>, Vec<Value>) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .expect("kill(1) is there");
        assert!(sent.success());
        let rest: Vec<Value> = self
            .lines
            .by_ref()
            .map(|line| serde_json::from_str(&line.expect("readable")).expect("JSON"))
            .collect();
        (self.child.wait().expect("it ends").code(), rest)
    }
}

#[test]
fn it_tells_its_addresses_answers_and_ends_cleanly() {
    let env = [
        ("OTEL_RESOURCE_ATTRIBUTES", "service.version=9.8.7"),
        ("TARGET_SERVICE_REVISION", "abc1234"),
    ];
    let service = Running::start(&[], &env);
    assert_eq!(service.first["event"], "listening");
    assert_eq!(service.first["service"], "target-service");
    assert_eq!(service.first["version"], "9.8.7");
    assert_eq!(service.first["revision"], "abc1234");
    service.until_ready();
    let (status, body) = service.send("http", "POST /predict", TEXT);
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["result"], "rec.sport.baseball");
    let (_, metrics) = service.send("metrics", "GET /metrics", "");
    let counted = metrics.lines().find(|l| {
        l.starts_with("http_server_request_duration_seconds_count") && l.contains("\"200\"")
    });
    assert!(counted.is_some_and(|l| l.ends_with(" 1")), "{counted:?}");
    assert!(metrics.contains("service_version=\"9.8.7\""));
    assert!(metrics.contains("service_revision=\"abc1234\""));
    let (code, logged) = service.stop();
    assert_eq!(code, Some(0));
    let request = logged
        .iter()
        .find(|l| l["body"] == "request completed")
        .expect("logged");
    assert_eq!(request["trace_id"], TRACE);
    assert_eq!(request["severity_text"], "INFO");
    assert_eq!(
        logged.last().map(|l| &l["body"]),
        Some(&Value::from("service draining"))
    );
}

/// Path and body of what was exported.
type Kept = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A collector that keeps the bytes it is sent. An answer in gRPC is a length-prefixed message
/// (here an empty one) and a trailer with the status.
async fn collector(kept: Kept) -> String {
    let keep = move |path: &'static str| {
        let kept = kept.clone();
        post(async move |body: Body| {
            let body = body.collect().await.expect("a whole body").to_bytes();
            kept.lock()
                .expect("sound")
                .push((path.to_owned(), body.to_vec()));
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let frames: Vec<Result<Frame<Bytes>, std::convert::Infallible>> = vec![
                Ok(Frame::data(Bytes::from_static(&[0; 5]))),
                Ok(Frame::trailers(trailers)),
            ];
            Response::builder()
                .header("content-type", "application/grpc")
                .body(Body::new(StreamBody::new(futures::stream::iter(frames))))
                .expect("a response")
        })
    };
    let routes = Router::new()
        .route(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            keep("traces"),
        )
        .route(
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            keep("logs"),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, routes).await });
    format!("http://{address}")
}

fn holds(messages: &[(String, Vec<u8>)], path: &str, bytes: &[u8]) -> bool {
    let of_path = messages.iter().filter(|(p, _)| p == path);
    of_path
        .flat_map(|(_, m)| m.windows(bytes.len()))
        .any(|window| window == bytes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_endpoint_spans_and_logs_go_there_and_stdout_is_silent() {
    let kept = Kept::default();
    let endpoint = collector(Arc::clone(&kept)).await;
    let work = move || {
        let service = Running::start(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]);
        service.until_ready();
        assert_eq!(service.send("http", "POST /predict", TEXT).0, 200);
        service.stop()
    };
    let (code, stdout) = tokio::task::spawn_blocking(work).await.expect("no panic");
    assert_eq!(
        (code, stdout),
        (Some(0), vec![]),
        "never to OTLP and stdout both"
    );
    let kept = kept.lock().expect("sound");
    let trace: Vec<u8> = (0..16)
        .map(|n| u8::from_str_radix(&TRACE[2 * n..2 * n + 2], 16).expect("hexadecimal"))
        .collect();
    for path in ["traces", "logs"] {
        assert!(
            holds(&kept, path, &trace),
            "{path} lack the caller's trace id"
        );
        assert!(
            holds(&kept, path, b"target-service"),
            "{path} lack the service's name"
        );
    }
    for name in [
        "POST /predict",
        "preprocess",
        "count_vectorizer",
        "queue",
        "inference",
        "postprocess",
    ] {
        assert!(holds(&kept, "traces", name.as_bytes()), "no span {name}");
    }
    assert!(holds(&kept, "logs", b"request completed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_spans_and_logs_go_to_the_paths_of_the_specification() {
    let kept = Kept::default();
    let route = |path: &'static str, name: &'static str| {
        let kept = Arc::clone(&kept);
        let keep = move |body: Bytes| async move {
            let message = (name.to_owned(), body.to_vec());
            kept.lock().expect("sound").push(message);
        };
        (path, post(keep))
    };
    let mut routes = Router::new();
    for (path, handler) in [route("/v1/traces", "traces"), route("/v1/logs", "logs")] {
        routes = routes.route(path, handler);
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let endpoint = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let work = move || {
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ];
        let service = Running::start(&[], &env);
        service.until_ready();
        assert_eq!(service.send("http", "POST /predict", TEXT).0, 200);
        service.stop()
    };
    let (code, stdout) = tokio::task::spawn_blocking(work).await.expect("no panic");
    assert_eq!((code, stdout), (Some(0), vec![]));
    let kept = kept.lock().expect("sound");
    for path in ["traces", "logs"] {
        assert!(
            holds(&kept, path, b"target-service"),
            "{path} lack the service's name"
        );
    }
    assert!(holds(&kept, "traces", b"POST /predict"));
    assert!(holds(&kept, "logs", b"request completed"));
}

#[test]
fn a_collector_that_is_not_there_costs_no_request() {
    // A port that was free a moment ago and is nobody's now.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
        ("OTEL_LOGS_EXPORTER", "console"),
        ("RUST_LOG", "off"),
    ];
    let service = Running::start(&[], &env);
    service.until_ready();
    for _ in 0..20 {
        assert_eq!(service.send("http", "POST /predict", TEXT).0, 200);
    }
    let (code, logged) = service.stop();
    assert_eq!(code, Some(0));
    assert_eq!(
        logged
            .iter()
            .filter(|l| l["body"] == "request completed")
            .count(),
        20
    );
}

/// Arguments, environment, exit code, and a word of the reason.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a str);

fn refused(args: &[&str], env: &[(&str, &str)]) -> Output {
    command(args, env)
        .stdin(Stdio::null())
        .output()
        .expect("the executable starts")
}

#[test]
fn what_cannot_be_done_is_said_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken
        .local_addr()
        .map(|a| (taken, a.to_string()))
        .expect("bound");
    let cases: [Case; 6] = [
        (&["--model", "no/such"], &[], 2, "no/such"),
        (&["--device", "cuda:first"], &[], 2, "cuda:"),
        (&["--deadline", "5"], &[], 2, "unit"),
        (
            &[],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://x:1")],
            2,
            "TLS",
        ),
        (
            &[],
            &[("OTEL_RESOURCE_ATTRIBUTES", "nonsense")],
            2,
            "nonsense",
        ),
        (&["--metrics", &taken.1], &[], 1, "--metrics"),
    ];
    for (args, env, code, word) in cases {
        let output = refused(args, env);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(word), "{args:?}: {told}");
        assert!(output.stdout.is_empty(), "{args:?} wrote to stdout");
    }
}

#[test]
fn a_device_that_this_build_or_machine_does_not_have_is_named() {
    // No machine has so many.
    let output = refused(&["--device", "cuda:4095"], &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    let (code, word) = match cfg!(feature = "cuda") {
        true => (1, "4095"),
        false => (2, "--features cuda"),
    };
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(told.contains(word), "{told}");
}

#[test]
fn a_model_that_cannot_be_loaded_ends_the_process_with_the_reason() {
    let empty = tempfile::tempdir().expect("a directory");
    let output = refused(&["--model", empty.path().to_str().expect("UTF-8")], &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("config.json"), "{told}");
}
