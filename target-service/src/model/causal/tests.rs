//! A small model with random weights against a forward pass written down plainly; files that are wrong; text
//! put together from pieces; choices.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::k_quants::{BlockQ8_0, GgmlType};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::*;
use crate::model::{self, Model};

const HIDDEN: usize = 64;
const HEADS: usize = 2;
const GROUPS: usize = 1;
const WIDTH: usize = HIDDEN / HEADS;
const WIDE: usize = 96;
const LAYERS: usize = 2;
pub(crate) const CONTEXT: usize = 96;
const EPSILON: f32 = 1e-5;
/// Ends a text.
pub(crate) const END: u32 = 258;

/// All bytes, two control tokens, the end, and a pair.
fn vocabulary() -> Vec<String> {
    let letter = |byte: u8| {
        let letters = (0..0x200).filter_map(char::from_u32);
        let mut found = letters.map(String::from);
        found
            .find(|letter| text::bytes_of(letter).as_deref() == Some(&[byte]))
            .unwrap()
    };
    let mut tokens: Vec<String> = (0..=255).map(letter).collect();
    for token in ["<|im_start|>", "<|endoftext|>", "<|im_end|>", "he"] {
        tokens.push(token.to_owned());
    }
    tokens
}

pub(crate) fn metadata() -> HashMap<String, Value> {
    let strings = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let tokens = vocabulary();
    let kinds =
        (0..tokens.len()).map(|at| Value::I32(if (256..259).contains(&at) { 3 } else { 1 }));
    let number = |n: usize| Value::U32(n as u32);
    let text = |t: &str| Value::String(t.to_owned());
    [
        ("general.architecture", text("llama")),
        ("llama.block_count", number(LAYERS)),
        ("llama.context_length", number(CONTEXT)),
        ("llama.embedding_length", number(HIDDEN)),
        ("llama.feed_forward_length", number(WIDE)),
        ("llama.attention.head_count", number(HEADS)),
        ("llama.attention.head_count_kv", number(GROUPS)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            Value::F32(EPSILON),
        ),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", strings(tokens)),
        ("tokenizer.ggml.token_type", Value::Array(kinds.collect())),
        ("tokenizer.ggml.merges", strings(vec!["h e".to_owned()])),
        ("tokenizer.ggml.eos_token_id", number(END as usize)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// Numbers from -1 to 1 without a pattern.
fn noise(count: usize, seed: &mut u64) -> Vec<f32> {
    let next = |_| {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

fn tensors() -> HashMap<String, QTensor> {
    let mut shapes = vec![
        (
            "token_embd.weight".to_owned(),
            vec![vocabulary().len(), HIDDEN],
        ),
        ("output_norm.weight".to_owned(), vec![HIDDEN]),
    ];
    for at in 0..LAYERS {
        for (name, shape) in [
            ("attn_norm", vec![HIDDEN]),
            ("attn_q", vec![HIDDEN, HIDDEN]),
            ("attn_k", vec![GROUPS * WIDTH, HIDDEN]),
            ("attn_v", vec![GROUPS * WIDTH, HIDDEN]),
            ("attn_output", vec![HIDDEN, HIDDEN]),
            ("ffn_norm", vec![HIDDEN]),
            ("ffn_gate", vec![WIDE, HIDDEN]),
            ("ffn_up", vec![WIDE, HIDDEN]),
            ("ffn_down", vec![HIDDEN, WIDE]),
        ] {
            shapes.push((format!("blk.{at}.{name}.weight"), shape));
        }
    }
    let mut seed = 7;
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let values = noise(shape.iter().product(), &mut seed);
        let kind = match shape.len() {
            1 => GgmlDType::F32,
            _ => GgmlDType::Q4_1,
        };
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        (name, QTensor::quantize(&tensor, kind).unwrap())
    };
    shapes.into_iter().map(tensor).collect()
}

fn write_with(path: &Path, metadata: &HashMap<String, Value>, tensors: &HashMap<String, QTensor>) {
    let mut file = std::fs::File::create(path).unwrap();
    let metadata: Vec<_> = metadata.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
}

/// A model directory with the small model.
pub(crate) fn small() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_with(&dir.path().join("small.gguf"), &metadata(), &tensors());
    dir
}

pub(crate) fn loaded() -> Causal {
    loaded_on(&model::Device::Cpu)
}

fn loaded_on(device: &model::Device) -> Causal {
    match model::open(small().path(), device).unwrap() {
        Model::Causal(model) => model,
        Model::Encoder(_) => panic!("a GGUF file is a causal model"),
    }
}

fn open(path: &Path) -> Result<Model, ModelError> {
    model::open(path, &model::Device::Cpu)
}

fn step(engine: &mut dyn Decode, memory: &mut Memory, tokens: &[u32]) -> Vec<f32> {
    let part = Part {
        memory,
        tokens,
        scores: true,
    };
    engine.step(&mut [part]).unwrap().remove(0)
}

/// The same network, one loop at a time and in double precision but for what 8 bits leave of weights and
/// activations.
struct Plain {
    weights: HashMap<String, Vec<Vec<f64>>>,
    turn: Turn,
}

type Turn = fn(&[f64], usize) -> Vec<f64>;

/// What is left when 32 values share a scale and have 8 bits each.
fn eight_bits(values: &[f32]) -> Vec<f32> {
    let mut blocks = vec![BlockQ8_0::zeros(); values.len() / BlockQ8_0::BLCK_SIZE];
    BlockQ8_0::from_float(values, &mut blocks);
    let mut left = values.to_vec();
    BlockQ8_0::to_float(&blocks, &mut left);
    left
}

impl Plain {
    fn new(turn: Turn) -> Self {
        let rows = |tensor: &QTensor| {
            let plain = tensor.dequantize(&Device::Cpu).unwrap();
            let width = *plain.dims().last().unwrap();
            let mut all = plain.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            if plain.rank() > 1 {
                all = eight_bits(&all);
            }
            let rows = all.chunks(width);
            rows.map(|row| row.iter().map(|v| f64::from(*v)).collect())
                .collect()
        };
        let tensors = tensors();
        let named = tensors.iter().map(|(k, v)| (k.clone(), rows(v)));
        Self {
            weights: named.collect(),
            turn,
        }
    }

    fn map(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let rows = &self.weights[&format!("{name}.weight")];
        let x: Vec<f32> = x.iter().map(|v| *v as f32).collect();
        let x = eight_bits(&x);
        let row = |row: &Vec<f64>| row.iter().zip(&x).map(|(w, v)| w * f64::from(*v)).sum();
        rows.iter().map(row).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let scale = &self.weights[&format!("{name}.weight")][0];
        let factor = 1.0 / (mean + f64::from(EPSILON)).sqrt();
        x.iter().zip(scale).map(|(v, s)| v * factor * s).collect()
    }

    fn scores(&self, tokens: &[u32]) -> Vec<f64> {
        let embeddings = &self.weights["token_embd.weight"];
        let mut rows: Vec<Vec<f64>> = tokens
            .iter()
            .map(|token| embeddings[*token as usize].clone())
            .collect();
        for at in 0..LAYERS {
            let name = |part: &str| format!("blk.{at}.{part}");
            let normed: Vec<_> = rows
                .iter()
                .map(|row| self.norm(&name("attn_norm"), row))
                .collect();
            let turned = |part: &str| -> Vec<Vec<f64>> {
                let row =
                    |(p, row): (usize, &Vec<f64>)| (self.turn)(&self.map(&name(part), row), p);
                normed.iter().enumerate().map(row).collect()
            };
            let (queries, keys) = (turned("attn_q"), turned("attn_k"));
            let values: Vec<_> = normed
                .iter()
                .map(|row| self.map(&name("attn_v"), row))
                .collect();
            for (p, row) in rows.iter_mut().enumerate() {
                let mut attended = vec![0.0; HIDDEN];
                for head in 0..HEADS {
                    let from = head * WIDTH;
                    let score = |key: &Vec<f64>| {
                        let query = &queries[p][from..from + WIDTH];
                        let dot: f64 = query.iter().zip(key).map(|(a, b)| a * b).sum();
                        (dot / (WIDTH as f64).sqrt()).exp()
                    };
                    let shares: Vec<f64> = keys[..=p].iter().map(score).collect();
                    let all: f64 = shares.iter().sum();
                    for (share, value) in shares.iter().zip(&values) {
                        for (to, v) in attended[from..].iter_mut().zip(value) {
                            *to += share / all * v;
                        }
                    }
                }
                add_to(row, &self.map(&name("attn_output"), &attended));
                let normed = self.norm(&name("ffn_norm"), row);
                let gate = self.map(&name("ffn_gate"), &normed);
                let up = self.map(&name("ffn_up"), &normed);
                let gated = gate
                    .iter()
                    .zip(&up)
                    .map(|(g, v)| g / (1.0 + (-g).exp()) * v);
                add_to(
                    row,
                    &self.map(&name("ffn_down"), &gated.collect::<Vec<_>>()),
                );
            }
        }
        let last = self.norm("output_norm", rows.last().unwrap());
        self.map("token_embd", &last)
    }
}

fn add_to(row: &mut [f64], other: &[f64]) {
    for (to, v) in row.iter_mut().zip(other) {
        *to += v;
    }
}

/// Cosine and sine of pair `at` of a head.
fn angle(at: usize, position: usize) -> (f64, f64) {
    let slower = 10_000f64.powf(2.0 * at as f64 / WIDTH as f64);
    let (sin, cos) = (position as f64 / slower).sin_cos();
    (cos, sin)
}

fn turn(row: &[f64], position: usize) -> Vec<f64> {
    let mut turned = row.to_vec();
    for (at, pair) in turned.chunks_mut(2).enumerate() {
        let (cos, sin) = angle(at % (WIDTH / 2), position);
        let (a, b) = (pair[0], pair[1]);
        (pair[0], pair[1]) = (a * cos - b * sin, a * sin + b * cos);
    }
    turned
}

/// The order of elements that other checkpoints have: halves of a head in place of neighbours.
fn turn_halves(row: &[f64], position: usize) -> Vec<f64> {
    let mut turned = row.to_vec();
    for head in turned.chunks_mut(WIDTH) {
        let (first, second) = head.split_at_mut(WIDTH / 2);
        for (at, (a, b)) in first.iter_mut().zip(second).enumerate() {
            let (cos, sin) = angle(at, position);
            (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
        }
    }
    turned
}

/// The cosine between the scores of an engine and of a plain network after each token of a text.
fn cosines(model: &Causal, plain: &Plain) -> Vec<f64> {
    let mut engine = model.engine();
    let tokens: Vec<u32> = "the shortstop, 12".bytes().map(u32::from).collect();
    let mut memory = Memory::default();
    let cosine = |at: usize| {
        let ours = step(engine.as_mut(), &mut memory, &tokens[at..=at]);
        let theirs = plain.scores(&tokens[..=at]);
        let pairs = || ours.iter().map(|v| f64::from(*v)).zip(&theirs);
        let dot: f64 = pairs().map(|(a, b)| a * b).sum();
        let (ours, theirs): (f64, f64) = (
            pairs().map(|(a, _)| a * a).sum(),
            pairs().map(|(_, b)| b * b).sum(),
        );
        dot / (ours * theirs).sqrt()
    };
    (0..tokens.len()).map(cosine).collect()
}

/// A rounding that falls to the other side, where 8 bits part two values, is all that may differ.
const SAME: f64 = 0.999_99;

#[test]
fn scores_are_those_of_the_plain_network() {
    let model = loaded();
    let same = cosines(&model, &Plain::new(turn));
    assert!(same.iter().all(|cosine| *cosine > SAME), "{same:?}");
    // What a mistake would look like: the bound notices it at every position but the first, which nothing
    // turns.
    let stays: Turn = |row, _| row.to_vec();
    for wrong in [turn_halves as Turn, stays] {
        let wrong = cosines(&model, &Plain::new(wrong));
        assert!(wrong[1..].iter().all(|cosine| *cosine < SAME), "{wrong:?}");
    }
}

/// What computes on a CUDA device computes wherever candle does; here on the processor.
#[test]
fn candles_operators_write_what_the_plain_network_does() {
    let device = model::Device::Candle(Device::Cpu);
    let model = loaded_on(&device);
    let same = cosines(&model, &Plain::new(turn));
    assert!(same.iter().all(|cosine| *cosine > SAME), "{same:?}");
    let close = |a: &[f32], b: &[f32]| {
        let largest = b.iter().fold(0f32, |most, v| most.max(v.abs()));
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.02 * largest)
    };
    // A prompt in one piece, in two, and beside another.
    let text: Vec<u32> = b"a long prompt of some words".map(u32::from).to_vec();
    let mut engine = model.engine();
    let whole = step(engine.as_mut(), &mut Memory::default(), &text);
    let mut memories = [Memory::default(), Memory::default()];
    let (begin, rest) = text.split_at(9);
    for (round, tokens) in [begin, rest].into_iter().enumerate() {
        let [one, other] = &mut memories;
        let mut parts = [(one, tokens), (other, &text[..4 + round])].map(|(memory, tokens)| Part {
            memory,
            tokens,
            scores: round == 1,
        });
        let scores = engine.step(&mut parts).unwrap();
        match round {
            0 => assert!(scores.iter().all(Vec::is_empty), "not asked for"),
            _ => assert!(close(&scores[0], &whole), "in two pieces"),
        }
    }
    assert_eq!(memories[0].positions(), text.len());
    refuses(engine.as_mut());
}

#[test]
fn neither_company_nor_chunks_change_a_sequence() {
    let model = loaded();
    let mut engine = model.engine();
    let prompts: [Vec<u32>; 3] = [&b"a long prompt of some words"[..], b"short", b"x"]
        .map(|text| text.iter().map(|b| u32::from(*b)).collect());
    let alone = prompts.clone().map(|tokens| {
        let mut memory = Memory::default();
        let first = step(engine.as_mut(), &mut memory, &tokens);
        (first, step(engine.as_mut(), &mut memory, &[7]))
    });
    let mut memories = [Memory::default(), Memory::default(), Memory::default()];
    // The first reads its prompt in two chunks beside the others, which are ahead of it by then.
    let (begin, rest) = prompts[0].split_at(9);
    let chunks = [[begin, &prompts[1], &prompts[2]], [rest, &[7], &[7]]];
    let mut together = Vec::new();
    for (round, chunk) in chunks.iter().enumerate() {
        let parts = memories.iter_mut().zip(chunk).enumerate();
        let mut parts: Vec<Part<'_>> = parts
            .map(|(at, (memory, tokens))| Part {
                memory,
                tokens,
                scores: at > 0 || round == 1,
            })
            .collect();
        together.push(engine.step(&mut parts).unwrap());
    }
    assert!(together[0][0].is_empty(), "not asked for");
    assert!(together[1][0] == alone[0].0, "in two chunks");
    for at in [1, 2] {
        assert!(together[0][at] == alone[at].0, "first token of {at}");
        assert!(together[1][at] == alone[at].1, "second token of {at}");
    }
    assert_eq!(memories[0].positions(), prompts[0].len());
}

/// What no engine can read.
fn refuses(engine: &mut dyn Decode) {
    for tokens in [&[1; CONTEXT + 1][..], &[9999], &[]] {
        let mut memory = Memory::default();
        let part = Part {
            memory: &mut memory,
            tokens,
            scores: true,
        };
        let error = engine.step(&mut [part]).unwrap_err();
        assert!(matches!(error, ModelError::Mismatch(_)), "{error}");
    }
}

#[test]
fn more_positions_or_other_tokens_than_there_are_are_errors() {
    let model = loaded();
    let mut engine = model.engine();
    refuses(engine.as_mut());
}

#[test]
fn texts_become_tokens_and_come_back() {
    let model = loaded();
    let encode = |text: &str| model.text.encode(text).unwrap();
    assert_eq!(encode("hey"), [259, u32::from(b'y')]);
    assert_eq!(encode("<|im_start|>a")[..], [256, u32::from(b'a')]);
    assert!(model.text.ends(END) && model.text.ends(257) && !model.text.ends(256));
    assert_eq!(encode("12 é").len(), 5);
    for text in ["The goalie's  glove\n\t12 345", "é中文🙂", " x "] {
        let mut whole = Detokenizer::new(Vec::new());
        let tokens = encode(text);
        let mut parts: Vec<String> = tokens.iter().map(|t| whole.push(&model.text, *t)).collect();
        parts.push(whole.finish());
        assert_eq!(parts.concat(), text);
        let chars = |part: &String| !part.contains(char::REPLACEMENT_CHARACTER);
        assert!(parts.iter().all(chars), "{parts:?}");
    }
}

fn pieces(stops: &[&str], bytes: &[u8]) -> (Vec<String>, bool) {
    let model = loaded();
    let mut text = Detokenizer::new(stops.iter().map(|s| (*s).to_owned()).collect());
    let bytes = bytes.iter().map(|b| u32::from(*b));
    let mut parts: Vec<String> = bytes.map(|b| text.push(&model.text, b)).collect();
    parts.push(text.finish());
    (parts, text.stopped())
}

#[test]
fn a_character_comes_when_it_is_whole_or_can_no_longer_be() {
    let smile = "🙂".as_bytes();
    assert_eq!(pieces(&[], smile).0, ["", "", "", "🙂", ""]);
    assert_eq!(pieces(&[], &smile[..2]).0, ["", "", "\u{fffd}"]);
    let broken = [smile[0], smile[1], b'a', 0xff, b'b'];
    assert_eq!(pieces(&[], &broken).0.concat(), "\u{fffd}a\u{fffd}b");
}

#[test]
fn a_stop_text_ends_it_and_its_beginning_is_held_back() {
    assert_eq!(pieces(&["cd"], b"abcx").0, ["a", "b", "", "cx", ""]);
    assert_eq!(pieces(&["cd"], b"abc").0.concat(), "abc");
    let (parts, stopped) = pieces(&["cd", "zz"], b"abcdef");
    assert_eq!((parts.concat().as_str(), stopped), ("ab", true));
    let (parts, stopped) = pieces(&["aab"], b"xaaab");
    assert_eq!((parts.concat().as_str(), stopped), ("xa", true));
    let (parts, stopped) = pieces(&["é"], "caféx".as_bytes());
    assert_eq!((parts.concat().as_str(), stopped), ("caf", true));
    assert!(!pieces(&["", "q"], b"abc").1);
}

#[test]
fn choices_follow_temperature_share_and_seed() {
    let scores = [1.0, 3.0, 3.0, -2.0, 0.0];
    let sampler = |temperature, top_p, seed| {
        Sampler::new(Sampling {
            temperature,
            top_p,
            seed,
        })
    };
    assert_eq!(sampler(0.0, 1.0, 1).choose(&scores).unwrap(), 1);
    let count = |temperature, top_p| {
        let mut sampler = sampler(temperature, top_p, 3);
        let mut counts = [0; 5];
        for _ in 0..4000 {
            counts[sampler.choose(&scores).unwrap() as usize] += 1;
        }
        counts
    };
    let all = count(1.0, 1.0);
    // Shares of 0.060, 0.443, 0.443, 0.003 and 0.022.
    assert!((1650..1900).contains(&all[1]) && (1650..1900).contains(&all[2]));
    assert!(
        (180..300).contains(&all[0]) && all[3] > 0 && all[4] > 40,
        "{all:?}"
    );
    let few = count(1.0, 0.5);
    assert_eq!((few[0], few[3], few[4]), (0, 0, 0), "two make up the half");
    assert!(few[1] > 1800 && few[2] > 1800, "{few:?}");
    assert_eq!(count(1.0, f32::MIN_POSITIVE)[1], 4000);
    let run = |seed| {
        let mut sampler = sampler(1.5, 0.99, seed);
        let choices = (0..50).map(|_| sampler.choose(&scores).unwrap());
        choices.collect::<Vec<_>>()
    };
    assert_eq!(run(9), run(9));
    assert_ne!(run(9), run(10));
    assert!(sampler(1.0, 1.0, 0).choose(&[0.0, f32::NAN]).is_err());
    assert!(sampler(0.0, 1.0, 0).choose(&[]).is_err());
}

/// Why the file is refused.
fn refused(path: PathBuf) -> String {
    match open(&path) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{} was loaded", path.display()),
    }
}

#[test]
fn a_file_cut_short_anywhere_is_an_error() {
    let dir = small();
    let path = dir.path().join("small.gguf");
    let whole = std::fs::read(&path).unwrap();
    for at in 0..60 {
        let length = whole.len() * at / 60;
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = refused(path.clone());
        assert!(error.contains("small.gguf"), "{length} bytes: {error}");
    }
    // The header itself, byte by byte.
    for length in 0..200 {
        std::fs::write(&path, &whole[..length]).unwrap();
        refused(path.clone());
    }
}

#[test]
fn what_is_wrong_in_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wrong.gguf");
    for (key, value, word) in [
        ("general.architecture", Value::String("gpt2".into()), "gpt2"),
        ("general.alignment", Value::U32(0), "makes no sense"),
        ("llama.block_count", Value::U32(0), "block_count"),
        ("llama.block_count", Value::U32(3), "blk.2."),
        ("llama.embedding_length", Value::U32(32), "shape"),
        ("llama.attention.head_count", Value::U32(3), "do not divide"),
        ("llama.rope.freq_base", Value::F32(f32::NAN), "freq_base"),
        (
            "tokenizer.ggml.model",
            Value::String("llama".into()),
            "kind",
        ),
        ("tokenizer.ggml.pre", Value::String("other".into()), "other"),
        (
            "tokenizer.ggml.eos_token_id",
            Value::U32(9999),
            "eos_token_id",
        ),
        ("tokenizer.ggml.tokens", Value::Array(vec![]), "tokens"),
        ("tokenizer.ggml.merges", Value::Bool(true), "merges"),
    ] {
        let mut metadata = metadata();
        metadata.insert(key.to_owned(), value);
        write_with(&path, &metadata, &tensors());
        let error = refused(path.clone());
        assert!(error.contains(word), "{key}: {error}");
    }
    let mut tensors = tensors();
    tensors.remove("output_norm.weight");
    write_with(&path, &metadata(), &tensors);
    assert!(refused(path).contains("output_norm"));
}

#[test]
fn a_file_other_than_the_one_listed_is_refused() {
    let dir = small();
    let list = dir.path().join("SHA256SUMS");
    std::fs::write(&list, format!("{}  small.gguf\n", "0".repeat(64))).unwrap();
    assert!(refused(dir.path().to_owned()).contains("SHA-256"));
    std::fs::remove_file(list).unwrap();
    open(dir.path()).unwrap();
    std::fs::copy(dir.path().join("small.gguf"), dir.path().join("b.gguf")).unwrap();
    assert!(
        refused(dir.path().to_owned()).contains("config.json"),
        "two of them"
    );
}
