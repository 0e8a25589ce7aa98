//! install.sh against a `helm` and a `kubectl` that only take notes.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::{dir, text, yaml};

fn script(args: &[&str]) -> Output {
    Command::new(dir().join("install.sh"))
        .args(args)
        .output()
        .expect("bash")
}

fn said(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Secrets that a plain install makes, with their keys, by its own word.
pub(crate) fn made_secrets() -> BTreeMap<String, Vec<String>> {
    let said = said(&script(&["--dry-run"]));
    let read = |line: &str| {
        let (name, rest) = line.strip_prefix("+ secret ")?.split_once(" (")?;
        let keys = rest
            .split_once(')')?
            .0
            .split(',')
            .map(str::to_owned)
            .collect();
        Some((name.to_owned(), keys))
    };
    said.lines().filter_map(read).collect()
}

#[test]
fn it_reads_versions_yaml_as_yaml_is_read() {
    let listed = said(&script(&["list"]));
    let releases = yaml(dir().join("versions.yaml"));
    let lines: Vec<String> = releases["releases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            assert_eq!(one.as_object().unwrap().len(), 5, "{one}");
            ["name", "repository", "chart", "version", "appVersion"]
                .map(|key| one[key].as_str().unwrap())
                .join(" ")
        })
        .collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), lines);
}

/// Names of releases in `+ helm upgrade --install NAME …`.
fn upgraded(said: &str) -> Vec<&str> {
    said.lines()
        .filter_map(|line| {
            line.strip_prefix("+ helm upgrade --install ")?
                .split(' ')
                .next()
        })
        .collect()
}

#[test]
fn a_dry_run_says_what_would_be_done() {
    let plain = said(&script(&["--dry-run"]));
    assert_eq!(
        upgraded(&plain),
        [
            "stack",
            "minio",
            "prometheus",
            "loki",
            "tempo",
            "alloy",
            "grafana"
        ]
    );
    assert!(
        plain.contains("target-service and harness were left out"),
        "{plain}"
    );
    for release in yaml(dir().join("versions.yaml"))["releases"]
        .as_array()
        .unwrap()
    {
        let version = format!("--version {} ", release["version"].as_str().unwrap());
        let third_party = release["repository"] != "./charts";
        assert!(
            !third_party || plain.contains(&version),
            "{version} is not in {plain}"
        );
    }
    let whole = said(&script(&[
        "--dry-run",
        "--registry",
        "registry.example/team/",
        "--namespace",
        "load",
    ]));
    assert_eq!(upgraded(&whole)[7..], ["target-service", "harness"]);
    assert!(
        whole.contains("image.repository=registry.example/team/harness"),
        "{whole}"
    );
    assert!(whole.contains("rbac.namespaces={load}"), "{whole}");
    assert!(!whole.contains("observability"), "{whole}");

    let external = dir().join("object-storage/external");
    let own = said(&script(&[
        "--dry-run",
        "--object-storage",
        external.to_str().unwrap(),
    ]));
    assert!(!upgraded(&own).contains(&"minio"), "{own}");
    assert!(
        own.contains("external/loki.yaml") && own.contains("external/tempo.yaml"),
        "{own}"
    );
    assert!(
        !own.contains("loki-s3"),
        "the keys of a foreign storage are not made up: {own}"
    );

    let gone = said(&script(&["uninstall", "--dry-run"]));
    let order: Vec<&str> = gone
        .lines()
        .filter_map(|line| line.strip_prefix("+ helm uninstall ")?.split(' ').next())
        .collect();
    assert_eq!(order.first(), Some(&"harness"));
    assert_eq!(order.last(), Some(&"stack"));
    assert!(!gone.contains("kubectl"), "data stays: {gone}");
}

#[test]
fn wrong_usage_is_refused_before_anything_is_done() {
    for (args, why) in [
        (vec!["--dry-run", "--only", "lokki"], "no such release"),
        (
            vec!["--dry-run", "--namespace", "Not A Label"],
            "not a DNS label",
        ),
        (
            vec!["--dry-run", "--object-storage", "/nowhere"],
            "no loki.yaml",
        ),
        (vec!["--dry-runn"], "unknown argument"),
        (vec!["--namespace"], "needs a value"),
    ] {
        let output = script(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
        assert!(
            !String::from_utf8_lossy(&output.stdout).contains("+ helm"),
            "{args:?}"
        );
    }
}

/// A program that writes its arguments down; `kubectl` also keeps the secrets it is told to create.
fn note_taker(at: &Path, name: &str, body: &str) {
    let path = at.join(name);
    std::fs::write(
        &path,
        format!(
            "#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >>\"{}/notes\"\n{body}\n",
            at.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

const KUBECTL: &str = r#"
here=$(dirname "$0")
case "$*" in
  *"get namespace"*) [ -e "$here/namespace" ] ;;
  "create namespace"*) : >"$here/namespace" ;;
  *"get secret"*) [ -e "$here/secret-$5" ] || [ -e "$here/secret-$4" ] ;;
  *"create secret generic"*) for arg; do case "$arg" in --from-env-file=*) cp "${arg#*=}" "$here/secret-$6" ;; esac; done ;;
esac"#;

fn install(at: &Path) -> String {
    let path = format!("{}:{}", at.display(), std::env::var("PATH").unwrap());
    let output = Command::new(dir().join("install.sh"))
        .env("PATH", path)
        .output()
        .unwrap();
    said(&output)
}

#[test]
fn installing_again_changes_no_secret_and_shows_none() {
    let keep = tempfile::tempdir().unwrap();
    let at = keep.path();
    note_taker(at, "helm", "");
    note_taker(at, "kubectl", KUBECTL);
    let first = install(at);
    let secrets = || -> BTreeMap<String, String> {
        made_secrets()
            .into_keys()
            .map(|name| (name.clone(), text(at.join(format!("secret-{name}")))))
            .collect()
    };
    let made = secrets();
    let notes = text(at.join("notes"));
    assert_eq!(
        notes
            .lines()
            .filter(|line| line.starts_with("helm upgrade --install"))
            .count(),
        7,
        "{notes}"
    );
    let mut values: Vec<String> = Vec::new();
    for (name, keys) in made_secrets() {
        let pairs: BTreeMap<&str, &str> = made[&name]
            .lines()
            .filter_map(|line| line.split_once('='))
            .collect();
        for key in keys {
            let value = pairs[key.as_str()];
            let is_name = matches!(key.as_str(), "accessKeyId" | "rootUser" | "admin-user");
            if !is_name {
                assert_eq!(value.len(), 32, "{name}: {key}");
                values.push(value.to_owned());
            }
        }
    }
    // Five passwords, all different, in no argument and in nothing that is printed.
    assert_eq!(values.len(), 5, "{made:?}");
    for value in &values {
        assert_eq!(values.iter().filter(|other| *other == value).count(), 1);
        assert!(!notes.contains(value.as_str()) && !first.contains(value.as_str()));
    }

    install(at);
    assert_eq!(secrets(), made);
    let again = text(at.join("notes"));
    assert_eq!(again.matches("create namespace").count(), 1, "{again}");
    assert_eq!(
        again.matches("create secret").count(),
        made.len(),
        "{again}"
    );
}

#[test]
fn a_foreign_storage_without_its_keys_is_refused() {
    let keep = tempfile::tempdir().unwrap();
    note_taker(keep.path(), "helm", "");
    note_taker(keep.path(), "kubectl", KUBECTL);
    let path = format!(
        "{}:{}",
        keep.path().display(),
        std::env::var("PATH").unwrap()
    );
    let external = dir().join("object-storage/external");
    let output = Command::new(dir().join("install.sh"))
        .arg("--object-storage")
        .arg(external)
        .env("PATH", path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("secret loki-s3"),
        "{output:?}"
    );
    assert!(!text(keep.path().join("notes")).contains("helm upgrade"));
}
