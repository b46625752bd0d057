//! Passes through a cache in portions of rows, each on a thread of its own.
//!
//! All tokens of a portion stand one behind the other, so that rows of another length cost their own tokens and
//! no second reading of the weights; only in attention does each pass see its own slots.
//!
//! Between its operations libtorch has its threads meet, and a pass of a few tokens a row is hundreds of small
//! operations: two threads that each take half of the rows through all layers are done well before. The last
//! bits of a product may depend on how a pass is cut, and so on the number of threads, as they do where libtorch
//! cuts each operation.

use tch::Tensor;

use super::layer::Layer;
use crate::NnError;
use crate::kv_slots::KvRows;
use crate::lora::Mode;
use crate::rotary::Angles;

/// Tokens of a portion, at least: with fewer, reading the weights takes longer than multiplying.
const LEAST_TOKENS: i64 = 16;

/// Up to so many tokens one thread alone is done before two have met often enough.
pub(super) const FEW_TOKENS: i64 = 96;

/// Tokens of several passes, one behind the other, and what they need on the way; shares its memory with
/// the whole.
#[derive(Debug)]
pub(super) struct Portion {
    pub layers: Vec<Layer>,
    /// `[tokens, hidden]`
    pub x: Tensor,
    /// `[tokens, 1, head_dim]`
    pub angles: Angles,
    pub stretches: Vec<Stretch>,
}

/// Rows of one pass, which see their own slots: `count · length` tokens.
#[derive(Debug)]
pub(super) struct Stretch {
    pub count: i64,
    pub length: i64,
    /// `[count or 1, 1, length, total]`
    pub mask: Tensor,
    pub cache: KvRows,
}

/// Rows of a pass: which pass, from which row on, and how many.
pub(super) type Rows = (usize, i64, i64);

/// Passes of so many rows and tokens a row, cut into portions of about as many tokens: one for each thread, if
/// there are enough. No row is cut.
pub(super) fn cut(passes: &[(i64, i64)], threads: usize) -> Vec<Vec<Rows>> {
    let threads = i64::try_from(threads).unwrap_or(1).max(1);
    let all: i64 = passes.iter().map(|(rows, length)| rows * length).sum();
    let rows: i64 = passes.iter().map(|(rows, _)| rows).sum();
    let count = (all / LEAST_TOKENS).clamp(1, threads).min(rows.max(1));
    let mut portions: Vec<Vec<Rows>> = vec![Vec::new()];
    let mut tokens = 0;
    for (pass, &(rows, length)) in passes.iter().enumerate() {
        let mut from = 0;
        while from < rows {
            let until = all * portions.len() as i64 / count;
            let last = portions.len() as i64 == count;
            // At least one row, and up to the one that passes the portion's end by less than half of it.
            let fit = (until - tokens + length / 2) / length.max(1);
            let taken = if last {
                rows - from
            } else {
                fit.clamp(0, rows - from)
            };
            if taken > 0 {
                if let Some(portion) = portions.last_mut() {
                    portion.push((pass, from, taken));
                }
                (from, tokens) = (from + taken, tokens + taken * length);
            }
            if from < rows {
                portions.push(Vec::new());
            }
        }
    }
    portions.retain(|portion| !portion.is_empty());
    portions
}

impl Portion {
    /// Through all layers, `[tokens, hidden]`.
    pub fn run(self, mode: Mode) -> Result<Tensor, NnError> {
        let mut x = self.x;
        for (number, layer) in self.layers.iter().enumerate() {
            x = layer.forward_cached(&x, &self.angles, (&self.stretches, number), mode)?;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_cover_all_rows_once() {
        for passes in [
            &[(1, 1)][..],
            &[(1, 500)],
            &[(7, 40)],
            &[(128, 1)],
            &[(129, 1), (1, 1)],
            &[(150, 11), (2, 60)],
            &[(48, 1), (2, 11), (1, 59)],
            &[(1, 59), (48, 1)],
            &[(5, 0)],
        ] {
            let cut = cut(passes, 3);
            assert!(cut.len() <= 3);
            let mut next = vec![0; passes.len()];
            for &(pass, from, count) in cut.iter().flatten() {
                assert_eq!(from, next[pass]);
                assert!(count > 0, "{passes:?}: {cut:?}");
                next[pass] += count;
            }
            let rows: Vec<i64> = passes.iter().map(|(rows, _)| *rows).collect();
            assert_eq!(next, rows);
        }
        assert_eq!(cut(&[(128, 1)], 2), [[(0, 0, 64)], [(0, 64, 64)]]);
        assert_eq!(cut(&[(31, 1)], 2), [[(0, 0, 31)]]);
        assert_eq!(cut(&[(64, 1)], 8).len(), 4);
        // What few rows read stands beside fewer of the others.
        let mixed = cut(&[(60, 1), (2, 11)], 2);
        assert_eq!(mixed, [vec![(0, 0, 41)], vec![(0, 41, 19), (1, 0, 2)]]);
    }
}
