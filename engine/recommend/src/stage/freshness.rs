//! How long a new track is unknown: from its first play to the first prediction that could contain it. By the
//! machine's clock, for metrics only.

use std::time::Duration;

use hashbrown::HashMap;
use segue_listen::TrackId;

use super::Content;
use super::content::Fault;

/// New tracks, and when their first plays were read.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    /// Those that the recommenders do not know, or know nothing of.
    waiting: HashMap<TrackId, Duration>,
    /// Of those that they know now: the next prediction could contain them.
    ready: Vec<Duration>,
}

impl Freshness {
    /// A track is played for the first time.
    pub(super) fn sighted(&mut self, track: TrackId, at: Duration) {
        self.waiting.insert(track, at);
    }

    /// The recommenders know a track, with its vector where there are such.
    pub(super) fn admitted(&mut self, track: TrackId) {
        self.ready.extend(self.waiting.remove(&track));
    }

    /// Something of a track could not be encoded; it waits no longer if it has no vector.
    pub(super) fn given_up(&mut self, fault: &Fault, content: &Content) {
        if content.vector(fault.track).is_none() {
            self.waiting.remove(&fault.track);
        }
    }

    /// A prediction was made: when the tracks were first played that it could contain and none before it.
    pub(super) fn predicted(&mut self) -> std::vec::Drain<'_, Duration> {
        self.ready.drain(..)
    }
}
