//! First-order sequential rules: what was played right after the last track, by anyone.
//!
//! The simplest model of order, and a hard one to beat in music (Ludewig and Jannach 2018, "SR":
//! level with GRU4Rec on 30Music in MRR@20).

use hashbrown::HashMap;
use segue_flow::Epoch;
use segue_listen::TrackId;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Catalogue, check_paired};
use crate::counts::PlayCounts;
use crate::kept;
use crate::popularity::{learnt, rank_among};
use crate::recommender::{
    Admitted, Ask, ContextPlay, Example, LearnReport, Ranking, RecommendError, Recommender, Scored,
    Tier,
};
use crate::training::TrainingLog;

/// Successors kept of a track, if nothing else is said.
pub const SUCCESSORS: usize = 64;

/// Counts of transitions between neighbours in a session.
///
/// The score of a track is the weight of the transition from the last play to it; all others score 0
/// and share the last rank. Nothing is blended in; the lists it gives are filled with what everybody
/// plays.
///
/// A transition is learnt from the *context* of an example, its last two plays, where it says
/// whether the second opened a session. So a play is learnt one play of its listener later; each
/// once.
///
/// Memory is bounded by a number of successors per track. A full row gives the place of its lightest
/// successor to the new one, with its weight and one more (Space-Saving, Metwally et al. 2005): a
/// successor with more than 1/`successors` of a row's transitions is never lost.
pub struct SequentialRules {
    catalogue: Catalogue,
    everybody: PlayCounts,
    rows: HashMap<TrackId, Row>,
    successors: usize,
    decay: f32,
    epoch: Epoch,
    scratch: Vec<Scored>,
}

/// The successors of one track.
#[derive(Default, Serialize, Deserialize)]
struct Row {
    /// The epoch that `weights` are decayed to.
    epoch: Epoch,
    #[serde(with = "weights")]
    weights: Vec<Scored>,
}

/// A row's weights in a checkpoint: in an answer a track goes by its key, here by its id.
mod weights {
    use segue_listen::TrackId;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::recommender::Scored;

    pub(super) fn serialize<S: Serializer>(weights: &[Scored], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(weights.iter().map(|w| (w.track, w.score)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Scored>, D::Error> {
        let weights = Vec::<(TrackId, f32)>::deserialize(from)?;
        let scored = |(track, score)| Scored { track, score };
        Ok(weights.into_iter().map(scored).collect())
    }
}

impl Row {
    fn add(&mut self, next: TrackId, epoch: Epoch, decay: f32, successors: usize) {
        if decay < 1.0 && epoch > self.epoch {
            let epochs = i32::try_from(epoch.0 - self.epoch.0).unwrap_or(i32::MAX);
            let left = decay.powi(epochs);
            self.weights.iter_mut().for_each(|w| w.score *= left);
        }
        self.epoch = self.epoch.max(epoch);
        if let Some(known) = self.weights.iter_mut().find(|w| w.track == next) {
            known.score += 1.0;
        } else if self.weights.len() < successors {
            self.weights.push(Scored {
                track: next,
                score: 1.0,
            });
        } else {
            // The first of the lightest: the order in the row is that of the log, not of dense ids.
            let lightest = self
                .weights
                .iter_mut()
                .min_by(|a, b| a.score.total_cmp(&b.score));
            if let Some(lightest) = lightest {
                lightest.track = next;
                lightest.score += 1.0;
            }
        }
    }
}

impl Default for SequentialRules {
    fn default() -> Self {
        Self::new(SUCCESSORS, 1.0)
    }
}

impl SequentialRules {
    /// Rules that keep `successors` (at least 1) of each track, of whose weight `decay` is left after
    /// each epoch, in (0, 1]; 1 counts for ever. Anything else is taken for 1.
    pub fn new(successors: usize, decay: f32) -> Self {
        Self {
            catalogue: Catalogue::default(),
            everybody: PlayCounts::new(1.0),
            rows: HashMap::new(),
            successors: successors.max(1),
            decay: if decay > 0.0 && decay <= 1.0 {
                decay
            } else {
                1.0
            },
            epoch: Epoch(0),
            scratch: Vec::new(),
        }
    }

    /// Learns the first part of a log. The last transition of each listener is left to
    /// [`Recommender::learn`]: the listener's next play brings it in its context.
    pub fn train(&mut self, log: &TrainingLog) {
        self.everybody
            .learn(log.plays.iter().map(|play| play.track));
        for plays in log.sequences() {
            let known = plays.len().saturating_sub(1);
            for pair in plays.get(..known).unwrap_or(&[]).windows(2) {
                self.add(pair);
            }
        }
    }

    fn add(&mut self, pair: &[ContextPlay]) {
        let [before, after] = pair else { return };
        if after.opens_session {
            return;
        }
        self.rows.entry(before.track).or_default().add(
            after.track,
            self.epoch,
            self.decay,
            self.successors,
        );
    }

    /// Leaves the successors of the ask's last play that the catalogue has in `scratch`.
    fn score(&mut self, ask: &Ask<'_>) {
        self.scratch.clear();
        let row = ask
            .context
            .last()
            .and_then(|last| self.rows.get(&last.track));
        if let Some(row) = row {
            let known = row.weights.iter();
            self.scratch
                .extend(known.filter(|w| w.score > 0.0 && self.catalogue.contains(w.track)));
        }
    }
}

impl Recommender for SequentialRules {
    fn name(&self) -> &'static str {
        "sequential-rules"
    }

    fn tier(&self) -> Tier {
        Tier::Popularity
    }

    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        self.catalogue.admit("sequential-rules", tracks)?;
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

    fn learn(
        &mut self,
        epoch: Epoch,
        examples: &[Example<'_>],
    ) -> Result<LearnReport, RecommendError> {
        self.epoch = self.epoch.max(epoch);
        for example in examples {
            self.add(example.ask.last(2));
        }
        self.everybody.learn(examples.iter().map(|e| e.actual));
        Ok(learnt(examples))
    }

    fn snapshot(&self) -> Result<Vec<u8>, RecommendError> {
        // By track: the bytes then do not depend on the order in a hash map.
        let mut rows: Vec<(&TrackId, &Row)> = self.rows.iter().collect();
        rows.sort_unstable_by_key(|(track, _)| **track);
        let state = (&self.catalogue, &self.everybody, rows, self.epoch);
        kept::state(self.name(), &state)
    }

    fn restore(&mut self, state: &[u8], _: &[Admitted<'_>]) -> Result<(), RecommendError> {
        let rows: Vec<(TrackId, Row)>;
        (self.catalogue, self.everybody, rows, self.epoch) = kept::taken_up(self.name(), state)?;
        self.rows = rows.into_iter().collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
