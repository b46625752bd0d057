//! Where records go: one writer per epoch.

use segue_listen::EventTime;

use crate::epoch::{Epoch, OffsetRange};
use crate::remedy::Remedy;

/// One record to be written. The sink copies what it keeps.
#[derive(Clone, Copy, Debug)]
pub struct OutRecord<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// Write to this partition; `None`: by the key's hash ([`crate::partition::partition_of`]).
    pub partition: Option<u32>,
    /// The key; `None` spreads records over partitions.
    pub key: Option<&'a [u8]>,
    /// The value; `None` writes a tombstone.
    pub value: Option<&'a [u8]>,
    /// The `content-type` header, and any others.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The record's time stamp.
    pub at: Option<EventTime>,
}

/// Why a record could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The broker or file system does not answer, for longer than the sink itself tries. The epoch is
    /// not committed: `replay` tries it again, a run ends and the next goes on from its checkpoint.
    #[error("{address} cannot be reached: {detail}")]
    Unreachable {
        /// The broker's address or the file's path.
        address: String,
        /// What the client said, and what to check.
        detail: String,
    },
    /// The topic, path or credential is not right. Segue stops and says so.
    #[error("{what}: {detail}")]
    Refused {
        /// The topic, path or key in question.
        what: String,
        /// What is wrong with it and what to do.
        detail: String,
    },
    /// One record is larger than the log takes. Segue keeps it in the dead letters.
    #[error("a record of {size} bytes for {topic} exceeds the limit of {limit} bytes")]
    TooLarge {
        /// The topic.
        topic: String,
        /// The record's size in bytes.
        size: usize,
        /// The most the log takes, in bytes.
        limit: usize,
    },
    /// Another instance with the same identity has taken over. Segue stops.
    #[error("fenced off: {detail}")]
    Fenced {
        /// What the broker said.
        detail: String,
    },
    /// The lanes whose offsets were to be committed are another instance's by now. Nothing of the epoch
    /// is committed; the instance drops their state and waits for its next share of the lanes.
    #[error("its lanes were given to another instance: {detail}")]
    Revoked {
        /// What the broker said.
        detail: String,
    },
    /// A call out of order (write before begin, commit of another epoch). A bug.
    #[error("sink used out of order: {0}")]
    Misuse(String),
}

impl SinkError {
    /// What Segue does about it.
    pub const fn remedy(&self) -> Remedy {
        match self {
            SinkError::Unreachable { .. } => Remedy::Retry,
            SinkError::Refused { .. } | SinkError::Fenced { .. } => Remedy::Configure,
            SinkError::TooLarge { .. } => Remedy::DeadLetter,
            SinkError::Revoked { .. } => Remedy::Restore,
            SinkError::Misuse(_) => Remedy::Bug,
        }
    }
}

/// A writer of epochs: `begin` → `write`* → `commit` or `abort`, and again.
pub trait Sink: Send {
    /// Opens an epoch.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn begin(&mut self, epoch: Epoch) -> Result<(), SinkError>;

    /// Writes one record of the open epoch. May block while the log's own buffer is full.
    ///
    /// # Errors
    /// See [`SinkError`]. After [`SinkError::TooLarge`] the epoch is still good.
    fn write(&mut self, record: OutRecord<'_>) -> Result<(), SinkError>;

    /// Makes the epoch's records and the input offsets visible together, or neither. A sink that
    /// cannot do so together makes the records durable first.
    ///
    /// # Errors
    /// See [`SinkError`]; the epoch is then to be aborted and done again.
    fn commit(&mut self, epoch: Epoch, inputs: &[OffsetRange]) -> Result<(), SinkError>;

    /// Gives the open epoch up.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn abort(&mut self, epoch: Epoch) -> Result<(), SinkError>;
}

/// Keeps nothing: for who reads again what has been written, or wants what comes before a sink.
pub struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
    fn write(&mut self, _: OutRecord<'_>) -> Result<(), SinkError> {
        Ok(())
    }
    fn commit(&mut self, _: Epoch, _: &[OffsetRange]) -> Result<(), SinkError> {
        Ok(())
    }
    fn abort(&mut self, _: Epoch) -> Result<(), SinkError> {
        Ok(())
    }
}
