//! The generator at its own limits: too few connections, and a disk that is full for a while.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use harness_tests::{ANSWERS, binary, finished, harness, lay_out, service};

#[test]
fn an_attack_that_its_own_connections_hold_up_is_12() {
    // One connection, which is never answered on: whoever comes after waits for it and is late.
    let url = service(false);
    let run = |more: &[&str]| {
        let mut command = harness();
        command.args([
            "attack", "-q", "100", "-z", "500ms", "-c", "1", "-t", "1s", "--quiet",
        ]);
        command.args(more).arg(&url);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    // Nothing is judged, and the exit still says that the figures are the generator's.
    let (code, text) = run(&[]);
    assert_eq!(code, Some(12), "{text}");
    assert!(text.contains("late_sends"), "{text}");
    assert!(text.contains("waited for a free connection"), "{text}");
    // Judged, it is no failure of the service either.
    let (code, text) = run(&["--p99", "10ms"]);
    assert_eq!(code, Some(12), "{text}");
}

/// `RLIMIT_FSIZE` stands for the disk: no file may grow beyond it, until the limit is taken away.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_load_and_loses_no_row() {
    let scenario = format!(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {{name: full}}
spec:
  seed: 7
  slo: [slo.yaml]
  target: {{url: "{}"}}
  validity: {{lateSends: {{over: 5s, share: 50%}}, stall: 20s}}
  requests: [{{name: ping, method: GET, path: /, expect: {{status: 200}}}}]
  loads:
    - name: steady
      mix: {{ping: 1}}
      executor: constant-arrival-rate
      stages: [{{phase: measure, rate: 1000/s, for: 600s}}]
"#,
        service(true)
    );
    let keep = lay_out(&scenario, ANSWERS);
    let dir = keep.path().join("run");
    // The signal that would end the process is ignored, as writing is to fail; the limit is a soft one.
    let script = "trap '' XFSZ; ulimit -S -f 128; exec \"$0\" \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(binary("harness"))
        .arg("run")
        .arg(keep.path().join("scenario.yaml"))
        .arg("--out")
        .arg(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("offered to the disk again") {
        let more = stderr.read_line(&mut said).unwrap();
        assert!(more > 0, "it ended without a word of the disk: {said}");
    }
    let pid = rustix::process::Pid::from_child(&child);
    let unlimited = rustix::process::Rlimit {
        current: None,
        maximum: None,
    };
    rustix::process::prlimit(Some(pid), rustix::process::Resource::Fsize, unlimited).unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    let run = finished(child.wait_with_output().unwrap(), dir, keep);
    assert_eq!(run.code, 1, "{}{said}", run.story());
    let report = run.report();
    assert_eq!(report["verdict"], "invalid");
    assert_eq!(report["reason_code"], "cannot_record");
    let complete = |check: &&serde_json::Value| check["name"] == "schedule_complete";
    let validity = report["validity"].as_array().unwrap();
    let complete = validity.iter().find(complete).unwrap();
    assert_eq!(complete["ok"], true, "{complete}");
    // 128 blocks of 512 or 1,024 bytes hold a few hundred rows; what came after is there, too.
    let rows = std::fs::metadata(run.dir.join("requests.jsonl"))
        .unwrap()
        .len();
    assert!(rows > 128 * 512, "{rows}");
}
