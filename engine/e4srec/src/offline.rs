//! Training on the first part of a log: adapter, projection, tower and heads together.
//!
//! Every play of a window is a question and a target, all in one causal pass, so a play costs one
//! token (and its response tokens). The item encoder's vectors are where tracks begin.

use std::collections::HashMap;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use segue_listen::{TrackId, TrackKey};
use segue_nn::lora::Mode;
use segue_recommend::ContextPlay;
use segue_recommend::recommender::Admitted;
use segue_recommend::training::{Progress, TrainingLog};
use tch::{Kind, Tensor};

use crate::backbone::{Backbone, Foundation, NOTHING_YET, SPECIAL, UNKNOWN};
use crate::error::ModelError;
use crate::head::{Head, QueryInputs, levelled};
use crate::inputs::level;
use crate::item_tower::{ItemTower, NewRow};
use crate::memory::Recalled;
use crate::model::{E4SRec, Trained, newest_vectors};
use crate::objective::{Candidates, Questions};
use crate::optimise::{AdamW, warm_cosine};
use crate::personal::{Personal, context_before};
use crate::popularity::Popularity;
use crate::prompt::TokenBatch;
use crate::settings::E4SRecSettings;
use crate::windows::{covering, tokens};

const CLIP: f64 = 1.0;

/// What training came to.
#[derive(Clone, Debug, PartialEq, Default, serde::Serialize)]
pub struct FitReport {
    /// Windows that were learnt from, in each epoch.
    pub windows: usize,
    /// Tokens that went through the language model.
    pub tokens: u64,
    /// The mean loss of the first tenth of the steps.
    pub first_loss: Option<f64>,
    /// The mean loss of the last tenth of the steps.
    pub last_loss: Option<f64>,
    /// The loss of each step.
    pub losses: Vec<f64>,
}

/// The log with its own dense ids: rows in the order of keys.
struct Material {
    log: TrainingLog,
    keys: Vec<TrackKey>,
    tower: ItemTower,
    popularity: Popularity,
    levels: Vec<f32>,
}

/// One window: a listener, and where in their plays it lies.
#[derive(Clone, Copy)]
struct Window {
    listener: usize,
    begin: usize,
    end: usize,
}

impl E4SRec {
    /// Trains on a log. `admitted` has the key, and where it is known the content, of each track
    /// in it; `encoded` the item encoder's vectors
    /// ([`crate::item_encoders::ItemEncoder::item_vectors`]). The model comes frozen and with
    /// an empty catalogue; [`E4SRec::online`] makes one that learns.
    ///
    /// # Errors
    /// Settings out of range, a track in the log that is not in `admitted`, a content vector of
    /// the wrong length or with a component that is not finite, or libtorch's own.
    pub fn fit(
        foundation: &Foundation,
        log: &TrainingLog,
        admitted: &[Admitted<'_>],
        encoded: &HashMap<TrackKey, Vec<f32>>,
        settings: &E4SRecSettings,
        progress: &mut dyn Progress,
    ) -> Result<(Self, FitReport), ModelError> {
        settings.check()?;
        let d = settings.tower.dimensions;
        let backbone = Backbone::new(foundation, settings)?;
        let head = Head::new(backbone.hidden(), d, settings.seed, foundation.device())?;
        let mut material = Material::new(foundation, log, admitted, encoded, settings)?;
        let report = train(&backbone, &head, &mut material, settings, progress)?;
        let trained = material.trained()?;
        let tower = material.tower.emptied()?;
        let mut model = Self::assemble(settings, backbone, head, tower, trained)?;
        model.backbone.decoder.merge_lora()?;
        model.taught = true;
        Ok((model, report))
    }
}

impl Material {
    fn new(
        foundation: &Foundation,
        log: &TrainingLog,
        admitted: &[Admitted<'_>],
        encoded: &HashMap<TrackKey, Vec<f32>>,
        settings: &E4SRecSettings,
    ) -> Result<Self, ModelError> {
        let by_id: HashMap<TrackId, &Admitted<'_>> =
            admitted.iter().map(|track| (track.track, track)).collect();
        let mut tracks: Vec<&Admitted<'_>> = Vec::new();
        for (id, &count) in (0u32..).zip(&log.play_counts()) {
            if count > 0 {
                let known = by_id.get(&TrackId(id)).copied().ok_or_else(|| {
                    ModelError::Data(format!(
                        "track id {id} is in the training log but was not admitted: give its key"
                    ))
                })?;
                tracks.push(known);
            }
        }
        tracks.sort_unstable_by_key(|track| (track.key.digest(), track.key));
        tracks.dedup_by_key(|track| track.key);
        let row_of: HashMap<TrackKey, u32> =
            tracks.iter().map(|track| track.key).zip(0..).collect();
        let mut own = TrainingLog::default();
        let row = |play: &ContextPlay| {
            let key = by_id.get(&play.track)?.key;
            Some(ContextPlay {
                track: TrackId(*row_of.get(&key)?),
                ..*play
            })
        };
        for plays in log.sequences() {
            own.push(plays.iter().filter_map(row));
        }
        let mut tower = ItemTower::new(&settings.tower, settings.seed, foundation.device())?;
        let mut popularity = Popularity::new(settings.online.half_life, settings.online.recent);
        let counts = own.play_counts();
        let mut new = Vec::with_capacity(tracks.len());
        for (at, track) in tracks.iter().enumerate() {
            check_content(track, settings.tower.content)?;
            popularity.admit(track.key, 0, 0.0);
            new.push(NewRow {
                content: track.content.map(<[f32]>::to_vec),
                residual: encoded.get(&track.key).cloned(),
                plays: counts.get(at).copied().unwrap_or(0),
            });
        }
        popularity.sort();
        tower.grow(&new)?;
        // In the order of time, since plays fade.
        let mut plays: Vec<(i64, u32)> = own
            .plays
            .iter()
            .map(|play| (play.at.millis(), play.track.0))
            .collect();
        plays.sort_unstable();
        for (_, row) in plays {
            let _ = popularity.play(row as usize);
        }
        Ok(Self {
            log: own,
            keys: tracks.iter().map(|track| track.key).collect(),
            levels: popularity.levels(),
            tower,
            popularity,
        })
    }

    fn trained(&self) -> Result<HashMap<TrackKey, Trained>, ModelError> {
        let rows: Vec<i64> = (0..self.tower.rows()).collect();
        if rows.is_empty() {
            return Ok(HashMap::new());
        }
        let index = Tensor::f_from_slice(&rows)?.f_to_device(self.tower.device())?;
        let residuals = self.tower.residuals(&index)?;
        let mut trained = HashMap::with_capacity(rows.len());
        for (row, &key) in self.keys.iter().enumerate() {
            let residual = residuals.f_get(row as i64)?.f_to_device(tch::Device::Cpu)?;
            let known = Trained {
                residual: Vec::try_from(residual)?,
                plays: self.popularity.plays(row),
                fading: self.popularity.fading(row),
            };
            trained.insert(key, known);
        }
        Ok(trained)
    }
}

/// Refuses content that would spread: of another length, or not finite.
pub(crate) fn check_content(track: &Admitted<'_>, width: usize) -> Result<(), ModelError> {
    let Some(content) = track.content else {
        return Ok(());
    };
    if content.len() != width {
        return Err(ModelError::Data(format!(
            "content of track {} has {} components, the tower takes {width}: encode it with the configured encoder",
            track.key,
            content.len()
        )));
    }
    match content.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(ModelError::Data(format!(
            "content of track {} is not finite at component {at}: encode it again or leave it out",
            track.key
        ))),
    }
}

/// The newest windows of all listeners, in turn, until there are enough.
fn windows(log: &TrainingLog, lookback: usize, most: usize) -> Vec<Window> {
    let mut by_age: Vec<(usize, Window)> = Vec::new();
    for (listener, plays) in log.sequences().enumerate() {
        let all: Vec<_> = covering(plays.len(), lookback).collect();
        for (age, range) in all.into_iter().rev().enumerate() {
            let window = Window {
                listener,
                begin: range.start,
                end: range.end,
            };
            by_age.push((age, window));
        }
    }
    by_age.sort_by_key(|&(age, _)| age);
    by_age.truncate(most);
    by_age.into_iter().map(|(_, window)| window).collect()
}

fn train(
    backbone: &Backbone,
    head: &Head,
    material: &mut Material,
    settings: &E4SRecSettings,
    progress: &mut dyn Progress,
) -> Result<FitReport, ModelError> {
    let offline = &settings.offline;
    tch::manual_seed(settings.seed as i64);
    let mut rng = ChaCha8Rng::seed_from_u64(settings.seed);
    rng.set_stream(5);
    let mut windows = windows(&material.log, settings.lookback, offline.windows);
    let mut adapter = AdamW::new(backbone.adapter(), offline.weight_decay)?;
    let mut rest = head.parameters();
    rest.extend(backbone.front());
    rest.extend(material.tower.map.parameters());
    let mut rest = AdamW::new(rest, 0.0)?;
    let total = (windows.len().div_ceil(offline.batch) * offline.epochs) as u64;
    let mut report = FitReport {
        windows: windows.len(),
        ..FitReport::default()
    };
    let mut losses = Vec::new();
    let mut step = 0;
    for _ in 0..offline.epochs {
        windows.shuffle(&mut rng);
        for chunk in windows.chunks(offline.batch) {
            let (loss, tokens) = one_step(backbone, head, material, chunk, settings, &mut rng)?;
            adapter.step(warm_cosine(step, total, offline.lora_rate), CLIP)?;
            rest.step(warm_cosine(step, total, offline.head_rate), CLIP)?;
            step += 1;
            report.tokens += tokens;
            losses.push(loss);
            progress.step(step, total, &format!("loss {loss:.3}"));
        }
    }
    material.tower.refresh_all()?;
    let part = losses.len().div_ceil(10);
    let mean = |losses: &[f64]| {
        (!losses.is_empty()).then(|| losses.iter().sum::<f64>() / losses.len() as f64)
    };
    report.first_loss = mean(losses.get(..part).unwrap_or(&[]));
    report.last_loss = mean(losses.get(losses.len() - part..).unwrap_or(&[]));
    report.losses = losses;
    Ok(report)
}

/// Forward, loss and backward of some windows, and the step of the tracks' own vectors.
fn one_step(
    backbone: &Backbone,
    head: &Head,
    material: &mut Material,
    windows: &[Window],
    settings: &E4SRecSettings,
    rng: &mut ChaCha8Rng,
) -> Result<(f64, u64), ModelError> {
    material.tower.refresh_all()?;
    let length = windows.iter().map(|w| w.end - w.begin).max().unwrap_or(0);
    let sequences: Vec<&[ContextPlay]> = material.log.sequences().collect();
    let mut batch = TokenBatch::default();
    let mut reads = Vec::new();
    let mut questions = Questions::default();
    let mut newest: Vec<&[ContextPlay]> = Vec::new();
    let mut personal = Personal::default();
    let rows = material.popularity.rows();
    for (number, window) in (1..).zip(windows) {
        let plays = sequences.get(window.listener).copied().unwrap_or(&[]);
        let range = window.begin..window.end;
        batch.push(NOTHING_YET, None);
        // The last play is a target only.
        for token in tokens(plays, range.clone()).take(range.len().saturating_sub(1)) {
            batch.push(i64::from(token.track.0) + SPECIAL, Some(&token));
        }
        batch.pad(number * length, UNKNOWN);
        reads.push((length as i64, (0..range.len() as i64).collect()));
        for at in range {
            let Some(play) = plays.get(at) else { continue };
            personal.read(context_before(plays, at), Recalled::default(), at as u64);
            questions.push(play.track, &personal, rows);
            newest.push(plays.get(..at).unwrap_or(&[]));
        }
    }
    let vectors = level(&material.tower.vectors()?)?;
    let hidden = backbone.read_whole(&batch, &reads, &vectors, Mode::Train)?;
    let before = newest
        .iter()
        .map(|plays| plays.iter().rev().map(|play| play.track));
    let (newest, lately) = newest_vectors(&material.tower, before, questions.targets.len())?;
    let inputs = QueryInputs {
        hidden: levelled(&hidden)?,
        newest,
        lately,
    };
    let candidates = Candidates::choose(
        &questions,
        &mut material.popularity,
        &material.levels,
        (rows, settings.offline.candidates),
        rng,
        backbone.device(),
    )?;
    let tower = &mut material.tower;
    let own = tower
        .residuals(&candidates.rows)?
        .f_set_requires_grad(true)?;
    let kept: Vec<f32> = (0..candidates.rows.numel())
        .map(|_| f32::from(u8::from(!rng.random_bool(settings.tower.id_dropout))))
        .collect();
    let kept = Tensor::f_from_slice(&kept)?
        .f_unsqueeze(-1)?
        .f_to_device(backbone.device())?;
    let gated = own.f_mul(&tower.gates(&candidates.rows)?)?.f_mul(&kept)?;
    let table = tower.mapped(&candidates.rows)?.f_add(&gated)?;
    let loss = candidates.loss(head, &inputs, &table, &questions)?;
    loss.f_backward()?;
    let gradient = own.f_grad()?.f_mul_scalar(questions.targets.len() as f64)?;
    tower.learn_residuals(&candidates.rows, &gradient, settings.online.row_rate)?;
    let tokens = windows.len() as u64
        * (backbone.instruction() as u64 + length as u64 * (1 + backbone.response() as u64));
    Ok((loss.f_to_kind(Kind::Float)?.f_double_value(&[])?, tokens))
}
