//! all-MiniLM-L6-v2 against ONNX Runtime's embeddings of the same texts, which lie in
//! `models/minilm-reference.jsonl`. The weights are fetched (`models/fetch-minilm.sh`), not committed.

use std::path::{Path, PathBuf};

use target_service::model::{self, Device, Encoded};

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
    embeddings_on(&Device::Cpu, &[1, 2]);
}

/// As `--device cuda` has it, on the processor.
#[test]
fn embeddings_by_candles_operators_are_those_of_onnx_runtime() {
    embeddings_on(&Device::Candle(candle_core::Device::Cpu), &[1]);
}

fn embeddings_on(device: &Device, threads: &[usize]) {
    let Some(directory) = directory() else { return };
    let model = model::load_on(&directory, device).unwrap();
    assert_eq!((model.info.dimensions, model.info.max_tokens), (384, 256));
    let references = references();
    let documents: Vec<Encoded> = references
        .iter()
        .map(|r| model.preprocess().encode(&r.text).unwrap())
        .collect();
    for threads in threads {
        let mut engine = model.engine(*threads);
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

/// Copies the files of the model that its `SHA256SUMS` lists, and returns that list.
fn copy(from: &Path, to: &Path) -> String {
    std::fs::create_dir(to.join("1_Pooling")).unwrap();
    let list = std::fs::read_to_string(from.join("SHA256SUMS")).unwrap();
    for line in list.lines() {
        let name = line.split_whitespace().nth(1).unwrap();
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
    list
}

/// With the committed head it labels as that head does what ONNX Runtime embeds.
#[test]
fn with_its_head_it_labels_the_embeddings_of_onnx_runtime() {
    let Some(directory) = directory() else { return };
    let whole = tempfile::tempdir().unwrap();
    copy(&directory, whole.path());
    let head = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/minilm-head");
    for file in ["config.json", "head.safetensors"] {
        std::fs::copy(head.join(file), whole.path().join(file)).unwrap();
    }
    let weights =
        candle_core::safetensors::load(head.join("head.safetensors"), &candle_core::Device::Cpu)
            .unwrap();
    let rows: Vec<Vec<f32>> = weights["classifier.weight"].to_vec2().unwrap();
    let bias: Vec<f32> = weights["classifier.bias"].to_vec1().unwrap();
    let model = model::load(whole.path()).unwrap();
    assert_eq!(model.info.labels.len(), rows.len());
    let mut engine = model.engine(1);
    for reference in references() {
        let document = model.preprocess().encode(&reference.text).unwrap();
        let answer = engine.infer(&[&document]).remove(0).unwrap();
        let logits = rows.iter().zip(&bias).map(|(row, bias)| {
            let pairs = row.iter().zip(&reference.embedding);
            (pairs.map(|(w, v)| f64::from(*w) * v).sum::<f64>() + f64::from(*bias)).exp()
        });
        let logits: Vec<f64> = logits.collect();
        let sum: f64 = logits.iter().sum();
        for (score, logit) in answer.scores.iter().zip(&logits) {
            let off = (f64::from(*score) - logit / sum).abs();
            assert!(off < 1e-4, "{}: off by {off}", reference.text);
        }
    }
    let sports = "the goalie made a save in overtime and the puck went wide of the net";
    let document = model.preprocess().encode(sports).unwrap();
    let answer = engine.infer(&[&document]).remove(0).unwrap();
    assert_eq!(model.info.labels[answer.best()], "rec.sport.hockey");
}

#[test]
fn a_changed_file_is_named() {
    let Some(directory) = directory() else { return };
    let whole = tempfile::tempdir().unwrap();
    let list = copy(&directory, whole.path());
    std::fs::write(whole.path().join("SHA256SUMS"), &list).unwrap();
    model::load(whole.path()).unwrap();
    let path = whole.path().join("config.json");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("1e-12", "1e-5")).unwrap();
    let error = model::load(whole.path()).unwrap_err().to_string();
    assert!(
        error.contains("config.json") && error.contains("SHA-256"),
        "{error}"
    );
}
