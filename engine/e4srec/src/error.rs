//! What can go wrong between a question and its answer.

use segue_flow::Remedy;
use segue_flow::checkpoint::EncodingError;
use segue_nn::NnError;
use segue_nn::memory::readable;
use segue_recommend::recommender::RecommendError;
use thiserror::Error;

use crate::footprint::Footprint;
use crate::history::HistoryError;

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
    /// Modalities that are to be fused, where content vectors do not tell of them.
    #[error(
        "e4srec.tower.modalities names {named}, and the content vectors tell of {there}: leave it out, or \
         configure an encoder that tells of it"
    )]
    NoModality {
        /// What is asked for.
        named: &'static str,
        /// What there is.
        there: String,
    },
    /// Content vectors of another length than the tower takes.
    #[error(
        "e4srec.tower.content = {content}, and the encoder's vectors have {told} components: set it to that"
    )]
    OtherContent {
        /// As set.
        content: usize,
        /// As the encoder has it.
        told: usize,
    },
    /// A model that has not been trained was asked.
    #[error(
        "it has not been trained: its projection of tracks into the language model and its query are \
         drawn from chance, and so would its answers be, however large the language model is. Train it \
         on a log first: `segue train`, or `recommend.train_plays` plays of the stream"
    )]
    Untaught,
    /// The machine has no room for the language model and those that answer with it.
    #[error(
        "the language model and what answers with it need {}, and {} are available; a smaller \
         models.e4srec.backbone.depth, backbone.weights = \"packed4\", fewer lora.projections or \
         cached_listeners, or a smaller model take less\n{needed}",
        readable(needed.total()),
        readable(*available)
    )]
    NoRoom {
        /// What they would take.
        needed: Footprint,
        /// Bytes that there are.
        available: u64,
    },
    /// Tracks, contents or logs that do not fit the model.
    #[error("{0}")]
    Data(String),
    /// A state in a checkpoint that is torn, or is not what it should be.
    #[error("its state in the checkpoint: {0}")]
    State(String),
    /// A state in a checkpoint of another language model or other settings than those of now.
    #[error("{0}")]
    OtherModel(String),
    /// The history of adapters.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A state that cannot be written or read.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// Training that somebody ended; where it keeps its progress it goes on from there.
    #[error("training was stopped after step {step} of {total}")]
    Stopped {
        /// Steps that were made.
        step: u64,
        /// Steps that were to be made.
        total: u64,
    },
    /// Training that leads nowhere.
    #[error(
        "the loss or its gradient was not finite in {skipped} steps in a row, up to step {step} of \
         {total}: lower models.e4srec.offline.lora_rate and head_rate, or look for vectors of tracks \
         that are not finite"
    )]
    Diverged {
        /// The last step.
        step: u64,
        /// Steps that were to be made.
        total: u64,
        /// Steps that changed nothing.
        skipped: u64,
    },
    /// Training that was kept and is not the one that is to go on.
    #[error("the training that was kept is of {0}: go on as it was begun, or begin anew")]
    OtherTraining(String),
    /// Progress of a training that cannot be kept or read.
    #[error("progress of the training: {0}")]
    Progress(#[from] std::io::Error),
}

impl ModelError {
    /// The error as the contract of recommenders has it.
    pub(crate) fn of(self, recommender: &'static str) -> RecommendError {
        let remedy = match &self {
            // Most often memory that another batch held: the next call may well succeed.
            Self::Torch(_) | Self::Nn(NnError::Torch(_)) => Remedy::Retry,
            Self::Stopped { .. } | Self::Progress(_) => Remedy::Retry,
            Self::Setting { .. }
            | Self::NoModality { .. }
            | Self::OtherContent { .. }
            | Self::Nn(_)
            | Self::OtherModel(_)
            | Self::Untaught
            | Self::NoRoom { .. }
            | Self::Diverged { .. }
            | Self::OtherTraining(_) => Remedy::Configure,
            Self::State(_) => Remedy::Restore,
            Self::Encoding(error) => error.remedy(),
            Self::History(_) => Remedy::Configure,
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
