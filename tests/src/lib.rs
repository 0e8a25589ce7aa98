//! What the end-to-end tests share: the built binaries, short runs, and their reports.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// An objective of a scenario whose request is `ping`: 90 % answered as expected.
pub const ANSWERS: &str = r#"
apiVersion: openslo/v1
kind: SLO
metadata: {name: answers}
spec:
  service: target
  indicator:
    metadata: {name: answers}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: LoadClient, spec: {request: ping, outcome: expected}}}
        total: {metricSource: {type: LoadClient, spec: {request: ping}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: 90 % answered, target: 0.9}]
"#;

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A built binary, found beside the running test (`target/PROFILE/deps/TEST`).
///
/// # Panics
/// When it is not there: `cargo test --workspace` builds it, a test of this member alone does not.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a running test has a path");
    let path = exe
        .parent()
        .and_then(Path::parent)
        .expect("tests run from target/PROFILE/deps")
        .join(name);
    assert!(
        path.is_file(),
        "{} is not built: run `cargo build --workspace` first",
        path.display()
    );
    path
}

/// A `harness` command with a fixed environment.
#[must_use]
pub fn harness() -> Command {
    let mut command = Command::new(binary("harness"));
    command
        .env_remove("HARNESS_LOG")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "120")
        .stdin(Stdio::null());
    command
}

/// A finished `harness run`.
pub struct Run {
    /// Exit code; -1 when ended by a signal.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
    /// Its run directory.
    pub dir: PathBuf,
    /// Keeps the files until the test is over.
    pub keep: tempfile::TempDir,
}

impl Run {
    /// Everything to see in a failed test.
    #[must_use]
    pub fn story(&self) -> String {
        format!("exit {}\n{}\n{}", self.code, self.stdout, self.stderr)
    }

    /// `report.json`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn report(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.dir.join("report.json"))
            .unwrap_or_else(|error| panic!("no report.json: {error}\n{}", self.story()));
        serde_json::from_str(&text).expect("report.json is JSON")
    }
}

/// Lays out a scenario and SLO files in a fresh directory. `data/documents.jsonl` is there too.
///
/// # Panics
/// When the disk does not take it.
#[must_use]
pub fn lay_out(scenario: &str, slo: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("scenario.yaml"), scenario).expect("scenario.yaml");
    std::fs::write(dir.path().join("slo.yaml"), slo).expect("slo.yaml");
    std::fs::create_dir(dir.path().join("data")).expect("data/");
    let documents = root().join("scenarios/data/documents.jsonl");
    std::fs::copy(documents, dir.path().join("data/documents.jsonl")).expect("documents.jsonl");
    dir
}

/// Runs `harness run scenario.yaml --out run ARGS…` on laid-out files and waits for its end.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn run(scenario: &str, slo: &str, args: &[&str]) -> Run {
    let keep = lay_out(scenario, slo);
    let dir = keep.path().join("run");
    let output = command(keep.path(), args).output().expect("harness starts");
    finished(output, dir, keep)
}

/// The command that [`run`] runs.
#[must_use]
pub fn command(laid_out: &Path, args: &[&str]) -> Command {
    let mut command = harness();
    command
        .arg("run")
        .arg(laid_out.join("scenario.yaml"))
        .arg("--out")
        .arg(laid_out.join("run"))
        .args(args);
    command
}

/// Puts an ended process and its files together.
#[must_use]
pub fn finished(output: Output, dir: PathBuf, keep: tempfile::TempDir) -> Run {
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        dir,
        keep,
    }
}

/// A service on loopback, for as long as the test runs: it answers every request at once, or, with
/// `answers` false, takes them and never says a word. Its base URL.
///
/// # Panics
/// When there is no port for it.
#[must_use]
pub fn service(answers: bool) -> String {
    fn serve(mut socket: TcpStream, answers: bool) -> std::io::Result<()> {
        let mut read = Vec::new();
        loop {
            let mut bytes = [0; 4096];
            let more = socket.read(&mut bytes)?;
            if more == 0 {
                return Ok(());
            }
            read.extend_from_slice(&bytes[..more]);
            while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                read.drain(..end + 4);
                if answers {
                    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
                }
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || serve(socket, answers));
        }
    });
    url
}
