//! What can be tuned of the items' vectors.

use segue_catalog::modality::ModalityKind;
use serde::{Deserialize, Serialize};

use super::{count, share};
use crate::error::ModelError;

/// How items get their vectors: `f(content) + g(plays) · e`, or a fusion of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TowerSettings {
    /// Components of an item's vector; even. The first half begins as a projection of the content,
    /// the second holds the vector of the item encoder.
    pub dimensions: i64,
    /// Width of the perceptron over the content, of one per modality where they are told apart.
    pub hidden: i64,
    /// Components of a content vector.
    pub content: usize,
    /// Share of items whose *e* is left out in a training step, so that content alone must do.
    pub id_dropout: f64,
    /// How the modalities of the content and the item's own vector become one vector.
    pub fusion: Fusion,
    /// The modalities that are fused, of those that the content vectors tell of: `text`, `lyrics`,
    /// `audio`, `ratings`. Empty: all that there are. With [`Fusion::Projection`], which does not tell
    /// them apart, it has to be empty.
    pub modalities: Vec<ModalityKind>,
    /// Share of an item's modalities that are left out in a training step, in [0, 1), so that a missing
    /// one is nothing new; one of those that there are always stays. With [`Fusion::Projection`] 0.
    pub modality_dropout: f64,
}

/// How the modalities of a track's content and its own vector become the vector that ranks it.
///
/// After arXiv 2606.00125, with what its code lacks: each of them adds to the item's own vector, so that
/// what was learnt of a track itself is never drowned, and a modality that is missing weighs nothing.
/// A track without any begins at what all such tracks have in common, plus its own vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fusion {
    /// A projection and a perceptron over the content vector as a whole; a missing modality is a zero.
    Projection,
    /// The item's own vector and those of its modalities side by side, through a linear map and a
    /// perceptron.
    Concat,
    /// The modalities' vectors at unit length, each with a learnt weight; the weights of those that are
    /// there sum up to one.
    WeightedSum,
    /// The item's own vector asks, the modalities that are there answer: attention of four heads.
    CrossAttention,
    /// The modalities scale and shift the item's own vector (feature-wise linear modulation).
    Film,
}

impl Default for TowerSettings {
    fn default() -> Self {
        Self {
            dimensions: 128,
            hidden: 128,
            content: 384,
            id_dropout: 0.2,
            fusion: Fusion::Projection,
            modalities: Vec::new(),
            modality_dropout: 0.0,
        }
    }
}

impl TowerSettings {
    /// Refuses what no tower can be built from.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        if self.dimensions < 2 || self.dimensions % 2 != 0 || self.dimensions > 1 << 14 {
            return Err(ModelError::setting(
                "e4srec.tower.dimensions",
                self.dimensions,
                "to an even number from 2 to 16384",
            ));
        }
        let hidden = usize::try_from(self.hidden).unwrap_or(0);
        count("e4srec.tower.hidden", hidden, 1)?;
        count("e4srec.tower.content", self.content, 1)?;
        share("e4srec.tower.id_dropout", self.id_dropout, 1.0)?;
        share("e4srec.tower.modality_dropout", self.modality_dropout, 1.0)?;
        if self.fusion != Fusion::Projection {
            return Ok(());
        }
        let apart = "where e4srec.tower.fusion tells modalities apart: concat, weighted_sum, \
                     cross_attention or film";
        if let Some(named) = self.modalities.first() {
            let key = "e4srec.tower.modalities";
            return Err(ModelError::setting(key, named.name(), apart));
        }
        if self.modality_dropout > 0.0 {
            let key = "e4srec.tower.modality_dropout";
            return Err(ModelError::setting(key, self.modality_dropout, apart));
        }
        Ok(())
    }
}
