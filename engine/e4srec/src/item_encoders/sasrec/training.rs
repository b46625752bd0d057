//! How SASRec learns a log.

use std::collections::HashMap;
use std::ops::Range;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackId;
use segue_nn::lora::Mode;
use segue_recommend::training::{Progress, TrainingLog};
use tch::{Device, Kind, Tensor};

use super::network::Network;
use crate::error::ModelError;
use crate::loss::{backward_in_chunks, draw_sample, full_softmax, sampled_softmax};
use crate::optimise::AdamW;
use crate::scoring::MOST_SCORES;
use crate::settings::SasRecSettings;
use crate::windows::covering;

/// What training came to.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SasRecReport {
    /// Passes over the log that were made.
    pub epochs: usize,
    /// The best loss on the held-back newest plays; `None` without any.
    pub validation_loss: Option<f64>,
    /// The loss of the last epoch.
    pub training_loss: f64,
    /// Step and loss, of every step.
    pub training: Vec<(u64, f64)>,
    /// Step and loss on what is held back, of every epoch.
    pub validation: Vec<(u64, f64)>,
}

/// One training window: rows of the network's table, and which of them are held back as targets.
struct Window {
    rows: Vec<i64>,
    /// Targets from here on are for validation.
    held_back: usize,
}

struct Batch {
    /// `[batch, length]`
    inputs: Tensor,
    /// Places in the flattened batch that have a target, and the targets.
    places: Tensor,
    targets: Tensor,
}

/// Trains `network` in place. `row_of` maps tracks to rows; `popular` lists every play's row.
pub(super) fn train(
    network: &Network,
    log: &TrainingLog,
    row_of: &HashMap<TrackId, i64>,
    settings: &SasRecSettings,
    device: Device,
    progress: &mut dyn Progress,
) -> Result<SasRecReport, ModelError> {
    tch::manual_seed(settings.seed as i64);
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    rng.set_stream(1);
    let mut windows = windows(log, row_of, settings);
    let sampler = Sampler::new(network, &windows, settings);
    let mut adam = AdamW::new(network.parameters(), 0.0)?;
    let mut best: Option<(f64, Vec<Tensor>)> = None;
    let mut worse = 0;
    let mut report = SasRecReport {
        epochs: 0,
        validation_loss: None,
        training_loss: f64::NAN,
        training: Vec::new(),
        validation: Vec::new(),
    };
    let steps = windows.len().div_ceil(settings.batch) as u64;
    let total = steps * settings.epochs as u64;
    while report.epochs < settings.epochs && !windows.is_empty() {
        windows.shuffle(&mut rng);
        let (mut sum, mut count) = (0.0, 0);
        for chunk in windows.chunks(settings.batch) {
            let Some(batch) = batch(chunk, Part::Training, network, settings, device, &mut rng)?
            else {
                continue;
            };
            let loss = sampler.step(network, &batch, device, &mut rng)?;
            adam.step(settings.learning_rate, 5.0)?;
            sum += loss;
            count += 1;
            let done = report.epochs as u64 * steps + count;
            report.training.push((done, loss));
            progress.step(done.min(total), total, &format!("loss {loss:.3}"));
            if progress.stopped() {
                return Err(ModelError::Stopped { step: done, total });
            }
        }
        report.epochs += 1;
        report.training_loss = sum / (count.max(1)) as f64;
        let Some(loss) = validate(network, &windows, settings, device, &mut rng)? else {
            continue;
        };
        let done = report.epochs as u64 * steps;
        report.validation.push((done, loss));
        tracing::debug!(
            epoch = report.epochs,
            training = report.training_loss,
            loss,
            "sasrec"
        );
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            let copies = copies(network)?;
            best = Some((loss, copies));
            worse = 0;
        } else {
            worse += 1;
            if worse > settings.patience {
                break;
            }
        }
    }
    if let Some((loss, copies)) = best {
        report.validation_loss = Some(loss);
        tch::no_grad(|| -> Result<(), ModelError> {
            for (parameter, copy) in network.parameters().iter_mut().zip(&copies) {
                parameter.f_detach()?.f_copy_(copy)?;
            }
            Ok(())
        })?;
        // What was held back is the newest there is: it is learnt once, now that it has judged.
        for chunk in windows.chunks(settings.batch) {
            if let Some(batch) = batch(chunk, Part::HeldBack, network, settings, device, &mut rng)?
            {
                sampler.step(network, &batch, device, &mut rng)?;
                adam.step(settings.learning_rate * 0.5, 5.0)?;
            }
        }
    }
    progress.step(total, total, "done");
    Ok(report)
}

fn copies(network: &Network) -> Result<Vec<Tensor>, ModelError> {
    tch::no_grad(|| {
        network
            .parameters()
            .iter()
            .map(|parameter| {
                let mut copy = parameter.f_detach()?.f_empty_like()?;
                copy.f_copy_(parameter)?;
                Ok(copy)
            })
            .collect()
    })
}

fn windows(
    log: &TrainingLog,
    row_of: &HashMap<TrackId, i64>,
    settings: &SasRecSettings,
) -> Vec<Window> {
    let mut all = Vec::new();
    for plays in log.sequences() {
        let held_back = plays.len() - (plays.len() as f64 * settings.validation) as usize;
        all.extend(
            covering(plays.len(), settings.lookback).map(|range: Range<usize>| Window {
                held_back: held_back.saturating_sub(range.start),
                rows: plays
                    .get(range)
                    .unwrap_or(&[])
                    .iter()
                    .filter_map(|play| row_of.get(&play.track).copied())
                    .collect(),
            }),
        );
    }
    all
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Training,
    HeldBack,
}

fn batch(
    windows: &[Window],
    part: Part,
    network: &Network,
    settings: &SasRecSettings,
    device: Device,
    rng: &mut ChaCha8Rng,
) -> Result<Option<Batch>, ModelError> {
    let range = |window: &Window| match part {
        Part::Training => 0..window.held_back.min(window.rows.len()),
        Part::HeldBack => window.held_back.min(window.rows.len())..window.rows.len(),
    };
    let windows: Vec<&Window> = windows.iter().filter(|w| !range(w).is_empty()).collect();
    let Some(length) = windows.iter().map(|w| range(w).end).max() else {
        return Ok(None);
    };
    let (mut inputs, mut places, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for (number, window) in windows.iter().enumerate() {
        let from = number * length;
        let range = range(window);
        inputs.push(network.nothing_yet());
        // The last play is a target only.
        for &row in window.rows.iter().take(range.end.saturating_sub(1)) {
            let hidden = part == Part::Training && rng.random_bool(settings.unknown);
            inputs.push(if hidden { network.unknown() } else { row });
        }
        inputs.resize(from + length, network.unknown());
        for at in range {
            if let Some(&row) = window.rows.get(at) {
                places.push((from + at) as i64);
                targets.push(row);
            }
        }
    }
    Ok(Some(Batch {
        inputs: Tensor::f_from_slice(&inputs)?
            .f_reshape([windows.len() as i64, length as i64])?
            .f_to_device(device)?,
        places: Tensor::f_from_slice(&places)?.f_to_device(device)?,
        targets: Tensor::f_from_slice(&targets)?.f_to_device(device)?,
    }))
}

/// Query vectors of the places with targets, `[n, d]`.
fn queries(network: &Network, batch: &Batch, mode: Mode) -> Result<Tensor, ModelError> {
    let hidden = network.forward(&batch.inputs, mode)?;
    let d = hidden.size3()?.2;
    Ok(hidden
        .f_reshape([-1, d])?
        .f_index_select(0, &batch.places)?)
}

fn validate(
    network: &Network,
    windows: &[Window],
    settings: &SasRecSettings,
    device: Device,
    rng: &mut ChaCha8Rng,
) -> Result<Option<f64>, ModelError> {
    tch::no_grad(|| {
        let table = network.item_table()?;
        let rows = (MOST_SCORES / table.size2()?.0.max(1)).max(1);
        let (mut sum, mut count) = (0.0, 0.0);
        for chunk in windows.chunks(settings.batch) {
            let Some(batch) = batch(chunk, Part::HeldBack, network, settings, device, rng)? else {
                continue;
            };
            let queries = queries(network, &batch, Mode::Infer)?;
            let total = queries.size2()?.0;
            let mut at = 0;
            while at < total {
                let length = rows.min(total - at);
                let logits = queries.f_narrow(0, at, length)?.f_matmul(&table.f_tr()?)?;
                let loss = full_softmax(&logits, &batch.targets.f_narrow(0, at, length)?)?;
                sum += loss.f_double_value(&[])? * length as f64;
                count += length as f64;
                at += length;
            }
        }
        Ok((count > 0.0).then_some(sum / count))
    })
}

/// Full softmax where the catalogue allows it, else a sampled one.
struct Sampler {
    /// Rows in the order of keys, which is the order of the table; empty for the full softmax.
    order: Vec<u32>,
    seen: Vec<u32>,
    counts: Vec<u32>,
    draws: usize,
}

impl Sampler {
    fn new(network: &Network, windows: &[Window], settings: &SasRecSettings) -> Self {
        let items = usize::try_from(network.unknown()).unwrap_or(0);
        let mut sampler = Self {
            order: Vec::new(),
            seen: Vec::new(),
            counts: vec![0; items],
            draws: settings.draws,
        };
        if items > settings.full_softmax_limit {
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

    /// Forward, loss and backward; returns the loss.
    fn step(
        &self,
        network: &Network,
        batch: &Batch,
        device: Device,
        rng: &mut ChaCha8Rng,
    ) -> Result<f64, ModelError> {
        let queries = queries(network, batch, Mode::Train)?;
        let table = network.item_table()?;
        if self.order.is_empty() {
            return backward_in_chunks(&queries, &table, &batch.targets, MOST_SCORES);
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
            .f_eq_tensor(&batch.targets.f_unsqueeze(-1)?)?;
        let correction = correction
            .f_expand(twice.size(), false)?
            .f_masked_fill(&twice, f64::NEG_INFINITY)?;
        let own = table.f_index_select(0, &batch.targets)?;
        let own = queries
            .f_mul(&own)?
            .f_sum_dim_intlist(&[1i64][..], true, Kind::Float)?;
        let others = queries.f_matmul(&table.f_index_select(0, &columns)?.f_tr()?)?;
        let logits = Tensor::f_cat(&[&own, &others], 1)?;
        let none = own.f_detach()?.f_zeros_like()?;
        let correction = Tensor::f_cat(&[&none, &correction], 1)?;
        let first = batch.targets.f_zeros_like()?;
        let loss = sampled_softmax(&logits, &correction, &first)?;
        loss.f_backward()?;
        Ok(loss.f_double_value(&[])?)
    }
}
