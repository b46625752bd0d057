//! Why an encoder cannot be loaded or run.

use std::path::PathBuf;

use segue_nn::NnError;
use thiserror::Error;

/// An encoder that failed as a whole; what is wrong with one track is a
/// [`segue_catalog::encoder::ContentError`].
#[derive(Debug, Error)]
pub enum EncodeError {
    /// A file of the model is missing or is not what it should be.
    #[error("encoder file {path}: {problem}; for the bundled models, run `make setup`")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The tokenizer refused a text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// Sound that no vector can be made of.
    #[error("{0}")]
    Sound(#[from] crate::audio::Problem),
    /// The network could not be built or run.
    #[error(transparent)]
    Model(#[from] NnError),
}

impl From<segue_nn::tch::TchError> for EncodeError {
    fn from(error: segue_nn::tch::TchError) -> Self {
        Self::Model(NnError::Torch(error))
    }
}

impl From<segue_nn::weights::WeightsError> for EncodeError {
    fn from(error: segue_nn::weights::WeightsError) -> Self {
        Self::Model(NnError::Weights(error))
    }
}
