//! Text to tokens and back, as the file's own vocabulary says: byte-level BPE.
//!
//! candle's reader of GGUF vocabularies puts a blank before the text and does not part digits, both of which
//! this family's models were not trained with; hence our own few lines.

use candle_core::quantized::gguf_file::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer};

use super::super::ModelError;
use super::read::{Gguf, integer};

/// The kind of a token that stands for no text: `<|im_start|>`.
const CONTROL: usize = 3;
/// The kind of a token that stands for its own name.
const USER_DEFINED: usize = 4;
/// Ends a text, also where the file names another token for that.
const END_OF_TEXT: &str = "<|endoftext|>";

/// The vocabulary. Shared between threads.
pub struct Text {
    tokenizer: Tokenizer,
    /// The bytes that each token stands for; none for control tokens.
    bytes: Vec<Box<[u8]>>,
    ends: Vec<u32>,
    /// Goes before every text, where the file asks for it.
    begin: Option<u32>,
}

impl Text {
    pub(super) fn read(file: &Gguf<'_>) -> Result<Self, ModelError> {
        let kind = file.string("tokenizer.ggml.model")?;
        if kind != "gpt2" {
            return Err(file.invalid(format!(
                "has a vocabulary of the kind {kind:?}; \"gpt2\" is built"
            )));
        }
        let text = |value: &Value| value.to_string().ok().cloned();
        let tokens = file.array("tokenizer.ggml.tokens", "strings", text)?;
        let kinds = file.array("tokenizer.ggml.token_type", "integers", integer)?;
        if tokens.is_empty() || kinds.len() != tokens.len() {
            return Err(file.invalid(format!(
                "has {} tokens and the kinds of {}",
                tokens.len(),
                kinds.len()
            )));
        }
        let merge = |value: &Value| {
            let merge = text(value)?;
            let (left, right) = merge.split_once(' ')?;
            Some((left.to_owned(), right.to_owned()))
        };
        let merges = file.array("tokenizer.ggml.merges", "pairs of strings", merge)?;
        let id = |key: &str| -> Result<Option<u32>, ModelError> {
            let Some(value) = file.maybe(key) else {
                return Ok(None);
            };
            let found = integer(value).filter(|id| *id < tokens.len());
            let found = found.and_then(|id| u32::try_from(id).ok());
            let wrong = || file.invalid(format!("{key:?} is no token of the vocabulary"));
            found.ok_or_else(wrong).map(Some)
        };
        let mut ends: Vec<u32> = Vec::new();
        ends.extend(id("tokenizer.ggml.eos_token_id")?);
        ends.extend(id("tokenizer.ggml.eot_token_id")?);
        let end = tokens.iter().position(|token| token == END_OF_TEXT);
        ends.extend(end.and_then(|id| u32::try_from(id).ok()));
        let begins = matches!(
            file.maybe("tokenizer.ggml.add_bos_token"),
            Some(Value::Bool(true))
        );
        let begin = id("tokenizer.ggml.bos_token_id")?.filter(|_| begins);
        let bytes = tokens.iter().zip(&kinds).map(|(token, kind)| match *kind {
            CONTROL => Some(Box::default()),
            USER_DEFINED => Some(token.as_bytes().into()),
            _ => bytes_of(token),
        });
        let bytes = bytes
            .collect::<Option<Vec<Box<[u8]>>>>()
            .ok_or_else(|| file.invalid("has a token with letters that stand for no byte"))?;
        Ok(Self {
            tokenizer: tokenizer(file, &tokens, &kinds, merges)?,
            bytes,
            ends,
            begin,
        })
    }

    /// Tokens there are.
    pub(super) fn vocabulary(&self) -> usize {
        self.bytes.len()
    }

    /// The tokens of a text. Names of control tokens in it are read as those.
    ///
    /// # Errors
    /// [`ModelError::Tokenise`] when the text has no encoding.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self
            .tokenizer
            .encode_fast(text, false)
            .map_err(|e| ModelError::Tokenise(e.to_string()))?;
        Ok(self
            .begin
            .iter()
            .chain(encoding.get_ids())
            .copied()
            .collect())
    }

    /// Whether there is a token of this number.
    pub fn has(&self, token: u32) -> bool {
        (token as usize) < self.bytes.len()
    }

    /// Whether the token ends a text.
    pub fn ends(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// The bytes that a token stands for; none for control tokens.
    fn bytes(&self, token: u32) -> &[u8] {
        self.bytes
            .get(token as usize)
            .map_or(&[], |bytes| &bytes[..])
    }
}

fn tokenizer(
    file: &Gguf<'_>,
    tokens: &[String],
    kinds: &[usize],
    merges: Vec<(String, String)>,
) -> Result<Tokenizer, ModelError> {
    let bytes = ByteLevel::new(false, true, true);
    let split: PreTokenizerWrapper = match file.string("tokenizer.ggml.pre")? {
        "smollm" => Sequence::new(vec![Digits::new(true).into(), bytes.into()]).into(),
        "gpt-2" | "gpt2" => bytes.into(),
        other => {
            return Err(file.invalid(format!(
                "splits texts as {other:?}; \"smollm\" and \"gpt-2\" are built"
            )));
        }
    };
    let ids: Vocab = tokens.iter().cloned().zip(0u32..).collect();
    let bpe = BPE::builder().vocab_and_merges(ids, merges).build();
    let bpe =
        bpe.map_err(|e| file.invalid(format!("has a vocabulary that makes no sense: {e}")))?;
    let mut tokenizer = Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(split));
    let special = tokens
        .iter()
        .zip(kinds)
        .filter(|(_, kind)| matches!(**kind, CONTROL | USER_DEFINED))
        .map(|(token, kind)| AddedToken::from(token.clone(), *kind == CONTROL));
    tokenizer
        .add_special_tokens(special.collect::<Vec<_>>())
        .map_err(|e| file.invalid(format!("has control tokens that make no sense: {e}")))?;
    Ok(tokenizer)
}

/// The bytes of a token, in whose name each byte is a letter that can be printed (GPT-2's table).
pub(super) fn bytes_of(token: &str) -> Option<Box<[u8]>> {
    // Those that can be printed stand for themselves, the others for the letters from 256 on, in order.
    let printed = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let hidden: Vec<u8> = (0..=255).filter(|byte| !printed(byte)).collect();
    let byte = |letter: char| match u32::from(letter) {
        code @ 0..=255 => u8::try_from(code).ok().filter(printed),
        code => hidden.get(code as usize - 256).copied(),
    };
    token.chars().map(byte).collect()
}

/// Puts a text together from tokens, giving out only what can no longer change: whole characters, and
/// nothing that may turn out to be the beginning of a stop text.
#[derive(Debug)]
pub struct Detokenizer {
    /// Bytes of a character that is not whole yet.
    pending: Vec<u8>,
    /// Text that may be the beginning of a stop text.
    held: String,
    stops: Vec<String>,
    stopped: bool,
}

impl Detokenizer {
    /// Texts at which generation stops; they are not given out themselves. Empty ones are ignored.
    pub fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self {
            pending: Vec::new(),
            held: String::new(),
            stops,
            stopped: false,
        }
    }

    /// Whether a stop text has come.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// What `token` adds to the text for certain.
    pub fn push(&mut self, text: &Text, token: u32) -> String {
        self.pending.extend_from_slice(text.bytes(token));
        self.take_characters();
        self.release(false)
    }

    /// What is left when no more tokens come. A character that is not whole becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        let rest = std::mem::take(&mut self.pending);
        self.held.push_str(&String::from_utf8_lossy(&rest));
        self.release(true)
    }

    /// Moves whole characters to `held`. Bytes that can never become one become U+FFFD.
    fn take_characters(&mut self) {
        loop {
            let error = match std::str::from_utf8(&self.pending) {
                Ok(whole) => {
                    self.held.push_str(whole);
                    self.pending.clear();
                    return;
                }
                Err(error) => error,
            };
            let valid = error.valid_up_to();
            let bad = error.error_len();
            let used = valid + bad.unwrap_or(0);
            let rest = self.pending.split_off(used);
            self.pending.truncate(valid);
            // Checked above, so that nothing is replaced.
            self.held.push_str(&String::from_utf8_lossy(&self.pending));
            self.pending = rest;
            if bad.is_none() {
                return;
            }
            self.held.push(char::REPLACEMENT_CHARACTER);
        }
    }

    fn release(&mut self, all: bool) -> String {
        if self.stopped {
            self.held.clear();
            return String::new();
        }
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop));
        if let Some(at) = found.min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = match all {
            true => 0,
            false => self.undecided(),
        };
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Bytes at the end of `held` that may be the beginning of a stop text.
    fn undecided(&self) -> usize {
        let mut ends = self.held.char_indices().map(|(at, _)| &self.held[at..]);
        let longest = ends.find(|end| self.stops.iter().any(|stop| stop.starts_with(end)));
        longest.map_or(0, str::len)
    }
}
