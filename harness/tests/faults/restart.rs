//! Whole schedules against targets that go away, and generators that break.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use harness::clock::Clock;
use harness::drive::{Drive, Gauges, Tell};
use harness::observed::Observed;
use harness::send::{SendOptions, Sender};
use harness_core::observation::{Observation, Outcome};
use harness_core::request::Planner;
use harness_core::scenario::Scenario;
use harness_core::schedule::{Shard, Tapes};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

use crate::peer::{answer, patient, scenario};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Drives a scenario on a thread of its own, as a run does.
struct Driven {
    tell: UnboundedSender<Tell>,
    batches: Receiver<Vec<Observation>>,
    gauges: Arc<Gauges>,
    thread: std::thread::JoinHandle<()>,
}

fn drive(scenario: Scenario, planned: &Scenario, url: &str, options: SendOptions) -> Driven {
    let planner = Planner::new(planned, &BTreeMap::new(), 7).unwrap();
    let clock = Clock::starting_in(Duration::from_millis(10));
    let sender = Sender::new(url, options, clock, Arc::new(planner), "run").unwrap();
    let (observed, batches) = Observed::channel();
    let (tell, mut told) = unbounded_channel();
    let gauges = Arc::new(Gauges::default());
    let drive = Drive {
        scenario: Arc::new(scenario),
        tapes: Tapes::default(),
        shard: Shard::WHOLE,
        sender: Arc::new(sender),
        clock,
        observed,
        kill: CancellationToken::new(),
        gauges: Arc::clone(&gauges),
    };
    let teller = tell.clone();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            tokio::spawn(Observed::keep_flushing(Arc::downgrade(&drive.observed)));
            drive.run(&teller, &mut told).await.unwrap();
            let gone = Arc::downgrade(&drive.observed);
            drop(drive);
            while gone.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    });
    Driven {
        tell,
        batches,
        gauges,
        thread,
    }
}

impl Driven {
    /// Reads rows until enough of them are as wanted.
    fn until(&self, rows: &mut Vec<Observation>, enough: usize, wanted: impl Fn(Outcome) -> bool) {
        let mut found = 0;
        while found < enough {
            let batch = self.batches.recv().expect("the load goes on");
            found += batch.iter().filter(|row| wanted(row.outcome)).count();
            rows.extend(batch);
        }
    }

    /// Ends the load and checks that every scheduled request has exactly one row.
    fn end(self, mut rows: Vec<Observation>) -> Vec<Observation> {
        let _ = self.tell.send(Tell::Stop);
        self.thread.join().unwrap();
        rows.extend(self.batches.iter().flatten());
        let scheduled = self.gauges.scheduled.load(Ordering::Relaxed);
        let ids: BTreeSet<_> = rows.iter().map(|row| row.id).collect();
        assert_eq!(
            (rows.len() as u64, ids.len() as u64),
            (scheduled, scheduled)
        );
        assert_eq!(self.gauges.in_flight.load(Ordering::Relaxed), 0);
        rows
    }
}

/// A target on a runtime of its own: dropping the runtime kills it and all its connections.
fn target(address: &str) -> (tokio::runtime::Runtime, String, Arc<AtomicUsize>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer(socket, OK));
        }
    });
    (runtime, address, accepted)
}

#[test]
fn a_target_that_is_killed_and_started_again_in_mid_run() {
    let (runtime, address, _) = target("127.0.0.1:0");
    let url = format!("http://{address}");
    let driven = drive(scenario(), &scenario(), &url, patient());
    let mut rows = Vec::new();
    driven.until(&mut rows, 50, |outcome| outcome == Outcome::Expected);
    drop(runtime);
    driven.until(&mut rows, 20, |outcome| {
        outcome == Outcome::ConnectionRefused
    });
    let before = rows.len();
    let (_runtime, _, accepted) = target(&address);
    driven.until(&mut rows, 50, |outcome| outcome == Outcome::Expected);
    let rows = driven.end(rows);
    assert!(
        accepted.load(Ordering::Relaxed) > 0,
        "new connections to the new process"
    );
    let of = |rows: &[Observation], wanted: Outcome| {
        rows.iter().filter(|row| row.outcome == wanted).count()
    };
    assert!(of(&rows, Outcome::ConnectionRefused) >= 20);
    assert!(of(&rows[before..], Outcome::Expected) >= 50);
    // A request that was out when the process died, or went out on a connection that had just
    // ended, is one of these two.
    let other: Vec<_> = rows
        .iter()
        .filter(|row| {
            !matches!(
                row.outcome,
                Outcome::Expected
                    | Outcome::ConnectionRefused
                    | Outcome::ConnectionReset
                    | Outcome::ConnectionClosed
            )
        })
        .collect();
    assert!(other.is_empty(), "{other:?}");
}

#[test]
fn a_full_max_in_flight_drops_and_counts() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // The kernel accepts; nobody reads.
    let mut scenario = scenario();
    scenario.spec.loads[0].max_in_flight = Some(3);
    let options = SendOptions {
        timeout: Duration::from_millis(300),
        ..SendOptions::default()
    };
    let driven = drive(scenario.clone(), &scenario, &url, options);
    let mut rows = Vec::new();
    driven.until(&mut rows, 20, |outcome| outcome == Outcome::Dropped);
    let rows = driven.end(rows);
    let dropped = rows.iter().filter(|row| row.outcome == Outcome::Dropped);
    assert!(
        dropped
            .clone()
            .all(|row| row.sent().is_none() && row.detail().is_some())
    );
    let rest: Vec<_> = rows
        .iter()
        .filter(|row| row.outcome != Outcome::Dropped)
        .collect();
    assert!(rest.len() >= 3);
    assert!(
        rest.iter().all(|row| row.outcome == Outcome::Timeout),
        "{rest:?}"
    );
}

/// The trap: a user whose request's task broke down was never told to be done, and the schedule
/// waited for it for an hour.
#[test]
fn a_users_task_that_panics_ends_as_a_row_and_frees_its_user() {
    let closed = |requests: &str| {
        let text = format!(
            r#"apiVersion: harness/v1
kind: Scenario
metadata: {{name: panics}}
spec:
  seed: 1
  target: {{url: "http://127.0.0.1:1", timeout: 10s}}
  requests: [{requests}]
  loads:
    - {{name: one, mix: {{{}}}, executor: constant-vus, vus: 2, stages: [{{phase: measure, for: 60s}}]}}
"#,
            if requests.contains("name: b") {
                "a: 1, b: 1"
            } else {
                "a: 1"
            }
        );
        Scenario::parse(&text, "panics.yaml").unwrap()
    };
    let one = "{name: a, method: POST, path: /, body: {text: hello}}";
    let two = format!("{one}, {{name: b, method: POST, path: /, body: {{text: hello}}}}");
    let (_runtime, address, _) = target("127.0.0.1:0");
    // A planner of another scenario, which knows no second request, panics over it.
    let driven = drive(
        closed(&two),
        &closed(one),
        &format!("http://{address}"),
        patient(),
    );
    let broken = Arc::clone(&driven.gauges);
    let mut rows = Vec::new();
    driven.until(&mut rows, 3, |outcome| outcome == Outcome::GeneratorFailed);
    let rows = driven.end(rows);
    let failed = rows
        .iter()
        .filter(|row| row.outcome == Outcome::GeneratorFailed)
        .count();
    assert_eq!(broken.broken.load(Ordering::Relaxed), failed as u64);
    assert!(rows.iter().any(|row| row.outcome == Outcome::Expected));
}
