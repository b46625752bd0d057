//! What can go wrong between a file and a sink, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use segue_flow::SinkError;
use segue_listen::wire::WireError;

/// Why a replay cannot go on. A single bad row is never a reason: it is counted and kept.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file that cannot be opened or read.
    #[error("cannot read {path}: {source}; check that it exists and may be read")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that must be written and cannot be.
    #[error("cannot write {path}: {source}; check the folder, its permissions and its free space")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file with nothing in it.
    #[error("{path} is empty; fetch or copy it again, or leave it out")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A compressed file or archive that stops in the middle or was altered.
    #[error("{path} holds damaged {form} data ({detail}); fetch or copy it again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// `gzip`, `zstd` or `tar`.
        form: &'static str,
        /// What the decoder said.
        detail: String,
    },
    /// A file that is no listening log Segue knows.
    #[error(
        "{path} is no listening log that is known here ({found}); known are LastFM-1K (.tsv, .gz, .zst or its .tar.gz), ListenBrainz JSON lines, Spotify extended streaming history (.json) and Segue's own JSON lines"
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it looks like instead.
        found: String,
    },
    /// No listening log among the inputs.
    #[error(
        "no listening log in {inputs}; name a file, or a folder that holds .tsv, .jsonl, .json or .tar.gz logs"
    )]
    NoInput {
        /// The inputs, as given.
        inputs: String,
    },
    /// Rows there were, but not one of them was a listen.
    #[error(
        "no listen in {inputs}: all {rejected} rows were rejected (first: {first}{})",
        kept.as_ref().map(|path| format!("; all in {}", path.display())).unwrap_or_default()
    )]
    NoListens {
        /// The inputs, as given.
        inputs: String,
        /// How many rows were rejected.
        rejected: u64,
        /// Place and reason of the first.
        first: String,
        /// Where they are kept.
        kept: Option<PathBuf>,
    },
    /// Temporary space for the sort failed: most often the disk is full.
    #[error(
        "cannot sort through temporary files in {dir}: {source}; free about the size of the unpacked input there, or set `temp_dir` to a folder with room"
    )]
    Temporary {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The state file is not one, or cannot be read or written.
    #[error("state file {path}: {detail}")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        detail: String,
    },
    /// A setting that makes no sense.
    #[error("setting {key}: {detail}")]
    Setting {
        /// Its name.
        key: &'static str,
        /// What is wrong with it and what to do.
        detail: String,
    },
    /// The log that is written to.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A listen that cannot be encoded.
    #[error("cannot encode a listen: {0}")]
    Encode(#[from] WireError),
}

impl ReplayError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn temporary(dir: &Path, source: io::Error) -> Self {
        Self::Temporary {
            dir: dir.to_owned(),
            source,
        }
    }
}
