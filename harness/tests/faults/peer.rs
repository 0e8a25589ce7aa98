//! A sender, and peers that misbehave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::clock::Clock;
use harness::send::{SendOptions, Sender};
use harness_core::observation::Observation;
use harness_core::request::{Captured, Planner};
use harness_core::scenario::Scenario;
use harness_core::schedule::{Arrival, open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A scenario of one request, `POST /` with a body.
pub(crate) fn scenario() -> Scenario {
    Scenario::parse(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {name: faults}
spec:
  seed: 1
  target: {url: "http://127.0.0.1:1", timeout: 10s}
  requests: [{name: a, method: POST, path: "/", body: {text: hello}, expect: {status: 200}}]
  loads:
    - name: one
      mix: {a: 1}
      executor: constant-arrival-rate
      stages: [{phase: measure, rate: 200/s, for: 60s}]
"#,
        "faults.yaml",
    )
    .unwrap()
}

/// One sender and the arrivals it is given.
pub(crate) struct Client {
    sender: Sender,
    clock: Clock,
    arrivals: Vec<Arrival>,
}

impl Client {
    pub(crate) fn new(url: &str, options: SendOptions) -> Self {
        let scenario = scenario();
        let planner = Planner::new(&scenario, &BTreeMap::new(), 7).unwrap();
        let clock = Clock::starting_in(Duration::ZERO);
        let sender = Sender::new(url, options, clock, Arc::new(planner), "run").unwrap();
        let mut arrivals: Vec<Arrival> = open(&scenario).take(100).collect();
        arrivals.reverse();
        Self {
            sender,
            clock,
            arrivals,
        }
    }

    pub(crate) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Sends the next request, due now. Its row, as it is read back from a run directory.
    pub(crate) async fn send(&mut self) -> Observation {
        let due = self.clock.now();
        let arrival = Arrival {
            due,
            ..self.arrivals.pop().unwrap()
        };
        let kill = CancellationToken::new();
        let (seen, _) = self.sender.send(arrival, &Captured::new(), &kill).await;
        assert_eq!(seen.id, arrival.id);
        assert!(seen.done >= seen.due && seen.sent().is_none_or(|sent| sent >= due));
        let row = serde_json::to_string(&seen).unwrap();
        assert_eq!(serde_json::from_str::<Observation>(&row).unwrap(), seen);
        seen
    }
}

/// Options with a timeout that no sound exchange on loopback reaches.
pub(crate) fn patient() -> SendOptions {
    SendOptions {
        timeout: Duration::from_secs(60),
        ..SendOptions::default()
    }
}

/// Options with a timeout that is over soon.
pub(crate) fn hasty() -> SendOptions {
    SendOptions {
        timeout: Duration::from_millis(100),
        ..SendOptions::default()
    }
}

/// A listener on loopback; its address, and how many connections it has accepted.
pub(crate) async fn listen<F, Fut>(behave: F) -> (String, Arc<AtomicUsize>)
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(behave(socket));
        }
    });
    (address, accepted)
}

/// Reads one request, head and the five bytes of its body.
pub(crate) async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\nhello") {
        let byte = socket.read_u8().await.ok()?;
        read.push(byte);
    }
    Some(String::from_utf8(read).unwrap())
}

/// Answers every request on a connection with the same bytes.
pub(crate) async fn answer(mut socket: TcpStream, bytes: &[u8]) {
    while read_request(&mut socket).await.is_some() {
        if socket.write_all(bytes).await.is_err() {
            return;
        }
    }
}
