//! How an item encoder learns a log.

mod batch;
mod sampler;

use std::collections::HashMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use segue_listen::TrackId;
use segue_nn::lora::Mode;
use segue_recommend::training::{Progress, TrainingLog};
use tch::{Device, Tensor};

use self::batch::{Batch, Batches, Part, Window, windows};
use self::sampler::Sampler;
use super::network::{Course, SequenceNetwork};
use crate::error::ModelError;
use crate::item_tower::{copied, copy_into};
use crate::loss::full_softmax;
use crate::optimise::AdamW;
use crate::scoring::chunk_rows;

/// Gradients are scaled to this norm at most.
const CLIP: f64 = 5.0;

/// What training came to.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ItemEncoderReport {
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

/// Trains `network` in place. `row_of` maps tracks to rows.
pub(super) fn train<N: SequenceNetwork>(
    network: &N,
    log: &TrainingLog,
    row_of: &HashMap<TrackId, i64>,
    course: &Course,
    device: Device,
    progress: &mut dyn Progress,
) -> Result<ItemEncoderReport, ModelError> {
    tch::manual_seed(course.seed as i64);
    let mut rng = ChaCha8Rng::seed_from_u64(course.seed);
    rng.set_stream(1);
    let mut windows = windows(log, row_of, course);
    let batches = Batches::new(network.table(), course, device);
    let sampler = Sampler::new(network.table().count(), &windows, course);
    let mut adam = AdamW::new(network.parameters(), 0.0)?;
    let mut best: Option<(f64, Vec<Tensor>)> = None;
    let mut worse = 0;
    let mut report = ItemEncoderReport {
        epochs: 0,
        validation_loss: None,
        training_loss: f64::NAN,
        training: Vec::new(),
        validation: Vec::new(),
    };
    let steps = windows.len().div_ceil(course.batch) as u64;
    let total = steps * course.epochs as u64;
    while report.epochs < course.epochs && !windows.is_empty() {
        windows.shuffle(&mut rng);
        let (mut sum, mut count) = (0.0, 0);
        for chunk in windows.chunks(course.batch) {
            let Some(batch) = batches.of(chunk, Part::Training, &mut rng)? else {
                continue;
            };
            let loss = step(network, &batch, &sampler, device, &mut rng)?;
            adam.step(course.learning_rate, CLIP)?;
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
        let Some(loss) = validate(network, &windows, &batches, course.batch, &mut rng)? else {
            continue;
        };
        let done = report.epochs as u64 * steps;
        report.validation.push((done, loss));
        tracing::debug!(
            epoch = report.epochs,
            training = report.training_loss,
            loss,
            model = N::NAME,
            "an item encoder's epoch"
        );
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            let parameters = network.parameters();
            let copies: Result<_, ModelError> = parameters.iter().map(copied).collect();
            best = Some((loss, copies?));
            worse = 0;
        } else {
            worse += 1;
            if worse > course.patience {
                break;
            }
        }
    }
    if let Some((loss, copies)) = best {
        report.validation_loss = Some(loss);
        copy_into(&network.parameters(), &copies)?;
        // What was held back is the newest there is: it is learnt once, now that it has judged.
        for chunk in windows.chunks(course.batch) {
            if let Some(batch) = batches.of(chunk, Part::HeldBack, &mut rng)? {
                step(network, &batch, &sampler, device, &mut rng)?;
                adam.step(course.learning_rate * 0.5, CLIP)?;
            }
        }
    }
    progress.step(total, total, "done");
    Ok(report)
}

/// Forward, loss and backward; returns the loss.
fn step<N: SequenceNetwork>(
    network: &N,
    batch: &Batch,
    sampler: &Sampler,
    device: Device,
    rng: &mut ChaCha8Rng,
) -> Result<f64, ModelError> {
    let queries = queries(network, batch, Mode::Train)?;
    let table = network.output_table()?;
    sampler.backward(&queries, &table, &batch.targets, device, rng)
}

/// Query vectors of the places with targets, `[n, q]`.
fn queries<N: SequenceNetwork>(
    network: &N,
    batch: &Batch,
    mode: Mode,
) -> Result<Tensor, ModelError> {
    let queries = network.forward(&batch.inputs, mode)?;
    Ok(queries.f_flatten(0, 1)?.f_index_select(0, &batch.places)?)
}

/// The loss on what is held back.
fn validate<N: SequenceNetwork>(
    network: &N,
    windows: &[Window],
    batches: &Batches<'_>,
    size: usize,
    rng: &mut ChaCha8Rng,
) -> Result<Option<f64>, ModelError> {
    tch::no_grad(|| {
        let table = network.output_table()?;
        let rows = chunk_rows(table.size2()?.0);
        let (mut sum, mut count) = (0.0, 0.0);
        for chunk in windows.chunks(size) {
            let Some(batch) = batches.of(chunk, Part::Validation, rng)? else {
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
