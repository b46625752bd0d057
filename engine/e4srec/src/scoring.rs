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

/// The best `limit` of one row of scores; `tracks` names the columns.
pub(crate) fn best(
    scores: &[f32],
    tracks: impl Iterator<Item = TrackId>,
    catalogue: &Catalogue,
    limit: usize,
) -> Ranking {
    let mut list: Vec<Scored> = tracks
        .zip(scores)
        .map(|(track, &score)| Scored { track, score })
        .collect();
    catalogue.keep_best(&mut list, limit);
    Ranking { tracks: list }
}
