//! Weighted words and a linear layer: the model for high rates.
//!
//! A text is cut into runs of at least two ASCII letters, lowercased; each word of the vocabulary
//! weighs `(1 + ln count) · idf` and the weights of a document have Euclidean length 1. This is what
//! scikit-learn calls `CountVectorizer` and `TfidfTransformer(sublinear_tf)`, whose names the two
//! stages bear. The logits are the weighted sum of the words' rows plus a bias.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::source::{Config, Source, Weights};
use super::{Encoded, Infer, ModelError, Prediction, Preprocess, Stage};

/// Vocabularies beyond this are refused: they would be a mistake.
const MAX_WORDS: usize = 1_000_000;

const STAGES: &[&str] = &["count_vectorizer", "tfidf_transformer"];

/// Calls `found` with every word of `text`: maximal runs of ASCII letters, at least two of them,
/// lowercased.
pub fn words(text: &str, mut found: impl FnMut(&str)) {
    let mut word = String::new();
    for run in text
        .as_bytes()
        .split(|b| !b.is_ascii_alphabetic())
        .filter(|run| run.len() >= 2)
    {
        word.clear();
        word.extend(run.iter().map(|b| char::from(b.to_ascii_lowercase())));
        found(&word);
    }
}

/// From text to weighted words.
pub struct Vectorizer {
    index: HashMap<Box<str>, u32>,
    idf: Vec<f32>,
}

impl Vectorizer {
    /// `vocabulary[i]` has the inverse document frequency `idf[i]`.
    ///
    /// # Errors
    /// Says which word is there twice, or that the lengths differ.
    pub fn new<'a>(
        vocabulary: impl IntoIterator<Item = &'a str>,
        idf: Vec<f32>,
    ) -> Result<Self, String> {
        let mut index = HashMap::new();
        for (at, word) in vocabulary.into_iter().enumerate() {
            let id = u32::try_from(at).map_err(|_| "too many words".to_owned())?;
            if index.insert(word.into(), id).is_some() {
                return Err(format!("line {}: the word {word:?} is there twice", at + 1));
            }
        }
        if index.len() != idf.len() {
            return Err(format!(
                "has {} words, but there are weights for {}",
                index.len(),
                idf.len()
            ));
        }
        Ok(Self { index, idf })
    }

    /// Number of words in the vocabulary.
    pub fn len(&self) -> usize {
        self.idf.len()
    }

    /// Whether the vocabulary is empty.
    pub fn is_empty(&self) -> bool {
        self.idf.is_empty()
    }

    /// The vocabulary's words in `text` with their number of occurrences, by ascending id. Sorted
    /// so that sums over a document are always taken in the same order.
    fn count(&self, text: &str) -> Vec<(u32, u32)> {
        let mut ids = Vec::with_capacity(text.len() / 6);
        words(text, |word| ids.extend(self.index.get(word)));
        ids.sort_unstable();
        ids.chunk_by(|a, b| a == b)
            .map(|same| (same[0], u32::try_from(same.len()).unwrap_or(u32::MAX)))
            .collect()
    }

    fn transform(&self, counts: &[(u32, u32)]) -> Encoded {
        let mut weights: Vec<f32> = counts
            .iter()
            .map(|(id, count)| (1.0 + (*count as f32).ln()) * self.idf[*id as usize])
            .collect();
        let length = weights.iter().map(|w| w * w).sum::<f32>().sqrt();
        if length > 0.0 {
            weights.iter_mut().for_each(|w| *w /= length);
        }
        Encoded {
            ids: counts.iter().map(|(id, _)| *id).collect(),
            weights,
        }
    }
}

impl Preprocess for Vectorizer {
    fn encode_timed(&self, text: &str) -> Result<(Encoded, Vec<Stage>), ModelError> {
        let start = Instant::now();
        let counts = self.count(text);
        let counted = Instant::now();
        let encoded = self.transform(&counts);
        let end = Instant::now();
        let stages = vec![
            Stage {
                name: STAGES[0],
                start,
                end: counted,
            },
            Stage {
                name: STAGES[1],
                start: counted,
                end,
            },
        ];
        Ok((encoded, stages))
    }

    fn stages(&self) -> &'static [&'static str] {
        STAGES
    }
}

/// The loaded model.
pub(super) struct Tfidf {
    pub(super) vectorizer: Arc<Vectorizer>,
    linear: Arc<Linear>,
}

struct Linear {
    /// Row-major, one row of `labels` weights per word: what a word adds to each label lies together.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Tfidf {
    /// The model, its labels and its revision.
    pub(super) fn read(
        source: &Source<'_>,
        config: &Config,
    ) -> Result<(Self, Vec<String>, String), ModelError> {
        let labels = config.labels()?;
        let size = config.size("vocab_size", MAX_WORDS)?;
        let file = source.describe("vocabulary.txt");
        let bytes = source.read("vocabulary.txt")?;
        let text = std::str::from_utf8(&bytes)
            .map_err(|e| ModelError::invalid(&file, format!("is not UTF-8: {e}")))?;
        let weights = Weights::read(source)?;
        let idf = weights.f32("idf", &[size])?;
        let vectorizer =
            Vectorizer::new(text.lines(), idf).map_err(|e| ModelError::invalid(&file, e))?;
        let linear = Linear {
            weight: weights.f32("linear.weight", &[size, labels.len()])?,
            bias: weights.f32("linear.bias", &[labels.len()])?,
        };
        let model = Self {
            vectorizer: Arc::new(vectorizer),
            linear: Arc::new(linear),
        };
        Ok((model, labels, weights.revision))
    }

    pub(super) fn engine(&self) -> impl Infer + use<> {
        Engine(Arc::clone(&self.linear))
    }
}

struct Engine(Arc<Linear>);

impl Engine {
    fn judge(&self, document: &Encoded) -> Result<Prediction, ModelError> {
        let Linear { weight, bias } = &*self.0;
        if document.ids.len() != document.weights.len() {
            return Err(ModelError::Mismatch(format!(
                "{} words with {} weights",
                document.ids.len(),
                document.weights.len()
            )));
        }
        let mut logits = bias.clone();
        for (id, w) in document.ids.iter().zip(&document.weights) {
            let at = *id as usize * bias.len();
            let row = weight.get(at..at + bias.len()).ok_or_else(|| {
                ModelError::Mismatch(format!("word {id} is outside the vocabulary"))
            })?;
            for (logit, v) in logits.iter_mut().zip(row) {
                *logit += w * v;
            }
        }
        Prediction::from_logits(&logits)
    }
}

impl Infer for Engine {
    fn infer(&mut self, batch: &[&Encoded]) -> Vec<Result<Prediction, ModelError>> {
        batch.iter().map(|document| self.judge(document)).collect()
    }
}
