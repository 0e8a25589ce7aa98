//! Keys of the third-party charts' values. A key that a chart does not know is ignored in silence by helm, unless the
//! chart ships a schema that forbids it; so every key of ours must be one that the chart has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::{dir, name_of, text, yaml};

/// Keys of one chart: paths, and paths below which anything may stand.
struct Keys {
    known: BTreeSet<String>,
    free: BTreeSet<String>,
}

fn facts() -> std::path::PathBuf {
    harness_tests::root().join("tests/data/helm")
}

impl Keys {
    fn of(release: &str) -> Keys {
        let file = facts().join(format!("{release}.keys"));
        let (mut known, mut free) = (BTreeSet::new(), BTreeSet::new());
        for line in text(&file).lines().filter(|line| !line.starts_with('#')) {
            let path = line.trim_end_matches(" *");
            if line.ends_with(" *") {
                free.insert(path.to_owned());
            }
            // A path makes everything above it known.
            let mut at = String::new();
            for step in split(path) {
                if !at.is_empty() {
                    at.push('.');
                }
                at.push_str(&step);
                known.insert(at.clone());
            }
        }
        assert!(known.len() > 50, "{}: too few keys", file.display());
        Keys { known, free }
    }

    /// Paths of `values` that the chart does not know.
    fn unknown(&self, values: &Value) -> Vec<String> {
        let mut found = Vec::new();
        self.look(values, "", &mut found);
        found
    }

    fn look(&self, values: &Value, at: &str, found: &mut Vec<String>) {
        let Value::Object(map) = values else { return };
        for (key, inner) in map {
            let key = key.replace('.', "\\.");
            let path = if at.is_empty() {
                key
            } else {
                format!("{at}.{key}")
            };
            if !self.known.contains(&path) {
                found.push(path);
            } else if !self.free.contains(&path) {
                self.look(inner, &path, found);
            }
        }
    }
}

/// Steps of a path whose own dots are escaped.
fn split(path: &str) -> Vec<String> {
    let parts = path.replace("\\.", "\0");
    parts
        .split('.')
        .map(|step| step.replace('\0', "\\."))
        .collect()
}

/// Third-party releases, with the values files that are given for each.
fn third_party() -> BTreeMap<String, Vec<std::path::PathBuf>> {
    let mut all = BTreeMap::new();
    for release in yaml(dir().join("versions.yaml"))["releases"]
        .as_array()
        .unwrap()
    {
        if release["repository"] == "./charts" {
            continue;
        }
        let name = release["name"].as_str().unwrap().to_owned();
        let mut files = vec![dir().join(format!("values/{name}.yaml"))];
        let external = dir().join(format!("object-storage/external/{name}.yaml"));
        files.extend(external.is_file().then_some(external));
        all.insert(name, files);
    }
    all
}

#[test]
fn every_key_is_one_that_its_chart_has() {
    for (release, files) in third_party() {
        let keys = Keys::of(&release);
        for file in files {
            let unknown = keys.unknown(&yaml(&file));
            assert!(
                unknown.is_empty(),
                "{}: the chart has no such keys, so helm would ignore them: {unknown:?}",
                file.display()
            );
        }
    }
}

#[test]
fn keys_that_are_wrong_or_moved_are_found() {
    // Loki's schema is at loki.schemaConfig; Tempo 3's keys are not in this chart; Grafana's are `datasources`.
    for (release, values, wrong) in [
        (
            "loki",
            r#"{"loki": {"storage": {"schema_config": {}}}}"#,
            "loki.storage.schema_config",
        ),
        (
            "tempo",
            r#"{"tempo": {"liveStore": {}}}"#,
            "tempo.liveStore",
        ),
        ("grafana", r#"{"datasource": {}}"#, "datasource"),
        (
            "prometheus",
            r#"{"server": {"extraFlag": []}}"#,
            "server.extraFlag",
        ),
        ("minio", r#"{"rootpassword": "x"}"#, "rootpassword"),
        (
            "alloy",
            r#"{"alloy": {"configMap": {"contents": ""}}}"#,
            "alloy.configMap.contents",
        ),
    ] {
        let values: Value = serde_json::from_str(values).unwrap();
        assert_eq!(Keys::of(release).unknown(&values), [wrong], "{release}");
    }
}

#[test]
fn facts_are_of_the_versions_that_are_installed() {
    for release in yaml(dir().join("versions.yaml"))["releases"]
        .as_array()
        .unwrap()
    {
        if release["repository"] == "./charts" {
            continue;
        }
        let (chart, version) = (
            release["chart"].as_str().unwrap(),
            release["version"].as_str().unwrap(),
        );
        let file = facts().join(format!("{}.keys", release["name"].as_str().unwrap()));
        let head = text(&file).lines().next().unwrap().to_owned();
        assert!(
            head.starts_with(&format!("# {chart} {version}:")),
            "{}: {head}",
            name_of(&file)
        );
    }
}

/// Services and their ports, as rendered from all charts.
pub(crate) fn services() -> BTreeMap<String, Vec<u16>> {
    let lines = text(facts().join("services.txt"));
    let read = |line: &str| {
        let mut words = line.split(' ');
        let name = words.next().unwrap().to_owned();
        (name, words.map(|port| port.parse().unwrap()).collect())
    };
    lines.lines().map(read).collect()
}

#[test]
fn a_values_file_belongs_to_every_release_and_none_is_left_over() {
    let mut known: BTreeSet<String> = third_party().into_keys().collect();
    // Laid aside with a reason, and not installed.
    known.insert("promtail".into());
    // Of our own charts.
    known.insert("harness".into());
    for file in crate::files("values", ".yaml") {
        let name = name_of(Path::new(&file))
            .trim_end_matches(".yaml")
            .to_owned();
        assert!(known.remove(&name), "values/{name}.yaml is for no release");
    }
    assert!(known.is_empty(), "no values for {known:?}");
}
