//! What a listener's own newest plays say about the next one, apart from any network.
//!
//! The personal-popularity logit of Abbattista et al. (RecSys 2024, "Enhancing sequential music
//! recommendation with personalized popularity awareness"), split by what makes people replay:
//! how often, how lately (ACT-R's base level), at once, and in the order of last time. The weights
//! are learnt. A learner also knows what was played before the context ([`crate::memory`]): how often,
//! how lately, and that it was at all. All other tracks get 0: a constant for all would change no
//! rank.

use segue_listen::TrackId;
use segue_recommend::ContextPlay;

use crate::memory::{Recalled, plays_since};

/// How many features there are.
pub(crate) const FEATURES: usize = 8;
/// Plays that are counted for the popularity feature.
const COUNTED: usize = 50;
/// Stands for a count of none (the paper's value).
const EPSILON: f32 = 0.01;

/// Where the weights begin: the popularity logit at full weight as in the paper, so that before any
/// learning the model ranks as counts do, and newer ones first among equals.
pub(crate) const INITIAL: [f32; FEATURES] = [1.0, 0.3, 0.0, 0.3, 0.0, 0.5, 0.3, 1.0];

/// The tracks of one context, each once, with their features.
#[derive(Debug, Default)]
pub(crate) struct Personal {
    /// Sorted by address, which decides nothing.
    pub tracks: Vec<TrackId>,
    pub features: Vec<[f32; FEATURES]>,
    /// Of each track, remembered plays and how many plays the listener had before the newest.
    longer: Vec<(u32, u64)>,
}

impl Personal {
    /// Of a context, oldest first, of a listener with `plays` plays behind them, and of what is
    /// remembered; replaces what was there. A memory is of the last barrier: what was played since
    /// counts as if it were remembered, so that the features do not depend on where epochs end.
    pub fn read(&mut self, context: &[ContextPlay], recalled: Recalled<'_>, plays: u64) {
        self.tracks.clear();
        self.features.clear();
        self.tracks.extend(context.iter().map(|play| play.track));
        self.tracks
            .extend(recalled.tracks.iter().map(|known| known.track));
        self.tracks.sort_unstable();
        self.tracks.dedup();
        self.features.resize(self.tracks.len(), [0.0; FEATURES]);
        let newest = context.last().map(|play| play.track);
        let mut before = None;
        for (at, play) in context.iter().enumerate() {
            let age = context.len() - at;
            if let Ok(row) = self.tracks.binary_search(&play.track)
                && let Some([count, level, last, follows, ..]) = self.features.get_mut(row)
            {
                if age <= COUNTED {
                    *count += 1.0;
                }
                *level += 1.0 / (age as f32).sqrt();
                if age == 1 {
                    *last = 1.0;
                }
                if before == newest {
                    *follows += 1.0;
                }
            }
            before = Some(play.track);
        }
        for [count, level, _, follows, present, ..] in &mut self.features {
            if *level > 0.0 {
                *count = ((*count + EPSILON) / EPSILON).ln();
                *level = level.ln();
                *follows = follows.ln_1p();
                *present = 1.0;
            }
        }
        self.longer.clear();
        self.longer.resize(self.tracks.len(), (0, 0));
        let begin = plays.saturating_sub(context.len() as u64);
        let fresh = (begin..)
            .zip(context)
            .filter(|(at, _)| *at >= recalled.until);
        let fresh = fresh.map(|(at, play)| (play.track, 1, at));
        let held = recalled.tracks.iter();
        for (track, count, newest) in held.map(|r| (r.track, r.plays, r.newest)).chain(fresh) {
            if let Ok(row) = self.tracks.binary_search(&track)
                && let Some(longer) = self.longer.get_mut(row)
            {
                *longer = (longer.0.saturating_add(count), longer.1.max(newest));
            }
        }
        for ([.., often, lately, ever], (count, newest)) in
            self.features.iter_mut().zip(&self.longer)
        {
            if *count > 0 {
                *often = (*count as f32).ln_1p();
                *lately = -plays_since(*newest, plays).ln();
                *ever = 1.0;
            }
        }
    }
}

/// The context that the question before `plays[at]` has, within a listener's whole log.
pub(crate) fn context_before(plays: &[ContextPlay], at: usize) -> &[ContextPlay] {
    use crate::windows::BLOCK;
    let begin = (at / BLOCK * BLOCK).saturating_sub(BLOCK);
    plays.get(begin..at).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Remembered;
    use crate::windows::tests_support::plays_of;

    #[test]
    fn counts_recency_and_order() {
        let mut personal = Personal::default();
        let plays = plays_of([5, 3, 7, 5, 3].into_iter());
        personal.read(&plays, Recalled::default(), 5);
        assert_eq!(personal.tracks, [TrackId(3), TrackId(5), TrackId(7)]);
        let [three, five, seven] = [0, 1, 2].map(|at| personal.features[at]);
        assert!((three[0] - (2.01f32 / 0.01).ln()).abs() < 1e-5);
        assert!((seven[0] - (1.01f32 / 0.01).ln()).abs() < 1e-5);
        assert!(
            (three[1] - (1.0 + 0.5f32).ln()).abs() < 1e-5,
            "ages 1 and 4"
        );
        assert!((five[1] - (1.0 / 2f32.sqrt() + 1.0 / 5f32.sqrt()).ln()).abs() < 1e-5);
        assert_eq!((three[2], five[2], seven[2]), (1.0, 0.0, 0.0));
        // After the newest track, 3, came 7 once.
        assert_eq!((three[3], five[3], seven[3]), (0.0, 0.0, 2f32.ln()));
        personal.read(&[], Recalled::default(), 0);
        assert!(personal.tracks.is_empty() && personal.features.is_empty());
    }

    #[test]
    fn popularity_counts_fifty_plays() {
        let mut personal = Personal::default();
        let plays = plays_of(std::iter::once(1).chain(std::iter::repeat_n(2, 50)));
        let tracks = [Remembered {
            track: TrackId(9),
            plays: 3,
            newest: 41,
        }];
        let recalled = |until| Recalled {
            tracks: &tracks,
            until,
        };
        personal.read(&plays, recalled(51), 51);
        assert_eq!(personal.tracks, [TrackId(1), TrackId(2), TrackId(9)]);
        assert_eq!(personal.features[2][..5], [0.0; 5]);
        assert_eq!(personal.features[2][5..], [4f32.ln(), -10f32.ln(), 1.0]);
        assert_eq!(personal.features[1][5..], [0.0; 3]);
        assert!(personal.features[0][0].abs() < 1e-5);
        assert_eq!(personal.features[0][4], 1.0);
        // The newest three plays are not remembered yet, and count all the same.
        personal.read(&plays, recalled(48), 51);
        assert_eq!(personal.features[1][5..], [4f32.ln(), 0.0, 1.0]);
        assert_eq!(personal.features[0][5..], [0.0; 3]);
    }
}
