//! How old the newest checkpoint is. Told by whoever has time for it: the one who takes checkpoints may
//! be the one who is stuck.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{MachineClock, WallClock};
use crate::names::{self, Name};

/// The age of a store's newest checkpoint. Clones are of one store.
#[derive(Clone, Debug)]
pub struct CheckpointAge {
    clock: MachineClock,
    /// In microseconds of the clock; 0 before the first one.
    sealed_at: Arc<AtomicU64>,
}

impl CheckpointAge {
    pub(super) fn begins(clock: MachineClock) -> Self {
        Self {
            clock,
            sealed_at: Arc::default(),
        }
    }

    /// One was sealed now.
    pub(super) fn sealed(&self) {
        let now = u64::try_from(self.clock.now().as_micros()).unwrap_or(u64::MAX);
        self.sealed_at.store(now, Ordering::Relaxed);
        self.tell();
    }

    /// From the newest one to now; before the first one of this process, from its store's opening.
    pub fn age(&self) -> Duration {
        let sealed_at = Duration::from_micros(self.sealed_at.load(Ordering::Relaxed));
        self.clock.now().saturating_sub(sealed_at)
    }

    /// Sets the gauge. For a regular round of a thread that does nothing which may take long.
    pub fn tell(&self) {
        names::gauge(Name::CheckpointAge, self.age().as_secs_f64());
    }
}
