//! Shards that meet at a place of results, deliver there and are judged as one run; and everything that
//! forbids it.

mod s3;

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use harness_tests::{ANSWERS, harness, lay_out, service};

use s3::{AHEAD, BUCKET, Fault, S3, SECRET};

fn scenario(url: &str, seed: u64) -> String {
    format!(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {{name: distributed}}
spec:
  seed: {seed}
  slo: [slo.yaml]
  target: {{url: "{url}"}}
  validity: {{lateSends: {{over: 5s, share: 50%}}, stall: 20s}}
  requests: [{{name: ping, method: GET, path: /, expect: {{status: 200}}}}]
  loads:
    - name: steady
      mix: {{ping: 1}}
      executor: constant-arrival-rate
      spacing: poisson
      stages: [{{phase: measure, rate: 200/s, for: 1s}}]
"#
    )
}

/// Two hundred requests on a busy machine are worth few independent ones.
fn slo() -> String {
    ANSWERS.replace("target: 0.9", "target: 0.5")
}

/// Where the shards of a test meet.
struct Meeting {
    laid_out: tempfile::TempDir,
    place: String,
    env: Vec<(&'static str, String)>,
}

impl Meeting {
    fn at(place: String, env: Vec<(&'static str, String)>) -> Self {
        Self {
            laid_out: lay_out(&scenario(&service(true), 7), &slo()),
            place,
            env,
        }
    }

    fn in_bucket(server: &S3) -> Self {
        let env = vec![
            ("AWS_ENDPOINT_URL", server.url.clone()),
            ("AWS_ACCESS_KEY_ID", "usual".into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
            ("AWS_REGION", "us-east-1".into()),
        ];
        Self::at(format!("s3://{BUCKET}/runs/one"), env)
    }

    fn harness(&self) -> std::process::Command {
        let mut command = harness();
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value.as_str())));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn shard_of(
        &self,
        laid_out: &Path,
        name: &str,
        key: Option<&str>,
        within: &str,
    ) -> (PathBuf, Child) {
        let out = laid_out.join(name.replace('/', "-of-"));
        let mut command = self.harness();
        command
            .arg("run")
            .arg(laid_out.join("scenario.yaml"))
            .arg("--quiet");
        command.args([
            "--shard",
            name,
            "--results",
            &self.place,
            "--start-within",
            within,
        ]);
        command.arg("--out").arg(&out);
        if let Some(key) = key {
            command.env("AWS_ACCESS_KEY_ID", key);
        }
        (out, command.spawn().unwrap())
    }

    fn shard(&self, name: &str) -> (PathBuf, Child) {
        self.shard_of(self.laid_out.path(), name, None, "60s")
    }

    fn gate(&self, out: &str, args: &[&str]) -> Child {
        let mut command = self.harness();
        command.args(["merge", &self.place, "--quiet", "--out"]);
        command.arg(self.laid_out.path().join(out)).args(args);
        command.spawn().unwrap()
    }
}

/// Exit code and everything that was printed.
fn ended(child: Child) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let told = format!("{}\n{}", text(&stdout), text(&stderr));
    assert!(!told.contains(SECRET), "{told}");
    (status.code().unwrap_or(-1), told)
}

#[track_caller]
fn ends((code, told): (i32, String), with: i32, says: &str) {
    assert_eq!(code, with, "{told}");
    assert!(told.contains(says), "`{says}` is not in: {told}");
}

fn rows(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("requests.jsonl")).unwrap();
    let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
    rows.sort();
    rows
}

/// Two shards and the gate beside them, all well.
fn a_good_run(meeting: &Meeting) {
    let gate = meeting.gate("merged", &["--wait", "120s", "--shards", "2"]);
    let shards = ["0/2", "1/2"].map(|name| meeting.shard(name));
    let mut all = Vec::new();
    for (dir, shard) in shards {
        ends(ended(shard), 0, "It decides nothing");
        all.extend(rows(&dir));
    }
    ends(ended(gate), 0, "PASS");
    all.sort();
    // What the shards recorded, and nothing else, byte for byte.
    assert_eq!(rows(&meeting.laid_out.path().join("merged")), all);
    assert!(all.len() > 120, "{}", all.len());
}

#[test]
fn what_shards_deliver_is_judged_once_and_again_and_nothing_that_does_not_belong_passes() {
    let server = S3::start();
    let meeting = Meeting::in_bucket(&server);
    a_good_run(&meeting);
    let report = |dir: &str| {
        let path = meeting.laid_out.path().join(dir).join("report.json");
        let mut report: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        report["judged_at"] = serde_json::Value::Null;
        report
    };

    // From the place alone, and by any machine.
    ends(ended(meeting.gate("again", &[])), 0, "PASS");
    assert_eq!(report("again"), report("merged"));
    let key = |below: &str, ending: &str| {
        let objects = server.objects();
        let found = objects
            .keys()
            .find(|k| k.contains(below) && k.ends_with(ending));
        found
            .unwrap_or_else(|| panic!("{below}…{ending} is not in {:?}", objects.keys()))
            .clone()
    };
    let whole = server.objects().clone();
    let restore = || *server.objects() = whole.clone();

    // The same results under another run id: which of the two is the shard?
    let manifest = key("/manifests/00001.", ".json");
    let other = manifest.replace("distributed-", "duplicate-");
    let copy = whole[&manifest].clone();
    server.objects().insert(other, copy);
    ends(
        ended(meeting.gate("none", &[])),
        12,
        "shard 1/2 was delivered twice",
    );
    restore();

    // Half-delivered is not delivered.
    server.objects().remove(&manifest);
    ends(ended(meeting.gate("none", &[])), 12, "shard 1/2 is missing");
    restore();

    // Changed after the fact: an object, a manifest's words, and what the gate was answered.
    let object = key("/shards/00001.", "requests.jsonl");
    server.objects().get_mut(&object).unwrap()[40] ^= 1;
    ends(ended(meeting.gate("none", &[])), 12, "SHA-256 is");
    restore();
    server.objects().remove(&object);
    ends(ended(meeting.gate("none", &[])), 12, "it is not there");
    restore();
    let said = String::from_utf8(whole[&manifest].clone()).unwrap();
    let lie = said.replace("\"shard\": \"1/2\"", "\"shard\": \"0/2\"");
    assert_ne!(lie, said);
    server.objects().insert(manifest.clone(), lie.into_bytes());
    ends(
        ended(meeting.gate("none", &[])),
        12,
        "is the manifest of shard 0/2",
    );
    restore();
    let answers = key("/gate/", "run.json");
    server.objects().get_mut(&answers).unwrap().push(b' ');
    ends(ended(meeting.gate("none", &[])), 12, "not as it left it");
    restore();

    // A place holds one run: who comes later sends nothing.
    let before = server.objects().len();
    let (_, late) = meeting.shard_of(meeting.laid_out.path(), "1/2", None, "60s");
    let (code, told) = ended(late);
    // Its directory is taken, which is said first; from another one it is the start that is over.
    ends((code, told), 2, "exists and is not empty");
    let elsewhere = lay_out(&scenario(&service(true), 7), &slo());
    let (_, late) = meeting.shard_of(elsewhere.path(), "1/2", None, "60s");
    ends(ended(late), 12, "each run needs a place of its own");
    assert_eq!(server.objects().len(), before);
    ends(ended(meeting.gate("and-again", &[])), 0, "PASS");
    ends(
        ended(meeting.gate("none", &["--shards", "3"])),
        12,
        "3 were asked for",
    );
}

#[test]
fn a_directory_that_all_see_is_a_place_too() {
    let keep = tempfile::tempdir().unwrap();
    let place = keep.path().join("results");
    let meeting = Meeting::at(place.display().to_string(), Vec::new());
    a_good_run(&meeting);
    let meeting = Meeting {
        place: format!("file://{}", place.display()),
        ..meeting
    };
    ends(ended(meeting.gate("again", &[])), 0, "PASS");
}

#[test]
fn a_shard_that_never_comes_keeps_all_from_starting() {
    let server = S3::start();
    let meeting = Meeting::in_bucket(&server);
    let (dir, alone) = meeting.shard_of(meeting.laid_out.path(), "0/3", None, "1s");
    let why = "shard 1/3, 2/3 never became ready within 1s";
    ends(ended(alone), 12, why);
    assert!(rows(&dir).is_empty(), "nothing was sent");
    ends(ended(meeting.gate("merged", &["--wait", "60s"])), 12, why);
    // And where not even the first came.
    let empty = Meeting::in_bucket(&S3::start());
    ends(ended(empty.gate("merged", &[])), 12, "there is no start at");
    ends(
        ended(empty.gate("merged", &["--shards", "2"])),
        12,
        "shard 1/2 is missing: it never became ready",
    );
}

#[test]
fn a_shard_that_hears_of_its_start_too_late_sends_nothing() {
    let server = S3::start();
    let meeting = Meeting::in_bucket(&server);
    // The start is some three seconds after it is published; nobody can read of it for twice as long.
    let mut published = None;
    server.fail(move |method, key| {
        if !key.ends_with("/start.json") {
            return Fault::No;
        }
        if method == "PUT" {
            published = Some(Instant::now());
            return Fault::No;
        }
        match published {
            Some(at) if at.elapsed() < Duration::from_secs(6) => Fault::Status(503),
            _ => Fault::No,
        }
    });
    let [(_, first), (dir, second)] = ["0/2", "1/2"].map(|name| meeting.shard(name));
    let why = "had passed when shard 1/2";
    ends(ended(second), 12, why);
    assert!(rows(&dir).is_empty(), "nothing was sent");
    ends(ended(first), 0, "It decides nothing");
    ends(ended(meeting.gate("merged", &["--wait", "1s"])), 12, why);
}

#[test]
fn a_shard_whose_clock_is_off_keeps_all_from_starting() {
    let server = S3::start();
    let meeting = Meeting::in_bucket(&server);
    let right = meeting.shard("0/2");
    let wrong = meeting.shard_of(meeting.laid_out.path(), "1/2", Some(AHEAD), "60s");
    for (dir, shard) in [right, wrong] {
        ends(ended(shard), 12, "the clocks of the shards may lie");
        assert!(rows(&dir).is_empty(), "nothing was sent");
    }
    ends(
        ended(meeting.gate("merged", &[])),
        12,
        "the clocks of the shards may lie",
    );
}

#[test]
fn a_shard_of_another_run_keeps_all_from_starting() {
    let server = S3::start();
    let meeting = Meeting::in_bucket(&server);
    let other = lay_out(&scenario(&service(true), 8), &slo());
    let right = meeting.shard("0/2");
    let (_, foreign) = meeting.shard_of(other.path(), "1/2", None, "60s");
    let why = "another scenario, another seed";
    ends(ended(right.1), 12, why);
    ends(ended(foreign), 12, why);
    ends(ended(meeting.gate("merged", &[])), 12, why);
}

#[test]
fn what_a_full_bucket_refuses_stays_on_disk_and_the_run_is_invalid() {
    for status in [507, 403] {
        let server = S3::start();
        let meeting = Meeting::in_bucket(&server);
        server.fail(
            move |method, key| match method == "PUT" && key.contains("/shards/00001.") {
                true => Fault::Status(status),
                false => Fault::No,
            },
        );
        let shards = ["0/2", "1/2"].map(|name| meeting.shard(name));
        let [(_, first), (dir, second)] = shards;
        ends(ended(first), 0, "It decides nothing");
        ends(ended(second), 12, "could not be delivered");
        assert!(!rows(&dir).is_empty() && dir.join("manifest.json").exists());
        ends(
            ended(meeting.gate("merged", &["--wait", "1s"])),
            12,
            "shard 1/2 is missing: it took part",
        );
        // Merged by hand, what is on the disks is a whole run.
        let mut by_hand = meeting.harness();
        by_hand
            .arg("merge")
            .args([meeting.laid_out.path().join("0-of-2"), dir]);
        by_hand
            .arg("--out")
            .arg(meeting.laid_out.path().join("by-hand"));
        ends(ended(by_hand.spawn().unwrap()), 0, "PASS");
    }
}

#[test]
fn an_upload_whose_answer_is_lost_is_one_upload() {
    let server = S3::start();
    let meeting = Meeting::in_bucket(&server);
    let mut cut = std::collections::BTreeSet::new();
    // The first put of every manifest and of the start arrives, and nobody is told.
    server.fail(move |method, key| {
        let once = key.contains("/manifests/") || key.ends_with("/start.json");
        match method == "PUT" && once && cut.insert(key.to_owned()) {
            true => Fault::CutAfter,
            false => Fault::No,
        }
    });
    a_good_run(&meeting);
}

#[test]
fn a_bucket_that_does_not_know_us_is_said_and_the_secret_is_not() {
    let server = S3::start();
    let mut meeting = Meeting::in_bucket(&server);
    meeting
        .env
        .retain(|(name, _)| *name != "AWS_SECRET_ACCESS_KEY");
    meeting
        .env
        .push(("AWS_SECRET_ACCESS_KEY", "another-secret".into()));
    let (_, shard) = meeting.shard_of(meeting.laid_out.path(), "0/2", None, "1s");
    let (code, told) = ended(shard);
    assert!(!told.contains("another-secret"), "{told}");
    ends((code, told), 12, "SignatureDoesNotMatch");
    ends(
        ended(meeting.gate("merged", &[])),
        12,
        "SignatureDoesNotMatch",
    );
    for (place, why) in [
        ("gs://bucket/x", "s3://BUCKET/PREFIX"),
        ("s3://bucket", "needs a prefix"),
        ("s3://key:hidden@bucket/x", "AWS_ACCESS_KEY_ID"),
    ] {
        meeting.place = place.into();
        let (code, told) = ended(meeting.shard("0/2").1);
        assert!(!told.contains("hidden"), "{told}");
        ends((code, told), 2, why);
    }
}

#[test]
fn a_pod_of_an_indexed_job_takes_its_number_from_it() {
    let keep = tempfile::tempdir().unwrap();
    let meeting = Meeting::at(
        keep.path().join("results").display().to_string(),
        Vec::new(),
    );
    for (index, code, says) in [
        (Some("2"), 12, "shard 2/3"),
        (Some("3"), 2, "3/3"),
        (None, 2, "is this a pod of an Indexed Job?"),
    ] {
        let mut command = meeting.harness();
        command
            .arg("run")
            .arg(meeting.laid_out.path().join("scenario.yaml"))
            .arg("--quiet");
        command.args([
            "--shard",
            "job/3",
            "--results",
            &meeting.place,
            "--start-within",
            "1s",
        ]);
        command
            .arg("--out")
            .arg(meeting.laid_out.path().join(format!("{index:?}")));
        match index {
            Some(index) => command.env("JOB_COMPLETION_INDEX", index),
            None => command.env_remove("JOB_COMPLETION_INDEX"),
        };
        ends(ended(command.spawn().unwrap()), code, says);
    }
}
