//! Where the actual play stood, and what that is worth.
//!
//! Ranks are conservative: the number of tracks that score at least as high. A model that has
//! saturated, or that gives NaN, then looks as bad as it is instead of perfect (GRU4Rec's
//! evaluation, "conservative" mode: github.com/hidasib/GRU4Rec_PyTorch_Official).

/// How many scores are at least `target`, NaN counted among them; all of them if `target` is NaN.
#[inline]
pub fn at_least(scores: &[f32], target: f32) -> u32 {
    // "Not less" and not "at least": every comparison with NaN is false, so a NaN on either side
    // counts against the target. No branch: the loop is compiled to vector compares.
    #[allow(clippy::neg_cmp_op_on_partial_ord)]
    scores
        .iter()
        .map(|&score| u32::from(!(score < target)))
        .sum()
}

/// The conservative rank of `scores[target]`: 1 is the top, a NaN score is last. `None` if there is
/// no such score.
pub fn conservative_rank(scores: &[f32], target: usize) -> Option<u32> {
    scores
        .get(target)
        .map(|&score| at_least(scores, score).max(1))
}

/// What one rank is worth under each metric, or a mean of such.
#[derive(Clone, Copy, PartialEq, Debug, Default, serde::Serialize)]
pub struct Measures {
    /// Whether it is among the first 10.
    pub recall_10: f64,
    /// Whether it is among the first 20.
    pub recall_20: f64,
    /// Discounted gain, cut at 10.
    pub ndcg_10: f64,
    /// Discounted gain, cut at 20.
    pub ndcg_20: f64,
    /// Reciprocal rank, not cut.
    pub mrr: f64,
}

impl Measures {
    /// How many metrics there are.
    pub const COUNT: usize = 5;

    /// Of one rank; `None` is a miss.
    pub fn of(rank: Option<u32>) -> Self {
        Self {
            recall_10: recall_at(rank, 10),
            recall_20: recall_at(rank, 20),
            ndcg_10: ndcg_at(rank, 10),
            ndcg_20: ndcg_at(rank, 20),
            mrr: reciprocal(rank),
        }
    }

    /// In the order of the fields.
    pub const fn to_array(self) -> [f64; Self::COUNT] {
        [
            self.recall_10,
            self.recall_20,
            self.ndcg_10,
            self.ndcg_20,
            self.mrr,
        ]
    }

    /// Each less that of `other`.
    #[must_use]
    pub fn less(&self, other: &Self) -> Self {
        let mut values = self.to_array();
        values
            .iter_mut()
            .zip(other.to_array())
            .for_each(|(value, other)| *value -= other);
        Self::from_array(values)
    }

    /// From the order of the fields.
    pub const fn from_array(values: [f64; Self::COUNT]) -> Self {
        let [recall_10, recall_20, ndcg_10, ndcg_20, mrr] = values;
        Self {
            recall_10,
            recall_20,
            ndcg_10,
            ndcg_20,
            mrr,
        }
    }
}

/// 1 if the rank is at most `k`, else 0. With one relevant track this is recall and hit rate alike.
pub fn recall_at(rank: Option<u32>, k: u32) -> f64 {
    f64::from(u8::from(within(rank, k).is_some()))
}

/// Normalised discounted cumulative gain with one relevant track: `1 / log2(rank + 1)` if the rank
/// is at most `k`, else 0 (Järvelin and Kekäläinen 2002; the ideal gain is 1).
pub fn ndcg_at(rank: Option<u32>, k: u32) -> f64 {
    within(rank, k).map_or(0.0, |rank| 1.0 / (f64::from(rank) + 1.0).log2())
}

/// `1 / rank`, 0 for a miss.
pub fn reciprocal(rank: Option<u32>) -> f64 {
    within(rank, u32::MAX).map_or(0.0, |rank| 1.0 / f64::from(rank))
}

/// Rank 0 does not exist: it is taken for a miss rather than for something better than the top.
fn within(rank: Option<u32>, k: u32) -> Option<u32> {
    rank.filter(|&rank| rank >= 1 && rank <= k)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_broken_model_never_looks_perfect() {
        assert_eq!(conservative_rank(&[0.5; 7], 3), Some(7));
        assert_eq!(conservative_rank(&[f32::NAN; 7], 3), Some(7));
        assert_eq!(conservative_rank(&[1.0, f32::NAN, 2.0], 1), Some(3));
        assert_eq!(conservative_rank(&[f32::NAN, 9.0, f32::NAN], 1), Some(3));
        assert_eq!(conservative_rank(&[f32::INFINITY; 4], 0), Some(4));
        assert_eq!(conservative_rank(&[0.0, -0.0], 0), Some(2));
        assert_eq!(conservative_rank(&[1.0], 1), None);
        assert_eq!(conservative_rank(&[], 0), None);
    }

    #[test]
    fn metrics_of_known_ranks() {
        assert_eq!(Measures::of(Some(1)).to_array(), [1.0; 5]);
        assert_eq!(Measures::of(None).to_array(), [0.0; 5]);
        assert_eq!(Measures::of(Some(0)).to_array(), [0.0; 5]);
        let third = Measures::of(Some(3));
        assert!((third.ndcg_10 - 0.5).abs() < 1e-12);
        assert!((third.mrr - 1.0 / 3.0).abs() < 1e-12);
        let eleventh = Measures::of(Some(11));
        assert_eq!((eleventh.recall_10, eleventh.recall_20), (0.0, 1.0));
        assert_eq!(eleventh.ndcg_10, 0.0);
        assert!((eleventh.ndcg_20 - 1.0 / 12f64.log2()).abs() < 1e-12);
        assert_eq!(Measures::of(Some(21)).recall_20, 0.0);
    }

    proptest! {
        #[test]
        fn the_rank_is_the_last_place_among_equals(
            scores in prop::collection::vec(prop_oneof![
                4 => (-3i8..3).prop_map(f32::from),
                1 => Just(f32::NAN),
                1 => Just(f32::INFINITY),
            ], 1..70),
            target in any::<prop::sample::Index>(),
        ) {
            let target = target.index(scores.len());
            let mut sorted = scores.clone();
            // Best first; NaN is put before everything: the worst case for the target.
            sorted.sort_by(|a, b| b.partial_cmp(a).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan())));
            let expected = if scores[target].is_nan() {
                scores.len()
            } else {
                sorted.iter().rposition(|s| *s == scores[target]).unwrap() + 1
            };
            prop_assert_eq!(conservative_rank(&scores, target), Some(expected as u32));
        }
    }
}
