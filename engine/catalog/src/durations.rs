//! Lengths of tracks where the events state none: estimated from everybody's gaps by one owner,
//! published at barriers, read by all lanes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use segue_listen::duration::{EstimatedDuration, GapSketch};
use segue_listen::{Span, TrackId};

/// Estimates below this confidence are not used: a track whose gaps scatter has no upper cluster.
const LEAST_CONFIDENCE: f32 = 0.3;

/// The lengths as of one barrier.
#[derive(Clone, Debug, Default)]
pub struct DurationTable {
    version: u64,
    /// Milliseconds by dense id; 0: not known.
    millis: Vec<u32>,
}

impl DurationTable {
    /// The estimated length of a track, if there is one.
    pub fn get(&self, track: TrackId) -> Option<Span> {
        match self.millis.get(track.row()) {
            None | Some(0) => None,
            Some(millis) => Some(Span::from_millis(i64::from(*millis))),
        }
    }

    /// Counts publications: a ratio from an estimate depends on it.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// How many tracks have an estimate.
    pub fn known(&self) -> usize {
        self.millis.iter().filter(|millis| **millis > 0).count()
    }
}

/// Where lanes read the table of the last barrier.
#[derive(Clone, Debug, Default)]
pub struct PublishedDurations(Arc<ArcSwap<DurationTable>>);

impl PublishedDurations {
    /// The table as of now: a lane takes it once per batch.
    pub fn current(&self) -> Arc<DurationTable> {
        self.0.load_full()
    }
}

/// The owner of the estimates.
#[derive(Debug, Default)]
pub struct DurationEstimates {
    sketches: Vec<GapSketch>,
    millis: Vec<u32>,
    version: u64,
    published: PublishedDurations,
}

impl DurationEstimates {
    /// Notes that the next play of the session began `gap` after a play of `track`.
    pub fn note(&mut self, track: TrackId, gap: Span) {
        let row = track.row();
        if row >= self.sketches.len() {
            self.sketches.resize(row + 1, GapSketch::default());
            self.millis.resize(row + 1, 0);
        }
        let Some(sketch) = self.sketches.get_mut(row) else {
            return;
        };
        sketch.note(gap);
        let estimate = sketch
            .estimate()
            .filter(|e| e.confidence >= LEAST_CONFIDENCE);
        if let Some(millis) = self.millis.get_mut(row) {
            *millis = estimate.map_or(0, |e| u32::try_from(e.duration.millis()).unwrap_or(0));
        }
    }

    /// The estimate for one track, with its confidence.
    pub fn estimate(&self, track: TrackId) -> Option<EstimatedDuration> {
        self.sketches.get(track.row())?.estimate()
    }

    /// Publishes the table; called at barriers.
    pub fn publish(&mut self) {
        self.version += 1;
        let table = DurationTable {
            version: self.version,
            millis: self.millis.clone(),
        };
        self.published.0.store(Arc::new(table));
    }

    /// Where lanes read it.
    pub fn published(&self) -> PublishedDurations {
        self.published.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_see_an_estimate_after_the_barrier_and_not_before() {
        let mut owner = DurationEstimates::default();
        let lane = owner.published();
        for _ in 0..5 {
            owner.note(TrackId(3), Span::from_seconds(200));
        }
        assert_eq!(lane.current().get(TrackId(3)), None);
        owner.publish();
        let table = lane.current();
        assert_eq!(table.get(TrackId(3)), Some(Span::from_seconds(200)));
        assert_eq!((table.known(), table.version()), (1, 1));
        assert_eq!(table.get(TrackId(1_000)), None);
    }

    #[test]
    fn scattered_gaps_are_no_length() {
        let mut owner = DurationEstimates::default();
        for seconds in [31, 60, 90, 120, 150, 180, 210, 240, 270, 300, 330, 331, 332] {
            owner.note(TrackId(0), Span::from_seconds(seconds));
        }
        owner.publish();
        assert_eq!(owner.estimate(TrackId(0)).map(|e| e.support), Some(3));
        assert_eq!(
            owner.published().current().get(TrackId(0)),
            None,
            "3 of 13 agree: chance"
        );
    }
}
