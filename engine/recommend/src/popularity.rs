//! The two popularity controls: what everybody plays, and what this listener plays.

use segue_flow::Epoch;
use segue_listen::TrackId;

use crate::catalogue::{Catalogue, check_paired};
use crate::counts::PlayCounts;
use crate::kept;
use crate::recommender::{
    Admitted, Ask, Example, LearnReport, Ranking, RecommendError, Recommender, Scored, Tier,
};
use crate::training::TrainingLog;

/// How many plays personal popularity looks at (Abbattista et al., RecSys 2024, arXiv 2409.04329:
/// counts over the last 50 plays).
pub const PERSONAL_REACH: usize = 50;

/// The listener's most played tracks of the last [`PERSONAL_REACH`] plays.
///
/// The score of a track is its count plus `p / 64`, where `p` in `1..=50` is the place of its last
/// play, the newest the highest: less than one play, so recency only breaks ties. All other tracks
/// score 0, so they share the last rank. The lists it gives are filled with what everybody plays.
pub struct PersonalMostPop {
    catalogue: Catalogue,
    everybody: PlayCounts,
    scratch: Vec<Scored>,
}

impl Default for PersonalMostPop {
    fn default() -> Self {
        Self::new()
    }
}

impl PersonalMostPop {
    /// With an empty catalogue.
    pub fn new() -> Self {
        Self {
            catalogue: Catalogue::default(),
            everybody: PlayCounts::new(1.0),
            scratch: Vec::new(),
        }
    }

    /// Counts the first part of a log, for the tracks that fill its lists.
    pub fn train(&mut self, log: &TrainingLog) {
        self.everybody
            .learn(log.plays.iter().map(|play| play.track));
    }

    /// Leaves the scores of the tracks in reach in `scratch`, in no particular order.
    fn score(&mut self, ask: &Ask<'_>) {
        self.scratch.clear();
        let reach = ask.last(PERSONAL_REACH);
        for (place, play) in (1u8..).zip(reach) {
            if !self.catalogue.contains(play.track) {
                continue;
            }
            let recency = f32::from(place) / 64.0;
            match self.scratch.iter_mut().find(|s| s.track == play.track) {
                Some(scored) => scored.score = scored.score.floor() + 1.0 + recency,
                None => self.scratch.push(Scored {
                    track: play.track,
                    score: 1.0 + recency,
                }),
            }
        }
    }
}

impl Recommender for PersonalMostPop {
    fn name(&self) -> &'static str {
        "personal-most-pop"
    }

    fn tier(&self) -> Tier {
        Tier::Popularity
    }

    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        self.catalogue.admit("personal-most-pop", tracks)?;
        self.everybody.admit(&self.catalogue);
        Ok(())
    }

    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        for ask in asks {
            self.score(ask);
            let mut tracks = self.scratch.clone();
            self.catalogue.keep_best(&mut tracks, limit);
            self.everybody.fill(&self.catalogue, &mut tracks, limit);
            out.push(Ranking { tracks });
        }
        Ok(())
    }

    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        check_paired(self.name(), asks, actual)?;
        for (ask, &track) in asks.iter().zip(actual) {
            self.score(ask);
            ranks.push(rank_among(&self.catalogue, &self.scratch, track));
        }
        Ok(())
    }

    fn learn(&mut self, _: Epoch, examples: &[Example<'_>]) -> Result<LearnReport, RecommendError> {
        self.everybody.learn(examples.iter().map(|e| e.actual));
        Ok(learnt(examples))
    }

    fn snapshot(&self) -> Result<Vec<u8>, RecommendError> {
        kept::state(self.name(), &(&self.catalogue, &self.everybody))
    }

    fn restore(&mut self, state: &[u8], _: &[Admitted<'_>]) -> Result<(), RecommendError> {
        (self.catalogue, self.everybody) = kept::taken_up(self.name(), state)?;
        Ok(())
    }
}

/// The conservative rank of a track where `scored` are the only ones above 0.
pub(crate) fn rank_among(catalogue: &Catalogue, scored: &[Scored], track: TrackId) -> Option<u32> {
    if !catalogue.contains(track) {
        return None;
    }
    let rank = match scored.iter().find(|scored| scored.track == track) {
        Some(own) => scored.iter().filter(|s| s.score >= own.score).count(),
        None => catalogue.len(),
    };
    u32::try_from(rank).ok()
}

pub(crate) fn learnt(examples: &[Example<'_>]) -> LearnReport {
    LearnReport {
        examples: examples.len() as u64,
        loss: None,
    }
}

/// What everybody plays most, the same for every listener.
pub struct MostPopular {
    catalogue: Catalogue,
    counts: PlayCounts,
}

impl MostPopular {
    /// Counts of which `decay` is left after each epoch, in (0, 1]; 1 counts for ever. Anything else
    /// is taken for 1.
    pub fn new(decay: f32) -> Self {
        Self {
            catalogue: Catalogue::default(),
            counts: PlayCounts::new(decay),
        }
    }

    /// Counts the first part of a log.
    pub fn train(&mut self, log: &TrainingLog) {
        self.counts.learn(log.plays.iter().map(|play| play.track));
    }
}

impl Recommender for MostPopular {
    fn name(&self) -> &'static str {
        "most-popular"
    }

    fn tier(&self) -> Tier {
        Tier::Popularity
    }

    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        self.catalogue.admit("most-popular", tracks)?;
        self.counts.admit(&self.catalogue);
        Ok(())
    }

    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        for _ in asks {
            out.push(Ranking {
                tracks: self.counts.top(&self.catalogue, limit).to_vec(),
            });
        }
        Ok(())
    }

    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        check_paired(self.name(), asks, actual)?;
        ranks.extend(actual.iter().map(|&track| self.counts.rank(track)));
        Ok(())
    }

    fn learn(&mut self, _: Epoch, examples: &[Example<'_>]) -> Result<LearnReport, RecommendError> {
        self.counts.learn(examples.iter().map(|e| e.actual));
        Ok(learnt(examples))
    }

    fn snapshot(&self) -> Result<Vec<u8>, RecommendError> {
        kept::state(self.name(), &(&self.catalogue, &self.counts))
    }

    fn restore(&mut self, state: &[u8], _: &[Admitted<'_>]) -> Result<(), RecommendError> {
        (self.catalogue, self.counts) = kept::taken_up(self.name(), state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
