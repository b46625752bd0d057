//! What can go wrong with a log in a directory, each naming the file and the remedy.

use std::path::{Path, PathBuf};

use segue_flow::{Remedy, SinkError, SourceError};

/// A failure of the embedded log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused a file operation. Segue stops: the disk is full, gone or not ours.
    #[error("cannot {what} {path}: {cause}; is the disk there, writable and not full?")]
    Io {
        /// What was tried: "open", "write", ...
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A committed record cannot be read back. Segue stops: restore the file from a copy.
    #[error(
        "{path}: record {offset} at byte {at} is damaged: {why}; restore this file from a copy, or \
         delete the log's directory and fill it again"
    )]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// The offset that the record should have.
        offset: u64,
        /// Where in the file it should start, in bytes.
        at: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A small file that describes the log cannot be understood. Segue stops.
    #[error("{path}: {why}; restore this file from a copy, or delete the log's directory")]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The topic is not in this log. Segue stops: create it, or mend its name.
    #[error("no topic {topic:?} in the log {dir}; create it with its number of partitions first")]
    UnknownTopic {
        /// The topic asked for.
        topic: String,
        /// The log's directory.
        dir: PathBuf,
    },
    /// A topic's name is not a name (Kafka's rule, so that a log can move there and back).
    #[error(
        "topic name {0:?} is not allowed: 1 to 249 of a-z A-Z 0-9 . _ - and not only dots; change it"
    )]
    BadName(String),
    /// The topic has another number of partitions, and changing it would move users to other lanes.
    #[error(
        "topic {topic:?} has {has} partitions, not {wanted}; set partitions to {has}, or write a \
         new topic"
    )]
    Partitions {
        /// The topic.
        topic: String,
        /// How many it has.
        has: u32,
        /// How many were asked for.
        wanted: u32,
    },
    /// A partition that the topic does not have.
    #[error("topic {topic:?} has no partition {partition}: it has {has}, counted from 0")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        has: u32,
    },
    /// A position after the last committed record.
    #[error(
        "offset {to} of {topic:?} partition {partition} is past its end {end}: the log was \
         replaced or shortened; start from an earlier checkpoint"
    )]
    PastEnd {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The offset asked for.
        to: u64,
        /// The first offset not there yet.
        end: u64,
    },
    /// Someone else writes this topic.
    #[error("topic {topic:?} is being written by another writer ({lock} is locked); end it first")]
    Busy {
        /// The topic.
        topic: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// A record larger than the configured bound.
    #[error(
        "a record of {bytes} bytes for topic {topic:?} is over max_record_bytes {limit}; raise it, \
         for readers and writers alike"
    )]
    TooLarge {
        /// The topic.
        topic: String,
        /// The size it would take.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
}

impl LogError {
    /// What Segue does about it.
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Io { .. } => Remedy::Retry,
            Self::Damaged { .. } | Self::Description { .. } | Self::PastEnd { .. } => {
                Remedy::Restore
            }
            Self::TooLarge { .. } => Remedy::DeadLetter,
            Self::UnknownTopic { .. }
            | Self::BadName(_)
            | Self::Partitions { .. }
            | Self::UnknownPartition { .. }
            | Self::Busy { .. } => Remedy::Configure,
        }
    }

    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |cause| Self::Io {
            what,
            path: path.to_owned(),
            cause,
        }
    }
}

impl From<LogError> for SourceError {
    fn from(error: LogError) -> Self {
        let detail = error.to_string();
        match error {
            LogError::Io { path, .. } => Self::Unreachable {
                address: path.display().to_string(),
                detail,
            },
            LogError::Damaged {
                path,
                offset,
                at,
                why,
            } => Self::Corrupt {
                place: format!("{} at byte {at}", path.display()),
                detail: format!(
                    "record {offset}: {why}; restore this file from a copy, or delete the log's \
                     directory and fill it again"
                ),
            },
            LogError::Description { path, why } => Self::Corrupt {
                place: path.display().to_string(),
                detail: format!("{why}; restore this file from a copy"),
            },
            LogError::PastEnd {
                topic,
                partition,
                to,
                end,
            } => Self::OutOfRange {
                offset: to,
                place: format!("{topic} partition {partition}"),
                held: format!("0..{end}"),
            },
            other => Self::Refused {
                what: "the embedded log".to_owned(),
                detail: other.to_string(),
            },
        }
    }
}

impl From<LogError> for SinkError {
    fn from(error: LogError) -> Self {
        let detail = error.to_string();
        match error {
            LogError::Io { path, .. } => Self::Unreachable {
                address: path.display().to_string(),
                detail,
            },
            LogError::TooLarge {
                topic,
                bytes,
                limit,
            } => Self::TooLarge {
                topic,
                size: bytes,
                limit,
            },
            _ => Self::Refused {
                what: "the embedded log".to_owned(),
                detail,
            },
        }
    }
}
