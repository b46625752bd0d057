//! From scores to ranks and lists, in one place for all models.

use segue_listen::TrackId;
use segue_recommend::catalogue::Catalogue;
use segue_recommend::recommender::{Ranking, Scored};
use tch::{Kind, Tensor};

use crate::error::ModelError;

/// Scores that are held in memory at a time, at most: 8 MiB. The allocator gives memory of this size
/// out again; larger tensors would be mapped anew each time, and their page faults cost as much as
/// the arithmetic.
pub(crate) const MOST_SCORES: i64 = 1 << 21;

/// Rows of a chunk, when each has `columns` scores.
pub(crate) fn chunk_rows(columns: i64) -> i64 {
    (MOST_SCORES / columns.max(1)).max(1)
}

/// Conservative ranks: how many of a row's scores are not below that of its target, NaN counted
/// among them. `scores` `[n, tracks]`, `targets` `[n]`, columns that exist.
pub(crate) fn conservative_ranks(
    scores: &Tensor,
    targets: &Tensor,
) -> Result<Vec<i64>, ModelError> {
    let target = scores.f_gather(1, &targets.f_unsqueeze(-1)?, false)?;
    let below = scores
        .f_lt_tensor(&target)?
        .f_sum_dim_intlist(&[1i64][..], false, Kind::Int64)?;
    let columns = scores.size2()?.1;
    let below: Vec<i64> = Vec::try_from(below.f_to_device(tch::Device::Cpu)?)?;
    Ok(below
        .into_iter()
        .map(|below| (columns - below).max(1))
        .collect())
}

/// Scores that are looked at together: most of a catalogue is passed over without a branch per track.
const STRIDE: usize = 64;

/// The best `limit` of one row of scores; `track` names the columns.
pub(crate) fn best(
    scores: &[f32],
    track: impl Fn(usize) -> Option<TrackId>,
    catalogue: &Catalogue,
    limit: usize,
) -> Ranking {
    let most = 4 * limit + STRIDE;
    let mut list: Vec<Scored> = Vec::with_capacity(most + STRIDE);
    // What scores less cannot be among the best. Not a number as long as nothing is known, or as such
    // are among them.
    let mut least = f32::NAN;
    for (stride, values) in scores.chunks(STRIDE).enumerate() {
        let highest = values.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        if list.len() >= limit && highest < least {
            continue;
        }
        for (at, &score) in values.iter().enumerate() {
            if (list.len() < limit || least.is_nan() || score >= least)
                && let Some(track) = track(stride * STRIDE + at)
            {
                list.push(Scored { track, score });
            }
        }
        if list.len() >= most {
            catalogue.keep_best(&mut list, limit);
            least = list.last().map_or(f32::NAN, |worst| worst.score);
        }
    }
    catalogue.keep_best(&mut list, limit);
    Ranking { tracks: list }
}

/// Lists of the best for the asks `chunk`, whose scores are the rows of `scores`, `[n, tracks]`.
pub(crate) fn fill_lists(
    lists: &mut [Ranking],
    chunk: &[usize],
    scores: &Tensor,
    track: impl Fn(usize) -> Option<TrackId>,
    (catalogue, limit): (&Catalogue, usize),
) -> Result<(), ModelError> {
    for (row, &ask) in (0i64..).zip(chunk) {
        let values = scores.f_select(0, row)?.f_to_device(tch::Device::Cpu)?;
        let values: Vec<f32> = Vec::try_from(values)?;
        if let Some(list) = lists.get_mut(ask) {
            *list = best(&values, &track, catalogue, limit);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use segue_listen::TrackKey;
    use segue_recommend::recommender::Admitted;

    #[test]
    fn the_best_are_those_of_a_sort_ties_and_what_is_no_number_included() {
        let mut catalogue = Catalogue::default();
        let tracks: Vec<Admitted<'_>> = (0..1_000u32)
            .map(|id| Admitted {
                track: TrackId(id),
                key: TrackKey::from_names("best", &id.to_string()),
                names: None,
                content: None,
            })
            .collect();
        catalogue.admit("test", &tracks).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for kind in 0..5 {
            let scores: Vec<f32> = (0..1_000)
                .map(|at| match kind {
                    0 => rng.random(),
                    1 => rng.random_range(0..5) as f32,
                    2 if at % 3 != 0 => f32::NAN,
                    3 if at < 995 => f32::NAN,
                    4 => at as f32,
                    _ => rng.random(),
                })
                .collect();
            for limit in [0, 1, 20, 999, 2_000] {
                let found = best(&scores, |at| Some(TrackId(at as u32)), &catalogue, limit);
                let mut all: Vec<Scored> = (0..)
                    .zip(&scores)
                    .map(|(id, &score)| Scored {
                        track: TrackId(id),
                        score,
                    })
                    .collect();
                all.sort_by(|a, b| catalogue.order(a, b));
                all.truncate(limit);
                let tracks = |list: &[Scored]| list.iter().map(|s| s.track).collect::<Vec<_>>();
                assert_eq!(tracks(&found.tracks), tracks(&all), "{kind} {limit}");
            }
        }
    }
}
