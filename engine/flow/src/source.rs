//! Where records come from: one source per lane.

use std::fmt;
use std::time::Duration;

use segue_listen::EventTime;

use crate::epoch::Offset;
use crate::remedy::Remedy;

/// What a source can promise after a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replay {
    /// Any range of offsets can be read again, byte for byte.
    Exact,
    /// Reading can go on from any offset, but what was read may have been compacted since.
    FromOffset,
    /// What was read is gone.
    Never,
}

/// One record, borrowed from the source's own buffer.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// Where it stands in its lane.
    pub offset: Offset,
    /// The key, if it has one. Listens are keyed by user.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The value of the `content-type` header, if there is one.
    pub content_type: ContentType<'a>,
    /// The time stamp the log gave it, if any: for people and metrics, never for a verdict.
    pub logged_at: Option<EventTime>,
}

impl RawRecord<'_> {
    /// No record: what a run's places hold before they are filled.
    pub const NONE: Self = Self {
        offset: Offset(0),
        key: None,
        value: None,
        content_type: ContentType::Known(None),
        logged_at: None,
    };
}

/// A record's `content-type` header.
#[derive(Clone, Copy)]
pub enum ContentType<'a> {
    /// It lies ready; `None` if there is none.
    Known(Option<&'a [u8]>),
    /// It has to be looked for, which costs more than most readers want to pay for every record.
    Asked(&'a dyn AskHeader),
}

/// A record whose headers are still to be taken apart.
pub trait AskHeader {
    /// The value of its `content-type` header.
    fn content_type(&self) -> Option<&[u8]>;
}

impl<'a> ContentType<'a> {
    /// Its value.
    pub fn get(self) -> Option<&'a [u8]> {
        match self {
            ContentType::Known(value) => value,
            ContentType::Asked(record) => record.content_type(),
        }
    }
}

impl fmt::Debug for ContentType<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.get() {
            Some(value) => write!(f, "{}", String::from_utf8_lossy(value)),
            None => f.write_str("none"),
        }
    }
}

/// How a call to [`Source::read`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Records were visited, or patience ran out; ask again.
    More,
    /// There is nothing at the moment; more may come.
    Idle,
    /// The log is bounded and read to its end. Final.
    Ended,
}

/// Why a source cannot go on. A record that cannot be *decoded* is not its business.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The broker or file system does not answer. Segue tries again with backoff.
    #[error("{address} cannot be reached: {detail}")]
    Unreachable {
        /// The broker's address or the file's path.
        address: String,
        /// What the client said, and what to check.
        detail: String,
    },
    /// The topic, partition, file or credential is not there or not right. Segue stops and says so.
    #[error("{what}: {detail}")]
    Refused {
        /// The topic, path or key in question.
        what: String,
        /// What is wrong with it and what to do.
        detail: String,
    },
    /// The stored bytes are not what was written. Segue stops.
    #[error("{place} is corrupt: {detail}")]
    Corrupt {
        /// File and position, or topic, partition and offset.
        place: String,
        /// What was found.
        detail: String,
    },
    /// The offset is no longer (or not yet) in the log. Segue stops.
    #[error("offset {offset} is outside {place}, which holds {held}")]
    OutOfRange {
        /// The offset that was asked for.
        offset: u64,
        /// The log.
        place: String,
        /// The range it holds.
        held: String,
    },
}

impl SourceError {
    /// What Segue does about it.
    pub const fn remedy(&self) -> Remedy {
        match self {
            SourceError::Unreachable { .. } => Remedy::Retry,
            SourceError::Refused { .. } => Remedy::Configure,
            SourceError::Corrupt { .. } | SourceError::OutOfRange { .. } => Remedy::Restore,
        }
    }
}

/// One lane's records. The loop that calls it ([`crate::lane::Lane::run`]):
///
/// ```text
/// loop {
///     match source.read_runs(patience, &mut |run| judge and absorb it)? {
///         More | Idle => close the batch, look at barriers and shutdown
///         Ended       => flush all timers, stop
///     }
/// }
/// ```
pub trait Source: Send {
    /// What it can promise after a crash.
    fn replay(&self) -> Replay;

    /// The offset of the record that is read next, or of the first one that can be: where a lane
    /// stands that has not read anything yet.
    fn position(&self) -> Offset;

    /// The offset after the last record that is there to be read, as far as the source can tell
    /// without waiting: for metrics. `None` where it cannot.
    fn end(&mut self) -> Option<Offset> {
        None
    }

    /// Makes `to` the next offset that is read.
    ///
    /// # Errors
    /// [`SourceError::OutOfRange`] where the source can tell at once.
    fn seek(&mut self, to: Offset) -> Result<(), SourceError>;

    /// Calls `visit` with the records that are ready, in order of offsets, up to [`RUN`] at a time, and
    /// returns within about `patience`, or as soon as a few thousand records were visited. Offsets may
    /// skip (compaction, transaction markers) but never go back. After `Ended` every call says `Ended`.
    ///
    /// # Errors
    /// See [`SourceError`]; records visited before the error were read well.
    fn read_runs(
        &mut self,
        patience: Duration,
        visit: &mut dyn FnMut(&[RawRecord<'_>]),
    ) -> Result<Readiness, SourceError>;

    /// As [`read_runs`](Source::read_runs), record by record.
    ///
    /// # Errors
    /// See [`SourceError`]; records visited before the error were read well.
    fn read(
        &mut self,
        patience: Duration,
        visit: &mut dyn FnMut(RawRecord<'_>),
    ) -> Result<Readiness, SourceError> {
        self.read_runs(patience, &mut |run| {
            run.iter().copied().for_each(&mut *visit)
        })
    }
}

/// Records that a source lends together, at most: enough that the memory which each of them needs can be
/// asked for at once, few enough that it is still near when its turn comes.
pub const RUN: usize = 32;

impl<S: Source + ?Sized> Source for Box<S> {
    fn replay(&self) -> Replay {
        (**self).replay()
    }

    fn position(&self) -> Offset {
        (**self).position()
    }

    fn end(&mut self) -> Option<Offset> {
        (**self).end()
    }

    fn seek(&mut self, to: Offset) -> Result<(), SourceError> {
        (**self).seek(to)
    }

    fn read_runs(
        &mut self,
        patience: Duration,
        visit: &mut dyn FnMut(&[RawRecord<'_>]),
    ) -> Result<Readiness, SourceError> {
        (**self).read_runs(patience, visit)
    }
}
