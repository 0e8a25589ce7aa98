//! A GGUF file: its metadata by key, its tensors by name. candle parses; every error names the file and
//! the key or tensor.

use std::io::Cursor;
use std::panic::AssertUnwindSafe;

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::quantized::k_quants::{BlockQ8_0, GgmlType};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};

use super::super::error::{ModelError, plain};

/// A parsed file over its bytes.
pub(super) struct Gguf<'a> {
    file: String,
    bytes: &'a [u8],
    content: Content,
}

impl<'a> Gguf<'a> {
    pub(super) fn parse(file: String, bytes: &'a [u8]) -> Result<Self, ModelError> {
        // The parser bounds what it allocates by the file's length; an alignment of zero makes it panic.
        let parsed = std::panic::catch_unwind(AssertUnwindSafe(|| {
            Content::read(&mut Cursor::new(bytes)).map_err(|e| plain(&e))
        }))
        .unwrap_or_else(|_| Err("its header makes no sense".to_owned()));
        let content = parsed.map_err(|why| {
            let length = bytes.len();
            ModelError::invalid(
                &file,
                format!("is not a whole GGUF file ({length} bytes): {why}"),
            )
        })?;
        Ok(Self {
            file,
            bytes,
            content,
        })
    }

    pub(super) fn invalid(&self, what: impl Into<String>) -> ModelError {
        ModelError::invalid(&self.file, what)
    }

    pub(super) fn maybe(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    pub(super) fn string(&self, key: &str) -> Result<&str, ModelError> {
        match self.maybe(key) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(self.invalid(format!("needs {key:?} with a string"))),
        }
    }

    /// An integer from 1 to `max` under `key`, so that a damaged file cannot ask for all memory.
    pub(super) fn size(&self, key: &str, max: usize) -> Result<usize, ModelError> {
        self.maybe(key)
            .and_then(integer)
            .filter(|n| (1..=max).contains(n))
            .ok_or_else(|| self.invalid(format!("needs {key:?} with an integer from 1 to {max}")))
    }

    /// As [`Gguf::size`], or `default` where the key is absent.
    pub(super) fn size_or(
        &self,
        key: &str,
        max: usize,
        default: usize,
    ) -> Result<usize, ModelError> {
        match self.maybe(key) {
            None => Ok(default),
            Some(_) => self.size(key, max),
        }
    }

    /// A positive finite number under `key`, or `default` where the key is absent.
    pub(super) fn number_or(&self, key: &str, default: f32) -> Result<f32, ModelError> {
        let number = match self.maybe(key) {
            None => Some(default),
            Some(Value::F32(v)) => Some(*v),
            Some(Value::F64(v)) => Some(*v as f32),
            Some(_) => None,
        };
        number
            .filter(|v| v.is_finite() && *v > 0.0)
            .ok_or_else(|| self.invalid(format!("needs {key:?} with a positive number")))
    }

    /// The elements of the array under `key`, each as `read` reads it.
    pub(super) fn array<T>(
        &self,
        key: &str,
        what: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, ModelError> {
        let elements = match self.maybe(key) {
            Some(Value::Array(values)) => values.iter().map(read).collect(),
            _ => None,
        };
        elements.ok_or_else(|| self.invalid(format!("needs {key:?} with an array of {what}")))
    }

    pub(super) fn has(&self, tensor: &str) -> bool {
        self.content.tensor_infos.contains_key(tensor)
    }

    /// The tensor `name` as 32-bit floats in row-major order: of exactly `shape`, all finite.
    pub(super) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let Some(info) = self.content.tensor_infos.get(name) else {
            return Err(self.invalid(format!("has no tensor {name:?}")));
        };
        if info.shape.dims() != shape {
            let found = info.shape.dims();
            return Err(self.invalid(format!(
                "tensor {name:?} has shape {found:?}; the metadata ask for {shape:?}"
            )));
        }
        let read = || {
            let mut bytes = Cursor::new(self.bytes);
            let tensor = self.content.tensor(&mut bytes, name, &Device::Cpu)?;
            tensor
                .dequantize(&Device::Cpu)?
                .flatten_all()?
                .to_vec1::<f32>()
        };
        let values = read().map_err(|e| self.invalid(format!("tensor {name:?}: {}", plain(&e))))?;
        match values.iter().find(|v| !v.is_finite()) {
            Some(bad) => Err(self.invalid(format!(
                "tensor {name:?} holds {bad}; weights must be finite"
            ))),
            None => Ok(values),
        }
    }

    /// The tensor `name` of `outputs` rows as a [`Matrix`].
    pub(super) fn matrix(
        &self,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Matrix, ModelError> {
        self.matrices(&[(name, outputs)], inputs)
    }

    /// Maps of the same input, side by side in one matrix.
    pub(super) fn matrices(
        &self,
        parts: &[(&str, usize)],
        inputs: usize,
    ) -> Result<Matrix, ModelError> {
        let block = BlockQ8_0::BLCK_SIZE;
        if !inputs.is_multiple_of(block) {
            return Err(self.invalid(format!(
                "maps of {inputs} inputs cannot be stored in blocks of {block}"
            )));
        }
        let outputs = parts.iter().map(|(_, outputs)| outputs).sum::<usize>();
        let mut blocks = vec![BlockQ8_0::zeros(); outputs * inputs / block];
        let mut rest = &mut blocks[..];
        for (name, outputs) in parts {
            let values = self.floats(name, &[*outputs, inputs])?;
            let (these, after) = rest.split_at_mut(values.len() / block);
            BlockQ8_0::from_float(&values, these);
            rest = after;
        }
        Ok(Matrix {
            blocks,
            inputs,
            outputs,
        })
    }
}

/// A linear map in Q8_0: 32 weights of a row share a scale.
#[derive(Clone)]
pub(super) struct Matrix {
    blocks: Vec<BlockQ8_0>,
    inputs: usize,
    outputs: usize,
}

impl Matrix {
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `to` = `from` times the map's transpose, for all rows of `from`, which is quantised to 8 bits a row.
    pub(super) fn multiply(&self, from: &[f32], to: &mut [f32]) -> Result<(), ModelError> {
        let rows = from.len() / self.inputs;
        let sizes = (rows, self.inputs, self.outputs);
        candle_core::quantized::k_quants::matmul(sizes, from, &self.blocks, to)?;
        Ok(())
    }

    /// The map as a tensor of `device`, its blocks as they are.
    pub(super) fn onto(self, device: &Device) -> Result<QTensor, ModelError> {
        let shape = (self.outputs, self.inputs);
        let here = QTensor::new(QStorage::Cpu(Box::new(self.blocks)), shape)?;
        // Not quantised there: candle leaves what its kernels read behind the last block as it is then.
        let there = QStorage::from_data(here.data()?, device, GgmlDType::Q8_0)?;
        Ok(QTensor::new(there, shape)?)
    }

    /// Row `at` of the map, as floats.
    pub(super) fn row(&self, at: usize, to: &mut [f32]) {
        let blocks = self.inputs / BlockQ8_0::BLCK_SIZE;
        BlockQ8_0::to_float(&self.blocks[at * blocks..(at + 1) * blocks], to);
    }
}

/// Any integer of the format, if it is not negative.
pub(super) fn integer(value: &Value) -> Option<usize> {
    match *value {
        Value::U8(v) => Some(usize::from(v)),
        Value::U16(v) => Some(usize::from(v)),
        Value::U32(v) => usize::try_from(v).ok(),
        Value::U64(v) => usize::try_from(v).ok(),
        Value::I8(v) => usize::try_from(v).ok(),
        Value::I16(v) => usize::try_from(v).ok(),
        Value::I32(v) => usize::try_from(v).ok(),
        Value::I64(v) => usize::try_from(v).ok(),
        _ => None,
    }
}
