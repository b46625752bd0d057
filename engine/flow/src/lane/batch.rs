//! What a lane hands over.

use std::collections::HashSet;
use std::time::Duration;

use segue_listen::Watermark;

use crate::barrier::Barrier;
use crate::epoch::{Offset, OffsetRange};
use crate::queue::Coalesce;
use crate::stage::Asks;

/// Why a record was put aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AsideReason {
    /// It could not be decoded.
    DeadLetter,
    /// It came beyond the allowed lateness.
    TooLate,
}

/// A record that changed nothing, kept with its original bytes for a topic of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Aside {
    /// Why.
    pub reason: AsideReason,
    /// Why, in words.
    pub detail: String,
    /// Where it stood.
    pub offset: Offset,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// Its `content-type` header: without it the value could not be read again.
    pub content_type: Option<Vec<u8>>,
}

/// What a lane hands over: results, the records it put aside, and the offsets they come from.
#[derive(Debug)]
pub struct Batch<T> {
    /// The records it covers, those without a result included.
    pub covers: OffsetRange,
    /// How far its results have come.
    pub watermark: Option<Watermark>,
    /// The stage's results, in order.
    pub outputs: Vec<T>,
    /// What was put aside.
    pub aside: Vec<Aside>,
    /// What the records were.
    pub counts: Counts,
    /// When the first record of the batch was read, by the lane's wall clock: for latency metrics.
    pub read_at: Duration,
    /// The lane's state after this batch, where it was called for.
    pub barrier: Option<Barrier>,
}

impl<T: Asks> Coalesce for Batch<T> {
    fn coalesce(&mut self, mut newer: Self) {
        self.covers.to = newer.covers.to;
        self.watermark = newer.watermark.or(self.watermark);
        self.outputs.append(&mut newer.outputs);
        self.aside.append(&mut newer.aside);
        self.counts.add(newer.counts);
        self.barrier = newer.barrier;
    }

    /// A lane's state is that after the results before it.
    fn takes_more(&self) -> bool {
        self.barrier.is_none()
    }

    /// Only the newest result of each asker is answered; all of them stay.
    fn settle(&mut self) {
        let mut answered = HashSet::new();
        for output in self.outputs.iter_mut().rev() {
            if let Some(asker) = output.asks_for()
                && !answered.insert(asker)
            {
                output.answered_later();
                self.counts.answered_later += 1;
            }
        }
    }
}

/// What the records of a batch were. A record that is none of these is a tombstone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// All of them.
    pub read: u64,
    /// Those handed to the stage.
    pub items: u64,
    /// Those of them that were late.
    pub late: u64,
    /// Those beyond the allowed lateness.
    pub too_late: u64,
    /// Those that could not be decoded.
    pub dead: u64,
    /// Heartbeats.
    pub heartbeats: u64,
    /// Results that a later one of the same asker in the same batch is answered for.
    pub answered_later: u64,
}

impl Counts {
    /// Adds `other`.
    pub fn add(&mut self, other: Counts) {
        self.read += other.read;
        self.items += other.items;
        self.late += other.late;
        self.too_late += other.too_late;
        self.dead += other.dead;
        self.heartbeats += other.heartbeats;
        self.answered_later += other.answered_later;
    }
}
