//! The best of a large catalogue without the exact score of every track.
//!
//! Where the device multiplies bf16 natively, scores in bf16 take a third of the time and half of the
//! memory traffic of those in f32. How far such a score can be from the exact one is known, so that it
//! tells which tracks may be among the best; only those are scored exactly, and the list is the one that
//! exact scores of all tracks would give.

use segue_listen::TrackId;
use segue_recommend::Ask;
use segue_recommend::recommender::{Ranking, Scored};
use tch::{Device, Kind, Tensor};

use crate::error::ModelError;
use crate::hidden::Freshness;
use crate::model::E4SRec;
use crate::personal::{FEATURES, Personal};

/// How far a product of two vectors in bf16 may be from the exact one, as a share of the product of their
/// lengths: three roundings to 8 bits (both factors, the sum), each off by at most 2⁻⁸ of its value, and
/// their cross terms (Higham, *Accuracy and Stability of Numerical Algorithms*, 2002, section 3.1).
const ERROR: f64 = 3.1 / 256.0;

/// Scores that are held at a time, at most: 8 MiB in bf16, for the reason that [`crate::scoring`] gives.
const MOST: i64 = 1 << 22;

/// The vectors in bf16 with the lengths of the exact ones, one row per track.
#[derive(Debug)]
pub(crate) struct Coarse {
    /// `[capacity, d]`
    vectors: Tensor,
    /// `[capacity]`
    lengths: Tensor,
}

impl Coarse {
    /// Of all rows of a table `[capacity, d]`.
    pub fn of(vectors: &Tensor) -> Result<Self, ModelError> {
        Ok(Self {
            vectors: vectors.f_to_kind(Kind::BFloat16)?,
            lengths: lengths(vectors)?,
        })
    }

    /// Takes over the vectors `[len(rows), d]` of some rows.
    pub fn set(&mut self, rows: &Tensor, vectors: &Tensor) -> Result<(), ModelError> {
        let coarse = vectors.f_to_kind(Kind::BFloat16)?;
        let _ = self.vectors.f_index_copy_(0, rows, &coarse)?;
        let _ = self.lengths.f_index_copy_(0, rows, &lengths(vectors)?)?;
        Ok(())
    }
}

/// `[rows, d]` to `[rows]`.
fn lengths(vectors: &Tensor) -> Result<Tensor, ModelError> {
    let square = vectors
        .f_square()?
        .f_sum_dim_intlist(&[-1i64][..], false, Kind::Float)?;
    Ok(square.f_sqrt()?)
}

/// The tracks that may be among the best of one question.
struct Shortlist {
    limit: usize,
    /// Row, and what its score is at least.
    open: Vec<(u32, f32)>,
}

impl Shortlist {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            open: Vec::with_capacity(Self::most(limit)),
        }
    }

    const fn most(limit: usize) -> usize {
        8 * limit + 64
    }

    /// What the worst of the best is at least; `None` as long as there are too few.
    fn least(&mut self) -> Option<f32> {
        let last = self.limit.checked_sub(1)?;
        if last >= self.open.len() {
            return None;
        }
        let by_least = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1);
        let (_, &mut (_, least), _) = self.open.select_nth_unstable_by(last, by_least);
        Some(least)
    }
}

/// The questions of a chunk: what they reach for, and by how much it may be off.
struct Scan<'a> {
    /// Lengths of the queries.
    lengths: &'a [f32],
    /// By row: popularity's logit, and the error per length of a query.
    base: &'a [f32],
    error: &'a [f32],
    personal: &'a [Personal],
}

impl Scan<'_> {
    /// Looks through scores in bf16, `[rows, queries]`, little endian, on so many threads.
    fn run(&self, scores: &[u8], limit: usize, threads: usize) -> Vec<Shortlist> {
        let bytes = 2 * self.lengths.len().max(1);
        let rows = (scores.len() / bytes).div_ceil(threads.max(1)).max(1);
        let parts = scores.chunks(rows * bytes);
        let mut found: Vec<Vec<Shortlist>> = Vec::new();
        std::thread::scope(|scope| {
            let parts = (0..).step_by(rows).zip(parts);
            let running: Vec<_> = parts
                .map(|(first, part)| scope.spawn(move || self.part(part, first, limit)))
                .collect();
            found.extend(running.into_iter().filter_map(|part| part.join().ok()));
        });
        let mut lists = found.pop().unwrap_or_default();
        for part in found {
            for (list, mut more) in lists.iter_mut().zip(part) {
                list.open.append(&mut more.open);
            }
        }
        lists
    }

    /// Looks through some rows, of which the first is `first`.
    fn part(&self, scores: &[u8], first: usize, limit: usize) -> Vec<Shortlist> {
        let queries = self.lengths.len();
        let mut lists: Vec<Shortlist> = (0..queries).map(|_| Shortlist::new(limit)).collect();
        // What a score has to reach with all its error in its favour.
        let mut least = vec![f32::NEG_INFINITY; queries];
        let lines = scores.chunks_exact(2 * queries);
        let facts = self.base.iter().zip(self.error).skip(first);
        for ((row, line), (&base, &error)) in (first as u32..).zip(lines).zip(facts) {
            let at_most = |value: &[u8; 2], length: f32| {
                f32::from_bits(u32::from(u16::from_le_bytes(*value)) << 16) + base + error * length
            };
            let (line, _) = line.as_chunks::<2>();
            // Without a branch per question: nearly all rows are below for all of them.
            let mut any = false;
            for ((value, &length), &least) in line.iter().zip(self.lengths).zip(&least) {
                any |= at_most(value, length) >= least;
            }
            if !any {
                continue;
            }
            let questions = lists.iter_mut().zip(self.personal).zip(&mut least);
            for ((value, &length), ((list, personal), least)) in
                line.iter().zip(self.lengths).zip(questions)
            {
                let most = at_most(value, length);
                // The listener's own tracks are scored in any case.
                if most >= *least && personal.tracks.binary_search(&TrackId(row)).is_err() {
                    let at_least = 2.0f32.mul_add(-error * length, most);
                    list.open.push((row, at_least));
                    if list.open.len() >= Shortlist::most(limit)
                        && let Some(reached) = self.settle(list, length)
                    {
                        *least = reached;
                    }
                }
            }
        }
        for (list, &length) in lists.iter_mut().zip(self.lengths) {
            let _ = self.settle(list, length);
        }
        lists
    }

    /// Lets go what is for certain not among the best of a query of this length; what the best have at
    /// least.
    fn settle(&self, list: &mut Shortlist, length: f32) -> Option<f32> {
        let least = list.least()?;
        list.open.retain(|&(row, at_least)| {
            let error = self.error.get(row as usize).copied().unwrap_or(0.0);
            2.0f32.mul_add(error * length, at_least) >= least
        });
        Some(least)
    }
}

impl E4SRec {
    /// Whether lists are made this way: where bf16 is what the language model computes in, which is chosen
    /// where the device does it natively.
    pub(crate) fn shortlists(&self) -> bool {
        self.backbone.decoder.place().0 == Kind::BFloat16
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
        let device = self.device();
        let rows = self.tower.rows();
        let levels = Tensor::f_from_slice(&self.levels)?.f_to_device(device)?;
        let base = self.head.popularity(&levels)?;
        self.tower.make_coarse()?;
        let Some(coarse) = self.tower.coarse() else {
            return Ok(None);
        };
        let table = coarse.vectors.f_narrow(0, 0, rows)?;
        let error = coarse.lengths.f_narrow(0, 0, rows)?.f_mul_scalar(ERROR)?;
        let (base_values, error) = (floats(&base)?, floats(&error)?);
        // As many as one operation of the model may use.
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1);
        let mut lists = Vec::with_capacity(asks.len());
        let mut scores = Vec::new();
        let mut from = 0i64;
        for chunk in asks.chunks(usize::try_from(MOST / rows).unwrap_or(1).max(1)) {
            let count = chunk.len() as i64;
            let inputs = self.query_inputs(chunk, hidden.f_narrow(0, from, count)?)?;
            from += count;
            let query = self.head.query(&inputs)?;
            let found = table.f_matmul(&query.f_to_kind(Kind::BFloat16)?.f_tr()?)?;
            let found = found.f_to_device(Device::Cpu)?.f_contiguous()?;
            scores.resize(2 * found.numel(), 0);
            found.f_copy_data_u8(&mut scores, found.numel())?;
            let personal: Vec<Personal> = chunk.iter().map(|ask| self.personal_of(ask)).collect();
            let scan = Scan {
                lengths: &floats(&lengths(&query)?)?,
                base: &base_values,
                error: &error,
                personal: &personal,
            };
            let open = scan.run(&scores, limit, threads);
            if open.iter().any(|list| list.open.len() < limit) {
                return Ok(None);
            }
            lists.append(&mut self.settled_lists(&query, &base, &open, &personal, limit)?);
        }
        Ok(Some(lists))
    }

    fn personal_of(&self, ask: &Ask<'_>) -> Personal {
        let mut personal = Personal::default();
        personal.read(ask.context, self.memory.of(ask.user), ask.plays);
        personal
    }

    /// Exact scores of what is open and of the listeners' own tracks, and the best of them.
    fn settled_lists(
        &self,
        query: &Tensor,
        base: &Tensor,
        open: &[Shortlist],
        personal: &[Personal],
        limit: usize,
    ) -> Result<Vec<Ranking>, ModelError> {
        let (mut rows, mut owners, mut features) = (Vec::new(), Vec::new(), Vec::new());
        for (owner, (list, personal)) in (0i64..).zip(open.iter().zip(personal)) {
            let own = personal.tracks.iter().zip(&personal.features);
            let own = own.filter(|(track, _)| self.catalogue.contains(**track));
            let listed = list
                .open
                .iter()
                .map(|&(row, _)| (i64::from(row), [0.0; FEATURES]));
            for (row, values) in own
                .map(|(track, values)| (i64::from(track.0), *values))
                .chain(listed)
            {
                rows.push(row);
                owners.push(owner);
                features.extend(values);
            }
        }
        let index = |values: &[i64]| -> Result<Tensor, ModelError> {
            Ok(Tensor::f_from_slice(values)?.f_to_device(self.device())?)
        };
        let at = index(&rows)?;
        let scores = self
            .tower
            .vectors()?
            .f_index_select(0, &at)?
            .f_mul(&query.f_index_select(0, &index(&owners)?)?)?
            .f_sum_dim_intlist(&[-1i64][..], false, Kind::Float)?
            .f_add(&base.f_index_select(0, &at)?)?
            .f_add(&self.head.personal(&features)?)?;
        let scores = floats(&scores)?;
        let mut lists: Vec<Vec<Scored>> = (0..open.len()).map(|_| Vec::new()).collect();
        for ((row, owner), score) in rows.into_iter().zip(owners).zip(scores) {
            let list = usize::try_from(owner).ok().and_then(|at| lists.get_mut(at));
            if let (Some(list), Ok(row)) = (list, u32::try_from(row)) {
                let track = TrackId(row);
                list.push(Scored { track, score });
            }
        }
        let rank = |mut tracks: Vec<Scored>| {
            self.catalogue.keep_best(&mut tracks, limit);
            Ranking { tracks }
        };
        Ok(lists.into_iter().map(rank).collect())
    }
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>, ModelError> {
    Ok(Vec::try_from(tensor.f_detach()?.f_to_device(Device::Cpu)?)?)
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
        // Some rows are near copies of others: their exact scores differ by less than bf16 tells.
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
        let found = coarse
            .vectors
            .matmul(&query.to_kind(Kind::BFloat16).tr())
            .contiguous();
        let mut bytes = vec![0; 2 * found.numel()];
        found.copy_data_u8(&mut bytes, found.numel());
        let personal: Vec<Personal> = (0..7u32)
            .map(|question| {
                let mut personal = Personal::default();
                let plays = plays_of([question, 100 + question].into_iter());
                personal.read(&plays, Recalled::default(), 2);
                personal
            })
            .collect();
        let scan = Scan {
            lengths: &floats(&lengths(&query).unwrap()).unwrap(),
            base: &base,
            error: &floats(&coarse.lengths.f_mul_scalar(ERROR).unwrap()).unwrap(),
            personal: &personal,
        };
        let exact = query.matmul(&table.tr()) + &Tensor::from_slice(&base);
        for limit in [1, 20] {
            let lists = scan.run(&bytes, limit, 1 + limit % 3);
            for (question, (list, personal)) in (0i64..).zip(lists.iter().zip(&personal)) {
                let mut scores = floats(&exact.get(question)).unwrap();
                for track in &personal.tracks {
                    scores[track.row()] = f32::NEG_INFINITY;
                }
                let row = |at: usize| Some(TrackId(at as u32));
                for scored in best(&scores, row, &catalogue, limit).tracks {
                    let listed = list.open.iter().any(|&(row, _)| row == scored.track.0);
                    assert!(listed, "{question}: {scored:?}");
                }
                assert!(list.open.len() < ROWS / 4, "{}", list.open.len());
            }
        }
    }
}
