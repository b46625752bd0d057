//! What can go wrong while a model is built or run.

use std::path::PathBuf;

use thiserror::Error;

use crate::memory::{MemoryTable, readable};
use crate::weights::WeightsError;

/// A model that cannot be built or run. Nothing of the model has changed when it is returned,
/// except what [`crate::kv_slots::KvSlots`] says about its own slots.
#[derive(Debug, Error)]
pub enum NnError {
    /// A checkpoint that lacks something or is damaged.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A configuration that no model can be built from.
    #[error("model configuration: {0}")]
    Config(String),
    /// An input whose shape or values do not fit the model.
    #[error("model input: {0}")]
    Input(String),
    /// An adapter in PEFT's format that cannot be used or written.
    #[error("adapter {path}: {problem}")]
    Adapter {
        /// Its folder.
        path: PathBuf,
        /// What is wrong, and with which file, setting or tensor.
        problem: String,
    },
    /// A model that the device has no room for.
    #[error(
        "the model needs {}, {} are available; a smaller depth, fewer or shorter slots or packed \
         weights take less\n{needed}",
        readable(needed.total()),
        readable(*available)
    )]
    Memory {
        /// What it would take.
        needed: MemoryTable,
        /// Bytes that there are.
        available: u64,
    },
    /// A tokenizer that cannot be built, or a text it cannot take.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// libtorch refused an operation: out of memory, or shapes that do not fit.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}
