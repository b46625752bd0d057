//! How often each track was played by anyone: what most-popular ranks by, and what fills the lists
//! of recommenders that know only a few tracks for a listener.

use std::collections::BTreeMap;

use segue_listen::TrackId;
use serde::{Deserialize, Serialize};

use crate::catalogue::Catalogue;
use crate::recommender::Scored;

/// Play counts, decayed if wished. Exact up to 2^24 plays of one track, where an `f32` stops
/// counting by ones.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PlayCounts {
    /// What is left of a play after an epoch, in (0, 1]; 1 forgets nothing.
    decay: f32,
    /// By dense id, as far as the catalogue reaches.
    counts: Vec<f32>,
    /// Plays of tracks that are not in the catalogue yet.
    waiting: BTreeMap<TrackId, f32>,
    /// Descending, for ranks; empty when stale.
    #[serde(skip)]
    sorted: Vec<f32>,
    /// The most played, best first, as many as were ever asked for; empty when stale.
    #[serde(skip)]
    top: Vec<Scored>,
}

impl PlayCounts {
    pub(crate) fn new(decay: f32) -> Self {
        Self {
            decay: if decay > 0.0 && decay <= 1.0 {
                decay
            } else {
                1.0
            },
            counts: Vec::new(),
            waiting: BTreeMap::new(),
            sorted: Vec::new(),
            top: Vec::new(),
        }
    }

    /// Follows a catalogue that has grown.
    pub(crate) fn admit(&mut self, catalogue: &Catalogue) {
        for row in self.counts.len()..catalogue.len() {
            let waiting = u32::try_from(row)
                .ok()
                .and_then(|id| self.waiting.remove(&TrackId(id)));
            self.counts.push(waiting.unwrap_or(0.0));
        }
        self.stale();
    }

    /// Counts an epoch's plays.
    pub(crate) fn learn(&mut self, plays: impl IntoIterator<Item = TrackId>) {
        if self.decay < 1.0 {
            self.counts
                .iter_mut()
                .for_each(|count| *count *= self.decay);
            self.waiting
                .values_mut()
                .for_each(|count| *count *= self.decay);
        }
        for track in plays {
            match self.counts.get_mut(track.row()) {
                Some(count) => *count += 1.0,
                None => *self.waiting.entry(track).or_insert(0.0) += 1.0,
            }
        }
        self.stale();
    }

    /// The conservative rank of a track by its count. `None` if it is not in the catalogue.
    pub(crate) fn rank(&mut self, track: TrackId) -> Option<u32> {
        let count = *self.counts.get(track.row())?;
        if self.sorted.len() != self.counts.len() {
            self.sorted.clear();
            self.sorted.extend_from_slice(&self.counts);
            self.sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        }
        let rank = self.sorted.partition_point(|&other| other >= count);
        u32::try_from(rank).ok()
    }

    /// The `limit` most played, best first.
    pub(crate) fn top(&mut self, catalogue: &Catalogue, limit: usize) -> &[Scored] {
        let limit = limit.min(self.counts.len());
        if self.top.len() < limit {
            self.top.clear();
            self.top
                .extend((0u32..).zip(&self.counts).map(|(id, &score)| Scored {
                    track: TrackId(id),
                    score,
                }));
            catalogue.keep_best(&mut self.top, limit);
        }
        self.top.get(..limit).unwrap_or(&[])
    }

    /// Fills a ranking up to `limit` with the most played tracks it lacks, at score 0: they are all
    /// equal to the recommender, and their order is only a courtesy.
    pub(crate) fn fill(&mut self, catalogue: &Catalogue, tracks: &mut Vec<Scored>, limit: usize) {
        let known = tracks.len();
        if known >= limit {
            return;
        }
        for candidate in self.top(catalogue, limit) {
            if tracks.len() >= limit {
                break;
            }
            let listed = tracks
                .iter()
                .take(known)
                .any(|scored| scored.track == candidate.track);
            if !listed {
                tracks.push(Scored {
                    track: candidate.track,
                    score: 0.0,
                });
            }
        }
    }

    fn stale(&mut self) {
        self.sorted.clear();
        self.top.clear();
    }
}
