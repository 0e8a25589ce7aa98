//! The target process: started, waited for, put under faults, stopped.

mod orphan;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use harness_core::scenario::{Fault, FaultKind, Start};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// Longest first line of a target that is read.
const MAX_ANNOUNCEMENT: u64 = 64 << 10;
/// How long a target may take to end after it was asked to.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// A target process that the harness started.
pub struct TargetProcess {
    child: Child,
    output: Vec<JoinHandle<()>>,
    /// The first line it wrote to stdout.
    pub announced: serde_json::Value,
    /// Base URL of its service.
    pub url: String,
    /// Base URL of its metrics and fault listener, if it has one.
    pub metrics: Option<String>,
}

/// Finds the program of a command: a path as it is, a bare name beside our own executable first.
fn program(name: &str) -> PathBuf {
    if name.contains('/') {
        return name.into();
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join(name)));
    beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| name.into())
}

impl TargetProcess {
    /// Starts the command and waits for its first line on stdout. What it prints goes to
    /// `target.stdout.log` and `target.stderr.log` in `logs`.
    ///
    /// # Errors
    /// A sentence: it cannot be started, ends, says nothing in time, or says something else than
    /// its addresses.
    pub async fn start(
        start: &Start,
        env: &BTreeMap<String, String>,
        logs: &Path,
    ) -> Result<Self, String> {
        let name = start
            .command
            .first()
            .ok_or("spec.target.start.command is empty")?;
        let program = program(name);
        let stderr_log = logs.join("target.stderr.log");
        let mut command = Command::new(&program);
        command
            .args(&start.command[1..])
            .envs(env)
            .envs(&start.env)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C goes to the whole foreground group: the target must live on to answer what is out.
            .process_group(0)
            .kill_on_drop(true);
        orphan::end_with_us(&mut command);
        let mut child = command
            .spawn()
            .map_err(|error| format!("`{}` cannot be started: {error}", program.display()))?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err("the target's output could not be taken".into());
        };
        let errors = tokio::spawn(copy(stderr, stderr_log.clone(), String::new()));
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        let read = async {
            (&mut stdout)
                .take(MAX_ANNOUNCEMENT)
                .read_line(&mut line)
                .await
        };
        let what = match tokio::time::timeout(start.within.0, read).await {
            Ok(Ok(0)) => Some("it ended without a word on stdout".to_owned()),
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(format!("its stdout cannot be read: {error}")),
            Err(_) => Some(format!(
                "it wrote no line to stdout within {:?}",
                start.within.0
            )),
        };
        if let Some(what) = what {
            let _ = child.kill().await;
            let _ = errors.await;
            return Err(format!(
                "`{}`: {what}{}",
                program.display(),
                last_words(&stderr_log).await
            ));
        }
        let announced: serde_json::Value = serde_json::from_str(&line).map_err(|error| {
            format!("the first line of `{name}` is not JSON with its addresses: {error}")
        })?;
        let address = |key: &str| {
            announced
                .get(key)
                .and_then(|v| v.as_str())
                .map(|at| format!("http://{at}"))
        };
        let url = address("http")
            .ok_or_else(|| format!("the first line of `{name}` has no \"http\" address"))?;
        let metrics = address("metrics");
        let out = tokio::spawn(copy(stdout, logs.join("target.stdout.log"), line));
        Ok(Self {
            child,
            output: vec![out, errors],
            announced,
            url,
            metrics,
        })
    }

    /// How the process ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks the process to end, waits, and kills it when it does not.
    pub async fn stop(mut self) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok())
            && let Some(pid) = rustix::process::Pid::from_raw(id)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if tokio::time::timeout(STOP_WITHIN, self.child.wait())
            .await
            .is_err()
        {
            tracing::warn!("the target did not end within {STOP_WITHIN:?} of SIGTERM; killed");
            let _ = self.child.kill().await;
        }
        for task in self.output {
            let _ = task.await;
        }
    }
}

/// The end of what a target wrote to stderr, for an error message.
async fn last_words(log: &Path) -> String {
    let text = tokio::fs::read_to_string(log).await.unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    if lines.is_empty() {
        return String::new();
    }
    let words: Vec<String> = lines
        .iter()
        .rev()
        .map(|line| line.chars().filter(|c| !c.is_control()).take(300).collect())
        .collect();
    format!("; it said:\n  {}", words.join("\n  "))
}

async fn copy(mut from: impl AsyncRead + Unpin, path: PathBuf, first: String) {
    let file = File::create(&path).await;
    let Ok(mut file) = file else {
        // The pipe must be emptied all the same, or the target stands still.
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
        return;
    };
    let _ = file.write_all(first.as_bytes()).await;
    let _ = tokio::io::copy(&mut from, &mut file).await;
    let _ = file.flush().await;
}

/// Waits until `url` answers 200.
///
/// # Errors
/// A sentence with the last answer when the time is over or the process has ended.
pub async fn wait_ready(
    client: &reqwest::Client,
    url: &str,
    within: Duration,
    mut process: Option<&mut TargetProcess>,
) -> Result<(), String> {
    let deadline = tokio::time::Instant::now() + within;
    loop {
        let answer = client.get(url).timeout(Duration::from_secs(2)).send().await;
        let last = match answer {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => format!("it answers {}", answer.status()),
            Err(error) => crate::backends::chain(&error),
        };
        if let Some(status) = process.as_mut().and_then(|process| process.ended()) {
            return Err(format!(
                "the target ended before it was ready: {status}; see target.stderr.log"
            ));
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(format!(
                "{url} did not answer 200 within {within:?}: {last}"
            ));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The body of `POST /faults` for a fault of the scenario.
#[must_use]
pub fn fault_body(fault: &Fault) -> serde_json::Value {
    let kind = match fault.kind {
        FaultKind::Latency => "latency",
        FaultKind::Errors => "errors",
        FaultKind::Stall => "stall",
        FaultKind::WrongAnswers => "wrong_answers",
        FaultKind::TelemetryCut => "telemetry_cut",
    };
    let mut body = serde_json::json!({ "kind": kind, "for_ms": fault.length.0.as_millis() as u64 });
    if let Some(add) = fault.add {
        body["add_ms"] = (add.0.as_millis() as u64).into();
    }
    if let Some(share) = fault.share {
        body["share"] = share.0.into();
    }
    body
}

/// Puts a fault on the target.
///
/// # Errors
/// A sentence when the target does not take it.
pub async fn put_fault(client: &reqwest::Client, admin: &str, fault: &Fault) -> Result<(), String> {
    let url = format!("{admin}/faults");
    let answer = client
        .post(&url)
        .json(&fault_body(fault))
        .timeout(Duration::from_secs(5))
        .send()
        .await;
    match answer {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => {
            let status = answer.status();
            let text: String = answer
                .text()
                .await
                .unwrap_or_default()
                .chars()
                .take(300)
                .collect();
            Err(format!("{url} answered {status}: {text}"))
        }
        Err(error) => Err(format!("{url}: {}", crate::backends::chain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use harness_core::scenario::{Dur, Start};

    use super::*;

    /// A target that announces the process group it is in (the fifth field of proc(5)'s stat).
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_signal_to_our_own_group_does_not_reach_the_target() {
        let script = "read -r _ _ _ _ group _ < /proc/self/stat; \
            printf '{\"http\":\"127.0.0.1:1\",\"group\":%s}\\n' \"$group\"; exec sleep 600";
        let start = Start {
            command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            ready: String::new(),
            within: Dur(Duration::from_secs(60)),
            env: BTreeMap::new(),
        };
        let logs = tempfile::tempdir().unwrap();
        let target = TargetProcess::start(&start, &BTreeMap::new(), logs.path())
            .await
            .unwrap();
        let group = target.announced["group"].as_i64().unwrap();
        let ours = rustix::process::getpgrp().as_raw_nonzero().get();
        target.stop().await;
        assert_ne!(group, i64::from(ours));
    }
}
