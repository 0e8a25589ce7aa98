//! The command line as scripts see it.

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

#[test]
fn help_names_every_command_and_every_exit_code() {
    let (code, out, _) = harness(&["--help"]);
    assert_eq!(code, Some(0));
    for command in [
        "run", "judge", "compare", "report", "explain", "doctor", "check", "test", "export",
        "stack", "schema",
    ] {
        assert!(out.contains(command), "{out}");
    }
    for exit in [
        "10 fail",
        "11 inconclusive",
        "12 invalid",
        "13 ",
        "14 ",
        "15 ",
        "130 ",
    ] {
        assert!(out.contains(exit), "{exit}: {out}");
    }
}

#[test]
fn wrong_usage_is_2_and_goes_to_stderr() {
    for args in [
        &["fly"][..],
        &["run"],
        &["judge"],
        &["check"],
        &["test"],
        &["run", "a.yaml", "--form"],
    ] {
        let (code, out, err) = harness(args);
        assert_eq!(code, Some(2), "{args:?}: {err}");
        assert!(out.is_empty() && !err.is_empty(), "{args:?}");
    }
}

#[test]
fn a_missing_file_is_2_and_named() {
    let (code, _, err) = harness(&["run", "no-such-scenario.yaml"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("no-such-scenario.yaml"), "{err}");
    let (code, _, err) = harness(&["judge", "no-such-run"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("no-such-run"), "{err}");
}

#[test]
fn schemas_are_json() {
    for format in ["scenario", "report", "slo"] {
        let (code, out, _) = harness(&["schema", format]);
        assert_eq!(code, Some(0));
        let schema: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert!(schema["$schema"].is_string(), "{out}");
    }
}
