//! Trains the small encoder: cross-entropy, AdamW, warm-up and linear decay, batches of documents of
//! similar length, some words hidden and some activations dropped.

mod network;
mod pieces;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use candle_nn::{AdamW, Optimizer, ParamsAdamW, loss};
use clap::Args;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use target_service::model;

use crate::Common;
use crate::corpus::{Corpus, id2label};
use network::{Batch, Network};
use pieces::{FIRST_PIECE, MASK, Pieces, UNK};

/// What LayerNorm adds to the variance.
pub(crate) const EPSILON: f64 = 1e-12;

/// What can be chosen about the encoder. The defaults are the recipe of the committed weights.
#[derive(Args, Clone, Copy)]
pub(crate) struct Recipe {
    /// Word pieces in the vocabulary.
    #[arg(long, default_value_t = 6000)]
    pieces: usize,
    /// Width of a token's vector.
    #[arg(long, default_value_t = 128)]
    hidden: usize,
    /// Width of the feed-forward layers.
    #[arg(long, default_value_t = 256)]
    feed_forward: usize,
    #[arg(long, default_value_t = 2)]
    layers: usize,
    #[arg(long, default_value_t = 2)]
    heads: usize,
    /// Tokens of a document, the first and last special ones included; the rest is not read.
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    #[arg(long, default_value_t = 4)]
    epochs: usize,
    #[arg(long, default_value_t = 32)]
    batch: usize,
    #[arg(long, default_value_t = 1e-3)]
    rate: f64,
    /// Share of activations dropped.
    #[arg(long, default_value_t = 0.1)]
    dropout: f32,
    /// Share of tokens hidden.
    #[arg(long, default_value_t = 0.15)]
    hide: f32,
}

/// Tokens and label of a document.
type Example = (Vec<u32>, u32);

pub(crate) fn train(options: &Common, recipe: Recipe) -> Result<()> {
    let corpus = Corpus::read(options)?;
    let pieces = Pieces::choose(
        &options.minilm,
        &corpus.train,
        recipe.pieces,
        recipe.max_tokens,
    )?;
    let words = pieces.embeddings(&options.minilm, recipe.hidden, 0.05)?;
    let examples: Vec<Example> = corpus
        .train
        .iter()
        .map(|d| Ok((pieces.encode(&d.text)?, d.label)))
        .collect::<Result<_>>()?;
    let tokens: usize = examples.iter().map(|(ids, _)| ids.len()).sum();
    let unknown = examples
        .iter()
        .flat_map(|(ids, _)| ids)
        .filter(|id| **id == UNK)
        .count();
    eprintln!(
        "{} pieces, {tokens} tokens, {unknown} unknown",
        pieces.len()
    );
    let network = fit(recipe, &words, &examples, options.seed)?;
    write(options, recipe, &pieces, &network)?;
    crate::corpus::judge(&model::load(&options.out)?, &corpus)
}

fn fit(recipe: Recipe, words: &Tensor, examples: &[Example], seed: u64) -> Result<Network> {
    let network = Network::new(recipe, words, seed)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    let mut dropping = Some(ChaCha8Rng::seed_from_u64(seed ^ 0xd409));
    let params = |weight_decay| ParamsAdamW {
        beta2: 0.99,
        weight_decay,
        ..ParamsAdamW::default()
    };
    let mut optimizers = [
        AdamW::new(network.matrices(), params(0.01))?,
        AdamW::new(network.vectors(), params(0.0))?,
    ];
    let steps = recipe.epochs * examples.len().div_ceil(recipe.batch);
    let warm_up = steps / 10;
    let mut step = 0;
    let started = std::time::Instant::now();
    for epoch in 0..recipe.epochs {
        let mut sum = 0.0;
        let batches = shuffled(examples, recipe.batch, &mut rng);
        for chosen in &batches {
            let batch = padded(chosen, recipe.hide, &mut rng)?;
            let logits = network.forward(&batch, &mut dropping)?;
            let missed = loss::cross_entropy(&logits, &batch.labels)?;
            let gradients = missed.backward()?;
            if step == 0 {
                network.every_weight_learns(&gradients)?;
            }
            let rate = if step < warm_up {
                (step + 1) as f64 / warm_up as f64
            } else {
                (steps - step) as f64 / (steps - warm_up) as f64
            };
            for optimizer in &mut optimizers {
                optimizer.set_learning_rate(recipe.rate * rate);
                optimizer.step(&gradients)?;
            }
            sum += missed.to_scalar::<f32>()?;
            step += 1;
        }
        eprintln!(
            "epoch {epoch}: loss {:.4}, {:.0} s",
            sum / batches.len() as f32,
            started.elapsed().as_secs_f64()
        );
    }
    Ok(network)
}

/// Batches of documents of similar length, in random order: lengths are blurred before sorting, so
/// that the company a document is in changes from epoch to epoch.
fn shuffled<'a>(
    examples: &'a [Example],
    size: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<Vec<&'a Example>> {
    let mut keyed: Vec<(f32, &Example)> = examples
        .iter()
        .map(|e| (e.0.len() as f32 * (0.9 + 0.2 * rng.random::<f32>()), e))
        .collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut batches: Vec<Vec<&Example>> = keyed
        .chunks(size)
        .map(|chunk| chunk.iter().map(|(_, e)| *e).collect())
        .collect();
    batches.shuffle(rng);
    batches
}

fn padded(examples: &[&Example], hide: f32, rng: &mut ChaCha8Rng) -> Result<Batch> {
    let longest = examples.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
    let (mut ids, mut real, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for (tokens, label) in examples {
        ids.extend(tokens.iter().map(|id| {
            let hidden = *id >= FIRST_PIECE && rng.random::<f32>() < hide;
            if hidden { MASK } else { *id }
        }));
        real.extend(tokens.iter().map(|_| 1f32));
        let padding = longest - tokens.len();
        ids.extend(std::iter::repeat_n(0, padding));
        real.extend(std::iter::repeat_n(0f32, padding));
        labels.push(*label);
    }
    let shape = (examples.len(), longest);
    Ok(Batch {
        ids: Tensor::from_vec(ids, shape, &Device::Cpu)?,
        real: Tensor::from_vec(real, shape, &Device::Cpu)?,
        labels: Tensor::from_vec(labels, examples.len(), &Device::Cpu)?,
    })
}

fn write(options: &Common, recipe: Recipe, pieces: &Pieces, network: &Network) -> Result<()> {
    let dir = &options.out;
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    candle_core::safetensors::save(&network.stored()?, dir.join("model.safetensors"))?;
    std::fs::write(dir.join("tokenizer.json"), &pieces.json)?;
    let config = serde_json::json!({
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": pieces.len(),
        "hidden_size": recipe.hidden,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "intermediate_size": recipe.feed_forward,
        "max_position_embeddings": recipe.max_tokens,
        "type_vocab_size": 1,
        "hidden_act": "gelu",
        "layer_norm_eps": EPSILON,
        "position_embedding_type": "absolute",
        "classifier_pooling": "mean",
        "torch_dtype": "float16",
        "id2label": id2label(),
    });
    std::fs::write(
        dir.join("config.json"),
        serde_json::to_string_pretty(&config)? + "\n",
    )?;
    Ok(())
}
