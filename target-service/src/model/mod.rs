//! The models: documents in, labels or vectors out; or a text in and its continuation out ([`causal`]).
//!
//! A model is a directory in the Hugging Face layout (`config.json`, `model.safetensors`, and
//! `tokenizer.json` or `vocabulary.txt`); the ones the project trains are compiled into the
//! executable. Preprocessing ([`Preprocess`]) is shared between threads and runs where the request
//! is handled; inference ([`Infer`]) is one engine per worker thread, since it owns scratch memory.

mod bert;
pub mod causal;
mod error;
mod source;
pub mod tfidf;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

pub use error::ModelError;
use source::{Bundle, Config, Source};

/// What a loaded model is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// The bundled name (`bert`, `tfidf`), or that of the directory it was loaded from.
    pub name: String,
    /// First twelve hexadecimal digits of the SHA-256 of the weights' file; where the head has a file of its
    /// own, of the SHA-256 of both files' first twelve digits, one after the other.
    pub revision: String,
    /// The labels, in the order of [`Prediction::scores`]; empty for an embedder.
    pub labels: Vec<String>,
    /// Width of [`Prediction::embedding`]; 0 for a model that has none.
    pub dimensions: usize,
    /// The most that [`Encoded::cost`] of one document can be; longer documents are cut there.
    pub max_tokens: usize,
}

/// A document as the model reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Token ids: word pieces in order of the text, or the distinct vocabulary words, ascending.
    pub ids: Vec<u32>,
    /// One weight per id, for models over weighted words; empty for the others.
    pub weights: Vec<f32>,
}

impl Encoded {
    /// What the document costs to infer, in tokens: the unit of batch budgets. At least 1.
    pub fn cost(&self) -> usize {
        self.ids.len().max(1)
    }
}

/// One stage of preprocessing, with the instants between which it ran.
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// One of [`Preprocess::stages`].
    pub name: &'static str,
    /// When it began.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
}

/// Turns texts into what the model reads. Shared between threads.
pub trait Preprocess: Send + Sync {
    /// Encodes one document and says when each stage began and ended, in the order of
    /// [`Preprocess::stages`].
    ///
    /// # Errors
    /// [`ModelError::Tokenise`] if the text has no encoding.
    fn encode_timed(&self, text: &str) -> Result<(Encoded, Vec<Stage>), ModelError>;

    /// Encodes one document.
    ///
    /// # Errors
    /// As [`Preprocess::encode_timed`].
    fn encode(&self, text: &str) -> Result<Encoded, ModelError> {
        self.encode_timed(text).map(|(encoded, _)| encoded)
    }

    /// The names of the stages, as they are to appear in traces.
    fn stages(&self) -> &'static [&'static str];
}

/// Judges documents in batches. One per worker thread.
pub trait Infer: Send {
    /// One result per document, in the order of `batch`; a document's error is its own and leaves its
    /// neighbours alone: [`ModelError::Mismatch`] if it was not encoded for this model,
    /// [`ModelError::NotFinite`] if something computed of it is not a number.
    fn infer(&mut self, batch: &[&Encoded]) -> Vec<Result<Prediction, ModelError>>;
}

/// What the model says of one document.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prediction {
    /// Probability of each label, in the order of [`ModelInfo::labels`]; finite, summing to 1. Empty
    /// for an embedder.
    pub scores: Vec<f32>,
    /// The document as a vector of Euclidean length 1, [`ModelInfo::dimensions`] wide; finite.
    pub embedding: Vec<f32>,
}

impl Prediction {
    /// The softmax of `logits`, or an error if one of them is not finite.
    pub(crate) fn from_logits(logits: &[f32]) -> Result<Self, ModelError> {
        if let Some(label) = logits.iter().position(|v| !v.is_finite()) {
            return Err(ModelError::NotFinite { label });
        }
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut scores: Vec<f32> = logits.iter().map(|v| (v - max).exp()).collect();
        let sum: f32 = scores.iter().sum();
        scores.iter_mut().for_each(|v| *v /= sum);
        Ok(Self {
            scores,
            embedding: Vec::new(),
        })
    }

    /// Brings the embedding to length 1, or says that it has none.
    pub(crate) fn normalise_embedding(&mut self) -> Result<(), ModelError> {
        let square: f64 = self.embedding.iter().map(|v| f64::from(*v).powi(2)).sum();
        let scale = (1.0 / square.sqrt()) as f32;
        self.embedding.iter_mut().for_each(|v| *v *= scale);
        match self.embedding.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(ModelError::NoVector { at }),
            None => Ok(()),
        }
    }

    /// Index of the most probable label; of equals the first.
    pub fn best(&self) -> usize {
        let mut best = 0;
        for (at, score) in self.scores.iter().enumerate() {
            if *score > self.scores[best] {
                best = at;
            }
        }
        best
    }
}

/// Where a model computes.
#[derive(Debug, Clone, Default)]
pub enum Device {
    /// On the processor, by kernels of our own where there are such.
    #[default]
    Cpu,
    /// Where candle computes, by its operators.
    Candle(candle_core::Device),
}

impl Device {
    /// The CUDA device of this number. All workers compute on one stream: candle's scratch memory of a device
    /// is safe only so, and its default is a stream for each thread.
    ///
    /// # Errors
    /// [`ModelError::Device`] if there is none, or this is a build without CUDA.
    pub fn cuda(number: u16) -> Result<Self, ModelError> {
        let opened = candle_core::Device::new_cuda_with_stream(usize::from(number));
        opened.map(Self::Candle).map_err(|e| {
            let why = error::plain(&e);
            ModelError::Device(format!("CUDA device {number} cannot be used: {why}"))
        })
    }
}

/// A model ready to make engines of.
pub struct LoadedModel {
    /// What it is.
    pub info: ModelInfo,
    kind: Kind,
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedModel")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

enum Kind {
    Bert(bert::Bert),
    Tfidf(tfidf::Tfidf),
}

impl LoadedModel {
    /// The preprocessing of this model.
    pub fn preprocess(&self) -> Arc<dyn Preprocess> {
        match &self.kind {
            Kind::Bert(model) => model.pieces.clone(),
            Kind::Tfidf(model) => model.vectorizer.clone(),
        }
    }

    /// A new engine for one worker; the weights are shared with its siblings. It computes on `threads`
    /// threads where that can help.
    pub fn engine(&self, threads: usize) -> Box<dyn Infer> {
        match &self.kind {
            Kind::Bert(model) => model.engine(threads),
            Kind::Tfidf(model) => Box::new(model.engine()),
        }
    }
}

/// Loads the model in directory `dir`. `model_type` in its `config.json` says of what kind it is: of the
/// BERT family (`bert`, `roberta`, `xlm-roberta`, `distilbert`), or `tfidf-linear`. Files that a
/// `SHA256SUMS` beside them lists are held against it.
///
/// # Errors
/// Names the file that is missing, cut short or wrong, and what is wrong with it.
pub fn load(dir: &Path) -> Result<LoadedModel, ModelError> {
    load_on(dir, &Device::Cpu)
}

/// As [`load`], to compute on `device`.
///
/// # Errors
/// As [`load`]; [`ModelError::Device`] if the device cannot take the model.
pub fn load_on(dir: &Path, device: &Device) -> Result<LoadedModel, ModelError> {
    load_from(name_of(dir), &Source::Dir(dir), device)
}

/// A model of any kind.
#[derive(Debug)]
pub enum Model {
    /// Judges documents.
    Encoder(LoadedModel),
    /// Writes texts.
    Causal(causal::Causal),
}

/// Loads the model at `path`, to compute on `device`: a GGUF file, or a directory with one, is a causal model;
/// any other directory is read as by [`load_on`].
///
/// # Errors
/// As [`load_on`].
pub fn open(path: &Path, device: &Device) -> Result<Model, ModelError> {
    let (file, name) = match path.is_dir() {
        false => (Some(path.to_owned()), path.file_stem()),
        true => (causal::file_in(path), None),
    };
    let Some(file) = file else {
        return load_on(path, device).map(Model::Encoder);
    };
    let name = name.map_or_else(|| name_of(path), |name| name.to_string_lossy().into_owned());
    causal::load(name, &file, device).map(Model::Causal)
}

/// Whether what lies at `path` is a model that writes, by its files' names.
pub fn writes(path: &Path) -> bool {
    match path.is_dir() {
        true => causal::file_in(path).is_some(),
        false => path.extension().is_some_and(|e| e == causal::EXTENSION),
    }
}

/// The name of a directory, as others call it, wherever it lies.
fn name_of(dir: &Path) -> String {
    let whole = dir.canonicalize();
    let whole = whole.as_deref().unwrap_or(dir);
    let name = whole.file_name().unwrap_or(whole.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Loads a model compiled into the executable, by name: see [`BUNDLED`].
///
/// # Errors
/// [`ModelError::UnknownName`] for any other name.
pub fn bundled(name: &str) -> Result<LoadedModel, ModelError> {
    bundled_on(name, &Device::Cpu)
}

/// As [`bundled`], to compute on `device`.
///
/// # Errors
/// As [`bundled`]; [`ModelError::Device`] if the device cannot take the model.
pub fn bundled_on(name: &str, device: &Device) -> Result<LoadedModel, ModelError> {
    let Some((name, bundle)) = BUNDLES.iter().find(|(known, _)| *known == name) else {
        return Err(ModelError::UnknownName {
            name: name.to_owned(),
            known: BUNDLED.join(", "),
        });
    };
    load_from((*name).to_owned(), &Source::Bundled(name, bundle), device)
}

/// The names of the models compiled into the executable, the default first.
pub const BUNDLED: &[&str] = &["bert", "tfidf"];

macro_rules! bundle {
    ($dir:literal: $($file:literal),+) => {
        &[$(($file, include_bytes!(concat!("../../models/", $dir, "/", $file)))),+]
    };
}

const BUNDLES: &[(&str, Bundle)] = &[
    (
        "bert",
        bundle!("bert": "config.json", "tokenizer.json", "model.safetensors"),
    ),
    (
        "tfidf",
        bundle!("tfidf": "config.json", "vocabulary.txt", "model.safetensors"),
    ),
];

fn load_from(
    name: String,
    source: &Source<'_>,
    device: &Device,
) -> Result<LoadedModel, ModelError> {
    source.verify()?;
    let config = Config::read(source)?;
    let (kind, labels, dimensions, revision, max_tokens) = match config.text("model_type")? {
        "tfidf-linear" => {
            if let Device::Candle(_) = device {
                let what = "a model of weighted words computes on the processor only; --device cpu";
                return Err(ModelError::Device(what.to_owned()));
            }
            let (model, labels, revision) = tfidf::Tfidf::read(source, &config)?;
            let words = model.vectorizer.len();
            (Kind::Tfidf(model), labels, 0, revision, words)
        }
        kind if bert::MODEL_TYPES.contains(&kind) => {
            let (model, facts) = bert::Bert::read(source, &config, device)?;
            let tokens = model.pieces.max_tokens();
            let bert::Facts {
                labels,
                dimensions,
                revision,
            } = facts;
            (Kind::Bert(model), labels, dimensions, revision, tokens)
        }
        other => {
            return Err(config.invalid(format!(
                "\"model_type\" is {other:?}; built are {:?} and \"tfidf-linear\"",
                bert::MODEL_TYPES
            )));
        }
    };
    let info = ModelInfo {
        name,
        revision,
        labels,
        dimensions,
        max_tokens,
    };
    Ok(LoadedModel { info, kind })
}

#[cfg(test)]
mod tests;
