//! The first part of a log, as models are trained on it: every listener's plays in event-time order.

use std::ops::Range;

use segue_listen::TrackKey;
use serde::{Deserialize, Serialize};

use crate::recommender::ContextPlay;

/// Interactions by listener, in one flat table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TrainingLog {
    /// All plays; each listener's are contiguous, oldest first.
    pub plays: Vec<ContextPlay>,
    /// Each listener's range in `plays`, in the order of the listeners' *names*, so that training
    /// does not depend on the order of first sight.
    pub listeners: Vec<Range<usize>>,
    /// What tells each listener from all others, in this log and in any other: a digest of the name.
    pub keys: Vec<u64>,
}

impl TrainingLog {
    /// Appends the plays of a listener without a name, who is told from others by their place.
    pub fn push(&mut self, plays: impl IntoIterator<Item = ContextPlay>) {
        self.push_keyed(self.listeners.len() as u64, plays);
    }

    /// Appends a listener's plays under their name.
    pub fn push_named(&mut self, name: &str, plays: impl IntoIterator<Item = ContextPlay>) {
        // FNV-1a (Fowler, Noll and Vo), spread evenly.
        let fnv = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
        self.push_keyed(TrackKey(u128::from(hash)).digest(), plays);
    }

    /// Appends a listener's plays under a key from another log.
    pub fn push_keyed(&mut self, key: u64, plays: impl IntoIterator<Item = ContextPlay>) {
        let begin = self.plays.len();
        self.plays.extend(plays);
        self.listeners.push(begin..self.plays.len());
        self.keys.push(key);
    }

    /// One listener's plays, by their place in the order of names.
    pub fn of(&self, listener: usize) -> &[ContextPlay] {
        let range = self.listeners.get(listener).cloned();
        range.and_then(|range| self.plays.get(range)).unwrap_or(&[])
    }

    /// Each listener's plays.
    pub fn sequences(&self) -> impl Iterator<Item = &[ContextPlay]> {
        self.listeners
            .iter()
            .filter_map(|range| self.plays.get(range.clone()))
    }

    /// How often each track was played, by dense id; as long as the highest id needs.
    pub fn play_counts(&self) -> Vec<u32> {
        let mut counts = Vec::new();
        for play in &self.plays {
            let row = play.track.row();
            if row >= counts.len() {
                counts.resize(row + 1, 0);
            }
            counts[row] += 1;
        }
        counts
    }
}

/// Is told how far a long job has come, and may end it; the binary draws a bar from it.
pub trait Progress {
    /// `done` of `total` steps are done; `note` says how it stands (a loss, a rate).
    fn step(&mut self, done: u64, total: u64, note: &str);

    /// Whether somebody wants the job to end here: it is asked after each step.
    fn stopped(&self) -> bool {
        false
    }
}

impl Progress for () {
    fn step(&mut self, _: u64, _: u64, _: &str) {}
}
