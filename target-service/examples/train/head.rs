//! A linear head over an embedder's frozen vectors: softmax regression, trained on all documents at once.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use clap::Args;
use serde_json::Value;
use target_service::model::LoadedModel;

use crate::Common;
use crate::corpus::{Corpus, Document, LABELS, id2label, judge};

/// Steps of full batches; the loss stands still well before.
const STEPS: usize = 1500;
const RATE: f64 = 0.05;

#[derive(Args)]
pub(crate) struct Recipe {
    /// How much of the weights a step takes away, in rates; of a few tried this was best on the validation
    /// documents.
    #[arg(long, default_value_t = 0.25)]
    decay: f64,
}

/// Trains on the embeddings of the model in `--minilm`, and writes `head.safetensors` and `config.json` into
/// `--out`: beside the embedder's other files they make it a classifier.
pub(crate) fn train(options: &Common, recipe: &Recipe) -> Result<()> {
    let corpus = Corpus::read(options)?;
    let embedder = target_service::model::load(&options.minilm)?;
    ensure!(
        embedder.info.labels.is_empty(),
        "{} is no embedder",
        options.minilm.display()
    );
    let width = embedder.info.dimensions;
    let vectors = embed(&embedder, &corpus.train)?;
    let count = corpus.train.len();
    let vectors = Tensor::from_vec(vectors, (count, width), &Device::Cpu)?;
    let labels: Vec<u32> = corpus.train.iter().map(|document| document.label).collect();
    let labels = Tensor::from_vec(labels, count, &Device::Cpu)?;
    let weight = Var::zeros((LABELS.len(), width), DType::F32, &Device::Cpu)?;
    let bias = Var::zeros(LABELS.len(), DType::F32, &Device::Cpu)?;
    let mut steps = AdamW::new(
        vec![weight.clone(), bias.clone()],
        ParamsAdamW {
            lr: RATE,
            weight_decay: recipe.decay,
            ..ParamsAdamW::default()
        },
    )?;
    for step in 0..STEPS {
        let logits = vectors.matmul(&weight.t()?)?.broadcast_add(&bias)?;
        let loss = candle_nn::loss::cross_entropy(&logits, &labels)?;
        steps.backward_step(&loss)?;
        if step % 500 == 0 {
            eprintln!("step {step}: loss {}", loss.to_scalar::<f32>()?);
        }
    }
    let head = HashMap::from([
        ("classifier.weight", weight.as_tensor().clone()),
        ("classifier.bias", bias.as_tensor().clone()),
    ]);
    std::fs::create_dir_all(&options.out)?;
    candle_core::safetensors::save(&head, options.out.join("head.safetensors"))?;
    let path = options.minilm.join("config.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut config: Value = serde_json::from_str(&text)?;
    config["architectures"] = Value::from(vec!["BertForSequenceClassification"]);
    config["classifier_pooling"] = "mean".into();
    config["classifier_input"] = "embedding".into();
    config["id2label"] = id2label();
    let written = serde_json::to_string_pretty(&config)? + "\n";
    std::fs::write(options.out.join("config.json"), written)?;
    // As it is served: the embedder's files with those two in place.
    let whole = tempfile::tempdir()?;
    let of_embedder = [
        "model.safetensors",
        "tokenizer.json",
        "sentence_bert_config.json",
    ];
    let parts = of_embedder.map(|file| (&options.minilm, file));
    let own = ["head.safetensors", "config.json"].map(|file| (&options.out, file));
    for (from, file) in parts.into_iter().chain(own) {
        std::fs::copy(from.join(file), whole.path().join(file))
            .with_context(|| from.join(file).display().to_string())?;
    }
    judge(&target_service::model::load(whole.path())?, &corpus)
}

fn embed(model: &LoadedModel, documents: &[Document]) -> Result<Vec<f32>> {
    let preprocess = model.preprocess();
    let mut engine = model.engine(1);
    let mut all = Vec::new();
    for document in documents {
        let encoded = preprocess.encode(&document.text)?;
        all.extend(engine.infer(&[&encoded]).remove(0)?.embedding);
    }
    Ok(all)
}
