//! The call for a checkpoint, and a lane's answer to it.
//!
//! Whoever commits calls a number; each lane, at the end of the step it is in, hands over what it
//! has, then its state, then goes on. What was handed over before the state was made from exactly the
//! records before its position, so a state and the results before it belong together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers of barriers are called here; lanes listen. Clones are of one call.
#[derive(Clone, Debug, Default)]
pub struct BarrierCall(Arc<AtomicU64>);

/// The number of a barrier that every call is answered by: the lane has stopped for good.
pub const LAST: u64 = u64::MAX;

impl BarrierCall {
    /// Calls the next barrier.
    pub fn call(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The number called last; 0 before the first.
    pub fn called(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
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
