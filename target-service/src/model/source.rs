//! Where a model's files come from (a directory, or the executable itself) and how they are read:
//! every error names the file and says what was expected in it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device};
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
    pub(super) fn read(&self, file: &str) -> Result<Cow<'static, [u8]>, ModelError> {
        let result = match self {
            Self::Dir(dir) => std::fs::read(dir.join(file)).map(Cow::Owned),
            Self::Bundled(_, bundle) => bundle
                .iter()
                .find(|(name, _)| *name == file)
                .map(|(_, bytes)| Cow::Borrowed(*bytes))
                .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound)),
        };
        result.map_err(|source| ModelError::Read {
            file: self.describe(file),
            source,
        })
    }
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

/// The tensors of a `model.safetensors`.
pub(super) struct Weights {
    file: String,
    tensors: std::collections::HashMap<String, candle_core::Tensor>,
    /// First twelve hexadecimal digits of the file's SHA-256.
    pub(super) revision: String,
}

impl Weights {
    pub(super) fn read(source: &Source<'_>) -> Result<Self, ModelError> {
        let file = source.describe("model.safetensors");
        let bytes = source.read("model.safetensors")?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| {
            ModelError::invalid(
                &file,
                format!(
                    "is not a whole safetensors file ({} bytes): {e}",
                    bytes.len()
                ),
            )
        })?;
        let digest = Sha256::digest(&bytes);
        let revision = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
        Ok(Self {
            file,
            tensors,
            revision,
        })
    }

    /// The tensor `name` as 32-bit floats in row-major order. It must have exactly `shape`, be
    /// stored as F16 or F32, and hold finite numbers only.
    pub(super) fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let invalid = |what| ModelError::invalid(&self.file, what);
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| invalid(format!("has no tensor {name:?}")))?;
        if tensor.dims() != shape {
            return Err(invalid(format!(
                "tensor {name:?} has shape {:?}; the configuration asks for {shape:?}",
                tensor.dims()
            )));
        }
        if !matches!(tensor.dtype(), DType::F16 | DType::F32) {
            return Err(invalid(format!(
                "tensor {name:?} is stored as {:?}; F16 and F32 are read",
                tensor.dtype()
            )));
        }
        let values = tensor
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
