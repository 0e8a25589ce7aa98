//! What no values file may say.

use serde_json::Value;

use crate::{dir, files, name_of, text, walk, yaml};

fn all_values() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for below in ["values", "object-storage/external"] {
        for file in files(below, ".yaml") {
            all.push((name_of(&file), yaml(file)));
        }
    }
    for chart in ["stack", "target-service", "harness"] {
        all.push((
            format!("{chart}/values.yaml"),
            yaml(dir().join(format!("charts/{chart}/values.yaml"))),
        ));
        for file in files(&format!("charts/{chart}/ci"), ".yaml") {
            all.push((format!("{chart}/ci/{}", name_of(&file)), yaml(file)));
        }
    }
    all
}

/// What is wrong with a value at a path; the reasons are this directory's rules.
fn forbidden(path: &[String], value: &Value) -> Option<String> {
    let key = path.last()?.to_lowercase();
    let text = value.as_str();
    if key == "type" && matches!(text, Some("NodePort" | "LoadBalancer")) {
        return Some("opens a port to the outside".into());
    }
    if key.contains("nodeport") {
        return Some("is a port of the nodes".into());
    }
    if key == "tag"
        && (text == Some("latest") || text.is_some_and(|tag| tag.starts_with("latest-")))
    {
        return Some("is not pinned".into());
    }
    let secret = [
        "password",
        "secretkey",
        "secret_key",
        "secretaccesskey",
        "secret_access_key",
        "token",
    ];
    let names_a_key = path
        .iter()
        .any(|step| step == "admin" || step == "secretKeyRef");
    if secret.contains(&key.as_str())
        && !names_a_key
        && text.is_some_and(|text| !text.starts_with("${"))
    {
        return Some("is a secret written down; refer to one".into());
    }
    if matches!(key.as_str(), "rootpassword" | "adminpassword") {
        return Some("is a password".into());
    }
    if matches!(key.as_str(), "hostnetwork" | "hostpid" | "privileged")
        && value == &Value::Bool(true)
    {
        return Some("reaches into the host".into());
    }
    if key == "runasnonroot" && value == &Value::Bool(false) || key == "runasuser" && value == 0 {
        return Some("runs as root".into());
    }
    None
}

fn wrong_in(values: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk(values, &mut Vec::new(), &mut |path, value| {
        if let Some(why) = forbidden(path, value) {
            found.push(format!("{} {why}", path.join(".")));
        }
    });
    found
}

#[test]
fn no_node_port_no_latest_no_password_no_root() {
    for (name, values) in all_values() {
        let wrong = wrong_in(&values);
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
}

#[test]
fn each_of_them_would_be_found() {
    for values in [
        r#"{"service": {"type": "NodePort"}}"#,
        r#"{"consoleService": {"nodePort": 30001}}"#,
        r#"{"image": {"tag": "latest"}}"#,
        r#"{"users": [{"accessKey": "console", "secretKey": "console123"}]}"#,
        r#"{"rootPassword": "minio123"}"#,
        r#"{"adminPassword": "admin"}"#,
        r#"{"storage": {"s3": {"secret_key": "abc"}}}"#,
        r#"{"securityContext": {"runAsUser": 0}}"#,
        r#"{"securityContext": {"runAsNonRoot": false}}"#,
    ] {
        let values: Value = serde_json::from_str(values).unwrap();
        assert_eq!(wrong_in(&values).len(), 1, "{values}");
    }
}

#[test]
fn everything_that_runs_says_what_it_needs() {
    for (file, path) in [
        ("minio", "resources"),
        ("prometheus", "server.resources"),
        ("prometheus", "configmapReload.prometheus.resources"),
        ("loki", "singleBinary.resources"),
        ("tempo", "tempo.resources"),
        ("grafana", "resources"),
        ("alloy", "alloy.resources"),
        ("alloy", "configReloader.resources"),
    ] {
        let values = yaml(dir().join(format!("values/{file}.yaml")));
        let at = path.split('.').fold(&values, |at, step| &at[step]);
        assert!(
            at["requests"]["memory"].is_string() && at["limits"]["memory"].is_string(),
            "{file}: {path}"
        );
    }
}

#[test]
fn promtail_is_marked_as_ended_and_is_not_installed() {
    assert!(text(dir().join("values/promtail.yaml")).contains("end of life"));
    let releases = yaml(dir().join("versions.yaml"));
    assert!(
        releases["releases"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["name"] != "promtail")
    );
}

#[test]
fn loki_keeps_run_and_trace_ids_out_of_its_index() {
    let values = yaml(dir().join("values/alloy.yaml"));
    let config = values["alloy"]["configMap"]["content"].as_str().unwrap();
    // Index labels come from rules with target_label, and from stage.labels.
    assert!(!config.contains("stage.labels"), "{config}");
    let labels: Vec<&str> = config
        .lines()
        .filter_map(|line| line.trim().strip_prefix("target_label"))
        .map(|rest| rest.trim_matches([' ', '=', '"']))
        .collect();
    assert_eq!(labels, ["service_name", "namespace", "container", "pod"]);
    let metadata = config.split("stage.structured_metadata {").nth(1).unwrap();
    let metadata = metadata.split('}').next().unwrap();
    // `pod` is a label until it becomes structured metadata, which takes it out of the index.
    for name in ["trace_id", "span_id", "severity_text", "pod"] {
        assert!(metadata.contains(name), "{name} is not in {metadata}");
    }
}
