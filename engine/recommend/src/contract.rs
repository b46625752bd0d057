//! What every [`Recommender`] keeps, as a test that each implementation calls.
//!
//! ```
//! use segue_recommend::contract::{Fixture, recommender_contract};
//! use segue_recommend::popularity::PersonalMostPop;
//!
//! recommender_contract(|| Box::new(PersonalMostPop::new()), &Fixture::default()).unwrap();
//! ```

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_flow::Epoch;
use segue_listen::{EventTime, Ratio, TrackId, TrackKey, UserId};

use crate::listeners::{Chunk, Listeners, PlayEvent};
use crate::recommender::{Admitted, Ask, Ranking, RecommendError, Recommender};

/// What the suite feeds a recommender with.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// Components of a content vector; `None` admits tracks without content.
    pub dimensions: Option<usize>,
    /// How many tracks there are.
    pub tracks: u32,
    /// How many plays there are, by five listeners.
    pub plays: usize,
    /// By how much a rank in a batch may differ from the rank alone, and two runs from each other: 0
    /// for exact arithmetic, a few where the shape of a batch changes the last bits.
    pub rank_tolerance: u32,
    /// By how much scores may differ likewise.
    pub score_tolerance: f32,
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            dimensions: None,
            tracks: 40,
            plays: 400,
            rank_tolerance: 0,
            score_tolerance: 0.0,
        }
    }
}

impl Fixture {
    /// With content vectors of `dimensions` components.
    pub fn with_content(dimensions: usize) -> Self {
        Self {
            dimensions: Some(dimensions),
            ..Self::default()
        }
    }
}

/// Which clause was broken, and how.
#[derive(Debug, thiserror::Error)]
#[error("{recommender} breaks its contract: {clause}")]
pub struct Breach {
    /// Which recommender.
    pub recommender: String,
    /// What it should have done, and what it did.
    pub clause: String,
}

/// Puts recommenders made by `make` (the same each time, with nothing admitted) to every clause.
///
/// # Errors
/// The first clause that is broken.
pub fn recommender_contract(
    mut make: impl FnMut() -> Box<dyn Recommender>,
    fixture: &Fixture,
) -> Result<(), Breach> {
    let name = make().name().to_owned();
    let suite = Suite::new(fixture);
    let clauses: [Clause; 9] = [
        Suite::nothing_admitted,
        Suite::ids_without_gaps,
        Suite::content_is_checked,
        Suite::ranks_are_places,
        Suite::lists_agree_with_ranks,
        Suite::a_batch_is_its_questions,
        Suite::appends_or_fails,
        Suite::learning_repeats,
        Suite::kept_or_refused,
    ];
    for clause in clauses {
        clause(&suite, &mut make).map_err(|clause| Breach {
            recommender: name.clone(),
            clause,
        })?;
    }
    Ok(())
}

type Make<'m> = dyn FnMut() -> Box<dyn Recommender> + 'm;
type Clause = for<'m> fn(&Suite, &mut Make<'m>) -> Result<(), String>;

struct Suite {
    fixture: Fixture,
    /// `[tracks, dimensions]`.
    content: Vec<f32>,
    chunk: Chunk,
}

fn ensure(holds: bool, clause: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(clause()) }
}

fn fine<T>(what: &str, result: Result<T, RecommendError>) -> Result<T, String> {
    result.map_err(|error| format!("{what} must not fail: {error}"))
}

impl Suite {
    fn new(fixture: &Fixture) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let dimensions = fixture.dimensions.unwrap_or(0);
        let mut content = Vec::new();
        for _ in 0..fixture.tracks {
            let row: Vec<f32> = (0..dimensions)
                .map(|_| rng.random_range(-1.0..1.0))
                .collect();
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            content.extend(row.iter().map(|x| x / norm.max(f32::MIN_POSITIVE)));
        }
        let mut listeners = Listeners::new();
        let mut chunk = Chunk::new();
        for play in 0..fixture.plays {
            // Low ids are the popular ones; the last one is played but never admitted.
            let track = rng.random_range(0..=fixture.tracks) * rng.random_range(1..4) / 3;
            let event = PlayEvent {
                user: UserId(rng.random_range(0..5)),
                track: TrackId(track),
                at: EventTime::from_millis(play as i64 * 60_000),
                opens_session: rng.random_bool(0.1),
                own_ratio: None,
                ratio_of_previous: Ratio::new(rng.random_range(0.0..1.2)),
            };
            chunk.push(&mut listeners, &event);
        }
        Self {
            fixture: fixture.clone(),
            content,
            chunk,
        }
    }

    fn admitted(&self) -> Vec<Admitted<'_>> {
        let dimensions = self.fixture.dimensions.unwrap_or(0);
        (0..self.fixture.tracks)
            .map(|id| {
                let from = id as usize * dimensions;
                Admitted {
                    track: TrackId(id),
                    key: TrackKey::from_names("contract", &id.to_string()),
                    names: None,
                    content: self
                        .fixture
                        .dimensions
                        .and_then(|_| self.content.get(from..from + dimensions)),
                }
            })
            .collect()
    }

    /// A recommender that has admitted all and learnt from the first half of the plays.
    fn learnt(&self, make: &mut Make<'_>) -> Result<Box<dyn Recommender>, String> {
        let mut recommender = make();
        fine("admitting", recommender.admit(&self.admitted()))?;
        let examples = self.chunk.examples();
        let (first, _) = examples.split_at(examples.len() / 2);
        for (epoch, part) in (1u64..).zip(first.chunks(50)) {
            fine("learning", recommender.learn(Epoch(epoch), part))?;
        }
        Ok(recommender)
    }

    /// Some questions of the second half, and a listener's first.
    fn asks(&self) -> Vec<Ask<'_>> {
        let asks = self.chunk.asks();
        let half = asks.len() / 2;
        let first = Ask {
            user: UserId(77),
            plays: 0,
            context: &[],
        };
        [first]
            .into_iter()
            .chain(asks.into_iter().skip(half).step_by(7))
            .collect()
    }

    fn nothing_admitted(&self, make: &mut Make<'_>) -> Result<(), String> {
        let mut recommender = make();
        let asks = self.asks();
        let lists = recommend(&mut *recommender, &asks, 10)?;
        ensure(lists.iter().all(|list| list.tracks.is_empty()), || {
            "with an empty catalogue there is nothing to recommend".to_owned()
        })?;
        let actual = vec![TrackId(0); asks.len()];
        let ranks = rank_of(&mut *recommender, &asks, &actual)?;
        ensure(ranks.iter().all(Option::is_none), || {
            format!("with an empty catalogue no track has a rank, found {ranks:?}")
        })?;
        fine("learning nothing", recommender.learn(Epoch(1), &[])).map(drop)
    }

    fn ids_without_gaps(&self, make: &mut Make<'_>) -> Result<(), String> {
        let mut recommender = make();
        let tracks = self.admitted();
        let (Some(first), Some(third)) = (tracks.first(), tracks.get(2)) else {
            return Ok(());
        };
        ensure(recommender.admit(&[*first, *third]).is_err(), || {
            "ids with a gap must be refused".to_owned()
        })?;
        fine("admitting nothing", recommender.admit(&[]))?;
        fine("admitting", recommender.admit(&tracks))?;
        fine("admitting again", recommender.admit(&tracks))?;
        let other = Admitted {
            key: TrackKey(1),
            ..*first
        };
        ensure(recommender.admit(&[other]).is_err(), || {
            "an id that comes again with another key must be refused".to_owned()
        })
    }

    fn content_is_checked(&self, make: &mut Make<'_>) -> Result<(), String> {
        let Some(dimensions) = self.fixture.dimensions else {
            return Ok(());
        };
        let mut not_a_number = vec![0.5; dimensions];
        if let Some(last) = not_a_number.last_mut() {
            *last = f32::NAN;
        }
        let long = vec![0.1; dimensions + 1];
        for (what, content) in [("too long", &long), ("not finite", &not_a_number)] {
            let mut recommender = make();
            let bad = Admitted {
                track: TrackId(0),
                key: TrackKey(1),
                names: None,
                content: Some(content),
            };
            ensure(recommender.admit(&[bad]).is_err(), || {
                format!("a content vector that is {what} must be refused")
            })?;
        }
        Ok(())
    }

    fn ranks_are_places(&self, make: &mut Make<'_>) -> Result<(), String> {
        let mut recommender = self.learnt(make)?;
        let asks = self.asks();
        for track in (0..self.fixture.tracks + 3).chain([u32::MAX]) {
            let actual = vec![TrackId(track); asks.len()];
            let ranks = rank_of(&mut *recommender, &asks, &actual)?;
            for rank in ranks {
                let known = track < self.fixture.tracks;
                let right = match rank {
                    Some(rank) => known && (1..=self.fixture.tracks).contains(&rank),
                    None => !known,
                };
                ensure(right, || {
                    format!(
                        "track {track} of {} admitted ones has rank {rank:?}",
                        self.fixture.tracks
                    )
                })?;
            }
        }
        Ok(())
    }

    fn lists_agree_with_ranks(&self, make: &mut Make<'_>) -> Result<(), String> {
        let mut recommender = self.learnt(make)?;
        let all = self.fixture.tracks as usize;
        for ask in self.asks() {
            let whole = recommend(&mut *recommender, &[ask], all + 5)?;
            let tracks = whole.first().map_or(&[][..], |list| &list.tracks);
            if tracks.is_empty() {
                continue;
            }
            let mut ids: Vec<TrackId> = tracks.iter().map(|scored| scored.track).collect();
            ids.sort_unstable();
            ids.dedup();
            ensure(ids.len() == tracks.len(), || {
                "a list has no track twice".to_owned()
            })?;
            ensure(tracks.len() == all, || {
                format!(
                    "a list without limit has the whole catalogue (history is not masked): {} of {all}",
                    tracks.len()
                )
            })?;
            let scores: Vec<f32> = tracks.iter().map(|scored| scored.score).collect();
            ensure(
                scores.iter().all(|s| s.is_finite()) && scores.is_sorted_by(|a, b| a >= b),
                || format!("scores are finite, best first: {scores:?}"),
            )?;
            let actual: Vec<TrackId> = tracks.iter().map(|scored| scored.track).collect();
            let ranks = rank_of(&mut *recommender, &vec![ask; all], &actual)?;
            for ((track, rank), score) in actual.iter().zip(ranks).zip(&scores) {
                let last_equal = scores.partition_point(|other| other >= score) as u32;
                let near = rank
                    .is_some_and(|rank| rank.abs_diff(last_equal) <= self.fixture.rank_tolerance);
                ensure(near, || {
                    format!(
                        "track {} has {last_equal} tracks that score at least as high, but rank {rank:?}",
                        track.0
                    )
                })?;
            }
            let cut = recommend(&mut *recommender, &[ask], 7)?;
            let begin: Vec<f32> = scores.iter().take(7).copied().collect();
            let cut: Vec<f32> = cut
                .iter()
                .flat_map(|list| list.tracks.iter().map(|scored| scored.score))
                .collect();
            ensure(self.near(&begin, &cut), || {
                format!("a shorter list is the longer one cut: {begin:?} {cut:?}")
            })?;
        }
        Ok(())
    }

    fn a_batch_is_its_questions(&self, make: &mut Make<'_>) -> Result<(), String> {
        let asks = self.asks();
        let actual: Vec<TrackId> = (0u32..)
            .take(asks.len())
            .map(|at| TrackId(at * 3 % self.fixture.tracks.max(1)))
            .collect();
        let mut recommender = self.learnt(make)?;
        let lists = recommend(&mut *recommender, &asks, 10)?;
        let ranks = rank_of(&mut *recommender, &asks, &actual)?;
        // Others are asked backwards, one by one: neither company nor order may matter.
        let mut other = self.learnt(make)?;
        let questions = asks.iter().zip(&actual).zip(lists.iter().zip(&ranks));
        for ((ask, track), (list, rank)) in questions.collect::<Vec<_>>().into_iter().rev() {
            let alone = recommend(&mut *other, &[*ask], 10)?;
            let alone = alone.first().cloned().unwrap_or_default();
            self.same_list(list, &alone)?;
            let alone = rank_of(&mut *other, &[*ask], &[*track])?;
            self.same_ranks(&[*rank], &alone)?;
        }
        Ok(())
    }

    fn appends_or_fails(&self, make: &mut Make<'_>) -> Result<(), String> {
        let mut recommender = self.learnt(make)?;
        let asks = self.asks();
        ensure(
            recommend(&mut *recommender, &[], 5)?.is_empty()
                && rank_of(&mut *recommender, &[], &[])?.is_empty(),
            || "no question, no answer".to_owned(),
        )?;
        let lists = recommend(&mut *recommender, &asks, 0)?;
        ensure(lists.iter().all(|list| list.tracks.is_empty()), || {
            "a list of at most 0 tracks is empty".to_owned()
        })?;
        let mut ranks = vec![Some(9)];
        let refused = recommender.rank_of(&asks, &[TrackId(0)], &mut ranks);
        ensure(refused.is_err() && ranks == [Some(9)], || {
            "more asks than actual plays must be refused, and nothing appended".to_owned()
        })
    }

    fn learning_repeats(&self, make: &mut Make<'_>) -> Result<(), String> {
        let (mut one, mut other) = (self.learnt(make)?, self.learnt(make)?);
        self.alike(&mut *one, &mut *other)?;
        self.learn_alike(&mut *one, &mut *other)
    }

    fn near(&self, one: &[f32], other: &[f32]) -> bool {
        one.len() == other.len()
            && one
                .iter()
                .zip(other)
                .all(|(a, b)| (a - b).abs() <= self.fixture.score_tolerance)
    }

    fn same_list(&self, one: &Ranking, other: &Ranking) -> Result<(), String> {
        let scores = |list: &Ranking| list.tracks.iter().map(|s| s.score).collect::<Vec<_>>();
        let exact = self.fixture.score_tolerance == 0.0;
        let same = self.near(&scores(one), &scores(other)) && (!exact || one == other);
        ensure(same, || {
            format!("the same question has the same list: {one:?} {other:?}")
        })
    }

    fn same_ranks(&self, one: &[Option<u32>], other: &[Option<u32>]) -> Result<(), String> {
        let near = |a: Option<u32>, b: Option<u32>| match (a, b) {
            (Some(a), Some(b)) => a.abs_diff(b) <= self.fixture.rank_tolerance,
            (a, b) => a == b,
        };
        let same = one.len() == other.len() && one.iter().zip(other).all(|(a, b)| near(*a, *b));
        ensure(same, || {
            format!("the same question has the same rank: {one:?} {other:?}")
        })
    }
}

/// Recommends behind an answer that is there already, and checks that it stays.
fn recommend(
    recommender: &mut dyn Recommender,
    asks: &[Ask<'_>],
    limit: usize,
) -> Result<Vec<Ranking>, String> {
    let mut out = vec![Ranking::default()];
    fine("recommending", recommender.recommend(asks, limit, &mut out))?;
    ensure(out.len() == asks.len() + 1, || {
        format!(
            "{} answers were appended for {} asks",
            out.len() - 1,
            asks.len()
        )
    })?;
    Ok(out.split_off(1))
}

fn rank_of(
    recommender: &mut dyn Recommender,
    asks: &[Ask<'_>],
    actual: &[TrackId],
) -> Result<Vec<Option<u32>>, String> {
    let mut ranks = vec![Some(u32::MAX)];
    fine("ranking", recommender.rank_of(asks, actual, &mut ranks))?;
    ensure(
        ranks.len() == asks.len() + 1 && ranks.first() == Some(&Some(u32::MAX)),
        || {
            format!(
                "{} ranks were appended for {} asks",
                ranks.len() - 1,
                asks.len()
            )
        },
    )?;
    Ok(ranks.split_off(1))
}

mod kept;
#[cfg(test)]
mod tests;
