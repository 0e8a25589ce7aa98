//! The published schema of SLO files is current, and the shipped files are valid by it.

// The core does no IO; these tests of it read the repository's files.
#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};

use serde_json::Value;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The documents of a file, as JSON.
fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}")))
        .collect()
}

#[test]
fn the_published_schema_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/slo.schema.json");
    let mut text = serde_json::to_string_pretty(&harness_core::objective::schema()).unwrap();
    text.push('\n');
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        published == text,
        "schemas/slo.schema.json is not current: run this test with UPDATE_SCHEMA=1"
    );
}

#[test]
fn the_shipped_objectives_are_valid_and_mistakes_are_not() {
    let schema = jsonschema::validator_for(&harness_core::objective::schema()).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(repository().join("slo")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        for document in documents(&std::fs::read_to_string(&path).unwrap()) {
            let wrong: Vec<String> = schema
                .iter_errors(&document)
                .map(|e| e.to_string())
                .collect();
            assert_eq!(wrong, [""; 0], "{}: {document}", path.display());
            seen += 1;
            // The schema says something: each of these is wrong in one place.
            for (pointer, value) in [
                ("/spec/budgetingMethod", "Sometimes".into()),
                ("/apiVersion", "openslo/v2".into()),
                ("/metadata/annotations/harness~1gate", "perhaps".into()),
                ("/spec/objectives/0/target", 1.into()),
                ("/spec/indicator/spec", serde_json::json!({})),
            ] {
                let mut spoilt: Value = document.clone();
                *spoilt.pointer_mut(pointer).unwrap() = value;
                assert!(!schema.is_valid(&spoilt), "{pointer} of {}", path.display());
            }
            let mut spoilt = document.clone();
            spoilt["metadata"]["annotations"]["harness/gtae"] = "required".into();
            assert!(!schema.is_valid(&spoilt), "an unknown annotation");
            spoilt = document.clone();
            spoilt["metadata"]["annotations"]["example.com/owner"] = "us".into();
            assert!(schema.is_valid(&spoilt), "an annotation of others");
        }
    }
    assert!(seen > 5, "{seen} documents");
}
