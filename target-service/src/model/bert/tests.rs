//! The forward pass against one written down plainly, in double precision and one loop at a time,
//! on weights made up for the purpose; and the committed weights against what they once answered.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::model::{Encoded, bundled, load};

const VOCABULARY: usize = 12;
const HIDDEN: usize = 8;
const HEADS: usize = 2;
const WIDE: usize = 20;
const LAYERS: usize = 2;
const POSITIONS: usize = 10;
const LABELS: usize = 3;
const EPSILON: f64 = 1e-6;

/// Numbers from -1 to 1 without a pattern.
fn noise(count: usize, seed: &mut u64) -> Vec<f32> {
    (0..count)
        .map(|_| {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn made_up() -> HashMap<String, Tensor> {
    let mut shapes = vec![
        (
            "bert.embeddings.word_embeddings.weight".to_owned(),
            vec![VOCABULARY, HIDDEN],
        ),
        (
            "bert.embeddings.position_embeddings.weight".to_owned(),
            vec![POSITIONS, HIDDEN],
        ),
        (
            "bert.embeddings.token_type_embeddings.weight".to_owned(),
            vec![2, HIDDEN],
        ),
        ("classifier.weight".to_owned(), vec![LABELS, HIDDEN]),
        ("classifier.bias".to_owned(), vec![LABELS]),
    ];
    let mut norms = vec!["bert.embeddings".to_owned()];
    for i in 0..LAYERS {
        let at = format!("bert.encoder.layer.{i}");
        norms.extend([format!("{at}.attention.output"), format!("{at}.output")]);
        for (part, from, to) in [
            ("attention.self.query", HIDDEN, HIDDEN),
            ("attention.self.key", HIDDEN, HIDDEN),
            ("attention.self.value", HIDDEN, HIDDEN),
            ("attention.output.dense", HIDDEN, HIDDEN),
            ("intermediate.dense", HIDDEN, WIDE),
            ("output.dense", WIDE, HIDDEN),
        ] {
            shapes.push((format!("{at}.{part}.weight"), vec![to, from]));
            shapes.push((format!("{at}.{part}.bias"), vec![to]));
        }
    }
    for at in norms {
        shapes.push((format!("{at}.LayerNorm.weight"), vec![HIDDEN]));
        shapes.push((format!("{at}.LayerNorm.bias"), vec![HIDDEN]));
    }
    let mut seed = 7;
    shapes
        .into_iter()
        .map(|(name, shape)| {
            let values = noise(shape.iter().product(), &mut seed);
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        })
        .collect()
}

fn config() -> serde_json::Value {
    serde_json::json!({
        "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": WIDE,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "hidden_act": "gelu",
        "layer_norm_eps": EPSILON, "position_embedding_type": "absolute",
        "classifier_pooling": "mean", "id2label": {"0": "a", "1": "b", "2": "c"},
    })
}

fn write(dir: &Path, config: &serde_json::Value, tensors: &HashMap<String, Tensor>) {
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let tokenizer = r###"{"version": "1.0", "added_tokens": [], "model": {"type": "WordPiece",
        "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
        "vocab": {"[UNK]": 0, "a": 1, "b": 2, "##c": 3}}}"###;
    std::fs::write(dir.join("tokenizer.json"), tokenizer).unwrap();
    candle_core::safetensors::save(tensors, dir.join("model.safetensors")).unwrap();
}

/// The weights as rows of doubles.
struct Plain(HashMap<String, Vec<Vec<f64>>>);

impl Plain {
    fn new(tensors: &HashMap<String, Tensor>) -> Self {
        let rows = |t: &Tensor| {
            let t = t.to_dtype(DType::F64).unwrap();
            match t.rank() {
                1 => vec![t.to_vec1().unwrap()],
                _ => t.to_vec2().unwrap(),
            }
        };
        Self(tensors.iter().map(|(n, t)| (n.clone(), rows(t))).collect())
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let bias = &self.0[&format!("{name}.bias")][0];
        let rows = &self.0[&format!("{name}.weight")];
        rows.iter()
            .zip(bias)
            .map(|(row, b)| dot(row, x) + b)
            .collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        let scale = &self.0[&format!("{name}.LayerNorm.weight")][0];
        let shift = &self.0[&format!("{name}.LayerNorm.bias")][0];
        (0..x.len())
            .map(|i| (x[i] - mean) / (variance + EPSILON).sqrt() * scale[i] + shift[i])
            .collect()
    }

    fn predict(&self, ids: &[u32]) -> Vec<f64> {
        let table = |kind: &str, row: usize| {
            &self.0[&format!("bert.embeddings.{kind}_embeddings.weight")][row]
        };
        let mut x: Vec<Vec<f64>> = ids
            .iter()
            .enumerate()
            .map(|(at, id)| {
                let sum = plus(table("word", *id as usize), table("position", at));
                self.norm("bert.embeddings", &plus(&sum, table("token_type", 0)))
            })
            .collect();
        for i in 0..LAYERS {
            x = self.layer(&format!("bert.encoder.layer.{i}"), &x);
        }
        let mean: Vec<f64> = (0..HIDDEN)
            .map(|i| x.iter().map(|row| row[i]).sum::<f64>() / x.len() as f64)
            .collect();
        softmax(&self.linear("classifier", &mean))
    }

    fn layer(&self, at: &str, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let part = |part: &str| -> Vec<Vec<f64>> {
            x.iter()
                .map(|row| self.linear(&format!("{at}.attention.self.{part}"), row))
                .collect()
        };
        let (q, k, v) = (part("query"), part("key"), part("value"));
        let width = HIDDEN / HEADS;
        let mut out = Vec::new();
        for (token, row) in x.iter().enumerate() {
            let mut taken = vec![0.0; HIDDEN];
            for from in (0..HIDDEN).step_by(width) {
                let head = from..from + width;
                let scores: Vec<f64> = k
                    .iter()
                    .map(|k| dot(&q[token][head.clone()], &k[head.clone()]) / (width as f64).sqrt())
                    .collect();
                for (weight, v) in softmax(&scores).iter().zip(&v) {
                    for i in head.clone() {
                        taken[i] += weight * v[i];
                    }
                }
            }
            let dense = self.linear(&format!("{at}.attention.output.dense"), &taken);
            let mid = self.norm(&format!("{at}.attention.output"), &plus(row, &dense));
            let wide: Vec<f64> = self
                .linear(&format!("{at}.intermediate.dense"), &mid)
                .into_iter()
                .map(|v| {
                    let erf = candle_core::cpu::erf::erf_f64(v / 2f64.sqrt());
                    0.5 * v * (1.0 + erf)
                })
                .collect();
            let narrow = self.linear(&format!("{at}.output.dense"), &wide);
            out.push(self.norm(&format!("{at}.output"), &plus(&mid, &narrow)));
        }
        out
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn plus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let sum: f64 = x.iter().map(|v| v.exp()).sum();
    x.iter().map(|v| v.exp() / sum).collect()
}

fn document(ids: &[u32]) -> Encoded {
    Encoded {
        ids: ids.to_vec(),
        weights: Vec::new(),
    }
}

#[test]
fn the_fused_pass_computes_what_the_plain_one_does() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = made_up();
    write(dir.path(), &config(), &tensors);
    let mut engine = load(dir.path()).unwrap().engine().unwrap();
    let plain = Plain::new(&tensors);
    let documents = [
        document(&[3]),
        document(&[0, 11, 5, 5, 2, 9, 1, 1, 7, 4]),
        document(&[8, 2, 6]),
    ];
    let answers = engine.infer(&documents.iter().collect::<Vec<_>>()).unwrap();
    for (document, answer) in documents.iter().zip(&answers) {
        for (score, want) in answer.scores.iter().zip(plain.predict(&document.ids)) {
            assert!(
                (f64::from(*score) - want).abs() < 1e-5,
                "{answer:?}, plainly {want}"
            );
        }
    }
}

#[test]
fn documents_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &config(), &made_up());
    let mut engine = load(dir.path()).unwrap().engine().unwrap();
    let mut weighted = document(&[1]);
    weighted.weights = vec![1.0];
    for (wrong, what) in [
        (document(&[]), "0 tokens"),
        (document(&[1; POSITIONS + 1]), "11 tokens"),
        (document(&[VOCABULARY as u32]), "token 12"),
        (weighted, "weights"),
    ] {
        let error = engine.infer(&[&document(&[1]), &wrong]).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = made_up();
    for (key, value, what) in [
        ("hidden_act", serde_json::json!("relu"), "relu"),
        (
            "position_embedding_type",
            serde_json::json!("relative_key"),
            "relative_key",
        ),
        ("classifier_pooling", serde_json::json!("cls"), "cls"),
        (
            "classifier_pooling",
            serde_json::json!(null),
            "classifier_pooling",
        ),
        ("num_attention_heads", serde_json::json!(3), "divisible"),
        ("hidden_size", serde_json::json!(-4), "hidden_size"),
        (
            "layer_norm_eps",
            serde_json::json!("small"),
            "layer_norm_eps",
        ),
        (
            "num_hidden_layers",
            serde_json::json!(3),
            "bert.encoder.layer.2",
        ),
        ("intermediate_size", serde_json::json!(21), "[20, 8]"),
        ("vocab_size", serde_json::json!(3), "##c"),
    ] {
        let mut config = config();
        config[key] = value;
        write(dir.path(), &config, &tensors);
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(what), "{key}: {error}");
    }
    write(dir.path(), &config(), &tensors);
    std::fs::write(dir.path().join("tokenizer.json"), "{\"model\": 3}").unwrap();
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("is not a tokenizer"), "{error}");
}

/// A change of the tokenizer, of the weights or of the arithmetic shows here. The tolerance leaves
/// room for other processors' order of summation.
#[test]
fn the_committed_weights_answer_as_they_did() {
    let model = bundled("bert").unwrap();
    let text = "The season starts soon, and my team needs a new engine: a goalie -- and a pitcher!";
    let encoded = model.preprocess().encode(text).unwrap();
    assert_eq!(encoded.ids, PINNED_IDS);
    let answers = model.engine().unwrap().infer(&[&encoded]).unwrap();
    for (score, want) in answers[0].scores.iter().zip(PINNED_SCORES) {
        assert!((score - want).abs() < 5e-4, "{answers:?}");
    }
}

const PINNED_IDS: &[u32] = &[
    2, 5475, 4960, 5247, 5173, 1514, 4010, 5435, 4047, 1370, 4056, 2678, 1370, 3064, 529, 1514,
    1370, 4383, 3,
];
const PINNED_SCORES: [f32; 4] = [0.00007, 0.00005, 0.0805, 0.9193];
