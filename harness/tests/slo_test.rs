//! `harness test` and `harness check` as CI sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

fn harness(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_harness"))
        .args(args)
        .output()
        .expect("harness starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path)
        .display()
        .to_string()
}

/// Files in a directory of their own.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).expect("a file");
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn slo(bad: &str) -> String {
    format!(
        "apiVersion: openslo/v1
kind: SLO
metadata: {{name: errors}}
spec:
  indicator:
    spec:
      ratioMetric:
        counter: true
        bad: {{metricSource: {{type: Prometheus, spec: {{query: '{bad}'}}}}}}
        total: {{metricSource: {{type: Prometheus, spec: {{query: 'sum(requests_total)'}}}}}}
  budgetingMethod: Occurrences
  objectives: [{{target: 0.99}}]
"
    )
}

const GUARDED: &str = "sum(requests_total{code=\"500\"}) or 0 * sum(requests_total)";

fn tests(expect: &str) -> String {
    format!(
        "slo_files: [slo.yaml]
tests:
  - name: no errors
    input_series: [{{series: 'requests_total{{code=\"200\"}}', values: 0+100x10}}]
    expect: [{{slo: errors, {expect}}}]
"
    )
}

#[test]
fn the_shipped_objectives_do_what_their_tests_say() {
    let (code, out, err) = harness(&["test", &repository("slo/tests")]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.ends_with(" 0 failed\n"), "{out}");
}

#[test]
fn the_shipped_files_have_no_warning() {
    for file in ["slo/quickstart.yaml", "scenarios/quickstart.yaml"] {
        let (code, out, err) = harness(&["check", "--strict", &repository(file)]);
        assert_eq!(code, Some(0), "{out}{err}");
    }
}

#[test]
fn an_expectation_that_is_not_met_is_10_with_its_line_and_why() {
    let met = "verdict: pass, value: 1, samples: 1000";
    let files = Files::new(&[("slo.yaml", &slo(GUARDED)), ("t.yaml", &tests(met))]);
    let (code, out, err) = harness(&["test", &files.path("t.yaml")]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("✓ no errors (1 expectation)"), "{out}");
    for (expect, why) in [
        (
            "verdict: fail",
            "errors: expected fail, got pass: 1,000 of 1,000",
        ),
        ("verdict: pass, value: 0.9", "expected the value 0.9, got 1"),
        (
            "verdict: pass, samples: 999",
            "expected 999 samples, got 1000",
        ),
        (
            "verdict: pass, reason: [counters, moon]",
            "the reason does not contain `moon`",
        ),
    ] {
        let files = Files::new(&[("slo.yaml", &slo(GUARDED)), ("t.yaml", &tests(expect))]);
        let (code, out, _) = harness(&["test", &files.path("t.yaml")]);
        assert_eq!(code, Some(10), "{out}");
        assert!(out.contains("t.yaml:5: ") && out.contains(why), "{out}");
        assert!(out.ends_with("1 test, 1 failed\n"), "{out}");
    }
}

#[test]
fn junit_has_a_case_a_test() {
    let files = Files::new(&[
        ("slo.yaml", &slo(GUARDED)),
        ("t.yaml", &tests("verdict: fail")),
    ]);
    let junit = files.path("junit.xml");
    let (code, out, err) = harness(&["test", "--junit", &junit, &files.path("t.yaml")]);
    assert_eq!(code, Some(10), "{out}{err}");
    let written = std::fs::read_to_string(files.file("junit.xml")).expect("a file");
    let (code, out, _) = harness(&["test", "--format", "junit", &files.path("t.yaml")]);
    assert_eq!(code, Some(10));
    for xml in [written, out] {
        assert!(
            xml.contains("tests=\"1\"") && xml.contains("failures=\"1\""),
            "{xml}"
        );
        assert!(xml.contains("<testcase name=\"no errors\""), "{xml}");
        assert!(xml.contains("expected fail, got pass"), "{xml}");
    }
}

#[test]
fn a_file_that_tests_nothing_is_2() {
    let good = tests("verdict: pass");
    for (old, new, why) in [
        (
            "slo: errors",
            "slo: errrors",
            "t.yaml:5:20: tests[0].expect.slo: there is no objective `errrors`",
        ),
        (
            "expect: [{slo: errors, verdict: pass}]",
            "expect: []",
            "a test that expects nothing cannot fail",
        ),
        ("input_series", "input_serie", "unknown field"),
        ("0+100x10", "0+100x", "tests[0].input_series: cannot read"),
        ("verdict: pass", "verdict: perhaps", "perhaps"),
        ("slo.yaml", "no.yaml", "no.yaml: cannot be read"),
    ] {
        assert!(good.contains(old), "{old}");
        let files = Files::new(&[
            ("slo.yaml", &slo(GUARDED)),
            ("t.yaml", &good.replacen(old, new, 1)),
        ]);
        let (code, out, err) = harness(&["test", &files.path("t.yaml")]);
        assert_eq!(code, Some(2), "{new}: {out}{err}");
        assert!(err.contains(why), "{new}: {err}");
    }
    let files = Files::new(&[("slo.yaml", &slo(GUARDED)), ("t.yaml", &good)]);
    let (code, _, err) = harness(&["test", "--run", "moon", &files.path("t.yaml")]);
    assert_eq!(code, Some(2), "{err}");
}

/// What the tests are for: the same test, of two ways to write the gate, with nothing scraped.
#[test]
fn a_dead_gate_is_caught() {
    let dead = "slo_files: [slo.yaml]
tests:
  - name: nothing is scraped
    window: 10s
    expect: [{slo: errors, verdict: inconclusive, reason: empty}]
";
    // The wrong answer is possible: this gate takes a dead service's silence for no errors, as long as
    // the total is there.
    let blind = slo("sum(requests_totl{code=\"500\"}) or vector(0)");
    let files = Files::new(&[("slo.yaml", &blind), ("t.yaml", &tests("verdict: pass"))]);
    let (code, out, _) = harness(&["test", &files.path("t.yaml")]);
    assert_eq!(code, Some(0), "{out}");
    let failing = tests("verdict: fail").replace("code=\"200\"", "code=\"500\"");
    let files = Files::new(&[("slo.yaml", &blind), ("t.yaml", &failing)]);
    let (code, out, _) = harness(&["test", &files.path("t.yaml")]);
    assert_eq!(
        code,
        Some(10),
        "the misspelt gate passes a service that only fails: {out}"
    );
    let (code, out, err) = harness(&["check", "--strict", &files.path("slo.yaml")]);
    assert_eq!(code, Some(2), "{out}");
    assert!(
        out.contains("slo.yaml:9:62: warning[or-vector]: errors: "),
        "{out}"
    );
    assert!(err.contains("1 warning, and --strict takes none"), "{err}");
    // The right way to write it.
    let files = Files::new(&[("slo.yaml", &slo(GUARDED)), ("t.yaml", &failing)]);
    let (code, out, _) = harness(&["test", &files.path("t.yaml")]);
    assert_eq!(code, Some(0), "{out}");
    let files = Files::new(&[("slo.yaml", &slo(GUARDED)), ("t.yaml", dead)]);
    let (code, out, _) = harness(&["test", &files.path("t.yaml")]);
    assert_eq!(code, Some(0), "{out}");
}

#[test]
fn a_warning_alone_does_not_change_the_exit() {
    let files = Files::new(&[("slo.yaml", &slo("sum(requests_total{code=\"500\"})"))]);
    let (code, out, _) = harness(&["check", &files.path("slo.yaml")]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("warning[empty-bad]: errors: "), "{out}");
}

#[test]
fn other_documents_are_checked_and_said_to_be_unused() {
    let policy = "apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: page}
spec:
  conditions: [{conditionRef: fast}]
  notificationTargets: []
";
    let files = Files::new(&[
        ("a-slo.yaml", &slo(GUARDED)),
        ("policy.yaml", policy),
        ("notes.txt", "no YAML"),
    ]);
    let dir = files.0.path().display().to_string();
    let glob = files.path("*.yaml");
    for path in [&files.path("policy.yaml"), &dir, &glob] {
        let (code, out, err) = harness(&["check", path]);
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(
            out.contains("policy.yaml:3: AlertPolicy `page` is accepted and not used: harness judges runs and sends no alerts"),
            "{out}"
        );
        assert!(out.contains("no AlertCondition named `fast`"), "{out}");
    }
    let (code, _, err) = harness(&["check", &files.path("*.yml")]);
    assert_eq!(code, Some(2));
    assert!(err.contains("matches no file"), "{err}");
    // A run needs something to judge.
    let (code, _, err) = harness(&[
        "run",
        &repository("scenarios/quickstart.yaml"),
        "--slo",
        &files.path("policy.yaml"),
    ]);
    assert_eq!(code, Some(2));
    assert!(err.contains("holds no SLO"), "{err}");
}
