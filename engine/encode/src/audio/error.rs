//! Why a file has no vector.

use std::path::PathBuf;

use thiserror::Error;

/// A file that cannot be listened to. It spoils the vector of its own track only.
#[derive(Debug, Error)]
#[error("{}: {problem}", path.display())]
pub struct AudioError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a file.
#[derive(Debug, Error)]
pub enum Problem {
    /// It is not there or may not be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// No kind of audio that is known, whatever its name says.
    #[error(
        "not an audio file of a known kind ({0}); mp3, flac, ogg vorbis, aac, alac, aiff and wav are known"
    )]
    Unknown(String),
    /// It begins like audio and does not go on like it.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The decoder broke on it, and was stopped before it broke anything else.
    #[error("the decoder failed on it: {0}")]
    Broken(String),
    /// Less than an encoder can hear anything in.
    #[error("{0:.3} s of sound, which is too short")]
    Short(f64),
    /// Nothing to hear where it was listened to.
    #[error("silent")]
    Silent,
    /// Floating-point samples that are no amplitudes.
    #[error("{strange} of {all} samples are not numbers or far beyond full scale")]
    NotSound {
        /// Samples that are not finite or beyond a thousand times full scale.
        strange: usize,
        /// All that were read.
        all: usize,
    },
}
