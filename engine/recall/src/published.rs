//! Where readers find the current snapshot. Taking it never waits for the writer, and a reader that
//! took the last one goes on with it undisturbed.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::index::{Index, IndexVersion};

/// The current snapshot of an index, shared between its writer and all readers.
pub struct Published {
    // ArcSwap needs a sized pointee, hence the second Arc.
    current: ArcSwap<Arc<dyn Index>>,
}

impl Published {
    /// Starts with a first snapshot: an empty one will do.
    pub fn new(first: Arc<dyn Index>) -> Self {
        Self {
            current: ArcSwap::from_pointee(first),
        }
    }

    /// The snapshot of now. Hold it for a batch, so that one version answers all of it.
    pub fn current(&self) -> Arc<dyn Index> {
        Arc::clone(&**self.current.load())
    }

    /// The version of the snapshot of now.
    pub fn version(&self) -> IndexVersion {
        self.current.load().version()
    }

    /// Makes `next` the current snapshot, at the barrier it was published for, and hands back the one
    /// before.
    pub fn swap(&self, next: Arc<dyn Index>) -> Arc<dyn Index> {
        Arc::clone(&self.current.swap(Arc::new(next)))
    }
}
