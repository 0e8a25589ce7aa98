//! What can be wrong with a model directory or with a request to a model.

use std::io;

/// Why a model could not be loaded or could not answer.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file of the model cannot be read.
    #[error("model file {file}: cannot be read: {source}")]
    Read {
        /// Path of the file, or its bundled name.
        file: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A file of the model was read and does not hold what it must.
    #[error("model file {file}: {what}")]
    Invalid {
        /// Path of the file, or its bundled name.
        file: String,
        /// What is wrong and what would be right.
        what: String,
    },
    /// No model of this name is compiled in.
    #[error("no bundled model is called {name:?}; there are: {known}")]
    UnknownName {
        /// The name asked for.
        name: String,
        /// The names there are, separated by commas.
        known: String,
    },
    /// A document was encoded for another model than the one asked to judge it.
    #[error("document does not fit this model: {0}")]
    Mismatch(String),
    /// There is no text but white space.
    #[error("there is no text")]
    Empty,
    /// The text cannot be turned into tokens.
    #[error("text cannot be tokenised: {0}")]
    Tokenise(String),
    /// The model computed something that is not a probability; never handed out as an answer.
    #[error("model computed a score that is not finite for label {label}")]
    NotFinite {
        /// Index of the label whose score it is.
        label: usize,
    },
    /// The model computed something that has no direction; never handed out as an answer.
    #[error("model computed an embedding that is not finite at element {at}")]
    NoVector {
        /// Index of the first element that is no number.
        at: usize,
    },
    /// A device cannot be used, or failed while it computed.
    #[error("device: {0}")]
    Device(String),
    /// The tensor library refused an operation.
    #[error("inference failed: {}", plain(.0))]
    Compute(#[from] candle_core::Error),
}

/// What the tensor library says, without the calls that led there: it adds those to its words where
/// `RUST_BACKTRACE` is set, and they are neither for a client nor for a line of a log.
pub(super) fn plain(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => plain(inner),
        other => other.to_string(),
    }
}

impl ModelError {
    /// Shorthand for [`ModelError::Invalid`].
    pub(crate) fn invalid(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Invalid {
            file: file.into(),
            what: what.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::backtrace::Backtrace;

    use candle_core::Error;

    use super::*;

    #[test]
    fn calls_of_the_tensor_library_are_not_told() {
        let error = Error::WithBacktrace {
            inner: Box::new(Error::Msg("no room".to_owned())),
            backtrace: Box::new(Backtrace::force_capture()),
        };
        assert!(error.to_string().lines().count() > 1, "there are some");
        let told = ModelError::from(error).to_string();
        assert_eq!(told, "inference failed: no room");
    }
}
