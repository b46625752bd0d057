//! The course of training: steps, epochs, the best of them.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_nn::lora::Mode;
use segue_recommend::training::Progress;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::lot::Lot;
use super::material::Material;
use super::plan::{Part, Plan, Window};
use super::progress::Task;
use super::{FitReport, Keeper};
use crate::backbone::Backbone;
use crate::error::ModelError;
use crate::head::Head;
use crate::inputs::level;
use crate::item_tower::{Content, copied, copy_into};
use crate::learner::CLIP;
use crate::objective::{Candidates, Questions};
use crate::optimise::{AdamW, warm_cosine};
use crate::settings::E4SRecSettings;

/// Steps in a row that may change nothing.
const MOST_SKIPPED: u64 = 10;

/// Training, and how far it has come.
pub(super) struct Course<'a> {
    pub backbone: &'a Backbone,
    pub head: &'a Head,
    pub material: &'a mut Material,
    pub settings: &'a E4SRecSettings,
    pub plan: Plan,
    /// Of the adapter.
    pub adapter: AdamW,
    /// Of the heads, of what is in front of the language model, and of the map of contents.
    pub rest: AdamW,
    pub standing: Standing,
    /// The values of the best epoch.
    pub best: Option<Values>,
}

/// How far training has come, as far as it is not a tensor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Standing {
    pub rng: ChaCha8Rng,
    /// The windows in the order of this epoch.
    pub order: Vec<u32>,
    /// Windows of this epoch that were learnt from.
    pub at: usize,
    pub step: u64,
    pub tokens: u64,
    pub skipped: u64,
    /// Of these, the last ones.
    pub in_a_row: u64,
    /// Epochs that are over.
    pub epochs: usize,
    /// Of these, the last ones that were no better.
    pub worse: usize,
    /// The best one, from 1, and its loss.
    pub best: Option<(usize, f64)>,
    pub training: Vec<(u64, f64)>,
    pub validation: Vec<(u64, f64)>,
}

/// All that learns.
#[derive(Debug)]
pub(super) struct Values {
    /// What all tracks share.
    pub shared: Vec<Tensor>,
    /// Tracks' own vectors `[tracks, d]`, and Adagrad's sums `[tracks]`.
    pub own: (Tensor, Tensor),
}

impl<'a> Course<'a> {
    /// Before its first step.
    pub fn new(
        backbone: &'a Backbone,
        head: &'a Head,
        material: &'a mut Material,
        settings: &'a E4SRecSettings,
    ) -> Result<Self, ModelError> {
        let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
        rng.set_stream(5);
        let plan = Plan::new(&material.log, settings);
        let mut rest = head.parameters();
        rest.extend(backbone.front());
        rest.extend(material.tower.map.parameters());
        let standing = Standing {
            rng,
            order: (0u32..).take(plan.training.len()).collect(),
            at: 0,
            step: 0,
            tokens: 0,
            skipped: 0,
            in_a_row: 0,
            epochs: 0,
            worse: 0,
            best: None,
            training: Vec::new(),
            validation: Vec::new(),
        };
        Ok(Self {
            adapter: AdamW::new(backbone.adapter(), settings.offline.weight_decay)?,
            rest: AdamW::new(rest, 0.0)?,
            backbone,
            head,
            material,
            settings,
            plan,
            standing,
            best: None,
        })
    }

    /// Trains to the end, from wherever `keeper` says that it stands.
    pub fn run(
        &mut self,
        progress: &mut dyn Progress,
        mut keeper: Option<&mut dyn Keeper>,
    ) -> Result<FitReport, ModelError> {
        let task = keeper.is_some().then(|| Task::of(self));
        if let (Some(keeper), Some(task)) = (&mut keeper, &task)
            && let Some(kept) = keeper.kept()?
        {
            self.take_up(task, &kept)?;
        }
        let total = self.total();
        while !self.is_over() {
            let note = self.go_on(total)?;
            let step = self.standing.step;
            progress.step(step, total, &note);
            let stopped = progress.stopped() && !self.is_over();
            let due = step.is_multiple_of(self.settings.offline.keep_every);
            if let (Some(keeper), Some(task)) = (&mut keeper, &task)
                && (due || stopped)
            {
                keeper.keep(&self.kept(task)?)?;
            }
            if stopped {
                return Err(ModelError::Stopped { step, total });
            }
        }
        progress.step(total, total, "done");
        if let Some(best) = self.best.take() {
            self.put_back(&best)?;
        }
        self.material.tower.refresh_all()?;
        Ok(self.report())
    }

    /// Steps, unless it ends early.
    fn total(&self) -> u64 {
        let offline = &self.settings.offline;
        (self.plan.training.len().div_ceil(offline.batch) * offline.epochs) as u64
    }

    fn is_over(&self) -> bool {
        let offline = &self.settings.offline;
        self.plan.training.is_empty()
            || self.standing.epochs >= offline.epochs
            || self.standing.worse > offline.patience
    }

    /// One step, and the end of its epoch if it is the last one; how it stands then.
    fn go_on(&mut self, total: u64) -> Result<String, ModelError> {
        let standing = &mut self.standing;
        if standing.at == 0 {
            standing.order.shuffle(&mut standing.rng);
        }
        let until = (standing.at + self.settings.offline.batch).min(standing.order.len());
        let chunk = standing.order.get(standing.at..until).unwrap_or(&[]);
        let window = |place: &u32| self.plan.training.get(*place as usize).copied();
        let windows: Vec<Window> = chunk.iter().filter_map(window).collect();
        let loss = self.learn(&windows, total)?;
        self.standing.at = until;
        let mut note = format!("loss {loss:.3}");
        if until == self.standing.order.len() {
            self.standing.at = 0;
            self.standing.epochs += 1;
            if let Some(loss) = self.close_epoch()? {
                note = format!("{note}, {loss:.3} held out");
            }
        }
        Ok(note)
    }

    /// One step: forward, loss and backward of the windows, some at a time, and the steps of the
    /// optimisers. The loss before it.
    fn learn(&mut self, windows: &[Window], total: u64) -> Result<f64, ModelError> {
        let offline = &self.settings.offline;
        // Dropout draws from libtorch's generator, whose state cannot be kept.
        tch::manual_seed(seed_of(self.settings.seed, self.standing.step));
        let Material {
            log,
            keys,
            tower,
            lines,
            popularity,
            levels,
            ..
        } = &mut *self.material;
        tower.refresh_all()?;
        let rows = popularity.rows();
        let lots: Vec<Lot<'_>> = windows
            .chunks(pass(self.settings))
            .map(|some| Lot::of(some, Part::Training, (&self.plan, log, lines), rows))
            .collect();
        let questions: Vec<&Questions> = lots.iter().map(|lot| &lot.questions).collect();
        let asks = lots.iter().map(Lot::asks).sum::<usize>() as f64;
        let rng = &mut self.standing.rng;
        let device = self.backbone.device();
        let limits = (rows, offline.candidates);
        let candidates = Candidates::choose(&questions, popularity, levels, limits, rng, device)?;
        let own = tower
            .residuals(&candidates.rows)?
            .f_set_requires_grad(true)?;
        let kept: Vec<f32> = (0..candidates.rows.numel())
            .map(|_| f32::from(u8::from(!rng.random_bool(self.settings.tower.id_dropout))))
            .collect();
        let kept = Tensor::f_from_slice(&kept)?
            .f_unsqueeze(-1)?
            .f_to_device(device)?;
        let trust = tower.gates(&candidates.rows)?.f_mul(&kept)?;
        let key = |row: usize| keys.get(row).copied();
        let parts = tower.dropout(&candidates.rows, key, rng)?;
        let content = Content::Anew(parts.as_ref());
        let vectors = level(&tower.vectors()?)?;
        let mut loss = 0.0;
        for lot in &lots {
            let inputs = lot.inputs(self.backbone, tower, &vectors, Mode::Train)?;
            let table = tower.fused(&candidates.rows, &own.f_mul(&trust)?, content)?;
            let part = candidates
                .loss(self.head, &inputs, &table, &lot.questions)?
                .f_mul_scalar(lot.asks() as f64 / asks)?;
            part.f_backward()?;
            loss += part.f_double_value(&[])?;
            self.standing.tokens += lot.tokens(self.backbone);
        }
        // The loss is a mean; a track's own vector should learn from a play alike in a large and in a
        // small batch.
        let gradient = own.f_grad()?.f_mul_scalar(asks)?;
        let norms = [self.adapter.norm()?, self.rest.norm()?, norm(&gradient)?];
        let finite = loss.is_finite() && norms.iter().all(|norm| norm.is_finite());
        let step = self.standing.step;
        if finite {
            let [adapter, rest, _] = norms;
            let rate = |rate| warm_cosine(step, total, rate);
            self.adapter
                .step_along(rate(offline.lora_rate), CLIP, adapter)?;
            self.rest.step_along(rate(offline.head_rate), CLIP, rest)?;
            tower.learn_residuals(&candidates.rows, &gradient, self.settings.online.row_rate)?;
        }
        self.adapter.forget_gradients()?;
        self.rest.forget_gradients()?;
        self.note(loss, finite, total)?;
        Ok(loss)
    }

    fn note(&mut self, loss: f64, finite: bool, total: u64) -> Result<(), ModelError> {
        let standing = &mut self.standing;
        standing.step += 1;
        standing.training.push((standing.step, loss));
        if finite {
            standing.in_a_row = 0;
            return Ok(());
        }
        standing.skipped += 1;
        standing.in_a_row += 1;
        tracing::warn!(step = standing.step, loss, "a step that changes nothing");
        if standing.in_a_row < MOST_SKIPPED {
            return Ok(());
        }
        Err(ModelError::Diverged {
            step: standing.step,
            total,
            skipped: standing.in_a_row,
        })
    }

    /// An epoch is over: is it the best one? Its loss on what is held out.
    fn close_epoch(&mut self) -> Result<Option<f64>, ModelError> {
        let Some(loss) = self.judge()? else {
            return Ok(None);
        };
        let standing = &mut self.standing;
        standing.validation.push((standing.step, loss));
        tracing::debug!(epoch = standing.epochs, loss, "e4srec");
        let better = standing.best.is_none_or(|(_, least)| loss < least);
        if loss.is_finite() && better {
            standing.best = Some((standing.epochs, loss));
            standing.worse = 0;
            self.best = Some(self.values()?.copied()?);
        } else {
            standing.worse += 1;
        }
        Ok(Some(loss))
    }

    /// The mean loss of the windows that are held out, each time among the same candidates.
    pub fn judge(&mut self) -> Result<Option<f64>, ModelError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
        rng.set_stream(6);
        let Material {
            log,
            tower,
            lines,
            popularity,
            levels,
            ..
        } = &mut *self.material;
        tower.refresh_all()?;
        let _guard = tch::no_grad_guard();
        let limits = (popularity.rows(), self.settings.offline.candidates);
        let vectors = level(&tower.vectors()?)?;
        let (mut sum, mut count) = (0.0, 0.0);
        for windows in self.plan.held_out.chunks(pass(self.settings)) {
            let lot = Lot::of(windows, Part::HeldOut, (&self.plan, log, lines), limits.0);
            let inputs = lot.inputs(self.backbone, tower, &vectors, Mode::Infer)?;
            let device = self.backbone.device();
            let asked = [&lot.questions];
            let candidates =
                Candidates::choose(&asked, popularity, levels, limits, &mut rng, device)?;
            let table = tower.vectors()?.f_index_select(0, &candidates.rows)?;
            let loss = candidates.loss(self.head, &inputs, &table, &lot.questions)?;
            sum += loss.f_double_value(&[])? * lot.asks() as f64;
            count += lot.asks() as f64;
        }
        Ok((count > 0.0).then(|| sum / count))
    }

    /// All that learns, on the models' own memory.
    pub fn values(&self) -> Result<Values, ModelError> {
        let tower = &self.material.tower;
        let mut shared = self.backbone.adapter();
        shared.extend(self.backbone.front());
        shared.extend(self.head.parameters());
        shared.extend(tower.map.parameters());
        let own = tower.learnt(&self.all_rows()?)?;
        Ok(Values { shared, own })
    }

    /// Overwrites all that learns.
    pub fn put_back(&mut self, values: &Values) -> Result<(), ModelError> {
        copy_into(&self.values()?.shared, &values.shared)?;
        let (rows, (own, squares)) = (self.all_rows()?, &values.own);
        self.material.tower.put_back(&rows, own, squares)
    }

    fn all_rows(&self) -> Result<Tensor, ModelError> {
        let tower = &self.material.tower;
        let place = (Kind::Int64, tower.device());
        Ok(Tensor::f_arange(tower.rows(), place)?)
    }

    fn report(&mut self) -> FitReport {
        let standing = &mut self.standing;
        let finite = standing.training.iter().map(|&(_, loss)| loss);
        let losses: Vec<f64> = finite.filter(|loss| loss.is_finite()).collect();
        let part = losses.len().div_ceil(10);
        let mean = |losses: &[f64]| {
            (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
        };
        FitReport {
            windows: self.plan.training.len(),
            held_out: self.plan.held_out.len(),
            epochs: standing.epochs,
            best_epoch: standing.best.map(|(epoch, _)| epoch),
            tokens: standing.tokens,
            skipped: standing.skipped,
            first_loss: mean(losses.get(..part).unwrap_or(&[])),
            last_loss: mean(losses.get(losses.len() - part..).unwrap_or(&[])),
            training: std::mem::take(&mut standing.training),
            validation: std::mem::take(&mut standing.validation),
        }
    }
}

impl Values {
    /// The same on memory of their own.
    fn copied(self) -> Result<Self, ModelError> {
        let shared: Result<_, ModelError> = self.shared.iter().map(copied).collect();
        Ok(Self {
            shared: shared?,
            own: self.own,
        })
    }
}

/// Windows that go through the language model at once.
fn pass(settings: &E4SRecSettings) -> usize {
    match settings.offline.micro_batch {
        0 => settings.offline.batch,
        some => some,
    }
}

/// A step's own seed, by SplitMix64's increment.
fn seed_of(seed: u64, step: u64) -> i64 {
    seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15)) as i64
}

fn norm(tensor: &Tensor) -> Result<f64, ModelError> {
    let square = tensor.f_square()?.f_sum(Kind::Float)?;
    Ok(square.f_double_value(&[])?.sqrt())
}
