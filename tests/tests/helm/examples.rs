//! Examples are written for programs that are not here; what can be held is held.

use harness_tests::harness;
use serde_json::Value;

use crate::{dir, files, name_of, strings_at, text, walk, yaml};

/// Documents of a file.
fn documents(name: &str) -> Vec<Value> {
    text(dir().join("examples").join(name))
        .split("\n---\n")
        .map(|one| serde_saphyr::from_str(one).unwrap_or_else(|error| panic!("{name}: {error}")))
        .collect()
}

#[test]
fn nothing_but_a_pass_or_eleven_by_name_goes_through() {
    let argo = &documents("argo-rollouts.yaml")[0];
    let metric = &argo["spec"]["metrics"][0];
    assert_eq!(
        (&metric["failureLimit"], &metric["count"]),
        (&0.into(), &1.into())
    );
    let job = &metric["provider"]["job"]["spec"];
    assert_eq!(job["backoffLimit"], 0);
    // Job names of Argo hold dots, which an index in pod names cannot.
    assert!(
        job["completionMode"].is_null() && job["completions"].is_null(),
        "{job}"
    );
    let pod = &job["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Never");
    assert_eq!(
        pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"],
        true
    );
    let args: Vec<&str> = pod["containers"][0]["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap())
        .collect();
    let help = harness().args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for flag in args.iter().filter(|arg| arg.starts_with("--")) {
        assert!(help.contains(flag.split('=').next().unwrap()), "{flag}");
    }
    // The canary is what is judged, or the run is invalid.
    assert!(
        args.iter()
            .any(|arg| arg.starts_with("--set=target.expectVersion=")),
        "{args:?}"
    );

    let flagger = &documents("flagger.yaml")[0];
    let hook = &flagger["spec"]["analysis"]["webhooks"][0];
    assert_eq!(hook["type"], "pre-rollout");
    // `cmd` is answered before the command ends.
    assert_eq!(hook["metadata"]["type"], "bash");
    assert_eq!(flagger["spec"]["analysis"]["threshold"], 1);

    for name in ["github-actions.yaml", "gitlab-ci.yaml"] {
        let text = text(dir().join("examples").join(name));
        assert!(text.contains("terminated.exitCode"), "{name}");
        for code in ["10", "12", "13", "14", "15", "130"] {
            let allowed = format!("{code})");
            assert!(
                !text
                    .lines()
                    .any(|line| line.trim_start().starts_with(&allowed)),
                "{name}: {code}"
            );
        }
    }
    let gitlab = &documents("gitlab-ci.yaml")[0];
    assert_eq!(
        gitlab["load-gate"]["allow_failure"]["exit_codes"],
        serde_json::json!([11])
    );
    assert!(
        text(dir().join("examples/gitlab-ci.yaml")).contains(r#"exit "${code:-1}""#),
        "no exit code is no verdict"
    );
    assert!(
        text(dir().join("examples/github-actions.yaml")).contains(r#"case "${code:-none}" in"#),
        "no exit code is no verdict"
    );
}

/// Minutes of a duration such as `31m`.
fn minutes(text: &str) -> u64 {
    text.trim()
        .trim_end_matches('m')
        .parse()
        .unwrap_or_else(|_| panic!("{text} is not minutes"))
}

#[test]
fn whoever_waits_waits_longer_than_the_gate_may_take() {
    let gate = yaml(dir().join("charts/harness/values.yaml"))["gate"]["activeDeadlineSeconds"]
        .as_u64()
        .unwrap();
    let mut seen = 0;
    for file in files("examples", ".yaml") {
        let text = text(&file);
        for line in text.lines().filter(|line| line.contains("--wait-for-jobs")) {
            let waits = line
                .split("--timeout ")
                .nth(1)
                .unwrap()
                .split_whitespace()
                .next()
                .unwrap();
            assert!(minutes(waits) * 60 > gate, "{}: {line}", file.display());
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
    let hook = &documents("flagger.yaml")[0]["spec"]["analysis"]["webhooks"][0];
    assert!(
        minutes(hook["timeout"].as_str().unwrap()) > 31,
        "the webhook outlasts helm"
    );
}

#[test]
fn values_that_are_set_are_values_of_the_charts() {
    let mut seen = 0;
    for file in files("examples", ".yaml") {
        let text = text(&file);
        for command in text.split("helm upgrade").skip(1) {
            let command = command.split("job=").next().unwrap();
            let chart = if command.contains("charts/target-service") {
                "target-service"
            } else {
                "harness"
            };
            let values = yaml(dir().join(format!("charts/{chart}/values.yaml")));
            for set in command.split("--set-string ").skip(1) {
                let path = set.trim_start_matches('\'').split('=').next().unwrap();
                let path = path.split('[').next().unwrap();
                let mut at = &values;
                for step in path.split('.') {
                    let free = at.as_object().is_some_and(serde_json::Map::is_empty);
                    assert!(
                        free || !at[step].is_null(),
                        "{}: {chart} has no {path}",
                        name_of(&file)
                    );
                    if free {
                        break;
                    }
                    at = &at[step];
                }
                seen += 1;
            }
        }
    }
    assert!(seen >= 10, "{seen}");
}

#[test]
fn images_in_examples_are_pinned() {
    for file in files("examples", ".yaml") {
        for document in documents(&name_of(&file)) {
            for image in strings_at(&document, "image") {
                assert!(
                    image.contains(':') && !image.ends_with(":latest"),
                    "{}: {image}",
                    file.display()
                );
            }
            walk(&document, &mut Vec::new(), &mut |path, value| {
                let text = value.as_str().unwrap_or_default();
                assert!(
                    !text.contains(":latest"),
                    "{}: {}",
                    file.display(),
                    path.join(".")
                );
            });
        }
    }
}
