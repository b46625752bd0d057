//! The best of a large catalogue without the exact score of every track.
//!
//! Scores from vectors in eight bits take a fraction of the time and a quarter of the memory traffic of those
//! in f32. How far such a score can be from the exact one is known ([`crate::coarse`]), so that it tells which
//! tracks may be among the best; only those are scored exactly, and the list is the one that exact scores
//! of all tracks would give.

use std::ops::Range;

use multiversion::multiversion;
use segue_listen::TrackId;
use segue_nn::threads;
use segue_recommend::Ask;
use segue_recommend::recommender::{Ranking, Scored};
use tch::{Device, Kind, Tensor};

use crate::coarse::{self, Coarse, Facts};
use crate::error::ModelError;
use crate::head::numbers;
use crate::hidden::Freshness;
use crate::model::E4SRec;
use crate::personal::{FEATURES, Personal};

/// Products that one multiplication makes, at most: 1 MiB, which a core's own cache holds.
const MOST: usize = 1 << 18;
/// Questions that are looked at in one instruction.
const LANES: usize = 16;
/// Of so many questions a number each.
type Lanes = [f32; LANES];
/// Questions whose open tracks are scored exactly together.
const SETTLED: usize = 32;

/// The tracks that may be among the best of one question.
struct Shortlist {
    limit: usize,
    /// Row, what its score is at least, and what it is at most.
    open: Vec<(u32, f32, f32)>,
    /// How many of them it is settled at next.
    full: usize,
}

impl Shortlist {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            open: Vec::with_capacity(Self::most(limit)),
            full: Self::most(limit),
        }
    }

    /// How many of them are worth settling: few, since what is reached shuts out most of what follows.
    const fn most(limit: usize) -> usize {
        3 * limit + 32
    }

    /// Lets go what is for certain not among the best; what the best have at least, `None` as long as there
    /// are too few.
    fn settle(&mut self) -> Option<f32> {
        let last = self.limit.checked_sub(1)?;
        if last >= self.open.len() {
            return None;
        }
        let by_least = |a: &(u32, f32, f32), b: &(u32, f32, f32)| b.1.total_cmp(&a.1);
        let (_, &mut (_, least, _), _) = self.open.select_nth_unstable_by(last, by_least);
        self.open.retain(|&(.., at_most)| at_most >= least);
        // Where many are within the doubt of each other it does not pay to look again for each.
        self.full = Self::most(self.limit).max(2 * self.open.len());
        Some(least)
    }
}

/// What the whole numbers of queries stand for, a query a place: apart, so that several are looked at in one
/// instruction. Places behind the last query are of queries of zeros.
struct Queries {
    steps: Vec<Lanes>,
    /// What a coarse query is long, at most.
    lengths: Vec<Lanes>,
    errors: Vec<Lanes>,
}

impl Queries {
    fn of(facts: &[Facts]) -> Self {
        let each = |value: fn(&Facts) -> f32| lanes(facts.iter().map(value), 0.0);
        Self {
            steps: each(|facts| facts.step),
            lengths: each(|facts| facts.length + facts.error),
            errors: each(|facts| facts.error),
        }
    }
}

/// Numbers by sixteen, the last ones filled up.
fn lanes(numbers: impl Iterator<Item = f32>, filling: f32) -> Vec<Lanes> {
    let mut all: Vec<f32> = numbers.collect();
    all.resize(all.len().next_multiple_of(LANES), filling);
    let (lanes, _) = all.as_chunks();
    lanes.to_vec()
}

/// The questions of a batch: what they reach for, and what has been found.
struct Scan<'a> {
    queries: Queries,
    /// By row: popularity's logit, and what its whole numbers stand for.
    base: &'a [f32],
    facts: &'a [Facts],
    personal: &'a [Personal],
    limit: usize,
}

/// Some rows of a table, and what has been found among them.
struct Share {
    /// Whole numbers, as [`coarse::products`] takes them.
    table: Tensor,
    queries: Tensor,
    rows: Range<usize>,
    lists: Vec<Shortlist>,
    /// What a score has to reach, with all its doubt in its favour.
    least: Vec<Lanes>,
}

impl Scan<'_> {
    /// What may be among the best, of all rows of a table.
    fn run(&self, table: &Coarse, queries: &Coarse) -> Result<Vec<Shortlist>, ModelError> {
        let questions = self.personal.len();
        let behind = (self.queries.steps.len() * LANES - questions) as i64;
        // Rows of zeros behind the queries, up to a multiple of the lanes.
        let queries = queries.values().f_constant_pad_nd([0, 0, 0, behind])?;
        let count = threads::pool().map_or(1, |pool| pool.current_num_threads());
        let until = |share: usize| self.facts.len() * share / count;
        let share = |share: usize| Share {
            table: table.values(),
            queries: queries.shallow_clone(),
            rows: until(share)..until(share + 1),
            lists: (0..questions).map(|_| Shortlist::new(self.limit)).collect(),
            least: lanes(
                std::iter::repeat_n(f32::NEG_INFINITY, questions),
                f32::INFINITY,
            ),
        };
        let found = threads::on_each((0..count).map(share).collect(), |share| self.share(share))?;
        let mut lists: Vec<Shortlist> =
            (0..questions).map(|_| Shortlist::new(self.limit)).collect();
        for found in found {
            for (list, mut more) in lists.iter_mut().zip(found) {
                list.open.append(&mut more.open);
            }
        }
        for list in &mut lists {
            let _ = list.settle();
        }
        Ok(lists)
    }

    fn share(&self, mut share: Share) -> Result<Vec<Shortlist>, ModelError> {
        let questions = (self.queries.steps.len() * LANES).max(1);
        let block = (MOST / questions).max(1);
        let mut products = vec![0i32; questions * block.min(share.rows.len())];
        for first in share.rows.clone().step_by(block) {
            let rows = block.min(share.rows.end - first);
            let products = products.get_mut(..rows * questions).unwrap_or_default();
            let part = (&share.table, first as i64, rows as i64);
            coarse::products(part, &share.queries, products)?;
            look(self, &mut share, products, first);
        }
        Ok(share.lists)
    }
}

/// Looks through the products of some rows, of which the first is `first`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn look(scan: &Scan<'_>, share: &mut Share, products: &[i32], first: usize) {
    let queries = &scan.queries;
    let (products, _) = products.as_chunks::<LANES>();
    let rows = scan.base.iter().zip(scan.facts).skip(first);
    let rows = (first as u32..).zip(rows);
    for ((row, (&base, &facts)), line) in
        rows.zip(products.chunks_exact(queries.steps.len().max(1)))
    {
        let each = line
            .iter()
            .zip(&queries.steps)
            .zip(&queries.lengths)
            .zip(&queries.errors)
            .zip(&mut share.least);
        for (number, ((((products, steps), lengths), errors), least)) in each.enumerate() {
            // Coarse score and doubt, see [`crate::coarse`].
            let mut scores = [0f32; LANES];
            let mut doubts = [0f32; LANES];
            // Without a branch per question: nearly all rows are below for nearly all of them.
            let mut any = false;
            let lanes = products
                .iter()
                .zip(steps)
                .zip(lengths)
                .zip(errors)
                .zip(&*least);
            let found = scores.iter_mut().zip(&mut doubts);
            for (((((&product, &step), &length), &error), &least), (score, doubt)) in
                lanes.zip(found)
            {
                *score = product as f32 * (step * facts.step) + base;
                *doubt = length * facts.error + error * facts.length;
                any |= *score + *doubt >= least;
            }
            if !any {
                continue;
            }
            for (lane, ((&score, &doubt), least)) in
                scores.iter().zip(&doubts).zip(least).enumerate()
            {
                let question = number * LANES + lane;
                if score + doubt >= *least
                    && let Some(list) = share.lists.get_mut(question)
                    && let Some(personal) = scan.personal.get(question)
                    // The listener's own tracks are scored in any case.
                    && personal.tracks.binary_search(&TrackId(row)).is_err()
                {
                    list.open.push((row, score - doubt, score + doubt));
                    if list.open.len() >= list.full
                        && let Some(reached) = list.settle()
                    {
                        *least = least.max(reached);
                    }
                }
            }
        }
    }
}

impl E4SRec {
    /// Whether lists are made this way: where bf16 is what the language model computes in on a CPU, which is
    /// chosen where it multiplies narrow numbers natively.
    pub(crate) fn shortlists(&self) -> bool {
        self.backbone.decoder.place() == (Kind::BFloat16, Device::Cpu)
    }

    /// The best `limit` tracks for each question. `None` where there are too few tracks whose scores are
    /// numbers: the scores of all have to be looked at.
    pub(crate) fn shortlisted(
        &mut self,
        asks: &[Ask<'_>],
        limit: usize,
    ) -> Result<Option<Vec<Ranking>>, ModelError> {
        if self.catalogue.len() <= 2 * Shortlist::most(limit) || limit == 0 || asks.is_empty() {
            return Ok(None);
        }
        let hidden = self.hidden(asks, Freshness::Now)?;
        let _guard = tch::no_grad_guard();
        let (weights, popularity) = self.head.weights_of_terms()?;
        let base: Vec<f32> = self.levels.iter().map(|level| popularity * level).collect();
        self.tower.make_coarse()?;
        let Some(table) = self.tower.coarse() else {
            return Ok(None);
        };
        let query = self.head.query(&self.query_inputs(asks, hidden)?)?;
        let queries = Coarse::of(&query)?;
        let personal: Vec<Personal> = asks.iter().map(|ask| self.personal_of(ask)).collect();
        let scan = Scan {
            queries: Queries::of(queries.facts(asks.len())),
            base: &base,
            facts: table.facts(usize::try_from(self.tower.rows()).unwrap_or(0)),
            personal: &personal,
            limit,
        };
        let open = scan.run(table, &queries)?;
        if open.iter().any(|list| list.open.len() < limit) {
            return Ok(None);
        }
        let mut settled: Vec<Settled> = Vec::new();
        let chunks = open.chunks(SETTLED).zip(personal.chunks(SETTLED));
        for (from, (open, personal)) in (0..).step_by(SETTLED).zip(chunks) {
            settled.push(Settled {
                query: query.f_narrow(0, from, open.len() as i64)?,
                vectors: self.tower.vectors()?,
                tracks: self.open_tracks(open, personal),
            });
        }
        let settled = threads::on_each(settled, Settled::scored)?;
        let mut lists = Vec::with_capacity(asks.len());
        for (tracks, scores) in settled {
            let most = tracks.most.max(1);
            let lines = tracks
                .rows
                .chunks_exact(most)
                .zip(scores.chunks_exact(most));
            let lines = lines.zip(tracks.features.chunks_exact(most * FEATURES));
            for (((rows, scores), features), count) in lines.zip(tracks.counts) {
                let each = rows.iter().zip(scores).zip(features.chunks_exact(FEATURES));
                let mut tracks: Vec<Scored> = each
                    .take(count)
                    .filter_map(|((&row, &score), features)| {
                        let track = TrackId(u32::try_from(row).ok()?);
                        let own = features.iter().zip(&weights).map(|(a, b)| a * b);
                        let score = score + scan.base.get(track.row())? + own.sum::<f32>();
                        Some(Scored { track, score })
                    })
                    .collect();
                self.catalogue.keep_best(&mut tracks, limit);
                lists.push(Ranking { tracks });
            }
        }
        Ok(Some(lists))
    }

    fn personal_of(&self, ask: &Ask<'_>) -> Personal {
        let mut personal = Personal::default();
        personal.read(ask.context, self.memory.of(ask.user), ask.plays);
        personal
    }

    /// What is open of some questions, and the listeners' own tracks.
    fn open_tracks(&self, open: &[Shortlist], personal: &[Personal]) -> OpenTracks {
        let most = open.iter().zip(personal);
        let most = most.map(|(list, own)| list.open.len() + own.tracks.len());
        let most = most.max().unwrap_or(0);
        let mut rows = vec![0i64; open.len() * most];
        let mut features = vec![0f32; rows.len() * FEATURES];
        let mut counts = Vec::with_capacity(open.len());
        let lines = rows
            .chunks_exact_mut(most.max(1))
            .zip(features.chunks_exact_mut(most.max(1) * FEATURES));
        for ((rows, features), (list, own)) in lines.zip(open.iter().zip(personal)) {
            let known = own.tracks.iter().zip(&own.features);
            let known = known.filter(|(track, _)| self.catalogue.contains(**track));
            let known = known.map(|(track, values)| (track.0, *values));
            let listed = list.open.iter().map(|&(row, ..)| (row, [0.0; FEATURES]));
            let mut count = 0;
            let places = rows.iter_mut().zip(features.chunks_exact_mut(FEATURES));
            for ((row, place), (track, values)) in places.zip(known.chain(listed)) {
                *row = i64::from(track);
                place.copy_from_slice(&values);
                count += 1;
            }
            counts.push(count);
        }
        OpenTracks {
            most,
            rows,
            features,
            counts,
        }
    }
}

/// Tracks to be scored exactly, `most` places for each question, of which the first `counts` are used.
struct OpenTracks {
    most: usize,
    /// `[questions, most]`
    rows: Vec<i64>,
    /// `[questions, most, FEATURES]`
    features: Vec<f32>,
    counts: Vec<usize>,
}

/// Some questions whose open tracks are scored on a thread of their own.
struct Settled {
    /// `[questions, d]`
    query: Tensor,
    /// `[tracks, d]`
    vectors: Tensor,
    tracks: OpenTracks,
}

impl Settled {
    /// The tracks with their exact products, `[questions, most]`.
    fn scored(self) -> Result<(OpenTracks, Vec<f32>), ModelError> {
        let (questions, d) = self.query.size2()?;
        let at = Tensor::f_from_slice(&self.tracks.rows)?;
        // [questions, most, d] × [questions, d, 1]
        let products = self
            .vectors
            .f_index_select(0, &at)?
            .f_reshape([questions, self.tracks.most as i64, d])?
            .f_bmm(&self.query.f_unsqueeze(-1)?)?;
        let scores = numbers(&products.f_reshape([-1])?)?;
        Ok((self.tracks, scores))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Recalled;
    use crate::scoring::best;
    use crate::windows::tests_support::plays_of;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use segue_listen::TrackKey;
    use segue_recommend::catalogue::Catalogue;
    use segue_recommend::recommender::Admitted;

    const ROWS: usize = 3_000;
    const WIDTH: usize = 32;

    fn values(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn what_is_among_the_best_is_never_left_out() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let keys: Vec<TrackKey> = (0..ROWS)
            .map(|row| TrackKey::from_names("coarse", &row.to_string()))
            .collect();
        let tracks: Vec<Admitted<'_>> = (0u32..)
            .zip(&keys)
            .map(|(id, &key)| Admitted {
                track: TrackId(id),
                key,
                names: None,
                content: None,
            })
            .collect();
        let mut catalogue = Catalogue::default();
        catalogue.admit("test", &tracks).unwrap();
        // Some rows are near copies of others: their exact scores differ by less than eight bits tell.
        let mut table = values(&mut rng, ROWS * WIDTH);
        for row in (0..ROWS - 1).step_by(3) {
            for column in 0..WIDTH {
                let noise: f32 = rng.random_range(-1e-4..1e-4);
                table[(row + 1) * WIDTH + column] = table[row * WIDTH + column] + noise;
            }
        }
        let shape = [ROWS as i64, WIDTH as i64];
        let table = Tensor::from_slice(&table).reshape(shape);
        let query = Tensor::from_slice(&values(&mut rng, 7 * WIDTH)).reshape([7, WIDTH as i64]);
        let base = values(&mut rng, ROWS);
        let coarse = Coarse::of(&table).unwrap();
        let queries = Coarse::of(&query).unwrap();
        let facts = coarse.facts(ROWS);
        let personal: Vec<Personal> = (0..7u32)
            .map(|question| {
                let mut personal = Personal::default();
                let plays = plays_of([question, 100 + question].into_iter());
                personal.read(&plays, Recalled::default(), 2);
                personal
            })
            .collect();
        let exact = query.matmul(&table.tr()) + &Tensor::from_slice(&base);
        for limit in [1, 20] {
            let scan = Scan {
                queries: Queries::of(queries.facts(7)),
                base: &base,
                facts,
                personal: &personal,
                limit,
            };
            let lists = scan.run(&coarse, &queries).unwrap();
            for (question, (list, personal)) in (0i64..).zip(lists.iter().zip(&personal)) {
                let mut scores = numbers(&exact.get(question)).unwrap();
                for track in &personal.tracks {
                    scores[track.row()] = f32::NEG_INFINITY;
                }
                let row = |at: usize| Some(TrackId(at as u32));
                for scored in best(&scores, row, &catalogue, limit).tracks {
                    let listed = list.open.iter().any(|&(row, ..)| row == scored.track.0);
                    assert!(listed, "{question}: {scored:?}");
                }
                assert!(list.open.len() < ROWS / 4, "{}", list.open.len());
            }
        }
    }
}
