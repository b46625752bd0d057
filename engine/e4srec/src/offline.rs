//! Training on a log or its first part: adapter, projection, tower and heads together.
//!
//! Every play of a window is a question and a target, all in one causal pass, so a play costs one
//! token (and its response tokens). The item encoder's vectors are where tracks begin.
//!
//! Precision is mixed: the frozen weights and what flows through them are in the backbone's kind
//! (`bf16` on CUDA); whatever learns, logits, losses, gradients' norms and moments are `f32`. `bf16`
//! has the range of `f32`, so losses need no scaling. A step whose loss or gradient is not finite
//! changes nothing and is counted; too many in a row are an error.
//!
//! What is random in a step follows from the seed and the step alone, so training that was stopped and
//! goes on ([`E4SRec::fit_kept`]) ends with the same values to the last bit.
//!
//! - [`material`]: the log with dense ids of its own;
//! - [`plan`]: which windows are learnt from, and which judge;
//! - [`lot`]: the windows of one pass and their questions;
//! - [`course`]: the steps, the epochs, the best of them;
//! - [`progress`]: what is kept of all this, and what it is compared with.

mod course;
mod lot;
mod material;
mod plan;
mod progress;

use std::collections::HashMap;
use std::io;

use segue_listen::TrackKey;
use segue_recommend::recommender::Admitted;
use segue_recommend::training::{Progress, TrainingLog};

use self::course::Course;
use self::material::Material;
use crate::backbone::{Backbone, Foundation};
use crate::error::ModelError;
use crate::head::Head;
use crate::model::E4SRec;
use crate::settings::E4SRecSettings;

/// What training came to.
#[derive(Clone, Debug, PartialEq, Default, serde::Serialize)]
pub struct FitReport {
    /// Windows that were learnt from, in each epoch.
    pub windows: usize,
    /// Windows that were held out to judge the epochs.
    pub held_out: usize,
    /// Passes over the windows that were made.
    pub epochs: usize,
    /// The epoch whose values were kept, from 1; `None` where nothing was held out: the last.
    pub best_epoch: Option<usize>,
    /// Tokens that went through the language model to be learnt from.
    pub tokens: u64,
    /// Steps that changed nothing, since their loss or its gradient was not finite.
    pub skipped: u64,
    /// The mean loss of the first tenth of the steps.
    pub first_loss: Option<f64>,
    /// The mean loss of the last tenth of the steps.
    pub last_loss: Option<f64>,
    /// Steps and their losses.
    pub training: Vec<(u64, f64)>,
    /// The loss on what is held out after each epoch, and the steps until then.
    pub validation: Vec<(u64, f64)>,
}

/// Where training keeps how far it has come, whole or not at all.
pub trait Keeper {
    /// What was kept last, if anything was.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    fn kept(&mut self) -> io::Result<Option<Vec<u8>>>;

    /// Keeps `progress` in the place of what was kept before, which stays as it was where this fails.
    ///
    /// # Errors
    /// It cannot be written.
    fn keep(&mut self, progress: &[u8]) -> io::Result<()>;
}

impl E4SRec {
    /// Trains on a log. `admitted` has the key, and where it is known the content, of each track
    /// in it; `encoded` the item encoder's vectors
    /// ([`crate::item_encoders::ItemEncoder::item_vectors`]). The model comes frozen and with
    /// an empty catalogue; [`E4SRec::online`] makes one that learns.
    ///
    /// # Errors
    /// Settings out of range, a track in the log that is not in `admitted`, a content vector of
    /// the wrong length or with a component that is not finite, steps that lead nowhere,
    /// [`ModelError::Stopped`], or libtorch's own.
    pub fn fit(
        foundation: &Foundation,
        log: &TrainingLog,
        admitted: &[Admitted<'_>],
        encoded: &HashMap<TrackKey, Vec<f32>>,
        settings: &E4SRecSettings,
        progress: &mut dyn Progress,
    ) -> Result<(Self, FitReport), ModelError> {
        let data = (log, admitted, encoded);
        Self::fitted(foundation, data, settings, progress, None)
    }

    /// The same, going on from what `keeper` has, and keeping there how far it comes: every
    /// `offline.keep_every` steps, and when `progress` says that it is to stop.
    ///
    /// # Errors
    /// As [`E4SRec::fit`]; [`ModelError::OtherTraining`] where what was kept is of another log, other
    /// vectors, settings or weights.
    pub fn fit_kept(
        foundation: &Foundation,
        log: &TrainingLog,
        admitted: &[Admitted<'_>],
        encoded: &HashMap<TrackKey, Vec<f32>>,
        settings: &E4SRecSettings,
        progress: &mut dyn Progress,
        keeper: &mut dyn Keeper,
    ) -> Result<(Self, FitReport), ModelError> {
        let data = (log, admitted, encoded);
        Self::fitted(foundation, data, settings, progress, Some(keeper))
    }

    fn fitted(
        foundation: &Foundation,
        (log, admitted, encoded): (&TrainingLog, &[Admitted<'_>], &HashMap<TrackKey, Vec<f32>>),
        settings: &E4SRecSettings,
        progress: &mut dyn Progress,
        keeper: Option<&mut dyn Keeper>,
    ) -> Result<(Self, FitReport), ModelError> {
        settings.check()?;
        let d = settings.tower.dimensions;
        let backbone = Backbone::new(foundation, settings)?;
        let head = Head::new(backbone.hidden(), d, settings.seed, foundation.device())?;
        let mut material = Material::new(foundation, log, admitted, encoded, settings)?;
        let mut course = Course::new(&backbone, &head, &mut material, settings)?;
        let report = course.run(progress, keeper)?;
        let trained = material.trained()?;
        let items = (material.tower.emptied()?, material.lines.emptied());
        let mut model = Self::assemble(settings, backbone, head, items, trained)?;
        model.backbone.decoder.merge_lora()?;
        model.taught = true;
        Ok((model, report))
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

#[cfg(test)]
mod tests;
