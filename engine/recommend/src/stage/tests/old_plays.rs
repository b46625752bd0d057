//! Old plays are ranked again by whoever can, and are not learnt from again.

use super::*;
use crate::recommender::{Admitted, Ask, Example, LearnReport, Ranking, Tier};

/// What a recommender was told not to learn from.
type HeldOut = Arc<Mutex<Vec<(UserId, u64)>>>;

/// Knows every answer at first, and forgets all of them at an epoch: the fault that is to be seen.
struct Forgets {
    at: u64,
    epoch: u64,
    held_out: HeldOut,
}

impl Recommender for Forgets {
    fn name(&self) -> &'static str {
        "forgets"
    }
    fn tier(&self) -> Tier {
        Tier::Popularity
    }
    fn admit(&mut self, _: &[Admitted<'_>]) -> Result<(), RecommendError> {
        Ok(())
    }
    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        _: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        out.resize(out.len() + asks.len(), Ranking::default());
        Ok(())
    }
    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        _: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        let knows = self.epoch < self.at;
        ranks.resize(ranks.len() + asks.len(), Some(1).filter(|_| knows));
        Ok(())
    }
    fn ranks_again(&self) -> bool {
        true
    }
    fn hold_out(&mut self, asks: &[Ask<'_>]) {
        *self.held_out.lock().unwrap() = asks.iter().map(|ask| (ask.user, ask.plays)).collect();
    }
    fn learn(&mut self, epoch: Epoch, _: &[Example<'_>]) -> Result<LearnReport, RecommendError> {
        self.epoch = epoch.0 + 1;
        Ok(LearnReport::default())
    }
}

#[test]
fn what_is_forgotten_is_seen_where_the_recommender_can_be_asked_again() {
    let held_out = HeldOut::default();
    let forgets = Forgets {
        at: 8,
        epoch: 0,
        held_out: held_out.clone(),
    };
    let (mut stage, _) = stage_with(1, None, |parts| parts.curriculum = None);
    stage.settings.compare.clear();
    stage.settings.prequential.old_plays = 20;
    stage.settings.prequential.old_among = 128;
    stage.settings.prequential.old_every = 256;
    stage
        .set_up_ladder(vec![Box::new(forgets), Box::new(PersonalMostPop::new())])
        .unwrap();
    for batch in batches(LaneId(0), 1, script(1_000), 50) {
        stage.take(batch).unwrap();
    }
    let report = stage.finish().unwrap().prequential.unwrap();
    let old = report.old_plays.unwrap();
    // Thirty tracks were new once.
    assert_eq!((old.plays, old.among), (20, 128 - 30));
    let after: Vec<u64> = old.readings.iter().map(|reading| reading.after).collect();
    assert_eq!(after, [128, 384, 640, 896]);
    let changes = old.readings.iter().map(|reading| {
        let [one] = &reading.recommenders[..] else {
            panic!("personal-most-pop has come to know the answers");
        };
        assert_eq!(
            (one.name.as_str(), one.new.mrr.mean),
            ("forgets", Some(1.0))
        );
        one.change.mrr.mean.unwrap()
    });
    assert_eq!(changes.collect::<Vec<_>>(), [0.0, 0.0, -1.0, -1.0]);
    assert_eq!(held_out.lock().unwrap().len(), 20);
}
