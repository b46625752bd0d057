//! A model that is far too slow: a fault put in around a real recommender, since no real one can be
//! relied on to be slow by so much.

use std::sync::Arc;
use std::time::Duration;

use segue_flow::Epoch;
use segue_flow::clock::{MachineClock, WallClock};
use segue_listen::TrackId;
use segue_recommend::recommender::{
    Admitted, Ask, Example, LearnReport, Ranking, RecommendError, Recommender, Tier,
};

/// Says what the one inside says, and takes its time for each question: as a model on a device of its
/// own would, whose caller waits and does not work.
pub struct Slow<R> {
    inside: R,
    /// What a question takes.
    cost: Duration,
    clock: Arc<MachineClock>,
}

impl<R> Slow<R> {
    pub fn around(inside: R, cost: Duration) -> Self {
        Self {
            inside,
            cost,
            clock: Arc::new(MachineClock::start()),
        }
    }

    fn take_time(&self, asks: usize) {
        let asks = u32::try_from(asks).unwrap_or(u32::MAX);
        self.clock.sleep(self.cost.saturating_mul(asks));
    }
}

impl<R: Recommender> Recommender for Slow<R> {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn tier(&self) -> Tier {
        Tier::LanguageModel
    }

    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        self.inside.admit(tracks)
    }

    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        self.take_time(asks.len());
        self.inside.recommend(asks, limit, out)
    }

    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        self.take_time(asks.len());
        self.inside.rank_of(asks, actual, ranks)
    }

    /// With a loss each time, as the language model's: what a run remembers of them is to be bounded.
    fn learn(
        &mut self,
        epoch: Epoch,
        examples: &[Example<'_>],
    ) -> Result<LearnReport, RecommendError> {
        let learnt = self.inside.learn(epoch, examples)?;
        Ok(LearnReport {
            loss: Some(1.0),
            ..learnt
        })
    }

    fn snapshot(&self) -> Result<Vec<u8>, RecommendError> {
        self.inside.snapshot()
    }

    fn restore(&mut self, state: &[u8], tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        self.inside.restore(state, tracks)
    }
}
