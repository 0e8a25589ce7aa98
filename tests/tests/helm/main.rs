//! `helm-config/`: values against facts kept of the charts they are for, references against what they refer to, own
//! charts against their schemas and golden renders, and install.sh against programs that only take notes.
//!
//! `helm-config/check` renders everything by real helm and asks more; it needs Python packages and the network. These
//! tests need neither. Where helm is installed the golden renders are compared with what it makes.

mod charts;
mod examples;
mod facts;
mod install;
mod references;
mod values;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// `helm-config/`.
fn dir() -> PathBuf {
    harness_tests::root().join("helm-config")
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A YAML file of one document. Two equal keys in one mapping are an error here, where helm takes the last.
fn yaml(path: impl AsRef<Path>) -> Value {
    let path = path.as_ref();
    serde_saphyr::from_str(&text(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files of a directory below `helm-config/` with this ending, sorted.
fn files(below: &str, ending: &str) -> Vec<PathBuf> {
    let at = dir().join(below);
    let entries =
        std::fs::read_dir(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|file| file.is_file() && file.to_string_lossy().ends_with(ending));
    found.sort();
    assert!(!found.is_empty(), "{} holds no *{ending}", at.display());
    found
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Calls `see` with the path and value of every member, maps and lists before what they hold.
fn walk(value: &Value, path: &mut Vec<String>, see: &mut dyn FnMut(&[String], &Value)) {
    see(path, value);
    let members: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, inner)| (key.clone(), inner))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(at, inner)| (at.to_string(), inner))
            .collect(),
        _ => return,
    };
    for (key, inner) in members {
        path.push(key);
        walk(inner, path, see);
        path.pop();
    }
}

/// Every string at a key of this name, at any depth.
fn strings_at(value: &Value, key: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(value, &mut Vec::new(), &mut |path, inner| {
        if path.last().is_some_and(|last| last == key)
            && let Some(text) = inner.as_str()
        {
            found.push(text.to_owned());
        }
    });
    found
}
