//! What a lane tells of its progress to whoever watches over a run. For operations only: no verdict
//! rests on it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::epoch::{LaneId, Offset};

/// How far a lane is, and what waits for it. Told by the lane at the end of each step.
#[derive(Debug)]
pub struct LaneProgress {
    lane: LaneId,
    position: AtomicU64,
    waiting: AtomicU64,
}

impl LaneProgress {
    /// Of a lane that stands here, before its first step.
    pub const fn new(lane: LaneId, position: Offset) -> Self {
        Self {
            lane,
            position: AtomicU64::new(position.0),
            waiting: AtomicU64::new(0),
        }
    }

    /// Which lane.
    pub const fn lane(&self) -> LaneId {
        self.lane
    }

    /// The offset after the last record that it has worked on.
    pub fn position(&self) -> Offset {
        Offset(self.position.load(Ordering::Relaxed))
    }

    /// Records that were there and not read when it last looked, about once a second.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn reached(&self, position: Offset) {
        self.position.store(position.0, Ordering::Relaxed);
    }

    pub(crate) fn left(&self, waiting: u64) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }
}
