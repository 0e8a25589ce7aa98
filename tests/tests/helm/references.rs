//! What one file names, another must have.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::facts::services;
use crate::{dir, files, name_of, strings_at, text, walk, yaml};

fn data_sources() -> BTreeMap<String, String> {
    let grafana = yaml(dir().join("values/grafana.yaml"));
    let list = &grafana["datasources"]["datasources.yaml"]["datasources"];
    let of = |source: &Value| {
        let field = |name: &str| source[name].as_str().unwrap().to_owned();
        (field("uid"), field("type"))
    };
    list.as_array().unwrap().iter().map(of).collect()
}

fn dashboards() -> Vec<(String, Value)> {
    let read = |file: std::path::PathBuf| {
        let value = serde_json::from_str(&text(&file))
            .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        (name_of(&file), value)
    };
    files("charts/stack/dashboards", ".json")
        .into_iter()
        .map(read)
        .collect()
}

#[test]
fn data_sources_are_linked_both_ways_and_to_each_other_only() {
    let known = data_sources();
    let grafana = yaml(dir().join("values/grafana.yaml"));
    let list = grafana["datasources"]["datasources.yaml"]["datasources"]
        .as_array()
        .unwrap();
    let mut links = BTreeSet::new();
    for source in list {
        let from = source["uid"].as_str().unwrap();
        for to in ["datasourceUid", "targetUID"]
            .iter()
            .flat_map(|key| strings_at(source, key))
        {
            assert!(
                known.contains_key(&to),
                "{from} refers to {to}, which is no data source"
            );
            links.insert((from.to_owned(), to));
        }
    }
    for one in known.keys() {
        for other in known.keys().filter(|other| *other != one) {
            assert!(
                links.contains(&(one.clone(), other.clone())),
                "no link from {one} to {other}"
            );
        }
    }
}

#[test]
fn dashboards_name_data_sources_that_there_are() {
    let known = data_sources();
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards() {
        assert!(
            uids.insert(dashboard["uid"].to_string()),
            "{name}: its uid is another one's too"
        );
        let mut wrong = Vec::new();
        walk(&dashboard, &mut Vec::new(), &mut |path, value| {
            let Some(source) = path
                .last()
                .filter(|last| *last == "datasource")
                .map(|_| value)
            else {
                return;
            };
            let field = |key: &str| source[key].as_str().unwrap_or_default();
            let mixed = field("uid") == "-- Mixed --";
            if !mixed && known.get(field("uid")).map(String::as_str) != Some(field("type")) {
                wrong.push(format!("{}: {source}", path.join(".")));
            }
        });
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
        let text = dashboard.to_string();
        assert!(
            !text.contains("${DS_"),
            "{name}: provisioning does not resolve ${{DS_…}}"
        );
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<u64> = panels
            .iter()
            .map(|panel| panel["id"].as_u64().unwrap())
            .collect();
        assert_eq!(ids.len(), panels.len(), "{name}: two panels have one id");
    }
}

#[test]
fn dashboards_are_mounted_where_grafana_looks() {
    let grafana = yaml(dir().join("values/grafana.yaml"));
    let maps = grafana["dashboardsConfigMaps"].as_object().unwrap();
    let template = text(dir().join("charts/stack/templates/dashboards.yaml"));
    let paths = strings_at(&grafana["dashboardProviders"], "path");
    assert_eq!(maps.len(), paths.len());
    for (provider, config_map) in maps {
        let name = config_map.as_str().unwrap();
        assert!(
            template.contains(&format!("\n  name: {name}\n")),
            "charts/stack makes no ConfigMap {name}"
        );
        assert!(
            paths.contains(&format!("/var/lib/grafana/dashboards/{provider}")),
            "{paths:?}"
        );
    }
}

/// Runs of `$` in a text that are not pairs.
fn single_dollars(text: &str) -> usize {
    text.split(|c| c != '$')
        .filter(|run| run.len() % 2 == 1)
        .count()
}

#[test]
fn dollars_are_doubled_where_grafana_expands_them() {
    assert_eq!(
        (
            single_dollars("$${__value.raw} $$x"),
            single_dollars("${__value.raw}")
        ),
        (0, 1)
    );
    let grafana = yaml(dir().join("values/grafana.yaml"));
    let mut dollars = 0;
    for part in ["datasources", "dashboardProviders"] {
        walk(&grafana[part], &mut Vec::new(), &mut |path, value| {
            let text = value.as_str().unwrap_or_default();
            assert_eq!(single_dollars(text), 0, "{}: {text}", path.join("."));
            dollars += text.matches("$$").count();
        });
    }
    assert!(dollars > 5, "the links use variables");
    // Dashboards are not expanded.
    for (name, dashboard) in dashboards() {
        assert!(!dashboard.to_string().contains("$$"), "{name}");
    }
}

/// Addresses within a text: `http://HOST[:PORT]`, and `HOST:PORT` after `endpoint`.
fn addresses(text: &str) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with(['#', '/']))
    {
        let mut rest = line;
        while let Some(at) = rest.find("://") {
            let scheme = rest[..at]
                .rsplit(|c: char| !c.is_ascii_alphabetic())
                .next()
                .unwrap_or_default();
            rest = &rest[at + 3..];
            let host: String = rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || "-.:".contains(*c))
                .collect();
            if scheme == "http" || scheme == "https" {
                found.extend(parted(&host, if scheme == "http" { 80 } else { 443 }));
            }
        }
        if let Some((_, value)) = line.split_once("endpoint") {
            let value = value.trim_start_matches([' ', ':', '=', '"']);
            let host: String = value
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || "-.:".contains(*c))
                .collect();
            if host.contains(':') && !host.starts_with("http") {
                found.extend(parted(&host, 0));
            }
        }
    }
    found
}

fn parted(host: &str, default: u16) -> Option<(String, u16)> {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, port.parse().ok()?),
        None => (host, default),
    };
    // Listening addresses, and names outside of the cluster.
    let inside = name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains('.');
    inside.then(|| (name.to_owned(), port))
}

#[test]
fn every_address_is_a_service_with_that_port() {
    let known = services();
    let mut seen = 0;
    let charts = ["harness", "target-service"]
        .map(|chart| dir().join(format!("charts/{chart}/values.yaml")));
    for file in files("values", ".yaml").into_iter().chain(charts) {
        for (host, port) in addresses(&text(&file)) {
            let ports = known
                .get(&host)
                .unwrap_or_else(|| panic!("{}: no Service {host}", file.display()));
            assert!(
                ports.contains(&port),
                "{}: {host}:{port}, the Service has {ports:?}",
                file.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 15, "only {seen} addresses were found");
    assert_eq!(
        addresses("url: http://tempo:3100\n  endpoint: minio:9000"),
        [("tempo".into(), 3100), ("minio".into(), 9000)]
    );
    assert!(
        !known["tempo"].contains(&3100),
        "Tempo's port moved to 3200"
    );
}

#[test]
fn secrets_that_are_named_are_made_with_those_keys() {
    let made = crate::install::made_secrets();
    let mut named: Vec<(String, String)> = Vec::new();
    for file in files("values", ".yaml") {
        walk(&yaml(&file), &mut Vec::new(), &mut |path, value| {
            if path.last().is_some_and(|last| last == "secretKeyRef") {
                named.push((
                    value["name"].as_str().unwrap().into(),
                    value["key"].as_str().unwrap().into(),
                ));
            }
            if let (Some(secret), Some(key)) = (
                value["existingSecret"].as_str(),
                value["existingSecretKey"].as_str(),
            ) {
                named.push((secret.into(), key.into()));
            }
        });
    }
    let distributed = &yaml(dir().join("values/harness.yaml"))["distributed"];
    let results = distributed["secret"].as_str().unwrap();
    named
        .extend(["accessKeyId", "secretAccessKey"].map(|key| (results.to_owned(), key.to_owned())));
    let minio = yaml(dir().join("values/minio.yaml"));
    let root = minio["existingSecret"].as_str().unwrap();
    named.extend(["rootUser", "rootPassword"].map(|key| (root.to_owned(), key.to_owned())));
    let admin = &yaml(dir().join("values/grafana.yaml"))["admin"];
    let admin_secret = admin["existingSecret"].as_str().unwrap();
    named.extend(["userKey", "passwordKey"].map(|key| {
        (
            admin_secret.to_owned(),
            admin[key].as_str().unwrap().to_owned(),
        )
    }));
    for (secret, key) in &named {
        let keys = made
            .get(secret)
            .unwrap_or_else(|| panic!("install.sh makes no secret {secret}"));
        assert!(
            keys.contains(key),
            "secret {secret} has {keys:?}, not {key}"
        );
    }
    let used: BTreeSet<&String> = named.iter().map(|(secret, _)| secret).collect();
    assert_eq!(
        used,
        made.keys().collect(),
        "secrets that are made are used"
    );
    // MinIO's users are the access keys that install.sh writes.
    let script = text(dir().join("install.sh"));
    for user in minio["users"].as_array().unwrap() {
        let (name, secret) = (
            user["accessKey"].as_str().unwrap(),
            user["existingSecret"].as_str().unwrap(),
        );
        assert!(
            script.contains(&format!("secret {secret} accessKeyId={name} ")),
            "{secret}: {name}"
        );
    }
}

#[test]
fn buckets_that_are_used_are_created_and_only_their_users_reach_them() {
    let minio = yaml(dir().join("values/minio.yaml"));
    let created: BTreeSet<String> = strings_at(&minio["buckets"], "name").into_iter().collect();
    let loki = yaml(dir().join("values/loki.yaml"));
    let tempo = yaml(dir().join("values/tempo.yaml"));
    let chunks = loki["loki"]["storage"]["bucketNames"].as_object().unwrap();
    let mut used: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    used.insert(
        "loki",
        chunks
            .values()
            .map(|bucket| bucket.as_str().unwrap())
            .collect(),
    );
    used.insert(
        "tempo",
        vec![
            tempo["tempo"]["storage"]["trace"]["s3"]["bucket"]
                .as_str()
                .unwrap(),
        ],
    );
    let harness = yaml(dir().join("values/harness.yaml"));
    let results = harness["distributed"]["results"].as_str().unwrap();
    let bucket = results
        .strip_prefix("s3://")
        .and_then(|rest| rest.split('/').next());
    used.insert("harness", vec![bucket.unwrap()]);
    for user in minio["users"].as_array().unwrap() {
        let buckets = used
            .remove(user["accessKey"].as_str().unwrap())
            .expect("a user is a consumer");
        let policies = minio["policies"].as_array().unwrap();
        let policy = policies
            .iter()
            .find(|policy| policy["name"] == user["policy"])
            .expect("a user's policy");
        let allowed = policy["statements"].to_string();
        for bucket in &created {
            let granted = allowed.contains(&format!("arn:aws:s3:::{bucket}\""))
                && allowed.contains(&format!("arn:aws:s3:::{bucket}/*\""));
            assert_eq!(
                granted,
                buckets.contains(&bucket.as_str()),
                "{} and {bucket}",
                user["accessKey"]
            );
        }
        assert!(
            buckets.iter().all(|bucket| created.contains(*bucket)),
            "{buckets:?} of {created:?}"
        );
    }
    assert!(used.is_empty(), "no user for {used:?}");
}

#[test]
fn whoever_writes_to_prometheus_finds_the_endpoint_switched_on() {
    let prometheus = yaml(dir().join("values/prometheus.yaml"));
    let flags: Vec<&str> = prometheus["server"]["extraFlags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f.as_str().unwrap())
        .collect();
    let all: String = files("values", ".yaml").iter().map(text).collect();
    for (path, flag) in [
        ("/api/v1/write", "web.enable-remote-write-receiver"),
        ("/api/v1/otlp", "web.enable-otlp-receiver"),
    ] {
        assert!(all.contains(path), "nobody writes to {path}");
        assert!(flags.contains(&flag), "{path} is written to without {flag}");
    }
}

#[test]
fn versions_in_the_docs_are_those_installed() {
    let readme = text(dir().join("README.md"));
    for release in yaml(dir().join("versions.yaml"))["releases"]
        .as_array()
        .unwrap()
    {
        let field = |key: &str| release[key].as_str().unwrap();
        let row = format!(
            "| {} | {} | {} | {} |",
            field("name"),
            field("chart"),
            field("version"),
            field("appVersion")
        );
        assert!(readme.contains(&row), "README.md has no row {row}");
        if field("repository") == "./charts" {
            let chart = yaml(dir().join(format!("charts/{}/Chart.yaml", field("chart"))));
            assert_eq!(
                (chart["version"].as_str(), chart["appVersion"].as_str()),
                (Some(field("version")), Some(field("appVersion")))
            );
            assert_eq!(
                field("appVersion"),
                env!("CARGO_PKG_VERSION"),
                "the programs' own version"
            );
        }
    }
    let minio = yaml(dir().join("values/minio.yaml"));
    let releases = yaml(dir().join("versions.yaml"));
    let named = releases["releases"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "minio")
        .unwrap();
    assert_eq!(minio["image"]["tag"], named["appVersion"]);
}
