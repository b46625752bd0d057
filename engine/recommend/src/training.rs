//! The first part of a log, as models are trained on it: every listener's plays in event-time order.

use std::ops::Range;

use crate::recommender::ContextPlay;

/// Interactions by listener, in one flat table.
#[derive(Clone, Debug, Default)]
pub struct TrainingLog {
    /// All plays; each listener's are contiguous, oldest first.
    pub plays: Vec<ContextPlay>,
    /// Each listener's range in `plays`, in the order of the listeners' *names*, so that training
    /// does not depend on the order of first sight.
    pub listeners: Vec<Range<usize>>,
}

impl TrainingLog {
    /// Appends one listener's plays.
    pub fn push(&mut self, plays: impl IntoIterator<Item = ContextPlay>) {
        let begin = self.plays.len();
        self.plays.extend(plays);
        self.listeners.push(begin..self.plays.len());
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

/// Says how far a long job has come; the binary draws a bar from it.
pub trait Progress {
    /// `done` of `total` steps are done; `note` says how it stands (a loss, a rate).
    fn step(&mut self, done: u64, total: u64, note: &str);
}

impl Progress for () {
    fn step(&mut self, _: u64, _: u64, _: &str) {}
}
