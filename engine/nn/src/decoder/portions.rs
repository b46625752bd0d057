//! A pass in portions of rows, each on a thread of its own.
//!
//! Between its operations libtorch has its threads meet, and a pass of a few tokens a row is hundreds of small
//! operations: two threads that each take half of the rows through all layers are done in two thirds of
//! the time (measured on two cores). The last bits of a product may depend on how a pass is cut, and so on the
//! number of threads, as they do where libtorch cuts each operation.

use rayon::ThreadPool;
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

/// Rows of a pass and what they need on the way; shares its memory with the whole.
#[derive(Debug)]
pub(super) struct Portion {
    pub layers: Vec<Layer>,
    /// `[rows, length, hidden]`
    pub x: Tensor,
    pub angles: Angles,
    /// `[rows or 1, 1, length, total]`
    pub mask: Tensor,
    pub cache: KvRows,
}

/// Row from which each portion begins, and how many it has: one for each thread, if there is enough.
pub(super) fn cut(rows: i64, length: i64, threads: usize) -> Vec<(i64, i64)> {
    let threads = i64::try_from(threads).unwrap_or(1).max(1);
    let count = (rows * length / LEAST_TOKENS)
        .clamp(1, threads)
        .min(rows.max(1));
    let until = |portion: i64| rows * portion / count;
    (0..count)
        .map(|portion| (until(portion), until(portion + 1) - until(portion)))
        .collect()
}

/// Takes all portions through their layers, `[rows, length, hidden]` each, in order. The results have no
/// gradients.
pub(super) fn run(pool: &ThreadPool, portions: Vec<Portion>) -> Result<Vec<Tensor>, NnError> {
    let mut done: Vec<Result<Tensor, NnError>> = Vec::new();
    done.resize_with(portions.len(), || {
        Err(NnError::Input("a portion of the pass did not run".into()))
    });
    pool.scope(|scope| {
        for (portion, place) in portions.into_iter().zip(&mut done) {
            scope.spawn(move |_| *place = portion.run());
        }
    });
    done.into_iter().collect()
}

impl Portion {
    fn run(self) -> Result<Tensor, NnError> {
        let mut x = self.x;
        for (number, layer) in self.layers.iter().enumerate() {
            let cache = Some((&self.cache, number));
            x = layer.forward(&x, &self.angles, &self.mask, cache, Mode::Infer)?;
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_cover_all_rows_once() {
        for (rows, length) in [
            (1, 1),
            (1, 500),
            (7, 40),
            (128, 1),
            (129, 1),
            (150, 11),
            (5, 0),
        ] {
            let cut = cut(rows, length, 3);
            assert!(cut.len() <= 3);
            let mut next = 0;
            for &(from, count) in &cut {
                assert_eq!(from, next);
                assert!(count > 0, "{rows} {length}: {cut:?}");
                next = from + count;
            }
            assert_eq!(next, rows);
        }
        assert_eq!(cut(128, 1, 2), [(0, 64), (64, 64)]);
        assert_eq!(cut(31, 1, 2), [(0, 31)]);
        assert_eq!(cut(64, 1, 8).len(), 4);
    }
}
