//! What can go wrong between a question and its answer.

use segue_flow::Remedy;
use segue_nn::NnError;
use segue_recommend::recommender::RecommendError;
use thiserror::Error;

/// A model that cannot be built, trained or asked.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The networks below.
    #[error(transparent)]
    Nn(#[from] NnError),
    /// libtorch refused an operation: out of memory, or shapes that do not fit.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// A setting out of its range.
    #[error("{key} = {value} is out of range: set it {range}")]
    Setting {
        /// The key, with the section it stands in.
        key: &'static str,
        /// The value given.
        value: String,
        /// What is allowed, in words.
        range: &'static str,
    },
    /// Tracks, contents or logs that do not fit the model.
    #[error("{0}")]
    Data(String),
}

impl ModelError {
    /// The error as the contract of recommenders has it.
    pub(crate) fn of(self, recommender: &'static str) -> RecommendError {
        let remedy = match &self {
            // Most often memory that another batch held: the next call may well succeed.
            Self::Torch(_) | Self::Nn(NnError::Torch(_)) => Remedy::Retry,
            Self::Setting { .. } | Self::Nn(_) => Remedy::Configure,
            Self::Data(_) => Remedy::Bug,
        };
        RecommendError {
            recommender,
            detail: self.to_string(),
            remedy,
        }
    }

    pub(crate) fn setting(
        key: &'static str,
        value: impl std::fmt::Display,
        range: &'static str,
    ) -> Self {
        Self::Setting {
            key,
            value: value.to_string(),
            range,
        }
    }
}
