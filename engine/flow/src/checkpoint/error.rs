//! What can go wrong with checkpoints.

use crate::remedy::Remedy;

/// Why a checkpoint cannot be taken, read or removed. Each variant says what Segue does about it.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A setting that cannot be. Segue stops.
    #[error("checkpoint.{key}: {detail}")]
    Settings {
        /// The key below `[checkpoint]`.
        key: &'static str,
        /// What is wrong with it and what to do.
        detail: String,
    },
    /// The disk is full or cannot be written, or the object store does not answer. Segue tries again
    /// with backoff; what was sealed before is untouched.
    #[error("cannot {doing} {path}: {cause}")]
    Unavailable {
        /// Read, write, list or remove.
        doing: &'static str,
        /// The object or folder.
        path: String,
        /// What the disk or the store said.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object store does not let us. Segue stops.
    #[error("may not {doing} {path}: {cause}; check the bucket, its policy and checkpoint.s3")]
    Refused {
        /// Read, write, list or remove.
        doing: &'static str,
        /// The object or folder.
        path: String,
        /// What the store said.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Someone else writes checkpoints here. Segue stops, before the two of them mix their states.
    #[error("{path} is another writer's; end it, or give each engine a checkpoint.url of its own")]
    Taken {
        /// The lock or the object.
        path: String,
    },
    /// A manifest of a later Segue. It stops rather than go back behind what that one did.
    #[error(
        "{path} has version {found}, and this program reads up to {newest}; use the program that \
         wrote it, or one later than it"
    )]
    Newer {
        /// The manifest.
        path: String,
        /// Its version.
        found: u32,
        /// The newest this program reads.
        newest: u32,
    },
    /// A part or manifest is not what was written. Segue takes the checkpoint before.
    #[error("{path} is damaged: expected {expected}, found {found}")]
    Damaged {
        /// The part or manifest.
        path: String,
        /// What the manifest says, or what a manifest must be.
        expected: String,
        /// What is there.
        found: String,
    },
    /// There are checkpoints and each of them is damaged. Segue stops rather than begin from nothing.
    #[error(
        "none of the {count} checkpoints in {address} is whole; restore them from a copy, or move \
         them away to begin from nothing; the newest: {newest}"
    )]
    AllDamaged {
        /// Where they are.
        address: String,
        /// How many there are.
        count: usize,
        /// What is wrong with the newest.
        newest: Box<CheckpointError>,
    },
    /// A part was given a name that cannot be, or one that was there already. A bug.
    #[error("part {name:?}: {detail}")]
    BadPart {
        /// The name.
        name: String,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// This process cannot do its part (no runtime, a manifest that cannot be written). A bug.
    #[error("checkpoints: {detail}")]
    Internal {
        /// What failed.
        detail: String,
    },
}

impl CheckpointError {
    /// What Segue does about it.
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Unavailable { .. } => Remedy::Retry,
            Self::Damaged { .. } => Remedy::Restore,
            Self::Settings { .. }
            | Self::Refused { .. }
            | Self::Taken { .. }
            | Self::Newer { .. }
            | Self::AllDamaged { .. } => Remedy::Configure,
            Self::BadPart { .. } | Self::Internal { .. } => Remedy::Bug,
        }
    }

    /// Whether it is this checkpoint that is bad, and not the way to it.
    pub(super) fn is_damage(&self) -> bool {
        self.remedy() == Remedy::Restore
    }
}
