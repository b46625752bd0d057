//! The losses, apart from the loops that call them.
//!
//! One negative and binary cross-entropy lose a third of SASRec's accuracy and more (Klenitskiy and
//! Vasilev, RecSys 2023); so: the full softmax where the catalogue allows it, else a large sample
//! with its logQ correction (Bengio and Senécal 2008).

use rand::Rng;
use tch::{Kind, Tensor};

use crate::error::ModelError;

/// Cross-entropy of the full softmax, mean over rows. `logits` `[n, items]`, `targets` `[n]`.
pub fn full_softmax(logits: &Tensor, targets: &Tensor) -> Result<Tensor, ModelError> {
    let positive = logits
        .f_gather(1, &targets.f_unsqueeze(-1)?, false)?
        .f_squeeze()?;
    let all = logits.f_logsumexp(&[1i64][..], false)?;
    Ok(all.f_sub(&positive)?.f_mean(Kind::Float)?)
}

/// The same over a sample of the items: `logits` `[n, sample]`, `targets` the columns of the actual
/// ones, `correction` what is added to each logit, broadcast to `[n, sample]`: minus the logarithm
/// of the probability that the item came into the sample, 0 for one that is always in it, minus
/// infinity for one that is not in this row's sample. The sum of the corrected exponentials is then
/// an unbiased estimate of the full one. A row's target must not be corrected away.
pub fn sampled_softmax(
    logits: &Tensor,
    correction: &Tensor,
    targets: &Tensor,
) -> Result<Tensor, ModelError> {
    full_softmax(&logits.f_add(correction)?, targets)
}

/// The full softmax of `hidden · tableᵀ`, row chunk by row chunk, so that at most `most` logits are
/// in memory at a time; gradients are accumulated into `hidden` and `table`. Returns the mean loss.
///
/// `hidden` `[n, d]`, `table` `[items, d]`, `targets` `[n]`.
pub(crate) fn backward_in_chunks(
    hidden: &Tensor,
    table: &Tensor,
    targets: &Tensor,
    most: i64,
) -> Result<f64, ModelError> {
    let (rows, _) = hidden.size2()?;
    let (items, _) = table.size2()?;
    let chunk = (most / items.max(1)).clamp(1, rows.max(1));
    if chunk >= rows {
        let loss = full_softmax(&hidden.f_matmul(&table.f_tr()?)?, targets)?;
        loss.f_backward()?;
        return Ok(loss.f_double_value(&[])?);
    }
    // The graph behind `hidden` is walked once, with the gradient that the chunks have left.
    let leaf = hidden.f_detach()?.f_set_requires_grad(true)?;
    // Likewise the table, where it is not a leaf itself.
    let table_leaf = table.f_detach()?.f_set_requires_grad(true)?;
    let mut sum = 0.0;
    let mut at = 0;
    while at < rows {
        let length = chunk.min(rows - at);
        let logits = leaf
            .f_narrow(0, at, length)?
            .f_matmul(&table_leaf.f_tr()?)?;
        let loss = full_softmax(&logits, &targets.f_narrow(0, at, length)?)?
            .f_mul_scalar(length as f64 / rows as f64)?;
        loss.f_backward()?;
        sum += loss.f_double_value(&[])?;
        at += length;
    }
    let through = hidden
        .f_mul(&leaf.f_grad()?)?
        .f_sum(Kind::Float)?
        .f_add(&table.f_mul(&table_leaf.f_grad()?)?.f_sum(Kind::Float)?)?;
    through.f_backward()?;
    Ok(sum)
}

/// A sample of distinct items, and the logarithm of the probability that each came into it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Sample {
    /// Items, ascending by their place in the proposal's order.
    pub items: Vec<u32>,
    /// One per item.
    pub log_inclusion: Vec<f32>,
}

/// Draws `draws` times from an even mixture of the uniform distribution over `order` and the plays
/// `seen` (popularity as it streams by), and keeps each item once.
///
/// `order` lists all items in an order of their *keys*, so that what is drawn does not depend on
/// dense ids; `count_of` says how often an item stands in `seen`.
pub fn draw_sample(
    order: &[u32],
    seen: &[u32],
    count_of: impl Fn(u32) -> u32,
    draws: usize,
    rng: &mut impl Rng,
) -> Sample {
    if order.is_empty() {
        return Sample::default();
    }
    let mut items: Vec<u32> = (0..draws)
        .filter_map(|_| {
            let from = if !seen.is_empty() && rng.random_bool(0.5) {
                seen
            } else {
                order
            };
            from.get(rng.random_range(0..from.len())).copied()
        })
        .collect();
    items.sort_unstable();
    items.dedup();
    let even = 1.0 / order.len() as f64;
    let log_inclusion = items
        .iter()
        .map(|&item| {
            let once = if seen.is_empty() {
                even
            } else {
                0.5 * even + 0.5 * f64::from(count_of(item)) / seen.len() as f64
            };
            // 1 - (1 - q)^draws, without cancellation for small q.
            let never = draws as f64 * (-once.min(1.0 - 1e-12)).ln_1p();
            (-never.exp_m1()).max(1e-30).ln() as f32
        })
        .collect();
    Sample {
        items,
        log_inclusion,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use tch::Device;

    fn table(rows: i64, columns: i64, seed: u64) -> Tensor {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values: Vec<f32> = (0..rows * columns)
            .map(|_| rng.random_range(-1.5..1.5))
            .collect();
        Tensor::from_slice(&values).reshape([rows, columns])
    }

    /// The definition, in f64 and without tensors.
    fn by_hand(logits: &Tensor, targets: &[i64]) -> f64 {
        let (rows, columns) = logits.size2().unwrap();
        let mut sum = 0.0;
        for row in 0..rows {
            let weights: f64 = (0..columns)
                .map(|c| logits.double_value(&[row, c]).exp())
                .sum();
            sum -= (logits.double_value(&[row, targets[row as usize]]).exp() / weights).ln();
        }
        sum / rows as f64
    }

    #[test]
    fn the_full_softmax_is_its_definition() {
        let logits = table(5, 11, 1);
        let targets = [0i64, 10, 3, 3, 7];
        let loss = full_softmax(&logits, &Tensor::from_slice(&targets)).unwrap();
        assert!((loss.double_value(&[]) - by_hand(&logits, &targets)).abs() < 1e-5);
        let one = full_softmax(&logits.narrow(0, 0, 1), &Tensor::from_slice(&targets[..1]));
        assert!(
            (one.unwrap().double_value(&[]) - by_hand(&logits.narrow(0, 0, 1), &targets)).abs()
                < 1e-5
        );
    }

    #[test]
    fn chunks_give_the_same_loss_and_gradients() {
        let targets = Tensor::from_slice(&[0i64, 10, 3, 3, 7]);
        let results: Vec<(f64, Tensor, Tensor)> = [1i64, 23, 1000]
            .into_iter()
            .map(|most| {
                let raw = table(5, 4, 2).set_requires_grad(true);
                let items = table(11, 4, 3).set_requires_grad(true);
                let loss = backward_in_chunks(&raw.tanh(), &items, &targets, most).unwrap();
                (loss, raw.grad(), items.grad())
            })
            .collect();
        for (loss, raw, items) in &results {
            assert!((loss - results[0].0).abs() < 1e-6);
            assert!((raw - &results[0].1).abs().max().double_value(&[]) < 1e-6);
            assert!((items - &results[0].2).abs().max().double_value(&[]) < 1e-6);
        }
    }

    #[test]
    fn a_corrected_sample_estimates_the_full_sum() {
        let items = 60u32;
        let logits = table(1, i64::from(items), 4);
        let full = logits.exp().sum(Kind::Float).double_value(&[]);
        let order: Vec<u32> = (0..items).collect();
        let seen: Vec<u32> = (0..200).map(|at| at * at % 17).collect();
        let count = |item: u32| seen.iter().filter(|&&s| s == item).count() as u32;
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut mean = 0.0;
        let rounds = 2_000;
        for _ in 0..rounds {
            let sample = draw_sample(&order, &seen, count, 25, &mut rng);
            let corrected: f64 = sample
                .items
                .iter()
                .zip(&sample.log_inclusion)
                .map(|(&i, &q)| (logits.double_value(&[0, i64::from(i)]) - f64::from(q)).exp())
                .sum();
            mean += corrected / f64::from(rounds);
        }
        assert!((mean / full - 1.0).abs() < 0.03, "{mean} {full}");
    }

    #[test]
    fn a_sample_of_everything_is_the_full_softmax() {
        let logits = table(3, 8, 5);
        let targets = Tensor::from_slice(&[1i64, 7, 0]);
        let none = Tensor::zeros([8], (Kind::Float, Device::Cpu));
        let sampled = sampled_softmax(&logits, &none, &targets).unwrap();
        let full = full_softmax(&logits, &targets).unwrap();
        assert!((sampled - full).abs().double_value(&[]) < 1e-7);
        // Items that are not in the sample do not count.
        let hidden = Tensor::from_slice(&[0.0f32, 0.0, 0.0, f32::NEG_INFINITY, 0.0, 0.0, 0.0, 0.0]);
        let without = sampled_softmax(&logits, &hidden, &targets).unwrap();
        let kept = Tensor::from_slice(&[0i64, 1, 2, 4, 5, 6, 7]);
        let moved = Tensor::from_slice(&[1i64, 6, 0]);
        let expected = full_softmax(&logits.index_select(1, &kept), &moved).unwrap();
        assert!((without - expected).abs().double_value(&[]) < 1e-6);
    }
}
