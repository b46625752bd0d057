//! Old plays, ranked again while learning goes on: what learning the new costs.

use segue_flow::names::{self, Name};
use segue_listen::TrackId;

use super::{EngineError, RecommendStage};
use crate::ladder::Ladder;
use crate::listeners::Facts;
use crate::prequential::{OldPlays, OldPlaysReading, Prequential};
use crate::recommender::{Ask, Example};

impl RecommendStage {
    /// Ranks some of the old plays again, if their time has come. Comes after learning: what was
    /// learnt from when the sample came to stand was learnt from for the last time.
    pub(super) fn look_back(&mut self) -> Result<(), EngineError> {
        let (Some(ladder), Some(prequential)) = (&mut self.ladder, &mut self.prequential) else {
            return Ok(());
        };
        let events = prequential.events();
        let Some(old) = prequential.old_plays() else {
            return Ok(());
        };
        if old.came_to(events) {
            hold_out(ladder, old);
        }
        let (asks, actual) = old.due(events);
        if asks.is_empty() {
            return Ok(());
        }
        let before = self.parts.clock.now();
        let columns = ranked_again(ladder, old, &asks, &actual)?;
        if let Some(reading) = old.read(events, &columns) {
            publish(ladder, reading);
        }
        if self.measuring.is_limited() {
            let took = self.parts.clock.now().saturating_sub(before);
            self.measuring.pays(took);
        }
        Ok(())
    }

    /// Tells recommenders that have been restored what is not to be learnt from.
    pub(super) fn hold_out_again(&mut self) {
        if let (Some(ladder), Some(prequential)) = (&mut self.ladder, &mut self.prequential)
            && let Some(old) = prequential.old_plays()
        {
            hold_out(ladder, old);
        }
    }
}

/// Lets the sample of old plays draw from plays that have just been measured and are still to be learnt
/// from.
pub(super) fn draw(
    ladder: &mut Ladder,
    prequential: &mut Prequential,
    plays: &[(Example<'_>, Facts)],
) -> Result<(), EngineError> {
    let Some(old) = prequential.old_plays() else {
        return Ok(());
    };
    let places = old.draw(plays);
    let drawn: Vec<_> = places
        .iter()
        .filter_map(|&at| plays.get(at).copied())
        .collect();
    if drawn.is_empty() {
        return Ok(());
    }
    let asks: Vec<_> = drawn.iter().map(|(example, _)| example.ask).collect();
    let actual: Vec<_> = drawn.iter().map(|(example, _)| example.actual).collect();
    let columns = ranked_again(ladder, old, &asks, &actual)?;
    old.tell(&drawn, &columns);
    Ok(())
}

fn hold_out(ladder: &mut Ladder, old: &OldPlays) {
    let asks = old.asks();
    if !asks.is_empty() {
        for recommender in ladder.recommenders() {
            recommender.hold_out(&asks);
        }
    }
}

fn ranked_again(
    ladder: &mut Ladder,
    old: &OldPlays,
    asks: &[Ask<'_>],
    actual: &[TrackId],
) -> Result<Vec<Vec<Option<u32>>>, EngineError> {
    let mut columns = Vec::new();
    for recommender in ladder
        .recommenders()
        .filter(|one| old.takes_part(one.name()))
    {
        let mut ranks = Vec::with_capacity(asks.len());
        recommender.rank_again(asks, actual, &mut ranks)?;
        columns.push(ranks);
    }
    Ok(columns)
}

fn publish(ladder: &mut Ladder, reading: &OldPlaysReading) {
    for name in ladder.recommenders().map(|recommender| recommender.name()) {
        let found = reading.recommenders.iter().find(|one| one.name == name);
        let Some(one) = found else { continue };
        for (metric, estimate) in [
            (Name::OldPlaysRecall, one.now.recall_20),
            (Name::OldPlaysRecallChange, one.change.recall_20),
            (Name::OldPlaysNdcg, one.now.ndcg_20),
            (Name::OldPlaysNdcgChange, one.change.ndcg_20),
        ] {
            if let Some(mean) = estimate.mean {
                names::gauge_for(metric, "recommender", name, mean);
            }
        }
    }
}
