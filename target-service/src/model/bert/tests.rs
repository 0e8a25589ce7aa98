//! The forward pass against one written down plainly, in double precision and one loop at a time,
//! on weights made up for the purpose; and the committed weights against what they once answered.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::forward::Engine;
use super::kernels::Level;
use super::{Bert, Placed};
use crate::model::source::{Config, Source};
use crate::model::{self, Encoded, Infer, Prediction, bundled, load};

mod by_operators;

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
        "architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": WIDE,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "hidden_act": "gelu",
        "layer_norm_eps": EPSILON, "position_embedding_type": "absolute",
        "classifier_pooling": "mean", "id2label": {"0": "a", "1": "b", "2": "c"},
    })
}

fn write(dir: &Path, config: &serde_json::Value, tensors: &HashMap<String, Tensor>) {
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let tokenizer = r###"{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordPiece",
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
        softmax(&self.linear("classifier", &mean(&self.hidden(ids))))
    }

    /// The last layer.
    fn hidden(&self, ids: &[u32]) -> Vec<Vec<f64>> {
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
        x
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

fn mean(x: &[Vec<f64>]) -> Vec<f64> {
    (0..HIDDEN)
        .map(|i| x.iter().map(|row| row[i]).sum::<f64>() / x.len() as f64)
        .collect()
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

fn documents() -> Vec<Encoded> {
    let long: Vec<u32> = (0..POSITIONS as u32)
        .map(|at| at * 5 % VOCABULARY as u32)
        .collect();
    let mut all = vec![document(&[3]), document(&long), document(&[8, 2, 6])];
    // More rows than a kernel takes at once, and more keys than a panel has, once they are shared.
    all.extend((0..6).map(|from| document(&long[from..])));
    all
}

/// The tensors, the model in `dir`, and its answers to the documents.
fn answers(dir: &Path) -> Vec<Prediction> {
    let mut engine = load(dir).unwrap().engine(1);
    let documents = documents();
    let answers = engine.infer(&documents.iter().collect::<Vec<_>>());
    answers.into_iter().map(Result::unwrap).collect()
}

fn assert_close(got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (a, b) in got.iter().zip(want) {
        assert!(
            (f64::from(*a) - b).abs() < 1e-5,
            "{got:?}, plainly {want:?}"
        );
    }
}

fn unit(x: &[f64]) -> Vec<f64> {
    let length = dot(x, x).sqrt();
    x.iter().map(|v| v / length).collect()
}

#[test]
fn the_packed_pass_computes_what_the_plain_one_does_at_every_level_and_on_any_threads() {
    let tensors = made_up();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &config(), &tensors);
    let source = Source::Dir(dir.path());
    let config = Config::read(&source).unwrap();
    let (model, _) = Bert::read(&source, &config, &model::Device::Cpu).unwrap();
    let Placed::Processor(network) = model.network else {
        panic!("on the processor the network is packed");
    };
    let plain = Plain::new(&tensors);
    let documents = documents();
    for level in Level::all() {
        for threads in 1..5 {
            let mut engine = Engine::at_level(network.clone(), threads, level);
            // The second time in buffers that hold something already.
            for _ in 0..2 {
                let answers = engine.infer(&documents.iter().collect::<Vec<_>>());
                for (document, answer) in documents.iter().zip(answers) {
                    let answer = answer.unwrap();
                    assert_close(&answer.scores, &plain.predict(&document.ids));
                    let embedding = unit(&mean(&plain.hidden(&document.ids)));
                    assert_close(&answer.embedding, &embedding);
                }
            }
        }
    }
}

/// A classifier over an embedder: its head lies beside the embedder's own file and judges what that embeds.
#[test]
fn a_head_of_its_own_judges_the_embedding() {
    let mut tensors = made_up();
    let plain = Plain::new(&tensors);
    let head: HashMap<String, Tensor> = ["classifier.weight", "classifier.bias"]
        .into_iter()
        .map(|name| (name.to_owned(), tensors.remove(name).unwrap()))
        .collect();
    let mut keys = config();
    keys["classifier_input"] = "embedding".into();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &keys, &tensors);
    let without = load(dir.path()).unwrap_err().to_string();
    assert!(without.contains("classifier.weight"), "{without}");
    let file = dir.path().join("head.safetensors");
    candle_core::safetensors::save(&head, &file).unwrap();
    let loaded = load(dir.path()).unwrap();
    for (document, answer) in documents().iter().zip(answers(dir.path())) {
        let embedding = unit(&mean(&plain.hidden(&document.ids)));
        assert_close(&answer.embedding, &embedding);
        let want = softmax(&plain.linear("classifier", &embedding));
        assert_close(&answer.scores, &want);
        let of_pooled = plain.predict(&document.ids);
        let apart = want
            .iter()
            .zip(&of_pooled)
            .any(|(a, b)| (a - b).abs() > 1e-3);
        assert!(apart, "the test tells the two inputs apart");
    }
    // Another head is another model.
    let doubled = (&head["classifier.bias"] * 2.0).unwrap();
    let other = HashMap::from([
        (
            "classifier.weight".to_owned(),
            head["classifier.weight"].clone(),
        ),
        ("classifier.bias".to_owned(), doubled),
    ]);
    candle_core::safetensors::save(&other, &file).unwrap();
    let revision = load(dir.path()).unwrap().info.revision;
    assert_ne!(revision, loaded.info.revision);
    assert_eq!(revision.len(), 12);
    keys["classifier_input"] = "rows".into();
    write(dir.path(), &keys, &tensors);
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("classifier_input"), "{error}");
    std::fs::write(&file, b"cut").unwrap();
    keys["classifier_input"] = "embedding".into();
    write(dir.path(), &keys, &tensors);
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("head.safetensors"), "{error}");
    // An embedder has no use for one.
    keys["architectures"] = serde_json::json!(["BertModel"]);
    write(dir.path(), &keys, &tensors);
    assert!(load(dir.path()).unwrap().info.labels.is_empty());
}

/// Names of a tensor in the other families.
fn renamed(name: &str, family: &str) -> String {
    match family {
        "roberta" => name.replace("bert.", "roberta."),
        _ => name
            .replace("bert.", "distilbert.")
            .replace("encoder.layer", "transformer.layer")
            .replace("attention.self.query", "attention.q_lin")
            .replace("attention.self.key", "attention.k_lin")
            .replace("attention.self.value", "attention.v_lin")
            .replace("attention.output.dense", "attention.out_lin")
            .replace("attention.output.LayerNorm", "sa_layer_norm")
            .replace("intermediate.dense", "ffn.lin1")
            .replace("output.dense", "ffn.lin2")
            .replace("output.LayerNorm", "output_layer_norm"),
    }
}

#[test]
fn the_families_differ_in_names_only() {
    let mut tensors = made_up();
    let types = "bert.embeddings.token_type_embeddings.weight";
    let zeros = Tensor::zeros((2, HIDDEN), DType::F32, &Device::Cpu).unwrap();
    tensors.insert(types.to_owned(), zeros);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &config(), &tensors);
    let want = answers(dir.path());
    let rename = |family: &str| -> HashMap<String, Tensor> {
        let named = tensors.iter().map(|(n, t)| (renamed(n, family), t.clone()));
        named.collect()
    };

    let mut distil = rename("distilbert");
    distil.remove(&renamed(types, "distilbert"));
    let with_keys = serde_json::json!({
        "architectures": ["DistilBertForSequenceClassification"], "model_type": "distilbert",
        "vocab_size": VOCABULARY, "dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS,
        "hidden_dim": WIDE, "max_position_embeddings": POSITIONS, "activation": "gelu",
        "layer_norm_eps": EPSILON, "classifier_pooling": "mean",
        "id2label": {"0": "a", "1": "b", "2": "c"},
    });
    write(dir.path(), &with_keys, &distil);
    assert_eq!(answers(dir.path()), want);

    // Two rows before the first position, and the labels' layer under another name.
    let mut roberta = rename("roberta");
    let positions = "roberta.embeddings.position_embeddings.weight";
    let two = Tensor::ones((2, HIDDEN), DType::F32, &Device::Cpu).unwrap();
    let table = Tensor::cat(&[&two, &roberta[positions]], 0).unwrap();
    roberta.insert(positions.to_owned(), table);
    for part in ["weight", "bias"] {
        let tensor = roberta.remove(&format!("classifier.{part}")).unwrap();
        roberta.insert(format!("classifier.out_proj.{part}"), tensor);
    }
    let mut with_offset = config();
    with_offset["model_type"] = "roberta".into();
    with_offset["architectures"] = serde_json::json!(["RobertaForSequenceClassification"]);
    with_offset["max_position_embeddings"] = (POSITIONS + 2).into();
    write(dir.path(), &with_offset, &roberta);
    assert_eq!(answers(dir.path()), want);
}

#[test]
fn a_bare_encoder_embeds_as_its_pooling_says() {
    let tensors = made_up();
    let plain = Plain::new(&tensors);
    let bare = tensors
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix("bert.")?.to_owned(), tensor.clone())))
        .collect();
    let mut config = config();
    config["architectures"] = serde_json::json!(["BertModel"]);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &config, &bare);
    let model = load(dir.path()).unwrap();
    assert_eq!(
        (model.info.dimensions, model.info.labels.len()),
        (HIDDEN, 0)
    );
    let check = |pool: &dyn Fn(&[Vec<f64>]) -> Vec<f64>| {
        for (document, answer) in documents().iter().zip(answers(dir.path())) {
            assert!(answer.scores.is_empty());
            assert_close(
                &answer.embedding,
                &unit(&pool(&plain.hidden(&document.ids))),
            );
        }
    };
    check(&mean);
    std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    let pooling = dir.path().join("1_Pooling/config.json");
    let modes = r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    std::fs::write(&pooling, modes).unwrap();
    check(&|hidden| hidden[0].clone());
    for (file, text, what) in [
        (
            "1_Pooling/config.json",
            r#"{"pooling_mode_max_tokens": true}"#,
            "max_tokens",
        ),
        (
            "modules.json",
            r#"[{"type": "sentence_transformers.models.Dense"}]"#,
            "Dense",
        ),
        (
            "sentence_bert_config.json",
            r#"{"max_seq_length": -1}"#,
            "max_seq_length",
        ),
        ("sentence_bert_config.json", "[", "not JSON"),
    ] {
        std::fs::write(dir.path().join(file), text).unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(file), "{error}");
        std::fs::remove_file(dir.path().join(file)).unwrap();
    }
    std::fs::write(
        dir.path().join("sentence_bert_config.json"),
        r#"{"max_seq_length": 4}"#,
    )
    .unwrap();
    let model = load(dir.path()).unwrap();
    assert_eq!(model.info.max_tokens, 4);
    assert_eq!(
        model.preprocess().encode("a b a b a b").unwrap().ids.len(),
        4
    );
}

/// Hugging Face's own head: the first token through a dense layer and tanh.
#[test]
fn without_a_word_about_pooling_the_head_is_that_of_the_class() {
    let mut tensors = made_up();
    let mut seed = 11;
    for (name, shape) in [("weight", vec![HIDDEN, HIDDEN]), ("bias", vec![HIDDEN])] {
        let values = noise(shape.iter().product(), &mut seed);
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        tensors.insert(format!("bert.pooler.dense.{name}"), tensor);
    }
    let mut config = config();
    config.as_object_mut().unwrap().remove("classifier_pooling");
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &config, &tensors);
    let plain = Plain::new(&tensors);
    for (document, answer) in documents().iter().zip(answers(dir.path())) {
        let pooled = plain.linear("bert.pooler.dense", &plain.hidden(&document.ids)[0]);
        let pooled: Vec<f64> = pooled.into_iter().map(f64::tanh).collect();
        assert_close(
            &answer.scores,
            &softmax(&plain.linear("classifier", &pooled)),
        );
    }
}

#[test]
fn documents_that_do_not_fit_are_refused_and_their_neighbours_are_not() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &config(), &made_up());
    let mut engine = load(dir.path()).unwrap().engine(1);
    let sound = document(&[1]);
    let alone = engine.infer(&[&sound]).remove(0).unwrap();
    let mut weighted = document(&[1]);
    weighted.weights = vec![1.0];
    for (wrong, what) in [
        (document(&[]), "0 tokens"),
        (document(&[1; POSITIONS + 1]), "11 tokens"),
        (document(&[VOCABULARY as u32]), "token 12"),
        (weighted, "weights"),
    ] {
        let mut answers = engine.infer(&[&sound, &wrong, &sound]);
        let error = answers.remove(1).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        for answer in answers {
            assert_close(
                &answer.unwrap().scores,
                &alone
                    .scores
                    .iter()
                    .map(|v| f64::from(*v))
                    .collect::<Vec<_>>(),
            );
        }
    }
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = made_up();
    for (key, value, what) in [
        ("hidden_act", serde_json::json!("swish"), "swish"),
        (
            "position_embedding_type",
            serde_json::json!("relative_key"),
            "relative_key",
        ),
        ("classifier_pooling", serde_json::json!("cls"), "cls"),
        (
            "classifier_pooling",
            serde_json::json!(null),
            "bert.pooler.dense",
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
    let answer = model.engine(1).infer(&[&encoded]).remove(0).unwrap();
    for (score, want) in answer.scores.iter().zip(PINNED_SCORES) {
        assert!((score - want).abs() < 5e-4, "{answer:?}");
    }
}

const PINNED_IDS: &[u32] = &[
    2, 5475, 4960, 5247, 5173, 1514, 4010, 5435, 4047, 1370, 4056, 2678, 1370, 3064, 529, 1514,
    1370, 4383, 3,
];
const PINNED_SCORES: [f32; 4] = [0.00007, 0.00005, 0.0805, 0.9193];
