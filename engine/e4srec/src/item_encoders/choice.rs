//! Which item encoder, where it is a setting.

use std::collections::HashMap;

use segue_listen::TrackKey;
use segue_recommend::recommender::Recommender;
use segue_recommend::training::{Progress, TrainingLog};
use tch::Device;

use super::network::SequenceNetwork;
use super::{Bert4Rec, Gru4Rec, ItemEncoderReport, SasRec, SequenceEncoder};
use crate::error::ModelError;
use crate::settings::{Bert4RecSettings, Gru4RecSettings, SasRecSettings};

/// A recommender that has a vector for every track it was trained on.
pub trait ItemEncoder: Recommender {
    /// The vectors of the tracks in the training log, by key.
    ///
    /// # Errors
    /// libtorch's own.
    fn item_vectors(&self) -> Result<HashMap<TrackKey, Vec<f32>>, ModelError>;
}

/// The item encoder that was chosen, with its settings.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemEncoderSettings {
    /// [`SasRec`].
    SasRec(SasRecSettings),
    /// [`Bert4Rec`].
    Bert4Rec(Bert4RecSettings),
    /// [`Gru4Rec`].
    Gru4Rec(Gru4RecSettings),
}

impl ItemEncoderSettings {
    /// The name of the recommender that is made from them.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SasRec(_) => SasRec::NAME,
            Self::Bert4Rec(_) => Bert4Rec::NAME,
            Self::Gru4Rec(_) => Gru4Rec::NAME,
        }
    }

    /// Components of an item's vector.
    pub fn dimensions(&self) -> i64 {
        match self {
            Self::SasRec(settings) => settings.dimensions,
            Self::Bert4Rec(settings) => settings.dimensions,
            Self::Gru4Rec(settings) => settings.dimensions,
        }
    }

    /// Refuses what no model can be built from.
    ///
    /// # Errors
    /// The first setting out of its range.
    pub fn check(&self) -> Result<(), ModelError> {
        match self {
            Self::SasRec(settings) => settings.check(),
            Self::Bert4Rec(settings) => settings.check(),
            Self::Gru4Rec(settings) => settings.check(),
        }
    }

    /// Trains on a log, as [`SequenceEncoder::fit`] does.
    ///
    /// # Errors
    /// As that.
    pub fn fit(
        &self,
        log: &TrainingLog,
        keys: &[TrackKey],
        device: Device,
        progress: &mut dyn Progress,
    ) -> Result<(Box<dyn ItemEncoder>, ItemEncoderReport), ModelError> {
        match self {
            Self::SasRec(settings) => boxed(SasRec::fit(log, keys, settings, device, progress)),
            Self::Bert4Rec(settings) => boxed(Bert4Rec::fit(log, keys, settings, device, progress)),
            Self::Gru4Rec(settings) => boxed(Gru4Rec::fit(log, keys, settings, device, progress)),
        }
    }

    /// A model that has not been trained, to take up a state.
    ///
    /// # Errors
    /// Settings out of range, or libtorch's own.
    pub fn untaught(&self, device: Device) -> Result<Box<dyn ItemEncoder>, ModelError> {
        Ok(match self {
            Self::SasRec(settings) => Box::new(SasRec::untaught(settings, device)?),
            Self::Bert4Rec(settings) => Box::new(Bert4Rec::untaught(settings, device)?),
            Self::Gru4Rec(settings) => Box::new(Gru4Rec::untaught(settings, device)?),
        })
    }
}

fn boxed<N: SequenceNetwork + 'static>(
    fitted: Result<(SequenceEncoder<N>, ItemEncoderReport), ModelError>,
) -> Result<(Box<dyn ItemEncoder>, ItemEncoderReport), ModelError> {
    let (model, report) = fitted?;
    Ok((Box::new(model), report))
}
