//! A recommender that says what the one inside says, and notes when each track could first be among it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use segue_flow::Epoch;
use segue_flow::clock::WallClock;
use segue_listen::{TrackId, TrackKey};
use segue_recommend::recommender::{
    Admitted, Ask, Example, LearnReport, Ranking, RecommendError, Recommender, Tier,
};

/// Which tracks could be predicted, and since when.
#[derive(Debug, Default)]
pub struct Predictable {
    /// When the first prediction after a track's vector was made.
    pub first: HashMap<TrackKey, Duration>,
    /// Tracks whose vectors came since the last prediction.
    known: Vec<TrackKey>,
}

/// Looks on at the one inside.
pub struct Onlooker<R> {
    inside: R,
    clock: Arc<dyn WallClock>,
    predictable: Arc<Mutex<Predictable>>,
}

impl<R> Onlooker<R> {
    pub fn around(
        inside: R,
        clock: Arc<dyn WallClock>,
        predictable: Arc<Mutex<Predictable>>,
    ) -> Self {
        Self {
            inside,
            clock,
            predictable,
        }
    }
}

impl<R: Recommender> Recommender for Onlooker<R> {
    fn name(&self) -> &'static str {
        self.inside.name()
    }

    fn tier(&self) -> Tier {
        self.inside.tier()
    }

    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        self.inside.admit(tracks)?;
        let seen = self.predictable.lock();
        let mut seen = seen.unwrap_or_else(PoisonError::into_inner);
        let encoded = tracks.iter().filter(|track| track.content.is_some());
        seen.known.extend(encoded.map(|track| track.key));
        Ok(())
    }

    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        self.inside.recommend(asks, limit, out)?;
        let now = self.clock.now();
        let seen = self.predictable.lock();
        let mut seen = seen.unwrap_or_else(PoisonError::into_inner);
        let known = std::mem::take(&mut seen.known);
        for track in known {
            seen.first.entry(track).or_insert(now);
        }
        Ok(())
    }

    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        self.inside.rank_of(asks, actual, ranks)
    }

    fn learn(
        &mut self,
        epoch: Epoch,
        examples: &[Example<'_>],
    ) -> Result<LearnReport, RecommendError> {
        self.inside.learn(epoch, examples)
    }
}
