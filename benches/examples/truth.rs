//! The reported latencies are the law's own, in real time and over real sockets:
//! `cargo run --release -p harness-benches --example truth`.
//!
//! A server on loopback follows a scripted law: one connection, one answer after another, none at all in
//! the first second of every ten; or two seconds for one answer in a hundred; or a ramp beyond what it
//! can serve. The real sender puts a load on it. What is reported must be what the law says of the
//! instants at which requests were due, but for what the machine adds: 5 ms, or 2 %, at any quantile.
//! Beside it stands what tools see that measure from the send. The test `tests/tests/truth.rs` has the
//! same laws in virtual time, where they hold to the nanosecond.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use harness::clock::Clock;
use harness::drive::{Drive, Gauges};
use harness::observed::Observed;
use harness::send::{SendOptions, Sender};
use harness_core::observation::Observation;
use harness_core::request::Planner;
use harness_core::scenario::Scenario;
use harness_core::schedule::{Shard, Tapes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// Between the start of a law and the first request, so that the server is there.
const LEAD: Duration = Duration::from_millis(300);

/// When an answer begun at an instant (nanoseconds since the start) is complete; the second number is
/// the answer's own, from 0.
type Law = fn(u64, u64) -> u64;

/// 5 ms an answer, and none in the first second of every ten but the first.
fn stalls(begun: u64, _: u64) -> u64 {
    let end = begun + 5 * MS;
    let second = end / SECOND;
    if second >= 10 && second.is_multiple_of(10) {
        let stood = end - (second * SECOND).max(begun);
        (second + 1) * SECOND + stood
    } else {
        end
    }
}

fn rare(begun: u64, n: u64) -> u64 {
    begun + if n % 100 == 37 { 2 * SECOND } else { 4 * MS }
}

fn steady(begun: u64, _: u64) -> u64 {
    begun + 10 * MS
}

fn main() -> ExitCode {
    let mut sound = true;
    for (name, law, load) in [
        (
            "a stall of 1 s in every 10 s",
            stalls as Law,
            "executor: constant-arrival-rate, stages: [{phase: measure, rate: 100/s, for: 25s}]",
        ),
        (
            "2 s for one answer in a hundred",
            rare,
            "executor: constant-arrival-rate, stages: [{phase: measure, rate: 25/s, for: 20s}]",
        ),
        (
            "a ramp to 150/s where 100/s are served",
            steady,
            "executor: ramping-arrival-rate, stages: [{phase: measure, rate: 150/s, for: 20s}]",
        ),
    ] {
        println!(
            "{name}\n{:>8} {:>12} {:>12} {:>16}",
            "quantile", "by law, ms", "reported", "from the send"
        );
        let rows = measured(law, load);
        sound &= compare(&rows, law);
    }
    match sound {
        true => ExitCode::SUCCESS,
        false => {
            println!("the reported latencies are not the law's");
            ExitCode::FAILURE
        }
    }
}

/// Latencies that the law gives requests due at these instants, one after another.
fn by_law(due: &[u64], law: Law) -> Vec<u64> {
    let mut free = 0;
    let latency = |(n, due): (usize, &u64)| {
        free = law(free.max(*due), n as u64);
        free - due
    };
    due.iter().enumerate().map(latency).collect()
}

fn compare(rows: &[Observation], law: Law) -> bool {
    let due: Vec<u64> = rows.iter().map(|row| row.due.0).collect();
    let sorted = |mut values: Vec<u64>| {
        values.sort_unstable();
        values
    };
    let wanted = sorted(by_law(&due, law));
    let reported = sorted(rows.iter().map(|row| row.latency().0).collect());
    let naive = sorted(
        rows.iter()
            .filter_map(|row| Some(row.service_time()?.0))
            .collect(),
    );
    let mut sound = wanted.len() == naive.len();
    for q in [0.5, 0.9, 0.99, 0.999, 1.0] {
        let at = |values: &[u64]| {
            let rank = (q * values.len() as f64).ceil() as usize;
            values[rank.clamp(1, values.len()) - 1] as f64 / MS as f64
        };
        let (law, ours) = (at(&wanted), at(&reported));
        let close = (ours - law).abs() <= 5.0 + 0.02 * law;
        sound &= close;
        let mark = if close { "" } else { "  <- off" };
        println!("{q:>8} {law:>12.2} {ours:>12.2} {:>16.2}{mark}", at(&naive));
    }
    sound
}

/// Puts the load on a server of this law; all rows, in the order of due.
fn measured(law: Law, load: &str) -> Vec<Observation> {
    let runtime = |name: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap_or_else(|error| panic!("no runtime for the {name}: {error}"))
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let clock = Clock::starting_in(LEAD);
    let over = CancellationToken::new();
    let until = over.clone();
    let server = runtime("server");
    let serving = std::thread::spawn(move || {
        harness::own::run_first();
        server.block_on(async {
            tokio::select! {
                served = serve(listener, clock, law) => served.expect("the server serves"),
                () = until.cancelled() => {}
            }
        });
    });
    let text = format!(
        "apiVersion: harness/v1\nkind: Scenario\nmetadata: {{name: truth}}\nspec:\n  seed: 42\n  \
         target: {{url: \"{url}\", timeout: 1h, maxConnections: 1}}\n  \
         requests: [{{name: a, method: GET, path: /, expect: {{status: 200}}}}]\n  \
         loads: [{{name: l, mix: {{a: 1}}, maxInFlight: 100000, {load}}}]\n"
    );
    let scenario = Scenario::parse(&text, "truth.yaml").unwrap_or_else(|wrong| panic!("{wrong}"));
    let planner =
        Planner::new(&scenario, &BTreeMap::new(), 1).unwrap_or_else(|wrong| panic!("{wrong}"));
    let options = SendOptions::of(&scenario, std::path::Path::new("")).expect("options");
    let sender = Sender::new(&url, options, clock, Arc::new(planner), "truth").expect("a sender");
    let (observed, batches) = Observed::channel();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let drive = Drive {
        scenario: Arc::new(scenario),
        tapes: Tapes::default(),
        shard: Shard::WHOLE,
        sender: Arc::new(sender),
        clock,
        observed,
        kill: CancellationToken::new(),
        gauges: Arc::new(Gauges::default()),
    };
    harness::own::run_first();
    let mut rows: Vec<Observation> = runtime("sender").block_on(async {
        drive.run(&tell, &mut told).await.expect("a timer");
        let held = Arc::downgrade(&drive.observed);
        drop(drive);
        // Requests still out hold the way to the rows.
        while held.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        batches.iter().flatten().collect()
    });
    over.cancel();
    serving.join().expect("the server ends");
    rows.sort_by_key(|row| (row.due, row.id));
    rows
}

/// Answers one request after another, as the law says when.
async fn serve(listener: std::net::TcpListener, clock: Clock, law: Law) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut n = 0;
    loop {
        let (mut socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let mut read = Vec::new();
        while socket.read_buf(&mut read).await? > 0 {
            while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                read.drain(..end + 4);
                let complete = clock.instant(harness_core::units::Nanos(law(clock.now().0, n)));
                n += 1;
                // The runtime's timer may be a millisecond late; the rest is waited out.
                tokio::time::sleep_until((complete - Duration::from_millis(2)).into()).await;
                while std::time::Instant::now() < complete {
                    std::hint::spin_loop();
                }
                socket
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    .await?;
            }
        }
    }
}
