//! The encoder's vocabulary, tokenizer and first embeddings, all cut out of MiniLM's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::corpus::Document;
use crate::vocabulary;

/// In the order of their ids.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
pub(crate) const UNK: u32 = 1;
pub(crate) const MASK: u32 = 4;
/// Ids from here on are pieces of words.
pub(crate) const FIRST_PIECE: u32 = SPECIAL.len() as u32;

pub(crate) struct Pieces {
    /// The text of `tokenizer.json`.
    pub(crate) json: String,
    pub(crate) tokenizer: Tokenizer,
    /// For each id, the id in MiniLM's vocabulary.
    origin: Vec<u32>,
}

impl Pieces {
    /// The `size` pieces that cut the training documents best: the special ones, all letters (so
    /// that every word can be written), and the most frequent of the rest. Words that no vocabulary
    /// may hold are left out before counting.
    pub(crate) fn choose(
        minilm: &Path,
        documents: &[Document],
        size: usize,
        max_tokens: usize,
    ) -> Result<Self> {
        let path = minilm.join("tokenizer.json");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let whole: Value = serde_json::from_str(&text)?;
        let ids = whole["model"]["vocab"]
            .as_object()
            .ok_or_else(|| anyhow!("{} has no vocabulary", path.display()))?;
        let banned = vocabulary::banned();
        let usable: BTreeSet<&str> = ids
            .keys()
            .map(String::as_str)
            .filter(|piece| {
                let letters = piece.strip_prefix("##").unwrap_or(piece);
                !letters.is_empty()
                    && letters.bytes().all(|b| b.is_ascii_lowercase())
                    && !banned.contains(piece)
            })
            .collect();
        let frequent = count(&whole, &usable, documents)?;

        let letters = ('a'..='z').flat_map(|c| [c.to_string(), format!("##{c}")]);
        let mut chosen: BTreeSet<String> = letters.collect();
        for piece in frequent {
            if SPECIAL.len() + chosen.len() == size {
                break;
            }
            chosen.insert(piece);
        }
        let pieces: Vec<String> = SPECIAL
            .iter()
            .map(|s| (*s).to_owned())
            .chain(chosen)
            .collect();
        let origin = pieces
            .iter()
            .map(|piece| {
                let id = ids.get(piece).and_then(Value::as_u64);
                id.and_then(|id| u32::try_from(id).ok())
                    .ok_or_else(|| anyhow!("{piece:?} is not in MiniLM's vocabulary"))
            })
            .collect::<Result<_>>()?;
        let json = description(&whole, pieces.iter().map(String::as_str), Some(max_tokens))?;
        Ok(Self {
            tokenizer: parse(&json)?,
            json,
            origin,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.origin.len()
    }

    pub(crate) fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(|e| anyhow!("{e}"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// MiniLM's embeddings of these pieces, projected on their `width` principal components and
    /// scaled to the root mean square `scale`.
    pub(crate) fn embeddings(&self, minilm: &Path, width: usize, scale: f64) -> Result<Tensor> {
        let tensors =
            candle_core::safetensors::load(minilm.join("model.safetensors"), &Device::Cpu)?;
        let all = tensors
            .get("embeddings.word_embeddings.weight")
            .ok_or_else(|| anyhow!("MiniLM's weights have no word embeddings"))?;
        let ids = Tensor::new(self.origin.as_slice(), &Device::Cpu)?;
        let x = all.index_select(&ids, 0)?;
        let x = x.broadcast_sub(&x.mean_keepdim(0)?)?;
        let axes = principal_axes(&x.t()?.matmul(&x)?, width)?;
        let projected = x.matmul(&axes)?;
        let rms = f64::from(projected.sqr()?.mean_all()?.to_scalar::<f32>()?).sqrt();
        ensure!(
            rms.is_finite() && rms > 0.0,
            "MiniLM's embeddings are all alike"
        );
        Ok((projected * (scale / rms))?)
    }
}

/// The usable pieces by descending frequency in `documents`, when they are cut with all of them.
fn count(whole: &Value, usable: &BTreeSet<&str>, documents: &[Document]) -> Result<Vec<String>> {
    let pieces = SPECIAL.iter().copied().chain(usable.iter().copied());
    let tokenizer = parse(&description(whole, pieces, None)?)?;
    let mut found = BTreeMap::<String, usize>::new();
    for document in documents {
        let encoding = tokenizer
            .encode(document.text.as_str(), false)
            .map_err(|e| anyhow!("{e}"))?;
        for piece in encoding.get_tokens() {
            *found.entry(piece.clone()).or_default() += 1;
        }
    }
    found.retain(|piece, _| usable.contains(piece.as_str()));
    let mut by_count: Vec<(String, usize)> = found.into_iter().collect();
    by_count.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Ok(by_count.into_iter().map(|(piece, _)| piece).collect())
}

fn parse(json: &str) -> Result<Tokenizer> {
    json.parse().map_err(|e| anyhow!("tokenizer.json: {e}"))
}

/// A `tokenizer.json` like MiniLM's with another vocabulary. Texts are reduced to what the corpus
/// is made of, lowercase letters with single spaces, and cut rather than padded.
fn description<'a>(
    whole: &Value,
    pieces: impl Iterator<Item = &'a str>,
    max_tokens: Option<usize>,
) -> Result<String> {
    let vocab: serde_json::Map<String, Value> = pieces
        .enumerate()
        .map(|(id, piece)| (piece.to_owned(), Value::from(id)))
        .collect();
    let special = |piece: &str| -> Value {
        json!({"id": vocab[piece], "content": piece, "special": true, "single_word": false,
               "lstrip": false, "rstrip": false, "normalized": false})
    };
    let named = |piece: &str| json!({"id": piece, "ids": [vocab[piece]], "tokens": [piece]});
    let mut json = whole.clone();
    json["truncation"] = max_tokens.map_or(Value::Null, |max| {
        json!({"direction": "Right", "max_length": max, "strategy": "LongestFirst", "stride": 0})
    });
    json["padding"] = Value::Null;
    json["added_tokens"] = SPECIAL.iter().map(|piece| special(piece)).collect();
    json["normalizer"] = json!({"type": "Sequence", "normalizers": [
        {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
         "strip_accents": null, "lowercase": true},
        {"type": "Replace", "pattern": {"Regex": "[^a-z]+"}, "content": " "},
    ]});
    json["post_processor"]["special_tokens"] =
        json!({"[CLS]": named("[CLS]"), "[SEP]": named("[SEP]")});
    json["model"]["vocab"] = Value::Object(vocab);
    Ok(serde_json::to_string(&json)?)
}

/// The `count` leading eigenvectors of a symmetric matrix, as columns, by subspace iteration: the
/// block is multiplied and made orthonormal again until it has settled.
fn principal_axes(matrix: &Tensor, count: usize) -> Result<Tensor> {
    const ROUNDS: usize = 60;
    let n = matrix.dim(0)?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut axes: Vec<Vec<f32>> = (0..count)
        .map(|_| (0..n).map(|_| rng.random::<f32>() - 0.5).collect())
        .collect();
    for _ in 0..ROUNDS {
        orthonormalise(&mut axes);
        let block = Tensor::from_vec(axes.concat(), (count, n), &Device::Cpu)?;
        axes = block.matmul(matrix)?.to_vec2()?;
    }
    orthonormalise(&mut axes);
    Ok(Tensor::from_vec(axes.concat(), (count, n), &Device::Cpu)?
        .t()?
        .contiguous()?)
}

fn orthonormalise(axes: &mut [Vec<f32>]) {
    for at in 0..axes.len() {
        let (done, rest) = axes.split_at_mut(at);
        let axis = &mut rest[0];
        for other in done.iter() {
            let dot: f32 = axis.iter().zip(other).map(|(a, b)| a * b).sum();
            axis.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
        }
        let length = axis.iter().map(|a| a * a).sum::<f32>().sqrt().max(1e-20);
        axis.iter_mut().for_each(|a| *a /= length);
    }
}
