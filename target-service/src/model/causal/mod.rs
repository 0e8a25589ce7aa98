//! Small causal language models of the Llama family, from GGUF: tokens in, the next token's scores out.
//!
//! `read` takes the file apart, `forward` computes steps over several sequences at once, `text` turns
//! text into tokens and back piece by piece, `sample` chooses the next token. The weights are multiplied
//! by candle's kernels for Q8_0; whatever the file holds is brought to that when it is loaded, since
//! candle has no vector instructions for Q4_1 and its like (three to four times slower). On other devices
//! than the processor `operators` takes the place of `forward`.

mod forward;
mod operators;
mod read;
mod sample;
mod text;

use std::path::Path;
use std::sync::Arc;

use super::source::{Source, hex};
use super::{Device, ModelError, ModelInfo};
use forward::{AsRead, Network};
pub use sample::{Sampler, Sampling};
pub use text::{Detokenizer, Text};

/// The file of a model in a directory ends in this.
pub const EXTENSION: &str = "gguf";

/// The tokens computed so far of one sequence: keys and values of every layer.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// One row a position for each layer.
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    /// Both for each layer, where the engine computes on another device than the processor.
    tensors: Vec<(candle_core::Tensor, candle_core::Tensor)>,
    positions: usize,
}

impl Memory {
    /// Positions that are taken.
    pub fn positions(&self) -> usize {
        self.positions
    }
}

/// A sequence's part of one step.
#[derive(Debug)]
pub struct Part<'a> {
    /// What was computed of the sequence before; grows by `tokens`.
    pub memory: &'a mut Memory,
    /// The next tokens of the sequence, at least one.
    pub tokens: &'a [u32],
    /// Whether the scores of the token after the last one are wanted.
    pub scores: bool,
}

/// Computes steps over several sequences. One per worker thread.
pub trait Decode: Send {
    /// For each part, in order, one score for each token of the vocabulary, or nothing where they were
    /// not wanted. What a sequence gets does not depend on the others in the step; on another device than
    /// the processor not by more than the last digits.
    ///
    /// # Errors
    /// [`ModelError`]: nothing can be said of any of the sequences, whose memory is of no use any more.
    fn step(&mut self, parts: &mut [Part<'_>]) -> Result<Vec<Vec<f32>>, ModelError>;
}

/// A causal model ready to make engines of.
pub struct Causal {
    /// What it is.
    pub info: ModelInfo,
    /// Text to tokens and back.
    pub text: Arc<Text>,
    network: Placed,
}

/// The network, where it computes.
enum Placed {
    Processor(Arc<Network>),
    Device(Arc<Network<operators::OnDevice>>),
}

impl std::fmt::Debug for Causal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Causal")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Causal {
    /// A new engine for one worker; the weights are shared with its siblings.
    pub fn engine(&self) -> Box<dyn Decode> {
        match &self.network {
            Placed::Processor(network) => Box::new(forward::Engine::new(Arc::clone(network))),
            Placed::Device(network) => Box::new(operators::Engine::new(Arc::clone(network))),
        }
    }
}

/// Loads the model in the GGUF file `path`, called `name`, to compute on `device`. A `SHA256SUMS` beside it is held against it.
///
/// # Errors
/// Names the file and what is wrong with it.
pub(super) fn load(name: String, path: &Path, device: &Device) -> Result<Causal, ModelError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let source = Source::Dir(directory);
    source.verify()?;
    let bytes = source.read(&file)?;
    let model = read::Gguf::parse(source.describe(&file), &bytes)?;
    let text = Text::read(&model)?;
    let vocabulary = text.vocabulary();
    let (network, context) = match device {
        Device::Cpu => {
            let (network, context) = Network::read(&model, vocabulary, &AsRead)?;
            (Placed::Processor(Arc::new(network)), context)
        }
        Device::Candle(device) => {
            let keep = operators::OnDevice(device.clone());
            let (network, context) = Network::read(&model, vocabulary, &keep)?;
            (Placed::Device(Arc::new(network)), context)
        }
    };
    let revision = hex(&super::source::digest(&bytes)[..6]);
    let info = ModelInfo {
        name,
        revision,
        labels: Vec::new(),
        dimensions: 0,
        max_tokens: context,
    };
    Ok(Causal {
        info,
        text: Arc::new(text),
        network,
    })
}

/// The one GGUF file in a directory without a `config.json`; `None` when it is not one of those.
pub(super) fn file_in(directory: &Path) -> Option<std::path::PathBuf> {
    if directory.join("config.json").exists() {
        return None;
    }
    let entries = std::fs::read_dir(directory).ok()?;
    let mut files = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == EXTENSION));
    let only = files.next()?;
    files.next().is_none().then_some(only)
}

#[cfg(test)]
pub(crate) mod tests;
