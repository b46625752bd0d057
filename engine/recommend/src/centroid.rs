//! Recall around the session's centroid: tracks that sound (or read) like what was just played.
//!
//! The cheapest tier that can offer a track nobody has played yet: it needs a content vector only.

use std::sync::Arc;

use segue_flow::{Epoch, Remedy};
use segue_listen::TrackId;
use segue_recall::{Hit, Index, IndexWriter, Vector};
use serde::{Deserialize, Serialize};

use crate::catalogue::{Catalogue, check_paired, check_told};
use crate::kept;
use crate::ranking::at_least;
use crate::recommender::{
    Admitted, Ask, Example, LearnReport, Ranking, RecommendError, Recommender, Scored, Tier,
};

/// How many plays of the session the centroid is the mean of.
pub const CENTROID_REACH: usize = 10;

/// Questions that are scored in one pass over the vectors in [`Recommender::rank_of`]: the vectors
/// of a large catalogue do not fit a cache, the queries do.
const BLOCK: usize = 16;

const NAME: &str = "centroid-recall";

/// Ranks by the inner product of a track's unit vector with the mean of the unit vectors of the
/// session's last [`CENTROID_REACH`] plays.
///
/// Lists come from the index and are scored again here; ranks from looking at every vector. Where
/// there is no centroid (no play with a vector) nothing is recommended, and all tracks are equal.
/// Tracks without a vector cannot be ranked.
pub struct CentroidRecall {
    catalogue: Catalogue,
    dimensions: usize,
    writer: Box<dyn IndexWriter>,
    index: Arc<dyn Index>,
    epoch: u64,
    history: History,
    hits: Vec<Hit>,
    /// `[BLOCK, dimensions]`.
    queries: Vec<f32>,
    scores: Vec<Vec<f32>>,
}

/// In which order vectors came and when they were published. An index that is built again in this
/// order is the same index: what its graph is follows from it alone, since levels are drawn from a
/// seed of their own and points are linked one by one. It takes four bytes a track, where the graph
/// itself would take some hundred, and no format of hnsw_rs gets into a checkpoint; what it costs is
/// that the points are linked again at the start.
#[derive(Default, Serialize, Deserialize)]
struct History {
    tracks: Vec<TrackId>,
    /// At which epoch, and how many of `tracks` had come by then.
    published: Vec<(u64, usize)>,
}

impl CentroidRecall {
    /// Over vectors of `dimensions` components, kept by `writer`, which has none yet and measures by
    /// [`segue_recall::Metric::Cosine`].
    pub fn new(dimensions: usize, mut writer: Box<dyn IndexWriter>) -> Self {
        let index = writer.publish(0);
        Self {
            catalogue: Catalogue::default(),
            dimensions,
            writer,
            index,
            epoch: 0,
            history: History::default(),
            hits: Vec::new(),
            queries: Vec::new(),
            scores: vec![Vec::new(); BLOCK],
        }
    }

    /// The snapshot that answers now: its version belongs to an answer's provenance.
    pub fn index(&self) -> &Arc<dyn Index> {
        &self.index
    }

    fn error(detail: String, remedy: Remedy) -> RecommendError {
        RecommendError {
            recommender: NAME,
            detail,
            remedy,
        }
    }
}

/// Writes the mean of the session's last vectors to `query`; whether there is one.
fn centroid(index: &dyn Index, ask: &Ask<'_>, query: &mut [f32]) -> bool {
    query.fill(0.0);
    let mut plays = 0u16;
    for play in ask.last(CENTROID_REACH).iter().rev() {
        if let Some(row) = index.row(play.track) {
            query.iter_mut().zip(&*row).for_each(|(sum, x)| *sum += x);
            plays += 1;
        }
        if play.opens_session {
            break;
        }
    }
    if plays > 0 {
        let share = 1.0 / f32::from(plays);
        query.iter_mut().for_each(|sum| *sum *= share);
    }
    // Opposed vectors may leave nothing but rounding: that is no direction.
    query.iter().map(|x| x * x).sum::<f32>() > 1e-10
}

/// Σ aᵢ·bᵢ with sixteen running sums in one fixed order: lists and ranks see the same bits.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (x, y) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

impl Recommender for CentroidRecall {
    fn name(&self) -> &'static str {
        NAME
    }

    fn tier(&self) -> Tier {
        Tier::Recall
    }

    fn admit(&mut self, tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        // All are checked before any is taken in.
        let mut vectors = Vec::new();
        for admitted in tracks {
            let Some(content) = admitted.content else {
                continue;
            };
            let vector = Vector::check(content, self.dimensions).map_err(|wrong| {
                Self::error(
                    format!("content of track {}: {wrong}", admitted.key),
                    Remedy::Configure,
                )
            })?;
            vectors.push((admitted.track, vector));
        }
        self.catalogue.admit(NAME, tracks)?;
        let changed = !vectors.is_empty();
        let mut outcome = Ok(());
        for (track, vector) in vectors {
            // One that the index has no room for does not keep the others out.
            match self.writer.upsert(track, vector) {
                Ok(()) => self.history.tracks.push(track),
                Err(wrong) if outcome.is_ok() => {
                    outcome = Err(Self::error(wrong.to_string(), Remedy::Configure));
                }
                Err(_) => {}
            }
        }
        if changed {
            self.index = self.writer.publish(self.epoch);
            let so_far = self.history.tracks.len();
            self.history.published.push((self.epoch, so_far));
        }
        outcome
    }

    fn recommend(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
        out: &mut Vec<Ranking>,
    ) -> Result<(), RecommendError> {
        let before = out.len();
        self.queries.resize(self.dimensions, 0.0);
        for ask in asks {
            let mut tracks = Vec::new();
            if centroid(&*self.index, ask, &mut self.queries)
                && let Ok(query) = Vector::check(&self.queries, self.dimensions)
            {
                let found = self.index.search(query, limit, &|_| true, &mut self.hits);
                if let Err(wrong) = found {
                    out.truncate(before);
                    return Err(Self::error(wrong.to_string(), Remedy::Bug));
                }
                tracks.extend(self.hits.iter().filter_map(|hit| {
                    Some(Scored {
                        track: hit.track,
                        score: dot(&self.queries, &self.index.row(hit.track)?),
                    })
                }));
                self.catalogue.keep_best(&mut tracks, limit);
            }
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
        check_paired(NAME, asks, actual)?;
        let dimensions = self.dimensions;
        let index = &*self.index;
        self.queries.resize(BLOCK * dimensions, 0.0);
        for (asks, actual) in asks.chunks(BLOCK).zip(actual.chunks(BLOCK)) {
            let queries = self.queries.chunks_exact_mut(dimensions.max(1));
            for (ask, query) in asks.iter().zip(queries) {
                if !centroid(index, ask, query) {
                    // Every track scores 0: all are equal.
                    query.fill(0.0);
                }
            }
            self.scores.iter_mut().for_each(Vec::clear);
            for id in (0u32..).take(self.catalogue.len()) {
                let Some(row) = index.row(TrackId(id)) else {
                    continue;
                };
                let queries = self.queries.chunks_exact(dimensions.max(1));
                for (scores, query) in self.scores.iter_mut().zip(queries).take(asks.len()) {
                    scores.push(dot(query, &row));
                }
            }
            let queries = self.queries.chunks_exact(dimensions.max(1));
            for ((track, query), scores) in actual.iter().zip(queries).zip(&self.scores) {
                let row = self
                    .catalogue
                    .contains(*track)
                    .then(|| index.row(*track))
                    .flatten();
                ranks.push(row.map(|row| at_least(scores, dot(query, &row))));
            }
        }
        Ok(())
    }

    /// Nothing is learnt from plays: content does not change by being heard.
    fn learn(&mut self, epoch: Epoch, _: &[Example<'_>]) -> Result<LearnReport, RecommendError> {
        self.epoch = epoch.0;
        Ok(LearnReport::default())
    }

    fn snapshot(&self) -> Result<Vec<u8>, RecommendError> {
        kept::state(NAME, &(&self.catalogue, &self.history, self.epoch))
    }

    /// The vectors are the content of `tracks`; the index is built from them as it was built before.
    fn restore(&mut self, state: &[u8], tracks: &[Admitted<'_>]) -> Result<(), RecommendError> {
        let (catalogue, history, epoch): (Catalogue, History, u64) = kept::taken_up(NAME, state)?;
        check_told(NAME, &catalogue, tracks)?;
        let mut from = 0;
        for &(epoch, until) in &history.published {
            let came = history.tracks.get(from..until).ok_or_else(|| {
                let detail = format!("publication of tracks {from} to {until} of its history");
                Self::error(detail, Remedy::Restore)
            })?;
            for &track in came {
                let content = tracks.get(track.row()).and_then(|track| track.content);
                let vector = content.map(|content| Vector::check(content, self.dimensions));
                let Some(Ok(vector)) = vector else {
                    let detail = format!("track {} had a vector and has none that fits", track.0);
                    return Err(Self::error(detail, Remedy::Restore));
                };
                self.writer
                    .upsert(track, vector)
                    .map_err(|wrong| Self::error(wrong.to_string(), Remedy::Configure))?;
            }
            self.index = self.writer.publish(epoch);
            from = until;
        }
        self.catalogue = catalogue;
        self.history = history;
        self.epoch = epoch;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Fixture, recommender_contract};
    use crate::recommender::ContextPlay;
    use segue_listen::{EventTime, TrackKey, UserId};
    use segue_recall::{ExactWriter, GraphWriter, Settings};

    #[test]
    fn keeps_the_contract_over_both_kinds_of_index() {
        recommender_contract(
            || {
                let writer = ExactWriter::new(8, &Settings::default()).unwrap();
                Box::new(CentroidRecall::new(8, Box::new(writer)))
            },
            &Fixture::with_content(8),
        )
        .unwrap();
        recommender_contract(
            || {
                let writer = GraphWriter::new(8, Settings::default()).unwrap();
                Box::new(CentroidRecall::new(8, Box::new(writer)))
            },
            &Fixture::with_content(8),
        )
        .unwrap();
    }

    #[test]
    fn the_session_alone_makes_the_centroid() {
        let writer = ExactWriter::new(2, &Settings::default()).unwrap();
        let mut recall = CentroidRecall::new(2, Box::new(writer));
        let vectors = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]];
        let mut tracks: Vec<Admitted<'_>> = (0u32..)
            .zip(&vectors)
            .map(|(id, vector)| Admitted {
                track: TrackId(id),
                key: TrackKey(u128::from(id) + 1),
                names: None,
                content: Some(vector),
            })
            .collect();
        tracks.push(Admitted {
            track: TrackId(3),
            key: TrackKey(9),
            names: None,
            content: None,
        });
        recall.admit(&tracks).unwrap();
        let play = |track, opens_session| ContextPlay {
            track: TrackId(track),
            at: EventTime::from_millis(0),
            ratio: None,
            opens_session,
        };
        // Track 0 belongs to the session before.
        let context = [play(0, true), play(1, true), play(3, false)];
        let ask = Ask {
            user: UserId(0),
            plays: 3,
            context: &context,
        };
        let mut out = Vec::new();
        recall.recommend(&[ask], 2, &mut out).unwrap();
        let found: Vec<u32> = out[0].tracks.iter().map(|s| s.track.0).collect();
        assert_eq!(found, [1, 2]);
        let mut ranks = Vec::new();
        recall
            .rank_of(&[ask; 4], &[0, 1, 2, 3].map(TrackId), &mut ranks)
            .unwrap();
        assert_eq!(ranks, [Some(3), Some(1), Some(2), None]);
    }
}
