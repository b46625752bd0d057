//! Full softmax where the catalogue allows it, else a sampled one.

use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::batch::Window;
use crate::error::ModelError;
use crate::item_encoders::network::Course;
use crate::loss::{backward_in_chunks, draw_sample, sampled_softmax};
use crate::scoring::MOST_SCORES;

/// The loss, and what a sampled one is drawn from.
pub(super) struct Sampler {
    /// Rows in the order of keys, which is the order of the table; empty for the full softmax.
    order: Vec<u32>,
    seen: Vec<u32>,
    counts: Vec<u32>,
    draws: usize,
}

impl Sampler {
    pub fn new(items: i64, windows: &[Window], course: &Course) -> Self {
        let items = usize::try_from(items).unwrap_or(0);
        let mut sampler = Self {
            order: Vec::new(),
            seen: Vec::new(),
            counts: vec![0; items],
            draws: course.draws,
        };
        if items > course.full_softmax_limit {
            sampler.order = (0..items as u32).collect();
            for &row in windows.iter().flat_map(|window| &window.rows) {
                sampler.seen.push(row as u32);
                if let Some(count) = sampler.counts.get_mut(row as usize) {
                    *count += 1;
                }
            }
        }
        sampler
    }

    /// The loss of `queries` `[n, q]` over `table` `[items, q]`, `targets` `[n]`, and its gradients.
    pub fn backward(
        &self,
        queries: &Tensor,
        table: &Tensor,
        targets: &Tensor,
        device: Device,
        rng: &mut ChaCha8Rng,
    ) -> Result<f64, ModelError> {
        if self.order.is_empty() {
            return backward_in_chunks(queries, table, targets, MOST_SCORES);
        }
        let count = |row: u32| self.counts.get(row as usize).copied().unwrap_or(0);
        let sample = draw_sample(&self.order, &self.seen, count, self.draws, rng);
        // Column 0 is each row's own target, known to be in: correction 0. A target that was also
        // drawn counts once.
        let columns: Vec<i64> = sample.items.iter().map(|&row| i64::from(row)).collect();
        let columns = Tensor::f_from_slice(&columns)?.f_to_device(device)?;
        let correction = Tensor::f_from_slice(&sample.log_inclusion)?
            .f_to_device(device)?
            .f_neg()?
            .f_unsqueeze(0)?;
        let twice = columns
            .f_unsqueeze(0)?
            .f_eq_tensor(&targets.f_unsqueeze(-1)?)?;
        let correction = correction
            .f_expand(twice.size(), false)?
            .f_masked_fill(&twice, f64::NEG_INFINITY)?;
        let own = table.f_index_select(0, targets)?;
        let own = queries
            .f_mul(&own)?
            .f_sum_dim_intlist(&[1i64][..], true, Kind::Float)?;
        let others = queries.f_matmul(&table.f_index_select(0, &columns)?.f_tr()?)?;
        let logits = Tensor::f_cat(&[&own, &others], 1)?;
        let none = own.f_detach()?.f_zeros_like()?;
        let correction = Tensor::f_cat(&[&none, &correction], 1)?;
        let first = targets.f_zeros_like()?;
        let loss = sampled_softmax(&logits, &correction, &first)?;
        loss.f_backward()?;
        Ok(loss.f_double_value(&[])?)
    }
}
