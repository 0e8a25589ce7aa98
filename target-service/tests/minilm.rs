//! all-MiniLM-L6-v2 against ONNX Runtime's embeddings of the same texts, which lie in
//! `models/minilm-reference.jsonl`. The weights are fetched (`models/fetch-minilm.sh`), not committed.

use std::path::PathBuf;

use target_service::model::{self, Encoded};

/// Where the model is, or `None` with a word about it.
fn directory() -> Option<PathBuf> {
    let models = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models");
    let given = std::env::var_os("TARGET_SERVICE_MINILM").map(PathBuf::from);
    let directory = given.unwrap_or_else(|| models.join("all-MiniLM-L6-v2"));
    if directory.join("model.safetensors").exists() {
        return Some(directory);
    }
    eprintln!(
        "SKIPPED: {} is not there; bash target-service/models/fetch-minilm.sh {} fetches it",
        directory.display(),
        models.join("all-MiniLM-L6-v2").display()
    );
    None
}

struct Reference {
    text: String,
    tokens: usize,
    embedding: Vec<f64>,
}

fn references() -> Vec<Reference> {
    include_str!("../models/minilm-reference.jsonl")
        .lines()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let numbers = row["embedding"].as_array().unwrap();
            Reference {
                text: row["text"].as_str().unwrap().to_owned(),
                tokens: usize::try_from(row["tokens"].as_u64().unwrap()).unwrap(),
                embedding: numbers.iter().map(|v| v.as_f64().unwrap()).collect(),
            }
        })
        .collect()
}

#[test]
fn embeddings_are_those_of_onnx_runtime_alone_and_in_a_batch() {
    let Some(directory) = directory() else { return };
    let model = model::load(&directory).unwrap();
    assert_eq!((model.info.dimensions, model.info.max_tokens), (384, 256));
    let references = references();
    let documents: Vec<Encoded> = references
        .iter()
        .map(|r| model.preprocess().encode(&r.text).unwrap())
        .collect();
    for threads in [1, 2] {
        let mut engine = model.engine(threads);
        let together = engine.infer(&documents.iter().collect::<Vec<_>>());
        for ((reference, document), batched) in references.iter().zip(&documents).zip(together) {
            assert_eq!(document.ids.len(), reference.tokens, "{}", reference.text);
            let alone = engine.infer(&[document]).remove(0).unwrap();
            for embedding in [alone.embedding, batched.unwrap().embedding] {
                let pairs = embedding.iter().zip(&reference.embedding);
                let cosine: f64 = pairs.clone().map(|(a, b)| f64::from(*a) * b).sum();
                let worst = pairs
                    .map(|(a, b)| (f64::from(*a) - b).abs())
                    .fold(0.0, f64::max);
                assert!(
                    cosine >= 0.999_999 && worst < 1e-5,
                    "{}: cosine {cosine}, off by {worst}",
                    reference.text
                );
            }
        }
    }
}

#[test]
fn a_changed_file_is_named() {
    let Some(directory) = directory() else { return };
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("1_Pooling")).unwrap();
    let list = std::fs::read_to_string(directory.join("SHA256SUMS")).unwrap();
    for name in list
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
    {
        std::fs::copy(directory.join(name), copy.path().join(name)).unwrap();
    }
    std::fs::write(copy.path().join("SHA256SUMS"), &list).unwrap();
    model::load(copy.path()).unwrap();
    let path = copy.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("1e-12", "1e-5")).unwrap();
    let error = model::load(copy.path()).unwrap_err().to_string();
    assert!(
        error.contains("config.json") && error.contains("SHA-256"),
        "{error}"
    );
}
