//! Our own charts: schemas, golden renders, and what is rendered against the programs that it runs.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use harness_tests::{binary, harness};
use serde_json::Value;

use crate::{dir, files, name_of, strings_at, text, walk, yaml};

const CHARTS: [&str; 3] = ["stack", "target-service", "harness"];

fn schema(chart: &str) -> Value {
    serde_json::from_str(&text(
        dir().join(format!("charts/{chart}/values.schema.json")),
    ))
    .unwrap()
}

/// `over` laid over `values`, as helm does it.
fn merge(values: &mut Value, over: &Value) {
    match (values, over) {
        (Value::Object(values), Value::Object(over)) => {
            for (key, inner) in over {
                merge(values.entry(key.clone()).or_insert(Value::Null), inner);
            }
        }
        (values, over) => *values = over.clone(),
    }
}

fn with(chart: &str, over: &Value) -> Value {
    let mut values = yaml(dir().join(format!("charts/{chart}/values.yaml")));
    merge(&mut values, over);
    values
}

#[test]
fn every_case_meets_the_schema() {
    for chart in CHARTS {
        let schema = jsonschema::validator_for(&schema(chart)).unwrap();
        for file in files(&format!("charts/{chart}/ci"), ".yaml") {
            let values = with(chart, &yaml(&file));
            let wrong: Vec<String> = schema
                .iter_errors(&values)
                .map(|e| format!("{}: {e}", e.instance_path()))
                .collect();
            assert!(wrong.is_empty(), "{}: {wrong:?}", file.display());
        }
    }
}

#[test]
fn schemas_are_closed() {
    for chart in CHARTS {
        walk(&schema(chart), &mut Vec::new(), &mut |path, value| {
            if value["type"] == "object" && value["properties"].is_object() {
                assert_eq!(
                    value["additionalProperties"],
                    false,
                    "{chart}: {}",
                    path.join(".")
                );
            }
        });
    }
}

#[test]
fn wrong_values_are_refused() {
    let image = r#""image": {"repository": "registry.example/x"}"#;
    for (chart, values, why) in [
        (
            "stack",
            r#"{"networkPolicys": {}}"#.to_owned(),
            "networkPolicys",
        ),
        ("target-service", "{}".into(), "shorter than"),
        (
            "target-service",
            format!(r#"{{{image}, "replica": 2}}"#),
            "replica",
        ),
        (
            "target-service",
            format!(r#"{{{image}, "service": {{"queue": 1}}}}"#),
            "queue",
        ),
        (
            "target-service",
            r#"{"image": {"repository": "registry.example/x", "tag": "latest"}}"#.into(),
            "latest",
        ),
        (
            "target-service",
            format!(r#"{{{image}, "drain": {{"graceSeconds": "5s"}}}}"#),
            "integer",
        ),
        (
            "target-service",
            format!(r#"{{{image}, "telemetry": {{"otlpEndpoint": "https://alloy:4317"}}}}"#),
            "match",
        ),
        ("harness", "{}".into(), "shorter than"),
        (
            "harness",
            format!(r#"{{{image}, "scenarios": ""}}"#),
            "scenarios",
        ),
        (
            "harness",
            format!(r#"{{{image}, "publish": {{"loki": "http://u:p@loki"}}}}"#),
            "match",
        ),
        // A run directory elsewhere would be lost, or the read-only root.
        (
            "harness",
            format!(r#"{{{image}, "args": ["--out=/x"]}}"#),
            "--out",
        ),
        (
            "harness",
            format!(r#"{{{image}, "args": ["--retries", "1"]}}"#),
            "match",
        ),
        (
            "harness",
            format!(r#"{{{image}, "args": ["--shard=0/2"]}}"#),
            "--shard",
        ),
        // Nowhere to meet.
        (
            "harness",
            format!(r#"{{{image}, "distributed": {{"enabled": true}}}}"#),
            "shorter than",
        ),
        (
            "harness",
            format!(r#"{{{image}, "distributed": {{"results": "s3://key:secret@bucket/x"}}}}"#),
            "match",
        ),
    ] {
        let values = with(chart, &serde_json::from_str(&values).unwrap());
        let schema = jsonschema::validator_for(&schema(chart)).unwrap();
        let wrong: Vec<String> = schema.iter_errors(&values).map(|e| e.to_string()).collect();
        assert!(
            wrong.iter().any(|text| text.contains(why)),
            "{chart}: {why} is not in {wrong:?}"
        );
    }
}

/// Helm programs: those of `$HARNESS_HELM` (colon-separated), else `helm` where it is installed.
fn helms() -> Vec<PathBuf> {
    if let Some(named) = std::env::var_os("HARNESS_HELM") {
        return std::env::split_paths(&named).collect();
    }
    let works = Command::new("helm")
        .arg("version")
        .output()
        .is_ok_and(|done| done.status.success());
    if works {
        vec!["helm".into()]
    } else {
        Vec::new()
    }
}

#[test]
fn golden_renders_are_what_helm_makes() {
    let helms = helms();
    if helms.is_empty() {
        eprintln!(
            "helm is not installed, so golden renders are not compared (see helm-config/README.md)"
        );
    }
    for helm in helms {
        for chart in CHARTS {
            for file in files(&format!("charts/{chart}/ci"), ".yaml") {
                let at = dir().join("charts").join(chart);
                let rendered = Command::new(&helm)
                    .args(["template", chart])
                    .arg(&at)
                    .args([
                        "--namespace",
                        "observability",
                        "--kube-version",
                        "1.37.0",
                        "--values",
                    ])
                    .arg(&file)
                    .output()
                    .unwrap_or_else(|error| panic!("{}: {error}", helm.display()));
                let complaint = String::from_utf8_lossy(&rendered.stderr);
                assert!(rendered.status.success(), "{}: {complaint}", file.display());
                let golden = text(at.join("golden").join(name_of(&file)));
                let made = String::from_utf8_lossy(&rendered.stdout);
                assert!(
                    made == golden,
                    "{}: not as in golden/; `helm-config/check --write` brings it up to date",
                    file.display()
                );
            }
        }
    }
}

/// Every object of every golden render.
fn golden() -> Vec<(String, Value)> {
    let mut objects = Vec::new();
    for chart in CHARTS {
        let cases = files(&format!("charts/{chart}/ci"), ".yaml");
        let renders = files(&format!("charts/{chart}/golden"), ".yaml");
        let names = |files: &[PathBuf]| files.iter().map(|file| name_of(file)).collect::<Vec<_>>();
        assert_eq!(
            names(&cases),
            names(&renders),
            "{chart}: every case has its golden render"
        );
        for file in renders {
            for document in text(&file).split("\n---\n") {
                let document = document.trim_start_matches("---\n");
                if document
                    .lines()
                    .any(|line| !line.trim().is_empty() && !line.starts_with('#'))
                {
                    let value: Value = serde_saphyr::from_str(document)
                        .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
                    objects.push((format!("{chart}/{}", name_of(&file)), value));
                }
            }
        }
    }
    objects
}

/// Pod specs within an object.
fn pod_spec(object: &Value) -> Option<&Value> {
    match object["kind"].as_str()? {
        "Pod" => Some(&object["spec"]),
        "CronJob" => Some(&object["spec"]["jobTemplate"]["spec"]["template"]["spec"]),
        "Deployment" | "Job" => Some(&object["spec"]["template"]["spec"]),
        _ => None,
    }
}

#[test]
fn every_pod_is_confined_and_has_no_token() {
    let mut pods = 0;
    for (name, object) in golden() {
        assert_ne!(object["spec"]["type"], "NodePort", "{name}");
        let Some(spec) = pod_spec(&object) else {
            continue;
        };
        pods += 1;
        assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(
            spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
            "{name}"
        );
        for container in spec["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["capabilities"]["drop"][0], "ALL", "{name}");
            assert!(
                container["resources"]["requests"]["memory"].is_string(),
                "{name}"
            );
            // Throttling would be measured as the service's latency, or make the generator late.
            assert!(container["resources"]["limits"]["cpu"].is_null(), "{name}");
            assert!(
                !container["image"].as_str().unwrap().ends_with(":latest"),
                "{name}"
            );
        }
    }
    assert!(pods >= 10, "{pods} pods");
}

#[test]
fn a_gate_runs_once_and_its_job_can_be_made_again_by_an_upgrade() {
    let mut jobs = 0;
    for (name, object) in golden() {
        let spec = match object["kind"].as_str().unwrap() {
            "Job" => &object["spec"],
            "CronJob" => {
                assert_eq!(object["spec"]["concurrencyPolicy"], "Forbid", "{name}");
                &object["spec"]["jobTemplate"]["spec"]
            }
            _ => continue,
        };
        jobs += 1;
        // Trying again until it is green would be a false pass, and a shard that is made again sends twice.
        let limit = match spec["completionMode"] == "Indexed" {
            true => "backoffLimitPerIndex",
            false => "backoffLimit",
        };
        assert_eq!(spec[limit], 0, "{name}");
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Never", "{name}");
        assert!(spec["activeDeadlineSeconds"].is_u64(), "{name}");
        let job = object["metadata"]["name"].as_str().unwrap();
        assert!(job.len() <= 63 && !job.contains('.'), "{job}");
        if object["kind"] == "Job" {
            let indexed = spec["completionMode"] == "Indexed";
            assert!(
                job.ends_with(if indexed { "-shards-1" } else { "-gate-1" }),
                "the revision is in the name: {job}"
            );
        }
    }
    assert_eq!(jobs, 5);
    let template = text(dir().join("charts/harness/templates/jobs.yaml"));
    assert!(template.contains("-gate-{{ .Release.Revision }}"));
}

#[test]
fn the_service_takes_the_arguments_and_the_environment_it_is_given() {
    for (name, object) in golden() {
        if object["kind"] != "Deployment" {
            continue;
        }
        let spec = pod_spec(&object).unwrap();
        let container = &spec["containers"][0];
        let mut command = Command::new(binary("target-service"));
        for arg in container["args"].as_array().unwrap() {
            let arg = arg.as_str().unwrap();
            command.arg(match arg.split_once('=') {
                Some((flag @ ("--listen" | "--metrics"), _)) => format!("{flag}=127.0.0.1:0"),
                Some(("--model", _)) => "--model=tfidf".to_owned(),
                _ => arg.to_owned(),
            });
        }
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for env in container["env"].as_array().unwrap() {
            let key = env["name"].as_str().unwrap();
            let value = env["value"].as_str().unwrap_or("x");
            let value = value
                .replace("$(POD_NAME)", "pod-1")
                .replace("$(POD_NAMESPACE)", "ns")
                .replace("http://alloy:", "http://127.0.0.1:");
            assert!(!value.contains("$("), "{key}={value}");
            command.env(key, value);
        }
        let mut process = command.spawn().unwrap();
        let mut first = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        process.kill().unwrap();
        let ended = process.wait_with_output().unwrap();
        let complaint = String::from_utf8_lossy(&ended.stderr);
        let addresses: Value =
            serde_json::from_str(&first).unwrap_or_else(|_| panic!("{name}: {first}{complaint}"));
        assert!(addresses["metrics"].is_string(), "{name}: {first}");
        // Grace and drain have their time before the pod is killed.
        let grace = spec["terminationGracePeriodSeconds"].as_u64().unwrap();
        let seconds = |flag: &str| -> u64 {
            let args = container["args"].as_array().unwrap();
            let of = |arg: &Value| {
                arg.as_str()?
                    .strip_prefix(flag)?
                    .strip_suffix('s')?
                    .parse()
                    .ok()
            };
            args.iter()
                .find_map(of)
                .unwrap_or_else(|| panic!("{name}: no {flag}"))
        };
        assert!(
            grace > seconds("--drain-grace=") + seconds("--drain-timeout="),
            "{name}"
        );
    }
}

#[test]
fn the_job_of_prometheus_the_name_of_spans_and_the_label_of_logs_are_one() {
    for (name, object) in golden() {
        if object["kind"] != "Deployment" {
            continue;
        }
        let label = &object["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"];
        let env = pod_spec(&object).unwrap()["containers"][0]["env"]
            .as_array()
            .unwrap();
        let otel = env
            .iter()
            .find(|one| one["name"] == "OTEL_SERVICE_NAME")
            .unwrap();
        assert_eq!(&otel["value"], label, "{name}");
        let scenario = yaml(dir().join("charts/harness/values.yaml"))["scenario"]
            .as_str()
            .unwrap()
            .to_owned();
        let scenario: Value = serde_saphyr::from_str(&scenario).unwrap();
        assert_eq!(&scenario["spec"]["telemetry"]["service"], label, "{name}");
        // The annotated port is a declared one: Prometheus keeps no other.
        let port = &object["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"];
        let declared = pod_spec(&object).unwrap()["containers"][0]["ports"].to_string();
        assert!(declared.contains(port.as_str().unwrap()), "{name}");
    }
}

#[test]
fn scenarios_in_charts_check_and_their_files_are_in_the_image() {
    let root = harness_tests::root();
    let dockerfile = text(dir().join("images/harness.Dockerfile"));
    for (name, object) in golden() {
        let Some(scenario) = object["data"]["scenario.yaml"].as_str() else {
            continue;
        };
        let keep = tempfile::tempdir().unwrap();
        let shared = "/usr/share/harness";
        let at = |path: &str| {
            root.join(path)
                .canonicalize()
                .unwrap()
                .display()
                .to_string()
        };
        for part in ["scenarios", "slo"] {
            assert!(
                dockerfile.contains(&format!("COPY {part} {shared}/{part}")),
                "{part} is not in the image"
            );
        }
        let mut scenario = scenario.to_owned();
        for part in ["scenarios", "slo"] {
            scenario = scenario.replace(&format!("{shared}/{part}"), &at(part));
        }
        let objectives = strings_at(&object["data"], "slo.mine.yaml");
        for slo in &objectives {
            std::fs::create_dir(keep.path().join("slo")).unwrap();
            std::fs::write(keep.path().join("slo/mine.yaml"), slo).unwrap();
        }
        let scenario = scenario.replace("/etc/harness", &keep.path().display().to_string());
        std::fs::write(keep.path().join("scenario.yaml"), &scenario).unwrap();
        let checked = harness()
            .arg("check")
            .arg(keep.path().join("scenario.yaml"))
            .env("PROMETHEUS_TOKEN", "x")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(0), "{name}: {said}\n{scenario}");
    }
}

#[test]
fn the_gate_is_started_with_flags_that_harness_has() {
    let help_of = |command: &str| {
        let help = harness().args([command, "--help"]).output().unwrap();
        String::from_utf8_lossy(&help.stdout).into_owned()
    };
    for (name, object) in golden() {
        let Some(spec) =
            pod_spec(&object).filter(|spec| spec["containers"][0]["name"] == "harness")
        else {
            continue;
        };
        let args: Vec<&str> = spec["containers"][0]["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| arg.as_str().unwrap())
            .collect();
        match args[0] {
            command @ ("run" | "merge") => {
                let help = help_of(command);
                for flag in args.iter().filter(|arg| arg.starts_with("--")) {
                    let flag = flag.split('=').next().unwrap();
                    assert!(help.contains(flag), "{name}: {flag}");
                }
            }
            other => assert_eq!(other, "doctor", "{name}"),
        }
    }
}

/// The value of `--flag=value` among a container's arguments.
fn flag<'a>(spec: &'a Value, flag: &str) -> Option<&'a str> {
    let args = spec["containers"][0]["args"].as_array()?;
    let of = |arg: &'a Value| arg.as_str()?.strip_prefix(flag)?.strip_prefix('=');
    args.iter().find_map(of)
}

#[test]
fn shards_and_their_gate_speak_of_one_run() {
    let jobs: Vec<Value> = golden()
        .into_iter()
        .filter(|(name, object)| {
            name == "harness/distributed-values.yaml" && object["kind"] == "Job"
        })
        .map(|(_, object)| object)
        .collect();
    let [shards, gate] = &jobs[..] else {
        panic!("shards and a gate, not {}", jobs.len());
    };
    let of = shards["spec"]["completions"].as_u64().unwrap();
    assert_eq!(
        shards["spec"]["parallelism"].as_u64(),
        Some(of),
        "all at once"
    );
    assert_eq!(shards["spec"]["podReplacementPolicy"], "Failed");
    let (sends, judges) = (pod_spec(shards).unwrap(), pod_spec(gate).unwrap());
    assert_eq!(flag(sends, "--shard"), Some(&format!("job/{of}")[..]));
    assert_eq!(flag(judges, "--shards"), Some(&of.to_string()[..]));
    let place = flag(sends, "--results").unwrap();
    assert_eq!(judges["containers"][0]["args"][1], place);
    assert_eq!(place, "s3://harness-runs/runs/observability-harness-1");
    // A verdict is published once, by who has it.
    assert_eq!(flag(sends, "--publish-prometheus"), None);
    assert!(flag(judges, "--publish-prometheus").is_some());
    // It still has time to say who is missing.
    let wait: u64 = flag(judges, "--wait")
        .unwrap()
        .trim_end_matches('s')
        .parse()
        .unwrap();
    assert!(wait < gate["spec"]["activeDeadlineSeconds"].as_u64().unwrap());
    // A volume that one node mounts cannot be every shard's.
    assert!(sends["volumes"][0]["emptyDir"].is_object());
    assert!(judges["volumes"][0]["persistentVolumeClaim"].is_object());
    for spec in [sends, judges] {
        let env = spec["containers"][0]["env"].as_array().unwrap();
        let of = |name: &str| env.iter().find(|one| one["name"] == name).unwrap();
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            assert_eq!(of(name)["valueFrom"]["secretKeyRef"]["name"], "harness-s3");
            assert!(of(name)["value"].is_null(), "{name} is written down");
        }
        assert_eq!(of("AWS_ENDPOINT_URL")["value"], "http://minio:9000");
    }
}
