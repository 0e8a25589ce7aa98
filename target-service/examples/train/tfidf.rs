//! Trains the weighted-words model: logistic regression on all documents at once, by AdamW.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss};
use target_service::model::tfidf::{Vectorizer, words};
use target_service::model::{self, Encoded, Preprocess};

use crate::Common;
use crate::corpus::{Corpus, Document, LABELS, id2label};
use crate::vocabulary;

const STEPS: usize = 150;
const RATE: f64 = 0.1;
/// What keeps the weights small; chosen by accuracy on the validation documents.
const DECAY: f64 = 5e-5;
const AT_MOST: usize = 20_000;

pub(crate) fn train(options: &Common) -> Result<()> {
    let corpus = Corpus::read(options)?;
    let (vocabulary, idf) = choose_words(&corpus.train, &vocabulary::allowed(&options.minilm)?);
    eprintln!("{} words", vocabulary.len());
    let vectorizer = Vectorizer::new(vocabulary.iter().map(String::as_str), idf.clone())
        .map_err(anyhow::Error::msg)?;
    let (weight, bias) = fit(&vectorizer, &corpus.train)?;

    let dir = &options.out;
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let tensors = HashMap::from([
        (
            "idf",
            Tensor::from_vec(idf, vocabulary.len(), &Device::Cpu)?,
        ),
        ("linear.weight", weight.to_dtype(DType::F16)?),
        ("linear.bias", bias),
    ]);
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors"))?;
    let mut text = vocabulary.join("\n");
    text.push('\n');
    std::fs::write(dir.join("vocabulary.txt"), text)?;
    let config = serde_json::json!({
        "model_type": "tfidf-linear",
        "vocab_size": vocabulary.len(),
        "id2label": id2label(),
    });
    std::fs::write(
        dir.join("config.json"),
        serde_json::to_string_pretty(&config)? + "\n",
    )?;
    crate::corpus::judge(&model::load(dir)?, &corpus)
}

/// The allowed words of at least two documents, alphabetically, with their smoothed inverse
/// document frequency `ln((1 + n) / (1 + df)) + 1`.
fn choose_words(documents: &[Document], allowed: &BTreeSet<String>) -> (Vec<String>, Vec<f32>) {
    let mut found = BTreeMap::<String, usize>::new();
    for document in documents {
        let mut seen = BTreeSet::new();
        words(&document.text, |word| {
            if allowed.contains(word) && !seen.contains(word) {
                seen.insert(word.to_owned());
            }
        });
        for word in seen {
            *found.entry(word).or_default() += 1;
        }
    }
    let mut kept: Vec<(String, usize)> = found.into_iter().filter(|(_, df)| *df >= 2).collect();
    kept.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    kept.truncate(AT_MOST);
    kept.sort();
    let n = documents.len() as f32;
    kept.into_iter()
        .map(|(word, df)| (word, ((1.0 + n) / (1.0 + df as f32)).ln() + 1.0))
        .unzip()
}

/// The weights (words × labels) and the bias.
fn fit(vectorizer: &Vectorizer, documents: &[Document]) -> Result<(Tensor, Tensor)> {
    let device = Device::Cpu;
    let mut dense = vec![0f32; documents.len() * vectorizer.len()];
    for (document, row) in documents.iter().zip(dense.chunks_mut(vectorizer.len())) {
        let Encoded { ids, weights } = vectorizer.encode(&document.text)?;
        for (id, weight) in ids.iter().zip(weights) {
            row[*id as usize] = weight;
        }
    }
    let x = Tensor::from_vec(dense, (documents.len(), vectorizer.len()), &device)?;
    let labels: Vec<u32> = documents.iter().map(|d| d.label).collect();
    let y = Tensor::from_vec(labels, documents.len(), &device)?;
    let weight = Var::zeros((vectorizer.len(), LABELS.len()), DType::F32, &device)?;
    let bias = Var::zeros(LABELS.len(), DType::F32, &device)?;
    let params = ParamsAdamW {
        lr: RATE,
        weight_decay: 0.0,
        ..ParamsAdamW::default()
    };
    let mut optimizer = AdamW::new(vec![weight.clone(), bias.clone()], params)?;
    for step in 0..STEPS {
        optimizer.set_learning_rate(RATE * (1.0 - step as f64 / STEPS as f64));
        let logits = x.matmul(&weight)?.broadcast_add(&bias)?;
        let missed = loss::cross_entropy(&logits, &y)?;
        let objective = (&missed + (weight.sqr()?.sum_all()? * DECAY)?)?;
        if step % 25 == 0 {
            eprintln!("step {step}: loss {:.4}", missed.to_scalar::<f32>()?);
        }
        optimizer.backward_step(&objective)?;
    }
    Ok((weight.as_detached_tensor(), bias.as_detached_tensor()))
}
