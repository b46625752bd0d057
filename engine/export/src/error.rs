//! What can go wrong with a data set, each naming the file and the remedy.

use std::path::{Path, PathBuf};

use segue_flow::Remedy;

/// A data set that cannot be written. Nothing is left behind: it is in place whole or not at all.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The system refused a file operation. Segue stops.
    #[error("cannot {what} {path}: {cause}; is the disk there, writable and not full?")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A table could not be written. Segue stops.
    #[error("cannot write {path}: {cause}; is the disk full?")]
    Table {
        /// The file.
        path: PathBuf,
        /// What the Parquet writer said.
        cause: parquet::errors::ParquetError,
    },
    /// Something is there already. Segue stops.
    #[error("{path} is there already: choose another folder, or replace it with --force")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// What is there is not only a data set: replacing it would lose what is not ours.
    #[error(
        "{path} holds {stranger}, which is of no data set: it is not replaced; choose another folder"
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// What is in it.
        stranger: String,
    },
    /// Shares that make no split.
    #[error(
        "a validation share of {validation} and a test share of {test} leave nothing to train on: both \
         are at least 0, and together less than 1"
    )]
    Shares {
        /// Of validation.
        validation: f64,
        /// Of test.
        test: f64,
    },
    /// There is nothing in the log.
    #[error("the log has no plays: there is nothing to export")]
    Empty,
    /// A play came out of the order of time, or a session of which its plays were not told. Lanes that
    /// keep order do not do that.
    #[error("the plays of listener {listener:?} are not in order of time: {detail}")]
    Disorder {
        /// The listener.
        listener: String,
        /// What was told.
        detail: String,
    },
    /// A file of vectors cannot be used.
    #[error("vectors {path}: {problem}; make them with `segue encode`")]
    Vectors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Two sets of vectors of one name, or a name that is none.
    #[error("vectors named {name:?}: {problem}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Whoever looks on has said stop. Nothing is in place.
    #[error("stopped: nothing was written")]
    Stopped,
    /// Whoever makes the vectors failed.
    #[error("{0}")]
    Encoder(#[from] segue_catalog::encoder::EncoderError),
}

impl ExportError {
    /// What Segue does about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Disorder { .. } => Remedy::Bug,
            Self::Encoder(error) => error.remedy,
            _ => Remedy::Configure,
        }
    }

    pub(crate) fn io<'a>(
        what: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<'a> {
        move |cause| Self::Io {
            what,
            path: path.to_path_buf(),
            cause,
        }
    }
}
