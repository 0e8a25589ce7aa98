//! The stop, over real sockets on ports the system chose.

use super::*;
use crate::config::Drain;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Running {
    fixture: Fixture,
    http: SocketAddr,
    admin: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<std::io::Result<Stopped>>,
}

async fn start(setup: Setup, timeout: Duration) -> Running {
    let fixture = setup.start();
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let http = TcpListener::bind(local).await.unwrap();
    let admin = TcpListener::bind(local).await.unwrap();
    let addresses = (http.local_addr().unwrap(), admin.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let drain = Drain {
        grace: Duration::ZERO,
        timeout,
    };
    let shutdown = async move {
        let _ = stopped.await;
    };
    let listeners = Listeners { http, admin };
    let ended = tokio::spawn(run(fixture.service.clone(), listeners, drain, shutdown));
    Running {
        fixture,
        http: addresses.0,
        admin: addresses.1,
        stop,
        ended,
    }
}

/// What a connection that sends `bytes` and waits gets until it is closed.
async fn say(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_head_that_does_not_come_closes_the_connection() {
    let setup = Setup {
        connections: ConnectionLimits {
            most: 5,
            idle: Duration::from_secs(1),
        },
        ..Setup::default()
    };
    let running = start(setup, Duration::from_secs(600)).await;
    // All at once, since each waits for its time to be over; that of the last begins with its answer.
    let (silent, torn, preface, half, asked) = tokio::join!(
        say(running.http, b""),
        say(running.http, b"P"),
        say(running.http, b"PRI * HTTP/2.0\r\n"),
        say(running.http, b"POST /predict HTT"),
        say(running.http, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"),
    );
    assert_eq!(silent, "");
    for answer in [torn, preface, half] {
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    assert!(asked.starts_with("HTTP/1.1 200"), "{asked}");
    running.stop.send(()).unwrap();
    assert_eq!(running.ended.await.unwrap().unwrap(), Stopped::Drained);
}

/// A client that has said all it will say is not waited for, wherever it stopped.
#[tokio::test]
async fn a_head_that_ends_early_ends_the_connection() {
    let running = start(Setup::default(), Duration::from_secs(600)).await;
    for beginning in [&b"P"[..], b"PRI * HT", b"POST /predict HTT", b"G"] {
        let mut stream = TcpStream::connect(running.http).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"));
    }
    running.stop.send(()).unwrap();
    running.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn more_connections_than_may_be_wait_for_a_place() {
    let setup = Setup {
        gate: Gate::closed(),
        connections: ConnectionLimits {
            most: 1,
            idle: Duration::from_secs(600),
        },
        ..Setup::default()
    };
    let running = start(setup, Duration::from_secs(600)).await;
    let first = predict_over(running.http);
    at_the_gate(&running.fixture).await;
    let second = predict_over(running.http);
    // The first ends by itself only after the gate opens, and then the second has its turn.
    assert_eq!(running.fixture.metrics().active_requests.get(), 1);
    running.fixture.gate.release();
    for waiting in [first, second] {
        assert!(waiting.await.unwrap().unwrap().starts_with("HTTP/1.1 200"));
    }
    running.stop.send(()).unwrap();
    running.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let running = start(Setup::default(), Duration::from_secs(600)).await;
    let long = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {}\r\n\r\n",
        "y".repeat(400_000)
    );
    let answer = say(running.http, long.as_bytes()).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
    running.stop.send(()).unwrap();
    running.ended.await.unwrap().unwrap();
}

async fn exchange(address: SocketAddr, request: String) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn predict_over(address: SocketAddr) -> JoinHandle<std::io::Result<String>> {
    let request =
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\nconnection: close\r\n\r\na";
    tokio::spawn(exchange(address, request.to_owned()))
}

async fn at_the_gate(fixture: &Fixture) {
    let gate = fixture.gate.clone();
    tokio::task::spawn_blocking(move || gate.wait_for(1))
        .await
        .unwrap();
}

#[tokio::test]
async fn those_inside_are_answered_and_readiness_goes_first() {
    let setup = Setup {
        gate: Gate::closed(),
        ..Setup::default()
    };
    let running = start(setup, Duration::from_secs(600)).await;
    let inside = predict_over(running.http);
    at_the_gate(&running.fixture).await;
    running.stop.send(()).unwrap();
    loop {
        let probe = "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned();
        let answer = exchange(running.admin, probe)
            .await
            .expect("metrics outlive the drain");
        if answer.starts_with("HTTP/1.1 503") && answer.contains("draining") {
            break;
        }
    }
    running.fixture.gate.release();
    let answer = inside.await.unwrap().unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("odd"),
        "{answer}"
    );
    assert_eq!(running.ended.await.unwrap().unwrap(), Stopped::Drained);
    assert!(
        TcpStream::connect(running.http).await.is_err(),
        "the door is closed"
    );
}

#[tokio::test]
async fn a_drain_that_takes_too_long_says_how_many_it_left() {
    let setup = Setup {
        gate: Gate::closed(),
        ..Setup::default()
    };
    let running = start(setup, Duration::from_millis(1)).await;
    let inside = predict_over(running.http);
    at_the_gate(&running.fixture).await;
    running.stop.send(()).unwrap();
    assert_eq!(running.ended.await.unwrap().unwrap(), Stopped::Abandoned(1));
    running.fixture.gate.release();
    drop(inside);
}

#[tokio::test]
async fn a_connection_nobody_uses_does_not_hold_the_drain_up_as_if_it_were_a_request() {
    let running = start(Setup::default(), Duration::from_millis(50)).await;
    let _idle = TcpStream::connect(running.http).await.unwrap();
    running.stop.send(()).unwrap();
    assert_eq!(running.ended.await.unwrap().unwrap(), Stopped::Drained);
}
