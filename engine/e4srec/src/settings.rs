//! Everything that can be tuned, with what it is good for and what it costs.

mod e4srec;
mod item_encoders;

pub use self::e4srec::{
    BackboneSettings, Completion, E4SRecSettings, LoraSettings, OfflineSettings, OnlineSettings,
    Prompt, TowerSettings,
};
pub use self::item_encoders::{Bert4RecSettings, Gru4RecSettings, SasRecSettings};
use crate::error::ModelError;

/// In `[0, below)`.
pub(crate) fn share(key: &'static str, value: f64, below: f64) -> Result<(), ModelError> {
    if (0.0..below).contains(&value) {
        return Ok(());
    }
    let range = if below > 0.5 {
        "from 0 to below 1"
    } else {
        "from 0 to below 0.5"
    };
    Err(ModelError::setting(key, value, range))
}

/// In `(0, 10]`.
pub(crate) fn rate(key: &'static str, value: f64) -> Result<(), ModelError> {
    if value > 0.0 && value <= 10.0 {
        return Ok(());
    }
    Err(ModelError::setting(key, value, "above 0 and at most 10"))
}
