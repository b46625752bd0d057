//! E4SRec as the stream asks it.

use segue_flow::Epoch;
use segue_listen::TrackId;
use segue_recommend::Ask;
use segue_recommend::catalogue::check_paired;
use segue_recommend::recommender::{
    Admitted, Example, LearnReport, Ranking, RecommendError, Recommender, Tier,
};
use tch::Tensor;

use crate::error::ModelError;
use crate::model::E4SRec;
use crate::scoring::{conservative_ranks, fill_lists};

/// Columns of scores are rows of the catalogue.
fn row_is_track(column: usize) -> Option<TrackId> {
    u32::try_from(column).ok().map(TrackId)
}

impl Recommender for E4SRec {
    fn name(&self) -> &'static str {
        match self.learner {
            Some(_) => "e4srec-online",
            None if self.follows => "e4srec-state",
            None => "e4srec-frozen",
        }
    }

    fn tier(&self) -> Tier {
        Tier::LanguageModel
    }

    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        let name = self.name();
        self.admit_tracks(name, tracks)
            .map_err(|error| error.of(name))
    }

    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        let name = self.name();
        self.check_taught().map_err(|error| error.of(name))?;
        if self.shortlists() {
            let lists = self.shortlisted(asks, limit);
            if let Some(mut lists) = lists.map_err(|error| error.of(name))? {
                out.append(&mut lists);
                return Ok(());
            }
        }
        let mut lists = vec![Ranking::default(); asks.len()];
        let all: Vec<usize> = (0..asks.len()).collect();
        self.scores(asks, &all, |catalogue, chunk, scores| {
            fill_lists(&mut lists, chunk, &scores, row_is_track, (catalogue, limit))
        })
        .map_err(|error| error.of(name))?;
        out.append(&mut lists);
        Ok(())
    }

    fn rank_of(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        let mut found = self.ranks(asks, actual)?;
        if let Some(guard) = self.learner.as_mut().and_then(|own| own.guard.as_mut()) {
            for (rank, track) in found.iter().zip(actual) {
                // What nobody has played before could not have been named.
                if rank.is_some() && track.row() < self.settled {
                    guard.note_rank(*rank);
                }
            }
        }
        ranks.append(&mut found);
        Ok(())
    }

    fn ranks_again(&self) -> bool {
        true
    }

    fn rank_again(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
        ranks: &mut Vec<Option<u32>>,
    ) -> Result<(), RecommendError> {
        // What is remembered of listeners beyond the context has come to know the answers.
        let memory = std::mem::take(&mut self.memory);
        let found = self.ranks(asks, actual);
        self.memory = memory;
        ranks.append(&mut found?);
        Ok(())
    }

    fn hold_out(&mut self, asks: &[Ask<'_>]) {
        if let Some(learner) = &mut self.learner {
            learner.hold_out(asks);
        }
    }

    fn learn(
        &mut self,
        epoch: Epoch,
        examples: &[Example<'_>],
    ) -> Result<LearnReport, RecommendError> {
        let name = self.name();
        self.check_taught()
            .and_then(|()| self.learn_from(epoch, examples))
            .map_err(|error| error.of(name))
    }

    fn snapshot(&self) -> Result<Vec<u8>, RecommendError> {
        let name = self.name();
        self.kept(name).map_err(|error| error.of(name))
    }

    fn restore(&mut self, state: &[u8], tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        let name = self.name();
        self.take_up(name, state, tracks)
            .map_err(|error| error.of(name))
    }
}

impl E4SRec {
    /// Where each actual play stands in the whole catalogue.
    fn ranks(
        &mut self,
        asks: &[Ask<'_>],
        actual: &[TrackId],
    ) -> Result<Vec<Option<u32>>, RecommendError> {
        let name = self.name();
        self.check_taught().map_err(|error| error.of(name))?;
        check_paired(name, asks, actual)?;
        let mut found = vec![None; asks.len()];
        // All questions are read, also where the track is new to the catalogue: the answer will
        // be learnt from.
        let wanted: Vec<usize> = (0..asks.len()).collect();
        self.scores(asks, &wanted, |catalogue, chunk, scores| {
            let known: Vec<(usize, i64, i64)> = (0i64..)
                .zip(chunk)
                .filter_map(|(row, &ask)| {
                    let track = actual
                        .get(ask)
                        .filter(|track| catalogue.contains(**track))?;
                    Some((ask, row, i64::from(track.0)))
                })
                .collect();
            if known.is_empty() {
                return Ok(());
            }
            let index = |values: Vec<i64>| -> Result<Tensor, ModelError> {
                Ok(Tensor::f_from_slice(&values)?.f_to_device(scores.device())?)
            };
            let targets = index(known.iter().map(|&(_, _, column)| column).collect())?;
            let scores = if known.len() == chunk.len() {
                scores
            } else {
                let rows = index(known.iter().map(|&(_, row, _)| row).collect())?;
                scores.f_index_select(0, &rows)?
            };
            for (&(ask, ..), rank) in known.iter().zip(conservative_ranks(&scores, &targets)?) {
                if let Some(place) = found.get_mut(ask) {
                    *place = u32::try_from(rank).ok();
                }
            }
            Ok(())
        })
        .map_err(|error| error.of(name))?;
        Ok(found)
    }
}
