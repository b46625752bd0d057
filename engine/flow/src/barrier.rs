//! The call for a checkpoint, and a lane's answer to it.
//!
//! Whoever commits calls a number; each lane, at the end of the step it is in, hands over what it
//! has, then its state, then goes on. What was handed over before the state was made from exactly the
//! records before its position, so a state and the results before it belong together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::epoch::LaneId;

/// Numbers of barriers are called here; lanes listen. Clones are of one call.
#[derive(Clone, Debug, Default)]
pub struct BarrierCall {
    called: Arc<AtomicU64>,
    /// Of each lane's state that is no longer needed.
    memory: Arc<Mutex<BTreeMap<LaneId, Vec<u8>>>>,
}

/// The number of a barrier that every call is answered by: the lane has stopped for good.
pub const LAST: u64 = u64::MAX;

impl BarrierCall {
    /// Calls the next barrier.
    pub fn call(&self) -> u64 {
        self.called.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number called last; 0 before the first.
    pub fn called(&self) -> u64 {
        self.called.load(Ordering::Relaxed)
    }

    /// Memory for a lane's next state, empty: that of an earlier one, or none yet. What the system gives anew it
    /// gives page by page, and that takes longer than a state of some megabytes takes to be written there.
    pub fn memory(&self, lane: LaneId) -> Vec<u8> {
        let mut memory = self.kept().remove(&lane).unwrap_or_default();
        memory.clear();
        memory
    }

    /// Takes back the memory of a lane's state that has been written.
    pub fn give_back(&self, lane: LaneId, memory: Vec<u8>) {
        self.kept().insert(lane, memory);
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<LaneId, Vec<u8>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane's state between two batches.
#[derive(Debug)]
pub struct Barrier {
    /// The number that was called, or [`LAST`].
    pub number: u64,
    /// The state, as [`crate::lane::Lane::restore`] takes it.
    pub state: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_gets_its_own_memory_back_and_nothing_that_was_in_it() {
        let call = BarrierCall::default();
        let state = vec![7u8; 5_000];
        let start = state.as_ptr();
        call.clone().give_back(LaneId(1), state);
        assert_eq!(call.memory(LaneId(0)).capacity(), 0);
        let memory = call.memory(LaneId(1));
        assert!(memory.is_empty() && memory.as_ptr() == start);
        assert_eq!(call.memory(LaneId(1)).capacity(), 0, "it is given once");
    }
}
