//! Which tracks a recommender may rank, and the order of equals.
//!
//! Dense ids come without gaps, so a catalogue is a list of keys. It knows nothing of scores.

use std::cmp::Ordering;

use segue_flow::Remedy;
use segue_listen::{TrackId, TrackKey};
use serde::{Deserialize, Serialize};

use crate::recommender::{Admitted, Ask, RecommendError, Scored};

/// The tracks that were admitted, in the order of their dense ids.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Catalogue {
    keys: Vec<TrackKey>,
}

impl Catalogue {
    /// Takes tracks in. Those it has may come again (with new content).
    ///
    /// # Errors
    /// An id that leaves a gap, or one it has with another key; nothing is taken in then.
    pub fn admit(
        &mut self,
        recommender: &'static str,
        tracks: &[Admitted<'_>],
    ) -> Result<(), RecommendError> {
        let before = self.keys.len();
        for admitted in tracks {
            let row = admitted.track.row();
            let wrong = match self.keys.get(row) {
                Some(key) if *key == admitted.key => continue,
                Some(key) => format!(
                    "track id {row} was admitted as {key} and comes again as {}: one id, one key",
                    admitted.key
                ),
                None if row == self.keys.len() => {
                    self.keys.push(admitted.key);
                    continue;
                }
                None => format!(
                    "track id {row} was admitted where {} is the next: admit every track in the order of ids",
                    self.keys.len()
                ),
            };
            self.keys.truncate(before);
            return Err(RecommendError {
                recommender,
                detail: wrong,
                remedy: Remedy::Bug,
            });
        }
        Ok(())
    }

    /// How many tracks it has; ranks lie in `1..=len`.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether it has this track.
    pub fn contains(&self, track: TrackId) -> bool {
        track.row() < self.keys.len()
    }

    /// A track's key.
    pub fn key(&self, track: TrackId) -> Option<TrackKey> {
        self.keys.get(track.row()).copied()
    }

    /// All keys; the index is the dense id.
    pub fn keys(&self) -> &[TrackKey] {
        &self.keys
    }

    /// The order of a ranking: greater score first, NaN last, equals by key. Dense ids, which differ
    /// between runs, decide nothing.
    pub fn order(&self, a: &Scored, b: &Scored) -> Ordering {
        let by_score = match (a.score.is_nan(), b.score.is_nan()) {
            // `+ 0.0` makes the zeros equal.
            (false, false) => (b.score + 0.0).total_cmp(&(a.score + 0.0)),
            (a, b) => a.cmp(&b),
        };
        by_score.then_with(|| self.key_order(a.track, b.track))
    }

    /// The order of tracks that score the same.
    pub fn key_order(&self, a: TrackId, b: TrackId) -> Ordering {
        let place = |track| self.key(track).map(|key| (key.digest(), key));
        place(a).cmp(&place(b))
    }

    /// Keeps the best `limit` of `scored`, in the order of a ranking.
    pub fn keep_best(&self, scored: &mut Vec<Scored>, limit: usize) {
        if limit == 0 {
            scored.clear();
            return;
        }
        if limit < scored.len() {
            scored.select_nth_unstable_by(limit - 1, |a, b| self.order(a, b));
            scored.truncate(limit);
        }
        scored.sort_unstable_by(|a, b| self.order(a, b));
    }
}

/// Refuses a list of actual plays that is not as long as the asks.
///
/// # Errors
/// If it is not.
pub fn check_paired(
    recommender: &'static str,
    asks: &[Ask<'_>],
    actual: &[TrackId],
) -> Result<(), RecommendError> {
    if asks.len() == actual.len() {
        return Ok(());
    }
    Err(RecommendError {
        recommender,
        detail: format!(
            "{} asks came with {} actual plays: one each is needed",
            asks.len(),
            actual.len()
        ),
        remedy: Remedy::Bug,
    })
}

/// Refuses a state that is not of exactly these tracks.
///
/// # Errors
/// If it is of others.
pub fn check_told(
    recommender: &'static str,
    catalogue: &Catalogue,
    tracks: &[Admitted<'_>],
) -> Result<(), RecommendError> {
    let same = catalogue
        .keys()
        .iter()
        .eq(tracks.iter().map(|track| &track.key));
    if same {
        return Ok(());
    }
    Err(RecommendError {
        recommender,
        detail: format!(
            "its state is of {} tracks, and those of the checkpoint are {} others",
            catalogue.len(),
            tracks.len()
        ),
        remedy: Remedy::Restore,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(id: u32, key: u128) -> Admitted<'static> {
        Admitted {
            track: TrackId(id),
            key: TrackKey(key),
            names: None,
            content: None,
        }
    }

    #[test]
    fn a_gap_or_another_key_takes_nothing_in() {
        let mut catalogue = Catalogue::default();
        catalogue
            .admit("test", &[admitted(0, 5), admitted(1, 6), admitted(0, 5)])
            .unwrap();
        for bad in [admitted(4, 9), admitted(0, 6)] {
            assert!(catalogue.admit("test", &[admitted(2, 8), bad]).is_err());
            assert_eq!(catalogue.len(), 2);
        }
    }

    #[test]
    fn equals_are_ordered_by_key_and_nan_comes_last() {
        let mut one = Catalogue::default();
        one.admit("test", &[admitted(0, 5), admitted(1, 6), admitted(2, 7)])
            .unwrap();
        let mut other = Catalogue::default();
        other
            .admit("test", &[admitted(0, 7), admitted(1, 6), admitted(2, 5)])
            .unwrap();
        let keys = |catalogue: &Catalogue, scores: [f32; 3]| -> Vec<TrackKey> {
            let mut list: Vec<Scored> = (0..3)
                .map(|id| Scored {
                    track: TrackId(id),
                    score: scores[id as usize],
                })
                .collect();
            catalogue.keep_best(&mut list, 3);
            list.iter()
                .filter_map(|scored| catalogue.key(scored.track))
                .collect()
        };
        assert_eq!(keys(&one, [1.0; 3]), keys(&other, [1.0; 3]));
        assert_eq!(keys(&one, [0.0, -0.0, 0.0]), keys(&other, [-0.0, 0.0, 0.0]));
        assert_eq!(keys(&one, [f32::NAN, 1.0, 2.0]).last(), Some(&TrackKey(5)));
    }
}
