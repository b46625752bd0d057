//! What can be tuned of SASRec.

use serde::{Deserialize, Serialize};

use super::{rate, share};
use crate::error::ModelError;

/// SASRec (Kang and McAuley 2018) with the loss that makes it accurate (Klenitskiy and Vasilev,
/// RecSys 2023: full softmax, or a large sample of it).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SasRecSettings {
    /// Components of an item's vector.
    pub dimensions: i64,
    /// Blocks of attention and feed-forward.
    pub blocks: usize,
    /// Heads of attention; must divide `dimensions`.
    pub heads: i64,
    /// Share of values dropped while learning, in [0, 1).
    pub dropout: f64,
    /// Plays before the last multiple of 50 that are read; with it a window holds up to
    /// `lookback + 49` plays.
    pub lookback: usize,
    /// Share of input plays that are read as "some track" while learning, so that a track which is
    /// new at inference has a vector that means this.
    pub unknown: f64,
    /// Passes over the log, at most.
    pub epochs: usize,
    /// Epochs without a better loss on the newest plays after which training stops.
    pub patience: usize,
    /// The newest share of each listener's plays that is not trained on until then, in [0, 0.5).
    pub validation: f64,
    /// Windows in a step.
    pub batch: usize,
    /// Adam's rate.
    pub learning_rate: f64,
    /// Deviation of the initial values.
    pub init: f32,
    /// Tracks up to which the softmax is full; above it, it is sampled.
    pub full_softmax_limit: usize,
    /// Draws of a sampled softmax, shared by a batch; large is what makes it work.
    pub draws: usize,
    /// What everything random is derived from.
    pub seed: u64,
}

impl Default for SasRecSettings {
    fn default() -> Self {
        Self {
            dimensions: 64,
            blocks: 2,
            heads: 1,
            dropout: 0.2,
            lookback: 14,
            unknown: 0.02,
            epochs: 8,
            patience: 1,
            validation: 0.1,
            batch: 64,
            learning_rate: 2e-3,
            init: 0.02,
            full_softmax_limit: 50_000,
            draws: 4_096,
            seed: 0,
        }
    }
}

impl SasRecSettings {
    /// Refuses what no model can be built from.
    ///
    /// # Errors
    /// The first setting out of its range.
    pub fn check(&self) -> Result<(), ModelError> {
        let positive = [
            ("sasrec.dimensions", self.dimensions),
            ("sasrec.blocks", self.blocks as i64),
            ("sasrec.heads", self.heads),
            ("sasrec.batch", self.batch as i64),
            ("sasrec.draws", self.draws as i64),
        ];
        for (key, value) in positive {
            if !(1..=1 << 20).contains(&value) {
                return Err(ModelError::setting(key, value, "from 1 to 1048576"));
            }
        }
        if self.dimensions % self.heads != 0 {
            return Err(ModelError::setting(
                "sasrec.heads",
                self.heads,
                "to a divisor of sasrec.dimensions",
            ));
        }
        if self.lookback > 50 {
            return Err(ModelError::setting(
                "sasrec.lookback",
                self.lookback,
                "from 0 to 50",
            ));
        }
        share("sasrec.dropout", self.dropout, 1.0)?;
        share("sasrec.unknown", self.unknown, 1.0)?;
        share("sasrec.validation", self.validation, 0.5)?;
        rate("sasrec.learning_rate", self.learning_rate)?;
        rate("sasrec.init", f64::from(self.init))
    }
}
