//! Where a model's files come from (a directory, or the executable itself) and how they are read:
//! every error names the file and says what was expected in it.
#![allow(unsafe_code)] // Mapping a file: see `Bytes::map`.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, Range};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::ModelError;

/// A bundled model: file names and contents.
pub(super) type Bundle = &'static [(&'static str, &'static [u8])];

/// The files of one model.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// A directory in the Hugging Face layout.
    Dir(&'a Path),
    /// Files compiled into the executable.
    Bundled(&'a str, Bundle),
}

impl Source<'_> {
    /// How `file` is called in errors.
    pub(super) fn describe(&self, file: &str) -> String {
        match self {
            Self::Dir(dir) => dir.join(file).display().to_string(),
            Self::Bundled(name, _) => format!("bundled:{name}/{file}"),
        }
    }

    /// The bytes of `file`.
    pub(super) fn read(&self, file: &str) -> Result<Bytes, ModelError> {
        let result = match self {
            Self::Dir(dir) => Bytes::map(&dir.join(file)),
            Self::Bundled(_, bundle) => bundle
                .iter()
                .find(|(name, _)| *name == file)
                .map(|(_, bytes)| Bytes::Static(bytes))
                .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound)),
        };
        result.map_err(|source| ModelError::Read {
            file: self.describe(file),
            source,
        })
    }

    /// The bytes of `file`, or `None` when there is no such file.
    fn maybe_read(&self, file: &str) -> Result<Option<Bytes>, ModelError> {
        match self.read(file) {
            Err(ModelError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// `file` as JSON, or `None` when there is no such file.
    pub(super) fn maybe_json(&self, file: &str) -> Result<Option<Value>, ModelError> {
        let Some(bytes) = self.maybe_read(file)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| ModelError::invalid(self.describe(file), format!("is not JSON: {e}")))
    }

    /// Holds the files that `SHA256SUMS` lists, in the format of `sha256sum`, against it. Without such a
    /// file nothing is checked.
    ///
    /// # Errors
    /// Names the file that is missing or another than the one listed.
    pub(super) fn verify(&self) -> Result<(), ModelError> {
        let list = "SHA256SUMS";
        let Some(bytes) = self.maybe_read(list)? else {
            return Ok(());
        };
        let invalid = |line: usize, what: String| {
            ModelError::invalid(self.describe(list), format!("line {line}: {what}"))
        };
        let text = std::str::from_utf8(&bytes).map_err(|e| invalid(0, e.to_string()))?;
        for (at, line) in text.lines().enumerate() {
            let parted = line.split_once([' ', '\t']);
            let Some((digest, name)) = parted.filter(|(digest, _)| digest.len() == 64) else {
                let what = "needs 64 hexadecimal digits, blanks and a file name".to_owned();
                return Err(invalid(at + 1, what));
            };
            // A star marks a binary file, which all are.
            let name = name.trim_start().trim_start_matches('*');
            let found = hex(&Sha256::digest(&self.read(name)?[..]));
            if !found.eq_ignore_ascii_case(digest) {
                return Err(ModelError::invalid(
                    self.describe(name),
                    format!("has the SHA-256 {found}, but {list} lists {digest}"),
                ));
            }
        }
        Ok(())
    }
}

/// The contents of a file.
pub(super) enum Bytes {
    /// A file mapped into memory: read when it is looked at, and never twice.
    Mapped(memmap2::Mmap),
    /// Compiled in, or empty.
    Static(&'static [u8]),
}

impl Bytes {
    fn map(path: &Path) -> std::io::Result<Self> {
        let file = std::fs::File::open(path)?;
        if file.metadata()?.len() == 0 {
            // Nothing cannot be mapped.
            return Ok(Self::Static(&[]));
        }
        // SAFETY: the mapping is read only while the model is loaded. Whoever writes into a model's
        // file meanwhile changes what is read; cutting it short ends the process. Files of a model are
        // replaced by renaming, never in place.
        Ok(Self::Mapped(unsafe { memmap2::Mmap::map(&file)? }))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

/// The SHA-256 of `bytes`.
pub(super) fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// A parsed `config.json`, with errors that name the key.
pub(super) struct Config {
    file: String,
    json: Value,
}

impl Config {
    pub(super) fn read(source: &Source<'_>) -> Result<Self, ModelError> {
        let file = source.describe("config.json");
        let bytes = source.read("config.json")?;
        let json = serde_json::from_slice(&bytes)
            .map_err(|e| ModelError::invalid(&file, format!("is not JSON: {e}")))?;
        Ok(Self { file, json })
    }

    pub(super) fn invalid(&self, what: impl Into<String>) -> ModelError {
        ModelError::invalid(&self.file, what)
    }

    /// A string under `key`.
    pub(super) fn text(&self, key: &str) -> Result<&str, ModelError> {
        self.json
            .get(key)
            .and_then(Value::as_str)
            .ok_or_else(|| self.invalid(format!("needs {key:?} with a string")))
    }

    /// A string under `key`, or `None` where the key is absent or null.
    pub(super) fn maybe_text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        match self.json.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.text(key).map(Some),
        }
    }

    /// Whether the class in `architectures` is one that classifies.
    pub(super) fn classifies(&self) -> bool {
        let classes = self.json.get("architectures").and_then(Value::as_array);
        let mut names = classes.into_iter().flatten().filter_map(Value::as_str);
        names.any(|name| name.ends_with("ForSequenceClassification"))
    }

    /// A positive integer under `key`, at most `max` so that a damaged file cannot ask for the
    /// machine's whole memory.
    pub(super) fn size(&self, key: &str, max: usize) -> Result<usize, ModelError> {
        self.json
            .get(key)
            .and_then(Value::as_u64)
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..=max).contains(n))
            .ok_or_else(|| self.invalid(format!("needs {key:?} with an integer from 1 to {max}")))
    }

    /// A number under `key`, or `default` where the key is absent.
    pub(super) fn number_or(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        match self.json.get(key) {
            None => Ok(default),
            Some(v) => v
                .as_f64()
                .ok_or_else(|| self.invalid(format!("needs {key:?} with a number"))),
        }
    }

    /// `id2label`: the names of the classes in the order of the scores. At least two, all
    /// different, the ids 0, 1, 2, … without a gap.
    pub(super) fn labels(&self) -> Result<Vec<String>, ModelError> {
        let wrong = || {
            self.invalid(
                "needs \"id2label\" with the labels \"0\", \"1\", … all different, at least two",
            )
        };
        let map = self
            .json
            .get("id2label")
            .and_then(Value::as_object)
            .ok_or_else(wrong)?;
        let mut by_id = BTreeMap::new();
        for (id, label) in map {
            let id: usize = id.parse().map_err(|_| wrong())?;
            by_id.insert(id, label.as_str().ok_or_else(wrong)?.to_owned());
        }
        let gapless = by_id.keys().enumerate().all(|(at, id)| at == *id);
        let labels: Vec<String> = by_id.into_values().collect();
        let distinct: std::collections::BTreeSet<_> = labels.iter().collect();
        if !gapless || labels.len() < 2 || distinct.len() != labels.len() {
            return Err(wrong());
        }
        Ok(labels)
    }
}

/// The tensors of a safetensors file.
pub(super) struct Weights {
    file: String,
    bytes: Bytes,
    tensors: HashMap<String, Stored>,
    /// First twelve hexadecimal digits of the file's SHA-256.
    pub(super) revision: String,
}

/// How a tensor lies in the file.
struct Stored {
    dtype: safetensors::Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

impl Weights {
    pub(super) fn read(source: &Source<'_>) -> Result<Self, ModelError> {
        Self::of(
            source,
            "model.safetensors",
            source.read("model.safetensors")?,
        )
    }

    /// The tensors of another file, or `None` when there is no such file.
    pub(super) fn maybe_read(source: &Source<'_>, file: &str) -> Result<Option<Self>, ModelError> {
        let bytes = source.maybe_read(file)?;
        bytes.map(|bytes| Self::of(source, file, bytes)).transpose()
    }

    fn of(source: &Source<'_>, file: &str, bytes: Bytes) -> Result<Self, ModelError> {
        let file = source.describe(file);
        let parsed = SafeTensors::deserialize(&bytes).map_err(|e| {
            ModelError::invalid(
                &file,
                format!(
                    "is not a whole safetensors file ({} bytes): {e}",
                    bytes.len()
                ),
            )
        })?;
        let base = bytes.as_ptr() as usize;
        let tensors = parsed
            .iter()
            .map(|(name, view)| {
                let from = view.data().as_ptr() as usize - base;
                let stored = Stored {
                    dtype: view.dtype(),
                    shape: view.shape().to_vec(),
                    bytes: from..from + view.data().len(),
                };
                (name.to_owned(), stored)
            })
            .collect();
        let revision = hex(&Sha256::digest(&bytes[..])[..6]);
        Ok(Self {
            file,
            bytes,
            tensors,
            revision,
        })
    }

    /// Whether there is a tensor of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor `name` as 32-bit floats in row-major order. It must have exactly `shape`, be
    /// stored as F16, BF16 or F32, and hold finite numbers only.
    pub(super) fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let invalid = |what| ModelError::invalid(&self.file, what);
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| invalid(format!("has no tensor {name:?}")))?;
        if tensor.shape != shape {
            return Err(invalid(format!(
                "tensor {name:?} has shape {:?}; the configuration asks for {shape:?}",
                tensor.shape
            )));
        }
        let dtype = match tensor.dtype {
            safetensors::Dtype::F16 => DType::F16,
            safetensors::Dtype::BF16 => DType::BF16,
            safetensors::Dtype::F32 => DType::F32,
            other => {
                return Err(invalid(format!(
                    "tensor {name:?} is stored as {other:?}; F16, BF16 and F32 are read"
                )));
            }
        };
        let bytes = &self.bytes[tensor.bytes.clone()];
        let values = Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(invalid(format!(
                "tensor {name:?} holds {} at element {at}; weights must be finite",
                values[at]
            )));
        }
        Ok(values)
    }
}
