//! Lanes, offsets, epochs: where a record stands, and which records belong together.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One partition of the listens topic, with all state of its listeners.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct LaneId(pub u32);

/// A position in a lane: always that of the *next* record to read, as Kafka's commits mean it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Offset(pub u64);

impl Offset {
    /// The position after the record at this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The records of one lane from `from` up to, not including, `to`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct OffsetRange {
    /// The lane.
    pub lane: LaneId,
    /// The first record's offset.
    pub from: Offset,
    /// The offset after the last record's.
    pub to: Offset,
}

impl OffsetRange {
    /// No records, at `at`.
    pub const fn empty(lane: LaneId, at: Offset) -> Self {
        Self {
            lane,
            from: at,
            to: at,
        }
    }

    /// How many offsets it spans.
    pub const fn len(&self) -> u64 {
        self.to.0.saturating_sub(self.from.0)
    }

    /// Whether it spans none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in the range that follows.
    ///
    /// # Errors
    /// A range of another lane, or one that leaves a gap or overlaps: a batch was lost or doubled.
    pub fn append(&mut self, following: OffsetRange) -> Result<(), RangeError> {
        if following.lane != self.lane || following.from != self.to {
            return Err(RangeError {
                held: *self,
                following,
            });
        }
        self.to = following.to;
        Ok(())
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lane {} offsets {}..{}",
            self.lane.0, self.from.0, self.to.0
        )
    }
}

/// Two ranges that should follow each other and do not. A bug, never data.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{following} does not follow {held}: a batch was lost or doubled")]
pub struct RangeError {
    /// What was held.
    pub held: OffsetRange,
    /// What came.
    pub following: OffsetRange,
}

/// A closed list of offset ranges, one per lane: checkpoint, transaction, publication of an index
/// or an adapter all happen between two epochs.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The one after.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(lane: u32, from: u64, to: u64) -> OffsetRange {
        OffsetRange {
            lane: LaneId(lane),
            from: Offset(from),
            to: Offset(to),
        }
    }

    #[test]
    fn a_gap_an_overlap_or_another_lane_is_an_error() {
        let mut held = range(7, 10, 20);
        held.append(range(7, 20, 25)).unwrap();
        assert_eq!(held, range(7, 10, 25));
        for wrong in [range(7, 26, 30), range(7, 24, 30), range(8, 25, 30)] {
            let error = held.append(wrong).unwrap_err().to_string();
            assert!(error.contains("lane 7 offsets 10..25"), "{error}");
        }
    }
}
