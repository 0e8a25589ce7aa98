//! From text to word pieces, by the model's own `tokenizer.json`.

use std::time::Instant;

use tokenizers::{Tokenizer, TruncationParams};

use super::super::source::Source;
use super::super::{Encoded, ModelError, Preprocess, Stage};

const STAGES: &[&str] = &["tokenize"];

/// The tokenizer, made to cut at what the model can read and never to pad: padding costs as much as
/// text does.
pub(in super::super) struct Pieces {
    tokenizer: Tokenizer,
    max_tokens: usize,
}

impl Pieces {
    /// `vocabulary` is the number of rows that the model has embeddings for, `max_tokens` the number
    /// of tokens at which texts are cut.
    pub(super) fn read(
        source: &Source<'_>,
        vocabulary: usize,
        max_tokens: usize,
    ) -> Result<Self, ModelError> {
        let file = source.describe("tokenizer.json");
        let bytes = source.read("tokenizer.json")?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes[..])
            .map_err(|e| ModelError::invalid(&file, format!("is not a tokenizer: {e}")))?;
        if let Some((piece, id)) = tokenizer
            .get_vocab(true)
            .into_iter()
            .find(|(_, id)| *id as usize >= vocabulary)
        {
            return Err(ModelError::invalid(
                &file,
                format!("gives {piece:?} the id {id}, but \"vocab_size\" is {vocabulary}"),
            ));
        }
        // What the file itself says of truncation is replaced below, once it is known to be wide enough.
        tokenizer
            .with_truncation(None)
            .map_err(|e| ModelError::invalid(&file, e.to_string()))?;
        let empty = tokenizer
            .with_padding(None)
            .encode_fast("", true)
            .map_err(|e| ModelError::invalid(&file, e.to_string()))?;
        if max_tokens <= empty.len() {
            return Err(ModelError::invalid(
                &file,
                format!(
                    "cuts texts at {max_tokens} tokens, which leaves none beside the {} special ones",
                    empty.len()
                ),
            ));
        }
        let truncation = TruncationParams {
            max_length: max_tokens,
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|e| ModelError::invalid(&file, e.to_string()))?;
        Ok(Self {
            tokenizer,
            max_tokens,
        })
    }

    /// The most tokens that a document can have.
    pub(in super::super) fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    fn tokens(&self, text: &str) -> Result<Encoded, ModelError> {
        let encoding = self
            .tokenizer
            .encode_fast(beginning(text, self.max_tokens), true)
            .map_err(|e| ModelError::Tokenise(e.to_string()))?;
        Ok(Encoded {
            ids: encoding.get_ids().to_vec(),
            weights: Vec::new(),
        })
    }
}

impl Preprocess for Pieces {
    fn encode_timed(&self, text: &str) -> Result<(Encoded, Vec<Stage>), ModelError> {
        let start = Instant::now();
        let encoded = self.tokens(text)?;
        let stage = Stage {
            name: STAGES[0],
            start,
            end: Instant::now(),
        };
        Ok((encoded, vec![stage]))
    }

    fn stages(&self) -> &'static [&'static str] {
        STAGES
    }
}

/// As much of `text` as can matter when `words` tokens are read. The tokenizer cuts only after it has
/// gone through the whole text, so that the largest documents would cost most for nothing. Each
/// stretch between white space that has a letter in it becomes at least one token, hence what
/// follows the first `words` of them never gets in.
fn beginning(text: &str, words: usize) -> &str {
    let (mut seen, mut letter) = (0, false);
    for (at, c) in text.char_indices() {
        if c.is_whitespace() {
            seen += usize::from(letter);
            letter = false;
            if seen == words {
                return &text[..at];
            }
        } else {
            letter |= c.is_ascii_alphabetic();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_ends_after_so_many_words() {
        assert_eq!(
            beginning("one, two -- 3 three four", 3),
            "one, two -- 3 three"
        );
        assert_eq!(beginning("one two", 2), "one two");
        assert_eq!(beginning(" \u{a0}é\u{2003}x y", 1), " \u{a0}é\u{2003}x");
        assert_eq!(beginning("", 4), "");
    }

    #[test]
    fn cutting_before_tokenising_changes_nothing() {
        let model = crate::model::bundled("bert").unwrap();
        let bytes = include_bytes!("../../../models/bert/tokenizer.json");
        let plain = Tokenizer::from_bytes(bytes).unwrap();
        for text in [
            "The -- goalie's  catching-glove, 12 35!\n".repeat(100),
            "antidisestablishmentarianism \u{e9}t\u{e9} \u{4e2d}\u{6587} ".repeat(300),
            "x ".repeat(5000),
            format!("{} tail of words", "a".repeat(20_000)),
        ] {
            let whole = plain.encode_fast(text.as_str(), true).unwrap();
            let encoded = model.preprocess().encode(&text).unwrap();
            assert_eq!(encoded.ids, whole.get_ids());
        }
    }
}
