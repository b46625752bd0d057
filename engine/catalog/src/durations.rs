//! Lengths of tracks where the events state none: estimated from everybody's gaps, by the one owner
//! of what spans lanes. A length that is asked for is that of the last barrier: what a play adds to
//! the estimates is seen from the next one on.

use segue_listen::duration::{EstimatedDuration, GapSketch};
use segue_listen::{Span, TrackId};
use serde::{Deserialize, Serialize};

mod judged;

pub use judged::{DurationErrors, DurationReport};

/// Estimates below this confidence are not used: a track whose gaps scatter has no upper cluster.
const LEAST_CONFIDENCE: f32 = 0.3;

/// The owner of the estimates; a checkpoint keeps it as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DurationEstimates {
    sketches: Vec<GapSketch>,
    /// Milliseconds by dense id as of the last barrier; 0: not known.
    published: Vec<u32>,
    /// Tracks whose estimate may have changed since.
    touched: Vec<TrackId>,
    known: usize,
    version: u64,
    /// To judge the estimates by.
    #[serde(default)]
    stated: judged::Stated,
}

impl DurationEstimates {
    /// Notes that the next play of the session began `gap` after a play of `track`.
    pub fn note(&mut self, track: TrackId, gap: Span) {
        let row = track.row();
        if row >= self.sketches.len() {
            self.sketches.resize(row + 1, GapSketch::default());
        }
        if let Some(sketch) = self.sketches.get_mut(row) {
            sketch.note(gap);
            self.touched.push(track);
        }
    }

    /// Notes a play of `track`, and its length where the event states one: estimates are judged by it,
    /// and rest on gaps alone.
    pub fn played(&mut self, track: TrackId, stated: Option<Span>) {
        self.stated.played(track, stated);
    }

    /// How far the estimates of the last barrier are from what events state; `None` where none does.
    pub fn judge(&self) -> Option<DurationReport> {
        self.stated.judge(|track| self.get(track))
    }

    /// The estimate for one track as it stands, with its confidence.
    pub fn estimate(&self, track: TrackId) -> Option<EstimatedDuration> {
        self.sketches.get(track.row())?.estimate()
    }

    /// Publishes what was noted; called at barriers.
    pub fn publish(&mut self) {
        self.version += 1;
        self.published.resize(self.sketches.len(), 0);
        for track in self.touched.drain(..) {
            let sketch = self.sketches.get(track.row());
            let estimate = sketch
                .and_then(GapSketch::estimate)
                .filter(|estimate| estimate.confidence >= LEAST_CONFIDENCE);
            if let Some(millis) = self.published.get_mut(track.row()) {
                let was_known = *millis > 0;
                *millis = estimate.map_or(0, |e| u32::try_from(e.duration.millis()).unwrap_or(0));
                self.known = self.known + usize::from(*millis > 0) - usize::from(was_known);
            }
        }
    }

    /// The length of a track as of the last barrier, if there is an estimate.
    pub fn get(&self, track: TrackId) -> Option<Span> {
        match self.published.get(track.row()) {
            None | Some(0) => None,
            Some(millis) => Some(Span::from_millis(i64::from(*millis))),
        }
    }

    /// Counts publications: a ratio from an estimate depends on it.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// How many tracks have an estimate.
    pub const fn known(&self) -> usize {
        self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_seen_after_the_barrier_and_not_before() {
        let mut owner = DurationEstimates::default();
        for _ in 0..5 {
            owner.note(TrackId(3), Span::from_seconds(200));
        }
        assert_eq!((owner.get(TrackId(3)), owner.known()), (None, 0));
        owner.publish();
        assert_eq!(owner.get(TrackId(3)), Some(Span::from_seconds(200)));
        assert_eq!((owner.known(), owner.version()), (1, 1));
        assert_eq!(owner.get(TrackId(1_000)), None);
    }

    #[test]
    fn scattered_gaps_are_no_length() {
        let mut owner = DurationEstimates::default();
        for seconds in [31, 60, 90, 120, 150, 180, 210, 240, 270, 300, 330, 331, 332] {
            owner.note(TrackId(0), Span::from_seconds(seconds));
        }
        owner.publish();
        assert_eq!(owner.estimate(TrackId(0)).map(|e| e.support), Some(3));
        assert_eq!(owner.get(TrackId(0)), None, "3 of 13 agree: chance");
    }
}
